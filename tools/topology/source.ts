// SPDX-License-Identifier: GPL-2.0-only
/**
 * A machine from whatever a person has of it: files of any known kind, a folder, or the machine at hand.
 *
 * Guarantee: what comes back builds; what does not is one TopologyError. What the source does not tell is
 * said in `notes`, and marked `unknown` in the description.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { type CpuModel, hex, type MachineDescription } from '../../arch/sim/description.ts';
import { type AssembleOptions, assemble } from './assemble.ts';
import { TopologyError } from './error.ts';
import type { FoundFunction } from './functions.ts';
import { readHwloc } from './hwloc.ts';
import { parseJsonTopology } from './json.ts';
import { type NamedText, readLspci } from './lspci-text.ts';
import { readNccl } from './nccl.ts';
import { readRdmaTopo } from './rdma-topo.ts';
import { readTextFile, STDIN } from './read-text.ts';
import { OWN_FUNCTIONS, readSysfs } from './sysfs.ts';
import { readXml } from './xml.ts';

/** A machine, and what is to be said of it. */
export interface SourceMachine {
	readonly description: MachineDescription;
	/** What it was read from, in a few words. */
	readonly kind: string;
	/** The source tells the CPU; else it is guessed. */
	readonly cpuTold: boolean;
	/** What was left out or assumed, a sentence each. */
	readonly notes: readonly string[];
}

/** What a person adds. */
export interface SourceOptions {
	readonly cpu?: CpuModel | undefined;
}

const MAX_NOTES = 8;

/** What a reader found. */
export interface Found {
	functions: FoundFunction[];
	kind: string;
	cpu: CpuModel | null;
	/** Functions are missing that the machine has. */
	partial?: boolean;
	notes?: string[];
}

function nameOf(path: string): string {
	return (
		basename(path)
			.replace(/\.gz$/, '')
			.replace(/\.(txt|lspci|log|json|xml|tar|tgz|tar\.\w+)$/, '') || path
	);
}

/**
 * Buses to which no bridge leads although a bridge is on them, or nobody whose virtual functions they could
 * have: what is on them is taken as right below the bridge above.
 */
function missingBridges({ devices }: MachineDescription): string[] {
	const byBdf = new Map(devices.map((device) => [device.bdf, device]));
	const buses = new Set(devices.map(({ bdf }) => bdf.slice(0, -5)));
	const notes = new Map<string, string>();
	for (const { bdf, parent, header, physfn } of devices) {
		const above = parent === null ? undefined : byBdf.get(parent);
		if (above?.secondary === undefined || physfn !== undefined) continue;
		const bus = bdf.slice(0, -5);
		const first = `${bus.slice(0, -2)}${hex(above.secondary, 2)}`;
		if (bus === first || (header === 0 && buses.has(first))) continue;
		notes.set(
			bus,
			`No bridge leads to bus ${bus}: ${bdf} is taken as right below ${above.bdf}.`,
		);
	}
	return [...notes.values()];
}

/** Build from what a reader found. */
export function fromFound(found: Found, file: string, options: SourceOptions): SourceMachine {
	const notes = [...(found.notes ?? [])];
	const dropped: string[] = [];
	const cpu = options.cpu ?? found.cpu;
	const assembleOptions: AssembleOptions = {
		name: nameOf(file),
		partial: found.partial === true,
		dropped: (why) => dropped.push(why),
		...(cpu === null ? {} : { cpu }),
	};
	const description = assemble(found.functions, file, assembleOptions);
	notes.push(...missingBridges(description).slice(0, MAX_NOTES));
	notes.push(...dropped.slice(0, MAX_NOTES));
	if (dropped.length > MAX_NOTES)
		notes.push(`and ${dropped.length - MAX_NOTES} more BARs are left out`);
	return { description, kind: found.kind, cpuTold: cpu !== null, notes };
}

function readText(path: string): NamedText {
	return { text: readTextFile(path), file: path === STDIN ? 'stdin' : path };
}

function lspciKind(inputs: readonly NamedText[]): string {
	const text = inputs.some((input) => /^[\s>]*Control:/m.test(input.text));
	const bytes = inputs.some((input) => /^[\s>]*00: [0-9a-f]{2} /im.test(input.text));
	if (text && bytes) return 'lspci -vvv text and -xxxx bytes';
	return bytes ? 'lspci -xxxx bytes' : 'lspci -vvv text';
}

/** By what a format other than lspci's is known; empty: it is lspci's. A prompt may begin with a `[`. */
function beginOf(text: string): string {
	const [, mark = ''] = /^\s*(\{|<|\[(?![\w.-]+@))/.exec(text) ?? [];
	return mark;
}

/**
 * Read a machine from text.
 *
 * @param inputs - one text of any kind, or several of lspci about one machine
 * @param options - what the person adds
 * @throws TopologyError naming line and expectation
 */
export function parseSource(
	inputs: readonly NamedText[],
	options: SourceOptions = {},
): SourceMachine {
	const [first] = inputs as readonly [NamedText, ...NamedText[]];
	for (const input of inputs) {
		if (inputs.length > 1 && beginOf(input.text) !== '') {
			throw new TopologyError(
				input.file,
				1,
				'lspci output: only text and bytes of lspci can be taken together',
			);
		}
	}
	const begin = beginOf(first.text);
	if (begin === '{') {
		const description = parseJsonTopology(first.text, first.file);
		const { cpu } = options;
		return {
			description: cpu === undefined ? description : { ...description, cpu },
			kind: 'topology JSON',
			cpuTold: true,
			notes: description.notes ?? [],
		};
	}
	return fromFound(findFunctions(inputs, begin), first.file, options);
}

/** The reader that fits how a text begins. */
function findFunctions(inputs: readonly NamedText[], begin: string): Found {
	const [{ text, file }] = inputs as readonly [NamedText, ...NamedText[]];
	if (begin === '[') {
		return {
			functions: readRdmaTopo(text, file),
			kind: 'rdma_topo dump',
			cpu: null,
			partial: true,
			notes: ['A dump leaves host bridges out, and knows no BARs.'],
		};
	}
	if (begin === '<') return findXml(text, file);
	return { functions: readLspci(...inputs), kind: lspciKind(inputs), cpu: null };
}

function findXml(text: string, file: string): Found {
	const root = readXml(text, file);
	if (root.name === 'topology') {
		const { functions, cpu, notes } = readHwloc(root, file);
		notes.unshift(
			'lstopo knows no ACS, no PCIe types and no BARs, and leaves functions out.',
		);
		return { functions, cpu, notes, kind: 'lstopo XML (hwloc)', partial: true };
	}
	if (root.name === 'system') {
		return {
			...readNccl(root, file),
			kind: 'NCCL topology XML',
			partial: true,
			notes: [
				'NCCL knows no ACS, no host bridges and no ports: one host bridge is taken for each CPU, and',
				'ports and bus numbers are made up, so distances are too. Its own addresses stand behind the names.',
			],
		};
	}
	throw new TopologyError(
		file,
		root.line,
		`an element "topology" (lstopo) or "system" (NCCL), not "${root.name}"`,
	);
}

function isFolder(path: string): boolean {
	try {
		return statSync(path).isDirectory();
	} catch {
		return false;
	}
}

/** What is in an archive of a copy, unpacked for as long as it is read. */
function inArchive<T>(path: string, read: (folder: string) => T): T {
	const folder = mkdtempSync(join(tmpdir(), 'kproto-topo-'));
	try {
		// A name with a colon and no slash before it is another machine's for GNU tar.
		const { status, error } = spawnSync('tar', ['-xf', resolve(path), '-C', folder], {
			stdio: 'ignore',
		});
		if (error !== undefined) {
			const { code } = error as { code?: string };
			throw new TopologyError(
				path,
				1,
				`the program tar here to unpack it (${code ?? 'error'}), or the folder that it was made of`,
			);
		}
		if (status !== 0)
			throw new TopologyError(path, 1, 'an archive that tar can unpack');
		return read(folder);
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
}

/** The machine at hand. */
function readOwn(options: SourceOptions): SourceMachine {
	try {
		return fromFound({ ...readSysfs(OWN_FUNCTIONS), kind: 'sysfs' }, 'here', options);
	} catch (error) {
		if (!(error instanceof TopologyError) || error.file !== OWN_FUNCTIONS) throw error;
		throw new TopologyError(
			OWN_FUNCTIONS,
			1,
			'the PCI functions of this machine; it has none, or /sys is not there: name a SOURCE',
		);
	}
}

/**
 * Read a machine.
 *
 * @param paths - files, `-` for standard input, a folder or an archive of one; none: the machine at
 *   hand
 * @param options - what the person adds
 * @throws TopologyError naming file, line and expectation
 */
export function readSource(paths: readonly string[], options: SourceOptions = {}): SourceMachine {
	const [path] = paths;
	if (path === undefined) return readOwn(options);
	if (paths.length > 1) return parseSource(paths.map(readText), options);
	if (isFolder(path)) return fromFound({ ...readSysfs(path), kind: 'sysfs' }, path, options);
	if (!/\.(?:tar|tgz|tar\.\w+)$/.test(path)) return parseSource([readText(path)], options);
	readText(path);
	const found = inArchive(path, (folder) => readSysfs(folder));
	return fromFound({ ...found, kind: 'sysfs' }, path, options);
}
