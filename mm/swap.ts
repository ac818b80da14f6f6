// SPDX-License-Identifier: GPL-2.0-only
/**
 * References of pages, and the LRU as far as anybody can see it.
 *
 * Guarantee: a page whose last reference is put goes back to where it came from: RAM to the page
 * allocator, ZONE_DEVICE memory to its pagemap. Taking a reference of a page that nobody holds, and
 * putting one too many, are reported as the use after free that they are. Duty: get_page() only
 * under a reference or a lock that keeps one alive, else folio_try_get().
 *
 * The reclaim lists have no order here: a folio is on the LRU (PG_lru) or isolated. There are no
 * per-CPU batches of folios on their way there, whose references a migration would have to drain.
 */
import { WARN_ON_ONCE } from '../include/linux/bug.ts';
import {
	type folio,
	type page,
	page_folio,
	type vm_area_struct,
} from '../include/linux/mm_types.ts';
import {
	folio_is_zone_device,
	folio_order,
	folio_test_anon,
	folio_test_hugetlb,
	folio_test_lru,
	PG_active,
	PG_lru,
	PG_mlocked,
	PG_referenced,
	PG_swapbacked,
	PG_swapcache,
	PG_unevictable,
	set_page_count,
} from '../include/linux/page-flags.ts';
import type { bool, int } from '../include/linux/types.ts';
import { takeOrigin } from '../include/sim/origin.ts';
import { preemptible, type Sim, schedulePoint, touch } from '../include/sim/schedule.ts';
import { world } from '../include/sim/world.ts';
import { might_sleep } from '../kernel/sched/might_sleep.ts';
import { reportUseAfterFree } from './debug.ts';
import { free_huge_folio } from './hugetlb/pool.ts';
import { free_zone_device_folio, put_devmap_managed_folio_refs } from './memremap.ts';
import { mlockNewVmaFolio } from './mlock_folio.ts';
import { free_frozen_pages } from './page_alloc.ts';

function rememberOrigin(p: page): void {
	if (world().trackOrigins) (p.sec.origins ??= [])[p.idx] = takeOrigin();
}

/**
 * Take a reference of a folio that is known to be in use.
 *
 * @param f - the folio
 * @kernel include/linux/mm.h
 */
export function folio_get(f: folio): void {
	folio_ref_add(f, 1);
}

/**
 * Take several references of a folio that is known to be in use.
 *
 * @param f - the folio
 * @param nr - how many
 * @kernel include/linux/page_ref.h
 */
export function folio_ref_add(f: folio, nr: int): void {
	const head = f.page;
	touch('atomic', f, '_refcount');
	if (head._refcount <= 0) reportUseAfterFree(head, 'folio_get');
	head._refcount += nr;
	rememberOrigin(head);
}

/**
 * Take a reference of the folio of a page.
 *
 * @param p - head or tail, in use
 * @kernel include/linux/mm.h
 */
export function get_page(p: page): void {
	folio_ref_add(page_folio(p), 1);
}

/**
 * Take a reference of a folio unless nobody holds one any more.
 *
 * @param f - the folio
 * @returns whether it was taken
 * @kernel include/linux/page_ref.h
 */
export function folio_try_get(f: folio): bool {
	const head = f.page;
	touch('atomic', f, '_refcount');
	if (head._refcount <= 0) return false;
	head._refcount++;
	rememberOrigin(head);
	return true;
}

/**
 * Take a reference of the folio of a page unless nobody holds one any more.
 *
 * @param p - head or tail
 * @returns whether it was taken
 * @kernel include/linux/mm.h
 */
export function try_get_page(p: page): bool {
	return folio_try_get(page_folio(p));
}

/**
 * Take all references of a folio at once, if they are as many as expected: nobody can take one any
 * more until it is unfrozen or freed.
 *
 * @param f - the folio
 * @param count - how many there must be
 * @returns whether they were; the count is 0 then
 * @context Atomic. The caller has had a schedule point, and changes what leads to the folio in the
 *   same step.
 * @kernel include/linux/page_ref.h
 */
export function folio_ref_freeze(f: folio, count: int): bool {
	touch('atomic', f, '_refcount');
	if (f.page._refcount !== count) return false;
	set_page_count(f.page, 0);
	return true;
}

/**
 * Give a frozen folio its references back.
 *
 * @param f - the folio
 * @param count - how many
 * @kernel include/linux/page_ref.h
 */
export function folio_ref_unfreeze(f: folio, count: int): void {
	touch('atomic', f, '_refcount');
	WARN_ON_ONCE(f.page._refcount !== 0, 'folio_ref_unfreeze() of a folio that is not frozen');
	set_page_count(f.page, count);
}

/** Gives a folio without references back. */
function* __folio_put(f: folio): Sim<void> {
	if (folio_is_zone_device(f)) {
		yield* free_zone_device_folio(f);
		return;
	}
	if (folio_test_hugetlb(f)) {
		yield* free_huge_folio(f);
		return;
	}
	f.flags &= ~(PG_lru | PG_active | PG_unevictable | PG_mlocked);
	free_frozen_pages(f.page, folio_order(f));
}

/**
 * Put several references of a folio.
 *
 * @param f - the folio
 * @param refs - how many
 * @context Any, unless the pagemap's free op sleeps.
 * @kernel include/linux/mm.h
 */
export function* folio_put_refs(f: folio, refs: int): Sim<void> {
	if (preemptible()) yield schedulePoint('atomic', f, '_refcount');
	if (dropRefs(f, refs)) yield* __folio_put(f);
}

/** Take references away; whether they were the last ones. */
function dropRefs({ page: head }: folio, refs: int): boolean {
	if (head._refcount < refs) {
		reportUseAfterFree(head, 'folio_put');
		return false;
	}
	head._refcount -= refs;
	return head._refcount === 0;
}

/**
 * Put a reference of a folio; the last one frees it.
 *
 * @param f - the folio
 * @context Any, unless the pagemap's free op sleeps.
 * @kernel include/linux/mm.h
 */
export function* folio_put(f: folio): Sim<void> {
	// as folio_put_refs(f, 1), but without a generator more
	if (preemptible()) yield schedulePoint('atomic', f, '_refcount');
	if (dropRefs(f, 1)) yield* __folio_put(f);
}

/**
 * Put a reference of the folio of a page.
 *
 * @param p - head or tail
 * @context Any, unless the pagemap's free op sleeps.
 * @kernel include/linux/mm.h
 */
export function* put_page(p: page): Sim<void> {
	const f = page_folio(p);
	if (folio_is_zone_device(f) && put_devmap_managed_folio_refs(f, 1)) return;
	yield* folio_put_refs(f, 1);
}

/**
 * Put a folio on the LRU. One that was locked while it was off the LRU counts from now on; one that
 * was unlocked meanwhile is for reclaim to take.
 *
 * @param f - the folio, in use, not on the LRU
 * @deviates there are no batches: the folio is on the LRU at once
 * @kernel mm/folio.c
 */
export function folio_add_lru(f: folio): void {
	touch('atomic', f, 'flags');
	WARN_ON_ONCE(folio_test_lru(f), 'folio_add_lru() of a folio that is on the LRU');
	f.flags |= PG_lru;
	if (f.flags & PG_mlocked) {
		f.flags = (f.flags & ~PG_active) | PG_unevictable;
		f.mlock_count = 1;
	} else f.flags &= ~PG_unevictable;
}

/**
 * Put a new anonymous folio on the LRU.
 *
 * @param f - the folio
 * @param vma - the VMA that it is mapped in: if that is locked, reclaim leaves the folio alone
 * @kernel mm/folio.c
 */
export function folio_add_lru_vma(f: folio, vma: vm_area_struct): void {
	mlockNewVmaFolio(f, vma);
	folio_add_lru(f);
}

/**
 * Say that the bytes of an anonymous folio are not needed: reclaim drops it unless it is dirty again.
 *
 * @param f - the folio; a locked one, or one with a place in swap, stays what it is
 * @kernel mm/folio.c
 */
export function folio_mark_lazyfree(f: folio): void {
	const wanted = PG_lru | PG_swapbacked;
	if (!folio_test_anon(f) || (f.flags & wanted) !== wanted) return;
	if (f.flags & (PG_swapcache | PG_unevictable)) return;
	touch('atomic', f, 'flags');
	f.flags &= ~(PG_active | PG_referenced | PG_swapbacked);
}

/**
 * Take a folio off the LRU, with a reference for the caller.
 *
 * @param f - the folio, in use
 * @returns whether it was on the LRU
 * @kernel mm/vmscan.c
 */
export function folio_isolate_lru(f: folio): bool {
	touch('atomic', f, 'flags');
	if (!folio_test_lru(f)) return false;
	f.flags &= ~PG_lru;
	folio_get(f);
	return true;
}

/**
 * Put an isolated folio back on the LRU and drop the reference of the isolation.
 *
 * @param f - the folio
 * @kernel mm/vmscan.c
 */
export function* folio_putback_lru(f: folio): Sim<void> {
	folio_add_lru(f);
	yield* folio_put(f);
}

/**
 * Move this CPU's batches to the LRU.
 *
 * @deviates there are no batches: nothing to do
 * @kernel mm/folio.c
 */
export function lru_add_drain(): void {}

/**
 * Move the batches of all CPUs to the LRU.
 *
 * @deviates there are no batches: only the schedule point of waiting for the other CPUs
 * @context Process context. Sleeps.
 * @kernel mm/folio.c
 */
export function* lru_add_drain_all(): Sim<void> {
	might_sleep();
	if (preemptible()) yield schedulePoint('yield', lru_add_drain_all);
}
