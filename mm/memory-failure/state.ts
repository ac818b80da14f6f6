// SPDX-License-Identifier: GPL-2.0-only
/**
 * What is done about a bad page that nobody maps any more, by what it is.
 *
 * ```
 *   flags                      is                      what is done                  result
 *   reserved                   the kernel's (6.12)     nothing                       ignored
 *   swapcache, dirty           the only copy           stays, so that who swaps it in learns  delayed
 *   swapcache                  a copy of the disk's    leaves the cache              recovered
 *   mlocked, unevictable, lru  anonymous               off the LRU                   recovered
 *                              of shmem                stays in the page cache       recovered
 *   anything else              unknown                 nothing                       ignored
 * ```
 *
 * Recovered, but referenced by somebody else, is failed. Recovered and delayed are 0 for the caller,
 * ignored and failed -EBUSY.
 *
 * @kernel mm/memory-failure.c
 */
import { EBUSY } from '../../include/linux/errno.ts';
import { address_space, type folio } from '../../include/linux/mm_types.ts';
import {
	folio_clear_dirty,
	folio_nr_pages,
	folio_ref_count,
	folio_test_anon,
	PG_active,
	PG_dirty,
	PG_lru,
	PG_mlocked,
	PG_reserved,
	PG_swapcache,
	PG_unevictable,
	PG_uptodate,
} from '../../include/linux/page-flags.ts';
import type { int } from '../../include/linux/types.ts';
import { type Sim, touch } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { shmem_mapping } from '../shmem.ts';
import { folio_isolate_lru, folio_put } from '../swap.ts';
import { delete_from_swap_cache } from '../swap_state.ts';

type Result = 'ignored' | 'failed' | 'delayed' | 'recovered';

/** What is done with a locked folio; the caller unlocks it. */
type Action = (f: folio) => Sim<Result>;

/** Takes a bad folio off the LRU; false: it was not there. */
function* delete_from_lru_cache(f: folio): Sim<boolean> {
	if (!folio_isolate_lru(f)) return false;
	touch('atomic', f, 'flags');
	f.flags &= ~(PG_active | PG_unevictable);
	yield* folio_put(f);
	return true;
}

/** Whether somebody has a reference besides the caller, and a cache if the folio stays in one. */
function has_extra_refcount(f: folio, cached: boolean): boolean {
	return folio_ref_count(f) - 1 - (cached ? folio_nr_pages(f) : 0) > 0;
}

function* me_kernel(): Sim<Result> {
	return 'ignored';
}

function* me_unknown(): Sim<Result> {
	return 'ignored';
}

function* me_pagecache_clean(f: folio): Sim<Result> {
	yield* delete_from_lru_cache(f);
	if (folio_test_anon(f)) return 'recovered';
	const { mapping } = f;
	if (!(mapping instanceof address_space)) return 'failed';
	// only shmem has a page cache here, and says that a bad page of it may stay
	if (!shmem_mapping(mapping)) return 'failed';
	return has_extra_refcount(f, true) ? 'failed' : 'recovered';
}

function* me_swapcache_dirty(f: folio): Sim<Result> {
	folio_clear_dirty(f);
	touch('atomic', f, 'flags');
	f.flags &= ~PG_uptodate;
	const off = yield* delete_from_lru_cache(f);
	return off && !has_extra_refcount(f, true) ? 'delayed' : 'failed';
}

function* me_swapcache_clean(f: folio): Sim<Result> {
	yield* delete_from_swap_cache(f);
	const off = yield* delete_from_lru_cache(f);
	return off && !has_extra_refcount(f, false) ? 'recovered' : 'failed';
}

/** Flags, what they must be, and what is done; the first that fits. */
type PageState = readonly [mask: int, res: int, action: Action];

const SC = PG_swapcache;
const DIRTY = PG_dirty;
const states: readonly PageState[] = [
	[SC | DIRTY, SC | DIRTY, me_swapcache_dirty],
	[SC | DIRTY, SC, me_swapcache_clean],
	[PG_mlocked, PG_mlocked, me_pagecache_clean],
	[PG_unevictable, PG_unevictable, me_pagecache_clean],
	[PG_lru, PG_lru, me_pagecache_clean],
];
const kernelState: PageState = [PG_reserved, PG_reserved, me_kernel];

function stateOf(flags: int): Action | null {
	const known = feature('memory_failure_sorts_out') ? states : [kernelState, ...states];
	const found = known.find(([mask, res]) => (flags & mask) === res);
	return found === undefined ? null : found[2];
}

/**
 * Do what is to be done about a bad page.
 *
 * @param f - its folio, locked, one page, with the caller's reference
 * @param page_flags - its flags before it was unmapped: it is by these if it is by no others
 * @retval 0 it is out of use
 * @retval -EBUSY nothing can be done, or somebody uses it
 * @context Sleeps.
 * @deviates the folio is unlocked by the caller; an error of a dirty file's page is not remembered
 *   in its mapping
 * @kernel mm/memory-failure.c
 */
export function* identify_page_state(f: folio, page_flags: int): Sim<int> {
	const then = page_flags | (f.flags & PG_dirty);
	const action = stateOf(f.flags) ?? stateOf(then) ?? me_unknown;
	const result = yield* action(f);
	return result === 'recovered' || result === 'delayed' ? 0 : -EBUSY;
}
