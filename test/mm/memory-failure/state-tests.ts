// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: what becomes of a bad page depends on what else knows it: the swap's copy is read again where
 * there is one, and nobody is told of what is not lost. Method: pages of a process in each state are
 * made bad in both releases; entries, signals, references and flags are looked at.
 */
import { Disk } from '../../../arch/sim/disk.ts';
import { EBUSY, EHWPOISON } from '../../../include/linux/errno.ts';
import { MADV_DONTNEED, MAP_PRIVATE, MAP_SHARED } from '../../../include/linux/mm.ts';
import { type page, page_folio } from '../../../include/linux/mm_types.ts';
import { nth_page, pfn_to_page } from '../../../include/linux/mmzone.ts';
import {
	folio_ref_count,
	folio_test_lru,
	folio_test_swapcache,
	folio_test_uptodate,
	PG_dirty,
	PG_hwpoison,
} from '../../../include/linux/page-flags.ts';
import { pmd_pfn } from '../../../include/linux/pgtable.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import { GFP_HIGHUSER_MOVABLE } from '../../../include/linux/types.ts';
import { run } from '../../../kernel/sched/core.ts';
import { forkProcess } from '../../../mm/fork.ts';
import { MADV_HUGEPAGE, MADV_HWPOISON, MADV_PAGEOUT } from '../../../mm/madvise.ts';
import { memory_failure } from '../../../mm/memory-failure.ts';
import { alloc_page } from '../../../mm/page_alloc.ts';
import { folio_get, folio_isolate_lru, folio_put, get_page } from '../../../mm/swap.ts';
import { swapOn } from '../../../mm/swapfile.ts';
import { exitProcess, userMunmap, userRead64, userWrite64 } from '../../../mm/syscalls.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST_F,
} from '../../kselftest_harness.ts';
import { at, pageAt, pmdAt, runs } from '../entries.ts';
import { processFixture, RELEASES } from '../process_fixture.ts';
import { HUGE, madvisePages, mapPages, mapWritten, PAGE, signalText } from '../small_machine.ts';

const state = processFixture('memory_failure_state', { releases: RELEASES });

function poison(p: task_struct, index: number): number {
	return madvisePages(p, index, 1, MADV_HWPOISON);
}

/** memory_failure() as the machine check of a task, with a reference of its own. */
function machineCheck(p: task_struct, bad: page): number {
	get_page(bad);
	return run(memory_failure(bad), { task: p });
}

/** How many signals the process got since the last call. */
function signals(p: task_struct): number {
	return p.siginfo.splice(0).length;
}

/** A written page that is in the swap cache and mapped read-only, its copy on the disk. */
function mapSwapcached(p: task_struct, value: bigint): void {
	EXPECT_EQ(0, swapOn(new Disk(16)));
	mapPages(p, 0, 1);
	EXPECT_NULL(userWrite64(p, at(0), value));
	EXPECT_EQ(0, madvisePages(p, 0, 1, MADV_PAGEOUT));
	EXPECT_EQ(value, userRead64(p, at(0)));
	EXPECT_TRUE(folio_test_swapcache(page_folio(pageAt(p, 0))));
}

TEST_F(state, 'clean_page_of_the_swap_cache_is_read_again', ({ p }) => {
	mapSwapcached(p, 5n);
	const bad = pageAt(p, 0);
	EXPECT_EQ(0, poison(p, 0));
	EXPECT_EQ(0, signals(p));
	EXPECT_STREQ('s', runs(p, 0, 1));
	EXPECT_FALSE(folio_test_swapcache(page_folio(bad)));
	EXPECT_FALSE(folio_test_lru(page_folio(bad)));
	EXPECT_EQ(1, bad._refcount);
	// the disk has it
	EXPECT_EQ(5n, userRead64(p, at(0)));
	EXPECT_TRUE(pageAt(p, 0) !== bad);
});

TEST_F(state, 'dirty_page_of_the_swap_cache_is_lost_for_who_swaps_it_in', ({ p }) => {
	mapSwapcached(p, 5n);
	const bad = pageAt(p, 0);
	bad.flags |= PG_dirty;
	EXPECT_EQ(0, poison(p, 0));
	EXPECT_EQ(1, signals(p));
	EXPECT_STREQ('s', runs(p, 0, 1));
	const f = page_folio(bad);
	EXPECT_TRUE(folio_test_swapcache(f));
	EXPECT_FALSE(folio_test_uptodate(f));
	EXPECT_FALSE(folio_test_lru(f));
	// not the older bytes of the disk
	EXPECT_STREQ('sig 7 code 4', signalText(userRead64(p, at(0))));
	EXPECT_EQ(0, userMunmap(p, at(0), PAGE));
});

TEST_F(state, 'page_that_somebody_else_uses_is_EBUSY_though_nobody_maps_it', ({ p }) => {
	mapSwapcached(p, 5n);
	const f = page_folio(pageAt(p, 0));
	folio_get(f);
	EXPECT_EQ(-EBUSY, poison(p, 0));
	EXPECT_STREQ('s', runs(p, 0, 1));
	run(folio_put(f));
	EXPECT_EQ(5n, userRead64(p, at(0)));
	// the same of shared memory
	mapWritten(p, 8, 1, MAP_SHARED);
	const g = page_folio(pageAt(p, 8));
	folio_get(g);
	EXPECT_EQ(-EBUSY, poison(p, 8));
	EXPECT_STREQ('sig 7 code 4', signalText(userRead64(p, at(8))));
	run(folio_put(g));
});

TEST_F(state, 'anonymous_page_is_out_of_use_whoever_has_a_reference', ({ p }) => {
	mapWritten(p, 0, 1, MAP_PRIVATE);
	const f = page_folio(pageAt(p, 0));
	folio_get(f);
	EXPECT_EQ(0, poison(p, 0));
	EXPECT_EQ(1, signals(p));
	run(folio_put(f));
	EXPECT_EQ(1, folio_ref_count(f));
});

TEST_F(state, 'page_of_no_lru_is_EBUSY', ({ p }, { profile }) => {
	mapWritten(p, 0, 1, MAP_PRIVATE);
	const bad = pageAt(p, 0);
	EXPECT_TRUE(folio_isolate_lru(page_folio(bad)));
	EXPECT_EQ(-EBUSY, machineCheck(p, bad));
	EXPECT_EQ(0, signals(p));
	EXPECT_TRUE((bad.flags & PG_hwpoison) !== 0);
	EXPECT_STREQ('waxd', runs(p, 0, 1));
	// entry and isolation; the caller's reference stays in the release that does not look first
	EXPECT_EQ(profile === 'v6.12' ? 3 : 2, bad._refcount);
	// known by now: the signal says what the entry leads to
	EXPECT_EQ(-EHWPOISON, machineCheck(p, bad));
	EXPECT_EQ(1, signals(p));
	for (let left = bad._refcount; left > 1; left--) run(folio_put(page_folio(bad)));
});

TEST_F(state, 'kernel_page_is_EBUSY_and_the_zero_page_stays', ({ p }, { profile }) => {
	const mine = run(alloc_page(GFP_HIGHUSER_MOVABLE)) as page;
	EXPECT_EQ(-EBUSY, machineCheck(p, mine));
	EXPECT_EQ(profile === 'v6.12' ? 2 : 1, mine._refcount);
	mapPages(p, 0, 1);
	EXPECT_EQ(0n, userRead64(p, at(0)));
	EXPECT_EQ(-EBUSY, poison(p, 0));
	EXPECT_EQ(-EHWPOISON, poison(p, 0));
	EXPECT_EQ(1, signals(p));
	EXPECT_EQ(0n, userRead64(p, at(0)));
});

TEST_F(state, 'only_a_task_that_maps_the_page_is_told', ({ p }) => {
	mapWritten(p, 0, 2, MAP_PRIVATE);
	const bad = pageAt(p, 0);
	const other = forkProcess(p) as task_struct;
	EXPECT_EQ(0, userMunmap(other, at(0), PAGE));
	EXPECT_EQ(0, machineCheck(other, bad));
	EXPECT_EQ(0, signals(other));
	EXPECT_EQ(0, signals(p));
	// once more: nothing to be told where it is not mapped
	EXPECT_EQ(0, machineCheck(other, bad));
	EXPECT_EQ(0, signals(other));
	EXPECT_EQ(-EHWPOISON, machineCheck(p, bad));
	EXPECT_EQ(1, signals(p));
	exitProcess(other);
});

TEST_F(state, 'file_page_is_told_to_who_covers_it_though_he_never_touched_it', ({ p }) => {
	mapWritten(p, 0, 4, MAP_SHARED);
	const other = forkProcess(p) as task_struct;
	// what fork() leaves to faults: no entry of the file is there
	EXPECT_STREQ('P*4', runs(other, 0, 4));
	EXPECT_EQ(0, machineCheck(other, pageAt(p, 1)));
	EXPECT_EQ(1, signals(other));
	EXPECT_EQ(0, signals(p));
	// not if his mapping covers other pages of the file only
	EXPECT_EQ(0, userMunmap(other, at(2), 2n * PAGE));
	EXPECT_EQ(0, machineCheck(other, pageAt(p, 2)));
	EXPECT_EQ(0, signals(other));
	exitProcess(other);
});

TEST_F(state, 'anonymous_page_of_a_huge_one_counts_by_itself', ({ p }) => {
	mapPages(p, 512, HUGE);
	EXPECT_EQ(0, madvisePages(p, 512, HUGE, MADV_HUGEPAGE));
	EXPECT_NULL(userWrite64(p, at(512), 1n));
	const other = forkProcess(p) as task_struct;
	EXPECT_EQ(0, madvisePages(other, 519, 1, MADV_DONTNEED));
	EXPECT_EQ(0, userMunmap(other, at(522), PAGE));
	const first = pfn_to_page(pmd_pfn(pmdAt(p, 512).value));
	// it cannot be split: whoever maps the bad page is told, and nothing is unmapped
	const pinned = page_folio(first);
	folio_get(pinned);
	for (const index of [7, 10]) {
		EXPECT_EQ(-EHWPOISON, machineCheck(other, nth_page(first, index)));
		EXPECT_EQ(0, signals(other));
	}
	EXPECT_EQ(-EHWPOISON, machineCheck(other, nth_page(first, 8)));
	EXPECT_EQ(1, signals(other));
	EXPECT_EQ(-EHWPOISON, machineCheck(p, nth_page(first, 9)));
	EXPECT_EQ(1, signals(p));
	run(folio_put(pinned));
	exitProcess(other);
});
