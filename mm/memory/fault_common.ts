// SPDX-License-Identifier: GPL-2.0-only
/** What the kinds of fault have in common. */
import { VM_WRITE } from '../../include/linux/mm.ts';
import {
	FAULT_FLAG_ALLOW_RETRY,
	FAULT_FLAG_ORIG_PTE_VALID,
	FAULT_FLAG_TRIED,
	type folio,
	type mm_struct,
	page_folio,
	VM_FAULT_OOM,
	VM_FAULT_SIGBUS,
	type vm_area_struct,
	type vm_fault,
} from '../../include/linux/mm_types.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import { PG_uptodate } from '../../include/linux/page-flags.ts';
import {
	pfn_pte,
	type pgprot_t,
	pte_mkdirty,
	pte_mkwrite,
	pte_mkyoung,
	pte_none,
	pte_same,
	type pte_t,
} from '../../include/linux/pgtable.ts';
import {
	__GFP_ZERO,
	type bool,
	GFP_HIGHUSER_MOVABLE,
	outParam,
	type vm_fault_t,
} from '../../include/linux/types.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';
import { type Sim, touch } from '../../include/sim/schedule.ts';
import { alloc_pages } from '../page_alloc.ts';
import {
	pte_offset_map_lock,
	pte_unmap_unlock,
	ptep_get,
	ptep_set_access_flags,
} from '../pgtable.ts';
import { anon_vma_prepare } from '../rmap.ts';

/**
 * The entry that maps a folio's first page.
 *
 * @param f - the folio
 * @param pgprot - protection
 * @kernel include/linux/mm.h
 */
export function folio_mk_pte(f: folio, pgprot: pgprot_t): pte_t {
	return pfn_pte(page_to_pfn(f.page), pgprot);
}

/**
 * Make an entry writable if its VMA is.
 *
 * @param pte - the entry
 * @param vma - its VMA
 * @kernel include/linux/mm.h
 */
export function maybe_mkwrite(pte: pte_t, vma: vm_area_struct): pte_t {
	return (vma.vm_flags & VM_WRITE) !== 0n ? pte_mkwrite(pte) : pte;
}

/**
 * Whether the OOM reaper has emptied an address space, so that what is missing must not be made
 * anew.
 *
 * @param mm - address space
 * @retval 0 stable
 * @retval VM_FAULT_SIGBUS it is not
 * @kernel include/linux/oom.h
 */
export function check_stable_address_space(mm: mm_struct): vm_fault_t {
	touch('read', mm, 'flags_unstable');
	return mm.flags_unstable ? VM_FAULT_SIGBUS : 0;
}

/**
 * Whether the entry of a fault is no longer what the fault was raised for.
 *
 * @param vmf - the fault, its entry locked
 * @kernel mm/memory.c
 */
export function vmf_pte_changed(vmf: vm_fault): bool {
	const pte = ptep_get(vmf.pte!);
	if (vmf.flags & FAULT_FLAG_ORIG_PTE_VALID) return !pte_same(pte, vmf.orig_pte);
	return !pte_none(pte);
}

/**
 * See to it that the VMA of a fault has an anon_vma.
 *
 * @param vmf - the fault
 * @retval 0 it has one
 * @retval VM_FAULT_OOM no memory
 * @kernel mm/internal.h
 */
export function* vmf_anon_prepare(vmf: vm_fault): Sim<vm_fault_t> {
	if (vmf.vma.anon_vma !== null) return 0;
	return (yield* anon_vma_prepare(vmf.vma)) !== 0 ? VM_FAULT_OOM : 0;
}

/**
 * Allocate a page for an anonymous mapping.
 *
 * @param _mm - address space that pays for it
 * @param need_zero - its bytes must be zero
 * @returns null: no memory, or made to fail at site `folio_prealloc`
 * @kernel mm/memory.c
 */
export function* folio_prealloc(_mm: mm_struct, need_zero: bool): Sim<folio | null> {
	if (shouldFail('folio_prealloc')) return null;
	const gfp = need_zero ? GFP_HIGHUSER_MOVABLE | __GFP_ZERO : GFP_HIGHUSER_MOVABLE;
	const p = yield* alloc_pages(gfp, 0);
	return p === null ? null : page_folio(p);
}

/**
 * Say that the bytes of a new folio are what they should be.
 *
 * @param f - the folio
 * @kernel include/linux/page-flags.h
 */
export function __folio_mark_uptodate(f: folio): void {
	f.flags |= PG_uptodate;
}

/**
 * Map and lock the entry of a fault.
 *
 * @param vmf - the fault; pte and ptl are set
 * @param address - of the entry; default: the faulting one
 * @returns whether there is one; else nothing is held
 */
export function* mapFaultEntry(vmf: vm_fault, address: bigint = vmf.address): Sim<boolean> {
	const ptl = outParam(vmf.ptl);
	vmf.pte = yield* pte_offset_map_lock(vmf.vma.vm_mm, vmf.pmd!, address, ptl);
	vmf.ptl = ptl.value;
	return vmf.pte !== null;
}

/**
 * Leave the entry of a fault.
 *
 * @param vmf - the fault
 */
export function* unmapFaultEntry(vmf: vm_fault): Sim<void> {
	yield* pte_unmap_unlock(vmf.pte!, vmf.ptl);
}

/**
 * Whether this is the first try of a fault that may drop the mmap lock and come again.
 *
 * @param flags - FAULT_FLAG_*
 * @kernel include/linux/mm.h
 */
export function fault_flag_allow_retry_first(flags: number): bool {
	return (flags & FAULT_FLAG_ALLOW_RETRY) !== 0 && (flags & FAULT_FLAG_TRIED) === 0;
}

/**
 * Make the entry of a write fault writable: nobody else needs the page as it is.
 *
 * @param vmf - the fault; its entry is locked on entry and left on return
 * @kernel mm/memory.c
 */
export function* wp_page_reuse(vmf: vm_fault): Sim<void> {
	const { vma } = vmf;
	const entry = maybe_mkwrite(pte_mkdirty(pte_mkyoung(vmf.orig_pte)), vma);
	yield* ptep_set_access_flags(vma, vmf.address, vmf.pte!, entry, 1);
	yield* unmapFaultEntry(vmf);
}
