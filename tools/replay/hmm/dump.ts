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
	_PAGE_PRESENT,
	_PAGE_PROTNONE,
	_PAGE_SWP_UFFD_WP,
} from '../../../include/asm/pgtable_types.ts';
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
import type { mm_struct, page } from '../../../include/linux/mm_types.ts';
import { memoryMap, pageOfNumber } from '../../../include/linux/mmzone.ts';
import { PageAnonExclusive } from '../../../include/linux/page-flags.ts';
import {
	pgd_none,
	pmd_leaf,
	pmd_none,
	pmd_present,
	pte_dirty,
	pte_protnone,
	pte_special,
	pte_uffd_wp,
	pte_write,
	pud_none,
	type TableEntry,
} from '../../../include/linux/pgtable.ts';
import {
	entryPfn,
	is_writable_device_exclusive_entry,
	privateAccess,
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
} from '../../../include/linux/swapops.ts';
import { HPAGE_PMD_NR, PAGE_SIZE, type unsigned_long } from '../../../include/linux/types.ts';
import { feature } from '../../../include/sim/world.ts';
import { pgd_offset, pmd_offset, pte_offset_kernel, pud_offset } from '../../../mm/pgtable.ts';
import { deviceNumber, kindOfPage, kindOfPfn } from './kinds.ts';
import { RunText } from './record.ts';

/** A window of an address space. */
export interface Window {
	/** Address of its page 0. */
	readonly base: unsigned_long;
	/** Pages. */
	readonly np: number;
}

const BYTES_A_PAGE = Number(PAGE_SIZE);
/** In the low half of a word: it is present, or would be but for PROT_NONE. */
const PRESENT_OR_NONE = Number(_PAGE_PRESENT | _PAGE_PROTNONE);
const SWP_UFFD_WP = Number(_PAGE_SWP_UFFD_WP);

function exclusiveMark(p: page | null): string {
	return p !== null && PageAnonExclusive(p) ? 'x' : '';
}

/** What the flags of a present entry say, and the tokens that were made with them. */
interface PresentFlags {
	readonly access: string;
	readonly rest: string;
	/** By the page's kind: of pages that are exclusive, and of those that are not. */
	readonly exclusive: Map<string, string>;
	readonly plain: Map<string, string>;
}

/** By the flags of the word: those under the PFN, and those above it 12 bits further. */
const knownFlags = new Map<number, PresentFlags>();

function presentFlags(word: bigint): PresentFlags {
	let rest = '';
	if (pte_dirty(word)) rest += 'd';
	if (pte_special(word)) rest += '!';
	if (pte_protnone(word)) rest += 'n';
	if (pte_uffd_wp(word)) rest += 'u';
	const access = pte_write(word) ? 'w' : 'r';
	return { access, rest, exclusive: new Map(), plain: new Map() };
}

/** A present word, of a pte or of a PMD leaf, in halves. */
function presentToken(low: number, high: number): string {
	const key = (low & 0xfff) | ((high >>> 20) << 12);
	let flags = knownFlags.get(key);
	if (flags === undefined) {
		flags = presentFlags(wordOf(low, high));
		knownFlags.set(key, flags);
	}
	const pfn = (high & 0xf_ffff) * 0x10_0000 + (low >>> 12);
	const kind = kindOfPfn(pfn);
	const anon = kind === 'a' || kind[0] === 'c';
	const mark = anon ? exclusiveMark(memoryMap().page(pfn)) : '';
	const tokens = mark === '' ? flags.plain : flags.exclusive;
	let token = tokens.get(kind);
	if (token === undefined) {
		token = flags.access + kind + mark + flags.rest;
		tokens.set(kind, token);
	}
	return token;
}

const wordOf = (low: number, high: number): bigint =>
	(BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);

/** A word that is neither empty nor present. */
function entryToken(word: bigint): string {
	const entry = softleaf_from_pte(word);
	const uffd = pte_swp_uffd_wp(word) ? 'u' : '';
	if (softleaf_is_device_private(entry)) {
		const access = softleaf_is_device_private_write(entry) ? 'w' : 'r';
		return privateToken(access, softleaf_to_page(entry)) + uffd;
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

/** The token of a pte that is not empty. */
function pteToken(low: number, high: number): string {
	if (low & PRESENT_OR_NONE) return presentToken(low, high);
	const access = privateAccess(high);
	return access === null || low & SWP_UFFD_WP
		? entryToken(wordOf(low, high))
		: privateToken(access, pageOfNumber(entryPfn(low, high)));
}

/** A device-private entry, without what the word has besides. */
function privateToken(access: 'r' | 'w', p: page): string {
	return (PageAnonExclusive(p) ? exclusiveTokens : plainTokens)[access][deviceNumber(p)]!;
}

const devices = [0, 1, 2, 3];
const plainTokens = { r: devices.map((n) => `Dr${n}`), w: devices.map((n) => `Dw${n}`) };
const exclusiveTokens = { r: devices.map((n) => `Dr${n}x`), w: devices.map((n) => `Dw${n}x`) };

/** A word of a PMD that is no table; null: it is one, or none. */
function leafToken(pmd: TableEntry, at: unsigned_long): string | null {
	const { value } = pmd;
	const index = Number((at >> 12n) & BigInt(HPAGE_PMD_NR - 1));
	if (pmd_present(value)) {
		if (!pmd_leaf(value)) return null;
		// the recorder tells neither special nor PROT_NONE of a huge entry
		const token = presentToken(
			Number(value & 0xffff_ffffn),
			Number(value >> 32n),
		).replace(/[!n]/g, '');
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
	const runs = new RunText();
	for (let page = 0; page < np; ) {
		const at = base + BigInt(page) * PAGE_SIZE;
		const found = lookUp(mm, at);
		const left = np - page;
		if ('token' in found) {
			const same = Math.min(left, found.same);
			runs.add(found.token, same);
			page += same;
			continue;
		}
		const inTable = Math.min(left, pagesUpTo(at, 1n << 21n));
		const { table, index } = pte_offset_kernel(found.pmd, at);
		const { u32 } = table;
		for (let i = index; i < index + inTable; i++) {
			const low = u32[2 * i]!;
			const high = u32[2 * i + 1]!;
			runs.add(low === 0 && high === 0 ? '.' : pteToken(low, high));
		}
		page += inTable;
	}
	return runs.toString();
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
const knownVmaFlags = new Map<bigint, string>();

function vmaFlags(vm_flags: bigint): string {
	let flags = knownVmaFlags.get(vm_flags);
	if (flags !== undefined) return flags;
	flags = '';
	for (const [bit, letter] of vmaLetters) if (vm_flags & bit) flags += letter;
	knownVmaFlags.set(vm_flags, flags);
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
