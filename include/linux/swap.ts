// SPDX-License-Identifier: GPL-2.0-only
/**
 * Swap devices, their slots, and the swap cache.
 *
 * ```
 *   slot     swap_map                                       has_cache
 *    0       the header, never given out
 *    n       page-table entries, or shmem files, with it    a folio with PG_swapcache has it:
 *            0 and no cache: the slot is free                 cache.i_pages[n], folio.private = entry
 * ```
 */
import { perWorld } from '../sim/world.ts';
import { address_space, type folio } from './mm_types.ts';
import { spinlock_t } from './spinlock.ts';
import { type swp_entry_t, swp_offset, swp_type } from './swapops.ts';
import type { int, unsigned_int } from './types.ts';
import type { work_struct } from './workqueue.ts';

/** The device is swapped to. */
export const SWP_WRITEOK = 1 << 1;
/** Pages must not change while they are written. */
export const SWP_STABLE_WRITES = 1 << 11;
/** A transfer is over when it was submitted: a RAM disk. */
export const SWP_SYNCHRONOUS_IO = 1 << 12;

/** What is swapped to: class Disk of arch/sim is one. */
export interface SwapDisk {
	/** Number of pages. */
	readonly size: number;
	/** Read page `block`. */
	read(block: number, into: Uint32Array): void;
	/** Write page `block`. */
	write(block: number, from: Uint32Array): void;
}

/** A transfer that was submitted and is not over. */
export interface SwapIo {
	readonly folio: folio;
	readonly write: boolean;
}

/**
 * One swap device.
 *
 * @kernel include/linux/swap.h
 */
export class swap_info_struct {
	/** Its number, the type of its entries. */
	type: int;
	/** SWP_* bits. */
	flags: unsigned_int;
	/** Slots, the header included. */
	max: int;
	/** How many entries name a slot. */
	swap_map: Uint32Array;
	/** 1: the swap cache has a folio for the slot, or is about to. */
	has_cache: Uint8Array;
	/** Slots in use. */
	inuse_pages: int = 0;
	/** Where the next slot is looked for. */
	cluster_next: int = 1;
	/** Who must not see the device go: get_swap_device(). */
	users: int = 0;
	lock = new spinlock_t('&p->lock');
	bdev: SwapDisk;
	/** The swap cache: folios by slot. */
	cache: address_space = new address_space();
	/** Transfers in flight, oldest first. */
	queue: SwapIo[] = [];
	/** Ends them, where that takes time. */
	io_work: work_struct | null = null;

	/**
	 * @param type - its number
	 * @param bdev - what is swapped to
	 * @param flags - SWP_* bits
	 */
	constructor(type: int, bdev: SwapDisk, flags: unsigned_int) {
		this.type = type;
		this.bdev = bdev;
		this.flags = flags;
		this.max = bdev.size;
		this.swap_map = new Uint32Array(bdev.size);
		this.has_cache = new Uint8Array(bdev.size);
	}
}

/** The swap devices of the installed world, by type. */
export const swap_info = perWorld<swap_info_struct[]>(() => []);

/**
 * Pages that can be swapped out, of all devices.
 *
 * @kernel include/linux/swap.h
 */
export function total_swap_pages(): int {
	return swap_info().reduce((n, si) => n + si.max - 1, 0);
}

/**
 * The device of an entry.
 *
 * @param entry - swap entry
 * @returns null when there is none of that number
 * @kernel mm/swapfile.c (gone in 7.x)
 */
export function swp_swap_info(entry: swp_entry_t): swap_info_struct | null {
	return swap_info()[swp_type(entry)] ?? null;
}

/**
 * The swap cache that an entry's folio is in.
 *
 * @param entry - entry of a device that is there
 * @kernel mm/swap.h
 */
export function swap_address_space(entry: swp_entry_t): address_space {
	return swap_info()[swp_type(entry)]!.cache;
}

/**
 * The place of an entry in its swap cache.
 *
 * @param entry - swap entry
 * @kernel mm/swap.h (gone in 7.x)
 */
export function swap_cache_index(entry: swp_entry_t): int {
	return Number(swp_offset(entry));
}

/**
 * The entry of a folio in the swap cache: C's `folio->swap`.
 *
 * @param f - folio with PG_swapcache
 */
export function folioSwapEntry(f: folio): swp_entry_t {
	return f.private as swp_entry_t;
}
