// SPDX-License-Identifier: GPL-2.0-only
/** What a coverage run found, summed up by folder. */

/** How much of something was reached. */
export interface Count {
	total: number;
	covered: number;
}

/** One file, or several. */
export interface Coverage {
	lines: Count;
	branches: Count;
	functions: Count;
}

/** The parts of Coverage, in the order of the table's columns. */
export const kinds = ['lines', 'branches', 'functions'] as const;

/** Nothing yet. */
export function noCoverage(): Coverage {
	return {
		lines: { total: 0, covered: 0 },
		branches: { total: 0, covered: 0 },
		functions: { total: 0, covered: 0 },
	};
}

/**
 * Percentage, where nothing to reach is all of it.
 *
 * @param count - what was reached
 */
export function percentage({ total, covered }: Count): number {
	return total === 0 ? 100 : (100 * covered) / total;
}

function add(sum: Coverage, { lines, branches, functions }: Coverage): void {
	for (const [to, from] of [
		[sum.lines, lines],
		[sum.branches, branches],
		[sum.functions, functions],
	] as const) {
		to.total += from.total;
		to.covered += from.covered;
	}
}

/**
 * Sum of the files of some folders.
 *
 * @param files - coverage by path below the root
 * @param folders - the folders
 */
export function sumOf(files: ReadonlyMap<string, Coverage>, folders: readonly string[]): Coverage {
	const sum = noCoverage();
	for (const [path, coverage] of files)
		if (folders.some((folder) => path.startsWith(`${folder}/`))) add(sum, coverage);
	return sum;
}

function row(name: string, coverage: Coverage): string {
	const cells = kinds.map((kind) => percentage(coverage[kind]).toFixed(1).padStart(10));
	return `${name.padEnd(32)}${cells.join('')}`;
}

/**
 * The table: a row a folder, then the sum.
 *
 * @param files - coverage by path below the root
 * @param shown - the folders that have rows
 * @param summed - the folders that the sum is of
 */
export function coverageTable(
	files: ReadonlyMap<string, Coverage>,
	shown: readonly string[],
	summed: readonly string[],
): string[] {
	const names = new Set<string>();
	for (const path of files.keys()) {
		const folder = path.slice(0, path.lastIndexOf('/'));
		if (shown.some((top) => path.startsWith(`${top}/`))) names.add(folder);
	}
	const head = `${'folder'.padEnd(32)}${kinds.map((kind) => `% ${kind}`.padStart(10)).join('')}`;
	return [
		head,
		...[...names].sort().map((name) => row(name, ownFiles(files, name))),
		row(summed.join(' '), sumOf(files, summed)),
	];
}

/** Sum of the files that lie in a folder itself. */
function ownFiles(files: ReadonlyMap<string, Coverage>, folder: string): Coverage {
	const sum = noCoverage();
	for (const [path, coverage] of files)
		if (path.slice(0, path.lastIndexOf('/')) === folder) add(sum, coverage);
	return sum;
}
