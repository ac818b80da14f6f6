// SPDX-License-Identifier: GPL-2.0-only
/**
 * Wait queues.
 *
 * Guarantee: a sleeper looks at its condition again only when somebody has woken it, as in the
 * kernel: a wake_up() that is missing shows as a hung task. Mechanism: each sleeper has an entry on
 * the queue; its schedule point is ready when the entry was woken, a fatal signal came (killable
 * waits) or the deadline has passed. A wake-up is one step with the code around it (`touch()`).
 */
import { ERESTARTSYS } from '../../include/linux/errno.ts';
import { jiffies, jiffiesToNs } from '../../include/linux/jiffies.ts';
import { fatal_signal_pending, type task_struct } from '../../include/linux/sched.ts';
import type { int, long } from '../../include/linux/types.ts';
import { wait_queue_entry, wait_queue_head } from '../../include/linux/wait.ts';
import { Point, type Sim, schedulePoint, touch } from '../../include/sim/schedule.ts';
import { perWorld, world } from '../../include/sim/world.ts';
import { might_sleep } from './might_sleep.ts';

/** How a wait ends early. */
type Mode = 'uninterruptible' | 'killable';

/** Sleep until `condition` holds; false: a signal came, or the deadline passed first. */
function* sleepOn(
	wq: wait_queue_head,
	condition: () => boolean,
	mode: Mode,
	deadline: bigint | undefined,
): Sim<boolean> {
	might_sleep();
	const w = world();
	const task = w.current;
	if (w.preemptible) yield schedulePoint('wait', wq);
	while (!condition()) {
		if (mode === 'killable' && fatal_signal_pending(task)) return false;
		if (deadline !== undefined && w.clock >= deadline) return false;
		const entry = new wait_queue_entry(task, condition);
		wq.entries.push(entry);
		yield new Point(
			'wait',
			wq,
			undefined,
			undefined,
			undefined,
			readiness(entry, mode),
			deadline,
		);
		const at = wq.entries.indexOf(entry);
		if (at >= 0) wq.entries.splice(at, 1);
	}
	return true;
}

function readiness(entry: wait_queue_entry, mode: Mode): () => boolean {
	if (mode === 'uninterruptible') return () => entry.woken;
	return () => entry.woken || fatal_signal_pending(entry.task);
}

/**
 * Sleep until a condition holds. It is looked at when somebody wakes the queue.
 *
 * @param wq - the queue
 * @param condition - looks at state, changes none
 * @context Process context. Sleeps.
 * @kernel include/linux/wait.h
 */
export function* wait_event(wq: wait_queue_head, condition: () => boolean): Sim<void> {
	yield* sleepOn(wq, condition, 'uninterruptible', undefined);
}

/**
 * wait_event() that a fatal signal ends.
 *
 * @param wq - the queue
 * @param condition - looks at state, changes none
 * @retval 0 it holds
 * @retval -ERESTARTSYS a fatal signal came
 * @context Process context. Sleeps.
 * @kernel include/linux/wait.h
 */
export function* wait_event_killable(wq: wait_queue_head, condition: () => boolean): Sim<int> {
	return (yield* sleepOn(wq, condition, 'killable', undefined)) ? 0 : -ERESTARTSYS;
}

/**
 * wait_event() that a signal ends.
 *
 * @param wq - the queue
 * @param condition - looks at state, changes none
 * @retval 0 it holds
 * @retval -ERESTARTSYS a signal came
 * @context Process context. Sleeps.
 * @kernel include/linux/wait.h
 */
export function* wait_event_interruptible(wq: wait_queue_head, condition: () => boolean): Sim<int> {
	return (yield* sleepOn(wq, condition, 'killable', undefined)) ? 0 : -ERESTARTSYS;
}

/**
 * wait_event() with a limit.
 *
 * @param wq - the queue
 * @param condition - looks at state, changes none
 * @param timeout - jiffies
 * @returns 0 when the time is over and it does not hold; else what is left, at least 1
 * @context Process context. Sleeps.
 * @kernel include/linux/wait.h
 */
export function* wait_event_timeout(
	wq: wait_queue_head,
	condition: () => boolean,
	timeout: long,
): Sim<long> {
	const end = jiffies() + timeout;
	const deadline = world().clock + jiffiesToNs(timeout);
	if (!(yield* sleepOn(wq, condition, 'uninterruptible', deadline))) return 0n;
	const left = end - jiffies();
	return left > 1n ? left : 1n;
}

function wake(wq: wait_queue_head, exclusive: number): void {
	touch('wake', wq);
	let left = exclusive;
	for (const entry of wq.entries) {
		if (entry.woken) continue;
		entry.woken = true;
		if (entry.exclusive && --left === 0) break;
	}
}

/**
 * Wake the sleepers, of the exclusive ones the first.
 *
 * @param wq - the queue
 * @context Any. Atomic.
 * @kernel include/linux/wait.h
 */
export function wake_up(wq: wait_queue_head): void {
	wake(wq, 1);
}

/**
 * Wake the sleepers, and some of the exclusive ones.
 *
 * @param wq - the queue
 * @param nr - how many exclusive ones
 * @context Any. Atomic.
 * @kernel include/linux/wait.h
 */
export function wake_up_nr(wq: wait_queue_head, nr: int): void {
	wake(wq, nr);
}

/**
 * Wake all sleepers.
 *
 * @param wq - the queue
 * @context Any. Atomic.
 * @kernel include/linux/wait.h
 */
export function wake_up_all(wq: wait_queue_head): void {
	wake(wq, 0);
}

/**
 * Whether somebody sleeps on a queue.
 *
 * @param wq - the queue
 * @kernel include/linux/wait.h
 */
export function waitqueue_active(wq: wait_queue_head): boolean {
	return wq.entries.length > 0;
}

/** Queues of things that have none of their own. */
const varQueues = perWorld(() => new Map<object, wait_queue_head>());

function queueOf(variable: object): wait_queue_head {
	const queues = varQueues();
	let wq = queues.get(variable);
	if (wq === undefined) queues.set(variable, (wq = new wait_queue_head('wait_var_event')));
	return wq;
}

/**
 * Sleep until a condition about `variable` holds, on a queue that stands for its address.
 *
 * @param variable - what the waker names
 * @param condition - looks at state, changes none
 * @context Process context. Sleeps.
 * @kernel include/linux/wait_bit.h
 */
export function* wait_var_event(variable: object, condition: () => boolean): Sim<void> {
	if (!world().preemptible && condition()) return might_sleep();
	const wq = queueOf(variable);
	yield* wait_event(wq, condition);
	if (wq.entries.length === 0) varQueues().delete(variable);
}

/**
 * Wake who sleeps in wait_var_event() on `variable`.
 *
 * @param variable - what the sleeper names
 * @context Any. Atomic.
 * @kernel kernel/sched/wait_bit.c
 */
export function wake_up_var(variable: object): void {
	const wq = varQueues().get(variable);
	if (wq !== undefined) wake_up_all(wq);
}

/**
 * Make a task look at its signals: it ends a killable wait.
 *
 * @param task - the task
 * @param sig - SIGKILL
 * @kernel kernel/signal.c
 */
export function send_sig(sig: int, task: task_struct): void {
	touch('wake', task);
	task.pending.add(sig);
}
