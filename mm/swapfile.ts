// SPDX-License-Identifier: GPL-2.0-only
/**
 * Swap devices.
 *
 * | file | functions |
 * | --- | --- |
 * | swapfile/slots.ts | swapOn, folio_alloc_swap, swap_duplicate, swap_free, swapcache_prepare, put_swap_folio |
 * | swapfile.ts | folio_free_swap, free_swap_and_cache, what is left at shutdown |
 *
 * @kernel mm/swapfile.c
 */
import { fileReport } from '../include/linux/bug.ts';
import type { folio } from '../include/linux/mm_types.ts';
import {
	folio_set_dirty,
	folio_test_swapcache,
	folio_test_writeback,
} from '../include/linux/page-flags.ts';
import { folioSwapEntry, swap_info } from '../include/linux/swap.ts';
import { swp_entry, type swp_entry_t } from '../include/linux/swapops.ts';
import type { bool, int } from '../include/linux/types.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { run } from '../kernel/sched/core.ts';
import { folio_trylock, folio_unlock } from './filemap.ts';
import { folio_mapped } from './rmap/mapcount.ts';
import { folio_put } from './swap.ts';
import { delete_from_swap_cache, swap_cache_get_folio } from './swap_state.ts';
import { __swap_count, swap_free } from './swapfile/slots.ts';

export {
	__swap_count,
	folio_alloc_swap,
	get_swap_device,
	put_swap_device,
	put_swap_folio,
	swap_duplicate,
	swap_free,
	swap_shmem_alloc,
	swapcache_prepare,
	swapOn,
} from './swapfile/slots.ts';

/**
 * Take a folio out of the swap cache if no entry names its slot any more.
 *
 * @param f - the folio, locked
 * @returns whether it was in the swap cache and is not any more; it is dirty then
 * @kernel mm/swapfile.c
 */
export function* folio_free_swap(f: folio): Sim<bool> {
	if (!folio_test_swapcache(f) || folio_test_writeback(f)) return false;
	if (__swap_count(folioSwapEntry(f)) !== 0) return false;
	yield* delete_from_swap_cache(f);
	// nothing else has its bytes now
	folio_set_dirty(f);
	return true;
}

/** Lets the swap cache's folio of a slot go if nobody maps it and nobody has its lock. */
function* __try_to_reclaim_swap(entry: swp_entry_t): Sim<void> {
	const f = yield* swap_cache_get_folio(entry);
	if (f === null) return;
	if (yield* folio_trylock(f)) {
		const same = folio_test_swapcache(f) && folioSwapEntry(f) === entry;
		if (same && !folio_mapped(f)) yield* folio_free_swap(f);
		yield* folio_unlock(f);
	}
	yield* folio_put(f);
}

/**
 * An entry goes away for good: free its slot, and what the swap cache has for it, if it was the last.
 *
 * @param entry - the entry
 * @context Atomic: the page-table lock may be held.
 * @deviates one slot; 7.3 takes a number of them (swap_put_entries_direct())
 * @kernel include/linux/swap.h (gone in 7.x)
 */
export function* free_swap_and_cache(entry: swp_entry_t): Sim<void> {
	yield* swap_free(entry);
	if (__swap_count(entry) === 0) yield* __try_to_reclaim_swap(entry);
}

/** Slots that are used, each as an entry. */
function usedSlots(): swp_entry_t[] {
	const found: swp_entry_t[] = [];
	for (const { type, swap_map, has_cache, max } of swap_info())
		for (let slot = 1; slot < max; slot++)
			if (swap_map[slot] !== 0 || has_cache[slot] !== 0)
				found.push(swp_entry(type, BigInt(slot)));
	return found;
}

/**
 * Report slots that somebody still uses. Folios that the swap cache has kept for nobody go first, as
 * in swapoff().
 *
 * @returns how many reports were filed
 * @context Every process has ended, every file is closed, no transfer is in flight.
 */
export function reportSwapLeft(): int {
	if (swap_info().every((si) => si.inuse_pages === 0)) return 0;
	for (const entry of usedSlots())
		if (__swap_count(entry) === 0) run(() => __try_to_reclaim_swap(entry));
	const left = usedSlots();
	if (left.length === 0) return 0;
	fileReport('leak', `BUG: ${left.length} swap slots still in use at shutdown`, [
		left.map((entry) => `0x${entry.toString(16)}:${__swap_count(entry)}`).join(' '),
	]);
	return 1;
}
