// SPDX-License-Identifier: GPL-2.0-only
/** The command line of `npm run fuzz:mutants`. */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { UserError } from '../../kproto/user_error.ts';
import { whole } from '../programs/options.ts';
import type { HuntOptions } from './hunt.ts';
import type { Mutant } from './mutant.ts';
import { mutants } from './table.ts';

/** Programs a mutant, unless told otherwise. */
const RUNS = 20_000;

/** What to run. */
export interface MutantOptions extends HuntOptions {
	readonly mutants: readonly Mutant[];
	/** Those that the table says no program can show are looked for as well. */
	readonly all: boolean;
	/** Mutants at once. */
	readonly jobs: number;
	readonly list: boolean;
	readonly help: boolean;
}

/** What --help prints. */
export const usage = `usage: npm run fuzz:mutants -- [OPTION...] [NAME...]

	NAME         only these mutants; none: all

	--runs N     random programs a mutant, at the most (${RUNS})
	--seed N     of the first batch of programs (1)
	--jobs N     mutants at once (as many as there are CPUs)
	--all        look for those as well that no program can show
	--list       tell the bug that each stands for, and run nothing
	--help       print this
`;

function named(names: readonly string[]): readonly Mutant[] {
	if (names.length === 0) return mutants;
	return names.map((name) => {
		const found = mutants.find((one) => one.name === name);
		if (found === undefined)
			throw new UserError(`there is no mutant "${name}"; --list tells them`);
		return found;
	});
}

/**
 * Read the command line.
 *
 * @param args - names and options
 * @throws UserError, or what parseArgs() throws
 */
export function parseMutantOptions(args: string[]): MutantOptions {
	const { values, positionals } = parseArgs({
		args,
		allowPositionals: true,
		options: {
			runs: { type: 'string' },
			seed: { type: 'string' },
			jobs: { type: 'string' },
			all: { type: 'boolean' },
			list: { type: 'boolean' },
			help: { type: 'boolean', short: 'h' },
		},
	});
	return {
		mutants: named(positionals),
		runs: whole('runs', values.runs, RUNS),
		seed: whole('seed', values.seed, 1),
		jobs: whole('jobs', values.jobs, availableParallelism()),
		all: values.all ?? false,
		list: values.list ?? false,
		help: values.help ?? false,
	};
}
