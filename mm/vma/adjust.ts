// SPDX-License-Identifier: GPL-2.0-only
/**
 * Splitting and merging VMAs.
 *
 * Guarantee: neighbours that differ in nothing are one VMA, as far as their anon_vmas allow; rmap
 * finds each page by some VMA at every moment. Mechanism: boundaries move under the write locks of
 * both rmaps; `mm.vmas` stays sorted.
 *
 * ```
 *   new range:        prev | NEW | next      -> prev grows, or next grows down, or all become prev
 *   existing range:   prev | vma.. | next    -> left, right or both sides, the rest stays
 *   split_vma(addr):  [ vma ) -> [ new ) [ vma )   new_below
 *                              -> [ vma ) [ new )   else
 * ```
 */
import { ENOMEM } from '../../include/linux/errno.ts';
import type { file } from '../../include/linux/fs.ts';
import { VM_SPECIAL, VM_STICKY } from '../../include/linux/mm.ts';
import type { anon_vma, mm_struct, vm_area_struct } from '../../include/linux/mm_types.ts';
import type { bool, int, pgoff_t, unsigned_long, vm_flags_t } from '../../include/linux/types.ts';
import type { userfaultfd_ctx } from '../../include/linux/userfaultfd_k.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { down_write, up_write } from '../../kernel/locking/rwsem.ts';
import { fput, get_file } from '../file_table.ts';
import { vmaIndex } from '../find_vma.ts';
import { vma_adjust_trans_huge } from '../huge_memory/split_pmd.ts';
import { mmap_assert_write_locked } from '../mmap_lock.ts';
import { anon_vma_clone, unlink_anon_vmas } from '../rmap.ts';
import { unlink_file_vma, vm_area_dup, vm_area_free } from './area.ts';

/** Most VMAs of one address space (vm.max_map_count). */
export const sysctl_max_map_count = 65530;

/** What a range would have to be equal in to be part of a neighbour. */
export interface MergeRange {
	readonly start: unsigned_long;
	/** Exclusive. */
	readonly end: unsigned_long;
	readonly flags: vm_flags_t;
	readonly file: file | null;
	readonly pgoff: pgoff_t;
	/** The VMA that the range is part of; null for a new range. */
	readonly middle: vm_area_struct | null;
	/** A new range whose pages come from this VMA: mremap(). */
	readonly copied_from?: vm_area_struct;
	/** Who resolves faults of the range; default: who does those of the VMA that it comes from. */
	readonly uffd?: userfaultfd_ctx | null;
	/** That VMA stays what it is: the range does not become a part of it. */
	readonly apart?: bool;
}

/** Takes the locks of both rmaps of VMAs whose boundaries move. */
function* vma_prepare(vma: vm_area_struct, anon: anon_vma | null): Sim<void> {
	const mapping = vma.vm_file?.f_mapping;
	if (mapping) yield* down_write(mapping.i_mmap_rwsem);
	if (anon !== null) yield* down_write(anon.root.rwsem);
}

/**
 * Takes a VMA out of both rmaps and puts it in again: its key changed, and of VMAs with the same key
 * the one that came last is visited last.
 */
function reinsert(vma: vm_area_struct, anon: anon_vma | null): void {
	const i_mmap = vma.vm_file?.f_mapping?.i_mmap;
	if (i_mmap?.delete(vma)) i_mmap.add(vma);
	if (anon === null) return;
	for (const { chains } of vma.anon_vma_chain) if (chains.delete(vma)) chains.add(vma);
}

/** `adjusted`: a neighbour whose boundaries moved as well. */
function* vma_complete(
	vma: vm_area_struct,
	anon: anon_vma | null,
	adjusted: vm_area_struct | null,
): Sim<void> {
	reinsert(vma, anon);
	if (adjusted !== null) reinsert(adjusted, anon);
	if (anon !== null) yield* up_write(anon.root.rwsem);
	const mapping = vma.vm_file?.f_mapping;
	if (mapping) yield* up_write(mapping.i_mmap_rwsem);
}

/**
 * Split a VMA in two.
 *
 * @param vma - the VMA
 * @param addr - where, page aligned and inside
 * @param new_below - 1: the new VMA is the lower part; 0: the upper one
 * @retval 0 split
 * @retval -ENOMEM no memory, or too many VMAs
 * @context Sleeps. The mmap lock is held for writing.
 * @deviates no vma_iterator
 * @kernel mm/vma.c
 */
export function* split_vma(vma: vm_area_struct, addr: unsigned_long, new_below: int): Sim<int> {
	const { vm_mm: mm } = vma;
	mmap_assert_write_locked(mm);
	if (mm.vmas.length >= sysctl_max_map_count) return -ENOMEM;
	return yield* __split_vma(vma, addr, new_below);
}

/**
 * split_vma() for callers that have counted VMAs themselves.
 *
 * @param vma - the VMA
 * @param addr - where, page aligned and inside
 * @param new_below - 1: the new VMA is the lower part; 0: the upper one
 * @retval 0 split
 * @retval -ENOMEM no memory
 * @retval -EINVAL inside of a huge page of hugetlb
 * @context Sleeps. The mmap lock is held for writing.
 * @deviates no vma_iterator
 * @kernel mm/vma.c
 */
export function* __split_vma(vma: vm_area_struct, addr: unsigned_long, new_below: int): Sim<int> {
	const { vm_mm: mm } = vma;
	const refused = vma.vm_ops?.may_split?.(vma, addr) ?? 0;
	if (refused !== 0) return refused;
	const fresh = vm_area_dup(vma);
	if (fresh === null) return -ENOMEM;
	const pages = (addr - vma.vm_start) >> 12n;
	if (new_below) fresh.vm_end = addr;
	else {
		fresh.vm_start = addr;
		fresh.vm_pgoff += pages;
	}
	const err = yield* anon_vma_clone(fresh, vma);
	if (err !== 0) {
		vm_area_free(fresh);
		return err;
	}
	if (fresh.vm_file !== null) get_file(fresh.vm_file);
	fresh.vm_ops?.open?.(fresh);
	yield* vma_prepare(vma, vma.anon_vma);
	yield* vma_adjust_trans_huge(vma, vma.vm_start, addr, null);
	const at = mm.vmas.indexOf(vma);
	if (new_below) {
		vma.vm_start = addr;
		vma.vm_pgoff += pages;
		mm.vmas.splice(at, 0, fresh);
	} else {
		vma.vm_end = addr;
		mm.vmas.splice(at + 1, 0, fresh);
	}
	fresh.vm_file?.f_mapping?.i_mmap.add(fresh);
	yield* vma_complete(vma, vma.anon_vma, null);
	return 0;
}

/** A process that forked shares these pages: its VMA must not take in others. */
function vma_is_fork_child(vma: vm_area_struct): boolean {
	return vma.anon_vma !== null && vma.anon_vma_chain.length !== 1;
}

/** The VMA whose anonymous pages the range has, or will have. */
function sourceOf(range: MergeRange): vm_area_struct | null {
	return range.middle ?? range.copied_from ?? null;
}

/** Whether the range may use the target's anon_vma, or the target the range's. */
function is_mergeable_anon_vma(from: vm_area_struct | null, target: vm_area_struct): boolean {
	const source = from?.anon_vma ?? null;
	if (target.anon_vma === null && source !== null) return !vma_is_fork_child(from!);
	if (target.anon_vma !== null && source === null) return !vma_is_fork_child(target);
	return source === target.anon_vma;
}

/** A VMA that has something to do at its end cannot vanish by being merged. */
function can_merge_remove_vma(vma: vm_area_struct): boolean {
	return vma.vm_ops?.close === undefined;
}

function is_mergeable_vma(range: MergeRange, target: vm_area_struct): boolean {
	const uffd = range.uffd === undefined ? sourceOf(range)?.vm_userfaultfd_ctx : range.uffd;
	return (
		((range.flags ^ target.vm_flags) & ~VM_STICKY) === 0n &&
		range.file === target.vm_file &&
		(uffd ?? null) === target.vm_userfaultfd_ctx
	);
}

function can_vma_merge_left(range: MergeRange, prev: vm_area_struct | null): boolean {
	return (
		prev !== null &&
		prev.vm_end === range.start &&
		is_mergeable_vma(range, prev) &&
		is_mergeable_anon_vma(sourceOf(range), prev) &&
		prev.vm_pgoff + ((prev.vm_end - prev.vm_start) >> 12n) === range.pgoff
	);
}

/** @param left - the VMA in front if the range merges with that as well */
function can_vma_merge_right(
	range: MergeRange,
	next: vm_area_struct | null,
	left: vm_area_struct | null,
): boolean {
	if (
		next === null ||
		next.vm_start !== range.end ||
		!is_mergeable_vma(range, next) ||
		!is_mergeable_anon_vma(sourceOf(range), next) ||
		next.vm_pgoff !== range.pgoff + ((range.end - range.start) >> 12n)
	)
		return false;
	// each fits the range; they must fit each other too
	return left === null || is_mergeable_anon_vma(left, next);
}

/** Gives `dst` the anon_vmas of `src`, which it takes in, unless it has some. */
function* dup_anon_vma(dst: vm_area_struct, src: vm_area_struct): Sim<int> {
	if (src.anon_vma === null || dst.anon_vma !== null) return 0;
	dst.anon_vma = src.anon_vma;
	const err = yield* anon_vma_clone(dst, src);
	if (err !== 0) dst.anon_vma = null;
	return err;
}

/** Moves the boundaries of `vma`; those of `shrunk` too, and `removed` VMAs vanish. */
function* commit_merge(
	vma: vm_area_struct,
	start: bigint,
	end: bigint,
	removed: readonly vm_area_struct[],
	shrunk: {
		readonly vma: vm_area_struct;
		readonly start: bigint;
		readonly end: bigint;
	} | null,
): Sim<void> {
	const { vm_mm: mm } = vma;
	const anon = vma.anon_vma;
	for (const other of [...removed, ...(shrunk === null ? [] : [shrunk.vma])])
		vma.vm_flags |= other.vm_flags & VM_STICKY;
	yield* vma_prepare(vma, anon);
	yield* vma_adjust_trans_huge(vma, start, end, null);
	if (shrunk !== null)
		yield* vma_adjust_trans_huge(shrunk.vma, shrunk.start, shrunk.end, null);
	vma.vm_pgoff -= (vma.vm_start - start) >> 12n;
	vma.vm_start = start;
	vma.vm_end = end;
	if (shrunk !== null) {
		shrunk.vma.vm_pgoff += (shrunk.start - shrunk.vma.vm_start) >> 12n;
		shrunk.vma.vm_start = shrunk.start;
		shrunk.vma.vm_end = shrunk.end;
	}
	yield* vma_complete(vma, anon, shrunk?.vma ?? null);
	for (const gone of removed) {
		mm.vmas.splice(mm.vmas.indexOf(gone), 1);
		yield* unlink_file_vma(gone);
		yield* unlink_anon_vmas(gone);
		if (gone.vm_file !== null) yield* fput(gone.vm_file);
		vm_area_free(gone);
	}
}

/**
 * Make a new range part of its neighbours.
 *
 * @param mm - address space; nothing is mapped in the range
 * @param range - what the range is
 * @returns the VMA that holds the range now; null: it does not fit, or there is no memory
 * @context Sleeps. The mmap lock is held for writing.
 * @deviates parameters: vma_merge_struct without the iterator
 * @kernel mm/vma.c
 */
export function* vma_merge_new_range(mm: mm_struct, range: MergeRange): Sim<vm_area_struct | null> {
	mmap_assert_write_locked(mm);
	if ((range.flags & VM_SPECIAL) !== 0n) return null;
	const at = vmaIndex(mm, range.start);
	const apart = range.apart ? range.copied_from : undefined;
	let prev: vm_area_struct | null = mm.vmas[at - 1] ?? null;
	let next: vm_area_struct | null = mm.vmas[at] ?? null;
	if (prev === apart) prev = null;
	if (next === apart) next = null;
	const left = can_vma_merge_left(range, prev);
	const right = can_vma_merge_right(range, next, left ? prev : null);
	const from = range.copied_from ?? null;
	if (left) {
		const both = right && can_merge_remove_vma(next!);
		const end = both ? next!.vm_end : range.end;
		if (both && (yield* dup_anon_vma(prev!, next!)) !== 0) return null;
		if (from !== null && (yield* dup_anon_vma(prev!, from)) !== 0) return null;
		yield* commit_merge(prev!, prev!.vm_start, end, both ? [next!] : [], null);
		prev!.vm_flags |= range.flags & VM_STICKY;
		return prev;
	}
	if (!right) return null;
	if (from !== null && (yield* dup_anon_vma(next!, from)) !== 0) return null;
	yield* commit_merge(next!, range.start, next!.vm_end, [], null);
	next!.vm_flags |= range.flags & VM_STICKY;
	return next;
}

/** Makes a part of a VMA, about to get new flags, part of a neighbour. -ENOMEM is tried no more. */
function* vma_merge_existing_range(range: MergeRange): Sim<vm_area_struct | null | int> {
	const middle = range.middle!;
	const { vm_mm: mm } = middle;
	const leftSide = range.start === middle.vm_start;
	const rightSide = range.end === middle.vm_end;
	if ((range.flags & VM_SPECIAL) !== 0n || (!leftSide && !rightSide)) return null;
	const at = mm.vmas.indexOf(middle);
	const prev = mm.vmas[at - 1] ?? null;
	const next = mm.vmas[at + 1] ?? null;
	const left = leftSide && can_vma_merge_left(range, prev);
	const right = rightSide && can_vma_merge_right(range, next, left ? prev : null);
	if (!left && !right) return null;
	const whole = leftSide && rightSide;
	if (whole && !can_merge_remove_vma(middle)) return null;
	if (left && right && can_merge_remove_vma(next!)) {
		const err = yield* dup_anon_vma(prev!, next!.anon_vma !== null ? next! : middle);
		if (err !== 0) return err;
		yield* commit_merge(prev!, prev!.vm_start, next!.vm_end, [middle, next!], null);
		return prev;
	}
	const target = (left ? prev : next)!;
	const err = yield* dup_anon_vma(target, middle);
	if (err !== 0) return err;
	const start = left ? target.vm_start : range.start;
	const end = left ? range.end : target.vm_end;
	const rest = left
		? { vma: middle, start: range.end, end: middle.vm_end }
		: { vma: middle, start: middle.vm_start, end: range.start };
	yield* commit_merge(target, start, end, whole ? [middle] : [], whole ? null : rest);
	return target;
}

/**
 * Give a part of a VMA other flags: by merging it with a neighbour that has them, or by splitting.
 * The flags themselves are set by the caller.
 *
 * @param vma - the VMA
 * @param start - first address, inside
 * @param end - exclusive
 * @param new_flags - the flags
 * @returns the VMA that is exactly the part, or that the part was merged into; a merge may have given
 *   it VM_STICKY flags, which the caller keeps
 * @retval -ENOMEM no memory, or too many VMAs
 * @context Sleeps. The mmap lock is held for writing.
 * @deviates neither the iterator nor the VMA in front is passed
 * @kernel mm/vma.c
 */
export function* vma_modify_flags(
	vma: vm_area_struct,
	start: unsigned_long,
	end: unsigned_long,
	new_flags: vm_flags_t,
): Sim<vm_area_struct | int> {
	return yield* vma_modify_flags_uffd(vma, start, end, new_flags, vma.vm_userfaultfd_ctx);
}

/**
 * Give a part of a VMA other flags and another userfaultfd, as vma_modify_flags() does.
 *
 * @param vma - the VMA
 * @param start - first address, inside
 * @param end - exclusive
 * @param new_flags - the flags
 * @param new_ctx - the userfaultfd, or null
 * @returns the VMA that is exactly the part, or that the part was merged into
 * @retval -ENOMEM no memory, or too many VMAs
 * @context Sleeps. The mmap lock is held for writing.
 * @deviates neither the iterator nor the VMA in front is passed
 * @kernel mm/vma.c
 */
export function* vma_modify_flags_uffd(
	vma: vm_area_struct,
	start: unsigned_long,
	end: unsigned_long,
	new_flags: vm_flags_t,
	new_ctx: userfaultfd_ctx | null,
): Sim<vm_area_struct | int> {
	mmap_assert_write_locked(vma.vm_mm);
	const merged = yield* vma_merge_existing_range({
		start,
		end,
		flags: new_flags,
		file: vma.vm_file,
		pgoff: vma.vm_pgoff + ((start - vma.vm_start) >> 12n),
		middle: vma,
		uffd: new_ctx,
	});
	if (merged !== null) return merged;
	if (vma.vm_start < start) {
		const err = yield* split_vma(vma, start, 1);
		if (err !== 0) return err;
	}
	if (vma.vm_end > end) {
		const err = yield* split_vma(vma, end, 0);
		if (err !== 0) return err;
	}
	return vma;
}
