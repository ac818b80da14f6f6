// SPDX-License-Identifier: GPL-2.0-only
/** Wait queues: the structures. What sleeps on them and wakes is in kernel/sched/wait.ts. */
import type { task_struct } from './sched.ts';

/**
 * One sleeper on a wait queue.
 *
 * @kernel include/linux/wait.h
 */
export class wait_queue_entry {
	readonly task: task_struct;
	/** Woken up, so that it looks at its condition again. */
	woken = false;
	/** wake_up() wakes one of these, not all. */
	readonly exclusive: boolean;
	/** What it waits for; shown by a report of a lost wake-up. */
	readonly condition: (() => boolean) | null;

	/**
	 * @param task - who sleeps
	 * @param condition - what it waits for
	 * @param exclusive - wake_up() wakes one of these, not all
	 */
	constructor(task: task_struct, condition: (() => boolean) | null, exclusive = false) {
		this.task = task;
		this.exclusive = exclusive;
		this.condition = condition;
	}
}

/**
 * A queue of threads that sleep until a condition holds and somebody wakes them.
 *
 * @kernel include/linux/wait.h
 */
export class wait_queue_head {
	/** Name for reports. */
	readonly name: string;
	entries: wait_queue_entry[] = [];

	/** @param name - name for reports, `&mm->notifier_subscriptions->wq` */
	constructor(name: string) {
		this.name = name;
	}
}
