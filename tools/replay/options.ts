// SPDX-License-Identifier: GPL-2.0-only
/** The command line that all families of records share. */
import { parseArgs } from 'node:util';
import { type ProfileName, profiles } from '../../include/sim/feature.ts';

/** What to replay, and how to tell. */
export interface ReplayOptions {
	/** Files, or folders with files somewhere below. */
	readonly paths: readonly string[];
	/** null: the one that a path names, else the default. */
	readonly profile: ProfileName | null;
	/** Records whose title has no match are passed over; null: none are. */
	readonly filter: RegExp | null;
	readonly json: boolean;
	/** Count, beside, the answers whose letters differ that are compared apart. */
	readonly strict: boolean;
}

/** A command line that makes no sense. */
export class ReplayUsageError extends Error {}

/**
 * What --help prints.
 *
 * @param families - names of the families
 */
export function replayUsage(families: readonly string[]): string {
	return `usage: kproto replay FAMILY [OPTION...] PATH...
	FAMILY   ${families.join(', ')}
	PATH     a file of records, or a folder with files somewhere below

	--profile NAME   the kernel: ${Object.keys(profiles).join(', ')}; else the nearest
	                 folder above a file that has such a name, else the default
	--filter REGEXP  only records whose title matches: "FILE:LINE FAMILY NAME"
	--json           one JSON document on standard output
	--strict         hmm, proposal: compare the letters x d (page table) and A a (VMA)
	                 too, and print that figure beside
`;
}

/**
 * Read the command line of a family.
 *
 * @param args - what follows the family's name
 * @throws ReplayUsageError
 */
export function parseReplayOptions(args: string[]): ReplayOptions {
	const { values, positionals } = parse(args);
	const { profile = null, filter, json = false, strict = false } = values;
	if (profile !== null && !Object.hasOwn(profiles, profile))
		throw new ReplayUsageError(
			`--profile: there is no "${profile}"; there are ${Object.keys(profiles).join(', ')}`,
		);
	if (positionals.length === 0) throw new ReplayUsageError('which files or folders?');
	return {
		paths: positionals,
		profile: profile as ProfileName | null,
		filter: filter === undefined ? null : regexp(filter),
		json,
		strict,
	};
}

function parse(args: string[]) {
	try {
		return parseArgs({
			args,
			allowPositionals: true,
			options: {
				profile: { type: 'string' },
				filter: { type: 'string' },
				json: { type: 'boolean' },
				strict: { type: 'boolean' },
			},
		});
	} catch (error) {
		throw new ReplayUsageError((error as Error).message);
	}
}

function regexp(text: string): RegExp {
	try {
		return new RegExp(text, 'u');
	} catch (error) {
		throw new ReplayUsageError(`--filter: ${(error as Error).message}`);
	}
}
