// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a touch of a NUMA-hint entry (PROT_NONE where the VMA may be accessed) gives it the rights
 * back that it would have, and tells nobody; get_user_pages*() goes by such entries unless it is
 * told not to. Method: there is one node, so that the kernel itself makes no hints; the tests put
 * them into page tables, touch, and count faults.
 */
import { EFAULT } from '../../include/linux/errno.ts';
import {
	FOLL_FORCE,
	FOLL_GET,
	FOLL_HONOR_NUMA_FAULT,
	FOLL_NOFAULT,
	FOLL_WRITE,
	MAP_PRIVATE,
	MAP_SHARED,
	PROT_NONE,
	PROT_READ,
} from '../../include/linux/mm.ts';
import { type page, page_folio } from '../../include/linux/mm_types.ts';
import { folio_ref_count, folio_test_dirty, PG_dirty } from '../../include/linux/page-flags.ts';
import {
	PAGE_NONE,
	pmd_dirty,
	pmd_mkclean,
	pmd_modify,
	pmd_protnone,
	pmd_write,
	pmd_young,
	pte_modify,
	pte_protnone,
	pte_write,
	pte_young,
} from '../../include/linux/pgtable.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { run } from '../../kernel/sched/core.ts';
import { forkProcess } from '../../mm/fork.ts';
import { get_user_pages_fast } from '../../mm/gup/fast.ts';
import { __split_huge_pmd } from '../../mm/huge_memory/split_pmd.ts';
import { MADV_HUGEPAGE } from '../../mm/madvise.ts';
import { put_page } from '../../mm/swap.ts';
import { exitProcess, userMprotect, userRead64, userWrite64 } from '../../mm/syscalls.ts';
import { flush_tlb_mm } from '../../mm/tlb.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST_F,
} from '../kselftest_harness.ts';
import { getUserPages, hugeFolioAt, pageAt, pmdAt, runs, vmaOf } from './entries.ts';
import { processFixture, RELEASES } from './process_fixture.ts';
import {
	at,
	HUGE,
	InvalidationLog,
	madvisePages,
	mapPages,
	PAGE,
	pteOf,
	ptes,
	RW,
} from './small_machine.ts';

const hint = processFixture('numa_hint');
const huge = processFixture('numa_hint_huge', { releases: RELEASES });

/** What change_prot_numa() makes of an entry. */
function hintAt(p: task_struct, page: number): void {
	const pte = pteOf(p.mm!, at(page))!;
	pte.value = pte_modify(pte.value, PAGE_NONE);
	run(flush_tlb_mm(p.mm!));
}

function isHint(p: task_struct, page: number): boolean {
	return pte_protnone(pteOf(p.mm!, at(page))!.value);
}

TEST_F(hint, 'access_gives_the_entry_its_protection_back', ({ p }) => {
	mapPages(p, 0, 2);
	for (let i = 0; i < 2; i++) userWrite64(p, at(i), BigInt(i + 5));
	const log = new InvalidationLog(p.mm!);
	hintAt(p, 0);
	hintAt(p, 1);
	const faults = p.min_flt;
	EXPECT_EQ(5n, userRead64(p, at(0)));
	// exclusive: writable again at once, so that the write needs no second fault
	EXPECT_STREQ('w', ptes(p.mm!, 0, 1));
	EXPECT_NULL(userWrite64(p, at(1), 8n));
	EXPECT_EQ(2n, p.min_flt - faults);
	EXPECT_FALSE(isHint(p, 0));
	EXPECT_FALSE(isHint(p, 1));
	EXPECT_TRUE(pte_young(pteOf(p.mm!, at(0))!.value));
	// nobody was told: whoever mirrors the page may go on
	EXPECT_STREQ('', log.take());
	log.remove();
});

TEST_F(hint, 'shared_page_stays_read_only', ({ p }) => {
	mapPages(p, 0, 1);
	userWrite64(p, at(0), 5n);
	const child = forkProcess(p) as task_struct;
	hintAt(p, 0);
	EXPECT_EQ(5n, userRead64(p, at(0)));
	EXPECT_STREQ('r', ptes(p.mm!, 0, 1));
	EXPECT_FALSE(isHint(p, 0));
	hintAt(p, 0);
	// hint first, then the copy
	const faults = p.min_flt;
	EXPECT_NULL(userWrite64(p, at(0), 6n));
	EXPECT_EQ(2n, p.min_flt - faults);
	EXPECT_EQ(5n, userRead64(child, at(0)));
	exitProcess(child);
});

TEST_F(hint, 'file_page_is_writable_as_its_mapping_says', ({ p }) => {
	mapPages(p, 0, 2, RW, MAP_SHARED);
	for (let i = 0; i < 2; i++) userWrite64(p, at(i), 1n);
	EXPECT_EQ(0, userMprotect(p, at(1), PAGE, PROT_READ));
	hintAt(p, 0);
	hintAt(p, 1);
	EXPECT_EQ(1n, userRead64(p, at(0)));
	EXPECT_EQ(1n, userRead64(p, at(1)));
	EXPECT_FALSE(isHint(p, 0));
	EXPECT_FALSE(isHint(p, 1));
	EXPECT_TRUE(pte_write(pteOf(p.mm!, at(0))!.value));
	EXPECT_FALSE(pte_write(pteOf(p.mm!, at(1))!.value));
});

/** Maps 2 MiB by one entry, every page of it holding 0 but page 7. */
function mapHuge(p: task_struct): void {
	mapPages(p, 0, HUGE);
	EXPECT_EQ(0, madvisePages(p, 0, HUGE, MADV_HUGEPAGE));
	EXPECT_NULL(userWrite64(p, at(7), 7n));
	EXPECT_STREQ('Twaxd*512', runs(p, 0, HUGE));
}

/** What change_prot_numa() makes of a huge entry. */
function hugeHint(p: task_struct): void {
	const pmd = pmdAt(p, 0);
	pmd.value = pmd_modify(pmd.value, PAGE_NONE);
	run(flush_tlb_mm(p.mm!));
}

TEST_F(huge, 'access_gives_the_huge_entry_its_protection_back', ({ p }) => {
	mapHuge(p);
	const log = new InvalidationLog(p.mm!);
	hugeHint(p);
	const faults = p.min_flt;
	EXPECT_EQ(7n, userRead64(p, at(7)));
	// exclusive: writable again at once
	EXPECT_NULL(userWrite64(p, at(8), 8n));
	EXPECT_EQ(1n, p.min_flt - faults);
	EXPECT_TRUE(pmd_young(pmdAt(p, 0).value));
	EXPECT_STREQ('Twaxd*512', runs(p, 0, HUGE));
	EXPECT_STREQ('', log.take());
	log.remove();
});

TEST_F(huge, 'shared_huge_page_stays_read_only', ({ p }) => {
	mapHuge(p);
	const child = forkProcess(p) as task_struct;
	hugeHint(p);
	EXPECT_EQ(7n, userRead64(p, at(7)));
	EXPECT_STREQ('Trad*512', runs(p, 0, HUGE));
	hugeHint(p);
	// hint first, then the split and the copy of one page
	EXPECT_NULL(userWrite64(p, at(7), 8n));
	EXPECT_EQ(7n, userRead64(child, at(7)));
	EXPECT_STREQ('rad*7 waxd rad*504', runs(p, 0, HUGE));
	exitProcess(child);
});

TEST_F(huge, 'split_does_not_hand_the_hint_on', ({ p }) => {
	mapHuge(p);
	hugeHint(p);
	run(__split_huge_pmd(vmaOf(p, 0), pmdAt(p, 0), at(0), false));
	EXPECT_FALSE(isHint(p, 7));
	const faults = p.min_flt;
	EXPECT_EQ(7n, userRead64(p, at(7)));
	EXPECT_EQ(0n, p.min_flt - faults);
});

TEST_F(huge, 'pages_are_gotten_by_a_hint_without_a_fault', ({ p }) => {
	mapHuge(p);
	hugeHint(p);
	const faults = p.min_flt;
	const pages: page[] = [];
	EXPECT_EQ(2, getUserPages(p, 7, 2, FOLL_GET, pages));
	EXPECT_EQ(0n, p.min_flt - faults);
	EXPECT_TRUE(pmd_protnone(pmdAt(p, 0).value));
	EXPECT_TRUE(page_folio(pages[0]!) === hugeFolioAt(p, 0));
	EXPECT_EQ(3, folio_ref_count(hugeFolioAt(p, 0)));
	for (const q of pages) run(put_page(q));
	// who wants to behave as an access is one
	EXPECT_EQ(-EFAULT, getUserPages(p, 7, 1, FOLL_HONOR_NUMA_FAULT | FOLL_NOFAULT));
	EXPECT_EQ(1, getUserPages(p, 7, 1, FOLL_HONOR_NUMA_FAULT));
	EXPECT_EQ(1n, p.min_flt - faults);
	EXPECT_FALSE(pmd_protnone(pmdAt(p, 0).value));
});

TEST_F(huge, 'gotten_to_be_written_marks_the_entry_and_not_the_folio', ({ p }) => {
	mapHuge(p);
	const pmd = pmdAt(p, 0);
	const f = hugeFolioAt(p, 0);
	f.flags &= ~PG_dirty;
	pmd.value = pmd_mkclean(pmd.value);
	EXPECT_EQ(1, getUserPages(p, 7, 1, 0));
	EXPECT_FALSE(pmd_dirty(pmd.value));
	EXPECT_EQ(1, getUserPages(p, 7, 1, FOLL_WRITE));
	EXPECT_TRUE(pmd_dirty(pmd.value));
	EXPECT_FALSE(folio_test_dirty(f));
});

TEST_F(huge, 'forced_write_goes_by_a_read_only_entry_that_is_the_process_s_own', ({ p }) => {
	mapHuge(p);
	EXPECT_EQ(0, userMprotect(p, at(0), BigInt(HUGE) * PAGE, PROT_READ));
	EXPECT_EQ(-EFAULT, getUserPages(p, 7, 1, FOLL_WRITE));
	const faults = p.min_flt;
	EXPECT_EQ(1, getUserPages(p, 7, 1, FOLL_WRITE | FOLL_FORCE));
	EXPECT_EQ(0n, p.min_flt - faults);
	EXPECT_FALSE(pmd_write(pmdAt(p, 0).value));
});

TEST_F(hint, 'page_is_gotten_by_a_hint_without_a_fault', ({ p }) => {
	mapPages(p, 0, 1);
	userWrite64(p, at(0), 5n);
	hintAt(p, 0);
	const faults = p.min_flt;
	const pages: page[] = [];
	EXPECT_EQ(1, getUserPages(p, 0, 1, FOLL_GET, pages));
	EXPECT_TRUE(pages[0] === pageAt(p, 0));
	run(put_page(pages[0]!));
	EXPECT_TRUE(isHint(p, 0));
	EXPECT_EQ(-EFAULT, getUserPages(p, 0, 1, FOLL_HONOR_NUMA_FAULT | FOLL_NOFAULT));
	EXPECT_EQ(0n, p.min_flt - faults);
	// writable is what the entry is to be: that it is not is a fault
	EXPECT_EQ(1, getUserPages(p, 0, 1, FOLL_WRITE));
	EXPECT_EQ(1n, p.min_flt - faults);
	EXPECT_FALSE(isHint(p, 0));
});

TEST_F(hint, 'fast_path_leaves_hints_to_the_slow_one', ({ p }) => {
	mapPages(p, 0, 1);
	userWrite64(p, at(0), 5n);
	hintAt(p, 0);
	const pages: page[] = [];
	EXPECT_EQ(1, run(get_user_pages_fast(at(0), 1n, 0, pages), { task: p }));
	EXPECT_TRUE(isHint(p, 0));
	run(put_page(pages[0]!));
});

TEST_F(hint, 'forced_read_goes_by_the_entries_of_an_inaccessible_mapping', ({ p }) => {
	mapPages(p, 0, 1);
	userWrite64(p, at(0), 5n);
	EXPECT_EQ(0, userMprotect(p, at(0), PAGE, PROT_NONE));
	EXPECT_EQ(-EFAULT, getUserPages(p, 0, 1, 0));
	const faults = p.min_flt;
	// no hint: a fault would never change the entry
	EXPECT_EQ(1, getUserPages(p, 0, 1, FOLL_FORCE | FOLL_HONOR_NUMA_FAULT));
	EXPECT_EQ(0n, p.min_flt - faults);
});

TEST_F(hint, 'forced_write_breaks_the_copy_and_leaves_it_read_only', ({ p }) => {
	mapPages(p, 0, 1);
	userWrite64(p, at(0), 5n);
	const child = forkProcess(p) as task_struct;
	EXPECT_EQ(0, userMprotect(p, at(0), PAGE, PROT_READ));
	EXPECT_EQ(1, getUserPages(p, 0, 1, FOLL_WRITE | FOLL_FORCE));
	EXPECT_STREQ('raxd', runs(p, 0, 1));
	EXPECT_STREQ('rad', runs(child, 0, 1));
	exitProcess(child);
	// what others share is never written to by force
	mapPages(p, 8, 1, PROT_READ, MAP_SHARED);
	EXPECT_EQ(-EFAULT, getUserPages(p, 8, 1, FOLL_WRITE | FOLL_FORCE));
	mapPages(p, 9, 1, PROT_READ, MAP_PRIVATE);
	EXPECT_EQ(1, getUserPages(p, 9, 1, FOLL_WRITE | FOLL_FORCE));
	EXPECT_STREQ('rax', runs(p, 9, 1));
});
