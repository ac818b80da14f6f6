// SPDX-License-Identifier: GPL-2.0-only
/**
 * Peer-to-peer DMA between PCI devices: verdicts, providers, and the state of a mapping loop.
 *
 * The functions of the C header are in drivers/pci/p2pdma/, its inline ones included, because a
 * header imports headers only: pci_p2pdma_state() is in drivers/pci/p2pdma/map_type.ts.
 */

import type { Sim } from '../sim/schedule.ts';
import type { device } from './device.ts';
import type { dev_pagemap } from './memremap.ts';
import { mutex } from './spinlock.ts';
import type { dma_addr_t, phys_addr_t, u64 } from './types.ts';

/** Only "not in the cache". */
export const PCI_P2PDMA_MAP_UNKNOWN = 0;
/** Not P2P memory at all; never a verdict on a pair. */
export const PCI_P2PDMA_MAP_NONE = 1;
/** The client cannot reach the provider. */
export const PCI_P2PDMA_MAP_NOT_SUPPORTED = 2;
/** Reached below the host bridge: the device uses the bus address. */
export const PCI_P2PDMA_MAP_BUS_ADDR = 3;
/** Reached through the host bridge: mapped as memory of the host is. */
export const PCI_P2PDMA_MAP_THRU_HOST_BRIDGE = 4;

/**
 * How a client reaches a provider. The numbers are those of v7.3 under every profile;
 * mapTypeNumber() gives the number that the profile's kernel shows.
 *
 * @kernel include/linux/pci-p2pdma.h
 */
export type pci_p2pdma_map_type = 0 | 1 | 2 | 3 | 4;

/**
 * What a kind of fabric knows of memory behind it; PCI is one (drivers/pci/p2pdma/provider_ops.ts).
 * Both are asked for a pair: provider and client. Neither answer may be kept past
 * p2pdma_read_retry() without being attached.
 *
 * @proposed Documentation/proposals/fabric-provider.md
 */
export interface p2pdma_provider_ops {
	readonly name: string;
	/**
	 * How a client reaches the memory now. Atomic.
	 *
	 * @param provider - the memory
	 * @param dev - who accesses it; any kind of device
	 * @returns BUS_ADDR: by bus_addr(), without the DMA API. THRU_HOST_BRIDGE: by the DMA API, as
	 *   MMIO. NONE: by the DMA API, as RAM. NOT_SUPPORTED: not at all
	 */
	map_type(provider: p2pdma_provider, dev: device): pci_p2pdma_map_type;
	/**
	 * The address at which a client finds a byte: each pair may have its own.
	 *
	 * @param provider - the memory
	 * @param paddr - CPU physical address of the byte's page frame, and offset
	 * @param dev - the client, which map_type() answered BUS_ADDR for
	 */
	bus_addr(provider: p2pdma_provider, paddr: phys_addr_t, dev: device): dma_addr_t;
}

/**
 * Somebody who holds addresses of a provider's memory.
 *
 * @proposed Documentation/proposals/fabric-provider.md
 */
export interface p2pdma_user {
	readonly dev: device;
	/**
	 * Stop using every address of this provider that was had so far, and ask again when one is
	 * needed. May sleep.
	 */
	invalidate(provider: p2pdma_provider): Sim<void>;
}

/**
 * Memory that peers may reach: all of one BAR.
 *
 * @kernel include/linux/pci-p2pdma.h
 * @since v6.19
 */
export class p2pdma_provider {
	/** Device whose memory it is. */
	owner: device;
	/** Bus address minus CPU address, modulo 2^64. */
	bus_offset: u64;
	/** null: PCI. @proposed */
	ops: p2pdma_provider_ops | null = null;
	/** What the ops keep. @proposed */
	priv: object | null = null;
	/** Goes up before an answer changes. @proposed */
	seq: u64 = 0n;
	/** Who holds addresses; covered by `lock`. @proposed */
	users: p2pdma_user[] = [];
	lock = new mutex('&provider->lock');
	/** Entries that mirrors of each client have mapped: for the check at unbinding. */
	mapped: Map<device, number> = new Map();

	/**
	 * @param owner - device whose memory it is
	 * @param bus_offset - bus address minus CPU address, modulo 2^64
	 */
	constructor(owner: device, bus_offset: u64) {
		this.owner = owner;
		this.bus_offset = bus_offset;
	}
}

/**
 * What a loop over pages remembers of the last P2P page it saw; belongs to one client device.
 *
 * @kernel include/linux/pci-p2pdma.h
 */
export class pci_p2pdma_map_state {
	/** Provider that `map` is about. */
	mem: p2pdma_provider | null = null;
	map: pci_p2pdma_map_type = PCI_P2PDMA_MAP_UNKNOWN;
	/** `seq` of `mem` when it was asked. @proposed */
	seq: u64 = 0n;
	/** v6.12: pagemap that `map` is about. */
	pgmap: dev_pagemap | null = null;
	/** v6.12: bus address minus CPU address. */
	bus_off: u64 = 0n;
}

/**
 * The address at which a client below the same bridge finds a byte of the provider.
 *
 * @param provider - the provider
 * @param paddr - CPU physical address of the byte
 * @kernel include/linux/pci-p2pdma.h
 * @since v6.19
 */
export function pci_p2pdma_bus_addr_map(provider: p2pdma_provider, paddr: phys_addr_t): dma_addr_t {
	return BigInt.asUintN(64, (paddr as bigint) + provider.bus_offset);
}

/**
 * The address at which a client finds a byte of a provider.
 *
 * @param provider - the provider
 * @param paddr - CPU physical address of the byte
 * @param dev - the client, for which the provider is PCI_P2PDMA_MAP_BUS_ADDR
 * @proposed Documentation/proposals/fabric-provider.md
 */
export function p2pdma_bus_addr(
	provider: p2pdma_provider,
	paddr: phys_addr_t,
	dev: device,
): dma_addr_t {
	const { ops } = provider;
	return ops === null
		? pci_p2pdma_bus_addr_map(provider, paddr)
		: ops.bus_addr(provider, paddr, dev);
}
