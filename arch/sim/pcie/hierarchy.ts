// SPDX-License-Identifier: GPL-2.0-only
/**
 * What a PCIe hierarchy is made of: host bridges, functions and their BARs.
 *
 *     HostBridge ── root bus: functions
 *                     └─ PcieFunction (bridge) ── children: functions on its secondary bus
 *                          └─ PcieFunction (endpoint) ── bars ── backing: bytes or a device model
 *
 * Guarantee: the decoded registers here are what the fabric routes by, and what config space shows.
 *
 * Duty: change registers through writeConfig(), as software does; the backing of a BAR is the device
 * model's to set.
 */
import {
	PCI_ACS_EC,
	PCI_ATS_CTRL,
	PCI_ATS_CTRL_ENABLE,
	PCI_COMMAND_MASTER,
	PCI_COMMAND_MEMORY,
} from '../../../include/uapi/linux/pci_regs.ts';
import {
	type AcsDescription,
	type BarDescription,
	type DeviceDescription,
	formatBdf,
	type HostBridgeDescription,
	type Passage,
	parseBdf,
	parseHex,
} from '../description.ts';
import { FrameStore } from '../memory.ts';
import {
	type AcsRegisters,
	atsOffset,
	type BarRegister,
	ConfigSpace,
	type Registers,
} from './config-space.ts';

/** A device model that answers accesses to a BAR itself, instead of plain memory. */
export interface MmioHandler {
	/** Answer a read. @param offset - from the start of the BAR */
	mmioRead(offset: bigint, into: Uint8Array): void;
	/** Take a write. @param offset - from the start of the BAR */
	mmioWrite(offset: bigint, from: Uint8Array): void;
}

/** Part of a memory that a BAR shows. */
export interface BarMemory {
	store: FrameStore;
	/** Byte of the store that the BAR's first byte is. */
	offset: bigint;
}

/** What is behind a BAR. */
export type BarBacking = BarMemory | { mmio: MmioHandler };

/** A base address register. */
export class Bar implements BarRegister {
	/** 0 to 5. */
	index: number;
	size: bigint;
	/** Bus address in the register now. */
	address: bigint;
	/** CPU address that the firmware gave it: the start of the kernel's resource. */
	phys: bigint;
	prefetchable: boolean;
	is64: boolean;
	/** I/O ports: never claims a memory TLP. */
	io: boolean;
	/** What is behind it; at first a memory of its own. */
	backing: BarBacking;

	/** @param d - as the firmware left it */
	constructor(d: BarDescription) {
		this.index = d.bar;
		this.size = parseHex(d.size);
		this.address = parseHex(d.bus);
		this.phys = parseHex(d.phys);
		this.prefetchable = d.prefetchable;
		this.is64 = d.is64;
		this.io = d.io === true;
		this.backing = { store: new FrameStore(this.size), offset: 0n };
	}
}

/** A stretch of addresses that a host bridge translates by one offset. */
export class HostWindow {
	/** First CPU address. */
	cpu: bigint;
	/** First bus address. */
	bus: bigint;
	size: bigint;

	constructor(cpu: bigint, bus: bigint, size: bigint) {
		this.cpu = cpu;
		this.bus = bus;
		this.size = size;
	}
}

/** A host bridge with its root bus. */
export class HostBridge {
	domain: number;
	/** Number of the root bus. */
	bus: number;
	/** `dddd:bb`, as lspci's tree shows it. */
	name: string;
	/** CPU address minus bus address, where no window says otherwise. */
	busOffset: bigint;
	windows: HostWindow[];
	/** Whether peer requests can turn around here. */
	peerToPeer: Passage;
	/** Whether they can come from or leave for another host bridge. */
	crossing: Passage;
	numaNode: number;
	/** Functions on the root bus, in the order of enumeration. */
	children: PcieFunction[];

	/** @param d - description with its windows filled in */
	constructor(d: HostBridgeDescription) {
		this.domain = d.domain;
		this.bus = d.bus;
		this.name = formatBdf({ domain: d.domain, bus: d.bus, devfn: 0 }).slice(0, -5);
		this.busOffset = parseHex(d.busOffset);
		this.windows = [];
		for (const w of d.windows ?? []) {
			const window = new HostWindow(
				parseHex(w.cpu),
				parseHex(w.bus),
				parseHex(w.size),
			);
			this.windows.push(Object.freeze(window));
		}
		this.peerToPeer = d.peerToPeer;
		this.crossing = d.crossing ?? 'works';
		this.numaNode = d.numaNode ?? -1;
		this.children = [];
	}

	/** Bus address of a CPU address; null if the host bridge does not forward it. */
	cpuToBus(cpu: bigint): bigint | null {
		for (const w of this.windows) {
			if (cpu >= w.cpu && cpu < w.cpu + w.size) return cpu - w.cpu + w.bus;
		}
		return null;
	}

	/** CPU address at which a bus address is seen; null if through no window. */
	busToCpu(bus: bigint): bigint | null {
		for (const w of this.windows) {
			if (bus >= w.bus && bus < w.bus + w.size) return bus - w.bus + w.cpu;
		}
		return null;
	}
}

/** A function of a device: endpoint, port or bridge. */
export class PcieFunction implements Registers {
	/** `dddd:bb:dd.f` */
	bdf: string;
	label: string;
	domain: number;
	bus: number;
	/** Device number in the upper five bits, function in the lower three. */
	devfn: number;
	/** Bus number and devfn, as a request carries them. */
	requesterId: number;
	vendor: number;
	device: number;
	classCode: number;
	revision: number;
	/** 0 endpoint, 1 bridge. */
	headerType: number;
	multifunction: boolean;
	/** As in the PCI Express capability; -1 conventional. */
	pcieType: number;
	host: HostBridge;
	/** The bridge above; null on a root bus. */
	parent: PcieFunction | null;
	/** Functions on the secondary bus. */
	children: PcieFunction[];
	/** The physical function of a virtual one. */
	physfn: string | null;
	command: number;
	secondary: number;
	subordinate: number;
	/** Bridge windows; a base above its limit is a closed window. */
	memoryBase: bigint;
	memoryLimit: bigint;
	prefetchBase: bigint;
	prefetchLimit: bigint;
	/** BARs in use, by rising index. */
	bars: Bar[];
	acs: AcsRegisters | null;
	ats: boolean;
	/** Made on the first access. */
	config: ConfigSpace | null;
	/** The device model that drives this function, for whoever needs to find it. */
	model: object | null;

	/**
	 * @param d - the function, with its windows filled in if it is a bridge
	 * @param host - the host bridge of its hierarchy
	 * @param parent - the bridge above
	 */
	constructor(d: DeviceDescription, host: HostBridge, parent: PcieFunction | null) {
		const bdf = parseBdf(d.bdf) ?? { domain: 0, bus: 0, devfn: 0 };
		this.bdf = d.bdf;
		this.label = d.label ?? '';
		this.domain = bdf.domain;
		this.bus = bdf.bus;
		this.devfn = bdf.devfn;
		this.requesterId = (bdf.bus << 8) | bdf.devfn;
		this.vendor = d.vendor;
		this.device = d.device;
		this.classCode = d.class;
		this.revision = d.revision ?? 0;
		this.headerType = d.header;
		this.multifunction = d.multifunction === true;
		this.pcieType = d.pcieType;
		this.host = host;
		this.parent = parent;
		this.children = [];
		this.physfn = d.physfn ?? null;
		this.command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
		this.secondary = d.secondary ?? 0;
		this.subordinate = d.subordinate ?? 0;
		const memory = d.windows?.memory ?? null;
		const prefetch = d.windows?.prefetchable ?? null;
		this.memoryBase = memory === null ? 0xfff0_0000n : parseHex(memory[0]);
		this.memoryLimit = memory === null ? 0xf_ffffn : parseHex(memory[1]);
		this.prefetchBase = prefetch === null ? 0xfff0_0000n : parseHex(prefetch[0]);
		this.prefetchLimit = prefetch === null ? 0xf_ffffn : parseHex(prefetch[1]);
		this.bars = [];
		for (const bar of d.bars) this.bars.push(new Bar(bar));
		this.acs = d.acs === null ? null : makeAcs(d.acs);
		this.ats = d.ats === true;
		this.config = null;
		this.model = null;
	}

	/**
	 * Read configuration space.
	 *
	 * @param where - offset, a multiple of `size`
	 * @param size - 1, 2 or 4 bytes
	 */
	readConfig(where: number, size: number): number {
		this.config ??= new ConfigSpace(this);
		return this.config.read(where, size);
	}

	/**
	 * Write configuration space; read-only bits keep their value.
	 *
	 * @param where - offset, a multiple of `size`
	 * @param size - 1, 2 or 4 bytes
	 * @param value - what is written
	 */
	writeConfig(where: number, size: number, value: number): void {
		this.config ??= new ConfigSpace(this);
		this.config.write(where, size, value);
	}

	/** Whether the function has ATS, and software has turned it on. */
	atsEnabled(): boolean {
		const offset = atsOffset(this);
		if (offset === 0 || this.config === null) return false;
		return (this.config.read(offset + PCI_ATS_CTRL, 2) & PCI_ATS_CTRL_ENABLE) !== 0;
	}

	/** The BAR that claims a bus address; null if none does, or memory decoding is off. */
	barAt(address: bigint): Bar | null {
		if ((this.command & PCI_COMMAND_MEMORY) === 0) return null;
		for (const bar of this.bars) {
			if (!bar.io && address >= bar.address && address < bar.address + bar.size)
				return bar;
		}
		return null;
	}

	/** Whether a bridge forwards a bus address to its secondary side. */
	forwards(address: bigint): boolean {
		if (this.headerType !== 1 || (this.command & PCI_COMMAND_MEMORY) === 0)
			return false;
		if (address >= this.memoryBase && address <= this.memoryLimit) return true;
		return address >= this.prefetchBase && address <= this.prefetchLimit;
	}

	/** A BAR by its number; null if it is unused. */
	bar(index: number): Bar | null {
		for (const bar of this.bars) if (bar.index === index) return bar;
		return null;
	}
}

function makeAcs(d: AcsDescription): AcsRegisters {
	// A vector size of 0 in the capability means 256 bits.
	const bits = d.cap & PCI_ACS_EC ? (d.cap >> 8) & 0xff || 256 : 0;
	return {
		capability: d.cap,
		control: d.control,
		writable: d.writable ?? d.cap,
		egress: new Uint32Array(Math.ceil(bits / 32)),
	};
}
