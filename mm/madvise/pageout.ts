// SPDX-License-Identifier: GPL-2.0-only
/**
 * MADV_PAGEOUT: reclaim the pages of a range that nobody else maps.
 *
 * ```
 *   entry             page                                     is
 *   present           on the LRU, mapped once                  reclaimed
 *   present, or huge  a part of a large folio of one process   split first
 *                     mapped elsewhere too, or not on the LRU  left alone
 *                     device memory, no struct page, zero page left alone
 *   anything else                                              left alone
 * ```
 */
import { EINTR, EINVAL } from '../../include/linux/errno.ts';
import { VM_HUGETLB, VM_LOCKED, VM_PFNMAP } from '../../include/linux/mm.ts';
import { type folio, page_folio, type vm_area_struct } from '../../include/linux/mm_types.ts';
import { pfn_to_page } from '../../include/linux/mmzone.ts';
import {
	folio_clear_referenced,
	folio_is_zone_device,
	folio_test_large,
	folio_test_lru,
	PG_unevictable,
} from '../../include/linux/page-flags.ts';
import { type mm_walk, type mm_walk_ops, PGWALK_RDLOCK } from '../../include/linux/pagewalk.ts';
import { pmd_pfn, pmd_present, pte_present, TableEntry } from '../../include/linux/pgtable.ts';
import { current, fatal_signal_pending } from '../../include/linux/sched.ts';
import type { spinlock_t } from '../../include/linux/spinlock.ts';
import {
	type bool,
	type int,
	outParam,
	PAGE_SIZE,
	type unsigned_long,
} from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { spin_unlock } from '../../kernel/locking/spinlock.ts';
import { folio_trylock, folio_unlock } from '../filemap.ts';
import { split_folio } from '../huge_memory/split_folio.ts';
import { is_huge_zero_pmd } from '../huge_memory.ts';
import { vm_normal_folio } from '../memory.ts';
import { tlb_finish_mmu, tlb_gather_mmu } from '../mmu_gather.ts';
import { walk_page_range_vma } from '../pagewalk.ts';
import {
	pmd_trans_huge_lock,
	pmdIsHuge,
	pte_offset_map_lock,
	pte_unmap_unlock,
} from '../pgtable.ts';
import { folio_mapcount, folioMappedShared } from '../rmap.ts';
import {
	folio_get,
	folio_isolate_lru,
	folio_put,
	folio_putback_lru,
	lru_add_drain,
} from '../swap.ts';
import { reclaim_pages } from '../vmscan.ts';

/** The folio of an entry if it is this process's alone, off the LRU now; else null. */
function* isolate(vma: vm_area_struct, addr: bigint, ptep: TableEntry): Sim<folio | null> {
	const pte = ptep.value;
	if (!pte_present(pte)) return null;
	const f = vm_normal_folio(vma, addr, pte);
	if (f === null || folio_is_zone_device(f)) return null;
	if (folio_test_large(f) || !folio_test_lru(f) || folio_mapcount(f) !== 1) return null;
	folio_clear_referenced(f);
	if (!folio_isolate_lru(f)) return null;
	if ((f.flags & PG_unevictable) === 0) return f;
	yield* folio_putback_lru(f);
	return null;
}

/** A large folio that nobody else maps, locked and with a reference so that it can be split. */
function* mustSplit(f: folio | null): Sim<folio | null> {
	if (f === null || folio_is_zone_device(f) || !folio_test_large(f)) return null;
	if (folioMappedShared(f) || !(yield* folio_trylock(f))) return null;
	folio_get(f);
	return f;
}

/** Splits a folio that mustSplit() gave. Returns whether it is split. */
function* splitAndPut(f: folio): Sim<bool> {
	const err = yield* split_folio(f);
	yield* folio_unlock(f);
	yield* folio_put(f);
	return err === 0;
}

/** Splits the folio of a huge pmd. Returns whether the entries of a page table are to be looked at. */
function* splitHuge(vma: vm_area_struct, pmd: TableEntry): Sim<bool> {
	const ptl = yield* pmd_trans_huge_lock(pmd, vma);
	if (ptl === null) return false;
	const mapped = pmd_present(pmd.value) && !is_huge_zero_pmd(pmd.value);
	const f = yield* mustSplit(mapped ? page_folio(pfn_to_page(pmd_pfn(pmd.value))) : null);
	yield* spin_unlock(ptl);
	return f !== null && (yield* splitAndPut(f));
}

/**
 * The entries of one page table: isolated under its lock, reclaimed without.
 *
 * @deviates a large folio is split always, as where swap has no cluster for it
 */
function* madvise_cold_or_pageout_pte_range(
	pmd: TableEntry,
	addr: unsigned_long,
	end: unsigned_long,
	walk: mm_walk,
): Sim<int> {
	if (fatal_signal_pending(current())) return -EINTR;
	const vma = walk.vma!;
	if (pmdIsHuge(pmd.value) && !(yield* splitHuge(vma, pmd))) return 0;
	const folios: folio[] = [];
	for (let at = addr; at < end; ) {
		const ptl = outParam<spinlock_t | null>(null);
		const first = yield* pte_offset_map_lock(vma.vm_mm, pmd, at, ptl);
		if (first === null) break;
		const { table, pfn } = first;
		const { u32 } = table;
		let large: folio | null = null;
		for (let i = first.index; at < end; at += PAGE_SIZE, i++) {
			if (u32[2 * i] === 0 && u32[2 * i + 1] === 0) continue;
			const ptep = new TableEntry(table, pfn, i);
			const pte = ptep.value;
			const mapped = pte_present(pte) ? vm_normal_folio(vma, at, pte) : null;
			large = yield* mustSplit(mapped);
			if (large !== null) break;
			const f = yield* isolate(vma, at, ptep);
			if (f !== null) folios.push(f);
		}
		yield* pte_unmap_unlock(first, ptl.value);
		// a folio that cannot be split stays where it is
		if (large !== null && !(yield* splitAndPut(large))) at += PAGE_SIZE;
	}
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
