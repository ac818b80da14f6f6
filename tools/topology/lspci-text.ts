// SPDX-License-Identifier: GPL-2.0-only
/**
 * What `lspci -vvv` text says about each function, line by line.
 *
 * Guarantee: nothing is guessed here. A line that is understood only in part, or a file that ends in the
 * middle, is a TopologyError at that line. A file that was cut between two functions reads as a smaller
 * machine, unless a port says that somebody is behind it.
 *
 * Mechanism: lines that a mail program wrapped are joined first: lspci indents everything but the line that
 * begins a function, so an unindented line that begins none belongs to the one before.
 */
import { formatBdf, hex, parseBdf } from '../../arch/sim/description.ts';
import { PCI_EXP_TYPE_UPSTREAM } from '../../include/uapi/linux/pci_regs.ts';
import { applyConfig } from './config-space.ts';
import { TopologyError } from './error.ts';
import { emptyFunction, type FoundFunction, type PcieTypeNumber } from './functions.ts';

/** A line with its wrapped parts joined. */
interface LogicalLine {
	text: string;
	/** Of its first part, counted from 1. */
	line: number;
}

const pcieTypes: readonly (readonly [string, PcieTypeNumber])[] = [
	['Legacy Endpoint', 1],
	['Endpoint', 0],
	['Root Port', 4],
	['Upstream Port', 5],
	['Downstream Port', 6],
	['PCI-Express to PCI/PCI-X Bridge', 7],
	['PCI/PCI-X to PCI-Express Bridge', 8],
	['Root Complex Integrated Endpoint', 9],
	['Root Complex Event Collector', 10],
];

const acsBits: readonly (readonly [string, number])[] = [
	['SrcValid', 0x01],
	['TransBlk', 0x02],
	['ReqRedir', 0x04],
	['CmpltRedir', 0x08],
	['UpstreamFwd', 0x10],
	['EgressCtrl', 0x20],
	['DirectTrans', 0x40],
];

// Names that lspci prints where it was not asked for numbers (-nn).
const classNames: Readonly<Record<string, number>> = {
	'Host bridge': 0x0600,
	'ISA bridge': 0x0601,
	'PCI bridge': 0x0604,
	'VGA compatible controller': 0x0300,
	'3D controller': 0x0302,
	'Display controller': 0x0380,
	'Processing accelerators': 0x1200,
	'Ethernet controller': 0x0200,
	'Infiniband controller': 0x0207,
	'Network controller': 0x0280,
	'Non-Volatile memory controller': 0x0108,
	'SATA controller': 0x0106,
	'System peripheral': 0x0880,
	'SCSI storage controller': 0x0100,
	'IDE interface': 0x0101,
	'RAID bus controller': 0x0104,
	'Serial Attached SCSI controller': 0x0107,
	'Mass storage controller': 0x0180,
	'Audio device': 0x0403,
	'Serial controller': 0x0700,
	'Communication controller': 0x0780,
	PIC: 0x0800,
	IOMMU: 0x0806,
	'Co-processor': 0x0b40,
	'USB controller': 0x0c03,
	'Fibre Channel': 0x0c04,
	SMBus: 0x0c05,
	'Encryption controller': 0x1080,
	'Performance counters': 0x1101,
	'Signal processing controller': 0x1180,
};
const vendorNames: readonly (readonly [string, number])[] = [
	['Intel Corporation', 0x8086],
	['Advanced Micro Devices', 0x1022],
	['NVIDIA Corporation', 0x10de],
	['Mellanox Technologies', 0x15b3],
];

const headerPattern = /^((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7])\s+(\S.*)$/i;
/** A row of `lspci -x`. */
const rowPattern = /^([0-9a-f]{2,3}): ((?:[0-9a-f]{2} ){0,15}[0-9a-f]{2})$/i;
/** Prompts, fences of what was pasted, and what lspci complains about. */
const noise = /^(?:[$#]|```|pcilib:|lspci:|\[sudo\]|\[?[\w.-]+@[\w.-]+[ :][^$#]*[$#])/;
const CONFIG_BYTES = 4096;
const headerExample = '`00:00.0 Host bridge [0600]: … [8086:29c0]`';
const attributePattern =
	/^(Subsystem|Control|Status|Latency|Interrupt|NUMA node|IOMMU group|Region \d|Bus|I\/O behind|Memory behind|Prefetchable memory|Secondary status|BridgeCtl|Capabilities|Kernel|Expansion ROM|DeviceName|Physical Slot|Flags|BIST|ACSCap|ACSCtl)\b/;

/** A line without what mail and other systems put around it; flowed mail leaves a blank where it wraps. */
function unquoted(line: string): string {
	return line.trimEnd().replace(/^(?:> ?)+/, '');
}

/** Join wrapped lines, drop mail quoting. */
function logicalLines(text: string): LogicalLine[] {
	const lines: LogicalLine[] = [];
	const raw = text.split('\n');
	for (const [i, original] of raw.entries()) {
		const stripped = unquoted(original);
		const last = lines[lines.length - 1];
		const begins =
			stripped.trim() === '' ||
			/^\s/.test(stripped) ||
			headerPattern.test(stripped) ||
			attributePattern.test(stripped) ||
			/^[0-9a-f]{2,3}: [0-9a-f]{2}\b/i.test(stripped) ||
			last === undefined ||
			last.text.trim() === '' ||
			noise.test(last.text);
		if (begins) lines.push({ text: stripped, line: i + 1 });
		else if (last !== undefined) last.text += ` ${stripped.trim()}`;
	}
	return lines;
}

/** What one paragraph of lspci's output says. */
interface Block {
	fn: FoundFunction;
	/** It has what -vvv prints. */
	detailed: boolean;
	/** What -xxxx prints; empty without it. */
	bytes: number[];
	file: string;
	/** Its last line, counted from 1. */
	end: number;
}

/** A file's text and its name, for messages. */
export interface NamedText {
	readonly text: string;
	readonly file: string;
}

/**
 * Read the functions of `lspci -vvv` output, of `lspci -xxxx` output, or of both, in one file or several.
 *
 * @param inputs - the output
 * @throws TopologyError where it is not such output, or is cut off
 */
export function readLspci(...inputs: readonly NamedText[]): FoundFunction[] {
	const blocks = new Map<string, Block>();
	for (const input of inputs) {
		for (const block of readBlocks(input)) {
			const before = blocks.get(block.fn.bdf);
			blocks.set(
				block.fn.bdf,
				before === undefined ? block : join(before, block),
			);
		}
	}
	const functions = [...blocks.values()].map(complete);
	for (const { text, file } of inputs) checkEnd(functions, text, file);
	return functions;
}

/** The paragraphs of a file. */
function readBlocks({ text, file }: NamedText): Block[] {
	const blocks: Block[] = [];
	let reader: FunctionReader | null = null;
	for (const { text: content, line } of logicalLines(text)) {
		const trimmed = content.trim();
		if (trimmed === '' || noise.test(content)) continue;
		const header = headerPattern.exec(content);
		if (header !== null) {
			if (reader !== null) blocks.push(reader.finish());
			reader = new FunctionReader(file, line, header[1] ?? '', header[2] ?? '');
		} else if (reader === null) {
			throw new TopologyError(
				file,
				line,
				`lspci -vvv output, a line such as ${headerExample}`,
			);
		} else reader.attribute(trimmed, line);
	}
	if (reader === null) {
		throw new TopologyError(
			file,
			1,
			`lspci -vvv output, a line such as ${headerExample}`,
		);
	}
	blocks.push(reader.finish());
	return blocks;
}

/** Two paragraphs about one function: the text of the one, the bytes of the other. */
function join(first: Block, second: Block): Block {
	const twice =
		(first.detailed && second.detailed) ||
		(first.bytes.length > 0 && second.bytes.length > 0) ||
		(!second.detailed && second.bytes.length === 0);
	if (twice) {
		throw new TopologyError(
			second.file,
			second.fn.line,
			`${second.fn.bdf} only once, not the output of a second host: each needs a file of its own`,
		);
	}
	const { fn } = first.detailed ? first : second;
	const bytes = first.bytes.length > 0 ? first.bytes : second.bytes;
	const { file, end } = second;
	return { fn, detailed: first.detailed || second.detailed, bytes, file, end };
}

/** Take in the bytes, see that nothing is missing. */
function complete({ fn, detailed, bytes, file, end }: Block): FoundFunction {
	if (!detailed) {
		fn.unknown = true;
		if (!applyConfig(fn, Uint8Array.from(bytes))) {
			throw new TopologyError(
				file,
				end,
				bytes.length === 0
					? `the details that lspci -vvv prints for ${fn.bdf}, beginning with a "Control:" line`
					: `at least 64 bytes of ${fn.bdf}, in rows such as \`00: 86 80 …\``,
			);
		}
		return fn;
	}
	if (bytes.length > 0) applyConfig(fn, Uint8Array.from(bytes));
	if (fn.class >> 8 === 0x0604 && fn.buses === null && !fn.unknown) {
		throw new TopologyError(
			file,
			end,
			`bus numbers of the bridge ${fn.bdf}, such as \`Bus: primary=00, secondary=01, …\``,
		);
	}
	return fn;
}

/**
 * Nothing is missing at the end. lspci -v ends each function, the last one too, with an empty line; and it
 * goes up through the buses, so what is behind a port must have come, if anything is.
 */
function checkEnd(functions: readonly FoundFunction[], text: string, file: string): void {
	const output = withoutEnd(text);
	const line = output.trimEnd().split('\n').length;
	if (!/\n[ \t>]*\r?\n[\s>]*$/.test(output))
		throw new TopologyError(
			file,
			line,
			'an empty line after the last function, as lspci -vvv ends its output: the file is cut off',
		);
	const last = busKey(functions.at(-1) as FoundFunction);
	const port = functions.find(
		(fn) =>
			fn.buses !== null &&
			(fn.linkUp || fn.pcieType === PCI_EXP_TYPE_UPSTREAM) &&
			busKey(fn, fn.buses.secondary) > last,
	);
	if (port !== undefined)
		throw new TopologyError(
			file,
			line,
			`what is behind ${port.bdf}, whose link is up: the file is cut off`,
		);
}

/** A text without a shell's prompt, or a fence, that was copied with its end. */
function withoutEnd(text: string): string {
	const lines = text.split('\n');
	let end = lines.length;
	for (let at = end - 1; at > 0; at--) {
		const line = unquoted(lines[at] as string);
		if (noise.test(line)) end = at;
		else if (line.trim() !== '') break;
	}
	return end === lines.length ? text : `${lines.slice(0, end).join('\n')}\n`;
}

/** Order in which lspci comes to a bus: that of a function, or the one behind it. */
function busKey(fn: FoundFunction, secondary?: number): number {
	const { domain, bus } = parseBdf(fn.bdf) ?? { domain: 0, bus: 0 };
	return domain * 256 + (secondary ?? bus);
}

/** Collects the lines of one function. */
class FunctionReader {
	private readonly file: string;
	private readonly fn: FoundFunction;
	private lastLine: number;
	private sawControl = false;
	private linkDown = false;
	private readonly bytes: number[] = [];
	private inCapabilities = false;
	private acsCap: number | null = null;
	private acsControl: number | null = null;

	constructor(file: string, line: number, address: string, title: string) {
		this.file = file;
		this.lastLine = line;
		const bdf = address.toLowerCase();
		this.fn = emptyFunction(bdf.length === 7 ? `0000:${bdf}` : bdf, line);
		const parsed = parseBdf(this.fn.bdf);
		if (parsed === null)
			throw new TopologyError(file, line, 'an address such as 0000:3b:00.0');
		this.fn.bdf = formatBdf(parsed);
		this.title(title, line);
	}

	/** Class, ids, revision, programming interface. */
	private title(title: string, line: number): void {
		const { fn } = this;
		const named = /^(.*?) \[([0-9a-f]{4})\]: .*\[([0-9a-f]{4}):([0-9a-f]{4})\]/i.exec(
			title,
		);
		const numeric = /^(?:Class )?([0-9a-f]{4}): ([0-9a-f]{4}):([0-9a-f]{4})/i.exec(
			title,
		);
		const parsed = (digits: string | undefined) => Number.parseInt(digits ?? '0', 16);
		if (named !== null) {
			fn.class = parsed(named[2]) << 8;
			fn.vendor = parsed(named[3]);
			fn.device = parsed(named[4]);
		} else if (numeric !== null) {
			fn.class = parsed(numeric[1]) << 8;
			fn.vendor = parsed(numeric[2]);
			fn.device = parsed(numeric[3]);
		} else {
			const words = /^([^:]+): (.+)$/.exec(title);
			if (words === null) {
				throw new TopologyError(
					this.file,
					line,
					`class, colon and name, as in ${headerExample}`,
				);
			}
			const [, className = '', name = ''] = words;
			fn.class = (classNames[className] ?? 0) << 8;
			fn.vendor =
				vendorNames.find(([prefix]) => name.startsWith(prefix))?.[1] ?? 0;
			fn.unknownIds = true;
		}
		fn.class |= parsed(/\(prog-if ([0-9a-f]{2})\b/i.exec(title)?.[1]);
		fn.revision = parsed(/\(rev ([0-9a-f]{2})\)/i.exec(title)?.[1]);
	}

	/** One attribute line, without its indentation. */
	attribute(text: string, line: number): void {
		const { fn } = this;
		this.lastLine = line;
		const row = rowPattern.exec(text);
		if (row !== null) this.row(row[1] as string, row[2] as string, line);
		else if (text.startsWith('Control:')) this.sawControl = true;
		else if (text.startsWith('Region ')) this.region(text, line);
		else if (text.startsWith('Bus:')) this.buses(text, line);
		else if (text.startsWith('Capabilities:')) this.capability(text);
		else if (text.startsWith('ACSCap:')) this.acsCap = this.acsWord(text, line);
		else if (text.startsWith('ACSCtl:')) this.acsControl = this.acsWord(text, line);
		else if (text.startsWith('NUMA node:'))
			fn.numaNode = Number.parseInt(text.slice(10), 10);
		else if (text.startsWith('IOMMU group:'))
			fn.iommuGroup = Number.parseInt(text.slice(12), 10);
		else if (text.startsWith('!!!')) fn.unknown = true;
		// A card in the slot of a link that is down was not enumerated.
		const link = /\bDLActive([+-])/.exec(text);
		if (link !== null) this.linkDown = link[1] === '-';
		if (link?.[1] === '+') fn.linkUp = true;
		if (/^SltSta:.*\bPresDet\+/.test(text) && !this.linkDown) fn.linkUp = true;
	}

	private region(text: string, line: number): void {
		// Regions inside a capability are those of virtual functions.
		if (this.inCapabilities) return;
		const memory =
			/^Region ([0-5]): (?:\[virtual\] )?Memory at ([0-9a-f]+) \(([^)]*)\)((?: \[[^\]]*\])*)$/i.exec(
				text,
			);
		const ports =
			/^Region ([0-5]): (?:\[virtual\] )?I\/O ports at ([0-9a-f]+)((?: \[[^\]]*\])*)$/i.exec(
				text,
			);
		if (memory === null && ports === null) {
			if (/ at <(unassigned|ignored|broken[^>]*|invalid[^>]*)>/.test(text))
				return;
			if (/ at [0-9a-f]+ .*\[ignored\]/.test(text)) return;
			throw new TopologyError(
				this.file,
				line,
				'a region such as `Region 0: Memory at 6000000000 (64-bit, prefetchable) [size=2M]`',
			);
		}
		const kind = memory?.[3] ?? '';
		const size = parseSize((memory?.[4] ?? ports?.[3]) || '');
		// Without a size lspci did not see the kernel's resources: nobody assigned this BAR.
		if (size === null) return;
		this.fn.regions.push({
			bar: Number((memory ?? ports)?.[1]),
			address: BigInt(`0x${(memory ?? ports)?.[2]}`),
			size,
			prefetchable: memory !== null && !kind.includes('non-prefetchable'),
			is64: kind.includes('64-bit'),
			io: memory === null,
		});
	}

	private buses(text: string, line: number): void {
		const match =
			/^Bus: primary=([0-9a-f]{2}), secondary=([0-9a-f]{2}), subordinate=([0-9a-f]{2})\b/i.exec(
				text,
			);
		if (match === null) {
			throw new TopologyError(
				this.file,
				line,
				'bus numbers such as `Bus: primary=00, secondary=01, subordinate=04`',
			);
		}
		this.fn.buses = {
			secondary: Number.parseInt(match[2] as string, 16),
			subordinate: Number.parseInt(match[3] as string, 16),
			line,
		};
	}

	private capability(text: string): void {
		const { fn } = this;
		this.inCapabilities = true;
		if (text.includes('<access denied>')) fn.unknown = true;
		const express = /\] Express (?:\(v\d+\) )?(.*)$/.exec(text);
		if (express !== null) {
			const type = pcieTypes.find(([name]) => express[1]?.startsWith(name));
			if (type === undefined) fn.unknown = true;
			else fn.pcieType = type[1];
		}
		if (text.includes('Address Translation Service (ATS)')) fn.ats = true;
	}

	private acsWord(text: string, line: number): number {
		let word = 0;
		for (const [name, bit] of acsBits) {
			const match = new RegExp(`\\b${name}([+-])`).exec(text);
			if (match === null) {
				throw new TopologyError(
					this.file,
					line,
					`${name}+ or ${name}- among the ACS bits`,
				);
			}
			if (match[1] === '+') word |= bit;
		}
		return word;
	}

	/** A row of hexadecimal digits: they follow each other. */
	private row(offset: string, digits: string, line: number): void {
		const bytes = digits.split(' ').map((byte) => Number.parseInt(byte, 16));
		const at = Number.parseInt(offset, 16);
		if (at !== this.bytes.length || at + bytes.length > CONFIG_BYTES) {
			throw new TopologyError(
				this.file,
				line,
				`the row of bytes at offset ${hexOffset(this.bytes.length)}`,
			);
		}
		this.bytes.push(...bytes);
	}

	/** The function, once all its lines have been seen. */
	finish(): Block {
		const { fn, file, lastLine } = this;
		if ((this.acsCap === null) !== (this.acsControl === null)) {
			throw new TopologyError(
				file,
				lastLine,
				`both ACSCap: and ACSCtl: of ${fn.bdf}`,
			);
		}
		if (this.acsCap !== null && this.acsControl !== null) {
			fn.acs = { cap: this.acsCap, control: this.acsControl };
		}
		return { fn, detailed: this.sawControl, bytes: this.bytes, file, end: lastLine };
	}
}

function hexOffset(offset: number): string {
	return `${hex(offset, 2)}:`;
}

/** `[size=32M]` */
function parseSize(attributes: string): bigint | null {
	const match = /\[size=([0-9]+)([KMGT]?)\]/.exec(attributes);
	if (match === null) return null;
	return BigInt(match[1] as string) << BigInt(10 * ' KMGT'.indexOf(match[2] || ' '));
}
