// SPDX-License-Identifier: GPL-2.0-only
/** Time in ticks of the simulated kernel, HZ=1000, from the world's virtual clock. */
import { world } from '../sim/world.ts';
import type { long, unsigned_int, unsigned_long } from './types.ts';

export const HZ = 1000n;
export const MAX_SCHEDULE_TIMEOUT: long = (1n << 63n) - 1n;
const NS_PER_JIFFY = 1_000_000n;

/**
 * Ticks since boot. C's variable `jiffies`.
 *
 * @kernel include/linux/jiffies.h
 */
export function jiffies(): unsigned_long {
	return world().clock / NS_PER_JIFFY;
}

/**
 * Ticks in a number of milliseconds.
 *
 * @param m - milliseconds
 * @kernel include/linux/jiffies.h
 */
export function msecs_to_jiffies(m: unsigned_int): unsigned_long {
	return BigInt(m);
}

/**
 * Milliseconds in a number of ticks.
 *
 * @param j - ticks
 * @kernel include/linux/jiffies.h
 */
export function jiffies_to_msecs(j: unsigned_long): unsigned_int {
	return Number(j);
}

/**
 * Whether time `a` is after time `b`.
 *
 * @param a - jiffies
 * @param b - jiffies
 * @kernel include/linux/jiffies.h
 */
export function time_after(a: unsigned_long, b: unsigned_long): boolean {
	return a > b;
}

/**
 * Whether time `a` is before time `b`.
 *
 * @param a - jiffies
 * @param b - jiffies
 * @kernel include/linux/jiffies.h
 */
export function time_before(a: unsigned_long, b: unsigned_long): boolean {
	return a < b;
}

/**
 * Virtual time of a number of ticks.
 *
 * @param j - jiffies
 */
export function jiffiesToNs(j: unsigned_long): bigint {
	return j * NS_PER_JIFFY;
}
