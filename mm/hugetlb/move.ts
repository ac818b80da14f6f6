// SPDX-License-Identifier: GPL-2.0-only
/** hugetlb mappings that move to another address. */
import { hstate_vma, huge_page_size, hugetlbDataOf } from '../../include/linux/hugetlb.ts';
import { SINGLE_DEPTH_NESTING } from '../../include/linux/lockdep.ts';
import type { vm_area_struct } from '../../include/linux/mm_types.ts';
import { MMU_NOTIFY_CLEAR, mmu_notifier_range } from '../../include/linux/mmu_notifier.ts';
import { pte_none, type TableEntry } from '../../include/linux/pgtable.ts';
import type { unsigned_long } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { down_write, up_write } from '../../kernel/locking/rwsem.ts';
import { spin_lock_nested, spin_unlock } from '../../kernel/locking/spinlock.ts';
import {
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
import { huge_pte_alloc, hugetlb_walk } from './entry.ts';

function* move_huge_pte(
	vma: vm_area_struct,
	old_addr: unsigned_long,
	new_addr: unsigned_long,
	src: TableEntry,
	dst: TableEntry,
): Sim<void> {
	const { vm_mm: mm } = vma;
	const dst_ptl = yield* pmd_lock(mm, dst);
	const src_ptl = pmd_lockptr(mm, src);
	if (src_ptl !== dst_ptl) yield* spin_lock_nested(src_ptl, SINGLE_DEPTH_NESTING);
	const pte = yield* pmdp_huge_get_and_clear(mm, old_addr, src);
	yield* set_pmd_at(mm, new_addr, dst, pte);
	if (src_ptl !== dst_ptl) yield* spin_unlock(src_ptl);
	yield* spin_unlock(dst_ptl);
}

/**
 * Move the entries of a hugetlb range.
 *
 * @param vma - where they are
 * @param new_vma - where they go
 * @param old_addr - first address
 * @param new_addr - first address there
 * @param len - bytes, whole huge pages
 * @returns bytes moved: fewer than asked for when there was no memory for tables
 * @context Sleeps. The mmap lock is held for writing.
 * @kernel mm/hugetlb.c
 */
export function* move_hugetlb_page_tables(
	vma: vm_area_struct,
	new_vma: vm_area_struct,
	old_addr: unsigned_long,
	new_addr: unsigned_long,
	len: unsigned_long,
): Sim<unsigned_long> {
	const size = huge_page_size(hstate_vma(vma));
	const { i_mmap_rwsem } = vma.vm_file!.f_mapping!;
	const range = new mmu_notifier_range();
	mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, vma.vm_mm, old_addr, old_addr + len);
	const tlb = tlb_gather_mmu(vma.vm_mm);
	yield* mmu_notifier_invalidate_range_start(range);
	yield* down_write(i_mmap_rwsem);
	let done = 0n;
	for (; done < len; done += size) {
		const src = hugetlb_walk(vma, old_addr + done);
		if (src === null || pte_none(src.value)) continue;
		const dst = yield* huge_pte_alloc(vma.vm_mm, new_vma, new_addr + done);
		if (dst === null) break;
		yield* move_huge_pte(vma, old_addr + done, new_addr + done, src, dst);
		tlb_flush_pte_range(tlb, old_addr + done, size);
	}
	// flushed before truncation can give the pages back, and before devices map anew
	yield* tlb_flush_mmu_tlbonly(tlb);
	yield* mmu_notifier_invalidate_range_end(range);
	yield* up_write(i_mmap_rwsem);
	yield* tlb_finish_mmu(tlb);
	return done;
}

/**
 * The reservations of a mapping that has moved belong to the new VMA alone.
 *
 * @param vma - the old VMA
 * @kernel mm/hugetlb.c
 */
export function clear_vma_resv_huge_pages(vma: vm_area_struct): void {
	const { resv } = hugetlbDataOf(vma);
	if (resv === null) return;
	resv.refs--;
	vma.vm_private_data = null;
}
