// SPDX-License-Identifier: GPL-2.0-only
/**
 * What the kernel demands of notifier users and cannot check: the harness does.
 *
 * - A callback that answers true has called mmu_interval_set_seq() with the number it got, unless
 *   it may ignore the event: MIGRATE or EXCLUSIVE of an owner, and RELEASE.
 * - mmu_interval_set_seq() runs under a lock of the user, taken in the callback, and
 *   mmu_interval_read_retry() under the same one. Both are looked at when read_retry() runs: a mirror
 *   that is never asked about needs no lock.
 */
import { fileReport } from '../../include/linux/bug.ts';
import { lockdep_map } from '../../include/linux/lockdep.ts';
import type { mm_struct } from '../../include/linux/mm_types.ts';
import {
	MMU_NOTIFY_EXCLUSIVE,
	MMU_NOTIFY_MIGRATE,
	MMU_NOTIFY_RELEASE,
	type mmu_interval_notifier,
	type mmu_notifier_range,
} from '../../include/linux/mmu_notifier.ts';
import { current } from '../../include/linux/sched.ts';
import type { unsigned_long } from '../../include/linux/types.ts';
import { formatTrace } from '../../include/sim/origin.ts';
import { perWorld } from '../../include/sim/world.ts';

/**
 * The lock that stands for "an invalidation waits for callbacks" in lockdep's graph.
 *
 * @kernel mm/mmu_notifier.c
 */
export const __mmu_notifier_invalidate_range_start_map = perWorld(
	() => new lockdep_map('mmu_notifier_invalidate_range_start'),
);

/** Names of the events, as reports show them. */
export const eventNames = [
	'UNMAP',
	'CLEAR',
	'PROTECTION_VMA',
	'PROTECTION_PAGE',
	'SOFT_DIRTY',
	'RELEASE',
	'MIGRATE',
	'EXCLUSIVE',
] as const;

function interval(interval_sub: mmu_interval_notifier): string {
	const { start, last } = interval_sub.interval_tree;
	return `interval [0x${start.toString(16)}-0x${last.toString(16)}]`;
}

/** Nobody's locks; shared, so that a callback without any costs nothing. */
const none: readonly object[] = [];

/** The locks that a callback took itself: those behind the core's own, which end with the map. */
function userLocks(): readonly object[] {
	const held = current().held_locks;
	const map = __mmu_notifier_invalidate_range_start_map();
	let first = held.length;
	while (first > 0 && held[first - 1]!.instance !== map) first--;
	return first === held.length ? none : held.slice(first).map((lock) => lock.instance);
}

/**
 * A callback sets the number: remember the locks that it took, for the users who check.
 *
 * @param interval_sub - whose number is set
 */
export function noteSetSeq(interval_sub: mmu_interval_notifier): void {
	interval_sub.setSeqLocks = userLocks();
}

/**
 * A user asks whether it was invalidated: it must hold the lock under which the callback answered.
 *
 * @param interval_sub - what it asks about
 */
export function checkReadRetry(interval_sub: mmu_interval_notifier): void {
	const locks = interval_sub.setSeqLocks;
	if (locks === null) return;
	if (locks.length === 0) {
		fileReport(
			'mmu_notifier',
			'BUG: mmu_interval_set_seq() without the lock of its user',
			[`${interval(interval_sub)}: read_retry() could miss an invalidation`],
		);
		return;
	}
	const held = current().held_locks;
	for (let i = held.length - 1; i >= 0; i--) if (locks.includes(held[i]!.instance)) return;
	fileReport(
		'mmu_notifier',
		'BUG: mmu_interval_read_retry() without the lock of mmu_interval_set_seq()',
		[`${interval(interval_sub)}: the answer may be old before it is used`],
	);
}

/**
 * A callback has answered true: the number must be set, or the event be one that it may ignore.
 *
 * @param interval_sub - who answered
 * @param range - what is invalidated
 * @param cur_seq - the number it was given
 */
export function checkAnswer(
	interval_sub: mmu_interval_notifier,
	range: mmu_notifier_range,
	cur_seq: unsigned_long,
): void {
	if (interval_sub.invalidate_seq === cur_seq) return;
	const { event, owner } = range;
	if (event === MMU_NOTIFY_RELEASE) return;
	if ((event === MMU_NOTIFY_MIGRATE || event === MMU_NOTIFY_EXCLUSIVE) && owner !== null)
		return;
	fileReport('mmu_notifier', 'BUG: invalidate callback without mmu_interval_set_seq()', [
		`${interval(interval_sub)}, event ${eventNames[event]}: readers will not retry`,
	]);
}

/**
 * Report the notifiers that are still registered on an mm, as leaks.
 *
 * @param mm - an mm whose last user should be gone
 * @returns how many there are
 * @context Shutdown of the world.
 */
export function reportNotifiersLeft(mm: mm_struct): number {
	const subscriptions = mm.notifier_subscriptions;
	if (subscriptions === null) return 0;
	const { itree, deferred_list, list } = subscriptions;
	const intervals = new Set([...itree, ...deferred_list]);
	for (const interval_sub of intervals)
		fileReport(
			'leak',
			`mmu_interval_notifier still inserted: ${interval(interval_sub)}`,
			[
				`mm of ${mm.owner_comm}, inserted at:`,
				...formatTrace(interval_sub.origin),
			],
		);
	for (const _subscription of list)
		fileReport('leak', `mmu_notifier still registered on the mm of ${mm.owner_comm}`);
	return intervals.size + list.length;
}
