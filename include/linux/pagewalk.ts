// SPDX-License-Identifier: GPL-2.0-only
/** struct mm_walk: walking page tables with callbacks. */
import type { Sim } from '../sim/schedule.ts';
import type { mm_struct, vm_area_struct } from './mm_types.ts';
import type { TableEntry } from './pgtable.ts';
import type { int, unsigned_long } from './types.ts';

export const PGWALK_RDLOCK = 0;
export const PGWALK_WRLOCK = 1;
export const PGWALK_WRLOCK_VERIFY = 2;
export const PGWALK_VMA_RDLOCK_VERIFY = 3;
/** What the walker asserts of the mmap lock. */
export type page_walk_lock = 0 | 1 | 2 | 3;

export const ACTION_SUBTREE = 0;
export const ACTION_CONTINUE = 1;
export const ACTION_AGAIN = 2;
/** What the walker does after a callback. */
export type page_walk_action = 0 | 1 | 2;

type EntryOp = (entry: TableEntry, addr: bigint, next: bigint, walk: mm_walk) => Sim<int>;

/**
 * Callbacks of a walk. A callback may sleep; a non-zero return ends the walk.
 *
 * @kernel include/linux/pagewalk.h
 */
export interface mm_walk_ops {
	readonly pgd_entry?: EntryOp;
	readonly p4d_entry?: EntryOp;
	readonly pud_entry?: EntryOp;
	readonly pmd_entry?: EntryOp;
	readonly pte_entry?: EntryOp;
	/** Nothing is mapped here, or no VMA is. */
	readonly pte_hole?: (addr: bigint, next: bigint, depth: int, walk: mm_walk) => Sim<int>;
	/** An entry of a hugetlb VMA. */
	readonly hugetlb_entry?: (
		pte: TableEntry,
		hmask: unsigned_long,
		addr: bigint,
		next: bigint,
		walk: mm_walk,
	) => Sim<int>;
	/** Whether to walk a VMA: 0 yes, 1 no, negative ends the walk. */
	readonly test_walk?: (addr: bigint, next: bigint, walk: mm_walk) => Sim<int>;
	/** Before the entries of a VMA. */
	readonly pre_vma?: (start: bigint, end: bigint, walk: mm_walk) => Sim<int>;
	/** After the entries of a VMA. */
	readonly post_vma?: (walk: mm_walk) => Sim<void>;
	readonly walk_lock: page_walk_lock;
}

/**
 * A walk on its way.
 *
 * @kernel include/linux/pagewalk.h
 */
export class mm_walk {
	ops: mm_walk_ops = null as unknown as mm_walk_ops;
	mm: mm_struct = null as unknown as mm_struct;
	/** The VMA under the walker; null in a gap. */
	vma: vm_area_struct | null = null;
	action: page_walk_action = ACTION_SUBTREE;
	no_vma = false;
	private: unknown = null;

	/** @param init - designated initialiser */
	constructor(init: Partial<mm_walk> = {}) {
		Object.assign(this, init);
	}
}
