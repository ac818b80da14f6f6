// SPDX-License-Identifier: GPL-2.0-only
/**
 * A random program: where it runs, and its steps, which are those of the records and of
 * tools/replay/hmm/processes.ts.
 *
 * Its text is a record, a line of JSON: `kproto replay hmm` takes it, and so does `npm run fuzz`.
 */
import { type ProfileName, profiles } from '../../../include/sim/feature.ts';
import { type Answer, type Scenario, type Step, scenarioShape } from '../../replay/hmm/record.ts';

/** Family of the records of kernels with a swap device. */
const SWAP_FAMILY = 'S';
const PLAIN_FAMILY = 'E';

/** Where a program runs. */
export interface Setup {
	readonly profile: ProfileName;
	/** First page of the window in the arena. */
	readonly win: number;
	/** Pages of the window. */
	readonly np: number;
	/** Bytes that fault-around maps. */
	readonly fa: number;
	/** Devices: 1 the private ones, 2 the coherent ones too. */
	readonly dev: number;
	readonly swap: boolean;
	/** Machine of a kernel with the proposal `p2p_op_dma_dev`; null: a kernel without it. */
	readonly machine: string | null;
}

/** A program. */
export interface Program {
	readonly setup: Setup;
	readonly steps: readonly Step[];
}

/** The parts of a record that a program is set up by. */
export function scenarioOf({ setup, steps }: Program, id = 'fuzz', r: Answer[] = []): Scenario {
	const { win, np, fa, dev, swap, machine } = setup;
	const fam = swap ? SWAP_FAMILY : PLAIN_FAMILY;
	const mach = machine === null ? {} : { mach: machine };
	return { id, fam, win, np, fa, dev, ...mach, steps, r };
}

/**
 * The text of a program.
 *
 * @param program - the program
 * @param answers - to its first steps
 * @param note - what it shows
 */
export function programText(program: Program, answers: readonly Answer[], note: string): string {
	const { steps } = program;
	const r = steps.map((_, i) => answers[i] ?? {});
	const { profile } = program.setup;
	return JSON.stringify({ ...scenarioOf(program, 'fuzz', r), profile, note });
}

/**
 * Read the text of a program.
 *
 * @param text - one line
 * @param profile - of a record that names none
 * @throws Error it is none
 */
export function parseProgram(text: string, profile: ProfileName): Program {
	const value: unknown = JSON.parse(text);
	const problem = scenarioShape.check(value, '');
	if (problem !== null) throw new Error(`expected ${problem.expected}`);
	const record = value as Scenario & { readonly profile?: string };
	const named = record.profile ?? profile;
	if (!Object.hasOwn(profiles, named)) throw new Error(`there is no profile "${named}"`);
	return {
		setup: {
			profile: named as ProfileName,
			win: record.win,
			np: record.np,
			fa: record.fa,
			dev: record.dev,
			swap: record.fam === SWAP_FAMILY,
			machine: record.mach ?? null,
		},
		steps: record.steps,
	};
}
