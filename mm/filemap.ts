// SPDX-License-Identifier: GPL-2.0-only
/**
 * The folio lock, and look-ups in the page cache.
 *
 * Guarantee: one holder of a folio's lock at a time; it is a bit of the page flags, so nobody owns
 * it and any task may unlock. Mechanism: PG_locked; a sleeper waits until the bit is clear. Duty:
 * the mmap lock comes before the folio lock, the page-table lock after it.
 *
 * | file | functions |
 * | --- | --- |
 * | filemap.ts | folio_lock, folio_unlock, folio_wait_locked, filemap_lock_folio |
 * | filemap/map_pages.ts | filemap_map_pages |
 */

import { BUG_ON } from '../include/linux/bug.ts';
import { EINTR } from '../include/linux/errno.ts';
import type { address_space, folio } from '../include/linux/mm_types.ts';
import {
	folio_test_locked,
	folio_test_writeback,
	PG_locked,
	PG_writeback,
} from '../include/linux/page-flags.ts';
import { fatal_signal_pending } from '../include/linux/sched.ts';
import type { spinlock_t } from '../include/linux/spinlock.ts';
import { type softleaf_t, softleaf_to_folio } from '../include/linux/swapops.ts';
import type { bool, int, pgoff_t } from '../include/linux/types.ts';
import { preemptible, type Sim, schedulePoint, touch, waitPoint } from '../include/sim/schedule.ts';
import { world } from '../include/sim/world.ts';
import { spin_unlock } from '../kernel/locking/spinlock.ts';
import { might_sleep } from '../kernel/sched/might_sleep.ts';
import { folio_put, folio_try_get } from './swap.ts';

/**
 * Lock a folio if it is not locked.
 *
 * @param f - the folio
 * @returns whether the caller holds the lock now
 * @kernel include/linux/pagemap.h
 */
export function* folio_trylock(f: folio): Sim<bool> {
	if (preemptible()) yield schedulePoint('atomic', f, 'flags');
	if (folio_test_locked(f)) return false;
	f.flags |= PG_locked;
	return true;
}

/**
 * Lock a folio.
 *
 * @param f - the folio, with a reference
 * @context Process context. Sleeps.
 * @kernel include/linux/pagemap.h
 */
export function* folio_lock(f: folio): Sim<void> {
	might_sleep();
	if (preemptible() || folio_test_locked(f))
		yield waitPoint('acquire', f, () => !folio_test_locked(f));
	f.flags |= PG_locked;
}

/**
 * Lock a folio, or give up when the task is killed.
 *
 * @param f - the folio, with a reference
 * @retval 0 locked
 * @retval -EINTR killed while it waited
 * @context Process context. Sleeps.
 * @kernel include/linux/pagemap.h
 */
export function* folio_lock_killable(f: folio): Sim<int> {
	might_sleep();
	const { current: task } = world();
	if (preemptible() || folio_test_locked(f))
		yield waitPoint(
			'acquire',
			f,
			() => !folio_test_locked(f) || fatal_signal_pending(task),
		);
	if (folio_test_locked(f)) return -EINTR;
	f.flags |= PG_locked;
	return 0;
}

/**
 * Unlock a folio.
 *
 * @param f - locked folio
 * @throws KernelOops if it is not locked
 * @kernel mm/filemap.c
 */
export function* folio_unlock(f: folio): Sim<void> {
	if (preemptible()) yield schedulePoint('release', f);
	BUG_ON(!folio_test_locked(f), 'folio_unlock() of a folio that is not locked');
	f.flags &= ~PG_locked;
}

/**
 * Sleep until a folio is not locked.
 *
 * @param f - the folio, with a reference
 * @context Process context. Sleeps.
 * @kernel include/linux/pagemap.h
 */
export function* folio_wait_locked(f: folio): Sim<void> {
	might_sleep();
	if (preemptible() || folio_test_locked(f))
		yield waitPoint('wait', f, () => !folio_test_locked(f));
}

/**
 * Say that the write of a folio is over.
 *
 * @param f - folio under writeback
 * @throws KernelOops if it is not
 * @kernel mm/filemap.c
 */
export function* folio_end_writeback(f: folio): Sim<void> {
	if (preemptible()) yield schedulePoint('wake', f);
	BUG_ON(!folio_test_writeback(f), 'folio_end_writeback() of a folio not under writeback');
	f.flags &= ~PG_writeback;
}

/**
 * Sleep, without a reference, until the folio of a migration or device-private entry is unlocked.
 *
 * The entry cannot change while its page-table lock is held, and whoever changes it holds the
 * folio's lock: so the sleeper queues first and leaves the page-table lock then. It looks at
 * nothing of the folio afterwards, which may be gone.
 *
 * @param entry - the entry, unmapped already
 * @param ptl - its page-table lock, held; released here
 * @context Process context. Sleeps.
 * @kernel mm/filemap.c
 */
export function* softleaf_entry_wait_on_locked(entry: softleaf_t, ptl: spinlock_t): Sim<void> {
	const f = softleaf_to_folio(entry);
	const wasLocked = folio_test_locked(f);
	yield* spin_unlock(ptl);
	might_sleep();
	if (wasLocked && (preemptible() || folio_test_locked(f)))
		yield waitPoint('wait', f, () => !folio_test_locked(f));
}

/**
 * 6.12's name of softleaf_entry_wait_on_locked().
 *
 * @param entry - the entry, unmapped already
 * @param ptl - its page-table lock, held; released here
 * @context Process context. Sleeps.
 * @kernel mm/filemap.c (gone in 7.x)
 */
export function* migration_entry_wait_on_locked(entry: softleaf_t, ptl: spinlock_t): Sim<void> {
	yield* softleaf_entry_wait_on_locked(entry, ptl);
}

/**
 * The folio of the page cache that covers an index, with a reference.
 *
 * @param mapping - page cache
 * @param index - in pages
 * @returns null when nothing is there
 * @kernel include/linux/pagemap.h
 */
export function filemap_get_folio(mapping: address_space, index: pgoff_t): folio | null {
	touch('read', mapping, 'i_pages');
	const f = mapping.i_pages.get(Number(index));
	return f !== undefined && folio_try_get(f) ? f : null;
}

/**
 * The folio of the page cache that covers an index, locked and with a reference.
 *
 * @param mapping - page cache
 * @param index - in pages
 * @returns null when nothing is there
 * @context Process context. Sleeps.
 * @kernel include/linux/pagemap.h
 */
export function* filemap_lock_folio(mapping: address_space, index: pgoff_t): Sim<folio | null> {
	for (;;) {
		const f = filemap_get_folio(mapping, index);
		if (f === null) return null;
		yield* folio_lock(f);
		if (f.mapping === mapping) return f;
		yield* folio_unlock(f);
		yield* folio_put(f);
	}
}
