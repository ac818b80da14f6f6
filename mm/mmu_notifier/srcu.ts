// SPDX-License-Identifier: GPL-2.0-only
/**
 * Sleepable RCU, as far as the list of classic notifiers needs it.
 *
 * Guarantee: synchronize_srcu() returns when every reader that was inside when it was called has
 * left; a callback runs after such a wait.
 * Mechanism: readers are numbered in the order of entry; a wait is over when the oldest reader
 * inside is newer. The reader that ends a wait runs the callbacks: there is no thread for them.
 */

import type { int } from '../../include/linux/types.ts';
import { type Sim, touch, waitPoint } from '../../include/sim/schedule.ts';
import { perWorld, world } from '../../include/sim/world.ts';
import { might_sleep } from '../../kernel/sched/might_sleep.ts';

/** Something that waits for the readers that were inside when it was queued. */
export interface rcu_head {
	/** Number of the first reader that it does not wait for. */
	readonly before: int;
	/** What runs after the grace period. */
	readonly func: (data: object) => Sim<void>;
	readonly data: object;
}

/**
 * One domain of readers.
 *
 * @kernel include/linux/srcu.h
 */
export class srcu_struct {
	/** Number that the next reader gets. */
	next: int = 0;
	/** Readers inside, oldest first. */
	readers: int[] = [];
	/** Callbacks that wait, oldest first. */
	callbacks: rcu_head[] = [];
}

/** The domain of all classic notifiers. */
export const notifierSrcu = perWorld(() => new srcu_struct());

/** Whether all readers older than `before` have left. */
function quiescent(ssp: srcu_struct, before: int): boolean {
	const oldest = ssp.readers[0];
	return oldest === undefined || oldest >= before;
}

/**
 * Enter a reader section.
 *
 * @param ssp - the domain
 * @returns what srcu_read_unlock() wants
 * @kernel include/linux/srcu.h
 */
export function srcu_read_lock(ssp: srcu_struct): int {
	touch('rcu', ssp);
	const id = ssp.next++;
	ssp.readers.push(id);
	return id;
}

/**
 * Leave a reader section.
 *
 * @param ssp - the domain
 * @param idx - what srcu_read_lock() returned
 * @kernel include/linux/srcu.h
 */
export function* srcu_read_unlock(ssp: srcu_struct, idx: int): Sim<void> {
	touch('rcu', ssp);
	ssp.readers.splice(ssp.readers.indexOf(idx), 1);
	yield* runCallbacks(ssp);
}

function* runCallbacks(ssp: srcu_struct): Sim<void> {
	for (;;) {
		const head = ssp.callbacks[0];
		if (head === undefined || !quiescent(ssp, head.before)) return;
		ssp.callbacks.shift();
		yield* head.func(head.data);
	}
}

/**
 * Wait for the readers inside.
 *
 * @param ssp - the domain
 * @context Process context, not in a reader section of the domain. Sleeps.
 * @kernel kernel/rcu/srcutree.c
 */
export function* synchronize_srcu(ssp: srcu_struct): Sim<void> {
	might_sleep();
	const before = ssp.next;
	if (world().preemptible || !quiescent(ssp, before))
		yield waitPoint('wait', ssp, () => quiescent(ssp, before));
}

/**
 * Call a function when the readers inside have left: at once if there are none.
 *
 * @param ssp - the domain
 * @param func - the function
 * @param data - its argument
 * @deviates runs in the caller where the kernel would use a worker
 * @kernel kernel/rcu/srcutree.c
 */
export function* call_srcu(
	ssp: srcu_struct,
	func: (data: object) => Sim<void>,
	data: object,
): Sim<void> {
	ssp.callbacks.push({ before: ssp.next, func, data });
	yield* runCallbacks(ssp);
}
