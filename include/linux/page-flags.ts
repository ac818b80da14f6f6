// SPDX-License-Identifier: GPL-2.0-only
/** Flags of struct page, the kind of a page, and what a compound page says of itself. */

import { touch } from '../sim/schedule.ts';
import {
	type dev_pagemap,
	MEMORY_DEVICE_COHERENT,
	MEMORY_DEVICE_FS_DAX,
	MEMORY_DEVICE_PCI_P2PDMA,
	MEMORY_DEVICE_PRIVATE,
} from './memremap.ts';
import { anon_vma, type folio, type page, page_folio } from './mm_types.ts';
import { page_to_pfn } from './mmzone.ts';
import type { int, pfn_t, phys_addr_t } from './types.ts';

export const PG_locked = 1 << 0;
export const PG_referenced = 1 << 1;
export const PG_uptodate = 1 << 2;
export const PG_dirty = 1 << 3;
export const PG_lru = 1 << 4;
export const PG_active = 1 << 5;
export const PG_writeback = 1 << 6;
export const PG_private = 1 << 7;
export const PG_swapbacked = 1 << 8;
export const PG_swapcache = 1 << 9;
export const PG_reserved = 1 << 10;
export const PG_anon_exclusive = 1 << 11;
export const PG_hwpoison = 1 << 12;
export const PG_mlocked = 1 << 13;
export const PG_unevictable = 1 << 14;
export const PG_large_rmappable = 1 << 15;
/** The page is in the allocator's free lists. */
export const PG_buddy = 1 << 16;
/** The page holds a page table. */
export const PG_table = 1 << 17;
/** The folio belongs to hugetlb. */
export const PG_hugetlb = 1 << 18;

/** @kernel include/linux/mmzone.h */
export function is_zone_device_page(p: page): boolean {
	return p.sec.pgmap !== null;
}
/** @kernel include/linux/mmzone.h */
export function folio_is_zone_device(f: folio): boolean {
	return f.page.sec.pgmap !== null;
}
/**
 * The pagemap of a ZONE_DEVICE page.
 *
 * @param p - page of a pagemap
 * @kernel include/linux/mmzone.h
 */
export function page_pgmap(p: page): dev_pagemap {
	return page_folio(p).pgmap as dev_pagemap;
}
/** @kernel include/linux/mmzone.h */
export function zone_device_pages_have_same_pgmap(a: page, b: page): boolean {
	if (is_zone_device_page(a) !== is_zone_device_page(b)) return false;
	return !is_zone_device_page(a) || page_pgmap(a) === page_pgmap(b);
}
/** @kernel include/linux/memremap.h */
export function is_device_private_page(p: page): boolean {
	return is_zone_device_page(p) && page_pgmap(p).type === MEMORY_DEVICE_PRIVATE;
}
/** @kernel include/linux/memremap.h */
export function folio_is_device_private(f: folio): boolean {
	return is_device_private_page(f.page);
}
/** @kernel include/linux/memremap.h */
export function is_device_coherent_page(p: page): boolean {
	return is_zone_device_page(p) && page_pgmap(p).type === MEMORY_DEVICE_COHERENT;
}
/** @kernel include/linux/memremap.h */
export function folio_is_device_coherent(f: folio): boolean {
	return is_device_coherent_page(f.page);
}
/** @kernel include/linux/memremap.h */
export function is_pci_p2pdma_page(p: page): boolean {
	return is_zone_device_page(p) && page_pgmap(p).type === MEMORY_DEVICE_PCI_P2PDMA;
}
/** @kernel include/linux/memremap.h */
export function is_fsdax_page(p: page): boolean {
	return is_zone_device_page(p) && page_pgmap(p).type === MEMORY_DEVICE_FS_DAX;
}
/** @kernel include/linux/memremap.h */
export function folio_is_fsdax(f: folio): boolean {
	return is_fsdax_page(f.page);
}

/** @kernel include/linux/page-flags.h */
export function PageTail(p: page): boolean {
	return p.compound < 0;
}
/** @kernel include/linux/page-flags.h */
export function PageHead(p: page): boolean {
	return p.compound > 0;
}
/** @kernel include/linux/page-flags.h */
export function PageCompound(p: page): boolean {
	return p.compound !== 0;
}
/** @kernel include/linux/mm.h */
export function folio_order(f: folio): int {
	const word = f.page.compound;
	return word > 0 ? word >> 1 : 0;
}
/** @kernel include/linux/mm.h */
export function folio_nr_pages(f: folio): int {
	return 1 << folio_order(f);
}
/** @kernel include/linux/page-flags.h */
export function folio_test_large(f: folio): boolean {
	return f.page.compound > 0;
}
/** @kernel include/linux/page-flags.h */
export function folio_test_anon(f: folio): boolean {
	return f.page.mapping instanceof anon_vma;
}
/** @kernel include/linux/page-flags.h */
export function PageAnon(p: page): boolean {
	return folio_test_anon(page_folio(p));
}
/** @kernel include/linux/page-flags.h */
export function PageAnonExclusive(p: page): boolean {
	return (p.flags & PG_anon_exclusive) !== 0;
}
/** @kernel include/linux/page-flags.h */
export function SetPageAnonExclusive(p: page): void {
	p.flags |= PG_anon_exclusive;
}
/** @kernel include/linux/page-flags.h */
export function ClearPageAnonExclusive(p: page): void {
	p.flags &= ~PG_anon_exclusive;
}
/** @kernel include/linux/page-flags.h */
export function PageLocked(p: page): boolean {
	return (page_folio(p).flags & PG_locked) !== 0;
}
/** @kernel include/linux/page-flags.h */
export function folio_test_locked(f: folio): boolean {
	return (f.flags & PG_locked) !== 0;
}
/** @kernel include/linux/page-flags.h */
export function folio_test_dirty(f: folio): boolean {
	return (f.flags & PG_dirty) !== 0;
}
/** @kernel include/linux/page-flags.h */
export function folio_test_uptodate(f: folio): boolean {
	return (f.flags & PG_uptodate) !== 0;
}
/** @kernel include/linux/page-flags.h */
export function folio_test_lru(f: folio): boolean {
	return (f.flags & PG_lru) !== 0;
}
/** @kernel include/linux/page-flags.h */
export function folio_test_swapcache(f: folio): boolean {
	return (f.flags & PG_swapcache) !== 0;
}
/** @kernel include/linux/page-flags.h */
export function folio_test_swapbacked(f: folio): boolean {
	return (f.flags & PG_swapbacked) !== 0;
}

/** @kernel include/linux/page-flags.h */
export function folio_test_writeback(f: folio): boolean {
	return (f.flags & PG_writeback) !== 0;
}
/** @kernel include/linux/page-flags.h */
export function folio_test_hugetlb(f: folio): boolean {
	return (f.flags & PG_hugetlb) !== 0;
}

/** @kernel include/linux/page_ref.h */
export function page_ref_count(p: page): int {
	return p._refcount;
}
/** @kernel include/linux/page_ref.h */
export function page_count(p: page): int {
	return page_folio(p).page._refcount;
}
/** @kernel include/linux/page_ref.h */
export function folio_ref_count(f: folio): int {
	return f.page._refcount;
}
/** @kernel include/linux/page_ref.h */
export function set_page_count(p: page, v: int): void {
	p._refcount = v;
}
/** @kernel include/linux/mm.h */
export function folio_pfn(f: folio): pfn_t {
	return page_to_pfn(f.page);
}
/** @kernel include/asm-generic/memory_model.h */
export function page_to_phys(p: page): phys_addr_t {
	return (page_to_pfn(p) as bigint) << 12n;
}

/** Sets flags of a folio in one step; the kernel's are atomic bit operations. */
function setFlags(f: folio, flags: int): void {
	touch('atomic', f, 'flags');
	f.flags |= flags;
}
/** Clears flags of a folio in one step. */
function clearFlags(f: folio, flags: int): void {
	touch('atomic', f, 'flags');
	f.flags &= ~flags;
}
/** @kernel include/linux/page-flags.h */
export function folio_set_dirty(f: folio): void {
	setFlags(f, PG_dirty);
}
/** @kernel include/linux/page-flags.h */
export function folio_set_active(f: folio): void {
	setFlags(f, PG_active);
}
/** @kernel include/linux/page-flags.h */
export function folio_set_swapbacked(f: folio): void {
	setFlags(f, PG_swapbacked);
}
/** @kernel include/linux/page-flags.h */
export function folio_clear_dirty(f: folio): void {
	clearFlags(f, PG_dirty);
}
/** @kernel include/linux/page-flags.h */
export function folio_clear_active(f: folio): void {
	clearFlags(f, PG_active);
}
/** @kernel include/linux/page-flags.h */
export function folio_clear_referenced(f: folio): void {
	clearFlags(f, PG_referenced);
}
