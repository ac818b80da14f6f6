// SPDX-License-Identifier: GPL-2.0-only
/**
 * Completions.
 *
 * Guarantee: each complete() lets one waiter go, before or after it came; complete_all() all of
 * them. A completion always wakes, so a waiter's schedule point is ready when `done` is not 0.
 */

import type { completion } from '../../include/linux/completion.ts';
import { ERESTARTSYS } from '../../include/linux/errno.ts';
import { jiffies, jiffiesToNs } from '../../include/linux/jiffies.ts';
import { fatal_signal_pending } from '../../include/linux/sched.ts';
import { type int, UINT_MAX, type unsigned_long } from '../../include/linux/types.ts';
import { type Sim, touch, waitPoint } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';
import { might_sleep } from './might_sleep.ts';

/**
 * Let one waiter go, now or when it comes.
 *
 * @param x - the completion
 * @context Any. Atomic.
 * @kernel kernel/sched/completion.c
 */
export function complete(x: completion): void {
	touch('wake', x);
	if (x.done !== UINT_MAX) x.done++;
}

/**
 * Let all waiters go, also those that come later, until reinit_completion().
 *
 * @param x - the completion
 * @context Any. Atomic.
 * @kernel kernel/sched/completion.c
 */
export function complete_all(x: completion): void {
	touch('wake', x);
	x.done = UINT_MAX;
}

function use(x: completion): void {
	if (x.done !== UINT_MAX) x.done--;
}

/**
 * Wait for a completion.
 *
 * @param x - the completion
 * @context Process context. Sleeps.
 * @kernel kernel/sched/completion.c
 */
export function* wait_for_completion(x: completion): Sim<void> {
	might_sleep();
	if (world().preemptible || x.done === 0) yield waitPoint('wait', x, () => x.done !== 0);
	use(x);
}

/**
 * Wait for a completion, or give up when the task is killed.
 *
 * @param x - the completion
 * @retval 0 it came
 * @retval -ERESTARTSYS a fatal signal came
 * @context Process context. Sleeps.
 * @kernel kernel/sched/completion.c
 */
export function* wait_for_completion_killable(x: completion): Sim<int> {
	might_sleep();
	const { current: task, preemptible } = world();
	if (preemptible || x.done === 0)
		yield waitPoint('wait', x, () => x.done !== 0 || fatal_signal_pending(task));
	if (x.done === 0) return -ERESTARTSYS;
	use(x);
	return 0;
}

/**
 * Wait for a completion, with a limit.
 *
 * @param x - the completion
 * @param timeout - jiffies
 * @returns 0 when the time is over; else what is left, at least 1
 * @context Process context. Sleeps.
 * @kernel kernel/sched/completion.c
 */
export function* wait_for_completion_timeout(
	x: completion,
	timeout: unsigned_long,
): Sim<unsigned_long> {
	might_sleep();
	const w = world();
	const end = jiffies() + timeout;
	if (w.preemptible || x.done === 0)
		yield waitPoint('wait', x, () => x.done !== 0, w.clock + jiffiesToNs(timeout));
	if (x.done === 0) return 0n;
	use(x);
	const left = end - jiffies();
	return left > 1n ? left : 1n;
}

/**
 * Take a completion if it has come.
 *
 * @param x - the completion
 * @returns whether it had
 * @context Any. Atomic.
 * @kernel kernel/sched/completion.c
 */
export function try_wait_for_completion(x: completion): boolean {
	touch('wait', x);
	if (x.done === 0) return false;
	use(x);
	return true;
}

/**
 * Whether a completion has come and not been used up.
 *
 * @param x - the completion
 * @kernel kernel/sched/completion.c
 */
export function completion_done(x: completion): boolean {
	return x.done !== 0;
}
