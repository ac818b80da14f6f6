// SPDX-License-Identifier: GPL-2.0-only
/** hugetlb mappings of a fork, and their protection. */

import { ENOMEM } from '../../include/linux/errno.ts';
import { hstate_vma, huge_page_size } from '../../include/linux/hugetlb.ts';
import { SINGLE_DEPTH_NESTING } from '../../include/linux/lockdep.ts';
import { is_cow_mapping } from '../../include/linux/mm.ts';
import {
	type folio,
	type mm_struct,
	page_folio,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import {
	MMU_NOTIFY_CLEAR,
	MMU_NOTIFY_PROTECTION_VMA,
	mmu_notifier_range,
} from '../../include/linux/mmu_notifier.ts';
import { pfn_to_page } from '../../include/linux/mmzone.ts';
import { folio_test_anon, PG_uptodate } from '../../include/linux/page-flags.ts';
import {
	type pgprot_t,
	pte_modify,
	pte_none,
	pte_pfn,
	pte_present,
	type pte_t,
	pte_wrprotect,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import type { int, unsigned_long } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { down_write, up_write } from '../../kernel/locking/rwsem.ts';
import { spin_lock_nested, spin_unlock } from '../../kernel/locking/spinlock.ts';
import {
	type mmu_gather,
	tlb_finish_mmu,
	tlb_flush_mmu_tlbonly,
	tlb_flush_pte_range,
	tlb_gather_mmu,
} from '../mmu_gather.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init,
} from '../mmu_notifier.ts';
import { pmd_lock, pmd_lockptr, pmdp_huge_get_and_clear, set_pmd_at } from '../pgtable.ts';
import { folio_get, folio_put } from '../swap.ts';
import {
	copyHugePage,
	huge_pte_alloc,
	huge_ptep_set_wrprotect,
	hugetlb_walk,
	hugetlbCount,
	make_huge_pte,
} from './entry.ts';
import { alloc_hugetlb_folio, restore_reserve_on_error } from './reserve.ts';
import {
	hugetlb_add_file_rmap,
	hugetlb_add_new_anon_rmap,
	hugetlb_try_dup_anon_rmap,
} from './rmap.ts';

/** One entry and its twin. */
interface Twins {
	readonly dst_vma: vm_area_struct;
	readonly src_vma: vm_area_struct;
	readonly dst: TableEntry;
	readonly src: TableEntry;
	readonly addr: unsigned_long;
}

/** Runs with both entries locked. */
function* locked<T>(at: Twins, body: () => Sim<T>): Sim<T> {
	const dst_ptl = yield* pmd_lock(at.dst_vma.vm_mm, at.dst);
	const src_ptl = pmd_lockptr(at.src_vma.vm_mm, at.src);
	yield* spin_lock_nested(src_ptl, SINGLE_DEPTH_NESTING);
	const ret = yield* body();
	yield* spin_unlock(src_ptl);
	yield* spin_unlock(dst_ptl);
	return ret;
}

/** Shares what is mapped; returns the folio that may be pinned and has to be copied, or null. */
function* shareEntry(at: Twins, cow: boolean): Sim<folio | null> {
	const { src, dst, src_vma, dst_vma, addr } = at;
	let entry: pte_t = src.value;
	if (pte_none(entry)) return null;
	if (pte_present(entry)) {
		const f = page_folio(pfn_to_page(pte_pfn(entry)));
		folio_get(f);
		if (!folio_test_anon(f)) yield* hugetlb_add_file_rmap(f);
		else if ((yield* hugetlb_try_dup_anon_rmap(f, src_vma)) !== 0) return f;
		if (cow) {
			yield* huge_ptep_set_wrprotect(src_vma.vm_mm, addr, src);
			entry = pte_wrprotect(entry);
		}
		hugetlbCount(1, dst_vma);
	}
	yield* set_pmd_at(dst_vma.vm_mm, addr, dst, entry as bigint);
	return null;
}

/**
 * The child gets a copy of a page that may be pinned.
 *
 * @returns 0 or -errno; null: the entry has changed meanwhile
 */
function* copyPinned(at: Twins, f: folio): Sim<int | null> {
	const { src, dst, dst_vma, addr } = at;
	const h = hstate_vma(dst_vma);
	const before = src.value;
	const copy = yield* alloc_hugetlb_folio(dst_vma, addr, false);
	if (typeof copy === 'number') {
		yield* folio_put(f);
		return copy;
	}
	copyHugePage(h, copy, f);
	yield* folio_put(f);
	const same = yield* locked(at, function* () {
		if (src.value !== before) return false;
		copy.flags |= PG_uptodate;
		yield* hugetlb_add_new_anon_rmap(copy, dst_vma, addr);
		const pte = make_huge_pte(dst_vma, copy.page, true);
		yield* set_pmd_at(dst_vma.vm_mm, addr, dst, pte as bigint);
		hugetlbCount(1, dst_vma);
		return true;
	});
	if (same) return 0;
	restore_reserve_on_error(h, dst_vma, addr, copy);
	yield* folio_put(copy);
	return null;
}

/** One entry: shared, or copied. */
function* copyEntry(at: Twins, cow: boolean): Sim<int> {
	for (;;) {
		const pinned = yield* locked(at, () => shareEntry(at, cow));
		if (pinned === null) return 0;
		const ret = yield* copyPinned(at, pinned);
		if (ret !== null) return ret;
	}
}

/**
 * Copy the entries of a hugetlb VMA for a fork.
 *
 * @param dst - the child's address space
 * @param src - the parent's
 * @param dst_vma - the child's VMA
 * @param src_vma - the parent's VMA
 * @retval 0 copied
 * @retval -ENOMEM no memory
 * @retval -ENOSPC a page that may be pinned must be copied, and the pool is empty
 * @context Sleeps. Both mmap locks are held for writing; the caller flushes the parent's TLB.
 * @kernel mm/hugetlb.c
 */
export function* copy_hugetlb_page_range(
	dst: mm_struct,
	src: mm_struct,
	dst_vma: vm_area_struct,
	src_vma: vm_area_struct,
): Sim<int> {
	const cow = is_cow_mapping(src_vma.vm_flags);
	const { vm_start, vm_end } = src_vma;
	const range = new mmu_notifier_range();
	if (cow) {
		mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, src, vm_start, vm_end);
		yield* mmu_notifier_invalidate_range_start(range);
	}
	let ret: int = 0;
	const size = huge_page_size(hstate_vma(src_vma));
	for (let addr = vm_start; addr < vm_end && ret === 0; addr += size) {
		const from = hugetlb_walk(src_vma, addr);
		if (from === null) continue;
		const to = yield* huge_pte_alloc(dst, dst_vma, addr);
		ret =
			to === null
				? -ENOMEM
				: yield* copyEntry(
						{ dst_vma, src_vma, dst: to, src: from, addr },
						cow,
					);
	}
	if (cow) yield* mmu_notifier_invalidate_range_end(range);
	return ret;
}

/** Gives one entry the new protection. Returns whether something was mapped. */
function* changeEntry(
	tlb: mmu_gather,
	vma: vm_area_struct,
	address: unsigned_long,
	newprot: pgprot_t,
): Sim<boolean> {
	const ptep = hugetlb_walk(vma, address);
	if (ptep === null) return false;
	const ptl = yield* pmd_lock(vma.vm_mm, ptep);
	const present = pte_present(ptep.value);
	if (present) {
		const old = yield* pmdp_huge_get_and_clear(vma.vm_mm, address, ptep);
		const pte = pte_modify(old as bigint, newprot);
		yield* set_pmd_at(vma.vm_mm, address, ptep, pte as bigint);
		tlb_flush_pte_range(tlb, address, huge_page_size(hstate_vma(vma)));
	}
	yield* spin_unlock(ptl);
	return present;
}

/**
 * Give the entries of a hugetlb range the protection of its VMA.
 *
 * @param vma - the VMA
 * @param address - first address, of a huge page
 * @param end - exclusive, of a huge page
 * @param newprot - the protection
 * @param _cp_flags - MM_CP_*; write access comes with a fault
 * @returns small pages changed
 * @context Sleeps. The mmap lock is held for writing.
 * @kernel mm/hugetlb.c
 */
export function* hugetlb_change_protection(
	vma: vm_area_struct,
	address: unsigned_long,
	end: unsigned_long,
	newprot: pgprot_t,
	_cp_flags: unsigned_long,
): Sim<number> {
	const h = hstate_vma(vma);
	const { i_mmap_rwsem } = vma.vm_file!.f_mapping!;
	const range = new mmu_notifier_range();
	mmu_notifier_range_init(range, MMU_NOTIFY_PROTECTION_VMA, 0, vma.vm_mm, address, end);
	const tlb = tlb_gather_mmu(vma.vm_mm);
	yield* mmu_notifier_invalidate_range_start(range);
	yield* down_write(i_mmap_rwsem);
	let pages = 0;
	for (let at = address; at < end; at += huge_page_size(h))
		if (yield* changeEntry(tlb, vma, at, newprot)) pages++;
	// flushed before truncation can give the pages back, and before devices map anew
	yield* tlb_flush_mmu_tlbonly(tlb);
	yield* up_write(i_mmap_rwsem);
	yield* mmu_notifier_invalidate_range_end(range);
	yield* tlb_finish_mmu(tlb);
	return pages << h.order;
}
