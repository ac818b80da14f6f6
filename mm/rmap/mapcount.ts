// SPDX-License-Identifier: GPL-2.0-only
/**
 * Counting the page-table entries that map a page, and whom an anonymous page belongs to.
 *
 * Guarantee: `_mapcount + 1` of a page is the number of ptes that map it, device-private entries
 * included; `_entire_mapcount + 1` of a large folio that of pmds. A page with AnonExclusive is
 * mapped by one process only, which may write to it; a fork or a migration that would share it
 * clears the mark first. A folio mapped by a pmd has the mark on its first page, for all of it.
 * Duty: the page-table lock of the entry is held; each mapping has a reference of the folio, which
 * these functions do not touch.
 */
import { BUG_ON, WARN_ON_ONCE } from '../../include/linux/bug.ts';
import { EBUSY } from '../../include/linux/errno.ts';
import { linear_page_index } from '../../include/linux/mm.ts';
import {
	anon_vma,
	type folio,
	type page,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import { nth_page } from '../../include/linux/mmzone.ts';
import {
	ClearPageAnonExclusive,
	folio_is_device_private,
	folio_nr_pages,
	folio_order,
	folio_ref_count,
	folio_test_anon,
	folio_test_large,
	PageAnonExclusive,
	PG_swapbacked,
	SetPageAnonExclusive,
} from '../../include/linux/page-flags.ts';
import {
	type bool,
	HPAGE_PMD_ORDER,
	type int,
	type unsigned_long,
} from '../../include/linux/types.ts';
import { preemptible, type Sim, schedulePoint, touch } from '../../include/sim/schedule.ts';
import { dump_page } from '../debug.ts';
import { mlock_vma_folio, munlock_vma_folio } from '../mlock_folio.ts';
import {
	folio_add_large_mapcount,
	folio_large_mapcount,
	folio_set_large_mapcount,
	folio_sub_large_mapcount,
} from './large_mapcount.ts';

/** No special rmap handling. */
export const RMAP_NONE = 0;
/** The page belongs to this process alone. */
export const RMAP_EXCLUSIVE = 1;
/** What a new mapping is, RMAP_*. */
export type rmap_t = 0 | 1;

/** References that one pin of a page is worth. */
export const GUP_PIN_COUNTING_BIAS = 1024;

function* countPoint(p: page): Sim<void> {
	if (preemptible()) yield schedulePoint('atomic', p, '_mapcount');
}

/** Stops the run with what the kernel prints of the page. */
function bugOnFolio(condition: boolean, f: folio, message: string): void {
	if (!condition) return;
	dump_page(f.page, message);
	BUG_ON(true, message);
}

/**
 * How many entries map a folio, all of its pages together.
 *
 * @param f - the folio
 * @kernel include/linux/mm.h
 */
export function folio_mapcount(f: folio): int {
	touch('read', f.page, '_mapcount');
	return folio_test_large(f) ? folio_large_mapcount(f) : f.page._mapcount + 1;
}

/**
 * Whether some entry maps a folio.
 *
 * @param f - the folio
 * @kernel include/linux/mm.h
 */
export function folio_mapped(f: folio): bool {
	return folio_mapcount(f) >= 1;
}

/**
 * Whether a folio may be pinned for DMA. A large one counts its pins; a small one may have as many
 * references for another reason.
 *
 * @param f - the folio
 * @kernel include/linux/mm.h
 */
export function folio_maybe_dma_pinned(f: folio): bool {
	if (folio_test_large(f)) {
		touch('read', f, '_pincount');
		return f._pincount > 0;
	}
	return folio_ref_count(f) >= GUP_PIN_COUNTING_BIAS;
}

/**
 * Whether a fork must copy a page at once because it may be pinned.
 *
 * @param _vma - the parent's VMA
 * @param f - the folio
 * @deviates the kernel also asks whether the mm ever pinned anything, to save the look
 * @kernel include/linux/mm.h
 */
export function folio_needs_cow_for_dma(_vma: vm_area_struct, f: folio): bool {
	return folio_maybe_dma_pinned(f);
}

function __folio_set_anon(
	f: folio,
	vma: vm_area_struct,
	address: unsigned_long,
	exclusive: boolean,
): void {
	const av = vma.anon_vma;
	BUG_ON(av === null, 'anonymous page in a VMA without anon_vma');
	touch('write', f, 'mapping');
	// who may share the page is found from the root only
	f.mapping = exclusive ? av : av!.root;
	f.index = linear_page_index(vma, address);
}

/** A page that is mapped again must lie where its first mapping said. */
function __page_check_anon_rmap(f: folio, p: page, vma: vm_area_struct, address: bigint): void {
	const { mapping } = f;
	const family = mapping instanceof anon_vma ? mapping.root : null;
	bugOnFolio(family !== vma.anon_vma?.root, f, 'page of another family of anon_vmas');
	const at = BigInt(p.sec.base + p.idx - f.page.sec.base - f.page.idx);
	bugOnFolio(
		f.index + at !== linear_page_index(vma, address),
		f,
		'page is mapped where it does not belong',
	);
}

/**
 * Make a folio that nobody knows an anonymous one, mapped once.
 *
 * @param f - the folio
 * @param vma - where it is mapped; has an anon_vma
 * @param address - its first address
 * @param flags - RMAP_EXCLUSIVE: it belongs to this process alone
 * @context The page-table lock is held.
 * @kernel mm/rmap.c
 */
export function* folio_add_new_anon_rmap(
	f: folio,
	vma: vm_area_struct,
	address: unsigned_long,
	flags: rmap_t,
): Sim<void> {
	yield* countPoint(f.page);
	const nr = folio_nr_pages(f);
	BUG_ON(
		address < vma.vm_start || address + BigInt(nr) * 4096n > vma.vm_end,
		'new anonymous page outside of its VMA',
	);
	f.flags |= PG_swapbacked;
	__folio_set_anon(f, vma, address, flags === RMAP_EXCLUSIVE);
	if (folio_order(f) >= HPAGE_PMD_ORDER) {
		f._entire_mapcount = 0;
		folio_set_large_mapcount(f, 1, vma);
		if (flags === RMAP_EXCLUSIVE) SetPageAnonExclusive(f.page);
		return;
	}
	for (let i = 0; i < nr; i++) {
		const p = nth_page(f.page, i);
		p._mapcount = 0;
		if (flags === RMAP_EXCLUSIVE) SetPageAnonExclusive(p);
	}
	if (nr > 1) folio_set_large_mapcount(f, nr, vma);
}

/**
 * Count one more mapping of a page that is anonymous already.
 *
 * @param f - its folio
 * @param p - the page
 * @param vma - where it is mapped
 * @param address - its address
 * @param flags - RMAP_EXCLUSIVE: it belongs to this process alone
 * @context The page-table lock is held.
 * @kernel include/linux/rmap.h
 */
export function* folio_add_anon_rmap_pte(
	f: folio,
	p: page,
	vma: vm_area_struct,
	address: unsigned_long,
	flags: rmap_t,
): Sim<void> {
	yield* countPoint(p);
	WARN_ON_ONCE(!folio_test_anon(f), 'anonymous rmap of a folio that is not');
	__page_check_anon_rmap(f, p, vma, address);
	p._mapcount++;
	if (folio_test_large(f)) folio_add_large_mapcount(f, 1, vma);
	if (flags === RMAP_EXCLUSIVE) SetPageAnonExclusive(p);
	bugOnFolio(
		p._mapcount > 0 && PageAnonExclusive(p),
		f,
		'exclusive page is mapped more than once',
	);
	// a part of a large folio is not locked on its own
	if (!folio_test_large(f)) mlock_vma_folio(f, vma);
}

/**
 * Count a mapping of every page of an anonymous folio by a pte of its own: its pmd is being split.
 *
 * @param f - its folio, mapped at `address`
 * @param vma - where it is mapped
 * @param address - its first address
 * @param flags - RMAP_EXCLUSIVE: it belongs to this process alone
 * @context The page-table lock is held.
 * @deviates the whole folio; C takes a run of its pages
 * @kernel mm/rmap.c
 */
export function* folio_add_anon_rmap_ptes(
	f: folio,
	vma: vm_area_struct,
	address: unsigned_long,
	flags: rmap_t,
): Sim<void> {
	yield* countPoint(f.page);
	__page_check_anon_rmap(f, f.page, vma, address);
	const nr = folio_nr_pages(f);
	for (let i = 0; i < nr; i++) {
		const p = nth_page(f.page, i);
		p._mapcount++;
		if (flags === RMAP_EXCLUSIVE) SetPageAnonExclusive(p);
	}
	folio_add_large_mapcount(f, nr, vma);
	mlock_vma_folio(f, vma);
}

/**
 * Count one more mapping of all of an anonymous folio by a pmd.
 *
 * @param f - its folio
 * @param vma - where it is mapped
 * @param address - its first address
 * @param flags - RMAP_EXCLUSIVE: it belongs to this process alone
 * @context The page-table lock is held.
 * @deviates without the page, which is the folio's first
 * @kernel mm/rmap.c
 */
export function* folio_add_anon_rmap_pmd(
	f: folio,
	vma: vm_area_struct,
	address: unsigned_long,
	flags: rmap_t,
): Sim<void> {
	yield* countPoint(f.page);
	WARN_ON_ONCE(!folio_test_anon(f), 'anonymous rmap of a folio that is not');
	__page_check_anon_rmap(f, f.page, vma, address);
	f._entire_mapcount++;
	folio_add_large_mapcount(f, 1, vma);
	if (flags === RMAP_EXCLUSIVE) SetPageAnonExclusive(f.page);
	bugOnFolio(
		f._entire_mapcount > 0 && PageAnonExclusive(f.page),
		f,
		'exclusive folio is mapped more than once',
	);
	mlock_vma_folio(f, vma);
}

/**
 * Count one more mapping of a page of the page cache.
 *
 * @param f - its folio
 * @param p - the page
 * @param vma - where it is mapped
 * @context The page-table lock is held.
 * @kernel include/linux/rmap.h
 */
export function* folio_add_file_rmap_pte(f: folio, p: page, vma: vm_area_struct): Sim<void> {
	yield* countPoint(p);
	WARN_ON_ONCE(folio_test_anon(f), 'file rmap of an anonymous folio');
	p._mapcount++;
	mlock_vma_folio(f, vma);
	if (folio_test_large(f)) folio_add_large_mapcount(f, 1, vma);
}

/**
 * Count a mapping of a page that a fork copies, for a page of the page cache.
 *
 * @param f - its folio
 * @param p - the page
 * @param dst_vma - the child's VMA
 * @context The page-table locks are held.
 * @kernel include/linux/rmap.h
 */
export function* folio_dup_file_rmap_pte(f: folio, p: page, dst_vma: vm_area_struct): Sim<void> {
	yield* countPoint(p);
	p._mapcount++;
	if (folio_test_large(f)) folio_add_large_mapcount(f, 1, dst_vma);
}

/**
 * Share an anonymous page with a child: it is exclusive no longer.
 *
 * @param f - its folio
 * @param p - the page
 * @param dst_vma - the child's VMA
 * @param src_vma - the parent's VMA
 * @retval 0 one more mapping is counted
 * @retval -EBUSY it may be pinned: copy it
 * @context The page-table locks are held.
 * @kernel include/linux/rmap.h
 */
export function* folio_try_dup_anon_rmap_pte(
	f: folio,
	p: page,
	dst_vma: vm_area_struct,
	src_vma: vm_area_struct,
): Sim<int> {
	yield* countPoint(p);
	WARN_ON_ONCE(!folio_test_anon(f), 'anonymous rmap of a folio that is not');
	if (mustStayExclusive(f, p, src_vma)) return -EBUSY;
	ClearPageAnonExclusive(p);
	p._mapcount++;
	if (folio_test_large(f)) folio_add_large_mapcount(f, 1, dst_vma);
	return 0;
}

/** Whether an exclusive page cannot be shared; nobody can pin what no CPU can address. */
function mustStayExclusive(f: folio, p: page, src_vma: vm_area_struct): bool {
	const maybe_pinned = !folio_is_device_private(f) && folio_needs_cow_for_dma(src_vma, f);
	return maybe_pinned && PageAnonExclusive(p);
}

/**
 * Share an anonymous folio that a pmd maps with a child: it is exclusive no longer.
 *
 * @param f - the folio
 * @param dst_vma - the child's VMA
 * @param src_vma - the parent's VMA
 * @retval 0 one more mapping is counted
 * @retval -EBUSY it may be pinned: split it, and copy pages
 * @context The page-table locks are held.
 * @deviates without the page, which is the folio's first
 * @kernel include/linux/rmap.h
 */
export function* folio_try_dup_anon_rmap_pmd(
	f: folio,
	dst_vma: vm_area_struct,
	src_vma: vm_area_struct,
): Sim<int> {
	yield* countPoint(f.page);
	WARN_ON_ONCE(!folio_test_anon(f), 'anonymous rmap of a folio that is not');
	if (mustStayExclusive(f, f.page, src_vma)) return -EBUSY;
	ClearPageAnonExclusive(f.page);
	f._entire_mapcount++;
	folio_add_large_mapcount(f, 1, dst_vma);
	return 0;
}

/**
 * Take the mark of exclusive ownership off a page whose entry was emptied and flushed.
 *
 * @param f - its folio
 * @param p - the page, exclusive
 * @retval 0 it may be shared now
 * @retval -EBUSY it may be pinned and stays exclusive
 * @context The page-table lock is held.
 * @kernel include/linux/rmap.h
 */
export function folio_try_share_anon_rmap_pte(f: folio, p: page): int {
	touch('atomic', p, 'flags');
	WARN_ON_ONCE(!PageAnonExclusive(p), 'page to be shared is not exclusive');
	if (!folio_is_device_private(f) && folio_maybe_dma_pinned(f)) return -EBUSY;
	ClearPageAnonExclusive(p);
	return 0;
}

/**
 * Take the mark of exclusive ownership off a folio whose pmd was invalidated and flushed.
 *
 * @param f - the folio, exclusive
 * @retval 0 it may be shared now
 * @retval -EBUSY it may be pinned and stays exclusive
 * @context The page-table lock is held.
 * @deviates without the page, which is the folio's first
 * @kernel include/linux/rmap.h
 */
export function folio_try_share_anon_rmap_pmd(f: folio): int {
	return folio_try_share_anon_rmap_pte(f, f.page);
}

/**
 * Count one mapping of a page less.
 *
 * @param f - its folio
 * @param p - the page
 * @param vma - where it was mapped
 * @context The page-table lock is held.
 * @kernel include/linux/rmap.h
 */
export function* folio_remove_rmap_pte(f: folio, p: page, vma: vm_area_struct): Sim<void> {
	yield* countPoint(p);
	bugOnFolio(p._mapcount < 0, f, 'mapping of a page is removed that has none');
	p._mapcount--;
	munlock_vma_folio(f, vma);
	if (folio_test_large(f)) folio_sub_large_mapcount(f, 1, vma);
}

/**
 * Count one mapping of a folio by a pmd less.
 *
 * @param f - the folio
 * @param vma - where it was mapped
 * @context The page-table lock is held.
 * @deviates without the page, which is the folio's first
 * @kernel mm/rmap.c
 */
export function* folio_remove_rmap_pmd(f: folio, vma: vm_area_struct): Sim<void> {
	yield* countPoint(f.page);
	bugOnFolio(f._entire_mapcount < 0, f, 'mapping of a folio is removed that has none');
	f._entire_mapcount--;
	folio_sub_large_mapcount(f, 1, vma);
	munlock_vma_folio(f, vma);
}

/**
 * Make an anonymous folio that only one process maps that process's own.
 *
 * @param f - locked folio
 * @param vma - the only VMA that maps it
 * @context The page-table lock is held.
 * @kernel mm/rmap.c
 */
export function folio_move_anon_rmap(f: folio, vma: vm_area_struct): void {
	BUG_ON(vma.anon_vma === null, 'anonymous page in a VMA without anon_vma');
	touch('write', f, 'mapping');
	f.mapping = vma.anon_vma;
}
