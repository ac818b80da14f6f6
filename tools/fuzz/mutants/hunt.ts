// SPDX-License-Identifier: GPL-2.0-only
/** Random programs on a kernel with one mutant, until one shows it. */
import { fileURLToPath } from 'node:url';
import type { Failure } from '../programs/batch.ts';
import { defaultWishes } from '../programs/generate.ts';
import { BATCH, runPool } from '../programs/pool.ts';
import type { Mutant } from './mutant.ts';

const register = fileURLToPath(new URL('register.js', import.meta.url));

/** How long to look for it. */
export interface HuntOptions {
	/** Programs at the most. */
	readonly runs: number;
	/** Of the first batch of programs. */
	readonly seed: number;
}

/** What the hunt for a mutant came to. */
export interface Hunt {
	readonly mutant: Mutant;
	/** Programs up to the one that showed it, or all of them. */
	readonly programs: number;
	/** The program that showed it, as small as it gets; null: none did. */
	readonly failure: Failure | null;
}

/**
 * Look for a mutant, in a process of its own.
 *
 * @param mutant - the mutant
 * @param options - how long
 * @param stop - ends it at once
 * @throws Error the process ended by itself: an edit cannot be made, or is no TypeScript
 */
export async function hunt(
	mutant: Mutant,
	{ runs, seed }: HuntOptions,
	stop: AbortSignal = new AbortController().signal,
): Promise<Hunt> {
	const options = {
		runs,
		seed,
		path: null,
		replay: null,
		wishes: defaultWishes,
		jobs: 1,
		stats: false,
		help: false,
	};
	const { failure } = await runPool(options, stop, () => {}, {
		execArgv: ['--max-semi-space-size=64', '--import', register, '--import', 'tsx'],
		// what a mutant reaches is no coverage of the model
		env: {
			...process.env,
			NODE_V8_COVERAGE: '',
			KPROTO_MUTANT: JSON.stringify(mutant.edits),
		},
	});
	if (failure === null) return { mutant, programs: runs, failure };
	return { mutant, programs: BATCH * (failure.seed - seed) + failure.nth, failure };
}
