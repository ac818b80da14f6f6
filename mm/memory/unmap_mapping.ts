// SPDX-License-Identifier: GPL-2.0-only
/** Taking pages of a file out of everybody's page tables. */
import type { address_space, folio, vm_area_struct } from '../../include/linux/mm_types.ts';
import { folio_nr_pages } from '../../include/linux/page-flags.ts';
import { type bool, type loff_t, type pgoff_t, ULONG_MAX } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { down_read, up_read } from '../../kernel/locking/rwsem.ts';
import { vmasByOffset } from '../rmap.ts';
import { zap_details, zap_page_range_single } from './zap.ts';

/** The part of a VMA that maps pages [first, last]. */
function* unmapPart(
	vma: vm_area_struct,
	first: bigint,
	last: bigint,
	details: zap_details,
): Sim<void> {
	const vba = vma.vm_pgoff;
	const vea = vba + ((vma.vm_end - vma.vm_start) >> 12n) - 1n;
	if (first > vea || last < vba) return;
	const from = first > vba ? first : vba;
	const to = last < vea ? last : vea;
	const start = vma.vm_start + ((from - vba) << 12n);
	yield* zap_page_range_single(vma, start, (to - from + 1n) << 12n, details);
}

/** All mappings of pages [first, last], in the order of the interval tree. */
function* unmapRange(
	mapping: address_space,
	first: bigint,
	last: bigint,
	details: zap_details,
): Sim<void> {
	yield* down_read(mapping.i_mmap_rwsem);
	for (const vma of vmasByOffset(mapping.i_mmap)) yield* unmapPart(vma, first, last, details);
	yield* up_read(mapping.i_mmap_rwsem);
}

/**
 * Unmap pages of a file wherever they are mapped.
 *
 * @param mapping - page cache of the file
 * @param start - first page
 * @param nr - how many; 0: to the end
 * @param even_cows - also private copies of them
 * @context Sleeps.
 * @kernel mm/memory.c
 */
export function* unmap_mapping_pages(
	mapping: address_space,
	start: pgoff_t,
	nr: pgoff_t,
	even_cows: bool,
): Sim<void> {
	const last = nr === 0n ? ULONG_MAX : start + nr - 1n;
	yield* unmapRange(mapping, start, last, new zap_details({ even_cows }));
}

/**
 * Unmap a range of a file wherever it is mapped.
 *
 * @param mapping - page cache of the file
 * @param holebegin - first byte, rounded down to a page
 * @param holelen - bytes, rounded up to pages; 0: to the end
 * @param even_cows - also private copies of the pages: truncation
 * @context Sleeps.
 * @kernel mm/memory.c
 */
export function* unmap_mapping_range(
	mapping: address_space,
	holebegin: loff_t,
	holelen: loff_t,
	even_cows: bool | number,
): Sim<void> {
	const nr = (holelen + 4095n) >> 12n;
	yield* unmap_mapping_pages(mapping, holebegin >> 12n, nr, Boolean(even_cows));
}

/**
 * Unmap one folio of a page cache wherever it is mapped; copies of it stay.
 *
 * @param f - the folio, locked
 * @context Sleeps.
 * @kernel mm/memory.c
 */
export function* unmap_mapping_folio(f: folio): Sim<void> {
	const first = f.index;
	const last = first + BigInt(folio_nr_pages(f)) - 1n;
	const details = new zap_details({ even_cows: false, single_folio: f });
	yield* unmapRange(f.mapping as address_space, first, last, details);
}
