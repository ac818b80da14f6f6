// SPDX-License-Identifier: GPL-2.0-only
/**
 * Helpers of several files of mm/.
 *
 * @kernel mm/util.c
 */
import type { folio } from '../include/linux/mm_types.ts';
import { folio_nr_pages, folio_pfn } from '../include/linux/page-flags.ts';
import { pte_pfn, pte_present, type pte_t, type TableEntry } from '../include/linux/pgtable.ts';
import type { unsigned_int } from '../include/linux/types.ts';
import { nextEntry, ptep_get } from './pgtable.ts';

/**
 * How many entries from one on map the pages of a folio, one after the other.
 *
 * @param f - the folio
 * @param ptep - the first entry, under the lock of its table
 * @param pte - its word, present
 * @param max_nr - entries to look at, within the table
 * @returns 1 or more
 * @kernel mm/util.c
 */
export function folio_pte_batch(
	f: folio,
	ptep: TableEntry,
	pte: pte_t,
	max_nr: unsigned_int,
): unsigned_int {
	const first = pte_pfn(pte) as bigint;
	const left = folio_nr_pages(f) - Number(first - (folio_pfn(f) as bigint));
	const max = Math.min(max_nr, left);
	let n = 1;
	for (; n < max; n++) {
		const word = ptep_get(nextEntry(ptep, n));
		if (!pte_present(word) || pte_pfn(word) !== first + BigInt(n)) break;
	}
	return n;
}
