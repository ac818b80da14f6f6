// SPDX-License-Identifier: GPL-2.0-or-later
/**
 * The hot loops of hmm_range_fault(), by 32-bit halves: a run of plain entries of a page table, and
 * one value, or one growing by a page, over many words.
 *
 * Guarantee: the words it writes are those that hmm_vma_handle_pte() would write, and it stops at
 * the first entry that is anything but plain. Plain is what is present, not PROT_NONE, not special
 * and enough for its request; and a device-private page of the caller's own, which is returned as it
 * is, whatever was asked for. `test/mm/hmm_fill-tests.ts` holds it against the plain version.
 *
 * ```
 *   entry   63 NX | 62..52 soft | 51 ............ 32 || 31 ..... 12 | flags: 0 P, 1 RW, 9 special
 *   private 63..59 type | 58 ..... 32, offset inverted || 31 .... 9 | 8 PROT_NONE, 0 P: both 0
 *             high half                                  low half
 *   word    63 VALID 62 WRITE 60..58 sticky | PFN high || PFN low
 * ```
 */
import type { hmm_range } from '../include/linux/hmm.ts';
import {
	type MemoryMap,
	type mem_section,
	memoryMap,
	PAGES_PER_SECTION,
} from '../include/linux/mmzone.ts';
import type { PageTable } from '../include/linux/pgtable.ts';
import {
	make_readable_device_private_entry,
	make_writable_device_private_entry,
	swp_type,
} from '../include/linux/swapops.ts';
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
	/** Types of device-private entries of the installed world's release. */
	private readonly privateRead: number;
	private readonly privateWrite: number;
	/** Whose device-private pages are the caller's own. */
	private readonly owner: object | null;
	private readonly map: MemoryMap;

	/** @param range - request flags and the array */
	constructor(range: hmm_range) {
		this.words = wordHalves(range);
		this.mask = Number(range.pfn_flags_mask >> 32n) | 0;
		this.defaults = Number(range.default_flags >> 32n) | 0;
		this.sticky = feature('hmm_dma_flags') ? STICKY_HIGH : 0;
		this.enabled = bulkFill().enabled;
		this.privateRead = swp_type(make_readable_device_private_entry(0n));
		this.privateWrite = swp_type(make_writable_device_private_entry(0n));
		this.owner = range.dev_private_owner;
		this.map = memoryMap();
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
		let n = fillFours(u32, e, words, w, count, mask, defaults, sticky);
		const at = 2 * n;
		n += fillOnes(u32, e + at, words, w + at, count - n, mask, defaults, sticky);
		return n === count ? n : this.mixed(u32, e, w, n, count);
	}

	/**
	 * The rest of a run from its first device-private entry on, entry by entry.
	 *
	 * @param entries - halves of the page table
	 * @param firstEntry - place of the run's first entry
	 * @param firstWord - place of its word
	 * @param done - entries of the run that are handled
	 * @param count - entries of the run
	 * @returns entries handled
	 */
	private mixed(
		entries: Uint32Array,
		firstEntry: number,
		firstWord: number,
		done: number,
		count: number,
	): number {
		const { words, mask, defaults, sticky, privateRead, privateWrite } = this;
		const writeHigh = 1 << 30;
		const stop = (firstEntry + 2 * count) | 0;
		let e = (firstEntry + 2 * done) | 0;
		let w = (firstWord + 2 * done) | 0;
		let section: mem_section | null = null;
		let sectionLow = 0;
		let sectionHigh = 0;
		for (; e < stop; e += 2, w += 2) {
			const low = entries[e]!;
			const high = entries[e + 1]!;
			const old = words[w + 1]!;
			if ((low & 1) !== 0) {
				const asked = (old & mask) | defaults;
				if ((low & (1 << 9)) !== 0) break;
				if ((asked & writeHigh) !== 0 && (low & (1 << 1)) === 0) break;
				words[w] = (low >>> 12) | (high << 20);
				words[w + 1] = highHalf(low, high, old, sticky);
				continue;
			}
			const type = high >>> 27;
			if (type !== privateRead && type !== privateWrite) break;
			if ((low & (1 << 8)) !== 0) break;
			const pfnLow = ~((low >>> 9) | (high << 23));
			const pfnHigh = ~(high >>> 9) & 0xff;
			const index = pfnLow & (PAGES_PER_SECTION - 1);
			if (
				section === null ||
				sectionLow !== pfnLow - index ||
				sectionHigh !== pfnHigh
			) {
				section = this.ownSection(pfnHigh * 2 ** 32 + (pfnLow >>> 0));
				if (section === null) break;
				sectionLow = pfnLow - index;
				sectionHigh = pfnHigh;
			}
			// a tail's pagemap is that of its head, which may be in another section
			if (section.compound[index]! < 0) break;
			words[w] = pfnLow;
			words[w + 1] =
				(old & sticky) |
				(type === privateWrite ? 3 << 30 : 1 << 31) |
				pfnHigh;
		}
		return (e - firstEntry) >> 1;
	}

	/**
	 * The section of a device-private page, if all that is in it is the caller's own.
	 *
	 * @param pfn - of the page
	 * @returns null: it is not, or that takes a closer look
	 */
	private ownSection(pfn: number): mem_section | null {
		const section = this.map.section(pfn);
		if (section === null || section.pgmap === null || section.pgmaps !== null)
			return null;
		return section.pgmap.owner === this.owner ? section : null;
	}
}

/**
 * Store a value over words of a range, keeping their sticky bits.
 *
 * @param range - whose array
 * @param first - first word
 * @param count - words
 * @param value - of the first
 * @param step - 0: the same in all; 1: it grows by a page each
 * @returns false, and nothing is stored: the bulk version is turned off, or the PFN reaches a border
 *   of the halves
 */
export function fillRun(
	range: hmm_range,
	first: number,
	count: number,
	value: bigint,
	step: 0 | 1,
): boolean {
	if (!bulkFill().enabled) return false;
	const low = Number(BigInt.asUintN(32, value));
	if (low + count > 2 ** 32) return false;
	const high = value === 0n ? 0 : highOf(value);
	const sticky = feature('hmm_dma_flags') ? STICKY_HIGH : 0;
	const words = wordHalves(range);
	const from = (2 * first) | 0;
	const to = (from + 2 * count) | 0;
	if (step !== 0) storeAscending(words, from, to, low | 0, high, sticky);
	else if (low !== 0 || (sticky !== 0 && hasAny(words, from, to, sticky)))
		storeSame(words, from, to, low | 0, high, sticky);
	else if (high === 0) words.fill(0, from, to);
	else range.hmm_pfns.fill(value, first, first + count);
	return true;
}

/** The high half of a word; no shift, as those are calls. */
function highOf(word: bigint): number {
	const rest = Number(BigInt.asUintN(63, word) / 0x1_0000_0000n);
	return word >= 1n << 63n ? rest | (1 << 31) : rest;
}

/** The range's words by halves; the view is made once. */
function wordHalves(range: hmm_range): Uint32Array {
	const { hmm_pfns, halves } = range;
	if (halves?.of === hmm_pfns) return halves.words;
	const { buffer, byteOffset, length } = hmm_pfns;
	const words = new Uint32Array(buffer, byteOffset, 2 * length);
	range.halves = { of: hmm_pfns, words };
	return words;
}

/** Words of successive pages, four at a time and the odd ones; `to` is a place of a half, too. */
function storeAscending(
	words: Uint32Array,
	from: number,
	to: number,
	firstLow: number,
	high: number,
	sticky: number,
): void {
	const stop = (to - 6) | 0;
	let low = firstLow | 0;
	let w = from | 0;
	for (; w < stop; w += 8) {
		const old0 = words[w + 1]!;
		const old1 = words[w + 3]!;
		const old2 = words[w + 5]!;
		const old3 = words[w + 7]!;
		words[w] = low;
		words[w + 1] = (old0 & sticky) | high;
		words[w + 2] = low + 1;
		words[w + 3] = (old1 & sticky) | high;
		words[w + 4] = low + 2;
		words[w + 5] = (old2 & sticky) | high;
		words[w + 6] = low + 3;
		words[w + 7] = (old3 & sticky) | high;
		low = (low + 4) | 0;
	}
	for (; w < to; w += 2) {
		words[w] = low;
		words[w + 1] = (words[w + 1]! & sticky) | high;
		low = (low + 1) | 0;
	}
}

/** The same word for all, where some have sticky bits. */
function storeSame(
	words: Uint32Array,
	from: number,
	to: number,
	low: number,
	high: number,
	sticky: number,
): void {
	for (let w = from | 0; w < to; w += 2) {
		words[w] = low;
		words[w + 1] = (words[w + 1]! & sticky) | high;
	}
}

/** Whether any word has one of some bits in its high half. */
function hasAny(words: Uint32Array, from: number, to: number, bits: number): boolean {
	const stop = (to - 6) | 0;
	let any = 0;
	let w = from | 0;
	for (; w < stop; w += 8)
		any |= words[w + 1]! | words[w + 3]! | words[w + 5]! | words[w + 7]!;
	for (; w < to; w += 2) any |= words[w + 1]!;
	return (any & bits) !== 0;
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
