// SPDX-License-Identifier: GPL-2.0-only
/** What is asked of the replay in straight form; this module is imported as such only (quick.ts). */
import type { ProfileName } from '../../../include/sim/feature.ts';
import type { BootOptions } from '../../../init/main.ts';
import type { Scenario } from './record.ts';
import { replayers } from './replayers.ts';
import { type Replayer, replayScenario, type ScenarioResult } from './scenario.ts';

/**
 * Replay a scenario.
 *
 * @param family - whose steps they are
 * @param scenario - what the kernel was asked and answered
 * @param profile - the kernel
 * @param boot - how it is booted
 * @returns null: another thread would have to run
 */
export function replayStraight(
	family: string,
	scenario: Scenario,
	profile: ProfileName,
	boot: BootOptions,
): ScenarioResult | null {
	const replayer = replayers[family]!;
	const set = replayer.boot === boot ? replayer : withBoot(family, boot);
	try {
		return replayScenario(scenario, profile, set);
	} catch (error) {
		if (error instanceof Error && error.name === 'NeedsThreads') return null;
		throw error;
	}
}

/** Replayers with other options, by those: one call after the other has the same. */
const others = new WeakMap<BootOptions, Replayer<never>>();

function withBoot(family: string, boot: BootOptions): Replayer<never> {
	let replayer = others.get(boot);
	if (replayer?.family !== family) {
		replayer = { ...replayers[family]!, boot };
		others.set(boot, replayer);
	}
	return replayer;
}
