// SPDX-License-Identifier: GPL-2.0-only
/** `kproto lint`: the rules of the house that no common linter has, told as checkpatch does. */
import { fileURLToPath } from 'node:url';
import { rules } from './rules/index.ts';
import { openProject, tidy, tidyReport } from './tidy.ts';

/**
 * Check the tree.
 *
 * @param argv - beginnings of paths: tell only of files below them
 * @returns 0 all is tidy, 1 not
 */
export async function main(argv: string[]): Promise<number> {
	const root = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
	const whole = tidy(openProject(root), root, rules);
	const findings = whole.findings.filter(
		({ path }) => argv.length === 0 || argv.some((start) => path.startsWith(start)),
	);
	process.stdout.write(`${tidyReport({ ...whole, findings }).join('\n')}\n`);
	return findings.length === 0 ? 0 : 1;
}
