// SPDX-License-Identifier: GPL-2.0-only
/**
 * get_user_pages_fast() and pin_user_pages_fast(): no lock as long as the pages are there.
 *
 * Guarantee: as the calls with the lock. Mechanism: with interrupts off nobody can free a page table
 * (he would have to wait for this CPU's answer to his flush), so the entries are read, a reference is
 * tried, and the entry is read again: if it is the same the page was mapped while it had the
 * reference. The first entry that is not simple ends that, and the rest takes the lock.
 *
 * ```
 *   entry                                         here      else
 *   present, with the right that is asked for     page      slow path
 *   special, PROT_NONE, to be unshared            -         slow path
 *   long-term pin of a coherent page              -         slow path, which migrates it
 * ```
 *
 * The walk makes no step between the two looks at an entry: here it is atomic.
 *
 * @kernel mm/gup.c
 */
import { FOLL_GET, FOLL_PIN, FOLL_TOUCH, FOLL_WRITE } from '../../include/linux/mm.ts';
import { type mm_struct, type page, page_folio } from '../../include/linux/mm_types.ts';
import { nth_page, pfn_to_page } from '../../include/linux/mmzone.ts';
import { PG_referenced } from '../../include/linux/page-flags.ts';
import {
	pmd_leaf,
	pmd_pfn,
	pmd_present,
	pmd_protnone,
	pmd_special,
	pmd_write,
	pte_pfn,
	pte_present,
	pte_protnone,
	pte_special,
	pte_write,
} from '../../include/linux/pgtable.ts';
import { current } from '../../include/linux/sched.ts';
import {
	type int,
	PAGE_MASK,
	PAGE_SHIFT,
	PAGE_SIZE,
	PMD_MASK,
	type unsigned_int,
	type unsigned_long,
} from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { mmap_read_lock, mmap_read_unlock } from '../mmap_lock.ts';
import {
	pgd_none_or_clear_bad,
	pgd_offset,
	pmd_offset,
	pte_offset_kernel,
	pud_none_or_clear_bad,
	pud_offset,
} from '../pgtable.ts';
import { gup_must_unshare, try_grab_folio_fast } from './grab.ts';
import { __gup_longterm_locked } from './pin.ts';

/** A page that an entry maps, and whether it may be written by it. */
interface Mapped {
	readonly page: page;
	readonly write: boolean;
}

/** The page that is mapped at an address by an entry that leaves nothing to ask. */
function mappedPage(mm: mm_struct, address: unsigned_long): Mapped | null {
	const pgd = pgd_offset(mm, address);
	if (pgd_none_or_clear_bad(pgd)) return null;
	const pud = pud_offset(pgd, address);
	if (pud_none_or_clear_bad(pud)) return null;
	const pmdp = pmd_offset(pud, address);
	const pmd = pmdp.value;
	if (!pmd_present(pmd) || pmd_protnone(pmd)) return null;
	if (pmd_leaf(pmd)) {
		if (pmd_special(pmd)) return null;
		const n = Number((address & ~PMD_MASK) >> PAGE_SHIFT);
		return { page: nth_page(pfn_to_page(pmd_pfn(pmd)), n), write: pmd_write(pmd) };
	}
	const pte = pte_offset_kernel(pmdp, address).value;
	if (!pte_present(pte) || pte_protnone(pte) || pte_special(pte)) return null;
	return { page: pfn_to_page(pte_pfn(pte)), write: pte_write(pte) };
}

/** Pages from `start` on that could be had without the lock. */
function gup_fast(
	mm: mm_struct,
	start: unsigned_long,
	nr_pages: unsigned_long,
	flags: unsigned_int,
	pages: page[],
): int {
	for (let i = 0; BigInt(i) < nr_pages; i++) {
		const found = mappedPage(mm, start + BigInt(i) * PAGE_SIZE);
		if (found === null) return i;
		const { page: p, write } = found;
		if (flags & FOLL_WRITE && !write) return i;
		if (!write && gup_must_unshare(null, flags, p)) return i;
		const f = page_folio(p);
		if (!try_grab_folio_fast(f, flags)) return i;
		f.flags |= PG_referenced;
		pages.push(p);
	}
	return Number(nr_pages);
}

function* gup_fast_fallback(
	start: unsigned_long,
	nr_pages: unsigned_long,
	gup_flags: unsigned_int,
	pages: page[],
): Sim<int> {
	const mm = current().mm!;
	const first = start & PAGE_MASK;
	const pinned = gup_fast(mm, first, nr_pages, gup_flags, pages);
	const left = nr_pages - BigInt(pinned);
	if (left === 0n) return pinned;
	yield* mmap_read_lock(mm);
	const ret = yield* __gup_longterm_locked(
		mm,
		first + BigInt(pinned) * PAGE_SIZE,
		left,
		pages,
		gup_flags | FOLL_TOUCH,
	);
	yield* mmap_read_unlock(mm);
	if (ret < 0) return pinned > 0 ? pinned : ret;
	return pinned + ret;
}

/**
 * get_user_pages() that takes the mmap lock by itself, and only if it must.
 *
 * @param start - first address
 * @param nr_pages - how many
 * @param gup_flags - FOLL_WRITE and the like
 * @param pages - out: appended, each with a reference
 * @returns as get_user_pages_remote()
 * @context Sleeps. The mmap lock is not held.
 * @kernel mm/gup.c
 */
export function* get_user_pages_fast(
	start: unsigned_long,
	nr_pages: unsigned_long,
	gup_flags: unsigned_int,
	pages: page[],
): Sim<int> {
	return yield* gup_fast_fallback(start, nr_pages, gup_flags | FOLL_GET, pages);
}

/**
 * pin_user_pages() that takes the mmap lock by itself, and only if it must.
 *
 * @param start - first address
 * @param nr_pages - how many
 * @param gup_flags - FOLL_WRITE, FOLL_LONGTERM and the like
 * @param pages - out: appended, each with a pin
 * @returns as pin_user_pages()
 * @context Sleeps. The mmap lock is not held.
 * @kernel mm/gup.c
 */
export function* pin_user_pages_fast(
	start: unsigned_long,
	nr_pages: unsigned_long,
	gup_flags: unsigned_int,
	pages: page[],
): Sim<int> {
	return yield* gup_fast_fallback(start, nr_pages, gup_flags | FOLL_PIN, pages);
}
