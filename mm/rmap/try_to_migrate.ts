// SPDX-License-Identifier: GPL-2.0-only
/**
 * Replacing every entry that maps a folio by a migration entry.
 *
 * ```
 *   pte             AnonExclusive   becomes
 *   writable              1         MIGRATION_WRITE
 *   read-only             1         MIGRATION_READ_EXCLUSIVE
 *   read-only             0         MIGRATION_READ           young and dirty go along
 *   DEVICE_WRITE          1         MIGRATION_WRITE
 *   DEVICE_READ          0/1        MIGRATION_READ(_EXCLUSIVE)
 * ```
 */
import { WARN_ON_ONCE } from '../../include/linux/bug.ts';
import {
	type address_space,
	anon_vma,
	type folio,
	type page,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import { MMU_NOTIFY_CLEAR, mmu_notifier_range } from '../../include/linux/mmu_notifier.ts';
import { nth_page, page_to_pfn } from '../../include/linux/mmzone.ts';
import {
	folio_is_device_coherent,
	folio_is_device_private,
	folio_is_zone_device,
	folio_pfn,
	folio_test_anon,
	folio_test_swapcache,
	PageAnonExclusive,
} from '../../include/linux/page-flags.ts';
import {
	pte_dirty,
	pte_pfn,
	pte_present,
	type pte_t,
	pte_write,
	pte_young,
} from '../../include/linux/pgtable.ts';
import { folioSwapEntry, swap_address_space } from '../../include/linux/swap.ts';
import {
	migrationEntryOf,
	pte_swp_mkuffd_wp,
	pte_swp_uffd_wp,
	softleaf_from_pte,
	softleaf_is_device_private_write,
	softleaf_to_pfn,
	swp_entry_to_pte,
} from '../../include/linux/swapops.ts';
import type { bool, unsigned_long } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { set_pmd_migration_entry } from '../huge_memory/migrate.ts';
import { split_huge_pmd_address, split_huge_pmd_locked } from '../huge_memory/split_pmd.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init,
} from '../mmu_notifier.ts';
import { folio_mark_dirty } from '../page-writeback.ts';
import { pte_clear, ptep_clear_flush, set_pte_at } from '../pgtable.ts';
import { folio_put } from '../swap.ts';
import { folio_mapped, folio_remove_rmap_pte, folio_try_share_anon_rmap_pte } from './mapcount.ts';
import {
	folio_vma_mapped_walk,
	PVMW_SYNC,
	page_vma_mapped_walk,
	page_vma_mapped_walk_done,
	page_vma_mapped_walk_restart,
	rmap_walk,
	rmap_walk_locked,
	vma_address_end,
} from './walk.ts';

export const TTU_SPLIT_HUGE_PMD = 0x4;
/** A locked VMA does not keep its pages. */
export const TTU_IGNORE_MLOCK = 0x8;
export const TTU_SYNC = 0x10;
/** A bad page leaves a hwpoison entry behind. */
export const TTU_HWPOISON = 0x20;
export const TTU_BATCH_FLUSH = 0x40;
/** The caller holds the rmap's semaphore. */
export const TTU_RMAP_LOCKED = 0x80;

/** The migration entry for what an entry was. */
function migrationEntry(p: page, pteval: pte_t, writable: boolean, exclusive: boolean): pte_t {
	const present = pte_present(pteval);
	const pte = swp_entry_to_pte(
		migrationEntryOf(page_to_pfn(p) as bigint, {
			writable,
			exclusive,
			young: present && pte_young(pteval),
			dirty: present && pte_dirty(pteval),
		}),
	);
	return !present && pte_swp_uffd_wp(pteval) ? pte_swp_mkuffd_wp(pte) : pte;
}

/** Replaces the entry on which the walk stands. Returns false if the page may be pinned. */
function* migrateEntry(pvmw: folio_vma_mapped_walk): Sim<bool> {
	const { folio: f, vma, address } = pvmw;
	const mm = vma.vm_mm;
	const pte = pvmw.pte!;
	let pteval = pte.value;
	const present = pte_present(pteval);
	const pfn = present ? pte_pfn(pteval) : softleaf_to_pfn(softleaf_from_pte(pteval));
	const subpage = nth_page(f.page, Number(pfn - folio_pfn(f)));
	const anon_exclusive = folio_test_anon(f) && PageAnonExclusive(subpage);
	let writable: boolean;
	if (present) {
		pteval = yield* ptep_clear_flush(vma, address, pte);
		if (pte_dirty(pteval)) yield* folio_mark_dirty(f);
		writable = pte_write(pteval);
	} else {
		yield* pte_clear(mm, address, pte);
		writable = softleaf_is_device_private_write(softleaf_from_pte(pteval));
	}
	WARN_ON_ONCE(
		writable && folio_test_anon(f) && !anon_exclusive,
		'writable entry of an anonymous page that is not exclusive',
	);
	if (anon_exclusive && folio_try_share_anon_rmap_pte(f, subpage) !== 0) {
		yield* set_pte_at(mm, address, pte, pteval);
		return false;
	}
	yield* set_pte_at(
		mm,
		address,
		pte,
		migrationEntry(subpage, pteval, writable, anon_exclusive),
	);
	yield* folio_remove_rmap_pte(f, subpage, vma);
	yield* folio_put(f);
	return true;
}

/** A huge pmd: split, so that its ptes are next, or replaced. Returns false if it may be pinned. */
function* migrateHuge(pvmw: folio_vma_mapped_walk, split: boolean): Sim<bool> {
	const { vma, address } = pvmw;
	if (!split) return (yield* set_pmd_migration_entry(vma, address, pvmw.pmd!)) === 0;
	yield* split_huge_pmd_locked(vma, address, pvmw.pmd!, true);
	yield* page_vma_mapped_walk_restart(pvmw);
	return true;
}

function* try_to_migrate_one(
	f: folio,
	vma: vm_area_struct,
	address: unsigned_long,
	flags: number,
): Sim<bool> {
	let split = (flags & TTU_SPLIT_HUGE_PMD) !== 0;
	if (split && !feature('ttu_split_pmd_in_walk')) {
		yield* split_huge_pmd_address(vma, address, true, f);
		split = false;
	}
	const end = vma_address_end(vma, f);
	const pvmw = new folio_vma_mapped_walk(
		f,
		vma,
		address,
		end,
		flags & TTU_SYNC ? PVMW_SYNC : 0,
	);
	const range = new mmu_notifier_range();
	mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, vma.vm_mm, address, end);
	yield* mmu_notifier_invalidate_range_start(range);
	let ret = true;
	while (yield* page_vma_mapped_walk(pvmw)) {
		if (pvmw.pte === null) {
			ret = yield* migrateHuge(pvmw, split);
			split = false;
		} else ret = yield* migrateEntry(pvmw);
		if (ret) continue;
		yield* page_vma_mapped_walk_done(pvmw);
		break;
	}
	yield* mmu_notifier_invalidate_range_end(range);
	return ret;
}

/**
 * Replace every entry that maps a folio by a migration entry; the CPU then waits for the migration.
 *
 * @param f - the folio, locked
 * @param flags - TTU_* bits; others are refused with a warning
 * @context Sleeps. The caller looks at folio_mapped() to learn whether it worked.
 * @kernel mm/rmap.c
 */
export function* try_to_migrate(f: folio, flags: number): Sim<void> {
	const known = TTU_RMAP_LOCKED | TTU_SPLIT_HUGE_PMD | TTU_SYNC | TTU_BATCH_FLUSH;
	if (WARN_ON_ONCE((flags & ~known) !== 0, 'try_to_migrate() with other TTU flags')) return;
	if (folio_is_zone_device(f) && !folio_is_device_private(f) && !folio_is_device_coherent(f))
		return;
	const rwc = {
		arg: flags,
		rmap_one: try_to_migrate_one,
		done: (walked: folio) => !folio_mapped(walked),
	};
	if (flags & TTU_RMAP_LOCKED) yield* rmap_walk_locked(f, rwc);
	else yield* rmap_walk(f, rwc);
}

/**
 * The page cache of a folio, or the swap cache that it is in.
 *
 * @param f - the folio
 * @returns null for an anonymous folio that is not in the swap cache
 * @kernel mm/util.c
 */
export function folio_mapping(f: folio): address_space | null {
	if (folio_test_swapcache(f)) return swap_address_space(folioSwapEntry(f));
	const { mapping } = f;
	return mapping === null || mapping instanceof anon_vma ? null : mapping;
}
