// SPDX-License-Identifier: GPL-2.0-only
/**
 * UFFDIO_COPY, UFFDIO_ZEROPAGE and UFFDIO_POISON: an entry that is empty gets what user space wants
 * there.
 *
 * ```
 *                private mapping                 shared memory
 *   copy         anonymous page with the bytes   page of the page cache with the bytes
 *   zero page    the zero page                   page of the page cache, zeros
 *   poison       marker: a touch is a SIGBUS     marker
 * ```
 */
import {
	EAGAIN,
	EEXIST,
	EFAULT,
	EINVAL,
	ENOENT,
	ENOMEM,
	ESRCH,
} from '../../include/linux/errno.ts';
import type { inode } from '../../include/linux/fs.ts';
import {
	linear_page_index,
	VM_SHARED,
	VM_WRITE,
	vma_is_anonymous,
} from '../../include/linux/mm.ts';
import {
	type folio,
	MM_ANONPAGES,
	type mm_struct,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import {
	pfn_pte,
	pmd_leaf,
	pmd_present,
	pte_mkdirty,
	pte_mkspecial,
	pte_mkuffd_wp,
	pte_mkwrite,
	pte_none,
	type pte_t,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import { current, fatal_signal_pending } from '../../include/linux/sched.ts';
import type { spinlock_t } from '../../include/linux/spinlock.ts';
import {
	make_pte_marker_entry,
	PTE_MARKER_POISONED,
	swp_entry_to_pte,
} from '../../include/linux/swapops.ts';
import {
	type bool,
	type int,
	outParam,
	PAGE_SIZE,
	type unsigned_long,
} from '../../include/linux/types.ts';
import { type userfaultfd_ctx, userfaultfd_wp } from '../../include/linux/userfaultfd_k.ts';
import { preemptible, type Sim, schedulePoint } from '../../include/sim/schedule.ts';
import { mmget_not_zero, mmput } from '../exec_mm.ts';
import { folio_unlock } from '../filemap.ts';
import { vma_lookup } from '../find_vma.ts';
import { inc_mm_counter, mm_counter_file } from '../memory/counter.ts';
import { __folio_mark_uptodate, folio_prealloc } from '../memory/fault_common.ts';
import { folio_mk_pte, my_zero_pfn } from '../memory.ts';
import { mmap_read_lock, mmap_read_unlock } from '../mmap_lock.ts';
import { pageFrame } from '../page_alloc.ts';
import {
	pgd_offset,
	pmd_alloc,
	pmdp_get_lockless,
	pte_alloc,
	pte_offset_map_lock,
	pte_unmap_unlock,
	ptep_get,
	pud_alloc,
	set_pte_at,
} from '../pgtable.ts';
import {
	anon_vma_prepare,
	folio_add_file_rmap_pte,
	folio_add_new_anon_rmap,
	RMAP_EXCLUSIVE,
} from '../rmap.ts';
import { shmemAddZeroed, shmemDropNew, vma_is_shmem } from '../shmem.ts';
import { folio_add_lru_vma, folio_put } from '../swap.ts';
import { wake_userfault } from './fault.ts';
import { isUffdMarker } from './marker.ts';
import { validate_range } from './register.ts';

/** What entries get. */
type Filling =
	| { readonly kind: 'copy'; readonly bytes: Uint8Array; readonly wp: bool }
	| { readonly kind: 'zeropage' }
	| { readonly kind: 'poison' };

/** One entry to be filled. */
interface Slot {
	readonly vma: vm_area_struct;
	readonly pmd: TableEntry;
	readonly addr: bigint;
}

/** Whether the address lies beyond the end of the file. */
function mfill_file_over_size({ vma, addr }: Slot): boolean {
	const { f_inode: i } = vma.vm_file ?? {};
	if (!i) return false;
	return linear_page_index(vma, addr) << 12n >= i.i_size;
}

/** Sets an entry that is empty, or marked if `overMarker`; `map` counts what it maps. */
function* install(
	slot: Slot,
	pte: pte_t,
	overMarker: bool,
	map: (() => Sim<void>) | null,
): Sim<int> {
	const { vma, pmd, addr } = slot;
	const ptl = outParam<spinlock_t | null>(null);
	const ptep = yield* pte_offset_map_lock(vma.vm_mm, pmd, addr, ptl);
	if (ptep === null) return -EAGAIN;
	const was = ptep_get(ptep);
	let ret: int = 0;
	if (mfill_file_over_size(slot)) ret = -EFAULT;
	else if (!pte_none(was) && !(overMarker && isUffdMarker(was))) ret = -EEXIST;
	else {
		if (map !== null) yield* map();
		yield* set_pte_at(vma.vm_mm, addr, ptep, pte);
	}
	yield* pte_unmap_unlock(ptep, ptl.value);
	return ret;
}

/** Maps a page that holds what is wanted. */
function* mfill_atomic_install_pte(slot: Slot, f: folio, page_in_cache: bool, wp: bool): Sim<int> {
	const { vma, addr } = slot;
	let pte = pte_mkdirty(folio_mk_pte(f, vma.vm_page_prot));
	const shared = (vma.vm_flags & VM_SHARED) !== 0n;
	if ((vma.vm_flags & VM_WRITE) !== 0n && (shared || !page_in_cache)) pte = pte_mkwrite(pte);
	if (wp) pte = pte_mkuffd_wp(pte);
	return yield* install(slot, pte, true, function* (): Sim<void> {
		if (page_in_cache) {
			yield* folio_add_file_rmap_pte(f, f.page, vma);
			inc_mm_counter(vma.vm_mm, mm_counter_file(f));
			return;
		}
		yield* folio_add_new_anon_rmap(f, vma, addr, RMAP_EXCLUSIVE);
		folio_add_lru_vma(f, vma);
		inc_mm_counter(vma.vm_mm, MM_ANONPAGES);
	});
}

function* mfill_atomic_pte_copy(slot: Slot, bytes: Uint8Array, wp: bool): Sim<int> {
	const f = yield* folio_prealloc(slot.vma.vm_mm, false);
	if (f === null) return -ENOMEM;
	pageFrame(f.page).u8.set(bytes);
	__folio_mark_uptodate(f);
	const ret = yield* mfill_atomic_install_pte(slot, f, false, wp);
	if (ret !== 0) yield* folio_put(f);
	return ret;
}

/** A page of shared memory: new in the page cache, or there is one already. */
function* shmem_mfill_atomic_pte(slot: Slot, bytes: Uint8Array | null, wp: bool): Sim<int> {
	const { vma, addr } = slot;
	const i: inode = vma.vm_file!.f_inode!;
	const index = linear_page_index(vma, addr);
	const made = yield* shmemAddZeroed(i, index);
	if (typeof made === 'number') return made;
	if (bytes !== null) pageFrame(made.page).u8.set(bytes);
	const ret = yield* mfill_atomic_install_pte(slot, made, true, wp);
	if (ret !== 0) yield* shmemDropNew(i, made);
	yield* folio_unlock(made);
	// the reference of the entry, unless there is none
	if (ret !== 0) yield* folio_put(made);
	return ret;
}

function* mfill_atomic_pte(slot: Slot, filling: Filling): Sim<int> {
	const shared = (slot.vma.vm_flags & VM_SHARED) !== 0n;
	if (filling.kind === 'poison') {
		const marker = swp_entry_to_pte(make_pte_marker_entry(PTE_MARKER_POISONED));
		return yield* install(slot, marker, false, null);
	}
	if (filling.kind === 'copy')
		return shared
			? yield* shmem_mfill_atomic_pte(slot, filling.bytes, filling.wp)
			: yield* mfill_atomic_pte_copy(slot, filling.bytes, filling.wp);
	if (shared) return yield* shmem_mfill_atomic_pte(slot, null, false);
	const zero = pfn_pte(my_zero_pfn(slot.addr), slot.vma.vm_page_prot);
	return yield* install(slot, pte_mkspecial(zero), false, null);
}

/** The pmd of an address with the table that it needs, or -errno. */
function* mm_alloc_pmd(mm: mm_struct, addr: bigint): Sim<TableEntry | int> {
	const pud = yield* pud_alloc(mm, pgd_offset(mm, addr), addr);
	const pmd = pud === null ? null : yield* pmd_alloc(mm, pud, addr);
	if (pmd === null || (yield* pte_alloc(mm, pmd)) !== 0) return -ENOMEM;
	const word = yield* pmdp_get_lockless(pmd);
	// a huge page is left alone
	return pmd_present(word) && !pmd_leaf(word) ? pmd : -EEXIST;
}

/** The VMA that a whole range lies in, ready for anonymous pages; or -errno. */
function* uffd_mfill_lock(mm: mm_struct, start: bigint, len: bigint): Sim<vm_area_struct | int> {
	const vma = vma_lookup(mm, start);
	if (vma === null) return -ENOENT;
	if ((vma.vm_flags & VM_SHARED) === 0n && (yield* anon_vma_prepare(vma)) !== 0)
		return -ENOMEM;
	return start + len > vma.vm_end || vma.vm_userfaultfd_ctx === null ? -ENOENT : vma;
}

/** Fills a range under the mmap lock: bytes filled, or -errno when it is none. */
function* mfill_atomic(
	mm: mm_struct,
	start: bigint,
	len: bigint,
	filling: Filling,
): Sim<bigint | int> {
	const vma = yield* uffd_mfill_lock(mm, start, len);
	if (typeof vma === 'number') return vma;
	if (filling.kind === 'copy' && filling.wp && !userfaultfd_wp(vma)) return -EINVAL;
	if (!vma_is_anonymous(vma) && !vma_is_shmem(vma)) return -EINVAL;
	let copied = 0n;
	while (copied < len) {
		const addr = start + copied;
		const pmd = yield* mm_alloc_pmd(mm, addr);
		const part =
			filling.kind === 'copy'
				? {
						...filling,
						bytes: filling.bytes.subarray(
							Number(copied),
							Number(copied) + 4096,
						),
					}
				: filling;
		const err =
			typeof pmd === 'number'
				? pmd
				: yield* mfill_atomic_pte({ vma, pmd, addr }, part);
		if (preemptible()) yield schedulePoint('yield', mm);
		if (err !== 0) return copied > 0n ? copied : err;
		copied += PAGE_SIZE;
		if (copied < len && fatal_signal_pending(current())) return copied;
	}
	return copied;
}

/** What the ioctls have in common. */
function* fill(ctx: userfaultfd_ctx, start: bigint, len: bigint, filling: Filling): Sim<int> {
	const { mm } = ctx;
	const invalid = validate_range(start, len);
	if (invalid !== 0) return invalid;
	if (!mmget_not_zero(mm)) return -ESRCH;
	yield* mmap_read_lock(mm);
	const copied = yield* mfill_atomic(mm, start, len, filling);
	yield* mmap_read_unlock(mm);
	yield* mmput(mm);
	if (typeof copied === 'number') return copied;
	wake_userfault(ctx, start, copied);
	return copied === len ? 0 : -EAGAIN;
}

/**
 * UFFDIO_COPY: fill a range with bytes.
 *
 * @param ctx - the userfaultfd
 * @param dst - first address
 * @param bytes - what; whole pages
 * @param wp - the new entries are write-protected
 * @retval 0 filled, and who waits for it is woken
 * @retval -EINVAL a range that makes no sense, or `wp` where writes are not watched
 * @retval -ENOENT the range does not lie in one VMA that is watched
 * @retval -EEXIST something is mapped at the first address
 * @retval -EAGAIN only a part is filled
 * @retval -EFAULT beyond the end of the file
 * @retval -ENOMEM no memory
 * @retval -ESRCH the address space is gone
 * @context Process context. Sleeps. The mmap lock is not held.
 * @deviates the bytes instead of their address, always without DONTWAKE
 * @kernel mm/userfaultfd.c
 */
export function* userfaultfd_copy(
	ctx: userfaultfd_ctx,
	dst: unsigned_long,
	bytes: Uint8Array,
	wp: bool,
): Sim<int> {
	return yield* fill(ctx, dst, BigInt(bytes.length), { kind: 'copy', bytes, wp });
}

/**
 * UFFDIO_ZEROPAGE: fill a range with zeros.
 *
 * @param ctx - the userfaultfd
 * @param start - first address
 * @param len - length
 * @returns as userfaultfd_copy()
 * @context Process context. Sleeps. The mmap lock is not held.
 * @deviates the members of struct uffdio_zeropage one by one, always without DONTWAKE
 * @kernel mm/userfaultfd.c
 */
export function* userfaultfd_zeropage(
	ctx: userfaultfd_ctx,
	start: unsigned_long,
	len: unsigned_long,
): Sim<int> {
	return yield* fill(ctx, start, len, { kind: 'zeropage' });
}

/**
 * UFFDIO_POISON: touches of a range are a SIGBUS.
 *
 * @param ctx - the userfaultfd
 * @param start - first address
 * @param len - length
 * @returns as userfaultfd_copy(); also what is only marked counts as mapped
 * @context Process context. Sleeps. The mmap lock is not held.
 * @deviates the members of struct uffdio_poison one by one, always without DONTWAKE
 * @kernel mm/userfaultfd.c
 */
export function* userfaultfd_poison(
	ctx: userfaultfd_ctx,
	start: unsigned_long,
	len: unsigned_long,
): Sim<int> {
	return yield* fill(ctx, start, len, { kind: 'poison' });
}
