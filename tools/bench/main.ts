// SPDX-License-Identifier: GPL-2.0-only
/**
 * `npm run bench`: speed and memory, as ratios and rates measured in one run.
 *
 * Figures are medians; a bound that is missed is marked and makes the exit code 1.
 */
import { bootRows, largeRows, pageRows } from './boot.ts';
import { editRows } from './edit.ts';
import type { Row } from './timing.ts';
import { walkRows } from './walk.ts';

const groups: readonly (() => Row[] | Promise<Row[]>)[] = [
	largeRows,
	walkRows,
	bootRows,
	pageRows,
	editRows,
];

let missed = 0;
for (const group of groups) {
	for (const { what, value, bound, ok } of await group()) {
		const mark = bound === '' ? '' : ok ? `ok, ${bound}` : `MISSED, ${bound}`;
		process.stdout.write(`${what.padEnd(54)} ${value.padStart(18)}  ${mark}\n`);
		if (!ok) missed++;
	}
}
process.exitCode = missed === 0 ? 0 : 1;
