// SPDX-License-Identifier: GPL-2.0-only
/**
 * Reference counts that can be killed: after percpu_ref_kill() only puts are left, and the last one
 * calls `release`.
 *
 * Guarantee: `release` is called once, when the count has come to 0 after a kill. The initial
 * reference is dropped by the kill. Mechanism: one number; what the kernel spreads over CPUs cannot
 * be told apart from outside, but for percpu_ref_is_zero(), which is false before the kill.
 * Counting is one step for the explorer, announced by touch().
 */
import { shouldFail } from '../sim/fault_injection.ts';
import { touch } from '../sim/schedule.ts';
import { BUG_ON, WARN_ON_ONCE } from './bug.ts';
import { ENOMEM } from './errno.ts';
import type { gfp_t, int, unsigned_int, unsigned_long } from './types.ts';

export const PERCPU_REF_INIT_ATOMIC = 1;
export const PERCPU_REF_INIT_DEAD = 2;
export const PERCPU_REF_ALLOW_REINIT = 4;

/** Called when the last reference was dropped. */
export type percpu_ref_func_t = (ref: percpu_ref) => void;

/**
 * A reference count that can be killed.
 *
 * @kernel include/linux/percpu-refcount.h
 */
export class percpu_ref {
	count = 0;
	release: percpu_ref_func_t | null = null;
	dying = false;
	/** percpu_ref_init() was called, percpu_ref_exit() not. */
	live = false;
	/** The object that embeds it (container_of()). */
	container: object | null = null;

	/** @param container - the object that embeds it */
	constructor(container: object | null = null) {
		this.container = container;
	}
}

/**
 * Set a reference count up, with one reference.
 *
 * @param ref - the count
 * @param release - called when the last reference was dropped
 * @param flags - PERCPU_REF_INIT_DEAD: killed, with no reference
 * @param _gfp - allocation flags
 * @retval 0 done
 * @retval -ENOMEM no memory for the per-CPU part
 * @kernel lib/percpu-refcount.c
 */
export function percpu_ref_init(
	ref: percpu_ref,
	release: percpu_ref_func_t,
	flags: unsigned_int,
	_gfp: gfp_t,
): int {
	if (shouldFail('percpu_ref_init')) return -ENOMEM;
	ref.release = release;
	ref.dying = (flags & PERCPU_REF_INIT_DEAD) !== 0;
	ref.count = ref.dying ? 0 : 1;
	ref.live = true;
	return 0;
}

/**
 * Undo percpu_ref_init(): frees the per-CPU part.
 *
 * @param ref - the count
 * @kernel lib/percpu-refcount.c
 */
export function percpu_ref_exit(ref: percpu_ref): void {
	ref.live = false;
	ref.release = null;
}

/**
 * Take references; there must be one already.
 *
 * @param ref - the count
 * @param nr - how many
 * @kernel include/linux/percpu-refcount.h
 */
export function percpu_ref_get_many(ref: percpu_ref, nr: unsigned_long | int): void {
	touch('atomic', ref);
	ref.count += Number(nr);
}

/**
 * Take a reference; there must be one already.
 *
 * @param ref - the count
 * @kernel include/linux/percpu-refcount.h
 */
export function percpu_ref_get(ref: percpu_ref): void {
	percpu_ref_get_many(ref, 1);
}

/**
 * Take references unless the count is 0.
 *
 * @param ref - the count
 * @param nr - how many
 * @returns whether they were taken
 * @kernel include/linux/percpu-refcount.h
 */
export function percpu_ref_tryget_many(ref: percpu_ref, nr: unsigned_long | int): boolean {
	touch('atomic', ref);
	if (ref.count === 0) return false;
	ref.count += Number(nr);
	return true;
}

/**
 * Take a reference unless the count is 0.
 *
 * @param ref - the count
 * @returns whether it was taken
 * @kernel include/linux/percpu-refcount.h
 */
export function percpu_ref_tryget(ref: percpu_ref): boolean {
	return percpu_ref_tryget_many(ref, 1);
}

/**
 * Take a reference unless percpu_ref_kill() was called.
 *
 * @param ref - the count
 * @returns whether it was taken
 * @kernel include/linux/percpu-refcount.h
 */
export function percpu_ref_tryget_live(ref: percpu_ref): boolean {
	touch('atomic', ref);
	if (ref.dying || !ref.live) return false;
	ref.count++;
	return true;
}

/**
 * percpu_ref_tryget_live() for a caller inside an RCU read-side section.
 *
 * @param ref - the count
 * @returns whether it was taken
 * @kernel include/linux/percpu-refcount.h
 */
export function percpu_ref_tryget_live_rcu(ref: percpu_ref): boolean {
	return percpu_ref_tryget_live(ref);
}

/**
 * Drop references; the last one after a kill calls `release`.
 *
 * @param ref - the count
 * @param nr - how many
 * @kernel include/linux/percpu-refcount.h
 */
export function percpu_ref_put_many(ref: percpu_ref, nr: unsigned_long | int): void {
	touch('atomic', ref);
	ref.count -= Number(nr);
	if (ref.count > 0 || !ref.dying) return;
	BUG_ON(
		ref.count < 0,
		`percpu ref (${ref.release?.name ?? 'exited'}) <= 0 (${ref.count}) after switching to atomic`,
	);
	ref.release?.(ref);
}

/**
 * Drop a reference.
 *
 * @param ref - the count
 * @kernel include/linux/percpu-refcount.h
 */
export function percpu_ref_put(ref: percpu_ref): void {
	percpu_ref_put_many(ref, 1);
}

/**
 * Let the count go: no more tryget_live, drop the initial reference.
 *
 * @param ref - the count
 * @kernel include/linux/percpu-refcount.h
 */
export function percpu_ref_kill(ref: percpu_ref): void {
	percpu_ref_kill_and_confirm(ref, null);
}

/**
 * percpu_ref_kill() that says when all CPUs have seen it.
 *
 * @param ref - the count
 * @param confirm_kill - called then; all CPUs see it at once here
 * @kernel lib/percpu-refcount.c
 */
export function percpu_ref_kill_and_confirm(
	ref: percpu_ref,
	confirm_kill: percpu_ref_func_t | null,
): void {
	if (
		WARN_ON_ONCE(
			ref.dying,
			`percpu_ref_kill called more than once on ${ref.release?.name}`,
		)
	)
		return;
	ref.dying = true;
	confirm_kill?.(ref);
	percpu_ref_put(ref);
}

/**
 * Whether percpu_ref_kill() was called.
 *
 * @param ref - the count
 * @kernel include/linux/percpu-refcount.h
 */
export function percpu_ref_is_dying(ref: percpu_ref): boolean {
	return ref.dying;
}

/**
 * Whether the count was killed and has come to 0.
 *
 * @param ref - the count
 * @kernel lib/percpu-refcount.c
 */
export function percpu_ref_is_zero(ref: percpu_ref): boolean {
	return ref.dying && ref.count === 0;
}
