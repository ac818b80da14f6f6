// SPDX-License-Identifier: GPL-2.0-only
/**
 * The pool of huge pages.
 *
 * Guarantee: whoever has a reservation finds a page; who has none gets one only if one is free that is
 * promised to nobody. Mechanism: counters under the pool's lock; a page that is freed comes back here
 * and not to the page allocator.
 */
import { ENOMEM } from '../../include/linux/errno.ts';
import {
	default_hstate,
	folio_set_hugetlb_restore_reserve,
	folio_test_hugetlb_restore_reserve,
	type hstate,
} from '../../include/linux/hugetlb.ts';
import { type folio, page_folio } from '../../include/linux/mm_types.ts';
import { PG_hugetlb } from '../../include/linux/page-flags.ts';
import { __GFP_COMP, GFP_HIGHUSER_MOVABLE, type int } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { spin_lock, spin_unlock } from '../../kernel/locking/spinlock.ts';
import { alloc_pages, free_frozen_pages } from '../page_alloc.ts';

/**
 * Set the size of the pool, as /proc/sys/vm/nr_hugepages does.
 *
 * @param count - pages of 2 MiB; not below those in use
 * @deviates the memory is taken from the page allocator when a page is needed first
 */
export function setHugePages(count: int): void {
	const h = default_hstate();
	const more = count - h.nr_huge_pages;
	h.nr_huge_pages = count;
	h.free_huge_pages += more;
	h.unbacked += more;
	while (h.unbacked < 0 && h.hugepage_freelist.length > 0) {
		giveBack(h.hugepage_freelist.pop()!);
		h.unbacked++;
	}
}

/** Gives the memory of a free huge page back to the page allocator. */
function giveBack(f: folio): void {
	f.flags &= ~PG_hugetlb;
	free_frozen_pages(f.page, default_hstate().order);
}

/** Gives all memory back that no huge page in use needs: for the check at shutdown. */
export function releaseHugePages(): void {
	const h = default_hstate();
	for (const f of h.hugepage_freelist) giveBack(f);
	h.hugepage_freelist = [];
}

/** Whether a free page is promised to nobody. */
function available_huge_pages(h: hstate): boolean {
	return h.free_huge_pages - h.resv_huge_pages > 0;
}

/** See to it that the next free page has memory. Returns false if there is none. */
function* backPool(h: hstate): Sim<boolean> {
	if (h.hugepage_freelist.length > 0) return true;
	if (h.unbacked <= 0) return false;
	const p = yield* alloc_pages(GFP_HIGHUSER_MOVABLE | __GFP_COMP, h.order);
	if (p === null) return false;
	const f = page_folio(p);
	p._refcount = 0;
	f.flags |= PG_hugetlb;
	h.hugepage_freelist.push(f);
	h.unbacked--;
	return true;
}

/**
 * Take a page out of the pool.
 *
 * @param h - the pool
 * @param reserved - the caller has a reservation for it, which is consumed
 * @returns the folio with one reference; null: all others are promised, or there is no memory
 */
export function* dequeueHugePage(h: hstate, reserved: boolean): Sim<folio | null> {
	for (;;) {
		const backed = yield* backPool(h);
		yield* spin_lock(h.lock);
		const may = reserved || available_huge_pages(h);
		const f = may ? h.hugepage_freelist.pop() : undefined;
		if (f !== undefined) {
			h.free_huge_pages--;
			f.page._refcount = 1;
			if (reserved) {
				folio_set_hugetlb_restore_reserve(f);
				h.resv_huge_pages--;
			}
		}
		yield* spin_unlock(h.lock);
		if (f !== undefined) return f;
		// somebody else took the one that was backed for us: look again
		if (!may || !backed) return null;
	}
}

/**
 * A huge page whose last reference is gone comes back to the pool.
 *
 * @param f - the folio
 * @kernel mm/hugetlb.c
 */
export function* free_huge_folio(f: folio): Sim<void> {
	const h = default_hstate();
	const restore = folio_test_hugetlb_restore_reserve(f);
	f.flags = PG_hugetlb;
	f.mapping = null;
	f.private = null;
	f.page.index = 0n;
	yield* spin_lock(h.lock);
	if (restore) h.resv_huge_pages++;
	h.free_huge_pages++;
	h.hugepage_freelist.push(f);
	yield* spin_unlock(h.lock);
}

/**
 * Promise pages of the pool, or take a promise back.
 *
 * @param h - the pool
 * @param delta - how many; negative takes back
 * @retval 0 done
 * @retval -ENOMEM there are not so many that are free and promised to nobody
 * @kernel mm/hugetlb.c
 */
export function* hugetlb_acct_memory(h: hstate, delta: int): Sim<int> {
	if (delta === 0) return 0;
	yield* spin_lock(h.lock);
	const enough = h.resv_huge_pages + delta <= h.free_huge_pages;
	if (enough) h.resv_huge_pages += delta;
	yield* spin_unlock(h.lock);
	return enough ? 0 : -ENOMEM;
}
