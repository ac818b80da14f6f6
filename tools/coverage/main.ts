// SPDX-License-Identifier: GPL-2.0-only
/**
 * `kproto coverage`: the suites under c8, a table by folder, and the thresholds.
 *
 * Guarantee: the numbers are of what V8 saw run, file by file; files that no suite loads count as
 * not reached. A canary of which the right answer is known says whether to believe them.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { transformSync } from 'esbuild';
import { type Coverage, coverageTable, percentage, sumOf } from './table.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const canary = 'tools/coverage/canary.ts';
/** What the thresholds are for. */
const folders = ['include', 'kernel', 'mm', 'drivers'];
const thresholds = { lines: 90, branches: 85 } as const;

/**
 * Run the suites and judge.
 *
 * @param argv - arguments for kselftest: part of the suites, for a look at part of the tree
 * @returns 0 all was reached that has to be, 1 not, or a test failed
 */
export async function main(argv: string[]): Promise<number> {
	const { status } = spawnSync(
		'npx',
		[
			'c8',
			'--all',
			...[...folders, 'arch'].map((folder) => `--include=${folder}/**/*.ts`),
			`--include=${canary}`,
			...typeOnlyFiles().map((path) => `--exclude=${path}`),
			'--exclude=**/*-tests.ts',
			'--reporter=json-summary',
			'--reporter=html',
			process.execPath,
			'tools/kproto.js',
			'kselftest',
			// they reach nothing of what is measured, and take long when V8 counts
			'SKIP_TARGETS=tools/kselftest tools/lint',
			...argv,
		],
		// the table is what this command is for: the tests tell theirs beside it
		{ cwd: root, stdio: ['ignore', 2, 2] },
	);
	const files = readSummary();
	process.stdout.write(`${coverageTable(files, [...folders, 'arch'], folders).join('\n')}\n`);
	const complaints = [...judgeCanary(files), ...judgeThresholds(files)];
	if (status !== 0) complaints.unshift('a test failed');
	for (const complaint of complaints) process.stdout.write(`coverage: ERROR: ${complaint}\n`);
	return complaints.length === 0 ? 0 : 1;
}

/** Files of which nothing is left to run: headers that declare types only. */
function typeOnlyFiles(): string[] {
	const files = [...folders, 'arch'].flatMap((folder) => {
		if (!existsSync(join(root, folder))) return [];
		const names = readdirSync(join(root, folder), {
			recursive: true,
			encoding: 'utf8',
		});
		return names
			.filter((name) => name.endsWith('.ts'))
			.map((name) => join(folder, name));
	});
	return files.filter((path) => {
		const { code } = transformSync(readFileSync(join(root, path), 'utf8'), {
			loader: 'ts',
		});
		return code.trim() === '';
	});
}

function readSummary(): Map<string, Coverage> {
	const text = readFileSync(`${root}/coverage/coverage-summary.json`, 'utf8');
	const summary = JSON.parse(text) as Record<string, Coverage>;
	const files = new Map<string, Coverage>();
	for (const [path, coverage] of Object.entries(summary))
		if (path !== 'total') files.set(relative(root, path), coverage);
	return files;
}

/** Lines of the canary's function that nobody calls, without the closing brace, to which nothing maps. */
const canaryUncovered = 4;

function judgeCanary(files: ReadonlyMap<string, Coverage>): string[] {
	const { total = 0, covered = 0 } = files.get(canary)?.lines ?? {};
	if (covered > 0 && total - covered === canaryUncovered) return [];
	return [
		`the canary has ${total - covered} of ${total} lines not covered instead of ${canaryUncovered}: believe no number`,
	];
}

function judgeThresholds(files: ReadonlyMap<string, Coverage>): string[] {
	const sum = sumOf(files, folders);
	return (['lines', 'branches'] as const)
		.filter((kind) => percentage(sum[kind]) < thresholds[kind])
		.map(
			(kind) =>
				`${kind}: ${percentage(sum[kind]).toFixed(1)} %, less than ${thresholds[kind]} %`,
		);
}
