// SPDX-License-Identifier: GPL-2.0-only
/**
 * Whole PMDs and large folios.
 *
 * ```
 *   2 MiB, COMPOUND selected    src[0] VALID MIGRATE COMPOUND [WRITE] pfn    src[1..511] 0
 *   hole                        src[0] MIGRATE COMPOUND                      src[1..511] 0
 *   dst[0] without COMPOUND     src is split: 512 words, each for itself
 * ```
 */
import { WARN_ON_ONCE } from '../../include/linux/bug.ts';
import { EAGAIN, EINVAL, ENOENT, ENOMEM } from '../../include/linux/errno.ts';
import { thp_vma_suitable_order } from '../../include/linux/huge_mm.ts';
import {
	MIGRATE_PFN_COMPOUND,
	MIGRATE_PFN_MIGRATE,
	MIGRATE_PFN_SHIFT,
	MIGRATE_PFN_WRITE,
	MIGRATE_VMA_SELECT_COMPOUND,
	MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
	MIGRATE_VMA_SELECT_SYSTEM,
	migrate_pfn,
	type migrate_vma,
} from '../../include/linux/migrate.ts';
import { VM_UFFD_MISSING, VM_WRITE } from '../../include/linux/mm.ts';
import {
	type folio,
	MM_ANONPAGES,
	type mm_struct,
	type page,
	page_folio,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import { pfn_to_page } from '../../include/linux/mmzone.ts';
import {
	folio_is_device_coherent,
	folio_is_device_private,
	folio_is_zone_device,
	folio_order,
	folio_pfn,
	folio_test_large,
	PG_large_rmappable,
} from '../../include/linux/page-flags.ts';
import type { mm_walk } from '../../include/linux/pagewalk.ts';
import {
	pmd_mkdirty,
	pmd_mkwrite,
	pmd_none,
	pmd_pfn,
	pmd_present,
	type pmd_t,
	pmd_trans_huge,
	pmd_write,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import {
	make_readable_device_private_entry,
	make_writable_device_private_entry,
	softleaf_from_pmd,
	softleaf_is_device_private,
	softleaf_is_device_private_write,
	softleaf_to_folio,
	softleaf_to_pmd,
} from '../../include/linux/swapops.ts';
import {
	HPAGE_PMD_NR,
	HPAGE_PMD_ORDER,
	HPAGE_PMD_SIZE,
	type int,
	PAGE_SIZE,
	type unsigned_long,
} from '../../include/linux/types.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { spin_unlock } from '../../kernel/locking/spinlock.ts';
import { folio_lock, folio_trylock, folio_unlock } from '../filemap.ts';
import { set_pmd_migration_entry } from '../huge_memory/migrate.ts';
import { folio_split_unmapped, split_folio } from '../huge_memory/split_folio.ts';
import {
	folio_mk_pmd,
	is_huge_zero_pmd,
	pgtable_trans_huge_deposit,
	split_huge_pmd,
	split_huge_pmd_address,
} from '../huge_memory.ts';
import { add_mm_counter } from '../memory/counter.ts';
import { __folio_mark_uptodate, check_stable_address_space } from '../memory/fault_common.ts';
import {
	freeTable,
	pmd_lock,
	pmdp_get_lockless,
	pmdp_invalidate,
	pte_alloc_one,
	set_pmd_at,
} from '../pgtable.ts';
import { anon_vma_prepare, folio_add_new_anon_rmap, RMAP_EXCLUSIVE, rmap_walk } from '../rmap.ts';
import { folio_add_lru_vma, folio_get, folio_put } from '../swap.ts';
import { append, migrate_vma_collect_skip } from './words.ts';

/**
 * Split a large folio so that its pages can be moved one by one. Whoever serves a CPU fault has its
 * page's folio locked afterwards as before.
 *
 * @param f - the folio; unless it is the fault page's it has a reference of the caller's, which goes
 * @param fault_page - page of the CPU fault being served, locked by the caller
 * @retval 0 split
 * @returns else the errno of split_folio()
 * @context Sleeps. No page-table lock is held.
 * @kernel mm/migrate_device.c
 */
export function* migrate_vma_split_folio(f: folio, fault_page: page | null): Sim<int> {
	const fault_folio = fault_page === null ? null : page_folio(fault_page);
	if (f !== fault_folio) yield* folio_lock(f);
	const ret = yield* split_folio(f);
	if (ret !== 0) {
		if (f !== fault_folio) {
			yield* folio_unlock(f);
			yield* folio_put(f);
		}
		return ret;
	}
	// the lock and the reference of the fault are on the page that it wants, which may be another now
	const after = fault_page === null ? null : page_folio(fault_page);
	if (after === null) {
		yield* folio_unlock(f);
		yield* folio_put(f);
	} else if (f !== after) {
		if (after !== fault_folio) {
			folio_get(after);
			yield* folio_lock(after);
		}
		yield* folio_unlock(f);
		yield* folio_put(f);
	}
	return 0;
}

/**
 * v6.12: a huge pmd is split before its pages are collected, and its folio with it.
 *
 * @param pmdp - the pmd
 * @param start - first address
 * @param end - exclusive
 * @param migrate - the migration
 * @retval 0 it could not be split, its words are 0
 * @retval -EAGAIN it changed: look again
 * @retval -ENOENT there is a page table now
 */
export function* splitTransHuge(
	pmdp: TableEntry,
	start: unsigned_long,
	end: unsigned_long,
	migrate: migrate_vma,
): Sim<int> {
	const vma = migrate.vma as vm_area_struct;
	const ptl = yield* pmd_lock(vma.vm_mm, pmdp);
	if (!pmd_trans_huge(pmdp.value)) {
		yield* spin_unlock(ptl);
		return pmd_present(pmdp.value) || pmd_none(pmdp.value)
			? -EAGAIN
			: migrate_vma_collect_skip(start, end, migrate);
	}
	if (is_huge_zero_pmd(pmdp.value)) {
		yield* spin_unlock(ptl);
		yield* split_huge_pmd(vma, pmdp, start);
		return -ENOENT;
	}
	const f = page_folio(pfn_to_page(pmd_pfn(pmdp.value)));
	folio_get(f);
	yield* spin_unlock(ptl);
	// as 6.12 does it: the reference of a folio that somebody else has locked is not put
	if (!(yield* folio_trylock(f))) return migrate_vma_collect_skip(start, end, migrate);
	const ret = yield* split_folio(f);
	yield* folio_unlock(f);
	yield* folio_put(f);
	return ret === 0 ? -ENOENT : migrate_vma_collect_skip(start, end, migrate);
}

/** Why a huge pmd is not collected, or its folio. */
type HugeSource = { readonly folio: folio; readonly write: boolean } | 'skip' | 'hole' | 'again';

/** What a pmd that was a leaf holds now, under its lock. */
function hugeSource(pmd: pmd_t, migrate: migrate_vma): HugeSource {
	if (pmd_none(pmd)) return 'hole';
	if (pmd_trans_huge(pmd)) {
		if (!(migrate.flags & MIGRATE_VMA_SELECT_SYSTEM)) return 'skip';
		if (is_huge_zero_pmd(pmd)) return 'hole';
		return { folio: page_folio(pfn_to_page(pmd_pfn(pmd))), write: pmd_write(pmd) };
	}
	if (pmd_present(pmd)) return 'again';
	const entry = softleaf_from_pmd(pmd);
	if (!softleaf_is_device_private(entry)) return 'skip';
	if (!(migrate.flags & MIGRATE_VMA_SELECT_DEVICE_PRIVATE)) return 'skip';
	const f = softleaf_to_folio(entry);
	if (f.pgmap?.owner !== migrate.pgmap_owner) return 'skip';
	return { folio: f, write: softleaf_is_device_private_write(entry) };
}

/** Collects a locked folio as a whole; false: it may be pinned. The lock of the pmd is held. */
function* collectWhole(
	pmdp: TableEntry,
	start: unsigned_long,
	end: unsigned_long,
	walk: mm_walk,
	found: { readonly folio: folio; readonly write: boolean },
): Sim<boolean> {
	const migrate = walk.private as migrate_vma;
	const vma = walk.vma as vm_area_struct;
	if ((yield* set_pmd_migration_entry(vma, start, pmdp)) !== 0) return false;
	const write = found.write ? MIGRATE_PFN_WRITE : 0n;
	append(
		migrate,
		migrate_pfn(folio_pfn(found.folio)) |
			write |
			MIGRATE_PFN_MIGRATE |
			MIGRATE_PFN_COMPOUND,
	);
	migrate.cpages++;
	migrate_vma_collect_skip(start + PAGE_SIZE, end, migrate);
	return true;
}

/**
 * v7.3: a pmd that is a leaf or not present. A whole one is collected as such if COMPOUND is
 * selected; else its folio is split.
 *
 * @param pmdp - the pmd
 * @param start - first address
 * @param end - exclusive
 * @param walk - the walk
 * @param fault_folio - folio of the CPU fault being served, locked by the caller
 * @param hole - what is done with an empty pmd, or the huge zero page
 * @retval 0 its words are filled in
 * @retval -EAGAIN it changed: look again
 * @retval -ENOENT there is a page table now
 * @context Sleeps.
 * @kernel mm/migrate_device.c
 * @since v6.19
 */
export function* migrate_vma_collect_huge_pmd(
	pmdp: TableEntry,
	start: unsigned_long,
	end: unsigned_long,
	walk: mm_walk,
	fault_folio: folio | null,
	hole: (start: unsigned_long, end: unsigned_long, depth: int, walk: mm_walk) => Sim<int>,
): Sim<int> {
	const migrate = walk.private as migrate_vma;
	const ptl = yield* pmd_lock(walk.mm as mm_struct, pmdp);
	const found = hugeSource(pmdp.value, migrate);
	if (typeof found === 'string') {
		yield* spin_unlock(ptl);
		if (found === 'hole') return yield* hole(start, end, -1, walk);
		return found === 'again' ? -EAGAIN : migrate_vma_collect_skip(start, end, migrate);
	}
	const f = found.folio;
	folio_get(f);
	if (f !== fault_folio && !(yield* folio_trylock(f))) {
		yield* spin_unlock(ptl);
		yield* folio_put(f);
		return migrate_vma_collect_skip(start, end, migrate);
	}
	const whole =
		(migrate.flags & MIGRATE_VMA_SELECT_COMPOUND) !== 0n &&
		((start | end) & (HPAGE_PMD_SIZE - 1n)) === 0n;
	const collected = whole && (yield* collectWhole(pmdp, start, end, walk, found));
	yield* spin_unlock(ptl);
	if (collected) return 0;
	if (!folio_test_large(f)) return -ENOENT;
	const ret = yield* split_folio(f);
	if (f !== fault_folio) yield* folio_unlock(f);
	yield* folio_put(f);
	if (ret !== 0) return migrate_vma_collect_skip(start, end, migrate);
	return pmd_none(yield* pmdp_get_lockless(pmdp))
		? yield* hole(start, end, -1, walk)
		: -ENOENT;
}

/** The entry that maps a new huge folio; null: a kind of memory that cannot be mapped so. */
function newHugeEntry(vma: vm_area_struct, f: folio): pmd_t | null {
	const pfn = folio_pfn(f) as bigint;
	const writable = (vma.vm_flags & VM_WRITE) !== 0n;
	if (folio_is_device_private(f))
		return softleaf_to_pmd(
			writable
				? make_writable_device_private_entry(pfn)
				: make_readable_device_private_entry(pfn),
		);
	if (folio_is_zone_device(f) && !folio_is_device_coherent(f)) return null;
	const entry = folio_mk_pmd(f, vma.vm_page_prot);
	return writable ? pmd_mkwrite(pmd_mkdirty(entry)) : entry;
}

/** Maps the folio if the pmd is still empty, or the huge zero page; under the lock of the pmd. */
function* mapHugeLocked(
	vma: vm_area_struct,
	addr: unsigned_long,
	pmdp: TableEntry,
	f: folio,
	entry: pmd_t,
	pgtable: number,
): Sim<boolean> {
	const { vm_mm: mm } = vma;
	if (check_stable_address_space(mm) !== 0 || vma.vm_flags & VM_UFFD_MISSING) return false;
	const zero = is_huge_zero_pmd(pmdp.value);
	if (!zero && !pmd_none(pmdp.value)) return false;
	add_mm_counter(mm, MM_ANONPAGES, HPAGE_PMD_NR);
	yield* folio_add_new_anon_rmap(f, vma, addr, RMAP_EXCLUSIVE);
	if (!folio_is_zone_device(f)) folio_add_lru_vma(f, vma);
	folio_get(f);
	if (zero) {
		// the page table that was deposited for the huge zero page stays
		yield* freeTable(mm, pgtable);
		yield* pmdp_invalidate(vma, addr, pmdp);
	} else pgtable_trans_huge_deposit(mm, pmdp, pgtable);
	yield* set_pmd_at(mm, addr, pmdp, entry);
	return true;
}

/** Takes MIGRATE out of the words of 2 MiB: nothing was mapped. */
function abortHuge(src: BigUint64Array, at: number): 0 {
	const end = Math.min(at + HPAGE_PMD_NR, src.length);
	for (let i = at; i < end; i++) src[i]! &= ~MIGRATE_PFN_MIGRATE;
	return 0;
}

/**
 * Map a huge destination folio where nothing, or the huge zero page, was.
 *
 * @param migrate - the migration; MIGRATE is cleared in the words of the 2 MiB if it was not mapped
 * @param addr - where
 * @param p - first page of the folio
 * @param at - first word of the 2 MiB
 * @param pmdp - the entry
 * @retval 0 mapped, or the words say that it was not
 * @retval -EINVAL the 2 MiB are not inside the VMA, or the folio is not that large
 * @retval -ENOMEM no memory for an anon_vma
 * @context mmap_lock held, inside an invalidation of the range. Sleeps.
 * @kernel mm/migrate_device.c
 * @since v6.19
 */
export function* migrate_vma_insert_huge_pmd_page(
	migrate: migrate_vma,
	addr: unsigned_long,
	p: page,
	at: number,
	pmdp: TableEntry,
): Sim<int> {
	const { src } = migrate;
	const vma = migrate.vma as vm_area_struct;
	const f = page_folio(p);
	if (!thp_vma_suitable_order(vma, addr, HPAGE_PMD_ORDER)) return -EINVAL;
	if (yield* anon_vma_prepare(vma)) return -ENOMEM;
	if (
		WARN_ON_ONCE(
			folio_order(f) !== HPAGE_PMD_ORDER,
			'destination is not as large as it says',
		)
	)
		return -EINVAL;
	f.flags |= PG_large_rmappable;
	if (shouldFail('mem_cgroup_charge')) return abortHuge(src, at);
	__folio_mark_uptodate(f);
	const entry = newHugeEntry(vma, f);
	const pgtable = entry === null ? 0 : yield* pte_alloc_one(vma.vm_mm);
	if (entry === null || pgtable === 0) return abortHuge(src, at);
	const ptl = yield* pmd_lock(vma.vm_mm, pmdp);
	const mapped = yield* mapHugeLocked(vma, addr, pmdp, f, entry, pgtable);
	yield* spin_unlock(ptl);
	if (mapped) return 0;
	yield* freeTable(vma.vm_mm, pgtable);
	return abortHuge(src, at);
}

/** Split the huge migration entries of a folio in all address spaces that share it (fix_s29). */
function* splitEntries(f: folio): Sim<void> {
	yield* rmap_walk(f, {
		arg: null,
		*rmap_one(_folio, vma, address) {
			yield* split_huge_pmd_address(vma, address, true, f);
			return true;
		},
	});
}

/**
 * Split a collected large folio because its destination is small: 512 words, each for itself.
 *
 * @param migrate - the migration
 * @param idx - its word
 * @param addr - its first address
 * @param f - the folio: unmapped, locked
 * @retval 0 split
 * @retval -EAGAIN somebody else has a reference
 * @context Sleeps.
 * @kernel mm/migrate_device.c
 * @since v6.19
 */
export function* migrate_vma_split_unmapped_folio(
	migrate: migrate_vma,
	idx: int,
	addr: unsigned_long,
	f: folio,
): Sim<int> {
	const { src } = migrate;
	// Another process that has it by fork keeps a huge entry, for which finalize puts the first page's
	// destination: S29 of Documentation/kernel-faults.md.
	if (feature('fix_s29')) yield* splitEntries(f);
	// the migration entries of the page table keep none of the references of the pmd's
	yield* split_huge_pmd_address(migrate.vma as vm_area_struct, addr, true);
	const ret = yield* folio_split_unmapped(f);
	if (ret !== 0) return ret;
	src[idx]! &= ~MIGRATE_PFN_COMPOUND;
	const flags = src[idx]! & ((1n << MIGRATE_PFN_SHIFT) - 1n);
	const pfn = src[idx]! >> MIGRATE_PFN_SHIFT;
	for (let i = 1; i < HPAGE_PMD_NR; i++) src[idx + i] = migrate_pfn(pfn + BigInt(i)) | flags;
	return 0;
}

/**
 * How many pages a word stands for.
 *
 * @param word - word of src
 * @kernel mm/migrate_device.c
 */
export function migrate_vma_nr_pages(word: unsigned_long): int {
	return word & MIGRATE_PFN_COMPOUND ? HPAGE_PMD_NR : 1;
}
