// SPDX-License-Identifier: GPL-2.0-only
/**
 * Splitting a huge pmd: the same pages, mapped by a page table.
 *
 * Guarantee: every address maps, with the same rights, the page that it mapped before; the folio
 * stays one. With `freeze` migration entries take the place of the pages instead, and nobody maps
 * the folio here any more. Mechanism: the page table that was deposited with the pmd is filled and
 * put in its place. Duty: a mapping that was exclusive is exclusive page by page afterwards, and one
 * that a userfaultfd protects is protected page by page.
 *
 * ```
 *   pmd                         ptes                          references      mapcount
 *   huge page                   512 present, A D W as before     +511       pmd -1, ptes +512
 *   device-private              512 private                      +511       pmd -1, ptes +512
 *   either, freeze              512 migration entries              -1       pmd -1
 *   migration entry             512 migration entries               0       0
 *   huge zero page              512 zero pages                      0       0
 * ```
 */
import { BUG_ON, WARN_ON_ONCE } from '../../include/linux/bug.ts';
import { vma_is_anonymous } from '../../include/linux/mm.ts';
import { type folio, page_folio, type vm_area_struct } from '../../include/linux/mm_types.ts';
import { MMU_NOTIFY_CLEAR, mmu_notifier_range } from '../../include/linux/mmu_notifier.ts';
import { pfn_to_page } from '../../include/linux/mmzone.ts';
import {
	folio_pfn,
	folio_set_dirty,
	folio_test_anon,
	PageAnonExclusive,
} from '../../include/linux/page-flags.ts';
import {
	PAGE_NONE,
	pfn_pte,
	pmd_dirty,
	pmd_pfn,
	type pmd_t,
	pmd_trans_huge,
	pmd_uffd_wp,
	pmd_write,
	pmd_young,
	pte_mkdirty,
	pte_mkold,
	pte_mkspecial,
	pte_mkuffd_wp,
	pte_mkwrite,
	pte_modify,
	type pte_t,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import {
	make_readable_device_private_entry,
	make_writable_device_private_entry,
	migrationEntryOf,
	pmd_is_device_private_entry,
	pmd_is_migration_entry,
	pmd_swp_uffd_wp,
	pte_swp_mkuffd_wp,
	softleaf_from_pmd,
	softleaf_is_device_private_write,
	softleaf_is_migration_dirty,
	softleaf_is_migration_read_exclusive,
	softleaf_is_migration_write,
	softleaf_is_migration_young,
	softleaf_to_folio,
	softleaf_to_page,
	type swp_entry_t,
	swp_entry_to_pte,
} from '../../include/linux/swapops.ts';
import {
	HPAGE_PMD_NR,
	HPAGE_PMD_SIZE,
	PMD_MASK,
	type unsigned_long,
} from '../../include/linux/types.ts';
import { userfaultfd_rwp } from '../../include/linux/userfaultfd_k.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { spin_unlock } from '../../kernel/locking/spinlock.ts';
import { add_mm_counter, mm_counter_file } from '../memory/counter.ts';
import { my_zero_pfn } from '../memory/zero_page.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init,
} from '../mmu_notifier.ts';
import { frameOf } from '../page_alloc.ts';
import {
	mm_find_pmd,
	pmd_lock,
	pmd_populate,
	pmdp_huge_clear_flush,
	pmdp_invalidate,
} from '../pgtable.ts';
import {
	folio_add_anon_rmap_ptes,
	folio_remove_rmap_pmd,
	folio_try_share_anon_rmap_pmd,
	RMAP_EXCLUSIVE,
	RMAP_NONE,
} from '../rmap/mapcount.ts';
import { folio_put, folio_ref_add } from '../swap.ts';
import { pgtable_trans_huge_withdraw } from './deposit.ts';
import { is_huge_zero_pmd } from './zero.ts';

/** What a huge pmd says of its folio. */
interface Leaf {
	readonly folio: folio;
	readonly kind: 'present' | 'private' | 'migration';
	readonly write: boolean;
	readonly exclusive: boolean;
	readonly young: boolean;
	readonly dirty: boolean;
	/** A userfaultfd protects it. */
	readonly uffd: boolean;
}

/** A migration entry or a device-private one. */
function absentLeaf(pmd: pmd_t): Leaf {
	const entry = softleaf_from_pmd(pmd);
	const p = softleaf_to_page(entry);
	const f = page_folio(p);
	if (pmd_is_device_private_entry(pmd))
		return {
			folio: f,
			kind: 'private',
			write: softleaf_is_device_private_write(entry),
			exclusive: PageAnonExclusive(p),
			young: false,
			dirty: false,
			uffd: pmd_swp_uffd_wp(pmd),
		};
	return {
		folio: f,
		kind: 'migration',
		write: softleaf_is_migration_write(entry),
		exclusive: folio_test_anon(f) && softleaf_is_migration_read_exclusive(entry),
		young: softleaf_is_migration_young(entry),
		dirty: softleaf_is_migration_dirty(entry),
		uffd: pmd_swp_uffd_wp(pmd),
	};
}

function presentLeaf(old: pmd_t): Leaf {
	const p = pfn_to_page(pmd_pfn(old));
	const f = page_folio(p);
	const dirty = pmd_dirty(old);
	if (dirty) folio_set_dirty(f);
	return {
		folio: f,
		kind: 'present',
		write: pmd_write(old),
		exclusive: PageAnonExclusive(p),
		young: pmd_young(old),
		dirty,
		uffd: pmd_uffd_wp(old),
	};
}

/** The entry of the page with this PFN. */
type EntryOf = (pfn: bigint) => pte_t;

/** The word of an entry that is not present. */
function absentWord(entry: swp_entry_t, uffd: boolean): pte_t {
	const pte = swp_entry_to_pte(entry);
	return uffd ? pte_swp_mkuffd_wp(pte) : pte;
}

function migrationEntries({ write, exclusive, young, dirty, uffd }: Leaf): EntryOf {
	const was = { writable: write, exclusive, young, dirty };
	return (pfn) => absentWord(migrationEntryOf(pfn, was), uffd);
}

function privateEntries({ write, uffd }: Leaf): EntryOf {
	const entryOf = write
		? make_writable_device_private_entry
		: make_readable_device_private_entry;
	return (pfn) => absentWord(entryOf(pfn), uffd);
}

/** A present entry as the uffd bit of the huge one means it; hints of NUMA balancing are not kept. */
function protectedAs(vma: vm_area_struct, pte: pte_t, uffd: boolean): pte_t {
	if (!uffd) return pte;
	const marked = pte_mkuffd_wp(pte);
	return userfaultfd_rwp(vma) ? pte_modify(marked, PAGE_NONE) : marked;
}

function presentEntries({ write, young, dirty, uffd }: Leaf, vma: vm_area_struct): EntryOf {
	return (pfn) => {
		let pte = pfn_pte(pfn, vma.vm_page_prot);
		if (write) pte = pte_mkwrite(pte);
		if (!young) pte = pte_mkold(pte);
		if (dirty) pte = pte_mkdirty(pte);
		return protectedAs(vma, pte, uffd);
	};
}

/** Fills a table that nobody sees yet. */
function fillTable(pgtable: number, first: bigint, entryOf: EntryOf): void {
	const { u64 } = frameOf(pgtable);
	for (let i = 0; i < HPAGE_PMD_NR; i++) {
		WARN_ON_ONCE(u64[i] !== 0n, 'deposited page table is not empty');
		u64[i] = entryOf(first + BigInt(i));
	}
}

/** The zero page at every address; the pmd is empty meanwhile, under its lock. */
function* __split_huge_zero_page_pmd(
	vma: vm_area_struct,
	haddr: bigint,
	pmd: TableEntry,
): Sim<void> {
	const old = yield* pmdp_huge_clear_flush(vma, haddr, pmd);
	const pgtable = pgtable_trans_huge_withdraw(vma.vm_mm, pmd);
	const page = pte_mkspecial(pfn_pte(my_zero_pfn(haddr), vma.vm_page_prot));
	const zero = protectedAs(vma, page, pmd_uffd_wp(old));
	fillTable(pgtable, 0n, () => zero);
	yield* pmd_populate(vma.vm_mm, pmd, pgtable);
}

/** A huge page of a file is unmapped: a fault brings its pages back one by one. */
function* dropFilePmd(vma: vm_area_struct, haddr: bigint, pmd: TableEntry): Sim<void> {
	const old = yield* pmdp_huge_clear_flush(vma, haddr, pmd);
	if (is_huge_zero_pmd(old)) return;
	const migrates = pmd_is_migration_entry(old);
	const f = migrates
		? softleaf_to_folio(softleaf_from_pmd(old))
		: page_folio(pfn_to_page(pmd_pfn(old)));
	add_mm_counter(vma.vm_mm, mm_counter_file(f), -HPAGE_PMD_NR);
	if (migrates) return;
	if (pmd_dirty(old)) folio_set_dirty(f);
	yield* folio_remove_rmap_pmd(f, vma);
	yield* folio_put(f);
}

/** Counts 512 mappings in place of one, unless migration entries are to take their place. */
function* remapByPage(
	leaf: Leaf,
	vma: vm_area_struct,
	haddr: bigint,
	freeze: boolean,
): Sim<boolean> {
	const { folio: f, kind, exclusive } = leaf;
	if (kind === 'migration') return false;
	const frozen = freeze && !(exclusive && folio_try_share_anon_rmap_pmd(f) !== 0);
	if (frozen) return true;
	folio_ref_add(f, HPAGE_PMD_NR - 1);
	yield* folio_add_anon_rmap_ptes(f, vma, haddr, exclusive ? RMAP_EXCLUSIVE : RMAP_NONE);
	return false;
}

function* __split_huge_pmd_locked(
	vma: vm_area_struct,
	pmd: TableEntry,
	haddr: bigint,
	freeze: boolean,
): Sim<void> {
	const { vm_mm: mm } = vma;
	BUG_ON(
		vma.vm_start > haddr || vma.vm_end < haddr + HPAGE_PMD_SIZE,
		'huge pmd outside of its VMA',
	);
	if (!vma_is_anonymous(vma)) return yield* dropFilePmd(vma, haddr, pmd);
	if (is_huge_zero_pmd(pmd.value)) return yield* __split_huge_zero_page_pmd(vma, haddr, pmd);
	// no CPU may have a translation of 2 MiB and others of its parts at the same time
	const leaf = pmd_trans_huge(pmd.value)
		? presentLeaf(yield* pmdp_invalidate(vma, haddr, pmd))
		: absentLeaf(pmd.value);
	const frozen = yield* remapByPage(leaf, vma, haddr, freeze);
	const pgtable = pgtable_trans_huge_withdraw(mm, pmd);
	const { folio: f, kind } = leaf;
	let entryOf = migrationEntries(leaf);
	if (!frozen && kind === 'private') entryOf = privateEntries(leaf);
	if (!frozen && kind === 'present') entryOf = presentEntries(leaf, vma);
	fillTable(pgtable, folio_pfn(f), entryOf);
	if (kind !== 'migration') yield* folio_remove_rmap_pmd(f, vma);
	if (frozen) yield* folio_put(f);
	yield* pmd_populate(mm, pmd, pgtable);
}

/**
 * Split a huge pmd whose lock is held; anything else stays.
 *
 * @param vma - its VMA
 * @param address - its first address
 * @param pmd - the entry
 * @param freeze - put migration entries in the place of the pages
 * @context The lock of the pmd is held; the notifiers were told.
 * @kernel mm/huge_memory.c
 */
export function* split_huge_pmd_locked(
	vma: vm_area_struct,
	address: unsigned_long,
	pmd: TableEntry,
	freeze: boolean,
): Sim<void> {
	const { value } = pmd;
	if (
		pmd_trans_huge(value) ||
		pmd_is_migration_entry(value) ||
		pmd_is_device_private_entry(value)
	)
		yield* __split_huge_pmd_locked(vma, pmd, address, freeze);
}

/** Whether a huge pmd maps, or stands for, this folio. */
function isOf(pmd: pmd_t, f: folio): boolean {
	if (pmd_trans_huge(pmd)) return pmd_pfn(pmd) === folio_pfn(f);
	if (pmd_is_migration_entry(pmd) || pmd_is_device_private_entry(pmd))
		return softleaf_to_folio(softleaf_from_pmd(pmd)) === f;
	return false;
}

/**
 * Split a huge pmd, in one CLEAR event over its 2 MiB, which is sent whatever the entry is.
 *
 * @param vma - its VMA
 * @param pmd - the entry
 * @param address - an address of it
 * @param freeze - put migration entries in the place of the pages
 * @param only - split it only if it maps this folio; null: whatever it maps
 * @context Sleeps. The mmap lock or the rmap's semaphore is held.
 * @kernel mm/huge_memory.c
 */
export function* __split_huge_pmd(
	vma: vm_area_struct,
	pmd: TableEntry,
	address: unsigned_long,
	freeze: boolean,
	only: folio | null = null,
): Sim<void> {
	const haddr = address & PMD_MASK;
	const range = new mmu_notifier_range();
	mmu_notifier_range_init(
		range,
		MMU_NOTIFY_CLEAR,
		0,
		vma.vm_mm,
		haddr,
		haddr + HPAGE_PMD_SIZE,
	);
	yield* mmu_notifier_invalidate_range_start(range);
	const ptl = yield* pmd_lock(vma.vm_mm, pmd);
	if (only === null || isOf(pmd.value, only))
		yield* split_huge_pmd_locked(vma, haddr, pmd, freeze);
	yield* spin_unlock(ptl);
	yield* mmu_notifier_invalidate_range_end(range);
}

/**
 * Split a pmd if it is huge.
 *
 * @param vma - its VMA
 * @param pmd - the entry
 * @param address - an address of it
 * @context Sleeps. The mmap lock is held.
 * @kernel include/linux/huge_mm.h
 */
export function* split_huge_pmd(
	vma: vm_area_struct,
	pmd: TableEntry,
	address: unsigned_long,
): Sim<void> {
	const { value } = pmd;
	if (
		pmd_trans_huge(value) ||
		pmd_is_migration_entry(value) ||
		pmd_is_device_private_entry(value)
	)
		yield* __split_huge_pmd(vma, pmd, address, false);
}

/**
 * Split the pmd of an address; the event is sent if there is a pmd table at all.
 *
 * @param vma - the VMA
 * @param address - the address
 * @param freeze - put migration entries in the place of the pages
 * @param only - split it only if it maps this folio; null: whatever it maps
 * @context Sleeps. The mmap lock or the rmap's semaphore is held.
 * @kernel mm/huge_memory.c
 */
export function* split_huge_pmd_address(
	vma: vm_area_struct,
	address: unsigned_long,
	freeze: boolean,
	only: folio | null = null,
): Sim<void> {
	const pmd = mm_find_pmd(vma.vm_mm, address);
	if (pmd !== null) yield* __split_huge_pmd(vma, pmd, address, freeze, only);
}

/** Splits what a boundary of a VMA would cut. */
function* split_huge_pmd_if_needed(vma: vm_area_struct, address: bigint): Sim<void> {
	const haddr = address & PMD_MASK;
	if (address === haddr) return;
	if (haddr >= vma.vm_start && haddr + HPAGE_PMD_SIZE <= vma.vm_end)
		yield* split_huge_pmd_address(vma, address, false);
}

/**
 * Split the huge pmds that new boundaries of VMAs would cut.
 *
 * @param vma - a VMA whose boundaries move; still as it was
 * @param start - its new start
 * @param end - its new end
 * @param next - a neighbour whose start moves to `end`; null: none
 * @context Sleeps. The mmap lock is held for writing.
 * @kernel mm/huge_memory.c
 */
export function* vma_adjust_trans_huge(
	vma: vm_area_struct,
	start: unsigned_long,
	end: unsigned_long,
	next: vm_area_struct | null,
): Sim<void> {
	yield* split_huge_pmd_if_needed(vma, start);
	yield* split_huge_pmd_if_needed(vma, end);
	if (next !== null) yield* split_huge_pmd_if_needed(next, end);
}
