// SPDX-License-Identifier: GPL-2.0-only
/**
 * Page tables: getting from one level to the next, making the tables, and their locks.
 *
 * Guarantee: a table is a page of RAM that the hardware walks; a pointer to an entry is valid as
 * long as its table is linked or an RCU read section, the page-table lock, or the mmap lock keeps
 * it. Mechanism: four levels of x86-64. Tables are counted in `mm.pgtables`; the lock of a pmd or
 * pte table is made when it is first taken and goes with the table.
 *
 * ```
 *   mm.pgd (a PFN)
 *     [pgd] 512 GiB each --> [pud] 1 GiB each --> [pmd] 2 MiB each --> [pte] 4 KiB each
 *       page_table_lock        page_table_lock       ptl of the pmd table  ptl of the pte table
 * ```
 */

import { fileReport } from '../../include/linux/bug.ts';
import { ENOMEM } from '../../include/linux/errno.ts';
import type { mm_struct } from '../../include/linux/mm_types.ts';
import { pfn_to_page } from '../../include/linux/mmzone.ts';
import { PG_table } from '../../include/linux/page-flags.ts';
import {
	_PAGE_TABLE,
	pgd_index,
	pgd_none,
	pmd_bad,
	pmd_index,
	pmd_none,
	pte_index,
	pud_index,
	pud_none,
	TableEntry,
} from '../../include/linux/pgtable.ts';
import { current } from '../../include/linux/sched.ts';
import { spinlock_t } from '../../include/linux/spinlock.ts';
import {
	__GFP_ZERO,
	type bool,
	GFP_KERNEL,
	type int,
	type unsigned_long,
} from '../../include/linux/types.ts';
import { preemptible, type Sim, schedulePoint } from '../../include/sim/schedule.ts';
import { lockdep_assert_held } from '../../kernel/locking/lockdep.ts';
import { spin_lock, spin_unlock } from '../../kernel/locking/spinlock.ts';
import { __free_pages, alloc_pages, frameOf } from '../page_alloc.ts';

function entryAt(pfn: number, index: number): TableEntry {
	return new TableEntry(frameOf(pfn), pfn, index);
}

/**
 * The top-level entry of an address.
 *
 * @param mm - address space
 * @param address - the address
 * @kernel include/linux/pgtable.h
 */
export function pgd_offset(mm: mm_struct, address: unsigned_long): TableEntry {
	return entryAt(mm.pgd, pgd_index(address));
}

/**
 * The pud entry of an address. The p4d level is folded into the pgd.
 *
 * @param pgd - its top-level entry, which points to a table
 * @param address - the address
 * @kernel include/linux/pgtable.h
 */
export function pud_offset(pgd: TableEntry, address: unsigned_long): TableEntry {
	return entryAt(pgd.pointsTo, pud_index(address));
}

/**
 * The pmd entry of an address.
 *
 * @param pud - its pud entry, which points to a table
 * @param address - the address
 * @kernel include/linux/pgtable.h
 */
export function pmd_offset(pud: TableEntry, address: unsigned_long): TableEntry {
	return entryAt(pud.pointsTo, pmd_index(address));
}

/**
 * The pte entry of an address, without any guard against the table going away.
 *
 * @param pmd - its pmd entry, which points to a table
 * @param address - the address
 * @kernel include/linux/pgtable.h
 */
export function pte_offset_kernel(pmd: TableEntry, address: unsigned_long): TableEntry {
	return entryAt(pmd.pointsTo, pte_index(address));
}

/**
 * The entry `n` places behind another of the same table: C's `pte + n`.
 *
 * @param entry - an entry
 * @param n - distance
 */
export function nextEntry(entry: TableEntry, n = 1): TableEntry {
	return new TableEntry(entry.table, entry.pfn, entry.index + n);
}

/** Empties an entry that makes no sense, and says so. */
function clearBad(entry: TableEntry, level: string): void {
	const word = entry.value.toString(16).padStart(16, '0');
	fileReport('BUG', `mm: bad ${level} ${word}`, [`found by ${current().comm}`]);
	entry.value = 0n;
}

/**
 * Whether a pgd (or the p4d folded into it) points nowhere.
 *
 * @param pgd - the entry
 * @kernel include/linux/pgtable.h
 */
export function pgd_none_or_clear_bad(pgd: TableEntry): bool {
	return pgd_none(pgd.value);
}

/**
 * Whether a pmd points to no pte table: empty, a leaf, not present, or bad, in which case it is
 * reported and emptied.
 *
 * @param pmd - the entry
 * @kernel include/linux/pgtable.h
 */
export function pmd_none_or_clear_bad(pmd: TableEntry): bool {
	if (pmd_none(pmd.value)) return true;
	if (!pmd_bad(pmd.value)) return false;
	clearBad(pmd, 'pmd');
	return true;
}

/**
 * Whether a pud points to no pmd table.
 *
 * @param pud - the entry
 * @kernel include/linux/pgtable.h
 */
export function pud_none_or_clear_bad(pud: TableEntry): bool {
	if (pud_none(pud.value)) return true;
	if (!pmd_bad(pud.value as bigint)) return false;
	clearBad(pud, 'pud');
	return true;
}

/** A zeroed page for a table, counted. */
function* allocTable(mm: mm_struct): Sim<number> {
	const p = yield* alloc_pages(GFP_KERNEL | __GFP_ZERO, 0);
	if (p === null) return 0;
	p.flags |= PG_table;
	mm.pgtables++;
	const pfn = p.sec.base + p.idx;
	frameOf(pfn);
	return pfn;
}

/**
 * Give the page of a table back, with its lock.
 *
 * @param mm - address space that it is counted in
 * @param pfn - PFN of the table
 * @kernel include/linux/mm.h (as pagetable_free)
 */
export function* freeTable(mm: mm_struct, pfn: number): Sim<void> {
	mm.ptl.delete(pfn);
	mm.pgtables--;
	const p = pfn_to_page(BigInt(pfn));
	p.flags &= ~PG_table;
	yield* __free_pages(p, 0);
}

/**
 * Make the top-level table of an address space.
 *
 * @param mm - address space
 * @returns PFN of the table, 0 when there is no memory
 * @context Sleeps.
 * @kernel arch/x86/mm/pgtable.c
 */
export function* pgd_alloc(mm: mm_struct): Sim<number> {
	return yield* allocTable(mm);
}

/**
 * Free the top-level table of an address space.
 *
 * @param mm - address space
 * @param pgd - PFN of the table
 * @kernel arch/x86/mm/pgtable.c
 */
export function* pgd_free(mm: mm_struct, pgd: number): Sim<void> {
	yield* freeTable(mm, pgd);
}

/** Links a new table under `entry` unless somebody else was faster; under `lock`. */
function* populate(mm: mm_struct, entry: TableEntry, lock: spinlock_t | null): Sim<int> {
	const pfn = yield* allocTable(mm);
	if (pfn === 0) return -ENOMEM;
	const ptl = lock ?? pmd_lockptr(mm, entry);
	yield* spin_lock(ptl);
	const won = entry.value === 0n;
	if (won) {
		if (preemptible())
			yield schedulePoint('pte-write', entry.table, 'entries', entry.index, 1);
		entry.value = (BigInt(pfn) << 12n) | _PAGE_TABLE;
	}
	yield* spin_unlock(ptl);
	if (!won) yield* freeTable(mm, pfn);
	return 0;
}

/**
 * The pud entry of an address, with the table that it is in.
 *
 * @param mm - address space
 * @param pgd - top-level entry of the address
 * @param address - the address
 * @returns null when there is no memory
 * @context Sleeps. The mmap lock is held.
 * @kernel include/linux/mm.h
 */
export function* pud_alloc(
	mm: mm_struct,
	pgd: TableEntry,
	address: unsigned_long,
): Sim<TableEntry | null> {
	if (pgd_none(pgd.value) && (yield* populate(mm, pgd, mm.page_table_lock)) < 0) return null;
	return pud_offset(pgd, address);
}

/**
 * The pmd entry of an address, with the table that it is in.
 *
 * @param mm - address space
 * @param pud - pud entry of the address
 * @param address - the address
 * @returns null when there is no memory
 * @context Sleeps. The mmap lock is held.
 * @kernel include/linux/mm.h
 */
export function* pmd_alloc(
	mm: mm_struct,
	pud: TableEntry,
	address: unsigned_long,
): Sim<TableEntry | null> {
	if (pud_none(pud.value) && (yield* populate(mm, pud, mm.page_table_lock)) < 0) return null;
	return pmd_offset(pud, address);
}

/**
 * See to it that a pmd has a pte table.
 *
 * @param mm - address space
 * @param pmd - the entry
 * @param _address - its address; the kernel does not look at it either
 * @retval 0 it has one, or is a leaf
 * @retval -ENOMEM there is no memory
 * @context Sleeps. The mmap lock is held.
 * @deviates the address comes from the brief's prototype; C's pte_alloc() has two parameters
 * @kernel include/linux/mm.h
 */
export function* pte_alloc(mm: mm_struct, pmd: TableEntry, _address?: unsigned_long): Sim<int> {
	return pmd_none(pmd.value) ? yield* populate(mm, pmd, null) : 0;
}

/**
 * Make a pte table that nothing points to yet.
 *
 * @param mm - address space that it is counted in
 * @returns PFN of the table, 0 when there is no memory
 * @context Sleeps.
 * @kernel include/asm-generic/pgalloc.h
 */
export function* pte_alloc_one(mm: mm_struct): Sim<number> {
	return yield* allocTable(mm);
}

/**
 * Let a pmd point to a pte table.
 *
 * @param _mm - address space
 * @param pmd - the entry
 * @param pte - PFN of the table
 * @context The lock of the pmd is held.
 * @kernel arch/x86/include/asm/pgalloc.h
 */
export function* pmd_populate(_mm: mm_struct, pmd: TableEntry, pte: number): Sim<void> {
	if (preemptible()) yield schedulePoint('pte-write', pmd.table, 'entries', pmd.index, 1);
	pmd.value = (BigInt(pte) << 12n) | _PAGE_TABLE;
}

/**
 * The pmd entry of an address, whatever is in it.
 *
 * @param mm - address space
 * @param address - the address
 * @returns null when the tables above it are not there
 * @kernel mm/rmap.c
 */
export function mm_find_pmd(mm: mm_struct, address: unsigned_long): TableEntry | null {
	const pgd = pgd_offset(mm, address);
	if (pgd_none(pgd.value)) return null;
	const pud = pud_offset(pgd, address);
	return pud_none_or_clear_bad(pud) ? null : pmd_offset(pud, address);
}

function lockOf(mm: mm_struct, pfn: number): spinlock_t {
	let lock = mm.ptl.get(pfn);
	if (lock === undefined) {
		lock = new spinlock_t('ptlock_ptr(ptdesc)');
		mm.ptl.set(pfn, lock);
	}
	return lock;
}

/**
 * The lock of the pte table that a pmd points to.
 *
 * @param mm - address space
 * @param pmd - points to a table
 * @kernel include/linux/mm.h
 */
export function pte_lockptr(mm: mm_struct, pmd: TableEntry): spinlock_t {
	return lockOf(mm, pmd.pointsTo);
}

/**
 * The lock of the pmd table that an entry is in.
 *
 * @param mm - address space
 * @param pmd - the entry
 * @kernel include/linux/mm.h
 */
export function pmd_lockptr(mm: mm_struct, pmd: TableEntry): spinlock_t {
	return lockOf(mm, pmd.pfn);
}

/**
 * Take the lock of the pmd table that an entry is in.
 *
 * @param mm - address space
 * @param pmd - the entry
 * @returns the lock, held
 * @kernel include/linux/mm.h
 */
export function* pmd_lock(mm: mm_struct, pmd: TableEntry): Sim<spinlock_t> {
	const ptl = pmd_lockptr(mm, pmd);
	yield* spin_lock(ptl);
	return ptl;
}

/**
 * Take the lock under which pud entries change.
 *
 * @param mm - address space
 * @param _pud - the entry
 * @returns the lock, held
 * @kernel include/linux/mm.h
 */
export function* pud_lock(mm: mm_struct, _pud: TableEntry): Sim<spinlock_t> {
	yield* spin_lock(mm.page_table_lock);
	return mm.page_table_lock;
}

/**
 * Report if the lock of a pte table is not held.
 *
 * @param mm - address space
 * @param pte - entry of the table
 */
export function assertPtl(mm: mm_struct, pte: TableEntry): void {
	lockdep_assert_held(lockOf(mm, pte.pfn));
}
