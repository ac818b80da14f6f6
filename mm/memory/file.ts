// SPDX-License-Identifier: GPL-2.0-only
/**
 * The first touch of a page of a file mapping: do_fault() and its three kinds.
 *
 * ```
 *             private                               shared
 *   read      the page of the page cache, r/o       the page of the page cache, as vm_page_prot says
 *             (both: fault-around maps its neighbours that are there)
 *   write     a copy of it, anonymous               the page itself, writable and dirty
 * ```
 */
import { VM_SHARED, vma_pages } from '../../include/linux/mm.ts';
import {
	FAULT_FLAG_WRITE,
	type folio,
	MM_ANONPAGES,
	type page,
	page_folio,
	VM_FAULT_DONE_COW,
	VM_FAULT_ERROR,
	VM_FAULT_HWPOISON,
	VM_FAULT_LOCKED,
	VM_FAULT_NOPAGE,
	VM_FAULT_OOM,
	VM_FAULT_RETRY,
	VM_FAULT_SIGBUS,
	type vm_fault,
} from '../../include/linux/mm_types.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import { folio_test_dirty, PG_hwpoison } from '../../include/linux/page-flags.ts';
import {
	pfn_pte,
	pmd_none,
	pte_index,
	pte_mkdirty,
	pte_mkuffd_wp,
	pte_none,
	pte_write,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import type { bool, unsigned_long, vm_fault_t } from '../../include/linux/types.ts';
import { userfaultfd_wp, vmf_orig_pte_uffd_wp } from '../../include/linux/userfaultfd_k.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature, perWorld } from '../../include/sim/world.ts';
import { folio_lock, folio_unlock } from '../filemap.ts';
import { copy_highpage } from '../page_alloc.ts';
import { pte_alloc, ptep_get, set_pte_at } from '../pgtable.ts';
import { folio_add_file_rmap_pte, folio_add_new_anon_rmap, RMAP_EXCLUSIVE } from '../rmap.ts';
import { folio_add_lru_vma, folio_put, put_page } from '../swap.ts';
import { inc_mm_counter, mm_counter_file } from './counter.ts';
import {
	__folio_mark_uptodate,
	check_stable_address_space,
	folio_prealloc,
	mapFaultEntry,
	maybe_mkwrite,
	unmapFaultEntry,
	vmf_anon_prepare,
	vmf_pte_changed,
} from './fault_common.ts';
import { do_page_mkwrite, fault_dirty_shared_page } from './shared.ts';

/** Results after which vmf.page is not set. */
const NO_PAGE = VM_FAULT_ERROR | VM_FAULT_NOPAGE | VM_FAULT_RETRY;

/** debugfs' fault_around_bytes. */
export class FaultAround {
	/** A power of two; 4096: no fault-around. */
	bytes = 65536;
}

/** Setting of the installed world. */
export const faultAround = perWorld(() => new FaultAround());

/**
 * Set an entry to a page that a fault found.
 *
 * @param vmf - the fault; FAULT_FLAG_WRITE with a private VMA: `p` is its new copy
 * @param f - folio of the page
 * @param p - the page
 * @param ptep - the entry, locked
 * @param addr - its address
 * @deviates one entry at a time, which is passed; the kernel takes vmf.pte and a number of pages
 * @kernel mm/memory.c
 */
export function* set_pte_range(
	vmf: vm_fault,
	f: folio,
	p: page,
	ptep: TableEntry,
	addr: unsigned_long,
): Sim<void> {
	const { vma } = vmf;
	const write = (vmf.flags & FAULT_FLAG_WRITE) !== 0;
	let entry = pfn_pte(page_to_pfn(p), vma.vm_page_prot);
	if (write) entry = maybe_mkwrite(pte_mkdirty(entry), vma);
	else if (feature('fault_maps_dirty') && pte_write(entry) && folio_test_dirty(f))
		entry = pte_mkdirty(entry);
	if (vmf_orig_pte_uffd_wp(vmf)) entry = pte_mkuffd_wp(entry);
	if (write && (vma.vm_flags & VM_SHARED) === 0n) {
		yield* folio_add_new_anon_rmap(f, vma, addr, RMAP_EXCLUSIVE);
		folio_add_lru_vma(f, vma);
	} else yield* folio_add_file_rmap_pte(f, p, vma);
	yield* set_pte_at(vma.vm_mm, addr, ptep, entry);
}

/**
 * Map the page that a fault found, with the table that its entry needs.
 *
 * @param vmf - the fault: `cow_page` for a write to a private VMA, else `page`
 * @retval 0 mapped; the reference of the page is the entry's now
 * @retval VM_FAULT_NOPAGE somebody else has mapped something
 * @retval VM_FAULT_OOM no memory for the table
 * @retval VM_FAULT_SIGBUS the OOM reaper was here
 * @context Sleeps. The page is locked.
 * @deviates the kernel allocates the table before the page is locked, lest reclaim wait for it
 * @kernel mm/memory.c
 */
export function* finish_fault(vmf: vm_fault): Sim<vm_fault_t> {
	const { vma } = vmf;
	const shared = (vma.vm_flags & VM_SHARED) !== 0n;
	const is_cow = (vmf.flags & FAULT_FLAG_WRITE) !== 0 && !shared;
	const p = (is_cow ? vmf.cow_page : vmf.page)!;
	// a read too: what was copied here before may be lost
	const unstable = shared ? 0 : check_stable_address_space(vma.vm_mm);
	if (unstable !== 0) return unstable;
	if (pmd_none(vmf.pmd!.value) && (yield* pte_alloc(vma.vm_mm, vmf.pmd!)) !== 0)
		return VM_FAULT_OOM;
	if (!(yield* mapFaultEntry(vmf))) return VM_FAULT_NOPAGE;
	let ret: vm_fault_t = VM_FAULT_NOPAGE;
	if (!vmf_pte_changed(vmf)) {
		const f = page_folio(p);
		yield* set_pte_range(vmf, f, p, vmf.pte!, vmf.address);
		inc_mm_counter(vma.vm_mm, is_cow ? MM_ANONPAGES : mm_counter_file(f));
		ret = 0;
	}
	yield* unmapFaultEntry(vmf);
	return ret;
}

/** Asks the file for the page: vmf.page, locked, with a reference. */
function* __do_fault(vmf: vm_fault): Sim<vm_fault_t> {
	const ret = yield* vmf.vma.vm_ops!.fault!(vmf);
	if (ret & (NO_PAGE | VM_FAULT_DONE_COW)) return ret;
	const p = vmf.page!;
	const f = page_folio(p);
	if (p.flags & PG_hwpoison) {
		if (ret & VM_FAULT_LOCKED) yield* folio_unlock(f);
		yield* put_page(p);
		vmf.page = null;
		return VM_FAULT_HWPOISON;
	}
	if ((ret & VM_FAULT_LOCKED) === 0) yield* folio_lock(f);
	return ret;
}

function should_fault_around(vmf: vm_fault): bool {
	// the neighbours may be protected although nothing is mapped there
	if (userfaultfd_wp(vmf.vma)) return false;
	return vmf.vma.vm_ops?.map_pages !== undefined && faultAround().bytes > 4096;
}

/**
 * Map what the page cache has around a faulting address: the naturally aligned block of
 * fault_around_bytes, clipped to VMA and page table.
 */
function* do_fault_around(vmf: vm_fault): Sim<vm_fault_t> {
	const { vma } = vmf;
	const nr_pages = faultAround().bytes >> 12;
	const pte_off = pte_index(vmf.address);
	const vma_off = Number(vmf.pgoff - vma.vm_pgoff);
	const aligned = Math.floor(pte_off / nr_pages) * nr_pages;
	const from_pte = Math.max(aligned, pte_off - Math.min(pte_off, vma_off));
	const vma_end = pte_off + Number(vma_pages(vma)) - vma_off;
	const to_pte = Math.min(from_pte + nr_pages, 512, vma_end) - 1;
	const start = vmf.pgoff + BigInt(from_pte - pte_off);
	return yield* vma.vm_ops!.map_pages!(vmf, start, vmf.pgoff + BigInt(to_pte - pte_off));
}

function* do_read_fault(vmf: vm_fault): Sim<vm_fault_t> {
	if (should_fault_around(vmf)) {
		const around = yield* do_fault_around(vmf);
		if (around !== 0) return around;
	}
	let ret = yield* __do_fault(vmf);
	if (ret & NO_PAGE) return ret;
	ret |= yield* finish_fault(vmf);
	const f = page_folio(vmf.page!);
	yield* folio_unlock(f);
	if (ret & NO_PAGE) yield* folio_put(f);
	return ret;
}

function* do_cow_fault(vmf: vm_fault): Sim<vm_fault_t> {
	const { vma } = vmf;
	const prepared = yield* vmf_anon_prepare(vmf);
	if (prepared !== 0) return prepared;
	const f = yield* folio_prealloc(vma.vm_mm, false);
	if (f === null) return VM_FAULT_OOM;
	vmf.cow_page = f.page;
	let ret = yield* __do_fault(vmf);
	if (ret & NO_PAGE) {
		yield* folio_put(f);
		return ret;
	}
	if (ret & VM_FAULT_DONE_COW) return ret;
	copy_highpage(vmf.cow_page, vmf.page!);
	__folio_mark_uptodate(f);
	ret |= yield* finish_fault(vmf);
	yield* folio_unlock(page_folio(vmf.page!));
	yield* put_page(vmf.page!);
	if (ret & NO_PAGE) yield* folio_put(f);
	return ret;
}

function* do_shared_fault(vmf: vm_fault): Sim<vm_fault_t> {
	let ret = yield* __do_fault(vmf);
	if (ret & NO_PAGE) return ret;
	const f = page_folio(vmf.page!);
	if (vmf.vma.vm_ops!.page_mkwrite !== undefined) {
		yield* folio_unlock(f);
		const tmp = yield* do_page_mkwrite(vmf, f);
		if (tmp === 0 || tmp & (VM_FAULT_ERROR | VM_FAULT_NOPAGE)) {
			yield* folio_put(f);
			return tmp;
		}
	}
	ret |= yield* finish_fault(vmf);
	if (ret & NO_PAGE) {
		yield* folio_unlock(f);
		yield* folio_put(f);
		return ret;
	}
	return ret | (yield* fault_dirty_shared_page(vmf));
}

/**
 * The first touch of a page of a VMA that has vm_ops.
 *
 * @param vmf - the fault
 * @retval 0 handled
 * @retval VM_FAULT_SIGBUS nothing is there and nobody fills it in
 * @returns else bits that say how, or what failed
 * @context Sleeps. The mmap lock is held, unless VM_FAULT_RETRY or VM_FAULT_COMPLETED comes back.
 * @kernel mm/memory.c
 */
export function* do_fault(vmf: vm_fault): Sim<vm_fault_t> {
	const { vma } = vmf;
	if (vma.vm_ops?.fault === undefined) {
		// the VMA was filled in by mmap(), or should have been
		if (!(yield* mapFaultEntry(vmf))) return VM_FAULT_SIGBUS;
		const none = pte_none(ptep_get(vmf.pte!));
		yield* unmapFaultEntry(vmf);
		return none ? VM_FAULT_SIGBUS : VM_FAULT_NOPAGE;
	}
	if ((vmf.flags & FAULT_FLAG_WRITE) === 0) return yield* do_read_fault(vmf);
	if ((vma.vm_flags & VM_SHARED) === 0n) return yield* do_cow_fault(vmf);
	return yield* do_shared_fault(vmf);
}
