// SPDX-License-Identifier: GPL-2.0-only
/**
 * Taking pages out of page tables: munmap, madvise(DONTNEED), truncation, exit.
 *
 * Guarantee: a page is given back only after the TLBs are flushed, and whoever mirrors the range is
 * told before. Mechanism: an mmu_gather collects pages; the event is UNMAP for a mapping that goes,
 * CLEAR for one that stays. Duty: the mmap lock is held, or the VMAs are out of everybody's reach,
 * or (truncation) the rmap's semaphore is held.
 */
import { WARN_ON_ONCE } from '../../include/linux/bug.ts';
import { SINGLE_DEPTH_NESTING } from '../../include/linux/lockdep.ts';
import { is_vm_hugetlb_page, vma_is_anonymous } from '../../include/linux/mm.ts';
import {
	type folio,
	MM_SWAPENTS,
	NR_MM_COUNTERS,
	type page,
	page_folio,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import {
	MMU_NOTIFY_CLEAR,
	MMU_NOTIFY_UNMAP,
	mmu_notifier_range,
} from '../../include/linux/mmu_notifier.ts';
import { folio_test_anon } from '../../include/linux/page-flags.ts';
import {
	pgd_addr_end,
	pmd_addr_end,
	pmd_pfn,
	pte_dirty,
	pte_present,
	type pte_t,
	pud_addr_end,
	TableEntry,
} from '../../include/linux/pgtable.ts';
import type { spinlock_t } from '../../include/linux/spinlock.ts';
import {
	softleaf_from_pte,
	softleaf_is_device_exclusive,
	softleaf_is_device_private,
	softleaf_is_guard_marker,
	softleaf_is_hwpoison,
	softleaf_is_marker,
	softleaf_is_migration,
	softleaf_is_swap,
	softleaf_is_uffd_wp_marker,
	softleaf_to_folio,
	softleaf_to_page,
} from '../../include/linux/swapops.ts';
import {
	HPAGE_PMD_SIZE,
	type int,
	outParam,
	PAGE_SIZE,
	PMD_SIZE,
	type unsigned_long,
} from '../../include/linux/types.ts';
import { uffdRemainder } from '../../include/linux/userfaultfd_k.ts';
import { preemptible, type Sim, schedulePoint } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { spin_unlock } from '../../kernel/locking/spinlock.ts';
import { zap_huge_pmd } from '../huge_memory/change.ts';
import { __split_huge_pmd } from '../huge_memory/split_pmd.ts';
import { zapHugetlb } from '../hugetlb/unmap.ts';
import {
	__tlb_remove_page,
	MAX_GATHER_PAGES,
	type mmu_gather,
	tlb_finish_mmu,
	tlb_flush_mmu,
	tlb_flush_mmu_tlbonly,
	tlb_gather_mmu,
	tlb_remove_table,
	tlb_remove_tlb_entry,
} from '../mmu_gather.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init,
} from '../mmu_notifier.ts';
import { folio_mark_dirty } from '../page-writeback.ts';
import {
	nextEntry,
	pgd_none_or_clear_bad,
	pgd_offset,
	pmd_lock,
	pmd_none_or_clear_bad,
	pmd_offset,
	pmdIsHuge,
	pte_offset_map_lock,
	pte_unmap_unlock,
	pteOffsetMapLockNested,
	ptep_get_and_clear,
	pud_none_or_clear_bad,
	pud_offset,
	set_pte_at,
} from '../pgtable.ts';
import { folio_mapcount, folio_remove_rmap_pte } from '../rmap.ts';
import { folio_put } from '../swap.ts';
import { free_swap_and_cache } from '../swapfile.ts';
import { add_mm_rss_vec, mm_counter } from './counter.ts';
import { print_bad_pte, vm_normal_page } from './vm_normal.ts';

/**
 * What is to be taken out.
 *
 * @kernel include/linux/mm.h
 */
export class zap_details {
	/** Only this folio. */
	single_folio: folio | null = null;
	/** Also private copies of file pages. */
	even_cows = true;
	/** Page tables that become empty go too. */
	reclaim_pt = false;
	/** Also what marks an address rather than maps it: the mapping goes. */
	drop_markers = false;

	/** @param init - designated initialiser */
	constructor(init: Partial<zap_details> = {}) {
		Object.assign(this, init);
	}
}

/** Whether private copies go as well. */
function should_zap_cows(details: zap_details | null): boolean {
	return details === null || (details.single_folio === null && details.even_cows);
}

function should_zap_folio(details: zap_details | null, f: folio | null): boolean {
	if (details?.single_folio && details.single_folio !== f) return false;
	if (should_zap_cows(details) || f === null) return true;
	// without copies: the file's own pages only
	return !folio_test_anon(f);
}

/** One run over the entries of a table. */
class ZapRun {
	readonly tlb: mmu_gather;
	readonly vma: vm_area_struct;
	readonly details: zap_details | null;
	rss: int[] = new Array<int>(NR_MM_COUNTERS).fill(0);
	/** Dirty file pages: their rmap goes after the flush, since a CPU may still write through it. */
	delayed: page[] = [];
	/** Something was left in the table. */
	skipped = false;

	constructor(tlb: mmu_gather, vma: vm_area_struct, details: zap_details | null) {
		this.tlb = tlb;
		this.vma = vma;
		this.details = details;
	}
}

/** Leaves a marker where a write-protected page of a file was. */
function* zap_install_uffd_wp_if_needed(
	run: ZapRun,
	ptep: TableEntry,
	was: pte_t,
	addr: bigint,
): Sim<void> {
	const { vma, details } = run;
	const marker = details?.drop_markers ? 0n : uffdRemainder(vma, was);
	if (marker === 0n) return;
	run.skipped = true;
	yield* set_pte_at(vma.vm_mm, addr, ptep, marker);
}

function* zap_present_pte(run: ZapRun, ptep: TableEntry, ptent: pte_t, addr: bigint): Sim<void> {
	const { tlb, vma } = run;
	const p = vm_normal_page(vma, addr, ptent);
	const f = p === null ? null : page_folio(p);
	if (!should_zap_folio(run.details, f)) {
		run.skipped = true;
		return;
	}
	const pte = yield* ptep_get_and_clear(vma.vm_mm, addr, ptep);
	tlb_remove_tlb_entry(tlb, ptep, addr);
	yield* zap_install_uffd_wp_if_needed(run, ptep, pte, addr);
	if (p === null || f === null) return;
	run.rss[mm_counter(f)]!--;
	if (!folio_test_anon(f) && pte_dirty(pte)) {
		yield* folio_mark_dirty(f);
		run.delayed.push(p);
	} else {
		yield* folio_remove_rmap_pte(f, p, vma);
		if (folio_mapcount(f) < 0) print_bad_pte(vma, addr, pte, p);
	}
	__tlb_remove_page(tlb, p);
}

/** Whether an entry that is not present goes; what it holds is put. */
function* zapEntry(run: ZapRun, ptent: pte_t): Sim<boolean> {
	const { vma, details, rss } = run;
	const entry = softleaf_from_pte(ptent);
	const exclusive = softleaf_is_device_exclusive(entry);
	if (exclusive || softleaf_is_device_private(entry)) {
		const p = softleaf_to_page(entry);
		const f = page_folio(p);
		if (!should_zap_folio(details, f)) return false;
		rss[mm_counter(f)]!--;
		// 6.12: an exclusive entry does not count as a mapping
		if (!exclusive || feature('device_exclusive_single'))
			yield* folio_remove_rmap_pte(f, p, vma);
		yield* folio_put(f);
		return true;
	}
	if (softleaf_is_migration(entry)) {
		const f = softleaf_to_folio(entry);
		if (!should_zap_folio(details, f)) return false;
		rss[mm_counter(f)]!--;
		return true;
	}
	if (softleaf_is_swap(entry)) {
		if (!should_zap_cows(details)) return false;
		rss[MM_SWAPENTS]!--;
		yield* free_swap_and_cache(entry);
		return true;
	}
	const dropMarkers = details?.drop_markers === true;
	if (softleaf_is_uffd_wp_marker(entry)) return vma_is_anonymous(vma) || dropMarkers;
	// guard pages stay until their mapping goes
	if (softleaf_is_guard_marker(entry)) return dropMarkers;
	if (softleaf_is_hwpoison(entry) || softleaf_is_marker(entry))
		return should_zap_cows(details);
	WARN_ON_ONCE(true, 'entry of an unknown kind is unmapped');
	return true;
}

function* zap_nonpresent_pte(run: ZapRun, ptep: TableEntry, ptent: pte_t, addr: bigint): Sim<void> {
	if (yield* zapEntry(run, ptent)) {
		yield* set_pte_at(run.vma.vm_mm, addr, ptep, 0n);
		yield* zap_install_uffd_wp_if_needed(run, ptep, ptent, addr);
	} else run.skipped = true;
}

/** Entries of one table under its lock; returns where it stopped because the gather is full. */
function* zapLocked(run: ZapRun, start: TableEntry, addr: bigint, end: bigint): Sim<bigint> {
	const { table, pfn } = start;
	const { u32 } = table;
	let at = addr;
	for (let i = start.index; at !== end; i++, at += PAGE_SIZE) {
		// a word at a time without a BigInt: most entries are empty
		if (u32[2 * i] === 0 && u32[2 * i + 1] === 0) continue;
		const ptep = new TableEntry(table, pfn, i);
		const ptent = ptep.value;
		if (pte_present(ptent)) yield* zap_present_pte(run, ptep, ptent, at);
		else yield* zap_nonpresent_pte(run, ptep, ptent, at);
		if (run.tlb.pages.length >= MAX_GATHER_PAGES) return at + PAGE_SIZE;
	}
	return at;
}

/** Gives the table of a pmd back if all of it is empty. */
function* reclaimTable(tlb: mmu_gather, pmd: TableEntry, addr: bigint): Sim<void> {
	const { mm } = tlb;
	const ptl = yield* pmd_lock(mm, pmd);
	const inner = outParam<spinlock_t | null>(null);
	const pte = yield* pteOffsetMapLockNested(mm, pmd, addr, inner, SINGLE_DEPTH_NESTING);
	if (pte !== null) {
		const empty = pte.table.u64.every((word) => word === 0n);
		const pfn = Number(pmd_pfn(pmd.value));
		if (empty) {
			if (preemptible())
				yield schedulePoint(
					'pte-write',
					pmd.table,
					'entries',
					pmd.index,
					1,
				);
			pmd.value = 0n;
		}
		yield* pte_unmap_unlock(pte, inner.value);
		if (empty) tlb_remove_table(tlb, pfn, addr);
	}
	yield* spin_unlock(ptl);
}

function* zap_pte_range(
	tlb: mmu_gather,
	vma: vm_area_struct,
	pmd: TableEntry,
	addr: bigint,
	end: bigint,
	details: zap_details | null,
): Sim<void> {
	const run = new ZapRun(tlb, vma, details);
	for (let at = addr; at !== end; ) {
		const ptl = outParam<spinlock_t | null>(null);
		const start = yield* pte_offset_map_lock(vma.vm_mm, pmd, at, ptl);
		if (start === null) return;
		at = yield* zapLocked(run, start, at, end);
		add_mm_rss_vec(vma.vm_mm, run.rss);
		run.rss.fill(0);
		const flush = run.delayed.length > 0 || at !== end;
		if (flush) {
			yield* tlb_flush_mmu_tlbonly(tlb);
			for (const p of run.delayed)
				yield* folio_remove_rmap_pte(page_folio(p), p, vma);
			run.delayed = [];
		}
		yield* pte_unmap_unlock(start, ptl.value);
		if (flush) yield* tlb_flush_mmu(tlb);
	}
	if (details?.reclaim_pt && !run.skipped && end - addr >= PMD_SIZE)
		yield* reclaimTable(tlb, pmd, addr);
}

function* zap_pmd_range(
	tlb: mmu_gather,
	vma: vm_area_struct,
	pud: TableEntry,
	addr: bigint,
	end: bigint,
	details: zap_details | null,
): Sim<void> {
	let pmd = pmd_offset(pud, addr);
	for (let at = addr; ; pmd = nextEntry(pmd)) {
		const next = pmd_addr_end(at, end);
		let gone = false;
		if (pmdIsHuge(pmd.value)) {
			if (next - at === HPAGE_PMD_SIZE)
				gone = yield* zap_huge_pmd(tlb, vma, pmd, at);
			else yield* __split_huge_pmd(vma, pmd, at, false);
		}
		if (!gone && !pmd_none_or_clear_bad(pmd))
			yield* zap_pte_range(tlb, vma, pmd, at, next, details);
		at = next;
		if (at === end) return;
	}
}

function* zap_pud_range(
	tlb: mmu_gather,
	vma: vm_area_struct,
	pgd: TableEntry,
	addr: bigint,
	end: bigint,
	details: zap_details | null,
): Sim<void> {
	let pud = pud_offset(pgd, addr);
	for (let at = addr; ; pud = nextEntry(pud)) {
		const next = pud_addr_end(at, end);
		if (!pud_none_or_clear_bad(pud))
			yield* zap_pmd_range(tlb, vma, pud, at, next, details);
		at = next;
		if (at === end) return;
	}
}

/**
 * Empty the page tables of a part of a VMA.
 *
 * @param tlb - the gather
 * @param vma - the VMA
 * @param addr - first address, inside
 * @param end - exclusive, inside
 * @param details - what goes; null: everything but markers
 * @context The notifiers are told by the caller.
 * @kernel mm/memory.c (gone in 7.x)
 */
export function* unmap_page_range(
	tlb: mmu_gather,
	vma: vm_area_struct,
	addr: unsigned_long,
	end: unsigned_long,
	details: zap_details | null,
): Sim<void> {
	let pgd = pgd_offset(vma.vm_mm, addr);
	for (let at = addr; ; pgd = nextEntry(pgd)) {
		const next = pgd_addr_end(at, end);
		if (!pgd_none_or_clear_bad(pgd))
			yield* zap_pud_range(tlb, vma, pgd, at, next, details);
		at = next;
		if (at === end) return;
	}
}

function* unmap_single_vma(
	tlb: mmu_gather,
	vma: vm_area_struct,
	start_addr: bigint,
	end_addr: bigint,
	details: zap_details | null,
): Sim<void> {
	const start = vma.vm_start > start_addr ? vma.vm_start : start_addr;
	const end = vma.vm_end < end_addr ? vma.vm_end : end_addr;
	if (start >= end) return;
	if (is_vm_hugetlb_page(vma)) yield* zapHugetlb(tlb, vma, start, end);
	else yield* unmap_page_range(tlb, vma, start, end, details);
}

/**
 * Empty the page tables of VMAs that go, in one UNMAP event over [start_addr, end_addr).
 *
 * @param tlb - the gather
 * @param vmas - the VMAs, by address; at least one
 * @param start_addr - first address
 * @param end_addr - exclusive
 * @context Sleeps. The mmap lock is held.
 * @deviates the VMAs come as a list; the kernel walks a maple tree of them
 * @kernel mm/memory.c
 */
export function* unmap_vmas(
	tlb: mmu_gather,
	vmas: readonly vm_area_struct[],
	start_addr: unsigned_long,
	end_addr: unsigned_long,
): Sim<void> {
	const details = new zap_details({ drop_markers: true });
	const range = new mmu_notifier_range();
	mmu_notifier_range_init(range, MMU_NOTIFY_UNMAP, 0, tlb.mm, start_addr, end_addr);
	yield* mmu_notifier_invalidate_range_start(range);
	for (const vma of vmas) yield* unmap_single_vma(tlb, vma, start_addr, end_addr, details);
	yield* mmu_notifier_invalidate_range_end(range);
}

/**
 * Empty the page tables of a part of a VMA that stays, in one CLEAR event.
 *
 * @param vma - the VMA
 * @param address - first address
 * @param size - bytes; the range lies in the VMA
 * @param details - what goes; null: everything but markers
 * @context Sleeps.
 * @kernel mm/memory.c (gone in 7.x)
 */
export function* zap_page_range_single(
	vma: vm_area_struct,
	address: unsigned_long,
	size: unsigned_long,
	details: zap_details | null,
): Sim<void> {
	const end = address + size;
	const range = new mmu_notifier_range();
	mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, vma.vm_mm, address, end);
	const tlb = tlb_gather_mmu(vma.vm_mm);
	yield* mmu_notifier_invalidate_range_start(range);
	yield* unmap_single_vma(tlb, vma, address, end, details);
	yield* mmu_notifier_invalidate_range_end(range);
	yield* tlb_finish_mmu(tlb);
}

/**
 * What MADV_DONTNEED takes out: everything but markers, and since 7.3 page tables that it empties.
 *
 * @param vma - the VMA
 * @param address - first address
 * @param size - bytes; the range lies in the VMA
 * @context Sleeps. The mmap lock is held.
 */
export function* zapDontneed(
	vma: vm_area_struct,
	address: unsigned_long,
	size: unsigned_long,
): Sim<void> {
	const details = new zap_details({ reclaim_pt: feature('pt_reclaim') });
	yield* zap_page_range_single(vma, address, size, details);
}
