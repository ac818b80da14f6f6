// SPDX-License-Identifier: GPL-2.0-only
/** Drivers that fill page tables in themselves: pages with and PFNs without struct page. */
import { BUG_ON, WARN_ON_ONCE } from '../../include/linux/bug.ts';
import { EBUSY, EFAULT, EINVAL, ENOMEM } from '../../include/linux/errno.ts';
import {
	is_cow_mapping,
	VM_DONTDUMP,
	VM_DONTEXPAND,
	VM_IO,
	VM_MIXEDMAP,
	VM_PFNMAP,
} from '../../include/linux/mm.ts';
import {
	type mm_struct,
	type page,
	page_folio,
	VM_FAULT_NOPAGE,
	VM_FAULT_OOM,
	VM_FAULT_SIGBUS,
	type vm_area_struct,
	type vm_fault,
} from '../../include/linux/mm_types.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import { folio_test_anon, page_count } from '../../include/linux/page-flags.ts';
import {
	pfn_pte,
	type pgprot_t,
	pte_mkdevmap,
	pte_mkdirty,
	pte_mkspecial,
	pte_mkyoung,
	pte_none,
	pte_pfn,
	type pte_t,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import type { spinlock_t } from '../../include/linux/spinlock.ts';
import {
	type bool,
	type int,
	outParam,
	PAGE_SIZE,
	type unsigned_long,
	type vm_fault_t,
} from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { mmap_assert_write_locked } from '../mmap_lock.ts';
import {
	pgd_offset,
	pmd_alloc,
	pte_alloc,
	pte_offset_map_lock,
	pte_unmap_unlock,
	ptep_set_access_flags,
	pud_alloc,
	set_pte_at,
} from '../pgtable.ts';
import { folio_add_file_rmap_pte } from '../rmap.ts';
import { folio_get } from '../swap.ts';
import { inc_mm_counter, mm_counter_file } from './counter.ts';
import { maybe_mkwrite } from './fault_common.ts';

/** The locked entry of an address, with the tables that lead to it; null: no memory. */
function* get_locked_pte(
	mm: mm_struct,
	addr: bigint,
	ptl: { value: spinlock_t | null },
): Sim<TableEntry | null> {
	const pud = yield* pud_alloc(mm, pgd_offset(mm, addr), addr);
	const pmd = pud === null ? null : yield* pmd_alloc(mm, pud, addr);
	if (pmd === null || (yield* pte_alloc(mm, pmd, addr)) !== 0) return null;
	return yield* pte_offset_map_lock(mm, pmd, addr, ptl);
}

/** Makes an entry of a page writable for a write fault; -EFAULT if it is another page's. */
function* allowWrite(vma: vm_area_struct, addr: bigint, ptep: TableEntry, pte: pte_t): Sim<int> {
	const old = ptep.value;
	if (WARN_ON_ONCE(pte_pfn(old) !== pte_pfn(pte), 'insertion over another page'))
		return -EFAULT;
	const entry = maybe_mkwrite(pte_mkdirty(pte_mkyoung(old)), vma);
	yield* ptep_set_access_flags(vma, addr, ptep, entry, 1);
	return 0;
}

/** Sets an entry; -EBUSY if it is not empty, unless it is only to become writable. */
function* insertEntry(
	vma: vm_area_struct,
	addr: bigint,
	pte: pte_t,
	p: page | null,
	mkwrite = false,
): Sim<int> {
	const ptl = outParam<spinlock_t | null>(null);
	const ptep = yield* get_locked_pte(vma.vm_mm, addr, ptl);
	if (ptep === null) return -ENOMEM;
	let ret: int = -EBUSY;
	if (pte_none(ptep.value)) {
		if (p !== null) {
			const f = page_folio(p);
			folio_get(f);
			inc_mm_counter(vma.vm_mm, mm_counter_file(f));
			yield* folio_add_file_rmap_pte(f, p, vma);
		}
		const entry = mkwrite ? maybe_mkwrite(pte_mkdirty(pte_mkyoung(pte)), vma) : pte;
		yield* set_pte_at(vma.vm_mm, addr, ptep, entry);
		ret = 0;
	} else if (mkwrite) ret = yield* allowWrite(vma, addr, ptep, pte);
	yield* pte_unmap_unlock(ptep, ptl.value);
	return ret;
}

/**
 * Map a page of a driver's.
 *
 * @param vma - the VMA; becomes VM_MIXEDMAP
 * @param addr - the address
 * @param p - the page, in use; the entry takes a reference
 * @retval 0 mapped
 * @retval -EFAULT the address is not in the VMA
 * @retval -EINVAL the page is nobody's, or anonymous
 * @retval -EBUSY something is mapped there
 * @retval -ENOMEM no memory for tables
 * @context Sleeps. The mmap lock is held, for writing unless the VMA is VM_MIXEDMAP already.
 * @kernel mm/memory.c
 */
export function* vm_insert_page(vma: vm_area_struct, addr: unsigned_long, p: page): Sim<int> {
	if (addr < vma.vm_start || addr >= vma.vm_end) return -EFAULT;
	if (page_count(p) === 0 || folio_test_anon(page_folio(p))) return -EINVAL;
	if ((vma.vm_flags & VM_MIXEDMAP) === 0n) {
		mmap_assert_write_locked(vma.vm_mm);
		BUG_ON(
			(vma.vm_flags & VM_PFNMAP) !== 0n,
			'vm_insert_page() into a VM_PFNMAP mapping',
		);
		vma.vm_flags |= VM_MIXEDMAP;
	}
	return yield* insertEntry(vma, addr, pfn_pte(page_to_pfn(p), vma.vm_page_prot), p);
}

/**
 * Map a PFN that need not have a struct page: nobody counts it.
 *
 * @param vma - VM_PFNMAP or VM_MIXEDMAP mapping
 * @param addr - the address
 * @param pfn - what to map
 * @retval 0 mapped
 * @retval -EFAULT the address is not in the VMA
 * @retval -EBUSY something is mapped there
 * @retval -ENOMEM no memory for tables
 * @context Sleeps. The mmap lock is held.
 */
export function* insertPfn(vma: vm_area_struct, addr: unsigned_long, pfn: bigint): Sim<int> {
	WARN_ON_ONCE(
		(vma.vm_flags & (VM_PFNMAP | VM_MIXEDMAP)) === 0n,
		'PFN in a mapping of pages',
	);
	if (addr < vma.vm_start || addr >= vma.vm_end) return -EFAULT;
	return yield* insertEntry(vma, addr, pte_mkspecial(pfn_pte(pfn, vma.vm_page_prot)), null);
}

/** What the insertion of an entry is as the result of a fault; somebody else's entry will do. */
function faultOf(err: int): vm_fault_t {
	if (err === 0 || err === -EBUSY) return VM_FAULT_NOPAGE;
	return err === -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
}

/**
 * Map a PFN in a fault handler.
 *
 * @param vma - VM_PFNMAP or VM_MIXEDMAP mapping
 * @param addr - the address
 * @param pfn - what to map; nobody counts it
 * @retval VM_FAULT_NOPAGE something is mapped there now
 * @retval VM_FAULT_OOM no memory for tables
 * @retval VM_FAULT_SIGBUS the address is not in the VMA
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/memory.c
 */
export function* vmf_insert_pfn(
	vma: vm_area_struct,
	addr: unsigned_long,
	pfn: unsigned_long,
): Sim<vm_fault_t> {
	return faultOf(yield* insertPfn(vma, addr, pfn));
}

/**
 * Map a PFN that may have no struct page in a mapping of pages.
 *
 * @param vma - VM_MIXEDMAP mapping
 * @param addr - the address
 * @param pfn - what to map; nobody counts it
 * @retval VM_FAULT_NOPAGE something is mapped there now
 * @retval VM_FAULT_OOM no memory for tables
 * @retval VM_FAULT_SIGBUS the address is not in the VMA, or the VMA is not for it
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/memory.c
 */
export function* vmf_insert_mixed(
	vma: vm_area_struct,
	addr: unsigned_long,
	pfn: unsigned_long,
): Sim<vm_fault_t> {
	if (WARN_ON_ONCE((vma.vm_flags & VM_MIXEDMAP) === 0n, 'vmf_insert_mixed() of PFNs only'))
		return VM_FAULT_SIGBUS;
	return faultOf(yield* insertPfn(vma, addr, pfn));
}

/**
 * Map a page of a file system's memory (DAX) in a fault handler: with rmap and a reference.
 *
 * @param vmf - the fault
 * @param p - the page, with a reference of the caller's
 * @param write - for writing: what is mapped already becomes writable
 * @retval VM_FAULT_NOPAGE the page is mapped there
 * @retval VM_FAULT_OOM no memory for tables
 * @retval VM_FAULT_SIGBUS the address is not in the VMA, or another page is mapped there
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/memory.c
 */
export function* vmf_insert_page_mkwrite(vmf: vm_fault, p: page, write: bool): Sim<vm_fault_t> {
	const { vma, address } = vmf;
	if (address < vma.vm_start || address >= vma.vm_end) return VM_FAULT_SIGBUS;
	const pte = pfn_pte(page_to_pfn(p), vma.vm_page_prot);
	return faultOf(yield* insertEntry(vma, address, pte, p, write));
}

/**
 * Map a page of a file system's memory (DAX) as releases with devmap entries do: nobody counts it.
 *
 * @param vmf - the fault
 * @param pfn - its PFN
 * @param write - for writing: what is mapped already becomes writable
 * @returns as vmf_insert_page_mkwrite()
 * @context Sleeps. The mmap lock is held.
 */
export function* insertDevmap(vmf: vm_fault, pfn: unsigned_long, write: bool): Sim<vm_fault_t> {
	const { vma, address } = vmf;
	if (address < vma.vm_start || address >= vma.vm_end) return VM_FAULT_SIGBUS;
	const pte = pte_mkdevmap(pfn_pte(pfn, vma.vm_page_prot));
	return faultOf(yield* insertEntry(vma, address, pte, null, write));
}

/**
 * Map a range of PFNs, as a driver's mmap() does.
 *
 * @param vma - the VMA; becomes VM_IO and VM_PFNMAP
 * @param addr - first address
 * @param pfn - first PFN
 * @param size - bytes
 * @param prot - protection bits
 * @retval 0 mapped
 * @retval -EINVAL not aligned, or a part of a private mapping that may be written to
 * @retval -ENOMEM no memory for tables
 * @context Sleeps. The mmap lock is held for writing.
 * @kernel mm/memory.c
 */
export function* remap_pfn_range(
	vma: vm_area_struct,
	addr: unsigned_long,
	pfn: unsigned_long,
	size: unsigned_long,
	prot: pgprot_t,
): Sim<int> {
	mmap_assert_write_locked(vma.vm_mm);
	if ((addr & 4095n) !== 0n) return -EINVAL;
	const end = addr + ((size + 4095n) & ~4095n);
	if (is_cow_mapping(vma.vm_flags)) {
		if (addr !== vma.vm_start || end !== vma.vm_end) return -EINVAL;
		// so that vm_normal_page() can tell copies from what was mapped
		vma.vm_pgoff = pfn;
	}
	vma.vm_flags |= VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP;
	for (let at = addr; at < end; at += PAGE_SIZE) {
		const pte = pte_mkspecial(pfn_pte(pfn + ((at - addr) >> 12n), prot));
		const err = yield* insertEntry(vma, at, pte, null);
		BUG_ON(err === -EBUSY, 'remap_pfn_range() over something mapped');
		if (err !== 0) return err;
	}
	return 0;
}
