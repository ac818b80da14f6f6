// SPDX-License-Identifier: GPL-2.0-only
/**
 * The bounce buffer's layout.
 *
 * ```
 *   pool.start                                                                pool.end
 *   | slot 0 | slot 1 | ...  | slot 127 | slot 128 | ...          one slot is 2 KiB
 *   |<------- one set: a mapping never crosses it ------->|
 *   |<---- one area: its own search index, one a CPU, a power of two of sets ---->|
 * ```
 */
import type { phys_addr_t, unsigned_int } from './types.ts';

/** Slots of a set. */
export const IO_TLB_SEGSIZE = 128;
/** Logarithm of a slot's size. */
export const IO_TLB_SHIFT = 11n;
/** Bytes of a slot. */
export const IO_TLB_SIZE = 1n << IO_TLB_SHIFT;
/** Slots of the default pool: 64 MiB. */
export const IO_TLB_DEFAULT_NSLABS = 32768;

/**
 * What is known of each slot.
 *
 * @kernel kernel/dma/swiotlb.c (as io_tlb_slot)
 * @deviates one array for each field of struct io_tlb_slot
 */
export class ioTlbSlots {
	/** Free slots from here to the end of the set; 0: in use. */
	readonly list: Uint8Array;
	/** Physical address that each slot bounces for; -1: none. */
	readonly orig_addr: Float64Array;
	/** Bytes from this slot to the end of the allocation. */
	readonly alloc_size: Int32Array;
	/** Slots before the first one that only keep the alignment. */
	readonly pad_slots: Uint16Array;

	/** @param nslabs - slots */
	constructor(nslabs: unsigned_int) {
		this.list = new Uint8Array(nslabs);
		this.orig_addr = new Float64Array(nslabs).fill(-1);
		this.alloc_size = new Int32Array(nslabs);
		this.pad_slots = new Uint16Array(nslabs);
		for (let i = 0; i < nslabs; i++)
			this.list[i] = Math.min(IO_TLB_SEGSIZE - (i % IO_TLB_SEGSIZE), nslabs - i);
	}
}

/**
 * A stretch of bounce memory.
 *
 * @kernel include/linux/swiotlb.h
 */
export class io_tlb_pool {
	start: phys_addr_t = 0n;
	/** Exclusive. */
	end: phys_addr_t = 0n;
	nslabs: unsigned_int = 0;
	/** Where the next search begins. */
	index: unsigned_int = 0;
	/** Slots in use. */
	used: unsigned_int = 0;
	/** Made when the first slot is taken. */
	slots: ioTlbSlots | null = null;

	/** @param init - designated initialiser */
	constructor(init: Partial<io_tlb_pool> = {}) {
		Object.assign(this, init);
	}
}

/**
 * The bounce buffer of a world.
 *
 * @kernel include/linux/swiotlb.h
 */
export class io_tlb_mem {
	defpool: io_tlb_pool = new io_tlb_pool();
	nslabs: unsigned_int = 0;
	/** swiotlb=force: every mapping is bounced. */
	force_bounce = false;
}
