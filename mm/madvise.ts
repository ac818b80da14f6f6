// SPDX-License-Identifier: GPL-2.0-only
/**
 * madvise().
 *
 * Guarantee: the advice is applied to what is mapped in the range; a gap makes the result -ENOMEM,
 * but what lies behind it is done all the same. Mechanism: a table from advice to what is done to
 * each VMA's part; whoever adds an advice adds a row.
 *
 * | file | functions |
 * | --- | --- |
 * | madvise.ts | do_madvise, sys_madvise |
 * | madvise/free.ts | madvise_free_single_vma |
 * | madvise/guard.ts | madvise_guard_install, madvise_guard_remove |
 * | madvise/pageout.ts | madvise_pageout |
 *
 * @kernel mm/madvise.c
 */
import {
	EAGAIN,
	EFAULT,
	EHWPOISON,
	EINTR,
	EINVAL,
	ENOMEM,
	EOPNOTSUPP,
	ERESTARTNOINTR,
} from '../include/linux/errno.ts';
import {
	FOLL_GET,
	is_vm_hugetlb_page,
	MADV_DONTNEED,
	VM_HUGEPAGE,
	VM_LOCKED,
	VM_NOHUGEPAGE,
	VM_PFNMAP,
	VM_STICKY,
} from '../include/linux/mm.ts';
import {
	type mm_struct,
	type page,
	page_folio,
	type vm_area_struct,
} from '../include/linux/mm_types.ts';
import { folio_nr_pages } from '../include/linux/page-flags.ts';
import { current, fatal_signal_pending } from '../include/linux/sched.ts';
import {
	type bool,
	type int,
	type out,
	outParam,
	PAGE_MASK,
	PAGE_SIZE,
	PMD_MASK,
	type size_t,
	type unsigned_long,
	type vm_flags_t,
} from '../include/linux/types.ts';
import { retryRound } from '../include/sim/retry.ts';
import { preemptible, type Sim, schedulePoint } from '../include/sim/schedule.ts';
import { feature } from '../include/sim/world.ts';
import { vmaIndex } from './find_vma.ts';
import { faultin_page_range } from './gup/populate.ts';
import { get_user_pages_remote } from './gup.ts';
import { madvise_collapse } from './khugepaged.ts';
import { madvise_free_single_vma } from './madvise/free.ts';
import { madvise_guard_install, madvise_guard_remove } from './madvise/guard.ts';
import { madvise_pageout } from './madvise/pageout.ts';
import { zapDontneed } from './memory.ts';
import { memory_failure } from './memory-failure.ts';
import {
	mmap_read_lock,
	mmap_read_unlock,
	mmap_write_lock_killable,
	mmap_write_unlock,
} from './mmap_lock.ts';
import { vma_modify_flags } from './vma.ts';

export const MADV_FREE = 8;
export const MADV_HUGEPAGE = 14;
export const MADV_NOHUGEPAGE = 15;
export const MADV_PAGEOUT = 21;
export const MADV_POPULATE_READ = 22;
export const MADV_POPULATE_WRITE = 23;
export const MADV_COLLAPSE = 25;
export const MADV_HWPOISON = 100;
export const MADV_GUARD_INSTALL = 102;
export const MADV_GUARD_REMOVE = 103;

/**
 * Whether the contents of a part may be dropped.
 *
 * @param end - rounded down to whole pages of hugetlb: dropping more than asked for loses data
 */
function madvise_dontneed_free_valid_vma(
	vma: vm_area_struct,
	start: bigint,
	end: out<bigint>,
	behavior: int,
): bool {
	if (!is_vm_hugetlb_page(vma)) return (vma.vm_flags & (VM_LOCKED | VM_PFNMAP)) === 0n;
	if (behavior !== MADV_DONTNEED || (start & ~PMD_MASK) !== 0n) return false;
	end.value &= PMD_MASK;
	return true;
}

/** Drops the contents of a part: now, or when reclaim wants it. */
function* madvise_dontneed_free(
	vma: vm_area_struct,
	start: bigint,
	end: bigint,
	behavior: int,
): Sim<int> {
	const stop = outParam(end);
	if (!madvise_dontneed_free_valid_vma(vma, start, stop, behavior)) return -EINVAL;
	if (start === stop.value) return 0;
	if (behavior === MADV_FREE) return yield* madvise_free_single_vma(vma, start, stop.value);
	// empties the ptes: the next touch finds zeros, or the file's page
	yield* zapDontneed(vma, start, stop.value - start);
	return 0;
}

/** Flags of a part after MADV_HUGEPAGE or MADV_NOHUGEPAGE. */
function hugepage_madvise(vm_flags: vm_flags_t, advice: int): vm_flags_t {
	return advice === MADV_HUGEPAGE
		? (vm_flags & ~VM_NOHUGEPAGE) | VM_HUGEPAGE
		: (vm_flags & ~VM_HUGEPAGE) | VM_NOHUGEPAGE;
}

function* madvise_update_vma(
	vma: vm_area_struct,
	start: bigint,
	end: bigint,
	flags: vm_flags_t,
): Sim<int> {
	if (flags === vma.vm_flags) return 0;
	const part = yield* vma_modify_flags(vma, start, end, flags);
	if (typeof part === 'number') return part;
	part.vm_flags = flags | (part.vm_flags & VM_STICKY);
	return 0;
}

/** What an advice does to the part of one VMA. */
function* madvise_vma_behavior(
	vma: vm_area_struct,
	start: bigint,
	end: bigint,
	behavior: int,
): Sim<int> {
	switch (behavior) {
		case MADV_DONTNEED:
		case MADV_FREE:
			return yield* madvise_dontneed_free(vma, start, end, behavior);
		case MADV_PAGEOUT:
			return yield* madvise_pageout(vma, start, end);
		case MADV_GUARD_INSTALL:
			return yield* madvise_guard_install(vma, start, end);
		case MADV_GUARD_REMOVE:
			return yield* madvise_guard_remove(vma, start, end);
		case MADV_COLLAPSE:
			return yield* madvise_collapse(vma, start, end);
		default: {
			const flags = hugepage_madvise(vma.vm_flags, behavior);
			const err = yield* madvise_update_vma(vma, start, end, flags);
			// what is short now may be there later
			return err === -ENOMEM ? -EAGAIN : err;
		}
	}
}

/** Faults in all pages of a range; the mmap lock is held on entry and on return. */
function* madvise_populate(mm: mm_struct, start: bigint, end: bigint, behavior: int): Sim<int> {
	const write = behavior === MADV_POPULATE_WRITE;
	const locked = outParam<bool>(true);
	for (let at = start; at < end; ) {
		const pages = yield* faultin_page_range(mm, at, end, write, locked);
		if (!locked.value) yield* mmap_read_lock(mm);
		locked.value = true;
		if (pages < 0) {
			const told: readonly int[] = [-EINTR, -EINVAL, -EHWPOISON, -EFAULT];
			return told.includes(pages) ? pages : -ENOMEM;
		}
		at += BigInt(pages) * PAGE_SIZE;
	}
	return 0;
}

/** Makes pages of a range bad, of a large folio the first one that is met: the next is behind it. */
function* madvise_inject_error(mm: mm_struct, start: bigint, end: bigint): Sim<int> {
	for (let at = start, size = PAGE_SIZE; at < end; at += size) {
		const pages: page[] = [];
		yield* mmap_read_lock(mm);
		const got = yield* get_user_pages_remote(mm, at, 1n, FOLL_GET, pages);
		yield* mmap_read_unlock(mm);
		if (got !== 1) return got;
		// as it is now: it may be split by what follows
		size = BigInt(folio_nr_pages(page_folio(pages[0]!))) * PAGE_SIZE;
		const ret = yield* memory_failure(pages[0]!);
		if (ret !== 0 && ret !== -EOPNOTSUPP) return ret;
	}
	return 0;
}

/** Advices that are understood, and whether they need the mmap lock for writing. */
const behaviors: ReadonlyMap<int, 'none' | 'read' | 'write'> = new Map([
	[MADV_DONTNEED, 'read'],
	[MADV_FREE, 'read'],
	[MADV_PAGEOUT, 'read'],
	[MADV_HUGEPAGE, 'write'],
	[MADV_NOHUGEPAGE, 'write'],
	[MADV_POPULATE_READ, 'read'],
	[MADV_POPULATE_WRITE, 'read'],
	[MADV_COLLAPSE, 'read'],
	[MADV_GUARD_INSTALL, 'read'],
	[MADV_GUARD_REMOVE, 'read'],
	[MADV_HWPOISON, 'none'],
]);

/** Advices that came with guard pages. */
const guards: readonly int[] = [MADV_GUARD_INSTALL, MADV_GUARD_REMOVE];

function madvise_behavior_valid(behavior: int): boolean {
	return behaviors.has(behavior) && (feature('guard_pages') || !guards.includes(behavior));
}

function madvise_need_mmap_write(behavior: int): boolean {
	return behaviors.get(behavior) === 'write';
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
 * @retval -ENOMEM a gap in the range: what is mapped is done, or for MADV_POPULATE_* what lies before
 *   it; or no memory for a page
 * @retval -EAGAIN no memory for a VMA, or too many of them
 * @retval -EFAULT MADV_POPULATE_*, MADV_HWPOISON: the fault would end in a signal
 * @retval -EBUSY MADV_HWPOISON: a page of the kernel
 * @retval -EHWPOISON MADV_POPULATE_*: poisoned memory
 * @retval -EINTR killed
 * @retval -ERESTARTNOINTR MADV_GUARD_INSTALL: it is to begin again
 * @context Sleeps. The mmap lock is not held.
 * @deviates advices that change nothing that is modelled are refused with -EINVAL: those of readahead
 *   (MADV_NORMAL, RANDOM, SEQUENTIAL, WILLNEED), of core dumps and forks (DONTDUMP, DOFORK, DONTFORK,
 *   WIPEONFORK and their opposites), KSM's, MADV_REMOVE, MADV_COLD, MADV_DONTNEED_LOCKED and
 *   MADV_SOFT_OFFLINE
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
	if (behavior === MADV_HWPOISON) return yield* madvise_inject_error(mm, start, end);
	const write = madvise_need_mmap_write(behavior);
	if (!write) yield* mmap_read_lock(mm);
	else if ((yield* mmap_write_lock_killable(mm)) !== 0) return -EINTR;
	const ret =
		behavior === MADV_POPULATE_READ || behavior === MADV_POPULATE_WRITE
			? yield* madvise_populate(mm, start, end, behavior)
			: yield* madvise_walk_vmas(mm, start, end, behavior);
	if (write) yield* mmap_write_unlock(mm);
	else yield* mmap_read_unlock(mm);
	return ret;
}

/**
 * madvise() of the current task, begun again as long as it asks for that.
 *
 * @param start - first address
 * @param len_in - length
 * @param behavior - MADV_*
 * @returns as do_madvise()
 * @retval -EINTR killed
 * @context Process context. Sleeps. The mmap lock is not held.
 * @deviates begins again by itself: in the kernel the return to user space does that
 * @kernel mm/madvise.c
 */
export function* sys_madvise(start: unsigned_long, len_in: size_t, behavior: int): Sim<int> {
	const mm = current().mm!;
	for (let round = 1; ; round++) {
		const ret = yield* do_madvise(mm, start, len_in, behavior);
		if (ret !== -ERESTARTNOINTR) return ret;
		if (fatal_signal_pending(current())) return -EINTR;
		retryRound(
			round,
			'sys_madvise',
			'a marker by which a userfaultfd protects shared memory: unmapping leaves it',
		);
		if (preemptible()) yield schedulePoint('yield', mm);
	}
}
