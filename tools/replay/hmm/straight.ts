// SPDX-License-Identifier: GPL-2.0-only
/** What is asked of the replay in straight form; this module is imported as such only (quick.ts). */
import type { FeatureSet, ProfileName } from '../../../include/sim/feature.ts';
import type { Scenario } from './record.ts';
import { replayers } from './replayers.ts';
import { replayScenario, type ScenarioResult } from './scenario.ts';

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
	const base = replayers[family]!;
	return replayScenario(scenario, profile, { ...base, boot: { ...base.boot, features } });
}
