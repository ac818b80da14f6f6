// SPDX-License-Identifier: GPL-2.0-only
/**
 * A provider's cache of verdicts.
 *
 * Guarantee: what was stored stays until the provider's driver is unbound. The kernel has nothing
 * that takes an entry out when ACS changes, so forgetMapTypes() is a hook for tests only.
 */
import { type pci_dev, pci_domain_nr } from '../../../include/linux/pci.ts';
import {
	PCI_P2PDMA_MAP_UNKNOWN,
	type pci_p2pdma_map_type,
} from '../../../include/linux/pci-p2pdma.ts';
import { shouldFail } from '../../../include/sim/fault_injection.ts';
import { touch } from '../../../include/sim/schedule.ts';
import { p2pdmaOf, type pci_p2pdma } from './objects.ts';

/**
 * Key of a client in a provider's cache: domain, bus, device and function.
 *
 * @param client - the client
 * @kernel drivers/pci/p2pdma.c
 */
export function map_types_idx(client: pci_dev): number {
	return pci_domain_nr(client.bus) * 0x1_0000 + (client.bus.number << 8) + client.devfn;
}

/**
 * Store a verdict; without memory for the entry it is not stored, and nobody is told.
 *
 * @param p2pdma - the provider's
 * @param index - map_types_idx() of the client
 * @param type - the verdict
 */
export function storeMapType(p2pdma: pci_p2pdma, index: number, type: pci_p2pdma_map_type): void {
	touch('write', p2pdma, 'map_types', index, 1);
	if (!shouldFail('xa_store')) p2pdma.map_types.set(index, type);
}

/**
 * The stored verdict.
 *
 * @param p2pdma - the provider's
 * @param index - map_types_idx() of the client
 * @returns PCI_P2PDMA_MAP_UNKNOWN when there is none
 */
export function loadMapType(p2pdma: pci_p2pdma, index: number): pci_p2pdma_map_type {
	touch('read', p2pdma, 'map_types', index, 1);
	return p2pdma.map_types.get(index) ?? PCI_P2PDMA_MAP_UNKNOWN;
}

/**
 * What is stored about a client: for tests.
 *
 * @param provider - whose memory it is
 * @param client - who accesses it
 * @returns PCI_P2PDMA_MAP_UNKNOWN when nothing is
 */
export function cachedMapType(provider: pci_dev, client: pci_dev): pci_p2pdma_map_type {
	const p2pdma = p2pdmaOf(provider);
	return p2pdma === null
		? PCI_P2PDMA_MAP_UNKNOWN
		: loadMapType(p2pdma, map_types_idx(client));
}

/**
 * Forget all that is stored, which no kernel does: for tests that change ACS.
 *
 * @param provider - whose memory it is
 */
export function forgetMapTypes(provider: pci_dev): void {
	p2pdmaOf(provider)?.map_types.clear();
}
