// SPDX-License-Identifier: GPL-2.0-only
/**
 * Sleeping lock with readers and one writer.
 *
 * Guarantee: readers together or one writer; a reader that comes while a writer waits queues behind
 * it, so a task that takes it for reading twice can hang. Mechanism: a writer that finds the lock
 * taken counts itself in `writersWaiting` before it sleeps.
 */
import { EINTR } from '../../include/linux/errno.ts';
import { fatal_signal_pending } from '../../include/linux/sched.ts';
import type { rw_semaphore } from '../../include/linux/spinlock.ts';
import type { int } from '../../include/linux/types.ts';
import { type Sim, schedulePoint, touch, waitPoint } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';
import { might_sleep } from '../sched/might_sleep.ts';
import { lock_acquire, lock_downgrade, lock_release, lockdep_is_held } from './lockdep.ts';

function readable(sem: rw_semaphore): boolean {
	return sem.owner === null && sem.writersWaiting === 0;
}

function writable(sem: rw_semaphore): boolean {
	return sem.owner === null && sem.readers === 0;
}

/**
 * Take a semaphore for reading.
 *
 * @param sem - the semaphore
 * @context Process context. Sleeps.
 * @kernel kernel/locking/rwsem.c
 */
export function* down_read(sem: rw_semaphore): Sim<void> {
	might_sleep();
	lock_acquire(sem, 0, false, true, false);
	if (world().preemptible || !readable(sem))
		yield waitPoint('acquire-shared', sem, () => readable(sem));
	sem.readers++;
}

/**
 * Take a semaphore for reading inside another of its class.
 *
 * @param sem - the semaphore
 * @param subclass - SINGLE_DEPTH_NESTING
 * @context Process context. Sleeps.
 * @kernel kernel/locking/rwsem.c
 */
export function* down_read_nested(sem: rw_semaphore, subclass: int): Sim<void> {
	might_sleep();
	lock_acquire(sem, subclass, false, true, false);
	if (world().preemptible || !readable(sem))
		yield waitPoint('acquire-shared', sem, () => readable(sem));
	sem.readers++;
}

/**
 * Take a semaphore for reading, or give up when the task is killed.
 *
 * @param sem - the semaphore
 * @retval 0 taken
 * @retval -EINTR a fatal signal came while it waited
 * @context Process context. Sleeps.
 * @kernel kernel/locking/rwsem.c
 */
export function* down_read_killable(sem: rw_semaphore): Sim<int> {
	might_sleep();
	const w = world();
	const { current: task } = w;
	lock_acquire(sem, 0, false, true, false);
	if (w.preemptible || !readable(sem))
		yield waitPoint(
			'acquire-shared',
			sem,
			() => readable(sem) || fatal_signal_pending(task),
		);
	if (!readable(sem)) {
		lock_release(sem);
		return -EINTR;
	}
	sem.readers++;
	return 0;
}

/**
 * Take a semaphore for reading, or give up when a signal comes.
 *
 * @param sem - the semaphore
 * @retval 0 taken
 * @retval -EINTR a signal came while it waited
 * @context Process context. Sleeps.
 * @kernel kernel/locking/rwsem.c
 */
export function* down_read_interruptible(sem: rw_semaphore): Sim<int> {
	return yield* down_read_killable(sem);
}

/**
 * Take a semaphore for reading if that needs no waiting.
 *
 * @param sem - the semaphore
 * @retval 1 taken
 * @retval 0 a writer holds it or waits
 * @kernel kernel/locking/rwsem.c
 */
export function down_read_trylock(sem: rw_semaphore): int {
	touch('acquire-shared', sem);
	if (!readable(sem)) return 0;
	lock_acquire(sem, 0, true, true, false);
	sem.readers++;
	return 1;
}

/**
 * Leave a semaphore held for reading.
 *
 * @param sem - the semaphore
 * @kernel kernel/locking/rwsem.c
 */
export function* up_read(sem: rw_semaphore): Sim<void> {
	if (world().preemptible) yield schedulePoint('release-shared', sem);
	const held = lockdep_is_held(sem);
	lock_release(sem);
	if (held && sem.readers > 0) sem.readers--; // else lockdep has said so
}

/**
 * Take a semaphore for writing.
 *
 * @param sem - the semaphore
 * @context Process context. Sleeps.
 * @kernel kernel/locking/rwsem.c
 */
export function* down_write(sem: rw_semaphore): Sim<void> {
	yield* down_write_nested(sem, 0);
}

/**
 * Take a semaphore for writing inside another of its class.
 *
 * @param sem - the semaphore
 * @param subclass - SINGLE_DEPTH_NESTING
 * @context Process context. Sleeps.
 * @kernel kernel/locking/rwsem.c
 */
export function* down_write_nested(sem: rw_semaphore, subclass: int): Sim<void> {
	might_sleep();
	const w = world();
	lock_acquire(sem, subclass, false, false, false);
	if (w.preemptible) yield schedulePoint('acquire', sem);
	if (!writable(sem)) {
		sem.writersWaiting++;
		yield waitPoint('acquire', sem, () => writable(sem));
		sem.writersWaiting--;
	}
	sem.owner = w.current;
}

/**
 * Take a semaphore for writing, or give up when the task is killed.
 *
 * @param sem - the semaphore
 * @retval 0 taken
 * @retval -EINTR a fatal signal came while it waited
 * @context Process context. Sleeps.
 * @kernel kernel/locking/rwsem.c
 */
export function* down_write_killable(sem: rw_semaphore): Sim<int> {
	might_sleep();
	const w = world();
	const { current: task } = w;
	lock_acquire(sem, 0, false, false, false);
	if (w.preemptible) yield schedulePoint('acquire', sem);
	if (!writable(sem)) {
		sem.writersWaiting++;
		yield waitPoint('acquire', sem, () => writable(sem) || fatal_signal_pending(task));
		sem.writersWaiting--;
		if (!writable(sem)) {
			lock_release(sem);
			return -EINTR;
		}
	}
	sem.owner = task;
	return 0;
}

/**
 * Take a semaphore for writing if it is free.
 *
 * @param sem - the semaphore
 * @retval 1 taken
 * @retval 0 somebody holds it or waits for it
 * @kernel kernel/locking/rwsem.c
 */
export function down_write_trylock(sem: rw_semaphore): int {
	touch('acquire', sem);
	if (!writable(sem) || sem.writersWaiting > 0) return 0;
	lock_acquire(sem, 0, true, false, false);
	sem.owner = world().current;
	return 1;
}

/**
 * Leave a semaphore held for writing.
 *
 * @param sem - the semaphore
 * @kernel kernel/locking/rwsem.c
 */
export function* up_write(sem: rw_semaphore): Sim<void> {
	const w = world();
	if (w.preemptible) yield schedulePoint('release', sem);
	lock_release(sem);
	if (sem.owner === w.current) sem.owner = null; // else lockdep has said so
}

/**
 * Keep a semaphore that is held for writing, but for reading.
 *
 * @param sem - the semaphore
 * @kernel kernel/locking/rwsem.c
 */
export function* downgrade_write(sem: rw_semaphore): Sim<void> {
	const w = world();
	if (w.preemptible) yield schedulePoint('release', sem);
	lock_downgrade(sem);
	sem.owner = null;
	sem.readers++;
}

/**
 * Whether somebody holds a semaphore.
 *
 * @param sem - the semaphore
 * @kernel include/linux/rwsem.h
 */
export function rwsem_is_locked(sem: rw_semaphore): boolean {
	return sem.owner !== null || sem.readers > 0;
}

/**
 * Whether somebody waits for a semaphore.
 *
 * @param sem - the semaphore
 * @kernel include/linux/rwsem.h
 */
export function rwsem_is_contended(sem: rw_semaphore): boolean {
	return sem.writersWaiting > 0;
}
