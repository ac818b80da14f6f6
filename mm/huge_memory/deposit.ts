// SPDX-License-Identifier: GPL-2.0-only
/**
 * Page tables in reserve: each huge pmd of anonymous memory has deposited one, so that splitting it
 * never fails for lack of memory. They are counted as if they were linked.
 */
import { BUG_ON } from '../../include/linux/bug.ts';
import type { mm_struct } from '../../include/linux/mm_types.ts';
import type { TableEntry } from '../../include/linux/pgtable.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { freeTable } from '../pgtable/alloc.ts';

/**
 * Put a page table in reserve for a huge pmd.
 *
 * @param mm - address space
 * @param pmdp - the entry
 * @param pgtable - PFN of the table, all of it empty
 * @context The lock of the pmd is held.
 * @kernel mm/pgtable-generic.c
 */
export function pgtable_trans_huge_deposit(mm: mm_struct, pmdp: TableEntry, pgtable: number): void {
	const there = mm.pmd_huge_pte.get(pmdp.pfn);
	if (there === undefined) mm.pmd_huge_pte.set(pmdp.pfn, [pgtable]);
	else there.push(pgtable);
}

/**
 * Take a page table out of the reserve of a huge pmd. Nobody can tell the tables of one pmd table
 * apart.
 *
 * @param mm - address space
 * @param pmdp - the entry
 * @returns PFN of the table
 * @context The lock of the pmd is held.
 * @kernel mm/pgtable-generic.c
 */
export function pgtable_trans_huge_withdraw(mm: mm_struct, pmdp: TableEntry): number {
	const there = mm.pmd_huge_pte.get(pmdp.pfn);
	const pgtable = there?.pop();
	BUG_ON(pgtable === undefined, 'huge pmd without deposited page table');
	if (there!.length === 0) mm.pmd_huge_pte.delete(pmdp.pfn);
	return pgtable as number;
}

/**
 * Give the page table back that was in reserve for a huge pmd.
 *
 * @param mm - address space
 * @param pmd - the entry
 * @context The lock of the pmd is held.
 * @kernel mm/huge_memory.c
 */
export function* zap_deposited_table(mm: mm_struct, pmd: TableEntry): Sim<void> {
	yield* freeTable(mm, pgtable_trans_huge_withdraw(mm, pmd));
}
