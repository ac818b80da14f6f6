// SPDX-License-Identifier: GPL-2.0-only
/** Sleeping for a time: virtual time moves on when no thread can. */
import { jiffies, jiffiesToNs } from '../../include/linux/jiffies.ts';
import { fatal_signal_pending } from '../../include/linux/sched.ts';
import type { long, unsigned_int } from '../../include/linux/types.ts';
import { type Sim, waitPoint } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';
import { might_sleep } from '../sched/might_sleep.ts';

const never = (): boolean => false;

/**
 * Sleep for a time.
 *
 * @param timeout - jiffies
 * @returns 0
 * @context Process context. Sleeps.
 * @kernel kernel/time/sleep_timeout.c
 */
export function* schedule_timeout_uninterruptible(timeout: long): Sim<long> {
	might_sleep();
	const w = world();
	yield waitPoint('wait', w.current, never, w.clock + jiffiesToNs(timeout));
	return 0n;
}

/**
 * Sleep for a time, or until a fatal signal comes.
 *
 * @param timeout - jiffies
 * @returns jiffies left
 * @context Process context. Sleeps.
 * @kernel kernel/time/sleep_timeout.c
 */
export function* schedule_timeout_killable(timeout: long): Sim<long> {
	might_sleep();
	const w = world();
	const { current: task } = w;
	const end = jiffies() + timeout;
	const deadline = w.clock + jiffiesToNs(timeout);
	yield waitPoint('wait', task, () => fatal_signal_pending(task), deadline);
	const left = end - jiffies();
	return left > 0n ? left : 0n;
}

/**
 * Sleep for some milliseconds.
 *
 * @param msecs - how many
 * @context Process context. Sleeps.
 * @kernel kernel/time/sleep_timeout.c
 */
export function* msleep(msecs: unsigned_int): Sim<void> {
	yield* schedule_timeout_uninterruptible(BigInt(msecs));
}
