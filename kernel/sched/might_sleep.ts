// SPDX-License-Identifier: GPL-2.0-only
/** Sections that must not sleep, and the report when something in them may. */
import { captureTrace, formatTrace, traceFrames } from '../../include/sim/origin.ts';
import { world } from '../../include/sim/world.ts';
import { heldLocks } from '../locking/lockdep_report.ts';

/**
 * Enter a section that must not sleep.
 *
 * @kernel include/linux/preempt.h
 */
export function preempt_disable(): void {
	world().current.preempt_count++;
}

/**
 * Leave a section that must not sleep.
 *
 * @kernel include/linux/preempt.h
 */
export function preempt_enable(): void {
	world().current.preempt_count--;
}

/**
 * Enter a section in which a notifier must not block.
 *
 * @kernel include/linux/kernel.h
 */
export function non_block_start(): void {
	world().current.non_block_count++;
}

/**
 * Leave a section in which a notifier must not block.
 *
 * @kernel include/linux/kernel.h
 */
export function non_block_end(): void {
	world().current.non_block_count--;
}

/**
 * Whether the current task must not sleep.
 *
 * @kernel include/linux/preempt.h
 */
export function in_atomic(): boolean {
	return world().current.preempt_count !== 0;
}

/**
 * Say that what follows may sleep: reported inside a section that must not, whether it sleeps or not.
 *
 * @kernel include/linux/kernel.h
 */
export function might_sleep(): void {
	const { current } = world();
	if (
		current.preempt_count !== 0 ||
		current.rcu_read_lock_nesting !== 0 ||
		current.non_block_count !== 0
	)
		reportSleep();
}

function reportSleep(): void {
	const w = world();
	const { current } = w;
	const trace = captureTrace();
	const frames = traceFrames(trace).filter(
		({ at }) => !at.startsWith('kernel/sched/') && !at.startsWith('kernel/locking/'),
	);
	const at = frames[0]?.at ?? 'unknown';
	const title = `BUG: sleeping function called from invalid context at ${at}`;
	if (w.once.has(title)) return;
	w.once.add(title);
	const { preempt_count, rcu_read_lock_nesting, non_block_count, pid, comm, cpu } = current;
	const text = [
		title,
		`in_atomic(): ${preempt_count === 0 ? 0 : 1}, irqs_disabled(): 0, non_block: ${non_block_count}, pid: ${pid}, name: ${comm}`,
		`preempt_count: ${preempt_count.toString(16)}, expected: 0`,
		`RCU nest depth: ${rcu_read_lock_nesting}, expected: 0`,
		...heldLocks(current),
		`CPU: ${cpu} PID: ${pid} Comm: ${comm}`,
		'Call Trace:',
		...formatTrace(trace),
	].join('\n');
	w.reports.push({ kind: 'BUG', title, text });
}
