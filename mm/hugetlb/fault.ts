// SPDX-License-Identifier: GPL-2.0-only
/**
 * Faults on hugetlb mappings.
 *
 * ```
 *   entry                    private                              shared
 *   none                     a page of the pool, zeroed           the file's page, or one for the file
 *                            read: read-only; write: writable     as the VMA allows
 *   present, read-only,      nobody else maps it: ours again,     writable
 *     written to               writable
 *                            else: copy, CLEAR for the whole page
 *                              pool empty: SIGBUS; the owner takes the page away from its children
 * ```
 *
 * One fault at a time makes or copies a page of a file: `hugetlb_fault_mutex_table`.
 */
import { WARN_ON_ONCE } from '../../include/linux/bug.ts';
import { ENOMEM } from '../../include/linux/errno.ts';
import type { inode } from '../../include/linux/fs.ts';
import {
	folio_clear_hugetlb_restore_reserve,
	HPAGE_RESV_OWNER,
	HPAGE_RESV_UNMAPPED,
	hstate_vma,
	huge_page_mask,
	huge_page_size,
	is_vma_resv_set,
	vma_hugecache_offset,
} from '../../include/linux/hugetlb.ts';
import { VM_MAYSHARE, VM_SHARED, VM_WRITE, vmf_error } from '../../include/linux/mm.ts';
import {
	type address_space,
	FAULT_FLAG_UNSHARE,
	FAULT_FLAG_WRITE,
	type folio,
	type mm_struct,
	page_folio,
	VM_FAULT_HWPOISON_LARGE,
	VM_FAULT_OOM,
	VM_FAULT_SIGBUS,
	VM_FAULT_SIGSEGV,
	type vm_area_struct,
	vm_fault,
} from '../../include/linux/mm_types.ts';
import { MMU_NOTIFY_CLEAR, mmu_notifier_range } from '../../include/linux/mmu_notifier.ts';
import { pfn_to_page } from '../../include/linux/mmzone.ts';
import {
	folio_test_anon,
	PageAnonExclusive,
	PG_hwpoison,
	SetPageAnonExclusive,
} from '../../include/linux/page-flags.ts';
import {
	pte_mkdirty,
	pte_mkyoung,
	pte_none,
	pte_pfn,
	pte_present,
	type pte_t,
	pte_write,
} from '../../include/linux/pgtable.ts';
import { pr_warn } from '../../include/linux/printk.ts';
import { current } from '../../include/linux/sched.ts';
import { mutex, type spinlock_t } from '../../include/linux/spinlock.ts';
import { softleaf_from_pte, softleaf_is_poison_marker } from '../../include/linux/swapops.ts';
import {
	type int,
	PMD_SHIFT,
	type unsigned_int,
	type unsigned_long,
	type vm_fault_t,
} from '../../include/linux/types.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';
import { preemptible, type Sim, schedulePoint } from '../../include/sim/schedule.ts';
import { feature, perWorld } from '../../include/sim/world.ts';
import { mutex_lock, mutex_unlock } from '../../kernel/locking/mutex.ts';
import { spin_lock, spin_unlock } from '../../kernel/locking/spinlock.ts';
import {
	filemap_lock_folio,
	folio_lock,
	folio_trylock,
	folio_unlock,
	folio_wait_locked,
} from '../filemap.ts';
import { __folio_mark_uptodate, vmf_anon_prepare } from '../memory/fault_common.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init,
} from '../mmu_notifier.ts';
import { folio_mark_dirty } from '../page-writeback.ts';
import { pmd_lock, pmd_lockptr, set_pmd_at } from '../pgtable.ts';
import { folio_move_anon_rmap } from '../rmap.ts';
import { folio_get, folio_put } from '../swap.ts';
import {
	clearHugePage,
	copyHugePage,
	huge_pte_alloc,
	huge_ptep_clear_flush,
	huge_ptep_set_access_flags,
	hugetlbCount,
	make_huge_pte,
	set_huge_ptep_writable,
} from './entry.ts';
import { alloc_hugetlb_folio, restore_reserve_on_error } from './reserve.ts';
import {
	hugetlb_add_file_rmap,
	hugetlb_add_new_anon_rmap,
	hugetlb_remove_rmap,
	hugetlbMapcount,
} from './rmap.ts';
import { unmap_ref_private } from './unmap.ts';

/** How many faults can make pages at the same time. */
const NUM_FAULT_MUTEXES = 8;

const hugetlb_fault_mutex_table = perWorld(() =>
	Array.from({ length: NUM_FAULT_MUTEXES }, () => new mutex('&hugetlb_fault_mutex_table[i]')),
);

/** The mutex of a page of a file. The kernel's hash takes the file into account, too. */
function faultMutex(index: bigint): mutex {
	return hugetlb_fault_mutex_table()[Number(index) % NUM_FAULT_MUTEXES]!;
}

/** Index in the page cache: of the first small page, as a folio's index is. */
function cacheIndex(index: bigint): bigint {
	return index << (PMD_SHIFT - 12n);
}

/** Puts a new folio into the page cache of a shared file, locked, with a reference for the cache. */
function* hugetlb_add_to_page_cache(f: folio, mapping: address_space, index: bigint): Sim<int> {
	if (shouldFail('hugetlb_add_to_page_cache')) return -ENOMEM;
	yield* folio_lock(f);
	if (preemptible()) yield schedulePoint('write', mapping, 'i_pages');
	folio_get(f);
	f.mapping = mapping;
	f.index = cacheIndex(index);
	mapping.i_pages.set(Number(cacheIndex(index)), f);
	folio_clear_hugetlb_restore_reserve(f);
	// there is nothing that it could be written to: it must not be dropped
	yield* folio_mark_dirty(f);
	return 0;
}

/** A page that a fault maps where nothing is: locked, with a reference that the entry takes. */
interface FoundPage {
	readonly folio: folio;
	/** New, and of this mapping alone. */
	readonly anon: boolean;
}

/** A new page, zeroed: anonymous in a private mapping, else in the file. */
function* newPage(vmf: vm_fault, mapping: address_space): Sim<FoundPage | vm_fault_t> {
	const { vma, address, pgoff } = vmf;
	const h = hstate_vma(vma);
	const shared = (vma.vm_flags & VM_MAYSHARE) !== 0n;
	if (!shared) {
		const ret = yield* vmf_anon_prepare(vmf);
		if (ret !== 0) return ret;
	}
	const f = yield* alloc_hugetlb_folio(vma, address, false);
	if (typeof f === 'number') return vmf.pmd!.value === vmf.orig_pte ? vmf_error(f) : 0;
	clearHugePage(h, f);
	__folio_mark_uptodate(f);
	if (!shared) {
		yield* folio_lock(f);
		return { folio: f, anon: true };
	}
	if ((yield* hugetlb_add_to_page_cache(f, mapping, pgoff)) === 0)
		return { folio: f, anon: false };
	restore_reserve_on_error(h, vma, address, f);
	yield* folio_put(f);
	return VM_FAULT_SIGBUS;
}

/** The page for an empty entry, or the result of the fault. */
function* findPage(vmf: vm_fault, mapping: address_space): Sim<FoundPage | vm_fault_t> {
	const f = yield* filemap_lock_folio(mapping, cacheIndex(vmf.pgoff));
	if (f === null) {
		const size = (mapping.host as inode).i_size >> PMD_SHIFT;
		return vmf.pgoff >= size ? VM_FAULT_SIGBUS : yield* newPage(vmf, mapping);
	}
	if ((f.flags & PG_hwpoison) === 0) return { folio: f, anon: false };
	yield* folio_unlock(f);
	yield* folio_put(f);
	return VM_FAULT_HWPOISON_LARGE;
}

/** Maps a page in an empty entry, which is locked and unchanged. */
function* mapPage(vmf: vm_fault, { folio: f, anon }: FoundPage): Sim<void> {
	const { vma, address } = vmf;
	if (anon) yield* hugetlb_add_new_anon_rmap(f, vma, address);
	else yield* hugetlb_add_file_rmap(f);
	const writable = (vma.vm_flags & (VM_WRITE | VM_SHARED)) === (VM_WRITE | VM_SHARED);
	const pte = make_huge_pte(vma, f.page, writable);
	yield* set_pmd_at(vma.vm_mm, address, vmf.pmd!, pte as bigint);
	hugetlbCount(1, vma);
}

/** Nothing is mapped. */
function* hugetlb_no_page(vmf: vm_fault, mapping: address_space): Sim<vm_fault_t> {
	const { vma } = vmf;
	if (is_vma_resv_set(vma, HPAGE_RESV_UNMAPPED)) {
		pr_warn(`PID ${current().pid} killed due to inadequate hugepage pool`);
		return VM_FAULT_SIGBUS;
	}
	const found = yield* findPage(vmf, mapping);
	if (typeof found === 'number') return found;
	const { folio: f, anon } = found;
	vmf.ptl = yield* pmd_lock(vma.vm_mm, vmf.pmd!);
	if (vmf.pmd!.value !== vmf.orig_pte) {
		yield* spin_unlock(vmf.ptl);
		if (anon) restore_reserve_on_error(hstate_vma(vma), vma, vmf.address, f);
		yield* folio_unlock(f);
		yield* folio_put(f);
		return 0;
	}
	yield* mapPage(vmf, found);
	let ret: vm_fault_t = 0;
	// a copy at once, without a second fault
	const write = (vmf.flags & FAULT_FLAG_WRITE) !== 0 && (vma.vm_flags & VM_SHARED) === 0n;
	if (!write) yield* folio_unlock(f);
	else if (anon) {
		ret = yield* hugetlb_wp(vmf);
		yield* folio_unlock(f);
	} else {
		yield* folio_unlock(f);
		ret = yield* hugetlb_wp(vmf);
	}
	yield* spin_unlock(vmf.ptl);
	return ret;
}

/** Puts a copy in place of what was there; returns the folio that is not needed. */
function* breakCow(vmf: vm_fault, pte: pte_t, old: folio, copy: folio): Sim<folio> {
	const { vma, address } = vmf;
	const size = huge_page_size(hstate_vma(vma));
	const range = new mmu_notifier_range();
	mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, vma.vm_mm, address, address + size);
	yield* mmu_notifier_invalidate_range_start(range);
	yield* spin_lock(vmf.ptl!);
	let unused = copy;
	if (vmf.pmd!.value === pte) {
		const unshare = (vmf.flags & FAULT_FLAG_UNSHARE) !== 0;
		const entry = make_huge_pte(vma, copy.page, !unshare);
		yield* huge_ptep_clear_flush(vma, address, vmf.pmd!);
		yield* hugetlb_remove_rmap(old);
		yield* hugetlb_add_new_anon_rmap(copy, vma, address);
		yield* set_pmd_at(vma.vm_mm, address, vmf.pmd!, entry as bigint);
		unused = old;
	}
	yield* spin_unlock(vmf.ptl!);
	yield* mmu_notifier_invalidate_range_end(range);
	return unused;
}

/** Whether nobody else maps an anonymous page; it is this process's then. */
function reuse(vmf: vm_fault, old: folio): boolean {
	if (hugetlbMapcount(old) !== 1 || !folio_test_anon(old)) return false;
	if (!PageAnonExclusive(old.page)) {
		folio_move_anon_rmap(old, vmf.vma);
		SetPageAnonExclusive(old.page);
	}
	return true;
}

/** The pool is empty, and the owner needs a page: its children lose theirs. */
function* takeFromChildren(vmf: vm_fault, old: folio): Sim<void> {
	const { vma, address } = vmf;
	const lock = faultMutex(vmf.pgoff);
	yield* mutex_unlock(lock);
	yield* unmap_ref_private(vma.vm_mm, vma, old.page, address);
	yield* mutex_lock(lock);
	yield* spin_lock(vmf.ptl!);
}

/** A copy for the writer; the entry is not locked, and the old folio has a reference that is put. */
function* copyPage(vmf: vm_fault, pte: pte_t, old: folio, copy: folio): Sim<vm_fault_t> {
	const h = hstate_vma(vmf.vma);
	const ret = yield* vmf_anon_prepare(vmf);
	let unused = copy;
	if (ret === 0) {
		copyHugePage(h, copy, old);
		__folio_mark_uptodate(copy);
		unused = yield* breakCow(vmf, pte, old, copy);
	}
	if (unused !== old) restore_reserve_on_error(h, vmf.vma, vmf.address, unused);
	yield* folio_put(unused);
	yield* folio_put(old);
	yield* spin_lock(vmf.ptl!);
	return ret;
}

/**
 * A write, or an attempt to unshare, to a page that is mapped read-only.
 *
 * @param vmf - the fault; its entry is locked on entry and on return
 * @returns bits of the fault's result
 * @kernel mm/hugetlb.c
 */
function* hugetlb_wp(vmf: vm_fault): Sim<vm_fault_t> {
	const { vma, address } = vmf;
	const unshare = (vmf.flags & FAULT_FLAG_UNSHARE) !== 0;
	const writable = (vma.vm_flags & VM_WRITE) !== 0n;
	if (
		!feature('hugetlb_forced_write') &&
		WARN_ON_ONCE(!unshare && !writable, 'write fault forced on a hugetlb mapping')
	)
		return VM_FAULT_SIGSEGV;
	if ((vma.vm_flags & VM_MAYSHARE) !== 0n) {
		yield* set_huge_ptep_writable(vma, address, vmf.pmd!);
		return 0;
	}
	const pte = vmf.pmd!.value;
	const old = page_folio(pfn_to_page(pte_pfn(pte)));
	for (;;) {
		if (reuse(vmf, old)) {
			// a forced write goes by the read-only entry
			if (!unshare && writable)
				yield* set_huge_ptep_writable(vma, address, vmf.pmd!);
			return 0;
		}
		const owner = is_vma_resv_set(vma, HPAGE_RESV_OWNER) && folio_test_anon(old);
		folio_get(old);
		yield* spin_unlock(vmf.ptl!);
		const copy = yield* alloc_hugetlb_folio(vma, address, owner);
		if (typeof copy !== 'number') return yield* copyPage(vmf, pte, old, copy);
		yield* folio_put(old);
		if (!owner) {
			yield* spin_lock(vmf.ptl!);
			return vmf_error(copy);
		}
		yield* takeFromChildren(vmf, old);
		if (vmf.pmd!.value !== pte) return 0;
	}
}

/** A write to, or an attempt to unshare, a read-only page; the entry is locked. Null: wait first. */
function* writeReadOnly(vmf: vm_fault): Sim<vm_fault_t | null> {
	const f = page_folio(pfn_to_page(pte_pfn(vmf.orig_pte)));
	const anon = folio_test_anon(f);
	if (anon && !(yield* folio_trylock(f))) return null;
	folio_get(f);
	const ret = yield* hugetlb_wp(vmf);
	if (anon) yield* folio_unlock(f);
	yield* folio_put(f);
	return ret;
}

/** Something is mapped. Null: the folio's lock must be waited for. */
function* presentFault(vmf: vm_fault): Sim<vm_fault_t | null> {
	const { vma, flags } = vmf;
	vmf.ptl = yield* pmd_lock(vma.vm_mm, vmf.pmd!);
	let ret: vm_fault_t | null = 0;
	if (vmf.pmd!.value === vmf.orig_pte) {
		const write = (flags & FAULT_FLAG_WRITE) !== 0;
		const wants = write || (flags & FAULT_FLAG_UNSHARE) !== 0;
		if (wants && !pte_write(vmf.orig_pte)) ret = yield* writeReadOnly(vmf);
		else {
			let entry = pte_mkyoung(vmf.orig_pte);
			if (write) entry = pte_mkdirty(entry);
			yield* huge_ptep_set_access_flags(vma, vmf.address, vmf.pmd!, entry, write);
		}
	}
	yield* spin_unlock(vmf.ptl as spinlock_t);
	return ret;
}

/** By what the entry is. */
function* faultByEntry(vmf: vm_fault, mapping: address_space): Sim<vm_fault_t | null> {
	const { orig_pte } = vmf;
	if (pte_none(orig_pte)) return yield* hugetlb_no_page(vmf, mapping);
	if (pte_present(orig_pte)) return yield* presentFault(vmf);
	const poisoned = softleaf_is_poison_marker(softleaf_from_pte(orig_pte));
	// other markers are as good as empty
	return poisoned ? VM_FAULT_HWPOISON_LARGE : yield* hugetlb_no_page(vmf, mapping);
}

/**
 * Handle a page fault of a hugetlb mapping.
 *
 * @param mm - address space
 * @param vma - the VMA
 * @param address - the address
 * @param flags - FAULT_FLAG_*
 * @retval 0 handled, or to be tried again
 * @retval VM_FAULT_SIGBUS the pool has no page for it, or it is beyond the end of the file
 * @retval VM_FAULT_OOM no memory for tables
 * @returns else what failed
 * @context Sleeps. The mmap lock is held.
 * @deviates hugetlb pages neither migrate nor share page tables, so there is no lock for these
 * @kernel mm/hugetlb.c
 */
export function* hugetlb_fault(
	mm: mm_struct,
	vma: vm_area_struct,
	address: unsigned_long,
	flags: unsigned_int,
): Sim<vm_fault_t> {
	const h = hstate_vma(vma);
	const at = address & huge_page_mask(h);
	const vmf = new vm_fault({
		vma,
		address: at,
		real_address: address,
		flags,
		pgoff: vma_hugecache_offset(h, vma, at),
	});
	const mapping = vma.vm_file!.f_mapping!;
	const lock = faultMutex(vmf.pgoff);
	yield* mutex_lock(lock);
	vmf.pmd = yield* huge_pte_alloc(mm, vma, at);
	if (vmf.pmd === null) {
		yield* mutex_unlock(lock);
		return VM_FAULT_OOM;
	}
	vmf.ptl = pmd_lockptr(mm, vmf.pmd);
	vmf.orig_pte = vmf.pmd.value;
	const ret = yield* faultByEntry(vmf, mapping);
	yield* mutex_unlock(lock);
	if (ret !== null) return ret;
	// not under the mutex: whoever has the folio's lock may want that
	yield* folio_wait_locked(page_folio(pfn_to_page(pte_pfn(vmf.orig_pte))));
	return 0;
}
