// SPDX-License-Identifier: GPL-2.0-only
/**
 * What the DMA API asks: how does this device reach that provider, or that page?
 *
 * Guarantee: never PCI_P2PDMA_MAP_UNKNOWN. The verdict is the stored one if there is any, even
 * when it is out of date.
 * Duty: a pci_p2pdma_map_state belongs to one client device; start with a fresh one.
 */
import type { device } from '../../../include/linux/device.ts';
import type { page } from '../../../include/linux/mm_types.ts';
import {
	is_device_coherent_page,
	is_pci_p2pdma_page,
	page_pgmap,
} from '../../../include/linux/page-flags.ts';
import { dev_is_pci, to_pci_dev } from '../../../include/linux/pci.ts';
import {
	type pci_p2pdma_map_type as map_type,
	PCI_P2PDMA_MAP_NONE,
	PCI_P2PDMA_MAP_NOT_SUPPORTED,
	PCI_P2PDMA_MAP_UNKNOWN,
	type p2pdma_provider,
	type pci_p2pdma_map_state,
} from '../../../include/linux/pci-p2pdma.ts';
import { type int, outParam } from '../../../include/linux/types.ts';
import { HarnessError } from '../../../include/sim/report.ts';
import { feature } from '../../../include/sim/world.ts';
import { loadMapType, map_types_idx } from './cache.ts';
import { calc_map_type_and_dist } from './distance.ts';
import { p2pdmaOf, pci_p2pdma_pagemap, to_p2p_pgmap } from './objects.ts';

/**
 * How a device reaches a provider.
 *
 * @param provider - the provider (v6.12 names it by its pagemap)
 * @param dev - who accesses it
 * @returns NOT_SUPPORTED also for a device that is no PCI function itself: its parents are not
 *   looked at here, unlike in pci_p2pdma_distance_many()
 * @context Atomic.
 * @kernel drivers/pci/p2pdma.c
 */
export function pci_p2pdma_map_type(provider: p2pdma_provider, dev: device): map_type {
	// Before owner and client are taken for PCI functions: they need not be any.
	const { ops } = provider;
	return ops === null ? pciMapType(provider, dev) : ops.map_type(provider, dev);
}

/**
 * The same for memory behind PCI, whatever ops the provider has.
 *
 * @param provider - the provider; its owner is a PCI function
 * @param dev - who accesses it
 * @context Atomic.
 */
export function pciMapType(provider: p2pdma_provider, dev: device): map_type {
	const pdev = to_pci_dev(provider.owner);
	const p2pdma = p2pdmaOf(pdev);
	if (p2pdma === null) return PCI_P2PDMA_MAP_NOT_SUPPORTED;
	if (!dev_is_pci(dev)) return PCI_P2PDMA_MAP_NOT_SUPPORTED;
	const client = to_pci_dev(dev);
	const type = loadMapType(p2pdma, map_types_idx(client));
	if (type !== PCI_P2PDMA_MAP_UNKNOWN) return type;
	return calc_map_type_and_dist(pdev, client, outParam(0), true);
}

/**
 * Make a state be about a page's provider.
 *
 * @param state - the loop's state
 * @param dev - who accesses the page
 * @param p - P2P page
 * @context Atomic.
 * @kernel drivers/pci/p2pdma.c
 * @since v6.17
 */
export function __pci_p2pdma_update_state(state: pci_p2pdma_map_state, dev: device, p: page): void {
	p2pdma_provider_state(state, dev, to_p2p_pgmap(page_pgmap(p)).mem);
}

/**
 * How a device reaches a provider, once for a run of addresses of the same one.
 *
 * @param state - the loop's state
 * @param dev - who accesses it; the same in every call with this state
 * @param provider - whose memory
 * @context Atomic.
 * @proposed Documentation/proposals/device-private-dma-phys.md
 */
export function p2pdma_provider_state(
	state: pci_p2pdma_map_state,
	dev: device,
	provider: p2pdma_provider,
): map_type {
	if (state.mem === provider && state.seq === provider.seq) return state.map;
	state.mem = provider;
	state.seq = provider.seq;
	state.map = pci_p2pdma_map_type(provider, dev);
	return state.map;
}

/** Whether a page that is no P2P page belongs to a provider all the same: coherent memory may. */
function hasProvider(p: page): boolean {
	if (!is_device_coherent_page(p) || !feature('fabric_provider')) return false;
	return page_pgmap(p).container instanceof pci_p2pdma_pagemap;
}

/**
 * How a device reaches a page.
 *
 * @param state - the loop's state
 * @param dev - who accesses the page; the same in every call with this state
 * @param p - any page
 * @returns PCI_P2PDMA_MAP_NONE for a page that is no P2P page
 * @context Atomic.
 * @kernel include/linux/pci-p2pdma.h
 * @since v6.17
 */
export function pci_p2pdma_state(state: pci_p2pdma_map_state, dev: device, p: page): map_type {
	if (!is_pci_p2pdma_page(p) && !hasProvider(p)) return PCI_P2PDMA_MAP_NONE;
	__pci_p2pdma_update_state(state, dev, p);
	return state.map;
}

/**
 * The number by which the profile's kernel shows a map type: PCI_P2PDMA_MAP_NONE was inserted
 * later, and moved what comes after it.
 *
 * @param type - map type as the model has it
 * @throws HarnessError for NONE where the profile has no such value
 */
export function mapTypeNumber(type: map_type): int {
	if (feature('p2pdma_map_none') || type === PCI_P2PDMA_MAP_UNKNOWN) return type;
	if (type === PCI_P2PDMA_MAP_NONE)
		throw new HarnessError(
			'mapTypeNumber()',
			'this profile has no PCI_P2PDMA_MAP_NONE',
		);
	return type - 1;
}
