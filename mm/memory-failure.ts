// SPDX-License-Identifier: GPL-2.0-only
/**
 * Memory that went bad: pages that nobody may touch again.
 *
 * Guarantee: after memory_failure() no entry maps the page; whoever touches it gets a SIGBUS, and the
 * allocator never hands it out. Mechanism: PG_hwpoison; a huge page is split, so that one small page
 * is bad; hwpoison entries take the place of those that map the page; the reference of the caller is
 * never put.
 *
 * | file | functions |
 * | --- | --- |
 * | memory-failure.ts | memory_failure |
 * | memory-failure/collect.ts | collect_procs |
 * | memory-failure/kill.ts | kill_proc, kill_accessing_process |
 * | memory-failure/state.ts | identify_page_state and what it does |
 * | memory-failure/device.ts | memory_failure_dev_pagemap |
 *
 * @kernel mm/memory-failure.c
 */
import { EBUSY, EHWPOISON, ENXIO } from '../include/linux/errno.ts';
import { MF_ACTION_REQUIRED, MF_COUNT_INCREASED, MF_SW_SIMULATED } from '../include/linux/mm.ts';
import { type folio, type page, page_folio } from '../include/linux/mm_types.ts';
import { page_to_pfn } from '../include/linux/mmzone.ts';
import {
	folio_is_zone_device,
	folio_test_dirty,
	folio_test_hugetlb,
	folio_test_large,
	folio_test_lru,
	folio_test_swapcache,
	folio_test_writeback,
	PG_hwpoison,
} from '../include/linux/page-flags.ts';
import type { int } from '../include/linux/types.ts';
import { type Sim, touch } from '../include/sim/schedule.ts';
import { feature } from '../include/sim/world.ts';
import { folio_lock, folio_unlock } from './filemap.ts';
import { split_huge_page } from './huge_memory/split_folio.ts';
import { collect_procs } from './memory-failure/collect.ts';
import { memory_failure_dev_pagemap } from './memory-failure/device.ts';
import { kill_accessing_process, kill_proc } from './memory-failure/kill.ts';
import { identify_page_state } from './memory-failure/state.ts';
import { get_dev_pagemap } from './memremap.ts';
import { folio_wait_writeback } from './page-writeback.ts';
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

/** Takes a bad folio out of use in user space, and tells whoever loses data. False: it could not. */
function* hwpoison_user_mappings(f: folio): Sim<boolean> {
	if (!folio_test_lru(f) || !folio_mapped(f)) return true;
	const uses = yield* collect_procs(f, f.page);
	const unmapped = (yield* unmap_poisoned_folio(f)) === 0;
	if (uses && (folio_test_dirty(f) || !unmapped)) kill_proc();
	return unmapped;
}

/** Splits the large folio of a page; its lock is not held. */
function* try_to_split_thp_page(p: page): Sim<int> {
	yield* folio_lock(page_folio(p));
	const ret = yield* split_huge_page(p);
	yield* folio_unlock(page_folio(p));
	return ret;
}

/** A page that could not be split out of its folio: whoever uses it is told. */
function* kill_procs_now(p: page): Sim<void> {
	if (yield* collect_procs(page_folio(p), p)) kill_proc();
}

/** Memory of a device; the reference of the caller is put first. */
function* deviceFailure(p: page): Sim<int> {
	const pgmap = get_dev_pagemap(page_to_pfn(p) as bigint);
	yield* put_page(p);
	if (pgmap === null) return -ENXIO;
	const flags = MF_ACTION_REQUIRED | MF_COUNT_INCREASED | MF_SW_SIMULATED;
	return yield* memory_failure_dev_pagemap(p, flags, pgmap);
}

/** Whether a page that is in use is of a kind that can be handled. */
function HWPoisonHandlable(p: page): boolean {
	return folio_test_lru(page_folio(p));
}

/**
 * Handles a bad page of RAM, which is one page: takes it from everybody, then out of its cache.
 *
 * @retval 0 it is out of use
 * @retval -EBUSY it stays where it is
 */
function* handleLocked(f: folio): Sim<int> {
	const page_flags = f.flags;
	// the kernel's pages are looked at by their flags alone
	if (folio_test_lru(f) || folio_test_writeback(f)) {
		yield* folio_wait_writeback(f);
		if (!(yield* hwpoison_user_mappings(f))) return -EBUSY;
		if (folio_test_lru(f) && !folio_test_swapcache(f) && f.mapping === null)
			return -EBUSY;
	}
	return yield* identify_page_state(f, page_flags);
}

/**
 * Handle a page whose memory is bad.
 *
 * @param p - the page, with a reference that is never put unless it is said below
 * @retval 0 it is out of use; the current task, which was to use it, has a SIGBUS pending if that
 *   loses data
 * @retval -EHWPOISON it was known to be bad, or it is a part of a huge page that cannot be split: it
 *   stays mapped, and the current task has a SIGBUS pending if it maps it; the reference is put
 * @retval -ENXIO memory of a device that nobody can keep from it; the reference is put
 * @retval -EBUSY a page of the kernel, one that stays mapped, or one that somebody else uses; 7.3 puts
 *   the reference of one that is on no LRU
 * @returns else what the pagemap of a device's memory says
 * @context Process context. Sleeps.
 * @deviates takes the page, not its PFN, always with the reference (MF_COUNT_INCREASED) and for the
 *   current task (MF_ACTION_REQUIRED); huge pages of hugetlb are refused with -EBUSY
 * @kernel mm/memory-failure.c
 */
export function* memory_failure(p: page): Sim<int> {
	if (folio_is_zone_device(page_folio(p))) return yield* deviceFailure(p);
	if (folio_test_hugetlb(page_folio(p))) {
		yield* put_page(p);
		return -EBUSY;
	}
	touch('atomic', p, 'flags');
	if (p.flags & PG_hwpoison) {
		const ret = yield* kill_accessing_process(p);
		yield* put_page(p);
		return ret;
	}
	p.flags |= PG_hwpoison;
	if (feature('memory_failure_sorts_out') && !HWPoisonHandlable(p)) {
		yield* put_page(p);
		return -EBUSY;
	}
	if (folio_test_large(page_folio(p)) && (yield* try_to_split_thp_page(p)) !== 0) {
		yield* kill_procs_now(p);
		yield* put_page(p);
		return -EHWPOISON;
	}
	const f = page_folio(p);
	yield* folio_lock(f);
	const ret = yield* handleLocked(f);
	yield* folio_unlock(f);
	return ret;
}
