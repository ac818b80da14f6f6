// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: pages of hugetlb mappings are got and pinned as those of any other: faulted by the pool, counted
 * on the folio, copied for a child where a pin forbids to share. Method: mappings of a small pool, in
 * both releases; references, pins, entries and the pool are looked at.
 *
 *   ARENA             +2 MiB
 *   | huge page 0     | huge page 1     |
 *   0       7         512               1024      small pages
 */
import { EFAULT, EOPNOTSUPP } from '../../../include/linux/errno.ts';
import { default_hstate } from '../../../include/linux/hugetlb.ts';
import {
	FOLL_FORCE,
	FOLL_GET,
	FOLL_LONGTERM,
	FOLL_NOFAULT,
	FOLL_SPLIT_PMD,
	FOLL_WRITE,
	MAP_HUGETLB,
	MAP_PRIVATE,
	MAP_SHARED,
	PROT_READ,
} from '../../../include/linux/mm.ts';
import { type page, page_folio } from '../../../include/linux/mm_types.ts';
import { nth_page } from '../../../include/linux/mmzone.ts';
import { folio_ref_count, PageAnonExclusive } from '../../../include/linux/page-flags.ts';
import { pmd_none, pmd_write } from '../../../include/linux/pgtable.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import type { int } from '../../../include/linux/types.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { run } from '../../../kernel/sched/core.ts';
import { forkProcess } from '../../../mm/fork.ts';
import { get_user_pages_fast, pin_user_pages_fast } from '../../../mm/gup/fast.ts';
import { pin_user_pages, unpin_user_pages } from '../../../mm/gup/pin.ts';
import { setHugePages } from '../../../mm/hugetlb.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../../mm/mmap_lock.ts';
import { folio_maybe_dma_pinned } from '../../../mm/rmap.ts';
import { put_page } from '../../../mm/swap.ts';
import {
	exitProcess,
	userMprotect,
	userMunmap,
	userRead64,
	userWrite64,
} from '../../../mm/syscalls.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST_F,
} from '../../kselftest_harness.ts';
import { at, getUserPages, hugeFolioAt, pmdAt } from '../entries.ts';
import { bootMm } from '../mm_world.ts';
import { processFixture, RELEASES } from '../process_fixture.ts';
import { HUGE, mapPages, PAGE, RW } from '../small_machine.ts';

const BYTES = BigInt(HUGE) * PAGE;

const gup = processFixture('gup_hugetlb', {
	releases: RELEASES,
	boot: (profile) => {
		bootMm(profile);
		setHugePages(3);
	},
});

function map(p: task_struct, pages: int, kind = MAP_PRIVATE, prot = RW): void {
	mapPages(p, 0, pages * HUGE, prot, kind | MAP_HUGETLB);
}

/** Pins small pages of the process from one on. */
function pin(p: task_struct, first: int, n: int, flags: int): page[] {
	const pages: page[] = [];
	run(
		function* (): Sim<void> {
			yield* mmap_read_lock(p.mm!);
			const got = yield* pin_user_pages(at(first), BigInt(n), flags, pages);
			yield* mmap_read_unlock(p.mm!);
			EXPECT_EQ(n, got);
		},
		{ task: p },
	);
	return pages;
}

function unpin(pages: page[]): void {
	run(unpin_user_pages(pages, BigInt(pages.length)));
}

function freePages(): int {
	return default_hstate().free_huge_pages;
}

/** Writable, read-only or nothing at the entry of a huge page. */
function entry(p: task_struct, page: int): string {
	const { value } = pmdAt(p, page);
	if (pmd_none(value)) return '.';
	return pmd_write(value) ? 'w' : 'r';
}

TEST_F(gup, 'missing_page_is_faulted_from_the_pool', ({ p }) => {
	map(p, 2);
	EXPECT_EQ(-EFAULT, getUserPages(p, 7, 1, FOLL_NOFAULT));
	const pages: page[] = [];
	// across the boundary of two huge pages
	EXPECT_EQ(4, getUserPages(p, HUGE - 2, 4, FOLL_GET | FOLL_WRITE, pages));
	EXPECT_EQ(1, freePages());
	EXPECT_TRUE(pages[1] === nth_page(hugeFolioAt(p, 0).page, HUGE - 1));
	EXPECT_TRUE(pages[2] === hugeFolioAt(p, HUGE).page);
	// each page counts on the folio that it is of
	EXPECT_EQ(3, folio_ref_count(hugeFolioAt(p, 0)));
	EXPECT_EQ(3, folio_ref_count(hugeFolioAt(p, HUGE)));
	for (const q of pages) run(put_page(q));
	EXPECT_EQ(1, folio_ref_count(hugeFolioAt(p, 0)));
});

TEST_F(gup, 'read_only_entry_is_faulted_for_a_writer', ({ p }) => {
	map(p, 1);
	EXPECT_EQ(0n, userRead64(p, at(0)));
	EXPECT_STREQ('r', entry(p, 0));
	const before = p.min_flt;
	EXPECT_EQ(1, getUserPages(p, 3, 1, 0));
	EXPECT_EQ(0n, p.min_flt - before);
	EXPECT_EQ(1, getUserPages(p, 3, 1, FOLL_WRITE));
	EXPECT_EQ(1n, p.min_flt - before);
	EXPECT_STREQ('w', entry(p, 0));
	EXPECT_EQ(-EOPNOTSUPP, getUserPages(p, 3, 1, FOLL_SPLIT_PMD));
});

TEST_F(gup, 'pins_are_counted_and_outlive_the_mapping', ({ p }) => {
	map(p, 1);
	const pages = pin(p, 7, 2, FOLL_WRITE | FOLL_LONGTERM);
	const f = hugeFolioAt(p, 0);
	EXPECT_EQ(2, f._pincount);
	EXPECT_EQ(3, folio_ref_count(f));
	EXPECT_TRUE(folio_maybe_dma_pinned(f));
	EXPECT_EQ(0, userMunmap(p, at(0), BYTES));
	// not back in the pool while a device may write to it
	EXPECT_EQ(2, freePages());
	unpin(pages.splice(0, 1));
	EXPECT_EQ(1, f._pincount);
	EXPECT_EQ(2, freePages());
	unpin(pages);
	EXPECT_EQ(3, freePages());
});

TEST_F(gup, 'pool_without_a_page_is_EFAULT', ({ p }) => {
	map(p, 3);
	setHugePages(2);
	EXPECT_EQ(2 * HUGE, getUserPages(p, 0, 3 * HUGE, FOLL_WRITE));
	EXPECT_EQ(-EFAULT, getUserPages(p, 2 * HUGE, 1, FOLL_WRITE));
	setHugePages(3);
});

TEST_F(gup, 'pinned_page_is_copied_for_a_child_at_once', ({ p }) => {
	map(p, 1);
	EXPECT_NULL(userWrite64(p, at(7), 1n));
	const pages = pin(p, 7, 1, FOLL_WRITE | FOLL_LONGTERM);
	const child = forkProcess(p) as task_struct;
	// what the device writes is what the parent sees
	EXPECT_STREQ('w', entry(p, 0));
	EXPECT_TRUE(page_folio(pages[0]!) === hugeFolioAt(p, 0));
	EXPECT_FALSE(hugeFolioAt(child, 0) === hugeFolioAt(p, 0));
	EXPECT_NULL(userWrite64(p, at(7), 2n));
	EXPECT_EQ(1n, userRead64(child, at(7)));
	unpin(pages);
	exitProcess(child);
});

TEST_F(gup, 'reader_that_pins_a_shared_page_gets_a_copy_first', ({ p }) => {
	map(p, 1);
	EXPECT_NULL(userWrite64(p, at(7), 1n));
	const child = forkProcess(p) as task_struct;
	const shared = hugeFolioAt(p, 0);
	// a reference alone takes it as it is
	EXPECT_EQ(1, getUserPages(child, 7, 1, 0));
	EXPECT_TRUE(hugeFolioAt(child, 0) === shared);
	const pages = pin(child, 7, 1, 0);
	const copy = page_folio(pages[0]!);
	EXPECT_FALSE(copy === shared);
	EXPECT_TRUE(hugeFolioAt(child, 0) === copy);
	EXPECT_TRUE(PageAnonExclusive(copy.page));
	EXPECT_STREQ('r', entry(child, 0));
	unpin(pages);
	exitProcess(child);
});

TEST_F(gup, 'file_is_pinned_without_a_copy', ({ p }) => {
	map(p, 1, MAP_SHARED);
	const child = forkProcess(p) as task_struct;
	const pages = pin(p, 7, 1, FOLL_WRITE | FOLL_LONGTERM);
	EXPECT_NULL(userWrite64(child, at(7), 5n));
	EXPECT_TRUE(hugeFolioAt(child, 0) === page_folio(pages[0]!));
	unpin(pages);
	exitProcess(child);
});

TEST_F(gup, 'fast_path_takes_what_is_mapped', ({ p }) => {
	map(p, 2);
	EXPECT_NULL(userWrite64(p, at(7), 1n));
	const faults = p.min_flt;
	const pages: page[] = [];
	const flags = FOLL_WRITE | FOLL_LONGTERM;
	EXPECT_EQ(3, run(pin_user_pages_fast(at(7), 3n, flags, pages), { task: p }));
	EXPECT_EQ(0n, p.min_flt - faults);
	EXPECT_EQ(3, hugeFolioAt(p, 0)._pincount);
	unpin(pages);
	// the second huge page is not there yet: the slow path faults it
	const more: page[] = [];
	EXPECT_EQ(2, run(get_user_pages_fast(at(HUGE - 1), 2n, FOLL_WRITE, more), { task: p }));
	EXPECT_EQ(1n, p.min_flt - faults);
	for (const q of more) run(put_page(q));
});

TEST_F(gup, 'forced_write_reaches_a_read_only_mapping_in_7_3', ({ p }, { profile }) => {
	map(p, 1);
	EXPECT_NULL(userWrite64(p, at(7), 1n));
	const child = forkProcess(p) as task_struct;
	EXPECT_EQ(0, userMprotect(child, at(0), BYTES, PROT_READ));
	const flags = FOLL_WRITE | FOLL_FORCE;
	if (profile === 'v6.12') {
		EXPECT_EQ(-EFAULT, getUserPages(child, 7, 1, flags));
		EXPECT_TRUE(hugeFolioAt(child, 0) === hugeFolioAt(p, 0));
	} else {
		EXPECT_EQ(1, getUserPages(child, 7, 1, flags));
		EXPECT_FALSE(hugeFolioAt(child, 0) === hugeFolioAt(p, 0));
		EXPECT_STREQ('r', entry(child, 0));
	}
	exitProcess(child);
});

TEST_F(gup, 'many_references_are_no_pin', ({ p }) => {
	map(p, 1);
	EXPECT_NULL(userWrite64(p, at(7), 1n));
	const pages: page[] = [];
	for (let i = 0; i < 4; i++) {
		const some: page[] = [];
		EXPECT_EQ(HUGE, getUserPages(p, 0, HUGE, FOLL_GET, some));
		pages.push(...some);
	}
	const f = hugeFolioAt(p, 0);
	EXPECT_EQ(1 + 4 * HUGE, folio_ref_count(f));
	EXPECT_FALSE(folio_maybe_dma_pinned(f));
	const child = forkProcess(p) as task_struct;
	EXPECT_TRUE(hugeFolioAt(child, 0) === f);
	exitProcess(child);
	for (const q of pages) run(put_page(q));
});
