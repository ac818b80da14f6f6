// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a page that is swapped out comes back with its bytes and no more rights than it had, and no
 * slot is lost or used twice. Method: pages are reclaimed by MADV_PAGEOUT; entries, swap cache and slots
 * are looked at before and after touches, forks, unmapping and truncation, and under seeded schedules.
 */

import { Disk } from '../../arch/sim/disk.ts';
import { IS_ERR } from '../../include/linux/err.ts';
import { EINVAL, EIO, ENOENT } from '../../include/linux/errno.ts';
import type { file } from '../../include/linux/fs.ts';
import {
	MADV_DONTNEED,
	MAP_PRIVATE,
	MAP_SHARED,
	PROT_READ,
	VM_LOCKED,
} from '../../include/linux/mm.ts';
import {
	FAULT_FLAG_WRITE,
	MM_ANONPAGES,
	MM_SWAPENTS,
	page_folio,
	VM_FAULT_OOM,
	VM_FAULT_SIGBUS,
} from '../../include/linux/mm_types.ts';
import { pfn_to_page } from '../../include/linux/mmzone.ts';
import {
	folio_ref_count,
	folio_test_dirty,
	folio_test_swapcache,
	PG_hwpoison,
} from '../../include/linux/page-flags.ts';
import { pmd_pfn } from '../../include/linux/pgtable.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import {
	SWP_STABLE_WRITES,
	SWP_SYNCHRONOUS_IO,
	swap_info,
	swp_swap_info,
	total_swap_pages,
} from '../../include/linux/swap.ts';
import {
	pte_swp_exclusive,
	softleaf_from_pte,
	softleaf_is_swap,
	swp_entry,
	type swp_entry_t,
} from '../../include/linux/swapops.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import { world } from '../../include/sim/world.ts';
import { run, runThreads, spawn } from '../../kernel/sched/core.ts';
import { randomStrategy } from '../../kernel/sched/strategy.ts';
import { fput } from '../../mm/file_table.ts';
import { forkProcess } from '../../mm/fork.ts';
import { split_huge_pmd_address } from '../../mm/huge_memory.ts';
import { do_madvise, MADV_HUGEPAGE, MADV_PAGEOUT } from '../../mm/madvise.ts';
import { mm_find_pmd } from '../../mm/pgtable.ts';
import { shmem_file_setup, shmemRead, shmemTruncate, shmemWrite } from '../../mm/shmem.ts';
import { folio_get, folio_isolate_lru, folio_put } from '../../mm/swap.ts';
import { swap_cache_get_folio } from '../../mm/swap_state.ts';
import {
	__swap_count,
	free_swap_and_cache,
	swap_duplicate,
	swap_free,
	swapOn,
} from '../../mm/swapfile.ts';
import {
	createProcess,
	exitProcess,
	loadUser64,
	storeUser64,
	userMadvise,
	userMmap,
	userMprotect,
	userMunmap,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import { reclaim_pages } from '../../mm/vmscan.ts';
import {
	ASSERT_FALSE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_GT,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../kselftest_harness.ts';
import { at, dump, entryAt, faultAt, folioAt, pageAt, runs, vmaOf } from './entries.ts';
import { bootMm, TestDevice, toDevice } from './mm_world.ts';
import { InvalidationLog, madvisePages, mapPages, PAGE, RW, signalText } from './small_machine.ts';

interface Self {
	p: task_struct;
	disk: Disk;
}

const swap = FIXTURE<Self, { profile: ProfileName }>(
	'swapfile',
	() => ({ p: null as unknown as task_struct, disk: new Disk(64) }),
	FIXTURE_VARIANT<{ profile: ProfileName }>({ profile: 'v7.3' }),
);
FIXTURE_VARIANT_ADD(swap, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(swap, 'v7_3', { profile: 'v7.3' });

FIXTURE_SETUP(swap, (self, { profile }) => {
	bootMm(profile);
	self.disk = new Disk(64);
	EXPECT_EQ(0, swapOn(self.disk));
	self.p = createProcess('swap');
	mapPages(self.p, 0, 8);
});

FIXTURE_TEARDOWN(swap, ({ p }) => {
	if (p.mm !== null) exitProcess(p);
	// every slot is free again, or shutdown says so
	EXPECT_EQ(0, swap_info()[0]!.queue.length);
});

function pageout(p: task_struct, first: number, n: number): number {
	return madvisePages(p, first, n, MADV_PAGEOUT);
}

function entryOf(p: task_struct, page: number): swp_entry_t {
	const entry = softleaf_from_pte(entryAt(p, page).value);
	EXPECT_TRUE(softleaf_is_swap(entry));
	return entry;
}

/** Slots in use of the first device. */
function slots(): number {
	return swap_info()[0]!.inuse_pages;
}

TEST_F(swap, 'page_goes_out_and_comes_back', ({ p, disk }) => {
	userWrite64(p, at(0), 11n);
	userWrite64(p, at(1), 12n);
	userRead64(p, at(2));
	const log = new InvalidationLog(p.mm!);
	EXPECT_EQ(0, pageout(p, 0, 4));
	EXPECT_STREQ('1 0-1, 1 1-2', log.take());
	EXPECT_STREQ('s s rz! .', dump(p, 0, 4));
	EXPECT_TRUE(pte_swp_exclusive(entryAt(p, 0).value));
	EXPECT_EQ(2, disk.writes);
	EXPECT_EQ(2, slots());
	EXPECT_EQ(2, p.mm!.rss_stat[MM_SWAPENTS]);
	EXPECT_EQ(0, p.mm!.rss_stat[MM_ANONPAGES]);
	// a read maps it writable but clean, since it was this process's alone
	EXPECT_EQ(11n, userRead64(p, at(0)));
	EXPECT_NULL(userWrite64(p, at(1), 13n));
	EXPECT_STREQ('wax waxd rz! .', dump(p, 0, 4));
	EXPECT_STREQ('', log.take());
	EXPECT_EQ(0, disk.reads);
	EXPECT_EQ(2, p.mm!.rss_stat[MM_ANONPAGES]);
	// the reader's page keeps its slot, which still has its bytes
	EXPECT_TRUE(folio_test_swapcache(folioAt(p, 0)));
	EXPECT_FALSE(folio_test_dirty(folioAt(p, 0)));
	EXPECT_FALSE(folio_test_swapcache(folioAt(p, 1)));
	EXPECT_EQ(1, slots());
	log.remove();
});

TEST_F(swap, 'clean_page_is_dropped_and_read_again_with_its_neighbours', ({ p, disk }) => {
	for (let i = 0; i < 3; i++) userWrite64(p, at(i), BigInt(20 + i));
	pageout(p, 0, 3);
	for (let i = 0; i < 3; i++) userRead64(p, at(i));
	const writes = disk.writes;
	pageout(p, 0, 3);
	// its slot has what it holds: no write, and no folio any more
	EXPECT_EQ(writes, disk.writes);
	EXPECT_STREQ('s s s', dump(p, 0, 3));
	EXPECT_NULL(run(() => swap_cache_get_folio(entryOf(p, 0))));
	const before = p.maj_flt;
	EXPECT_EQ(20n, userRead64(p, at(0)));
	EXPECT_EQ(1, Number(p.maj_flt - before));
	EXPECT_EQ(3, disk.reads);
	// the others are there already
	EXPECT_EQ(21n, userRead64(p, at(1)));
	EXPECT_EQ(22n, userRead64(p, at(2)));
	EXPECT_EQ(3, disk.reads);
	EXPECT_EQ(1, Number(p.maj_flt - before));
	userWrite64(p, at(0), 30n);
	pageout(p, 0, 1);
	EXPECT_EQ(writes + 1, disk.writes);
	EXPECT_EQ(30n, userRead64(p, at(0)));
});

TEST_F(swap, 'child_shares_the_slot_until_somebody_writes', ({ p }) => {
	userWrite64(p, at(0), 11n);
	pageout(p, 0, 1);
	const entry = entryOf(p, 0);
	const child = forkProcess(p) as task_struct;
	EXPECT_EQ(2, __swap_count(entry));
	EXPECT_FALSE(pte_swp_exclusive(entryAt(p, 0).value));
	EXPECT_EQ(11n, userRead64(p, at(0)));
	EXPECT_EQ(11n, userRead64(child, at(0)));
	EXPECT_STREQ('ra', dump(p, 0, 1));
	EXPECT_TRUE(pageAt(p, 0) === pageAt(child, 0));
	EXPECT_NULL(userWrite64(p, at(0), 5n));
	EXPECT_EQ(11n, userRead64(child, at(0)));
	EXPECT_STREQ('waxd', dump(p, 0, 1));
	// the child is alone now
	EXPECT_NULL(userWrite64(child, at(0), 6n));
	EXPECT_STREQ('waxd', dump(child, 0, 1));
	EXPECT_EQ(0, slots());
	exitProcess(child);
});

TEST_F(swap, 'writer_of_a_shared_slot_copies', ({ p }) => {
	userWrite64(p, at(0), 11n);
	pageout(p, 0, 1);
	const child = forkProcess(p) as task_struct;
	EXPECT_NULL(userWrite64(child, at(0), 12n));
	EXPECT_STREQ('waxd', dump(child, 0, 1));
	EXPECT_STREQ('s', dump(p, 0, 1));
	EXPECT_EQ(11n, userRead64(p, at(0)));
	exitProcess(child);
	// the last one: 6.12 sees it by the references, 7.3 by them too, at the next write
	EXPECT_NULL(userWrite64(p, at(0), 13n));
	EXPECT_STREQ('waxd', dump(p, 0, 1));
});

TEST_F(swap, 'last_owner_of_a_slot_is_known_by_references_or_by_the_mark', ({ p }) => {
	userWrite64(p, at(0), 11n);
	pageout(p, 0, 1);
	exitProcess(forkProcess(p) as task_struct);
	// not marked any more; 6.12 frees the slot first and finds that nobody else refers to the page
	EXPECT_EQ(0, faultAt(p, 0, FAULT_FLAG_WRITE));
	EXPECT_STREQ('waxd', dump(p, 0, 1));
	EXPECT_EQ(0, slots());
	userWrite64(p, at(1), 12n);
	pageout(p, 1, 1);
	exitProcess(forkProcess(p) as task_struct);
	EXPECT_EQ(0, faultAt(p, 1));
	EXPECT_STREQ('ra', dump(p, 1, 1));
	EXPECT_EQ(1, slots());
});

TEST_F(swap, 'read_only_mapping_gets_it_back_read_only', ({ p }) => {
	userWrite64(p, at(0), 11n);
	pageout(p, 0, 1);
	userMprotect(p, at(0), 8n * PAGE, PROT_READ);
	EXPECT_EQ(11n, userRead64(p, at(0)));
	EXPECT_STREQ('rax', dump(p, 0, 1));
});

TEST_F(swap, 'unmapping_and_exit_free_slots', ({ p }) => {
	for (let i = 0; i < 4; i++) userWrite64(p, at(i), 1n);
	pageout(p, 0, 4);
	EXPECT_EQ(4, slots());
	userMadvise(p, at(0), PAGE, MADV_DONTNEED);
	EXPECT_STREQ('. s s s', dump(p, 0, 4));
	userMunmap(p, at(1), PAGE);
	EXPECT_EQ(2, slots());
	EXPECT_EQ(2, p.mm!.rss_stat[MM_SWAPENTS]);
	exitProcess(p);
	EXPECT_EQ(0, slots());
	EXPECT_EQ(0, swap_info()[0]!.cache.i_pages.size);
});

TEST_F(swap, 'pages_that_others_map_too_stay', ({ p }) => {
	userWrite64(p, at(0), 1n);
	const child = forkProcess(p) as task_struct;
	pageout(p, 0, 1);
	EXPECT_STREQ('ra', dump(p, 0, 1).slice(0, 2));
	exitProcess(child);
	pageout(p, 0, 1);
	EXPECT_STREQ('s', dump(p, 0, 1));
	EXPECT_FALSE(pte_swp_exclusive(entryAt(p, 0).value));
	vmaOf(p, 0).vm_flags |= VM_LOCKED;
	EXPECT_EQ(-EINVAL, pageout(p, 0, 1));
	vmaOf(p, 0).vm_flags &= ~VM_LOCKED;
});

TEST_F(swap, 'huge_page_is_split_and_goes_out', ({ p }) => {
	userMmap(p, at(512), 1024n * PAGE, RW, MAP_PRIVATE);
	userMadvise(p, at(512), 1024n * PAGE, MADV_HUGEPAGE);
	for (let i = 0; i < 512; i++) userWrite64(p, at(512 + i), BigInt(i + 1));
	EXPECT_STREQ('Twaxd*512', runs(p, 512, 512));
	// a part: the rest stays
	EXPECT_EQ(0, pageout(p, 520, 8));
	EXPECT_STREQ('waxd*8 s*8 waxd*496', runs(p, 512, 512));
	EXPECT_EQ(8, slots());
	for (let i = 8; i < 16; i++) EXPECT_EQ(BigInt(i + 1), userRead64(p, at(512 + i)));
	// all of it, as far as there are slots; a pinned one stays whole
	userWrite64(p, at(1024), 1n);
	const f = page_folio(pfn_to_page(pmd_pfn(mm_find_pmd(p.mm!, at(1024))!.value)));
	folio_get(f);
	pageout(p, 1024, 512);
	EXPECT_STREQ('Twaxd*512', runs(p, 1024, 512));
	run(folio_put(f));
	pageout(p, 1024, 512);
	// what was never written to is the zero page now
	EXPECT_STREQ('s rz!*511', runs(p, 1024, 512));
	EXPECT_EQ(1n, userRead64(p, at(1024)));
	userMunmap(p, at(512), 1024n * PAGE);
});

TEST_F(swap, 'huge_page_in_small_entries_is_split_and_goes_out', ({ p }) => {
	userMmap(p, at(512), 512n * PAGE, RW, MAP_PRIVATE);
	userMadvise(p, at(512), 512n * PAGE, MADV_HUGEPAGE);
	for (let i = 512; i < 1024; i++) userWrite64(p, at(i), 1n);
	run(() => split_huge_pmd_address(vmaOf(p, 512), at(512), false), { task: p });
	EXPECT_EQ(0, pageout(p, 512, 4));
	EXPECT_STREQ('s*4 waxd*508', runs(p, 512, 512));
	EXPECT_EQ(1n, userRead64(p, at(512)));
	userMunmap(p, at(512), 512n * PAGE);
});

TEST_F(swap, 'full_device_leaves_pages_where_they_are', ({ p }) => {
	mapPages(p, 64, 70);
	for (let i = 0; i < 70; i++) userWrite64(p, at(64 + i), BigInt(i));
	EXPECT_EQ(63, total_swap_pages());
	EXPECT_EQ(0, pageout(p, 64, 70));
	EXPECT_EQ(63, slots());
	EXPECT_STREQ('s s waxd waxd', dump(p, 64 + 61, 4));
	for (let i = 0; i < 70; i++) EXPECT_EQ(BigInt(i), userRead64(p, at(64 + i)));
});

TEST_F(swap, 'shmem_pages_go_out_and_come_back_dirty', ({ p, disk }) => {
	mapPages(p, 16, 4, RW, MAP_SHARED);
	userWrite64(p, at(16), 21n);
	userRead64(p, at(17));
	const { i_mapping } = vmaOf(p, 16).vm_file!.f_inode!;
	const log = new InvalidationLog(p.mm!);
	pageout(p, 16, 4);
	EXPECT_STREQ('1 16-17, 1 17-18', log.take());
	EXPECT_STREQ('. . . .', dump(p, 16, 4));
	EXPECT_EQ(1, i_mapping.swapped.size);
	// the untouched page was clean: it is a hole again
	EXPECT_EQ(0, i_mapping.i_pages.size);
	EXPECT_EQ(1, disk.writes);
	EXPECT_EQ(21n, userRead64(p, at(16)));
	EXPECT_TRUE(folio_test_dirty(folioAt(p, 16)));
	EXPECT_EQ(0, i_mapping.swapped.size);
	EXPECT_EQ(0, slots());
	EXPECT_EQ(0n, userRead64(p, at(17)));
	log.remove();
});

TEST_F(swap, 'file_is_read_written_and_truncated_while_swapped_out', ({ p }) => {
	const f = run(() => shmem_file_setup('f', 4n * PAGE, 0n)) as file;
	ASSERT_FALSE(IS_ERR(f));
	const bytes = new Uint8Array(4096).fill(7);
	for (let i = 0n; i < 4n; i++) run(() => shmemWrite(f, i * PAGE, bytes));
	userMmap(p, at(16), 4n * PAGE, RW, MAP_SHARED, f);
	for (let i = 0; i < 4; i++) userRead64(p, at(16 + i));
	pageout(p, 16, 4);
	const { swapped } = f.f_mapping!;
	EXPECT_EQ(4, swapped.size);
	const into = new Uint8Array(2);
	EXPECT_EQ(
		2,
		run(() => shmemRead(f, 5n, into)),
	);
	EXPECT_STREQ('7,7', into.join());
	run(() => shmemWrite(f, PAGE, new Uint8Array([1])));
	EXPECT_EQ(2, swapped.size);
	// half of page 2 goes, and all of page 3
	run(() => shmemTruncate(f, 2n * PAGE + 2048n));
	EXPECT_EQ(0, swapped.size);
	EXPECT_EQ(0, slots());
	EXPECT_EQ(0x0707070707070707n, userRead64(p, at(18)));
	EXPECT_EQ(0n, userRead64(p, at(18) + 2048n));
	EXPECT_STREQ('sig 7 code 2', signalText(userRead64(p, at(19))));
	EXPECT_EQ(0x0707070707070701n, userRead64(p, at(17)));
	pageout(p, 16, 2);
	EXPECT_EQ(2, swapped.size);
	run(fput(f));
	userMunmap(p, at(16), 4n * PAGE);
	EXPECT_EQ(0, slots());
});

TEST_F(swap, 'file_that_cannot_be_read_back_says_so', ({ p }) => {
	const f = run(() => shmem_file_setup('f', 2n * PAGE, 0n));
	if (typeof f === 'number') return;
	run(() => shmemWrite(f, 0n, new Uint8Array(8192).fill(7)));
	userMmap(p, at(16), 2n * PAGE, RW, MAP_SHARED, f);
	for (let i = 0; i < 2; i++) userRead64(p, at(16 + i));
	pageout(p, 16, 2);
	EXPECT_EQ(2, f.f_mapping!.swapped.size);
	userMunmap(p, at(16), 2n * PAGE);
	// written: the swap cache can forget them
	for (const cached of [...swap_info()[0]!.cache.i_pages.values()]) {
		EXPECT_TRUE(folio_isolate_lru(cached));
		EXPECT_EQ(
			1,
			run(() => reclaim_pages([cached])),
		);
	}
	const into = new Uint8Array(8192);
	const read = () => run(() => shmemRead(f, 0n, into));
	const faults = injectFaults();
	// the neighbour is read first
	faults.fail('swap_read', 2);
	EXPECT_EQ(-EIO, read());
	EXPECT_EQ(0, into[0]);
	run(fput(f));
	EXPECT_EQ(0, slots());
});

TEST_F(swap, 'page_of_the_swap_cache_leaves_it_to_migrate', ({ p }) => {
	const dev = new TestDevice();
	run(dev.probe());
	userWrite64(p, at(0), 11n);
	userWrite64(p, at(1), 12n);
	pageout(p, 0, 2);
	userRead64(p, at(0));
	EXPECT_EQ(
		1,
		run(() => toDevice(dev, p.mm!, at(0), 2), { task: p }),
	);
	EXPECT_STREQ('D s', dump(p, 0, 2));
	EXPECT_EQ(1, slots());
	EXPECT_EQ(11n, userRead64(p, at(0)));
	// another entry still names the slot: it stays
	userRead64(p, at(1));
	const entry = [...swap_info()[0]!.cache.i_pages.keys()][0]!;
	run(() => swap_duplicate(swp_entry(0, BigInt(entry))));
	EXPECT_EQ(
		0,
		run(() => toDevice(dev, p.mm!, at(1), 1), { task: p }),
	);
	EXPECT_STREQ('wax', dump(p, 1, 1));
	run(() => free_swap_and_cache(swp_entry(0, BigInt(entry))));
	exitProcess(p);
	run(dev.remove());
});

TEST_F(swap, 'failures_lose_nothing', ({ p, disk }) => {
	userWrite64(p, at(0), 11n);
	const faults = injectFaults();
	faults.fail('folio_alloc_swap', 1);
	pageout(p, 0, 1);
	EXPECT_STREQ('waxd', dump(p, 0, 1));
	faults.fail('add_to_swap_cache', 1);
	pageout(p, 0, 1);
	EXPECT_STREQ('waxd', dump(p, 0, 1));
	EXPECT_EQ(0, slots());
	// a write that failed: the folio is dirty and stays in the swap cache
	faults.fail('swap_write', 1);
	pageout(p, 0, 1);
	EXPECT_STREQ('s', dump(p, 0, 1));
	EXPECT_EQ(0, disk.writes);
	EXPECT_EQ(11n, userRead64(p, at(0)));
	userWrite64(p, at(0), 12n);
	pageout(p, 0, 1);
	userRead64(p, at(0));
	pageout(p, 0, 1);
	// read again: no memory, then a broken disk
	faults.fail('swapin_alloc_folio', 1);
	EXPECT_EQ(VM_FAULT_OOM, faultAt(p, 0));
	faults.fail('swap_read', 1);
	EXPECT_EQ(VM_FAULT_SIGBUS, faultAt(p, 0));
	EXPECT_STREQ('s', dump(p, 0, 1));
	EXPECT_EQ(0, disk.reads);
});

TEST_F(swap, 'poisoned_folio_of_the_swap_cache_is_not_mapped', ({ p }) => {
	userWrite64(p, at(0), 11n);
	pageout(p, 0, 1);
	const f = run(() => swap_cache_get_folio(entryOf(p, 0)))!;
	f.flags |= PG_hwpoison;
	EXPECT_STREQ('sig 7 code 4', signalText(userRead64(p, at(0))));
	f.flags &= ~PG_hwpoison;
	run(folio_put(f));
	EXPECT_EQ(11n, userRead64(p, at(0)));
});

TEST_F(swap, 'ram_disk_is_done_at_once', ({ p }, { profile }) => {
	const ram = new Disk(8);
	swap_info()[0]!.cluster_next = 1;
	EXPECT_EQ(1, swapOn(ram, SWP_SYNCHRONOUS_IO));
	// the first device is tried first: fill it up
	const si = swap_info()[0]!;
	for (let slot = 1; slot < si.max; slot++) si.swap_map[slot] = 1;
	userWrite64(p, at(0), 11n);
	pageout(p, 0, 1);
	EXPECT_EQ(1, swp_swap_info(entryOf(p, 0))!.type);
	EXPECT_EQ(1, ram.writes);
	// written and clean: the folio is gone already
	EXPECT_NULL(run(() => swap_cache_get_folio(entryOf(p, 0))));
	EXPECT_EQ(11n, userRead64(p, at(0)));
	// 7.3 lets go of the slot at once
	EXPECT_EQ(profile === 'v7.3' ? 0 : 1, swap_info()[1]!.inuse_pages);
	for (let slot = 1; slot < si.max; slot++) si.swap_map[slot] = 0;
});

TEST_F(swap, 'slot_that_nobody_has_is_reported', ({ p }) => {
	userWrite64(p, at(0), 11n);
	run(() => swap_free(swp_entry(0, 9n)));
	expectReport(/Unused swap offset entry is freed/);
	EXPECT_EQ(
		-ENOENT,
		run(() => swap_duplicate(swp_entry(0, 9n))),
	);
	EXPECT_EQ(
		-EINVAL,
		run(() => swap_duplicate(swp_entry(3, 9n))),
	);
	expectReport(/swap entry of no device/);
	EXPECT_EQ(-EINVAL, swapOn(new Disk(1)));
});

TEST_F(swap, 'slot_that_is_lost_is_reported_at_the_end', ({ p }) => {
	userWrite64(p, at(0), 11n);
	pageout(p, 0, 1);
	// an entry that is overwritten takes its count with it
	run(() => swap_duplicate(entryOf(p, 0)));
	exitProcess(p);
	expectReport(/1 swap slots still in use at shutdown/);
	expectReport(/pages still in use at shutdown/);
	EXPECT_EQ(1, slots());
});

const races = FIXTURE<Self>('swap_races', () => ({
	p: null as unknown as task_struct,
	disk: new Disk(64),
}));

FIXTURE_SETUP(races, (self) => {
	bootMm('v7.3');
	EXPECT_EQ(0, swapOn(self.disk, SWP_STABLE_WRITES));
	self.p = createProcess('races');
	mapPages(self.p, 0, 8);
	mapPages(self.p, 16, 8, RW, MAP_SHARED);
});

FIXTURE_TEARDOWN(races, ({ p }) => exitProcess(p));

/** Have a page nowhere but on the disk: written out, read again, and dropped since it is clean. */
function toDisk(p: task_struct, page: number, word = 0n): void {
	userWrite64(p, at(page), word);
	pageout(p, page, 1);
	userRead64(p, at(page));
	pageout(p, page, 1);
}

TEST_F(races, 'writers_and_reclaim_never_lose_a_word', ({ p, disk }) => {
	for (let seed = 1; seed <= 60; seed++) {
		toDisk(p, 2);
		for (const base of [0, 16]) {
			const writer = (word: bigint) =>
				function* () {
					for (let i = 0n; i < 3n; i++) {
						const va = at(base) + i * PAGE + 8n * word;
						yield* storeUser64(va, word + BigInt(seed));
						EXPECT_EQ(
							word + BigInt(seed),
							yield* loadUser64(va),
						);
					}
				};
			const reclaim = function* () {
				for (let i = 0; i < 2; i++)
					yield* do_madvise(p.mm!, at(base), 3n * PAGE, MADV_PAGEOUT);
			};
			spawn('w1', writer(1n), { mm: p.mm, cpu: 0 });
			spawn('w2', writer(2n), { mm: p.mm, cpu: 1 });
			spawn('reclaim', reclaim, { mm: p.mm, cpu: 0 });
			runThreads(randomStrategy(seed));
			for (let i = 0; i < 3; i++)
				for (const word of [1n, 2n])
					EXPECT_EQ(
						word + BigInt(seed),
						userRead64(p, at(base + i) + 8n * word),
					);
		}
	}
	EXPECT_GT(disk.writes, 0);
	EXPECT_GT(disk.reads, 0);
});

TEST_F(races, 'swap_in_takes_no_reference_of_a_folio_that_reclaim_frees', ({ p }) => {
	// seed 91 alone showed a reader's reference that reclaim put
	userWrite64(p, at(0), 1n);
	userRead64(p, at(0));
	for (let seed = 1; seed <= 120; seed++) {
		const out = function* () {
			for (let i = 0; i < 6; i++)
				yield* do_madvise(p.mm!, at(0), PAGE, MADV_PAGEOUT);
		};
		const touching = function* () {
			for (let i = 0; i < 6; i++) EXPECT_EQ(1n, yield* loadUser64(at(0)));
		};
		spawn('out', out, { mm: p.mm, cpu: 0 });
		spawn('touch', touching, { mm: p.mm, cpu: 1 });
		runThreads(randomStrategy(seed));
	}
	EXPECT_EQ(1n, userRead64(p, at(0)));
	// nor is a reader told that memory is short while a folio leaves the cache
	EXPECT_FALSE(world().log.some((line) => line.includes('VM_FAULT_OOM')));
});

TEST_F(races, 'two_readers_of_a_slot_get_one_folio', ({ p, disk }) => {
	for (let seed = 1; seed <= 40; seed++) {
		toDisk(p, 0, BigInt(seed));
		const reader = function* () {
			EXPECT_EQ(BigInt(seed), yield* loadUser64(at(0)));
		};
		spawn('r1', reader, { mm: p.mm, cpu: 0 });
		spawn('r2', reader, { mm: p.mm, cpu: 1 });
		runThreads(randomStrategy(seed));
		const f = folioAt(p, 0);
		EXPECT_EQ(folio_test_swapcache(f) ? 2 : 1, folio_ref_count(f));
		// one of them read it
		EXPECT_EQ(seed, disk.reads);
		EXPECT_EQ(seed, disk.writes);
	}
});

TEST_F(races, 'fork_and_exit_race_with_reclaim', ({ p, disk }) => {
	for (let seed = 1; seed <= 30; seed++) {
		toDisk(p, 0, BigInt(seed));
		userWrite64(p, at(1), BigInt(seed));
		const child = forkProcess(p) as task_struct;
		const reclaim = function* () {
			yield* do_madvise(p.mm!, at(0), 2n * PAGE, MADV_PAGEOUT);
		};
		const reader = function* () {
			EXPECT_EQ(BigInt(seed), yield* loadUser64(at(0)));
			EXPECT_EQ(BigInt(seed), yield* loadUser64(at(1)));
		};
		spawn('reclaim', reclaim, { mm: p.mm, cpu: 0 });
		spawn('child', reader, { mm: child.mm, cpu: 1 });
		spawn('parent', reader, { mm: p.mm, cpu: 0 });
		runThreads(randomStrategy(seed));
		exitProcess(child);
		EXPECT_EQ(BigInt(seed), userRead64(p, at(0)));
		EXPECT_EQ(BigInt(seed), userRead64(p, at(1)));
	}
	EXPECT_GT(disk.writes, 0);
	EXPECT_GT(disk.reads, 0);
});
