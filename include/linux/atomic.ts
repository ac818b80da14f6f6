// SPDX-License-Identifier: GPL-2.0-only
/** atomic_t and refcount_t: each operation is one schedule point. */
import { type Sim, schedulePoint } from '../sim/schedule.ts';
import { world } from '../sim/world.ts';
import { WARN_ON_ONCE } from './bug.ts';
import type { int } from './types.ts';

/**
 * An integer that is changed in one step.
 *
 * @kernel include/linux/types.h
 */
export class atomic_t {
	counter: int;

	/** @param counter - ATOMIC_INIT() */
	constructor(counter: int = 0) {
		this.counter = counter;
	}
}

/**
 * Read.
 *
 * @param v - the integer
 * @kernel include/linux/atomic/atomic-instrumented.h
 */
export function* atomic_read(v: atomic_t): Sim<int> {
	if (world().preemptible) yield schedulePoint('read', v, 'counter');
	return v.counter;
}

/**
 * Set.
 *
 * @param v - the integer
 * @param i - its new value
 * @kernel include/linux/atomic/atomic-instrumented.h
 */
export function* atomic_set(v: atomic_t, i: int): Sim<void> {
	if (world().preemptible) yield schedulePoint('write', v, 'counter');
	v.counter = i;
}

/**
 * Add.
 *
 * @param i - what is added
 * @param v - the integer
 * @returns the new value
 * @kernel include/linux/atomic/atomic-instrumented.h
 */
export function* atomic_add_return(i: int, v: atomic_t): Sim<int> {
	if (world().preemptible) yield schedulePoint('atomic', v, 'counter');
	v.counter = (v.counter + i) | 0;
	return v.counter;
}

/**
 * Add 1.
 *
 * @param v - the integer
 * @kernel include/linux/atomic/atomic-instrumented.h
 */
export function* atomic_inc(v: atomic_t): Sim<void> {
	yield* atomic_add_return(1, v);
}

/**
 * Subtract 1.
 *
 * @param v - the integer
 * @kernel include/linux/atomic/atomic-instrumented.h
 */
export function* atomic_dec(v: atomic_t): Sim<void> {
	yield* atomic_add_return(-1, v);
}

/**
 * Subtract 1.
 *
 * @param v - the integer
 * @returns whether it is 0 now
 * @kernel include/linux/atomic/atomic-instrumented.h
 */
export function* atomic_dec_and_test(v: atomic_t): Sim<boolean> {
	return (yield* atomic_add_return(-1, v)) === 0;
}

/**
 * Add 1 unless it is 0.
 *
 * @param v - the integer
 * @returns whether it was added
 * @kernel include/linux/atomic/atomic-instrumented.h
 */
export function* atomic_inc_not_zero(v: atomic_t): Sim<boolean> {
	if (world().preemptible) yield schedulePoint('atomic', v, 'counter');
	if (v.counter === 0) return false;
	v.counter++;
	return true;
}

/**
 * Set if it has a certain value.
 *
 * @param v - the integer
 * @param old - the value it must have
 * @param i - the new value
 * @returns what was there
 * @kernel include/linux/atomic/atomic-instrumented.h
 */
export function* atomic_cmpxchg(v: atomic_t, old: int, i: int): Sim<int> {
	if (world().preemptible) yield schedulePoint('atomic', v, 'counter');
	const there = v.counter;
	if (there === old) v.counter = i;
	return there;
}

/**
 * A reference count that reports misuse.
 *
 * @kernel include/linux/refcount_types.h
 */
export class refcount_t {
	refs: int;

	/** @param refs - REFCOUNT_INIT() */
	constructor(refs: int = 0) {
		this.refs = refs;
	}
}

/**
 * Set a reference count.
 *
 * @param r - the count
 * @param n - its value
 * @kernel include/linux/refcount.h
 */
export function* refcount_set(r: refcount_t, n: int): Sim<void> {
	if (world().preemptible) yield schedulePoint('write', r, 'refs');
	r.refs = n;
}

/**
 * Read a reference count.
 *
 * @param r - the count
 * @kernel include/linux/refcount.h
 */
export function* refcount_read(r: refcount_t): Sim<int> {
	if (world().preemptible) yield schedulePoint('read', r, 'refs');
	return r.refs;
}

/**
 * Take a reference; there must be one.
 *
 * @param r - the count
 * @kernel include/linux/refcount.h
 */
export function* refcount_inc(r: refcount_t): Sim<void> {
	if (world().preemptible) yield schedulePoint('atomic', r, 'refs');
	WARN_ON_ONCE(r.refs === 0, 'refcount_t: addition on 0; use-after-free.');
	r.refs++;
}

/**
 * Take a reference unless there is none.
 *
 * @param r - the count
 * @returns whether it was taken
 * @kernel include/linux/refcount.h
 */
export function* refcount_inc_not_zero(r: refcount_t): Sim<boolean> {
	if (world().preemptible) yield schedulePoint('atomic', r, 'refs');
	if (r.refs === 0) return false;
	r.refs++;
	return true;
}

/**
 * Drop a reference.
 *
 * @param r - the count
 * @returns whether it was the last one
 * @kernel include/linux/refcount.h
 */
export function* refcount_dec_and_test(r: refcount_t): Sim<boolean> {
	if (world().preemptible) yield schedulePoint('atomic', r, 'refs');
	if (WARN_ON_ONCE(r.refs <= 0, 'refcount_t: underflow; use-after-free.')) return false;
	return --r.refs === 0;
}
