// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: what a fork copies, shares and leaves out; that it fails without a trace. Method: entries of
 * parent and child as text; every allocation of a fork made to fail in turn.
 */
import { ENOMEM } from '../../include/linux/errno.ts';
import {
	MAP_SHARED,
	PROT_READ,
	VM_DONTCOPY,
	VM_MIXEDMAP,
	VM_UFFD_WP,
	VM_WIPEONFORK,
} from '../../include/linux/mm.ts';
import { MM_ANONPAGES } from '../../include/linux/mm_types.ts';
import { SIGKILL, TASK_DEAD, type task_struct } from '../../include/linux/sched.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import { type Sim, waitPoint } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';
import { run, runThreads, spawn, stepThread } from '../../kernel/sched/core.ts';
import { randomStrategy } from '../../kernel/sched/strategy.ts';
import { dup_mm } from '../../mm/dup_mmap.ts';
import { forkProcess, forkTask } from '../../mm/fork.ts';
import { liveObjects } from '../../mm/live.ts';
import { insertPfn } from '../../mm/memory.ts';
import {
	mmap_read_lock,
	mmap_read_unlock,
	mmap_write_lock,
	mmap_write_unlock,
} from '../../mm/mmap_lock.ts';
import { theZone } from '../../mm/page_alloc.ts';
import { folio_put_refs, folio_ref_add } from '../../mm/swap.ts';
import { exitProcess, storeUser64, userRead64, userWrite64 } from '../../mm/syscalls.ts';
import { EXPECT_EQ, EXPECT_NULL, EXPECT_STREQ, EXPECT_TRUE, TEST_F } from '../kselftest_harness.ts';
import { at, dump, folioAt, vmaOf } from './entries.ts';
import { processFixture, RELEASES } from './process_fixture.ts';
import { InvalidationLog, mapPages, RW, vmaList } from './small_machine.ts';

const fork = processFixture('fork', { releases: RELEASES });

function forked(p: task_struct): task_struct {
	return forkProcess(p) as task_struct;
}

TEST_F(fork, 'private_pages_are_shared_read_only', ({ p }) => {
	mapPages(p, 0, 4);
	userWrite64(p, at(0), 1n);
	userRead64(p, at(1));
	userWrite64(p, at(3), 3n);
	const log = new InvalidationLog(p.mm!);
	const child = forked(p);
	EXPECT_STREQ('3 0-4', log.take());
	EXPECT_STREQ('rad rz! . rad', dump(p, 0, 4));
	EXPECT_STREQ('rad rz! . rad', dump(child, 0, 4));
	EXPECT_STREQ(vmaList(p.mm!), vmaList(child.mm!));
	EXPECT_EQ(2, child.mm!.rss_stat[MM_ANONPAGES]);
	EXPECT_EQ(p.mm!.total_vm, child.mm!.total_vm);
	EXPECT_EQ(1n, userRead64(child, at(0)));
	log.remove();
	exitProcess(child);
});

TEST_F(fork, 'what_a_fault_brings_back_is_not_copied', ({ p }) => {
	mapPages(p, 0, 2, RW, MAP_SHARED);
	mapPages(p, 8, 2);
	userWrite64(p, at(0), 1n);
	userRead64(p, at(8));
	const log = new InvalidationLog(p.mm!);
	const child = forked(p);
	EXPECT_STREQ('', log.take());
	EXPECT_STREQ('P P', dump(child, 0, 2));
	EXPECT_EQ(1n, userRead64(child, at(0)));
	EXPECT_EQ(0n, userRead64(child, at(8)));
	userWrite64(child, at(1), 2n);
	EXPECT_EQ(2n, userRead64(p, at(1)));
	log.remove();
	exitProcess(child);
});

TEST_F(fork, 'shared_pages_of_a_watched_mapping_are_copied_clean', ({ p }) => {
	mapPages(p, 0, 2, RW, MAP_SHARED);
	userWrite64(p, at(0), 1n);
	vmaOf(p, 0).vm_flags |= VM_UFFD_WP;
	const child = forked(p);
	EXPECT_STREQ('wfd .', dump(p, 0, 2));
	EXPECT_STREQ('wf .', dump(child, 0, 2));
	exitProcess(child);
});

TEST_F(fork, 'special_pfns_are_copied', ({ p }) => {
	mapPages(p, 0, 1, RW, MAP_SHARED);
	run(function* () {
		yield* mmap_write_lock(p.mm!);
		const vma = vmaOf(p, 0);
		vma.vm_flags |= VM_MIXEDMAP;
		yield* insertPfn(vma, at(0), 0xfee00n);
		yield* mmap_write_unlock(p.mm!);
	});
	const child = forked(p);
	EXPECT_STREQ('wq!', dump(child, 0, 1));
	exitProcess(child);
});

TEST_F(fork, 'mappings_may_stay_behind_or_start_empty', ({ p }) => {
	mapPages(p, 0, 2);
	mapPages(p, 4, 1, PROT_READ);
	userWrite64(p, at(0), 1n);
	vmaOf(p, 0).vm_flags |= VM_WIPEONFORK;
	vmaOf(p, 4).vm_flags |= VM_DONTCOPY;
	const child = forked(p);
	EXPECT_STREQ('0-2:rw', vmaList(child.mm!));
	EXPECT_EQ(2n, child.mm!.total_vm);
	EXPECT_EQ(0n, userRead64(child, at(0)));
	EXPECT_STREQ('waxd', dump(p, 0, 1));
	exitProcess(child);
});

TEST_F(fork, 'page_that_may_be_pinned_is_copied_at_once', ({ p }) => {
	mapPages(p, 0, 2);
	userWrite64(p, at(0), 1n);
	userWrite64(p, at(1), 2n);
	const f = folioAt(p, 0);
	folio_ref_add(f, 1024);
	const child = forked(p);
	EXPECT_STREQ('waxd rad', dump(p, 0, 2));
	EXPECT_STREQ('waxd rad', dump(child, 0, 2));
	EXPECT_EQ(1n, userRead64(child, at(0)));
	exitProcess(child);
	// no memory for the copy
	injectFaults().fail('folio_prealloc', 1);
	EXPECT_EQ(-ENOMEM, forkProcess(p));
	run(folio_put_refs(f, 1024));
});

TEST_F(fork, 'each_allocation_of_a_fork_may_fail', ({ p }) => {
	mapPages(p, 0, 2);
	mapPages(p, 600, 2);
	mapPages(p, 1 << 20, 1, RW, MAP_SHARED);
	for (const page of [0, 600, 1 << 20]) userWrite64(p, at(page), 1n);
	userWrite64(p, at(600), 1n);
	const sites = ['alloc_pages', 'vm_area_dup', 'anon_vma_alloc', 'anon_vma_chain_alloc'];
	for (const site of sites) {
		const used = theZone().allocated;
		let failures = 0;
		for (let nth = 1; ; nth++) {
			injectFaults().fail(site, nth);
			const child = forkProcess(p);
			if (typeof child !== 'number') {
				exitProcess(child);
				break;
			}
			EXPECT_EQ(-ENOMEM, child);
			EXPECT_EQ(used, theZone().allocated);
			failures++;
		}
		EXPECT_TRUE(failures >= 2);
		EXPECT_EQ(1, liveObjects().mms.size);
	}
	injectFaults().fail('mm_alloc', 1);
	EXPECT_EQ(-ENOMEM, forkProcess(p));
	EXPECT_EQ(1n, userRead64(p, at(600)));
});

/** Lets a thread go on until it waits or has ended. */
function stepWhilePossible(task: task_struct): void {
	while (task.__state !== TASK_DEAD && task.point?.ready?.() !== false) stepThread(task);
}

TEST_F(fork, 'killed_while_it_waits_for_the_mmap_lock', ({ p }) => {
	const gate = { open: false };
	const holder = spawn('holder', function* () {
		yield* mmap_read_lock(p.mm!);
		yield waitPoint('wait', gate, () => gate.open);
		yield* mmap_read_unlock(p.mm!);
	});
	let ret: unknown = 'none';
	const forker = spawn('forker', function* () {
		ret = yield* dup_mm(p.mm!);
	});
	stepWhilePossible(holder);
	stepWhilePossible(forker);
	EXPECT_EQ('none', ret);
	forker.pending.add(SIGKILL);
	stepWhilePossible(forker);
	EXPECT_NULL(ret);
	gate.open = true;
	runThreads();
	EXPECT_EQ(1, liveObjects().mms.size);
});

TEST_F(fork, 'process_without_address_space_cannot_fork', ({ p }) => {
	const child = forked(p);
	exitProcess(child);
	let message = '';
	try {
		forkProcess(child);
	} catch (error) {
		message = String(error);
	}
	EXPECT_TRUE(message.includes('has no mm'));
});

TEST_F(fork, 'anon_vma_that_nobody_uses_is_taken_over', ({ p }) => {
	mapPages(p, 0, 1);
	userWrite64(p, at(0), 1n);
	const child = forked(p);
	const grandchild = forked(child);
	const middle = vmaOf(child, 0).anon_vma!;
	exitProcess(child);
	// the grandchild's next child needs no anon_vma of its own
	const last = forked(grandchild);
	EXPECT_TRUE(vmaOf(last, 0).anon_vma === middle);
	EXPECT_NULL(userWrite64(last, at(0), 2n));
	EXPECT_EQ(1n, userRead64(grandchild, at(0)));
	exitProcess(last);
	exitProcess(grandchild);
	EXPECT_EQ(1, vmaOf(p, 0).anon_vma!.chains.size);
	EXPECT_EQ(1, vmaOf(p, 0).anon_vma!.refcount);
});

TEST_F(fork, 'write_by_another_thread_is_in_the_child_whole_or_not_at_all', ({ p }) => {
	for (let seed = 1; seed <= 60; seed++) {
		mapPages(p, 0, 1);
		userWrite64(p, at(0), 1n);
		let child: task_struct | null = null;
		world().preemptible = true;
		spawn(
			'writer',
			function* (): Sim<void> {
				for (let i = 2n; i < 6n; i++) yield* storeUser64(at(0), i);
			},
			{ mm: p.mm, cpu: 1 },
		);
		spawn(
			'forker',
			function* (): Sim<void> {
				child = (yield* forkTask(p)) as task_struct;
			},
			{ mm: p.mm, cpu: 0 },
		);
		runThreads(randomStrategy(seed));
		world().preemptible = false;
		const inherited = userRead64(child!, at(0)) as bigint;
		EXPECT_TRUE(inherited >= 1n && inherited <= 5n);
		// a stale writable translation of the parent would write through to the child
		EXPECT_NULL(userWrite64(p, at(0), 99n));
		EXPECT_EQ(inherited, userRead64(child!, at(0)));
		exitProcess(child!);
	}
});
