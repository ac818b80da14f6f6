// SPDX-License-Identifier: GPL-2.0-only
/** struct gen_pool: ranges of addresses to allocate from. The functions are in kernel/genalloc.ts. */
import type { int, phys_addr_t, size_t, unsigned_long } from './types.ts';

/** Allocated blocks of a chunk: from a block to one behind the last. */
export interface gen_pool_extent {
	start: number;
	end: number;
}

/**
 * One range of a pool.
 *
 * @kernel include/linux/genalloc.h
 */
export class gen_pool_chunk {
	readonly phys_addr: phys_addr_t;
	readonly owner: unknown;
	readonly start_addr: unsigned_long;
	/** Inclusive. */
	readonly end_addr: unsigned_long;
	/** Bytes free. */
	avail: size_t;
	/** What is allocated, in blocks: sorted, disjoint, neighbours joined. Stands for the bitmap. */
	used: gen_pool_extent[] = [];

	/**
	 * @param virt - first address
	 * @param phys - its physical address
	 * @param size - bytes
	 * @param owner - who it belongs to
	 */
	constructor(virt: unsigned_long, phys: phys_addr_t, size: size_t, owner: unknown) {
		this.start_addr = virt;
		this.end_addr = virt + size - 1n;
		this.phys_addr = phys;
		this.avail = size;
		this.owner = owner;
	}
}

/**
 * A pool.
 *
 * @kernel include/linux/genalloc.h
 */
export class gen_pool {
	readonly min_alloc_order: int;
	/** Newest first, as list_add_rcu() leaves them. */
	chunks: gen_pool_chunk[] = [];

	/** @param min_alloc_order - log2 of the bytes of a block */
	constructor(min_alloc_order: int) {
		this.min_alloc_order = min_alloc_order;
	}
}
