// SPDX-License-Identifier: GPL-2.0-only
/**
 * Giving page tables back when VMAs go.
 *
 * Guarantee: a table is freed when no VMA is left that could use it: when all addresses that it
 * serves lie between the neighbours that stay, `floor` and `ceiling`. Mechanism: the range to free
 * is rounded outwards to whole tables, then cut back where a neighbour lives in the same one.
 *
 * ```
 *        floor                                    ceiling
 *   prev ]        |vma going|      |vma going|     [ next
 *   ----+----pmd----+----pmd----+----pmd----+----pmd----
 *        kept: prev    freed       freed       kept: next is in it
 * ```
 *
 * These are of mm/memory.c; they are a file of their own because they need rmap.
 */
import type { vm_area_struct } from '../include/linux/mm_types.ts';
import {
	pgd_addr_end,
	pmd_addr_end,
	pmd_pfn,
	pud_addr_end,
	pud_pfn,
	type TableEntry,
} from '../include/linux/pgtable.ts';
import {
	PGDIR_MASK,
	PMD_MASK,
	PMD_SIZE,
	PUD_MASK,
	type unsigned_long,
} from '../include/linux/types.ts';
import { preemptible, type Sim, schedulePoint } from '../include/sim/schedule.ts';
import { type mmu_gather, tlb_remove_table } from './mmu_gather.ts';
import {
	nextEntry,
	pgd_none_or_clear_bad,
	pgd_offset,
	pmd_none_or_clear_bad,
	pmd_offset,
	pud_none_or_clear_bad,
	pud_offset,
} from './pgtable.ts';
import { unlink_anon_vmas } from './rmap.ts';
import { unlink_file_vma } from './vma/area.ts';

export const FIRST_USER_ADDRESS: unsigned_long = 0n;
/** 0 stands for the end of the address space. */
export const USER_PGTABLES_CEILING: unsigned_long = 0n;

function u64(value: bigint): bigint {
	return BigInt.asUintN(64, value);
}

/**
 * Whether [start rounded down, end) with its whole table lies between floor and ceiling.
 *
 * @param mask - of what one table serves
 */
function tableIsFree(
	start: bigint,
	end: bigint,
	floor: bigint,
	ceiling: bigint,
	mask: bigint,
): boolean {
	if ((start & mask) < floor) return false;
	if (ceiling === 0n) return true;
	const last = ceiling & mask;
	return last !== 0n && end - 1n <= last - 1n;
}

/** Empties an entry and hands the table below it over. */
function* unlinkTable(tlb: mmu_gather, entry: TableEntry, pfn: number, addr: bigint): Sim<void> {
	if (preemptible()) yield schedulePoint('pte-write', entry.table, 'entries', entry.index, 1);
	entry.value = 0n;
	tlb_remove_table(tlb, pfn, addr);
}

function* free_pmd_range(
	tlb: mmu_gather,
	pud: TableEntry,
	addr: bigint,
	end: bigint,
	floor: bigint,
	ceiling: bigint,
): Sim<void> {
	let pmd = pmd_offset(pud, addr);
	for (let at = addr; ; pmd = nextEntry(pmd)) {
		const next = pmd_addr_end(at, end);
		if (!pmd_none_or_clear_bad(pmd))
			yield* unlinkTable(tlb, pmd, Number(pmd_pfn(pmd.value)), at);
		at = next;
		if (at === end) break;
	}
	if (tableIsFree(addr, end, floor, ceiling, PUD_MASK))
		yield* unlinkTable(tlb, pud, Number(pud_pfn(pud.value)), addr);
}

function* free_pud_range(
	tlb: mmu_gather,
	pgd: TableEntry,
	addr: bigint,
	end: bigint,
	floor: bigint,
	ceiling: bigint,
): Sim<void> {
	let pud = pud_offset(pgd, addr);
	for (let at = addr; ; pud = nextEntry(pud)) {
		const next = pud_addr_end(at, end);
		if (!pud_none_or_clear_bad(pud))
			yield* free_pmd_range(tlb, pud, at, next, floor, ceiling);
		at = next;
		if (at === end) break;
	}
	if (tableIsFree(addr, end, floor, ceiling, PGDIR_MASK))
		yield* unlinkTable(tlb, pgd, Number(pud_pfn(pgd.value)), addr);
}

/**
 * Free the page tables of a range in which nothing is mapped any more.
 *
 * @param tlb - the gather
 * @param addr - first address
 * @param end - exclusive
 * @param floor - end of what is in use below
 * @param ceiling - start of what is in use above; 0: nothing is
 * @context The mmap lock is held, the VMAs are out of reach of rmap.
 * @kernel mm/memory.c
 */
export function* free_pgd_range(
	tlb: mmu_gather,
	addr: unsigned_long,
	end: unsigned_long,
	floor: unsigned_long,
	ceiling: unsigned_long,
): Sim<void> {
	let from = addr & PMD_MASK;
	if (from < floor) from += PMD_SIZE;
	let to = end;
	let above = ceiling;
	if (above !== 0n) {
		above &= PMD_MASK;
		if (above === 0n) return;
	}
	if (u64(to - 1n) > u64(above - 1n)) to -= PMD_SIZE;
	if (from > u64(to - 1n)) return;
	let pgd = pgd_offset(tlb.mm, from);
	for (let at = from; ; pgd = nextEntry(pgd)) {
		const next = pgd_addr_end(at, to);
		if (!pgd_none_or_clear_bad(pgd))
			yield* free_pud_range(tlb, pgd, at, next, floor, above);
		at = next;
		if (at === to) return;
	}
}

/**
 * Free the page tables of VMAs that go, and take these out of rmap first.
 *
 * @param tlb - the gather
 * @param vmas - the VMAs, by address, taken out of the mm already
 * @param floor - end of the VMA in front that stays, or FIRST_USER_ADDRESS
 * @param ceiling - start of the VMA behind that stays, or USER_PGTABLES_CEILING
 * @context Sleeps. The mmap lock is held.
 * @deviates the VMAs come as a list; the kernel walks a maple tree of them
 * @kernel mm/memory.c
 */
export function* free_pgtables(
	tlb: mmu_gather,
	vmas: readonly vm_area_struct[],
	floor: unsigned_long,
	ceiling: unsigned_long,
): Sim<void> {
	for (let i = 0; i < vmas.length; ) {
		const addr = vmas[i]!.vm_start;
		let last: vm_area_struct;
		// VMAs near each other share tables: free these in one go
		do {
			last = vmas[i++]!;
			yield* unlink_anon_vmas(last);
			yield* unlink_file_vma(last);
		} while (i < vmas.length && vmas[i]!.vm_start <= last.vm_end + PMD_SIZE);
		yield* free_pgd_range(tlb, addr, last.vm_end, floor, vmas[i]?.vm_start ?? ceiling);
	}
}
