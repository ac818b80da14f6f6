// SPDX-License-Identifier: GPL-2.0-only
/**
 * Counting the mappings of a large folio, and knowing whether one address space has them all.
 *
 * Guarantee: `_large_mapcount + 1` of a folio is the number of entries that map it or a page of it.
 * Where address spaces are told apart (7.3), `shared` is false only if all mappings are of one.
 * Mechanism: two slots; who comes third is counted by nobody, and then `shared` stays until a slot
 * has all that is left.
 */
import { type folio, folio_mm_ids, type vm_area_struct } from '../../include/linux/mm_types.ts';
import { folio_nr_pages, folio_test_large } from '../../include/linux/page-flags.ts';
import type { int } from '../../include/linux/types.ts';
import { touch } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';

/**
 * Count the first mappings of a large folio that nobody knows yet.
 *
 * @param f - the large folio
 * @param mapcount - how many
 * @param vma - where
 * @kernel include/linux/rmap.h
 */
export function folio_set_large_mapcount(f: folio, mapcount: int, vma: vm_area_struct): void {
	f._large_mapcount = mapcount - 1;
	if (!feature('large_folio_mm_ids')) return;
	const ids = new folio_mm_ids();
	ids.mm[0] = vma.vm_mm;
	ids.mapcount[0] = mapcount - 1;
	f._mm_ids = ids;
}

/**
 * Count more mappings of a large folio.
 *
 * @param f - the large folio
 * @param diff - how many
 * @param vma - where
 * @kernel include/linux/rmap.h
 */
export function folio_add_large_mapcount(f: folio, diff: int, vma: vm_area_struct): void {
	touch('atomic', f, '_large_mapcount');
	const now = f._large_mapcount + diff;
	f._large_mapcount = now;
	if (!feature('large_folio_mm_ids')) return;
	const ids = (f._mm_ids ??= new folio_mm_ids());
	const { mm, mapcount } = ids;
	const { vm_mm } = vma;
	if (mm[0] === vm_mm) mapcount[0] += diff;
	else if (mm[1] === vm_mm) mapcount[1] += diff;
	else if (mm[0] === null) {
		mm[0] = vm_mm;
		mapcount[0] = diff - 1;
		// there may be others already
		if (now !== diff - 1) ids.shared = true;
	} else if (mm[1] === null) {
		mm[1] = vm_mm;
		mapcount[1] = diff - 1;
		ids.shared = true;
	}
}

/**
 * Count mappings of a large folio less.
 *
 * @param f - the large folio
 * @param diff - how many
 * @param vma - where
 * @kernel include/linux/rmap.h
 */
export function folio_sub_large_mapcount(f: folio, diff: int, vma: vm_area_struct): void {
	touch('atomic', f, '_large_mapcount');
	const now = f._large_mapcount - diff;
	f._large_mapcount = now;
	const ids = f._mm_ids;
	if (ids === null) return;
	const { mm, mapcount } = ids;
	const slot = mm[0] === vma.vm_mm ? 0 : mm[1] === vma.vm_mm ? 1 : -1;
	if (slot >= 0) {
		mapcount[slot as 0 | 1] -= diff;
		if (mapcount[slot as 0 | 1] >= 0) return;
		mapcount[slot as 0 | 1] = -1;
		mm[slot as 0 | 1] = null;
	}
	if (mapcount[0] === now || mapcount[1] === now) ids.shared = false;
}

/**
 * How many entries map a large folio or a page of it.
 *
 * @param f - the large folio
 * @kernel include/linux/mm.h
 */
export function folio_large_mapcount(f: folio): int {
	touch('read', f, '_large_mapcount');
	return f._large_mapcount + 1;
}

/**
 * How many entries map all of a folio.
 *
 * @param f - the large folio
 * @kernel include/linux/mm.h
 */
export function folio_entire_mapcount(f: folio): int {
	return f._entire_mapcount + 1;
}

/**
 * Whether a folio may be mapped by more than one address space: folio_maybe_mapped_shared(), in 6.12
 * folio_likely_mapped_shared(), which judges a large folio by its first page.
 *
 * @param f - the folio
 * @kernel include/linux/mm.h (as folio_maybe_mapped_shared)
 */
export function folioMappedShared(f: folio): boolean {
	if (!folio_test_large(f)) return f.page._mapcount > 0;
	const mapcount = folio_large_mapcount(f);
	if (mapcount <= 1) return false;
	if (feature('large_folio_mm_ids')) return f._mm_ids?.shared ?? true;
	if (folio_entire_mapcount(f) > 0 || mapcount > folio_nr_pages(f)) return true;
	return f.page._mapcount > 0;
}
