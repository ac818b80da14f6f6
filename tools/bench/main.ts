// SPDX-License-Identifier: GPL-2.0-only
/**
 * `npm run bench`: speed and memory, as ratios and rates measured in one run.
 *
 * Figures are medians; a bound that is missed is marked and makes the exit code 1.
 */
import { spawnSync } from 'node:child_process';
import { bootRows, largeRows, pageRows } from './boot.ts';
import { editRows } from './edit.ts';
import { p2pdmaRows } from './p2pdma.ts';
import { replayRows } from './replay.ts';
import type { Row } from './timing.ts';
import { walkRows } from './walk.ts';

const groups: Readonly<Record<string, () => Row[] | Promise<Row[]>>> = {
	walk: () => walkRows('present'),
	'walk-huge': () => walkRows('huge'),
	'walk-holes': () => walkRows('holes'),
	'walk-private': () => walkRows('private'),
	boot: bootRows,
	page: pageRows,
	large: largeRows,
	p2pdma: p2pdmaRows,
	replay: replayRows,
	edit: editRows,
};

/** One group, in this program. */
async function measure(name: string): Promise<number> {
	let missed = 0;
	for (const { what, value, bound, ok } of await groups[name]!()) {
		const mark = bound === '' ? '' : ok ? `ok, ${bound}` : `MISSED, ${bound}`;
		process.stdout.write(`${what.padEnd(56)} ${value.padStart(16)}  ${mark}\n`);
		if (!ok) missed++;
	}
	return missed;
}

/** Each group in a program of its own: what one makes the compiler believe is not the next one's. */
function measureAll(): number {
	let failed = 0;
	for (const name of Object.keys(groups)) {
		const args = [...process.execArgv, process.argv[1]!, name];
		if (spawnSync(process.execPath, args, { stdio: 'inherit' }).status !== 0) failed++;
	}
	return failed;
}

const [, , only] = process.argv;
if (only !== undefined && !Object.hasOwn(groups, only)) {
	process.stderr.write(
		`bench: there is no group "${only}": ${Object.keys(groups).join(', ')}\n`,
	);
	process.exitCode = 2;
} else {
	const missed = only === undefined ? measureAll() : await measure(only);
	process.exitCode = missed === 0 ? 0 : 1;
}
