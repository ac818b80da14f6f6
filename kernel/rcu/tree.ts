// SPDX-License-Identifier: GPL-2.0-only
/**
 * RCU: readers that never wait, and grace periods that wait for them.
 *
 * Guarantee: synchronize_rcu() returns after every reader that was inside when it was called has
 * left; readers that come later do not hold it up. Mechanism: a task numbers its read-side
 * sections; a grace period notes who is inside, in which section, and waits until each has gone on.
 */
import { BUG_ON } from '../../include/linux/bug.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { type Sim, schedulePoint, touch, waitPoint } from '../../include/sim/schedule.ts';
import { perWorld, world } from '../../include/sim/world.ts';
import { scheduler, spawn } from '../sched/core.ts';
import { might_sleep } from '../sched/might_sleep.ts';

/** What call_rcu() remembers. */
export interface rcu_callback {
	/** What runs after the grace period. */
	readonly func: (data: unknown) => void;
	readonly data: unknown;
}

/** RCU in one world; also the object that its schedule points name. */
export class RcuState {
	readonly name = 'rcu_state';
	/** Callbacks that wait for a grace period. */
	callbacks: rcu_callback[] = [];
	/** The thread that waits on their behalf. */
	thread: task_struct | null = null;
}

/** The installed world's RCU. */
export const rcuState = perWorld(() => new RcuState());

/**
 * Enter a read-side section. It must not sleep.
 *
 * @kernel include/linux/rcupdate.h
 */
export function rcu_read_lock(): void {
	const { current, footprint } = world();
	if (current.rcu_read_lock_nesting++ === 0) current.rcu_sections++;
	if (footprint !== null) footprint.touch('rcu', rcuState());
}

/**
 * Leave a read-side section.
 *
 * @kernel include/linux/rcupdate.h
 */
export function rcu_read_unlock(): void {
	const { current, footprint } = world();
	BUG_ON(current.rcu_read_lock_nesting === 0, 'rcu_read_unlock() without rcu_read_lock()');
	current.rcu_read_lock_nesting--;
	if (footprint !== null) footprint.touch('rcu', rcuState());
}

/**
 * Whether the current task is inside a read-side section.
 *
 * @kernel include/linux/rcupdate.h
 */
export function rcu_read_lock_held(): boolean {
	return world().current.rcu_read_lock_nesting > 0;
}

/** Whether every reader that is inside now will have left. */
function gracePeriod(): () => boolean {
	const { threads, driven } = scheduler();
	const readers: task_struct[] = [];
	const sections: number[] = [];
	for (const tasks of [driven, threads])
		for (const task of tasks)
			if (task.rcu_read_lock_nesting > 0) {
				readers.push(task);
				sections.push(task.rcu_sections);
			}
	return () =>
		readers.every(
			(t, i) => t.rcu_read_lock_nesting === 0 || t.rcu_sections !== sections[i],
		);
}

/**
 * Wait until every reader that is inside now has left.
 *
 * @context Process context, outside read-side sections. Sleeps.
 * @kernel kernel/rcu/tree.c
 */
export function* synchronize_rcu(): Sim<void> {
	might_sleep();
	const w = world();
	if (w.preemptible) yield schedulePoint('rcu', rcuState());
	const over = gracePeriod();
	if (w.preemptible || !over()) yield waitPoint('rcu', rcuState(), over);
}

/**
 * Call a function after a grace period.
 *
 * @param func - the function
 * @param data - its argument, in place of the kernel's embedded rcu_head
 * @context Any.
 * @kernel kernel/rcu/tree.c
 */
export function call_rcu<T>(func: (data: T) => void, data: T): void {
	const state = rcuState();
	touch('rcu', state);
	state.callbacks.push({ func: func as (data: unknown) => void, data });
	state.thread ??= spawn('rcu_preempt', rcuThread, { mm: null });
}

function* rcuThread(): Sim<void> {
	const state = rcuState();
	while (state.callbacks.length > 0) {
		const batch = state.callbacks;
		state.callbacks = [];
		yield* synchronize_rcu();
		for (const { func, data } of batch) func(data);
	}
	state.thread = null;
}

/**
 * Wait until every callback given so far was called.
 *
 * @context Process context. Sleeps.
 * @kernel kernel/rcu/tree.c
 */
export function* rcu_barrier(): Sim<void> {
	might_sleep();
	const state = rcuState();
	if (state.thread !== null) yield waitPoint('rcu', state, () => state.thread === null);
}
