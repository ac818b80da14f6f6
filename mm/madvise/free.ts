// SPDX-License-Identifier: GPL-2.0-only
/**
 * MADV_FREE: the bytes of anonymous pages are not needed any more.
 *
 * Guarantee: until somebody writes to a page, reclaim may take it and the next touch finds zeros.
 * Mechanism: entries become clean and old, so that the next write shows; the folio is no longer
 * backed by swap.
 */
import { EINVAL } from '../../include/linux/errno.ts';
import { vma_is_anonymous } from '../../include/linux/mm.ts';
import {
	type folio,
	MM_SWAPENTS,
	page_folio,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import { MMU_NOTIFY_CLEAR, mmu_notifier_range } from '../../include/linux/mmu_notifier.ts';
import {
	folio_clear_dirty,
	folio_is_zone_device,
	folio_nr_pages,
	folio_test_dirty,
	folio_test_large,
	folio_test_swapcache,
} from '../../include/linux/page-flags.ts';
import { type mm_walk, type mm_walk_ops, PGWALK_RDLOCK } from '../../include/linux/pagewalk.ts';
import {
	pmd_trans_huge,
	pte_dirty,
	pte_mkclean,
	pte_mkold,
	pte_none,
	pte_present,
	pte_young,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import type { spinlock_t } from '../../include/linux/spinlock.ts';
import {
	softleaf_from_pte,
	softleaf_is_hwpoison,
	softleaf_is_poison_marker,
	softleaf_is_swap,
} from '../../include/linux/swapops.ts';
import { type int, outParam, PAGE_SIZE } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { folio_trylock, folio_unlock } from '../filemap.ts';
import { madvise_free_huge_pmd } from '../huge_memory/free.ts';
import { split_folio } from '../huge_memory/split_folio.ts';
import { dec_mm_counter } from '../memory/counter.ts';
import { vm_normal_folio, vm_normal_page } from '../memory.ts';
import {
	type mmu_gather,
	tlb_finish_mmu,
	tlb_gather_mmu,
	tlb_remove_tlb_entry,
} from '../mmu_gather.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init,
} from '../mmu_notifier.ts';
import { walk_page_range } from '../pagewalk.ts';
import {
	nextEntry,
	pte_offset_map_lock,
	pte_unmap_unlock,
	ptep_get,
	ptep_get_and_clear,
	set_pte_at,
} from '../pgtable.ts';
import { folio_mapcount, folioMappedShared } from '../rmap.ts';
import { folio_get, folio_mark_lazyfree, folio_put, lru_add_drain } from '../swap.ts';
import { folio_free_swap, free_swap_and_cache } from '../swapfile.ts';
import { folio_pte_batch } from '../util.ts';

/** Entries that hold nothing worth keeping: the next touch makes a new page. */
function* freeNonPresent(vma: vm_area_struct, addr: bigint, pte: TableEntry): Sim<void> {
	const entry = softleaf_from_pte(ptep_get(pte));
	if (softleaf_is_swap(entry)) {
		dec_mm_counter(vma.vm_mm, MM_SWAPENTS);
		yield* free_swap_and_cache(entry);
	} else if (!softleaf_is_hwpoison(entry) && !softleaf_is_poison_marker(entry)) return;
	yield* set_pte_at(vma.vm_mm, addr, pte, 0n);
}

/** Makes the entry of a page clean and old, and its folio free for the taking. */
function* freePresent(
	tlb: mmu_gather,
	vma: vm_area_struct,
	addr: bigint,
	pte: TableEntry,
): Sim<void> {
	const word = ptep_get(pte);
	const p = vm_normal_page(vma, addr, word);
	const f = p === null ? null : page_folio(p);
	if (f === null || folio_is_zone_device(f)) return;
	if (folio_test_swapcache(f) || folio_test_dirty(f)) {
		if (!(yield* folio_trylock(f))) return;
		const ours =
			folio_mapcount(f) === folio_nr_pages(f) &&
			(!folio_test_swapcache(f) || (yield* folio_free_swap(f)));
		if (ours) folio_clear_dirty(f);
		yield* folio_unlock(f);
		if (!ours) return;
	}
	if (pte_young(word) || pte_dirty(word)) {
		const was = yield* ptep_get_and_clear(vma.vm_mm, addr, pte);
		yield* set_pte_at(vma.vm_mm, addr, pte, pte_mkold(pte_mkclean(was)));
		tlb_remove_tlb_entry(tlb, pte, addr);
	}
	folio_mark_lazyfree(f);
}

/** A large folio of which only a part is not needed, locked and with a reference; else null. */
function* mustSplit(f: folio): Sim<folio | null> {
	if (folioMappedShared(f) || !(yield* folio_trylock(f))) return null;
	folio_get(f);
	return f;
}

/** Entries of one table under its lock: to the end, or to a folio that is to be split first. */
function* freeEntries(
	tlb: mmu_gather,
	vma: vm_area_struct,
	first: TableEntry,
	addr: bigint,
	end: bigint,
): Sim<{ readonly at: bigint; readonly split: folio | null }> {
	let nr = 1;
	for (let i = 0, at = addr; at !== end; i += nr, at += BigInt(nr) * PAGE_SIZE) {
		nr = 1;
		const pte = nextEntry(first, i);
		const word = ptep_get(pte);
		if (pte_none(word)) continue;
		if (!pte_present(word)) {
			yield* freeNonPresent(vma, at, pte);
			continue;
		}
		const f = vm_normal_folio(vma, at, word);
		if (f !== null && !folio_is_zone_device(f) && folio_test_large(f)) {
			const batch = folio_pte_batch(f, pte, word, Number((end - at) / PAGE_SIZE));
			if (batch < folio_nr_pages(f)) {
				const split = yield* mustSplit(f);
				if (split !== null) return { at, split };
				nr = batch;
				continue;
			}
		}
		yield* freePresent(tlb, vma, at, pte);
	}
	return { at: end, split: null };
}

function* madvise_free_pte_range(
	pmd: TableEntry,
	addr: bigint,
	end: bigint,
	walk: mm_walk,
): Sim<int> {
	const tlb = walk.private as mmu_gather;
	const vma = walk.vma!;
	if (pmd_trans_huge(pmd.value) && (yield* madvise_free_huge_pmd(tlb, vma, pmd, addr, end)))
		return 0;
	for (let at = addr; at !== end; ) {
		const ptl = outParam<spinlock_t | null>(null);
		const first = yield* pte_offset_map_lock(walk.mm, pmd, at, ptl);
		if (first === null) return 0;
		const stop = yield* freeEntries(tlb, vma, first, at, end);
		yield* pte_unmap_unlock(first, ptl.value);
		at = stop.at;
		if (stop.split === null) continue;
		const failed = (yield* split_folio(stop.split)) !== 0;
		yield* folio_unlock(stop.split);
		yield* folio_put(stop.split);
		if (failed) at += PAGE_SIZE;
	}
	return 0;
}

const madvise_free_walk_ops: mm_walk_ops = {
	pmd_entry: madvise_free_pte_range,
	walk_lock: PGWALK_RDLOCK,
};

/**
 * MADV_FREE of a part of a VMA.
 *
 * @param vma - the VMA
 * @param start - first address, inside
 * @param end - exclusive, inside
 * @retval 0 done
 * @retval -EINVAL not anonymous memory
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/madvise.c
 */
export function* madvise_free_single_vma(
	vma: vm_area_struct,
	start: bigint,
	end: bigint,
): Sim<int> {
	if (!vma_is_anonymous(vma)) return -EINVAL;
	const { vm_mm: mm } = vma;
	const range = new mmu_notifier_range();
	mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, mm, start, end);
	lru_add_drain();
	const tlb = tlb_gather_mmu(mm);
	yield* mmu_notifier_invalidate_range_start(range);
	yield* walk_page_range(mm, start, end, madvise_free_walk_ops, tlb);
	yield* mmu_notifier_invalidate_range_end(range);
	yield* tlb_finish_mmu(tlb);
	return 0;
}
