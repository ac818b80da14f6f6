// SPDX-License-Identifier: GPL-2.0-only
/** Beginning and end of what an mm keeps for its notifiers. Apart, since mmdrop() needs only this. */
import { BUG_ON } from '../../include/linux/bug.ts';
import type { mm_struct } from '../../include/linux/mm_types.ts';

/**
 * A new mm has no notifiers.
 *
 * @param mm - the new mm
 * @kernel include/linux/mmu_notifier.h
 */
export function mmu_notifier_subscriptions_init(mm: mm_struct): void {
	mm.notifier_subscriptions = null;
}

/**
 * The last reference of an mm is gone: so must its notifiers be, as each holds one.
 *
 * @param mm - the mm
 * @context Called by mmdrop() when mm_count has reached 0.
 * @kernel include/linux/mmu_notifier.h
 */
export function mmu_notifier_subscriptions_destroy(mm: mm_struct): void {
	const subscriptions = mm.notifier_subscriptions;
	if (subscriptions === null) return;
	BUG_ON(subscriptions.list.length !== 0, 'a notifier outlives its mm');
	mm.notifier_subscriptions = null;
}
