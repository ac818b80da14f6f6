// SPDX-License-Identifier: GPL-2.0-only
/**
 * The words that hmm_range_fault() gave, in the letters of the records.
 *
 * ```
 *   a word:   flags and order in hex [M][P][B] what
 *   what      of a VALID one the kind of its page, + it follows the word before, ~ it is not what is
 *             mapped there; i no PFN, g the garbage that was there
 *             of others - nothing, -= the page that is mapped, -+ the word before and one, or the bits
 * ```
 * Words and entries are taken in halves: a bigint a page is what costs.
 */
import { _PAGE_PRESENT, _PAGE_PROTNONE } from '../../../include/asm/pgtable_types.ts';
import {
	HMM_PFN_DMA_MAPPED,
	HMM_PFN_FLAGS,
	HMM_PFN_ORDER_SHIFT,
	HMM_PFN_P2PDMA,
	HMM_PFN_P2PDMA_BUS,
	HMM_PFN_VALID,
} from '../../../include/linux/hmm.ts';
import type { mm_struct } from '../../../include/linux/mm_types.ts';
import { memoryMap } from '../../../include/linux/mmzone.ts';
import { is_device_private_page, is_zone_device_page } from '../../../include/linux/page-flags.ts';
import {
	pgd_none,
	pmd_leaf,
	pmd_none,
	pmd_present,
	pud_none,
} from '../../../include/linux/pgtable.ts';
import {
	entryPfn,
	privateAccess,
	softleaf_from_pte,
	softleaf_is_device_exclusive,
	softleaf_is_migration,
	softleaf_to_pfn,
} from '../../../include/linux/swapops.ts';
import { PAGE_SIZE, PMD_MASK, PMD_SIZE, type unsigned_long } from '../../../include/linux/types.ts';
import { feature } from '../../../include/sim/world.ts';
import { is_zero_pfn } from '../../../mm/memory.ts';
import { pgd_offset, pmd_offset, pte_offset_kernel, pud_offset } from '../../../mm/pgtable.ts';
import { aliasOfPage, kindOfPfn } from './kinds.ts';
import { RunText } from './record.ts';

/** Input PFN that a request may carry. */
export const GARBAGE_PFN = 0xfee00n;
const GARBAGE = Number(GARBAGE_PFN);

const BYTES_A_PAGE = Number(PAGE_SIZE);
const PAGES_A_PMD = Number(PMD_SIZE / PAGE_SIZE);
const HALF = 2 ** 32;
const PTE_PRESENT = Number(_PAGE_PRESENT | _PAGE_PROTNONE);

/** Looks words up, page after page: the table of the last one is remembered. The kernel stands still. */
class WordLookup {
	private readonly mm: mm_struct;
	/** What one pmd stands for, that was looked at last. */
	private start: unsigned_long = 0n;
	private end: unsigned_long = 0n;
	/** The ptes of it in halves; null: `leaf` stands for all its pages. */
	private table: Uint32Array | null = null;
	private leaf = 0n;
	/** The halves of the word that was found, and how far into what it maps the page lies. */
	low = 0;
	high = 0;
	offset = 0;

	/** @param mm - the address space */
	constructor(mm: mm_struct) {
		this.mm = mm;
	}

	/** Find the word that stands for a page; false: none does. */
	find(at: unsigned_long): boolean {
		if (at < this.start || at >= this.end) this.enter(at);
		const index = Number(at - this.start) / BYTES_A_PAGE;
		const { leaf, table } = this;
		if (table === null) {
			if (leaf === 0n) return false;
			this.low = Number(leaf & 0xffff_ffffn);
			this.high = Number(leaf >> 32n);
			this.offset = index;
			return true;
		}
		this.low = table[2 * index]!;
		this.high = table[2 * index + 1]!;
		this.offset = 0;
		return this.low !== 0 || this.high !== 0;
	}

	/** The word that was found. */
	get word(): bigint {
		return (BigInt(this.high) << 32n) | BigInt(this.low);
	}

	/** The PFN that is mapped, or held by an entry, at an address; -1: none. */
	pfn(at: unsigned_long): number {
		if (!this.find(at)) return -1;
		const { high, low, offset } = this;
		if (low & PTE_PRESENT) return (high & 0xf_ffff) * 0x10_0000 + (low >>> 12) + offset;
		if (privateAccess(high) !== null) return entryPfn(low, high) + offset;
		const entry = softleaf_from_pte(this.word);
		const holds = softleaf_is_device_exclusive(entry) || softleaf_is_migration(entry);
		return holds ? Number(softleaf_to_pfn(entry)) + offset : -1;
	}

	private enter(at: unsigned_long): void {
		this.start = at & PMD_MASK;
		this.end = this.start + PMD_SIZE;
		this.table = null;
		this.leaf = 0n;
		const pgd = pgd_offset(this.mm, at);
		if (pgd_none(pgd.value)) return;
		const pud = pud_offset(pgd, at);
		if (pud_none(pud.value)) return;
		const pmd = pmd_offset(pud, at);
		const { value } = pmd;
		if (pmd_none(value)) return;
		if (!pmd_present(value) || pmd_leaf(value)) this.leaf = value;
		else this.table = pte_offset_kernel(pmd, this.start).table.u32;
	}
}

/**
 * The PFN that is mapped, or held by an entry, at an address.
 *
 * @param mm - the address space
 * @param at - the address
 * @returns null: none
 */
export function pfnAt(mm: mm_struct, at: unsigned_long): bigint | null {
	const pfn = new WordLookup(mm).pfn(at);
	return pfn < 0 ? null : BigInt(pfn);
}

/**
 * The word that stands for a page, and how far into what it maps the page lies.
 *
 * @param mm - the address space
 * @param at - the address
 * @returns null: none does
 */
export function lookUpWord(
	mm: mm_struct,
	at: unsigned_long,
): { readonly word: bigint; readonly offset: bigint } | null {
	const lookup = new WordLookup(mm);
	if (!lookup.find(at)) return null;
	return { word: lookup.word, offset: BigInt(lookup.offset) };
}

/** Whether a PFN is that of the page that is mapped, or its alias. */
function isMapped(mapped: number, pfn: number): boolean {
	if (mapped === pfn) return true;
	if (mapped < 0) return false;
	const p = memoryMap().page(mapped);
	if (p === null || !is_zone_device_page(p) || !is_device_private_page(p)) return false;
	const alias = aliasOfPage(p);
	return alias !== null && Number(alias) === pfn;
}

const highHalf = (bits: bigint): number => Number(bits >> 32n);
const VALID_HIGH = highHalf(HMM_PFN_VALID);
const stickyBits: readonly (readonly [high: number, letter: string])[] = [
	[highHalf(HMM_PFN_DMA_MAPPED), 'M'],
	[highHalf(HMM_PFN_P2PDMA), 'P'],
	[highHalf(HMM_PFN_P2PDMA_BUS), 'B'],
];

/** How a kernel lays a word out, as far as its high half says. */
class Layout {
	/** Bits that are no PFN. */
	readonly flags = highHalf(HMM_PFN_FLAGS());
	readonly orderShift = Number(HMM_PFN_ORDER_SHIFT()) - 32;
	private readonly hasSticky = feature('hmm_dma_flags');

	pfn(low: number, high: number): number {
		return ((high & ~this.flags) >>> 0) * HALF + low;
	}

	order(high: number): number {
		return (high >>> this.orderShift) & 0x1f;
	}

	/** Flags and order as the records have them, whatever the layout: VALID, WRITE, ERROR, 5 bits order. */
	digits(high: number): string {
		const digits = ((high >>> 29) << 5) | this.order(high);
		let text = digits.toString(16).padStart(2, '0');
		if (this.hasSticky)
			for (const [bit, letter] of stickyBits) if (high & bit) text += letter;
		return text;
	}
}

/** Writes words one after the other. */
class WordText {
	private readonly layout = new Layout();
	private readonly lookup: WordLookup;
	private readonly runs = new RunText();
	/** Tokens by the flags of a word, and what they end with. */
	private readonly tokens = new Map<number, Map<string, string>>();
	/** The word before; no VALID one: there is none. */
	private beforeLow = 0;
	private beforeHigh = 0;

	constructor(mm: mm_struct) {
		this.lookup = new WordLookup(mm);
	}

	/** Add the word of a page; `midUnit`: not the first of a PMD, and there is a word before. */
	add(low: number, high: number, at: unsigned_long, midUnit: boolean): void {
		// most of a large range asks for nothing and got nothing
		if (low === 0 && high === 0) this.runs.add('00-');
		else this.runs.add(this.token(high, this.what(low, high, at, midUnit)));
		this.beforeLow = low;
		this.beforeHigh = high;
	}

	private token(high: number, what: string): string {
		const key = (high & this.layout.flags) >>> 0;
		let ends = this.tokens.get(key);
		if (ends === undefined) {
			ends = new Map();
			this.tokens.set(key, ends);
		}
		let token = ends.get(what);
		if (token === undefined) {
			token = this.layout.digits(high) + what;
			ends.set(what, token);
		}
		return token;
	}

	private what(low: number, high: number, at: unsigned_long, midUnit: boolean): string {
		const { layout, lookup } = this;
		const pfn = layout.pfn(low, high);
		if ((high & VALID_HIGH) === 0) {
			if (pfn === 0) return '-';
			if (lookup.pfn(at) === pfn) return `-=${kindOfPfn(pfn)}`;
			return midUnit && this.isNext(low, high) ? '-+' : `-${pfn.toString(16)}`;
		}
		if (pfn === 0) return 'i';
		const isThere = isMapped(lookup.pfn(at), pfn);
		if (pfn === GARBAGE && !isThere) return 'g';
		const kind = kindOfPfn(pfn);
		const follows =
			midUnit &&
			layout.order(high) > 0 &&
			pfn === layout.pfn(this.beforeLow, this.beforeHigh) + 1;
		if (isThere) return follows ? `${kind}+` : kind;
		return follows ? `${kind}+~` : `${kind}~`;
	}

	/** Whether a word is the one before and one. */
	private isNext(low: number, high: number): boolean {
		const { beforeHigh, beforeLow } = this;
		const carry = beforeLow === HALF - 1 ? 1 : 0;
		return low === (beforeLow + 1) % HALF && high === beforeHigh + carry;
	}

	toString(): string {
		return this.runs.toString();
	}
}

/** The words in halves. */
function halvesOf(words: BigUint64Array): Uint32Array {
	return new Uint32Array(words.buffer, words.byteOffset, 2 * words.length);
}

/**
 * The words that hmm_range_fault() gave, in tokens.
 *
 * @param mm - whose address space it was
 * @param start - first address
 * @param words - a word a page
 */
export function dumpWords(mm: mm_struct, start: unsigned_long, words: BigUint64Array): string {
	const text = new WordText(mm);
	const halves = halvesOf(words);
	const first = Number((start & ~PMD_MASK) / PAGE_SIZE);
	let at = start;
	for (let i = 0; i < words.length; i++, at += PAGE_SIZE)
		text.add(
			halves[2 * i]!,
			halves[2 * i + 1]!,
			at,
			i > 0 && (first + i) % PAGES_A_PMD !== 0,
		);
	return text.toString();
}

/**
 * Which words name the same page.
 *
 * @param words - a word a page
 * @returns a class a word, -1 for none; null: no two do
 */
export function pageClasses(words: BigUint64Array): number[] | null {
	const classes = new Map<bigint, number>();
	let shared = false;
	const pfnBits = ~HMM_PFN_FLAGS();
	const out: number[] = [];
	for (let i = 0; i < words.length; i++) {
		const word = words[i]!;
		const pfn = word & pfnBits;
		if (
			!(word & HMM_PFN_VALID) ||
			pfn === 0n ||
			pfn === GARBAGE_PFN ||
			is_zero_pfn(pfn)
		) {
			out.push(-1);
			continue;
		}
		const known = classes.get(pfn);
		if (known !== undefined) shared = true;
		else classes.set(pfn, classes.size);
		out.push(known ?? classes.size - 1);
	}
	return shared ? out : null;
}
