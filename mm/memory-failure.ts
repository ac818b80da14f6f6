// SPDX-License-Identifier: GPL-2.0-only
/**
 * Memory that went bad: pages that nobody may touch again.
 *
 * Guarantee: after memory_failure() no entry maps the page; whoever touches it gets a SIGBUS, and the
 * allocator never hands it out. Mechanism: PG_hwpoison; a huge page is split, so that one small page
 * is bad; hwpoison entries take the place of those that map the page; the reference of the caller is
 * never put.
 *
 * @kernel mm/memory-failure.c
 */
import { EBUSY, EHWPOISON, EOPNOTSUPP } from '../include/linux/errno.ts';
import { type folio, type page, page_folio } from '../include/linux/mm_types.ts';
import {
	folio_is_zone_device,
	folio_test_dirty,
	folio_test_hugetlb,
	folio_test_large,
	folio_test_lru,
	folio_test_swapcache,
	PG_hwpoison,
	PG_lru,
	PG_reserved,
} from '../include/linux/page-flags.ts';
import { current, SIGBUS } from '../include/linux/sched.ts';
import type { int } from '../include/linux/types.ts';
import { type Sim, touch } from '../include/sim/schedule.ts';
import { BUS_MCEERR_AR } from './fault.ts';
import { folio_lock, folio_unlock } from './filemap.ts';
import { split_huge_page } from './huge_memory/split_folio.ts';
import { folio_mapped, TTU_HWPOISON, TTU_IGNORE_MLOCK, TTU_SYNC, try_to_unmap } from './rmap.ts';
import { put_page } from './swap.ts';

/**
 * Takes a bad folio out of every page table. What is in the swap cache leaves its swap entry behind:
 * who swaps it in meets the bad folio there.
 *
 * @retval -EBUSY it is still mapped
 */
function* unmap_poisoned_folio(f: folio): Sim<int> {
	let ttu = TTU_IGNORE_MLOCK | TTU_SYNC;
	if (!folio_test_swapcache(f)) ttu |= TTU_HWPOISON;
	yield* try_to_unmap(f, ttu);
	return folio_mapped(f) ? -EBUSY : 0;
}

/** A SIGBUS for the current task, which was to use the memory. */
function kill_proc(): void {
	current().siginfo.push({ sig: SIGBUS, code: BUS_MCEERR_AR });
}

/** Takes a bad folio out of use in user space, and tells whoever loses data. False: it could not. */
function* hwpoison_user_mappings(f: folio): Sim<boolean> {
	if (!folio_mapped(f)) return true;
	const unmapped = (yield* unmap_poisoned_folio(f)) === 0;
	if (folio_test_dirty(f) || !unmapped) kill_proc();
	return unmapped;
}

/** Splits the large folio of a page; its lock is not held. */
function* try_to_split_thp_page(p: page): Sim<int> {
	yield* folio_lock(page_folio(p));
	const ret = yield* split_huge_page(p);
	yield* folio_unlock(page_folio(p));
	return ret;
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
 * @retval 0 it is out of use; the current task, which was to use it, has a SIGBUS pending if that
 *   loses data
 * @retval -EHWPOISON it was known to be bad, or it is a part of a huge page that cannot be split: it
 *   stays mapped, and the current task has a SIGBUS pending
 * @retval -EOPNOTSUPP memory of a device
 * @retval -EBUSY a page of the kernel, or one that stays mapped
 * @context Process context. Sleeps.
 * @deviates takes the page, not its PFN, always with the reference (MF_COUNT_INCREASED) and for the
 *   current task (MF_ACTION_REQUIRED); huge pages of hugetlb are refused with -EBUSY
 * @kernel mm/memory-failure.c
 */
export function* memory_failure(p: page): Sim<int> {
	let f = page_folio(p);
	let err: int = 0;
	if (p.flags & PG_reserved || folio_test_hugetlb(f)) err = -EBUSY;
	else if (folio_is_zone_device(f)) err = -EOPNOTSUPP;
	else if (p.flags & PG_hwpoison) err = -EHWPOISON;
	if (err !== 0) {
		yield* put_page(p);
		return err;
	}
	touch('atomic', p, 'flags');
	p.flags |= PG_hwpoison;
	if (folio_test_large(f)) {
		if ((yield* try_to_split_thp_page(p)) !== 0) {
			kill_proc();
			yield* put_page(p);
			return -EHWPOISON;
		}
		f = page_folio(p);
	}
	yield* folio_lock(f);
	const unmapped = yield* hwpoison_user_mappings(f);
	// what is in the page cache stays there, so that others learn of it
	if (unmapped) delete_from_lru_cache(f);
	yield* folio_unlock(f);
	return unmapped ? 0 : -EBUSY;
}
