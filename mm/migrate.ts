// SPDX-License-Identifier: GPL-2.0-only
/**
 * Migration: waiting for one, moving what a folio is to another, and mapping it again.
 *
 * Guarantee: while a migration entry stands, nobody maps the folio; whoever comes across it waits
 * for the folio's lock. remove_migration_ptes() maps the new folio, or the old one again, with the
 * rights that the entries remember.
 * Duty: the folio is locked from try_to_migrate() to remove_migration_ptes().
 *
 * ```
 *   entry                      becomes                                AnonExclusive
 *   MIGRATION_WRITE            vm_page_prot, writable                     yes
 *   MIGRATION_READ_EXCLUSIVE   vm_page_prot                               yes
 *   MIGRATION_READ             vm_page_prot                               no
 *     (new folio is device-private: DEVICE_WRITE or DEVICE_READ; for a file page no mark at all)
 * ```
 *
 * @kernel mm/migrate.c
 */
import { EAGAIN } from '../include/linux/errno.ts';
import { linear_page_index, VM_LOCKED } from '../include/linux/mm.ts';
import type {
	address_space,
	folio,
	mm_struct,
	page,
	vm_area_struct,
} from '../include/linux/mm_types.ts';
import { nth_page, page_to_pfn } from '../include/linux/mmzone.ts';
import {
	folio_nr_pages,
	folio_ref_count,
	folio_test_anon,
	folio_test_dirty,
	is_device_private_page,
	PageCompound,
	PG_active,
	PG_dirty,
	PG_hwpoison,
	PG_mlocked,
	PG_private,
	PG_referenced,
	PG_swapbacked,
	PG_unevictable,
	PG_uptodate,
} from '../include/linux/page-flags.ts';
import {
	pfn_pte,
	pmd_present,
	pte_mkdirty,
	pte_mkold,
	pte_mkspecial,
	pte_mkwrite,
	pte_none,
	pte_present,
	type pte_t,
	pte_write,
	type TableEntry,
} from '../include/linux/pgtable.ts';
import type { spinlock_t } from '../include/linux/spinlock.ts';
import {
	make_readable_device_private_entry,
	make_writable_device_private_entry,
	pte_swp_mkuffd_wp,
	pte_swp_uffd_wp,
	softleaf_from_pmd,
	softleaf_from_pte,
	softleaf_is_migration,
	softleaf_is_migration_dirty,
	softleaf_is_migration_read,
	softleaf_is_migration_write,
	softleaf_is_migration_young,
	type softleaf_t,
	swp_entry_to_pte,
} from '../include/linux/swapops.ts';
import { type bool, type int, outParam, type unsigned_long } from '../include/linux/types.ts';
import { restoreUffd } from '../include/linux/userfaultfd_k.ts';
import { preemptible, type Sim, schedulePoint, touch } from '../include/sim/schedule.ts';
import { spin_unlock } from '../kernel/locking/spinlock.ts';
import { softleaf_entry_wait_on_locked } from './filemap.ts';
import { remove_migration_pmd } from './huge_memory/migrate.ts';
import { add_mm_counter, mm_counter } from './memory/counter.ts';
import { my_zero_pfn } from './memory/zero_page.ts';
import { copy_highpage, isZeroFilled } from './page_alloc.ts';
import { pmd_lock, pte_offset_map_lock, pte_unmap, set_pte_at } from './pgtable.ts';
import {
	folio_add_anon_rmap_pte,
	folio_add_file_rmap_pte,
	folio_vma_mapped_walk,
	PVMW_MIGRATION,
	PVMW_SYNC,
	page_vma_mapped_walk,
	RMAP_EXCLUSIVE,
	RMAP_NONE,
	rmap_walk,
	rmap_walk_locked,
	vma_address_end,
} from './rmap.ts';
import { folio_get, folio_put_refs, folio_ref_add } from './swap.ts';

/** remove_migration_ptes(): the caller holds the rmap's semaphore. */
export const RMP_LOCKED = 1 << 0;
/** remove_migration_ptes(): a page of a folio that was split maps the zero page if it is zero. */
export const RMP_USE_SHARED_ZEROPAGE = 1 << 1;

/** Which folios a walk maps in which one's place. */
interface Replacement {
	readonly src: folio;
	readonly dst: folio;
	/** RMP_USE_SHARED_ZEROPAGE. */
	readonly unusedToZero: boolean;
}

/** The present entry, or the device-private one, that a migration entry becomes. */
function restoredPte(dst: folio, n: number, vma: vm_area_struct, old_pte: pte_t): pte_t {
	const entry: softleaf_t = softleaf_from_pte(old_pte);
	const page = nth_page(dst.page, n);
	let pte = pfn_pte(page_to_pfn(page), vma.vm_page_prot);
	if (!softleaf_is_migration_young(entry)) pte = pte_mkold(pte);
	if (folio_test_dirty(dst) && softleaf_is_migration_dirty(entry)) pte = pte_mkdirty(pte);
	if (softleaf_is_migration_write(entry)) pte = pte_mkwrite(pte);
	else pte = restoreUffd(vma, old_pte, pte);
	if (!is_device_private_page(page)) return pte;
	const pfn = page_to_pfn(page) as bigint;
	const swp = swp_entry_to_pte(
		pte_write(pte)
			? make_writable_device_private_entry(pfn)
			: make_readable_device_private_entry(pfn),
	);
	return pte_swp_uffd_wp(old_pte) ? pte_swp_mkuffd_wp(swp) : swp;
}

/** Maps the zero page where a migration entry stands for a page full of zeros. */
function* try_to_map_unused_to_zeropage(pvmw: folio_vma_mapped_walk, f: folio, p: page): Sim<bool> {
	const { vma, address } = pvmw;
	if (PageCompound(p) || p.flags & (PG_hwpoison | PG_mlocked)) return false;
	if ((vma.vm_flags & VM_LOCKED) !== 0n || !isZeroFilled(p)) return false;
	const zero = pte_mkspecial(pfn_pte(my_zero_pfn(address), vma.vm_page_prot));
	yield* set_pte_at(vma.vm_mm, address, pvmw.pte!, zero);
	add_mm_counter(vma.vm_mm, mm_counter(f), -1);
	return true;
}

/** Maps the new folio in one VMA wherever an entry waits for the old one. */
function* remove_migration_pte(
	dst: folio,
	vma: vm_area_struct,
	addr: unsigned_long,
	{ src, unusedToZero }: Replacement,
): Sim<bool> {
	const end = vma_address_end(vma, dst);
	const pvmw = new folio_vma_mapped_walk(src, vma, addr, end, PVMW_SYNC | PVMW_MIGRATION);
	const first = dst.index;
	while (yield* page_vma_mapped_walk(pvmw)) {
		if (pvmw.pte === null) {
			yield* remove_migration_pmd(vma, pvmw.address, pvmw.pmd!, dst);
			continue;
		}
		const ptep = pvmw.pte;
		const old_pte = ptep.value;
		const n = Number(linear_page_index(vma, pvmw.address) - first);
		const page = nth_page(dst.page, n);
		if (unusedToZero && (yield* try_to_map_unused_to_zeropage(pvmw, dst, page)))
			continue;
		const pte = restoredPte(dst, n, vma, old_pte);
		folio_get(dst);
		if (folio_test_anon(dst)) {
			const shared = softleaf_is_migration_read(softleaf_from_pte(old_pte));
			const flags = shared ? RMAP_NONE : RMAP_EXCLUSIVE;
			yield* folio_add_anon_rmap_pte(dst, page, vma, pvmw.address, flags);
		} else yield* folio_add_file_rmap_pte(dst, page, vma);
		// no notifier: nobody can have a translation of an entry that was not present
		yield* set_pte_at(vma.vm_mm, pvmw.address, ptep, pte);
	}
	return true;
}

/**
 * End a migration: map the new folio wherever a migration entry stands for the old one.
 *
 * @param src - the folio that the entries name, locked
 * @param dst - what takes its place, locked; `src` itself to give up
 * @param flags - RMP_LOCKED, RMP_USE_SHARED_ZEROPAGE
 * @context Sleeps.
 * @kernel mm/migrate.c
 */
export function* remove_migration_ptes(src: folio, dst: folio, flags: int): Sim<void> {
	const unusedToZero = (flags & RMP_USE_SHARED_ZEROPAGE) !== 0;
	const rwc = { arg: { src, dst, unusedToZero }, rmap_one: remove_migration_pte };
	if (flags & RMP_LOCKED) yield* rmap_walk_locked(dst, rwc);
	else yield* rmap_walk(dst, rwc);
}

/**
 * Wait until a page that is being migrated is mapped again.
 *
 * @param mm - address space
 * @param pmd - pmd entry of the address
 * @param address - the address
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/migrate.c
 */
export function* migration_entry_wait(
	mm: mm_struct,
	pmd: TableEntry,
	address: unsigned_long,
): Sim<void> {
	const ptl = outParam<spinlock_t | null>(null);
	const ptep = yield* pte_offset_map_lock(mm, pmd, address, ptl);
	if (ptep === null) return;
	const pte = ptep.value;
	yield* pte_unmap(ptep);
	const entry = softleaf_from_pte(pte);
	if (!pte_none(pte) && !pte_present(pte) && softleaf_is_migration(entry)) {
		yield* softleaf_entry_wait_on_locked(entry, ptl.value!);
		return;
	}
	yield* spin_unlock(ptl.value!);
}

/**
 * Wait until a huge page that is being migrated is mapped again.
 *
 * @param mm - address space
 * @param pmd - the entry
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/migrate.c
 */
export function* pmd_migration_entry_wait(mm: mm_struct, pmd: TableEntry): Sim<void> {
	const ptl = yield* pmd_lock(mm, pmd);
	const entry = softleaf_from_pmd(pmd.value);
	if (pmd.value !== 0n && !pmd_present(pmd.value) && softleaf_is_migration(entry))
		yield* softleaf_entry_wait_on_locked(entry, ptl);
	else yield* spin_unlock(ptl);
}

/** References that an unmapped folio has: the caller's, the page cache's, and the private data's. */
function folio_expected_refs(mapping: address_space | null, f: folio): int {
	if (mapping === null) return 1;
	return 1 + folio_nr_pages(f) + (f.flags & PG_private ? 1 : 0);
}

/**
 * Give a new folio the place of an old one in its mapping, if nobody else refers to the old one.
 *
 * @param mapping - page cache of the old folio; null for an anonymous one
 * @param newfolio - the new one, locked
 * @param f - the old one, locked and unmapped
 * @param extra_count - references that the caller has beyond its one
 * @retval 0 done
 * @retval -EAGAIN somebody else refers to it
 * @kernel mm/migrate.c
 */
export function* folio_migrate_mapping(
	mapping: address_space | null,
	newfolio: folio,
	f: folio,
	extra_count: int,
): Sim<int> {
	if (preemptible()) yield schedulePoint('atomic', f, '_refcount');
	const expected = folio_expected_refs(mapping, f) + extra_count;
	if (folio_ref_count(f) !== expected) return -EAGAIN;
	newfolio.index = f.index;
	newfolio.mapping = f.mapping;
	if (f.flags & PG_swapbacked) newfolio.flags |= PG_swapbacked;
	if (mapping === null) return 0;
	// the kernel holds the count at 0 meanwhile, so that nobody can take a reference
	touch('write', mapping, 'i_pages');
	const nr = folio_nr_pages(f);
	folio_ref_add(newfolio, nr);
	for (let i = 0; i < nr; i++) mapping.i_pages.set(Number(f.index) + i, newfolio);
	if (f.flags & PG_dirty) {
		f.flags &= ~PG_dirty;
		newfolio.flags |= PG_dirty;
	}
	yield* folio_put_refs(f, nr);
	return 0;
}

const MOVED_FLAGS = PG_referenced | PG_uptodate | PG_active | PG_unevictable | PG_dirty;

/**
 * Give a new folio the state of an old one.
 *
 * @param newfolio - the new one
 * @param f - the old one; private data is not carried over, nor kept
 * @kernel mm/migrate.c
 */
export function folio_migrate_flags(newfolio: folio, f: folio): void {
	touch('atomic', newfolio, 'flags');
	newfolio.flags |= f.flags & MOVED_FLAGS;
	f.flags &= ~(PG_active | PG_unevictable | PG_private);
	f.private = null;
}

/**
 * Give a new folio the bytes and the state of an old one.
 *
 * @param newfolio - the new one, in RAM
 * @param f - the old one, in RAM
 * @kernel mm/migrate.c (as __migrate_folio)
 */
export function folio_migrate_copy(newfolio: folio, f: folio): void {
	for (let i = 0; i < folio_nr_pages(f); i++)
		copy_highpage(nth_page(newfolio.page, i), nth_page(f.page, i));
	folio_migrate_flags(newfolio, f);
}
