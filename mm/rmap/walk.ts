// SPDX-License-Identifier: GPL-2.0-only
/**
 * From a folio to the page-table entries that map it.
 *
 * Guarantee: rmap_walk() calls `rmap_one` for every VMA that may map the folio; within a VMA
 * page_vma_mapped_walk() stops at each entry that does, under its page-table lock.
 * Duty: the folio is locked, or it is anonymous and the caller can do with a miss.
 *
 * ```
 *   folio.mapping = anon_vma ----> chains { vma, vma, .. }      address = vm_start
 *                 = address_space > i_mmap { vma, .. }                  + (index - vm_pgoff) pages
 * ```
 */
import {
	address_space,
	anon_vma,
	type folio,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import { folio_nr_pages, folio_pfn } from '../../include/linux/page-flags.ts';
import {
	pmd_pfn,
	type pmd_t,
	pmd_trans_huge,
	pte_none,
	pte_pfn,
	pte_present,
	type pte_t,
	TableEntry,
} from '../../include/linux/pgtable.ts';
import type { spinlock_t } from '../../include/linux/spinlock.ts';
import {
	pmd_is_device_private_entry,
	pmd_is_migration_entry,
	softleaf_from_pmd,
	softleaf_from_pte,
	softleaf_is_device_exclusive,
	softleaf_is_device_private,
	softleaf_is_migration,
	softleaf_to_pfn,
} from '../../include/linux/swapops.ts';
import {
	type bool,
	outParam,
	PAGE_SIZE,
	PMD_MASK,
	PMD_SIZE,
	type pgoff_t,
	type unsigned_long,
} from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { down_read, up_read } from '../../kernel/locking/rwsem.ts';
import { spin_unlock } from '../../kernel/locking/spinlock.ts';
import {
	pgd_none_or_clear_bad,
	pgd_offset,
	pmd_lock,
	pmd_offset,
	pmdIsHuge,
	pte_offset_map_lock,
	pte_unmap_unlock,
	pud_none_or_clear_bad,
	pud_offset,
} from '../pgtable.ts';
import { anon_vma_lock_read, anon_vma_unlock_read } from './anon_vma.ts';

/** Look at each entry under its lock, even one that seems to be empty. */
export const PVMW_SYNC = 1 << 0;
/** Look for migration entries. */
export const PVMW_MIGRATION = 1 << 1;

/**
 * A walk over the entries that map a folio in one VMA.
 *
 * @kernel include/linux/rmap.h (as page_vma_mapped_walk)
 */
export class folio_vma_mapped_walk {
	folio: folio;
	vma: vm_area_struct;
	/** Of the entry that was found. */
	address: unsigned_long;
	/** Behind the last address at which the folio can be. */
	end: unsigned_long;
	pte: TableEntry | null = null;
	/** A huge pmd that was found; then pte is null. */
	pmd: TableEntry | null = null;
	ptl: spinlock_t | null = null;
	flags: number;

	/**
	 * @param f - the folio
	 * @param vma - the VMA
	 * @param address - the folio's first address in the VMA
	 * @param end - exclusive
	 * @param flags - PVMW_* bits
	 */
	constructor(
		f: folio,
		vma: vm_area_struct,
		address: unsigned_long,
		end: unsigned_long,
		flags: number,
	) {
		this.folio = f;
		this.vma = vma;
		this.address = address;
		this.end = end;
		this.flags = flags;
	}
}

/** Whether an entry maps a page of the folio, or stands for one that migrates. */
function check_pte(pvmw: folio_vma_mapped_walk, pte: pte_t): boolean {
	if (pte_none(pte)) return false;
	let pfn: bigint;
	if (pvmw.flags & PVMW_MIGRATION) {
		if (pte_present(pte)) return false;
		const entry = softleaf_from_pte(pte);
		if (!softleaf_is_migration(entry)) return false;
		pfn = softleaf_to_pfn(entry);
	} else if (pte_present(pte)) pfn = pte_pfn(pte);
	else {
		const entry = softleaf_from_pte(pte);
		if (!softleaf_is_device_private(entry) && !softleaf_is_device_exclusive(entry))
			return false;
		pfn = softleaf_to_pfn(entry);
	}
	const first = folio_pfn(pvmw.folio);
	return pfn >= first && pfn < first + BigInt(folio_nr_pages(pvmw.folio));
}

/** What a look at one address of a walk found. */
type Found = 'entry' | 'other' | 'none';

/** Whether a huge pmd maps the folio, or stands for it, as the walk wants it. */
function check_pmd(pvmw: folio_vma_mapped_walk, pmd: pmd_t): boolean {
	const first = folio_pfn(pvmw.folio);
	let pfn: bigint;
	if (pvmw.flags & PVMW_MIGRATION) {
		if (!pmd_is_migration_entry(pmd)) return false;
		pfn = softleaf_to_pfn(softleaf_from_pmd(pmd));
	} else if (pmd_trans_huge(pmd)) pfn = pmd_pfn(pmd);
	else if (pmd_is_device_private_entry(pmd)) pfn = softleaf_to_pfn(softleaf_from_pmd(pmd));
	else return false;
	return pfn >= first && pfn < first + BigInt(folio_nr_pages(pvmw.folio));
}

/** Stands on a huge pmd if it is of the folio. */
function* mapHuge(pvmw: folio_vma_mapped_walk, pmd: TableEntry): Sim<Found> {
	const ptl = yield* pmd_lock(pvmw.vma.vm_mm, pmd);
	if (check_pmd(pvmw, pmd.value)) {
		pvmw.pmd = pmd;
		pvmw.ptl = ptl;
		return 'entry';
	}
	yield* spin_unlock(ptl);
	return 'none';
}

/** The pmd of the walk's address; null where no table is. */
function pmdOf(pvmw: folio_vma_mapped_walk): TableEntry | null {
	const pgd = pgd_offset(pvmw.vma.vm_mm, pvmw.address);
	if (pgd_none_or_clear_bad(pgd)) return null;
	const pud = pud_offset(pgd, pvmw.address);
	return pud_none_or_clear_bad(pud) ? null : pmd_offset(pud, pvmw.address);
}

/** Stands on the entry of the walk's address: the huge pmd if it is of the folio, else the pte. */
function* mapEntry(pvmw: folio_vma_mapped_walk): Sim<Found> {
	const pmd = pmdOf(pvmw);
	if (pmd === null) return 'none';
	if (pmdIsHuge(pmd.value)) return yield* mapHuge(pvmw, pmd);
	const ptl = outParam<spinlock_t | null>(null);
	pvmw.pte = yield* pte_offset_map_lock(pvmw.vma.vm_mm, pmd, pvmw.address, ptl);
	pvmw.ptl = ptl.value;
	if (pvmw.pte === null) return 'none';
	return check_pte(pvmw, pvmw.pte.value) ? 'entry' : 'other';
}

/** Steps to the next entry of the table on which the walk stands; false: it left the table. */
function* nextInTable(pvmw: folio_vma_mapped_walk): Sim<boolean> {
	for (;;) {
		pvmw.address += PAGE_SIZE;
		if (pvmw.address >= pvmw.end || (pvmw.address & ~PMD_MASK) === 0n) {
			yield* page_vma_mapped_walk_done(pvmw);
			return false;
		}
		const { table, pfn, index } = pvmw.pte!;
		pvmw.pte = new TableEntry(table, pfn, index + 1);
		if (check_pte(pvmw, pvmw.pte.value)) return true;
	}
}

/**
 * Go to the next entry of a VMA that maps a folio.
 *
 * @param pvmw - the walk
 * @returns true: pvmw.pte is it, or else pvmw.pmd is and maps all of the folio; its lock is held;
 *   false: there is none, nothing is held
 * @context Atomic while it stands on an entry.
 * @deviates each entry is looked at under its lock; the kernel skips without it what seems to be
 *   something else, unless PVMW_SYNC
 * @kernel mm/page_vma_mapped.c
 */
export function* page_vma_mapped_walk(pvmw: folio_vma_mapped_walk): Sim<bool> {
	// the only entry that a huge page can have was handled
	if (pvmw.pmd !== null) {
		yield* page_vma_mapped_walk_done(pvmw);
		return false;
	}
	if (pvmw.pte !== null && (yield* nextInTable(pvmw))) return true;
	while (pvmw.address < pvmw.end) {
		const found = yield* mapEntry(pvmw);
		if (found === 'entry') return true;
		if (found === 'none') pvmw.address = (pvmw.address & PMD_MASK) + PMD_SIZE;
		else if (yield* nextInTable(pvmw)) return true;
	}
	return false;
}

/**
 * Leave the entry on which a walk stands, before its end.
 *
 * @param pvmw - the walk
 * @kernel include/linux/rmap.h
 */
export function* page_vma_mapped_walk_done(pvmw: folio_vma_mapped_walk): Sim<void> {
	if (pvmw.pte !== null) yield* pte_unmap_unlock(pvmw.pte, pvmw.ptl);
	else if (pvmw.ptl !== null) yield* spin_unlock(pvmw.ptl);
	pvmw.pte = null;
	pvmw.pmd = null;
	pvmw.ptl = null;
}

/**
 * Leave the entry on which a walk stands and look at its address again: it was split.
 *
 * @param pvmw - the walk
 * @kernel include/linux/rmap.h
 */
export function* page_vma_mapped_walk_restart(pvmw: folio_vma_mapped_walk): Sim<void> {
	yield* page_vma_mapped_walk_done(pvmw);
}

/**
 * What a walk does.
 *
 * @kernel include/linux/rmap.h
 */
export interface rmap_walk_control<T> {
	readonly arg: T;
	/** Returns false to end the walk. */
	readonly rmap_one: (f: folio, vma: vm_area_struct, addr: bigint, arg: T) => Sim<bool>;
	/** Whether the walk has reached its aim. */
	readonly done?: (f: folio) => bool;
	/** VMAs to leave out. */
	readonly invalid_vma?: (vma: vm_area_struct, arg: T) => bool;
}

/**
 * Where a range of pages begins in a VMA.
 *
 * @param vma - the VMA
 * @param pgoff - first page, as the VMA's file or anon_vma counts
 * @param nr_pages - how many
 * @returns null when none of them lies in the VMA
 * @kernel mm/internal.h (gone in 7.x)
 */
export function vma_address(
	vma: vm_area_struct,
	pgoff: pgoff_t,
	nr_pages: number,
): unsigned_long | null {
	if (pgoff >= vma.vm_pgoff) {
		const address = vma.vm_start + ((pgoff - vma.vm_pgoff) << 12n);
		return address < vma.vm_end ? address : null;
	}
	return pgoff + BigInt(nr_pages) > vma.vm_pgoff ? vma.vm_start : null;
}

/**
 * Behind the last page of a folio in a VMA.
 *
 * @param vma - the VMA
 * @param f - the folio
 * @kernel mm/internal.h
 */
export function vma_address_end(vma: vm_area_struct, f: folio): unsigned_long {
	const end = vma.vm_start + ((f.index + BigInt(folio_nr_pages(f)) - vma.vm_pgoff) << 12n);
	return end < vma.vm_end ? end : vma.vm_end;
}

/** The VMAs in the order of the interval tree: by the first page that they map. */
export function vmasByOffset(vmas: Iterable<vm_area_struct>): vm_area_struct[] {
	const found = [...vmas];
	if (found.length < 2) return found;
	return found.sort((a, b) =>
		a.vm_pgoff < b.vm_pgoff ? -1 : a.vm_pgoff > b.vm_pgoff ? 1 : 0,
	);
}

function* walkVmas<T>(
	f: folio,
	vmas: Iterable<vm_area_struct>,
	rwc: rmap_walk_control<T>,
): Sim<void> {
	const nr = folio_nr_pages(f);
	const { index } = f;
	for (const vma of vmasByOffset(vmas)) {
		const address = vma_address(vma, index, nr);
		if (address === null || rwc.invalid_vma?.(vma, rwc.arg)) continue;
		if (!(yield* rwc.rmap_one(f, vma, address, rwc.arg))) return;
		if (rwc.done?.(f)) return;
	}
}

/**
 * Call a function for each VMA that may map a folio.
 *
 * @param f - the folio
 * @param rwc - what is called
 * @context Sleeps: takes the rmap's semaphore.
 * @kernel mm/rmap.c
 */
export function* rmap_walk<T>(f: folio, rwc: rmap_walk_control<T>): Sim<void> {
	const { mapping } = f;
	if (mapping instanceof anon_vma) {
		yield* anon_vma_lock_read(mapping);
		yield* walkVmas(f, mapping.chains, rwc);
		yield* anon_vma_unlock_read(mapping);
	} else if (mapping instanceof address_space) {
		yield* down_read(mapping.i_mmap_rwsem);
		yield* walkVmas(f, mapping.i_mmap, rwc);
		yield* up_read(mapping.i_mmap_rwsem);
	}
}

/**
 * rmap_walk() for a caller that holds the semaphore already.
 *
 * @param f - the folio
 * @param rwc - what is called
 * @context The rmap's semaphore is held.
 * @kernel mm/rmap.c
 */
export function* rmap_walk_locked<T>(f: folio, rwc: rmap_walk_control<T>): Sim<void> {
	const { mapping } = f;
	if (mapping === null) return;
	const vmas = mapping instanceof anon_vma ? mapping.chains : mapping.i_mmap;
	yield* walkVmas(f, vmas, rwc);
}
