// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: words are put in letters by a lookup that remembers the table of the page before, in halves of
 * 32 bits, and the letters are those of a look at each page alone. Method: a process with every kind of
 * entry under five pmds; words that name what is mapped, what comes next, something else or nothing, in
 * ranges that begin and end anywhere; the plain version beside it takes words whole and walks the
 * tables for each page.
 *
 * ```
 *   ARENA      +2 MiB       +4 MiB                +6 MiB      +8 MiB
 *   | ptes     | huge page  | huge, it migrates   | no table  | ptes
 * ```
 */
import fc from 'fast-check';
import {
	HMM_PFN_DMA_MAPPED,
	HMM_PFN_ERROR,
	HMM_PFN_FLAGS,
	HMM_PFN_ORDER_SHIFT,
	HMM_PFN_P2PDMA,
	HMM_PFN_P2PDMA_BUS,
	HMM_PFN_VALID,
	HMM_PFN_WRITE,
} from '../../../../include/linux/hmm.ts';
import type { mm_struct } from '../../../../include/linux/mm_types.ts';
import {
	pgd_none,
	pmd_leaf,
	pmd_none,
	pmd_present,
	pte_none,
	pte_pfn,
	pte_present,
	pud_none,
} from '../../../../include/linux/pgtable.ts';
import type { task_struct } from '../../../../include/linux/sched.ts';
import {
	make_hwpoison_entry,
	make_pte_marker_entry,
	make_readable_device_private_entry,
	make_readable_migration_entry,
	make_writable_device_exclusive_entry,
	make_writable_device_private_entry,
	PTE_MARKER_UFFD_WP,
	softleaf_from_pte,
	softleaf_is_device_exclusive,
	softleaf_is_device_private,
	softleaf_is_migration,
	softleaf_to_pfn,
	swp_entry,
	swp_entry_to_pte,
} from '../../../../include/linux/swapops.ts';
import { feature } from '../../../../include/sim/world.ts';
import { MADV_HUGEPAGE } from '../../../../mm/madvise.ts';
import { pgd_offset, pmd_offset, pte_offset_kernel, pud_offset } from '../../../../mm/pgtable.ts';
import { userRead64, userWrite64 } from '../../../../mm/syscalls.ts';
import { kindOfPfn } from '../../../../tools/replay/hmm/kinds.ts';
import { dumpWords, GARBAGE_PFN, lookUpWord, pfnAt } from '../../../../tools/replay/hmm/words.ts';
import {
	EXPECT_EQ,
	EXPECT_LT,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST_F,
} from '../../../kselftest_harness.ts';
import { entryAt, pmdAt } from '../../../mm/entries.ts';
import { processFixture, RELEASES } from '../../../mm/process_fixture.ts';
import { at, HUGE, madvisePages, mapPages, PAGE } from '../../../mm/small_machine.ts';

/** Pages of the arena that are looked at; the last ones are not mapped at all. */
const NPAGES = 5 * HUGE + 32;
/** A PFN of RAM that nothing maps. */
const ELSEWHERE = 0x300n;

/** A small generator of numbers below a bound, the same for a seed. */
function numbers(seed: number): (bound: number) => number {
	let state = (seed * 2654435761 + 1) >>> 0;
	return (bound) => {
		state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
		return Math.floor((state / 2 ** 32) * bound);
	};
}

/** Words of a table that no access makes. */
const entries = (): readonly bigint[] => [
	0n,
	swp_entry_to_pte(make_readable_migration_entry(0x1234n)),
	swp_entry_to_pte(make_readable_device_private_entry(ELSEWHERE)),
	swp_entry_to_pte(make_writable_device_private_entry(0x3_0000_0001n)),
	swp_entry_to_pte(make_writable_device_exclusive_entry(0x456n)),
	swp_entry_to_pte(make_pte_marker_entry(PTE_MARKER_UFFD_WP)),
	swp_entry_to_pte(swp_entry(0, 77n)),
	swp_entry_to_pte(make_hwpoison_entry(0x789n)),
];

/** Makes the five pmds. What is put in by hand goes before the process does. */
function fill(p: task_struct): void {
	mapPages(p, 0, 5 * HUGE);
	EXPECT_EQ(0, madvisePages(p, HUGE, 2 * HUGE, MADV_HUGEPAGE));
	const next = numbers(7);
	const made = entries();
	for (const first of [0, 4 * HUGE])
		for (let i = 0; i < HUGE; i += 1 + next(3))
			if (next(3) === 0) userRead64(p, at(first + i));
			else userWrite64(p, at(first + i), 1n);
	userWrite64(p, at(HUGE), 1n);
	userWrite64(p, at(2 * HUGE), 1n);
	// as a huge page that is on its way somewhere
	const pmd = pmdAt(p, 2 * HUGE);
	saved.push([() => pmd.value, (v) => (pmd.value = v), pmd.value]);
	pmd.value = swp_entry_to_pte(make_readable_migration_entry(0x400n));
	for (const first of [0, 4 * HUGE])
		for (let i = 0; i < HUGE; i++) {
			const pte = entryAt(p, first + i);
			if (!pte_none(pte.value)) continue;
			saved.push([() => pte.value, (v) => (pte.value = v), 0n]);
			pte.value = made[next(made.length)]!;
		}
}

/** What was there before the test put something in. */
const saved: [() => bigint, (v: bigint) => void, bigint][] = [];

function putBack(): void {
	for (const [, set, was] of saved.splice(0)) set(was);
}

const words = processFixture('words', { releases: RELEASES });

/** The word for a page and its place in what that maps, walked to from the top. */
function plainWord(mm: mm_struct, va: bigint): { word: bigint; offset: bigint } | null {
	const pgd = pgd_offset(mm, va);
	if (pgd_none(pgd.value)) return null;
	const pud = pud_offset(pgd, va);
	if (pud_none(pud.value)) return null;
	const pmd = pmd_offset(pud, va);
	if (pmd_none(pmd.value)) return null;
	if (!pmd_present(pmd.value) || pmd_leaf(pmd.value))
		return { word: pmd.value, offset: (va / PAGE) % BigInt(HUGE) };
	const { value } = pte_offset_kernel(pmd, va);
	return pte_none(value) ? null : { word: value, offset: 0n };
}

function plainPfn(mm: mm_struct, va: bigint): bigint | null {
	const found = plainWord(mm, va);
	if (found === null) return null;
	if (pte_present(found.word)) return (pte_pfn(found.word) as bigint) + found.offset;
	const entry = softleaf_from_pte(found.word);
	const holds =
		softleaf_is_device_private(entry) ||
		softleaf_is_device_exclusive(entry) ||
		softleaf_is_migration(entry);
	return holds ? (softleaf_to_pfn(entry) as bigint) + found.offset : null;
}

/** Flags and order of a word, in hex, and its sticky bits. */
function digits(word: bigint): string {
	const order = (word >> HMM_PFN_ORDER_SHIFT()) & 0x1fn;
	let text = (((word >> 61n) << 5n) | order).toString(16).padStart(2, '0');
	if (!feature('hmm_dma_flags')) return text;
	if (word & HMM_PFN_DMA_MAPPED) text += 'M';
	if (word & HMM_PFN_P2PDMA) text += 'P';
	if (word & HMM_PFN_P2PDMA_BUS) text += 'B';
	return text;
}

/** What a word names; `before` is the one of the page before, if they are under one pmd. */
function plainWhat(mm: mm_struct, va: bigint, word: bigint, before: bigint | null): string {
	const bits = ~HMM_PFN_FLAGS();
	const pfn = word & bits;
	const mapped = plainPfn(mm, va);
	const kind = kindOfPfn(Number(pfn));
	if (!(word & HMM_PFN_VALID)) {
		if (pfn === 0n) return '-';
		if (pfn === mapped) return `-=${kind}`;
		return before !== null && word === before + 1n ? '-+' : `-${pfn.toString(16)}`;
	}
	if (pfn === 0n) return 'i';
	if (pfn === GARBAGE_PFN && pfn !== mapped) return 'g';
	const ordered = ((word >> HMM_PFN_ORDER_SHIFT()) & 0x1fn) !== 0n;
	const follows = before !== null && ordered && pfn === (before & bits) + 1n;
	return `${kind}${follows ? '+' : ''}${pfn === mapped ? '' : '~'}`;
}

function plainDump(mm: mm_struct, first: number, list: BigUint64Array): string {
	const tokens = [...list].map((word, i) => {
		const inside = i > 0 && (first + i) % HUGE !== 0;
		const before = inside ? list[i - 1]! : null;
		return digits(word) + plainWhat(mm, at(first + i), word, before);
	});
	const out: string[] = [];
	for (let i = 0; i < tokens.length; ) {
		let n = 1;
		while (tokens[i + n] === tokens[i]) n++;
		out.push(n === 1 ? tokens[i]! : `${tokens[i]}*${n}`);
		i += n;
	}
	return out.join(' ');
}

/** Words of all kinds for pages from one on. */
function someWords(mm: mm_struct, first: number, n: number, seed: number): BigUint64Array {
	const next = numbers(seed);
	const list = new BigUint64Array(n);
	const flags = [HMM_PFN_VALID, HMM_PFN_WRITE, HMM_PFN_ERROR];
	if (feature('hmm_dma_flags'))
		flags.push(HMM_PFN_DMA_MAPPED, HMM_PFN_P2PDMA, HMM_PFN_P2PDMA_BUS);
	const bits = ~HMM_PFN_FLAGS();
	for (let i = 0; i < n; i++) {
		const mapped = plainPfn(mm, at(first + i)) ?? 0n;
		const before = i > 0 ? list[i - 1]! : 0n;
		const pfns = [
			mapped,
			mapped,
			mapped + 1n,
			(before & bits) + 1n,
			GARBAGE_PFN,
			ELSEWHERE,
			0n,
		];
		let word = (pfns[next(pfns.length)]! & bits) as bigint;
		if (next(4) === 0) word |= BigInt(next(10)) << HMM_PFN_ORDER_SHIFT();
		for (const flag of flags) if (next(2) === 0) word |= flag;
		// the word before and one, whatever it is; and stretches of nothing
		if (next(8) === 0) word = BigInt.asUintN(64, before + 1n);
		list[i] = next(6) === 0 ? 0n : word;
	}
	return list;
}

TEST_F(words, 'page_by_page_it_is_what_a_walk_from_the_top_finds', ({ p }) => {
	fill(p);
	const mm = p.mm!;
	let found = 0;
	for (let i = 0; i < NPAGES; i++) {
		const va = at(i);
		const word = plainWord(mm, va);
		const looked = lookUpWord(mm, va);
		EXPECT_EQ(word?.word ?? -1n, looked?.word ?? -1n);
		EXPECT_EQ(word?.offset ?? -1n, looked?.offset ?? -1n);
		EXPECT_EQ(plainPfn(mm, va) ?? -1n, pfnAt(mm, va) ?? -1n);
		if (word !== null) found++;
	}
	EXPECT_LT(3 * HUGE, found);
	putBack();
});

TEST_F(words, 'range_is_in_the_letters_of_its_pages', ({ p }) => {
	fill(p);
	const mm = p.mm!;
	const seen = new Set<string>();
	const cases = fc.record({
		first: fc.integer({ min: 0, max: NPAGES - 1 }),
		n: fc.integer({ min: 1, max: 700 }),
		seed: fc.integer({ min: 1, max: 1 << 30 }),
	});
	fc.assert(
		fc.property(cases, ({ first, n, seed }) => {
			const list = someWords(mm, first, n, seed);
			const plain = plainDump(mm, first, list);
			for (const token of plain.split(' '))
				seen.add(token.replace(/^..[MPB]*/, '')[0]!);
			return dumpWords(mm, at(first), list) === plain;
		}),
		{ numRuns: 80, seed: 1 },
	);
	// every kind of letter came
	for (const letter of ['-', 'a', 'g', 'i', 'z', 'q', 'o']) EXPECT_TRUE(seen.has(letter));
	putBack();
});

TEST_F(words, 'words_of_neighbours_are_told_across_pmds', ({ p }) => {
	fill(p);
	const mm = p.mm!;
	const order = 9n << HMM_PFN_ORDER_SHIFT();
	const head = pfnAt(mm, at(HUGE))!;
	// the last page before the huge one, then three of it
	const list = new BigUint64Array(4);
	list[0] = HMM_PFN_VALID | order | (head - 1n);
	for (let i = 0; i < 3; i++) list[i + 1] = HMM_PFN_VALID | order | (head + BigInt(i));
	const text = dumpWords(mm, at(HUGE - 1), list);
	// the first of a pmd follows nothing; those behind it do
	EXPECT_STREQ('89a 89a+*2', text.split(' ').slice(1).join(' '));
	EXPECT_STREQ(plainDump(mm, HUGE - 1, list), text);
	putBack();
});
