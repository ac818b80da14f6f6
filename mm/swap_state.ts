// SPDX-License-Identifier: GPL-2.0-only
/**
 * The swap cache: folios that have a slot.
 *
 * Guarantee: while a folio is in the swap cache, whoever finds its entry finds the folio; there is one
 * folio for a slot at a time. Mechanism: the device's address_space, by slot, with a reference for
 * it; a place is reserved in the slot map first (has_cache), so that two readers cannot both read.
 * Duty: the folio is locked where it enters or leaves.
 *
 * ```
 *   swap out     folio_alloc_swap -> add_to_swap_cache -> unmap -> write -> reclaim: delete
 *   swap in      swap_cache_get_folio, else swapcache_prepare -> add -> read -> map -> maybe delete
 * ```
 *
 * Both releases run on the swap cache of 6.12 here: 7.3 has none of these names any more (its swap
 * table takes the place of the slot map and the address_space), and the same results.
 *
 * @kernel mm/swap_state.c
 */
import { BUG_ON } from '../include/linux/bug.ts';
import { EEXIST, ENOMEM } from '../include/linux/errno.ts';
import { type folio, page_folio } from '../include/linux/mm_types.ts';
import {
	folio_test_swapcache,
	PG_locked,
	PG_swapbacked,
	PG_swapcache,
} from '../include/linux/page-flags.ts';
import {
	folioSwapEntry,
	swap_address_space,
	swap_cache_index,
	swp_swap_info,
} from '../include/linux/swap.ts';
import { swp_entry, type swp_entry_t, swp_type } from '../include/linux/swapops.ts';
import { type errno, type gfp_t, type int, outParam } from '../include/linux/types.ts';
import { shouldFail } from '../include/sim/fault_injection.ts';
import { preemptible, type Sim, schedulePoint, touch, waitPoint } from '../include/sim/schedule.ts';
import { might_sleep } from '../kernel/sched/might_sleep.ts';
import { folio_unlock } from './filemap.ts';
import { alloc_pages } from './page_alloc.ts';
import { swap_read_folio } from './page_io/bio.ts';
import { folio_mark_dirty } from './page-writeback.ts';
import { folio_add_lru, folio_get, folio_put, folio_try_get } from './swap.ts';
import {
	__swap_count,
	folio_alloc_swap,
	get_swap_device,
	put_swap_device,
	put_swap_folio,
	swapcache_prepare,
} from './swapfile/slots.ts';

/** log2 of the slots that are read around a missing one (vm.page-cluster). */
const page_cluster: int = 3;

function* cachePoint(entry: swp_entry_t, access: 'read' | 'write'): Sim<void> {
	if (preemptible()) yield schedulePoint(access, swap_address_space(entry), 'i_pages');
}

/**
 * Put a folio into the swap cache.
 *
 * @param f - the folio, locked, not in it
 * @param entry - its slot, reserved for the swap cache
 * @retval 0 it is there, and has a reference more
 * @retval -ENOMEM made to fail at site `add_to_swap_cache`
 * @deviates no allocation flags, no shadow of the last folio
 * @kernel mm/swap_state.c (gone in 7.x)
 */
export function* add_to_swap_cache(f: folio, entry: swp_entry_t): Sim<int> {
	if (shouldFail('add_to_swap_cache')) return -ENOMEM;
	yield* cachePoint(entry, 'write');
	const { i_pages } = swap_address_space(entry);
	const index = swap_cache_index(entry);
	BUG_ON(i_pages.has(index), 'slot has a folio in the swap cache already');
	folio_get(f);
	f.flags |= PG_swapcache;
	f.private = entry;
	i_pages.set(index, f);
	return 0;
}

/**
 * Take a folio out of the swap cache; its reference and its slot stay with the caller.
 *
 * @param f - the folio, locked
 * @param entry - its slot
 * @context Atomic, as under the lock of the cache: the caller has had the schedule point.
 * @kernel mm/swap_state.c (gone in 7.x)
 */
export function __delete_from_swap_cache(f: folio, entry: swp_entry_t): void {
	touch('write', swap_address_space(entry), 'i_pages');
	BUG_ON(!folio_test_swapcache(f), 'folio is not in the swap cache');
	swap_address_space(entry).i_pages.delete(swap_cache_index(entry));
	f.flags &= ~PG_swapcache;
	f.private = null;
}

/**
 * Take a folio out of the swap cache.
 *
 * @param f - the folio, locked, with a reference of the caller's
 * @kernel mm/swap_state.c (gone in 7.x)
 */
export function* delete_from_swap_cache(f: folio): Sim<void> {
	const entry = folioSwapEntry(f);
	yield* cachePoint(entry, 'write');
	__delete_from_swap_cache(f, entry);
	yield* put_swap_folio(f, entry);
	yield* folio_put(f);
}

/**
 * Give an anonymous folio a slot.
 *
 * @param f - the folio, locked and uptodate
 * @returns false: swap is full, or there is no memory
 * @context Sleeps.
 * @kernel mm/swap_state.c (gone in 7.x)
 */
export function* add_to_swap(f: folio): Sim<boolean> {
	const entry = yield* folio_alloc_swap(f);
	if (entry === null) return false;
	if ((yield* add_to_swap_cache(f, entry)) !== 0) {
		yield* put_swap_folio(f, entry);
		return false;
	}
	// a clean one would not be written
	yield* folio_mark_dirty(f);
	return true;
}

/**
 * The folio of a slot, if the swap cache has it.
 *
 * @param entry - the slot's entry
 * @returns the folio with a reference, or null
 * @deviates neither VMA nor address, which are for the statistics of readahead
 * @kernel mm/swap_state.c
 */
export function* swap_cache_get_folio(entry: swp_entry_t): Sim<folio | null> {
	yield* cachePoint(entry, 'read');
	const f = swap_address_space(entry).i_pages.get(swap_cache_index(entry));
	return f !== undefined && folio_try_get(f) ? f : null;
}

/**
 * A new folio for a slot, with its place in the swap cache, locked.
 *
 * @retval -EEXIST somebody else has the place, now or in a moment
 * @retval -ENOENT the slot is free
 * @retval -ENOMEM no memory
 */
function* newCacheFolio(entry: swp_entry_t, gfp_mask: gfp_t): Sim<folio | errno> {
	if (shouldFail('swapin_alloc_folio')) return -ENOMEM;
	const p = yield* alloc_pages(gfp_mask, 0);
	if (p === null) return -ENOMEM;
	const f = page_folio(p);
	f.flags |= PG_locked | PG_swapbacked;
	let err = yield* swapcache_prepare(entry);
	if (err === 0) {
		err = yield* add_to_swap_cache(f, entry);
		if (err === 0) {
			folio_add_lru(f);
			return f;
		}
		yield* put_swap_folio(f, entry);
	}
	yield* folio_unlock(f);
	yield* folio_put(f);
	return err;
}

/**
 * Waits while a slot's place in the swap cache is taken and empty: a folio is about to come, or has
 * just gone. The kernel sleeps for a tick and looks again.
 */
function* waitForPlace(entry: swp_entry_t): Sim<void> {
	const { i_pages } = swap_address_space(entry);
	const slot = swap_cache_index(entry);
	const { has_cache } = swp_swap_info(entry)!;
	const settled = () => i_pages.has(slot) || has_cache[slot] === 0;
	might_sleep();
	if (preemptible() || !settled())
		yield waitPoint('wait', swap_address_space(entry), settled);
}

/**
 * The folio of a slot, in the swap cache; a new one is to be read by the caller.
 *
 * @param entry - the slot's entry
 * @param gfp_mask - for a new folio
 * @param new_page_allocated - out: it is new: locked, and not read
 * @returns the folio with a reference; null: the slot is free, or there is no memory
 * @context Sleeps.
 * @deviates no memory policy, and no skip_if_exists
 * @kernel mm/swap_state.c (gone in 7.x)
 */
function* __read_swap_cache_async(
	entry: swp_entry_t,
	gfp_mask: gfp_t,
	new_page_allocated: { value: boolean },
): Sim<folio | null> {
	new_page_allocated.value = false;
	const si = get_swap_device(entry);
	if (si === null) return null;
	let result: folio | null;
	for (;;) {
		result = yield* swap_cache_get_folio(entry);
		if (result !== null || __swap_count(entry) === 0) break;
		const made = yield* newCacheFolio(entry, gfp_mask);
		if (typeof made !== 'number') {
			result = made;
			new_page_allocated.value = true;
			break;
		}
		if (made !== -EEXIST) break;
		yield* waitForPlace(entry);
	}
	put_swap_device(si);
	return result;
}

/** Reads one slot's folio into the swap cache unless it is there. */
function* readSlot(entry: swp_entry_t, gfp_mask: gfp_t): Sim<folio | null> {
	const fresh = outParam(false);
	const f = yield* __read_swap_cache_async(entry, gfp_mask, fresh);
	if (f !== null && fresh.value) yield* swap_read_folio(f);
	return f;
}

/**
 * Read a slot, and those of its aligned cluster that are in use.
 *
 * @param entry - the slot's entry
 * @param gfp_mask - for new folios
 * @returns the slot's folio with a reference, maybe not read yet; null: no memory, or it is free
 * @context Sleeps.
 * @deviates the cluster has always vm.page-cluster's size; the kernel takes hits into account
 * @kernel mm/swap_state.c
 */
export function* swap_cluster_readahead(entry: swp_entry_t, gfp_mask: gfp_t): Sim<folio | null> {
	const si = swp_swap_info(entry)!;
	const mask = (1 << page_cluster) - 1;
	const slot = swap_cache_index(entry);
	// the first page is the header
	const first = Math.max(slot & ~mask, 1);
	const last = Math.min(slot | mask, si.max - 1);
	for (let at = first; at <= last; at++) {
		if (at === slot) continue;
		const f = yield* readSlot(swp_entry(swp_type(entry), BigInt(at)), gfp_mask);
		if (f !== null) yield* folio_put(f);
	}
	return yield* readSlot(entry, gfp_mask);
}
