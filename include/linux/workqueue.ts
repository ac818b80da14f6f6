// SPDX-License-Identifier: GPL-2.0-only
/** struct work_struct and workqueue_struct. The functions are in kernel/workqueue.ts. */
import type { Sim } from '../sim/schedule.ts';
import type { task_struct } from './sched.ts';
import type { int } from './types.ts';

export const WQ_UNBOUND = 1 << 1;
export const WQ_FREEZABLE = 1 << 2;
export const WQ_MEM_RECLAIM = 1 << 3;
export const WQ_HIGHPRI = 1 << 4;
/** Work items of a queue without a limit of its own that may run at the same time. */
export const WQ_DFL_ACTIVE: int = 1024;

/** What a work item does. */
export type work_func_t = (work: work_struct) => Sim<void>;

/**
 * A work item.
 *
 * @kernel include/linux/workqueue_types.h
 */
export class work_struct {
	func: work_func_t;
	/** The object that embeds it (container_of()). */
	container: object | null;
	/** The queue in which it waits; null: it is not pending. */
	pending: workqueue_struct | null = null;
	/** The thread that executes it now. */
	worker: task_struct | null = null;
	/** How often it has run. */
	runs: int = 0;
	/** delayed_work: when it is queued (ns); null: no timer runs. */
	due: bigint | null = null;

	/**
	 * @param func - INIT_WORK()'s function
	 * @param container - the object that embeds it
	 */
	constructor(func: work_func_t, container: object | null = null) {
		this.func = func;
		this.container = container;
	}
}

/**
 * A work queue.
 *
 * @kernel kernel/workqueue.c
 */
export class workqueue_struct {
	readonly name: string;
	readonly max_active: int;
	/** Work that waits for a worker, oldest first. */
	items: work_struct[] = [];
	/** Work that runs now. */
	running: work_struct[] = [];
	/** Threads that work for it now. */
	workers: task_struct[] = [];
	/** destroy_workqueue() was called. */
	draining = false;

	/**
	 * @param name - its name
	 * @param max_active - work items that may run at the same time
	 */
	constructor(name: string, max_active: int) {
		this.name = name;
		this.max_active = max_active;
	}
}
