// SPDX-License-Identifier: GPL-2.0-only
/** The two matrices as text. */
import type { ProfileName } from '../../include/sim/feature.ts';
import { table } from '../kproto/table.ts';
import { type ClassicMap, classicLegend } from './classic.ts';
import type { Reach } from './kernel.ts';
import type { Named } from './select.ts';
import type { Verdict } from './unknown.ts';

/** What stands in a cell for a verdict. */
export const reachCode: Readonly<Record<Reach, string>> = {
	self: 'self',
	switch: 'SW',
	redirected: 'ACS',
	host: 'HB',
	across: 'XHB',
	refused: 'no',
};

const reachLegend: readonly (readonly [Reach, string])[] = [
	['self', 'the same function: no packet leaves it'],
	['switch', 'turned around below the root, by bus address: same switch or same port'],
	['redirected', 'ACS sends it up to the root; the host bridge lets it through'],
	['host', 'through the host bridge that both are below'],
	['across', 'from one host bridge to another'],
	['refused', 'the kernel refuses: no mapping, pci_p2pdma_distance() < 0'],
];

/**
 * A verdict as a cell: what it is, or all that it may be, and how many functions are passed.
 *
 * @param verdict - the verdict
 */
export function verdictCell({ may, hops }: Verdict): string {
	const codes = may.map((reach) => reachCode[reach]).join('|');
	return codes === 'self' || codes === 'no' ? codes : `${codes} ${hops}`;
}

/** Rows and columns under headings, two spaces between columns. */
function grid(
	rows: readonly Named[],
	columns: readonly Named[],
	cell: (row: number, column: number) => string,
): string[] {
	const heads = ['', ...columns.map(({ name }) => name)].map((title) => ({ title }));
	const lines = rows.map(({ name }, r) => [name, ...columns.map((_, c) => cell(r, c))]);
	return table(heads, lines, 0);
}

/**
 * The classic matrix.
 *
 * @param map - of the machine
 * @param rows - from whom
 * @param columns - to whom
 */
export function classicLines(
	map: ClassicMap,
	rows: readonly Named[],
	columns: readonly Named[],
): string[] {
	const cell = (r: number, c: number) =>
		map.between(rows[r]?.bdf ?? '', columns[c]?.bdf ?? '');
	const texts = rows.map((_, r) => columns.map((__, c) => cell(r, c)));
	const used = new Set(texts.flat().flatMap((text) => text.split('|')));
	return [
		'Nearness, as nvidia-smi topo -m names it',
		'',
		...grid(rows, columns, (r, c) => texts[r]?.[c] ?? ''),
		'',
		...classicLegend
			.filter(([code]) => used.has(code))
			.map(([code, text]) => `  ${code.padEnd(5)} ${text}`),
		...(texts.flat().includes('NODE|SYS')
			? ['  A|B   the source does not tell the NUMA node of one of them']
			: []),
	];
}

/**
 * The matrix of verdicts.
 *
 * @param kernel - the release
 * @param verdicts - by row and column
 * @param rows - providers
 * @param columns - clients
 */
export function verdictLines(
	kernel: ProfileName,
	verdicts: readonly (readonly Verdict[])[],
	rows: readonly Named[],
	columns: readonly Named[],
): string[] {
	const all = verdicts.flat();
	const used = new Set(all.flatMap(({ may }) => may));
	return [
		`What Linux ${kernel} says: may the column's function access the row's memory, and how many functions`,
		'are passed on the way',
		'',
		...grid(rows, columns, (r, c) => verdictCell(verdicts[r]?.[c] as Verdict)),
		'',
		...reachLegend
			.filter(([reach]) => used.has(reach))
			.map(([reach, text]) => `  ${reachCode[reach].padEnd(5)} ${text}`),
		...(all.some(({ may }) => may.length > 1)
			? ['  A|B   one of these: the source does not tell what decides']
			: []),
	];
}

/**
 * What the names stand for.
 *
 * @param shown - functions, some of them perhaps twice
 */
export function nameLines(shown: readonly Named[]): string[] {
	const seen = new Map(shown.map((one) => [one.bdf, one]));
	const width = Math.max(0, ...shown.map(({ name }) => name.length));
	return [...seen.values()].map(
		({ name, bdf, what }) => `  ${name.padEnd(width)}  ${bdf}  ${what}`,
	);
}
