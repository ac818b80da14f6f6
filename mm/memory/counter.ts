// SPDX-License-Identifier: GPL-2.0-only
/** The counters of an address space: how many pages of each kind it maps. */
import {
	type folio,
	MM_ANONPAGES,
	MM_FILEPAGES,
	MM_SHMEMPAGES,
	type mm_struct,
} from '../../include/linux/mm_types.ts';
import { folio_test_anon, folio_test_swapbacked } from '../../include/linux/page-flags.ts';
import type { int } from '../../include/linux/types.ts';

/**
 * Add to a counter.
 *
 * @param mm - address space
 * @param member - MM_*
 * @param value - may be negative
 * @kernel include/linux/mm.h
 */
export function add_mm_counter(mm: mm_struct, member: int, value: int): void {
	mm.rss_stat[member]! += value;
}

/**
 * Add one to a counter.
 *
 * @param mm - address space
 * @param member - MM_*
 * @kernel include/linux/mm.h
 */
export function inc_mm_counter(mm: mm_struct, member: int): void {
	mm.rss_stat[member]!++;
}

/**
 * Take one off a counter.
 *
 * @param mm - address space
 * @param member - MM_*
 * @kernel include/linux/mm.h
 */
export function dec_mm_counter(mm: mm_struct, member: int): void {
	mm.rss_stat[member]!--;
}

/**
 * Which counter a folio of a page cache is for.
 *
 * @param f - the folio
 * @kernel include/linux/mm.h
 */
export function mm_counter_file(f: folio): int {
	return folio_test_swapbacked(f) ? MM_SHMEMPAGES : MM_FILEPAGES;
}

/**
 * Which counter a folio is for.
 *
 * @param f - the folio
 * @kernel include/linux/mm.h
 */
export function mm_counter(f: folio): int {
	return folio_test_anon(f) ? MM_ANONPAGES : mm_counter_file(f);
}

/**
 * Add what a loop over entries has counted.
 *
 * @param mm - address space
 * @param rss - by counter
 * @kernel mm/memory.c
 */
export function add_mm_rss_vec(mm: mm_struct, rss: readonly int[]): void {
	for (let i = 0; i < rss.length; i++) if (rss[i] !== 0) add_mm_counter(mm, i, rss[i]!);
}
