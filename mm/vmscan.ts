// SPDX-License-Identifier: GPL-2.0-only
/**
 * Reclaim, as far as somebody asks for it: MADV_PAGEOUT. Nothing is reclaimed by memory pressure.
 *
 * Guarantee: a folio that is handed over is freed, or on its way to swap, or back on the LRU as it
 * was, unmapped or not.
 *
 * ```
 *   folio                    slot      unmapped    then
 *   anonymous                taken     swap entry  dirty: written, stays in the swap cache; clean: freed
 *     swap is full           -         -           back on the LRU
 *   lazily freed, clean      -         empty       freed
 *   of a shmem file, dirty   taken     empty       moved to the swap cache, written
 *     swap is full           -         empty       back on the LRU
 *   of a shmem file, clean   -         empty       freed: it was never written to, or reads as its hole
 *   of another file          -         empty       back on the LRU
 * ```
 *
 * @kernel mm/vmscan.c
 */
import type { address_space, folio } from '../include/linux/mm_types.ts';
import {
	folio_clear_active,
	folio_nr_pages,
	folio_order,
	folio_ref_count,
	folio_set_active,
	folio_test_anon,
	folio_test_dirty,
	folio_test_large,
	folio_test_swapbacked,
	folio_test_swapcache,
	folio_test_writeback,
	PG_mlocked,
	PG_unevictable,
} from '../include/linux/page-flags.ts';
import { folioSwapEntry } from '../include/linux/swap.ts';
import type { int } from '../include/linux/types.ts';
import { preemptible, type Sim, schedulePoint } from '../include/sim/schedule.ts';
import { folio_trylock, folio_unlock } from './filemap.ts';
import { free_frozen_pages } from './page_alloc.ts';
import { swap_write_unplug, swap_writepage } from './page_io.ts';
import { folio_clear_dirty_for_io } from './page-writeback.ts';
import {
	folio_mapped,
	folio_mapping,
	folio_maybe_dma_pinned,
	TTU_BATCH_FLUSH,
	try_to_unmap,
} from './rmap.ts';
import { shmem_mapping, shmem_writeout } from './shmem.ts';
import { folio_putback_lru, folio_ref_freeze, folio_ref_unfreeze } from './swap.ts';
import { __delete_from_swap_cache, add_to_swap } from './swap_state.ts';
import { put_swap_folio } from './swapfile.ts';

/** What writing a dirty folio out came to. */
type pageout_t = 'PAGE_KEEP' | 'PAGE_ACTIVATE' | 'PAGE_SUCCESS' | 'PAGE_CLEAN';

/** Whether nobody but its cache, its private data and reclaim refer to a folio. */
function is_page_cache_freeable(f: folio): boolean {
	return folio_ref_count(f) === 1 + folio_nr_pages(f);
}

/** Writes a dirty folio out; on PAGE_SUCCESS and PAGE_CLEAN it is not locked, or else it is. */
function* pageout(f: folio, mapping: address_space | null): Sim<pageout_t> {
	if (!is_page_cache_freeable(f)) return 'PAGE_KEEP';
	if (mapping === null) return 'PAGE_KEEP';
	const swap = folio_test_anon(f);
	if (!swap && !shmem_mapping(mapping)) return 'PAGE_ACTIVATE';
	if (!(yield* folio_clear_dirty_for_io(f))) return 'PAGE_CLEAN';
	const ret = swap ? yield* swap_writepage(f) : yield* shmem_writeout(f);
	return ret === 0 ? 'PAGE_SUCCESS' : 'PAGE_ACTIVATE';
}

/**
 * Takes a folio that only reclaim refers to out of its cache. Returns whether it is frozen, and free
 * to go: whoever looks in the cache for it finds it with a reference to be had, or not at all.
 */
function* __remove_mapping(mapping: address_space, f: folio): Sim<boolean> {
	const entry = folio_test_swapcache(f) ? folioSwapEntry(f) : null;
	const refs = 1 + folio_nr_pages(f);
	// from here to the removal all is one step, as it is under the lock of i_pages
	if (preemptible()) yield schedulePoint('write', mapping, 'i_pages');
	if (!folio_ref_freeze(f, refs)) return false;
	if (folio_test_dirty(f)) {
		folio_ref_unfreeze(f, refs);
		return false;
	}
	if (entry === null) {
		mapping.i_pages.delete(Number(f.index));
		f.mapping = null;
		return true;
	}
	__delete_from_swap_cache(f, entry);
	yield* put_swap_folio(f, entry);
	return true;
}

/** Gives an anonymous folio a slot unless it has one. Returns whether it may be unmapped. */
function* prepareAnon(f: folio): Sim<boolean> {
	if (!folio_test_anon(f) || !folio_test_swapbacked(f) || folio_test_swapcache(f))
		return true;
	if (folio_maybe_dma_pinned(f)) return false;
	return yield* add_to_swap(f);
}

/** What becomes of a folio that reclaim has looked at. */
type Fate = 'free' | 'activate' | 'keep_locked' | 'keep';

/** A locked folio, unmapped and clean: the end of reclaim. What is free to go is frozen. */
function* freeClean(f: folio): Sim<Fate> {
	if (folio_test_anon(f) && !folio_test_swapbacked(f)) {
		if (preemptible()) yield schedulePoint('atomic', f, '_refcount');
		return folio_ref_freeze(f, 1) ? 'free' : 'keep_locked';
	}
	const mapping = folio_mapping(f);
	return mapping !== null && (yield* __remove_mapping(mapping, f)) ? 'free' : 'keep_locked';
}

/** A dirty folio is written; one that is clean again at once goes like a clean one. */
function* writeDirty(f: folio): Sim<Fate> {
	switch (yield* pageout(f, folio_mapping(f))) {
		case 'PAGE_KEEP':
			return 'keep_locked';
		case 'PAGE_ACTIVATE':
			return 'activate';
		case 'PAGE_CLEAN':
			return yield* freeClean(f);
		case 'PAGE_SUCCESS':
			if (folio_test_writeback(f) || folio_test_dirty(f)) return 'keep';
			// a synchronous write, probably to a RAM disk
			if (!(yield* folio_trylock(f))) return 'keep';
			if (folio_test_dirty(f) || folio_test_writeback(f)) return 'keep_locked';
			return yield* freeClean(f);
	}
}

/** One folio, off the LRU and locked. */
function* shrinkFolio(f: folio): Sim<Fate> {
	if (f.flags & (PG_mlocked | PG_unevictable)) return 'activate';
	if (folio_test_writeback(f)) return 'activate';
	// who reclaims splits first
	if (folio_test_large(f)) return 'activate';
	if (!(yield* prepareAnon(f))) return 'activate';
	if (folio_mapped(f)) {
		yield* try_to_unmap(f, TTU_BATCH_FLUSH);
		if (folio_mapped(f)) return 'activate';
	}
	// nobody can pin it any more; who has done so may still change it
	if (folio_maybe_dma_pinned(f)) return 'activate';
	return folio_test_dirty(f) ? yield* writeDirty(f) : yield* freeClean(f);
}

/** Lets a frozen folio go: the cache's reference and reclaim's went when it was frozen. */
function* freeFolio(f: folio): Sim<void> {
	yield* folio_unlock(f);
	free_frozen_pages(f.page, folio_order(f));
}

/**
 * Try to free folios.
 *
 * @param folio_list - folios off the LRU, with the reference of the isolation
 * @returns how many pages were freed
 * @deviates each folio goes back to the LRU at once, not all of them at the end
 */
function* shrink_folio_list(folio_list: readonly folio[]): Sim<int> {
	let nr_reclaimed = 0;
	for (const f of folio_list) {
		const fate = (yield* folio_trylock(f)) ? yield* shrinkFolio(f) : 'keep';
		if (fate === 'free') {
			nr_reclaimed += folio_nr_pages(f);
			yield* freeFolio(f);
			continue;
		}
		if (fate === 'activate') folio_set_active(f);
		if (fate !== 'keep') yield* folio_unlock(f);
		yield* folio_putback_lru(f);
	}
	yield* swap_write_unplug();
	return nr_reclaimed;
}

/**
 * Reclaim isolated folios, whether they were referenced or not.
 *
 * @param folio_list - in the order in which they are to go
 * @returns how many pages were freed
 * @context Sleeps.
 * @kernel mm/vmscan.c
 */
export function* reclaim_pages(folio_list: readonly folio[]): Sim<int> {
	for (const f of folio_list) folio_clear_active(f);
	return folio_list.length === 0 ? 0 : yield* shrink_folio_list(folio_list);
}
