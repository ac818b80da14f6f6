// SPDX-License-Identifier: GPL-2.0-only
/**
 * mremap(): a mapping grows, shrinks, or moves to another address.
 *
 * Guarantee: what was mapped at the old address is at the new one, page by page, whatever its
 * entries are; when it fails half-way the pages are where they were. Mechanism: the destination is
 * unmapped, a VMA like the old one is made there (or a neighbour grows), the page-table entries
 * change place (mremap/page_tables.ts), the old mapping is unmapped.
 *
 * ```
 *   MREMAP_MAYMOVE | FIXED        [ old )   ->              [ new )
 *   the same | DONTUNMAP          [ old )   -> [ empty )    [ new )
 *   several VMAs (since 6.17)     [A)  [B)  ->              [A)  [B)     a hole stays one
 * ```
 */
import { WARN_ON_ONCE } from '../include/linux/bug.ts';
import { EFAULT, EINTR, EINVAL, ENOMEM } from '../include/linux/errno.ts';
import {
	is_vm_hugetlb_page,
	TASK_SIZE,
	VM_DONTEXPAND,
	VM_LOCKED,
	VM_MAYSHARE,
	VM_PFNMAP,
	VM_SHARED,
	vma_is_anonymous,
} from '../include/linux/mm.ts';
import type { mm_struct, vm_area_struct } from '../include/linux/mm_types.ts';
import { current } from '../include/linux/sched.ts';
import {
	type errno,
	type int,
	outParam,
	PAGE_MASK,
	PAGE_SIZE,
	PMD_SIZE,
	type unsigned_long,
} from '../include/linux/types.ts';
import {
	__VM_UFFD_FLAGS,
	userfaultfd_armed,
	vma_has_uffd_without_event_remap,
} from '../include/linux/userfaultfd_k.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { feature } from '../include/sim/world.ts';
import { find_vma_intersection, vma_lookup, vmaIndex } from './find_vma.ts';
import { __mm_populate } from './gup/populate.ts';
import { clear_vma_resv_huge_pages } from './hugetlb/move.ts';
import { placeOf } from './mmap.ts';
import { mmap_write_lock_killable, mmap_write_unlock } from './mmap_lock.ts';
import { move_page_tables, pagetable_move_control } from './mremap/page_tables.ts';
import { unlink_anon_vmas } from './rmap.ts';
import {
	copy_vma,
	do_vmi_munmap,
	split_vma,
	sysctl_max_map_count,
	userfaultfd_set_ctx,
	vma_merge_new_range,
} from './vma.ts';

export { move_page_tables, pagetable_move_control } from './mremap/page_tables.ts';

export const MREMAP_MAYMOVE = 1;
export const MREMAP_FIXED = 2;
export const MREMAP_DONTUNMAP = 4;

/**
 * One mremap() call, or the part of it that concerns one VMA.
 *
 * @kernel mm/mremap.c
 */
class vma_remap_struct {
	addr: unsigned_long;
	old_len: unsigned_long;
	new_len: unsigned_long;
	flags: number;
	new_addr: unsigned_long;
	vma: vm_area_struct | null = null;
	/** The mmap lock is held: shrinking leaves it. */
	mmap_locked = true;
	/** The mapping is locked: pages that it gained are to be faulted in. */
	mlocked = false;

	constructor(
		addr: unsigned_long,
		old_len: unsigned_long,
		new_len: unsigned_long,
		flags: number,
		new_addr: unsigned_long,
	) {
		this.addr = addr;
		this.old_len = old_len;
		this.new_len = new_len;
		this.flags = flags;
		this.new_addr = new_addr;
	}
}

function vrm_overlaps(vrm: vma_remap_struct): boolean {
	return vrm.addr + vrm.old_len > vrm.new_addr && vrm.new_addr + vrm.new_len > vrm.addr;
}

function vrm_implies_new_addr(vrm: vma_remap_struct): boolean {
	return (vrm.flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) !== 0;
}

/** Finds the place of a mapping that moves; 0 or -errno. */
function vrm_set_new_addr(mm: mm_struct, vrm: vma_remap_struct): int {
	const hint = vrm_implies_new_addr(vrm) ? vrm.new_addr : 0n;
	const fixed = (vrm.flags & MREMAP_FIXED) !== 0;
	const anonymous = vrm.vma?.vm_file === null;
	const at = placeOf(mm, hint, vrm.new_len, fixed, PAGE_SIZE, anonymous);
	if (typeof at === 'number') return at;
	vrm.new_addr = at;
	return 0;
}

/** Counts what a mapping gained. */
function vrm_stat_account(
	mm: mm_struct,
	vrm: vma_remap_struct,
	vma: vm_area_struct,
	bytes: bigint,
): void {
	mm.total_vm += bytes >> 12n;
	if ((vma.vm_flags & VM_LOCKED) === 0n) return;
	mm.locked_vm += bytes >> 12n;
	vrm.mlocked = true;
}

/** Takes the old mapping away, of which the reservation went along with the pages. */
function* unmap_source_vma(mm: mm_struct, vrm: vma_remap_struct): Sim<void> {
	yield* do_vmi_munmap(mm, vrm.addr, vrm.old_len, false);
	vrm.vma = null;
}

/** Makes the new VMA and moves the entries; puts them back when that fails. */
function* copy_vma_and_data(
	vrm: vma_remap_struct,
): Sim<{ readonly err: int; readonly new_vma: vm_area_struct | null }> {
	const vmap = outParam(vrm.vma!);
	const locks = outParam(false);
	const pgoff = vmap.value.vm_pgoff + ((vrm.addr - vmap.value.vm_start) >> 12n);
	const new_vma = yield* copy_vma(
		vmap,
		vrm.new_addr,
		vrm.new_len,
		pgoff,
		locks,
		(vrm.flags & MREMAP_DONTUNMAP) !== 0,
	);
	if (new_vma === null) return { err: -ENOMEM, new_vma };
	const vma = vmap.value;
	vrm.vma = vma;
	const { addr, new_addr, old_len } = vrm;
	const pmc = new pagetable_move_control(vma, new_vma, addr, new_addr, old_len);
	pmc.need_rmap_locks = locks.value;
	const moved = yield* move_page_tables(pmc);
	if (moved >= old_len) {
		// nobody asked for UFFD_FEATURE_EVENT_REMAP: the new place is not watched
		if (vma_has_uffd_without_event_remap(new_vma))
			userfaultfd_set_ctx(new_vma, null, new_vma.vm_flags & ~__VM_UFFD_FLAGS);
		if (is_vm_hugetlb_page(vma)) clear_vma_resv_huge_pages(vma);
		return { err: 0, new_vma };
	}
	const revert = new pagetable_move_control(new_vma, vma, new_addr, addr, moved);
	revert.need_rmap_locks = true;
	yield* move_page_tables(revert);
	// so that the new mapping is what the caller unmaps
	vrm.vma = new_vma;
	vrm.old_len = vrm.new_len;
	vrm.addr = new_addr;
	return { err: -ENOMEM, new_vma };
}

/** What stays of the old mapping is empty: nothing is locked in it or reserved for it. */
function* dontunmap_complete(vrm: vma_remap_struct, new_vma: vm_area_struct): Sim<void> {
	const vma = vrm.vma!;
	WARN_ON_ONCE(new_vma === vma, 'mremap() merged a VMA that stays with itself');
	vma.vm_flags &= ~VM_LOCKED;
	if (vma.vm_start !== vrm.addr || vma.vm_end !== vrm.addr + vrm.old_len) return;
	yield* unlink_anon_vmas(vma);
	// as for any VMA that was never touched: its offset follows its address
	if (vma_is_anonymous(vma) && vma.vm_file === null) vma.vm_pgoff = vma.vm_start >> 12n;
}

/**
 * Whether the VMAs that a move may make keep within the limit: the copy and one half of a source that
 * is split, of which nothing goes if it was split beforehand.
 *
 * @param mm - the address space
 * @param split - the source is split before it moves
 * @param unmaps - VMAs that unmapping may make before
 */
function mapCountAllows(mm: mm_struct, split: boolean, unmaps: number): boolean {
	return mm.vmas.length + unmaps + 2 + Number(split) <= sysctl_max_map_count;
}

/** The same for a move at hand; 6.12 wants room for a VMA that is split in three. */
function hasRoomToMove(mm: mm_struct, split: boolean): boolean {
	return feature('mremap_map_count')
		? mapCountAllows(mm, split, 0)
		: mm.vmas.length < sysctl_max_map_count - 3;
}

/** Splits off the part that moves where its locked pages are counted on their own; 0 or -errno. */
function* prep_move_vma(mm: mm_struct, vrm: vma_remap_struct): Sim<int> {
	const vma = vrm.vma!;
	const split = (vrm.flags & MREMAP_DONTUNMAP) !== 0 && (vma.vm_flags & VM_LOCKED) !== 0n;
	if (!hasRoomToMove(mm, split)) return -ENOMEM;
	if (!split) return 0;
	const end = vrm.addr + vrm.old_len;
	let err: int = 0;
	if (vma.vm_start !== vrm.addr) err = yield* split_vma(vma, vrm.addr, 1);
	if (err === 0 && vma.vm_end !== end) err = yield* split_vma(vma, end, 0);
	return err;
}

function* move_vma(mm: mm_struct, vrm: vma_remap_struct): Sim<unsigned_long | errno> {
	const prepared = yield* prep_move_vma(mm, vrm);
	if (prepared !== 0) return prepared;
	const { err, new_vma } = yield* copy_vma_and_data(vrm);
	if (new_vma === null) return err;
	if (err === 0 && vrm.flags & MREMAP_DONTUNMAP) {
		// what was locked there is locked here now
		mm.total_vm += vrm.new_len >> 12n;
		yield* dontunmap_complete(vrm, new_vma);
	} else {
		vrm_stat_account(mm, vrm, new_vma, vrm.new_len);
		yield* unmap_source_vma(mm, vrm);
	}
	return err !== 0 ? err : vrm.new_addr;
}

/** Whether the VMA can be moved or resized as asked; 0 or -errno. */
function remap_is_valid({ vma, addr, old_len, new_len, flags }: vma_remap_struct): int {
	const { vm_flags, vm_end } = vma!;
	if (old_len === 0n && (vm_flags & (VM_SHARED | VM_MAYSHARE)) === 0n) return -EINVAL;
	const fixedSize = (vm_flags & (VM_DONTEXPAND | VM_PFNMAP)) !== 0n;
	if (flags & MREMAP_DONTUNMAP && fixedSize) return -EINVAL;
	if (old_len > vm_end - addr) return -EFAULT;
	if (new_len > old_len && fixedSize) return -EFAULT;
	return 0;
}

/** Unmaps the end of a mapping. */
function* shrink_vma(mm: mm_struct, vrm: vma_remap_struct, drop_lock: boolean): Sim<int> {
	const delta = vrm.old_len - vrm.new_len;
	const res = yield* do_vmi_munmap(mm, vrm.addr + vrm.new_len, delta, drop_lock);
	vrm.vma = null;
	if (res !== 0) return res;
	if (drop_lock) {
		vrm.mmap_locked = false;
		return 0;
	}
	vrm.vma = vma_lookup(mm, vrm.addr);
	return vrm.vma === null ? -EFAULT : 0;
}

/** Moves one VMA, or a part of it, to another place. */
function* mremap_to(mm: mm_struct, vrm: vma_remap_struct): Sim<unsigned_long | errno> {
	if (vrm.flags & MREMAP_FIXED) {
		const err = yield* do_vmi_munmap(mm, vrm.new_addr, vrm.new_len, false);
		if (err !== 0) return err;
		// a part of this VMA may have been there
		vrm.vma = vma_lookup(mm, vrm.addr);
		if (vrm.vma === null) return -EFAULT;
	}
	if (vrm.old_len > vrm.new_len) {
		const err = yield* shrink_vma(mm, vrm, false);
		if (err !== 0) return err;
		vrm.old_len = vrm.new_len;
	}
	const invalid = remap_is_valid(vrm);
	if (invalid !== 0) return invalid;
	const placed = vrm_set_new_addr(mm, vrm);
	return placed !== 0 ? placed : yield* move_vma(mm, vrm);
}

/** Whether a mapping can grow where it is. */
function vrm_can_expand_in_place(mm: mm_struct, vrm: vma_remap_struct): boolean {
	const { vm_end } = vrm.vma!;
	if (vm_end - vrm.addr !== vrm.old_len) return false;
	const end = vrm.addr + vrm.new_len;
	return end <= TASK_SIZE && find_vma_intersection(mm, vm_end, end) === null;
}

function* expand_vma(mm: mm_struct, vrm: vma_remap_struct): Sim<unsigned_long | errno> {
	const invalid = remap_is_valid(vrm);
	if (invalid !== 0) return invalid;
	const vma = vrm.vma!;
	if (vrm_can_expand_in_place(mm, vrm)) {
		const grown = yield* vma_merge_new_range(mm, {
			start: vma.vm_end,
			end: vrm.addr + vrm.new_len,
			flags: vma.vm_flags,
			file: vma.vm_file,
			pgoff: vma.vm_pgoff + ((vma.vm_end - vma.vm_start) >> 12n),
			middle: null,
			copied_from: vma,
		});
		if (grown === null) return -ENOMEM;
		vrm_stat_account(mm, vrm, grown, vrm.new_len - vrm.old_len);
		return vrm.addr;
	}
	if ((vrm.flags & MREMAP_MAYMOVE) === 0) return -ENOMEM;
	const placed = vrm_set_new_addr(mm, vrm);
	return placed !== 0 ? placed : yield* move_vma(mm, vrm);
}

/** Resizes a mapping where it is, or moves it to wherever there is room. */
function* mremap_at(mm: mm_struct, vrm: vma_remap_struct): Sim<unsigned_long | errno> {
	if (vrm.new_len === vrm.old_len) return vrm.addr;
	if (vrm.new_len > vrm.old_len) return yield* expand_vma(mm, vrm);
	const res = yield* shrink_vma(mm, vrm, true);
	return res !== 0 ? res : vrm.addr;
}

/** Whether the parameters make sense, before anything is looked up; 0 or -errno. */
function check_mremap_params(mm: mm_struct, vrm: vma_remap_struct, resizes: boolean): int {
	const { flags, new_len } = vrm;
	if (flags & ~(MREMAP_FIXED | MREMAP_MAYMOVE | MREMAP_DONTUNMAP)) return -EINVAL;
	if ((vrm.addr & ~PAGE_MASK) !== 0n || new_len === 0n) return -EINVAL;
	const first = feature('mremap_checks_first');
	if (first && new_len > TASK_SIZE) return -EINVAL;
	if (!vrm_implies_new_addr(vrm)) return 0;
	if ((flags & MREMAP_MAYMOVE) === 0) return -EINVAL;
	if (flags & MREMAP_DONTUNMAP && resizes) return -EINVAL;
	return first ? checkPlace(mm, vrm) : 0;
}

/** Whether a mapping may go where it is to go; 0 or -errno. 6.12 asks first whether there is one. */
function checkPlace(mm: mm_struct, vrm: vma_remap_struct): int {
	const { new_len, new_addr } = vrm;
	if ((new_addr & ~PAGE_MASK) !== 0n) return -EINVAL;
	if (new_len > TASK_SIZE || new_addr > TASK_SIZE - new_len) return -EINVAL;
	if (vrm_overlaps(vrm)) return -EINVAL;
	if (feature('mremap_map_count')) return 0;
	return mm.vmas.length + 2 >= sysctl_max_map_count - 3 ? -ENOMEM : 0;
}

/** hugetlb moves by whole pages of its own, and does not grow. */
function align_hugetlb(vrm: vma_remap_struct): boolean {
	const mask = PMD_SIZE - 1n;
	vrm.old_len = (vrm.old_len + mask) & ~mask;
	vrm.new_len = (vrm.new_len + mask) & ~mask;
	return ((vrm.addr | vrm.new_addr) & mask) === 0n && vrm.new_len <= vrm.old_len;
}

/** What one VMA is asked for, in a form that the rest understands; 0 or -errno. */
function prepareVma(vrm: vma_remap_struct): int {
	if (is_vm_hugetlb_page(vrm.vma!) && !align_hugetlb(vrm)) return -EINVAL;
	return 0;
}

/** Whether nothing is asked for but a move. */
function vrm_move_only(vrm: vma_remap_struct): boolean {
	return (vrm.flags & MREMAP_FIXED) !== 0 && vrm.old_len === vrm.new_len;
}

/**
 * Moves all VMAs of a range, the holes between them kept. The first address must be mapped; what
 * comes behind the last VMA is left alone on both sides.
 */
function* remap_move(mm: mm_struct, vrm: vma_remap_struct): Sim<unsigned_long | errno> {
	const { addr: start, old_len, new_addr } = vrm;
	const end = start + old_len;
	let res: unsigned_long | errno = -EFAULT;
	for (let at = start; at < end; ) {
		const vma = mm.vmas[vmaIndex(mm, at)];
		if (vma === undefined || vma.vm_start >= end) break;
		if (at === start && vma.vm_start > start) return -EFAULT;
		const from = vma.vm_start > at ? vma.vm_start : at;
		const to = vma.vm_end < end ? vma.vm_end : end;
		const part = new vma_remap_struct(
			from,
			to - from,
			to - from,
			vrm.flags,
			new_addr + (from - start),
		);
		part.vma = vma;
		const prepared = prepareVma(part);
		if (prepared !== 0) return prepared;
		const invalid = remap_is_valid(part);
		if (invalid !== 0) return invalid;
		// its owner would have to be told without the mmap lock
		if (userfaultfd_armed(vma) && (from > start || vma.vm_end < end)) return -EFAULT;
		const moved = yield* mremap_to(mm, part);
		if (typeof moved === 'number') return moved;
		if (from === start) res = moved;
		at = to;
	}
	return res;
}

function* do_mremap(mm: mm_struct, vrm: vma_remap_struct): Sim<unsigned_long | errno> {
	// a part of the source may be cut off, and a hole made for the destination
	const split = (vrm.flags & MREMAP_DONTUNMAP) !== 0;
	if (feature('mremap_map_count') && !mapCountAllows(mm, split, 2)) return -ENOMEM;
	if (feature('mremap_several_vmas') && vrm_move_only(vrm)) return yield* remap_move(mm, vrm);
	vrm.vma = vma_lookup(mm, vrm.addr);
	if (vrm.vma === null) return -EFAULT;
	const prepared = prepareVma(vrm);
	if (prepared !== 0) return prepared;
	if (!vrm_implies_new_addr(vrm)) return yield* mremap_at(mm, vrm);
	const wrong = feature('mremap_checks_first') ? 0 : checkPlace(mm, vrm);
	return wrong !== 0 ? wrong : yield* mremap_to(mm, vrm);
}

/**
 * mremap() of the current task.
 *
 * @param addr - the mapping, page aligned
 * @param old_len - its length, rounded up to pages; 0: another view of a shared mapping
 * @param new_len - the length that it gets, rounded up to pages
 * @param flags - MREMAP_* bits
 * @param new_addr - where it goes, if MREMAP_FIXED; a hint if MREMAP_DONTUNMAP
 * @returns the address
 * @retval -EINVAL flags or addresses that make no sense, the places overlap, or not for such a
 *   mapping
 * @retval -EFAULT nothing is mapped at `addr`, whatever else is wrong with the places in 6.12; or a
 *   range of several VMAs where that is not allowed: then the destination is unmapped already
 * @retval -ENOMEM no room, no memory, or too many VMAs, which 7.3 asks of any call
 * @retval -EINTR killed while it waited for the mmap lock
 * @context Process context. Sleeps. The mmap lock is not held.
 * @kernel mm/mremap.c
 */
export function* sys_mremap(
	addr: unsigned_long,
	old_len: unsigned_long,
	new_len: unsigned_long,
	flags: number,
	new_addr: unsigned_long,
): Sim<unsigned_long | errno> {
	const mm = current().mm!;
	const pages = (len: bigint): bigint => (len + PAGE_SIZE - 1n) & PAGE_MASK;
	const vrm = new vma_remap_struct(addr, pages(old_len), pages(new_len), flags, new_addr);
	// 6.12 compares the lengths before it rounds them
	const resizes = feature('mremap_checks_first')
		? vrm.old_len !== vrm.new_len
		: old_len !== new_len;
	const wrong = check_mremap_params(mm, vrm, resizes);
	if (wrong !== 0) return wrong;
	if ((yield* mmap_write_lock_killable(mm)) !== 0) return -EINTR;
	const res = yield* do_mremap(mm, vrm);
	if (vrm.mmap_locked) yield* mmap_write_unlock(mm);
	if (typeof res === 'bigint' && vrm.mlocked && vrm.new_len > vrm.old_len)
		yield* __mm_populate(res + vrm.old_len, vrm.new_len - vrm.old_len, true);
	return res;
}
