// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: what MADV_COLLAPSE makes huge, what it refuses and with which errno, and that a refusal leaves
 * all as it was. Method: pages written one by one in a VMA that may not be huge, then may; entries,
 * bytes and invalidations before and after, in both releases.
 */

import { Disk } from '../../arch/sim/disk.ts';
import { EAGAIN, EBUSY, EINVAL, ENOMEM } from '../../include/linux/errno.ts';
import { MADV_DONTNEED, MAP_SHARED, PROT_READ } from '../../include/linux/mm.ts';
import { MM_ANONPAGES } from '../../include/linux/mm_types.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import type { u64 } from '../../include/linux/types.ts';
import type { userfaultfd_ctx } from '../../include/linux/userfaultfd_k.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import {
	UFFD_FEATURE_WP_UNPOPULATED,
	UFFDIO_REGISTER_MODE_MISSING,
	UFFDIO_REGISTER_MODE_WP,
} from '../../include/uapi/linux/userfaultfd.ts';
import { run, spawn, stepThread } from '../../kernel/sched/core.ts';
import { folio_lock, folio_unlock } from '../../mm/filemap.ts';
import { forkProcess } from '../../mm/fork.ts';
import {
	do_madvise,
	MADV_COLLAPSE,
	MADV_HUGEPAGE,
	MADV_NOHUGEPAGE,
	MADV_PAGEOUT,
} from '../../mm/madvise.ts';
import { folio_get, folio_put } from '../../mm/swap.ts';
import { swapOn } from '../../mm/swapfile.ts';
import {
	exitProcess,
	userMadvise,
	userMprotect,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import {
	new_userfaultfd,
	userfaultfd_register,
	userfaultfd_release,
	userfaultfd_writeprotect,
} from '../../mm/userfaultfd.ts';
import { EXPECT_EQ, EXPECT_STREQ, TEST_F } from '../kselftest_harness.ts';
import { at, entryAt, folioAt, runs, vmaOf } from './entries.ts';
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

function uffd(p: task_struct, mode: u64, features: u64 = 0n): userfaultfd_ctx {
	const opts = { mm: p.mm };
	const open = function* (): Sim<userfaultfd_ctx | number> {
		return new_userfaultfd(features);
	};
	const ctx = run(open, opts) as userfaultfd_ctx;
	const len = BigInt(2 * HUGE) * PAGE;
	EXPECT_EQ(
		0,
		run(() => userfaultfd_register(ctx, at(0), len, mode), opts),
	);
	return ctx;
}

function fill(p: task_struct): void {
	for (let i = 0; i < 2 * HUGE; i++) userWrite64(p, at(i), BigInt(i));
}

TEST_F(collapse, 'what_userfaultfd_protects_is_refused', ({ p, log }) => {
	fill(p);
	const ctx = uffd(p, UFFDIO_REGISTER_MODE_WP);
	const protect = (on: boolean) =>
		run(() => userfaultfd_writeprotect(ctx, at(7), PAGE, on), { mm: p.mm });
	EXPECT_EQ(0, protect(true));
	log.take();
	EXPECT_EQ(-EINVAL, advise(p, 0, HUGE));
	EXPECT_STREQ('waxd*7 raxd waxd*504', runs(p, 0, HUGE));
	// the rest of the range is tried all the same
	EXPECT_EQ(-EINVAL, advise(p, 0, 2 * HUGE));
	EXPECT_STREQ('Twaxd*512', runs(p, HUGE, HUGE));
	EXPECT_EQ(0, protect(false));
	EXPECT_EQ(0, advise(p, 0, HUGE));
	EXPECT_STREQ('Twaxd*512', runs(p, 0, HUGE));
	run(() => userfaultfd_release(ctx), { mm: p.mm });
});

TEST_F(collapse, 'hole_that_userfaultfd_watches_is_EBUSY', ({ p }) => {
	fill(p);
	const ctx = uffd(p, UFFDIO_REGISTER_MODE_MISSING);
	userMadvise(p, at(7), PAGE, MADV_DONTNEED);
	EXPECT_EQ(-EBUSY, advise(p, 0, 2 * HUGE));
	// and it ends there
	EXPECT_STREQ('waxd*7 . waxd*1016', runs(p, 0, 2 * HUGE));
	run(() => userfaultfd_release(ctx), { mm: p.mm });
	EXPECT_EQ(0, advise(p, 0, 2 * HUGE));
	EXPECT_STREQ('Twaxd*1024', runs(p, 0, 2 * HUGE));
});

TEST_F(collapse, 'swapped_and_unpopulated_pages_that_are_protected_are_refused', ({ p }) => {
	EXPECT_EQ(0, swapOn(new Disk(64)));
	fill(p);
	const ctx = uffd(p, UFFDIO_REGISTER_MODE_WP, UFFD_FEATURE_WP_UNPOPULATED);
	const protect = (page: number, on: boolean) =>
		run(() => userfaultfd_writeprotect(ctx, at(page), PAGE, on), { mm: p.mm });
	EXPECT_EQ(0, protect(3, true));
	EXPECT_EQ(0, userMadvise(p, at(3), PAGE, MADV_PAGEOUT));
	EXPECT_STREQ('waxd*3 s waxd*508', runs(p, 0, HUGE));
	EXPECT_EQ(-EINVAL, advise(p, 0, HUGE));
	EXPECT_STREQ('waxd*3 s waxd*508', runs(p, 0, HUGE));
	EXPECT_EQ(0, protect(3, false));
	userMadvise(p, at(5), PAGE, MADV_DONTNEED);
	EXPECT_EQ(0, protect(5, true));
	EXPECT_EQ(-EINVAL, advise(p, 0, HUGE));
	EXPECT_STREQ('waxd*3 s waxd k waxd*506', runs(p, 0, HUGE));
	run(() => userfaultfd_release(ctx), { mm: p.mm });
	EXPECT_EQ(0, advise(p, 0, HUGE));
	EXPECT_EQ(3n, userRead64(p, at(3)));
	EXPECT_EQ(0n, userRead64(p, at(5)));
});

TEST_F(collapse, 'rmap_is_free_again_when_pages_are_isolated', ({ p }) => {
	fill(p);
	const table = entryAt(p, 0).table;
	const { rwsem } = vmaOf(p, 0).anon_vma!.root;
	const task = spawn(
		'collapse',
		() => do_madvise(p.mm!, at(0), BigInt(HUGE) * PAGE, MADV_COLLAPSE),
		{
			mm: p.mm,
			cpu: 0,
		},
	);
	const full: boolean[] = [];
	while (stepThread(task)) {
		const { access, object } = task.point!;
		if (access === 'release' && object === rwsem) full.push(table.u64[0] !== 0n);
	}
	EXPECT_STREQ('true', full.join());
	EXPECT_STREQ('Twaxd*512', runs(p, 0, HUGE));
});
