// SPDX-License-Identifier: GPL-2.0-only
/** The lock structures. What takes and leaves them is in kernel/locking/. */
import type { lock_class } from './lockdep.ts';
import type { task_struct } from './sched.ts';
import type { int } from './types.ts';

/**
 * A spin lock.
 *
 * @kernel include/linux/spinlock_types.h
 */
export class spinlock_t {
	/** Lockdep class: the name under which all locks of this kind are ordered. */
	name: string;
	owner: task_struct | null = null;
	/** Lockdep's node for `name`, looked up at first use. */
	dep: lock_class | null = null;

	/** @param name - lockdep class */
	constructor(name: string) {
		this.name = name;
	}
}

/**
 * A sleeping mutual exclusion lock.
 *
 * @kernel include/linux/mutex_types.h
 */
export class mutex {
	name: string;
	owner: task_struct | null = null;
	/** Lockdep's node for `name`, looked up at first use. */
	dep: lock_class | null = null;

	/** @param name - lockdep class */
	constructor(name: string) {
		this.name = name;
	}
}

/**
 * A sleeping lock with readers and one writer.
 *
 * @kernel include/linux/rwsem.h
 */
export class rw_semaphore {
	name: string;
	owner: task_struct | null = null;
	/** Lockdep's node for `name`, looked up at first use. */
	dep: lock_class | null = null;
	/** Readers inside. */
	readers: int = 0;
	/** Writers that wait: new readers queue behind them. */
	writersWaiting: int = 0;

	/** @param name - lockdep class */
	constructor(name: string) {
		this.name = name;
	}
}

/**
 * A sequence counter: odd while a writer is inside.
 *
 * @kernel include/linux/seqlock_types.h
 */
export class seqcount_t {
	sequence: int = 0;
}
