// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: what a touch, an unmapping and a fork make of each entry that is neither empty nor present.
 * Method: the entry is written into the table of a process by hand, with the counts that whoever
 * makes such entries leaves; device-private ones come from a device (mm_world.ts).
 */

import { Disk } from '../../arch/sim/disk.ts';
import type { Machine } from '../../arch/sim/machine.ts';
import { IS_ERR } from '../../include/linux/err.ts';
import { ENOMEM } from '../../include/linux/errno.ts';
import type { file } from '../../include/linux/fs.ts';
import { MADV_DONTNEED, MAP_PRIVATE, MAP_SHARED, PROT_WRITE } from '../../include/linux/mm.ts';
import {
	FAULT_FLAG_ALLOW_RETRY,
	FAULT_FLAG_KILLABLE,
	FAULT_FLAG_RETRY_NOWAIT,
	FAULT_FLAG_VMA_LOCK,
	FAULT_FLAG_WRITE,
	MM_ANONPAGES,
	MM_SWAPENTS,
	page_folio,
	VM_FAULT_HWPOISON,
	VM_FAULT_RETRY,
	VM_FAULT_SIGBUS,
	VM_FAULT_SIGSEGV,
} from '../../include/linux/mm_types.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import { folio_ref_count, PG_dirty, PG_locked } from '../../include/linux/page-flags.ts';
import type { pte_t } from '../../include/linux/pgtable.ts';
import { SIGKILL, TASK_DEAD, type task_struct } from '../../include/linux/sched.ts';
import { swap_info } from '../../include/linux/swap.ts';
import {
	make_hwpoison_entry,
	make_pte_marker_entry,
	make_readable_device_exclusive_entry,
	make_readable_migration_entry,
	make_writable_device_exclusive_entry,
	make_writable_migration_entry,
	PTE_MARKER_GUARD,
	PTE_MARKER_POISONED,
	PTE_MARKER_UFFD_WP,
	softleaf_from_pte,
	softleaf_is_device_private,
	softleaf_is_device_private_write,
	softleaf_is_migration_read,
	softleaf_to_folio,
	swp_entry,
	type swp_entry_t,
	swp_entry_to_pte,
} from '../../include/linux/swapops.ts';
import { GFP_KERNEL } from '../../include/linux/types.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import { world } from '../../include/sim/world.ts';
import { run, runThreads, spawn, stepThread } from '../../kernel/sched/core.ts';
import { randomStrategy } from '../../kernel/sched/strategy.ts';
import { fput } from '../../mm/file_table.ts';
import { forkProcess } from '../../mm/fork.ts';
import { handle_mm_fault, unmap_mapping_range, unmap_page_range } from '../../mm/memory.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import { tlb_finish_mmu, tlb_gather_mmu } from '../../mm/mmu_gather.ts';
import { alloc_page } from '../../mm/page_alloc.ts';
import { pte_lockptr } from '../../mm/pgtable.ts';
import { shmem_file_setup, shmemTruncate } from '../../mm/shmem.ts';
import { folio_put, folio_ref_add } from '../../mm/swap.ts';
import { swapOn } from '../../mm/swapfile.ts';
import {
	createProcess,
	exitProcess,
	loadUser64,
	userMadvise,
	userMmap,
	userMunmap,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import { flush_tlb_page } from '../../mm/tlb.ts';
import {
	ASSERT_FALSE,
	EXPECT_EQ,
	EXPECT_FALSE,
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
import { at, dump, entryAt, faultAt, faultSim, folioAt, pageAt, pmdAt, vmaOf } from './entries.ts';
import { bootMm, TestDevice, toDevice } from './mm_world.ts';
import { InvalidationLog, mapPages, PAGE, RW, signalText } from './small_machine.ts';

interface Self {
	p: task_struct;
	machine: Machine;
	dev: TestDevice;
}

const leaves = FIXTURE<Self, { profile: ProfileName }>(
	'swap_page',
	() => ({
		p: null as unknown as task_struct,
		machine: null as unknown as Machine,
		dev: null as unknown as TestDevice,
	}),
	FIXTURE_VARIANT<{ profile: ProfileName }>({ profile: 'v7.3' }),
);
FIXTURE_VARIANT_ADD(leaves, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(leaves, 'v7_3', { profile: 'v7.3' });

FIXTURE_SETUP(leaves, (self, { profile }) => {
	self.machine = bootMm(profile);
	self.p = createProcess('leaves');
	self.dev = new TestDevice();
	run(self.dev.probe());
	mapPages(self.p, 0, 8);
	// the table is there, and a page that stays
	userWrite64(self.p, at(7), 7n);
});

FIXTURE_TEARDOWN(leaves, ({ p, dev }) => {
	if (p.mm !== null) exitProcess(p);
	run(dev.remove());
});

/** Writes an entry that refers to nothing. */
function put(p: task_struct, page: number, entry: swp_entry_t): pte_t {
	const pte = swp_entry_to_pte(entry);
	entryAt(p, page).value = pte;
	return pte;
}

/** The entry of a slot of a swap device that one page-table entry names. */
function usedSlot(): swp_entry_t {
	swapOn(new Disk(16));
	const si = swap_info()[0]!;
	si.swap_map[5] = 1;
	si.inuse_pages++;
	return swp_entry(0, 5n);
}

/** Makes a written page device-exclusive, as the release does. */
function makeExclusive(p: task_struct, page: number, profile: ProfileName, writable = true): void {
	const of = pageAt(p, page);
	const pfn = page_to_pfn(of) as bigint;
	put(
		p,
		page,
		writable
			? make_writable_device_exclusive_entry(pfn)
			: make_readable_device_exclusive_entry(pfn),
	);
	run(flush_tlb_page(vmaOf(p, page), at(page)));
	// 6.12 does not count it as a mapping
	if (profile === 'v6.12') of._mapcount--;
}

// --- touches ---

TEST_F(leaves, 'marker_says_what_a_touch_is', ({ p }) => {
	put(p, 0, make_pte_marker_entry(PTE_MARKER_GUARD));
	put(p, 1, make_pte_marker_entry(PTE_MARKER_POISONED));
	put(p, 2, make_pte_marker_entry(PTE_MARKER_UFFD_WP));
	put(p, 3, make_pte_marker_entry(0n));
	EXPECT_EQ(VM_FAULT_SIGSEGV, faultAt(p, 0));
	EXPECT_EQ(VM_FAULT_HWPOISON, faultAt(p, 1));
	EXPECT_EQ(VM_FAULT_SIGBUS, faultAt(p, 3));
	EXPECT_STREQ('sig 11 code 1', signalText(userRead64(p, at(0))));
	EXPECT_STREQ('sig 7 code 4', signalText(userRead64(p, at(1))));
	// nobody watches: the marker goes and the page comes
	EXPECT_NULL(userWrite64(p, at(2), 2n));
	EXPECT_STREQ('k k waxd k', dump(p, 0, 4));
});

TEST_F(leaves, 'poisoned_page_and_unknown_entry', ({ p }) => {
	put(p, 0, make_hwpoison_entry(0x123n));
	EXPECT_EQ(VM_FAULT_HWPOISON, faultAt(p, 0));
	put(p, 1, swp_entry(0, 5n));
	EXPECT_EQ(VM_FAULT_SIGBUS, faultAt(p, 1));
	expectReport(/Bad page map in process leaves/);
	entryAt(p, 0).value = 0n;
	entryAt(p, 1).value = 0n;
});

TEST_F(leaves, 'exclusive_access_is_taken_back', ({ p }, { profile }) => {
	userWrite64(p, at(0), 1n);
	userWrite64(p, at(1), 2n);
	pageAt(p, 0).flags |= PG_dirty;
	makeExclusive(p, 0, profile);
	makeExclusive(p, 1, profile);
	const log = new InvalidationLog(p.mm!);
	EXPECT_EQ(1n, userRead64(p, at(0)));
	const event = profile === 'v6.12' ? 7 : 1;
	EXPECT_STREQ(`${event} 0-1`, log.take());
	EXPECT_NULL(userWrite64(p, at(1), 3n));
	EXPECT_STREQ(`${event} 1-2`, log.take());
	EXPECT_STREQ('waxd waxd', dump(p, 0, 2));
	EXPECT_EQ(0, pageAt(p, 0)._mapcount);
	EXPECT_EQ(1, folio_ref_count(folioAt(p, 0)));
	log.remove();
});

TEST_F(leaves, 'restored_rights_follow_the_entry_or_the_mapping', ({ p }, { profile }) => {
	userWrite64(p, at(0), 1n);
	const vma = vmaOf(p, 0);
	const { vm_flags } = vma;
	if (profile === 'v6.12') makeExclusive(p, 0, profile, false);
	else {
		makeExclusive(p, 0, profile);
		vma.vm_flags &= ~BigInt(PROT_WRITE);
	}
	EXPECT_EQ(0, faultAt(p, 0));
	EXPECT_STREQ('rax', dump(p, 0, 1));
	vma.vm_flags = vm_flags;
});

TEST_F(leaves, 'fault_that_must_not_wait_keeps_the_mmap_lock', ({ p }, { profile }) => {
	userWrite64(p, at(0), 1n);
	const f = folioAt(p, 0);
	makeExclusive(p, 0, profile);
	f.flags |= PG_locked;
	run(
		function* () {
			yield* mmap_read_lock(p.mm!);
			const flags = FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_RETRY_NOWAIT;
			const ret = yield* handle_mm_fault(vmaOf(p, 0), at(0), flags, null);
			EXPECT_EQ(VM_FAULT_RETRY, ret);
			yield* mmap_read_unlock(p.mm!);
		},
		{ task: p },
	);
	f.flags &= ~PG_locked;
	EXPECT_EQ(1n, userRead64(p, at(0)));
});

TEST_F(leaves, 'fault_that_may_retry_takes_a_free_lock_at_once', ({ p }, { profile }) => {
	userWrite64(p, at(0), 1n);
	makeExclusive(p, 0, profile);
	// what hmm_range_fault_unlocked_timeout() asks for each time: it must not be told to come again
	EXPECT_EQ(0, faultAt(p, 0, FAULT_FLAG_ALLOW_RETRY));
	EXPECT_EQ(1n, userRead64(p, at(0)));
});

/** Lets a thread go on until it waits or has ended. */
function stepAll(task: task_struct): void {
	while (task.__state !== TASK_DEAD && task.point?.ready?.() !== false) stepThread(task);
}

TEST_F(leaves, 'fault_waits_for_the_lock_of_an_exclusive_page', ({ p }, { profile }) => {
	const cases: [flags: number, kill: boolean, result: number][] = [
		[0, false, 0],
		[FAULT_FLAG_KILLABLE, false, 0],
		[FAULT_FLAG_KILLABLE, true, VM_FAULT_RETRY],
		[FAULT_FLAG_ALLOW_RETRY, false, VM_FAULT_RETRY],
	];
	for (const [flags, kill, result] of cases) {
		userWrite64(p, at(0), 1n);
		const f = folioAt(p, 0);
		makeExclusive(p, 0, profile);
		f.flags |= PG_locked;
		let ret = -1;
		const task = spawn(
			'toucher',
			function* () {
				ret = yield* faultSim(p, 0, flags);
			},
			{ mm: p.mm },
		);
		stepAll(task);
		EXPECT_EQ(-1, ret);
		if (kill) {
			task.pending.add(SIGKILL);
			stepAll(task);
			EXPECT_EQ(result, ret);
		}
		f.flags &= ~PG_locked;
		runThreads();
		EXPECT_EQ(result, ret);
		EXPECT_EQ(1n, userRead64(p, at(0)));
		EXPECT_EQ(1, folio_ref_count(f));
	}
});

TEST_F(leaves, 'exclusive_entry_whose_page_is_gone_is_left_to_a_retry', ({ p }) => {
	const page = run(alloc_page(GFP_KERNEL))!;
	put(p, 0, make_writable_device_exclusive_entry(page_to_pfn(page) as bigint));
	page._refcount = 0;
	EXPECT_EQ(0, faultAt(p, 0));
	page._refcount = 1;
	run(folio_put(page_folio(page)));
	entryAt(p, 0).value = 0n;
});

TEST_F(leaves, 'entry_that_changed_is_tried_again', ({ p, dev }, { profile }) => {
	userWrite64(p, at(0), 1n);
	const present = entryAt(p, 0).value;
	makeExclusive(p, 0, profile);
	const log = new InvalidationLog(p.mm!, () => {
		entryAt(p, 0).value = present;
	});
	EXPECT_EQ(0, faultAt(p, 0));
	if (profile === 'v6.12') pageAt(p, 0)._mapcount++;
	EXPECT_STREQ('waxd', dump(p, 0, 1));
	log.remove();
	EXPECT_EQ(0, dev.faults);
});

TEST_F(leaves, 'private_page_comes_back_on_touch', ({ p, dev }) => {
	userWrite64(p, at(0), 5n);
	EXPECT_EQ(1, run(toDevice(dev, p.mm!, at(0), 1), { task: p }));
	EXPECT_STREQ('D', dump(p, 0, 1));
	EXPECT_EQ(VM_FAULT_RETRY, vmaLockFault(p));
	EXPECT_EQ(5n, userRead64(p, at(0)));
	EXPECT_EQ(1, dev.faults);
	EXPECT_EQ(1, p.mm!.rss_stat[MM_ANONPAGES]! - 1);
});

/** A fault under a VMA's lock gives that up; here the mmap lock stands for it. */
function vmaLockFault(p: task_struct): number {
	return run(
		function* () {
			yield* mmap_read_lock(p.mm!);
			const ret = yield* handle_mm_fault(
				vmaOf(p, 0),
				at(0),
				FAULT_FLAG_VMA_LOCK,
				null,
			);
			yield* mmap_read_unlock(p.mm!);
			return ret;
		},
		{ task: p },
	);
}

TEST_F(leaves, 'device_that_fails_is_sigbus', ({ p, dev }) => {
	userWrite64(p, at(0), 5n);
	run(toDevice(dev, p.mm!, at(0), 1), { task: p });
	dev.failure = VM_FAULT_SIGBUS;
	EXPECT_STREQ('sig 7 code 2', signalText(userRead64(p, at(0))));
	dev.failure = 0;
	EXPECT_EQ(5n, userRead64(p, at(0)));
});

TEST_F(leaves, 'two_that_touch_a_private_page_get_its_bytes', ({ p, dev }) => {
	for (let seed = 1; seed <= 40; seed++) {
		userWrite64(p, at(0), 5n);
		run(toDevice(dev, p.mm!, at(0), 1), { task: p });
		const seen: unknown[] = [];
		world().preemptible = true;
		for (const cpu of [0, 1])
			spawn(
				`t${cpu}`,
				function* () {
					seen.push(yield* loadUser64(at(0)));
				},
				{ mm: p.mm, cpu },
			);
		runThreads(randomStrategy(seed));
		world().preemptible = false;
		EXPECT_TRUE(seen.length === 2 && seen.every((word) => word === 5n));
		EXPECT_EQ(16, dev.free.length);
	}
});

TEST_F(leaves, 'folio_of_a_private_page_is_looked_up_under_the_lock', ({ p, dev }) => {
	userWrite64(p, at(0), 5n);
	run(toDevice(dev, p.mm!, at(0), 1), { task: p });
	const moved = softleaf_to_folio(softleaf_from_pte(entryAt(p, 0).value)).page;
	// A tail of the folio before it, until the fault waits for the entry's lock the second time.
	moved.compound = -1;
	let word: unknown = null;
	const task = spawn(
		'toucher',
		function* () {
			word = yield* loadUser64(at(0));
		},
		{ mm: p.mm },
	);
	const pmd = pmdAt(p, 0);
	const ptl = pte_lockptr(p.mm!, pmd);
	for (let locked = 0; locked < 2; ) {
		stepThread(task);
		if (task.point?.access === 'acquire' && task.point.object === ptl) locked++;
	}
	moved.compound = 0;
	runThreads();
	EXPECT_EQ(5n, word);
	EXPECT_EQ(1, dev.faults);
	EXPECT_EQ(16, dev.free.length);
});

// --- unmapping ---

TEST_F(leaves, 'dontneed_keeps_guards_and_munmap_takes_all', ({ p, dev }, { profile }) => {
	userWrite64(p, at(0), 1n);
	run(toDevice(dev, p.mm!, at(0), 1), { task: p });
	userWrite64(p, at(1), 1n);
	makeExclusive(p, 1, profile);
	put(p, 2, make_pte_marker_entry(PTE_MARKER_GUARD));
	put(p, 3, make_pte_marker_entry(PTE_MARKER_POISONED));
	put(p, 4, make_pte_marker_entry(PTE_MARKER_UFFD_WP));
	put(p, 5, make_hwpoison_entry(0x123n));
	put(p, 6, usedSlot());
	p.mm!.rss_stat[MM_SWAPENTS]!++;
	EXPECT_STREQ('D X k k k ? s waxd', dump(p, 0, 8));
	EXPECT_EQ(0, userMadvise(p, at(0), 8n * PAGE, MADV_DONTNEED));
	EXPECT_STREQ('. . k . . . . .', dump(p, 0, 8));
	EXPECT_EQ(16, dev.free.length);
	EXPECT_EQ(0, p.mm!.rss_stat[MM_ANONPAGES]);
	EXPECT_EQ(0, userMunmap(p, at(0), 8n * PAGE));
	EXPECT_EQ(1, p.mm!.pgtables);
});

TEST_F(leaves, 'file_mapping_keeps_write_protect_markers', ({ p }) => {
	mapPages(p, 0, 2, RW, MAP_SHARED);
	userRead64(p, at(0));
	put(p, 1, make_pte_marker_entry(PTE_MARKER_UFFD_WP));
	userMadvise(p, at(0), 2n * PAGE, MADV_DONTNEED);
	EXPECT_STREQ('. k', dump(p, 0, 2));
	userMunmap(p, at(0), 2n * PAGE);
	EXPECT_STREQ('. .', dump(p, 0, 2));
});

TEST_F(leaves, 'page_cache_only_unmapping_leaves_what_is_anonymous', ({ p, dev }) => {
	const f = run(shmem_file_setup('f', 8n * PAGE, 0n)) as file;
	ASSERT_FALSE(IS_ERR(f));
	userMmap(p, at(16), 4n * PAGE, RW, MAP_PRIVATE, f);
	userWrite64(p, at(16), 1n);
	userWrite64(p, at(19), 1n);
	run(toDevice(dev, p.mm!, at(16), 1), { task: p });
	put(p, 17, usedSlot());
	p.mm!.rss_stat[MM_SWAPENTS]!++;
	put(p, 18, make_hwpoison_entry(0x123n));
	const moving = pageAt(p, 19);
	const present = entryAt(p, 19).value;
	put(p, 19, make_writable_migration_entry(page_to_pfn(moving) as bigint));
	run(unmap_mapping_range(f.f_mapping!, 0n, 0n, false));
	EXPECT_STREQ('D s ? m', dump(p, 16, 4));
	entryAt(p, 19).value = present;
	run(shmemTruncate(f, 0n));
	EXPECT_STREQ('. . . .', dump(p, 16, 4));
	EXPECT_EQ(16, dev.free.length);
	run(fput(f));
	userMunmap(p, at(16), 4n * PAGE);
});

TEST_F(leaves, 'full_gather_is_flushed_on_the_way', ({ p }) => {
	for (let i = 0; i < 3; i++) userWrite64(p, at(i), 1n);
	const filler = run(alloc_page(GFP_KERNEL))!;
	folio_ref_add(page_folio(filler), 9_998);
	run(
		function* () {
			const tlb = tlb_gather_mmu(p.mm!);
			tlb.pages = new Array(9_998).fill(filler);
			yield* unmap_page_range(tlb, vmaOf(p, 0), at(0), at(8), null);
			EXPECT_EQ(2, tlb.pages.length);
			yield* tlb_finish_mmu(tlb);
		},
		{ task: p },
	);
	EXPECT_EQ(1, folio_ref_count(page_folio(filler)));
	run(folio_put(page_folio(filler)));
	EXPECT_STREQ('. . .', dump(p, 0, 3));
});

TEST_F(leaves, 'table_that_dontneed_empties_goes_with_it', ({ p }, { profile }) => {
	mapPages(p, 512, 1024);
	for (const page of [512, 800, 1024]) userWrite64(p, at(page), 1n);
	userMadvise(p, at(512), 512n * PAGE - PAGE, MADV_DONTNEED);
	EXPECT_STREQ('.', dump(p, 512, 1));
	put(p, 513, make_pte_marker_entry(PTE_MARKER_GUARD));
	userMadvise(p, at(512), 512n * PAGE, MADV_DONTNEED);
	EXPECT_STREQ('. k', dump(p, 512, 2));
	entryAt(p, 513).value = 0n;
	const { pgtables } = p.mm!;
	userMadvise(p, at(512), 512n * PAGE, MADV_DONTNEED);
	EXPECT_STREQ(
		profile === 'v7.3' ? 'M waxd' : '. waxd',
		`${dump(p, 512, 1)} ${dump(p, 1024, 1)}`,
	);
	EXPECT_EQ(pgtables - (profile === 'v7.3' ? 1 : 0), p.mm!.pgtables);
});

// --- fork ---

TEST_F(leaves, 'fork_shares_private_pages_read_only', ({ p, dev }) => {
	userWrite64(p, at(0), 5n);
	run(toDevice(dev, p.mm!, at(0), 1), { task: p });
	EXPECT_TRUE(softleaf_is_device_private_write(softleaf_from_pte(entryAt(p, 0).value)));
	const child = forkProcess(p) as task_struct;
	for (const task of [p, child]) {
		const entry = softleaf_from_pte(entryAt(task, 0).value);
		EXPECT_TRUE(softleaf_is_device_private(entry));
		EXPECT_FALSE(softleaf_is_device_private_write(entry));
		EXPECT_EQ(2, folio_ref_count(softleaf_to_folio(entry)));
	}
	const log = new InvalidationLog(p.mm!);
	// the touch of one brings it back for both
	EXPECT_NULL(userWrite64(child, at(0), 6n));
	EXPECT_STREQ('1 0-1', log.take());
	EXPECT_EQ(5n, userRead64(p, at(0)));
	EXPECT_EQ(6n, userRead64(child, at(0)));
	EXPECT_EQ(16, dev.free.length);
	log.remove();
	exitProcess(child);
});

TEST_F(
	leaves,
	'fork_restores_exclusive_entries_and_copies_markers_that_matter',
	({ p }, { profile }) => {
		userWrite64(p, at(0), 5n);
		makeExclusive(p, 0, profile);
		put(p, 1, make_pte_marker_entry(PTE_MARKER_GUARD));
		put(p, 2, make_pte_marker_entry(PTE_MARKER_POISONED));
		put(p, 3, make_pte_marker_entry(PTE_MARKER_UFFD_WP));
		const child = forkProcess(p) as task_struct;
		EXPECT_STREQ('k k k', dump(p, 1, 3));
		EXPECT_STREQ('k k .', dump(child, 1, 3));
		EXPECT_EQ(5n, userRead64(child, at(0)));
		exitProcess(child);
		// its page is locked: no fork now
		userWrite64(p, at(0), 6n);
		makeExclusive(p, 0, profile);
		const f = softleaf_to_folio(softleaf_from_pte(entryAt(p, 0).value));
		f.flags |= PG_locked;
		EXPECT_EQ(-ENOMEM, forkProcess(p));
		f.flags &= ~PG_locked;
		EXPECT_EQ(6n, userRead64(p, at(0)));
	},
);

TEST_F(leaves, 'fork_copies_migration_entries_as_shared', ({ p }) => {
	userWrite64(p, at(0), 5n);
	userWrite64(p, at(1), 6n);
	const words = [0, 1].map((i) => entryAt(p, i).value);
	const pfns = [0, 1].map((i) => page_to_pfn(pageAt(p, i)) as bigint);
	put(p, 0, make_writable_migration_entry(pfns[0]!));
	put(p, 1, make_readable_migration_entry(pfns[1]!));
	const child = forkProcess(p) as task_struct;
	for (const task of [p, child])
		for (const page of [0, 1])
			EXPECT_TRUE(
				softleaf_is_migration_read(
					softleaf_from_pte(entryAt(task, page).value),
				),
			);
	EXPECT_EQ(3, child.mm!.rss_stat[MM_ANONPAGES]);
	exitProcess(child);
	for (const i of [0, 1]) entryAt(p, i).value = words[i]!;
	EXPECT_EQ(0, faultAt(p, 0, FAULT_FLAG_WRITE));
});
