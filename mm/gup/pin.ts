// SPDX-License-Identifier: GPL-2.0-only
/**
 * Pins: get_user_pages() and pin_user_pages() of the current task.
 *
 * Guarantee: what is pinned with FOLL_LONGTERM lies in memory that nobody will want back. Mechanism:
 * pin, look, and where a page lies elsewhere migrate it, unpin all and begin again.
 *
 * ```
 *   pin the range ── all pinnable? ── yes: done
 *        ^               no: coherent page: pin -> reference, migrate to system memory
 *        `-- -EAGAIN --- unpin the others
 * ```
 *
 * @kernel mm/gup.c
 */
import { EAGAIN, EBUSY } from '../../include/linux/errno.ts';
import { FOLL_GET, FOLL_LONGTERM, FOLL_PIN, FOLL_TOUCH } from '../../include/linux/mm.ts';
import { type mm_struct, type page, page_folio } from '../../include/linux/mm_types.ts';
import { folio_is_device_coherent } from '../../include/linux/page-flags.ts';
import { current } from '../../include/linux/sched.ts';
import type { int, unsigned_int, unsigned_long } from '../../include/linux/types.ts';
import { retryRound } from '../../include/sim/retry.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { __get_user_pages } from '../gup.ts';
import { migrate_device_coherent_folio } from '../migrate_device.ts';
import { folio_get } from '../swap.ts';
import { folio_is_longterm_pinnable, gup_put_folio } from './grab.ts';

/**
 * Unpin a page.
 *
 * @param p - pinned by pin_user_pages*()
 * @context Sleeps only if the pagemap's free op does.
 * @kernel mm/gup.c
 */
export function* unpin_user_page(p: page): Sim<void> {
	yield* gup_put_folio(page_folio(p), 1, FOLL_PIN);
}

/**
 * Unpin pages.
 *
 * @param pages - pinned by pin_user_pages*()
 * @param npages - how many of them
 * @context Sleeps only if the pagemap's free op does.
 * @kernel mm/gup.c
 */
export function* unpin_user_pages(pages: readonly page[], npages: unsigned_long): Sim<void> {
	for (let i = 0; BigInt(i) < npages; i++) yield* unpin_user_page(pages[i]!);
}

/**
 * Migrate what cannot be pinned without end, and unpin everything.
 *
 * @retval -EAGAIN it is where it may be pinned: pin it again
 * @retval -EBUSY a page could not be migrated
 */
function* migrateUnpinnable(pages: readonly page[]): Sim<int> {
	for (const [i, p] of pages.entries()) {
		const f = page_folio(p);
		if (!folio_is_device_coherent(f)) {
			yield* unpin_user_page(p);
			continue;
		}
		// a pinned page does not migrate, so the pin becomes a reference
		folio_get(f);
		yield* gup_put_folio(f, 1, FOLL_PIN);
		if ((yield* migrate_device_coherent_folio(f)) !== 0) {
			const rest = pages.slice(i + 1);
			yield* unpin_user_pages(rest, BigInt(rest.length));
			return -EBUSY;
		}
	}
	return -EAGAIN;
}

/**
 * 0: all may stay pinned; else nothing is pinned any more. Pages of a file system that has no pages
 * of its own are let pass here as in the kernel: it refuses them before.
 */
function* check_and_migrate_movable_pages(pages: readonly page[]): Sim<int> {
	if (pages.every((p) => folio_is_longterm_pinnable(page_folio(p)))) return 0;
	return yield* migrateUnpinnable(pages);
}

/**
 * Get or pin pages, without end if FOLL_LONGTERM.
 *
 * @param mm - address space
 * @param start - first address
 * @param nr_pages - how many
 * @param pages - out: the pages
 * @param gup_flags - FOLL_* bits
 * @returns pages gotten, else an errno of get_user_pages_remote()
 * @retval -EBUSY a page could not be brought where it may be pinned
 * @context Sleeps. The mmap lock is held and stays so.
 * @kernel mm/gup.c
 */
export function* __gup_longterm_locked(
	mm: mm_struct,
	start: unsigned_long,
	nr_pages: unsigned_long,
	pages: page[],
	gup_flags: unsigned_int,
): Sim<int> {
	for (let round = 0; ; round++) {
		retryRound(round, '__gup_longterm_locked', 'a page that comes back to the device');
		const got: page[] = [];
		const n = yield* __get_user_pages(mm, start, nr_pages, gup_flags, got);
		const check = n > 0 && gup_flags & FOLL_LONGTERM;
		const rc = check ? yield* check_and_migrate_movable_pages(got) : 0;
		if (rc === -EAGAIN) continue;
		if (rc !== 0) return rc;
		pages.push(...got);
		return n;
	}
}

/**
 * Get the pages behind a range of the current task's addresses.
 *
 * @param start - first address
 * @param nr_pages - how many
 * @param gup_flags - FOLL_WRITE and the like
 * @param pages - out: appended, each with a reference
 * @returns as get_user_pages_remote()
 * @context Sleeps. The mmap lock is held and stays so.
 * @kernel mm/gup.c
 */
export function* get_user_pages(
	start: unsigned_long,
	nr_pages: unsigned_long,
	gup_flags: unsigned_int,
	pages: page[],
): Sim<int> {
	const flags = gup_flags | FOLL_TOUCH | FOLL_GET;
	return yield* __gup_longterm_locked(current().mm!, start, nr_pages, pages, flags);
}

/**
 * Pin the pages behind a range of the current task's addresses.
 *
 * @param start - first address
 * @param nr_pages - how many
 * @param gup_flags - FOLL_WRITE, FOLL_LONGTERM and the like
 * @param pages - out: appended, each with a pin
 * @returns as get_user_pages_remote()
 * @retval -EBUSY FOLL_LONGTERM, and a page could not be brought where it may be pinned
 * @retval -EOPNOTSUPP FOLL_LONGTERM, and the first one is in a file of a DAX file system
 * @context Sleeps. The mmap lock is held and stays so.
 * @kernel mm/gup.c
 */
export function* pin_user_pages(
	start: unsigned_long,
	nr_pages: unsigned_long,
	gup_flags: unsigned_int,
	pages: page[],
): Sim<int> {
	const flags = gup_flags | FOLL_TOUCH | FOLL_PIN;
	return yield* __gup_longterm_locked(current().mm!, start, nr_pages, pages, flags);
}
