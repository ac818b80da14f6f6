// SPDX-License-Identifier: GPL-2.0-only
/**
 * The functions of an lstopo XML file (hwloc 1.x to 3.x).
 *
 *     object Package, Group, Machine    nodeset: the NUMA node, where it is one
 *       Bridge 0-1  bridge_pci="0000:[00-05]"                             a root bus
 *         Bridge 1-1  bridge_pci="0000:[03-03]" pci_busid="0000:00:03.0"  a bridge
 *           PCIDev  pci_busid pci_type="0302 [10de:1094] [00de:0088] a1 00"
 *             OSDev  name
 *
 * hwloc keeps what is worth drawing: functions are missing, capabilities and BARs are not told.
 */
import { type CpuModel, formatBdf, parseBdf } from '../../arch/sim/description.ts';
import { TopologyError } from './error.ts';
import { emptyFunction, type FoundFunction } from './functions.ts';
import type { XmlElement } from './xml.ts';

/** What is above an object. */
interface Place {
	readonly parent: string | null;
	readonly numaNode: number | null;
}

/** The one node of a nodeset such as `0x00000002`; null: none, or several. */
function nodeOf(nodeset: string | undefined): number | null {
	if (nodeset === undefined || !/^(?:0x[0-9a-f]+,?)+$/i.test(nodeset)) return null;
	const bits = BigInt(`0x${nodeset.replace(/0x|,/g, '')}`);
	if (bits === 0n || (bits & (bits - 1n)) !== 0n) return null;
	return bits.toString(2).length - 1;
}

/** Reads objects from the outside in. */
class HwlocReader {
	readonly functions: FoundFunction[] = [];
	/** What is odd about the file, a sentence each. */
	readonly notes: string[] = [];
	private readonly byBdf = new Map<string, FoundFunction>();
	private readonly file: string;
	private readonly facts = new Map<string, string>();

	constructor(file: string) {
		this.file = file;
	}

	/** An object and what is in it. */
	object(element: XmlElement, place: Place): void {
		const type = element.attributes.get('type') ?? '';
		let below: Place = place;
		let fn: FoundFunction | null = null;
		if (type === 'Bridge' || type === 'PCIDev') fn = this.pci(element, type, place);
		if (type === 'Bridge' && fn !== null) below = { ...place, parent: fn.bdf };
		else if (type !== 'Bridge' && type !== 'PCIDev' && type !== 'OSDev') {
			const node = nodeOf(element.attributes.get('nodeset'));
			if (node !== null) below = { ...place, numaNode: node };
		}
		for (const child of element.children) {
			if (child.name === 'info') this.info(child);
			if (child.name !== 'object') continue;
			if (child.attributes.get('type') === 'OSDev' && fn !== null)
				nameAfter(fn, child.attributes.get('name'));
			else this.object(child, below);
		}
	}

	/** What hwloc notes beside the objects. */
	info(element: XmlElement): void {
		const { attributes } = element;
		const name = attributes.get('name');
		const value = attributes.get('value');
		if (name !== undefined && value !== undefined && !this.facts.has(name))
			this.facts.set(name, value);
	}

	private pci(element: XmlElement, type: string, place: Place): FoundFunction | null {
		const { attributes, line } = element;
		const busid = attributes.get('pci_busid');
		if (busid === undefined) {
			// A host bridge has no address of its own.
			if (type === 'Bridge') return null;
			throw new TopologyError(
				this.file,
				line,
				'pci_busid="0000:3b:00.0" of a PCIDev',
			);
		}
		const at = parseBdf(busid.toLowerCase());
		if (at === null)
			throw new TopologyError(
				this.file,
				line,
				'an address such as pci_busid="0000:3b:00.0"',
			);
		const fn = emptyFunction(this.place(formatBdf(at), place.parent, line), line);
		fn.unknown = true;
		fn.parent = place.parent;
		if (fn.bdf !== formatBdf(at)) fn.label = formatBdf(at);
		fn.numaNode = place.numaNode;
		const ids =
			/^([0-9a-f]{4}) \[([0-9a-f]{4}):([0-9a-f]{4})\] \[[0-9a-f]{4}:[0-9a-f]{4}\] ([0-9a-f]{2})/i.exec(
				attributes.get('pci_type') ?? '',
			);
		if (ids === null) {
			throw new TopologyError(
				this.file,
				line,
				'class and ids such as pci_type="0302 [10de:1094] [00de:0088] a1 00"',
			);
		}
		const [base, vendor, device, revision] = ids
			.slice(1)
			.map((digits) => Number.parseInt(digits, 16)) as [
			number,
			number,
			number,
			number,
		];
		Object.assign(fn, { class: base << 8, vendor, device, revision });
		if (type === 'Bridge') fn.buses = this.buses(element);
		this.functions.push(fn);
		this.byBdf.set(fn.bdf, fn);
		return fn;
	}

	/** The address of a function, or a free one where the file has put it twice. */
	private place(bdf: string, parent: string | null, line: number): string {
		if (!this.byBdf.has(bdf)) return bdf;
		const above = parent === null ? null : (this.byBdf.get(parent)?.buses ?? null);
		const { domain = 0, bus = 0 } =
			parseBdf(above === null ? bdf : (parent ?? bdf)) ?? {};
		for (let device = 0; device < 32; device++) {
			const free = formatBdf({
				domain,
				bus: above?.secondary ?? bus,
				devfn: device << 3,
			});
			if (this.byBdf.has(free)) continue;
			this.notes.push(
				`${bdf} stands twice in the file: the one of line ${line} is taken as ${free}.`,
			);
			return free;
		}
		throw new TopologyError(this.file, line, `${bdf} only once`);
	}

	private buses({ attributes, line }: XmlElement): FoundFunction['buses'] {
		const range = /^[0-9a-f]{4,8}:\[([0-9a-f]{2})-([0-9a-f]{2})\]$/i.exec(
			attributes.get('bridge_pci') ?? '',
		);
		if (range === null) {
			throw new TopologyError(
				this.file,
				line,
				'the buses of a bridge such as bridge_pci="0000:[03-05]"',
			);
		}
		const [secondary, subordinate] = range
			.slice(1)
			.map((digits) => Number.parseInt(digits, 16)) as [number, number];
		return { secondary, subordinate, line };
	}

	/** The CPU, as far as it is told. */
	cpu(): CpuModel | null {
		const number = (name: string) => Number(this.facts.get(name) ?? 0) || 0;
		const [family, model] = [number('CPUFamilyNumber'), number('CPUModelNumber')];
		const architecture = this.facts.get('Architecture') ?? 'x86_64';
		if (!/^(?:x86_64|i[3-6]86|amd64)$/.test(architecture))
			return { vendor: 'other', family: 0, model: 0 };
		const vendor = this.facts.get('CPUVendor') ?? this.facts.get('CPUModel') ?? '';
		if (vendor.includes('Intel'))
			return { vendor: 'intel', family: family || 6, model };
		if (family === 0) return null;
		if (vendor.includes('AMD')) return { vendor: 'amd', family, model };
		return vendor.includes('Hygon') ? { vendor: 'hygon', family, model } : null;
	}
}

function nameAfter(fn: FoundFunction, name: string | undefined): void {
	const dull = /^(?:card|render|controlD|cuda|opencl)/;
	if (name === undefined || (fn.label !== undefined && !dull.test(fn.label))) return;
	if (fn.label === undefined || !dull.test(name)) fn.label = name;
}

/**
 * Read the functions of an lstopo file.
 *
 * @param root - its element `topology`
 * @param file - its name, for messages
 * @throws TopologyError where an object of PCI lacks what is needed, or there is none
 */
export function readHwloc(
	root: XmlElement,
	file: string,
): { functions: FoundFunction[]; cpu: CpuModel | null; notes: string[] } {
	const reader = new HwlocReader(file);
	for (const child of root.children) {
		if (child.name === 'info') reader.info(child);
		if (child.name === 'object') reader.object(child, { parent: null, numaNode: null });
	}
	if (reader.functions.length === 0) {
		throw new TopologyError(
			file,
			root.line,
			'PCI objects: lstopo writes them unless it is told --no-io',
		);
	}
	return { functions: reader.functions, cpu: reader.cpu(), notes: reader.notes };
}
