// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a page that was made exclusive to a device is nobody else's until a touch takes it back; what
 * cannot be made exclusive stays as it is. Method: pages of a process in each state are asked for,
 * with a notifier that writes events down and may interfere.
 */
import { EFAULT, EINTR, EOPNOTSUPP } from '../../include/linux/errno.ts';
import { MAP_SHARED, PROT_READ } from '../../include/linux/mm.ts';
import { type folio, type page, page_folio } from '../../include/linux/mm_types.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import { folio_ref_count, folio_test_locked, PG_locked } from '../../include/linux/page-flags.ts';
import { pte_wrprotect } from '../../include/linux/pgtable.ts';
import { SIGKILL, type task_struct } from '../../include/linux/sched.ts';
import {
	is_writable_device_exclusive_entry,
	softleaf_from_pte,
	softleaf_is_device_exclusive,
	softleaf_to_pfn,
} from '../../include/linux/swapops.ts';
import { type int, outParam } from '../../include/linux/types.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { run } from '../../kernel/sched/core.ts';
import { make_device_exclusive, make_device_exclusive_range } from '../../mm/device_exclusive.ts';
import { folio_unlock } from '../../mm/filemap.ts';
import { forkProcess } from '../../mm/fork.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import { folio_mapcount } from '../../mm/rmap.ts';
import { folio_put } from '../../mm/swap.ts';
import { exitProcess, userMprotect, userRead64, userWrite64 } from '../../mm/syscalls.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST_F,
} from '../kselftest_harness.ts';
import { at, dump, entryAt, folioAt, pageAt } from './entries.ts';
import { bootMm } from './mm_world.ts';
import { RELEASES, watchedProcessFixture } from './process_fixture.ts';
import { mapPages, PAGE, RW } from './small_machine.ts';

const exclusive = watchedProcessFixture('device_exclusive', {
	releases: RELEASES,
	boot: bootMm,
	ready: (p) => mapPages(p, 0, 8),
});

/** What a driver does with the pages: here it looks at them and lets them go. */
function* release(pages: readonly (page | null)[]): Sim<void> {
	for (const p of pages) {
		if (p === null) continue;
		const f = page_folio(p);
		EXPECT_TRUE(folio_test_locked(f));
		yield* folio_unlock(f);
		yield* folio_put(f);
	}
}

/** Page by page, as 7.3's drivers do; the first failure ends it. */
function* onePage(p: task_struct, first: int, n: int, pages: (page | null)[]): Sim<int> {
	for (let i = 0; i < n; i++) {
		const f = outParam<folio | null>(null);
		const got = yield* make_device_exclusive(p.mm!, at(first + i) + 5n, null, f);
		if (typeof got === 'number') return got;
		EXPECT_TRUE(f.value === page_folio(got));
		pages.push(got);
	}
	return n;
}

/** Makes pages exclusive as drivers of the release do. Returns what the last call said. */
function exclude(
	p: task_struct,
	first: int,
	n: int,
	profile: ProfileName,
	pages: (page | null)[] = [],
): int {
	return run(
		function* () {
			yield* mmap_read_lock(p.mm!);
			const ret =
				profile === 'v7.3'
					? yield* onePage(p, first, n, pages)
					: yield* make_device_exclusive_range(
							p.mm!,
							at(first),
							at(first + n),
							pages,
							null,
						);
			yield* release(pages);
			yield* mmap_read_unlock(p.mm!);
			return ret;
		},
		{ task: p },
	);
}

TEST_F(exclusive, 'pages_are_written_to_first_and_then_the_devices', ({ p, log }, { profile }) => {
	userWrite64(p, at(0), 7n);
	userRead64(p, at(1));
	const page = pageAt(p, 0);
	const pages: (page | null)[] = [];
	log.take();
	EXPECT_EQ(3, exclude(p, 0, 3, profile, pages));
	EXPECT_STREQ('X X X .', dump(p, 0, 4));
	EXPECT_TRUE(pages[0] === page);
	const entry = softleaf_from_pte(entryAt(p, 0).value);
	EXPECT_TRUE(is_writable_device_exclusive_entry(entry));
	EXPECT_EQ(page_to_pfn(page), softleaf_to_pfn(entry));
	// the zero page of page 1 goes by a CLEAR; 6.12 faults all before it converts any
	const events =
		profile === 'v7.3' ? '7 0-1, 1 1-2, 7 1-2, 7 2-3' : '1 1-2, 7 0-1, 7 1-2, 7 2-3';
	EXPECT_STREQ(events, log.take());
	EXPECT_EQ(profile === 'v7.3' ? 1 : 0, folio_mapcount(page_folio(page)));
	EXPECT_EQ(1, folio_ref_count(page_folio(page)));
	EXPECT_EQ(7n, userRead64(p, at(0)));
	EXPECT_STREQ(`${profile === 'v7.3' ? 1 : 7} 0-1`, log.take());
	EXPECT_STREQ('waxd X X .', dump(p, 0, 4));
	EXPECT_EQ(1, folio_mapcount(page_folio(page)));
});

TEST_F(exclusive, 'second_device_takes_the_page_from_the_first', ({ p, log }, { profile }) => {
	userWrite64(p, at(0), 7n);
	exclude(p, 0, 1, profile);
	log.take();
	EXPECT_EQ(1, exclude(p, 0, 1, profile));
	EXPECT_STREQ(`${profile === 'v7.3' ? 1 : 7} 0-1, 7 0-1`, log.take());
	EXPECT_STREQ('X', dump(p, 0, 1));
});

TEST_F(exclusive, 'pages_of_a_file_stay_the_cpus', ({ p }, { profile }) => {
	mapPages(p, 16, 2, RW, MAP_SHARED);
	const pages: (page | null)[] = [];
	const ret = exclude(p, 16, 2, profile, pages);
	// 6.12 says so page by page, and has faulted all of them
	EXPECT_EQ(profile === 'v7.3' ? -EOPNOTSUPP : 2, ret);
	EXPECT_EQ(0, pages.filter((page) => page !== null).length);
	EXPECT_STREQ(profile === 'v7.3' ? 'wfd .' : 'wfd wfd', dump(p, 16, 2));
	EXPECT_EQ(2, folio_ref_count(folioAt(p, 16)));
	EXPECT_FALSE(folio_test_locked(folioAt(p, 16)));
});

TEST_F(exclusive, 'mapping_that_must_not_be_written_is_refused', ({ p }, { profile }) => {
	userWrite64(p, at(1), 1n);
	userMprotect(p, at(1), PAGE, PROT_READ);
	EXPECT_EQ(profile === 'v7.3' ? -EFAULT : 1, exclude(p, 0, 2, profile));
	EXPECT_STREQ('X raxd', dump(p, 0, 2));
	EXPECT_EQ(-EFAULT, exclude(p, 1, 1, profile));
	EXPECT_EQ(-EFAULT, exclude(p, 8, 1, profile));
});

TEST_F(exclusive, 'page_shared_with_a_child_is_copied_first', ({ p }, { profile }) => {
	userWrite64(p, at(0), 7n);
	const child = forkProcess(p) as task_struct;
	EXPECT_EQ(1, exclude(p, 0, 1, profile));
	EXPECT_STREQ('X', dump(p, 0, 1));
	EXPECT_STREQ('rad', dump(child, 0, 1));
	EXPECT_EQ(7n, userRead64(child, at(0)));
	// a fork of an exclusive page gives it back to the CPU first
	exitProcess(child);
	const second = forkProcess(p) as task_struct;
	EXPECT_STREQ('rad', dump(p, 0, 1));
	EXPECT_STREQ('rad', dump(second, 0, 1));
	exitProcess(second);
});

TEST_F(exclusive, 'locked_page_is_passed_by_or_waited_for', ({ p }, { profile }) => {
	userWrite64(p, at(0), 7n);
	const f = folioAt(p, 0);
	f.flags |= PG_locked;
	if (profile === 'v6.12') {
		const pages: (page | null)[] = [];
		EXPECT_EQ(1, exclude(p, 0, 1, profile, pages));
		EXPECT_NULL(pages[0]);
	} else {
		// a fatal signal ends the wait; get_user_pages() itself looks at it first
		p.pending.add(SIGKILL);
		EXPECT_EQ(-EINTR, exclude(p, 0, 1, profile));
		p.pending.delete(SIGKILL);
	}
	EXPECT_STREQ('waxd', dump(p, 0, 1));
	EXPECT_EQ(1, folio_ref_count(f));
	f.flags &= ~PG_locked;
});

TEST_F(exclusive, 'unmapping_lets_the_page_go', ({ p }, { profile }) => {
	userWrite64(p, at(0), 7n);
	const page = pageAt(p, 0);
	exclude(p, 0, 1, profile);
	mapPages(p, 0, 8);
	EXPECT_EQ(0, page._refcount);
	EXPECT_EQ(-1, page._mapcount);
});

TEST_F(exclusive, 'entry_changed_by_a_notifier_is_not_taken_as_it_was', ({ p, log }, variant) => {
	userWrite64(p, at(0), 7n);
	let turns = 0;
	log.also = () => {
		const entry = entryAt(p, 0);
		// somebody write-protects the entry just before it is replaced
		if (turns++ === 0) entry.value = pte_wrprotect(entry.value);
	};
	const pages: (page | null)[] = [];
	EXPECT_EQ(1, exclude(p, 0, 1, variant.profile, pages));
	const entry = softleaf_from_pte(entryAt(p, 0).value);
	EXPECT_TRUE(softleaf_is_device_exclusive(entry));
	if (variant.profile === 'v6.12') {
		// no second turn: what it finds is converted, and is not the driver's
		EXPECT_STREQ('7 0-1', log.take());
		EXPECT_FALSE(is_writable_device_exclusive_entry(entry));
		EXPECT_NULL(pages[0]);
		return;
	}
	EXPECT_STREQ('7 0-1, 7 0-1', log.take());
	EXPECT_TRUE(is_writable_device_exclusive_entry(entry));
	EXPECT_EQ(1, pages.length);
});
