// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: what MADV_COLLAPSE makes huge, what it refuses and with which errno, and that a refusal leaves
 * all as it was. Method: pages written one by one in a VMA that may not be huge, then may; entries,
 * bytes and invalidations before and after, in both releases.
 */
import { EAGAIN, EINVAL, ENOMEM } from '../../include/linux/errno.ts';
import { MAP_SHARED, PROT_READ } from '../../include/linux/mm.ts';
import { MM_ANONPAGES } from '../../include/linux/mm_types.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import { run } from '../../kernel/sched/core.ts';
import { folio_lock, folio_unlock } from '../../mm/filemap.ts';
import { forkProcess } from '../../mm/fork.ts';
import { MADV_COLLAPSE, MADV_HUGEPAGE, MADV_NOHUGEPAGE } from '../../mm/madvise.ts';
import { folio_get, folio_put } from '../../mm/swap.ts';
import { exitProcess, userMprotect, userRead64, userWrite64 } from '../../mm/syscalls.ts';
import { EXPECT_EQ, EXPECT_STREQ, TEST_F } from '../kselftest_harness.ts';
import { at, folioAt, runs } from './entries.ts';
import { RELEASES, watchedProcessFixture } from './process_fixture.ts';
import { HUGE, madvisePages, mapPages, PAGE, RW } from './small_machine.ts';

const collapse = watchedProcessFixture('collapse', {
	releases: RELEASES,
	ready: (p) => mapPages(p, 0, 2 * HUGE),
});

function advise(p: task_struct, page: number, pages: number, behavior = MADV_COLLAPSE): number {
	return madvisePages(p, page, pages, behavior);
}

TEST_F(collapse, 'small_pages_become_a_huge_one_with_their_bytes', ({ p, log }) => {
	userWrite64(p, at(0), 1n);
	userWrite64(p, at(511), 2n);
	userRead64(p, at(3));
	log.take();
	// a VMA that never asked for huge pages will do
	EXPECT_EQ(0, advise(p, 0, HUGE));
	EXPECT_STREQ('1 0-512', log.take());
	EXPECT_STREQ('Twaxd*512 M*512', runs(p, 0, 2 * HUGE));
	EXPECT_EQ(1n, userRead64(p, at(0)));
	EXPECT_EQ(2n, userRead64(p, at(511)));
	EXPECT_EQ(0n, userRead64(p, at(3)));
	EXPECT_EQ(HUGE, p.mm!.rss_stat[MM_ANONPAGES]);
	// huge already
	EXPECT_EQ(0, advise(p, 0, HUGE));
	EXPECT_STREQ('', log.take());
});

TEST_F(collapse, 'parts_of_a_split_huge_page_come_together_again', ({ p }) => {
	advise(p, 0, HUGE, MADV_HUGEPAGE);
	userWrite64(p, at(7), 1n);
	userMprotect(p, at(0), 100n * PAGE, PROT_READ);
	userMprotect(p, at(0), 100n * PAGE, RW);
	EXPECT_STREQ('waxd*512', runs(p, 0, HUGE));
	EXPECT_EQ(0, advise(p, 0, HUGE));
	EXPECT_STREQ('Twaxd*512', runs(p, 0, HUGE));
	EXPECT_EQ(1n, userRead64(p, at(7)));
});

TEST_F(collapse, 'refuses_what_cannot_be_huge', ({ p }) => {
	// no anon_vma: never touched
	EXPECT_EQ(-EINVAL, advise(p, 0, HUGE));
	userWrite64(p, at(0), 1n);
	advise(p, 0, 2 * HUGE, MADV_NOHUGEPAGE);
	EXPECT_EQ(-EINVAL, advise(p, 0, HUGE));
	advise(p, 0, 2 * HUGE, MADV_HUGEPAGE);
	// not one whole huge page in the range: nothing to do
	EXPECT_EQ(0, advise(p, 1, HUGE));
	EXPECT_STREQ('waxd .*511', runs(p, 0, HUGE));
	mapPages(p, 4 * HUGE, HUGE, RW, MAP_SHARED);
	EXPECT_EQ(-EINVAL, advise(p, 4 * HUGE, HUGE));
});

TEST_F(collapse, 'untouched_memory_behind_is_tried_or_not', ({ p }, { profile }) => {
	userWrite64(p, at(HUGE), 1n);
	// the first part has no page table; 7.3 goes on behind it
	EXPECT_EQ(-EINVAL, advise(p, 0, 2 * HUGE));
	EXPECT_STREQ(
		profile === 'v7.3' ? 'M*512 Twaxd*512' : 'M*512 waxd .*511',
		runs(p, 0, 2 * HUGE),
	);
});

TEST_F(collapse, 'pages_that_are_all_read_only', ({ p }, { profile }) => {
	userWrite64(p, at(0), 1n);
	userMprotect(p, at(0), BigInt(2 * HUGE) * PAGE, PROT_READ);
	EXPECT_EQ(profile === 'v7.3' ? 0 : -EINVAL, advise(p, 0, HUGE));
	EXPECT_STREQ(profile === 'v7.3' ? 'Traxd*512' : 'raxd .*511', runs(p, 0, HUGE));
});

TEST_F(collapse, 'pinned_or_locked_page_is_EAGAIN', ({ p, log }) => {
	userWrite64(p, at(9), 1n);
	const f = folioAt(p, 9);
	folio_get(f);
	log.take();
	EXPECT_EQ(-EAGAIN, advise(p, 0, HUGE));
	EXPECT_STREQ('', log.take());
	run(folio_put(f));
	run(folio_lock(f));
	EXPECT_EQ(-EAGAIN, advise(p, 0, HUGE));
	run(folio_unlock(f));
	EXPECT_STREQ('.*9 waxd .*502', runs(p, 0, HUGE));
	EXPECT_EQ(0, advise(p, 0, HUGE));
});

TEST_F(collapse, 'no_memory_is_ENOMEM_and_nothing_changes', ({ p }) => {
	userWrite64(p, at(9), 1n);
	injectFaults().fail('alloc_charge_folio', 1);
	EXPECT_EQ(-ENOMEM, advise(p, 0, HUGE));
	EXPECT_STREQ('.*9 waxd .*502', runs(p, 0, HUGE));
});

TEST_F(collapse, 'shared_pages_are_copied_and_the_other_process_keeps_them', ({ p }) => {
	userWrite64(p, at(9), 1n);
	userWrite64(p, at(10), 1n);
	const child = forkProcess(p) as task_struct;
	userWrite64(p, at(10), 2n);
	EXPECT_EQ(0, advise(p, 0, HUGE));
	userWrite64(p, at(9), 3n);
	EXPECT_EQ(1n, userRead64(child, at(9)));
	EXPECT_EQ(1n, userRead64(child, at(10)));
	exitProcess(child);
});
