// SPDX-License-Identifier: GPL-2.0-only
/**
 * The bodies of threads in straight code, in the place of kernel/sched/body.ts.
 *
 * A plain function can't be left and gone on with: the task in run() is the only one that runs. As long
 * as it never waits for another thread nothing of that is seen; where it does, the run ends with
 * NeedsThreads, and whoever asked for it asks the kernel as it is written.
 */
import type { SchedulePoint, Sim } from '../../include/sim/schedule.ts';

/** Straight code came to where another thread would have to run. */
class NeedsThreads extends Error {
	override readonly name = 'NeedsThreads';
}

/** Of the scheduler that runs straight code. */
let pass: ((point: SchedulePoint) => void) | null = null;

/**
 * The body of a thread; it can't take a step.
 *
 * @param _fn - what the thread would do
 * @throws NeedsThreads by its first step
 */
export function makeBody<T>(_fn: () => T): Sim<T> {
	return {
		next() {
			throw new NeedsThreads('straight code has one thread');
		},
	} as unknown as Sim<T>;
}

/**
 * Run a body.
 *
 * @param body - the function that does it, or makes the function that does
 * @param onPoint - called at each point of it that is handed out
 * @returns what the body returns
 */
export function goThrough<T>(
	body: () => T | (() => T),
	onPoint: (point: SchedulePoint) => void,
): T {
	pass = onPoint;
	const made = body();
	return typeof made === 'function' ? (made as () => T)() : made;
}

/**
 * A schedule point of straight code, which stands where a generator yields it.
 *
 * @param point - where the thread is
 */
export function passPoint(point: SchedulePoint): void {
	pass!(point);
}
