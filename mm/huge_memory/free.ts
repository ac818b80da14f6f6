// SPDX-License-Identifier: GPL-2.0-only
/** MADV_FREE of huge pages. */
import { page_folio, type vm_area_struct } from '../../include/linux/mm_types.ts';
import { pfn_to_page } from '../../include/linux/mmzone.ts';
import { folio_clear_dirty, folio_is_zone_device } from '../../include/linux/page-flags.ts';
import {
	pmd_dirty,
	pmd_mkclean,
	pmd_mkold,
	pmd_pfn,
	pmd_present,
	pmd_young,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import { type bool, HPAGE_PMD_SIZE, type unsigned_long } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { spin_unlock } from '../../kernel/locking/spinlock.ts';
import { folio_trylock, folio_unlock } from '../filemap.ts';
import { type mmu_gather, tlb_flush_pte_range } from '../mmu_gather.ts';
import { pmd_trans_huge_lock, pmdp_invalidate, set_pmd_at } from '../pgtable.ts';
import { folioMappedShared } from '../rmap.ts';
import { folio_get, folio_mark_lazyfree, folio_put } from '../swap.ts';
import { split_folio } from './split_folio.ts';
import { is_huge_zero_pmd } from './zero.ts';

/**
 * Let reclaim take a huge page: all of it, or, if only a part is not needed, its pages after a split.
 *
 * @param tlb - the gather
 * @param vma - its VMA
 * @param pmd - the entry
 * @param addr - first address of the part
 * @param next - exclusive
 * @returns whether all is done: else there may be a page table now
 * @context Sleeps. The mmap lock is held, the notifiers were told.
 * @kernel mm/huge_memory.c
 */
export function* madvise_free_huge_pmd(
	tlb: mmu_gather,
	vma: vm_area_struct,
	pmd: TableEntry,
	addr: unsigned_long,
	next: unsigned_long,
): Sim<bool> {
	const ptl = yield* pmd_trans_huge_lock(pmd, vma);
	if (ptl === null) return false;
	const word = pmd.value;
	out: {
		if (is_huge_zero_pmd(word) || !pmd_present(word)) break out;
		const f = page_folio(pfn_to_page(pmd_pfn(word)));
		// who shares it may still need it
		if (folio_is_zone_device(f) || folioMappedShared(f)) break out;
		if (!(yield* folio_trylock(f))) break out;
		if (next - addr !== HPAGE_PMD_SIZE) {
			folio_get(f);
			yield* spin_unlock(ptl);
			yield* split_folio(f);
			yield* folio_unlock(f);
			yield* folio_put(f);
			return false;
		}
		folio_clear_dirty(f);
		yield* folio_unlock(f);
		if (pmd_young(word) || pmd_dirty(word)) {
			const was = yield* pmdp_invalidate(vma, addr, pmd);
			yield* set_pmd_at(vma.vm_mm, addr, pmd, pmd_mkclean(pmd_mkold(was)));
			tlb_flush_pte_range(tlb, addr, HPAGE_PMD_SIZE);
		}
		folio_mark_lazyfree(f);
		yield* spin_unlock(ptl);
		return true;
	}
	yield* spin_unlock(ptl);
	return false;
}
