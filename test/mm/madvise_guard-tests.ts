// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a guarded page is a SIGSEGV until its mapping goes, and what cannot be guarded is refused.
 * Method: guards are put among written pages of a process; entries are read as letters before and
 * after touches, advice, a fork and unmapping.
 */
import { EINTR, EINVAL, ENOMEM, ERESTARTNOINTR } from '../../include/linux/errno.ts';
import {
	MADV_DONTNEED,
	MAP_PRIVATE,
	MAP_SHARED,
	PROT_READ,
	VM_LOCKED,
	VM_MAYBE_GUARD,
} from '../../include/linux/mm.ts';
import { SIGKILL, type task_struct } from '../../include/linux/sched.ts';
import { softleaf_from_pte, softleaf_is_guard_marker } from '../../include/linux/swapops.ts';
import type { userfaultfd_ctx } from '../../include/linux/userfaultfd_k.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import { retryBound } from '../../include/sim/retry.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import {
	UFFD_FEATURE_WP_UNPOPULATED,
	UFFDIO_REGISTER_MODE_WP,
} from '../../include/uapi/linux/userfaultfd.ts';
import { boot, checkpoint, restore } from '../../init/main.ts';
import { run, runThreads, spawn } from '../../kernel/sched/core.ts';
import { randomStrategy } from '../../kernel/sched/strategy.ts';
import { forkProcess } from '../../mm/fork.ts';
import {
	do_madvise,
	MADV_GUARD_INSTALL,
	MADV_GUARD_REMOVE,
	MADV_HUGEPAGE,
	sys_madvise,
} from '../../mm/madvise.ts';
import {
	createProcess,
	exitProcess,
	userMmap,
	userMprotect,
	userMunmap,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import {
	new_userfaultfd,
	userfaultfd_register,
	userfaultfd_release,
	userfaultfd_writeprotect,
} from '../../mm/userfaultfd.ts';
import { oopsOf } from '../kernel/tiny_world.ts';
import {
	EXPECT_EQ,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST,
	TEST_F,
} from '../kselftest_harness.ts';
import { runs } from './entries.ts';
import { processFixture } from './process_fixture.ts';
import {
	at,
	InvalidationLog,
	madvisePages,
	mapPages,
	PAGE,
	pteOf,
	RW,
	signalText,
	smallMachine,
	vmaList,
} from './small_machine.ts';

const guard = processFixture('madvise_guard');

/** `g` guarded, `.` empty or no table, `p` present or another marker. */
function entries(p: task_struct, first: number, count: number): string {
	let text = '';
	for (let i = first; i < first + count; i++) {
		const word = pteOf(p.mm!, at(i))?.value ?? 0n;
		if (word === 0n) text += '.';
		else text += softleaf_is_guard_marker(softleaf_from_pte(word)) ? 'g' : 'p';
	}
	return text;
}

TEST_F(guard, 'touch_of_a_guarded_page_is_a_segv', ({ p }) => {
	mapPages(p, 0, 4);
	for (let i = 1; i < 4; i++) userWrite64(p, at(i), 7n);
	const log = new InvalidationLog(p.mm!);
	EXPECT_EQ(0, madvisePages(p, 0, 2, MADV_GUARD_INSTALL));
	EXPECT_STREQ('1 0-2', log.take());
	EXPECT_STREQ('ggpp', entries(p, 0, 4));
	EXPECT_STREQ('sig 11 code 1', signalText(userRead64(p, at(1))));
	EXPECT_STREQ('sig 11 code 1', signalText(userWrite64(p, at(0), 1n)));
	// once more: nothing to unmap
	EXPECT_EQ(0, madvisePages(p, 0, 2, MADV_GUARD_INSTALL));
	EXPECT_STREQ('', log.take());
	EXPECT_EQ(0, madvisePages(p, 1, 3, MADV_GUARD_REMOVE));
	EXPECT_STREQ('g.pp', entries(p, 0, 4));
	EXPECT_EQ(0n, userRead64(p, at(1)));
	EXPECT_EQ(7n, userRead64(p, at(2)));
	log.remove();
});

TEST_F(guard, 'markers_stay_until_the_mapping_goes', ({ p }) => {
	mapPages(p, 0, 2, RW, MAP_SHARED);
	EXPECT_EQ(0, madvisePages(p, 0, 2, MADV_GUARD_INSTALL));
	EXPECT_NULL(p.mm!.vmas[0]!.anon_vma);
	EXPECT_EQ(0, madvisePages(p, 0, 2, MADV_DONTNEED));
	EXPECT_STREQ('gg', entries(p, 0, 2));
	EXPECT_EQ(0, userMunmap(p, at(0), PAGE));
	mapPages(p, 0, 1);
	EXPECT_EQ(0n, userRead64(p, at(0)));
});

TEST_F(guard, 'child_of_a_fork_has_them_too', ({ p }) => {
	// two tables, and nothing else is in them: the VMA has an anon_vma so that they are copied
	mapPages(p, 510, 4);
	EXPECT_EQ(0, madvisePages(p, 510, 4, MADV_GUARD_INSTALL));
	EXPECT_TRUE(p.mm!.vmas[0]!.anon_vma !== null);
	const child = forkProcess(p) as task_struct;
	EXPECT_STREQ('gggg', entries(child, 510, 4));
	exitProcess(child);
});

TEST_F(guard, 'child_of_a_fork_has_those_of_a_file_too', ({ p }) => {
	userMmap(p, at(0), 4n * PAGE, RW, MAP_SHARED);
	EXPECT_EQ(0, madvisePages(p, 1, 1, MADV_GUARD_INSTALL));
	let child = forkProcess(p) as task_struct;
	EXPECT_STREQ('.g..', entries(child, 0, 4));
	EXPECT_STREQ('sig 11 code 1', signalText(userRead64(child, at(1))));
	exitProcess(child);
	// the part with guards comes together with one that has none: what it knew of them is kept
	EXPECT_EQ(0, userMprotect(p, at(0), 2n * PAGE, PROT_READ));
	EXPECT_EQ(0, userMprotect(p, at(2), 2n * PAGE, PROT_READ));
	EXPECT_STREQ('0-4:rs', vmaList(p.mm!));
	child = forkProcess(p) as task_struct;
	EXPECT_STREQ('.g..', entries(child, 0, 4));
	exitProcess(child);
});

TEST_F(guard, 'neighbours_with_and_without_guards_are_merged', ({ p }) => {
	userMmap(p, at(0), 2n * PAGE, RW, MAP_PRIVATE);
	EXPECT_EQ(0, madvisePages(p, 0, 1, MADV_GUARD_INSTALL));
	userMmap(p, at(2), 2n * PAGE, RW, MAP_PRIVATE);
	EXPECT_STREQ('0-4:rw', vmaList(p.mm!));
	EXPECT_TRUE((p.mm!.vmas[0]!.vm_flags & VM_MAYBE_GUARD) !== 0n);
});

TEST_F(guard, 'huge_page_without_guards_stays_whole', ({ p }) => {
	userMmap(p, at(512), 512n * PAGE, RW, MAP_PRIVATE);
	madvisePages(p, 512, 512, MADV_HUGEPAGE);
	userWrite64(p, at(512), 1n);
	EXPECT_EQ(0, madvisePages(p, 512, 512, MADV_GUARD_REMOVE));
	EXPECT_EQ(0, madvisePages(p, 600, 1, MADV_GUARD_REMOVE));
	EXPECT_STREQ('Twaxd*512', runs(p, 512, 512));
});

TEST_F(guard, 'what_cannot_be_guarded_is_refused', ({ p }) => {
	mapPages(p, 0, 2);
	const vma = p.mm!.vmas[0]!;
	vma.vm_flags |= VM_LOCKED;
	EXPECT_EQ(-EINVAL, madvisePages(p, 0, 1, MADV_GUARD_INSTALL));
	EXPECT_EQ(0, madvisePages(p, 0, 1, MADV_GUARD_REMOVE));
	vma.vm_flags &= ~VM_LOCKED;
	injectFaults().fail('anon_vma_alloc', 1);
	EXPECT_EQ(-ENOMEM, madvisePages(p, 0, 1, MADV_GUARD_INSTALL));
	injectFaults().fail('alloc_pages', 1);
	EXPECT_EQ(-ENOMEM, madvisePages(p, 0, 1, MADV_GUARD_INSTALL));
	EXPECT_EQ(-ENOMEM, madvisePages(p, 1, 2, MADV_GUARD_INSTALL));
	EXPECT_STREQ('.g', entries(p, 0, 2));
});

TEST('releases_before_guard_pages_refuse_them', () => {
	boot(smallMachine(), 'v6.12');
	const p = createProcess('guard');
	mapPages(p, 0, 1);
	EXPECT_EQ(-EINVAL, madvisePages(p, 0, 1, MADV_GUARD_INSTALL));
	exitProcess(p);
});

/** Shared memory of 4 pages whose page 1 a userfaultfd protects by a marker, in a world of its own. */
function protectedShared(p: task_struct): userfaultfd_ctx {
	mapPages(p, 0, 4, RW, MAP_SHARED);
	userWrite64(p, at(0), 1n);
	const ctx = run(
		function* (): Sim<userfaultfd_ctx> {
			return new_userfaultfd(0n) as userfaultfd_ctx;
		},
		{ task: p },
	);
	EXPECT_EQ(0, run(userfaultfd_register(ctx, at(0), 4n * PAGE, UFFDIO_REGISTER_MODE_WP)));
	EXPECT_EQ(0, run(userfaultfd_writeprotect(ctx, at(1), PAGE, true)));
	return ctx;
}

TEST_F(guard, 'marker_of_a_userfaultfd_in_shared_memory_is_waited_for', ({ p }) => {
	const ctx = protectedShared(p);
	const log = new InvalidationLog(p.mm!);
	EXPECT_EQ(-ERESTARTNOINTR, run(do_madvise(p.mm!, at(0), 4n * PAGE, MADV_GUARD_INSTALL)));
	// unmapped as often as it is tried under one lock, and the marker is still there
	EXPECT_STREQ('1 0-4, 1 0-4, 1 0-4', log.take());
	EXPECT_STREQ('gp..', entries(p, 0, 4));
	const order: string[] = [];
	spawn(
		'guard',
		function* () {
			const ret = yield* sys_madvise(at(0), 4n * PAGE, MADV_GUARD_INSTALL);
			order.push(`guarded ${ret}`);
		},
		{ mm: p.mm },
	);
	spawn('monitor', function* () {
		while (log.lines.length < 7) yield { access: 'yield', object: log };
		order.push('lifted');
		yield* userfaultfd_writeprotect(ctx, at(1), PAGE, false);
	});
	runThreads(randomStrategy(1));
	EXPECT_STREQ('lifted, guarded 0', order.join(', '));
	EXPECT_STREQ('gggg', entries(p, 0, 4));
	log.remove();
	run(userfaultfd_release(ctx));
});

TEST_F(guard, 'who_waits_for_the_marker_can_be_killed', ({ p }) => {
	const ctx = protectedShared(p);
	p.pending.add(SIGKILL);
	EXPECT_EQ(-EINTR, madvisePages(p, 0, 4, MADV_GUARD_INSTALL));
	p.pending.delete(SIGKILL);
	const c = checkpoint();
	retryBound().rounds = 5;
	// nobody will lift it: what the kernel does for ever is told
	const report = oopsOf(() => madvisePages(p, 0, 4, MADV_GUARD_INSTALL));
	EXPECT_STREQ('BUG: livelock in sys_madvise()', report.title);
	restore(c);
	run(userfaultfd_release(ctx));
});

TEST_F(guard, 'marker_of_a_userfaultfd_in_anonymous_memory_goes', ({ p }) => {
	mapPages(p, 0, 2);
	const ctx = run(
		function* (): Sim<userfaultfd_ctx> {
			return new_userfaultfd(UFFD_FEATURE_WP_UNPOPULATED) as userfaultfd_ctx;
		},
		{ task: p },
	);
	EXPECT_EQ(0, run(userfaultfd_register(ctx, at(0), 2n * PAGE, UFFDIO_REGISTER_MODE_WP)));
	EXPECT_EQ(0, run(userfaultfd_writeprotect(ctx, at(0), 2n * PAGE, true)));
	EXPECT_STREQ('pp', entries(p, 0, 2));
	EXPECT_EQ(0, madvisePages(p, 0, 2, MADV_GUARD_INSTALL));
	EXPECT_STREQ('gg', entries(p, 0, 2));
	run(userfaultfd_release(ctx));
});
