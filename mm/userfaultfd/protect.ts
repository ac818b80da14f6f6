// SPDX-License-Identifier: GPL-2.0-only
/** UFFDIO_WRITEPROTECT and UFFDIO_RWPROTECT: entries that fault although the VMA allows the access. */
import { ENOENT, ESRCH } from '../../include/linux/errno.ts';
import {
	MM_CP_TRY_CHANGE_WRITABLE,
	MM_CP_UFFD_RWP,
	MM_CP_UFFD_RWP_RESOLVE,
	MM_CP_UFFD_WP,
	MM_CP_UFFD_WP_RESOLVE,
} from '../../include/linux/mm.ts';
import type { mm_struct, vm_area_struct } from '../../include/linux/mm_types.ts';
import type { bool, int, unsigned_long } from '../../include/linux/types.ts';
import {
	type userfaultfd_ctx,
	userfaultfd_rwp,
	userfaultfd_wp,
} from '../../include/linux/userfaultfd_k.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { mmget_not_zero, mmput } from '../exec_mm.ts';
import { vmaIndex } from '../find_vma.ts';
import { mmap_read_lock, mmap_read_unlock } from '../mmap_lock.ts';
import { tlb_finish_mmu, tlb_gather_mmu } from '../mmu_gather.ts';
import { change_protection } from '../mprotect.ts';
import { vma_wants_manual_pte_write_upgrade } from '../vma.ts';
import { wake_userfault } from './fault.ts';
import { validate_range } from './register.ts';

/** The part of a VMA that a range covers. */
interface Part {
	readonly vma: vm_area_struct;
	readonly start: bigint;
	readonly end: bigint;
}

function partsOf(mm: mm_struct, start: bigint, end: bigint): Part[] {
	const parts: Part[] = [];
	for (let i = vmaIndex(mm, start); i < mm.vmas.length; i++) {
		const vma = mm.vmas[i]!;
		if (vma.vm_start >= end) break;
		parts.push({
			vma,
			start: vma.vm_start > start ? vma.vm_start : start,
			end: vma.vm_end < end ? vma.vm_end : end,
		});
	}
	return parts;
}

/** Changes the entries of a part; lifting a protection gives the right back where no fault is needed. */
function* change({ vma, start, end }: Part, cp: unsigned_long, lift: bool): Sim<int> {
	const upgrade = lift && vma_wants_manual_pte_write_upgrade(vma);
	const tlb = tlb_gather_mmu(vma.vm_mm);
	const flags = upgrade ? cp | MM_CP_TRY_CHANGE_WRITABLE : cp;
	const ret = yield* change_protection(tlb, vma, start, end, flags);
	yield* tlb_finish_mmu(tlb);
	return ret < 0 ? ret : 0;
}

/** VMA by VMA: what lies before one that is not watched is done. */
function* mwriteprotect_range(
	mm: mm_struct,
	start: bigint,
	len: bigint,
	enable_wp: bool,
): Sim<int> {
	const cp = enable_wp ? MM_CP_UFFD_WP : MM_CP_UFFD_WP_RESOLVE;
	let err: int = -ENOENT;
	for (const part of partsOf(mm, start, start + len)) {
		if (!userfaultfd_wp(part.vma)) return -ENOENT;
		err = yield* change(part, cp, !enable_wp);
		if (err < 0) return err;
	}
	return err;
}

/** All VMAs of the range, or none. */
function* mrwprotect_range(mm: mm_struct, start: bigint, len: bigint, enable_rwp: bool): Sim<int> {
	const parts = partsOf(mm, start, start + len);
	if (parts.length === 0 || parts.some(({ vma }) => !userfaultfd_rwp(vma))) return -ENOENT;
	const cp = enable_rwp ? MM_CP_UFFD_RWP : MM_CP_UFFD_RWP_RESOLVE;
	for (const part of parts) yield* change(part, cp, !enable_rwp);
	return 0;
}

type Protect = (mm: mm_struct, start: bigint, len: bigint, enable: bool) => Sim<int>;

/** What the two ioctls have in common. */
function* protect(
	ctx: userfaultfd_ctx,
	start: bigint,
	len: bigint,
	enable: bool,
	how: Protect,
): Sim<int> {
	const { mm } = ctx;
	const invalid = validate_range(start, len);
	if (invalid !== 0) return invalid;
	if (!mmget_not_zero(mm)) return -ESRCH;
	yield* mmap_read_lock(mm);
	const ret = yield* how(mm, start, len, enable);
	yield* mmap_read_unlock(mm);
	yield* mmput(mm);
	if (ret === 0 && !enable) wake_userfault(ctx, start, len);
	return ret;
}

/**
 * UFFDIO_WRITEPROTECT: writes fault, or no longer; who waits for that is woken.
 *
 * @param ctx - the userfaultfd
 * @param start - first address
 * @param len - length
 * @param mode_wp - protect
 * @retval 0 done
 * @retval -EINVAL a range that makes no sense
 * @retval -ENOENT nothing is mapped, or a VMA is not watched for it; what lies before it is done
 * @retval -ENOMEM no memory for tables
 * @retval -ESRCH the address space is gone
 * @context Process context. Sleeps. The mmap lock is not held.
 * @deviates the members of struct uffdio_writeprotect one by one, always without DONTWAKE
 * @kernel mm/userfaultfd.c
 */
export function* userfaultfd_writeprotect(
	ctx: userfaultfd_ctx,
	start: unsigned_long,
	len: unsigned_long,
	mode_wp: bool,
): Sim<int> {
	return yield* protect(ctx, start, len, mode_wp, mwriteprotect_range);
}

/**
 * UFFDIO_RWPROTECT: all accesses fault, or no longer; who waits for that is woken.
 *
 * @param ctx - the userfaultfd
 * @param start - first address
 * @param len - length
 * @param mode_rwp - protect
 * @retval 0 done
 * @retval -EINVAL a range that makes no sense
 * @retval -ENOENT nothing is mapped, or a VMA is not watched for it; nothing is done
 * @retval -ESRCH the address space is gone
 * @context Process context. Sleeps. The mmap lock is not held.
 * @deviates the members of struct uffdio_rwprotect one by one, always without DONTWAKE
 * @kernel mm/userfaultfd.c
 */
export function* userfaultfd_rwprotect(
	ctx: userfaultfd_ctx,
	start: unsigned_long,
	len: unsigned_long,
	mode_rwp: bool,
): Sim<int> {
	return yield* protect(ctx, start, len, mode_rwp, mrwprotect_range);
}
