// SPDX-License-Identifier: GPL-2.0-only
/**
 * Counting the mappings of hugetlb folios: always of all of a folio, never of a page. The first page
 * has the count.
 *
 * These are of mm/rmap.c and include/linux/rmap.h.
 */
import { BUG_ON } from '../../include/linux/bug.ts';
import { EBUSY } from '../../include/linux/errno.ts';
import { folio_clear_hugetlb_restore_reserve } from '../../include/linux/hugetlb.ts';
import { linear_page_index } from '../../include/linux/mm.ts';
import type { folio, vm_area_struct } from '../../include/linux/mm_types.ts';
import {
	ClearPageAnonExclusive,
	PageAnonExclusive,
	SetPageAnonExclusive,
} from '../../include/linux/page-flags.ts';
import type { int, unsigned_long } from '../../include/linux/types.ts';
import { preemptible, type Sim, schedulePoint, touch } from '../../include/sim/schedule.ts';
import { folio_needs_cow_for_dma } from '../rmap.ts';

/**
 * How many entries map a hugetlb folio.
 *
 * @param f - the folio
 */
export function hugetlbMapcount(f: folio): int {
	touch('read', f.page, '_mapcount');
	return f.page._mapcount + 1;
}

function* count(f: folio, diff: int): Sim<void> {
	if (preemptible()) yield schedulePoint('atomic', f.page, '_mapcount');
	f.page._mapcount += diff;
}

/**
 * Make a folio that nobody knows an anonymous one, mapped once and exclusive.
 *
 * @param f - the folio
 * @param vma - where it is mapped; has an anon_vma
 * @param address - its address
 * @context The page-table lock is held.
 * @kernel mm/rmap.c
 */
export function* hugetlb_add_new_anon_rmap(
	f: folio,
	vma: vm_area_struct,
	address: unsigned_long,
): Sim<void> {
	BUG_ON(vma.anon_vma === null, 'anonymous page in a VMA without anon_vma');
	yield* count(f, 1);
	folio_clear_hugetlb_restore_reserve(f);
	f.mapping = vma.anon_vma;
	f.index = linear_page_index(vma, address);
	SetPageAnonExclusive(f.page);
}

/**
 * Count a mapping of a folio of the page cache.
 *
 * @param f - the folio
 * @context The page-table lock is held.
 * @kernel include/linux/rmap.h
 */
export function* hugetlb_add_file_rmap(f: folio): Sim<void> {
	yield* count(f, 1);
}

/**
 * Count one mapping less.
 *
 * @param f - the folio
 * @context The page-table lock is held.
 * @kernel include/linux/rmap.h
 */
export function* hugetlb_remove_rmap(f: folio): Sim<void> {
	BUG_ON(f.page._mapcount < 0, 'mapping of a hugetlb folio is removed that has none');
	yield* count(f, -1);
}

/**
 * Share an anonymous folio with a child: it is exclusive no longer.
 *
 * @param f - the folio
 * @param vma - the parent's VMA
 * @retval 0 one more mapping is counted
 * @retval -EBUSY it may be pinned: copy it
 * @context The page-table locks are held.
 * @kernel include/linux/rmap.h
 */
export function* hugetlb_try_dup_anon_rmap(f: folio, vma: vm_area_struct): Sim<int> {
	if (PageAnonExclusive(f.page)) {
		if (folio_needs_cow_for_dma(vma, f)) return -EBUSY;
		ClearPageAnonExclusive(f.page);
	}
	yield* count(f, 1);
	return 0;
}
