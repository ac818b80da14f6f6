// SPDX-License-Identifier: GPL-2.0-only
/**
 * Which entries map a page that the core counts: vm_normal_page().
 *
 * ```
 *   pte special?   VMA                    page
 *     no           any                    its page, with rmap and reference
 *     yes          VM_PFNMAP, MIXEDMAP    none: a driver's PFN, maybe without struct page
 *     yes          zero page              none: nobody counts the zero page
 *     yes          else                   none, and a report of a bad page map
 * ```
 */
import { fileReport } from '../../include/linux/bug.ts';
import { VM_MIXEDMAP, VM_PFNMAP } from '../../include/linux/mm.ts';
import {
	type folio,
	type page,
	page_folio,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import { memoryMap } from '../../include/linux/mmzone.ts';
import { pte_devmap, pte_pfn, pte_special, type pte_t } from '../../include/linux/pgtable.ts';
import { current } from '../../include/linux/sched.ts';
import type { unsigned_long } from '../../include/linux/types.ts';
import { feature } from '../../include/sim/world.ts';
import { is_zero_pfn } from './zero_page.ts';

/**
 * Report an entry that makes no sense.
 *
 * @param vma - its VMA
 * @param addr - its address
 * @param pte - the entry
 * @param p - the page that it maps, if any
 * @kernel mm/memory.c
 */
export function print_bad_pte(
	vma: vm_area_struct,
	addr: unsigned_long,
	pte: pte_t,
	p: page | null,
): void {
	const { comm } = current();
	fileReport('BUG', `BUG: Bad page map in process ${comm}  pte:${pte.toString(16)}`, [
		`addr:${addr.toString(16)} vm_flags:${vma.vm_flags.toString(16)}` +
			` anon_vma:${vma.anon_vma !== null} pgoff:${vma.vm_pgoff.toString(16)}` +
			` page:${p === null ? 'none' : 'there'}`,
	]);
}

/**
 * The page that an entry maps, if the core is to count it.
 *
 * @param vma - its VMA
 * @param addr - its address
 * @param pte - present entry
 * @returns null for a special entry
 * @kernel mm/memory.c
 */
export function vm_normal_page(vma: vm_area_struct, addr: unsigned_long, pte: pte_t): page | null {
	const pfn = pte_pfn(pte);
	if (!pte_special(pte)) {
		const p = memoryMap().page(Number(pfn));
		if (p === null) print_bad_pte(vma, addr, pte, null);
		return p;
	}
	if ((vma.vm_flags & (VM_PFNMAP | VM_MIXEDMAP)) !== 0n || is_zero_pfn(pfn)) return null;
	if (feature('devmap_entries') && pte_devmap(pte)) return null;
	print_bad_pte(vma, addr, pte, null);
	return null;
}

/**
 * The folio of vm_normal_page().
 *
 * @param vma - its VMA
 * @param addr - its address
 * @param pte - present entry
 * @returns null for a special entry
 * @kernel mm/memory.c
 */
export function vm_normal_folio(
	vma: vm_area_struct,
	addr: unsigned_long,
	pte: pte_t,
): folio | null {
	const p = vm_normal_page(vma, addr, pte);
	return p === null ? null : page_folio(p);
}
