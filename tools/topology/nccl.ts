// SPDX-License-Identifier: GPL-2.0-only
/**
 * The functions of an NCCL topology file (NCCL_TOPO_FILE, NCCL_TOPO_DUMP_FILE).
 *
 *     <cpu numaid="0" vendor="GenuineIntel" familyid="6">
 *       <pci busid="ffff:ff:01.0" class="0x060400">          a switch: one element, an address made up
 *         <pci busid="0001:00:00.0" class="0x030200"/>
 *
 * The file knows no host bridges, no ports and, in a guest, no real bus numbers; a switch and what is on it
 * may even have different domains. So a tree is made that has its shape: a domain for each CPU, a root port
 * for each of its elements, an upstream port and a downstream port for each element on a switch.
 *
 *     cpu 0 = 0000:00 ── root port 00:01.0 ── upstream 01:00.0 ── downstream 02:00.0 ── 03:00.0
 */
import { type CpuModel, formatBdf, parseBdf } from '../../arch/sim/description.ts';
import {
	PCI_EXP_TYPE_DOWNSTREAM,
	PCI_EXP_TYPE_ROOT_PORT,
	PCI_EXP_TYPE_UPSTREAM,
} from '../../include/uapi/linux/pci_regs.ts';
import { TopologyError } from './error.ts';
import { emptyFunction, type FoundFunction, type PcieTypeNumber } from './functions.ts';
import type { XmlElement } from './xml.ts';

const CLASS_BRIDGE = 0x0604;
const MAX_BUS = 255;
/** Device 0 of a root bus is left free: there a host bridge would speak. */
const MAX_CHILDREN = 31;

function isPci({ name }: XmlElement): boolean {
	return name === 'pci';
}

/** Lays out one CPU's tree. */
class NcclTree {
	readonly functions: FoundFunction[] = [];
	private readonly file: string;
	private readonly domain: number;
	private readonly numaNode: number | null;
	private lastBus = 0;

	constructor(file: string, domain: number, numaNode: number | null) {
		this.file = file;
		this.domain = domain;
		this.numaNode = numaNode;
	}

	/** A root port for each element of a CPU. */
	cpu(element: XmlElement): void {
		this.ports(element, null, 0, PCI_EXP_TYPE_ROOT_PORT);
	}

	private newBus(line: number): number {
		if (this.lastBus === MAX_BUS)
			throw new TopologyError(this.file, line, 'at most 255 buses below one CPU');
		return ++this.lastBus;
	}

	private add(
		element: XmlElement,
		bus: number,
		devfn: number,
		parent: string | null,
		type: PcieTypeNumber,
	): FoundFunction {
		const fn = emptyFunction(
			formatBdf({ domain: this.domain, bus, devfn }),
			element.line,
		);
		fn.pcieType = type;
		fn.unknown = true;
		fn.parent = parent;
		fn.numaNode = this.numaNode;
		fn.class = CLASS_BRIDGE << 8;
		this.functions.push(fn);
		return fn;
	}

	/** A port of a kind for each element within another. */
	private ports(
		element: XmlElement,
		parent: string | null,
		bus: number,
		type: PcieTypeNumber,
	): void {
		const inner = element.children.filter(isPci);
		if (inner.length > MAX_CHILDREN) {
			throw new TopologyError(
				this.file,
				element.line,
				`at most ${MAX_CHILDREN} elements pci within another`,
			);
		}
		for (const [i, child] of inner.entries()) {
			const devfn = (type === PCI_EXP_TYPE_ROOT_PORT ? i + 1 : i) << 3;
			const port = this.add(child, bus, devfn, parent, type);
			const secondary = this.newBus(child.line);
			this.element(child, port.bdf, secondary);
			port.buses = { secondary, subordinate: this.lastBus, line: child.line };
		}
	}

	private element(element: XmlElement, parent: string, bus: number): void {
		const { attributes, line } = element;
		const number = (name: string) => {
			const value = Number(attributes.get(name) ?? 0);
			return Number.isInteger(value) && value >= 0 ? value : 0;
		};
		const busid = attributes.get('busid') ?? '';
		if (parseBdf(busid.toLowerCase()) === null)
			throw new TopologyError(
				this.file,
				line,
				'an address such as busid="0001:00:00.0"',
			);
		const code = number('class');
		if (code === 0)
			throw new TopologyError(
				this.file,
				line,
				'a class such as class="0x030200"',
			);
		const bridge = code >> 8 === CLASS_BRIDGE;
		const fn = this.add(element, bus, 0, parent, bridge ? PCI_EXP_TYPE_UPSTREAM : 0);
		fn.class = code & 0xff_ffff;
		fn.vendor = number('vendor') & 0xffff;
		fn.device = number('device') & 0xffff;
		fn.label = busid.toLowerCase();
		if (!bridge) return;
		if (element.children.some(isPci)) {
			const secondary = this.newBus(line);
			this.ports(element, fn.bdf, secondary, PCI_EXP_TYPE_DOWNSTREAM);
			fn.buses = { secondary, subordinate: this.lastBus, line };
		} else fn.buses = { secondary: 0, subordinate: 0, line };
	}
}

function cpuModel({ attributes }: XmlElement): CpuModel | null {
	const vendors: Readonly<Record<string, CpuModel['vendor']>> = {
		GenuineIntel: 'intel',
		AuthenticAMD: 'amd',
		HygonGenuine: 'hygon',
		CentaurHauls: 'centaur',
	};
	const number = (name: string) => {
		const value = Number(attributes.get(name) ?? -1);
		return Number.isInteger(value) && value >= 0 ? value : 0;
	};
	const arch = attributes.get('arch');
	if (arch !== undefined && arch !== 'x86_64')
		return { vendor: 'other', family: 0, model: 0 };
	const vendor = vendors[attributes.get('vendor') ?? ''];
	if (vendor === undefined) return null;
	// NCCL writes base and extended family side by side: 0xaf is family 0x19.
	const raw = number('familyid');
	const family = raw > 0x0f && (raw & 0x0f) === 0x0f ? 0x0f + (raw >> 4) : raw;
	return { vendor, family, model: number('modelid') };
}

/**
 * Read the functions of an NCCL topology file.
 *
 * @param root - its element `system`
 * @param file - its name, for messages
 * @throws TopologyError where an element lacks address or class, or there is none
 */
export function readNccl(
	root: XmlElement,
	file: string,
): { functions: FoundFunction[]; cpu: CpuModel | null } {
	const functions: FoundFunction[] = [];
	let cpu: CpuModel | null = null;
	for (const [domain, element] of root.children
		.filter(({ name }) => name === 'cpu')
		.entries()) {
		cpu ??= cpuModel(element);
		const node = Number(element.attributes.get('numaid') ?? -1);
		const tree = new NcclTree(
			file,
			domain,
			Number.isInteger(node) && node >= 0 ? node : null,
		);
		tree.cpu(element);
		functions.push(...tree.functions);
	}
	if (functions.length === 0)
		throw new TopologyError(file, root.line, 'elements pci within elements cpu');
	return { functions, cpu };
}
