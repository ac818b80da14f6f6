// SPDX-License-Identifier: GPL-2.0-only
/** What lockdep prints, in the kernel's layout (kernel/locking/lockdep.c). */
import type { lock_class, lock_dependency } from '../../include/linux/lockdep.ts';
import type { held_lock, task_struct } from '../../include/linux/sched.ts';
import type { int } from '../../include/linux/types.ts';
import { captureTrace, formatTrace, traceFrames } from '../../include/sim/origin.ts';
import type { ReportKind } from '../../include/sim/report.ts';
import { world } from '../../include/sim/world.ts';

const releases = { 'v6.12': '6.12.117', 'v7.3': '7.3.4' } as const;

/** The line by which a kernel names itself in a splat. */
export function kernelIdent(): string {
	return `${releases[world().profile]} #1 Not tainted`;
}

/** A class as splats name it: `&mm->mmap_lock/1`. */
export function className(of: lock_class): string {
	return of.subclass === 0 ? of.name : `${of.name}/${of.subclass}`;
}

function usage({ dep, shared }: { dep: lock_class; shared: boolean }): string {
	const wait = dep.atomic ? '2:2' : '3:3';
	return `{${shared ? '++++' : '+.+.'}}-{${wait}}`;
}

/** The functions of a trace that lie outside lockdep itself, as lines. */
function traceLines(trace: Error | null): string[] {
	if (trace === null) return formatTrace(trace);
	return traceFrames(trace)
		.filter(({ at }) => !at.startsWith('kernel/locking/lockdep'))
		.map(({ name, at }) => ` ${name} ${at}`);
}

function place(trace: Error | null): string {
	const [top] = trace === null ? [] : traceFrames(trace).filter(outsideLocking);
	return top === undefined ? 'unknown (boot with trackOrigins)' : `${top.name} ${top.at}`;
}

function outsideLocking({ at }: { at: string }): boolean {
	return !at.startsWith('kernel/locking/');
}

function lockLine(held: held_lock, trace: Error | null): string {
	return `(${className(held.dep)}){${usage(held).slice(1)}, at: ${place(trace)}`;
}

/**
 * `2 locks held by comm/pid:` and a line for each.
 *
 * @param task - whose locks
 */
export function heldLocks(task: task_struct): string[] {
	const { held_locks: held, comm, pid } = task;
	if (held.length === 0) return [`no locks held by ${comm}/${pid}.`];
	return [
		`${held.length} lock${held.length > 1 ? 's' : ''} held by ${comm}/${pid}:`,
		...held.map((h, i) => ` #${i}: ${lockLine(h, h.origin)}`),
	];
}

/**
 * File a report framed by rules, as lockdep prints it.
 *
 * @param kind - who reports
 * @param title - first line between the rules
 * @param width - length of the rules, which tells the kinds of splat apart
 * @param body - lines below
 */
export function fileSplat(
	kind: ReportKind,
	title: string,
	width: int,
	body: readonly string[],
): void {
	const task = world().current;
	const trace = captureTrace();
	const text = [
		'',
		'='.repeat(width),
		title,
		kernelIdent(),
		'-'.repeat(width),
		...body,
		'',
		'stack backtrace:',
		`CPU: ${task.cpu} PID: ${task.pid} Comm: ${task.comm} ${kernelIdent()}`,
		'Call Trace:',
		...traceLines(trace),
	].join('\n');
	world().reports.push({ kind, title, text });
}

function edgeBetween(prev: lock_class, next: lock_class): lock_dependency | undefined {
	return prev.after.find((edge) => edge.next === next);
}

/**
 * Two locks were taken in both orders.
 *
 * @param task - who closes the circle
 * @param prev - the lock that it holds
 * @param next - the lock that it takes
 * @param path - the orders seen that lead from `next` back to `prev`
 */
export function reportCircle(
	task: task_struct,
	prev: held_lock,
	next: held_lock,
	path: readonly lock_class[],
): void {
	const here = captureTrace();
	const chain: string[] = [];
	for (let i = path.length - 1; i > 0; i--) {
		const edge = edgeBetween(path[i - 1]!, path[i]!);
		chain.push(
			`-> #${i} (${className(path[i]!)}){${usage({ dep: path[i]!, shared: false }).slice(1)}:`,
			...indent(traceLines(edge?.trace ?? null)),
			'',
		);
	}
	chain.push(
		`-> #0 ${lockLine(next, here).replace(/, at: .*/, ':')}`,
		...indent(traceLines(here)),
	);
	fileSplat('lockdep', 'WARNING: possible circular locking dependency detected', 54, [
		`${task.comm}/${task.pid} is trying to acquire lock:`,
		lockLine(next, here),
		'',
		'but task is already holding lock:',
		lockLine(prev, prev.origin),
		'',
		'which lock already depends on the new lock.',
		'',
		'',
		'the existing dependency chain (in reverse order) is:',
		'',
		...chain,
		'',
		'other info that might help us debug this:',
		'',
		...scenario(prev, next, path),
		...heldLocks(task),
	]);
}

function indent(lines: readonly string[]): string[] {
	return lines.map((line) => `      ${line}`);
}

/** The table of two CPUs that everybody reads first. */
function scenario(prev: held_lock, next: held_lock, path: readonly lock_class[]): string[] {
	const source = `lock(${className(prev.dep)});`;
	const target = `lock(${className(next.dep)});`;
	const column = ' '.repeat(31);
	const lines: string[] = [];
	let inner = target;
	if (path.length > 2) {
		const middle = path[path.length - 2]!;
		lines.push('Chain exists of:', `  ${path.map(className).join(' --> ')}`, '');
		inner = `lock(${className(middle)});`;
	}
	return [
		...lines,
		' Possible unsafe locking scenario:',
		'',
		'       CPU0                    CPU1',
		'       ----                    ----',
		`  ${source}`,
		`${column}${inner}`,
		`${column}${source}`,
		`  ${target}`,
		'',
		' *** DEADLOCK ***',
		'',
	];
}

/**
 * A lock of a class was taken while one of the same class was held.
 *
 * @param task - who
 * @param prev - the lock that it holds
 * @param next - the lock that it takes
 */
export function reportRecursion(task: task_struct, prev: held_lock, next: held_lock): void {
	const { once } = world();
	const key = `lockdep recursion ${prev.dep.id}`;
	if (once.has(key)) return;
	once.add(key);
	const name = className(next.dep);
	fileSplat('lockdep', 'WARNING: possible recursive locking detected', 44, [
		`${task.comm}/${task.pid} is trying to acquire lock:`,
		lockLine(next, captureTrace()),
		'',
		'but task is already holding lock:',
		lockLine(prev, prev.origin),
		'',
		'other info that might help us debug this:',
		' Possible unsafe locking scenario:',
		'',
		'       CPU0',
		'       ----',
		`  lock(${name});`,
		`  lock(${name});`,
		'',
		' *** DEADLOCK ***',
		'',
		' May be due to missing lock nesting notation',
		'',
		...heldLocks(task),
	]);
}

/**
 * A lock was left that the task does not hold.
 *
 * @param task - who
 * @param lock - the lock
 */
export function reportBadUnlock(task: task_struct, lock: { readonly name: string }): void {
	fileSplat('lockdep', 'WARNING: bad unlock balance detected!', 37, [
		`${task.comm}/${task.pid} is trying to release lock (${lock.name}) at:`,
		place(captureTrace()),
		'but there are no more locks to release!',
		'',
		'other info that might help us debug this:',
		...heldLocks(task),
	]);
}

/**
 * A lockdep assertion failed.
 *
 * @param call - name of the assertion
 * @param lock - its lock
 * @param how - what it expects
 */
export function reportNotHeld(call: string, lock: { readonly name: string }, how: string): void {
	const { once, reports, current } = world();
	const trace = captureTrace();
	const [top] = traceFrames(trace).filter(outsideLocking);
	const at = top?.at ?? 'unknown';
	if (once.has(`${call} ${at}`)) return;
	once.add(`${call} ${at}`);
	const title = `WARNING: ${at} at ${top?.name ?? 'unknown'}: ${call}(${lock.name})`;
	const text = [
		'------------[ cut here ]------------',
		title,
		`${lock.name} must be ${how} here`,
		`CPU: ${current.cpu} PID: ${current.pid} Comm: ${current.comm} ${kernelIdent()}`,
		...heldLocks(current),
		'Call Trace:',
		...traceLines(trace),
		'---[ end trace ]---',
	].join('\n');
	reports.push({ kind: 'lockdep', title, text });
}

/**
 * A task ends, or goes back to user space, and holds locks.
 *
 * @param task - who
 * @param kernelThread - a kernel thread ends, no system call
 */
export function reportLocksHeldAtExit(task: task_struct, kernelThread: boolean): void {
	const { comm, pid } = task;
	if (kernelThread)
		fileSplat(
			'lockdep',
			`WARNING: ${comm}/${pid} still has locks held!`,
			36,
			heldLocks(task),
		);
	else
		fileSplat('lockdep', 'WARNING: lock held when returning to user space!', 48, [
			`${comm}/${pid} is leaving the kernel with locks still held!`,
			...heldLocks(task),
		]);
}
