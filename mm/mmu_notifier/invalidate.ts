// SPDX-License-Identifier: GPL-2.0-only
/**
 * Invalidation: who is called before and after page tables change.
 *
 * ```
 *   start   1. interval notifiers, first pass, in order of their start
 *           2. v7.3: second pass of those that asked for one, in the same order
 *           3. classic notifiers
 *   end     1. the number becomes even, put-off changes, waiters     2. classic notifiers
 * ```
 */
import { WARN_ON } from '../../include/linux/bug.ts';
import { EAGAIN } from '../../include/linux/errno.ts';
import type { mm_struct } from '../../include/linux/mm_types.ts';
import {
	MMU_NOTIFIER_RANGE_BLOCKABLE,
	MMU_NOTIFY_RELEASE,
	type mmu_interval_notifier,
	type mmu_interval_notifier_finish,
	type mmu_notifier_event,
	mmu_notifier_range,
	type mmu_notifier_subscriptions,
} from '../../include/linux/mmu_notifier.ts';
import { pr_info } from '../../include/linux/printk.ts';
import {
	type int,
	outParam,
	ULONG_MAX,
	type unsigned_int,
	type unsigned_long,
} from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { lock_map_acquire, lock_map_release } from '../../kernel/locking/lockdep.ts';
import { spin_lock, spin_unlock } from '../../kernel/locking/spinlock.ts';
import { might_sleep, non_block_end, non_block_start } from '../../kernel/sched/might_sleep.ts';
import { __mmu_notifier_invalidate_range_start_map, checkAnswer } from './contract.ts';
import { mn_itree_inv_end, mn_itree_inv_next, mn_itree_inv_start_range } from './itree.ts';
import { notifierSrcu, srcu_read_lock, srcu_read_unlock, synchronize_srcu } from './srcu.ts';

/**
 * Whether an mm has, or ever had, a notifier.
 *
 * @param mm - the mm
 * @kernel include/linux/mmu_notifier.h
 */
export function mm_has_notifiers(mm: mm_struct): boolean {
	return mm.notifier_subscriptions !== null;
}

/**
 * Whether callbacks may sleep.
 *
 * @param range - the invalidation
 * @kernel include/linux/mmu_notifier.h
 */
export function mmu_notifier_range_blockable(range: mmu_notifier_range): boolean {
	return (range.flags & MMU_NOTIFIER_RANGE_BLOCKABLE) !== 0;
}

/**
 * Fill in an invalidation.
 *
 * @param range - out
 * @param event - what happens to the page tables
 * @param flags - 0; blockable is set by start
 * @param mm - whose page tables
 * @param start - first address
 * @param end - exclusive
 * @kernel include/linux/mmu_notifier.h
 */
export function mmu_notifier_range_init(
	range: mmu_notifier_range,
	event: mmu_notifier_event,
	flags: unsigned_int,
	mm: mm_struct,
	start: unsigned_long,
	end: unsigned_long,
): void {
	range.event = event;
	range.mm = mm;
	range.start = start;
	range.end = end;
	range.flags = flags;
}

/**
 * Fill in an invalidation on behalf of a pagemap's owner.
 *
 * @param range - out
 * @param event - MMU_NOTIFY_MIGRATE or MMU_NOTIFY_EXCLUSIVE
 * @param flags - 0
 * @param mm - whose page tables
 * @param start - first address
 * @param end - exclusive
 * @param owner - who may ignore it
 * @kernel include/linux/mmu_notifier.h
 */
export function mmu_notifier_range_init_owner(
	range: mmu_notifier_range,
	event: mmu_notifier_event,
	flags: unsigned_int,
	mm: mm_struct,
	start: unsigned_long,
	end: unsigned_long,
	owner: object | null,
): void {
	mmu_notifier_range_init(range, event, flags, mm, start, end);
	range.owner = owner;
}

/** Second pass of those that asked for one, in the order in which they were called. */
function* mn_itree_finish_pass(finish_passes: readonly mmu_interval_notifier_finish[]): Sim<void> {
	for (const finish of finish_passes) {
		const ops = (finish.notifier as mmu_interval_notifier).ops;
		yield* ops!.invalidate_finish!(finish);
	}
}

/** First pass of one interval notifier; the answer is checked against the contract. */
function* callInterval(
	interval_sub: mmu_interval_notifier,
	range: mmu_notifier_range,
	cur_seq: unsigned_long,
	finish_passes: mmu_interval_notifier_finish[],
): Sim<boolean> {
	const ops = interval_sub.ops!;
	let ok: boolean;
	if (ops.invalidate_start !== undefined && feature('mmu_interval_two_pass')) {
		const finish = outParam<mmu_interval_notifier_finish | null>(null);
		ok = yield* ops.invalidate_start(interval_sub, range, cur_seq, finish);
		if (finish.value !== null) {
			finish.value.notifier = interval_sub;
			finish_passes.push(finish.value);
		}
	} else ok = yield* ops.invalidate!(interval_sub, range, cur_seq);
	if (ok) checkAnswer(interval_sub, range, cur_seq);
	return ok;
}

/** The mm dies: every interval is told, as by one invalidation of everything. */
function* mn_itree_release(subscriptions: mmu_notifier_subscriptions, mm: mm_struct): Sim<void> {
	const range = new mmu_notifier_range();
	const flags = MMU_NOTIFIER_RANGE_BLOCKABLE;
	mmu_notifier_range_init(range, MMU_NOTIFY_RELEASE, flags, mm, 0n, ULONG_MAX);
	const cur_seq = outParam(0n);
	const finish_passes: mmu_interval_notifier_finish[] = [];
	let interval_sub = yield* mn_itree_inv_start_range(subscriptions, range, cur_seq);
	for (; interval_sub !== null; interval_sub = mn_itree_inv_next(interval_sub, range))
		WARN_ON(!(yield* callInterval(interval_sub, range, cur_seq.value, finish_passes)));
	yield* mn_itree_finish_pass(finish_passes);
	yield* mn_itree_inv_end(subscriptions);
}

/** The mm dies: classic notifiers are told and leave the list. */
function* mn_hlist_release(subscriptions: mmu_notifier_subscriptions, mm: mm_struct): Sim<void> {
	const srcu = notifierSrcu();
	const id = srcu_read_lock(srcu);
	for (const subscription of [...subscriptions.list])
		if (subscription.ops?.release !== undefined)
			yield* subscription.ops.release(subscription, mm);
	yield* spin_lock(subscriptions.lock);
	subscriptions.list = [];
	yield* spin_unlock(subscriptions.lock);
	yield* srcu_read_unlock(srcu, id);
	yield* synchronize_srcu(srcu);
}

/**
 * Tell the notifiers of an mm that it dies.
 *
 * @param mm - the mm, without users
 * @context exit_mmap(). Sleeps.
 * @kernel mm/mmu_notifier.c
 */
export function* __mmu_notifier_release(mm: mm_struct): Sim<void> {
	const subscriptions = mm.notifier_subscriptions as mmu_notifier_subscriptions;
	if (subscriptions.has_itree) yield* mn_itree_release(subscriptions, mm);
	if (subscriptions.list.length !== 0) yield* mn_hlist_release(subscriptions, mm);
}

/**
 * Tell the notifiers of an mm, if it has any, that it dies.
 *
 * @param mm - the mm, without users
 * @context exit_mmap(). Sleeps.
 * @kernel include/linux/mmu_notifier.h
 */
export function* mmu_notifier_release(mm: mm_struct): Sim<void> {
	if (mm_has_notifiers(mm)) yield* __mmu_notifier_release(mm);
}

/**
 * Call the interval notifiers.
 *
 * @deviates a callback that must not block runs inside non_block_start(), so that one that sleeps is
 * reported; the kernel leaves this to review
 */
function* mn_itree_invalidate(
	subscriptions: mmu_notifier_subscriptions,
	range: mmu_notifier_range,
): Sim<int> {
	const blockable = mmu_notifier_range_blockable(range);
	const cur_seq = outParam(0n);
	const finish_passes: mmu_interval_notifier_finish[] = [];
	let err = 0;
	let interval_sub = yield* mn_itree_inv_start_range(subscriptions, range, cur_seq);
	if (!blockable) non_block_start();
	for (; interval_sub !== null; interval_sub = mn_itree_inv_next(interval_sub, range)) {
		if (yield* callInterval(interval_sub, range, cur_seq.value, finish_passes))
			continue;
		if (WARN_ON(blockable, 'a notifier may not refuse')) continue;
		err = -EAGAIN;
		break;
	}
	yield* mn_itree_finish_pass(finish_passes);
	if (!blockable) non_block_end();
	// The caller must not call end() after -EAGAIN.
	if (err) yield* mn_itree_inv_end(subscriptions);
	return err;
}

/** Call the classic notifiers: all of them, also after one has refused. */
function* mn_hlist_invalidate_range_start(
	subscriptions: mmu_notifier_subscriptions,
	range: mmu_notifier_range,
): Sim<int> {
	const blockable = mmu_notifier_range_blockable(range);
	const srcu = notifierSrcu();
	const id = srcu_read_lock(srcu);
	let ret = 0;
	for (const subscription of [...subscriptions.list]) {
		const ops = subscription.ops!;
		if (ops.invalidate_range_start === undefined) continue;
		if (!blockable) non_block_start();
		const _ret = yield* ops.invalidate_range_start(subscription, range);
		if (!blockable) non_block_end();
		if (!_ret) continue;
		pr_info(
			`${ops.invalidate_range_start.name} callback failed with ${_ret} in ${blockable ? '' : 'non-'}blockable context.`,
		);
		WARN_ON(blockable || _ret !== -EAGAIN, 'a notifier may only refuse to block');
		// It cannot know that its start failed, so it must have no end.
		WARN_ON(
			ops.invalidate_range_end !== undefined,
			'a notifier that may refuse has an end',
		);
		ret = _ret;
	}
	if (ret)
		for (const subscription of [...subscriptions.list])
			if (subscription.ops?.invalidate_range_end !== undefined)
				yield* subscription.ops.invalidate_range_end(subscription, range);
	yield* srcu_read_unlock(srcu, id);
	return ret;
}

/**
 * Tell the notifiers that a range is about to change; the interval notifiers are not told of an end
 * if a classic one refuses.
 *
 * @param range - the invalidation
 * @retval 0 go on; end must be called
 * @retval -EAGAIN a callback would have to block: end must not be called
 * @kernel mm/mmu_notifier.c
 */
export function* __mmu_notifier_invalidate_range_start(range: mmu_notifier_range): Sim<int> {
	const subscriptions = range.mm.notifier_subscriptions as mmu_notifier_subscriptions;
	if (subscriptions.has_itree) {
		const ret = yield* mn_itree_invalidate(subscriptions, range);
		if (ret) return ret;
	}
	if (subscriptions.list.length === 0) return 0;
	const ret = yield* mn_hlist_invalidate_range_start(subscriptions, range);
	// The kernels forget that the intervals were started: nobody ends that, and read_begin() waits.
	if (ret && subscriptions.has_itree && feature('fix_s5'))
		yield* mn_itree_inv_end(subscriptions);
	return ret;
}

function* mn_hlist_invalidate_end(
	subscriptions: mmu_notifier_subscriptions,
	range: mmu_notifier_range,
): Sim<void> {
	const blockable = mmu_notifier_range_blockable(range);
	const srcu = notifierSrcu();
	const id = srcu_read_lock(srcu);
	for (const subscription of [...subscriptions.list]) {
		if (subscription.ops?.invalidate_range_end === undefined) continue;
		if (!blockable) non_block_start();
		yield* subscription.ops.invalidate_range_end(subscription, range);
		if (!blockable) non_block_end();
	}
	yield* srcu_read_unlock(srcu, id);
}

/**
 * Tell the notifiers that a range has changed.
 *
 * @param range - the invalidation, as it was given to start
 * @kernel mm/mmu_notifier.c
 */
export function* __mmu_notifier_invalidate_range_end(range: mmu_notifier_range): Sim<void> {
	const subscriptions = range.mm.notifier_subscriptions as mmu_notifier_subscriptions;
	const map = __mmu_notifier_invalidate_range_start_map();
	lock_map_acquire(map);
	if (subscriptions.has_itree) yield* mn_itree_inv_end(subscriptions);
	if (subscriptions.list.length !== 0) yield* mn_hlist_invalidate_end(subscriptions, range);
	lock_map_release(map);
}

/**
 * A range is about to change; callbacks may sleep.
 *
 * @param range - the invalidation
 * @context Process context. Sleeps.
 * @kernel include/linux/mmu_notifier.h
 */
export function* mmu_notifier_invalidate_range_start(range: mmu_notifier_range): Sim<void> {
	might_sleep();
	const map = __mmu_notifier_invalidate_range_start_map();
	lock_map_acquire(map);
	if (mm_has_notifiers(range.mm)) {
		range.flags |= MMU_NOTIFIER_RANGE_BLOCKABLE;
		yield* __mmu_notifier_invalidate_range_start(range);
	}
	lock_map_release(map);
}

/**
 * A range is about to change; callbacks must not sleep.
 *
 * @param range - the invalidation
 * @retval 0 go on
 * @retval -EAGAIN give up: end must not be called
 * @context The OOM reaper.
 * @kernel include/linux/mmu_notifier.h
 */
export function* mmu_notifier_invalidate_range_start_nonblock(range: mmu_notifier_range): Sim<int> {
	const map = __mmu_notifier_invalidate_range_start_map();
	let ret = 0;
	lock_map_acquire(map);
	if (mm_has_notifiers(range.mm)) {
		range.flags &= ~MMU_NOTIFIER_RANGE_BLOCKABLE;
		ret = yield* __mmu_notifier_invalidate_range_start(range);
	}
	lock_map_release(map);
	return ret;
}

/**
 * A range has changed.
 *
 * @param range - the invalidation, as it was given to start
 * @context As its start.
 * @kernel include/linux/mmu_notifier.h
 */
export function* mmu_notifier_invalidate_range_end(range: mmu_notifier_range): Sim<void> {
	if (mmu_notifier_range_blockable(range)) might_sleep();
	if (mm_has_notifiers(range.mm)) yield* __mmu_notifier_invalidate_range_end(range);
}

/**
 * The CPUs' TLBs of a range are flushed: so are those that share the page tables.
 *
 * @param mm - the mm
 * @param start - first address
 * @param end - exclusive
 * @context Atomic, maybe under the page table lock.
 * @kernel include/linux/mmu_notifier.h
 */
export function mmu_notifier_arch_invalidate_secondary_tlbs(
	mm: mm_struct,
	start: unsigned_long,
	end: unsigned_long,
): void {
	for (const subscription of mm.notifier_subscriptions?.list ?? [])
		subscription.ops?.arch_invalidate_secondary_tlbs?.(subscription, mm, start, end);
}

/**
 * Clear the accessed bits of mirrors, and say whether one was set.
 *
 * @param mm - the mm
 * @param start - first address
 * @param end - exclusive
 * @kernel include/linux/mmu_notifier.h
 */
export function mmu_notifier_clear_flush_young(
	mm: mm_struct,
	start: unsigned_long,
	end: unsigned_long,
): boolean {
	let young = false;
	for (const subscription of mm.notifier_subscriptions?.list ?? [])
		if (subscription.ops?.clear_flush_young?.(subscription, mm, start, end))
			young = true;
	return young;
}

/**
 * Clear the accessed bits of mirrors without a flush, and say whether one was set.
 *
 * @param mm - the mm
 * @param start - first address
 * @param end - exclusive
 * @kernel include/linux/mmu_notifier.h
 */
export function mmu_notifier_clear_young(
	mm: mm_struct,
	start: unsigned_long,
	end: unsigned_long,
): boolean {
	let young = false;
	for (const subscription of mm.notifier_subscriptions?.list ?? [])
		if (subscription.ops?.clear_young?.(subscription, mm, start, end)) young = true;
	return young;
}

/**
 * Whether a mirror has accessed a page; stops at the first that has.
 *
 * @param mm - the mm
 * @param address - the page
 * @kernel include/linux/mmu_notifier.h
 */
export function mmu_notifier_test_young(mm: mm_struct, address: unsigned_long): boolean {
	for (const subscription of mm.notifier_subscriptions?.list ?? [])
		if (subscription.ops?.test_young?.(subscription, mm, address)) return true;
	return false;
}
