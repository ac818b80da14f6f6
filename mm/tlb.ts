// SPDX-License-Identifier: GPL-2.0-only
/**
 * TLB shootdown.
 *
 * Guarantee: when a flush returns, no CPU in the mm's bitmap translates by an entry that was in its
 * TLB before. Mechanism: the entries of an address space carry the PFN of its top-level table; every
 * CPU that ever loaded it is in `mm.cpu_bitmap` and is told at once, as by an interrupt that is
 * waited for. Duty: an entry that takes a right away is flushed before anybody relies on it.
 */
import type { Tlb } from '../arch/sim/tlb.ts';
import {
	_PAGE_ACCESSED,
	_PAGE_DEVMAP,
	_PAGE_DIRTY,
	_PAGE_PRESENT,
	_PAGE_RW,
	_PAGE_SPECIAL,
	_PAGE_UFFD_WP,
} from '../include/asm/pgtable_types.ts';
import type { mm_struct, vm_area_struct } from '../include/linux/mm_types.ts';
import type { pmd_t, pte_t } from '../include/linux/pgtable.ts';
import { type bool, PAGE_SIZE, type unsigned_long } from '../include/linux/types.ts';
import { preemptible, type Sim, schedulePoint, touch } from '../include/sim/schedule.ts';
import { world } from '../include/sim/world.ts';

/** Above so many pages the whole address space is flushed, as x86 does. */
export const tlb_single_page_flush_ceiling = 33;

/** What is needed of a CPU here. */
interface FlushableCpu {
	readonly id: number;
	readonly tlb: Tlb;
	cr3: number;
}

function cpus(): readonly FlushableCpu[] {
	return (world().machine as { readonly cpus: readonly FlushableCpu[] }).cpus;
}

/**
 * Flush a range of an address space on every CPU that may know it.
 *
 * @param mm - address space
 * @param start - first address
 * @param end - exclusive
 * @context Any; waits for the other CPUs.
 * @kernel arch/x86/mm/tlb.c
 */
export function* flush_tlb_mm_range(
	mm: mm_struct,
	start: unsigned_long,
	end: unsigned_long,
): Sim<void> {
	if (preemptible()) yield schedulePoint('flush', mm, 'tlb');
	const { cpu_bitmap, pgd } = mm;
	if (cpu_bitmap.size === 0) return;
	const first = Number((start >> 12n) & 0xf_ffff_ffffn);
	const pages = Number((end - start + PAGE_SIZE - 1n) >> 12n);
	for (const { id, tlb } of cpus()) {
		if (!cpu_bitmap.has(id)) continue;
		if (pages > tlb_single_page_flush_ceiling) {
			touch('flush', tlb, 'entries');
			tlb.flush(pgd);
			continue;
		}
		touch('flush', tlb, 'entries', first, pages);
		for (let i = 0; i < pages; i++) tlb.invalidate(pgd, first + i);
	}
}

/**
 * Flush one page.
 *
 * @param vma - its VMA
 * @param addr - its address
 * @kernel arch/x86/include/asm/tlbflush.h
 */
export function* flush_tlb_page(vma: vm_area_struct, addr: unsigned_long): Sim<void> {
	yield* flush_tlb_mm_range(vma.vm_mm, addr, addr + PAGE_SIZE);
}

/**
 * Flush a range of a VMA.
 *
 * @param vma - the VMA
 * @param start - first address
 * @param end - exclusive
 * @kernel arch/x86/include/asm/tlbflush.h
 */
export function* flush_tlb_range(
	vma: vm_area_struct,
	start: unsigned_long,
	end: unsigned_long,
): Sim<void> {
	yield* flush_tlb_mm_range(vma.vm_mm, start, end);
}

/**
 * Flush a whole address space.
 *
 * @param mm - address space
 * @kernel arch/x86/include/asm/tlbflush.h
 */
export function* flush_tlb_mm(mm: mm_struct): Sim<void> {
	if (preemptible()) yield schedulePoint('flush', mm, 'tlb');
	if (mm.cpu_bitmap.size === 0) return;
	for (const { id, tlb } of cpus()) {
		if (!mm.cpu_bitmap.has(id)) continue;
		touch('flush', tlb, 'entries');
		tlb.flush(mm.pgd);
	}
}

/**
 * Say that page tables change under a page-table lock while the flush comes later, so that others
 * do not take a pte for what the hardware sees.
 *
 * @param mm - address space
 * @kernel include/linux/mm_inline.h
 */
export function inc_tlb_flush_pending(mm: mm_struct): void {
	mm.tlb_flush_pending++;
}

/**
 * The flush that inc_tlb_flush_pending() spoke of is done.
 *
 * @param mm - address space
 * @kernel include/linux/mm_inline.h
 */
export function dec_tlb_flush_pending(mm: mm_struct): void {
	mm.tlb_flush_pending--;
}

/**
 * Whether a flush of this mm is outstanding.
 *
 * @param mm - address space
 * @kernel include/linux/mm_inline.h
 */
export function mm_tlb_flush_pending(mm: mm_struct): boolean {
	return mm.tlb_flush_pending !== 0;
}

/**
 * Let a CPU translate by the page tables of an address space.
 *
 * @param cpu - the CPU
 * @param mm - address space
 */
export function loadMm(cpu: FlushableCpu, mm: mm_struct): void {
	if (cpu.cr3 === mm.pgd) return;
	cpu.cr3 = mm.pgd;
	mm.cpu_bitmap.add(cpu.id);
}

/**
 * Let no CPU know anything of an address space that goes: its top-level table will be something
 * else's.
 *
 * @param mm - address space
 */
export function unloadMm(mm: mm_struct): void {
	const { cpu_bitmap, pgd } = mm;
	if (cpu_bitmap.size === 0) return;
	for (const cpu of cpus()) {
		if (!cpu_bitmap.has(cpu.id)) continue;
		touch('flush', cpu.tlb, 'entries');
		cpu.tlb.flush(pgd);
		if (cpu.cr3 === pgd) cpu.cr3 = 0;
	}
	cpu_bitmap.clear();
}

/** Bits whose loss makes a TLB entry wrong; their gain does not: the hardware walks again. */
const FLUSH_ON_CLEAR = _PAGE_PRESENT | _PAGE_RW | _PAGE_DIRTY;
/** Bits that no TLB looks at. */
const NOT_CACHED = _PAGE_ACCESSED | _PAGE_SPECIAL | _PAGE_UFFD_WP | _PAGE_DEVMAP;

/**
 * Whether a TLB may hold more rights, or other ones, than the new entry gives.
 *
 * @param before - the entry that is replaced
 * @param after - the new one
 * @kernel arch/x86/include/asm/tlbflush.h
 */
export function pte_needs_flush(before: pte_t, after: pte_t): bool {
	if ((before & _PAGE_PRESENT) === 0n) return false;
	const diff = before ^ after;
	if ((diff & before & FLUSH_ON_CLEAR) !== 0n) return true;
	return (diff & ~(FLUSH_ON_CLEAR | NOT_CACHED)) !== 0n;
}

/**
 * pte_needs_flush() of a huge pmd.
 *
 * @param before - the entry that is replaced
 * @param after - the new one
 * @kernel arch/x86/include/asm/tlbflush.h
 */
export function huge_pmd_needs_flush(before: pmd_t, after: pmd_t): bool {
	return pte_needs_flush(before as bigint, after as bigint);
}
