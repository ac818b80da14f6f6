// SPDX-License-Identifier: GPL-2.0-only
/**
 * mlock(): pages that stay in memory.
 *
 * Guarantee: after mlock() returned 0 each page of the range is mapped, and reclaim leaves it alone
 * until the last VMA that locks it is unlocked or gone. Mechanism: VM_LOCKED, which splits and merges
 * VMAs as any flag; the folios that are mapped count how often they are locked; then the range is
 * populated.
 *
 * @kernel mm/mlock.c
 */
import { EAGAIN, EFAULT, EINTR, EINVAL, ENOMEM } from '../include/linux/errno.ts';
import {
	is_vm_hugetlb_page,
	VM_IO,
	VM_LOCKED,
	VM_SPECIAL,
	VM_STICKY,
} from '../include/linux/mm.ts';
import { type mm_struct, page_folio, type vm_area_struct } from '../include/linux/mm_types.ts';
import { pfn_to_page } from '../include/linux/mmzone.ts';
import {
	folio_is_zone_device,
	folio_nr_pages,
	folio_test_large,
} from '../include/linux/page-flags.ts';
import {
	ACTION_AGAIN,
	type mm_walk,
	type mm_walk_ops,
	PGWALK_WRLOCK_VERIFY,
} from '../include/linux/pagewalk.ts';
import { pmd_pfn, pmd_present, pte_present, type TableEntry } from '../include/linux/pgtable.ts';
import { current } from '../include/linux/sched.ts';
import type { spinlock_t } from '../include/linux/spinlock.ts';
import {
	type int,
	outParam,
	PAGE_MASK,
	PAGE_SIZE,
	type size_t,
	type unsigned_long,
	type vm_flags_t,
} from '../include/linux/types.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { spin_unlock } from '../kernel/locking/spinlock.ts';
import { vmaIndex } from './find_vma.ts';
import { __mm_populate } from './gup/populate.ts';
import { is_huge_zero_pmd } from './huge_memory.ts';
import { vm_normal_folio } from './memory.ts';
import { mlock_folio, munlock_folio } from './mlock_folio.ts';
import { mmap_write_lock_killable, mmap_write_unlock } from './mmap_lock.ts';
import { walk_page_range } from './pagewalk.ts';
import {
	nextEntry,
	pmd_trans_huge_lock,
	pmdIsHuge,
	pte_offset_map_lock,
	pte_unmap_unlock,
	ptep_get,
} from './pgtable.ts';
import { folio_pte_batch } from './util.ts';
import { vma_modify_flags } from './vma.ts';

/** Locks or unlocks a huge page; false: it is none any more. */
function* mlockHuge(vma: vm_area_struct, pmd: TableEntry): Sim<boolean> {
	const ptl = yield* pmd_trans_huge_lock(pmd, vma);
	if (ptl === null) return false;
	if (pmd_present(pmd.value) && !is_huge_zero_pmd(pmd.value)) {
		const f = page_folio(pfn_to_page(pmd_pfn(pmd.value)));
		if (!folio_is_zone_device(f)) {
			if ((vma.vm_flags & VM_LOCKED) !== 0n) mlock_folio(f);
			else munlock_folio(f);
		}
	}
	yield* spin_unlock(ptl);
	return true;
}

/** Locks or unlocks what the entries of one table map, as the flags of the VMA say now. */
function* mlock_pte_range(pmd: TableEntry, addr: bigint, end: bigint, walk: mm_walk): Sim<int> {
	const vma = walk.vma!;
	if (pmdIsHuge(pmd.value)) {
		if (!(yield* mlockHuge(vma, pmd))) walk.action = ACTION_AGAIN;
		return 0;
	}
	const ptl = outParam<spinlock_t | null>(null);
	const first = yield* pte_offset_map_lock(walk.mm, pmd, addr, ptl);
	if (first === null) {
		walk.action = ACTION_AGAIN;
		return 0;
	}
	const locks = (vma.vm_flags & VM_LOCKED) !== 0n;
	const pages = Number((end - addr) / PAGE_SIZE);
	for (let i = 0, step = 1; i < pages; i += step) {
		step = 1;
		const ptep = nextEntry(first, i);
		const word = ptep_get(ptep);
		if (!pte_present(word)) continue;
		const f = vm_normal_folio(vma, addr + BigInt(i) * PAGE_SIZE, word);
		if (f === null || folio_is_zone_device(f)) continue;
		// the mappings of a large folio count once
		if (folio_test_large(f)) step = folio_pte_batch(f, ptep, word, pages - i);
		// a part of it is not locked on its own, though it is unlocked
		if (locks && step !== folio_nr_pages(f)) continue;
		if (locks) mlock_folio(f);
		else munlock_folio(f);
	}
	yield* pte_unmap_unlock(first, ptl.value);
	return 0;
}

const mlock_walk_ops: mm_walk_ops = {
	pmd_entry: mlock_pte_range,
	walk_lock: PGWALK_WRLOCK_VERIFY,
};

/** Sets the flags of a VMA and counts its pages. */
function* mlock_vma_pages_range(
	vma: vm_area_struct,
	start: bigint,
	end: bigint,
	newflags: vm_flags_t,
): Sim<void> {
	// VM_IO never goes with VM_LOCKED: whoever maps a page meanwhile does not count it twice
	vma.vm_flags = (newflags & VM_LOCKED) !== 0n ? newflags | VM_IO : newflags;
	yield* walk_page_range(vma.vm_mm, start, end, mlock_walk_ops, null);
	vma.vm_flags = newflags;
}

/** Mappings whose pages are locked one by one: no driver's, no hugetlb; no file here is DAX's. */
function vma_supports_mlock(vma: vm_area_struct): boolean {
	return (vma.vm_flags & VM_SPECIAL) === 0n && !is_vm_hugetlb_page(vma);
}

/** Locks or unlocks a part of a VMA. */
function* mlock_fixup(
	vma: vm_area_struct,
	start: bigint,
	end: bigint,
	newflags: vm_flags_t,
): Sim<int> {
	const oldflags = vma.vm_flags;
	if (newflags === oldflags || !vma_supports_mlock(vma)) return 0;
	const part = yield* vma_modify_flags(vma, start, end, newflags);
	if (typeof part === 'number') return part;
	const pages = (end - start) >> 12n;
	vma.vm_mm.locked_vm += (newflags & VM_LOCKED) !== 0n ? pages : -pages;
	const sticky = part.vm_flags & VM_STICKY;
	yield* mlock_vma_pages_range(part, start, end, newflags | sticky);
	return 0;
}

/** Gives all VMAs of a range the flag or takes it; what lies before a gap is done. */
function* apply_vma_lock_flags(
	mm: mm_struct,
	start: bigint,
	len: bigint,
	flags: vm_flags_t,
): Sim<int> {
	const end = start + len;
	if (end >= 1n << 64n) return -EINVAL;
	for (let at = start; at < end; ) {
		const vma = mm.vmas[vmaIndex(mm, at)];
		if (vma === undefined || vma.vm_start > at) return -ENOMEM;
		const stop = vma.vm_end < end ? vma.vm_end : end;
		const err = yield* mlock_fixup(vma, at, stop, (vma.vm_flags & ~VM_LOCKED) | flags);
		if (err !== 0) return err;
		at = stop;
	}
	return 0;
}

/** Whole pages around a range. */
function wholePages(start: bigint, len: bigint): { readonly from: bigint; readonly size: bigint } {
	const size = (len + (start & ~PAGE_MASK) + PAGE_SIZE - 1n) & PAGE_MASK;
	return { from: start & PAGE_MASK, size };
}

function __mlock_posix_error_return(err: int): int {
	if (err === -EFAULT) return -ENOMEM;
	return err === -ENOMEM ? -EAGAIN : err;
}

/**
 * mlock() of the current task.
 *
 * @param start - first address
 * @param len - length
 * @retval 0 locked and in memory
 * @retval -ENOMEM a gap: what lies before it is locked and not populated; no access; or no memory
 *   for a VMA
 * @retval -EAGAIN no memory for a page
 * @retval -EINVAL beyond the end of all addresses
 * @retval -EINTR killed
 * @context Process context. Sleeps. The mmap lock is not held.
 * @deviates no RLIMIT_MEMLOCK, as for root
 * @kernel mm/mlock.c
 */
export function* sys_mlock(start: unsigned_long, len: size_t): Sim<int> {
	const mm = current().mm!;
	const { from, size } = wholePages(start, len);
	if ((yield* mmap_write_lock_killable(mm)) !== 0) return -EINTR;
	const error = yield* apply_vma_lock_flags(mm, from, size, VM_LOCKED);
	yield* mmap_write_unlock(mm);
	if (error !== 0) return error;
	return __mlock_posix_error_return(yield* __mm_populate(from, size, false));
}

/**
 * munlock() of the current task.
 *
 * @param start - first address
 * @param len - length
 * @retval 0 unlocked
 * @retval -ENOMEM a gap, or no memory for a VMA; what lies before is unlocked
 * @retval -EINVAL beyond the end of all addresses
 * @retval -EINTR killed
 * @context Process context. Sleeps. The mmap lock is not held.
 * @kernel mm/mlock.c
 */
export function* sys_munlock(start: unsigned_long, len: size_t): Sim<int> {
	const mm = current().mm!;
	const { from, size } = wholePages(start, len);
	if ((yield* mmap_write_lock_killable(mm)) !== 0) return -EINTR;
	const ret = yield* apply_vma_lock_flags(mm, from, size, 0n);
	yield* mmap_write_unlock(mm);
	return ret;
}
