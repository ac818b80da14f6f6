// SPDX-License-Identifier: GPL-2.0-only
/**
 * Marked accesses: what one thread reads while another writes it.
 *
 * Each is one schedule point that names object and field, so a search of interleavings sees which
 * steps touch the same variable. The simulated memory is sequentially consistent: smp_load_acquire()
 * and smp_store_release() differ from READ_ONCE() and WRITE_ONCE() in what they tell the reader only.
 */
import { type Sim, schedulePoint } from '../sim/schedule.ts';
import { world } from '../sim/world.ts';

/**
 * Read a field that others may write meanwhile.
 *
 * @param obj - the structure
 * @param field - its field
 * @deviates C takes the lvalue
 * @kernel include/asm-generic/rwonce.h
 */
export function* READ_ONCE<T extends object, K extends keyof T & string>(
	obj: T,
	field: K,
): Sim<T[K]> {
	if (world().preemptible) yield schedulePoint('read', obj, field);
	return obj[field];
}

/**
 * Write a field that others may read meanwhile.
 *
 * @param obj - the structure
 * @param field - its field
 * @param value - what is written
 * @deviates C takes the lvalue
 * @kernel include/asm-generic/rwonce.h
 */
export function* WRITE_ONCE<T extends object, K extends keyof T & string>(
	obj: T,
	field: K,
	value: T[K],
): Sim<void> {
	if (world().preemptible) yield schedulePoint('write', obj, field);
	obj[field] = value;
}

/**
 * Read a field; nothing that follows happens before.
 *
 * @param obj - the structure
 * @param field - its field
 * @deviates C takes the address of the field
 * @kernel include/asm-generic/barrier.h
 */
export function* smp_load_acquire<T extends object, K extends keyof T & string>(
	obj: T,
	field: K,
): Sim<T[K]> {
	if (world().preemptible) yield schedulePoint('read', obj, field);
	return obj[field];
}

/**
 * Write a field; nothing that precedes happens after.
 *
 * @param obj - the structure
 * @param field - its field
 * @param value - what is written
 * @deviates C takes the address of the field
 * @kernel include/asm-generic/barrier.h
 */
export function* smp_store_release<T extends object, K extends keyof T & string>(
	obj: T,
	field: K,
	value: T[K],
): Sim<void> {
	if (world().preemptible) yield schedulePoint('write', obj, field);
	obj[field] = value;
}

/**
 * Exchange a field's value.
 *
 * @param obj - the structure
 * @param field - its field
 * @param value - what is written
 * @returns what was there
 * @deviates C takes the address of the field
 * @kernel include/linux/atomic/atomic-instrumented.h
 */
export function* xchg<T extends object, K extends keyof T & string>(
	obj: T,
	field: K,
	value: T[K],
): Sim<T[K]> {
	if (world().preemptible) yield schedulePoint('atomic', obj, field);
	const old = obj[field];
	obj[field] = value;
	return old;
}

/**
 * Write a field if it has a certain value.
 *
 * @param obj - the structure
 * @param field - its field
 * @param old - the value it must have
 * @param value - what is written then
 * @returns what was there; equal to `old`: it was written
 * @deviates C takes the address of the field
 * @kernel include/linux/atomic/atomic-instrumented.h
 */
export function* cmpxchg<T extends object, K extends keyof T & string>(
	obj: T,
	field: K,
	old: T[K],
	value: T[K],
): Sim<T[K]> {
	if (world().preemptible) yield schedulePoint('atomic', obj, field);
	const there = obj[field];
	if (there === old) obj[field] = value;
	return there;
}
