// SPDX-License-Identifier: GPL-2.0-only
/**
 * Page tables, VMAs and HMM words in the letters of the records.
 *
 * ```
 *   present   w|r kind [x][d][!][n][u]     kind: z Z zero, a anon, f page cache, h hugetlb, o other,
 *             c2 c3 coherent page of a device, q none;   T in front: a PMD leaf, once for each page
 *   entries   D w|r device [x], X w|r kind [x], m migration, s swap, ku kp kg k markers, H hwpoison
 *   none      P U M: no table at that level; . empty pte
 * ```
 */
import {
	HMM_PFN_DMA_MAPPED,
	HMM_PFN_FLAGS,
	HMM_PFN_P2PDMA,
	HMM_PFN_P2PDMA_BUS,
	HMM_PFN_VALID,
	hmm_pfn_to_map_order,
} from '../../../include/linux/hmm.ts';
import {
	VM_ACCOUNT,
	VM_EXEC,
	VM_HUGEPAGE,
	VM_HUGETLB,
	VM_IO,
	VM_MIXEDMAP,
	VM_NOHUGEPAGE,
	VM_PFNMAP,
	VM_READ,
	VM_SHARED,
	VM_WRITE,
} from '../../../include/linux/mm.ts';
import { type mm_struct, type page, page_folio } from '../../../include/linux/mm_types.ts';
import { memoryMap } from '../../../include/linux/mmzone.ts';
import {
	folio_test_anon,
	folio_test_hugetlb,
	is_device_coherent_page,
	is_device_private_page,
	is_pci_p2pdma_page,
	is_zone_device_page,
	PageAnonExclusive,
} from '../../../include/linux/page-flags.ts';
import {
	pgd_none,
	pmd_leaf,
	pmd_none,
	pmd_present,
	pte_dirty,
	pte_pfn,
	pte_present,
	pte_protnone,
	pte_special,
	pte_uffd_wp,
	pte_write,
	pud_none,
	type TableEntry,
} from '../../../include/linux/pgtable.ts';
import {
	is_writable_device_exclusive_entry,
	pte_swp_uffd_wp,
	softleaf_from_pte,
	softleaf_is_device_exclusive,
	softleaf_is_device_private,
	softleaf_is_device_private_write,
	softleaf_is_guard_marker,
	softleaf_is_hwpoison,
	softleaf_is_marker,
	softleaf_is_migration,
	softleaf_is_poison_marker,
	softleaf_is_swap,
	softleaf_is_uffd_wp_marker,
	softleaf_to_page,
	softleaf_to_pfn,
} from '../../../include/linux/swapops.ts';
import {
	HPAGE_PMD_NR,
	PAGE_SIZE,
	PMD_MASK,
	PMD_SIZE,
	type unsigned_long,
} from '../../../include/linux/types.ts';
import { feature, perWorld } from '../../../include/sim/world.ts';
import type { dmirror_device } from '../../../lib/test_hmm/device.ts';
import { dmirror_page_to_device } from '../../../lib/test_hmm/device.ts';
import { is_huge_zero_pfn } from '../../../mm/huge_memory.ts';
import { is_zero_pfn } from '../../../mm/memory.ts';
import { pgd_offset, pmd_offset, pte_offset_kernel, pud_offset } from '../../../mm/pgtable.ts';
import { runLength } from './record.ts';

/** A window of an address space. */
export interface Window {
	/** Address of its page 0. */
	readonly base: unsigned_long;
	/** Pages. */
	readonly np: number;
}

const BYTES_A_PAGE = Number(PAGE_SIZE);

/** Number of the device that a device page belongs to. */
function deviceNumber(p: page): number {
	return minorOf(dmirror_page_to_device(p));
}

/** What names end with: a memo. */
const minors = new Map<string, number>();

/** `hmm_dmirror2` is 2. */
export function minorOf(mdevice: dmirror_device): number {
	const { name } = mdevice;
	const known = minors.get(name);
	if (known !== undefined) return known;
	const minor = Number(/\d+$/.exec(name)?.[0]);
	minors.set(name, minor);
	return minor;
}

/** The letter of a page, and of a device page its device. */
function kindOfPage(p: page): string {
	if (is_zone_device_page(p)) {
		if (is_device_private_page(p)) return `p${deviceNumber(p)}`;
		if (is_device_coherent_page(p)) return `c${deviceNumber(p)}`;
		if (is_pci_p2pdma_page(p)) return aliasKind(p);
	}
	const f = page_folio(p);
	if (folio_test_hugetlb(f)) return 'h';
	if (folio_test_anon(f)) return 'a';
	return f.mapping === null ? 'o' : 'f';
}

/** What is known of P2P windows. */
export interface Aliases {
	/** Letter and number of a page of a window. */
	nameOf(p: page): string;
	/** The alias of a device-private page; null: nothing is known of it. */
	aliasOf(p: page): bigint | null;
}

const theAliases = perWorld<{ known: Aliases | null }>(() => ({ known: null }));

/**
 * Let dumps know of P2P windows.
 *
 * @param known - what is known
 */
export function knowAliases(known: Aliases): void {
	theAliases().known = known;
}

function aliasKind(p: page): string {
	return theAliases().known?.nameOf(p) ?? 'P';
}

/** Whether a word's PFN is that of the page at an address, or its alias. */
function isPageAt(lookup: WordLookup, at: unsigned_long, pfn: bigint): boolean {
	const mapped = mappedPfn(lookup, at);
	if (mapped === null || mapped === pfn) return mapped === pfn;
	const p = memoryMap().page(Number(mapped));
	if (p === null || !is_zone_device_page(p) || !is_device_private_page(p)) return false;
	return theAliases().known?.aliasOf(p) === pfn;
}

/** The letter of what a PFN is. */
export function kindOfPfn(pfn: bigint): string {
	if (is_huge_zero_pfn(pfn)) return 'Z';
	if (is_zero_pfn(pfn)) return 'z';
	const p = memoryMap().page(Number(pfn));
	return p === null ? 'q' : kindOfPage(p);
}

function exclusiveMark(p: page | null): string {
	return p !== null && PageAnonExclusive(p) ? 'x' : '';
}

/** A present word, of a pte or of a PMD leaf. */
function presentToken(word: bigint, pfn: bigint, kind: string): string {
	const p = memoryMap().page(Number(pfn));
	const anon = kind === 'a' || kind.startsWith('c');
	let token = (pte_write(word) ? 'w' : 'r') + kind;
	if (anon) token += exclusiveMark(p);
	if (pte_dirty(word)) token += 'd';
	if (pte_special(word)) token += '!';
	if (pte_protnone(word)) token += 'n';
	if (pte_uffd_wp(word)) token += 'u';
	return token;
}

/** A word that is neither empty nor present. */
function entryToken(word: bigint): string {
	const entry = softleaf_from_pte(word);
	const uffd = pte_swp_uffd_wp(word) ? 'u' : '';
	if (softleaf_is_device_private(entry)) {
		const p = softleaf_to_page(entry);
		const access = softleaf_is_device_private_write(entry) ? 'w' : 'r';
		return `D${access}${deviceNumber(p)}${exclusiveMark(p)}${uffd}`;
	}
	if (softleaf_is_device_exclusive(entry)) {
		const p = softleaf_to_page(entry);
		const writable =
			feature('device_exclusive_single') ||
			is_writable_device_exclusive_entry(entry);
		return `X${writable ? 'w' : 'r'}${kindOfPage(p)[0]}${exclusiveMark(p)}${uffd}`;
	}
	if (softleaf_is_migration(entry)) return `m${uffd}`;
	if (softleaf_is_swap(entry)) return `s${uffd}`;
	if (softleaf_is_hwpoison(entry)) return 'H';
	if (!softleaf_is_marker(entry)) return '?';
	if (softleaf_is_uffd_wp_marker(entry)) return 'ku';
	if (softleaf_is_poison_marker(entry)) return 'kp';
	return softleaf_is_guard_marker(entry) ? 'kg' : 'k';
}

/** The token of a pte. */
function pteToken(word: bigint): string {
	if (word === 0n) return '.';
	if (!pte_present(word)) return entryToken(word);
	const pfn = pte_pfn(word) as bigint;
	return presentToken(word, pfn, kindOfPfn(pfn));
}

/** A word of a PMD that is no table; null: it is one, or none. */
function leafToken(pmd: TableEntry, at: unsigned_long): string | null {
	const { value } = pmd;
	const index = Number((at >> 12n) & BigInt(HPAGE_PMD_NR - 1));
	if (pmd_present(value)) {
		if (!pmd_leaf(value)) return null;
		const head = pte_pfn(value) as bigint;
		const kind = kindOfPfn(head);
		// the recorder tells neither special nor PROT_NONE of a huge entry
		const token = presentToken(value, head, kind).replace(/[!n]/g, '');
		// the flag is kept on the head page
		return `T${index === 0 ? token : token.replace('x', '')}`;
	}
	const token = entryToken(value);
	return `T${index === 0 ? token : token.replace('x', '')}`;
}

/** The entry that a walk ends at. */
interface Found {
	/** Token of the page. */
	readonly token: string;
	/** Pages, from this one on, that have the same token because one word stands for all. */
	readonly same: number;
}

const pagesUpTo = (at: unsigned_long, size: bigint): number =>
	Number(((at & ~(size - 1n)) + size - at) >> 12n);

/** Look an address up; `ptes` is what the last lookups of this table found. */
function lookUp(mm: mm_struct, at: unsigned_long): Found | { readonly pmd: TableEntry } {
	const pgd = pgd_offset(mm, at);
	if (pgd_none(pgd.value)) return { token: 'P', same: pagesUpTo(at, 1n << 39n) };
	const pud = pud_offset(pgd, at);
	if (pud_none(pud.value)) return { token: 'U', same: pagesUpTo(at, 1n << 30n) };
	const pmd = pmd_offset(pud, at);
	if (pmd_none(pmd.value)) return { token: 'M', same: pagesUpTo(at, 1n << 21n) };
	const leaf = leafToken(pmd, at);
	if (leaf === null) return { pmd };
	const head = (at & ((1n << 21n) - 1n)) === 0n && leaf.includes('x');
	return { token: leaf, same: head ? 1 : pagesUpTo(at, 1n << 21n) };
}

/**
 * The page table of a window, a token a page.
 *
 * @param mm - whose
 * @param window - which pages
 */
export function dumpPageTable(mm: mm_struct, { base, np }: Window): string {
	const tokens: string[] = [];
	while (tokens.length < np) {
		const at = base + BigInt(tokens.length) * PAGE_SIZE;
		const found = lookUp(mm, at);
		const left = np - tokens.length;
		if ('token' in found) {
			for (let i = Math.min(left, found.same); i > 0; i--)
				tokens.push(found.token);
			continue;
		}
		const inTable = Math.min(left, pagesUpTo(at, 1n << 21n));
		const { table, index } = pte_offset_kernel(found.pmd, at);
		const { u64, u32 } = table;
		for (let i = index; i < index + inTable; i++)
			// most are empty: told by halves, without a bigint
			if (u32[2 * i] === 0 && u32[2 * i + 1] === 0) tokens.push('.');
			else tokens.push(pteToken(u64[i]!));
	}
	return runLength(tokens);
}

const vmaLetters: readonly (readonly [bit: bigint, letter: string])[] = [
	[VM_READ, 'r'],
	[VM_WRITE, 'w'],
	[VM_EXEC, 'x'],
	[VM_SHARED, 's'],
	[VM_PFNMAP, 'P'],
	[VM_IO, 'I'],
	[VM_MIXEDMAP, 'M'],
	[VM_HUGETLB, 'H'],
	[VM_HUGEPAGE, 'h'],
	[VM_NOHUGEPAGE, 'n'],
	[VM_ACCOUNT, 'A'],
];

/** Letters of flags that were seen: a memo. */
const knownFlags = new Map<bigint, string>();

function vmaFlags(vm_flags: bigint): string {
	let flags = knownFlags.get(vm_flags);
	if (flags !== undefined) return flags;
	flags = '';
	for (const [bit, letter] of vmaLetters) if (vm_flags & bit) flags += letter;
	knownFlags.set(vm_flags, flags);
	return flags;
}

/** Number of the page at an address; before the base: negative. */
function pageAt(base: unsigned_long, at: unsigned_long): number {
	return Math.trunc(Number(at - base) / BYTES_A_PAGE);
}

/**
 * The VMAs that reach into a window.
 *
 * @param mm - whose
 * @param window - which pages
 */
export function dumpVmas(mm: mm_struct, { base, np }: Window): string {
	const end = base + BigInt(np) * PAGE_SIZE;
	let out = '';
	for (const vma of mm.vmas) {
		if (vma.vm_end <= base || vma.vm_start >= end) continue;
		let flags = vmaFlags(vma.vm_flags);
		if (vma.vm_file !== null) flags += 'f';
		if (vma.anon_vma !== null) flags += 'a';
		if (out !== '') out += ' ';
		out += `${pageAt(base, vma.vm_start)}-${pageAt(base, vma.vm_end)}:${flags}`;
	}
	return out;
}

/** Input PFN that a request may carry. */
export const GARBAGE_PFN = 0xfee00n;

/** Looks words up, page after page: the table of the last one is remembered. The kernel stands still. */
class WordLookup {
	private readonly mm: mm_struct;
	/** What one pmd stands for, that was looked at last. */
	private start: unsigned_long = 0n;
	private end: unsigned_long = 0n;
	/** The ptes of it; null: `leaf` stands for all its pages. */
	private table: BigUint64Array | null = null;
	private leaf = 0n;
	/** The word that was found, and how far into it the page lies. */
	word = 0n;
	offset = 0;

	/** @param mm - the address space */
	constructor(mm: mm_struct) {
		this.mm = mm;
	}

	/** Find the word that stands for a page; false: none does. */
	find(at: unsigned_long): boolean {
		if (at < this.start || at >= this.end) this.enter(at);
		const index = Number(at - this.start) / BYTES_A_PAGE;
		this.word = this.table === null ? this.leaf : this.table[index]!;
		this.offset = this.table === null ? index : 0;
		return this.word !== 0n;
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
		else this.table = pte_offset_kernel(pmd, this.start).table.u64;
	}
}

/** The PFN that is mapped, or held by an entry, at an address; null: none. */
export function pfnAt(mm: mm_struct, at: unsigned_long): bigint | null {
	return mappedPfn(new WordLookup(mm), at);
}

function mappedPfn(lookup: WordLookup, at: unsigned_long): bigint | null {
	if (!lookup.find(at)) return null;
	const { word, offset } = lookup;
	let pfn: bigint;
	if (pte_present(word)) pfn = pte_pfn(word) as bigint;
	else {
		const entry = softleaf_from_pte(word);
		const holds =
			softleaf_is_device_private(entry) ||
			softleaf_is_device_exclusive(entry) ||
			softleaf_is_migration(entry);
		if (!holds) return null;
		pfn = softleaf_to_pfn(entry) as bigint;
	}
	return offset === 0 ? pfn : pfn + BigInt(offset);
}

/** The word that stands for a page, and how far into it the page lies; null: none does. */
export function lookUpWord(
	mm: mm_struct,
	at: unsigned_long,
): { readonly word: bigint; readonly offset: bigint } | null {
	const lookup = new WordLookup(mm);
	if (!lookup.find(at)) return null;
	return { word: lookup.word, offset: BigInt(lookup.offset) };
}

const STICKY = HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA | HMM_PFN_P2PDMA_BUS;

/** Sticky bits of a word. */
function stickyLetters(word: bigint): string {
	if ((word & STICKY) === 0n || !feature('hmm_dma_flags')) return '';
	return (
		(word & HMM_PFN_DMA_MAPPED ? 'M' : '') +
		(word & HMM_PFN_P2PDMA ? 'P' : '') +
		(word & HMM_PFN_P2PDMA_BUS ? 'B' : '')
	);
}

const hexOfByte: readonly string[] = Array.from({ length: 256 }, (_, byte) =>
	byte.toString(16).padStart(2, '0'),
);

/** Flags and order of a word as the records have them, whatever the kernel's layout. */
function flagDigits(word: bigint): string {
	return hexOfByte[(Number(word >> 61n) << 5) | hmm_pfn_to_map_order(word)]!;
}

/**
 * The words that hmm_range_fault() gave, in tokens.
 *
 * @param mm - whose address space it was
 * @param start - first address
 * @param words - a word a page
 */
export function dumpWords(mm: mm_struct, start: unsigned_long, words: BigUint64Array): string {
	const tokens: string[] = [];
	const lookup = new WordLookup(mm);
	const pfnBits = ~HMM_PFN_FLAGS();
	let at = start;
	let before: bigint | null = null;
	for (let i = 0; i < words.length; i++, at += PAGE_SIZE) {
		const word = words[i]!;
		// most of a large range asks for nothing and got nothing
		if (word === 0n) tokens.push('00-');
		else
			tokens.push(
				flagDigits(word) +
					stickyLetters(word) +
					wordPage(lookup, at, word, before, pfnBits),
			);
		before = word;
	}
	return runLength(tokens);
}

function wordPage(
	lookup: WordLookup,
	at: unsigned_long,
	word: bigint,
	before: bigint | null,
	pfnBits: bigint,
): string {
	const pfn = word & pfnBits;
	const midUnit = (at & ~PMD_MASK) !== 0n;
	if (!(word & HMM_PFN_VALID)) {
		if (pfn === 0n) return '-';
		if (mappedPfn(lookup, at) === pfn) return `-=${kindOfPfn(pfn)}`;
		if (before !== null && midUnit && word === before + 1n) return '-+';
		return `-${pfn.toString(16)}`;
	}
	if (pfn === 0n) return 'i';
	const isThere = isPageAt(lookup, at, pfn);
	if (pfn === GARBAGE_PFN && !isThere) return 'g';
	const kind = kindOfPfn(pfn);
	const follows =
		hmm_pfn_to_map_order(word) > 0 &&
		before !== null &&
		midUnit &&
		pfn === (before & pfnBits) + 1n;
	const wrong = isThere ? '' : '~';
	return `${kind}${follows ? '+' : ''}${wrong}`;
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
