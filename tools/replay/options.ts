// SPDX-License-Identifier: GPL-2.0-only
/** The command line that all families of records share. */
import { parseArgs } from 'node:util';
import {
	type FeatureName,
	type FeatureSet,
	features,
	missingNeed,
	type ProfileName,
	profiles,
} from '../../include/sim/feature.ts';
import { UserError } from '../kproto/user_error.ts';

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
	/** Switches against the profile. */
	readonly features: Partial<FeatureSet>;
	/** Only this scenario, with every kernel call; null: no trace. */
	readonly trace: string | null;
	/** Tell each finding of the checks, not their number alone. */
	readonly findings: boolean;
	/** Execute steps as well that would oops the kernel. */
	readonly unguarded: boolean;
}

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
	--feature NAME   a switch of \`kproto profiles\` that is on, whatever the profile says;
	                 NAME=off: off
	--trace ID       hmm, proposal: only the scenario ID, with every kernel call of it
	--findings       hmm, proposal: each finding of the checks that know better than the
	                 kernel, with its step; else their number
	--unguarded      hmm: execute the steps as well that the recorder left out because the
	                 kernel's test driver oopses, and tell what becomes of each
`;
}

/**
 * Read the command line of a family.
 *
 * @param args - what follows the family's name
 * @throws UserError, and what parseArgs() throws
 */
export function parseReplayOptions(args: string[]): ReplayOptions {
	const { values, positionals } = parse(args);
	const { profile = null, filter, json = false, strict = false } = values;
	const { trace = null, unguarded = false, findings = false } = values;
	if (profile !== null && !Object.hasOwn(profiles, profile))
		throw new UserError(
			`--profile: there is no "${profile}"; there are ${Object.keys(profiles).join(', ')}`,
		);
	if (positionals.length === 0) throw new UserError('which files or folders?');
	return {
		paths: positionals,
		profile: profile as ProfileName | null,
		filter: filter === undefined ? null : regexp(filter),
		json,
		strict,
		features: switches(values.feature ?? []),
		trace,
		findings,
		unguarded,
	};
}

/** `NAME` or `NAME=off`, as often as it is given. */
function switches(given: readonly string[]): Partial<FeatureSet> {
	const set: Partial<Record<FeatureName, boolean>> = {};
	for (const text of given) {
		const [name = '', state = 'on', ...more] = text.split('=');
		if (!Object.hasOwn(features, name))
			throw new UserError(
				`--feature: there is no switch "${name}"; kproto profiles tells them`,
			);
		if (more.length > 0 || (state !== 'on' && state !== 'off'))
			throw new UserError(`--feature: ${name} is on or off, not "${text}"`);
		set[name as FeatureName] = state === 'on';
	}
	return set;
}

/**
 * Whether a kernel can have the switches that were asked for.
 *
 * @param profile - the kernel
 * @param changes - against it
 * @throws UserError one is written against something that it has not
 */
export function checkSwitches(profile: ProfileName, changes: Partial<FeatureSet>): void {
	const lack = missingNeed({ ...profiles[profile], ...changes });
	if (lack !== null)
		throw new UserError(
			`--feature: "${lack.name}" needs "${lack.need}", which ${profile} has not`,
		);
}

/**
 * Refuse what a family cannot do.
 *
 * @param options - the command line
 * @param family - its name
 * @param names - options that it does not know
 * @throws UserError one of them was given
 */
export function refuseOptions(
	options: ReplayOptions,
	family: string,
	names: readonly ('strict' | 'features' | 'trace' | 'findings' | 'unguarded')[],
): void {
	for (const name of names) {
		const value = options[name];
		const isGiven =
			typeof value === 'object' && value !== null
				? Object.keys(value).length > 0
				: value !== null && value !== false;
		const option = name === 'features' ? 'feature' : name;
		if (isGiven) throw new UserError(`--${option}: not with records of ${family}`);
	}
}

function parse(args: string[]) {
	return parseArgs({
		args,
		allowPositionals: true,
		options: {
			profile: { type: 'string' },
			filter: { type: 'string' },
			json: { type: 'boolean' },
			strict: { type: 'boolean' },
			feature: { type: 'string', multiple: true },
			trace: { type: 'string' },
			findings: { type: 'boolean' },
			unguarded: { type: 'boolean' },
		},
	});
}

function regexp(text: string): RegExp {
	try {
		return new RegExp(text, 'u');
	} catch (error) {
		throw new UserError(`--filter: ${(error as Error).message}`);
	}
}
