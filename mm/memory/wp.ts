// SPDX-License-Identifier: GPL-2.0-only
/**
 * A write to a page that is mapped read-only: reuse it or copy it.
 *
 * ```
 *   entry maps                               what happens
 *   shared page, or shared special PFN       writable now
 *   anonymous, AnonExclusive                 writable now
 *   anonymous, nobody else refers to it      ours again: exclusive, writable now
 *   anonymous, else                          copy, CLEAR
 *   zero page                                new zeroed page, CLEAR
 *   page cache in a private mapping          copy, CLEAR
 * ```
 */
import { BUG_ON } from '../../include/linux/bug.ts';
import { VM_SHARED, VM_UFFD_WP } from '../../include/linux/mm.ts';
import {
	FAULT_FLAG_UNSHARE,
	type folio,
	MM_ANONPAGES,
	page_folio,
	VM_FAULT_OOM,
	type vm_area_struct,
	type vm_fault,
} from '../../include/linux/mm_types.ts';
import { MMU_NOTIFY_CLEAR, mmu_notifier_range } from '../../include/linux/mmu_notifier.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import {
	folio_ref_count,
	folio_test_anon,
	folio_test_large,
	folio_test_lru,
	folio_test_swapcache,
	PageAnonExclusive,
	SetPageAnonExclusive,
} from '../../include/linux/page-flags.ts';
import { pte_mkdirty, pte_pfn, pte_write } from '../../include/linux/pgtable.ts';
import { type bool, PAGE_SIZE, type vm_fault_t } from '../../include/linux/types.ts';
import { userfaultfd_pte_wp, userfaultfd_wp } from '../../include/linux/userfaultfd_k.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { folio_trylock, folio_unlock } from '../filemap.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init,
} from '../mmu_notifier.ts';
import {
	clear_highpage,
	copy_highpage,
	frameOf,
	pageFrame,
	ram,
	touchFrame,
} from '../page_alloc.ts';
import { ptep_clear_flush, ptep_get, set_pte_at } from '../pgtable.ts';
import {
	folio_add_new_anon_rmap,
	folio_large_mapcount,
	folio_move_anon_rmap,
	folio_remove_rmap_pte,
	folioMappedShared,
	RMAP_EXCLUSIVE,
} from '../rmap.ts';
import { folio_add_lru_vma, folio_get, folio_put, lru_add_drain } from '../swap.ts';
import { folio_free_swap } from '../swapfile.ts';
import { flush_tlb_page, mm_tlb_flush_pending } from '../tlb.ts';
import { handle_userfault } from '../userfaultfd/fault.ts';
import { dec_mm_counter, inc_mm_counter, mm_counter_file } from './counter.ts';
import {
	__folio_mark_uptodate,
	folio_mk_pte,
	folio_prealloc,
	mapFaultEntry,
	maybe_mkwrite,
	unmapFaultEntry,
	vmf_anon_prepare,
	wp_page_reuse,
} from './fault_common.ts';
import { wp_page_shared } from './shared.ts';
import { vm_normal_page } from './vm_normal.ts';
import { is_zero_pfn } from './zero_page.ts';

/**
 * Whether all that refers to a large folio are mappings of one address space. 6.12 cannot tell, and
 * copies page by page.
 */
function __wp_can_reuse_large_anon_folio(f: folio): bool {
	if (!feature('large_folio_mm_ids')) return false;
	// a folio of which only one page is left is given up
	if (folio_large_mapcount(f) <= 1 || folioMappedShared(f)) return false;
	return folio_large_mapcount(f) === folio_ref_count(f);
}

/** Whether nobody but this entry refers to an anonymous page; then it is ours from now on. */
function* wp_can_reuse_anon_folio(f: folio, vma: vm_area_struct): Sim<bool> {
	if (folio_test_large(f)) return __wp_can_reuse_large_anon_folio(f);
	// cheap looks without the lock: 3 allows for the LRU's batch and the swap cache
	if (folio_ref_count(f) > 3) return false;
	if (!folio_test_lru(f)) lru_add_drain();
	if (folio_ref_count(f) > 1 + Number(folio_test_swapcache(f))) return false;
	if (!(yield* folio_trylock(f))) return false;
	if (folio_test_swapcache(f)) yield* folio_free_swap(f);
	const ours = folio_ref_count(f) === 1;
	if (ours) folio_move_anon_rmap(f, vma);
	yield* folio_unlock(f);
	return ours;
}

/** Fills a new page with what the old entry shows. */
function __wp_page_copy_user(dst: folio, vmf: vm_fault): void {
	if (vmf.page !== null) {
		copy_highpage(dst.page, vmf.page);
		return;
	}
	// a PFN without struct page: the kernel copies through the user's own mapping
	const pfn = Number(pte_pfn(vmf.orig_pte));
	touchFrame('memory-read', pfn);
	touchFrame('memory-write', Number(page_to_pfn(dst.page)));
	if (ram().peek(pfn) === null) clear_highpage(dst.page);
	else pageFrame(dst.page).u8.set(frameOf(pfn).u8);
}

/** Puts the copy in place of what was there; the entry is locked and unchanged. */
function* replaceByCopy(vmf: vm_fault, old: folio | null, copy: folio): Sim<void> {
	const { vma, address } = vmf;
	const mm = vma.vm_mm;
	const unshare = (vmf.flags & FAULT_FLAG_UNSHARE) !== 0;
	if (old === null) inc_mm_counter(mm, MM_ANONPAGES);
	else if (!folio_test_anon(old)) {
		dec_mm_counter(mm, mm_counter_file(old));
		inc_mm_counter(mm, MM_ANONPAGES);
	}
	let entry = folio_mk_pte(copy, vma.vm_page_prot);
	if (!unshare) entry = maybe_mkwrite(pte_mkdirty(entry), vma);
	// no CPU may use the old page while another already uses the new one
	yield* ptep_clear_flush(vma, address, vmf.pte!);
	yield* folio_add_new_anon_rmap(copy, vma, address, RMAP_EXCLUSIVE);
	folio_add_lru_vma(copy, vma);
	BUG_ON(unshare && pte_write(entry), 'unsharing made a page writable');
	yield* set_pte_at(mm, address, vmf.pte!, entry);
	// only now: whoever sees the old page unmapped may reuse it
	if (old !== null) yield* folio_remove_rmap_pte(old, vmf.page!, vma);
}

/**
 * Give the writer a copy of its own.
 *
 * @param vmf - the fault; nothing is locked, the old page has a reference that is put here
 * @retval 0 copied, or somebody else was faster
 * @retval VM_FAULT_OOM no memory
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/memory.c
 */
function* wp_page_copy(vmf: vm_fault): Sim<vm_fault_t> {
	const { vma, address } = vmf;
	const mm = vma.vm_mm;
	const old = vmf.page === null ? null : page_folio(vmf.page);
	const zero = is_zero_pfn(pte_pfn(vmf.orig_pte));
	let ret = yield* vmf_anon_prepare(vmf);
	const copy = ret === 0 ? yield* folio_prealloc(mm, zero) : null;
	if (copy === null) {
		if (ret === 0) ret = VM_FAULT_OOM;
		if (old !== null) yield* folio_put(old);
		return ret;
	}
	if (!zero) __wp_page_copy_user(copy, vmf);
	__folio_mark_uptodate(copy);
	const range = new mmu_notifier_range();
	mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, mm, address, address + PAGE_SIZE);
	yield* mmu_notifier_invalidate_range_start(range);
	let unused: folio | null = copy;
	if (yield* mapFaultEntry(vmf)) {
		if (ptep_get(vmf.pte!) === vmf.orig_pte) {
			yield* replaceByCopy(vmf, old, copy);
			// the entry's reference of the old page
			unused = old;
		}
		yield* unmapFaultEntry(vmf);
	}
	yield* mmu_notifier_invalidate_range_end(range);
	if (unused !== null) yield* folio_put(unused);
	if (old !== null) yield* folio_put(old);
	return 0;
}

/**
 * A write, or an attempt to unshare, to a page that is mapped read-only.
 *
 * @param vmf - the fault; its entry is locked on entry and left on return
 * @retval 0 handled, or somebody else was faster
 * @retval VM_FAULT_OOM no memory
 * @returns else what a shared mapping's page_mkwrite() or handle_userfault() says, or
 *   VM_FAULT_COMPLETED
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/memory.c
 */
export function* do_wp_page(vmf: vm_fault): Sim<vm_fault_t> {
	const { vma } = vmf;
	if ((vmf.flags & FAULT_FLAG_UNSHARE) === 0) {
		if (userfaultfd_pte_wp(vma, ptep_get(vmf.pte!))) {
			yield* unmapFaultEntry(vmf);
			return yield* handle_userfault(vmf, VM_UFFD_WP);
		}
		// write protection may have been put on without a flush so far
		if (userfaultfd_wp(vma) && mm_tlb_flush_pending(vma.vm_mm))
			yield* flush_tlb_page(vma, vmf.address);
	}
	vmf.page = vm_normal_page(vma, vmf.address, vmf.orig_pte);
	const { page: p } = vmf;
	const f = p === null ? null : page_folio(p);
	if ((vma.vm_flags & VM_SHARED) !== 0n) {
		if (f !== null) return yield* wp_page_shared(vmf, f);
		yield* wp_page_reuse(vmf);
		return 0;
	}
	if (f !== null && folio_test_anon(f)) {
		if (PageAnonExclusive(p!) || (yield* wp_can_reuse_anon_folio(f, vma))) {
			SetPageAnonExclusive(p!);
			if (vmf.flags & FAULT_FLAG_UNSHARE) yield* unmapFaultEntry(vmf);
			else yield* wp_page_reuse(vmf);
			return 0;
		}
	}
	if (f !== null) folio_get(f);
	yield* unmapFaultEntry(vmf);
	return yield* wp_page_copy(vmf);
}
