// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a hugetlb mapping finds the pages that it was promised, shares them by the rules of private and
 * shared mappings, and gives them back to the pool. Method: mappings of a small pool, touched, forked,
 * protected, moved and unmapped; entries, counters of the pool and invalidations are looked at.
 */

import type { Machine } from '../../arch/sim/machine.ts';
import { EINVAL, ENOMEM } from '../../include/linux/errno.ts';
import {
	default_hstate,
	HPAGE_RESV_UNMAPPED,
	is_vma_resv_set,
} from '../../include/linux/hugetlb.ts';
import {
	FOLL_GET,
	FOLL_PIN,
	FOLL_WRITE,
	MADV_DONTNEED,
	MAP_HUGETLB,
	MAP_PRIVATE,
	MAP_SHARED,
	PROT_NONE,
	PROT_READ,
} from '../../include/linux/mm.ts';
import type { page } from '../../include/linux/mm_types.ts';
import { mmu_notifier } from '../../include/linux/mmu_notifier.ts';
import { folio_ref_count, folio_test_hugetlb, PG_locked } from '../../include/linux/page-flags.ts';
import { pmd_leaf, pmd_none, pmd_write, pte_dirty } from '../../include/linux/pgtable.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import type { int } from '../../include/linux/types.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';
import { rwsem_is_locked } from '../../kernel/locking/rwsem.ts';
import { run, runThreads, spawn } from '../../kernel/sched/core.ts';
import { randomStrategy } from '../../kernel/sched/strategy.ts';
import { forkProcess } from '../../mm/fork.ts';
import { gup_put_folio, try_grab_folio } from '../../mm/gup/grab.ts';
import { hugetlbMapcount } from '../../mm/hugetlb/rmap.ts';
import { setHugePages } from '../../mm/hugetlb.ts';
import { mmu_notifier_register, mmu_notifier_unregister } from '../../mm/mmu_notifier.ts';
import { put_page } from '../../mm/swap.ts';
import {
	createProcess,
	exitProcess,
	loadUser64,
	storeUser64,
	userMadvise,
	userMmap,
	userMprotect,
	userMremap,
	userMunmap,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../kselftest_harness.ts';
import { at, getUserPages, hugeFolioAt, pmdAt, vmaOf } from './entries.ts';
import { bootMm, TestDevice, toDevice } from './mm_world.ts';
import { InvalidationLog, mapPages, PAGE, RW, signalText, vmaList } from './small_machine.ts';

const HUGE = 512n * PAGE;
const PRIVATE = MAP_PRIVATE | MAP_HUGETLB;
const SHARED = MAP_SHARED | MAP_HUGETLB;

interface Self {
	p: task_struct;
}

const huge = FIXTURE<Self, { profile: ProfileName }>(
	'hugetlb',
	() => ({ p: null as unknown as task_struct }),
	FIXTURE_VARIANT<{ profile: ProfileName }>({ profile: 'v7.3' }),
);
FIXTURE_VARIANT_ADD(huge, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(huge, 'v7_3', { profile: 'v7.3' });

FIXTURE_SETUP(huge, (self, { profile }) => {
	bootMm(profile);
	setHugePages(4);
	self.p = createProcess('huge');
});

FIXTURE_TEARDOWN(huge, ({ p }) => {
	if (p.mm !== null) exitProcess(p);
	// everything is back in the pool
	EXPECT_STREQ('4 free 0 promised', pool());
});

function pool(): string {
	const h = default_hstate();
	return `${h.free_huge_pages} free ${h.resv_huge_pages} promised`;
}

/** Maps huge pages at the arena; the address or -errno. */
function map(p: task_struct, pages: int, flags: int, prot = RW, first = 0): bigint | int {
	return userMmap(p, at(512 * first), BigInt(pages) * HUGE, prot, flags);
}

/** `.` empty, else r or w, d for dirty; one word a huge page. */
function dump(p: task_struct, count: int): string {
	return Array.from({ length: count }, (_, i) => {
		const { value } = pmdAt(p, 512 * i);
		if (pmd_none(value)) return '.';
		EXPECT_TRUE(pmd_leaf(value));
		return (pmd_write(value) ? 'w' : 'r') + (pte_dirty(value as bigint) ? 'd' : '');
	}).join(' ');
}

TEST_F(huge, 'private_mapping_reads_zeros_and_keeps_what_is_written', ({ p }) => {
	EXPECT_EQ(at(0), map(p, 2, PRIVATE));
	EXPECT_STREQ('4 free 2 promised', pool());
	EXPECT_EQ(0n, userRead64(p, at(3)));
	EXPECT_NULL(userWrite64(p, at(512 + 7), 8n));
	EXPECT_STREQ('r wd', dump(p, 2));
	EXPECT_STREQ('2 free 0 promised', pool());
	EXPECT_EQ(8n, userRead64(p, at(512 + 7)));
	EXPECT_EQ(1024, p.mm!.hugetlb_usage);
	EXPECT_TRUE(folio_test_hugetlb(hugeFolioAt(p, 0)));
	const log = new InvalidationLog(p.mm!);
	// nobody else has it: writable without a copy
	EXPECT_NULL(userWrite64(p, at(3), 1n));
	EXPECT_STREQ('', log.take());
	EXPECT_STREQ('wd wd', dump(p, 2));
	log.remove();
});

TEST_F(huge, 'mapping_without_enough_pages_is_refused', ({ p }) => {
	EXPECT_EQ(-ENOMEM, map(p, 5, PRIVATE));
	EXPECT_EQ(at(0), map(p, 3, PRIVATE));
	EXPECT_EQ(-ENOMEM, map(p, 2, SHARED, RW, 8));
	EXPECT_EQ(at(512 * 8), map(p, 1, SHARED, RW, 8));
	EXPECT_STREQ('4 free 4 promised', pool());
	// nothing was touched: what goes gives its promise back
	userMunmap(p, at(0), HUGE);
	EXPECT_STREQ('4 free 3 promised', pool());
	userMunmap(p, at(512 * 8), HUGE);
	EXPECT_STREQ('4 free 2 promised', pool());
	EXPECT_EQ(-EINVAL, userMmap(p, at(1), HUGE, RW, PRIVATE));
	// without a place it is found, aligned, behind what is there
	mapPages(p, 512 * 3, 1);
	EXPECT_EQ(at(0), userMmap(p, null, 2n * PAGE, RW, PRIVATE));
	EXPECT_EQ(at(512 * 4), userMmap(p, null, HUGE, RW, PRIVATE));
});

TEST_F(huge, 'fork_shares_and_writers_copy', ({ p }) => {
	map(p, 1, PRIVATE);
	userWrite64(p, at(5), 1n);
	const log = new InvalidationLog(p.mm!);
	const child = forkProcess(p) as task_struct;
	EXPECT_STREQ('1 0-512', log.take());
	EXPECT_STREQ('rd', dump(p, 1));
	EXPECT_STREQ('rd', dump(child, 1));
	EXPECT_EQ(2, hugetlbMapcount(hugeFolioAt(p, 0)));
	EXPECT_EQ(1n, userRead64(child, at(5)));
	EXPECT_NULL(userWrite64(p, at(5), 2n));
	EXPECT_STREQ('1 0-512', log.take());
	EXPECT_EQ(1n, userRead64(child, at(5)));
	EXPECT_EQ(2n, userRead64(p, at(5)));
	EXPECT_STREQ('2 free 0 promised', pool());
	// the child is alone with the old one
	EXPECT_NULL(userWrite64(child, at(6), 3n));
	EXPECT_STREQ('2 free 0 promised', pool());
	exitProcess(child);
	EXPECT_STREQ('3 free 0 promised', pool());
	log.remove();
});

TEST_F(huge, 'owner_takes_the_page_from_its_child_when_the_pool_is_empty', ({ p }) => {
	map(p, 4, PRIVATE);
	for (let i = 0; i < 4; i++) userWrite64(p, at(512 * i), BigInt(i));
	const child = forkProcess(p) as task_struct;
	EXPECT_STREQ('0 free 0 promised', pool());
	// a child has no promise: it fails
	EXPECT_STREQ('sig 7 code 2', signalText(userWrite64(child, at(512), 9n)));
	const log = new InvalidationLog(child.mm!);
	EXPECT_NULL(userWrite64(p, at(0), 5n));
	EXPECT_STREQ('1 0-512', log.take());
	EXPECT_STREQ('wd rd rd rd', dump(p, 4));
	EXPECT_STREQ('. rd rd rd', dump(child, 4));
	EXPECT_TRUE(is_vma_resv_set(vmaOf(child, 0), HPAGE_RESV_UNMAPPED));
	EXPECT_STREQ('sig 7 code 2', signalText(userRead64(child, at(0))));
	EXPECT_EQ(5n, userRead64(p, at(0)));
	log.remove();
	exitProcess(child);
});

TEST_F(huge, 'child_without_promise_takes_what_is_left_over', ({ p }) => {
	map(p, 2, PRIVATE);
	const child = forkProcess(p) as task_struct;
	// four are free, two of them promised to the parent
	EXPECT_NULL(userWrite64(child, at(0), 1n));
	EXPECT_NULL(userWrite64(child, at(512), 2n));
	EXPECT_STREQ('2 free 2 promised', pool());
	EXPECT_NULL(userWrite64(p, at(0), 3n));
	EXPECT_NULL(userWrite64(p, at(512), 4n));
	EXPECT_STREQ('0 free 0 promised', pool());
	EXPECT_EQ(1n, userRead64(child, at(0)));
	exitProcess(child);
});

TEST_F(huge, 'shared_mapping_is_one_file', ({ p }) => {
	map(p, 2, SHARED);
	EXPECT_EQ(0n, userRead64(p, at(3)));
	// read, and writable at once
	EXPECT_STREQ('wd .', dump(p, 2));
	const child = forkProcess(p) as task_struct;
	EXPECT_NULL(userWrite64(child, at(3), 7n));
	EXPECT_NULL(userWrite64(child, at(512), 8n));
	EXPECT_EQ(7n, userRead64(p, at(3)));
	EXPECT_EQ(8n, userRead64(p, at(512)));
	EXPECT_EQ(2, hugetlbMapcount(hugeFolioAt(p, 0)));
	EXPECT_EQ(3, folio_ref_count(hugeFolioAt(p, 0)));
	exitProcess(child);
	EXPECT_STREQ('2 free 0 promised', pool());
	// unmapped pages stay in the file as long as somebody maps it
	userMunmap(p, at(0), HUGE);
	EXPECT_STREQ('2 free 0 promised', pool());
	userMunmap(p, at(512), HUGE);
	EXPECT_STREQ('4 free 0 promised', pool());
});

TEST_F(huge, 'dontneed_takes_whole_pages_and_promises_them_again', ({ p }) => {
	map(p, 2, PRIVATE);
	userWrite64(p, at(0), 1n);
	userWrite64(p, at(512), 1n);
	const log = new InvalidationLog(p.mm!);
	EXPECT_EQ(-EINVAL, userMadvise(p, at(1), HUGE, MADV_DONTNEED));
	EXPECT_EQ(0, userMadvise(p, at(0), 511n * PAGE, MADV_DONTNEED));
	EXPECT_STREQ('', log.take());
	EXPECT_EQ(0, userMadvise(p, at(0), 700n * PAGE, MADV_DONTNEED));
	EXPECT_STREQ('1 0-512', log.take());
	EXPECT_STREQ('. wd', dump(p, 2));
	EXPECT_STREQ('3 free 1 promised', pool());
	EXPECT_EQ(0n, userRead64(p, at(0)));
	EXPECT_STREQ('2 free 0 promised', pool());
	log.remove();
});

TEST_F(huge, 'mprotect_and_munmap_split_at_huge_pages_only', ({ p }) => {
	map(p, 3, PRIVATE);
	for (let i = 0; i < 3; i++) userWrite64(p, at(512 * i), BigInt(i));
	EXPECT_EQ(-EINVAL, userMprotect(p, at(1), PAGE, PROT_READ));
	EXPECT_EQ(-EINVAL, userMunmap(p, at(1), PAGE));
	const log = new InvalidationLog(p.mm!);
	EXPECT_EQ(0, userMprotect(p, at(512), HUGE, PROT_READ));
	EXPECT_STREQ('2 512-1024', log.take());
	EXPECT_STREQ('0-512:rw 512-1024:r 1024-1536:rw', vmaList(p.mm!));
	EXPECT_STREQ('wd rd wd', dump(p, 3));
	EXPECT_STREQ('sig 11 code 2', signalText(userWrite64(p, at(512), 1n)));
	EXPECT_EQ(1n, userRead64(p, at(512)));
	EXPECT_EQ(0, userMprotect(p, at(0), HUGE, PROT_NONE));
	EXPECT_STREQ('sig 11 code 2', signalText(userRead64(p, at(0))));
	EXPECT_EQ(0, userMprotect(p, at(0), 3n * HUGE, RW));
	// the write bit comes back with the next write only; the third was not touched
	EXPECT_STREQ('rd rd wd', dump(p, 3));
	EXPECT_NULL(userWrite64(p, at(0), 4n));
	EXPECT_EQ(0, userMunmap(p, at(512), HUGE));
	EXPECT_EQ(4n, userRead64(p, at(0)));
	EXPECT_EQ(2n, userRead64(p, at(1024)));
	log.remove();
});

TEST_F(huge, 'mapping_moves_with_its_pages_and_promises', ({ p }) => {
	map(p, 2, PRIVATE);
	userWrite64(p, at(5), 6n);
	const moved = userMremap(p, at(0), 2n * HUGE, 2n * HUGE, 3, at(512 * 4));
	EXPECT_EQ(at(512 * 4), moved);
	EXPECT_EQ(6n, userRead64(p, at(512 * 4 + 5)));
	EXPECT_STREQ('3 free 1 promised', pool());
	EXPECT_NULL(userWrite64(p, at(512 * 5), 1n));
	EXPECT_STREQ('2 free 0 promised', pool());
});

TEST_F(huge, 'translations_are_flushed_when_devices_may_map_anew', ({ p }) => {
	map(p, 1, PRIVATE);
	userWrite64(p, at(0), 6n);
	const { tlb } = (world().machine as Machine).cpus[0]!;
	const { i_mmap_rwsem } = vmaOf(p, 0).vm_file!.f_mapping!;
	const seen: string[] = [];
	const sub = new mmu_notifier();
	sub.ops = {
		*invalidate_range_end(): Sim<void> {
			const held = rwsem_is_locked(i_mmap_rwsem) ? 'held' : 'free';
			seen.push(`${tlb.count()} ${held}`);
		},
	};
	run(() => mmu_notifier_register(sub, p.mm!));
	// both releases keep truncation out until after a move's end, not until after a change's
	EXPECT_TRUE(tlb.count() > 0);
	userMprotect(p, at(0), HUGE, PROT_READ);
	EXPECT_EQ(6n, userRead64(p, at(0)));
	EXPECT_TRUE(tlb.count() > 0);
	userMremap(p, at(0), HUGE, HUGE, 3, at(512 * 4));
	EXPECT_STREQ('0 free,0 held', seen.slice(0, 2).join());
	run(() => mmu_notifier_unregister(sub, p.mm!));
});

TEST_F(huge, 'migration_does_not_take_them', ({ p }) => {
	const dev = new TestDevice();
	run(dev.probe());
	map(p, 1, PRIVATE);
	userWrite64(p, at(0), 1n);
	EXPECT_EQ(
		0,
		run(() => toDevice(dev, p.mm!, at(0), 4), { task: p }),
	);
	EXPECT_STREQ('wd', dump(p, 1));
	EXPECT_EQ(1, folio_ref_count(hugeFolioAt(p, 0)));
	exitProcess(p);
	run(dev.remove());
});

TEST_F(huge, 'get_user_pages_finds_the_small_page', ({ p }) => {
	map(p, 1, PRIVATE);
	const pages: page[] = [];
	EXPECT_EQ(2, getUserPages(p, 7, 2, FOLL_GET | FOLL_WRITE, pages));
	const f = hugeFolioAt(p, 0);
	EXPECT_EQ(7, pages[0]!.sec.base + pages[0]!.idx - f.page.sec.base - f.page.idx);
	EXPECT_EQ(3, folio_ref_count(f));
	for (const page of pages) run(put_page(page));
});

TEST_F(huge, 'page_that_may_be_pinned_is_copied_by_fork', ({ p }) => {
	map(p, 1, PRIVATE);
	userWrite64(p, at(0), 1n);
	const f = hugeFolioAt(p, 0);
	try_grab_folio(f, 1, FOLL_PIN);
	const child = forkProcess(p) as task_struct;
	EXPECT_STREQ('wd', dump(p, 1));
	EXPECT_FALSE(hugeFolioAt(child, 0) === f);
	EXPECT_EQ(1n, userRead64(child, at(0)));
	run(gup_put_folio(f, 1, FOLL_PIN));
	exitProcess(child);
});

TEST_F(huge, 'failures_lose_no_page_and_no_promise', ({ p }) => {
	const faults = injectFaults();
	faults.fail('hugetlb_file_setup', 1);
	EXPECT_EQ(-ENOMEM, map(p, 1, PRIVATE));
	faults.fail('resv_map_alloc', 1);
	EXPECT_EQ(-ENOMEM, map(p, 1, PRIVATE));
	EXPECT_STREQ('4 free 0 promised', pool());
	map(p, 1, PRIVATE);
	map(p, 1, SHARED, RW, 8);
	faults.fail('alloc_hugetlb_folio', 1);
	EXPECT_STREQ('sig 7 code 2', signalText(userWrite64(p, at(0), 1n)));
	faults.fail('hugetlb_add_to_page_cache', 1);
	EXPECT_STREQ('sig 7 code 2', signalText(userWrite64(p, at(512 * 8), 1n)));
	EXPECT_STREQ('4 free 2 promised', pool());
	userRead64(p, at(0));
	EXPECT_STREQ('3 free 1 promised', pool());
	// a copy that finds no page, and is not the owner's
	const child = forkProcess(p) as task_struct;
	faults.fail('alloc_hugetlb_folio', 1);
	EXPECT_STREQ('sig 7 code 2', signalText(userWrite64(child, at(0), 1n)));
	EXPECT_EQ(0n, userRead64(child, at(0)));
	exitProcess(child);
});

TEST_F(huge, 'fault_waits_for_the_lock_of_the_page', ({ p }) => {
	map(p, 1, PRIVATE);
	userRead64(p, at(0));
	const f = hugeFolioAt(p, 0);
	f.flags |= PG_locked;
	let done = false;
	spawn(
		'writer',
		function* () {
			yield* storeUser64(at(0), 1n);
			done = true;
		},
		{ mm: p.mm },
	);
	spawn(
		'holder',
		function* () {
			EXPECT_FALSE(done);
			f.flags &= ~PG_locked;
			yield* loadUser64(at(0));
		},
		{ mm: p.mm },
	);
	runThreads();
	EXPECT_TRUE(done);
	EXPECT_STREQ('wd', dump(p, 1));
});

TEST_F(huge, 'threads_race_for_a_page_and_get_one', ({ p }) => {
	for (let seed = 1; seed <= 20; seed++) {
		const flags = seed % 2 ? PRIVATE : SHARED;
		map(p, 1, flags);
		const child = forkProcess(p) as task_struct;
		const writer = (word: bigint) =>
			function* () {
				EXPECT_NULL(yield* storeUser64(at(Number(word)), word));
				EXPECT_EQ(word, yield* loadUser64(at(Number(word))));
			};
		spawn('w1', writer(1n), { mm: p.mm, cpu: 0 });
		spawn('w2', writer(2n), { mm: p.mm, cpu: 1 });
		spawn('w3', writer(3n), { mm: child.mm, cpu: 0 });
		runThreads(randomStrategy(seed));
		EXPECT_EQ(1n, userRead64(p, at(1)));
		EXPECT_EQ(2n, userRead64(p, at(2)));
		EXPECT_EQ(flags === SHARED ? 3n : 0n, userRead64(p, at(3)));
		exitProcess(child);
		userMunmap(p, at(0), HUGE);
		EXPECT_STREQ('4 free 0 promised', pool());
	}
});

TEST_F(huge, 'pool_that_shrinks_gives_its_memory_back', ({ p }) => {
	map(p, 2, PRIVATE);
	userWrite64(p, at(0), 1n);
	userWrite64(p, at(512), 1n);
	userMunmap(p, at(0), 2n * HUGE);
	EXPECT_EQ(2, default_hstate().hugepage_freelist.length);
	setHugePages(1);
	EXPECT_STREQ('1 free 0 promised', pool());
	EXPECT_EQ(1, default_hstate().hugepage_freelist.length);
	setHugePages(4);
	EXPECT_STREQ('4 free 0 promised', pool());
});
