// SPDX-License-Identifier: GPL-2.0-only
/**
 * Splitting a large folio: each of its pages becomes a folio.
 *
 * Guarantee: it is split whole or not at all; in either case every address maps, with the same
 * rights, the page that it mapped before, except that a page of RAM full of zeros may be replaced by
 * the zero page. Mechanism: all mappings are replaced by migration entries, so that the only
 * reference left is the caller's; then the pages are told that they are no longer parts of a whole.
 * Duty: the folio is locked and has one reference of the caller's. Afterwards the caller's lock and
 * reference are those of the page that was asked for, or of the first.
 *
 * ```
 *   references of 512 pages, mapped by a pmd:   1 + caller's 1
 *   unmap_folio()                               caller's 1            | else: map it again, -EAGAIN
 *   __split_unmapped_folio()                    512 folios with 1 each, locked
 *   remap_page()                                2 where it is mapped
 *   unlock and put all but the caller's page    1, or freed: mapped nowhere
 * ```
 */
import { BUG_ON, WARN_ON_ONCE } from '../../include/linux/bug.ts';
import { EAGAIN, EBUSY, EINVAL } from '../../include/linux/errno.ts';
import { anon_vma, type folio, type page, page_folio } from '../../include/linux/mm_types.ts';
import { nth_page, page_to_pfn } from '../../include/linux/mmzone.ts';
import {
	folio_is_device_private,
	folio_nr_pages,
	folio_order,
	folio_pfn,
	folio_ref_count,
	folio_test_anon,
	folio_test_large,
	folio_test_locked,
	folio_test_lru,
	PG_active,
	PG_anon_exclusive,
	PG_dirty,
	PG_large_rmappable,
	PG_locked,
	PG_lru,
	PG_mlocked,
	PG_referenced,
	PG_swapbacked,
	PG_unevictable,
	PG_uptodate,
	PG_writeback,
	set_page_count,
} from '../../include/linux/page-flags.ts';
import { HPAGE_PMD_ORDER, type int } from '../../include/linux/types.ts';
import { preemptible, type Sim, schedulePoint, touch } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { folio_unlock } from '../filemap.ts';
import { zone_device_private_split_cb } from '../memremap.ts';
import { RMP_LOCKED, RMP_USE_SHARED_ZEROPAGE, remove_migration_ptes } from '../migrate.ts';
import {
	anon_vma_lock_write,
	anon_vma_unlock_write,
	folio_mapcount,
	get_anon_vma,
	put_anon_vma,
	TTU_BATCH_FLUSH,
	TTU_RMAP_LOCKED,
	TTU_SPLIT_HUGE_PMD,
	TTU_SYNC,
	try_to_migrate,
} from '../rmap.ts';
import { folio_put, folio_ref_freeze, folio_ref_unfreeze } from '../swap.ts';
import { is_huge_zero_pfn } from './zero.ts';

/** What each part of a folio has of it. */
const SHARED_FLAGS =
	PG_referenced |
	PG_swapbacked |
	PG_mlocked |
	PG_uptodate |
	PG_active |
	PG_locked |
	PG_unevictable |
	PG_dirty;

/**
 * Whether a folio can be split at all.
 *
 * @retval 0 it can
 * @retval -EBUSY it was truncated, or is being written back
 * @retval -EINVAL the huge zero page
 */
function folio_check_splittable(f: folio): int {
	if (f.mapping === null) return -EBUSY;
	if (is_huge_zero_pfn(folio_pfn(f))) return -EINVAL;
	return f.flags & PG_writeback ? -EBUSY : 0;
}

/** Puts migration entries in the place of every mapping. */
function* unmap_folio(f: folio): Sim<void> {
	let flags = TTU_RMAP_LOCKED | TTU_SYNC | TTU_BATCH_FLUSH;
	if (folio_order(f) >= HPAGE_PMD_ORDER) flags |= TTU_SPLIT_HUGE_PMD;
	yield* try_to_migrate(f, flags);
}

/** Maps the parts of a folio again, or all of it if it could not be split. */
function* remap_page(f: folio, nr: number, flags: number): Sim<void> {
	for (let i = 0; i < nr; ) {
		const part = page_folio(nth_page(f.page, i));
		yield* remove_migration_ptes(part, part, RMP_LOCKED | flags);
		i += folio_nr_pages(part);
	}
}

/** Makes each page of a frozen folio a folio, with one reference. */
function* __split_unmapped_folio(f: folio): Sim<void> {
	const nr = folio_nr_pages(f);
	const { page: head, mapping, index } = f;
	const isPrivate = folio_is_device_private(f);
	const shared = f.flags & SHARED_FLAGS;
	const lru = isPrivate ? 0 : f.flags & PG_lru;
	f._mm_ids = null;
	touch('write', f, 'compound');
	for (let i = 1; i < nr; i++) {
		const p = nth_page(head, i);
		WARN_ON_ONCE(p._mapcount !== -1, 'page of a folio that is split is mapped');
		p.flags = (p.flags & ~PG_anon_exclusive) | shared | lru;
		p.mapping = mapping;
		p.index = index + BigInt(i);
		p.compound = 0;
	}
	head.compound = 0;
	head.flags &= ~PG_large_rmappable;
	for (let i = 1; i < nr; i++) {
		const part = page_folio(nth_page(head, i));
		if (isPrivate) yield* zone_device_private_split_cb(f, part);
		set_page_count(part.page, 1);
	}
	if (isPrivate) yield* zone_device_private_split_cb(f, null);
}

/** Splits a folio that nobody but the caller refers to; -EAGAIN: somebody does. */
function* freezeAndSplit(f: folio): Sim<int> {
	if (preemptible()) yield schedulePoint('atomic', f, '_refcount');
	if (!folio_ref_freeze(f, 1)) return -EAGAIN;
	yield* __split_unmapped_folio(f);
	folio_ref_unfreeze(f, 1);
	return 0;
}

/** The split, under the rmap's semaphore; page number `keep` stays locked and referenced. */
function* splitLocked(f: folio, keep: number): Sim<int> {
	const nr = folio_nr_pages(f);
	// before anything is unmapped: somebody else has a reference
	if (folio_mapcount(f) !== folio_ref_count(f) - 1) return -EAGAIN;
	const isPrivate = folio_is_device_private(f);
	WARN_ON_ONCE(!isPrivate && !folio_test_lru(f), 'folio that is split is not on the LRU');
	yield* unmap_folio(f);
	const ret = yield* freezeAndSplit(f);
	yield* remap_page(f, nr, ret === 0 && !isPrivate ? RMP_USE_SHARED_ZEROPAGE : 0);
	for (let i = 0; ret === 0 && i < nr; i++) {
		if (i === keep) continue;
		const part = page_folio(nth_page(f.page, i));
		yield* folio_unlock(part);
		yield* folio_put(part);
	}
	return ret;
}

/**
 * Split the large anonymous folio of a page into its pages.
 *
 * @param p - one of its pages; the folio is locked, and has one reference of the caller's. Afterwards
 *   lock and reference are those of the page alone.
 * @retval 0 split
 * @retval -EAGAIN somebody else has a reference: it is mapped as before
 * @retval -EBUSY it has no mapping any more, or is being written back
 * @retval -EINVAL the huge zero page, or a folio of a page cache
 * @context Sleeps. No page-table lock is held.
 * @kernel include/linux/huge_mm.h
 */
export function* split_huge_page(p: page): Sim<int> {
	const f = page_folio(p);
	WARN_ON_ONCE(!folio_test_locked(f), 'folio to be split is not locked');
	BUG_ON(!folio_test_large(f), 'small folio is split');
	const ret = folio_check_splittable(f);
	if (ret !== 0) return ret;
	const { mapping } = f;
	// huge pages of files are not modelled: a shmem folio is never large
	if (!(mapping instanceof anon_vma)) return -EINVAL;
	get_anon_vma(mapping);
	yield* anon_vma_lock_write(mapping);
	const keep = Number((page_to_pfn(p) as bigint) - (folio_pfn(f) as bigint));
	const result = yield* splitLocked(f, keep);
	yield* anon_vma_unlock_write(mapping);
	put_anon_vma(mapping);
	return result;
}

/**
 * Split a large anonymous folio into its pages.
 *
 * @param f - the folio, locked, with one reference of the caller's
 * @returns as split_huge_page(): afterwards `f` is its first page alone, locked and referenced
 * @context Sleeps. No page-table lock is held.
 * @kernel include/linux/huge_mm.h
 */
export function* split_folio(f: folio): Sim<int> {
	return yield* split_huge_page(f.page);
}

/**
 * Split a large anonymous folio that is being migrated: nothing maps it, and its parts stay locked.
 *
 * @param f - the folio, locked, with one reference of the caller's
 * @retval 0 split: each of its pages is a folio, locked, with one reference
 * @retval -EAGAIN somebody else has a reference
 * @context Sleeps.
 * @deviates always to single pages
 * @kernel mm/huge_memory.c
 * @since v6.19
 */
export function* folio_split_unmapped(f: folio): Sim<int> {
	WARN_ON_ONCE(folio_mapcount(f) !== 0, 'folio to be split is mapped');
	WARN_ON_ONCE(!folio_test_locked(f), 'folio to be split is not locked');
	WARN_ON_ONCE(!folio_test_anon(f), 'folio to be split is not anonymous');
	BUG_ON(!feature('device_private_thp'), 'a release that does not migrate huge folios');
	return yield* freezeAndSplit(f);
}
