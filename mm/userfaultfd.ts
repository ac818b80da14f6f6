// SPDX-License-Identifier: GPL-2.0-only
/**
 * userfaultfd: faults of a range of addresses that user space resolves.
 *
 * | file | functions |
 * | --- | --- |
 * | userfaultfd.ts | new_userfaultfd, userfaultfd_ctx_read, userfaultfd_release |
 * | userfaultfd/fault.ts | handle_userfault, wake_userfault |
 * | userfaultfd/register.ts | userfaultfd_register, userfaultfd_unregister, userfaultfd_clear_vma |
 * | userfaultfd/fill.ts | userfaultfd_copy, userfaultfd_zeropage, userfaultfd_poison |
 * | userfaultfd/marker.ts | entries that say what is not there |
 * | userfaultfd/protect.ts | userfaultfd_writeprotect, userfaultfd_rwprotect |
 *
 * Not here: minor faults, moves of pages, events of fork, mremap and munmap, hugetlb.
 *
 * @kernel fs/userfaultfd.c (v6.12)
 * @kernel mm/userfaultfd.c
 */
import { EINVAL } from '../include/linux/errno.ts';
import { current } from '../include/linux/sched.ts';
import type { int, u64 } from '../include/linux/types.ts';
import { userfaultfd_ctx } from '../include/linux/userfaultfd_k.ts';
import { type Sim, touch } from '../include/sim/schedule.ts';
import { feature } from '../include/sim/world.ts';
import {
	UFFD_FEATURE_MISSING_SHMEM,
	UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	UFFD_FEATURE_POISON,
	UFFD_FEATURE_RWP,
	UFFD_FEATURE_SIGBUS,
	UFFD_FEATURE_WP_UNPOPULATED,
	type uffd_msg,
} from '../include/uapi/linux/userfaultfd.ts';
import { wait_event_killable, wake_up_all } from '../kernel/sched/wait.ts';
import { mmget_not_zero, mmput } from './exec_mm.ts';
import { mmdrop, mmgrab } from './mm_count.ts';
import { wake_userfault } from './userfaultfd/fault.ts';
import { userfaultfd_release_all } from './userfaultfd/register.ts';

export { handle_userfault, wake_userfault } from './userfaultfd/fault.ts';
export { userfaultfd_copy, userfaultfd_poison, userfaultfd_zeropage } from './userfaultfd/fill.ts';
export { userfaultfd_rwprotect, userfaultfd_writeprotect } from './userfaultfd/protect.ts';
export {
	userfaultfd_clear_vma,
	userfaultfd_register,
	userfaultfd_unregister,
} from './userfaultfd/register.ts';

/**
 * UFFD_FEATURE_* bits that this kernel has.
 *
 * Shmem can be write-protected, but the bit that says so (WP_HUGETLBFS_SHMEM) promises hugetlb, too.
 */
export function uffdFeatures(): u64 {
	return (
		UFFD_FEATURE_PAGEFAULT_FLAG_WP |
		UFFD_FEATURE_MISSING_SHMEM |
		UFFD_FEATURE_SIGBUS |
		UFFD_FEATURE_WP_UNPOPULATED |
		UFFD_FEATURE_POISON |
		(feature('userfaultfd_rwp') ? UFFD_FEATURE_RWP : 0n)
	);
}

/**
 * Open a userfaultfd of the current task's address space.
 *
 * @param features - UFFD_FEATURE_* bits, as UFFDIO_API asks for them
 * @returns the userfaultfd; userfaultfd_release() closes it
 * @retval -EINVAL a feature that this kernel does not have
 * @context Process context.
 * @deviates UFFDIO_API is a part of it, and there is no file
 * @kernel mm/userfaultfd.c
 */
export function new_userfaultfd(features: u64): userfaultfd_ctx | int {
	if ((features & ~uffdFeatures()) !== 0n) return -EINVAL;
	const mm = current().mm!;
	mmgrab(mm);
	return new userfaultfd_ctx(mm, features);
}

/**
 * Wait for a fault that nobody has read of.
 *
 * @param ctx - the userfaultfd
 * @returns the fault; null: the userfaultfd was closed, or the reader killed
 * @context Process context. Sleeps.
 * @deviates a fault, not bytes
 * @kernel mm/userfaultfd.c
 */
export function* userfaultfd_ctx_read(ctx: userfaultfd_ctx): Sim<uffd_msg | null> {
	const unread = () => ctx.faults.find(({ read }) => !read);
	const ready = () => ctx.released || unread() !== undefined;
	if ((yield* wait_event_killable(ctx.fd_wqh, ready)) !== 0) return null;
	touch('write', ctx, 'faults');
	const uwq = unread();
	if (uwq === undefined) return null;
	uwq.read = true;
	return uwq.msg;
}

/**
 * Close a userfaultfd: nothing is watched any more, and who waits tries again.
 *
 * @param ctx - the userfaultfd
 * @context Process context. Sleeps. The mmap lock is not held.
 * @kernel mm/userfaultfd.c
 */
export function* userfaultfd_release(ctx: userfaultfd_ctx): Sim<void> {
	const { mm } = ctx;
	touch('write', ctx, 'released');
	ctx.released = true;
	if (mmget_not_zero(mm)) {
		yield* userfaultfd_release_all(ctx);
		yield* mmput(mm);
	}
	wake_userfault(ctx, 0n, 0n);
	wake_up_all(ctx.fd_wqh);
	yield* mmdrop(mm);
}
