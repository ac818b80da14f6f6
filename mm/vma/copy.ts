// SPDX-License-Identifier: GPL-2.0-only
/** The VMA that a mapping is moved to. */
import { vma_is_anonymous } from '../../include/linux/mm.ts';
import type { vm_area_struct } from '../../include/linux/mm_types.ts';
import type { bool, out, pgoff_t, unsigned_long } from '../../include/linux/types.ts';
import { vma_has_uffd_without_event_remap } from '../../include/linux/userfaultfd_k.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { get_file } from '../file_table.ts';
import { vmaIndex } from '../find_vma.ts';
import { mmap_assert_write_locked } from '../mmap_lock.ts';
import { anon_vma_clone } from '../rmap.ts';
import { vma_merge_new_range } from './adjust.ts';
import { vm_area_dup, vm_area_free, vma_link_file } from './area.ts';

/** Makes the VMA where no neighbour takes the range in. */
function* duplicate(
	vma: vm_area_struct,
	addr: unsigned_long,
	len: unsigned_long,
	pgoff: pgoff_t,
): Sim<vm_area_struct | null> {
	const { vm_mm: mm } = vma;
	const fresh = vm_area_dup(vma);
	if (fresh === null) return null;
	fresh.vm_start = addr;
	fresh.vm_end = addr + len;
	fresh.vm_pgoff = pgoff;
	if ((yield* anon_vma_clone(fresh, vma)) !== 0) {
		vm_area_free(fresh);
		return null;
	}
	if (fresh.vm_file !== null) get_file(fresh.vm_file);
	fresh.vm_ops?.open?.(fresh);
	mm.vmas.splice(vmaIndex(mm, addr), 0, fresh);
	yield* vma_link_file(fresh);
	return fresh;
}

/**
 * Make a VMA that is like a part of another one, at a place where nothing is mapped, or have a
 * neighbour there take the range in.
 *
 * @param vmap - the VMA to copy; out: the VMA that it was merged into
 * @param addr - where the copy begins
 * @param len - length
 * @param pgoff - page offset of the part; that of memory that was never touched follows `addr`
 * @param need_rmap_locks - out: a walk of the rmap may come by the copy before it comes by `vmap`,
 *   so that whoever moves entries holds the rmap's locks
 * @param keep_source - `vmap` stays, so that it must not be merged with its copy
 * @returns the VMA that holds the range; null: no memory
 * @context Sleeps. The mmap lock is held for writing.
 * @kernel mm/vma.c
 */
export function* copy_vma(
	vmap: out<vm_area_struct>,
	addr: unsigned_long,
	len: unsigned_long,
	pgoff: pgoff_t,
	need_rmap_locks: out<bool>,
	keep_source: bool,
): Sim<vm_area_struct | null> {
	const vma = vmap.value;
	mmap_assert_write_locked(vma.vm_mm);
	const { vm_start } = vma;
	const untouched = vma_is_anonymous(vma) && vma.anon_vma === null;
	const offset = untouched ? addr >> 12n : pgoff;
	// at its new place it is not watched, so that it has no equals yet
	const alone = vma_has_uffd_without_event_remap(vma);
	const merged = alone
		? null
		: yield* vma_merge_new_range(vma.vm_mm, {
				start: addr,
				end: addr + len,
				flags: vma.vm_flags,
				file: vma.vm_file,
				pgoff: offset,
				middle: null,
				copied_from: vma,
				apart: keep_source && untouched,
			});
	if (merged === null) {
		need_rmap_locks.value = false;
		return yield* duplicate(vma, addr, len, offset);
	}
	// untouched memory moved next to itself: the VMA is a part of the merged one
	if (vm_start >= merged.vm_start && vm_start < merged.vm_end) vmap.value = merged;
	need_rmap_locks.value = merged.vm_pgoff <= vmap.value.vm_pgoff;
	return merged;
}
