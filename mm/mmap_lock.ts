// SPDX-License-Identifier: GPL-2.0-only
/**
 * The mmap lock: page faults and walkers hold it for reading, whoever changes VMAs for writing.
 *
 * Order: mmap_lock, then the i_mmap and anon_vma semaphores, then page-table locks.
 */

import { SINGLE_DEPTH_NESTING } from '../include/linux/lockdep.ts';
import type { mm_struct } from '../include/linux/mm_types.ts';
import type { bool, int } from '../include/linux/types.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { lockdep_assert_held, lockdep_assert_held_write } from '../kernel/locking/lockdep.ts';
import {
	down_read,
	down_read_killable,
	down_read_trylock,
	down_write,
	down_write_killable,
	down_write_nested,
	down_write_trylock,
	downgrade_write,
	up_read,
	up_write,
} from '../kernel/locking/rwsem.ts';

/**
 * Report unless the current task holds the mmap lock.
 *
 * @param mm - address space
 * @kernel include/linux/mmap_lock.h
 */
export function mmap_assert_locked(mm: mm_struct): void {
	lockdep_assert_held(mm.mmap_lock);
}

/**
 * Report unless the current task holds the mmap lock for writing.
 *
 * @param mm - address space
 * @kernel include/linux/mmap_lock.h
 */
export function mmap_assert_write_locked(mm: mm_struct): void {
	lockdep_assert_held_write(mm.mmap_lock);
}

/**
 * Take the mmap lock for writing.
 *
 * @param mm - address space
 * @context Process context. Sleeps.
 * @kernel include/linux/mmap_lock.h
 */
export function* mmap_write_lock(mm: mm_struct): Sim<void> {
	yield* down_write(mm.mmap_lock);
}

/**
 * Take a child's mmap lock for writing while the parent's is held.
 *
 * @param mm - address space
 * @param subclass - SINGLE_DEPTH_NESTING
 * @context Process context. Sleeps.
 * @kernel include/linux/mmap_lock.h
 */
export function* mmap_write_lock_nested(
	mm: mm_struct,
	subclass: int = SINGLE_DEPTH_NESTING,
): Sim<void> {
	yield* down_write_nested(mm.mmap_lock, subclass);
}

/**
 * Take the mmap lock for writing, or give up when the task is killed.
 *
 * @param mm - address space
 * @retval 0 taken
 * @retval -EINTR killed while it waited
 * @context Process context. Sleeps.
 * @kernel include/linux/mmap_lock.h
 */
export function* mmap_write_lock_killable(mm: mm_struct): Sim<int> {
	return yield* down_write_killable(mm.mmap_lock);
}

/**
 * Take the mmap lock for writing if it is free.
 *
 * @param mm - address space
 * @returns whether it was taken
 * @kernel kernel/locking/rwsem.c (as down_write_trylock)
 */
export function mmap_write_trylock(mm: mm_struct): bool {
	return down_write_trylock(mm.mmap_lock) !== 0;
}

/**
 * Leave the mmap lock held for writing.
 *
 * @param mm - address space
 * @kernel include/linux/mmap_lock.h
 */
export function* mmap_write_unlock(mm: mm_struct): Sim<void> {
	yield* up_write(mm.mmap_lock);
}

/**
 * Keep the mmap lock held for writing, but for reading.
 *
 * @param mm - address space
 * @kernel include/linux/mmap_lock.h
 */
export function* mmap_write_downgrade(mm: mm_struct): Sim<void> {
	yield* downgrade_write(mm.mmap_lock);
}

/**
 * Take the mmap lock for reading.
 *
 * @param mm - address space
 * @context Process context. Sleeps.
 * @kernel include/linux/mmap_lock.h
 */
export function* mmap_read_lock(mm: mm_struct): Sim<void> {
	yield* down_read(mm.mmap_lock);
}

/**
 * Take the mmap lock for reading, or give up when the task is killed.
 *
 * @param mm - address space
 * @retval 0 taken
 * @retval -EINTR killed while it waited
 * @context Process context. Sleeps.
 * @kernel include/linux/mmap_lock.h
 */
export function* mmap_read_lock_killable(mm: mm_struct): Sim<int> {
	return yield* down_read_killable(mm.mmap_lock);
}

/**
 * Take the mmap lock for reading if that needs no waiting.
 *
 * @param mm - address space
 * @returns whether it was taken
 * @kernel include/linux/mmap_lock.h
 */
export function mmap_read_trylock(mm: mm_struct): bool {
	return down_read_trylock(mm.mmap_lock) !== 0;
}

/**
 * Leave the mmap lock held for reading.
 *
 * @param mm - address space
 * @kernel include/linux/mmap_lock.h
 */
export function* mmap_read_unlock(mm: mm_struct): Sim<void> {
	yield* up_read(mm.mmap_lock);
}
