// SPDX-License-Identifier: GPL-2.0-only
/**
 * Which VMAs a userfaultfd watches, and for what.
 *
 * Guarantee: a VMA has a context if and only if it has VM_UFFD_* flags; no entry has the uffd bit
 * when its VMA is not watched any more. Mechanism: registration splits and merges VMAs as any flag
 * does, with the context as one more thing to be equal in.
 */
import { EBUSY, EINVAL, ENOMEM, EPERM } from '../../include/linux/errno.ts';
import {
	is_vm_hugetlb_page,
	MM_CP_TRY_CHANGE_WRITABLE,
	MM_CP_UFFD_RWP_RESOLVE,
	MM_CP_UFFD_WP_RESOLVE,
	TASK_SIZE,
	VM_ACCESS_FLAGS,
	VM_MAYWRITE,
	VM_SPECIAL,
	VM_UFFD_MISSING,
	VM_UFFD_RWP,
	VM_UFFD_WP,
	vma_is_anonymous,
} from '../../include/linux/mm.ts';
import type { mm_struct, vm_area_struct } from '../../include/linux/mm_types.ts';
import {
	type bool,
	type int,
	PAGE_MASK,
	type u64,
	type unsigned_long,
	type vm_flags_t,
} from '../../include/linux/types.ts';
import {
	__VM_UFFD_FLAGS,
	type userfaultfd_ctx,
	userfaultfd_missing,
	userfaultfd_protected,
	userfaultfd_rwp,
	userfaultfd_wp,
} from '../../include/linux/userfaultfd_k.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import {
	UFFD_FEATURE_RWP,
	UFFDIO_REGISTER_MODE_MISSING,
	UFFDIO_REGISTER_MODE_RWP,
	UFFDIO_REGISTER_MODE_WP,
} from '../../include/uapi/linux/userfaultfd.ts';
import { mmget_not_zero, mmput } from '../exec_mm.ts';
import { vmaIndex } from '../find_vma.ts';
import { mmap_write_lock, mmap_write_unlock } from '../mmap_lock.ts';
import { tlb_finish_mmu, tlb_gather_mmu } from '../mmu_gather.ts';
import { change_protection } from '../mprotect.ts';
import { vma_is_shmem } from '../shmem.ts';
import {
	userfaultfd_set_ctx,
	vma_modify_flags_uffd,
	vma_wants_manual_pte_write_upgrade,
} from '../vma.ts';
import { wake_userfault } from './fault.ts';

/**
 * Whether a range of user addresses makes sense.
 *
 * @param start - first address
 * @param len - length
 * @retval 0 it does
 * @retval -EINVAL not aligned, empty, or not user addresses
 * @kernel mm/userfaultfd.c
 */
export function validate_range(start: u64, len: u64): int {
	if (((start | len) & ~PAGE_MASK) !== 0n || len === 0n) return -EINVAL;
	return start >= TASK_SIZE || len > TASK_SIZE - start ? -EINVAL : 0;
}

/**
 * Whether a mapping can be watched at all.
 *
 * @deviates hugetlb cannot: its faults and its protection do not know userfaultfd here
 */
function vma_can_userfault(vma: vm_area_struct): bool {
	if (is_vm_hugetlb_page(vma) || (vma.vm_flags & VM_SPECIAL) !== 0n) return false;
	return vma_is_anonymous(vma) || vma_is_shmem(vma);
}

/** VMAs that overlap a range. */
function vmasOf(mm: mm_struct, start: bigint, end: bigint): vm_area_struct[] {
	const found: vm_area_struct[] = [];
	for (let i = vmaIndex(mm, start); i < mm.vmas.length && mm.vmas[i]!.vm_start < end; i++)
		found.push(mm.vmas[i]!);
	return found;
}

/** Calls a function for the part of each VMA in a range, which may split and merge them. */
function* eachPart(
	mm: mm_struct,
	start: bigint,
	end: bigint,
	fn: (vma: vm_area_struct, from: bigint, to: bigint) => Sim<int>,
): Sim<int> {
	for (let at = start; at < end; ) {
		const vma = mm.vmas[vmaIndex(mm, at)];
		if (vma === undefined || vma.vm_start >= end) return 0;
		const from = vma.vm_start > at ? vma.vm_start : at;
		const to = vma.vm_end < end ? vma.vm_end : end;
		const err = yield* fn(vma, from, to);
		if (err !== 0) return err;
		at = to;
	}
	return 0;
}

/** Whether a VMA may be watched so; 0 or -errno. */
function mayRegister(ctx: userfaultfd_ctx, vma: vm_area_struct, vm_flags: vm_flags_t): int {
	if (!vma_can_userfault(vma)) return -EINVAL;
	// nothing would make a page of it accessible again
	const accessible = (vma.vm_flags & VM_ACCESS_FLAGS) !== 0n;
	if ((vm_flags & VM_UFFD_RWP) !== 0n && !accessible) return -EINVAL;
	if ((vma.vm_flags & VM_MAYWRITE) === 0n) return -EPERM;
	const owner = vma.vm_userfaultfd_ctx;
	if (owner !== null && owner !== ctx) return -EBUSY;
	// entries with the uffd bit would be left without the flag that says what it means
	const dropped = vma.vm_flags & (VM_UFFD_WP | VM_UFFD_RWP) & ~vm_flags;
	return feature('userfaultfd_rwp') && owner === ctx && dropped !== 0n ? -EBUSY : 0;
}

/** VM_UFFD_* of a mode; -EINVAL if it makes no sense. */
function flagsOfMode(ctx: userfaultfd_ctx, mode: u64): vm_flags_t | int {
	const known =
		UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_RWP;
	if (mode === 0n || (mode & ~known) !== 0n) return -EINVAL;
	let vm_flags: vm_flags_t = 0n;
	if (mode & UFFDIO_REGISTER_MODE_MISSING) vm_flags |= VM_UFFD_MISSING;
	if (mode & UFFDIO_REGISTER_MODE_WP) vm_flags |= VM_UFFD_WP;
	if (mode & UFFDIO_REGISTER_MODE_RWP) {
		if ((ctx.features & UFFD_FEATURE_RWP) === 0n) return -EINVAL;
		vm_flags |= VM_UFFD_RWP;
	}
	// both would use the one bit of an entry
	const both = VM_UFFD_WP | VM_UFFD_RWP;
	return (vm_flags & both) === both ? -EINVAL : vm_flags;
}

function* userfaultfd_register_range(
	ctx: userfaultfd_ctx,
	vm_flags: vm_flags_t,
	start: bigint,
	end: bigint,
): Sim<int> {
	return yield* eachPart(ctx.mm, start, end, function* (vma, from, to): Sim<int> {
		if (vma.vm_userfaultfd_ctx === ctx && (vma.vm_flags & vm_flags) === vm_flags)
			return 0;
		const flags = (vma.vm_flags & ~__VM_UFFD_FLAGS) | vm_flags;
		const part = yield* vma_modify_flags_uffd(vma, from, to, flags, ctx);
		if (typeof part === 'number') return part;
		userfaultfd_set_ctx(part, ctx, flags);
		return 0;
	});
}

/** All VMAs of a range, or what forbids it. */
function* registerLocked(
	ctx: userfaultfd_ctx,
	vm_flags: vm_flags_t,
	start: bigint,
	end: bigint,
): Sim<int> {
	const vmas = vmasOf(ctx.mm, start, end);
	if (vmas.length === 0) return -EINVAL;
	for (const vma of vmas) {
		const err = mayRegister(ctx, vma, vm_flags);
		if (err !== 0) return err;
	}
	return yield* userfaultfd_register_range(ctx, vm_flags, start, end);
}

/**
 * UFFDIO_REGISTER: watch a range.
 *
 * @param ctx - the userfaultfd
 * @param start - first address
 * @param len - length; holes are left out
 * @param mode - UFFDIO_REGISTER_MODE_* bits
 * @retval 0 it is watched
 * @retval -EINVAL a range or mode that makes no sense, nothing is mapped there, or no such mapping
 * @retval -EPERM a mapping that may never be written to
 * @retval -EBUSY another userfaultfd watches it, or a protection mode would be dropped
 * @retval -ENOMEM no memory, too many VMAs, or the address space is gone
 * @context Process context. Sleeps. The mmap lock is not held.
 * @deviates the members of struct uffdio_register one by one
 * @kernel mm/userfaultfd.c
 */
export function* userfaultfd_register(
	ctx: userfaultfd_ctx,
	start: unsigned_long,
	len: unsigned_long,
	mode: u64,
): Sim<int> {
	const vm_flags = flagsOfMode(ctx, mode);
	if (typeof vm_flags === 'number') return vm_flags;
	const invalid = validate_range(start, len);
	if (invalid !== 0) return invalid;
	if (!mmget_not_zero(ctx.mm)) return -ENOMEM;
	yield* mmap_write_lock(ctx.mm);
	const ret = yield* registerLocked(ctx, vm_flags, start, start + len);
	yield* mmap_write_unlock(ctx.mm);
	yield* mmput(ctx.mm);
	return ret;
}

/**
 * Watch a part of a VMA no more: its entries lose the uffd bit, the VMA the flags.
 *
 * @param vma - the VMA
 * @param start - first address, inside
 * @param end - exclusive
 * @returns the VMA that the part is in now
 * @retval -ENOMEM no memory, or too many VMAs
 * @context Sleeps. The mmap lock is held for writing.
 * @kernel mm/userfaultfd.c
 */
export function* userfaultfd_clear_vma(
	vma: vm_area_struct,
	start: unsigned_long,
	end: unsigned_long,
): Sim<vm_area_struct | int> {
	if (userfaultfd_protected(vma)) {
		let cp = 0n;
		if (userfaultfd_wp(vma)) cp |= MM_CP_UFFD_WP_RESOLVE;
		if (userfaultfd_rwp(vma)) cp |= MM_CP_UFFD_RWP_RESOLVE;
		if (vma_wants_manual_pte_write_upgrade(vma)) cp |= MM_CP_TRY_CHANGE_WRITABLE;
		const tlb = tlb_gather_mmu(vma.vm_mm);
		yield* change_protection(tlb, vma, start, end, cp);
		yield* tlb_finish_mmu(tlb);
	}
	const flags = vma.vm_flags & ~__VM_UFFD_FLAGS;
	const part = yield* vma_modify_flags_uffd(vma, start, end, flags, null);
	if (typeof part === 'number') return part;
	userfaultfd_set_ctx(part, null, flags);
	return part;
}

function* unregisterLocked(ctx: userfaultfd_ctx, start: bigint, end: bigint): Sim<int> {
	const vmas = vmasOf(ctx.mm, start, end);
	if (vmas.length === 0) return -EINVAL;
	if (vmas.some((vma) => !vma_can_userfault(vma))) return -EINVAL;
	return yield* eachPart(ctx.mm, start, end, function* (vma, from, to): Sim<int> {
		const owner = vma.vm_userfaultfd_ctx;
		if (owner === null) return 0;
		if (userfaultfd_missing(vma)) wake_userfault(owner, from, to - from);
		const part = yield* userfaultfd_clear_vma(vma, from, to);
		return typeof part === 'number' ? part : 0;
	});
}

/**
 * UFFDIO_UNREGISTER: watch a range no more.
 *
 * @param ctx - the userfaultfd
 * @param start - first address
 * @param len - length
 * @retval 0 it is not watched
 * @retval -EINVAL a range that makes no sense, nothing is mapped there, or no such mapping
 * @retval -ENOMEM no memory, too many VMAs, or the address space is gone
 * @context Process context. Sleeps. The mmap lock is not held.
 * @deviates the members of struct uffdio_range one by one
 * @kernel mm/userfaultfd.c
 */
export function* userfaultfd_unregister(
	ctx: userfaultfd_ctx,
	start: unsigned_long,
	len: unsigned_long,
): Sim<int> {
	const invalid = validate_range(start, len);
	if (invalid !== 0) return invalid;
	if (!mmget_not_zero(ctx.mm)) return -ENOMEM;
	yield* mmap_write_lock(ctx.mm);
	const ret = yield* unregisterLocked(ctx, start, start + len);
	yield* mmap_write_unlock(ctx.mm);
	yield* mmput(ctx.mm);
	return ret;
}

/**
 * Watch nothing any more: the userfaultfd is closed.
 *
 * @param ctx - the userfaultfd; its address space has a user
 * @context Process context. Sleeps. The mmap lock is not held.
 * @kernel mm/userfaultfd.c
 */
export function* userfaultfd_release_all(ctx: userfaultfd_ctx): Sim<void> {
	yield* mmap_write_lock(ctx.mm);
	yield* eachPart(ctx.mm, 0n, TASK_SIZE, function* (vma, from, to): Sim<int> {
		if (vma.vm_userfaultfd_ctx === ctx) yield* userfaultfd_clear_vma(vma, from, to);
		return 0;
	});
	yield* mmap_write_unlock(ctx.mm);
}
