// SPDX-License-Identifier: GPL-2.0-only
/**
 * pci_dev, pci_bus, pci_host_bridge, and what can be read off them without a config access.
 *
 * ```
 *   pci_host_bridge ── bus ──> pci_bus (root: self null, parent null)
 *                                │ devices: in the order of enumeration, bridges and endpoints
 *                                ▼
 *                              pci_dev ── subordinate ──> pci_bus (self is that pci_dev) ...
 * ```
 *
 * Resources are CPU addresses; what a device sees on its bus is pci_bus_address(): the host
 * bridge's window has an offset between the two, and it need not be zero.
 */
import { perWorld } from '../sim/world.ts';
import {
	PCI_EXP_FLAGS_TYPE,
	PCI_HEADER_TYPE_BRIDGE,
	PCI_HEADER_TYPE_CARDBUS,
	PCI_STD_NUM_BARS,
} from '../uapi/linux/pci_regs.ts';
import type { bus_type, device } from './device.ts';
import { type resource, resource_contains, resource_size } from './ioport.ts';
import type {
	bool,
	int,
	pci_bus_addr_t,
	resource_size_t,
	u8,
	u16,
	u32,
	u64,
	unsigned_int,
	unsigned_long,
} from './types.ts';

export { PCI_STD_NUM_BARS };
/** Resource of the expansion ROM. */
export const PCI_ROM_RESOURCE = PCI_STD_NUM_BARS;
/** Any vendor, any device, in an id table. */
export const PCI_ANY_ID = -1;
/** Class byte of display controllers. */
export const PCI_BASE_CLASS_DISPLAY = 0x03;
/** Class byte of network controllers. */
export const PCI_BASE_CLASS_NETWORK = 0x02;
export const PCI_VENDOR_ID_INTEL = 0x8086;
export const PCI_VENDOR_ID_AMD = 0x1022;
export const PCI_VENDOR_ID_NVIDIA = 0x10de;
export const PCI_VENDOR_ID_GOOGLE = 0x1ae0;
export const PCI_VENDOR_ID_IDT = 0x111d;

/** Configuration space of one function of the machine below: where config accesses go. */
export interface configSpace {
	/**
	 * Read a register.
	 *
	 * @param where - offset
	 * @param size - 1, 2 or 4 bytes
	 */
	readConfig(where: number, size: number): number;
	/**
	 * Write a register.
	 *
	 * @param where - offset
	 * @param size - 1, 2 or 4 bytes
	 * @param value - what is written
	 */
	writeConfig(where: number, size: number, value: number): void;
}

/** Operations of the bus that are not header code. */
export class PciBusOperations {
	/** pci_dma_configure(), once enumeration has filled it in. */
	dma_configure: ((dev: device) => int) | null = null;
}

/** Operations of the installed world's bus. */
export const pciBusOperations = perWorld(() => new PciBusOperations());

/** The bus type of PCI devices. */
export const pci_bus_type: bus_type = Object.freeze({
	name: 'pci',
	dma_configure: (dev: device): int => pciBusOperations().dma_configure?.(dev) ?? 0,
});

/**
 * A window of a host bridge: CPU addresses that it forwards, and their offset to bus addresses.
 *
 * @kernel include/linux/resource_ext.h
 */
export class resource_entry {
	readonly res: resource;
	/** CPU address minus bus address. */
	readonly offset: bigint;

	/**
	 * @param res - CPU addresses
	 * @param offset - CPU address minus bus address
	 */
	constructor(res: resource, offset: bigint) {
		this.res = res;
		this.offset = offset;
	}
}

/**
 * A host bridge: the root of one hierarchy.
 *
 * @kernel include/linux/pci.h
 */
export class pci_host_bridge {
	dev: device;
	/** The root bus. */
	bus: pci_bus | null = null;
	busnr: int = 0;
	domain_nr: int = 0;
	windows: resource_entry[] = [];

	/** @param dev - its own device, which is no PCI device */
	constructor(dev: device) {
		this.dev = dev;
		dev.container = this;
	}
}

/**
 * A bus segment.
 *
 * @kernel include/linux/pci.h
 */
export class pci_bus {
	/** null on a root bus. */
	parent: pci_bus | null = null;
	children: pci_bus[] = [];
	/** In the order in which they were found; on a root bus the first one may speak for the bridge. */
	devices: pci_dev[] = [];
	/** The bridge above; null on a root bus. */
	self: pci_dev | null = null;
	/** Device of the host bridge (root bus only). */
	bridge: device | null = null;
	number: u8 = 0;
	domain_nr: int = 0;
	/** Bridges above a function of this bus; not in C, which counts them each time. */
	bridgesAbove = 0;
	/** The bus that this one is below, or is; not in C, which goes up each time. */
	rootBus: pci_bus = this;
}

/**
 * An entry of a driver's table of the functions that it drives.
 *
 * @kernel include/linux/device-id/pci.h
 */
export interface pci_device_id {
	readonly vendor: int;
	readonly device: int;
}

/**
 * A function of a PCI device.
 *
 * @kernel include/linux/pci.h
 */
export class pci_dev {
	/** The segment it sits on. */
	bus: pci_bus;
	/** The segment it bridges to. */
	subordinate: pci_bus | null = null;
	devfn: unsigned_int = 0;
	vendor: u16 = 0;
	device: u16 = 0;
	/** Base class, sub-class, interface. */
	class: u32 = 0;
	revision: u8 = 0;
	/** Header type, without the multifunction bit. */
	hdr_type: u8 = 0;
	multifunction: bool = false;
	/** Offset of the PCI Express capability, 0: conventional PCI. */
	pcie_cap: u8 = 0;
	/** PCI Express capabilities register as found. */
	pcie_flags_reg: u16 = 0;
	/** Offset of the ACS capability, 0: none. */
	acs_cap: u16 = 0;
	/** Offset of the ATS capability, 0: none. */
	ats_cap: u16 = 0;
	ats_enabled: bool = false;
	dma_mask: u64 = 0xffff_ffffn;
	is_virtfn: bool = false;
	is_physfn: bool = false;
	/** The PF of a VF. */
	physfn: pci_dev | null = null;
	/** Behind an external port: its DMA is bounced and cut off from translation services. */
	untrusted: bool = false;
	/** BARs must not be mapped: no P2P memory from this device. */
	non_mappable_bars: bool = false;
	/** BARs 0 to 5, ROM, bridge windows; an unused one has flags 0. */
	resource: resource[];
	/** struct pci_p2pdma of drivers/pci/p2pdma, RCU protected. */
	p2pdma: object | null = null;
	dev: device;
	/** Its configuration space in the machine. */
	readonly config: configSpace;

	/**
	 * @param bus - segment
	 * @param dev - its struct device, whose container this becomes
	 * @param config - its configuration space
	 * @param bars - BARs as the machine's firmware assigned them
	 */
	constructor(bus: pci_bus, dev: device, config: configSpace, bars: resource[]) {
		this.bus = bus;
		this.dev = dev;
		this.config = config;
		this.resource = bars;
		dev.container = this;
	}
}

/**
 * Slot and function as one number.
 *
 * @param slot - 0 to 31
 * @param func - 0 to 7
 * @kernel include/uapi/linux/pci.h
 */
export function PCI_DEVFN(slot: number, func: number): number {
	return ((slot & 0x1f) << 3) | (func & 0x07);
}

/** @kernel include/uapi/linux/pci.h */
export function PCI_SLOT(devfn: number): number {
	return (devfn >> 3) & 0x1f;
}

/** @kernel include/uapi/linux/pci.h */
export function PCI_FUNC(devfn: number): number {
	return devfn & 0x07;
}

/**
 * Whether a device is a PCI function.
 *
 * @param dev - any device
 * @kernel include/linux/pci.h
 */
export function dev_is_pci(dev: device): boolean {
	return dev.bus === pci_bus_type;
}

/**
 * The PCI function that embeds a device.
 *
 * @param dev - a device for which dev_is_pci() holds
 * @kernel include/linux/pci.h
 */
export function to_pci_dev(dev: device): pci_dev {
	return dev.container as pci_dev;
}

/**
 * The host bridge that embeds a device.
 *
 * @param dev - `bridge` of a root bus
 * @kernel include/linux/pci.h
 */
export function to_pci_host_bridge(dev: device): pci_host_bridge {
	return dev.container as pci_host_bridge;
}

/**
 * `dddd:bb:dd.f`.
 *
 * @param pdev - the function
 * @kernel include/linux/pci.h
 */
export function pci_name(pdev: pci_dev): string {
	return pdev.dev.init_name;
}

/** @kernel include/linux/pci.h */
export function pci_domain_nr(bus: pci_bus): int {
	return bus.domain_nr;
}

/**
 * Bus number and devfn as requests carry them.
 *
 * @param dev - the function
 * @kernel include/linux/pci.h
 */
export function pci_dev_id(dev: pci_dev): u16 {
	return (dev.bus.number << 8) | dev.devfn;
}

/** @kernel include/linux/pci.h */
export function pci_is_root_bus(pbus: pci_bus): boolean {
	return pbus.parent === null;
}

/** @kernel include/linux/pci.h */
export function pci_is_bridge(dev: pci_dev): boolean {
	return dev.hdr_type === PCI_HEADER_TYPE_BRIDGE || dev.hdr_type === PCI_HEADER_TYPE_CARDBUS;
}

/** @kernel include/linux/pci.h */
export function pci_is_pcie(dev: pci_dev): boolean {
	return dev.pcie_cap !== 0;
}

/**
 * Port type of a PCI Express function.
 *
 * @param dev - a function for which pci_is_pcie() holds
 * @kernel include/linux/pci.h
 */
export function pci_pcie_type(dev: pci_dev): int {
	return (dev.pcie_flags_reg & PCI_EXP_FLAGS_TYPE) >> 4;
}

/**
 * The PF of a VF; any other function itself.
 *
 * @param dev - the function
 * @kernel include/linux/pci.h
 */
export function pci_physfn(dev: pci_dev): pci_dev {
	return dev.is_virtfn && dev.physfn !== null ? dev.physfn : dev;
}

/**
 * The bridge above a function; a VF has its PF's.
 *
 * @param dev - the function
 * @returns null on a root bus
 * @kernel include/linux/pci.h
 */
export function pci_upstream_bridge(dev: pci_dev): pci_dev | null {
	return pci_physfn(dev).bus.self;
}

/** @kernel include/linux/pci.h */
export function pci_resource_n(dev: pci_dev, bar: int): resource {
	return dev.resource[bar]!;
}

/** @kernel include/linux/pci.h */
export function pci_resource_start(dev: pci_dev, bar: int): resource_size_t {
	return pci_resource_n(dev, bar).start;
}

/** @kernel include/linux/pci.h */
export function pci_resource_end(dev: pci_dev, bar: int): resource_size_t {
	return pci_resource_n(dev, bar).end;
}

/** @kernel include/linux/pci.h */
export function pci_resource_flags(dev: pci_dev, bar: int): unsigned_long {
	return pci_resource_n(dev, bar).flags;
}

/**
 * Bytes of a BAR; 0 if it is unused.
 *
 * @param dev - the function
 * @param bar - 0 to 5
 * @kernel include/linux/pci.h
 */
export function pci_resource_len(dev: pci_dev, bar: int): resource_size_t {
	const res = pci_resource_n(dev, bar);
	return res.end === 0n ? 0n : resource_size(res);
}

/**
 * The address at which a BAR answers on its bus.
 *
 * @param pdev - the function
 * @param bar - 0 to 5
 * @kernel include/linux/pci.h
 */
export function pci_bus_address(pdev: pci_dev, bar: int): pci_bus_addr_t {
	const res = pci_resource_n(pdev, bar);
	let root = pdev.bus;
	while (root.parent !== null) root = root.parent;
	const { windows } = to_pci_host_bridge(root.bridge as device);
	for (const window of windows)
		if (resource_contains(window.res, res))
			return (res.start as bigint) - window.offset;
	return res.start as bigint;
}
