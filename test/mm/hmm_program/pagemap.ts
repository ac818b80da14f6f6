// SPDX-License-Identifier: GPL-2.0-only
/** What /proc/PID/pagemap says of a page. */
import {
	pmd_leaf,
	pmd_none,
	pmd_present,
	pte_none,
	pte_present,
} from '../../../include/linux/pgtable.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import type { u64, unsigned_long } from '../../../include/linux/types.ts';
import { pgd_offset, pmd_offset, pte_offset_kernel, pud_offset } from '../../../mm/pgtable.ts';

/** Present in memory. */
export const PM_PRESENT: u64 = 1n << 63n;
/** An entry that is not present and not empty. */
export const PM_SWAP: u64 = 1n << 62n;

/**
 * The two bits that say where a page is; the others are 0.
 *
 * @param task - the process
 * @param addr - an address of the page
 */
export function pagemapEntry(task: task_struct, addr: unsigned_long): u64 {
	const pgd = pgd_offset(task.mm!, addr);
	if (pgd.value === 0n) return 0n;
	const pud = pud_offset(pgd, addr);
	if (pud.value === 0n) return 0n;
	const pmd = pmd_offset(pud, addr);
	if (pmd_none(pmd.value)) return 0n;
	if (!pmd_present(pmd.value)) return PM_SWAP;
	if (pmd_leaf(pmd.value)) return PM_PRESENT;
	const pte = pte_offset_kernel(pmd, addr).value;
	if (pte_none(pte)) return 0n;
	return pte_present(pte) ? PM_PRESENT : PM_SWAP;
}
