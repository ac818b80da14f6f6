// SPDX-License-Identifier: GPL-2.0-only
/** What is printed when no thread can go on, or when one goes on for ever. */
import { fileReport } from '../../include/linux/bug.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { wait_queue_entry } from '../../include/linux/wait.ts';
import { formatTrace } from '../../include/sim/origin.ts';
import { KernelOops } from '../../include/sim/report.ts';
import type { SchedulePoint } from '../../include/sim/schedule.ts';
import { heldLocks } from '../locking/lockdep_report.ts';

interface Tasks {
	readonly threads: readonly task_struct[];
	readonly driven: readonly task_struct[];
	crashed: boolean;
}

/**
 * Name of what a point touches.
 *
 * @param object - lock, wait queue, task, …
 */
export function objectName(object: object): string {
	const { name, comm, pid } = object as { name?: unknown; comm?: unknown; pid?: unknown };
	if (typeof comm === 'string') return `task ${comm}/${String(pid)}`;
	if (typeof name === 'string') return name;
	return object.constructor.name;
}

function holder(point: SchedulePoint, tasks: readonly task_struct[]): string {
	const holders = tasks.filter(
		(t) =>
			t.point?.object !== point.object &&
			t.held_locks.some((h) => h.instance === point.object),
	);
	const { owner } = point.object as { owner?: task_struct | null };
	if (owner && !holders.includes(owner)) holders.push(owner);
	if (holders.length === 0) return '';
	return `, held by ${holders.map((t) => `${t.comm}/${t.pid}`).join(', ')}`;
}

function lostWakeup(point: SchedulePoint): string[] {
	const { object } = point;
	const { entries } = object as { entries?: unknown };
	if (!Array.isArray(entries)) return [];
	const lost = entries.some(
		(e) => e instanceof wait_queue_entry && !e.woken && e.condition?.() === true,
	);
	return lost
		? ['      Its condition is true, but nobody woke it: a wake_up() is missing.']
		: [];
}

function indent(line: string): string {
	return `      ${line}`;
}

/**
 * No thread can go on and no deadline is left.
 *
 * @param s - the tasks
 * @throws KernelOops always
 */
export function hungTasks(s: Tasks): never {
	s.crashed = true;
	const tasks = [...new Set([...s.driven, ...s.threads])];
	const blocked = tasks.filter((t) => t.point !== null);
	const lines = blocked.flatMap((task) => {
		const point = task.point!;
		return [
			`INFO: task ${task.comm}:${task.pid} blocked for more than 120 seconds.`,
			`      Waits to ${point.access} ${objectName(point.object)}${holder(point, tasks)}.`,
			...lostWakeup(point),
			...(point.origin
				? ['      Call Trace:', ...formatTrace(point.origin).map(indent)]
				: []),
		];
	});
	const first = blocked[0];
	const title =
		first === undefined
			? 'INFO: no thread can go on'
			: `INFO: task ${first.comm}:${first.pid} blocked for more than 120 seconds (deadlock).`;
	const held = blocked.filter((t) => t.held_locks.length !== 0).flatMap(heldLocks);
	throw new KernelOops(
		fileReport('sched', title, [
			...lines,
			'',
			'Showing all locks held in the system:',
			...(held.length === 0 ? ['none'] : held),
			'',
		]),
	);
}

/**
 * A thread goes on and on.
 *
 * @param s - the tasks
 * @param bound - how many points that was
 * @param point - the newest
 * @throws KernelOops always
 */
export function livelock(s: Tasks, bound: number, point: SchedulePoint | null): never {
	const tasks = [...new Set([...s.driven, ...s.threads])];
	s.crashed = true;
	const what =
		point === null
			? ''
			: `, the newest is ${point.access} of ${objectName(point.object)}`;
	throw new KernelOops(
		fileReport(
			'sched',
			`watchdog: BUG: soft lockup - ${bound} schedule points without progress`,
			[
				`No thread ended and no time passed in ${bound} points${what}.`,
				'The usual cause is a retry loop whose condition no thread can make true.',
				...tasks.map(
					(t) =>
						`  ${t.comm}/${t.pid}: ${t.point?.access ?? 'running'}`,
				),
			],
		),
	);
}

/**
 * Threads sleep and wake, and nothing comes of it.
 *
 * @param s - the tasks
 * @param bound - how often virtual time moved
 * @throws KernelOops always
 */
export function endlessPolling(s: Tasks, bound: number): never {
	s.crashed = true;
	const tasks = [...new Set([...s.driven, ...s.threads])];
	throw new KernelOops(
		fileReport('sched', `INFO: no thread ended in ${bound} timed waits`, [
			'The usual cause is a thread that polls for something that no thread does any more.',
			...tasks.map(
				(t) => `  ${t.comm}/${t.pid}: ${t.point?.access ?? 'running'}`,
			),
		]),
	);
}
