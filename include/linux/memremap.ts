// SPDX-License-Identifier: GPL-2.0-only
/** struct dev_pagemap and its ops: memory that belongs to a device and has struct pages. */
import type { Sim } from '../sim/schedule.ts';
import type { completion } from './completion.ts';
import type { folio, page, vm_fault } from './mm_types.ts';
import type { p2pdma_provider } from './pci-p2pdma.ts';
import type { percpu_ref } from './percpu-refcount.ts';
import type { int, out, phys_addr_t, unsigned_int, unsigned_long, vm_fault_t } from './types.ts';

export const MEMORY_DEVICE_PRIVATE = 1;
export const MEMORY_DEVICE_COHERENT = 2;
export const MEMORY_DEVICE_FS_DAX = 3;
export const MEMORY_DEVICE_GENERIC = 4;
export const MEMORY_DEVICE_PCI_P2PDMA = 5;
/** Kind of device memory. */
export type memory_type = 0 | 1 | 2 | 3 | 4 | 5;

/**
 * Physical range.
 *
 * @kernel include/linux/range.h
 */
export interface range {
	readonly start: bigint;
	/** Inclusive. */
	readonly end: bigint;
}

/**
 * What a pagemap's driver does for its pages.
 *
 * @kernel include/linux/memremap.h
 */
export interface dev_pagemap_ops {
	/** v7.3: the last reference of a folio was put. */
	folio_free?(f: folio): Sim<void>;
	/** v6.12: the last reference of a page was put. */
	page_free?(p: page): Sim<void>;
	/** A CPU touched a device-private page: bring it back to system memory. */
	migrate_to_ram?(vmf: vm_fault): Sim<vm_fault_t>;
	/** Pages of the pagemap are poisoned. */
	memory_failure?(
		pgmap: dev_pagemap,
		pfn: unsigned_long,
		nr_pages: unsigned_long,
		mf_flags: int,
	): int;
	/** v7.3: a folio is split; once for each new folio, then with `tail` NULL. */
	folio_split?(head: folio, tail: folio | null): Sim<void>;
	/**
	 * The PFN of the P2P page that holds the same bytes as a device-private page.
	 *
	 * @param p - device-private page of this pagemap, without a reference
	 * @param pfn - out: PFN of a page of this device's own P2P pagemap
	 * @retval 0 `pfn` is set
	 * @retval -EOPNOTSUPP this page has no such alias
	 * @context Atomic. Pure: same page, same answer, as long as the window stands.
	 * @proposed Documentation/proposals/device-private-dma-pfn.md
	 */
	device_private_dma_pfn?(p: page, pfn: out<unsigned_long>): int;
	/**
	 * Where the bytes of a device-private page are on the bus, for memory without P2P pages.
	 *
	 * @param p - device-private page of this pagemap, without a reference
	 * @param provider - out: the P2P memory that holds the bytes
	 * @param phys - out: CPU physical address of the page there
	 * @retval 0 both are set
	 * @retval -EOPNOTSUPP the memory of this page is not on the bus
	 * @context Atomic. Pure: same page, same answer, until the driver has evicted its pages.
	 * @proposed Documentation/proposals/device-private-dma-phys.md
	 */
	device_private_dma_phys?(
		p: page,
		provider: out<p2pdma_provider | null>,
		phys: out<phys_addr_t>,
	): int;
}

/**
 * Ranges of device memory with struct pages.
 *
 * @kernel include/linux/memremap.h
 */
export class dev_pagemap {
	ref: percpu_ref | null = null;
	done: completion | null = null;
	type: memory_type = 0;
	flags: unsigned_int = 0;
	vmemmap_shift: unsigned_long = 0n;
	ops: dev_pagemap_ops | null = null;
	owner: object | null = null;
	nr_range: int = 0;
	ranges: range[] = [];
	/** The object that embeds this pagemap (container_of()). */
	container: object | null = null;

	/** @param init - designated initialiser */
	constructor(init: Partial<dev_pagemap> = {}) {
		Object.assign(this, init);
	}
}
