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
	type pmd_t,
	pte_present,
	type pte_t,
	pte_wrprotect,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import type { bool, unsigned_int, unsigned_long } from '../../include/linux/types.ts';
import { preemptible, type Sim, schedulePoint } from '../../include/sim/schedule.ts';
import { flush_tlb_page } from '../tlb.ts';

/** Announces the change of one entry. */
function* writePoint(entry: TableEntry): Sim<void> {
	if (preemptible()) yield schedulePoint('pte-write', entry.table, 'entries', entry.index, 1);
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
	yield* writePoint(ptep);
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
	yield* writePoint(pmdp);
	pmdp.value = pmd;
}

/**
 * Empty a pte.
 *
 * @param mm - address space
 * @param addr - its address
 * @param ptep - the entry
 * @kernel include/linux/pgtable.h
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
	yield* writePoint(ptep);
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
	yield* writePoint(pmdp);
	const was = pmdp.value;
	pmdp.value = 0n;
	return was;
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
	yield* writePoint(ptep);
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
		yield* writePoint(ptep);
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
