// SPDX-License-Identifier: GPL-2.0-only
/**
 * Changing page-table entries.
 *
 * Guarantee: each change is announced by a `pte-write` point before it is made, and is one step.
 * Duty: the table's lock is held; who takes a right away flushes the TLB before the page that the
 * entry led to is used for something else.
 */
import type { mm_struct, vm_area_struct } from '../../include/linux/mm_types.ts';
import {
	pmd_mkinvalid,
	type pmd_t,
	pmd_wrprotect,
	pte_present,
	type pte_t,
	pte_wrprotect,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import {
	type bool,
	HPAGE_PMD_SIZE,
	type unsigned_int,
	type unsigned_long,
} from '../../include/linux/types.ts';
import {
	preemptible,
	type SchedulePoint,
	type Sim,
	schedulePoint,
} from '../../include/sim/schedule.ts';
import { flush_tlb_page, flush_tlb_range } from '../tlb.ts';

/** Announces the change of one entry. */
function writePoint(entry: TableEntry): SchedulePoint {
	return schedulePoint('pte-write', entry.table, 'entries', entry.index, 1);
}

/**
 * Set a pte.
 *
 * @param _mm - address space
 * @param _addr - its address
 * @param ptep - the entry
 * @param pte - what it becomes
 * @context The table's lock is held.
 * @kernel include/linux/pgtable.h
 */
export function* set_pte_at(
	_mm: mm_struct,
	_addr: unsigned_long,
	ptep: TableEntry,
	pte: pte_t,
): Sim<void> {
	if (preemptible()) yield writePoint(ptep);
	ptep.value = pte;
}

/**
 * Set a pmd.
 *
 * @param _mm - address space
 * @param _addr - its address
 * @param pmdp - the entry
 * @param pmd - what it becomes
 * @context The table's lock is held.
 * @kernel arch/x86/include/asm/pgtable.h
 */
export function* set_pmd_at(
	_mm: mm_struct,
	_addr: unsigned_long,
	pmdp: TableEntry,
	pmd: pmd_t,
): Sim<void> {
	if (preemptible()) yield writePoint(pmdp);
	pmdp.value = pmd;
}

/**
 * Empty a pte.
 *
 * @param mm - address space
 * @param addr - its address
 * @param ptep - the entry
 * @kernel arch/x86/include/asm/pgtable.h
 */
export function* pte_clear(mm: mm_struct, addr: unsigned_long, ptep: TableEntry): Sim<void> {
	yield* set_pte_at(mm, addr, ptep, 0n);
}

/**
 * Empty a pte and hand out what it was, in one step: no A or D bit of the hardware is lost.
 *
 * @param _mm - address space
 * @param _addr - its address
 * @param ptep - the entry
 * @returns what it was
 * @context The table's lock is held.
 * @kernel arch/x86/include/asm/pgtable.h
 */
export function* ptep_get_and_clear(
	_mm: mm_struct,
	_addr: unsigned_long,
	ptep: TableEntry,
): Sim<pte_t> {
	if (preemptible()) yield writePoint(ptep);
	const was = ptep.value;
	ptep.value = 0n;
	return was;
}

/**
 * Empty a pmd and hand out what it was.
 *
 * @param _mm - address space
 * @param _addr - its address
 * @param pmdp - the entry
 * @returns what it was
 * @context The table's lock is held.
 * @kernel arch/x86/include/asm/pgtable.h
 */
export function* pmdp_huge_get_and_clear(
	_mm: mm_struct,
	_addr: unsigned_long,
	pmdp: TableEntry,
): Sim<pmd_t> {
	if (preemptible()) yield writePoint(pmdp);
	const was = pmdp.value;
	pmdp.value = 0n;
	return was;
}

/**
 * Empty a huge pmd and flush it out of the TLBs.
 *
 * @param vma - its VMA
 * @param address - its address
 * @param pmdp - the entry
 * @returns what it was
 * @context The table's lock is held.
 * @kernel mm/pgtable-generic.c
 */
export function* pmdp_huge_clear_flush(
	vma: vm_area_struct,
	address: unsigned_long,
	pmdp: TableEntry,
): Sim<pmd_t> {
	const pmd = yield* pmdp_huge_get_and_clear(vma.vm_mm, address, pmdp);
	yield* flush_tlb_range(vma, address, address + HPAGE_PMD_SIZE);
	return pmd;
}

/**
 * Make a huge pmd one that the hardware does not use, and flush it out of the TLBs: no access and
 * no A or D bit comes any more.
 *
 * @param vma - its VMA
 * @param address - its address
 * @param pmdp - the entry, present
 * @returns what it was
 * @context The table's lock is held.
 * @kernel mm/pgtable-generic.c
 */
export function* pmdp_invalidate(
	vma: vm_area_struct,
	address: unsigned_long,
	pmdp: TableEntry,
): Sim<pmd_t> {
	if (preemptible()) yield writePoint(pmdp);
	const was = pmdp.value;
	pmdp.value = pmd_mkinvalid(was);
	yield* flush_tlb_range(vma, address, address + HPAGE_PMD_SIZE);
	return was;
}

/**
 * pmdp_invalidate() of a change whose flush comes later; on x86 A and D bits are safe all the same.
 *
 * @param _vma - its VMA
 * @param _address - its address
 * @param pmdp - the entry, present
 * @returns what it was
 * @context The table's lock is held.
 * @kernel arch/x86/mm/pgtable.c
 */
export function* pmdp_invalidate_ad(
	_vma: vm_area_struct,
	_address: unsigned_long,
	pmdp: TableEntry,
): Sim<pmd_t> {
	if (preemptible()) yield writePoint(pmdp);
	const was = pmdp.value;
	pmdp.value = pmd_mkinvalid(was);
	return was;
}

/**
 * Take the write bit of a huge pmd away, in one step.
 *
 * @param _mm - address space
 * @param _addr - its address
 * @param pmdp - the entry
 * @context The table's lock is held.
 * @kernel arch/x86/include/asm/pgtable.h
 */
export function* pmdp_set_wrprotect(
	_mm: mm_struct,
	_addr: unsigned_long,
	pmdp: TableEntry,
): Sim<void> {
	if (preemptible()) yield writePoint(pmdp);
	pmdp.value = pmd_wrprotect(pmdp.value);
}

/**
 * Give a huge pmd more rights after a fault.
 *
 * @param _vma - its VMA
 * @param _address - its address
 * @param pmdp - the entry
 * @param entry - what it becomes: more accessed, dirty or writable than it is
 * @param dirty - the fault was a write
 * @returns whether it was something else before
 * @context The table's lock is held. No flush: the hardware walks again when a right is missing.
 * @kernel arch/x86/mm/pgtable.c
 */
export function* pmdp_set_access_flags(
	_vma: vm_area_struct,
	_address: unsigned_long,
	pmdp: TableEntry,
	entry: pmd_t,
	dirty: unsigned_int | bool,
): Sim<bool> {
	const changed = pmdp.value !== entry;
	if (changed && dirty) {
		if (preemptible()) yield writePoint(pmdp);
		pmdp.value = entry;
	}
	return changed;
}

/**
 * Empty a pte and flush it out of the TLBs.
 *
 * @param vma - its VMA
 * @param addr - its address
 * @param ptep - the entry
 * @returns what it was
 * @context The table's lock is held.
 * @kernel mm/pgtable-generic.c
 */
export function* ptep_clear_flush(
	vma: vm_area_struct,
	addr: unsigned_long,
	ptep: TableEntry,
): Sim<pte_t> {
	const pte = yield* ptep_get_and_clear(vma.vm_mm, addr, ptep);
	if (pte_present(pte)) yield* flush_tlb_page(vma, addr);
	return pte;
}

/**
 * Take the write bit of a pte away, in one step.
 *
 * @param _mm - address space
 * @param _addr - its address
 * @param ptep - the entry
 * @context The table's lock is held.
 * @kernel arch/x86/include/asm/pgtable.h
 */
export function* ptep_set_wrprotect(
	_mm: mm_struct,
	_addr: unsigned_long,
	ptep: TableEntry,
): Sim<void> {
	if (preemptible()) yield writePoint(ptep);
	ptep.value = pte_wrprotect(ptep.value);
}

/**
 * Give a pte more rights after a fault.
 *
 * @param _vma - its VMA
 * @param _addr - its address
 * @param ptep - the entry
 * @param entry - what it becomes: more accessed, dirty or writable than it is
 * @param dirty - the fault was a write
 * @returns whether it was something else before
 * @context The table's lock is held. No flush: the hardware walks again when a right is missing.
 * @kernel arch/x86/mm/pgtable.c
 */
export function* ptep_set_access_flags(
	_vma: vm_area_struct,
	_addr: unsigned_long,
	ptep: TableEntry,
	entry: pte_t,
	dirty: unsigned_int | bool,
): Sim<bool> {
	const changed = ptep.value !== entry;
	if (changed && dirty) {
		if (preemptible()) yield writePoint(ptep);
		ptep.value = entry;
	}
	return changed;
}

/**
 * Begin to change the protection of a pte: it is empty until ptep_modify_prot_commit(), so the
 * hardware cannot set bits that the change would lose.
 *
 * @param vma - its VMA
 * @param addr - its address
 * @param ptep - the entry
 * @returns what it was
 * @context The table's lock is held.
 * @kernel include/linux/pgtable.h
 */
export function* ptep_modify_prot_start(
	vma: vm_area_struct,
	addr: unsigned_long,
	ptep: TableEntry,
): Sim<pte_t> {
	return yield* ptep_get_and_clear(vma.vm_mm, addr, ptep);
}

/**
 * End what ptep_modify_prot_start() began.
 *
 * @param vma - its VMA
 * @param addr - its address
 * @param ptep - the entry
 * @param _oldPte - what it was
 * @param pte - what it becomes
 * @context The table's lock is held.
 * @kernel include/linux/pgtable.h
 */
export function* ptep_modify_prot_commit(
	vma: vm_area_struct,
	addr: unsigned_long,
	ptep: TableEntry,
	_oldPte: pte_t,
	pte: pte_t,
): Sim<void> {
	yield* set_pte_at(vma.vm_mm, addr, ptep, pte);
}
