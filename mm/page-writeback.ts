// SPDX-License-Identifier: GPL-2.0-only
/** Dirty pages. There is no backing store to write to: dirty means newer than what truncation and reclaim may drop. */
import { type folio, type page, page_folio } from '../include/linux/mm_types.ts';
import { PG_dirty } from '../include/linux/page-flags.ts';
import { preemptible, type Sim, schedulePoint } from '../include/sim/schedule.ts';

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
