// SPDX-License-Identifier: GPL-2.0-only
/**
 * A fault on a page that is swapped out.
 *
 * ```
 *   folio      from the swap cache; else from the device, with the slots around it
 *   entry      exclusive: the page is this process's alone, writable if the VMA is
 *              else: read-only; a write goes on as to any page that is mapped read-only
 *   slot       the entry's count goes; a write takes the folio out of the swap cache, too,
 *                6.12: before it is mapped, if nobody else refers to it: exclusive then
 *                7.3:  after it was mapped, if it is exclusive
 * ```
 */
import { BUG_ON } from '../../include/linux/bug.ts';
import { VM_LOCKED, VM_WRITE } from '../../include/linux/mm.ts';
import {
	FAULT_FLAG_WRITE,
	type folio,
	MM_ANONPAGES,
	MM_SWAPENTS,
	VM_FAULT_ERROR,
	VM_FAULT_HWPOISON,
	VM_FAULT_MAJOR,
	VM_FAULT_OOM,
	VM_FAULT_RETRY,
	VM_FAULT_SIGBUS,
	type vm_fault,
} from '../../include/linux/mm_types.ts';
import {
	folio_ref_count,
	folio_test_anon,
	folio_test_lru,
	folio_test_swapcache,
	folio_test_uptodate,
	folio_test_writeback,
	PageAnonExclusive,
	PG_hwpoison,
} from '../../include/linux/page-flags.ts';
import {
	pte_mkdirty,
	pte_mkwrite,
	pte_protnone,
	type pte_t,
	pte_write,
} from '../../include/linux/pgtable.ts';
import {
	folioSwapEntry,
	SWP_STABLE_WRITES,
	SWP_SYNCHRONOUS_IO,
	type swap_info_struct,
} from '../../include/linux/swap.ts';
import {
	pte_swp_exclusive,
	pte_swp_uffd_wp,
	type softleaf_t,
} from '../../include/linux/swapops.ts';
import { GFP_HIGHUSER_MOVABLE, type vm_fault_t } from '../../include/linux/types.ts';
import { restoreUffd } from '../../include/linux/userfaultfd_k.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { folio_unlock } from '../filemap.ts';
import { ptep_get, set_pte_at } from '../pgtable.ts';
import {
	folio_add_anon_rmap_pte,
	folio_add_new_anon_rmap,
	RMAP_EXCLUSIVE,
	RMAP_NONE,
} from '../rmap.ts';
import { folio_put, lru_add_drain } from '../swap.ts';
import { swap_cache_get_folio, swap_cluster_readahead } from '../swap_state.ts';
import { folio_free_swap, get_swap_device, put_swap_device, swap_free } from '../swapfile.ts';
import { dec_mm_counter, inc_mm_counter } from './counter.ts';
import { folio_mk_pte, mapFaultEntry, unmapFaultEntry } from './fault_common.ts';
import { folio_lock_or_retry } from './fault_lock.ts';
import { do_wp_page } from './wp.ts';

/** Whether the swap cache should let go of the folio of a fault. */
function should_try_to_free_swap(
	si: swap_info_struct,
	f: folio,
	vmf: vm_fault,
	exclusive: boolean,
): boolean {
	if (!folio_test_swapcache(f)) return false;
	if ((vmf.vma.vm_flags & VM_LOCKED) !== 0n) return true;
	const write = (vmf.flags & FAULT_FLAG_WRITE) !== 0;
	if (!feature('swap_exclusive_by_marker')) return write && folio_ref_count(f) === 2;
	return (si.flags & SWP_SYNCHRONOUS_IO) !== 0 || (write && exclusive);
}

/** Whether the entry says that nobody else has the page, and it may change now. */
function markedExclusive(si: swap_info_struct, f: folio, vmf: vm_fault): boolean {
	if (!pte_swp_exclusive(vmf.orig_pte)) return false;
	return !(folio_test_writeback(f) && si.flags & SWP_STABLE_WRITES);
}

/** The new entry: writable at once for an exclusive page of a writable VMA. */
function swapInPte(f: folio, vmf: vm_fault, exclusive: boolean): pte_t {
	const { vma } = vmf;
	const pte = restoreUffd(vma, vmf.orig_pte, folio_mk_pte(f, vma.vm_page_prot));
	// what userfaultfd protects stays read-only, or without access
	if (!exclusive || (vma.vm_flags & VM_WRITE) === 0n || pte_swp_uffd_wp(vmf.orig_pte))
		return pte;
	return vmf.flags & FAULT_FLAG_WRITE ? pte_mkdirty(pte_mkwrite(pte)) : pte_mkwrite(pte);
}

/** Maps the folio, both locked, entry and folio. Returns whether it is exclusive. */
function* mapSwapped(
	vmf: vm_fault,
	si: swap_info_struct,
	f: folio,
	entry: softleaf_t,
): Sim<boolean> {
	const { vma, address } = vmf;
	const mm = vma.vm_mm;
	const byMarker = feature('swap_exclusive_by_marker');
	BUG_ON(
		folio_test_anon(f) && PageAnonExclusive(f.page),
		'swap entry of a page that is exclusive',
	);
	let exclusive = markedExclusive(si, f, vmf);
	if (!byMarker) {
		yield* swap_free(entry);
		if (should_try_to_free_swap(si, f, vmf, exclusive)) yield* folio_free_swap(f);
		if (folio_ref_count(f) === 1) exclusive = true;
	}
	inc_mm_counter(mm, MM_ANONPAGES);
	dec_mm_counter(mm, MM_SWAPENTS);
	const pte = swapInPte(f, vmf, exclusive);
	vmf.orig_pte = pte;
	const flags = exclusive ? RMAP_EXCLUSIVE : RMAP_NONE;
	if (folio_test_anon(f)) yield* folio_add_anon_rmap_pte(f, f.page, vma, address, flags);
	else yield* folio_add_new_anon_rmap(f, vma, address, flags);
	yield* set_pte_at(mm, address, vmf.pte!, pte);
	if (byMarker) {
		yield* swap_free(entry);
		if (should_try_to_free_swap(si, f, vmf, exclusive)) yield* folio_free_swap(f);
	}
	return exclusive;
}

/** Why a locked folio of the swap cache is not to be mapped; 0: it is. */
function refusal(vmf: vm_fault, f: folio): vm_fault_t | null {
	if (ptep_get(vmf.pte!) !== vmf.orig_pte) return 0;
	return folio_test_uptodate(f) ? null : VM_FAULT_SIGBUS;
}

/** Lets go of a folio that is not mapped. */
function* dropFolio(f: folio): Sim<void> {
	yield* folio_unlock(f);
	yield* folio_put(f);
}

/** A folio with the reference of the fault, which is the mapping's in the end. */
function* mapFolio(
	vmf: vm_fault,
	si: swap_info_struct,
	f: folio,
	entry: softleaf_t,
): Sim<vm_fault_t> {
	const busy = yield* folio_lock_or_retry(f, vmf);
	if (busy !== 0) {
		yield* folio_put(f);
		return busy;
	}
	// it may have left the swap cache, or have another slot
	if (!folio_test_swapcache(f) || folioSwapEntry(f) !== entry) {
		yield* dropFolio(f);
		return 0;
	}
	if (f.flags & PG_hwpoison) {
		yield* dropFolio(f);
		return VM_FAULT_HWPOISON;
	}
	if (vmf.flags & FAULT_FLAG_WRITE && !folio_test_lru(f)) lru_add_drain();
	const there = yield* mapFaultEntry(vmf);
	const refused = there ? refusal(vmf, f) : 0;
	if (refused !== null) {
		if (there) yield* unmapFaultEntry(vmf);
		yield* dropFolio(f);
		return refused;
	}
	yield* mapSwapped(vmf, si, f, entry);
	yield* folio_unlock(f);
	// a protected one comes again through the fault of that protection
	const wants = vmf.flags & FAULT_FLAG_WRITE && !pte_protnone(vmf.orig_pte);
	if (wants && !pte_write(vmf.orig_pte)) {
		const ret = yield* do_wp_page(vmf);
		return ret & VM_FAULT_ERROR ? ret & VM_FAULT_ERROR : ret;
	}
	yield* unmapFaultEntry(vmf);
	return 0;
}

/** No folio: no memory, unless somebody else has changed the entry. */
function* noFolio(vmf: vm_fault): Sim<vm_fault_t> {
	if (!(yield* mapFaultEntry(vmf))) return 0;
	const same = ptep_get(vmf.pte!) === vmf.orig_pte;
	yield* unmapFaultEntry(vmf);
	return same ? VM_FAULT_OOM : 0;
}

/**
 * The part of do_swap_page() that swaps in.
 *
 * @param vmf - the fault; nothing is mapped or locked
 * @param entry - the swap entry
 * @retval 0 handled, or to be tried again
 * @retval VM_FAULT_MAJOR handled; the page was read
 * @retval VM_FAULT_RETRY try again; the mmap lock was dropped
 * @retval VM_FAULT_OOM no memory
 * @retval VM_FAULT_SIGBUS the page could not be read
 * @retval VM_FAULT_HWPOISON the page in the swap cache is poisoned
 * @context Sleeps. The mmap lock is held.
 * @deviates a SWP_SYNCHRONOUS_IO device is read through the swap cache, too; the kernel leaves the
 *   cache out if nobody else has the slot
 */
export function* swapInPage(vmf: vm_fault, entry: softleaf_t): Sim<vm_fault_t> {
	const si = get_swap_device(entry);
	if (si === null) return 0;
	let ret: vm_fault_t = 0;
	let f = yield* swap_cache_get_folio(entry);
	if (f === null) {
		f = yield* swap_cluster_readahead(entry, GFP_HIGHUSER_MOVABLE);
		if (f !== null) ret = VM_FAULT_MAJOR;
	}
	if (f === null) ret = yield* noFolio(vmf);
	else {
		const mapped = yield* mapFolio(vmf, si, f, entry);
		ret = mapped & (VM_FAULT_ERROR | VM_FAULT_RETRY) ? mapped : ret | mapped;
	}
	put_swap_device(si);
	return ret;
}
