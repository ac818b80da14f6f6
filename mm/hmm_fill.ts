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

/** DMA_MAPPED, P2PDMA, P2PDMA_BUS in the high half of a word. */
const STICKY_HIGH = 0x1c00_0000;

/** Turned off, every entry goes through hmm_vma_handle_pte(): the version to hold this one against. */
export const bulkFill = perWorld(() => ({ enabled: true }));

/** What the loop needs of one hmm_range_fault() call, made once. */
export class PresentFill {
	/** The range's words by halves. */
	private readonly words: Uint32Array;
	/** High halves of the request mask, the defaults, the bits that stay. */
	private readonly mask: number;
	private readonly defaults: number;
	private readonly sticky: number;
	private readonly enabled: boolean;

	/** @param range - request flags and the array */
	constructor(range: hmm_range) {
		const { buffer, byteOffset, length } = range.hmm_pfns;
		this.words = new Uint32Array(buffer, byteOffset, length * 2);
		this.mask = Number(range.pfn_flags_mask >> 32n) | 0;
		this.defaults = Number(range.default_flags >> 32n) | 0;
		this.sticky = feature('hmm_dma_flags') ? STICKY_HIGH : 0;
		this.enabled = bulkFill().enabled;
	}

	/**
	 * Fill words from page-table entries as long as they are plain.
	 *
	 * @param table - the page table
	 * @param index - first entry
	 * @param word - place of its word
	 * @param count - entries at the most
	 * @returns entries handled; less than `count`: the next one is not plain
	 */
	run(table: PageTable, index: number, word: number, count: number): number {
		const { words, mask, defaults, sticky } = this;
		if (!this.enabled) return 0;
		const { u32 } = table;
		const e = 2 * index;
		const w = 2 * word;
		const n = fillFours(u32, e, words, w, count, mask, defaults, sticky);
		const more = n * 2;
		return (
			n +
			fillOnes(u32, e + more, words, w + more, count - n, mask, defaults, sticky)
		);
	}
}

/** High half of a word: the PFN's upper bits, what the entry grants, what stays of the old word. */
function highHalf(low: number, high: number, old: number, sticky: number): number {
	const validHigh = 1 << 31;
	return ((high >>> 12) & 0xff) | (old & sticky) | validHigh | ((low & (1 << 1)) << 29);
}

/**
 * The loop, four entries at a time; x86 is little endian, so the high half of a 64-bit word is the
 * second one. Constants are spelled out, because the compiler folds those and not a module's.
 *
 * @returns entries handled, a multiple of four: those behind it are not all plain
 */
function fillFours(
	entries: Uint32Array,
	firstEntry: number,
	words: Uint32Array,
	firstWord: number,
	count: number,
	mask: number,
	defaults: number,
	sticky: number,
): number {
	const present = 1 << 0;
	const rw = 1 << 1;
	const special = 1 << 9;
	const writeHigh = 1 << 30;
	// Integers, whatever the callers computed them from: the loop must not count in doubles.
	const stop = (firstEntry + 2 * (count & ~3)) | 0;
	let w = firstWord | 0;
	let e = firstEntry | 0;
	for (; e < stop; e += 8, w += 8) {
		const l0 = entries[e]!;
		const l1 = entries[e + 2]!;
		const l2 = entries[e + 4]!;
		const l3 = entries[e + 6]!;
		if ((l0 & l1 & l2 & l3 & present) === 0) break;
		if (((l0 | l1 | l2 | l3) & special) !== 0) break;
		const o0 = words[w + 1]!;
		const o1 = words[w + 3]!;
		const o2 = words[w + 5]!;
		const o3 = words[w + 7]!;
		// Only a write request can be unsatisfied by an entry that is present.
		const asked = ((o0 | o1 | o2 | o3) & mask) | defaults;
		if ((asked & writeHigh) !== 0 && (l0 & l1 & l2 & l3 & rw) === 0) break;
		const h0 = entries[e + 1]!;
		const h1 = entries[e + 3]!;
		const h2 = entries[e + 5]!;
		const h3 = entries[e + 7]!;
		words[w] = (l0 >>> 12) | (h0 << 20);
		words[w + 1] = highHalf(l0, h0, o0, sticky);
		words[w + 2] = (l1 >>> 12) | (h1 << 20);
		words[w + 3] = highHalf(l1, h1, o1, sticky);
		words[w + 4] = (l2 >>> 12) | (h2 << 20);
		words[w + 5] = highHalf(l2, h2, o2, sticky);
		words[w + 6] = (l3 >>> 12) | (h3 << 20);
		words[w + 7] = highHalf(l3, h3, o3, sticky);
	}
	return (e - firstEntry) >> 1;
}

/** The loop, entry by entry, for what fillFours() leaves. */
function fillOnes(
	entries: Uint32Array,
	firstEntry: number,
	words: Uint32Array,
	firstWord: number,
	count: number,
	mask: number,
	defaults: number,
	sticky: number,
): number {
	const validHigh = 1 << 31;
	const writeHigh = 1 << 30;
	const rw = 1 << 1;
	let e = firstEntry;
	let w = firstWord;
	for (let n = 0; n < count; n++, e += 2, w += 2) {
		const low = entries[e]!;
		const high = entries[e + 1]!;
		const old = words[w + 1]!;
		if ((low & 1) === 0 || (low & (1 << 9)) !== 0) return n;
		const asked = (old & mask) | defaults;
		if ((asked & writeHigh) !== 0 && (asked & validHigh) !== 0 && (low & rw) === 0)
			return n;
		words[w] = (low >>> 12) | (high << 20);
		words[w + 1] = highHalf(low, high, old, sticky);
	}
	return count;
}
