// SPDX-License-Identifier: GPL-2.0-only
/**
 * Moving page-table entries from one place of an address space to another.
 *
 * Guarantee: each entry is at one of the two places, never at both, and no CPU uses the old
 * translation when the table's lock is left. Mechanism: one UNMAP event over the whole source; then
 * the largest pieces that both sides allow: what a pud or a pmd points to changes its owner as it
 * is, the rest goes entry by entry under both locks.
 *
 * ```
 *   old   ....[##########################)....      pmd boundary at |
 *             ptes  |   whole pmd   | ptes
 *   new   ....[##########################)....      only where both are aligned alike
 * ```
 */
import { WARN_ON_ONCE } from '../../include/linux/bug.ts';
import { SINGLE_DEPTH_NESTING } from '../../include/linux/lockdep.ts';
import { is_vm_hugetlb_page } from '../../include/linux/mm.ts';
import type { mm_struct, vm_area_struct } from '../../include/linux/mm_types.ts';
import { MMU_NOTIFY_UNMAP, mmu_notifier_range } from '../../include/linux/mmu_notifier.ts';
import {
	_PAGE_TABLE,
	pmd_leaf,
	pmd_none,
	pmd_pfn,
	pmd_present,
	type pmd_t,
	pte_clear_uffd_wp,
	pte_modify,
	pte_none,
	pte_present,
	type pte_t,
	pud_pfn,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import type { spinlock_t } from '../../include/linux/spinlock.ts';
import { pte_swp_clear_uffd_wp } from '../../include/linux/swapops.ts';
import {
	type bool,
	outParam,
	PAGE_SIZE,
	PMD_MASK,
	PMD_SIZE,
	PUD_MASK,
	PUD_SIZE,
	type unsigned_long,
} from '../../include/linux/types.ts';
import {
	pte_is_uffd_wp_marker,
	userfaultfd_pte_rwp,
	vma_has_uffd_without_event_remap,
} from '../../include/linux/userfaultfd_k.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';
import { preemptible, type Sim, schedulePoint } from '../../include/sim/schedule.ts';
import { down_write, up_write } from '../../kernel/locking/rwsem.ts';
import { spin_lock_nested, spin_unlock } from '../../kernel/locking/spinlock.ts';
import { find_vma_intersection } from '../find_vma.ts';
import { move_huge_pmd, split_huge_pmd } from '../huge_memory.ts';
import { move_hugetlb_page_tables } from '../hugetlb/move.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init,
} from '../mmu_notifier.ts';
import {
	nextEntry,
	pgd_none_or_clear_bad,
	pgd_offset,
	pmd_alloc,
	pmd_lock,
	pmd_lockptr,
	pmd_offset,
	pmdIsHuge,
	pte_alloc,
	pte_offset_map_lock,
	pte_offset_map_rw_nolock,
	pte_unmap,
	pte_unmap_unlock,
	ptep_get,
	ptep_get_and_clear,
	pud_alloc,
	pud_lock,
	pud_none_or_clear_bad,
	pud_offset,
	set_pte_at,
} from '../pgtable.ts';
import { anon_vma_lock_write, anon_vma_unlock_write } from '../rmap.ts';
import { flush_tlb_range } from '../tlb.ts';

/**
 * A move of page tables.
 *
 * @kernel mm/internal.h
 */
export class pagetable_move_control {
	/** The VMA that the entries come from, and the one that they go to. */
	old: vm_area_struct;
	new: vm_area_struct;
	/** Where the move is. */
	old_addr: unsigned_long;
	new_addr: unsigned_long;
	old_end: unsigned_long;
	len_in: unsigned_long;
	/** A walk of the rmap may otherwise see neither the old nor the new entry. */
	need_rmap_locks = false;

	/**
	 * @param old - VMA that the entries come from
	 * @param fresh - VMA that they go to
	 * @param old_addr - first address
	 * @param new_addr - where it goes
	 * @param len - how much
	 */
	constructor(
		old: vm_area_struct,
		fresh: vm_area_struct,
		old_addr: unsigned_long,
		new_addr: unsigned_long,
		len: unsigned_long,
	) {
		this.old = old;
		this.new = fresh;
		this.old_addr = old_addr;
		this.new_addr = new_addr;
		this.old_end = old_addr + len;
		this.len_in = len;
	}
}

/** The pud entry of an address; null: nothing is below its top-level entry. */
function get_old_pud(mm: mm_struct, addr: bigint): TableEntry | null {
	const pgd = pgd_offset(mm, addr);
	if (pgd_none_or_clear_bad(pgd)) return null;
	const pud = pud_offset(pgd, addr);
	return pud_none_or_clear_bad(pud) ? null : pud;
}

/** The pmd entry of an address; null: it is empty, or there is no table for it. */
function get_old_pmd(mm: mm_struct, addr: bigint): TableEntry | null {
	const pud = get_old_pud(mm, addr);
	if (pud === null) return null;
	const pmd = pmd_offset(pud, addr);
	return pmd_none(pmd.value) ? null : pmd;
}

function* alloc_new_pud(mm: mm_struct, addr: bigint): Sim<TableEntry | null> {
	if (shouldFail('move_page_tables')) return null;
	return yield* pud_alloc(mm, pgd_offset(mm, addr), addr);
}

function* alloc_new_pmd(mm: mm_struct, addr: bigint): Sim<TableEntry | null> {
	const pud = yield* alloc_new_pud(mm, addr);
	return pud === null ? null : yield* pmd_alloc(mm, pud, addr);
}

function* take_rmap_locks(vma: vm_area_struct): Sim<void> {
	const mapping = vma.vm_file?.f_mapping;
	if (mapping) yield* down_write(mapping.i_mmap_rwsem);
	if (vma.anon_vma !== null) yield* anon_vma_lock_write(vma.anon_vma);
}

function* drop_rmap_locks(vma: vm_area_struct): Sim<void> {
	if (vma.anon_vma !== null) yield* anon_vma_unlock_write(vma.anon_vma);
	const mapping = vma.vm_file?.f_mapping;
	if (mapping) yield* up_write(mapping.i_mmap_rwsem);
}

/** An entry at its new place, where nobody resolves faults. */
function withoutUffd(vma: vm_area_struct, pte: pte_t): pte_t {
	if (pte_is_uffd_wp_marker(pte)) return 0n;
	if (!pte_present(pte)) return pte_swp_clear_uffd_wp(pte);
	const open = userfaultfd_pte_rwp(vma, pte) ? pte_modify(pte, vma.vm_page_prot) : pte;
	return pte_clear_uffd_wp(open);
}

/** Moves the entries of one piece under both locks; whether something present was among them. */
function* moveEntries(
	{ old: vma, old_addr, new_addr }: pagetable_move_control,
	extent: bigint,
	oldFirst: TableEntry,
	newFirst: TableEntry,
): Sim<bool> {
	const { vm_mm: mm } = vma;
	const unwatched = vma_has_uffd_without_event_remap(vma);
	let present = false;
	const ptes = Number(extent / PAGE_SIZE);
	for (let i = 0; i < ptes; i++) {
		const from = nextEntry(oldFirst, i);
		if (pte_none(ptep_get(from))) continue;
		const to = nextEntry(newFirst, i);
		WARN_ON_ONCE(!pte_none(ptep_get(to)), 'mremap() onto an entry that is in use');
		const offset = BigInt(i) * PAGE_SIZE;
		const pte = yield* ptep_get_and_clear(mm, old_addr + offset, from);
		if (pte_present(pte)) present = true;
		const moved = unwatched ? withoutUffd(vma, pte) : pte;
		yield* set_pte_at(mm, new_addr + offset, to, moved);
	}
	return present;
}

/** @returns whether it is done; else one of the pmds points to no table any more */
function* move_ptes(
	pmc: pagetable_move_control,
	extent: bigint,
	old_pmd: TableEntry,
	new_pmd: TableEntry,
): Sim<bool> {
	const { old: vma, old_addr, new_addr } = pmc;
	const { vm_mm: mm } = vma;
	const locks = pmc.need_rmap_locks;
	if (locks) yield* take_rmap_locks(vma);
	const old_ptl = outParam<spinlock_t | null>(null);
	const new_ptl = outParam<spinlock_t | null>(null);
	const old_ptep = yield* pte_offset_map_lock(mm, old_pmd, old_addr, old_ptl);
	let done = false;
	if (old_ptep !== null) {
		const new_ptep = yield* pte_offset_map_rw_nolock(
			mm,
			new_pmd,
			new_addr,
			outParam<pmd_t>(0n),
			new_ptl,
		);
		if (new_ptep !== null) {
			const two = new_ptl.value !== old_ptl.value;
			if (two) yield* spin_lock_nested(new_ptl.value!, SINGLE_DEPTH_NESTING);
			const flush = yield* moveEntries(pmc, extent, old_ptep, new_ptep);
			// before the locks are left: somebody may take the page out at its new place
			if (flush) yield* flush_tlb_range(vma, old_addr, old_addr + extent);
			if (two) yield* spin_unlock(new_ptl.value!);
			yield* pte_unmap(new_ptep);
			done = true;
		}
		yield* pte_unmap_unlock(old_ptep, old_ptl.value);
	}
	if (locks) yield* drop_rmap_locks(vma);
	return done;
}

/** Empties an entry and lets another one point to the table that it pointed to. */
function* relinkTable(from: TableEntry, to: TableEntry, pfn: bigint): Sim<void> {
	if (preemptible()) yield schedulePoint('pte-write', from.table, 'entries', from.index, 1);
	from.value = 0n;
	if (preemptible()) yield schedulePoint('pte-write', to.table, 'entries', to.index, 1);
	to.value = (pfn << 12n) | _PAGE_TABLE;
}

/** Gives the table of a pmd to another one. */
function* move_normal_pmd(
	pmc: pagetable_move_control,
	old_pmd: TableEntry,
	new_pmd: TableEntry,
): Sim<bool> {
	const { vm_mm: mm } = pmc.old;
	if (WARN_ON_ONCE(!pmd_none(new_pmd.value), 'mremap() onto a pmd that is in use'))
		return false;
	// each entry is to be looked at
	if (vma_has_uffd_without_event_remap(pmc.old)) return false;
	yield* take_rmap_locks(pmc.old);
	const old_ptl = yield* pmd_lock(mm, old_pmd);
	const new_ptl = pmd_lockptr(mm, new_pmd);
	if (new_ptl !== old_ptl) yield* spin_lock_nested(new_ptl, SINGLE_DEPTH_NESTING);
	const pmd = old_pmd.value;
	const moves = pmd_present(pmd) && !pmd_leaf(pmd);
	if (moves) {
		yield* relinkTable(old_pmd, new_pmd, pmd_pfn(pmd) as bigint);
		yield* flush_tlb_range(pmc.old, pmc.old_addr, pmc.old_addr + PMD_SIZE);
	}
	if (new_ptl !== old_ptl) yield* spin_unlock(new_ptl);
	yield* spin_unlock(old_ptl);
	yield* drop_rmap_locks(pmc.old);
	return moves;
}

/** Moves a huge pmd as a whole. */
function* moveHuge(
	pmc: pagetable_move_control,
	old_pmd: TableEntry,
	new_pmd: TableEntry,
): Sim<bool> {
	const { old, old_addr, new_addr, need_rmap_locks } = pmc;
	if (need_rmap_locks) yield* take_rmap_locks(old);
	const moved = yield* move_huge_pmd(old, old_addr, new_addr, old_pmd, new_pmd);
	if (need_rmap_locks) yield* drop_rmap_locks(old);
	return moved;
}

/** Gives the table of a pud to another one. */
function* move_normal_pud(
	pmc: pagetable_move_control,
	old_pud: TableEntry,
	new_pud: TableEntry,
): Sim<bool> {
	if (WARN_ON_ONCE(new_pud.value !== 0n, 'mremap() onto a pud that is in use')) return false;
	if (vma_has_uffd_without_event_remap(pmc.old)) return false;
	yield* take_rmap_locks(pmc.old);
	const ptl = yield* pud_lock(pmc.old.vm_mm, old_pud);
	yield* relinkTable(old_pud, new_pud, pud_pfn(old_pud.value) as bigint);
	yield* flush_tlb_range(pmc.old, pmc.old_addr, pmc.old_addr + PUD_SIZE);
	yield* spin_unlock(ptl);
	yield* drop_rmap_locks(pmc.old);
	return true;
}

function least(...values: readonly bigint[]): bigint {
	return values.reduce((a, b) => (b < a ? b : a));
}

/** How much can be done at once: to the end of the range, or of what one entry serves on a side. */
function get_extent(pmc: pagetable_move_control, size: bigint, mask: bigint): bigint {
	const { old_addr, new_addr, old_end } = pmc;
	return least(
		((old_addr + size) & mask) - old_addr,
		old_end - old_addr,
		((new_addr + size) & mask) - new_addr,
	);
}

/** Whether nothing is mapped between an address rounded down and the VMA that begins at it. */
function can_align_down(vma: vm_area_struct, addr: bigint, mask: bigint): bool {
	if (vma.vm_start !== addr) return false;
	return find_vma_intersection(vma.vm_mm, addr & mask, vma.vm_start) === null;
}

function can_realign_addr(pmc: pagetable_move_control, mask: bigint): bool {
	const { old_addr, new_addr, len_in } = pmc;
	const old_align = old_addr & ~mask;
	if (len_in < -mask - old_align) return false;
	if (old_align === 0n || old_align !== (new_addr & ~mask)) return false;
	return can_align_down(pmc.old, old_addr, mask) && can_align_down(pmc.new, new_addr, mask);
}

/** Begins a move that reaches a table's end at the table's start, if nothing else is there. */
function try_realign_addr(pmc: pagetable_move_control, mask: bigint): void {
	if (!can_realign_addr(pmc, mask)) return;
	pmc.old_addr &= mask;
	pmc.new_addr &= mask;
}

/** How much of the range that was asked for is moved. */
function pmc_progress(pmc: pagetable_move_control): bigint {
	const first = pmc.old_end - pmc.len_in;
	return pmc.old_addr < first ? 0n : pmc.old_addr - first;
}

/** Moves what one pmd serves at most; null: no memory, else how much was done. */
function* movePiece(pmc: pagetable_move_control): Sim<bigint | null> {
	const { vm_mm: mm } = pmc.old;
	const wide = get_extent(pmc, PUD_SIZE, PUD_MASK);
	const old_pud = get_old_pud(mm, pmc.old_addr);
	if (old_pud === null) return wide;
	const new_pud = yield* alloc_new_pud(mm, pmc.new_addr);
	if (new_pud === null) return null;
	if (wide === PUD_SIZE && (yield* move_normal_pud(pmc, old_pud, new_pud))) return wide;
	const extent = get_extent(pmc, PMD_SIZE, PMD_MASK);
	const old_pmd = get_old_pmd(mm, pmc.old_addr);
	if (old_pmd === null) return extent;
	const new_pmd = yield* alloc_new_pmd(mm, pmc.new_addr);
	if (new_pmd === null) return null;
	for (;;) {
		if (pmdIsHuge(old_pmd.value)) {
			if (extent === PMD_SIZE && (yield* moveHuge(pmc, old_pmd, new_pmd)))
				return extent;
			yield* split_huge_pmd(pmc.old, old_pmd, pmc.old_addr);
		} else if (extent === PMD_SIZE && (yield* move_normal_pmd(pmc, old_pmd, new_pmd)))
			return extent;
		if (pmd_none(old_pmd.value)) return extent;
		if ((yield* pte_alloc(mm, new_pmd)) !== 0) return null;
		if (yield* move_ptes(pmc, extent, old_pmd, new_pmd)) return extent;
	}
}

/**
 * Move the page-table entries of a range.
 *
 * @param pmc - the move; its addresses are where it stopped afterwards
 * @returns bytes moved: fewer than asked for when there was no memory for tables
 * @context Sleeps. The mmap lock is held for writing, nothing is mapped at the destination.
 * @kernel mm/mremap.c
 */
export function* move_page_tables(pmc: pagetable_move_control): Sim<unsigned_long> {
	if (pmc.len_in === 0n) return 0n;
	if (is_vm_hugetlb_page(pmc.old))
		return yield* move_hugetlb_page_tables(
			pmc.old,
			pmc.new,
			pmc.old_addr,
			pmc.new_addr,
			pmc.len_in,
		);
	try_realign_addr(pmc, PMD_MASK);
	const range = new mmu_notifier_range();
	const { vm_mm: mm } = pmc.old;
	mmu_notifier_range_init(range, MMU_NOTIFY_UNMAP, 0, mm, pmc.old_addr, pmc.old_end);
	yield* mmu_notifier_invalidate_range_start(range);
	while (pmc.old_addr < pmc.old_end) {
		if (preemptible()) yield schedulePoint('yield', mm);
		const extent = yield* movePiece(pmc);
		if (extent === null) break;
		pmc.old_addr += extent;
		pmc.new_addr += extent;
	}
	yield* mmu_notifier_invalidate_range_end(range);
	return pmc_progress(pmc);
}
