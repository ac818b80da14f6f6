// SPDX-License-Identifier: GPL-2.0-only
/**
 * struct mmu_gather: what unmapping has taken out of page tables and must not give back before the
 * TLBs are flushed.
 *
 * Guarantee: a page or a table handed to the gather is freed only after a flush of the range that
 * was changed. Mechanism: lists, and the hull of the changed addresses. Duty: tlb_gather_mmu() and
 * tlb_finish_mmu() in pairs; the address of every removed entry is told.
 */
import type { mm_struct, page } from '../include/linux/mm_types.ts';
import type { TableEntry } from '../include/linux/pgtable.ts';
import { type bool, PAGE_SIZE, ULONG_MAX, type unsigned_long } from '../include/linux/types.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { synchronize_rcu } from '../kernel/rcu/tree.ts';
import { freeTable } from './pgtable/alloc.ts';
import { put_page } from './swap.ts';
import {
	dec_tlb_flush_pending,
	flush_tlb_mm,
	flush_tlb_mm_range,
	inc_tlb_flush_pending,
} from './tlb.ts';

/** Pages that one gather holds before it wants to be flushed. */
export const MAX_GATHER_PAGES = 10_000;

/**
 * One run of unmapping.
 *
 * @kernel include/asm-generic/tlb.h
 */
export class mmu_gather {
	mm: mm_struct;
	/** Hull of what was changed; empty while start is above end. */
	start: unsigned_long = ULONG_MAX;
	end: unsigned_long = 0n;
	/** The whole address space goes. */
	fullmm = false;
	/** Their references are put after the flush. */
	pages: page[] = [];
	/** PFNs of page tables that are freed after the flush. */
	tables: number[] = [];

	/** @param mm - address space */
	constructor(mm: mm_struct) {
		this.mm = mm;
	}
}

/**
 * Begin to unmap a part of an address space.
 *
 * @param mm - address space
 * @deviates returns the gather; C fills one on the stack
 * @kernel mm/mmu_gather.c
 */
export function tlb_gather_mmu(mm: mm_struct): mmu_gather {
	inc_tlb_flush_pending(mm);
	return new mmu_gather(mm);
}

/**
 * Begin to unmap all of an address space that nobody uses any more.
 *
 * @param mm - address space
 * @deviates returns the gather; C fills one on the stack
 * @kernel mm/mmu_gather.c
 */
export function tlb_gather_mmu_fullmm(mm: mm_struct): mmu_gather {
	const tlb = tlb_gather_mmu(mm);
	tlb.fullmm = true;
	return tlb;
}

/**
 * Say that entries of a range have changed.
 *
 * @param tlb - the gather
 * @param address - first address
 * @param size - in bytes
 * @kernel include/asm-generic/tlb.h
 */
export function tlb_flush_pte_range(
	tlb: mmu_gather,
	address: unsigned_long,
	size: unsigned_long,
): void {
	if (address < tlb.start) tlb.start = address;
	if (address + size > tlb.end) tlb.end = address + size;
}

/**
 * Say that the pte of a page was removed.
 *
 * @param tlb - the gather
 * @param _ptep - the entry
 * @param address - its address
 * @kernel include/asm-generic/tlb.h
 */
export function tlb_remove_tlb_entry(
	tlb: mmu_gather,
	_ptep: TableEntry,
	address: unsigned_long,
): void {
	tlb_flush_pte_range(tlb, address, PAGE_SIZE);
}

/**
 * Hand a page over whose reference is put after the flush.
 *
 * @param tlb - the gather
 * @param p - the page
 * @returns whether the gather is full: then tlb_flush_mmu() as soon as no lock is held
 * @kernel include/asm-generic/tlb.h (gone in 7.x)
 */
export function __tlb_remove_page(tlb: mmu_gather, p: page): bool {
	tlb.pages.push(p);
	return tlb.pages.length >= MAX_GATHER_PAGES;
}

/**
 * Hand a page over whose reference is put after the flush, and flush if that is due.
 *
 * @param tlb - the gather
 * @param p - the page
 * @kernel include/asm-generic/tlb.h
 */
export function* tlb_remove_page(tlb: mmu_gather, p: page): Sim<void> {
	if (__tlb_remove_page(tlb, p)) yield* tlb_flush_mmu(tlb);
}

/**
 * Hand a page table over that nothing points to any more.
 *
 * @param tlb - the gather
 * @param pfn - PFN of the table
 * @param address - first address that it was for
 * @kernel include/asm-generic/tlb.h
 */
export function tlb_remove_table(tlb: mmu_gather, pfn: number, address: unsigned_long): void {
	tlb.tables.push(pfn);
	tlb_flush_pte_range(tlb, address, PAGE_SIZE);
}

/**
 * Flush the TLBs for what was changed so far.
 *
 * @param tlb - the gather
 * @kernel include/asm-generic/tlb.h
 */
export function* tlb_flush_mmu_tlbonly(tlb: mmu_gather): Sim<void> {
	if (tlb.start >= tlb.end) return;
	// paging-structure caches have no address of their own: tables going away flush everything
	if (tlb.fullmm || tlb.tables.length > 0) yield* flush_tlb_mm(tlb.mm);
	else yield* flush_tlb_mm_range(tlb.mm, tlb.start, tlb.end);
	tlb.start = ULONG_MAX;
	tlb.end = 0n;
}

/**
 * Flush the TLBs, then give back what waited for it.
 *
 * @param tlb - the gather
 * @context Sleeps if page tables go.
 * @deviates tables are freed after a grace period that is waited for, as the kernel does when it has
 *   no memory to remember them
 * @kernel mm/mmu_gather.c
 */
export function* tlb_flush_mmu(tlb: mmu_gather): Sim<void> {
	yield* tlb_flush_mmu_tlbonly(tlb);
	const { pages, tables } = tlb;
	tlb.pages = [];
	tlb.tables = [];
	for (const p of pages) yield* put_page(p);
	if (tables.length === 0) return;
	// who stands on a pte without a lock is inside an RCU read section
	yield* synchronize_rcu();
	for (const pfn of tables) yield* freeTable(tlb.mm, pfn);
}

/**
 * End a run of unmapping.
 *
 * @param tlb - the gather
 * @kernel mm/mmu_gather.c
 */
export function* tlb_finish_mmu(tlb: mmu_gather): Sim<void> {
	// somebody else changes entries without having flushed yet: what we saw empty may be cached
	if (tlb.mm.tlb_flush_pending > 1 && tlb.start < tlb.end) tlb.fullmm = true;
	yield* tlb_flush_mmu(tlb);
	dec_tlb_flush_pending(tlb.mm);
}
