// SPDX-License-Identifier: GPL-2.0-only
/**
 * A machine as plain data: what a topology file holds and makeMachine() builds from.
 *
 * Every value survives JSON. Addresses and sizes are hexadecimal strings, because JSON numbers do not
 * hold 64 bits. The tree of devices is given by `parent`; the windows of bridges and host bridges follow
 * from the BARs below them unless they are stated.
 *
 *     CPU address ── host bridge: minus busOffset ──> bus address ── bridge windows ──> BAR
 *     DMA address without IOMMU ── identity ──> CPU address (RAM, or out again through a host bridge)
 */

/** `0x…` */
export type HexString = string;

/** What the CPU is: kernel decisions depend on it. */
export interface CpuModel {
	/** `other`: what the kernel's x86 code does not know, and CPUs that are not x86. */
	vendor: 'intel' | 'amd' | 'hygon' | 'zhaoxin' | 'centaur' | 'other';
	/** Decoded family, extended family added: Zen is 0x17. */
	family: number;
	model: number;
	/** The file does not tell the CPU, and nothing in it suggests one: this one is taken. */
	unknown?: boolean;
}

/** A stretch of RAM. */
export interface RamDescription {
	start: HexString;
	size: HexString;
}

/** Whether something is possible in this hardware. */
export type Passage = 'works' | 'aborts';

/** A stretch of CPU addresses that a host bridge forwards into its hierarchy. */
export interface HostWindowDescription {
	/** First CPU physical address. */
	cpu: HexString;
	/** The bus address that it becomes. */
	bus: HexString;
	size: HexString;
}

/** A host bridge, named by the domain and number of its root bus. */
export interface HostBridgeDescription {
	domain: number;
	bus: number;
	/** CPU address minus bus address, where no window says otherwise; may be negative (`-0x…`). */
	busOffset: HexString;
	/** Absent: one around the BARs below 4 GiB (bus address), one around those above. */
	windows?: HostWindowDescription[];
	/** Whether a peer request that reaches the root complex can turn around in this host bridge. */
	peerToPeer: Passage;
	/** `aborts`: peer requests neither leave for another host bridge nor come from one. */
	crossing?: Passage;
	numaNode?: number;
	/** The file does not tell which function is the first on the root bus, or who made it. */
	unknown?: boolean;
}

/** A base address register as the firmware left it. */
export interface BarDescription {
	/** Number, 0 to 5; a 64-bit BAR takes two. */
	bar: number;
	/** CPU physical address. */
	phys: HexString;
	/** Address at which it answers on its bus. */
	bus: HexString;
	/** A power of two. */
	size: HexString;
	prefetchable: boolean;
	is64: boolean;
	/** I/O ports instead of memory: listed, not routed. */
	io?: boolean;
}

/** Access Control Services: capability and control words. */
export interface AcsDescription {
	cap: number;
	control: number;
	/** Control bits that software can change; absent: those of the capability, as PCIe has it. */
	writable?: number;
}

/** Forwarding windows of a bridge, as [first, last] bus address; null: closed. */
export interface BridgeWindowsDescription {
	memory: [HexString, HexString] | null;
	prefetchable: [HexString, HexString] | null;
}

/**
 * PCIe device/port type as in the PCI Express capability; -1 for conventional PCI. 0 endpoint, 1 legacy
 * endpoint, 4 root port, 5 switch upstream port, 6 switch downstream port, 7 PCIe-to-PCI bridge, 8
 * PCI-to-PCIe bridge, 9 root complex integrated endpoint, 10 root complex event collector.
 */
export type PcieType = -1 | 0 | 1 | 4 | 5 | 6 | 7 | 8 | 9 | 10;

/** A function. */
export interface DeviceDescription {
	/** `dddd:bb:dd.f` */
	bdf: string;
	vendor: number;
	device: number;
	/** Base class, sub-class, programming interface. */
	class: number;
	revision?: number;
	/** Header type: 0 endpoint, 1 bridge. */
	header: 0 | 1;
	multifunction?: boolean;
	pcieType: PcieType;
	/** The bridge above; null on a root bus. */
	parent: string | null;
	/** Bus numbers of a bridge. */
	secondary?: number;
	subordinate?: number;
	acs: AcsDescription | null;
	/** Has the Address Translation Services capability. */
	ats?: boolean;
	bars: BarDescription[];
	/** Absent: around the BARs below. */
	windows?: BridgeWindowsDescription;
	/** For people: GPU0, NIC3. */
	label?: string;
	/** The physical function of a virtual one. */
	physfn?: string;
	/** Where the file is not allowed to tell what this function is: lspci's `<access denied>`. */
	unknown?: boolean;
}

/** A machine. */
export interface MachineDescription {
	name: string;
	comment?: string;
	/** What its source did not tell and was made up, a sentence each; for people. */
	notes?: string[];
	cpu: CpuModel;
	/** Number of CPUs; absent: 2. */
	cpus?: number;
	ram: RamDescription[];
	/** Memory that the firmware keeps for a driver: it has bytes, and the page allocator leaves it alone. */
	specialPurpose?: RamDescription[];
	/** `domains`: strict DMA domains, lazily flushed ones, or identity (pass through). */
	iommu: null | { kind: 'intel' | 'amd'; domains: 'dma' | 'dma-fq' | 'identity' };
	/** What a CPU reads where nobody answers; absent: ones, as of a PCI bus. Emulators give zeros. */
	unclaimedReads?: 'ones' | 'zeros';
	/** Whether a peer request can cross from one host bridge to another. */
	crossHostBridge: Passage;
	hostBridges: HostBridgeDescription[];
	/** In the order of enumeration: by domain, bus, device, function. */
	devices: DeviceDescription[];
}

/** The four numbers of a function's address. */
export interface Bdf {
	domain: number;
	bus: number;
	/** Device number in the upper five bits, function in the lower three. */
	devfn: number;
}

/**
 * Read `dddd:bb:dd.f`.
 *
 * @returns null if the text is not of that form
 */
export function parseBdf(text: string): Bdf | null {
	const match = /^([0-9a-f]{4,8}):([0-9a-f]{2}):([01][0-9a-f])\.([0-7])$/.exec(text);
	if (match === null) return null;
	const [, domain = '', bus = '', device = '', fn = ''] = match;
	return {
		domain: Number.parseInt(domain, 16),
		bus: Number.parseInt(bus, 16),
		devfn: (Number.parseInt(device, 16) << 3) | Number.parseInt(fn, 16),
	};
}

/**
 * Write a number as hexadecimal digits, without 0x.
 *
 * @param n - the number, not negative
 * @param width - digits at the least
 */
export function hex(n: number, width: number): string {
	return n.toString(16).padStart(width, '0');
}

/** Write `dddd:bb:dd.f`. */
export function formatBdf({ domain, bus, devfn }: Bdf): string {
	return `${formatBus(domain, bus)}:${hex(devfn >> 3, 2)}.${devfn & 7}`;
}

/**
 * Write `dddd:bb`, which a host bridge is known by.
 *
 * @param domain - its domain
 * @param bus - its root bus
 */
export function formatBus(domain: number, bus: number): string {
	return `${hex(domain, 4)}:${hex(bus, 2)}`;
}

/** Read a hexadecimal string, `-0x…` for a negative one. */
export function parseHex(text: HexString): bigint {
	return text.startsWith('-') ? -BigInt(text.slice(1)) : BigInt(text);
}

/** Write a hexadecimal string. */
export function formatHex(value: bigint): HexString {
	return value < 0n ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`;
}
