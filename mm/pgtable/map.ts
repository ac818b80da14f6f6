// SPDX-License-Identifier: GPL-2.0-only
/**
 * Standing on a pte: the table is kept by an RCU read section, the entry by the table's lock.
 *
 * Guarantee: between pte_offset_map() and pte_unmap() the table is not given back; between
 * pte_offset_map_lock() and pte_unmap_unlock() its entries do not change either. Duty: whoever maps
 * a pte does not sleep until it is unmapped, and treats null as "look at the pmd again".
 */
import type { mm_struct, vm_area_struct } from '../../include/linux/mm_types.ts';
import {
	pmd_bad,
	pmd_none,
	pmd_present,
	type pmd_t,
	pmd_trans_huge,
	type pte_t,
	pud_devmap,
	pud_trans_huge,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import type { spinlock_t } from '../../include/linux/spinlock.ts';
import {
	softleaf_from_pmd,
	softleaf_is_device_private,
	softleaf_is_migration,
} from '../../include/linux/swapops.ts';
import type { out, unsigned_long } from '../../include/linux/types.ts';
import { preemptible, type Sim, schedulePoint } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { spin_lock, spin_lock_nested, spin_unlock } from '../../kernel/locking/spinlock.ts';
import { rcu_read_lock, rcu_read_unlock } from '../../kernel/rcu/tree.ts';
import {
	pmd_lock,
	pmd_none_or_clear_bad,
	pte_lockptr,
	pte_offset_kernel,
	pud_lock,
} from './alloc.ts';

/**
 * A pte as it is; the caller holds the table's lock.
 *
 * @param ptep - the entry
 * @kernel include/linux/pgtable.h
 */
export function ptep_get(ptep: TableEntry): pte_t {
	return ptep.value;
}

/**
 * A pmd as it is; the caller holds the table's lock.
 *
 * @param pmdp - the entry
 * @kernel include/linux/pgtable.h
 */
export function pmdp_get(pmdp: TableEntry): pmd_t {
	return pmdp.value;
}

/**
 * A pte read without its lock.
 *
 * @param ptep - the entry
 * @kernel include/linux/pgtable.h
 */
export function* ptep_get_lockless(ptep: TableEntry): Sim<pte_t> {
	if (preemptible()) yield schedulePoint('pte-read', ptep.table, 'entries', ptep.index, 1);
	return ptep.value;
}

/**
 * A pmd read without its lock.
 *
 * @param pmdp - the entry
 * @kernel include/linux/pgtable.h
 */
export function* pmdp_get_lockless(pmdp: TableEntry): Sim<pmd_t> {
	if (preemptible()) yield schedulePoint('pte-read', pmdp.table, 'entries', pmdp.index, 1);
	return pmdp.value;
}

/**
 * The pte of an address, its table kept by an RCU read section, and the pmd that led to it.
 *
 * @param pmd - pmd entry of the address
 * @param addr - the address
 * @param pmdvalp - out: the pmd as it was read
 * @returns null when the pmd points to no table
 * @context Atomic until pte_unmap().
 * @kernel mm/pgtable-generic.c
 */
export function* __pte_offset_map(
	pmd: TableEntry,
	addr: unsigned_long,
	pmdvalp: out<pmd_t> | null,
): Sim<TableEntry | null> {
	rcu_read_lock();
	const pmdval = preemptible() ? yield* pmdp_get_lockless(pmd) : pmd.value;
	if (pmdvalp !== null) pmdvalp.value = pmdval;
	return mapTable(pmd, addr, pmdval);
}

/** The pte of an address below a pmd that was read; null, and out of the RCU section: no table. */
function mapTable(pmd: TableEntry, addr: unsigned_long, pmdval: pmd_t): TableEntry | null {
	if (pmd_none(pmdval) || !pmd_present(pmdval) || pmd_trans_huge(pmdval)) {
		rcu_read_unlock();
		return null;
	}
	if (pmd_bad(pmdval)) {
		pmd_none_or_clear_bad(pmd);
		rcu_read_unlock();
		return null;
	}
	return pte_offset_kernel(pmd, addr);
}

/**
 * The pte of an address, its table kept by an RCU read section.
 *
 * @param pmd - pmd entry of the address
 * @param addr - the address
 * @returns null when the pmd points to no table
 * @context Atomic until pte_unmap().
 * @kernel include/linux/mm.h
 */
export function* pte_offset_map(pmd: TableEntry, addr: unsigned_long): Sim<TableEntry | null> {
	return yield* __pte_offset_map(pmd, addr, null);
}

/**
 * Leave what pte_offset_map() entered.
 *
 * @param _pte - the entry
 * @kernel include/linux/pgtable.h
 */
export function* pte_unmap(_pte: TableEntry): Sim<void> {
	rcu_read_unlock();
}

/**
 * The pte of an address and the lock of its table, not taken.
 *
 * @param mm - address space
 * @param pmd - pmd entry of the address
 * @param addr - the address
 * @param pmdvalp - out: the pmd as it was read; compare it again under the lock
 * @param ptlp - out: the lock
 * @returns null when the pmd points to no table
 * @context Atomic until pte_unmap().
 * @kernel mm/pgtable-generic.c
 */
export function* pte_offset_map_rw_nolock(
	mm: mm_struct,
	pmd: TableEntry,
	addr: unsigned_long,
	pmdvalp: out<pmd_t>,
	ptlp: out<spinlock_t | null>,
): Sim<TableEntry | null> {
	const pte = yield* __pte_offset_map(pmd, addr, pmdvalp);
	if (pte !== null) ptlp.value = pte_lockptr(mm, pmd);
	return pte;
}

/** pte_offset_map_lock() and its nested form. */
function* mapLock(
	mm: mm_struct,
	pmd: TableEntry,
	addr: unsigned_long,
	ptlp: out<spinlock_t | null>,
	subclass: number,
): Sim<TableEntry | null> {
	for (;;) {
		// as __pte_offset_map(), but without a generator more
		rcu_read_lock();
		const pmdval = preemptible() ? yield* pmdp_get_lockless(pmd) : pmd.value;
		const pte = mapTable(pmd, addr, pmdval);
		if (pte === null) return null;
		const ptl = pte_lockptr(mm, pmd);
		if (subclass === 0) yield* spin_lock(ptl);
		else yield* spin_lock_nested(ptl, subclass);
		if (pmd.value === pmdval) {
			ptlp.value = ptl;
			return pte;
		}
		yield* pte_unmap_unlock(pte, ptl);
	}
}

/**
 * The pte of an address, its table locked.
 *
 * @param mm - address space
 * @param pmd - pmd entry of the address
 * @param addr - the address
 * @param ptlp - out: the lock, held
 * @returns null when the pmd points to no table; then nothing is held
 * @context Atomic until pte_unmap_unlock().
 * @kernel mm/pgtable-generic.c
 */
export function* pte_offset_map_lock(
	mm: mm_struct,
	pmd: TableEntry,
	addr: unsigned_long,
	ptlp: out<spinlock_t | null>,
): Sim<TableEntry | null> {
	return yield* mapLock(mm, pmd, addr, ptlp, 0);
}

/**
 * pte_offset_map_lock() while the lock of another pte table is held, as fork does.
 *
 * @param mm - address space
 * @param pmd - pmd entry of the address
 * @param addr - the address
 * @param ptlp - out: the lock, held
 * @param subclass - SINGLE_DEPTH_NESTING
 * @returns null when the pmd points to no table; then nothing is held
 * @context Atomic until pte_unmap_unlock().
 */
export function* pteOffsetMapLockNested(
	mm: mm_struct,
	pmd: TableEntry,
	addr: unsigned_long,
	ptlp: out<spinlock_t | null>,
	subclass: number,
): Sim<TableEntry | null> {
	return yield* mapLock(mm, pmd, addr, ptlp, subclass);
}

/**
 * Leave what pte_offset_map_lock() took.
 *
 * @param _pte - the entry
 * @param ptl - the lock
 * @kernel include/linux/mm.h
 */
export function* pte_unmap_unlock(_pte: TableEntry, ptl: spinlock_t | null): Sim<void> {
	if (ptl !== null) yield* spin_unlock(ptl);
	// pte_unmap(), which has no schedule point
	rcu_read_unlock();
}

/**
 * Lock a pmd that is a leaf: a huge page, or a huge entry that is not present.
 *
 * @param pmd - the entry
 * @param vma - VMA of the address
 * @returns the lock, held; null when the entry is no leaf
 * @kernel include/linux/huge_mm.h
 */
export function* pmd_trans_huge_lock(pmd: TableEntry, vma: vm_area_struct): Sim<spinlock_t | null> {
	if (!pmdIsHuge(yield* pmdp_get_lockless(pmd))) return null;
	const ptl = yield* pmd_lock(vma.vm_mm, pmd);
	if (pmdIsHuge(pmd.value)) return ptl;
	yield* spin_unlock(ptl);
	return null;
}

/**
 * Whether a pmd is a leaf of any kind (pmd_is_huge() of 7.3).
 *
 * @param pmd - the word
 */
export function pmdIsHuge(pmd: pmd_t): boolean {
	if (pmd_none(pmd)) return false;
	if (pmd_present(pmd)) return pmd_trans_huge(pmd);
	const entry = softleaf_from_pmd(pmd);
	if (softleaf_is_migration(entry)) return true;
	return feature('device_private_thp') && softleaf_is_device_private(entry);
}

/**
 * Lock a pud that is a leaf.
 *
 * @param pud - the entry
 * @param vma - VMA of the address
 * @returns the lock, held; null when the entry is no leaf
 * @kernel include/linux/huge_mm.h
 */
export function* pud_trans_huge_lock(pud: TableEntry, vma: vm_area_struct): Sim<spinlock_t | null> {
	if (!pudIsHuge(pud.value)) return null;
	const ptl = yield* pud_lock(vma.vm_mm, pud);
	if (pudIsHuge(pud.value)) return ptl;
	yield* spin_unlock(ptl);
	return null;
}

function pudIsHuge(pud: bigint): boolean {
	return pud_trans_huge(pud) || (feature('devmap_entries') && pud_devmap(pud));
}
