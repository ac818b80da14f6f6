// SPDX-License-Identifier: GPL-2.0-only
/**
 * Coherent device memory as a provider, as CXL has it: host physical addresses that CPUs and devices
 * use as they use RAM.
 *
 * Guarantee: while the device is online every device that can do DMA at all reaches the memory by
 * the DMA API, as RAM (PCI_P2PDMA_MAP_NONE); taken offline, nobody does, and holders have let go.
 * Mechanism: pages of type MEMORY_DEVICE_COHERENT that lead to the provider; the bytes are RAM of
 * the machine that the page allocator never gets.
 * @proposed Documentation/proposals/fabric-provider.md
 */

import type { Machine } from '../../arch/sim/machine.ts';
import type { device } from '../../include/linux/device.ts';
import { type dev_pagemap, MEMORY_DEVICE_COHERENT } from '../../include/linux/memremap.ts';
import {
	PCI_P2PDMA_MAP_NONE,
	PCI_P2PDMA_MAP_NOT_SUPPORTED,
	p2pdma_provider,
	type p2pdma_provider_ops,
	type pci_p2pdma_map_type,
} from '../../include/linux/pci-p2pdma.ts';
import type { errno, phys_addr_t } from '../../include/linux/types.ts';
import { type Sim, touch } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';
import { devres_release_all } from '../base/devres.ts';
import { p2pdma_add_pages, p2pdma_reachability_changed } from '../pci/p2pdma/provider_ops.ts';

/** A device with coherent memory. */
export class CoherentMemory {
	readonly dev: device;
	readonly base: bigint;
	readonly size: bigint;
	readonly provider: p2pdma_provider;
	pagemap: dev_pagemap | null = null;
	online = true;

	/**
	 * @param dev - the device
	 * @param base - host physical address, a multiple of 2 MiB
	 * @param size - bytes, a multiple of 2 MiB
	 */
	constructor(dev: device, base: bigint, size: bigint) {
		this.dev = dev;
		this.base = base;
		this.size = size;
		this.provider = new p2pdma_provider(dev, 0n);
		this.provider.ops = coherentOps;
		this.provider.priv = this;
	}

	/**
	 * Decode the range, and give it struct pages.
	 *
	 * @retval 0 its pages are there
	 * @returns else what p2pdma_add_pages() returned
	 */
	*probe(): Sim<errno | 0> {
		const { dev, base, size } = this;
		(world().machine as Machine).ram.add({ start: base, size });
		const range = { start: base, end: base + size - 1n };
		const pagemap = yield* p2pdma_add_pages(
			dev,
			this.provider,
			range,
			MEMORY_DEVICE_COHERENT,
			{ owner: this },
		);
		if (typeof pagemap === 'number') {
			(world().machine as Machine).ram.remove(base);
			return pagemap;
		}
		this.pagemap = pagemap;
		return 0;
	}

	/** Take the struct pages away again, none of which is in use, and decode the range no more. */
	*remove(): Sim<void> {
		yield* devres_release_all(this.dev);
		(world().machine as Machine).ram.remove(this.base);
		this.pagemap = null;
	}

	/**
	 * Take the device offline, or back.
	 *
	 * @param online - which
	 */
	*setOnline(online: boolean): Sim<void> {
		touch('write', this, 'online');
		this.online = online;
		yield* p2pdma_reachability_changed(this.provider, null);
	}
}

const coherentOps: p2pdma_provider_ops = Object.freeze({
	name: 'coherent',
	map_type({ priv }: p2pdma_provider, dev: device): pci_p2pdma_map_type {
		const memory = priv as CoherentMemory;
		touch('read', memory, 'online');
		return memory.online && dev.dma_mask !== null
			? PCI_P2PDMA_MAP_NONE
			: PCI_P2PDMA_MAP_NOT_SUPPORTED;
	},
	bus_addr: (_provider: p2pdma_provider, paddr: phys_addr_t): bigint => paddr as bigint,
});
