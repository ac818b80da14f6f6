// SPDX-License-Identifier: GPL-2.0-only
/**
 * Unmapping a range: split at both ends, take the VMAs out, empty their page tables, free these.
 *
 * ```
 *   before    prev |    first    |   |  last       | next
 *   range            [start                 end)
 *   gather    prev | |  first    |   |  last|      | next     two splits, then out of mm.vmas
 *   clear              zap: UNMAP event over [start, end), then free_pgtables between prev and next
 * ```
 */
import { EINTR, EINVAL, ENOMEM } from '../../include/linux/errno.ts';
import { TASK_SIZE, VM_LOCKED } from '../../include/linux/mm.ts';
import type { mm_struct, vm_area_struct } from '../../include/linux/mm_types.ts';
import { current } from '../../include/linux/sched.ts';
import {
	type int,
	PAGE_MASK,
	PAGE_SIZE,
	type size_t,
	type unsigned_long,
} from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { vmaIndex } from '../find_vma.ts';
import { FIRST_USER_ADDRESS, free_pgtables, USER_PGTABLES_CEILING } from '../free_pgtables.ts';
import { unmap_vmas } from '../memory.ts';
import {
	mmap_assert_write_locked,
	mmap_read_unlock,
	mmap_write_downgrade,
	mmap_write_lock_killable,
	mmap_write_unlock,
} from '../mmap_lock.ts';
import { tlb_finish_mmu, tlb_gather_mmu } from '../mmu_gather.ts';
import { __split_vma, sysctl_max_map_count } from './adjust.ts';
import { remove_vma } from './area.ts';

/** VMAs taken out of an mm, and what stays around them. */
export interface DetachedVmas {
	readonly vmas: vm_area_struct[];
	readonly floor: unsigned_long;
	readonly ceiling: unsigned_long;
}

/**
 * Take the VMAs of a range out of an address space, split at its ends.
 *
 * @param mm - address space
 * @param start - first address, page aligned
 * @param end - exclusive
 * @returns the VMAs, or null: a split failed, nothing is taken out
 * @context Sleeps. The mmap lock is held for writing.
 * @kernel mm/vma.c
 */
export function* vms_gather_munmap_vmas(
	mm: mm_struct,
	start: unsigned_long,
	end: unsigned_long,
): Sim<DetachedVmas | int> {
	mmap_assert_write_locked(mm);
	const first = mm.vmas[vmaIndex(mm, start)];
	if (first !== undefined && first.vm_start < start && first.vm_end > start) {
		// a hole in the middle makes one VMA more
		if (end < first.vm_end && mm.vmas.length >= sysctl_max_map_count) return -ENOMEM;
		const err = yield* __split_vma(first, start, 1);
		if (err !== 0) return err;
	}
	const from = vmaIndex(mm, start);
	const lastAt = vmaIndex(mm, end - 1n);
	const last = mm.vmas[lastAt];
	if (last !== undefined && last.vm_start < end && last.vm_end > end) {
		const err = yield* __split_vma(last, end, 0);
		if (err !== 0) return err;
	}
	let to = from;
	while (to < mm.vmas.length && mm.vmas[to]!.vm_end <= end) to++;
	const vmas = mm.vmas.splice(from, to - from);
	for (const { vm_start, vm_end, vm_flags } of vmas) {
		const pages = (vm_end - vm_start) >> 12n;
		mm.total_vm -= pages;
		if ((vm_flags & VM_LOCKED) !== 0n) mm.locked_vm -= pages;
	}
	return {
		vmas,
		floor: mm.vmas[from - 1]?.vm_end ?? FIRST_USER_ADDRESS,
		ceiling: mm.vmas[from]?.vm_start ?? USER_PGTABLES_CEILING,
	};
}

/**
 * Unmap VMAs that are taken out, and let them go.
 *
 * @param mm - address space
 * @param detached - what vms_gather_munmap_vmas() gave
 * @param start - first address
 * @param end - exclusive
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/vma.c
 */
export function* vms_complete_munmap_vmas(
	mm: mm_struct,
	{ vmas, floor, ceiling }: DetachedVmas,
	start: unsigned_long,
	end: unsigned_long,
): Sim<void> {
	if (vmas.length === 0) return;
	const tlb = tlb_gather_mmu(mm);
	yield* unmap_vmas(tlb, vmas, start, end);
	yield* free_pgtables(tlb, vmas, floor, ceiling);
	yield* tlb_finish_mmu(tlb);
	for (const vma of vmas) yield* remove_vma(vma);
}

/**
 * Empty the page tables of a VMA that never came into the address space: a driver's mmap() failed
 * after it had mapped something.
 *
 * @param mm - address space
 * @param vma - its neighbours are those that are there
 * @context Sleeps. The mmap lock is held for writing.
 * @kernel mm/vma.c
 */
export function* unmap_region(mm: mm_struct, vma: vm_area_struct): Sim<void> {
	const at = vmaIndex(mm, vma.vm_start);
	const tlb = tlb_gather_mmu(mm);
	yield* unmap_vmas(tlb, [vma], vma.vm_start, vma.vm_end);
	const floor = mm.vmas[at - 1]?.vm_end ?? FIRST_USER_ADDRESS;
	const ceiling = mm.vmas[at]?.vm_start ?? USER_PGTABLES_CEILING;
	yield* free_pgtables(tlb, [vma], floor, ceiling);
	yield* tlb_finish_mmu(tlb);
}

/**
 * Unmap a range.
 *
 * @param mm - address space
 * @param start - first address
 * @param len - length
 * @param unlock - the mmap lock is left on success: for writing until the VMAs are out, then for
 *   reading
 * @retval 0 nothing is mapped there any more
 * @retval -EINVAL not aligned, empty, or not user addresses
 * @retval -ENOMEM a split failed; nothing was unmapped
 * @context Sleeps. The mmap lock is held for writing.
 * @deviates neither the iterator nor a list of userfaultfd contexts is passed
 * @kernel mm/vma.c
 */
export function* do_vmi_munmap(
	mm: mm_struct,
	start: unsigned_long,
	len: size_t,
	unlock: boolean,
): Sim<int> {
	if ((start & ~PAGE_MASK) !== 0n || start > TASK_SIZE || len > TASK_SIZE - start)
		return -EINVAL;
	const end = start + ((len + PAGE_SIZE - 1n) & PAGE_MASK);
	if (end === start) return -EINVAL;
	const detached = yield* vms_gather_munmap_vmas(mm, start, end);
	if (typeof detached === 'number') return detached;
	if (unlock) yield* mmap_write_downgrade(mm);
	yield* vms_complete_munmap_vmas(mm, detached, start, end);
	if (unlock) yield* mmap_read_unlock(mm);
	return 0;
}

/**
 * Unmap a range.
 *
 * @param mm - address space
 * @param start - first address
 * @param len - length
 * @retval 0 nothing is mapped there any more
 * @retval -EINVAL not aligned, empty, or not user addresses
 * @retval -ENOMEM a split failed; nothing was unmapped
 * @context Sleeps. The mmap lock is held for writing.
 * @deviates no list of userfaultfd contexts
 * @kernel mm/mmap.c
 */
export function* do_munmap(mm: mm_struct, start: unsigned_long, len: size_t): Sim<int> {
	return yield* do_vmi_munmap(mm, start, len, false);
}

/**
 * munmap() of the current task.
 *
 * @param start - first address
 * @param len - length
 * @retval 0 nothing is mapped there any more
 * @retval -EINTR killed while it waited for the mmap lock
 * @retval -EINVAL not aligned, empty, or not user addresses
 * @retval -ENOMEM a split failed; nothing was unmapped
 * @context Sleeps. The mmap lock is not held.
 * @kernel mm/mmap.c
 */
export function* vm_munmap(start: unsigned_long, len: size_t): Sim<int> {
	const mm = current().mm!;
	if ((yield* mmap_write_lock_killable(mm)) !== 0) return -EINTR;
	const ret = yield* do_vmi_munmap(mm, start, len, true);
	if (ret !== 0) yield* mmap_write_unlock(mm);
	return ret;
}
