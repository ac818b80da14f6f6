// SPDX-License-Identifier: GPL-2.0-only
/**
 * Work queues.
 *
 * Guarantee: work queued once runs once, in a thread of its own; an item never runs in two threads
 * at a time; an ordered queue (max_active 1) runs its items in order. flush and cancel_work_sync()
 * wait as in the kernel, and lockdep knows that they wait for what the work does.
 * Mechanism: a kworker is made when there is work and ends when there is none, so a world at rest
 * has no threads and can be checkpointed.
 */
import { WARN_ON } from '../include/linux/bug.ts';
import { jiffiesToNs } from '../include/linux/jiffies.ts';
import { lockdep_map } from '../include/linux/lockdep.ts';
import { PF_KTHREAD, PF_WQ_WORKER } from '../include/linux/sched.ts';
import type { int, unsigned_int, unsigned_long } from '../include/linux/types.ts';
import { WQ_DFL_ACTIVE, type work_struct, workqueue_struct } from '../include/linux/workqueue.ts';
import { shouldFail } from '../include/sim/fault_injection.ts';
import { type Sim, schedulePoint, touch, waitPoint } from '../include/sim/schedule.ts';
import { perWorld, world } from '../include/sim/world.ts';
import { lock_map_acquire, lock_map_release } from './locking/lockdep.ts';
import { spawn } from './sched/core.ts';
import { might_sleep } from './sched/might_sleep.ts';

/** Numbers kworkers, and keeps the lockdep maps of what flushes wait for. */
class WorkqueueState {
	workers = 0;
	systemQueue = new workqueue_struct('events', WQ_DFL_ACTIVE);
	/** By name of the queue, or of the work function. */
	maps: Map<string, lockdep_map> = new Map();
}

const state = perWorld(() => new WorkqueueState());

function mapOf(name: string): lockdep_map {
	const { maps } = state();
	let map = maps.get(name);
	if (map === undefined) maps.set(name, (map = new lockdep_map(name)));
	return map;
}

/**
 * The queue for work that needs none of its own.
 *
 * @kernel kernel/workqueue.c
 */
export function system_wq(): workqueue_struct {
	return state().systemQueue;
}

/**
 * Make a work queue.
 *
 * @param fmt - its name
 * @param _flags - WQ_*
 * @param max_active - work items that may run at the same time; 0: the default
 * @returns NULL when there is no memory
 * @kernel include/linux/workqueue.h
 */
export function alloc_workqueue(
	fmt: string,
	_flags: unsigned_int,
	max_active: int,
): workqueue_struct | null {
	if (shouldFail('alloc_workqueue')) return null;
	return new workqueue_struct(fmt, max_active === 0 ? WQ_DFL_ACTIVE : max_active);
}

/**
 * Make a work queue that runs its items one after the other.
 *
 * @param fmt - its name
 * @param flags - WQ_*
 * @returns NULL when there is no memory
 * @kernel include/linux/workqueue.h
 */
export function alloc_ordered_workqueue(fmt: string, flags: unsigned_int): workqueue_struct | null {
	return alloc_workqueue(fmt, flags, 1);
}

/**
 * Queue work, unless it is queued already.
 *
 * @param wq - the queue
 * @param work - the work
 * @returns false: it was pending
 * @context Any. Atomic.
 * @kernel include/linux/workqueue.h
 */
export function queue_work(wq: workqueue_struct, work: work_struct): boolean {
	touch('wake', wq);
	touch('atomic', work, 'pending');
	if (work.pending !== null || work.due !== null) return false;
	if (WARN_ON(wq.draining, `workqueue: cannot queue ${work.func.name} on wq ${wq.name}`))
		return false;
	enqueue(wq, work);
	return true;
}

function enqueue(wq: workqueue_struct, work: work_struct): void {
	work.pending = wq;
	wq.items.push(work);
	if (wq.workers.length < Math.min(wq.max_active, wq.items.length + wq.workers.length))
		addWorker(wq);
}

function addWorker(wq: workqueue_struct): void {
	const number = state().workers++;
	const cpu = world().current.cpu;
	const task = spawn(`kworker/${cpu}:${number}-${wq.name}`, () => workerThread(wq), {
		mm: null,
		cpu,
	});
	task.flags |= PF_KTHREAD | PF_WQ_WORKER;
	wq.workers.push(task);
}

/**
 * Queue work on the system's queue.
 *
 * @param work - the work
 * @returns false: it was pending
 * @context Any. Atomic.
 * @kernel include/linux/workqueue.h
 */
export function schedule_work(work: work_struct): boolean {
	return queue_work(system_wq(), work);
}

/**
 * Queue work after a time.
 *
 * @param wq - the queue
 * @param dwork - the work
 * @param delay - jiffies
 * @returns false: it was pending
 * @context Any. Atomic.
 * @kernel include/linux/workqueue.h
 */
export function queue_delayed_work(
	wq: workqueue_struct,
	dwork: work_struct,
	delay: unsigned_long,
): boolean {
	if (delay === 0n) return queue_work(wq, dwork);
	touch('atomic', dwork, 'pending');
	if (dwork.pending !== null || dwork.due !== null) return false;
	const due = world().clock + jiffiesToNs(delay);
	dwork.due = due;
	const timer = function* (): Sim<void> {
		yield waitPoint('wait', dwork, () => dwork.due !== due, due);
		if (dwork.due !== due) return;
		dwork.due = null;
		enqueue(wq, dwork);
	};
	spawn(`timer-${wq.name}`, timer, { mm: null });
	return true;
}

/** The next item that no other worker executes. */
function takeWork(wq: workqueue_struct): work_struct | null {
	const at = wq.items.findIndex((work) => work.worker === null);
	return at < 0 ? null : wq.items.splice(at, 1)[0]!;
}

function* workerThread(wq: workqueue_struct): Sim<void> {
	const { current: self } = world();
	while (wq.items.length > 0) {
		if (world().preemptible) yield schedulePoint('atomic', wq);
		const work = takeWork(wq);
		if (work === null) {
			if (wq.items.length === 0) break;
			yield waitPoint(
				'wait',
				wq,
				() =>
					wq.items.length === 0 ||
					wq.items.some((w) => w.worker === null),
			);
			continue;
		}
		work.pending = null;
		work.worker = self;
		wq.running.push(work);
		const queueMap = mapOf(`(wq_completion)${wq.name}`);
		const workMap = mapOf(`(work_completion)(${work.func.name})`);
		lock_map_acquire(queueMap);
		lock_map_acquire(workMap);
		yield* work.func(work);
		lock_map_release(workMap);
		lock_map_release(queueMap);
		if (world().preemptible) yield schedulePoint('wake', work);
		work.worker = null;
		work.runs++;
		wq.running.splice(wq.running.indexOf(work), 1);
	}
	wq.workers.splice(wq.workers.indexOf(self), 1);
}

function idle(work: work_struct): boolean {
	return work.pending === null && work.worker === null;
}

/**
 * Wait until work that is queued or runs has ended.
 *
 * @param work - the work
 * @returns false: it was idle
 * @context Process context. Sleeps.
 * @kernel kernel/workqueue.c
 */
export function* flush_work(work: work_struct): Sim<boolean> {
	might_sleep();
	if (world().current === work.worker)
		return !WARN_ON(true, 'flush_work() by the work itself');
	const map = mapOf(`(work_completion)(${work.func.name})`);
	lock_map_acquire(map);
	lock_map_release(map);
	if (world().preemptible) yield schedulePoint('wait', work);
	if (idle(work)) return false;
	yield waitPoint('wait', work, () => idle(work));
	return true;
}

/**
 * Wait until all work of a queue that was queued so far has ended.
 *
 * @param wq - the queue
 * @context Process context. Sleeps.
 * @kernel include/linux/workqueue.h
 */
export function* flush_workqueue(wq: workqueue_struct): Sim<void> {
	might_sleep();
	const map = mapOf(`(wq_completion)${wq.name}`);
	lock_map_acquire(map);
	lock_map_release(map);
	if (world().preemptible) yield schedulePoint('wait', wq);
	const flushed = [...new Set([...wq.items, ...wq.running])];
	const target = flushed.map(
		(work) =>
			work.runs + (work.pending === wq ? 1 : 0) + (work.worker === null ? 0 : 1),
	);
	const over = (): boolean =>
		flushed.every((work, i) => work.runs >= target[i]! || idle(work));
	if (!over()) yield waitPoint('wait', wq, over);
}

/**
 * Take work out of its queue, and wait until it has ended if it runs.
 *
 * @param work - the work
 * @returns whether it was pending
 * @context Process context. Sleeps.
 * @kernel kernel/workqueue.c
 */
export function* cancel_work_sync(work: work_struct): Sim<boolean> {
	might_sleep();
	const map = mapOf(`(work_completion)(${work.func.name})`);
	lock_map_acquire(map);
	lock_map_release(map);
	if (world().preemptible) yield schedulePoint('atomic', work, 'pending');
	const pending = cancel_work(work);
	if (work.worker !== null && work.worker !== world().current) {
		yield waitPoint('wait', work, () => work.worker === null);
		cancel_work(work); // it may have queued itself again
	}
	return pending;
}

/**
 * Take work out of its queue.
 *
 * @param work - the work
 * @returns whether it was pending
 * @context Any. Atomic.
 * @kernel kernel/workqueue.c
 */
export function cancel_work(work: work_struct): boolean {
	touch('atomic', work, 'pending');
	const wq = work.pending;
	const timed = work.due !== null;
	work.due = null;
	if (wq === null) return timed;
	wq.items.splice(wq.items.indexOf(work), 1);
	work.pending = null;
	return true;
}

/**
 * Take delayed work out of its queue, and wait until it has ended if it runs.
 *
 * @param dwork - the work
 * @returns whether it was pending
 * @context Process context. Sleeps.
 * @kernel kernel/workqueue.c
 */
export function* cancel_delayed_work_sync(dwork: work_struct): Sim<boolean> {
	return yield* cancel_work_sync(dwork);
}

/**
 * Let a queue run empty, work that its work queues included, and take it down.
 *
 * @param wq - the queue
 * @context Process context. Sleeps.
 * @kernel kernel/workqueue.c
 */
export function* destroy_workqueue(wq: workqueue_struct): Sim<void> {
	might_sleep();
	yield* flush_workqueue(wq);
	const empty = (): boolean => wq.items.length === 0 && wq.workers.length === 0;
	if (!empty()) yield waitPoint('wait', wq, empty);
	wq.draining = true;
}
