// SPDX-License-Identifier: GPL-2.0-only
/**
 * Many scenarios, replayed in straight form.
 *
 * Guarantee: a record fails only if the kernel as it is written fails it. Whatever does not pass in
 * straight form, or waits for another thread, is asked of that kernel, and so are one scenario of each
 * family and profile and one in so many of all; where the two forms differ that is a failure of its own.
 * What straight form can't see is a call whose `yield*` was forgotten, which runs nothing as it is
 * written and is a plain call here: `kproto lint` refuses it, and the suites replay as it is written.
 */
import { fileURLToPath } from 'node:url';
import type { FeatureSet, ProfileName } from '../../../include/sim/feature.ts';
import { importStraight } from '../../straight/bundle.ts';
import type { Scenario } from './record.ts';
import { type Replayer, replayScenario, type ScenarioResult } from './scenario.ts';

/** Fewer scenarios than this are replayed sooner than straight code is made. */
export const WORTH_IT = 200;

/** One scenario of so many is asked of both forms. */
const ASKED_TWICE = 128;

/** Replays one scenario under a kernel. */
export type ReplayOne = (scenario: Scenario, profile: ProfileName) => ScenarioResult;

/**
 * The exports of straight.ts in straight form.
 *
 * @returns null: there is nowhere to keep them
 */
export function straightReplay(): Promise<typeof import('./straight.ts') | null> {
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
	const straight = await straightReplay();
	if (straight === null) return asWritten;
	const both = new BothForms(asWritten, (scenario, profile) =>
		straight.replayStraight(set.family, scenario, profile, set.boot),
	);
	return (scenario, profile) => both.replay(scenario, profile);
}

/** Replays in straight form what the kernel as it is written would answer as well. */
export class BothForms {
	private readonly asWritten: ReplayOne;
	private readonly straight: (...asked: Parameters<ReplayOne>) => ScenarioResult | null;
	/** Families and profiles of which one was asked of both. */
	private readonly known = new Set<string>();
	private asked = 0;
	/** The forms never differed; if they do, what is left is asked of the kernel as it is written. */
	private isTrusted = true;

	/**
	 * @param asWritten - the kernel as it is written
	 * @param straight - in straight form; null: another thread would have to run
	 */
	constructor(
		asWritten: ReplayOne,
		straight: (...asked: Parameters<ReplayOne>) => ScenarioResult | null,
	) {
		this.asWritten = asWritten;
		this.straight = straight;
	}

	/** Replay one. */
	replay(scenario: Scenario, profile: ProfileName): ScenarioResult {
		if (!this.isTrusted) return this.asWritten(scenario, profile);
		let told: string;
		try {
			const result = this.straight(scenario, profile);
			if (result === null) return this.asWritten(scenario, profile);
			if (passes(result) && !this.isAskedTwice(scenario, profile)) return result;
			told = resultText(result);
		} catch (error) {
			told = String(error);
		}
		const result = this.asWritten(scenario, profile);
		const written = resultText(result);
		if (told === written) return result;
		this.isTrusted = false;
		const mismatch = { step: 'the straight form', expected: written, got: told };
		return { ...result, mismatches: [...result.mismatches, mismatch] };
	}

	private isAskedTwice(scenario: Scenario, profile: ProfileName): boolean {
		const kind = `${profile} ${scenario.fam}`;
		const isNew = !this.known.has(kind);
		this.known.add(kind);
		return this.asked++ % ASKED_TWICE === 0 || isNew;
	}
}

const passes = ({ mismatches, strict }: ScenarioResult): boolean =>
	mismatches.length + strict.length === 0;

function resultText({ findings, mismatches, strict }: ScenarioResult): string {
	// what an exception says names functions, and they have other names in straight code
	const plain = mismatches.map((one) =>
		one.step === 'the replay' ? { ...one, got: '' } : one,
	);
	return JSON.stringify({ mismatches: plain, strict, findings });
}
