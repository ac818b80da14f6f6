// SPDX-License-Identifier: GPL-2.0-only
/**
 * The page allocator.
 *
 * Guarantee: a block of 2^order pages is naturally aligned, lies in RAM, belongs to one caller, and
 * its bytes are what the last owner left unless __GFP_ZERO is given. Mechanism: free lists by order
 * with buddies merged, and a bump pointer over RAM that nobody has used yet, so that memory which is
 * never allocated costs nothing. Lists are first in, first out: a stale pointer to a freed page has
 * the longest time to show. Duty: whoever allocates puts the last reference.
 *
 * ```
 *   RAM   |reserved|  allocated and free blocks          |  never used            |
 *         0        0x100                                 bump                     end
 *
 *   free_area[0]  { 0x105, 0x117 }      free_area[1]  { 0x118 }      ...  free_area[10] {}
 *                     |                     buddy of block b at order o is b ^ (1 << o):
 *                     freed, buddy 0x104 is in use       both free: one block of order o + 1
 * ```
 */
import { type Frame, PAGE_BYTES, type PhysicalRam } from '../arch/sim/memory.ts';
import { oops } from '../include/linux/bug.ts';
import { type folio, type page, page_folio } from '../include/linux/mm_types.ts';
import { memoryMap, PAGES_PER_SECTION, page_to_pfn, pfn_to_page } from '../include/linux/mmzone.ts';
import {
	folio_test_anon,
	PG_active,
	PG_buddy,
	PG_hwpoison,
	PG_locked,
	PG_lru,
	PG_mlocked,
	PG_private,
	PG_swapcache,
	PG_table,
	PG_unevictable,
	PG_writeback,
} from '../include/linux/page-flags.ts';
import { pr_warn } from '../include/linux/printk.ts';
import { current } from '../include/linux/sched.ts';
import {
	__GFP_COMP,
	__GFP_DIRECT_RECLAIM,
	__GFP_NOFAIL,
	__GFP_ZERO,
	type gfp_t,
	type int,
	type unsigned_int,
} from '../include/linux/types.ts';
import { shouldFail } from '../include/sim/fault_injection.ts';
import { takeOrigin } from '../include/sim/origin.ts';
import { footprinted, preemptible, type Sim, schedulePoint } from '../include/sim/schedule.ts';
import { perWorld, world } from '../include/sim/world.ts';
import { might_sleep } from '../kernel/sched/might_sleep.ts';
import { bad_page, reportUseAfterFree } from './debug.ts';

/** Largest order plus one. */
export const NR_PAGE_ORDERS = 11;
/** Below is what the firmware and the boot loader keep: the first MiB. */
const FIRST_PFN = 0x100;

/** Flags with which a page must not be freed. */
const PAGE_FLAGS_CHECK_AT_FREE =
	PG_lru |
	PG_locked |
	PG_private |
	PG_writeback |
	PG_active |
	PG_unevictable |
	PG_mlocked |
	PG_swapcache |
	PG_table;

/**
 * All of the allocator's state.
 *
 * @kernel include/linux/mmzone.h
 */
export class zone {
	/** First PFNs of free blocks, by order. */
	free_area: Set<number>[] = Array.from({ length: NR_PAGE_ORDERS }, () => new Set());
	/** First PFN that was never used, and the end of its RAM range. */
	bump = FIRST_PFN;
	bumpEnd = 0;
	/** Pages in somebody's hands. */
	allocated: int = 0;
	/** The last allocation found no memory, and nothing was freed since. */
	exhausted = false;
}

/** The installed world's zone. */
export const theZone = perWorld(() => new zone());

/** First PFN of a naturally aligned block of RAM that was never used, or -1. */
function bumpBlock(z: zone, order: int): number {
	const size = 1 << order;
	for (;;) {
		const first = Math.ceil(z.bump / size) * size;
		if (first + size <= z.bumpEnd) {
			giveBack(z, z.bump, first);
			z.bump = first + size;
			return first;
		}
		const next = memoryMap().ranges.find((r) => r.pgmap === null && r.end > z.bumpEnd);
		if (next === undefined) return -1;
		giveBack(z, z.bump, z.bumpEnd);
		z.bump = Math.max(next.start, FIRST_PFN);
		z.bumpEnd = next.end;
	}
}

/** Put never used pages [from, to) on the free lists, in the largest aligned blocks. */
function giveBack(z: zone, from: number, to: number): void {
	let at = from;
	while (at < to) {
		let order = 0;
		while (
			order < NR_PAGE_ORDERS - 1 &&
			at % (2 << order) === 0 &&
			at + (2 << order) <= to
		)
			order++;
		addToList(z, at, order);
		at += 1 << order;
	}
}

function addToList(z: zone, pfn: number, order: int): void {
	z.free_area[order]!.add(pfn);
	const section = memoryMap().section(pfn)!;
	section.flags[pfn & (PAGES_PER_SECTION - 1)]! |= PG_buddy;
}

function takeFromList(z: zone, pfn: number, order: int): void {
	z.free_area[order]!.delete(pfn);
	const section = memoryMap().section(pfn)!;
	section.flags[pfn & (PAGES_PER_SECTION - 1)]! &= ~PG_buddy;
}

/** First PFN of a free block, taken off the lists; -1 when there is none. */
function rmqueue(z: zone, order: int): number {
	for (let at = order; at < NR_PAGE_ORDERS; at++) {
		const list = z.free_area[at]!;
		if (list.size === 0) continue;
		const [pfn] = list as Iterable<number> as [number];
		takeFromList(z, pfn, at);
		for (let high = at - 1; high >= order; high--)
			addToList(z, pfn + (1 << high), high);
		return pfn;
	}
	return bumpBlock(z, order);
}

/** Put a block on the free lists, merged with its free buddies. */
function __free_one_page(z: zone, pfn: number, order: int): void {
	let block = pfn;
	let at = order;
	for (; at < NR_PAGE_ORDERS - 1; at++) {
		const buddy = block ^ (1 << at);
		if (!z.free_area[at]!.has(buddy)) break;
		takeFromList(z, buddy, at);
		block = Math.min(block, buddy);
	}
	addToList(z, block, at);
}

/**
 * Make a block one compound page.
 *
 * @param p - its first page
 * @param order - its size; 0 makes nothing
 * @kernel mm/page_alloc.c
 */
export function prep_compound_page(p: page, order: unsigned_int): void {
	if (order === 0) return;
	const map = memoryMap();
	const base = p.sec.base + p.idx;
	const size = 1 << order;
	p.compound = (order << 1) | 1;
	const f = page_folio(p);
	f._entire_mapcount = -1;
	f._large_mapcount = -1;
	f._mm_ids = null;
	for (let i = 1; i < size; ) {
		const section = map.section(base + i)!;
		const from = (base + i) & (PAGES_PER_SECTION - 1);
		const n = Math.min(PAGES_PER_SECTION - from, size - i);
		for (let k = 0; k < n; k++) section.compound[from + k] = -(i + k);
		i += n;
	}
}

function prepareNew(p: page, order: int, gfp: gfp_t): void {
	if (p._refcount !== 0 || p._mapcount !== -1) bad_page(p, 'nonzero _refcount or mapcount');
	p._refcount = 1;
	if (gfp & __GFP_COMP) prep_compound_page(p, order);
	if (gfp & __GFP_ZERO)
		for (let i = 0; i < 1 << order; i++) zeroFrame(p.sec.base + p.idx + i);
	if (world().trackOrigins) (p.sec.origins ??= [])[p.idx] = takeOrigin();
}

/**
 * Allocate 2^order pages, naturally aligned, with one reference on the first.
 *
 * @param gfp - GFP_KERNEL, GFP_ATOMIC, …; __GFP_COMP makes one compound page of them, __GFP_ZERO
 *   clears them, __GFP_NOFAIL is never made to fail
 * @param order - size
 * @returns the first page, or null: out of memory, or made to fail at site `alloc_pages`
 * @context Sleeps if `gfp` allows it.
 * @kernel include/linux/gfp.h
 */
export function* alloc_pages(gfp: gfp_t, order: unsigned_int): Sim<page | null> {
	if (gfp & __GFP_DIRECT_RECLAIM) might_sleep();
	if (!(gfp & __GFP_NOFAIL) && shouldFail('alloc_pages')) return null;
	const z = theZone();
	const pfn = rmqueue(z, order);
	if (pfn < 0) {
		z.exhausted = true;
		pr_warn(
			`${current().comm}: page allocation failure: order:${order}, mode:0x${gfp.toString(16)}`,
		);
		return null;
	}
	z.allocated += 1 << order;
	const p = memoryMap().page(pfn)!;
	prepareNew(p, order, gfp);
	return p;
}

/**
 * Allocate one page.
 *
 * @param gfp - allocation flags
 * @returns the page with one reference, or null
 * @context Sleeps if `gfp` allows it.
 * @kernel include/linux/gfp.h
 */
export function* alloc_page(gfp: gfp_t): Sim<page | null> {
	return yield* alloc_pages(gfp, 0);
}

/**
 * Allocate a folio.
 *
 * @param gfp - allocation flags; __GFP_COMP is implied
 * @param order - size
 * @returns the folio with one reference, or null
 * @context Sleeps if `gfp` allows it.
 * @kernel include/linux/gfp.h
 */
export function* folio_alloc(gfp: gfp_t, order: unsigned_int): Sim<folio | null> {
	const p = yield* alloc_pages(gfp | __GFP_COMP, order);
	return p === null ? null : page_folio(p);
}

/** Why a page must not be freed, or null. */
function badForFree(p: page): string | null {
	if (p._refcount !== 0) return 'nonzero _refcount';
	if (p._mapcount !== -1) return 'nonzero mapcount';
	if (p.mapping !== null && !folio_test_anon(page_folio(p))) return 'non-NULL mapping';
	if (p.flags & PAGE_FLAGS_CHECK_AT_FREE) return 'PAGE_FLAGS_CHECK_AT_FREE flag(s) set';
	if (p.flags & PG_buddy) return 'page is already free';
	return null;
}

/** Why a block was not taken back, or whether bad memory is in it. */
type Prepared = 'bad page' | 'poisoned' | 'fine';

/** Checks and clears the fields of every page of a block; bad memory stays marked. */
function free_pages_prepare(p: page, order: int): Prepared {
	const map = memoryMap();
	const base = p.sec.base + p.idx;
	const size = 1 << order;
	let why = badForFree(p);
	if (why === null && order > 0 && page_folio(p)._pincount !== 0) why = 'nonzero pincount';
	for (let i = 1; i < size && why === null; i++) {
		const section = map.section(base + i)!;
		const at = (base + i) & (PAGES_PER_SECTION - 1);
		if (section.refcount[at] !== 0) why = 'nonzero _refcount of a tail page';
		else if (section.mapcount[at] !== -1) why = 'nonzero mapcount of a tail page';
	}
	if (why !== null) {
		bad_page(p, why);
		return 'bad page';
	}
	let poisoned = 0;
	for (let i = 0; i < size; i++) {
		const section = map.section(base + i)!;
		const at = (base + i) & (PAGES_PER_SECTION - 1);
		section.flags[at]! &= PG_hwpoison;
		poisoned |= section.flags[at]!;
		section.compound[at] = 0;
		section.index[2 * at] = 0;
		section.index[2 * at + 1] = 0;
		if (section.mapping !== null) section.mapping[at] = null;
		if (section.private_ !== null) section.private_[at] = null;
		if (section.origins !== null) section.origins[at] = null;
	}
	return poisoned === 0 ? 'fine' : 'poisoned';
}

/** Gives back the pages of a block that are not bad. */
function free_has_hwpoisoned(z: zone, first: int, order: int): void {
	for (let pfn = first; pfn < first + (1 << order); pfn++)
		if (!(memoryMap().page(pfn)!.flags & PG_hwpoison)) __free_one_page(z, pfn, 0);
}

/**
 * Give back pages whose last reference is gone. Pages in a bad state are reported, and kept away
 * from everybody; so is bad memory, without a report.
 *
 * @param p - first page
 * @param order - size
 * @kernel mm/page_alloc.c
 */
export function free_frozen_pages(p: page, order: unsigned_int): void {
	const z = theZone();
	z.allocated -= 1 << order;
	z.exhausted = false;
	const pfn = p.sec.base + p.idx;
	const prepared = free_pages_prepare(p, order);
	if (prepared === 'fine') __free_one_page(z, pfn, order);
	else if (prepared === 'poisoned') free_has_hwpoisoned(z, pfn, order);
}

/**
 * Put one reference of what alloc_pages() gave, and free it if that was the last.
 *
 * @param p - first page
 * @param order - as it was allocated
 * @kernel mm/page_alloc.c
 */
export function* __free_pages(p: page, order: unsigned_int): Sim<void> {
	if (preemptible()) yield schedulePoint('atomic', page_folio(p), '_refcount');
	if (p._refcount <= 0) {
		reportUseAfterFree(p, '__free_pages');
		return;
	}
	p._refcount--;
	if (p._refcount === 0) {
		free_frozen_pages(p, order);
		return;
	}
	if (p.compound > 0) return;
	// somebody holds the first page of a block that is not compound: the others go now
	const pfn = page_to_pfn(p);
	for (let at = order - 1; at >= 0; at--)
		free_frozen_pages(pfn_to_page(pfn + BigInt(1 << at)), at);
}

/**
 * Put the reference of a single page that alloc_page() gave.
 *
 * @param p - the page
 * @kernel include/linux/gfp.h
 */
export function* __free_page(p: page): Sim<void> {
	yield* __free_pages(p, 0);
}

/**
 * The bytes of a RAM page.
 *
 * @param p - page of RAM
 */
export function pageFrame(p: page): Frame {
	return frameOf(p.sec.base + p.idx);
}

function notRam(pfn: number): never {
	oops(`BUG: unable to handle page fault: pfn 0x${pfn.toString(16)} is not RAM`);
}

/**
 * The bytes of RAM at a PFN.
 *
 * @param pfn - page frame number in RAM
 */
export function frameOf(pfn: number): Frame {
	const frame = ram().frame(pfn);
	if (frame === null) return notRam(pfn);
	return frame;
}

/** The installed machine's RAM. */
export function ram(): PhysicalRam {
	return (world().machine as { readonly ram: PhysicalRam }).ram;
}

/**
 * Say that the kernel accesses bytes of a page as a part of the present step.
 *
 * @param access - how
 * @param pfn - page frame number in RAM
 */
export function touchFrame(access: 'memory-read' | 'memory-write', pfn: number): void {
	if (footprinted()) ram().touch(access, BigInt(pfn) << 12n, 4096);
}

/**
 * Copy the bytes of a page out. One that was never written stays unmade.
 *
 * @param p - page of RAM
 * @param into - where to
 * @param offset - first byte there
 */
export function readFrame(p: page, into: Uint8Array, offset: number): void {
	const pfn = p.sec.base + p.idx;
	touchFrame('memory-read', pfn);
	const frame = ram().peek(pfn);
	if (frame !== null) into.set(frame.u8, offset);
	else if (ram().has(pfn)) into.fill(0, offset, offset + PAGE_BYTES);
	else notRam(pfn);
}

/** Bytes never written are zero already. */
function zeroFrame(pfn: number): void {
	touchFrame('memory-write', pfn);
	const frame = ram().peek(pfn);
	if (frame !== null) frame.u8.fill(0);
}

/**
 * Clear the bytes of a page.
 *
 * @param p - page of RAM
 * @kernel include/linux/highmem.h
 */
export function clear_highpage(p: page): void {
	zeroFrame(p.sec.base + p.idx);
}

/**
 * Whether all bytes of a page are zero.
 *
 * @param p - page of RAM
 */
export function isZeroFilled(p: page): boolean {
	const pfn = p.sec.base + p.idx;
	touchFrame('memory-read', pfn);
	const frame = ram().peek(pfn);
	if (frame === null) return true;
	const { u32 } = frame;
	for (let i = 0; i < u32.length; i++) if (u32[i] !== 0) return false;
	return true;
}

/**
 * Copy the bytes of a page.
 *
 * @param to - page of RAM
 * @param from - page of RAM
 * @kernel include/linux/highmem.h
 */
export function copy_highpage(to: page, from: page): void {
	touchFrame('memory-read', from.sec.base + from.idx);
	const source = ram().peek(from.sec.base + from.idx);
	if (source === null) {
		clear_highpage(to);
		return;
	}
	touchFrame('memory-write', to.sec.base + to.idx);
	pageFrame(to).u8.set(source.u8);
}
