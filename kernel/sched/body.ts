// SPDX-License-Identifier: GPL-2.0-only
/**
 * How the body of a thread is begun and gone through: the two places where the scheduler has to know
 * that kernel code is written as generators.
 *
 * Straight code (tools/straight) has plain functions instead, and its own module in the place of this.
 */
import type { SchedulePoint, Sim } from '../../include/sim/schedule.ts';

/**
 * Make the body of a thread; nothing of it runs yet.
 *
 * @param fn - what the thread does
 */
export function makeBody<T>(fn: () => Sim<T>): Sim<T> {
	return fn();
}

/**
 * Go through a body in one go.
 *
 * @param body - a generator, or the function that makes it
 * @param pass - called at each point that is handed out; returns when the body may go on
 * @returns what the body returns
 */
export function goThrough<T>(
	body: Sim<T> | (() => Sim<T>),
	pass: (point: SchedulePoint) => void,
): T {
	const gen: Sim<T> = typeof body === 'function' ? body() : body;
	for (;;) {
		const step = gen.next();
		if (step.done === true) return step.value;
		pass(step.value);
	}
}
