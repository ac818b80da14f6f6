// SPDX-License-Identifier: GPL-2.0-only
/**
 * Collecting: walk the page table, lock what may be moved, put migration entries in its place.
 *
 * Guarantee: when the walk leaves a page table no TLB holds a translation that collecting took away.
 * As long as it goes over the table without a stop, that is so when the PTL is released. Where v7.3
 * stops to split a large folio it releases the PTL first and flushes at the end of the table, or
 * when the split failed, as upstream does: in between a CPU may still use what it had, which is why
 * nobody copies a page before the end of collecting.
 *
 * ```
 *   pte                      word                 why 0
 *   none, anonymous VMA      MIGRATE              file VMA
 *   zero page                MIGRATE              SYSTEM not selected
 *   device-private           VALID MIGRATE [W]    not selected, or another owner
 *   present                  VALID MIGRATE [W]    not selected; no struct page; no mapping; locked
 *   any other                0
 * ```
 */

import { EAGAIN } from '../../include/linux/errno.ts';
import type { migrate_vma } from '../../include/linux/migrate.ts';
import {
	MIGRATE_PFN_COMPOUND,
	MIGRATE_PFN_MIGRATE,
	MIGRATE_PFN_WRITE,
	MIGRATE_VMA_SELECT_COMPOUND,
	MIGRATE_VMA_SELECT_DEVICE_COHERENT,
	MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
	MIGRATE_VMA_SELECT_SYSTEM,
	migrate_pfn,
} from '../../include/linux/migrate.ts';
import { vma_is_anonymous } from '../../include/linux/mm.ts';
import {
	type folio,
	type mm_struct,
	type page,
	page_folio,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import { MMU_NOTIFY_MIGRATE, mmu_notifier_range } from '../../include/linux/mmu_notifier.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import {
	folio_test_anon,
	folio_test_large,
	is_device_coherent_page,
	is_zone_device_page,
	PageAnonExclusive,
	PageCompound,
	page_pgmap,
} from '../../include/linux/page-flags.ts';
import { type mm_walk, type mm_walk_ops, PGWALK_RDLOCK } from '../../include/linux/pagewalk.ts';
import {
	pmd_none,
	pmd_present,
	pmd_trans_huge,
	pte_dirty,
	pte_none,
	pte_pfn,
	pte_present,
	type pte_t,
	pte_uffd_wp,
	pte_write,
	pte_young,
	TableEntry,
} from '../../include/linux/pgtable.ts';
import type { spinlock_t } from '../../include/linux/spinlock.ts';
import {
	make_migration_entry_dirty,
	make_migration_entry_young,
	make_readable_exclusive_migration_entry,
	make_readable_migration_entry,
	make_writable_migration_entry,
	pte_swp_mkuffd_wp,
	pte_swp_uffd_wp,
	softleaf_from_pte,
	softleaf_is_device_private,
	softleaf_is_device_private_write,
	softleaf_to_page,
	swp_entry_to_pte,
} from '../../include/linux/swapops.ts';
import {
	type int,
	outParam,
	PAGE_SIZE,
	PMD_SIZE,
	type unsigned_long,
} from '../../include/linux/types.ts';
import { retryRound } from '../../include/sim/retry.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { folio_trylock, folio_unlock } from '../filemap.ts';
import { vm_normal_page } from '../memory/vm_normal.ts';
import { is_zero_pfn } from '../memory/zero_page.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init_owner,
} from '../mmu_notifier.ts';
import { folio_mark_dirty } from '../page-writeback.ts';
import { walk_page_range } from '../pagewalk.ts';
import {
	pte_offset_map_lock,
	pte_unmap_unlock,
	ptep_clear_flush,
	ptep_get_and_clear,
	set_pte_at,
} from '../pgtable.ts';
import { folio_remove_rmap_pte, folio_try_share_anon_rmap_pte } from '../rmap.ts';
import { folio_get, folio_put } from '../swap.ts';
import { flush_tlb_range } from '../tlb.ts';
import { migrate_vma_collect_huge_pmd, migrate_vma_split_folio, splitTransHuge } from './huge.ts';
import { append, migrate_vma_collect_skip } from './words.ts';

/** The folio of the CPU fault that is served, where the release expects the caller to hold its lock. */
function faultFolio(fault_page: page | null): folio | null {
	if (fault_page === null || !feature('migrate_fault_page_locked')) return null;
	return page_folio(fault_page);
}

/**
 * A hole: device memory may be put there if the VMA is anonymous.
 *
 * @param start - first address
 * @param end - exclusive
 * @param _depth - level of the hole
 * @param walk - the walk
 * @kernel mm/migrate_device.c
 */
function* migrate_vma_collect_hole(
	start: unsigned_long,
	end: unsigned_long,
	_depth: int,
	walk: mm_walk,
): Sim<int> {
	const migrate = walk.private as migrate_vma;
	if (!vma_is_anonymous(walk.vma as vm_area_struct))
		return migrate_vma_collect_skip(start, end, migrate);
	if (
		feature('device_private_thp') &&
		migrate.flags & MIGRATE_VMA_SELECT_COMPOUND &&
		((start | end) & (PMD_SIZE - 1n)) === 0n
	) {
		append(migrate, MIGRATE_PFN_MIGRATE | MIGRATE_PFN_COMPOUND);
		migrate.cpages++;
		return migrate_vma_collect_skip(start + PAGE_SIZE, end, migrate);
	}
	for (let addr = start; addr < end; addr += PAGE_SIZE) {
		append(migrate, MIGRATE_PFN_MIGRATE);
		migrate.cpages++;
	}
	return 0;
}

/** What the loop over the entries of one page table carries along. */
class pte_collector {
	migrate: migrate_vma;
	vma: vm_area_struct;
	mm: mm_struct;
	fault_folio: folio | null;
	/** Present entries taken away: the TLB must be flushed. */
	unmapped = 0;

	/** @param walk - the walk */
	constructor(walk: mm_walk) {
		this.migrate = walk.private as migrate_vma;
		this.vma = walk.vma as vm_area_struct;
		this.mm = this.vma.vm_mm;
		this.fault_folio = faultFolio(this.migrate.fault_page);
	}
}

/** What one entry holds: its page and the word that migrates it; page null: `mpfn` is final. */
interface candidate {
	readonly page: page | null;
	readonly mpfn: unsigned_long;
}

const nothing: candidate = { page: null, mpfn: 0n };

/** An entry that is not present: only a device-private one of the owner is moved. */
function candidateNotPresent(migrate: migrate_vma, pte: pte_t): candidate {
	const entry = softleaf_from_pte(pte);
	if (!softleaf_is_device_private(entry)) return nothing;
	const found = softleaf_to_page(entry);
	if (
		!(migrate.flags & MIGRATE_VMA_SELECT_DEVICE_PRIVATE) ||
		page_pgmap(found).owner !== migrate.pgmap_owner
	)
		return nothing;
	let mpfn = migrate_pfn(page_to_pfn(found)) | MIGRATE_PFN_MIGRATE;
	if (softleaf_is_device_private_write(entry)) mpfn |= MIGRATE_PFN_WRITE;
	return { page: found, mpfn };
}

/** A present entry: system memory or coherent memory, as selected. */
function candidatePresent(migrate: migrate_vma, addr: unsigned_long, pte: pte_t): candidate {
	const pfn = pte_pfn(pte);
	const system = (migrate.flags & MIGRATE_VMA_SELECT_SYSTEM) !== 0n;
	if (system && is_zero_pfn(pfn)) {
		migrate.cpages++;
		return { page: null, mpfn: MIGRATE_PFN_MIGRATE };
	}
	const found = vm_normal_page(migrate.vma as vm_area_struct, addr, pte);
	if (found === null) return nothing;
	if (!is_zone_device_page(found) && !system) return nothing;
	if (
		is_device_coherent_page(found) &&
		(!(migrate.flags & MIGRATE_VMA_SELECT_DEVICE_COHERENT) ||
			page_pgmap(found).owner !== migrate.pgmap_owner)
	)
		return nothing;
	const write = pte_write(pte) ? MIGRATE_PFN_WRITE : 0n;
	return { page: found, mpfn: migrate_pfn(pfn) | MIGRATE_PFN_MIGRATE | write };
}

function candidateOf(c: pte_collector, addr: unsigned_long, pte: pte_t): candidate {
	if (!pte_none(pte))
		return pte_present(pte)
			? candidatePresent(c.migrate, addr, pte)
			: candidateNotPresent(c.migrate, pte);
	if (!vma_is_anonymous(c.vma)) return nothing;
	c.migrate.cpages++;
	return { page: null, mpfn: MIGRATE_PFN_MIGRATE };
}

/** The migration entry that stands for a page while it moves. */
function migrationPte(found: page, mpfn: unsigned_long, exclusive: boolean, pte: pte_t): pte_t {
	const pfn = page_to_pfn(found) as bigint;
	const present = pte_present(pte);
	let entry = exclusive
		? make_readable_exclusive_migration_entry(pfn)
		: make_readable_migration_entry(pfn);
	if (mpfn & MIGRATE_PFN_WRITE) entry = make_writable_migration_entry(pfn);
	if (present && pte_young(pte)) entry = make_migration_entry_young(entry);
	if (present && pte_dirty(pte)) entry = make_migration_entry_dirty(entry);
	const swp_pte = swp_entry_to_pte(entry);
	const uffd_wp = present ? pte_uffd_wp(pte) : pte_swp_uffd_wp(pte);
	return uffd_wp ? pte_swp_mkuffd_wp(swp_pte) : swp_pte;
}

/** Lock a candidate and put a migration entry in its place; gives the word, 0 if it stays. */
function* collectPage(
	c: pte_collector,
	addr: unsigned_long,
	ptep: TableEntry,
	found: page,
	mpfn: unsigned_long,
): Sim<unsigned_long> {
	const f = page_folio(found);
	// The reference freezes the page; a regular folio swaps it for the one of the LRU isolation.
	folio_get(f);
	// Only a trylock: two migrations, each with folios of the other, would wait for ever.
	if (f !== c.fault_folio && !(yield* folio_trylock(f))) {
		yield* folio_put(f);
		return 0n;
	}
	const anon_exclusive = folio_test_anon(f) && PageAnonExclusive(found);
	let pte: pte_t;
	if (anon_exclusive) {
		pte = yield* ptep_clear_flush(c.vma, addr, ptep);
		if (folio_try_share_anon_rmap_pte(f, found)) {
			yield* set_pte_at(c.mm, addr, ptep, pte);
			if (f !== c.fault_folio) yield* folio_unlock(f);
			yield* folio_put(f);
			return 0n;
		}
	} else pte = yield* ptep_get_and_clear(c.mm, addr, ptep);
	c.migrate.cpages++;
	if (pte_present(pte) && pte_dirty(pte)) yield* folio_mark_dirty(f);
	yield* set_pte_at(c.mm, addr, ptep, migrationPte(found, mpfn, anon_exclusive, pte));
	yield* folio_remove_rmap_pte(f, found, c.vma);
	yield* folio_put(f);
	if (pte_present(pte)) c.unmapped++;
	return mpfn;
}

/** Whether a candidate is a large folio that 7.3 splits before it goes on. */
function mustSplit(found: page | null): found is page {
	return (
		feature('device_private_thp') &&
		found !== null &&
		folio_test_large(page_folio(found))
	);
}

/** Whether a candidate is passed by: without rmap it cannot be moved; 6.12 has no large folios. */
function unmovable(found: page): boolean {
	return found.mapping === null || (!feature('device_private_thp') && PageCompound(found));
}

/**
 * The entries of one page table, under the PTL.
 *
 * @returns where it stopped, to split `split` before it goes on; or the end
 */
function* collectEntries(
	c: pte_collector,
	from: unsigned_long,
	end: unsigned_long,
	first: TableEntry,
): Sim<{ addr: unsigned_long; split: page | null }> {
	const { table, pfn } = first;
	let { index } = first;
	for (let addr = from; addr < end; addr += PAGE_SIZE, index++) {
		const { page: found, mpfn } = candidateOf(c, addr, table.u64[index]!);
		if (mustSplit(found)) return { addr, split: found };
		let word = mpfn;
		if (found !== null)
			word = unmovable(found)
				? 0n
				: yield* collectPage(
						c,
						addr,
						new TableEntry(table, pfn, index),
						found,
						mpfn,
					);
		append(c.migrate, word);
	}
	return { addr: end, split: null };
}

/** The part of the range under one pmd that is no page table: 0 done, -EAGAIN look again. */
function* collectHuge(
	pmdp: TableEntry,
	start: unsigned_long,
	end: unsigned_long,
	walk: mm_walk,
): Sim<int> {
	const migrate = walk.private as migrate_vma;
	if (feature('device_private_thp'))
		return yield* migrate_vma_collect_huge_pmd(
			pmdp,
			start,
			end,
			walk,
			faultFolio(migrate.fault_page),
			migrate_vma_collect_hole,
		);
	if (pmd_none(pmdp.value)) return yield* migrate_vma_collect_hole(start, end, -1, walk);
	return yield* splitTransHuge(pmdp, start, end, migrate);
}

/**
 * The part of the range under one pmd.
 *
 * @param pmdp - the pmd
 * @param start - first address
 * @param end - exclusive
 * @param walk - the walk
 * @kernel mm/migrate_device.c
 */
function* migrate_vma_collect_pmd(
	pmdp: TableEntry,
	start: unsigned_long,
	end: unsigned_long,
	walk: mm_walk,
): Sim<int> {
	const c = new pte_collector(walk);
	let addr = start;
	let round = 0;
	for (;;) {
		retryRound(
			round++,
			'migrate_vma_collect_pmd',
			'a pmd that changes each time it is looked at',
		);
		if (pmd_trans_huge(pmdp.value) || !pmd_present(pmdp.value)) {
			const ret = yield* collectHuge(pmdp, addr, end, walk);
			if (ret === -EAGAIN) continue;
			if (ret === 0) return 0;
		}
		const ptl = outParam<spinlock_t | null>(null);
		const first = yield* pte_offset_map_lock(c.mm, pmdp, addr, ptl);
		if (first === null) continue;
		const stop = yield* collectEntries(c, addr, end, first);
		if (stop.split === null) {
			if (c.unmapped !== 0) yield* flush_tlb_range(c.vma, start, end);
			yield* pte_unmap_unlock(first, ptl.value);
			return 0;
		}
		const f = page_folio(stop.split);
		// the entry keeps it alive only as long as it is locked
		if (f !== c.fault_folio) folio_get(f);
		yield* pte_unmap_unlock(first, ptl.value);
		// It stops at a page once, and splits it there.
		if (stop.addr !== addr) round = 0;
		addr = stop.addr;
		if (yield* migrate_vma_split_folio(f, c.migrate.fault_page)) {
			if (c.unmapped !== 0) yield* flush_tlb_range(c.vma, start, end);
			return migrate_vma_collect_skip(addr, end, c.migrate);
		}
	}
}

const migrate_vma_walk_ops: mm_walk_ops = {
	pmd_entry: migrate_vma_collect_pmd,
	pte_hole: migrate_vma_collect_hole,
	walk_lock: PGWALK_RDLOCK,
};

/**
 * Collect the pages of a range: locked, referenced, migration entries in their place.
 *
 * @param migrate - the migration; npages, cpages and the words are filled in
 * @context mmap_lock held. Sleeps.
 * @kernel mm/migrate_device.c
 */
export function* migrate_vma_collect(migrate: migrate_vma): Sim<void> {
	const { vm_mm } = migrate.vma as vm_area_struct;
	const { start, end, pgmap_owner } = migrate;
	const range = new mmu_notifier_range();
	mmu_notifier_range_init_owner(range, MMU_NOTIFY_MIGRATE, 0, vm_mm, start, end, pgmap_owner);
	yield* mmu_notifier_invalidate_range_start(range);
	yield* walk_page_range(vm_mm, start, end, migrate_vma_walk_ops, migrate);
	yield* mmu_notifier_invalidate_range_end(range);
	migrate.end = start + (migrate.npages << 12n);
}
