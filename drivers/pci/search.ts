// SPDX-License-Identifier: GPL-2.0-only
/**
 * The list of all functions, and searching it.
 *
 * References to functions are not counted: pci_dev_get() and pci_dev_put() stand where C has them
 * and do nothing, because a function stays as long as its world.
 */
import {
	PCI_ANY_ID,
	type pci_bus,
	type pci_dev,
	type pci_host_bridge,
} from '../../include/linux/pci.ts';
import type { int, unsigned_int } from '../../include/linux/types.ts';
import { perWorld } from '../../include/sim/world.ts';

/** What enumeration found. */
export class PciBusState {
	host_bridges: pci_host_bridge[] = [];
	/** All functions in the order in which they were found. */
	devices: pci_dev[] = [];
	/** By pci_name(). */
	byName: Map<string, pci_dev> = new Map();
}

/** What enumeration found in the installed world. */
export const pciBus = perWorld(() => new PciBusState());

/**
 * Take a reference.
 *
 * @param dev - the function, or null
 * @kernel drivers/pci/pci-driver.c
 */
export function pci_dev_get(dev: pci_dev | null): pci_dev | null {
	return dev;
}

/**
 * Give a reference back.
 *
 * @param dev - the function, or null
 * @kernel drivers/pci/pci-driver.c
 */
export function pci_dev_put(dev: pci_dev | null): void {
	void dev;
}

/**
 * The next function that fits.
 *
 * @param vendor - PCI_ANY_ID: any
 * @param device - PCI_ANY_ID: any
 * @param from - the one before; null starts
 * @returns null at the end
 * @kernel drivers/pci/search.c
 */
export function pci_get_device(
	vendor: unsigned_int,
	device: unsigned_int,
	from: pci_dev | null,
): pci_dev | null {
	const { devices } = pciBus();
	for (let at = from === null ? 0 : devices.indexOf(from) + 1; at < devices.length; at++) {
		const dev = devices[at]!;
		if (vendor !== PCI_ANY_ID && dev.vendor !== vendor) continue;
		if (device !== PCI_ANY_ID && dev.device !== device) continue;
		return dev;
	}
	return null;
}

/**
 * The function at an address.
 *
 * @param domain - domain
 * @param bus - bus number
 * @param devfn - device and function
 * @kernel drivers/pci/search.c
 */
export function pci_get_domain_bus_and_slot(
	domain: int,
	bus: unsigned_int,
	devfn: unsigned_int,
): pci_dev | null {
	return pciBus().byName.get(pciName(domain, bus, devfn)) ?? null;
}

/**
 * The bus with a number.
 *
 * @param domain - domain
 * @param busnr - bus number
 * @kernel drivers/pci/search.c
 */
export function pci_find_bus(domain: int, busnr: int): pci_bus | null {
	const below = (bus: pci_bus): pci_bus | null => {
		if (bus.number === busnr && bus.domain_nr === domain) return bus;
		for (const child of bus.children) {
			const found = below(child);
			if (found !== null) return found;
		}
		return null;
	};
	for (const bridge of pciBus().host_bridges) {
		const found = bridge.bus === null ? null : below(bridge.bus);
		if (found !== null) return found;
	}
	return null;
}

/**
 * The function with a name, as tests and tools write it.
 *
 * @param name - `dddd:bb:dd.f`, or without the domain when that is 0
 */
export function findPciDev(name: string): pci_dev | null {
	const { byName } = pciBus();
	return byName.get(name) ?? byName.get(`0000:${name}`) ?? null;
}

/**
 * The name of a function.
 *
 * @param domain - domain
 * @param bus - bus number
 * @param devfn - device and function
 */
export function pciName(domain: int, bus: int, devfn: int): string {
	const hex = (n: number, width: number): string => n.toString(16).padStart(width, '0');
	return `${hex(domain, 4)}:${hex(bus, 2)}:${hex(devfn >> 3, 2)}.${(devfn & 7).toString(16)}`;
}
