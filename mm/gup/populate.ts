// SPDX-License-Identifier: GPL-2.0-only
/**
 * Faulting pages in ahead of their use: MADV_POPULATE_READ, MADV_POPULATE_WRITE, mlock().
 *
 * Guarantee: the pages that are counted were mapped as asked for, each at some moment. Mechanism:
 * look, fault, look again. A fault may drop the mmap lock; the page is then asked for once more, by
 * a fault that says it comes for the second time.
 *
 * @kernel mm/gup.c
 */
import { EAGAIN, EBUSY, EEXIST, EFAULT, EINTR, EINVAL, ENOMEM } from '../../include/linux/errno.ts';
import {
	FOLL_FORCE,
	FOLL_HWPOISON,
	FOLL_TOUCH,
	FOLL_TRIED,
	FOLL_UNLOCKABLE,
	FOLL_WRITE,
	VM_ACCESS_FLAGS,
	VM_IO,
	VM_PFNMAP,
	VM_SHARED,
	VM_WRITE,
	vm_fault_to_errno,
} from '../../include/linux/mm.ts';
import {
	FAULT_FLAG_ALLOW_RETRY,
	FAULT_FLAG_KILLABLE,
	FAULT_FLAG_TRIED,
	FAULT_FLAG_WRITE,
	type mm_struct,
	VM_FAULT_COMPLETED,
	VM_FAULT_ERROR,
	VM_FAULT_RETRY,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import { current, fatal_signal_pending } from '../../include/linux/sched.ts';
import {
	type bool,
	type int,
	type out,
	outParam,
	PAGE_SIZE,
	type unsigned_int,
	type unsigned_long,
} from '../../include/linux/types.ts';
import { retryRound } from '../../include/sim/retry.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { find_vma_intersection, vma_lookup } from '../find_vma.ts';
import { follow_page_mask } from '../gup.ts';
import { handle_mm_fault } from '../memory.ts';
import { mmap_assert_locked, mmap_read_lock, mmap_read_unlock } from '../mmap_lock.ts';
import { lru_add_drain } from '../swap.ts';
import { check_vma_flags } from './check.ts';

/** Handles one fault; 0 look again, -EBUSY or -EAGAIN the lock was dropped, else what failed. */
function* faultin_page(
	vma: vm_area_struct,
	address: bigint,
	flags: unsigned_int,
	locked: out<bool>,
): Sim<int> {
	let fault_flags = flags & FOLL_WRITE ? FAULT_FLAG_WRITE : 0;
	if (flags & FOLL_UNLOCKABLE) fault_flags |= FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE;
	if (flags & FOLL_TRIED) fault_flags |= FAULT_FLAG_TRIED;
	const ret = yield* handle_mm_fault(vma, address, fault_flags, null);
	if (ret & VM_FAULT_COMPLETED) {
		locked.value = false;
		return -EAGAIN;
	}
	if (ret & VM_FAULT_ERROR) return vm_fault_to_errno(ret, flags);
	if (ret & VM_FAULT_RETRY) {
		locked.value = false;
		return -EBUSY;
	}
	return 0;
}

/** One page: 0 it is there; -EAGAIN the lock was dropped; else what failed. */
function* populatePage(
	vma: vm_area_struct,
	address: bigint,
	flags: unsigned_int,
	locked: out<bool>,
): Sim<int> {
	for (let round = 0; ; round++) {
		retryRound(
			round,
			'__get_user_pages',
			'a fault handler that reports success and maps nothing',
		);
		if (fatal_signal_pending(current())) return -EINTR;
		const found = yield* follow_page_mask(vma, address, flags);
		// what has no struct page is there as well
		if (typeof found !== 'number' && found !== null) return 0;
		if (found === -EEXIST) return 0;
		if (found !== null) return found as int;
		const err = yield* faultin_page(vma, address, flags, locked);
		if (err === -EBUSY || err === -EAGAIN) return -EAGAIN;
		if (err !== 0) return err;
	}
}

/**
 * Pages in a row as long as the lock is held: how many, or what failed at the first one; 0 with
 * the lock dropped: the first one is to be asked for again.
 *
 * @param lookup - finds the VMA of an address, or says what its absence or its flags mean
 */
function* populatePages(
	start: bigint,
	nr_pages: bigint,
	flags: unsigned_int,
	locked: out<bool>,
	lookup: (address: bigint) => vm_area_struct | int,
): Sim<int> {
	let vma: vm_area_struct | null = null;
	for (let i = 0; BigInt(i) < nr_pages; i++) {
		const address = start + BigInt(i) * PAGE_SIZE;
		if (vma === null || address >= vma.vm_end) {
			const found = lookup(address);
			if (typeof found === 'number') return i > 0 ? i : found;
			vma = found;
		}
		const err = yield* populatePage(vma, address, flags, locked);
		if (err !== 0) return i > 0 || err === -EAGAIN ? i : err;
	}
	return Number(nr_pages);
}

/**
 * Fault pages in as an access would, over the boundaries of VMAs.
 *
 * @param mm - address space
 * @param start - first address, page aligned
 * @param end - exclusive
 * @param write - to be written to
 * @param locked - out: false if the mmap lock was dropped on the way
 * @returns pages faulted in, which may be fewer than asked for
 * @retval -EINVAL the first one is in a VMA that does not allow it
 * @retval -ENOMEM no VMA, or no memory
 * @retval -EFAULT the fault ended in a signal
 * @retval -EHWPOISON poisoned memory
 * @retval -EINTR killed
 * @context Sleeps. The mmap lock is held for reading on entry.
 * @kernel mm/gup.c
 */
export function* faultin_page_range(
	mm: mm_struct,
	start: unsigned_long,
	end: unsigned_long,
	write: bool,
	locked: out<bool>,
): Sim<int> {
	mmap_assert_locked(mm);
	const flags = FOLL_TOUCH | FOLL_HWPOISON | FOLL_UNLOCKABLE | (write ? FOLL_WRITE : 0);
	const lookup = (address: bigint): vm_area_struct | int => {
		const vma = vma_lookup(mm, address);
		if (vma === null) return -ENOMEM;
		return check_vma_flags(vma, flags) !== 0 ? -EINVAL : vma;
	};
	let dropped = false;
	let done = 0;
	let ret = 0;
	for (let round = 0; ; round++) {
		retryRound(round, 'faultin_page_range', 'a fault that drops the mmap lock forever');
		const at = start + BigInt(done) * PAGE_SIZE;
		// after a drop: one page, by a fault that has been tried
		const again = !locked.value;
		if (again) {
			if (fatal_signal_pending(current())) {
				ret = -EINTR;
				break;
			}
			yield* mmap_read_lock(mm);
			locked.value = true;
		}
		const nr = again ? 1n : (end - at) / PAGE_SIZE;
		const how = again ? flags | FOLL_TRIED : flags;
		ret = yield* populatePages(at, nr, how, locked, lookup);
		dropped ||= !locked.value;
		if (ret > 0) done += ret;
		if (start + BigInt(done) * PAGE_SIZE >= end) break;
		// it ended by itself
		if (locked.value && BigInt(ret) < nr) break;
	}
	if (dropped && locked.value) {
		yield* mmap_read_unlock(mm);
		locked.value = false;
	}
	lru_add_drain();
	return done > 0 ? done : ret;
}

/**
 * Fault in pages of a VMA as far as its protection allows: by writes where that breaks COW.
 *
 * @param vma - the VMA
 * @param start - first address, inside
 * @param end - exclusive, inside
 * @param locked - out: false if the mmap lock was dropped
 * @returns pages faulted in, which may be fewer than asked for
 * @retval -EFAULT PROT_NONE, a device's mapping, or the fault ended in a signal
 * @retval -ENOMEM no memory
 * @retval -EINTR killed
 * @context Sleeps. The mmap lock is held for reading on entry.
 * @kernel mm/gup.c
 */
export function* populate_vma_page_range(
	vma: vm_area_struct,
	start: unsigned_long,
	end: unsigned_long,
	locked: out<bool>,
): Sim<int> {
	mmap_assert_locked(vma.vm_mm);
	if ((vma.vm_flags & VM_ACCESS_FLAGS) === 0n) return -EFAULT;
	const cow = (vma.vm_flags & (VM_WRITE | VM_SHARED)) === VM_WRITE;
	const flags = FOLL_TOUCH | FOLL_UNLOCKABLE | (cow ? FOLL_WRITE : FOLL_FORCE);
	const allowed = check_vma_flags(vma, flags);
	if (allowed !== 0) return allowed;
	const nr = (end - start) / PAGE_SIZE;
	const ret = yield* populatePages(start, nr, flags, locked, () => vma);
	lru_add_drain();
	return ret;
}

/**
 * Fault in all pages of a range of the current task, holes and devices' mappings left out.
 *
 * @param start - first address, page aligned
 * @param len - length
 * @param ignore_errors - go on with the next VMA
 * @retval 0 done
 * @returns else an errno of populate_vma_page_range()
 * @context Sleeps. The mmap lock is not held.
 * @kernel mm/gup.c
 */
export function* __mm_populate(
	start: unsigned_long,
	len: unsigned_long,
	ignore_errors: bool,
): Sim<int> {
	const mm = current().mm!;
	const end = start + len;
	const locked = outParam<bool>(false);
	let ret: int = 0;
	let round = 0;
	for (let at = start; at < end; ) {
		retryRound(round++, '__mm_populate', 'a fault that drops the mmap lock forever');
		if (!locked.value) {
			yield* mmap_read_lock(mm);
			locked.value = true;
		}
		const vma = find_vma_intersection(mm, at, end);
		if (vma === null) break;
		const stop = vma.vm_end < end ? vma.vm_end : end;
		if ((vma.vm_flags & (VM_IO | VM_PFNMAP)) !== 0n) {
			at = stop;
			continue;
		}
		if (at < vma.vm_start) at = vma.vm_start;
		ret = yield* populate_vma_page_range(vma, at, stop, locked);
		if (ret < 0) {
			if (!ignore_errors) break;
			at = stop;
		} else if (ret > 0) {
			at += BigInt(ret) * PAGE_SIZE;
			round = 0;
		}
		ret = 0;
	}
	if (locked.value) yield* mmap_read_unlock(mm);
	return ret;
}
