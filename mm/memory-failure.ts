// SPDX-License-Identifier: GPL-2.0-only
/**
 * Memory that went bad: pages that nobody may touch again.
 *
 * Guarantee: after memory_failure() no entry maps the page; whoever touches it gets a SIGBUS, and the
 * allocator never hands it out. Mechanism: PG_hwpoison; hwpoison entries take the place of those that
 * map the page; the reference of the caller is never put.
 *
 * @kernel mm/memory-failure.c
 */
import { EBUSY, EHWPOISON, EOPNOTSUPP } from '../include/linux/errno.ts';
import {
	type folio,
	type page,
	page_folio,
	type vm_area_struct,
} from '../include/linux/mm_types.ts';
import { MMU_NOTIFY_CLEAR, mmu_notifier_range } from '../include/linux/mmu_notifier.ts';
import { page_to_pfn } from '../include/linux/mmzone.ts';
import {
	ClearPageAnonExclusive,
	folio_is_zone_device,
	folio_test_anon,
	folio_test_large,
	folio_test_lru,
	PG_hwpoison,
	PG_lru,
	PG_reserved,
} from '../include/linux/page-flags.ts';
import { pte_dirty, pte_present } from '../include/linux/pgtable.ts';
import { current, SIGBUS } from '../include/linux/sched.ts';
import { make_hwpoison_entry, swp_entry_to_pte } from '../include/linux/swapops.ts';
import type { int } from '../include/linux/types.ts';
import { type Sim, touch } from '../include/sim/schedule.ts';
import { BUS_MCEERR_AR } from './fault.ts';
import { folio_lock, folio_unlock } from './filemap.ts';
import { dec_mm_counter, mm_counter } from './memory.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init,
} from './mmu_notifier.ts';
import { folio_mark_dirty } from './page-writeback.ts';
import { ptep_clear_flush, set_pte_at } from './pgtable.ts';
import {
	folio_mapped,
	folio_remove_rmap_pte,
	folio_vma_mapped_walk,
	page_vma_mapped_walk,
	rmap_walk,
	vma_address_end,
} from './rmap.ts';
import { folio_put, put_page } from './swap.ts';

/** Puts a hwpoison entry in the place of the one on which a walk stands. */
function* poisonEntry(pvmw: folio_vma_mapped_walk): Sim<void> {
	const { folio: f, vma, address } = pvmw;
	const was = yield* ptep_clear_flush(vma, address, pvmw.pte!);
	if (pte_present(was) && pte_dirty(was)) yield* folio_mark_dirty(f);
	const pfn = page_to_pfn(f.page);
	yield* set_pte_at(
		vma.vm_mm,
		address,
		pvmw.pte!,
		swp_entry_to_pte(make_hwpoison_entry(pfn)),
	);
	dec_mm_counter(vma.vm_mm, mm_counter(f));
	if (folio_test_anon(f)) ClearPageAnonExclusive(f.page);
	yield* folio_remove_rmap_pte(f, f.page, vma);
	yield* folio_put(f);
}

function* poisonOne(f: folio, vma: vm_area_struct, address: bigint): Sim<boolean> {
	const pvmw = new folio_vma_mapped_walk(f, vma, address, vma_address_end(vma, f), 0);
	const range = new mmu_notifier_range();
	mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, vma.vm_mm, address, pvmw.end);
	yield* mmu_notifier_invalidate_range_start(range);
	while (yield* page_vma_mapped_walk(pvmw)) yield* poisonEntry(pvmw);
	yield* mmu_notifier_invalidate_range_end(range);
	return true;
}

/** Takes a bad page out of every page table. */
function* unmap_poisoned_folio(f: folio): Sim<void> {
	yield* rmap_walk(f, {
		arg: null,
		rmap_one: poisonOne,
		done: (walked: folio) => !folio_mapped(walked),
	});
}

/** Takes a bad folio off the LRU, which drops nothing: the page cache or the caller holds it. */
function delete_from_lru_cache(f: folio): void {
	touch('atomic', f, 'flags');
	if (folio_test_lru(f)) f.flags &= ~PG_lru;
}

/**
 * Handle a page whose memory is bad.
 *
 * @param p - the page, with a reference that is never put unless it fails
 * @retval 0 it is out of use; the current task, which was to use it, has a SIGBUS pending
 * @retval -EHWPOISON it was known to be bad
 * @retval -EOPNOTSUPP memory of a device, or a part of a large folio
 * @retval -EBUSY a page of the kernel
 * @context Process context. Sleeps.
 * @deviates takes the page, not its PFN, always with the reference (MF_COUNT_INCREASED) and for the
 *   current task (MF_ACTION_REQUIRED)
 * @kernel mm/memory-failure.c
 */
export function* memory_failure(p: page): Sim<int> {
	const f = page_folio(p);
	let err: int = 0;
	if (p.flags & PG_reserved) err = -EBUSY;
	else if (folio_is_zone_device(f) || folio_test_large(f)) err = -EOPNOTSUPP;
	else if (p.flags & PG_hwpoison) err = -EHWPOISON;
	if (err !== 0) {
		yield* put_page(p);
		return err;
	}
	touch('atomic', p, 'flags');
	p.flags |= PG_hwpoison;
	yield* folio_lock(f);
	yield* unmap_poisoned_folio(f);
	// what is in the page cache stays there, so that others learn of it
	delete_from_lru_cache(f);
	yield* folio_unlock(f);
	current().siginfo.push({ sig: SIGBUS, code: BUS_MCEERR_AR });
	return 0;
}
