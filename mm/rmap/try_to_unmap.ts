// SPDX-License-Identifier: GPL-2.0-only
/**
 * Taking a folio out of every page table that maps it, for reclaim or because its memory is bad.
 *
 * ```
 *   pte maps                               becomes
 *   anonymous page of the swap cache       its swap entry, exclusive if the page was; dirty goes to the folio
 *   lazily freed page, clean, not pinned   empty
 *   page of a file                         empty
 *   anything in a VM_LOCKED VMA            stays, counted as locked: the walk ends
 *   bad page, TTU_HWPOISON                 a hwpoison entry
 * ```
 */
import { WARN_ON_ONCE } from '../../include/linux/bug.ts';
import { VM_LOCKED } from '../../include/linux/mm.ts';
import {
	type folio,
	MM_ANONPAGES,
	MM_SWAPENTS,
	type page,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import { MMU_NOTIFY_CLEAR, mmu_notifier_range } from '../../include/linux/mmu_notifier.ts';
import { nth_page, page_to_pfn } from '../../include/linux/mmzone.ts';
import {
	folio_pfn,
	folio_ref_count,
	folio_set_swapbacked,
	folio_test_anon,
	folio_test_dirty,
	folio_test_swapbacked,
	folio_test_swapcache,
	PageAnonExclusive,
	PG_hwpoison,
} from '../../include/linux/page-flags.ts';
import {
	pte_dirty,
	pte_pfn,
	pte_present,
	type pte_t,
	pte_uffd_wp,
} from '../../include/linux/pgtable.ts';
import { folioSwapEntry } from '../../include/linux/swap.ts';
import {
	make_hwpoison_entry,
	pte_swp_mkexclusive,
	pte_swp_mkuffd_wp,
	pte_swp_uffd_wp,
	softleaf_from_pte,
	softleaf_to_pfn,
	swp_entry_to_pte,
} from '../../include/linux/swapops.ts';
import type { bool, unsigned_long } from '../../include/linux/types.ts';
import { uffdRemainder } from '../../include/linux/userfaultfd_k.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { dec_mm_counter, inc_mm_counter, mm_counter, mm_counter_file } from '../memory/counter.ts';
import { mlock_vma_folio } from '../mlock_folio.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init,
} from '../mmu_notifier.ts';
import { folio_mark_dirty } from '../page-writeback.ts';
import { ptep_clear_flush, ptep_get, set_pte_at } from '../pgtable.ts';
import { folio_put } from '../swap.ts';
import { swap_duplicate, swap_free } from '../swapfile/slots.ts';
import {
	folio_mapcount,
	folio_mapped,
	folio_remove_rmap_pte,
	folio_try_share_anon_rmap_pte,
} from './mapcount.ts';
import { TTU_HWPOISON, TTU_IGNORE_MLOCK, TTU_SYNC } from './try_to_migrate.ts';
import {
	folio_vma_mapped_walk,
	PVMW_SYNC,
	page_vma_mapped_walk,
	page_vma_mapped_walk_done,
	rmap_walk,
	vma_address_end,
} from './walk.ts';

/** What takes the place of an entry that was emptied; null: it has to stay. */
type Successor = pte_t | null;

/** A page that MADV_FREE gave away: gone, unless somebody wrote to it or holds it. */
function lazyFree(f: folio, vma: vm_area_struct): Successor {
	if (folio_test_dirty(f)) {
		folio_set_swapbacked(f);
		return null;
	}
	if (folio_ref_count(f) !== 1 + folio_mapcount(f)) return null;
	dec_mm_counter(vma.vm_mm, MM_ANONPAGES);
	return 0n;
}

/** The swap entry of an anonymous page, counted. */
function* swapOut(f: folio, p: page, vma: vm_area_struct, pteval: pte_t): Sim<Successor> {
	const entry = folioSwapEntry(f);
	if ((yield* swap_duplicate(entry)) < 0) return null;
	const exclusive = PageAnonExclusive(p);
	if (exclusive && folio_try_share_anon_rmap_pte(f, p) !== 0) {
		yield* swap_free(entry);
		return null;
	}
	dec_mm_counter(vma.vm_mm, MM_ANONPAGES);
	inc_mm_counter(vma.vm_mm, MM_SWAPENTS);
	let pte = swp_entry_to_pte(entry);
	if (exclusive) pte = pte_swp_mkexclusive(pte);
	const marked = pte_present(pteval) ? pte_uffd_wp(pteval) : pte_swp_uffd_wp(pteval);
	return marked ? pte_swp_mkuffd_wp(pte) : pte;
}

function* successorOf(
	pvmw: folio_vma_mapped_walk,
	p: page,
	pteval: pte_t,
	flags: number,
): Sim<Successor> {
	const { folio: f, vma } = pvmw;
	if (flags & TTU_HWPOISON && f.flags & PG_hwpoison) {
		dec_mm_counter(vma.vm_mm, mm_counter(f));
		return swp_entry_to_pte(make_hwpoison_entry(page_to_pfn(p)));
	}
	if (!folio_test_anon(f)) {
		dec_mm_counter(vma.vm_mm, mm_counter_file(f));
		return uffdRemainder(vma, pteval);
	}
	const odd = folio_test_swapbacked(f) !== folio_test_swapcache(f);
	if (WARN_ON_ONCE(odd, 'anonymous folio is unmapped without a slot')) return null;
	if (!folio_test_swapbacked(f)) return lazyFree(f, vma);
	return yield* swapOut(f, p, vma, pteval);
}

/** Empties the entry on which the walk stands. Returns whether the walk may go on. */
function* unmapEntry(pvmw: folio_vma_mapped_walk, flags: number): Sim<bool> {
	const { folio: f, vma, address } = pvmw;
	const ptep = pvmw.pte!;
	if (!(flags & TTU_IGNORE_MLOCK) && (vma.vm_flags & VM_LOCKED) !== 0n) {
		// it was off the LRU when the VMA was locked: count it now
		mlock_vma_folio(f, vma);
		return false;
	}
	const was = ptep_get(ptep);
	const present = pte_present(was);
	// a device-exclusive entry maps the page, too
	const pfn = present ? pte_pfn(was) : softleaf_to_pfn(softleaf_from_pte(was));
	const pteval = present ? yield* ptep_clear_flush(vma, address, ptep) : was;
	if (present && pte_dirty(pteval)) yield* folio_mark_dirty(f);
	const subpage = nth_page(f.page, Number((pfn as bigint) - (folio_pfn(f) as bigint)));
	const next = yield* successorOf(pvmw, subpage, pteval, flags);
	yield* set_pte_at(vma.vm_mm, address, ptep, next ?? pteval);
	if (next === null) return false;
	yield* folio_remove_rmap_pte(f, subpage, vma);
	yield* folio_put(f);
	return true;
}

function* try_to_unmap_one(
	f: folio,
	vma: vm_area_struct,
	address: unsigned_long,
	flags: number,
): Sim<bool> {
	const end = vma_address_end(vma, f);
	const sync = flags & TTU_SYNC ? PVMW_SYNC : 0;
	const pvmw = new folio_vma_mapped_walk(f, vma, address, end, sync);
	const range = new mmu_notifier_range();
	mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, vma.vm_mm, address, end);
	yield* mmu_notifier_invalidate_range_start(range);
	let ret = true;
	while (yield* page_vma_mapped_walk(pvmw)) {
		ret = yield* unmapEntry(pvmw, flags);
		if (ret) continue;
		yield* page_vma_mapped_walk_done(pvmw);
		break;
	}
	yield* mmu_notifier_invalidate_range_end(range);
	return ret;
}

/**
 * Take a folio out of every page table.
 *
 * @param f - the folio, locked, small
 * @param flags - TTU_IGNORE_MLOCK, TTU_SYNC, TTU_HWPOISON; TTU_BATCH_FLUSH: the caller flushes the
 *   TLBs, which is done at each entry here
 * @context Sleeps. The caller looks at folio_mapped() to learn whether it worked.
 * @kernel mm/rmap.c
 */
export function* try_to_unmap(f: folio, flags: number): Sim<void> {
	yield* rmap_walk(f, {
		arg: flags,
		rmap_one: try_to_unmap_one,
		done: (walked: folio) => !folio_mapped(walked),
	});
}
