// SPDX-License-Identifier: GPL-2.0-only
/**
 * madvise().
 *
 * Guarantee: the advice is applied to what is mapped in the range; a gap makes the result -ENOMEM,
 * but what lies behind it is done all the same. Mechanism: a table from advice to what is done to
 * each VMA's part; whoever adds an advice adds a row.
 */
import { EINVAL, ENOMEM } from '../include/linux/errno.ts';
import {
	MADV_DONTNEED,
	VM_HUGEPAGE,
	VM_HUGETLB,
	VM_LOCKED,
	VM_NOHUGEPAGE,
	VM_PFNMAP,
	VM_SPECIAL,
} from '../include/linux/mm.ts';
import type { mm_struct, vm_area_struct } from '../include/linux/mm_types.ts';
import {
	type int,
	PAGE_MASK,
	PAGE_SIZE,
	type size_t,
	type unsigned_long,
	type vm_flags_t,
} from '../include/linux/types.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { vmaIndex } from './find_vma.ts';
import { zapDontneed } from './memory.ts';
import {
	mmap_read_lock,
	mmap_read_unlock,
	mmap_write_lock,
	mmap_write_unlock,
} from './mmap_lock.ts';
import { vma_modify_flags } from './vma.ts';

export const MADV_NORMAL = 0;
export const MADV_FREE = 8;
export const MADV_HUGEPAGE = 14;
export const MADV_NOHUGEPAGE = 15;
export const MADV_PAGEOUT = 21;
export const MADV_POPULATE_READ = 22;
export const MADV_POPULATE_WRITE = 23;
export const MADV_COLLAPSE = 25;

/** Empties the ptes of a part: the next touch finds zeros, or the file's page. */
function* madvise_dontneed_single_vma(vma: vm_area_struct, start: bigint, end: bigint): Sim<int> {
	if ((vma.vm_flags & (VM_LOCKED | VM_PFNMAP | VM_HUGETLB)) !== 0n) return -EINVAL;
	yield* zapDontneed(vma, start, end - start);
	return 0;
}

/** Flags of a part after MADV_HUGEPAGE or MADV_NOHUGEPAGE. */
function hugepageFlags(vma: vm_area_struct, behavior: int): vm_flags_t | int {
	// hugetlb and special mappings decide for themselves
	const never = VM_SPECIAL | VM_HUGETLB;
	if (behavior === MADV_HUGEPAGE)
		return (vma.vm_flags & never) !== 0n
			? -EINVAL
			: (vma.vm_flags & ~VM_NOHUGEPAGE) | VM_HUGEPAGE;
	return (vma.vm_flags & ~VM_HUGEPAGE) | VM_NOHUGEPAGE;
}

function* madvise_update_vma(
	vma: vm_area_struct,
	start: bigint,
	end: bigint,
	behavior: int,
): Sim<int> {
	const flags = hugepageFlags(vma, behavior);
	if (typeof flags === 'number') return flags;
	if (flags === vma.vm_flags) return 0;
	const part = yield* vma_modify_flags(vma, start, end, flags);
	if (typeof part === 'number') return part;
	part.vm_flags = flags;
	return 0;
}

/** What an advice does to the part of one VMA. */
function* madvise_vma_behavior(
	vma: vm_area_struct,
	start: bigint,
	end: bigint,
	behavior: int,
): Sim<int> {
	return behavior === MADV_DONTNEED
		? yield* madvise_dontneed_single_vma(vma, start, end)
		: yield* madvise_update_vma(vma, start, end, behavior);
}

/** Advices that are understood; FREE, PAGEOUT, POPULATE_* and COLLAPSE are not yet. */
function madvise_behavior_valid(behavior: int): boolean {
	return behavior === MADV_DONTNEED || madvise_need_mmap_write(behavior);
}

function madvise_need_mmap_write(behavior: int): boolean {
	return behavior === MADV_HUGEPAGE || behavior === MADV_NOHUGEPAGE;
}

/** Applies an advice VMA by VMA, over gaps. */
function* madvise_walk_vmas(mm: mm_struct, start: bigint, end: bigint, behavior: int): Sim<int> {
	let unmapped: int = 0;
	for (let at = start; at < end; ) {
		const vma = mm.vmas[vmaIndex(mm, at)];
		if (vma === undefined || vma.vm_start >= end) return -ENOMEM;
		if (vma.vm_start > at) {
			unmapped = -ENOMEM;
			at = vma.vm_start;
		}
		const stop = vma.vm_end < end ? vma.vm_end : end;
		const err = yield* madvise_vma_behavior(vma, at, stop, behavior);
		if (err !== 0) return err;
		at = stop;
	}
	return unmapped;
}

/**
 * madvise() of an address space.
 *
 * @param mm - address space
 * @param start - first address
 * @param len_in - length
 * @param behavior - MADV_*
 * @retval 0 done
 * @retval -EINVAL unknown advice, not aligned, or not for this kind of mapping
 * @retval -ENOMEM a gap in the range: what is mapped is done; or no memory
 * @context Sleeps. The mmap lock is not held.
 * @kernel mm/madvise.c
 */
export function* do_madvise(
	mm: mm_struct,
	start: unsigned_long,
	len_in: size_t,
	behavior: int,
): Sim<int> {
	if (!madvise_behavior_valid(behavior) || (start & ~PAGE_MASK) !== 0n) return -EINVAL;
	const end = start + ((len_in + PAGE_SIZE - 1n) & PAGE_MASK);
	if (end >= 1n << 64n) return -EINVAL;
	if (end === start) return 0;
	const write = madvise_need_mmap_write(behavior);
	if (write) yield* mmap_write_lock(mm);
	else yield* mmap_read_lock(mm);
	const ret = yield* madvise_walk_vmas(mm, start, end, behavior);
	if (write) yield* mmap_write_unlock(mm);
	else yield* mmap_read_unlock(mm);
	return ret;
}
