// SPDX-License-Identifier: GPL-2.0-only
/**
 * From the edit of one line in mm/hmm.ts to the verdict of its suite: a one-shot run, and a run that
 * watches. The edit adds and takes away a comment.
 */
import { spawn, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { bounded, figure, median, now, type Row } from './timing.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const edited = fileURLToPath(new URL('../../mm/hmm.ts', import.meta.url));
const command = ['tools/kproto.js', 'kselftest', 'mm/device_private_dma_pfn'];
const EDITS = 7;

/** Run `body` with the file changed each time, and put it back. */
async function withEdits(body: (edit: (n: number) => void) => Promise<void>): Promise<void> {
	const before = readFileSync(edited, 'utf8');
	try {
		await body((n) => writeFileSync(edited, `${before}// ${n}\n`));
	} finally {
		writeFileSync(edited, before);
	}
}

/** Seconds of a one-shot run after an edit. */
async function oneShot(): Promise<number> {
	const times: number[] = [];
	await withEdits(async (edit) => {
		for (let n = 0; n < EDITS; n++) {
			edit(n);
			const start = now();
			const { status } = spawnSync(process.execPath, command, {
				cwd: root,
				stdio: 'ignore',
			});
			if (status !== 0) throw new Error(`the suite failed with ${status}`);
			times.push((now() - start) / 1e9);
		}
	});
	return median(times);
}

/** Seconds from an edit to the totals line of a run that watches. */
async function watching(): Promise<number> {
	const child = spawn(process.execPath, [...command, '--watch'], {
		cwd: root,
		stdio: ['pipe', 'pipe', 'ignore'],
	});
	let output = '';
	let wake = (): void => {};
	child.stdout.on('data', (chunk: Buffer) => {
		output += chunk.toString();
		if (/^# Totals:/m.test(output)) wake();
	});
	const verdict = (): Promise<void> =>
		new Promise((resolve, reject) => {
			const timer = setTimeout(
				() => reject(new Error(`no verdict: ${output}`)),
				20_000,
			);
			wake = () => {
				clearTimeout(timer);
				output = '';
				resolve();
			};
			if (/^# Totals:/m.test(output)) wake();
		});
	const times: number[] = [];
	try {
		await verdict();
		await withEdits(async (edit) => {
			for (let n = 0; n < EDITS; n++) {
				// nobody edits faster
				await new Promise((resolve) => setTimeout(resolve, 1000));
				const start = now();
				edit(n);
				await verdict();
				times.push((now() - start) / 1e9);
			}
		});
	} finally {
		child.kill();
	}
	return median(times);
}

/** The rows of this benchmark. */
export async function editRows(): Promise<Row[]> {
	return [
		figure(
			'edit of one line in mm/hmm.ts to the verdict',
			'suite mm/device_private_dma_pfn',
		),
		bounded('  one-shot run', await oneShot(), 's', 2, 'most'),
		bounded('  watching', await watching(), 's', 0.5, 'most'),
	];
}
