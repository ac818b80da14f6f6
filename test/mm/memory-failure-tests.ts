// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: memory that went bad is taken from everybody who maps it, they are told, and it is never
 * handed out again. Method: MADV_HWPOISON on written pages, private, shared with a child and of a
 * file; then entries, signals and what the allocator has left.
 */

import { EBUSY, EFAULT, EHWPOISON } from '../../include/linux/errno.ts';
import {
	MADV_DONTNEED,
	MAP_ANONYMOUS,
	MAP_HUGETLB,
	MAP_PRIVATE,
	MAP_SHARED,
} from '../../include/linux/mm.ts';
import { page_folio } from '../../include/linux/mm_types.ts';
import { page_to_pfn, pfn_to_page } from '../../include/linux/mmzone.ts';
import { PG_hwpoison } from '../../include/linux/page-flags.ts';
import { pmd_pfn } from '../../include/linux/pgtable.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { softleaf_from_pte, softleaf_is_hwpoison } from '../../include/linux/swapops.ts';
import { run } from '../../kernel/sched/core.ts';
import { forkProcess } from '../../mm/fork.ts';
import { setHugePages } from '../../mm/hugetlb.ts';
import { MADV_HUGEPAGE, MADV_HWPOISON, MADV_POPULATE_READ } from '../../mm/madvise.ts';
import { memory_failure } from '../../mm/memory-failure.ts';
import { sys_mlock } from '../../mm/mlock.ts';
import { vm_mmap_pgoff } from '../../mm/mmap.ts';
import { theZone } from '../../mm/page_alloc.ts';
import { mm_find_pmd } from '../../mm/pgtable.ts';
import { folio_get, folio_put, get_page } from '../../mm/swap.ts';
import {
	exitProcess,
	userMadvise,
	userMmap,
	userMunmap,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST_F,
} from '../kselftest_harness.ts';
import { pageAt, runs } from './entries.ts';
import { processFixture } from './process_fixture.ts';
import {
	at,
	InvalidationLog,
	mapPages,
	mapWritten,
	PAGE,
	pteOf,
	RW,
	signalText,
} from './small_machine.ts';

const failure = processFixture('memory_failure');

function poison(p: task_struct, index: number): number {
	return userMadvise(p, at(index), PAGE, MADV_HWPOISON);
}

function isPoisoned(p: task_struct, index: number): boolean {
	return softleaf_is_hwpoison(softleaf_from_pte(pteOf(p.mm!, at(index))!.value));
}

TEST_F(failure, 'touch_of_bad_memory_is_a_bus_error', ({ p }) => {
	mapWritten(p, 0, 3);
	const bad = pageAt(p, 1);
	const log = new InvalidationLog(p.mm!);
	EXPECT_EQ(0, poison(p, 1));
	EXPECT_STREQ('1 1-2', log.take());
	EXPECT_TRUE(isPoisoned(p, 1));
	EXPECT_STREQ('{"sig":7,"code":4}', JSON.stringify(p.siginfo.shift()));
	EXPECT_STREQ('sig 7 code 4', signalText(userRead64(p, at(1))));
	EXPECT_EQ(3n, userRead64(p, at(2)));
	EXPECT_EQ(-EFAULT, poison(p, 1));
	EXPECT_EQ(-EHWPOISON, userMadvise(p, at(1), PAGE, MADV_POPULATE_READ));
	// new memory, and never the bad one
	EXPECT_EQ(0, userMadvise(p, at(1), PAGE, MADV_DONTNEED));
	EXPECT_EQ(0n, userRead64(p, at(1)));
	EXPECT_EQ(1, bad._refcount);
	log.remove();
});

TEST_F(failure, 'everybody_who_maps_it_loses_it', ({ p }) => {
	mapWritten(p, 0, 2);
	const child = forkProcess(p) as task_struct;
	EXPECT_EQ(0, poison(p, 0));
	EXPECT_TRUE(isPoisoned(p, 0) && isPoisoned(child, 0));
	EXPECT_STREQ('sig 7 code 4', signalText(userRead64(child, at(0))));
	EXPECT_EQ(0, child.siginfo.length);
	exitProcess(child);
});

TEST_F(failure, 'bad_page_of_a_file_stays_in_its_cache', ({ p }) => {
	mapWritten(p, 0, 2, MAP_SHARED);
	const bad = pageAt(p, 1);
	EXPECT_EQ(0, poison(p, 1));
	// the entry goes, the page cache still knows
	EXPECT_EQ(0, userMadvise(p, at(1), PAGE, MADV_DONTNEED));
	EXPECT_STREQ('sig 7 code 4', signalText(userRead64(p, at(1))));
	const child = forkProcess(p) as task_struct;
	EXPECT_STREQ('sig 7 code 4', signalText(userWrite64(child, at(1), 1n)));
	exitProcess(child);
	EXPECT_EQ(0, userMunmap(p, at(0), 2n * PAGE));
	EXPECT_EQ(1, bad._refcount);
});

TEST_F(failure, 'what_cannot_be_taken_out_of_use_is_refused', ({ p }) => {
	mapPages(p, 0, 1);
	userRead64(p, at(0));
	// the zero page
	EXPECT_EQ(-EBUSY, poison(p, 0));
	EXPECT_EQ(0n, userRead64(p, at(0)));
	userWrite64(p, at(0), 1n);
	const known = pageAt(p, 0);
	known.flags |= PG_hwpoison;
	get_page(known);
	EXPECT_EQ(-EHWPOISON, run(memory_failure(known), { task: p }));
	known.flags &= ~PG_hwpoison;
	EXPECT_EQ(1, known._refcount);
	EXPECT_EQ(1n, userRead64(p, at(0)));
});

/** A huge page of the process at page 512, with the number of each page in it. */
function mapHuge(p: task_struct): void {
	userMmap(p, at(512), 512n * PAGE, RW, MAP_PRIVATE);
	userMadvise(p, at(512), 512n * PAGE, MADV_HUGEPAGE);
	for (let i = 512; i < 1024; i++) userWrite64(p, at(i), BigInt(i));
	EXPECT_STREQ('Twaxd*512', runs(p, 512, 512));
}

TEST_F(failure, 'bad_page_of_a_huge_one_is_split_out', ({ p }) => {
	mapHuge(p);
	EXPECT_EQ(0, poison(p, 519));
	EXPECT_TRUE(isPoisoned(p, 519));
	EXPECT_STREQ('{"sig":7,"code":4}', JSON.stringify(p.siginfo.shift()));
	EXPECT_STREQ('sig 7 code 4', signalText(userRead64(p, at(519))));
	for (const i of [512, 518, 520, 1023]) {
		EXPECT_EQ(BigInt(i), userRead64(p, at(i)));
		EXPECT_EQ(1, pageAt(p, i)._refcount);
	}
});

TEST_F(failure, 'advice_for_a_huge_page_makes_one_page_of_it_bad', ({ p }) => {
	mapHuge(p);
	mapWritten(p, 1024, 2);
	// the next step is as long as the page that was met: beyond the huge one, and in the small ones
	EXPECT_EQ(0, userMadvise(p, at(512), 514n * PAGE, MADV_HWPOISON));
	const bad = Array.from({ length: 514 }, (_, i) => 512 + i).filter((i) => isPoisoned(p, i));
	EXPECT_STREQ('512 1024 1025', bad.join(' '));
	// a standard signal is pending once, however often it was sent
	EXPECT_STREQ('[{"sig":7,"code":4}]', JSON.stringify(p.siginfo));
	EXPECT_EQ(513n, userRead64(p, at(513)));
});

TEST_F(failure, 'huge_page_that_cannot_be_split_is_EHWPOISON_and_told', ({ p }) => {
	mapHuge(p);
	const first = pfn_to_page(pmd_pfn(mm_find_pmd(p.mm!, at(512))!.value));
	const pinned = page_folio(first);
	folio_get(pinned);
	EXPECT_EQ(-EHWPOISON, poison(p, 519));
	EXPECT_STREQ('Twaxd*512', runs(p, 512, 512));
	EXPECT_STREQ('{"sig":7,"code":4}', JSON.stringify(p.siginfo.shift()));
	EXPECT_EQ(519n, userRead64(p, at(519)));
	// it is bad all the same, and not handed out again when the others are
	run(folio_put(pinned));
	const bad = pfn_to_page(page_to_pfn(first) + 7n);
	userMunmap(p, at(512), 512n * PAGE);
	EXPECT_TRUE((bad.flags & PG_hwpoison) !== 0);
	const pfn = Number(page_to_pfn(bad));
	for (const [order, blocks] of theZone().free_area.entries())
		for (const block of blocks)
			EXPECT_FALSE(block <= pfn && pfn < block + (1 << order));
});

TEST_F(failure, 'mlock_does_not_keep_a_bad_page_mapped', ({ p }) => {
	mapWritten(p, 0, 2, MAP_PRIVATE);
	EXPECT_EQ(
		0,
		run(() => sys_mlock(at(0), 2n * PAGE), { task: p }),
	);
	EXPECT_EQ(0, poison(p, 0));
	EXPECT_TRUE(isPoisoned(p, 0));
});

TEST_F(failure, 'hugetlb_is_refused', ({ p }) => {
	setHugePages(1);
	const how = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
	const va = run(() => vm_mmap_pgoff(null, 0n, 512n * PAGE, RW, how, 0n), { task: p });
	userWrite64(p, va as bigint, 1n);
	EXPECT_EQ(-EBUSY, userMadvise(p, va as bigint, PAGE, MADV_HWPOISON));
	EXPECT_EQ(1n, userRead64(p, va as bigint));
});
