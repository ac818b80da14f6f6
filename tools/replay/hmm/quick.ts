// SPDX-License-Identifier: GPL-2.0-only
/**
 * Many scenarios, replayed in straight form.
 *
 * Guarantee: what passes in straight form passed; anything else (an answer that is not the recorded one,
 * an exception, a wait for another thread) is asked of the kernel as it is written, and that answer
 * counts. So straight code can never fail a record.
 */
import { fileURLToPath } from 'node:url';
import type { FeatureSet, ProfileName } from '../../../include/sim/feature.ts';
import { importStraight } from '../../straight/bundle.ts';
import type { Scenario } from './record.ts';
import { type Replayer, replayScenario, type ScenarioResult } from './scenario.ts';

/** Fewer scenarios than this are replayed sooner than straight code is made. */
export const WORTH_IT = 200;

/** Replays one scenario under a kernel. */
export type ReplayOne = (scenario: Scenario, profile: ProfileName) => ScenarioResult;

/**
 * The exports of straight.ts in straight form.
 *
 * @throws {Error} the folder for what is made of sources can't be written
 */
export function straightReplay(): Promise<typeof import('./straight.ts')> {
	return importStraight(fileURLToPath(new URL('straight.ts', import.meta.url)));
}

/**
 * How scenarios are replayed best.
 *
 * @param replayer - how the kernel is set up
 * @param features - switches beyond the profile
 * @param scenarios - how many there are
 */
export async function quickReplay(
	replayer: Replayer<never>,
	features: Partial<FeatureSet>,
	scenarios: number,
): Promise<ReplayOne> {
	const set: Replayer<never> = { ...replayer, boot: { ...replayer.boot, features } };
	const asWritten: ReplayOne = (scenario, profile) => replayScenario(scenario, profile, set);
	if (scenarios < WORTH_IT) return asWritten;
	let straight: Awaited<ReturnType<typeof straightReplay>>;
	try {
		straight = await straightReplay();
	} catch {
		// an installed tree that others own
		return asWritten;
	}
	const { family } = replayer;
	return (scenario, profile) => {
		let result: ScenarioResult;
		try {
			result = straight.replayStraight(family, scenario, profile, features);
		} catch {
			return asWritten(scenario, profile);
		}
		const { mismatches, strict } = result;
		return mismatches.length + strict.length === 0
			? result
			: asWritten(scenario, profile);
	};
}
