// SPDX-License-Identifier: GPL-2.0-only
/**
 * Entries of huge pages: pmds that are read and written like ptes.
 *
 * ```
 *   [pgd] -> [pud] -> [pmd with PSE] -> 2 MiB
 * ```
 */
import { type hstate, hstate_vma, pages_per_huge_page } from '../../include/linux/hugetlb.ts';
import { VM_WRITE } from '../../include/linux/mm.ts';
import type { folio, mm_struct, page, vm_area_struct } from '../../include/linux/mm_types.ts';
import { nth_page, page_to_pfn } from '../../include/linux/mmzone.ts';
import {
	pfn_pte,
	pmd_mkhuge,
	pte_mkdirty,
	pte_mkwrite,
	pte_mkyoung,
	type pte_t,
	pte_wrprotect,
	pud_none,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import { type int, PMD_SIZE, type unsigned_long } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { clear_highpage, copy_highpage } from '../page_alloc.ts';
import {
	pgd_none_or_clear_bad,
	pgd_offset,
	pmd_alloc,
	pmd_offset,
	pmdp_huge_get_and_clear,
	pud_alloc,
	pud_offset,
	set_pmd_at,
} from '../pgtable.ts';
import { flush_tlb_range } from '../tlb.ts';

/**
 * The entry of an address, with the tables that it is in.
 *
 * @param mm - address space
 * @param _vma - hugetlb VMA; no tables are shared here
 * @param addr - the address
 * @returns null when there is no memory
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/hugetlb.c
 */
export function* huge_pte_alloc(
	mm: mm_struct,
	_vma: vm_area_struct,
	addr: unsigned_long,
): Sim<TableEntry | null> {
	const pud = yield* pud_alloc(mm, pgd_offset(mm, addr), addr);
	return pud === null ? null : yield* pmd_alloc(mm, pud, addr);
}

/**
 * The entry of an address.
 *
 * @param vma - hugetlb VMA
 * @param addr - the address
 * @returns null while the tables above it are not there
 * @kernel include/linux/hugetlb.h
 */
export function hugetlb_walk(vma: vm_area_struct, addr: unsigned_long): TableEntry | null {
	const pgd = pgd_offset(vma.vm_mm, addr);
	if (pgd_none_or_clear_bad(pgd)) return null;
	const pud = pud_offset(pgd, addr);
	return pud_none(pud.value) ? null : pmd_offset(pud, addr);
}

/**
 * The entry that maps a huge page.
 *
 * @param vma - the VMA
 * @param p - its first page
 * @param try_mkwrite - writable if the VMA is
 * @kernel mm/hugetlb.c
 */
export function make_huge_pte(vma: vm_area_struct, p: page, try_mkwrite: boolean): pte_t {
	const plain = pfn_pte(page_to_pfn(p), vma.vm_page_prot);
	const writable = try_mkwrite && (vma.vm_flags & VM_WRITE) !== 0n;
	const entry = writable ? pte_mkwrite(pte_mkdirty(plain)) : pte_wrprotect(plain);
	return pmd_mkhuge(pte_mkyoung(entry) as bigint) as bigint;
}

/**
 * Empty an entry and flush it out of the TLBs.
 *
 * @param vma - its VMA
 * @param addr - its address
 * @param ptep - the entry, locked
 * @returns what it was
 * @kernel include/asm-generic/hugetlb.h
 */
export function* huge_ptep_clear_flush(
	vma: vm_area_struct,
	addr: unsigned_long,
	ptep: TableEntry,
): Sim<pte_t> {
	const was = yield* pmdp_huge_get_and_clear(vma.vm_mm, addr, ptep);
	yield* flush_tlb_range(vma, addr, addr + PMD_SIZE);
	return was as bigint;
}

/**
 * Take the write bit of an entry away.
 *
 * @param mm - address space
 * @param addr - its address
 * @param ptep - the entry, locked
 * @kernel include/asm-generic/hugetlb.h
 */
export function* huge_ptep_set_wrprotect(
	mm: mm_struct,
	addr: unsigned_long,
	ptep: TableEntry,
): Sim<void> {
	yield* set_pmd_at(mm, addr, ptep, pte_wrprotect(ptep.value) as bigint);
}

/**
 * Give an entry more rights after a fault.
 *
 * @param vma - its VMA
 * @param addr - its address
 * @param ptep - the entry, locked
 * @param pte - what it becomes: more accessed, dirty or writable than it is
 * @param dirty - the fault was a write
 * @returns whether it was something else before
 * @kernel include/asm-generic/hugetlb.h
 */
export function* huge_ptep_set_access_flags(
	vma: vm_area_struct,
	addr: unsigned_long,
	ptep: TableEntry,
	pte: pte_t,
	dirty: boolean,
): Sim<boolean> {
	const changed = ptep.value !== pte;
	if (changed && dirty) yield* set_pmd_at(vma.vm_mm, addr, ptep, pte as bigint);
	return changed;
}

/**
 * Make an entry writable after a fault.
 *
 * @param vma - the VMA
 * @param address - its address
 * @param ptep - the entry, locked
 * @kernel mm/hugetlb.c
 */
export function* set_huge_ptep_writable(
	vma: vm_area_struct,
	address: unsigned_long,
	ptep: TableEntry,
): Sim<void> {
	const entry = pte_mkwrite(pte_mkdirty(ptep.value));
	yield* huge_ptep_set_access_flags(vma, address, ptep, entry, true);
}

/**
 * Count pages of a huge mapping in its address space.
 *
 * @param diff - huge pages, may be negative
 * @param vma - the VMA
 */
export function hugetlbCount(diff: int, vma: vm_area_struct): void {
	vma.vm_mm.hugetlb_usage += diff * pages_per_huge_page(hstate_vma(vma));
}

/**
 * Clear the bytes of a huge page.
 *
 * @param h - its pool
 * @param f - the folio
 */
export function clearHugePage(h: hstate, f: folio): void {
	for (let i = 0; i < pages_per_huge_page(h); i++) clear_highpage(nth_page(f.page, i));
}

/**
 * Copy the bytes of a huge page.
 *
 * @param h - its pool
 * @param to - the folio
 * @param from - the folio
 */
export function copyHugePage(h: hstate, to: folio, from: folio): void {
	for (let i = 0; i < pages_per_huge_page(h); i++)
		copy_highpage(nth_page(to.page, i), nth_page(from.page, i));
}
