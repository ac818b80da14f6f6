// SPDX-License-Identifier: GPL-2.0-only
/**
 * Schedule points: where one simulated thread can be taken off its CPU for another.
 *
 * Guarantee: every interaction of kernel code with state that another thread can see, and that C
 * marks as such, is announced by one point *before* it happens: taking and leaving a lock, waiting
 * and waking, READ_ONCE/WRITE_ONCE, atomics, page-table entries. Between two points of a thread no
 * other thread runs. A search of interleavings may reorder two neighbouring points of different
 * threads without effect unless they name the same object and at least one of them changes it.
 * Mechanism: kernel code that can be interleaved is a generator; `yield` hands a point out. Where
 * nobody looks for interleavings a point that could go on anyway is not handed out at all
 * (`preemptible()`): a single thread then runs at the speed of plain code. Plain code that touches
 * shared state (a wake-up, a reference count) says so with `touch()`.
 *
 * Two that conflict name the same object and field, and ranges of `index`, `count` that overlap:
 *
 * | state | object | field | index |
 * | --- | --- | --- | --- |
 * | bytes of RAM or VRAM, by a CPU or by DMA | FrameStore | bytes | page of the store |
 * | a device register | the model behind the BAR | mmio | page of the BAR |
 * | page-table entries, by the kernel or by a CPU's walk | page table | entries | entry |
 * | translations that a CPU remembers | Tlb | entries | virtual page number |
 * | an IOMMU's tables, its IOTLB | IommuDomain | iopt, iotlb | - |
 * | words of a mirror | ArrayBuffer of the words | words | word of the buffer |
 *
 * What names no index is all of its field. Two reads never conflict.
 */
import { takeOrigin } from './origin.ts';
import { installedWorld } from './world.ts';

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
	/** First page-table entry, page or word touched, and how many; absent: all of them. */
	readonly index?: number;
	readonly count?: number;
	/** Whether the thread could go on now. Absent: always. Must not change any state. */
	readonly ready?: () => boolean;
	/** Virtual time (ns) at which a timed wait gives up. */
	readonly deadline?: bigint;
	/** Where the thread waits, when the world tracks origins. */
	readonly origin?: Error | null;
}

/**
 * What kernel code returns that can sleep, take a lock, or be interleaved: call it with `yield*`.
 * The type says "may be scheduled" in every prototype.
 */
export type Sim<T> = Generator<SchedulePoint, T, void>;

/** A schedule point; all have one shape. */
export class Point implements SchedulePoint {
	readonly access: Access;
	readonly object: object;
	readonly field: string | undefined;
	readonly index: number | undefined;
	readonly count: number | undefined;
	readonly ready: (() => boolean) | undefined;
	readonly deadline: bigint | undefined;
	readonly origin: Error | null;

	/**
	 * @param access - how the object is touched
	 * @param object - what is touched
	 * @param field - which field of it
	 * @param index - first page-table entry
	 * @param count - number of page-table entries
	 * @param ready - whether the thread could go on now
	 * @param deadline - when a timed wait gives up
	 */
	constructor(
		access: Access,
		object: object,
		field: string | undefined,
		index: number | undefined,
		count: number | undefined,
		ready: (() => boolean) | undefined,
		deadline: bigint | undefined,
	) {
		this.access = access;
		this.object = object;
		this.field = field;
		this.index = index;
		this.count = count;
		this.ready = ready;
		this.deadline = deadline;
		this.origin = ready === undefined ? null : takeOrigin();
	}
}

/**
 * Whether somebody looks for interleavings, so that each schedule point must be handed out:
 * `if (preemptible()) yield schedulePoint('pte-write', table, 'entries', index, 1)`.
 * A point that is not ready is handed out always. False where no kernel is booted.
 */
export function preemptible(): boolean {
	return installedWorld()?.preemptible === true;
}

/** Whether somebody collects footprints: for callers to whom it costs something to name them. */
export function footprinted(): boolean {
	const w = installedWorld();
	return w !== null && w.footprint !== null;
}

/**
 * Make a point that is always ready.
 *
 * @param access - how the object is touched
 * @param object - identity of what is touched
 * @param field - which field of it
 * @param index - first page-table entry
 * @param count - number of page-table entries
 */
export function schedulePoint(
	access: Access,
	object: object,
	field?: string,
	index?: number,
	count?: number,
): SchedulePoint {
	return new Point(access, object, field, index, count, undefined, undefined);
}

/**
 * Make a point at which the thread waits.
 *
 * @param access - `wait`, `acquire`, …
 * @param object - the lock, the wait queue
 * @param ready - whether it could go on now; looks at state, changes none, knows no `current`
 * @param deadline - virtual time (ns) at which it goes on in any case
 */
export function waitPoint(
	access: Access,
	object: object,
	ready: () => boolean,
	deadline?: bigint,
): SchedulePoint {
	return new Point(access, object, undefined, undefined, undefined, ready, deadline);
}

/** Collects what the step of a thread touched beyond the point that began it. */
export interface Footprint {
	/**
	 * Something was touched.
	 *
	 * @param access - how
	 * @param object - what
	 * @param field - which field of it
	 * @param index - first entry, page or word; absent: all of them
	 * @param count - how many
	 */
	touch(access: Access, object: object, field?: string, index?: number, count?: number): void;
}

/**
 * Say that plain code touches shared state as a part of the present step. Costs one test where
 * nobody collects footprints.
 *
 * @param access - how
 * @param object - what
 * @param field - which field of it
 * @param index - first entry, page or word; absent: all of them
 * @param count - how many
 */
export function touch(
	access: Access,
	object: object,
	field?: string,
	index?: number,
	count?: number,
): void {
	const w = installedWorld();
	if (w !== null && w.footprint !== null)
		w.footprint.touch(access, object, field, index, count);
}

/**
 * Say that plain code touches words of an array of which there may be several views.
 *
 * @param access - how
 * @param words - the view
 * @param first - first word of the view
 * @param count - how many
 */
export function touchWords(
	access: Access,
	words: BigUint64Array,
	first: number,
	count: number,
): void {
	if (footprinted())
		touch(access, words.buffer, 'words', words.byteOffset / 8 + first, count);
}
