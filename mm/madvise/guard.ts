// SPDX-License-Identifier: GPL-2.0-only
/**
 * MADV_GUARD_INSTALL and MADV_GUARD_REMOVE: addresses that must not be touched, without a VMA of
 * their own.
 *
 * Guarantee: a touch of a guarded page is a SIGSEGV, until it is removed or its mapping goes.
 * Mechanism: a marker in the page table, which DONTNEED and truncation leave alone. What is mapped
 * in the range goes first, in one CLEAR event. Duty: a marker by which a userfaultfd protects shared
 * memory does not go so: the call begins again until somebody lifts the protection, or kills the task.
 */
import { EINVAL, ENOMEM, ERESTARTNOINTR } from '../../include/linux/errno.ts';
import {
	VM_HUGETLB,
	VM_LOCKED,
	VM_MAYBE_GUARD,
	VM_SPECIAL,
	vma_is_anonymous,
} from '../../include/linux/mm.ts';
import type { vm_area_struct } from '../../include/linux/mm_types.ts';
import {
	ACTION_CONTINUE,
	type mm_walk,
	type mm_walk_ops,
	PGWALK_RDLOCK,
} from '../../include/linux/pagewalk.ts';
import {
	pmd_addr_end,
	pmd_trans_huge,
	pte_none,
	pte_present,
	type pte_t,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import type { spinlock_t } from '../../include/linux/spinlock.ts';
import {
	make_pte_marker_entry,
	PTE_MARKER_GUARD,
	softleaf_from_pte,
	softleaf_is_guard_marker,
	swp_entry_to_pte,
} from '../../include/linux/swapops.ts';
import { type int, outParam, PAGE_SIZE } from '../../include/linux/types.ts';
import { type Sim, touch } from '../../include/sim/schedule.ts';
import { zap_page_range_single } from '../memory.ts';
import { walk_page_range } from '../pagewalk.ts';
import {
	nextEntry,
	pgd_offset,
	pmd_alloc,
	pte_alloc,
	pte_offset_map_lock,
	pte_unmap_unlock,
	ptep_get,
	pud_alloc,
	set_pte_at,
} from '../pgtable.ts';
import { anon_vma_prepare } from '../rmap.ts';

/** How often the range is unmapped before the lock is let go. */
const MAX_MADVISE_GUARD_RETRIES = 3;

function is_guard_pte_marker(pte: pte_t): boolean {
	if (pte_none(pte) || pte_present(pte)) return false;
	return softleaf_is_guard_marker(softleaf_from_pte(pte));
}

/** Whether pages of a VMA can be guarded. */
function is_valid_guard_vma(vma: vm_area_struct, allow_locked: boolean): boolean {
	// locked memory is there, so a guard would have to throw it away
	const disallowed = allow_locked ? 0n : VM_LOCKED;
	return (vma.vm_flags & (VM_SPECIAL | VM_HUGETLB | disallowed)) === 0n;
}

/** Sets markers as far as entries are empty; 1: something is mapped, and is to go first. */
function* guardEntries(
	vma: vm_area_struct,
	first: TableEntry,
	addr: bigint,
	end: bigint,
): Sim<int> {
	const marker = swp_entry_to_pte(make_pte_marker_entry(PTE_MARKER_GUARD));
	for (let i = 0, at = addr; at !== end; i++, at += PAGE_SIZE) {
		const pte = nextEntry(first, i);
		const word = ptep_get(pte);
		if (is_guard_pte_marker(word)) continue;
		if (!pte_none(word)) return 1;
		yield* set_pte_at(vma.vm_mm, at, pte, marker);
	}
	return 0;
}

/**
 * Sets markers in a range.
 *
 * @retval 0 all of it is guarded
 * @retval 1 something is mapped there: it must be unmapped first
 * @retval -ENOMEM no memory for tables
 */
function* guard_install(vma: vm_area_struct, start: bigint, end: bigint): Sim<int> {
	const { vm_mm: mm } = vma;
	for (let at = start; at !== end; ) {
		const next = pmd_addr_end(at, end);
		const pud = yield* pud_alloc(mm, pgd_offset(mm, at), at);
		const pmd = pud === null ? null : yield* pmd_alloc(mm, pud, at);
		if (pmd === null) return -ENOMEM;
		const err = yield* pte_alloc(mm, pmd);
		if (err !== 0) return err;
		const ptl = outParam<spinlock_t | null>(null);
		const pte = yield* pte_offset_map_lock(mm, pmd, at, ptl);
		// a huge page
		if (pte === null) return 1;
		const ret = yield* guardEntries(vma, pte, at, next);
		yield* pte_unmap_unlock(pte, ptl.value);
		if (ret !== 0) return ret;
		at = next;
	}
	return 0;
}

/**
 * MADV_GUARD_INSTALL of a part of a VMA.
 *
 * @param vma - the VMA
 * @param start - first address, inside
 * @param end - exclusive, inside
 * @retval 0 guarded
 * @retval -EINVAL locked memory, or a mapping without pages of its own
 * @retval -ENOMEM no memory for tables or the anon_vma
 * @retval -ERESTARTNOINTR there still is something that must go first: the system call begins again
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/madvise.c
 */
export function* madvise_guard_install(vma: vm_area_struct, start: bigint, end: bigint): Sim<int> {
	if (!is_valid_guard_vma(vma, false)) return -EINVAL;
	// a fork copies the page tables of a VMA that has it; set under the mmap lock for reading
	touch('atomic', vma, 'vm_flags');
	vma.vm_flags |= VM_MAYBE_GUARD;
	// page tables of anonymous memory go with one
	if (vma_is_anonymous(vma)) {
		const err = yield* anon_vma_prepare(vma);
		if (err !== 0) return err;
	}
	for (let i = 0; i < MAX_MADVISE_GUARD_RETRIES; i++) {
		const err = yield* guard_install(vma, start, end);
		if (err <= 0) return err;
		yield* zap_page_range_single(vma, start, end - start, null);
	}
	// somebody maps pages all the time, or zapping leaves the entry: let go of the lock, and again
	return -ERESTARTNOINTR;
}

/** A huge page has no guards in it: it stays whole. */
function* guard_remove_pmd_entry(
	pmd: TableEntry,
	_addr: bigint,
	_next: bigint,
	walk: mm_walk,
): Sim<int> {
	if (pmd_trans_huge(pmd.value)) walk.action = ACTION_CONTINUE;
	return 0;
}

function* guard_remove_pte_entry(
	pte: TableEntry,
	addr: bigint,
	_next: bigint,
	walk: mm_walk,
): Sim<int> {
	if (is_guard_pte_marker(ptep_get(pte))) yield* set_pte_at(walk.mm, addr, pte, 0n);
	return 0;
}

const guard_remove_walk_ops: mm_walk_ops = {
	pmd_entry: guard_remove_pmd_entry,
	pte_entry: guard_remove_pte_entry,
	walk_lock: PGWALK_RDLOCK,
};

/**
 * MADV_GUARD_REMOVE of a part of a VMA: what is not guarded stays as it is.
 *
 * @param vma - the VMA
 * @param start - first address, inside
 * @param end - exclusive, inside
 * @retval 0 no page is guarded any more
 * @retval -EINVAL a mapping without pages of its own
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/madvise.c
 */
export function* madvise_guard_remove(vma: vm_area_struct, start: bigint, end: bigint): Sim<int> {
	if (!is_valid_guard_vma(vma, true)) return -EINVAL;
	return yield* walk_page_range(vma.vm_mm, start, end, guard_remove_walk_ops, null);
}
