// SPDX-License-Identifier: GPL-2.0-only
/** The host bridge above a bus. */
import type { device } from '../../include/linux/device.ts';
import { type pci_bus, type pci_host_bridge, to_pci_host_bridge } from '../../include/linux/pci.ts';

/**
 * The root bus above a bus.
 *
 * @param bus - any bus
 * @kernel drivers/pci/host-bridge.c
 */
export function find_pci_root_bus(bus: pci_bus): pci_bus {
	return bus.rootBus;
}

/**
 * The host bridge above a bus.
 *
 * @param bus - any bus
 * @kernel drivers/pci/host-bridge.c
 */
export function pci_find_host_bridge(bus: pci_bus): pci_host_bridge {
	return to_pci_host_bridge(find_pci_root_bus(bus).bridge as device);
}
