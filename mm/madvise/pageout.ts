// SPDX-License-Identifier: GPL-2.0-only
/**
 * MADV_PAGEOUT: reclaim the pages of a range that nobody else maps.
 *
 * ```
 *   entry             page                                     is
 *   present           on the LRU, mapped once                  reclaimed
 *                     mapped elsewhere too, or not on the LRU  left alone
 *                     device memory, no struct page, zero page left alone
 *   anything else                                              left alone
 * ```
 */
import { EINTR, EINVAL } from '../../include/linux/errno.ts';
import { VM_HUGETLB, VM_LOCKED, VM_PFNMAP } from '../../include/linux/mm.ts';
import type { folio, vm_area_struct } from '../../include/linux/mm_types.ts';
import {
	folio_clear_referenced,
	folio_is_zone_device,
	folio_nr_pages,
	folio_test_lru,
	PG_unevictable,
} from '../../include/linux/page-flags.ts';
import { type mm_walk, type mm_walk_ops, PGWALK_RDLOCK } from '../../include/linux/pagewalk.ts';
import { pte_present, TableEntry } from '../../include/linux/pgtable.ts';
import { current, fatal_signal_pending } from '../../include/linux/sched.ts';
import type { spinlock_t } from '../../include/linux/spinlock.ts';
import { type int, outParam, PAGE_SIZE, type unsigned_long } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { vm_normal_folio } from '../memory.ts';
import { tlb_finish_mmu, tlb_gather_mmu } from '../mmu_gather.ts';
import { walk_page_range_vma } from '../pagewalk.ts';
import { pte_offset_map_lock, pte_unmap_unlock } from '../pgtable.ts';
import { folio_mapcount } from '../rmap.ts';
import { folio_isolate_lru, folio_putback_lru, lru_add_drain } from '../swap.ts';
import { reclaim_pages } from '../vmscan.ts';

/** The folio of an entry if it is this process's alone, off the LRU now; else null. */
function* isolate(vma: vm_area_struct, addr: bigint, ptep: TableEntry): Sim<folio | null> {
	const pte = ptep.value;
	if (!pte_present(pte)) return null;
	const f = vm_normal_folio(vma, addr, pte);
	if (f === null || folio_is_zone_device(f)) return null;
	if (!folio_test_lru(f) || folio_mapcount(f) !== folio_nr_pages(f)) return null;
	folio_clear_referenced(f);
	if (!folio_isolate_lru(f)) return null;
	if ((f.flags & PG_unevictable) === 0) return f;
	yield* folio_putback_lru(f);
	return null;
}

/** The entries of one page table: isolated under its lock, reclaimed without. */
function* madvise_cold_or_pageout_pte_range(
	pmd: TableEntry,
	addr: unsigned_long,
	end: unsigned_long,
	walk: mm_walk,
): Sim<int> {
	if (fatal_signal_pending(current())) return -EINTR;
	const vma = walk.vma!;
	const ptl = outParam<spinlock_t | null>(null);
	// huge pmds have their place here
	const first = yield* pte_offset_map_lock(vma.vm_mm, pmd, addr, ptl);
	if (first === null) return 0;
	const folios: folio[] = [];
	const { table, pfn } = first;
	const { u32 } = table;
	for (let at = addr, i = first.index; at < end; at += PAGE_SIZE, i++) {
		if (u32[2 * i] === 0 && u32[2 * i + 1] === 0) continue;
		const f = yield* isolate(vma, at, new TableEntry(table, pfn, i));
		if (f !== null) folios.push(f);
	}
	yield* pte_unmap_unlock(first, ptl.value);
	yield* reclaim_pages(folios);
	return 0;
}

const pageout_walk_ops: mm_walk_ops = {
	pmd_entry: madvise_cold_or_pageout_pte_range,
	walk_lock: PGWALK_RDLOCK,
};

/**
 * Reclaim the part of a VMA.
 *
 * @param vma - the VMA
 * @param start - first address, inside
 * @param end - exclusive
 * @retval 0 done, whatever could be reclaimed
 * @retval -EINVAL locked, hugetlb or PFN mapping
 * @context Sleeps. The mmap lock is held.
 * @deviates the process may write to every file that it maps
 * @kernel mm/madvise.c
 */
export function* madvise_pageout(
	vma: vm_area_struct,
	start: unsigned_long,
	end: unsigned_long,
): Sim<int> {
	if ((vma.vm_flags & (VM_LOCKED | VM_PFNMAP | VM_HUGETLB)) !== 0n) return -EINVAL;
	lru_add_drain();
	const tlb = tlb_gather_mmu(vma.vm_mm);
	yield* walk_page_range_vma(vma, start, end, pageout_walk_ops, null);
	yield* tlb_finish_mmu(tlb);
	return 0;
}
