// SPDX-License-Identifier: GPL-2.0-only
/**
 * `kproto profiles`: the feature switches, which released kernel has each, and what it changes.
 *
 * ```
 *                           v6.12  v7.3
 *   hmm_deferred_fault        -     on    hmm_range_fault() records a fault in the walk and …
 * ```
 */
import { parseArgs } from 'node:util';
import {
	defaultProfile,
	type FeatureName,
	features,
	type ProfileName,
	profiles,
} from '../../include/sim/feature.ts';
import { tellMistake, UserError } from '../kproto/user_error.ts';

const usage = `usage: kproto profiles [--json] [PROFILE...]

  PROFILE   only these: ${Object.keys(profiles).join(', ')}
  --json    as JSON
`;

const COLUMN = 7;

/** A row of the table. */
function row(name: FeatureName, shown: readonly ProfileName[], width: number): string {
	const marks = shown.map((profile) =>
		(profiles[profile][name] ? 'on' : '-').padStart(COLUMN - 2).padEnd(COLUMN),
	);
	return `${name.padEnd(width)}${marks.join('')}  ${features[name]}`.trimEnd();
}

function table(shown: readonly ProfileName[]): string {
	const names = Object.keys(features) as FeatureName[];
	const width = Math.max(...names.map(({ length }) => length)) + 1;
	const heads = shown.map((profile) => profile.padStart(COLUMN - 1).padEnd(COLUMN));
	return [
		`${' '.repeat(width)}${heads.join('')}`.trimEnd(),
		...names.map((name) => row(name, shown, width)),
		'',
		`The default is ${defaultProfile}. A switch that no kernel has is only proposed, or puts a kernel's fault right.`,
		'',
	].join('\n');
}

function json(shown: readonly ProfileName[]): string {
	const list = (Object.keys(features) as FeatureName[]).map((name) => ({
		name,
		changes: features[name],
		profiles: shown.filter((profile) => profiles[profile][name]),
	}));
	return `${JSON.stringify({ default: defaultProfile, features: list }, null, 2)}\n`;
}

/**
 * Print the profiles.
 *
 * @param argv - arguments
 * @returns 0, or 2 for a command line that makes no sense
 */
export async function main(argv: string[]): Promise<number> {
	try {
		const { values, positionals } = parseArgs({
			args: argv,
			allowPositionals: true,
			options: {
				json: { type: 'boolean' },
				help: { type: 'boolean', short: 'h' },
			},
		});
		if (values.help === true) {
			process.stdout.write(usage);
			return 0;
		}
		const unknown = positionals.find((name) => !Object.hasOwn(profiles, name));
		if (unknown !== undefined) throw new UserError(`there is no profile "${unknown}"`);
		const all = Object.keys(profiles) as ProfileName[];
		const shown = positionals.length === 0 ? all : (positionals as ProfileName[]);
		process.stdout.write(values.json === true ? json(shown) : table(shown));
		return 0;
	} catch (error) {
		return tellMistake('profiles', error);
	}
}
