// SPDX-License-Identifier: GPL-2.0-only
/**
 * Taking huge pages out of page tables.
 *
 * A page of a private mapping that nobody maps any more is promised to its owner again, so that the
 * next touch finds one.
 */
import { BUG_ON } from '../../include/linux/bug.ts';
import {
	folio_set_hugetlb_restore_reserve,
	HPAGE_RESV_OWNER,
	HPAGE_RESV_UNMAPPED,
	type hstate,
	hstate_vma,
	huge_page_mask,
	huge_page_size,
	is_vma_resv_set,
	set_vma_resv_flags,
	vma_resv_map,
} from '../../include/linux/hugetlb.ts';
import { VM_MAYSHARE } from '../../include/linux/mm.ts';
import {
	type folio,
	type mm_struct,
	type page,
	page_folio,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import { MMU_NOTIFY_CLEAR, mmu_notifier_range } from '../../include/linux/mmu_notifier.ts';
import { pfn_to_page } from '../../include/linux/mmzone.ts';
import { folio_test_anon } from '../../include/linux/page-flags.ts';
import {
	pte_dirty,
	pte_none,
	pte_pfn,
	pte_present,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import type { unsigned_long } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { down_write, up_write } from '../../kernel/locking/rwsem.ts';
import { spin_unlock } from '../../kernel/locking/spinlock.ts';
import {
	__tlb_remove_page,
	type mmu_gather,
	tlb_finish_mmu,
	tlb_flush_pte_range,
	tlb_gather_mmu,
} from '../mmu_gather.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init,
} from '../mmu_notifier.ts';
import { set_page_dirty } from '../page-writeback.ts';
import { pmd_lock, pmdp_huge_get_and_clear, set_pmd_at } from '../pgtable.ts';
import { vma_address } from '../rmap.ts';
import { hugetlb_walk, hugetlbCount } from './entry.ts';
import { vma_add_reservation, vma_needs_reservation } from './reserve.ts';
import { hugetlb_remove_rmap, hugetlbMapcount } from './rmap.ts';

/** Promises the page of an address to its owner again, if nobody maps it any more. */
function restoreReserve(h: hstate, vma: vm_area_struct, address: bigint, f: folio): void {
	const owner = is_vma_resv_set(vma, HPAGE_RESV_OWNER) && vma_resv_map(vma) !== null;
	const shared = (vma.vm_flags & VM_MAYSHARE) !== 0n;
	if (shared || !owner || hugetlbMapcount(f) > 0 || !folio_test_anon(f)) return;
	folio_set_hugetlb_restore_reserve(f);
	if (vma_needs_reservation(h, vma, address) !== 0) vma_add_reservation(h, vma, address);
}

/** Empties one entry, which is locked. Returns whether it was the one that was looked for. */
function* unmapEntry(
	tlb: mmu_gather,
	vma: vm_area_struct,
	address: bigint,
	ptep: TableEntry,
	ref_page: page | null,
): Sim<boolean> {
	const { vm_mm: mm } = vma;
	const pte = ptep.value;
	if (pte_none(pte)) return false;
	// a page that migrates, or was poisoned, is unmapped already
	if (!pte_present(pte)) {
		yield* set_pmd_at(mm, address, ptep, 0n);
		return false;
	}
	const p = pfn_to_page(pte_pfn(pte));
	if (ref_page !== null) {
		if (p !== ref_page) return false;
		// a later touch must not look as if data were lost
		set_vma_resv_flags(vma, HPAGE_RESV_UNMAPPED);
	}
	const h = hstate_vma(vma);
	const was = yield* pmdp_huge_get_and_clear(mm, address, ptep);
	tlb_flush_pte_range(tlb, address, huge_page_size(h));
	if (pte_dirty(was as bigint)) yield* set_page_dirty(p);
	hugetlbCount(-1, vma);
	const f = page_folio(p);
	yield* hugetlb_remove_rmap(f);
	restoreReserve(h, vma, address, f);
	__tlb_remove_page(tlb, p);
	return ref_page !== null;
}

/**
 * Take the huge pages of a range out.
 *
 * @param tlb - gathers them
 * @param vma - hugetlb VMA
 * @param start - first address, of a huge page
 * @param end - exclusive, of a huge page
 * @param ref_page - only this one; null: all
 * @context Sleeps. The rmap's semaphore of the file is held for writing.
 * @kernel mm/hugetlb.c
 */
function* __unmap_hugepage_range(
	tlb: mmu_gather,
	vma: vm_area_struct,
	start: unsigned_long,
	end: unsigned_long,
	ref_page: page | null,
): Sim<void> {
	const h = hstate_vma(vma);
	BUG_ON(((start | end) & ~huge_page_mask(h)) !== 0n, 'part of a huge page is unmapped');
	for (let at = start; at < end; at += huge_page_size(h)) {
		const ptep = hugetlb_walk(vma, at);
		if (ptep === null) continue;
		const ptl = yield* pmd_lock(vma.vm_mm, ptep);
		const found = yield* unmapEntry(tlb, vma, at, ptep, ref_page);
		yield* spin_unlock(ptl);
		if (found) return;
	}
}

/**
 * unmap_page_range() of a hugetlb VMA.
 *
 * @param tlb - gathers what is taken out
 * @param vma - the VMA
 * @param start - first address, of a huge page
 * @param end - exclusive, of a huge page
 * @context Sleeps.
 */
export function* zapHugetlb(
	tlb: mmu_gather,
	vma: vm_area_struct,
	start: unsigned_long,
	end: unsigned_long,
): Sim<void> {
	const { i_mmap_rwsem } = vma.vm_file!.f_mapping!;
	yield* down_write(i_mmap_rwsem);
	yield* __unmap_hugepage_range(tlb, vma, start, end, null);
	yield* up_write(i_mmap_rwsem);
}

/** Takes one page out of a mapping, under a CLEAR event. */
function* unmap_hugepage_range(
	vma: vm_area_struct,
	start: unsigned_long,
	end: unsigned_long,
	ref_page: page,
): Sim<void> {
	const range = new mmu_notifier_range();
	mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, vma.vm_mm, start, end);
	yield* mmu_notifier_invalidate_range_start(range);
	const tlb = tlb_gather_mmu(vma.vm_mm);
	yield* __unmap_hugepage_range(tlb, vma, start, end, ref_page);
	yield* mmu_notifier_invalidate_range_end(range);
	yield* tlb_finish_mmu(tlb);
}

/**
 * Take a page away from the children that share it with its owner, who needs one and finds none.
 *
 * @param _mm - the owner's address space
 * @param vma - the owner's VMA
 * @param p - the page
 * @param address - its address
 * @context Sleeps.
 * @kernel mm/hugetlb.c
 */
export function* unmap_ref_private(
	_mm: mm_struct,
	vma: vm_area_struct,
	p: page,
	address: unsigned_long,
): Sim<void> {
	const size = huge_page_size(hstate_vma(vma));
	const at = address & huge_page_mask(hstate_vma(vma));
	const pgoff = vma.vm_pgoff + ((at - vma.vm_start) >> 12n);
	const mapping = vma.vm_file!.f_mapping!;
	yield* down_write(mapping.i_mmap_rwsem);
	for (const iter of [...mapping.i_mmap]) {
		// shared mappings and their owner keep it; others may have lost it already
		if (iter === vma || (iter.vm_flags & VM_MAYSHARE) !== 0n) continue;
		if (is_vma_resv_set(iter, HPAGE_RESV_OWNER)) continue;
		const there = vma_address(iter, pgoff, 1);
		if (there !== null) yield* unmap_hugepage_range(iter, there, there + size, p);
	}
	yield* up_write(mapping.i_mmap_rwsem);
}
