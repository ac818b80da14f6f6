// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: memory that went bad is taken from everybody who maps it, they are told, and it is never
 * handed out again. Method: MADV_HWPOISON on written pages, private, shared with a child and of a
 * file; then entries, signals and what the allocator has left.
 */
import { EBUSY, EFAULT, EHWPOISON, EOPNOTSUPP } from '../../include/linux/errno.ts';
import { MADV_DONTNEED, MAP_SHARED } from '../../include/linux/mm.ts';
import { PG_hwpoison } from '../../include/linux/page-flags.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { softleaf_from_pte, softleaf_is_hwpoison } from '../../include/linux/swapops.ts';
import { run } from '../../kernel/sched/core.ts';
import { forkProcess } from '../../mm/fork.ts';
import { MADV_HWPOISON, MADV_POPULATE_READ } from '../../mm/madvise.ts';
import { memory_failure } from '../../mm/memory-failure.ts';
import { get_page } from '../../mm/swap.ts';
import {
	exitProcess,
	userMadvise,
	userMunmap,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import { EXPECT_EQ, EXPECT_STREQ, EXPECT_TRUE, TEST_F } from '../kselftest_harness.ts';
import { pageAt } from './entries.ts';
import { processFixture } from './process_fixture.ts';
import {
	at,
	InvalidationLog,
	mapPages,
	mapWritten,
	PAGE,
	pteOf,
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
	// a part of a large folio: the advice goes on with the next page
	const compound = known.compound;
	known.compound = 3;
	EXPECT_EQ(0, poison(p, 0));
	known.compound = compound;
	get_page(known);
	known.compound = 3;
	EXPECT_EQ(-EOPNOTSUPP, run(memory_failure(known), { task: p }));
	known.compound = compound;
	EXPECT_EQ(1n, userRead64(p, at(0)));
});
