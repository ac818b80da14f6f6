// SPDX-License-Identifier: GPL-2.0-only
/**
 * The intervals of an mm, and the sequence number that says whether one of them is being
 * invalidated.
 *
 * Guarantee: the tree changes only while the number is even, so a walk over it, which the number
 * being odd announces, needs no lock.
 * Mechanism: an array sorted by start; equal starts stay in the order of insertion, as in the
 * kernel's tree.
 *
 * ```
 *   itree    [ A: 10..1f ] [ B: 10..13 ] [ C: 18..40 ] [ D: 50..5f ]
 *   range           12....................................51          hits A, B, C, D in this order
 * ```
 */
import type { mm_struct } from '../../include/linux/mm_types.ts';
import type {
	mmu_interval_notifier,
	mmu_notifier_range,
	mmu_notifier_subscriptions,
} from '../../include/linux/mmu_notifier.ts';
import type { out, unsigned_long } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { lockdep_assert_held } from '../../kernel/locking/lockdep.ts';
import { spin_lock, spin_unlock } from '../../kernel/locking/spinlock.ts';
import { wake_up_all } from '../../kernel/sched/wait.ts';

/** Place of the first interval that starts behind `start`. */
function upperBound(itree: readonly mmu_interval_notifier[], start: bigint): number {
	let low = 0;
	let high = itree.length;
	while (low < high) {
		const middle = (low + high) >> 1;
		if (itree[middle]!.interval_tree.start <= start) low = middle + 1;
		else high = middle;
	}
	return low;
}

/**
 * Place of an interval in the tree.
 *
 * @param itree - intervals by start
 * @param interval_sub - the interval
 * @returns -1 when it is not there: RB_EMPTY_NODE()
 */
export function itreeIndex(
	itree: readonly mmu_interval_notifier[],
	interval_sub: mmu_interval_notifier,
): number {
	const { start } = interval_sub.interval_tree;
	for (let at = upperBound(itree, start) - 1; at >= 0; at--) {
		const other = itree[at]!;
		if (other === interval_sub) return at;
		if (other.interval_tree.start !== start) break;
	}
	return -1;
}

/**
 * Put an interval into the tree.
 *
 * @param subscriptions - the tree's mm
 * @param interval_sub - the interval, not in the tree
 */
export function itreeInsert(
	subscriptions: mmu_notifier_subscriptions,
	interval_sub: mmu_interval_notifier,
): void {
	const { itree } = subscriptions;
	itree.splice(upperBound(itree, interval_sub.interval_tree.start), 0, interval_sub);
}

/**
 * Take an interval out of the tree.
 *
 * @param subscriptions - the tree's mm
 * @param interval_sub - the interval, in the tree
 */
export function itreeRemove(
	subscriptions: mmu_notifier_subscriptions,
	interval_sub: mmu_interval_notifier,
): void {
	subscriptions.itree.splice(itreeIndex(subscriptions.itree, interval_sub), 1);
}

/** The first interval from place `at` on that overlaps [start, last]. */
function firstOverlap(
	itree: readonly mmu_interval_notifier[],
	at: number,
	start: bigint,
	last: bigint,
): mmu_interval_notifier | null {
	for (let i = at; i < itree.length; i++) {
		const { interval_tree: node } = itree[i]!;
		if (node.start > last) return null;
		if (node.last >= start) return itree[i]!;
	}
	return null;
}

/**
 * Whether some interval of the mm is being invalidated.
 *
 * @param subscriptions - the mm's notifiers, locked
 * @kernel mm/mmu_notifier.c
 */
export function mn_itree_is_invalidating(subscriptions: mmu_notifier_subscriptions): boolean {
	lockdep_assert_held(subscriptions.lock);
	return (subscriptions.invalidate_seq & 1n) !== 0n;
}

/**
 * An invalidation begins: count it, and make the number odd if it hits an interval.
 *
 * @param subscriptions - the mm's notifiers
 * @param range - what is invalidated
 * @param seq - out: the number that callbacks get
 * @returns the first interval hit, or null
 * @kernel mm/mmu_notifier.c
 */
export function* mn_itree_inv_start_range(
	subscriptions: mmu_notifier_subscriptions,
	range: mmu_notifier_range,
	seq: out<unsigned_long>,
): Sim<mmu_interval_notifier | null> {
	yield* spin_lock(subscriptions.lock);
	subscriptions.active_invalidate_ranges++;
	const first = firstOverlap(subscriptions.itree, 0, range.start, range.end - 1n);
	if (first !== null) subscriptions.invalidate_seq |= 1n;
	seq.value = subscriptions.invalidate_seq;
	yield* spin_unlock(subscriptions.lock);
	return first;
}

/**
 * The next interval that an invalidation hits.
 *
 * @param interval_sub - the one before
 * @param range - what is invalidated
 * @returns the next one, or null
 * @kernel mm/mmu_notifier.c
 */
export function mn_itree_inv_next(
	interval_sub: mmu_interval_notifier,
	range: mmu_notifier_range,
): mmu_interval_notifier | null {
	const { itree } = (interval_sub.mm as mm_struct)
		.notifier_subscriptions as mmu_notifier_subscriptions;
	const at = itreeIndex(itree, interval_sub);
	return firstOverlap(itree, at + 1, range.start, range.end - 1n);
}

/**
 * An invalidation ends; the last one does what was put off and lets readers go on.
 *
 * @param subscriptions - the mm's notifiers
 * @kernel mm/mmu_notifier.c
 */
export function* mn_itree_inv_end(subscriptions: mmu_notifier_subscriptions): Sim<void> {
	yield* spin_lock(subscriptions.lock);
	if (
		--subscriptions.active_invalidate_ranges !== 0n ||
		!mn_itree_is_invalidating(subscriptions)
	) {
		yield* spin_unlock(subscriptions.lock);
		return;
	}
	subscriptions.invalidate_seq++;
	for (const interval_sub of subscriptions.deferred_list) {
		if (interval_sub.deferred_item === 'add') itreeInsert(subscriptions, interval_sub);
		else itreeRemove(subscriptions, interval_sub);
		interval_sub.deferred_item = null;
	}
	subscriptions.deferred_list = [];
	yield* spin_unlock(subscriptions.lock);
	wake_up_all(subscriptions.wq);
}
