// SPDX-License-Identifier: GPL-2.0-only
/**
 * Schedule points: where one simulated thread can be taken off its CPU for another.
 *
 * Guarantee: every interaction of kernel code with state that another thread can see, and that C
 * marks as such, is announced by one point *before* it happens: taking and leaving a lock, waiting
 * and waking, READ_ONCE/WRITE_ONCE, atomics, page-table entries. Between two points of a thread no
 * other thread runs. A search of interleavings may reorder two neighbouring points of different
 * threads without effect unless they name the same object and at least one of them changes it.
 * Mechanism: kernel code that can be interleaved is a generator; `yield` hands a point out.
 */

/** How a schedule point touches its object. */
export type Access =
	/** takes a lock, exclusive or shared; runs on only when the lock can be had */
	| 'acquire'
	| 'acquire-shared'
	/** leaves a lock */
	| 'release'
	| 'release-shared'
	/** sleeps or spins until `ready()` */
	| 'wait'
	/** makes waiters look again */
	| 'wake'
	/** READ_ONCE, smp_load_acquire */
	| 'read'
	/** WRITE_ONCE, smp_store_release */
	| 'write'
	/** read-modify-write in one step */
	| 'atomic'
	/** reads page-table entries of the table `object`, starting at `index` */
	| 'pte-read'
	/** changes page-table entries */
	| 'pte-write'
	/** a CPU access of user memory, or a DMA of a device */
	| 'memory-read'
	| 'memory-write'
	/** TLB shootdown, device cache flush */
	| 'flush'
	/** enters or leaves an RCU read-side section, a grace period */
	| 'rcu'
	/** gives the CPU up without waiting for anything: cond_resched(), schedule() */
	| 'yield';

/** What a thread is about to do. */
export interface SchedulePoint {
	readonly access: Access;
	/** Identity of what is touched: the lock, the counter, the page table. */
	readonly object: object;
	/** Which field of the object, where it has several that are independent. */
	readonly field?: string;
	/** First page-table entry touched, and how many. */
	readonly index?: number;
	readonly count?: number;
	/** Whether the thread could go on now. Absent: always. Must not change any state. */
	readonly ready?: () => boolean;
	/** Virtual time (ns) at which a timed wait gives up. */
	readonly deadline?: bigint;
}

/**
 * What kernel code returns that can sleep, take a lock, or be interleaved: call it with `yield*`.
 * The type says "may be scheduled" in every prototype.
 */
export type Sim<T> = Generator<SchedulePoint, T, void>;
