// SPDX-License-Identifier: GPL-2.0-only
/**
 * Interval notifiers as their users see them: insert, the read side, remove.
 *
 * ```
 *   user                                         callback of an invalidation
 *   seq = read_begin()      <- waits while hit     lock(user lock)
 *   walk, fault, gather                            set_seq(cur_seq)
 *   lock(user lock)                                tear down
 *     read_retry(seq)? unlock, again               unlock
 *     program the device
 *   unlock
 * ```
 */
import { WARN_ON } from '../../include/linux/bug.ts';
import { EINVAL, EOVERFLOW } from '../../include/linux/errno.ts';
import type { mm_struct } from '../../include/linux/mm_types.ts';
import type {
	mmu_interval_notifier,
	mmu_interval_notifier_ops,
	mmu_notifier_subscriptions,
} from '../../include/linux/mmu_notifier.ts';
import { type int, ULONG_MAX, type unsigned_long } from '../../include/linux/types.ts';
import { takeOrigin } from '../../include/sim/origin.ts';
import { type Sim, touch } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { lock_map_acquire, lock_map_release, might_lock } from '../../kernel/locking/lockdep.ts';
import { spin_lock, spin_unlock } from '../../kernel/locking/spinlock.ts';
import { might_sleep } from '../../kernel/sched/might_sleep.ts';
import { wait_event } from '../../kernel/sched/wait.ts';
import { mmdrop, mmgrab } from '../mm_count.ts';
import { mmap_assert_write_locked } from '../mmap_lock.ts';
import {
	__mmu_notifier_invalidate_range_start_map,
	checkReadRetry,
	noteSetSeq,
} from './contract.ts';
import { itreeIndex, itreeInsert, itreeRemove, mn_itree_is_invalidating } from './itree.ts';
import { __mmu_notifier_register, mmu_notifier_register } from './register.ts';

/**
 * Save the number of the invalidation that a callback serves.
 *
 * @param interval_sub - the notifier called
 * @param cur_seq - the number that the callback was given
 * @context In the callback, under the lock of the user.
 * @kernel include/linux/mmu_notifier.h
 */
export function mmu_interval_set_seq(
	interval_sub: mmu_interval_notifier,
	cur_seq: unsigned_long,
): void {
	noteSetSeq(interval_sub);
	touch('write', interval_sub, 'invalidate_seq');
	interval_sub.invalidate_seq = cur_seq;
}

/**
 * Whether a collision was seen since mmu_interval_read_begin().
 *
 * @param interval_sub - the notifier
 * @param seq - what mmu_interval_read_begin() returned
 * @returns true: what was gathered since is stale, begin anew
 * @context Under the lock that the callback takes.
 * @kernel include/linux/mmu_notifier.h
 */
export function mmu_interval_read_retry(
	interval_sub: mmu_interval_notifier,
	seq: unsigned_long,
): boolean {
	checkReadRetry(interval_sub);
	touch('read', interval_sub, 'invalidate_seq');
	return interval_sub.invalidate_seq !== seq;
}

/**
 * Whether a collision is known already; a hint that may be missed, never wrong.
 *
 * @param interval_sub - the notifier
 * @param seq - what mmu_interval_read_begin() returned
 * @context Any. Lockless.
 * @kernel include/linux/mmu_notifier.h
 */
export function mmu_interval_check_retry(
	interval_sub: mmu_interval_notifier,
	seq: unsigned_long,
): boolean {
	touch('read', interval_sub, 'invalidate_seq');
	return interval_sub.invalidate_seq !== seq;
}

function subscriptionsOf(interval_sub: mmu_interval_notifier): mmu_notifier_subscriptions {
	return (interval_sub.mm as mm_struct).notifier_subscriptions as mmu_notifier_subscriptions;
}

/**
 * Begin a read side: wait until no invalidation hits the interval.
 *
 * The number is compared with the mm's, so that only an invalidation that hit *this* interval, or
 * that began before it was inserted, is waited for.
 *
 * @param interval_sub - the notifier
 * @returns the number to give to mmu_interval_read_retry()
 * @context Process context, without the lock of the user. Sleeps.
 * @kernel mm/mmu_notifier.c
 */
export function* mmu_interval_read_begin(interval_sub: mmu_interval_notifier): Sim<unsigned_long> {
	const subscriptions = subscriptionsOf(interval_sub);
	yield* spin_lock(subscriptions.lock);
	touch('read', interval_sub, 'invalidate_seq');
	const seq = interval_sub.invalidate_seq;
	const is_invalidating = seq === subscriptions.invalidate_seq;
	yield* spin_unlock(subscriptions.lock);

	const map = __mmu_notifier_invalidate_range_start_map();
	lock_map_acquire(map);
	lock_map_release(map);
	if (is_invalidating)
		yield* wait_event(subscriptions.wq, () => subscriptions.invalidate_seq !== seq);
	return seq;
}

/**
 * Enter an interval. Between invalidations the new notifier's number is odd and differs from the
 * mm's, as if an old invalidation had hit it; during one it equals the mm's, so that readers wait.
 */
function* __mmu_interval_notifier_insert(
	interval_sub: mmu_interval_notifier,
	mm: mm_struct,
	subscriptions: mmu_notifier_subscriptions,
	start: unsigned_long,
	length: unsigned_long,
	ops: mmu_interval_notifier_ops,
): Sim<int> {
	interval_sub.mm = mm;
	interval_sub.ops = ops;
	interval_sub.interval_tree.start = start;
	interval_sub.deferred_item = null;
	if (length === 0n || start + length - 1n > ULONG_MAX) return -EOVERFLOW;
	interval_sub.interval_tree.last = start + length - 1n;
	if (feature('mmu_interval_two_pass'))
		WARN_ON(
			ops.invalidate_start !== undefined && ops.invalidate_finish === undefined,
			'invalidate_start without invalidate_finish',
		);
	if (WARN_ON(mm.mm_users <= 0, 'mm_users is 0')) return -EINVAL;

	mmgrab(mm);
	interval_sub.origin = takeOrigin();
	yield* spin_lock(subscriptions.lock);
	if (subscriptions.active_invalidate_ranges !== 0n) {
		if (mn_itree_is_invalidating(subscriptions)) {
			interval_sub.deferred_item = 'add';
			subscriptions.deferred_list.unshift(interval_sub);
		} else {
			subscriptions.invalidate_seq |= 1n;
			itreeInsert(subscriptions, interval_sub);
		}
		interval_sub.invalidate_seq = subscriptions.invalidate_seq;
	} else {
		WARN_ON(mn_itree_is_invalidating(subscriptions));
		interval_sub.invalidate_seq = subscriptions.invalidate_seq - 1n;
		itreeInsert(subscriptions, interval_sub);
	}
	yield* spin_unlock(subscriptions.lock);
	return 0;
}

/**
 * Insert an interval notifier. Callbacks may come before this returns.
 *
 * @param interval_sub - the notifier
 * @param mm - whose addresses; the caller holds mm_users
 * @param start - first address
 * @param length - bytes
 * @param ops - callbacks
 * @retval 0 inserted; mmu_interval_notifier_remove() must be called
 * @retval -EOVERFLOW the interval is empty or wraps
 * @retval -EINVAL the mm has no users
 * @retval -ENOMEM no memory for the first notifier of the mm
 * @retval -EINTR a signal came while the first notifier waited for locks
 * @context Process context, without mmap_lock. Sleeps.
 * @kernel mm/mmu_notifier.c
 */
export function* mmu_interval_notifier_insert(
	interval_sub: mmu_interval_notifier,
	mm: mm_struct,
	start: unsigned_long,
	length: unsigned_long,
	ops: mmu_interval_notifier_ops,
): Sim<int> {
	might_lock(mm.mmap_lock);
	let subscriptions = mm.notifier_subscriptions;
	if (subscriptions === null || !subscriptions.has_itree) {
		const ret = yield* mmu_notifier_register(null, mm);
		if (ret) return ret;
		subscriptions = mm.notifier_subscriptions as mmu_notifier_subscriptions;
	}
	return yield* __mmu_interval_notifier_insert(
		interval_sub,
		mm,
		subscriptions,
		start,
		length,
		ops,
	);
}

/**
 * Insert an interval notifier with mmap_lock held for writing.
 *
 * @param interval_sub - the notifier
 * @param mm - whose addresses
 * @param start - first address
 * @param length - bytes
 * @param ops - callbacks
 * @retval 0 inserted
 * @retval -EOVERFLOW the interval is empty or wraps
 * @retval -EINVAL the mm has no users
 * @retval -ENOMEM no memory for the first notifier of the mm
 * @retval -EINTR a signal came while the first notifier waited for locks
 * @context Process context, mmap_lock held for writing. Sleeps.
 * @kernel mm/mmu_notifier.c
 */
export function* mmu_interval_notifier_insert_locked(
	interval_sub: mmu_interval_notifier,
	mm: mm_struct,
	start: unsigned_long,
	length: unsigned_long,
	ops: mmu_interval_notifier_ops,
): Sim<int> {
	mmap_assert_write_locked(mm);
	let subscriptions = mm.notifier_subscriptions;
	if (subscriptions === null || !subscriptions.has_itree) {
		const ret = yield* __mmu_notifier_register(null, mm);
		if (ret) return ret;
		subscriptions = mm.notifier_subscriptions as mmu_notifier_subscriptions;
	}
	return yield* __mmu_interval_notifier_insert(
		interval_sub,
		mm,
		subscriptions,
		start,
		length,
		ops,
	);
}

/**
 * Remove an interval notifier; when it returns no callback runs and none will.
 *
 * @param interval_sub - the notifier
 * @context Process context, without a lock that the callback takes, never from a callback. Sleeps.
 * @kernel mm/mmu_notifier.c
 */
export function* mmu_interval_notifier_remove(interval_sub: mmu_interval_notifier): Sim<void> {
	const mm = interval_sub.mm as mm_struct;
	const subscriptions = subscriptionsOf(interval_sub);
	let seq = 0n;
	might_sleep();

	yield* spin_lock(subscriptions.lock);
	const inTree = itreeIndex(subscriptions.itree, interval_sub) >= 0;
	if (mn_itree_is_invalidating(subscriptions)) {
		if (!inTree) {
			// The insert is still put off: undo it.
			const at = subscriptions.deferred_list.indexOf(interval_sub);
			subscriptions.deferred_list.splice(at, 1);
			interval_sub.deferred_item = null;
		} else {
			interval_sub.deferred_item = 'remove';
			subscriptions.deferred_list.unshift(interval_sub);
			seq = subscriptions.invalidate_seq;
		}
	} else {
		if (WARN_ON(!inTree, 'the notifier is not inserted')) {
			yield* spin_unlock(subscriptions.lock);
			return;
		}
		itreeRemove(subscriptions, interval_sub);
	}
	yield* spin_unlock(subscriptions.lock);

	const map = __mmu_notifier_invalidate_range_start_map();
	lock_map_acquire(map);
	lock_map_release(map);
	if (seq !== 0n) {
		yield* wait_event(subscriptions.wq, () => subscriptions.invalidate_seq !== seq);
		// The number changes before the put-off removal is done: wait for the lock as well.
		yield* spin_lock(subscriptions.lock);
		yield* spin_unlock(subscriptions.lock);
	}
	yield* mmdrop(mm);
}
