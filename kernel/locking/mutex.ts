// SPDX-License-Identifier: GPL-2.0-only
/**
 * Sleeping mutual exclusion.
 *
 * Guarantee: one owner at a time. Any of the waiters may be next, as a kernel mutex can be stolen by
 * a spinner. Duty: the owner unlocks.
 */
import { EINTR } from '../../include/linux/errno.ts';
import { fatal_signal_pending } from '../../include/linux/sched.ts';
import type { mutex } from '../../include/linux/spinlock.ts';
import type { int } from '../../include/linux/types.ts';
import { type Sim, schedulePoint, touch, waitPoint } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';
import { might_sleep } from '../sched/might_sleep.ts';
import { lock_acquire, lock_release } from './lockdep.ts';

/**
 * Take a mutex.
 *
 * @param lock - the mutex
 * @context Process context. Sleeps.
 * @kernel kernel/locking/mutex.c
 */
export function* mutex_lock(lock: mutex): Sim<void> {
	// as mutex_lock_nested(lock, 0), but without a generator more
	might_sleep();
	const w = world();
	lock_acquire(lock, 0, false, false, false);
	if (w.preemptible || lock.owner !== null)
		yield waitPoint('acquire', lock, () => lock.owner === null);
	lock.owner = w.current;
}

/**
 * Take a mutex inside another of its class.
 *
 * @param lock - the mutex
 * @param subclass - SINGLE_DEPTH_NESTING
 * @context Process context. Sleeps.
 * @kernel kernel/locking/mutex.c
 */
export function* mutex_lock_nested(lock: mutex, subclass: int): Sim<void> {
	might_sleep();
	const w = world();
	lock_acquire(lock, subclass, false, false, false);
	if (w.preemptible || lock.owner !== null)
		yield waitPoint('acquire', lock, () => lock.owner === null);
	lock.owner = w.current;
}

/**
 * Take a mutex, or give up when the task is killed.
 *
 * @param lock - the mutex
 * @retval 0 taken
 * @retval -EINTR a fatal signal came while it waited
 * @context Process context. Sleeps.
 * @kernel kernel/locking/mutex.c
 */
export function* mutex_lock_killable(lock: mutex): Sim<int> {
	might_sleep();
	const w = world();
	const { current: task } = w;
	lock_acquire(lock, 0, false, false, false);
	if (w.preemptible || lock.owner !== null)
		yield waitPoint(
			'acquire',
			lock,
			() => lock.owner === null || fatal_signal_pending(task),
		);
	if (lock.owner !== null) {
		lock_release(lock);
		return -EINTR;
	}
	lock.owner = task;
	return 0;
}

/**
 * Take a mutex, or give up when a signal comes.
 *
 * @param lock - the mutex
 * @retval 0 taken
 * @retval -EINTR a signal came while it waited
 * @context Process context. Sleeps.
 * @kernel kernel/locking/mutex.c
 */
export function* mutex_lock_interruptible(lock: mutex): Sim<int> {
	return yield* mutex_lock_killable(lock);
}

/**
 * Take a mutex if it is free.
 *
 * @param lock - the mutex
 * @retval 1 taken
 * @retval 0 somebody holds it
 * @kernel kernel/locking/mutex.c
 */
export function mutex_trylock(lock: mutex): int {
	touch('acquire', lock);
	if (lock.owner !== null) return 0;
	lock_acquire(lock, 0, true, false, false);
	lock.owner = world().current;
	return 1;
}

/**
 * Leave a mutex.
 *
 * @param lock - the mutex
 * @kernel kernel/locking/mutex.c
 */
export function* mutex_unlock(lock: mutex): Sim<void> {
	const w = world();
	if (w.preemptible) yield schedulePoint('release', lock);
	lock_release(lock);
	if (lock.owner === w.current) lock.owner = null; // else lockdep has said so
}

/**
 * Whether somebody holds a mutex.
 *
 * @param lock - the mutex
 * @kernel kernel/locking/mutex.c
 */
export function mutex_is_locked(lock: mutex): boolean {
	return lock.owner !== null;
}
