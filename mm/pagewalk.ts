// SPDX-License-Identifier: GPL-2.0-only
/**
 * The page-table walker.
 *
 * Guarantee: over [start, end) each callback is called for the entries of its level, holes and gaps
 * included, in rising order. Mechanism: one function a level; a level without callbacks below it is
 * not descended into. Duty: the caller holds the mmap lock as `ops.walk_lock` says; a pmd callback
 * that dropped a lock or saw its pmd change says ACTION_AGAIN.
 *
 * ```
 *   walk_page_range    gap             VMA                     VMA         gap
 *                   pte_hole(-1)   test_walk, pre_vma                     pte_hole(-1)
 *     walk_pgd_range                 [ pgd: none -> pte_hole(0) ]
 *       walk_pud_range                 [ pud_entry, none -> pte_hole(2) ]
 *         walk_pmd_range                 [ pmd_entry, none -> pte_hole(3) ]
 *           walk_pte_range                 [ pte_entry for every pte, none or not, under the lock ]
 * ```
 *
 * The depth of a hole counts from the pgd; with the p4d level folded, an empty top-level entry is
 * met at the p4d and reported with depth 0.
 */

import { EINVAL } from '../include/linux/errno.ts';
import { VM_HUGETLB, VM_PFNMAP } from '../include/linux/mm.ts';
import type { mm_struct, vm_area_struct } from '../include/linux/mm_types.ts';
import {
	ACTION_AGAIN,
	ACTION_CONTINUE,
	ACTION_SUBTREE,
	mm_walk,
	type mm_walk_ops,
	PGWALK_RDLOCK,
	PGWALK_WRLOCK,
	type page_walk_lock,
} from '../include/linux/pagewalk.ts';
import {
	pgd_addr_end,
	pmd_addr_end,
	pmd_leaf,
	pmd_none,
	pmd_present,
	pud_addr_end,
	pud_leaf,
	pud_none,
	pud_present,
	type TableEntry,
} from '../include/linux/pgtable.ts';
import type { spinlock_t } from '../include/linux/spinlock.ts';
import {
	type int,
	type out,
	PMD_MASK,
	PMD_SIZE,
	type unsigned_long,
} from '../include/linux/types.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { find_vma } from './find_vma.ts';
import { split_huge_pmd } from './huge_memory/split_pmd.ts';
import { hugetlb_walk } from './hugetlb/entry.ts';
import { mmap_assert_locked, mmap_assert_write_locked } from './mmap_lock.ts';
import {
	nextEntry,
	pgd_none_or_clear_bad,
	pgd_offset,
	pmd_offset,
	pte_offset_map,
	pte_offset_map_lock,
	pte_unmap,
	pte_unmap_unlock,
	pud_offset,
} from './pgtable.ts';

const DEPTH_PGD = 0;
const DEPTH_PUD = 2;
const DEPTH_PMD = 3;

function* walk_pte_range_inner(
	pte: TableEntry,
	addr: bigint,
	end: bigint,
	walk: mm_walk,
): Sim<int> {
	const { pte_entry } = walk.ops;
	let entry = pte;
	let at = addr;
	for (;;) {
		const err = yield* pte_entry!(entry, at, at + 4096n, walk);
		if (err !== 0) return err;
		if (at >= end - 4096n) return 0;
		at += 4096n;
		entry = nextEntry(entry);
	}
}

function* walk_pte_range(pmd: TableEntry, addr: bigint, end: bigint, walk: mm_walk): Sim<int> {
	let err: int = 0;
	if (walk.no_vma) {
		const pte = yield* pte_offset_map(pmd, addr);
		if (pte === null) walk.action = ACTION_AGAIN;
		else {
			err = yield* walk_pte_range_inner(pte, addr, end, walk);
			yield* pte_unmap(pte);
		}
		return err;
	}
	const ptl: out<spinlock_t | null> = { value: null };
	const pte = yield* pte_offset_map_lock(walk.mm, pmd, addr, ptl);
	if (pte === null) walk.action = ACTION_AGAIN;
	else {
		err = yield* walk_pte_range_inner(pte, addr, end, walk);
		yield* pte_unmap_unlock(pte, ptl.value);
	}
	return err;
}

/** One pmd: its hole or its callbacks, again as often as they ask for it. */
function* walkPmd(pmd: TableEntry, addr: bigint, next: bigint, walk: mm_walk): Sim<int> {
	const { ops } = walk;
	for (;;) {
		if (pmd_none(pmd.value))
			return ops.pte_hole ? yield* ops.pte_hole(addr, next, DEPTH_PMD, walk) : 0;
		walk.action = ACTION_SUBTREE;
		if (ops.pmd_entry) {
			const err = yield* ops.pmd_entry(pmd, addr, next, walk);
			if (err !== 0) return err;
			// the callback stored to it; the compiler does not see that
			const action = walk.action as int;
			if (action === ACTION_AGAIN) continue;
			if (action === ACTION_CONTINUE) return 0;
		}
		if (ops.pte_entry === undefined) return 0;
		if (walk.vma === null && (pmd_leaf(pmd.value) || !pmd_present(pmd.value))) return 0;
		if (walk.vma !== null) yield* split_huge_pmd(walk.vma, pmd, addr);
		const err = yield* walk_pte_range(pmd, addr, next, walk);
		if (err !== 0) return err;
		if ((walk.action as int) !== ACTION_AGAIN) return 0;
	}
}

function* walk_pmd_range(pud: TableEntry, addr: bigint, end: bigint, walk: mm_walk): Sim<int> {
	let pmd = pmd_offset(pud, addr);
	for (let at = addr; ; ) {
		const next = pmd_addr_end(at, end);
		const err = yield* walkPmd(pmd, at, next, walk);
		if (err !== 0) return err;
		at = next;
		if (at === end) return 0;
		pmd = nextEntry(pmd);
	}
}

/** One pud: its hole or its callbacks, again as often as they ask for it. */
function* walkPud(pud: TableEntry, addr: bigint, next: bigint, walk: mm_walk): Sim<int> {
	const { ops } = walk;
	for (;;) {
		if (pud_none(pud.value))
			return ops.pte_hole ? yield* ops.pte_hole(addr, next, DEPTH_PUD, walk) : 0;
		walk.action = ACTION_SUBTREE;
		if (ops.pud_entry) {
			const err = yield* ops.pud_entry(pud, addr, next, walk);
			if (err !== 0) return err;
			const action = walk.action as int;
			if (action === ACTION_AGAIN) continue;
			if (action === ACTION_CONTINUE) return 0;
		}
		if (!ops.pmd_entry && !ops.pte_entry) return 0;
		if (walk.vma === null && (pud_leaf(pud.value) || !pud_present(pud.value))) return 0;
		// a huge pud of a VMA would be split here: split_huge_pud()
		if (pud_none(pud.value)) continue;
		return yield* walk_pmd_range(pud, addr, next, walk);
	}
}

function* walk_pud_range(pgd: TableEntry, addr: bigint, end: bigint, walk: mm_walk): Sim<int> {
	let pud = pud_offset(pgd, addr);
	for (let at = addr; ; ) {
		const next = pud_addr_end(at, end);
		const err = yield* walkPud(pud, at, next, walk);
		if (err !== 0) return err;
		at = next;
		if (at === end) return 0;
		pud = nextEntry(pud);
	}
}

/** One top-level entry, and the p4d folded into it. */
function* walkPgd(pgd: TableEntry, addr: bigint, next: bigint, walk: mm_walk): Sim<int> {
	const { ops } = walk;
	if (ops.pgd_entry) {
		const err = yield* ops.pgd_entry(pgd, addr, next, walk);
		if (err !== 0) return err;
	}
	if (pgd_none_or_clear_bad(pgd))
		return ops.pte_hole ? yield* ops.pte_hole(addr, next, DEPTH_PGD, walk) : 0;
	if (ops.p4d_entry) {
		const err = yield* ops.p4d_entry(pgd, addr, next, walk);
		if (err !== 0) return err;
	}
	if (!ops.pud_entry && !ops.pmd_entry && !ops.pte_entry) return 0;
	return yield* walk_pud_range(pgd, addr, next, walk);
}

function* walk_pgd_range(addr: bigint, end: bigint, walk: mm_walk): Sim<int> {
	let pgd = pgd_offset(walk.mm, addr);
	for (let at = addr; ; ) {
		const next = pgd_addr_end(at, end);
		const err = yield* walkPgd(pgd, at, next, walk);
		if (err !== 0) return err;
		at = next;
		if (at === end) return 0;
		pgd = nextEntry(pgd);
	}
}

function* walk_hugetlb_range(addr: bigint, end: bigint, walk: mm_walk): Sim<int> {
	const { ops } = walk;
	for (let at = addr; at !== end; ) {
		const next = pmd_addr_end(at, end);
		const pte = hugetlb_walk(walk.vma!, at & PMD_MASK);
		let err: int = 0;
		if (pte !== null)
			err = yield* ops.hugetlb_entry!(pte, ~(PMD_SIZE - 1n), at, next, walk);
		else if (ops.pte_hole) err = yield* ops.pte_hole(at, next, -1, walk);
		if (err !== 0) return err;
		at = next;
	}
	return 0;
}

/**
 * Whether a VMA is walked.
 *
 * @retval 0 walk it
 * @retval 1 leave it out
 */
function* walk_page_test(start: bigint, end: bigint, walk: mm_walk): Sim<int> {
	const { ops, vma } = walk;
	if (ops.test_walk) return yield* ops.test_walk(start, end, walk);
	// entries without struct page are no business of an ordinary walk
	if ((vma!.vm_flags & VM_PFNMAP) === 0n) return 0;
	const err = ops.pte_hole ? yield* ops.pte_hole(start, end, -1, walk) : 0;
	return err !== 0 ? err : 1;
}

function* __walk_page_range(start: bigint, end: bigint, walk: mm_walk): Sim<int> {
	const { ops, vma } = walk;
	if (ops.pre_vma) {
		const err = yield* ops.pre_vma(start, end, walk);
		if (err !== 0) return err;
	}
	let err: int = 0;
	if ((vma!.vm_flags & VM_HUGETLB) !== 0n) {
		if (ops.hugetlb_entry) err = yield* walk_hugetlb_range(start, end, walk);
	} else err = yield* walk_pgd_range(start, end, walk);
	if (ops.post_vma) yield* ops.post_vma(walk);
	return err;
}

function process_mm_walk_lock(mm: mm_struct, walk_lock: page_walk_lock): void {
	if (walk_lock === PGWALK_RDLOCK) mmap_assert_locked(mm);
	else mmap_assert_write_locked(mm);
}

/**
 * With VMAs locked one by one, a writer's walk locks each, or finds it locked: the mmap lock for
 * writing stands for both here.
 */
function process_vma_walk_lock(vma: vm_area_struct, walk_lock: page_walk_lock): void {
	if (walk_lock === PGWALK_WRLOCK) mmap_assert_write_locked(vma.vm_mm);
	else if (walk_lock !== PGWALK_RDLOCK) mmap_assert_locked(vma.vm_mm);
}

/** The next stretch of a walk: a gap, or the part of a VMA. */
function* walkStretch(
	walk: mm_walk,
	vma: vm_area_struct | null,
	start: bigint,
	next: bigint,
): Sim<int> {
	const { ops } = walk;
	walk.vma = vma;
	if (vma === null) return ops.pte_hole ? yield* ops.pte_hole(start, next, -1, walk) : 0;
	process_vma_walk_lock(vma, ops.walk_lock);
	const test = yield* walk_page_test(start, next, walk);
	if (test > 0) return 0;
	return test < 0 ? test : yield* __walk_page_range(start, next, walk);
}

/**
 * Walk the page tables of a range, VMAs and gaps between them.
 *
 * @param mm - address space
 * @param start - first address
 * @param end - exclusive
 * @param ops - callbacks
 * @param private_ - for the callbacks, as walk.private
 * @retval 0 walked to the end
 * @retval -EINVAL start is not below end
 * @returns else what a callback returned to end the walk
 * @context The mmap lock is held as `ops.walk_lock` says. Callbacks may sleep unless they hold a pte.
 * @kernel mm/pagewalk.c
 */
export function* walk_page_range(
	mm: mm_struct,
	start: unsigned_long,
	end: unsigned_long,
	ops: mm_walk_ops,
	private_: unknown,
): Sim<int> {
	if (start >= end) return -EINVAL;
	const walk = new mm_walk({ ops, mm, private: private_ });
	process_mm_walk_lock(mm, ops.walk_lock);
	let vma = find_vma(mm, start);
	for (let at = start; at < end; ) {
		let next: bigint;
		let err: int;
		if (vma === null || at < vma.vm_start) {
			next = vma === null || vma.vm_start > end ? end : vma.vm_start;
			err = yield* walkStretch(walk, null, at, next);
		} else {
			const here = vma;
			next = here.vm_end < end ? here.vm_end : end;
			vma = find_vma(mm, here.vm_end);
			err = yield* walkStretch(walk, here, at, next);
		}
		if (err !== 0) return err;
		at = next;
	}
	return 0;
}

/**
 * Walk the page tables of a part of one VMA, without test_walk.
 *
 * @param vma - the VMA
 * @param start - first address, inside
 * @param end - exclusive, inside
 * @param ops - callbacks
 * @param private_ - for the callbacks, as walk.private
 * @retval 0 walked to the end
 * @retval -EINVAL the range is empty or not inside the VMA
 * @returns else what a callback returned to end the walk
 * @context The mmap lock is held as `ops.walk_lock` says.
 * @kernel mm/pagewalk.c
 */
export function* walk_page_range_vma(
	vma: vm_area_struct,
	start: unsigned_long,
	end: unsigned_long,
	ops: mm_walk_ops,
	private_: unknown,
): Sim<int> {
	if (start >= end) return -EINVAL;
	if (start < vma.vm_start || end > vma.vm_end) return -EINVAL;
	const walk = new mm_walk({ ops, mm: vma.vm_mm, vma, private: private_ });
	process_mm_walk_lock(vma.vm_mm, ops.walk_lock);
	process_vma_walk_lock(vma, ops.walk_lock);
	return yield* __walk_page_range(start, end, walk);
}

/**
 * Walk page tables as the hardware has them, whatever the VMAs say: for dumps.
 *
 * @param mm - address space
 * @param start - first address
 * @param end - exclusive
 * @param ops - callbacks
 * @param private_ - for the callbacks, as walk.private
 * @retval 0 walked to the end
 * @retval -EINVAL start is not below end
 * @returns else what a callback returned to end the walk
 * @context The mmap lock is held for writing.
 * @deviates the kernel's last two parameters but one is the pgd to start from
 * @kernel mm/pagewalk.c (as walk_page_range_debug)
 */
export function* walk_page_range_novma(
	mm: mm_struct,
	start: unsigned_long,
	end: unsigned_long,
	ops: mm_walk_ops,
	private_: unknown,
): Sim<int> {
	if (start >= end) return -EINVAL;
	const walk = new mm_walk({ ops, mm, private: private_, no_vma: true });
	mmap_assert_write_locked(mm);
	return yield* walk_pgd_range(start, end, walk);
}
