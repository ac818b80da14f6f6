// SPDX-License-Identifier: GPL-2.0-only
/**
 * Life of an address space.
 *
 * Guarantee: as long as `mm_users` is above 0 the VMAs and page tables are there; as long as
 * `mm_count` is, the mm_struct. Mechanism: all users together hold one mm_count.
 *
 * ```
 *   mm_users  threads, and whoever did mmget()     0 -> exit_mmap(): notifiers released, all unmapped
 *   mm_count  1 for all users, and mmgrab()        0 -> the top page table and the struct are freed
 * ```
 *
 * This is kernel/fork.c and a part of mm/mmap.c; it lives in mm/ because kernel/ knows no mm.
 * mmgrab() and mmdrop() are in mm_count.ts.
 */
import { BUG_ON, fileReport } from '../include/linux/bug.ts';
import { mm_struct, NR_MM_COUNTERS } from '../include/linux/mm_types.ts';
import { type bool, ULONG_MAX } from '../include/linux/types.ts';
import { shouldFail } from '../include/sim/fault_injection.ts';
import { takeOrigin } from '../include/sim/origin.ts';
import { type Sim, touch } from '../include/sim/schedule.ts';
import { might_sleep } from '../kernel/sched/might_sleep.ts';
import { FIRST_USER_ADDRESS, free_pgtables, USER_PGTABLES_CEILING } from './free_pgtables.ts';
import { liveObjects } from './live.ts';
import { unmap_vmas } from './memory.ts';
import { mmdrop } from './mm_count.ts';
import {
	mmap_read_lock,
	mmap_read_unlock,
	mmap_write_lock,
	mmap_write_unlock,
} from './mmap_lock.ts';
import { tlb_finish_mmu, tlb_gather_mmu_fullmm } from './mmu_gather.ts';
import { mmu_notifier_release } from './mmu_notifier.ts';
import { pgd_alloc } from './pgtable.ts';
import { unloadMm } from './tlb.ts';
import { remove_vma } from './vma.ts';

export { mmdrop, mmgrab } from './mm_count.ts';

/**
 * Make an empty address space.
 *
 * @returns the mm with one user, or null: no memory, or made to fail at site `mm_alloc`
 * @context Sleeps.
 * @kernel kernel/fork.c
 */
export function* mm_alloc(): Sim<mm_struct | null> {
	if (shouldFail('mm_alloc')) return null;
	const mm = new mm_struct();
	mm.pgd = yield* pgd_alloc(mm);
	if (mm.pgd === 0) return null;
	liveObjects().mms.set(mm, takeOrigin());
	return mm;
}

/**
 * Become a user of an address space that has users.
 *
 * @param mm - address space
 * @kernel include/linux/sched/mm.h
 */
export function mmget(mm: mm_struct): void {
	touch('atomic', mm, 'mm_users');
	BUG_ON(mm.mm_users <= 0, 'mmget() of an mm without users');
	mm.mm_users++;
}

/**
 * Become a user of an address space unless it is gone.
 *
 * @param mm - address space; the struct is held
 * @returns whether the caller is a user now
 * @kernel include/linux/sched/mm.h
 */
export function mmget_not_zero(mm: mm_struct): bool {
	touch('atomic', mm, 'mm_users');
	if (mm.mm_users <= 0) return false;
	mm.mm_users++;
	return true;
}

/**
 * Cease to be a user of an address space; the last one unmaps everything.
 *
 * @param mm - address space
 * @context Process context. Sleeps.
 * @kernel kernel/fork.c
 */
export function* mmput(mm: mm_struct): Sim<void> {
	might_sleep();
	touch('atomic', mm, 'mm_users');
	BUG_ON(mm.mm_users <= 0, 'mmput() of an mm without users');
	if (--mm.mm_users === 0) yield* __mmput(mm);
}

function* __mmput(mm: mm_struct): Sim<void> {
	yield* exit_mmap(mm);
	unloadMm(mm);
	check_mm(mm);
	yield* mmdrop(mm);
}

const counterNames = ['MM_FILEPAGES', 'MM_ANONPAGES', 'MM_SWAPENTS', 'MM_SHMEMPAGES'] as const;

/** What an address space must not have left when it is empty. */
function check_mm(mm: mm_struct): void {
	for (let i = 0; i < NR_MM_COUNTERS; i++) {
		const count = mm.rss_stat[i]!;
		if (count !== 0)
			fileReport(
				'BUG',
				`BUG: Bad rss-counter state type:${counterNames[i]} val:${count} Comm:${mm.owner_comm}`,
			);
	}
	// the top-level table goes with the struct
	if (mm.pgtables !== 1)
		fileReport(
			'BUG',
			`BUG: non-zero pgtables_bytes on freeing mm: ${(mm.pgtables - 1) * 4096}`,
		);
}

/**
 * Unmap everything of an address space that has no users any more.
 *
 * @param mm - address space
 * @context Process context. Sleeps.
 * @kernel mm/mmap.c
 */
export function* exit_mmap(mm: mm_struct): Sim<void> {
	yield* mmu_notifier_release(mm);
	yield* mmap_read_lock(mm);
	const { vmas } = mm;
	if (vmas.length === 0) {
		yield* mmap_read_unlock(mm);
		return;
	}
	const tlb = tlb_gather_mmu_fullmm(mm);
	yield* unmap_vmas(tlb, vmas, 0n, ULONG_MAX);
	yield* mmap_read_unlock(mm);
	yield* mmap_write_lock(mm);
	mm.vmas = [];
	yield* free_pgtables(tlb, vmas, FIRST_USER_ADDRESS, USER_PGTABLES_CEILING);
	yield* tlb_finish_mmu(tlb);
	for (const vma of vmas) {
		mm.total_vm -= (vma.vm_end - vma.vm_start) >> 12n;
		yield* remove_vma(vma);
	}
	yield* mmap_write_unlock(mm);
}
