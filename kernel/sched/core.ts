// SPDX-License-Identifier: GPL-2.0-only
/**
 * The scheduler of simulated threads.
 *
 * Guarantee: one thread runs at a time and is left only at a schedule point that it hands out.
 * `run()` keeps to one thread as long as it can go on; `runThreads()` asks a strategy before each
 * step. Where nobody can go on, virtual time moves to the next deadline; where there is none, the
 * run ends with the kernel's "INFO: task … blocked" for each thread.
 * Mechanism: a thread is a generator in `task.body`; what it is about to do stands in `task.point`.
 * Duty: kernel code calls neither; tests, boot code and tools do.
 */

import type { Machine } from '../../arch/sim/machine.ts';
import type { mm_struct } from '../../include/linux/mm_types.ts';
import {
	TASK_DEAD,
	TASK_RUNNING,
	TASK_UNINTERRUPTIBLE,
	task_struct,
} from '../../include/linux/sched.ts';
import type { int } from '../../include/linux/types.ts';
import { HarnessError } from '../../include/sim/report.ts';
import { type SchedulePoint, type Sim, schedulePoint, touch } from '../../include/sim/schedule.ts';
import { perWorld, type World, world } from '../../include/sim/world.ts';
import { reportLocksHeldAtExit } from '../locking/lockdep_report.ts';
import { goThrough, makeBody } from './body.ts';
import { endlessPolling, hungTasks, livelock } from './hung_task.ts';
import { might_sleep } from './might_sleep.ts';
import { inOrder, type Strategy } from './strategy.ts';

/**
 * Most schedule points in one run() or runThreads() without a thread that ends or time that moves.
 * The usual cause: a retry loop whose condition nobody can make true.
 */
export const MAX_POINTS = 10_000_000;

/**
 * Most moves of virtual time in one run() or runThreads() without a thread that ends. The usual
 * cause: a thread that polls for something that nobody does any more.
 */
export const MAX_TIMED_WAITS = 1_000_000;

/** Virtual time that passes when a thread gives its CPU up without waiting: 1 µs. */
export const YIELD_NS = 1000n;

/** How many times a thread that never waits may give its CPU up before run() lets others step. */
const YIELDS_PER_SLICE = 64;

/** The threads of one world. */
export class Scheduler {
	/** Next free pid; 0 is the idle task, 1 is init. */
	nextPid: int = 2;
	/** Threads that have not ended, in the order in which they were made. */
	threads: task_struct[] = [];
	/** Tasks inside run(), outermost first. */
	driven: task_struct[] = [];
	/** Points since something last ended or time last moved, and how many are too many. */
	points = 0;
	maxPoints = MAX_POINTS;
	/** Times that a task in run() gave its CPU up without waiting. */
	yields = 0;
	/** Moves of virtual time since a thread ended. */
	timedWaits = 0;
	/** An exception has ended the run: what the threads wait for means nothing any more. */
	crashed = false;
	/** Scratch for the threads that can go on. */
	runnable: task_struct[] = [];
}

/** The installed world's scheduler. */
export const scheduler = perWorld(() => new Scheduler());

/** How a thread is made. */
export interface ThreadOptions {
	/** Address space; default: that of the task that makes it, null for kernel threads. */
	readonly mm?: mm_struct | null;
	/** Name. */
	readonly comm?: string;
	/** CPU it runs on; default: that of the task that makes it. */
	readonly cpu?: int;
	/** run(): the task as which the body runs, instead of a fresh one. */
	readonly task?: task_struct;
}

function newTask(w: World, opts: ThreadOptions): task_struct {
	const parent = w.current;
	const task = new task_struct();
	task.pid = scheduler().nextPid++;
	task.comm = opts.comm ?? parent.comm;
	task.mm = opts.mm === undefined ? parent.mm : opts.mm;
	task.cpu = opts.cpu ?? parent.cpu;
	return task;
}

/**
 * Drive kernel code to its end: the single-threaded use of anything that is called with `yield*`.
 * Other threads make steps only while it waits.
 *
 * @param body - a generator, or the function that makes it
 * @param opts - run as a fresh task, or another one; default: as the current task
 * @returns what the body returns
 * @throws KernelOops when it waits for something that nobody can do
 */
export function run<T>(body: Sim<T> | (() => Sim<T>), opts?: ThreadOptions): T {
	const w = world();
	const s = scheduler();
	const before = w.current;
	const wasPreemptible = w.preemptible;
	let task = before;
	if (opts !== undefined) task = opts.task ?? newTask(w, opts);
	if (task !== before && task.on_cpu)
		throw new HarnessError('run()', `task ${task.comm}/${task.pid} is running already`);
	const wasOnCpu = task.on_cpu;
	w.current = task;
	w.preemptible = false;
	task.on_cpu = true;
	s.driven.push(task);
	if (s.driven.length === 1) s.points = s.timedWaits = s.yields = 0;
	try {
		const value = goThrough(body, passPoint);
		if (opts !== undefined && task.held_locks.length !== 0)
			reportLocksHeldAtExit(task, false);
		return value;
	} finally {
		s.driven.pop();
		task.on_cpu = wasOnCpu;
		w.current = before;
		w.preemptible = wasPreemptible;
	}
}

/** The task in run() has come to a point: it goes on when this returns. */
function passPoint(point: SchedulePoint): void {
	const w = world();
	const s = scheduler();
	if (++s.points > s.maxPoints) livelock(s, s.maxPoints, point);
	if (point.ready !== undefined) {
		if (!point.ready()) waitFor(w, s, w.current, point);
	} else if (point.access === 'yield') {
		w.clock += YIELD_NS;
		if (++s.yields % YIELDS_PER_SLICE === 0) stepOthers(w, s, w.current);
	}
}

function canRun(w: World, task: task_struct): boolean {
	if (task.on_cpu) return false;
	const { point } = task;
	if (point === null || point.ready === undefined || point.ready()) return true;
	return point.deadline !== undefined && w.clock >= point.deadline;
}

function nextRunnable(w: World, s: Scheduler): task_struct | null {
	const { threads } = s;
	for (let i = 0; i < threads.length; i++) if (canRun(w, threads[i]!)) return threads[i]!;
	return null;
}

/** Let other threads run until the point of a task in run() is ready or its time has come. */
function waitFor(w: World, s: Scheduler, task: task_struct, point: SchedulePoint): void {
	const ready = point.ready!;
	task.point = point;
	task.__state = TASK_UNINTERRUPTIBLE;
	while (!ready()) {
		if (point.deadline !== undefined && w.clock >= point.deadline) break;
		const other = nextRunnable(w, s);
		if (other === null) {
			if (!advanceClock(w, s)) hungTasks(s);
			continue;
		}
		do step(w, s, other);
		while (
			!ready() &&
			other.point?.access !== 'yield' &&
			isThere(s, other) &&
			canRun(w, other)
		);
	}
	task.point = null;
	task.__state = TASK_RUNNING;
	w.current = task;
}

/** One step of each thread that can go on. */
function stepOthers(w: World, s: Scheduler, task: task_struct): void {
	for (const other of [...s.threads])
		if (isThere(s, other) && canRun(w, other)) step(w, s, other);
	w.current = task;
}

function isThere(s: Scheduler, task: task_struct): boolean {
	return s.threads.includes(task);
}

/** Move virtual time to the next deadline; false: there is none. */
function advanceClock(w: World, s: Scheduler): boolean {
	let next: bigint | null = null;
	for (const tasks of [s.threads, s.driven])
		for (const { point } of tasks) {
			const deadline = point?.deadline;
			if (deadline !== undefined && (next === null || deadline < next))
				next = deadline;
		}
	if (next === null) return false;
	if (++s.timedWaits > MAX_TIMED_WAITS) endlessPolling(s, MAX_TIMED_WAITS);
	if (next > w.clock) w.clock = next;
	s.points = 0;
	return true;
}

/** Let a thread go on to its next schedule point. */
function step(w: World, s: Scheduler, task: task_struct): void {
	if (++s.points > MAX_POINTS) livelock(s, MAX_POINTS, task.point);
	const before = w.current;
	w.current = task;
	task.on_cpu = true;
	task.point = null;
	task.__state = TASK_RUNNING;
	let done = true;
	let threw = true;
	try {
		const result = task.body!.next();
		threw = false;
		if (result.done === true) {
			if (typeof result.value === 'number') task.exit_code = result.value;
			if (task.held_locks.length !== 0) reportLocksHeldAtExit(task, true);
		} else {
			done = false;
			const { value } = result;
			task.point = value;
			if (value.ready !== undefined) task.__state = TASK_UNINTERRUPTIBLE;
			else if (value.access === 'yield') w.clock += YIELD_NS;
		}
	} finally {
		task.on_cpu = false;
		w.current = before;
		if (done) bury(s, task);
		if (threw) s.crashed = true;
	}
}

function bury(s: Scheduler, task: task_struct): void {
	task.__state = TASK_DEAD;
	task.body = null;
	s.threads.splice(s.threads.indexOf(task), 1);
	s.points = s.timedWaits = 0;
	touch('wake', task);
}

/**
 * Make a thread; it runs when runThreads() is called or when a run() waits.
 *
 * @param name - its comm
 * @param fn - what it does
 * @param opts - CPU, default: the machine's in turn; address space
 */
export function spawn(name: string, fn: () => Sim<unknown>, opts: ThreadOptions = {}): task_struct {
	const w = world();
	const s = scheduler();
	const cpus = (w.machine as Partial<Machine>).cpus?.length ?? Infinity;
	const task = newTask(w, { cpu: s.threads.length % cpus, ...opts, comm: name });
	task.body = makeBody(fn);
	s.threads.push(task);
	return task;
}

/**
 * Give the CPU up, without waiting for anything.
 *
 * @context Process context.
 * @kernel include/linux/sched.h
 */
export function* cond_resched(): Sim<void> {
	might_sleep();
	const w = world();
	yield schedulePoint('yield', w.current);
}

/**
 * Let other CPUs go on while this one spins.
 *
 * @context Any.
 * @kernel arch/x86/include/asm/vdso/processor.h
 */
export function* cpu_relax(): Sim<void> {
	yield schedulePoint('yield', world().current);
}

/**
 * Let all threads run to their ends.
 *
 * @param strategy - who runs next; default: each until it must wait
 * @throws KernelOops when none can go on
 */
export function runThreads(strategy: Strategy = inOrder): void {
	const w = world();
	const s = scheduler();
	if (s.driven.length !== 0)
		throw new HarnessError(
			'runThreads()',
			'must not be called by a thread or inside run()',
		);
	const before = w.preemptible;
	w.preemptible = strategy.preemptive;
	s.points = s.timedWaits = 0;
	let last: task_struct | null = null;
	try {
		while (s.threads.length !== 0) {
			const runnable = collectRunnable(w, s);
			if (runnable.length === 0) {
				if (!advanceClock(w, s)) hungTasks(s);
				continue;
			}
			last = strategy.pick(runnable, last);
			step(w, s, last);
		}
	} finally {
		w.preemptible = before;
	}
}

function collectRunnable(w: World, s: Scheduler): task_struct[] {
	const { runnable, threads } = s;
	let n = 0;
	for (let i = 0; i < threads.length; i++) {
		const task = threads[i]!;
		if (canRun(w, task)) runnable[n++] = task;
	}
	runnable.length = n;
	return runnable;
}

/**
 * Make single steps by hand, as a test of one interleaving does.
 *
 * @param task - who makes the step; must be able to
 * @returns whether it has more to do
 */
export function stepThread(task: task_struct): boolean {
	const w = world();
	const s = scheduler();
	if (!isThere(s, task))
		throw new HarnessError('stepThread()', `task ${task.comm}/${task.pid} has ended`);
	if (!canRun(w, task))
		throw new HarnessError(
			'stepThread()',
			`task ${task.comm}/${task.pid} waits and can't go on`,
		);
	const before = w.preemptible;
	w.preemptible = true;
	try {
		step(w, s, task);
	} finally {
		w.preemptible = before;
	}
	return isThere(s, task);
}
