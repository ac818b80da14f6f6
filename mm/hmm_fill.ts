// SPDX-License-Identifier: GPL-2.0-or-later
/**
 * The hot loop of hmm_range_fault(): a run of plain present entries, by 32-bit halves.
 *
 * Guarantee: the words it writes are those that hmm_vma_handle_pte() would write, and it stops at
 * the first entry that is anything but plain: not present, PROT_NONE, special, or not enough for
 * its request. `test/mm/hmm_fill-tests.ts` holds it against the plain version.
 *
 * ```
 *   entry   63 NX | 62..52 soft | 51 ............ 32 || 31 ..... 12 | flags: 0 P, 1 RW, 9 special
 *             high half                                  low half
 *   word    63 VALID 62 WRITE 60..58 sticky | PFN high || PFN low
 * ```
 */
import type { hmm_range } from '../include/linux/hmm.ts';
import type { PageTable } from '../include/linux/pgtable.ts';
import { feature, perWorld } from '../include/sim/world.ts';

const PRESENT = 1 << 0;
const RW = 1 << 1;
const SPECIAL = 1 << 9;
const VALID_HIGH = 0x8000_0000 | 0;
const WRITE_HIGH = 0x4000_0000;
/** DMA_MAPPED, P2PDMA, P2PDMA_BUS. */
const STICKY_HIGH = 0x1c00_0000;

/** Place of the high half of a 64-bit word in a Uint32Array view (x86 is little endian). */
const HIGH = 1;

/** Turned off, every entry goes through hmm_vma_handle_pte(): the version to hold this one against. */
export const bulkFill = perWorld(() => ({ enabled: true }));

/**
 * Fill words from page-table entries as long as they are plain.
 *
 * @param range - request flags and the array
 * @param table - the page table
 * @param index - first entry
 * @param word - place of its word
 * @param count - entries at the most
 * @returns entries handled; less than `count`: the next one is not plain
 */
export function hmmFillPresent(
	range: hmm_range,
	table: PageTable,
	index: number,
	word: number,
	count: number,
): number {
	// Not plain at once: spare the view.
	if ((table.u32[2 * index]! & (PRESENT | SPECIAL)) !== PRESENT) return 0;
	if (!bulkFill().enabled) return 0;
	const { hmm_pfns } = range;
	const words = new Uint32Array(hmm_pfns.buffer, hmm_pfns.byteOffset, hmm_pfns.length * 2);
	const sticky = feature('hmm_dma_flags') ? STICKY_HIGH : 0;
	const mask = Number(range.pfn_flags_mask >> 32n) | 0;
	const defaults = Number(range.default_flags >> 32n) | 0;
	return fillRun(table.u32, 2 * index, words, 2 * word, count, mask, defaults, sticky);
}

/** The loop itself, on integers only. */
function fillRun(
	entries: Uint32Array,
	firstEntry: number,
	words: Uint32Array,
	firstWord: number,
	count: number,
	mask: number,
	defaults: number,
	sticky: number,
): number {
	let e = firstEntry;
	let w = firstWord;
	for (let n = 0; n < count; n++, e += 2, w += 2) {
		const low = entries[e]!;
		if ((low & (PRESENT | SPECIAL)) !== PRESENT) return n;
		const high = entries[e + HIGH]!;
		const old = words[w + HIGH]!;
		const asked = (old & mask) | defaults;
		// Only a write request can be unsatisfied by an entry that is present.
		if ((asked & WRITE_HIGH) !== 0 && (asked & VALID_HIGH) !== 0 && (low & RW) === 0)
			return n;
		words[w] = (low >>> 12) | (high << 20);
		words[w + HIGH] =
			((high >>> 12) & 0xff) | (old & sticky) | VALID_HIGH | ((low & RW) << 29);
	}
	return count;
}
