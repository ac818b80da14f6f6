// SPDX-License-Identifier: GPL-2.0-only
/**
 * Spin locks.
 *
 * Guarantee: one owner at a time, no sleeping inside. The schedule point of spin_lock() is ready
 * when the lock is free; the holder's thread can be preempted by the explorer, which stands for
 * another CPU.
 */
import type { task_struct } from '../../include/linux/sched.ts';
import type { spinlock_t } from '../../include/linux/spinlock.ts';
import type { int } from '../../include/linux/types.ts';
import { type Sim, schedulePoint, touch, waitPoint } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';
import { lock_acquire, lock_release } from './lockdep.ts';

/**
 * Take a spin lock.
 *
 * @param lock - the lock
 * @context Any. Spins.
 * @kernel include/linux/spinlock.h
 */
export function* spin_lock(lock: spinlock_t): Sim<void> {
	// as spin_lock_nested(lock, 0), but without a generator more: nothing is called as often
	const w = world();
	lock_acquire(lock, 0, false, false, true);
	if (w.preemptible || lock.owner !== null)
		yield waitPoint('acquire', lock, () => lock.owner === null);
	take(lock, w.current);
}

/**
 * Take a spin lock inside another of its class.
 *
 * @param lock - the lock
 * @param subclass - SINGLE_DEPTH_NESTING
 * @context Any. Spins.
 * @kernel include/linux/spinlock.h
 */
export function* spin_lock_nested(lock: spinlock_t, subclass: int): Sim<void> {
	const w = world();
	lock_acquire(lock, subclass, false, false, true);
	if (w.preemptible || lock.owner !== null)
		yield waitPoint('acquire', lock, () => lock.owner === null);
	take(lock, w.current);
}

function take(lock: spinlock_t, task: task_struct): void {
	task.preempt_count++;
	lock.owner = task;
}

/**
 * Take a spin lock if it is free.
 *
 * @param lock - the lock
 * @returns whether it was taken
 * @kernel include/linux/spinlock.h
 */
export function spin_trylock(lock: spinlock_t): boolean {
	touch('acquire', lock);
	if (lock.owner !== null) return false;
	lock_acquire(lock, 0, true, false, true);
	take(lock, world().current);
	return true;
}

/**
 * Leave a spin lock.
 *
 * @param lock - the lock
 * @kernel include/linux/spinlock.h
 */
export function* spin_unlock(lock: spinlock_t): Sim<void> {
	const w = world();
	if (w.preemptible) yield schedulePoint('release', lock);
	lock_release(lock);
	if (lock.owner !== w.current) return; // lockdep has said so
	lock.owner = null;
	w.current.preempt_count--;
}

/**
 * Whether somebody holds a spin lock.
 *
 * @param lock - the lock
 * @kernel include/linux/spinlock.h
 */
export function spin_is_locked(lock: spinlock_t): boolean {
	return lock.owner !== null;
}
