// SPDX-License-Identifier: GPL-2.0-only
/**
 * The tree as a picture, with the paths that pairs take on it.
 *
 * ```
 *   root complex ─┬─ host bridge ─┬─ root port ── upstream port ─┬─ downstream port ── GPU0
 *                 │               │                              └─ downstream port ── NIC0
 *                 │               └─ root port ── NVME0
 *                 └─ host bridge ── …
 * ```
 *
 * Left to right, a column for each level, a row for each function that is asked about; so labels have rows of
 * their own and can't overlap. A line of the tree is accompanied by a stripe for each kind of path that runs
 * along it; where the source leaves open which it is, stripes are dashed. Colours are for light and dark
 * backgrounds, as the viewer prefers; it is plain SVG, without scripts and without anything from elsewhere.
 */
import {
	type DeviceDescription,
	formatBdf,
	type HostBridgeDescription,
	hex,
	type MachineDescription,
} from '../../arch/sim/description.ts';
import { rootBusOf } from '../../arch/sim/windows.ts';
import type { Reach } from './kernel.ts';
import { reachCode } from './matrix.ts';
import type { Named } from './select.ts';
import type { Verdict } from './unknown.ts';

const ROW = 44;
const BOX = 36;
const FONT = 12;
const SMALL = 11;
/** Width of a character of a monospaced font, with something to spare, in em. */
const CHARACTER = 0.625;
const PADDING = 8;
const GAP = 56;
const MARGIN = 24;
const STRIPE = 4;
const HEAD = 64;
const REDIRECT = 0x2c;

/** Kinds of paths in the order of their stripes, with their words. */
const paths: readonly (readonly [Reach, string])[] = [
	['switch', 'below the root, by bus address'],
	['redirected', 'up to the root by ACS redirect, allowed'],
	['host', 'through one host bridge'],
	['across', 'from host bridge to host bridge'],
];

/** A box of the picture. */
interface Node {
	readonly key: string;
	readonly parent: Node | null;
	readonly children: Node[];
	readonly lines: readonly string[];
	readonly depth: number;
	/** Middle of the box. */
	y: number;
}

const typeNames: Readonly<Record<number, string>> = {
	4: 'root port',
	5: 'upstream port',
	6: 'downstream port',
	7: 'PCI bridge',
	8: 'PCIe bridge',
};

function acsLine({ acs, unknown }: DeviceDescription): string {
	if (acs === null) return unknown === true ? 'ACS unknown' : 'no ACS';
	const redirects = (acs.control & REDIRECT) !== 0;
	return `ACS 0x${hex(acs.control, 2)}${redirects ? ' redirects' : ''}`;
}

/** Puts the boxes where they belong. */
class Tree {
	readonly root: Node;
	readonly nodes = new Map<string, Node>();
	private readonly d: MachineDescription;
	private readonly byBdf: ReadonlyMap<string, DeviceDescription>;
	private rows = 0;

	constructor(d: MachineDescription, shown: readonly Named[]) {
		this.d = d;
		this.byBdf = new Map(d.devices.map((device) => [device.bdf, device]));
		const { vendor, family, unknown } = d.cpu;
		const told =
			vendor === 'other'
				? 'CPU not AMD, not Intel'
				: `${vendor} family 0x${hex(family, 2)}`;
		const cpu = unknown === true ? 'CPU unknown' : told;
		this.root = this.add('root', null, ['root complex', cpu]);
		const names = new Map(shown.map((one) => [one.bdf, one]));
		for (const device of d.devices)
			if (names.has(device.bdf)) this.device(device, names);
		this.place(this.root);
	}

	get height(): number {
		return this.rows * ROW;
	}

	private add(key: string, parent: Node | null, lines: readonly string[]): Node {
		const depth = parent === null ? 0 : parent.depth + 1;
		const node: Node = { key, parent, children: [], lines, depth, y: 0 };
		parent?.children.push(node);
		this.nodes.set(key, node);
		return node;
	}

	private device(device: DeviceDescription, names: ReadonlyMap<string, Named>): Node {
		const there = this.nodes.get(device.bdf);
		if (there !== undefined) return there;
		const above = device.parent === null ? undefined : this.byBdf.get(device.parent);
		const parent = above === undefined ? this.host(device) : this.device(above, names);
		const named = names.get(device.bdf);
		const type = typeNames[device.pcieType] ?? 'bridge';
		const lines =
			device.header === 0
				? [
						`${named?.name ?? ''} ${device.bdf}`.trim(),
						`${named?.what ?? ''}`,
					]
				: [`${device.bdf} ${type}`, acsLine(device)];
		return this.add(device.bdf, parent, lines);
	}

	private host(device: DeviceDescription): Node {
		const root = rootBusOf(device, this.byBdf);
		const key = `host ${root}`;
		const there = this.nodes.get(key);
		if (there !== undefined) return there;
		const host = this.d.hostBridges.find(
			({ domain, bus }) => domain * 256 + bus === root,
		);
		return this.add(key, this.root, hostLines(host, root));
	}

	/** Leaves take rows, what is above them stands in their middle. */
	private place(node: Node): void {
		for (const child of node.children) this.place(child);
		const [first, last] = [node.children[0], node.children.at(-1)];
		if (first === undefined || last === undefined) node.y = this.rows++ * ROW + ROW / 2;
		else node.y = (first.y + last.y) / 2;
	}
}

function hostLines(host: HostBridgeDescription | undefined, root: number): string[] {
	const at = { domain: Math.floor(root / 256), bus: root % 256, devfn: 0 };
	const node = host?.numaNode === undefined ? '' : `NUMA node ${host.numaNode}`;
	return [`host bridge ${formatBdf(at).slice(0, -5)}`, node];
}

function upFrom(node: Node): Node[] {
	return node.parent === null ? [node] : [node, ...upFrom(node.parent)];
}

/** Lines of the tree, named by the box at their lower end, with the stripes that run along them. */
class Stripes {
	/** By lower end: reach, and whether it is certain. */
	readonly byLine = new Map<string, Map<Reach, boolean>>();

	/** A pair's path, by its verdict; a refused pair has none. */
	add(a: Node, b: Node, { may }: Verdict): void {
		for (const reach of may) {
			if (reach === 'self' || reach === 'refused') continue;
			for (const node of this.lines(a, b, reach)) {
				const stripes =
					this.byLine.get(node.key) ?? new Map<Reach, boolean>();
				stripes.set(
					reach,
					(stripes.get(reach) ?? false) || may.length === 1,
				);
				this.byLine.set(node.key, stripes);
			}
		}
	}

	private lines(a: Node, b: Node, reach: Reach): Node[] {
		const [up, down] = [upFrom(a), upFrom(b)];
		const both = up.filter((node) => down.includes(node));
		// To where they meet, to their host bridge, or over the root complex.
		const turn =
			reach === 'switch'
				? both[0]
				: reach === 'across'
					? up.at(-1)
					: (both.find(({ depth }) => depth === 1) ?? both[0]);
		const below = (chain: Node[]) =>
			chain.slice(0, turn === undefined ? 0 : chain.indexOf(turn));
		return [...below(up), ...below(down)];
	}
}

function escaped(text: string): string {
	return text
		.replaceAll('&', '&amp;')
		.replaceAll('<', '&lt;')
		.replaceAll('>', '&gt;')
		.replaceAll('"', '&quot;');
}

/** Colours: of text at least 4.5 to 1 against what is behind it, of stripes 3 to 1. */
const style = `
.back { fill: #ffffff } .box { fill: #f1f3f5; stroke: #6b7280 } .line { fill: none; stroke: #9aa1ab }
text { font: ${FONT}px "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #16191d }
.more { font-size: ${SMALL}px; fill: #464d57 } .title { font-weight: bold }
.path { fill: none; stroke-width: 3 } .open { stroke-dasharray: 7 4 }
.switch { stroke: #1a7f37 } .redirected { stroke: #a64b00 } .host { stroke: #0a58ca } .across { stroke: #7a35c0 }
.refused { fill: #b3121f }
@media (prefers-color-scheme: dark) {
.back { fill: #14171b } .box { fill: #242930; stroke: #9aa3ae } .line { stroke: #6d7580 }
text { fill: #eceff2 } .more { fill: #bcc4cd }
.switch { stroke: #4ade80 } .redirected { stroke: #f5a742 } .host { stroke: #6cb2ff } .across { stroke: #c79bff }
.refused { fill: #ff8a8a }
}`;

/** Draws boxes, lines and stripes. */
class Drawing {
	private readonly stripes: Stripes;
	/** Left edge and width of each column. */
	private readonly columns: { x: number; width: number }[] = [];

	constructor(tree: Tree, stripes: Stripes) {
		this.stripes = stripes;
		const widths: number[] = [];
		for (const { depth, lines } of tree.nodes.values()) {
			const [label = '', more = ''] = lines;
			const wide = Math.max(label.length * FONT, more.length * SMALL) * CHARACTER;
			widths[depth] = Math.max(widths[depth] ?? 0, Math.ceil(wide) + 2 * PADDING);
		}
		let x = MARGIN;
		for (const width of widths) {
			this.columns.push({ x, width });
			x += width + GAP;
		}
	}

	get width(): number {
		const last = this.columns.at(-1);
		return last === undefined ? 0 : last.x + last.width + MARGIN;
	}

	box({ depth, y, lines, key }: Node): string {
		const { x, width } = this.columns[depth] as { x: number; width: number };
		const [label = '', more = ''] = lines;
		const top = HEAD + y;
		const kind = key === 'root' || key.startsWith('host') ? 'label' : 'label device';
		return [
			`<rect class="box" x="${x}" y="${top - BOX / 2}" width="${width}" height="${BOX}" rx="4"/>`,
			`<text class="${kind}" x="${x + PADDING}" y="${top - 3}">${escaped(label)}</text>`,
			more === ''
				? ''
				: `<text class="more" x="${x + PADDING}" y="${top + 12}">${escaped(more)}</text>`,
		].join('');
	}

	/** The line to a box from the one above it, and its stripes. */
	line(node: Node): string {
		const { parent } = node;
		if (parent === null) return '';
		const from = this.columns[parent.depth] as { x: number; width: number };
		const to = this.columns[node.depth] as { x: number; width: number };
		const [start, end] = [from.x + from.width, to.x];
		const bend = start + GAP / 2;
		const at = (offset: number) =>
			`M${start} ${HEAD + parent.y + offset}H${bend + offset}V${HEAD + node.y + offset}H${end}`;
		const parts = [`<path class="line" d="${at(0)}"/>`];
		const stripes = this.stripes.byLine.get(node.key) ?? new Map<Reach, boolean>();
		const kinds = paths.filter(([reach]) => stripes.has(reach));
		for (const [i, [reach]] of kinds.entries()) {
			const offset = (i - (kinds.length - 1) / 2) * STRIPE;
			const open = stripes.get(reach) === true ? '' : ' open';
			parts.push(`<path class="path ${reach}${open}" d="${at(offset)}"/>`);
		}
		return parts.join('');
	}
}

/** What the stripes mean, in one row, and how many pairs are refused. */
function legend(
	used: ReadonlySet<Reach>,
	refused: number,
	open: boolean,
): { svg: string; width: number } {
	const parts: string[] = [];
	let x = MARGIN;
	const text = (words: string, kind: string): void => {
		parts.push(`<text class="label ${kind}" x="${x}" y="44">${escaped(words)}</text>`);
		x += Math.ceil(words.length * FONT * CHARACTER) + 20;
	};
	for (const [reach, words] of paths) {
		if (!used.has(reach)) continue;
		parts.push(`<path class="path ${reach}" d="M${x} 40h24"/>`);
		x += 30;
		text(`${reachCode[reach]} ${words}`, 'key');
	}
	if (refused > 0)
		text(`${refused} ${refused === 1 ? 'pair' : 'pairs'} refused`, 'key refused');
	if (open) text('dashed: unknown', 'key');
	return { svg: parts.join(''), width: x };
}

/**
 * Draw a machine.
 *
 * @param d - the machine
 * @param asked - who was asked, and what was changed: `Linux v7.3`
 * @param verdicts - by row and column
 * @param rows - providers
 * @param columns - clients
 * @returns an SVG file
 */
export function drawSvg(
	d: MachineDescription,
	asked: string,
	verdicts: readonly (readonly Verdict[])[],
	rows: readonly Named[],
	columns: readonly Named[],
): string {
	const shown = [...new Map([...rows, ...columns].map((one) => [one.bdf, one])).values()];
	const tree = new Tree(d, shown);
	const stripes = new Stripes();
	let refused = 0;
	for (const [r, row] of rows.entries())
		for (const [c, column] of columns.entries()) {
			const verdict = verdicts[r]?.[c] as Verdict;
			const [a, b] = [tree.nodes.get(row.bdf), tree.nodes.get(column.bdf)];
			if (a !== undefined && b !== undefined) stripes.add(a, b, verdict);
			if (verdict.may.length === 1 && verdict.may[0] === 'refused') refused++;
		}
	const drawing = new Drawing(tree, stripes);
	const said = [...stripes.byLine.values()];
	const used = new Set(said.flatMap((line) => [...line.keys()]));
	const open = said.some((line) => [...line.values()].includes(false));
	const key = legend(used, refused, open);
	const title = `${d.name}: paths of peer-to-peer DMA, ${asked}`;
	const width = Math.max(
		drawing.width,
		key.width,
		title.length * FONT * CHARACTER + 2 * MARGIN,
	);
	const height = HEAD + tree.height + MARGIN;
	const nodes = [...tree.nodes.values()];
	return [
		`<svg xmlns="http://www.w3.org/2000/svg" width="${Math.ceil(width)}" height="${height}" viewBox="0 0 ${Math.ceil(width)} ${height}" role="img" aria-label="${escaped(title)}">`,
		`<style>${style}</style>`,
		`<rect class="back" width="100%" height="100%"/>`,
		`<text class="label title" x="${MARGIN}" y="22">${escaped(title)}</text>`,
		key.svg,
		...nodes.map((node) => drawing.line(node)),
		...nodes.map((node) => drawing.box(node)),
		'</svg>\n',
	].join('\n');
}
