// SPDX-License-Identifier: GPL-2.0-only
/**
 * Page tables of a fork: copy_page_range().
 *
 * Guarantee: parent and child share each page of a private mapping read-only until one of them
 * writes; nobody has it exclusively. Mappings that a fault can fill in again are not copied.
 *
 * ```
 *   parent's entry                  parent after it       child
 *   present, private, writable      read-only             read-only, not young
 *   present, shared                 as it was             clean, not young
 *   zero page, special PFN          as it was             the same
 *   DEVICE_WRITE                    DEVICE_READ           DEVICE_READ
 *   device-exclusive                present again         as for a present one
 *   MIGRATION_*                     MIGRATION_READ        MIGRATION_READ
 *   swap                            no longer exclusive   the same, counted
 *   marker                          as it was             poison and guard only
 *   maybe pinned page               as it was             a copy at once
 * ```
 */
import { BUG_ON } from '../../include/linux/bug.ts';
import { EAGAIN, EBUSY, ENOENT, ENOMEM } from '../../include/linux/errno.ts';
import { SINGLE_DEPTH_NESTING } from '../../include/linux/lockdep.ts';
import {
	is_cow_mapping,
	is_vm_hugetlb_page,
	VM_MAYBE_GUARD,
	VM_MIXEDMAP,
	VM_PFNMAP,
	VM_SHARED,
} from '../../include/linux/mm.ts';
import {
	type folio,
	MM_ANONPAGES,
	MM_SWAPENTS,
	NR_MM_COUNTERS,
	type page,
	page_folio,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import {
	MMU_NOTIFY_PROTECTION_PAGE,
	mmu_notifier_range,
} from '../../include/linux/mmu_notifier.ts';
import { folio_test_anon } from '../../include/linux/page-flags.ts';
import {
	pgd_addr_end,
	pmd_addr_end,
	pte_clear_uffd_wp,
	pte_mkclean,
	pte_mkdirty,
	pte_mkold,
	pte_modify,
	pte_present,
	type pte_t,
	pte_write,
	pte_wrprotect,
	pud_addr_end,
	TableEntry,
} from '../../include/linux/pgtable.ts';
import type { spinlock_t } from '../../include/linux/spinlock.ts';
import {
	make_pte_marker_entry,
	make_readable_device_private_entry,
	make_readable_migration_entry,
	PTE_MARKER_GUARD,
	PTE_MARKER_POISONED,
	pte_swp_clear_exclusive,
	pte_swp_clear_uffd_wp,
	pte_swp_exclusive,
	pte_swp_mkuffd_wp,
	pte_swp_uffd_wp,
	softleaf_from_pte,
	softleaf_is_device_exclusive,
	softleaf_is_device_private,
	softleaf_is_device_private_write,
	softleaf_is_marker,
	softleaf_is_migration,
	softleaf_is_migration_read,
	softleaf_is_swap,
	softleaf_to_folio,
	softleaf_to_marker,
	softleaf_to_page,
	swp_entry_to_pte,
	swp_offset,
} from '../../include/linux/swapops.ts';
import { type bool, type int, outParam, PAGE_SIZE } from '../../include/linux/types.ts';
import { userfaultfd_protected, userfaultfd_pte_rwp } from '../../include/linux/userfaultfd_k.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { copy_huge_pmd } from '../huge_memory/copy.ts';
import { copy_hugetlb_page_range } from '../hugetlb/copy.ts';
import { mmap_assert_write_locked } from '../mmap_lock.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init,
} from '../mmu_notifier.ts';
import { copy_highpage } from '../page_alloc.ts';
import {
	nextEntry,
	pgd_none_or_clear_bad,
	pgd_offset,
	pmd_alloc,
	pmd_none_or_clear_bad,
	pmd_offset,
	pmdIsHuge,
	pte_alloc,
	pte_offset_map_lock,
	pte_unmap_unlock,
	pteOffsetMapLockNested,
	ptep_set_wrprotect,
	pud_alloc,
	pud_none_or_clear_bad,
	pud_offset,
	set_pte_at,
} from '../pgtable.ts';
import {
	folio_add_new_anon_rmap,
	folio_dup_file_rmap_pte,
	folio_try_dup_anon_rmap_pte,
	RMAP_EXCLUSIVE,
} from '../rmap.ts';
import { folio_add_lru_vma, folio_get, folio_put } from '../swap.ts';
import { swap_duplicate } from '../swapfile.ts';
import { add_mm_rss_vec, mm_counter, mm_counter_file } from './counter.ts';
import {
	__folio_mark_uptodate,
	folio_mk_pte,
	folio_prealloc,
	maybe_mkwrite,
} from './fault_common.ts';
import { try_restore_exclusive_pte } from './swap_page.ts';
import { vm_normal_page } from './vm_normal.ts';

/** A copy on its way. */
class CopyRun {
	readonly dst: vm_area_struct;
	readonly src: vm_area_struct;
	/** Private mapping: what is writable becomes read-only in both. */
	readonly cow: boolean;
	rss: int[] = new Array<int>(NR_MM_COUNTERS).fill(0);
	/** A page for a copy, allocated while no lock is held. */
	prealloc: folio | null = null;

	constructor(dst: vm_area_struct, src: vm_area_struct) {
		this.dst = dst;
		this.src = src;
		this.cow = is_cow_mapping(src.vm_flags);
	}
}

/** One entry and its twin. */
interface Twins {
	readonly dst: TableEntry;
	readonly src: TableEntry;
	readonly addr: bigint;
}

/** A page of the parent's that may be pinned: the child gets a copy. */
function* copy_present_page(run: CopyRun, at: Twins, p: page): Sim<int> {
	const copy = run.prealloc;
	if (copy === null) return -EAGAIN;
	run.prealloc = null;
	copy_highpage(copy.page, p);
	__folio_mark_uptodate(copy);
	const { dst } = run;
	yield* folio_add_new_anon_rmap(copy, dst, at.addr, RMAP_EXCLUSIVE);
	folio_add_lru_vma(copy, dst);
	run.rss[MM_ANONPAGES]!++;
	const pte = maybe_mkwrite(pte_mkdirty(folio_mk_pte(copy, dst.vm_page_prot)), dst);
	yield* set_pte_at(dst.vm_mm, at.addr, at.dst, pte);
	return 0;
}

/** A present entry. -EAGAIN: a page is to be allocated first. */
function* copy_present_pte(run: CopyRun, at: Twins): Sim<int> {
	const { src, dst } = run;
	let pte = at.src.value;
	const p = vm_normal_page(src, at.addr, pte);
	if (p !== null) {
		const f = page_folio(p);
		folio_get(f);
		if (!folio_test_anon(f)) {
			yield* folio_dup_file_rmap_pte(f, p, dst);
			run.rss[mm_counter_file(f)]!++;
		} else if ((yield* folio_try_dup_anon_rmap_pte(f, p, dst, src)) !== 0) {
			yield* folio_put(f);
			return yield* copy_present_page(run, at, p);
		} else run.rss[MM_ANONPAGES]!++;
	}
	const writable = pte_write(pte);
	if (!userfaultfd_protected(dst)) {
		// nobody would resolve the child's faults
		if (userfaultfd_pte_rwp(src, pte)) pte = pte_modify(pte, dst.vm_page_prot);
		pte = pte_clear_uffd_wp(pte);
	}
	if (run.cow && writable) {
		yield* ptep_set_wrprotect(src.vm_mm, at.addr, at.src);
		pte = pte_wrprotect(pte);
	}
	if ((src.vm_flags & VM_SHARED) !== 0n) pte = pte_mkclean(pte);
	yield* set_pte_at(dst.vm_mm, at.addr, at.dst, pte_mkold(pte));
	return 0;
}

/**
 * An entry that is not present.
 *
 * @retval 0 copied
 * @retval -ENOENT it was device-exclusive and is present now
 * @retval -EBUSY it is device-exclusive, and its folio is locked
 */
function* copy_nonpresent_pte(run: CopyRun, at: Twins): Sim<int> {
	const { src, dst, cow } = run;
	const entry = softleaf_from_pte(at.src.value);
	let pte: pte_t = at.src.value;
	let shared: pte_t | null = null;
	if (softleaf_is_swap(entry)) {
		yield* swap_duplicate(entry);
		run.rss[MM_SWAPENTS]!++;
		if (pte_swp_exclusive(pte)) shared = pte_swp_clear_exclusive(pte);
	} else if (softleaf_is_migration(entry)) {
		run.rss[mm_counter(softleaf_to_folio(entry))]!++;
		if (cow && !softleaf_is_migration_read(entry))
			shared = swp_entry_to_pte(make_readable_migration_entry(swp_offset(entry)));
	} else if (softleaf_is_device_private(entry)) {
		const p = softleaf_to_page(entry);
		const f = page_folio(p);
		folio_get(f);
		run.rss[mm_counter(f)]!++;
		yield* folio_try_dup_anon_rmap_pte(f, p, dst, src);
		if (cow && softleaf_is_device_private_write(entry))
			shared = swp_entry_to_pte(
				make_readable_device_private_entry(swp_offset(entry)),
			);
	} else if (softleaf_is_device_exclusive(entry)) {
		BUG_ON(!cow, 'device-exclusive entry in a shared mapping');
		return (yield* try_restore_exclusive_pte(at.src, src, at.addr)) ? -ENOENT : -EBUSY;
	} else if (softleaf_is_marker(entry)) {
		const kept = softleaf_to_marker(entry) & (PTE_MARKER_POISONED | PTE_MARKER_GUARD);
		if (kept === 0n) return 0;
		pte = swp_entry_to_pte(make_pte_marker_entry(kept));
	}
	if (shared !== null) {
		pte = pte_swp_uffd_wp(at.src.value) ? pte_swp_mkuffd_wp(shared) : shared;
		yield* set_pte_at(src.vm_mm, at.addr, at.src, pte);
	}
	if (!softleaf_is_marker(entry) && !userfaultfd_protected(dst))
		pte = pte_swp_clear_uffd_wp(pte);
	yield* set_pte_at(dst.vm_mm, at.addr, at.dst, pte);
	return 0;
}

/** One entry that is not empty. */
function* copyEntry(run: CopyRun, at: Twins): Sim<int> {
	if (!pte_present(at.src.value)) {
		const ret = yield* copy_nonpresent_pte(run, at);
		if (ret !== -ENOENT) return ret;
	}
	return yield* copy_present_pte(run, at);
}

/** Entries of one table under both locks: where it stopped, and why. */
function* copyLocked(
	run: CopyRun,
	first: Twins,
	end: bigint,
): Sim<{ readonly at: bigint; readonly err: int }> {
	const { u32 } = first.src.table;
	let at = first.addr;
	for (let i = first.src.index; at !== end; i++, at += PAGE_SIZE) {
		if (u32[2 * i] === 0 && u32[2 * i + 1] === 0) continue;
		const src = new TableEntry(first.src.table, first.src.pfn, i);
		const dst = new TableEntry(first.dst.table, first.dst.pfn, i);
		const err = yield* copyEntry(run, { dst, src, addr: at });
		if (err !== 0) return { at, err };
	}
	return { at, err: 0 };
}

function* copy_pte_range(
	run: CopyRun,
	dst_pmd: TableEntry,
	src_pmd: TableEntry,
	addr: bigint,
	end: bigint,
): Sim<int> {
	const { src, dst } = run;
	for (let at = addr; at !== end; ) {
		if ((yield* pte_alloc(dst.vm_mm, dst_pmd)) !== 0) return -ENOMEM;
		const dst_ptl = outParam<spinlock_t | null>(null);
		const src_ptl = outParam<spinlock_t | null>(null);
		const dst_pte = yield* pte_offset_map_lock(dst.vm_mm, dst_pmd, at, dst_ptl);
		if (dst_pte === null) return -ENOMEM;
		const src_pte = yield* pteOffsetMapLockNested(
			src.vm_mm,
			src_pmd,
			at,
			src_ptl,
			SINGLE_DEPTH_NESTING,
		);
		if (src_pte === null) {
			yield* pte_unmap_unlock(dst_pte, dst_ptl.value);
			return 0;
		}
		const stop = yield* copyLocked(run, { dst: dst_pte, src: src_pte, addr: at }, end);
		yield* pte_unmap_unlock(src_pte, src_ptl.value);
		add_mm_rss_vec(dst.vm_mm, run.rss);
		run.rss.fill(0);
		yield* pte_unmap_unlock(dst_pte, dst_ptl.value);
		at = stop.at;
		if (stop.err === -EAGAIN) {
			run.prealloc = yield* folio_prealloc(src.vm_mm, false);
			if (run.prealloc === null) return -ENOMEM;
		} else if (stop.err !== 0) return stop.err;
	}
	return 0;
}

function* copy_pmd_range(
	run: CopyRun,
	dst_pud: TableEntry,
	src_pud: TableEntry,
	addr: bigint,
	end: bigint,
): Sim<int> {
	let dst_pmd = yield* pmd_alloc(run.dst.vm_mm, dst_pud, addr);
	if (dst_pmd === null) return -ENOMEM;
	let src_pmd = pmd_offset(src_pud, addr);
	for (let at = addr; ; dst_pmd = nextEntry(dst_pmd), src_pmd = nextEntry(src_pmd)) {
		const next = pmd_addr_end(at, end);
		const huge = pmdIsHuge(src_pmd.value)
			? yield* copy_huge_pmd(dst_pmd, src_pmd, at, run.dst, run.src)
			: -EAGAIN;
		if (huge === -ENOMEM) return huge;
		if (huge !== 0 && !pmd_none_or_clear_bad(src_pmd)) {
			const err = yield* copy_pte_range(run, dst_pmd, src_pmd, at, next);
			if (err !== 0) return err;
		}
		at = next;
		if (at === end) return 0;
	}
}

function* copy_pud_range(
	run: CopyRun,
	dst_pgd: TableEntry,
	src_pgd: TableEntry,
	addr: bigint,
	end: bigint,
): Sim<int> {
	let dst_pud = yield* pud_alloc(run.dst.vm_mm, dst_pgd, addr);
	if (dst_pud === null) return -ENOMEM;
	let src_pud = pud_offset(src_pgd, addr);
	for (let at = addr; ; dst_pud = nextEntry(dst_pud), src_pud = nextEntry(src_pud)) {
		const next = pud_addr_end(at, end);
		if (!pud_none_or_clear_bad(src_pud)) {
			const err = yield* copy_pmd_range(run, dst_pud, src_pud, at, next);
			if (err !== 0) return err;
		}
		at = next;
		if (at === end) return 0;
	}
}

function* copyTables(run: CopyRun): Sim<int> {
	const { vm_start, vm_end } = run.src;
	let src_pgd = pgd_offset(run.src.vm_mm, vm_start);
	let dst_pgd = pgd_offset(run.dst.vm_mm, vm_start);
	for (let at = vm_start; ; dst_pgd = nextEntry(dst_pgd), src_pgd = nextEntry(src_pgd)) {
		const next = pgd_addr_end(at, vm_end);
		if (!pgd_none_or_clear_bad(src_pgd)) {
			const err = yield* copy_pud_range(run, dst_pgd, src_pgd, at, next);
			if (err !== 0) return err;
		}
		at = next;
		if (at === vm_end) return 0;
	}
}

/** Whether faults cannot fill the child's tables in as the parent has them. */
function vma_needs_copy(dst_vma: vm_area_struct, src_vma: vm_area_struct): bool {
	if (userfaultfd_protected(dst_vma)) return true;
	if ((dst_vma.vm_flags & VM_MAYBE_GUARD) !== 0n) return true;
	if ((src_vma.vm_flags & (VM_PFNMAP | VM_MIXEDMAP)) !== 0n) return true;
	return src_vma.anon_vma !== null;
}

/**
 * Copy the page tables of a VMA for a fork.
 *
 * @param dst_vma - the child's VMA
 * @param src_vma - the parent's VMA
 * @retval 0 copied
 * @retval -ENOMEM no memory
 * @retval -ENOSPC no huge page for a copy of one that may be pinned
 * @context Sleeps. Both mmap locks are held for writing; the caller flushes the parent's TLB.
 * @kernel mm/memory.c
 */
export function* copy_page_range(dst_vma: vm_area_struct, src_vma: vm_area_struct): Sim<int> {
	if (!vma_needs_copy(dst_vma, src_vma)) return 0;
	if (is_vm_hugetlb_page(src_vma))
		return yield* copy_hugetlb_page_range(
			dst_vma.vm_mm,
			src_vma.vm_mm,
			dst_vma,
			src_vma,
		);
	const run = new CopyRun(dst_vma, src_vma);
	const range = new mmu_notifier_range();
	if (run.cow) {
		const { vm_mm, vm_start, vm_end } = src_vma;
		mmu_notifier_range_init(
			range,
			MMU_NOTIFY_PROTECTION_PAGE,
			0,
			vm_mm,
			vm_start,
			vm_end,
		);
		yield* mmu_notifier_invalidate_range_start(range);
		mmap_assert_write_locked(vm_mm);
	}
	const ret = yield* copyTables(run);
	if (run.prealloc !== null) yield* folio_put(run.prealloc);
	if (run.cow) yield* mmu_notifier_invalidate_range_end(range);
	// whatever it was, the caller is told that memory lacks
	return ret === 0 ? 0 : -ENOMEM;
}
