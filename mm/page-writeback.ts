// SPDX-License-Identifier: GPL-2.0-only
/**
 * Dirty pages, and pages that are being written.
 *
 * The only backing store is swap: dirty means newer than the slot of the page, if it has one, and
 * that reclaim must write it before it may drop it.
 */
import { BUG_ON } from '../include/linux/bug.ts';
import { type folio, type page, page_folio } from '../include/linux/mm_types.ts';
import { folio_test_writeback, PG_dirty, PG_writeback } from '../include/linux/page-flags.ts';
import { preemptible, type Sim, schedulePoint, waitPoint } from '../include/sim/schedule.ts';
import { might_sleep } from '../kernel/sched/might_sleep.ts';

/**
 * Mark a folio as newer than its backing store.
 *
 * @param f - folio in use
 * @returns whether it was clean
 * @kernel mm/page-writeback.c
 */
export function* folio_mark_dirty(f: folio): Sim<boolean> {
	if (preemptible()) yield schedulePoint('atomic', f, 'flags');
	const clean = (f.flags & PG_dirty) === 0;
	f.flags |= PG_dirty;
	return clean;
}

/**
 * Mark the folio of a page as newer than its backing store.
 *
 * @param p - head or tail, in use
 * @returns whether it was clean
 * @kernel mm/folio-compat.c
 */
export function* set_page_dirty(p: page): Sim<boolean> {
	return yield* folio_mark_dirty(page_folio(p));
}

/**
 * Take the dirty mark off a folio that is about to be written.
 *
 * @param f - the folio, locked
 * @returns whether it was dirty
 * @kernel mm/page-writeback.c
 */
export function* folio_clear_dirty_for_io(f: folio): Sim<boolean> {
	if (preemptible()) yield schedulePoint('atomic', f, 'flags');
	const dirty = (f.flags & PG_dirty) !== 0;
	f.flags &= ~PG_dirty;
	return dirty;
}

/**
 * Say that a folio is being written.
 *
 * @param f - the folio, locked
 * @throws KernelOops if it is being written already
 * @kernel include/linux/page-flags.h
 */
export function* folio_start_writeback(f: folio): Sim<void> {
	if (preemptible()) yield schedulePoint('atomic', f, 'flags');
	BUG_ON(folio_test_writeback(f), 'folio_start_writeback() of a folio under writeback');
	f.flags |= PG_writeback;
}

/**
 * Sleep until a folio is not being written.
 *
 * @param f - the folio, with a reference
 * @context Process context. Sleeps.
 * @kernel mm/page-writeback.c
 */
export function* folio_wait_writeback(f: folio): Sim<void> {
	might_sleep();
	if (preemptible() || folio_test_writeback(f))
		yield waitPoint('wait', f, () => !folio_test_writeback(f));
}
