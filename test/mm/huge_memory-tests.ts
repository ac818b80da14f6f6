// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: huge pages of anonymous memory, from the fault that makes them to the last part of them that
 * is unmapped. Method: entries as text and invalidations of a process on a machine without devices,
 * in both releases; after each test nothing is left of pages, tables and counters.
 *
 *   ARENA             +2 MiB            +4 MiB
 *   | pmd 0           | pmd 1           |
 *   0                 512               1024       pages
 */
import { EAGAIN } from '../../include/linux/errno.ts';
import type { ThpPolicy } from '../../include/linux/huge_mm.ts';
import { MADV_DONTNEED, PROT_READ } from '../../include/linux/mm.ts';
import { MM_ANONPAGES } from '../../include/linux/mm_types.ts';
import {
	folio_nr_pages,
	folio_ref_count,
	folio_test_large,
	PG_mlocked,
	PG_swapbacked,
} from '../../include/linux/page-flags.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import { run } from '../../kernel/sched/core.ts';
import { folio_lock, folio_unlock } from '../../mm/filemap.ts';
import { forkProcess } from '../../mm/fork.ts';
import { split_folio } from '../../mm/huge_memory/split_folio.ts';
import { move_huge_pmd, transparentHugepage } from '../../mm/huge_memory.ts';
import { MADV_FREE, MADV_HUGEPAGE, MADV_NOHUGEPAGE } from '../../mm/madvise.ts';
import { mmap_write_lock, mmap_write_unlock } from '../../mm/mmap_lock.ts';
import { pgd_offset, pmd_alloc, pmd_offset, pud_alloc, pud_offset } from '../../mm/pgtable.ts';
import { folio_entire_mapcount, folio_mapcount } from '../../mm/rmap.ts';
import { folio_get, folio_put } from '../../mm/swap.ts';
import {
	exitProcess,
	userMadvise,
	userMlock,
	userMprotect,
	userMunlock,
	userMunmap,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import {
	ASSERT_NE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST_F,
} from '../kselftest_harness.ts';
import { at, folioAt, hugeFolioAt, pageAt, runs, vmaOf } from './entries.ts';
import { RELEASES, watchedProcessFixture } from './process_fixture.ts';
import { HUGE, madvisePages, mapPages, PAGE, RW } from './small_machine.ts';

const thp = watchedProcessFixture('thp', { releases: RELEASES });

/** Maps pages of the arena that may be huge. */
function mapHuge(p: task_struct, page: number, pages: number, advice = MADV_HUGEPAGE): void {
	mapPages(p, page, pages);
	if (advice !== 0) EXPECT_EQ(0, madvisePages(p, page, pages, advice));
}

TEST_F(thp, 'read_maps_the_huge_zero_page_and_write_a_page', ({ p, log }, { profile }) => {
	mapHuge(p, 0, 2 * HUGE);
	EXPECT_EQ(0n, userRead64(p, at(5)));
	EXPECT_STREQ('TrZ*512 M*512', runs(p, 0, 2 * HUGE));
	EXPECT_EQ(0, p.mm!.rss_stat[MM_ANONPAGES]);
	userWrite64(p, at(600), 7n);
	EXPECT_STREQ('TrZ*512 Twaxd*512', runs(p, 0, 2 * HUGE));
	EXPECT_EQ(HUGE, p.mm!.rss_stat[MM_ANONPAGES]);
	EXPECT_STREQ('', log.take());
	userWrite64(p, at(5), 8n);
	if (profile === 'v7.3') {
		EXPECT_STREQ('Twaxd*512', runs(p, 0, HUGE));
		EXPECT_STREQ('1 0-512', log.take());
	} else {
		EXPECT_STREQ('rz!*5 waxd rz!*506', runs(p, 0, HUGE));
		EXPECT_STREQ('1 0-512, 1 5-6', log.take());
	}
	EXPECT_EQ(8n, userRead64(p, at(5)));
	EXPECT_EQ(0n, userRead64(p, at(6)));
	EXPECT_EQ(7n, userRead64(p, at(600)));
});

TEST_F(thp, 'only_a_whole_aligned_area_is_huge', ({ p }) => {
	mapHuge(p, 1, HUGE);
	userWrite64(p, at(1), 1n);
	userWrite64(p, at(512), 1n);
	EXPECT_STREQ('. waxd .*510 waxd .*511', runs(p, 0, 2 * HUGE));
	mapHuge(p, 1024, 3 * HUGE);
	userWrite64(p, at(1024 + 700), 1n);
	EXPECT_STREQ('M*512 Twaxd*512 M*512', runs(p, 1024, 3 * HUGE));
	// its part of the pmd belongs to two VMAs
	EXPECT_EQ(0, userMprotect(p, at(1024), 8n * PAGE, PROT_READ));
	userRead64(p, at(1030));
	EXPECT_STREQ('.*6 rz!', runs(p, 1024, 7));
});

TEST_F(thp, 'policy_and_advice_decide', ({ p }) => {
	const policies: [ThpPolicy, number, boolean][] = [
		['madvise', 0, false],
		['madvise', MADV_HUGEPAGE, true],
		['never', MADV_HUGEPAGE, false],
		['always', 0, true],
		['always', MADV_NOHUGEPAGE, false],
	];
	for (const [policy, advice, huge] of policies) {
		transparentHugepage().enabled = policy;
		mapHuge(p, 0, HUGE, advice);
		userWrite64(p, at(3), 1n);
		EXPECT_STREQ(huge ? 'Twaxd*512' : '.*3 waxd .*508', runs(p, 0, HUGE));
		EXPECT_EQ(0, userMunmap(p, at(0), BigInt(HUGE) * PAGE));
	}
	transparentHugepage().enabled = 'always';
	transparentHugepage().use_zero_page = false;
	mapHuge(p, 0, HUGE, 0);
	EXPECT_EQ(0n, userRead64(p, at(3)));
	EXPECT_STREQ('Twaxd*512', runs(p, 0, HUGE));
});

TEST_F(thp, 'without_memory_the_page_table_has_to_do', ({ p }) => {
	mapHuge(p, 0, 2 * HUGE);
	injectFaults().fail('vma_alloc_anon_folio_pmd', 1).fail('get_huge_zero_folio', 1);
	userWrite64(p, at(0), 1n);
	EXPECT_STREQ('waxd .*511', runs(p, 0, HUGE));
	userRead64(p, at(HUGE));
	EXPECT_STREQ('rz! .*511', runs(p, HUGE, HUGE));
});

TEST_F(thp, 'fork_shares_and_a_write_splits_and_copies_one_page', ({ p, log }) => {
	mapHuge(p, 0, HUGE);
	userWrite64(p, at(4), 1n);
	const child = forkProcess(p);
	ASSERT_NE('number', typeof child);
	const c = child as task_struct;
	const f = hugeFolioAt(p, 0);
	EXPECT_EQ(2, folio_entire_mapcount(f));
	EXPECT_EQ(2, folio_ref_count(f));
	EXPECT_STREQ('Trad*512', runs(p, 0, HUGE));
	EXPECT_STREQ('Trad*512', runs(c, 0, HUGE));
	log.take();
	userWrite64(p, at(4), 2n);
	EXPECT_STREQ('1 0-512, 1 4-5', log.take());
	EXPECT_STREQ('rad*4 waxd rad*507', runs(p, 0, HUGE));
	EXPECT_STREQ('Trad*512', runs(c, 0, HUGE));
	EXPECT_EQ(1, folio_entire_mapcount(f));
	EXPECT_EQ(512, folio_mapcount(f));
	EXPECT_EQ(1n, userRead64(c, at(4)));
	exitProcess(c);
	EXPECT_EQ(511, folio_ref_count(f));
});

TEST_F(thp, 'whole_mapping_is_reused_when_the_others_are_gone', ({ p, log }) => {
	mapHuge(p, 0, HUGE);
	userWrite64(p, at(4), 1n);
	exitProcess(forkProcess(p) as task_struct);
	log.take();
	userWrite64(p, at(9), 2n);
	EXPECT_STREQ('', log.take());
	EXPECT_STREQ('Twaxd*512', runs(p, 0, HUGE));
});

TEST_F(thp, 'pages_of_a_folio_that_one_process_maps_are_reused', ({ p, log }, { profile }) => {
	mapHuge(p, 0, HUGE);
	userWrite64(p, at(4), 1n);
	const child = forkProcess(p) as task_struct;
	userWrite64(p, at(4), 2n);
	exitProcess(child);
	log.take();
	userWrite64(p, at(5), 3n);
	// 7.3 knows who maps the folio; 6.12 copies
	EXPECT_STREQ(profile === 'v7.3' ? '' : '1 5-6', log.take());
	EXPECT_STREQ('rad*4 waxd*2 rad*506', runs(p, 0, HUGE));
	EXPECT_EQ(profile === 'v7.3', folio_test_large(folioAt(p, 5)));
});

TEST_F(thp, 'two_slots_tell_three_address_spaces_apart', ({ p }, { profile }) => {
	mapHuge(p, 0, HUGE);
	userWrite64(p, at(4), 1n);
	const a = forkProcess(p) as task_struct;
	const b = forkProcess(p) as task_struct;
	userWrite64(p, at(4), 2n);
	const f = folioAt(p, 5);
	exitProcess(a);
	userWrite64(p, at(5), 1n);
	EXPECT_FALSE(f === folioAt(p, 5));
	exitProcess(b);
	userWrite64(p, at(6), 1n);
	EXPECT_EQ(profile === 'v7.3', f === folioAt(p, 6));
});

TEST_F(thp, 'protection_of_all_of_it_keeps_it_and_of_a_part_splits', ({ p, log }) => {
	mapHuge(p, 0, HUGE);
	userWrite64(p, at(4), 1n);
	EXPECT_EQ(0, userMprotect(p, at(0), BigInt(HUGE) * PAGE, PROT_READ));
	EXPECT_STREQ('Traxd*512', runs(p, 0, HUGE));
	EXPECT_STREQ('2 0-512', log.take());
	EXPECT_EQ(0, userMprotect(p, at(0), BigInt(HUGE) * PAGE, RW));
	EXPECT_STREQ('Twaxd*512', runs(p, 0, HUGE));
	log.take();
	EXPECT_EQ(0, userMprotect(p, at(0), 256n * PAGE, PROT_READ));
	EXPECT_STREQ('raxd*256 waxd*256', runs(p, 0, HUGE));
	EXPECT_STREQ('1 0-512, 2 0-256', log.take());
	EXPECT_EQ(1n, userRead64(p, at(4)));
	const f = folioAt(p, 0);
	EXPECT_EQ(512, folio_mapcount(f));
	EXPECT_EQ(512, folio_ref_count(f));
});

TEST_F(thp, 'unmapping_a_part_splits_and_the_rest_stays_one_folio', ({ p, log }) => {
	mapHuge(p, 0, 2 * HUGE);
	userWrite64(p, at(4), 1n);
	userWrite64(p, at(600), 1n);
	EXPECT_EQ(0, userMadvise(p, at(510), 600n * PAGE - 510n * PAGE, MADV_DONTNEED));
	EXPECT_STREQ('waxd*510 .*90 waxd*424', runs(p, 0, 2 * HUGE));
	EXPECT_STREQ('1 510-600, 1 0-512, 1 512-1024', log.take());
	EXPECT_EQ(512, folio_nr_pages(folioAt(p, 0)));
	EXPECT_EQ(510, folio_ref_count(folioAt(p, 0)));
	EXPECT_EQ(0, userMunmap(p, at(0), 500n * PAGE));
	EXPECT_EQ(0, userMadvise(p, at(500), 524n * PAGE, MADV_DONTNEED));
	EXPECT_EQ(0, p.mm!.rss_stat[MM_ANONPAGES]);
});

TEST_F(thp, 'split_folio_gives_pages_and_zeros_to_the_zero_page', ({ p, log }, { profile }) => {
	mapHuge(p, 0, HUGE);
	userWrite64(p, at(0), 1n);
	userWrite64(p, at(300), 2n);
	const f = hugeFolioAt(p, 0);
	run(function* () {
		folio_get(f);
		yield* folio_lock(f);
		EXPECT_EQ(0, yield* split_folio(f));
		yield* folio_unlock(f);
		yield* folio_put(f);
	});
	EXPECT_STREQ('waxd rz!*299 waxd rz!*211', runs(p, 0, HUGE));
	EXPECT_STREQ(profile === 'v7.3' ? '1 0-512' : '1 0-512, 1 0-512', log.take());
	EXPECT_FALSE(folio_test_large(folioAt(p, 300)));
	EXPECT_EQ(1, folio_ref_count(folioAt(p, 300)));
	EXPECT_EQ(2, p.mm!.rss_stat[MM_ANONPAGES]);
	EXPECT_EQ(2n, userRead64(p, at(300)));
});

TEST_F(thp, 'split_folio_of_a_pinned_page_maps_it_as_before', ({ p }) => {
	mapHuge(p, 0, HUGE);
	userWrite64(p, at(1), 1n);
	const f = hugeFolioAt(p, 0);
	run(function* () {
		folio_get(f);
		folio_get(f);
		yield* folio_lock(f);
		EXPECT_EQ(-EAGAIN, yield* split_folio(f));
		yield* folio_unlock(f);
		yield* folio_put(f);
		yield* folio_put(f);
	});
	EXPECT_STREQ('Twaxd*512', runs(p, 0, HUGE));
	EXPECT_EQ(1, folio_ref_count(f));
});

TEST_F(thp, 'split_folio_reaches_every_address_space', ({ p }) => {
	mapHuge(p, 0, HUGE);
	userWrite64(p, at(1), 1n);
	const child = forkProcess(p) as task_struct;
	const f = hugeFolioAt(p, 0);
	run(function* () {
		folio_get(f);
		yield* folio_lock(f);
		EXPECT_EQ(0, yield* split_folio(f));
		yield* folio_unlock(f);
		yield* folio_put(f);
	});
	EXPECT_STREQ('rz! rad rz!*510', runs(p, 0, HUGE));
	EXPECT_STREQ('rz! rad rz!*510', runs(child, 0, HUGE));
	EXPECT_TRUE(pageAt(p, 1) === pageAt(child, 1));
	exitProcess(child);
});

TEST_F(thp, 'stale_translations_are_flushed_when_it_is_split', ({ p }) => {
	mapHuge(p, 0, HUGE);
	userWrite64(p, at(0), 1n);
	EXPECT_EQ(1n, userRead64(p, at(0)));
	const child = forkProcess(p) as task_struct;
	userWrite64(p, at(0), 2n);
	EXPECT_EQ(1n, userRead64(child, at(0)));
	EXPECT_EQ(2n, userRead64(p, at(0)));
	EXPECT_EQ(0, userMunmap(p, at(0), PAGE));
	EXPECT_EQ(11, (userRead64(p, at(0)) as { sig: number }).sig);
	EXPECT_EQ(0n, userRead64(p, at(1)));
	exitProcess(child);
});

TEST_F(thp, 'move_takes_the_deposited_table_along', ({ p }) => {
	mapHuge(p, 0, HUGE);
	// another pmd table: 1 GiB further
	const far = 262144;
	mapHuge(p, far, HUGE);
	userWrite64(p, at(3), 5n);
	const { mm } = p;
	run(function* () {
		yield* mmap_write_lock(mm!);
		const pud = yield* pud_alloc(mm!, pgd_offset(mm!, at(far)), at(far));
		const to = yield* pmd_alloc(mm!, pud!, at(far));
		const from = pmd_offset(pud_offset(pgd_offset(mm!, at(0)), at(0)), at(0));
		// as mremap does it: the folio's place in its anon_vma moves with its VMA
		const vma = vmaOf(p, 0);
		EXPECT_TRUE(yield* move_huge_pmd(vma, at(0), at(far), from, to!));
		EXPECT_FALSE(yield* move_huge_pmd(vma, at(0), at(far), from, to!));
		EXPECT_TRUE(yield* move_huge_pmd(vma, at(far), at(0), to!, from));
		yield* mmap_write_unlock(mm!);
	});
	EXPECT_EQ(1, [...mm!.pmd_huge_pte.values()].flat().length);
	EXPECT_EQ(5n, userRead64(p, at(3)));
	EXPECT_EQ(0, userMunmap(p, at(0), PAGE));
	EXPECT_EQ(0, [...mm!.pmd_huge_pte.values()].flat().length);
});

TEST_F(thp, 'mlock_counts_the_folio_and_its_zeros_stay_pages', ({ p }) => {
	mapHuge(p, 0, HUGE);
	userWrite64(p, at(0), 1n);
	const f = hugeFolioAt(p, 0);
	EXPECT_EQ(0, userMlock(p, at(0), BigInt(HUGE) * PAGE));
	EXPECT_EQ(PG_mlocked, f.flags & PG_mlocked);
	run(function* () {
		folio_get(f);
		yield* folio_lock(f);
		EXPECT_EQ(0, yield* split_folio(f));
		yield* folio_unlock(f);
		yield* folio_put(f);
	});
	// the zero page is nobody's to lock
	EXPECT_STREQ('waxd*512', runs(p, 0, HUGE));
	EXPECT_EQ(0, userMunlock(p, at(0), BigInt(HUGE) * PAGE));
	EXPECT_EQ(0, folioAt(p, 9).flags & PG_mlocked);
});

TEST_F(thp, 'free_of_all_makes_it_clean_and_of_a_part_splits_it', ({ p }) => {
	mapHuge(p, 0, 2 * HUGE);
	userWrite64(p, at(0), 1n);
	userWrite64(p, at(600), 2n);
	EXPECT_EQ(0, madvisePages(p, 0, HUGE, MADV_FREE));
	EXPECT_STREQ('Twax*512', runs(p, 0, HUGE));
	EXPECT_EQ(0, hugeFolioAt(p, 0).flags & PG_swapbacked);
	EXPECT_EQ(0, userMadvise(p, at(600), 2n * PAGE, MADV_FREE));
	EXPECT_STREQ('rz!*88 wax rz!*423', runs(p, HUGE, HUGE));
	EXPECT_EQ(2n, userRead64(p, at(600)));
});

TEST_F(thp, 'free_of_a_part_of_a_folio_that_ptes_map_splits_it', ({ p }) => {
	mapHuge(p, 0, HUGE);
	for (let i = 0; i < HUGE; i++) userWrite64(p, at(i), 1n);
	EXPECT_EQ(0, userMprotect(p, at(0), 8n * PAGE, PROT_READ));
	EXPECT_EQ(0, userMadvise(p, at(16), 4n * PAGE, MADV_FREE));
	EXPECT_STREQ('raxd*8 waxd*8 wax*4 waxd*492', runs(p, 0, HUGE));
	EXPECT_FALSE(folio_test_large(folioAt(p, 40)));
});
