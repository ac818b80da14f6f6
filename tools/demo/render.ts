// SPDX-License-Identifier: GPL-2.0-only
/** The demonstration's output: a table of pairs, a matrix where there are many, a line a machine. */

import { type Column, table, wrap } from '../kproto/table.ts';
import { isGood, type MachineResult, type PairResult, type Path, paths } from './result.ts';
import type { Player } from './roles.ts';

/** More pairs than this are shown as a matrix. */
const MOST_ROWS = 24;

/** A cell of the matrix. */
const letters: Readonly<Record<Path, string>> = {
	switch: 'SW',
	'switch, ACS redirect': 'ACS',
	'host bridge': 'HB',
	refused: '--',
};

/** What the reader has to know first. */
export const introduction: readonly string[] = [
	'A GPU keeps pages of a process in DEVICE_PRIVATE memory. An RDMA NIC touches them.',
	'',
	...wrap(
		'For each pair of GPU and NIC: eight pages of a process migrate into VRAM. The NIC has an on-demand memory region over them and reads, then writes all of it. Its page fault calls hmm_range_fault(), which asks the pagemap of each private page for its P2P page (device_private_dma_pfn, the proposal) and the P2P layer whether this NIC can reach it. If so the page stays in VRAM and the DMA API gives the address that is right for this NIC; if not, that page migrates to system RAM. The bytes travel as TLPs through a simulated PCIe fabric that knows nothing of these decisions; every byte is compared.',
		96,
		'  ',
	),
];

/** The legend of paths. */
export const legend: readonly string[] = [
	'  path                   the NIC uses          because',
	'  switch                 bus address           both are below one switch (or one port), no ACS redirect',
	'  switch, ACS redirect   physical or IOVA      ACS sends peer requests up to the host bridge, which is allowed',
	'  host bridge            physical or IOVA      they meet only above the root ports; the host bridge is allowed',
	'  refused                RAM instead           the host bridge is not allowed: the pages migrate',
];

function count(n: number): string {
	return n.toLocaleString('en-US');
}

function verdict(pairs: readonly PairResult[]): string {
	const bad = pairs.filter((pair) => !isGood(pair));
	return bad.length === 0 ? 'ok' : `${bad.length} BAD`;
}

function bytesCell(pair: PairResult): string {
	return pair.wrong === 0 ? `${count(pair.bytes)} ok` : `${count(pair.wrong)} WRONG`;
}

const pairColumns: readonly Column[] = [
	{ title: 'GPU' },
	{ title: 'NIC' },
	{ title: 'path' },
	{ title: 'dist', right: true },
	{ title: 'map type' },
	{ title: 'first DMA address of the NIC' },
	{ title: 'kept', right: true },
	{ title: 'moved', right: true },
	{ title: 'bytes' },
	{ title: 'faults', right: true },
];

function pairRow(pair: PairResult): string[] {
	return [
		pair.gpu,
		pair.nic,
		pair.window ? pair.path : `${pair.path} (no P2P pages)`,
		String(pair.distance),
		pair.mapType,
		`${pair.address} ${pair.addressKind}`,
		String(pair.kept),
		String(pair.migrated),
		bytesCell(pair),
		String(pair.faults),
	];
}

/** Who stands in for whom, a line each. */
function standIns(result: MachineResult): string[] {
	const line = (role: string, { bdf, what, standIn }: Player): string[] =>
		standIn ? [`  ${result.name} has no ${role}: ${bdf} (${what}) plays it`] : [];
	return [
		...result.cast.gpus.flatMap((player) => line('GPU', player)),
		...result.cast.nics.flatMap((player) => line('NIC', player)),
	];
}

/** Pairs of a machine, a line each. */
function pairTable(result: MachineResult): string[] {
	return table(pairColumns, result.pairs.map(pairRow));
}

/** Pairs of a machine as GPUs times NICs. */
function matrix(result: MachineResult): string[] {
	const { gpus, nics } = result.cast;
	const columns: Column[] = [
		{ title: 'GPU \\ NIC' },
		...nics.map(({ bdf }) => ({ title: bdf.replace(/^0000:/, '') })),
	];
	const rows = gpus.map((gpu) => [
		gpu.bdf,
		...nics.map((nic) => {
			const pair = result.pairs.find(
				(p) => p.gpu === gpu.bdf && p.nic === nic.bdf,
			);
			if (pair === undefined) return 'X';
			const bad = isGood(pair) ? '' : '!';
			const mark = pair.window ? '' : '*';
			return `${letters[pair.path]}${bad}${mark} ${pair.distance} ${pair.kept}/${pair.pages}`;
		}),
	]);
	return [
		...table(columns, rows),
		'  cell: path (SW switch, ACS switch with redirect, HB host bridge, -- refused), distance, pages kept of all; X the same function, * the GPU has no P2P pages, ! something was wrong',
	];
}

/**
 * A machine in full.
 *
 * @param result - its pairs
 */
export function renderMachine(result: MachineResult): string[] {
	const many = result.pairs.length > MOST_ROWS;
	const complaints = result.pairs.flatMap(({ gpu, nic, reports }) =>
		reports.map((title) => `  ${gpu} ${nic}: ${title}`),
	);
	return [
		`${result.name}: ${result.about}`,
		...result.assumed.map((line) => `  ${line}`),
		...standIns(result),
		...(many ? matrix(result) : pairTable(result)),
		...complaints,
	];
}

const machineColumns: readonly Column[] = [
	{ title: 'machine' },
	{ title: 'pairs', right: true },
	...paths.map((path) => ({ title: path, right: true })),
	{ title: 'pages kept', right: true },
	{ title: 'moved', right: true },
	{ title: 'bytes verified', right: true },
	{ title: 'verdict' },
];

const sum = (pairs: readonly PairResult[], of: (p: PairResult) => number): number =>
	pairs.reduce((total, pair) => total + of(pair), 0);

function machineRow(name: string, pairs: readonly PairResult[]): string[] {
	return [
		name,
		String(pairs.length),
		...paths.map((path) => String(pairs.filter((pair) => pair.path === path).length)),
		count(sum(pairs, ({ kept }) => kept)),
		count(sum(pairs, ({ migrated }) => migrated)),
		count(sum(pairs, ({ bytes, wrong }) => bytes - wrong)),
		verdict(pairs),
	];
}

/**
 * A line a machine, and one for all.
 *
 * @param results - the machines
 */
export function renderSummary(results: readonly MachineResult[]): string[] {
	const all = results.flatMap(({ pairs }) => pairs);
	const rows = results.map(({ name, pairs }) => machineRow(name, pairs));
	if (results.length > 1) rows.push(machineRow('all', all));
	return [...table(machineColumns, rows), ...results.flatMap(standIns)];
}

/**
 * The machine that shows most at a glance: the most kinds of path, then the fewest pairs.
 *
 * @param results - the machines
 */
export function contrastingMachine(results: readonly MachineResult[]): MachineResult | null {
	const kinds = ({ pairs }: MachineResult): number =>
		new Set(pairs.map(({ path }) => path)).size;
	const [best] = [...results].sort(
		(a, b) => kinds(b) - kinds(a) || a.pairs.length - b.pairs.length,
	);
	return best ?? null;
}
