// SPDX-License-Identifier: GPL-2.0-only
/** struct task_struct: a simulated kernel thread or process, and the one on the CPU. */
import type { SchedulePoint, Sim } from '../sim/schedule.ts';
import { world } from '../sim/world.ts';
import type { lock_class } from './lockdep.ts';
import type { mm_struct } from './mm_types.ts';
import type { int } from './types.ts';

export const TASK_RUNNING = 0;
export const TASK_INTERRUPTIBLE = 1;
export const TASK_UNINTERRUPTIBLE = 2;
export const TASK_DEAD = 0x80;

export const PF_WQ_WORKER = 0x20;
export const PF_KTHREAD = 0x200000;

export const SIGBUS = 7;
export const SIGKILL = 9;
export const SIGSEGV = 11;

/** A lock that a task holds, as lockdep keeps it. */
export interface held_lock {
	/** The lock itself. */
	readonly instance: object;
	/** Its class: all locks of one kind share one. */
	readonly lockClass: string;
	/** Its node in the graph of lock orders. */
	readonly dep: lock_class;
	/** 0 for nothing, SINGLE_DEPTH_NESTING for the inner of two of a class. */
	readonly subclass: int;
	/** Taken for reading. */
	readonly shared: boolean;
	/** Taken for reading, and may be taken for reading again below itself. */
	readonly recursive: boolean;
	/** Sleeping is not allowed while it is held. */
	readonly atomic: boolean;
	/** Taken without waiting. */
	readonly trylock: boolean;
	/** Where it was taken, when the world tracks origins. */
	readonly origin: Error | null;
}

/**
 * A simulated thread.
 *
 * @kernel include/linux/sched.h
 */
export class task_struct {
	pid: int = 0;
	comm = '';
	mm: mm_struct | null = null;
	/** CPU it runs on. */
	cpu: int = 0;
	__state: int = TASK_RUNNING;
	/** Depth of sections that must not sleep: spin locks, preempt_disable(). */
	preempt_count: int = 0;
	rcu_read_lock_nesting: int = 0;
	/** Depth of sections in which a blockable notifier must not sleep (non_block_start()). */
	non_block_count: int = 0;
	/** Locks held, outermost first. */
	held_locks: held_lock[] = [];
	/** Signals sent and not handled. */
	pending: Set<int> = new Set();
	/** Signals forced on it by something else than an access of its own, oldest first. */
	siginfo: { readonly sig: int; readonly code: int }[] = [];
	exit_code: int = 0;
	min_flt = 0n;
	maj_flt = 0n;
	/** What it executes; null for the thread that drives run(). */
	body: Sim<unknown> | null = null;
	/** What it is about to do; null before its first step and while it runs. */
	point: SchedulePoint | null = null;
	/** It is being executed, maybe below another thread that waits for it. */
	on_cpu = false;
	/** PF_* flags. */
	flags: int = 0;
	/** kthread_stop() was called. */
	should_stop = false;
	/** RCU read-side sections that it has entered so far. */
	rcu_sections: int = 0;

	/** @param init - designated initialiser */
	constructor(init: Partial<task_struct> = {}) {
		Object.assign(this, init);
	}
}

/**
 * The task on the CPU: C's `current`.
 *
 * @kernel include/asm-generic/current.h
 */
export function current(): task_struct {
	return world().current;
}

/**
 * Whether a task was killed and should give up what it waits for.
 *
 * @param task - the task
 * @kernel include/linux/sched/signal.h
 */
export function fatal_signal_pending(task: task_struct): boolean {
	return task.pending.has(SIGKILL);
}
