// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a guarded page is a SIGSEGV until its mapping goes, and what cannot be guarded is refused.
 * Method: guards are put among written pages of a process; entries are read as letters before and
 * after touches, advice, a fork and unmapping.
 */
import { EINVAL, ENOMEM } from '../../include/linux/errno.ts';
import {
	MADV_DONTNEED,
	MAP_PRIVATE,
	MAP_SHARED,
	PROT_READ,
	VM_LOCKED,
	VM_MAYBE_GUARD,
} from '../../include/linux/mm.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { softleaf_from_pte, softleaf_is_guard_marker } from '../../include/linux/swapops.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import { boot } from '../../init/main.ts';
import { forkProcess } from '../../mm/fork.ts';
import { MADV_GUARD_INSTALL, MADV_GUARD_REMOVE, MADV_HUGEPAGE } from '../../mm/madvise.ts';
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

/** `g` guarded, `.` empty or no table, `p` present. */
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
