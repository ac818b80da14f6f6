// SPDX-License-Identifier: GPL-2.0-only
/**
 * Registration: an mm gets its notifier state with its first notifier, classic notifiers come and go.
 *
 * Guarantee: no invalidation is between its start and its end when the first notifier appears, so
 * starts and ends stay balanced.
 * Mechanism: whoever changes page tables holds mmap_lock, an i_mmap lock or an anon_vma lock from
 * start to end; registration takes mmap_lock for writing and waits until all the others are free.
 */
import { BUG_ON, WARN_ON, WARN_ON_ONCE } from '../../include/linux/bug.ts';
import { EINTR, EINVAL, ENOMEM, EOVERFLOW } from '../../include/linux/errno.ts';
import type { mm_struct } from '../../include/linux/mm_types.ts';
import {
	type mmu_notifier,
	type mmu_notifier_ops,
	mmu_notifier_subscriptions,
} from '../../include/linux/mmu_notifier.ts';
import { current } from '../../include/linux/sched.ts';
import type { rw_semaphore } from '../../include/linux/spinlock.ts';
import { type errno, type int, UINT_MAX } from '../../include/linux/types.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';
import { type Sim, waitPoint } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';
import { spin_lock, spin_unlock } from '../../kernel/locking/spinlock.ts';
import { mmdrop, mmgrab } from '../mm_count.ts';
import { mmap_assert_write_locked, mmap_write_lock, mmap_write_unlock } from '../mmap_lock.ts';
import {
	call_srcu,
	notifierSrcu,
	srcu_read_lock,
	srcu_read_unlock,
	synchronize_srcu,
} from './srcu.ts';

function semIsFree(sem: rw_semaphore): boolean {
	return sem.owner === null && sem.readers === 0;
}

/** Whether nobody works on the page tables of an mm from the side of its files or anon_vmas. */
function rmapLocksFree(mm: mm_struct): boolean {
	for (const vma of mm.vmas) {
		const mapping = vma.vm_file?.f_mapping;
		if (mapping && !semIsFree(mapping.i_mmap_rwsem)) return false;
		for (const anon_vma of vma.anon_vma_chain)
			if (!semIsFree(anon_vma.root.rwsem)) return false;
	}
	return true;
}

/**
 * Wait until all locks are free under which page tables of an mm change.
 *
 * @param mm - the mm, mmap_lock held for writing
 * @retval 0 they are free, until the next schedule point
 * @retval -EINTR a signal is pending
 * @deviates does not keep them: the caller does what it must before its next schedule point
 * @kernel mm/vma.c
 */
function* mm_take_all_locks(mm: mm_struct): Sim<int> {
	mmap_assert_write_locked(mm);
	if (shouldFail('mm_take_all_locks') || current().pending.size !== 0) return -EINTR;
	if (world().preemptible || !rmapLocksFree(mm))
		yield waitPoint('acquire', mm, () => rmapLocksFree(mm));
	return 0;
}

/**
 * Register a classic notifier with mmap_lock held for writing.
 *
 * @param subscription - the notifier; null sets the mm up for interval notifiers
 * @param mm - the mm, with users
 * @retval 0 registered
 * @retval -EINVAL it has both the secondary TLB hook and start or end
 * @retval -ENOMEM no memory for the mm's notifier state
 * @retval -EINTR a signal came
 * @context Process context, mmap_lock held for writing. Sleeps.
 * @kernel mm/mmu_notifier.c
 */
export function* __mmu_notifier_register(
	subscription: mmu_notifier | null,
	mm: mm_struct,
): Sim<int> {
	mmap_assert_write_locked(mm);
	BUG_ON(mm.mm_users <= 0, 'mm_users is 0');
	const ops = subscription?.ops;
	if (
		WARN_ON_ONCE(
			ops?.arch_invalidate_secondary_tlbs !== undefined &&
				(ops.invalidate_range_start !== undefined ||
					ops.invalidate_range_end !== undefined),
			'both arch_invalidate_secondary_tlbs and start or end',
		)
	)
		return -EINVAL;

	let subscriptions: mmu_notifier_subscriptions | null = null;
	if (mm.notifier_subscriptions === null) {
		if (shouldFail('mmu_notifier_register')) return -ENOMEM;
		subscriptions = new mmu_notifier_subscriptions();
	}
	const ret = yield* mm_take_all_locks(mm);
	if (ret) return ret;

	// No schedule point from here to the end: the locks are free and nobody can take them.
	const installed = (mm.notifier_subscriptions ??= subscriptions!);
	if (subscription !== null) {
		mmgrab(mm);
		subscription.mm = mm;
		subscription.users = 1;
		installed.list.unshift(subscription);
	} else installed.has_itree = true;
	BUG_ON(mm.mm_users <= 0, 'mm_users is 0');
	return 0;
}

/**
 * Register a classic notifier.
 *
 * @param subscription - the notifier; null sets the mm up for interval notifiers
 * @param mm - the mm, with users
 * @retval 0 registered; mmu_notifier_unregister() or _put() must be called
 * @retval -EINVAL it has both the secondary TLB hook and start or end
 * @retval -ENOMEM no memory for the mm's notifier state
 * @retval -EINTR a signal came
 * @context Process context, without mmap_lock. Sleeps.
 * @kernel mm/mmu_notifier.c
 */
export function* mmu_notifier_register(subscription: mmu_notifier | null, mm: mm_struct): Sim<int> {
	yield* mmap_write_lock(mm);
	const ret = yield* __mmu_notifier_register(subscription, mm);
	yield* mmap_write_unlock(mm);
	return ret;
}

/** The notifier of an mm with these ops, with one user more; null when there is none. */
function* find_get_mmu_notifier(
	mm: mm_struct,
	ops: mmu_notifier_ops,
): Sim<mmu_notifier | errno | null> {
	const subscriptions = mm.notifier_subscriptions!;
	let found: mmu_notifier | errno | null = null;
	yield* spin_lock(subscriptions.lock);
	for (const subscription of subscriptions.list) {
		if (subscription.ops !== ops) continue;
		if (subscription.users === UINT_MAX) found = -EOVERFLOW;
		else {
			subscription.users++;
			found = subscription;
		}
		break;
	}
	yield* spin_unlock(subscriptions.lock);
	return found;
}

/**
 * The notifier of an mm with these ops, made by their alloc_notifier when there is none.
 *
 * @param ops - callbacks, with alloc_notifier and free_notifier
 * @param mm - the mm
 * @returns the notifier, to be given back with mmu_notifier_put()
 * @retval -EOVERFLOW too many users
 * @retval -ENOMEM no memory
 * @retval -EINVAL the ops contradict each other
 * @retval -EINTR a signal came
 * @context Process context, mmap_lock held for writing. Sleeps.
 * @kernel mm/mmu_notifier.c
 */
export function* mmu_notifier_get_locked(
	ops: mmu_notifier_ops,
	mm: mm_struct,
): Sim<mmu_notifier | errno> {
	mmap_assert_write_locked(mm);
	if (mm.notifier_subscriptions !== null) {
		const found = yield* find_get_mmu_notifier(mm, ops);
		if (found !== null) return found;
	}
	const subscription = ops.alloc_notifier!(mm);
	if (typeof subscription === 'number') return subscription;
	subscription.ops = ops;
	const ret = yield* __mmu_notifier_register(subscription, mm);
	if (ret) {
		ops.free_notifier!(subscription);
		return ret;
	}
	return subscription;
}

/**
 * mmu_notifier_get_locked() that takes mmap_lock itself.
 *
 * @param ops - callbacks, with alloc_notifier and free_notifier
 * @param mm - the mm
 * @returns the notifier, to be given back with mmu_notifier_put()
 * @retval -EOVERFLOW too many users
 * @retval -ENOMEM no memory
 * @retval -EINVAL the ops contradict each other
 * @retval -EINTR a signal came
 * @context Process context. Sleeps.
 * @kernel include/linux/mmu_notifier.h
 */
export function* mmu_notifier_get(ops: mmu_notifier_ops, mm: mm_struct): Sim<mmu_notifier | errno> {
	yield* mmap_write_lock(mm);
	const ret = yield* mmu_notifier_get_locked(ops, mm);
	yield* mmap_write_unlock(mm);
	return ret;
}

function listRemove(subscriptions: mmu_notifier_subscriptions, subscription: mmu_notifier): void {
	subscriptions.list = subscriptions.list.filter((other) => other !== subscription);
}

/**
 * Unregister a classic notifier: its release is called if the mm still lives, and when this returns
 * none of its callbacks runs.
 *
 * @param subscription - the notifier
 * @param mm - the mm; may be without users already
 * @context Process context, without locks that callbacks take. Sleeps.
 * @kernel mm/mmu_notifier.c
 */
export function* mmu_notifier_unregister(subscription: mmu_notifier, mm: mm_struct): Sim<void> {
	BUG_ON(mm.mm_count <= 0, 'mm_count is 0');
	const srcu = notifierSrcu();
	const subscriptions = mm.notifier_subscriptions!;
	if (subscriptions.list.includes(subscription)) {
		const id = srcu_read_lock(srcu);
		if (subscription.ops?.release !== undefined)
			yield* subscription.ops.release(subscription, mm);
		yield* srcu_read_unlock(srcu, id);
		yield* spin_lock(subscriptions.lock);
		listRemove(subscriptions, subscription);
		yield* spin_unlock(subscriptions.lock);
	}
	yield* synchronize_srcu(srcu);
	BUG_ON(mm.mm_count <= 0, 'mm_count is 0');
	yield* mmdrop(mm);
}

function* mmu_notifier_free_rcu(data: object): Sim<void> {
	const subscription = data as mmu_notifier;
	const mm = subscription.mm!;
	subscription.ops!.free_notifier!(subscription);
	yield* mmdrop(mm);
}

/**
 * Give back a notifier of mmu_notifier_get(); the last user frees it when no callback can run.
 *
 * @param subscription - the notifier
 * @context Process context.
 * @kernel mm/mmu_notifier.c
 */
export function* mmu_notifier_put(subscription: mmu_notifier): Sim<void> {
	const subscriptions = subscription.mm!.notifier_subscriptions!;
	yield* spin_lock(subscriptions.lock);
	if (WARN_ON(subscription.users === 0, 'no users') || --subscription.users !== 0) {
		yield* spin_unlock(subscriptions.lock);
		return;
	}
	listRemove(subscriptions, subscription);
	yield* spin_unlock(subscriptions.lock);
	yield* call_srcu(notifierSrcu(), mmu_notifier_free_rcu, subscription);
}

/**
 * Wait until no notifier that was put is still being freed; called at module exit.
 *
 * @context Process context. Sleeps.
 * @kernel mm/mmu_notifier.c
 */
export function* mmu_notifier_synchronize(): Sim<void> {
	yield* synchronize_srcu(notifierSrcu());
}
