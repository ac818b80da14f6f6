// SPDX-License-Identifier: GPL-2.0-only
/**
 * References on the mm_struct itself, as against those on its address space (mm_users).
 *
 * A file of its own, since the owners of notifiers drop them and the lifecycle calls notifiers.
 */
import { BUG_ON } from '../include/linux/bug.ts';
import type { mm_struct } from '../include/linux/mm_types.ts';
import { type Sim, touch } from '../include/sim/schedule.ts';
import { liveObjects } from './live.ts';
import { mmu_notifier_subscriptions_destroy } from './mmu_notifier/subscriptions.ts';
import { pgd_free } from './pgtable/alloc.ts';

/**
 * Take a reference on an mm_struct.
 *
 * @param mm - the mm
 * @kernel include/linux/sched/mm.h
 */
export function mmgrab(mm: mm_struct): void {
	touch('atomic', mm, 'mm_count');
	mm.mm_count++;
}

/**
 * Put a reference on an mm_struct; the last one frees it.
 *
 * @param mm - the mm
 * @kernel include/linux/sched/mm.h
 */
export function* mmdrop(mm: mm_struct): Sim<void> {
	touch('atomic', mm, 'mm_count');
	BUG_ON(mm.mm_count <= 0, 'mm_count underflows');
	if (--mm.mm_count === 0) yield* __mmdrop(mm);
}

/**
 * Free an mm_struct that nobody refers to.
 *
 * @param mm - the mm
 * @kernel kernel/fork.c
 */
function* __mmdrop(mm: mm_struct): Sim<void> {
	BUG_ON(mm.mm_users > 0, 'an mm with users is freed');
	if (mm.pgd !== 0) yield* pgd_free(mm, mm.pgd);
	mm.pgd = 0;
	liveObjects().mms.delete(mm);
	mmu_notifier_subscriptions_destroy(mm);
}
