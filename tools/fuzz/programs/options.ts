// SPDX-License-Identifier: GPL-2.0-only
/** The command line of `npm run fuzz`. */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { type ProfileName, profiles } from '../../../include/sim/feature.ts';
import { mistakeOf, UserError } from '../../kproto/user_error.ts';
import { defaultWishes, type Wishes } from './generate.ts';

/** Programs, unless told otherwise. */
const RUNS = 30_000;
/** Largest seed: what fast-check takes as one. */
const MOST = 2 ** 31 - 1;

/** What to run. */
export interface FuzzOptions {
	readonly runs: number;
	readonly seed: number;
	/** The one program that fast-check calls by this path, of the batch that has the seed. */
	readonly path: string | null;
	/** Programs of a file, in place of random ones. */
	readonly replay: string | null;
	readonly wishes: Wishes;
	/** Processes that run them. */
	readonly jobs: number;
	/** Tell what was reached. */
	readonly stats: boolean;
	readonly help: boolean;
}

/** What --help prints. */
export const usage = `usage: npm run fuzz -- [OPTION...]

	--runs N         random programs (${RUNS})
	--seed N         of the first batch of programs (1)
	--path PATH      only the program with this path of the batch with the seed
	--replay FILE    the programs of a file, a line each; - is the standard input
	--steps N        least steps of a program (${defaultWishes.steps})
	--profile NAME   one kernel only: ${Object.keys(profiles).join(', ')}
	--jobs N         processes that run them (as many as there are CPUs)
	--stats          tell which steps succeeded and which states were reached
	--help           print this
`;

/**
 * A number of the command line.
 *
 * @param name - of the option
 * @param text - what it was given
 * @param otherwise - the number where it was not given
 * @throws UserError
 */
export function whole(name: string, text: string | undefined, otherwise: number): number {
	if (text === undefined) return otherwise;
	const value = Number(text);
	if (/^\d+$/.test(text) && value >= 1 && value <= MOST) return value;
	throw new UserError(`--${name}: a whole number from 1 to ${MOST}, not "${text}"`);
}

/**
 * Tell the user's mistake on standard error, and where the options are told.
 *
 * @param command - name of the script in package.json
 * @param error - what was thrown; what is no mistake of the user's is thrown again
 * @returns the exit code
 */
export function tellFuzzMistake(command: string, error: unknown): number {
	// the advice of parseArgs() on positional arguments is of no use here
	const what = mistakeOf(error).replace(/\. To specify a positional.*$/, '');
	process.stderr.write(
		`${command}: ${what} (npm run ${command} -- --help tells the options)\n`,
	);
	return 2;
}

function parse(args: string[]) {
	return parseArgs({
		args,
		options: {
			runs: { type: 'string' },
			seed: { type: 'string' },
			path: { type: 'string' },
			replay: { type: 'string' },
			steps: { type: 'string' },
			profile: { type: 'string' },
			jobs: { type: 'string' },
			stats: { type: 'boolean' },
			help: { type: 'boolean', short: 'h' },
		},
	}).values;
}

/**
 * Read the command line.
 *
 * @param args - options
 * @throws UserError, or what parseArgs() throws
 */
export function parseFuzzOptions(args: string[]): FuzzOptions {
	const values = parse(args);
	const { profile, path = null, replay = null, stats = false, help = false } = values;
	if (profile !== undefined && !Object.hasOwn(profiles, profile))
		throw new UserError(
			`--profile: there is no "${profile}"; there are ${Object.keys(profiles).join(', ')}`,
		);
	if (path !== null && values.seed === undefined)
		throw new UserError('--path: of which seed?');
	return {
		runs: whole('runs', values.runs, RUNS),
		seed: whole('seed', values.seed, 1),
		path,
		replay,
		wishes: {
			profiles:
				profile === undefined
					? defaultWishes.profiles
					: [profile as ProfileName],
			steps: whole('steps', values.steps, defaultWishes.steps),
		},
		jobs: whole('jobs', values.jobs, availableParallelism()),
		stats,
		help,
	};
}
