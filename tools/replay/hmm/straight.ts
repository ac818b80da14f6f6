// SPDX-License-Identifier: GPL-2.0-only
/** What is asked of the replay in straight form; this module is imported as such only (quick.ts). */
import type { FeatureSet, ProfileName } from '../../../include/sim/feature.ts';
import type { Scenario } from './record.ts';
import { replayers } from './replayers.ts';
import { type Replayer, replayScenario, type ScenarioResult } from './scenario.ts';

/** The replayer that was asked for last: one call after the other asks for the same. */
const last = {
	family: '',
	features: {} as Partial<FeatureSet>,
	replayer: null as Replayer<never> | null,
};

function replayerWith(family: string, features: Partial<FeatureSet>): Replayer<never> {
	if (last.replayer === null || last.family !== family || last.features !== features) {
		const base = replayers[family]!;
		last.replayer = { ...base, boot: { ...base.boot, features } };
		last.family = family;
		last.features = features;
	}
	return last.replayer;
}

/**
 * Replay a scenario.
 *
 * @param family - which replayer
 * @param scenario - what the kernel was asked and answered
 * @param profile - the kernel
 * @param features - switches beyond the profile
 * @throws {Error} another thread would have to run
 */
export function replayStraight(
	family: string,
	scenario: Scenario,
	profile: ProfileName,
	features: Partial<FeatureSet>,
): ScenarioResult {
	return replayScenario(scenario, profile, replayerWith(family, features));
}
