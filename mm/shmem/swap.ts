// SPDX-License-Identifier: GPL-2.0-only
/**
 * Pages of shmem files that are swapped out.
 *
 * Guarantee: an index of a file has a folio in the page cache, or a swap entry, or is a hole; a folio
 * of the file is in the page cache or in the swap cache, never in both.
 *
 * ```
 *   i_pages[index] = folio  -- shmem_writeout() -->  swapped[index] = entry, folio in the swap cache
 *                           <-- shmem_swapin_folio() --
 * ```
 */
import { BUG_ON } from '../../include/linux/bug.ts';
import { EEXIST, EIO, ENOMEM } from '../../include/linux/errno.ts';
import type { inode } from '../../include/linux/fs.ts';
import type { address_space, folio } from '../../include/linux/mm_types.ts';
import { folio_test_swapcache, folio_test_uptodate } from '../../include/linux/page-flags.ts';
import { folioSwapEntry, total_swap_pages } from '../../include/linux/swap.ts';
import type { swp_entry_t } from '../../include/linux/swapops.ts';
import {
	GFP_HIGHUSER_MOVABLE,
	type int,
	type out,
	type pgoff_t,
} from '../../include/linux/types.ts';
import { preemptible, type Sim, schedulePoint, touch } from '../../include/sim/schedule.ts';
import { folio_lock, folio_unlock } from '../filemap.ts';
import { swap_writepage } from '../page_io.ts';
import { folio_mark_dirty, folio_wait_writeback } from '../page-writeback.ts';
import { folio_mapped } from '../rmap.ts';
import { folio_get, folio_put } from '../swap.ts';
import {
	add_to_swap_cache,
	delete_from_swap_cache,
	swap_cache_get_folio,
	swap_cluster_readahead,
} from '../swap_state.ts';
import {
	folio_alloc_swap,
	free_swap_and_cache,
	get_swap_device,
	put_swap_device,
	put_swap_folio,
	swap_free,
	swap_shmem_alloc,
} from '../swapfile.ts';

/** Returned when a folio has to stay: the caller has its lock still. */
const AOP_WRITEPAGE_ACTIVATE: int = 0x80000;

/** Operations of the page cache of shmem files, which mark it as one. */
export const shmem_aops = Object.freeze({ name: 'shmem' });

/**
 * Whether a page cache is a shmem file's.
 *
 * @param mapping - page cache
 * @kernel mm/shmem.c
 */
export function shmem_mapping(mapping: address_space): boolean {
	return mapping.a_ops === shmem_aops;
}

/**
 * The schedule point before a page cache is looked into or changed.
 *
 * @param mapping - page cache
 * @param access - what is about to happen
 */
export function* cachePoint(mapping: address_space, access: 'read' | 'write'): Sim<void> {
	if (preemptible()) yield schedulePoint(access, mapping, 'i_pages');
}

/**
 * The swap entry that an index of a file has.
 *
 * @param mapping - page cache
 * @param index - the page
 * @returns null: it is in the page cache, or a hole
 */
export function swappedEntry(mapping: address_space, index: pgoff_t | int): swp_entry_t | null {
	touch('read', mapping, 'i_pages');
	return mapping.swapped.get(Number(index)) ?? null;
}

/** Moves a folio from the page cache to the swap cache, where it has its place already. */
function* shmem_delete_from_page_cache(f: folio, entry: swp_entry_t): Sim<void> {
	const mapping = f.mapping as address_space;
	const index = Number(f.index);
	yield* cachePoint(mapping, 'write');
	mapping.i_pages.delete(index);
	mapping.swapped.set(index, entry);
	f.mapping = null;
	yield* folio_put(f);
}

/**
 * Swap a folio of a shmem file out.
 *
 * @param f - the folio, locked, unmapped, clean for the write
 * @retval 0 it is being written, and not locked any more
 * @retval AOP_WRITEPAGE_ACTIVATE it stays, dirty and locked: no swap
 * @context Sleeps.
 * @deviates no context of reclaim is passed; 6.12 calls it shmem_writepage()
 * @kernel mm/shmem.c
 */
export function* shmem_writeout(f: folio): Sim<int> {
	const entry = total_swap_pages() === 0 ? null : yield* folio_alloc_swap(f);
	if (entry !== null) {
		if ((yield* add_to_swap_cache(f, entry)) === 0) {
			yield* swap_shmem_alloc(entry);
			yield* shmem_delete_from_page_cache(f, entry);
			BUG_ON(folio_mapped(f), 'mapped folio is swapped out');
			return yield* swap_writepage(f);
		}
		yield* put_swap_folio(f, entry);
	}
	yield* folio_mark_dirty(f);
	return AOP_WRITEPAGE_ACTIVATE;
}

/** The folio of a slot, in the swap cache, maybe not read yet; null: no memory. */
function* cachedFolio(entry: swp_entry_t): Sim<folio | null> {
	return (
		(yield* swap_cache_get_folio(entry)) ??
		(yield* swap_cluster_readahead(entry, GFP_HIGHUSER_MOVABLE))
	);
}

/** A locked folio of the swap cache goes to the page cache, if it is still what the index has. */
function* takeBack(mapping: address_space, index: int, f: folio, entry: swp_entry_t): Sim<int> {
	const same = folio_test_swapcache(f) && folioSwapEntry(f) === entry;
	if (!same || swappedEntry(mapping, index) !== entry) return -EEXIST;
	if (!folio_test_uptodate(f)) return -EIO;
	yield* folio_wait_writeback(f);
	yield* cachePoint(mapping, 'write');
	if (mapping.swapped.get(index) !== entry) return -EEXIST;
	mapping.swapped.delete(index);
	mapping.i_pages.set(index, f);
	f.mapping = mapping;
	f.index = BigInt(index);
	folio_get(f);
	yield* delete_from_swap_cache(f);
	// newer than its slot, which is free now
	yield* folio_mark_dirty(f);
	yield* swap_free(entry);
	return 0;
}

/**
 * Bring a page that is swapped out back to the page cache.
 *
 * @param i - the inode
 * @param index - the page
 * @param entry - its swap entry
 * @param foliop - out: the folio, locked and with a reference
 * @retval 0 foliop is set
 * @retval -EEXIST the index has something else now: look again
 * @retval -ENOMEM no memory
 * @retval -EIO it could not be read
 * @context Sleeps.
 * @deviates the entry is passed; neither flags of the allocation nor the fault are
 * @kernel mm/shmem.c
 */
export function* shmem_swapin_folio(
	i: inode,
	index: pgoff_t,
	entry: swp_entry_t,
	foliop: out<folio | null>,
): Sim<int> {
	const si = get_swap_device(entry);
	BUG_ON(si === null, 'swap entry of no device in a shmem file');
	let error: int = -ENOMEM;
	const f = yield* cachedFolio(entry);
	if (f !== null) {
		yield* folio_lock(f);
		error = yield* takeBack(i.i_mapping, Number(index), f, entry);
		if (error === 0) foliop.value = f;
		else {
			yield* folio_unlock(f);
			yield* folio_put(f);
		}
	} else if (swappedEntry(i.i_mapping, index) !== entry) error = -EEXIST;
	put_swap_device(si!);
	return error;
}

/**
 * Drop what is swapped out of a range of a file.
 *
 * @param mapping - page cache
 * @param first - first index
 * @param behind - exclusive
 */
export function* dropSwapped(mapping: address_space, first: int, behind: int): Sim<void> {
	touch('read', mapping, 'i_pages');
	if (mapping.swapped.size === 0) return;
	yield* cachePoint(mapping, 'write');
	for (const [index, entry] of [...mapping.swapped]) {
		if (index < first || index >= behind || !mapping.swapped.delete(index)) continue;
		yield* free_swap_and_cache(entry);
	}
}
