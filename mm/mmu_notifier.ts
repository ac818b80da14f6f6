// SPDX-License-Identifier: GPL-2.0-only
/**
 * MMU notifiers: the owner of a mirror learns that page tables are about to change.
 *
 * Guarantee: between mmu_notifier_invalidate_range_start() and _end() of a range every interval
 * notifier that overlaps it has been called, and whoever used mmu_interval_read_begin() before sees
 * mmu_interval_read_retry() return true under its own lock.
 * Mechanism: one sequence number per mm, odd while an invalidation hits some interval; a notifier
 * remembers the number of its last invalidation; what wants to change the tree meanwhile is put off
 * until the last invalidation ends.
 * Duty: callbacks take the user's lock, call mmu_interval_set_seq(), tear down; users check
 * mmu_interval_read_retry() under that lock. mm/mmu_notifier/contract.ts reports who does not.
 *
 * ```
 *    seq     even                odd                       odd                 even (+2)
 *   mm    ---------- start(A) ---------- start(B) -- end(A) ----------- end(B) ------------
 *   active    0         1                   2          1                  0
 *                       |hits an interval: seq |= 1                       | adds and removes put off
 *                       v                                                 v are done, waiters wake
 *                  invalidate(sub, range, seq)                       read_begin() goes on
 * ```
 *
 * The kernel's one file is a folder here:
 *
 * | file | functions |
 * | --- | --- |
 * | itree.ts | the tree of intervals, mn_itree_inv_start_range, _next, _end |
 * | interval.ts | mmu_interval_read_begin, _read_retry, _check_retry, _set_seq, _insert(_locked), _remove |
 * | invalidate.ts | mn_itree_invalidate, mn_itree_release, mn_hlist_*, start, end, release, young hooks |
 * | register.ts | mmu_notifier_register, _get, _put, _unregister, _synchronize |
 * | srcu.ts | srcu_read_lock, synchronize_srcu, call_srcu: readers of the list |
 * | subscriptions.ts | mmu_notifier_subscriptions_init, _destroy |
 * | contract.ts | the checks of the contract, notifiers left at shutdown |
 *
 * @kernel mm/mmu_notifier.c
 */

export { reportNotifiersLeft } from './mmu_notifier/contract.ts';
export {
	mmu_interval_check_retry,
	mmu_interval_notifier_insert,
	mmu_interval_notifier_insert_locked,
	mmu_interval_notifier_remove,
	mmu_interval_read_begin,
	mmu_interval_read_retry,
	mmu_interval_set_seq,
} from './mmu_notifier/interval.ts';
export {
	__mmu_notifier_invalidate_range_end,
	__mmu_notifier_invalidate_range_start,
	__mmu_notifier_release,
	mm_has_notifiers,
	mmu_notifier_arch_invalidate_secondary_tlbs,
	mmu_notifier_clear_flush_young,
	mmu_notifier_clear_young,
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_invalidate_range_start_nonblock,
	mmu_notifier_range_blockable,
	mmu_notifier_range_init,
	mmu_notifier_range_init_owner,
	mmu_notifier_release,
	mmu_notifier_test_young,
} from './mmu_notifier/invalidate.ts';
export {
	__mmu_notifier_register,
	mmu_notifier_get,
	mmu_notifier_get_locked,
	mmu_notifier_put,
	mmu_notifier_register,
	mmu_notifier_synchronize,
	mmu_notifier_unregister,
} from './mmu_notifier/register.ts';
export {
	mmu_notifier_subscriptions_destroy,
	mmu_notifier_subscriptions_init,
} from './mmu_notifier/subscriptions.ts';
