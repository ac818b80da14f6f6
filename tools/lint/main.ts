// SPDX-License-Identifier: GPL-2.0-only
/** `kproto lint`: the rules of the house that no common linter has, told as checkpatch does. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Project } from 'ts-morph';
import { tellMistake, UserError } from '../kproto/user_error.ts';
import { buildNameIndex, kernelTree } from './kernel/build.ts';
import { formatNameIndex, indexFile, readNameIndex } from './kernel/name_index.ts';
import { wantedOf } from './kernel/wanted.ts';
import { rules } from './rules/index.ts';
import { openProject, tidy, tidyReport } from './tidy.ts';

const usage = `usage: kproto lint [PATH...]
       kproto lint --kernel DIR --kernel DIR
	PATH   beginning of a path: tell only of files below it

	--kernel DIR   look up in the sources of a kernel, a whole tree, which file has each
	               name that a @kernel tag speaks of, and write it to the index that
	               the tags are held against; once for each release of the index
`;

/**
 * Check the tree, or make the index that it is checked against.
 *
 * @param argv - the command line
 * @returns 0 all is tidy, 1 not, 2 the command line makes no sense
 */
export async function main(argv: string[]): Promise<number> {
	try {
		const { values, positionals } = parseArgs({
			args: argv,
			allowPositionals: true,
			options: {
				help: { type: 'boolean', short: 'h' },
				kernel: { type: 'string', multiple: true },
			},
		});
		const root = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
		if (values.help) process.stdout.write(usage);
		else if (values.kernel !== undefined)
			makeIndex(values.kernel, openProject(root), root);
		else return check(root, positionals);
		return 0;
	} catch (error) {
		return tellMistake('lint', error);
	}
}

function check(root: string, starts: readonly string[]): number {
	const whole = tidy(openProject(root), root, rules);
	const findings = whole.findings.filter(
		({ path }) => starts.length === 0 || starts.some((start) => path.startsWith(start)),
	);
	process.stdout.write(`${tidyReport({ ...whole, findings }).join('\n')}\n`);
	return findings.length === 0 ? 0 : 1;
}

function makeIndex(roots: readonly string[], project: Project, root: string): void {
	const { releases } = readNameIndex();
	const given = roots.map(kernelTree);
	const trees = releases.map((release) => {
		const tree = given.find((one) => one.release === release);
		if (tree === undefined)
			throw new UserError(
				`--kernel: the index needs the sources of ${release} too`,
			);
		return tree;
	});
	const other = given.find((one) => !trees.includes(one));
	if (other !== undefined)
		throw new UserError(
			`--kernel: ${other.root} is ${other.release}; the index is of ${releases.join(', ')}`,
		);
	const index = buildNameIndex(trees, wantedOf(project, root));
	writeFileSync(indexFile, formatNameIndex(index));
	process.stdout.write(
		`${index.places.size} names and files of ${releases.join(', ')} in ${fileURLToPath(indexFile)}\n`,
	);
}
