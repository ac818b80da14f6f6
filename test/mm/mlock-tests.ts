// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: mlock() faults in what the protection allows, VMAs split and merge at its ends, and a folio
 * is counted once for each VMA that locks it. Method: calls on fresh and touched mappings; entries,
 * VMAs, `locked_vm` and the count in each folio are compared after each.
 */

import { Disk } from '../../arch/sim/disk.ts';
import { EAGAIN, EINTR, EINVAL, ENOMEM } from '../../include/linux/errno.ts';
import {
	MADV_DONTNEED,
	MAP_SHARED,
	PROT_NONE,
	PROT_READ,
	PROT_WRITE,
	VM_LOCKED,
	VM_PFNMAP,
} from '../../include/linux/mm.ts';
import type { folio } from '../../include/linux/mm_types.ts';
import { PG_mlocked, PG_unevictable } from '../../include/linux/page-flags.ts';
import { SIGKILL, type task_struct } from '../../include/linux/sched.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import { run, runThreads, spawn } from '../../kernel/sched/core.ts';
import { forkProcess } from '../../mm/fork.ts';
import { split_huge_pmd_address } from '../../mm/huge_memory.ts';
import { MADV_HUGEPAGE } from '../../mm/madvise.ts';
import { sys_mlock, sys_munlock } from '../../mm/mlock.ts';
import { mmap_write_lock, mmap_write_unlock } from '../../mm/mmap_lock.ts';
import { MREMAP_FIXED, MREMAP_MAYMOVE } from '../../mm/mremap.ts';
import { folio_isolate_lru, folio_putback_lru } from '../../mm/swap.ts';
import { swapOn } from '../../mm/swapfile.ts';
import {
	exitProcess,
	userMadvise,
	userMlock,
	userMremap,
	userMunlock,
	userMunmap,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import { reclaim_pages } from '../../mm/vmscan.ts';
import { EXPECT_EQ, EXPECT_STREQ, EXPECT_TRUE, TEST_F } from '../kselftest_harness.ts';
import { folioAt } from './entries.ts';
import { processFixture } from './process_fixture.ts';
import { ARENA, at, mapPages, PAGE, ptes, RW, vmaList } from './small_machine.ts';

const lock = processFixture('mlock');

function mlock(p: task_struct, page: number, pages: number): number {
	return userMlock(p, at(page), BigInt(pages) * PAGE);
}

function munlock(p: task_struct, page: number, pages: number): number {
	return userMunlock(p, at(page), BigInt(pages) * PAGE);
}

/** `count`, or `-` for a folio that reclaim may take. */
function lockedText(f: folio): string {
	const both = PG_mlocked | PG_unevictable;
	return (f.flags & both) === both ? String(f.mlock_count) : '-';
}

TEST_F(lock, 'pages_are_faulted_in_as_the_protection_allows', ({ p }) => {
	mapPages(p, 0, 2);
	mapPages(p, 2, 1, PROT_READ);
	mapPages(p, 3, 1, RW, MAP_SHARED);
	// not readable for get_user_pages(), but there
	mapPages(p, 4, 1, PROT_WRITE, MAP_SHARED);
	EXPECT_EQ(0, mlock(p, 0, 5));
	EXPECT_STREQ('wwrww', ptes(p.mm!, 0, 5));
	EXPECT_EQ(5n, p.mm!.locked_vm);
	EXPECT_STREQ('1', lockedText(folioAt(p, 0)));
	EXPECT_STREQ('1', lockedText(folioAt(p, 3)));
	EXPECT_EQ(-EINVAL, userMadvise(p, at(0), PAGE, MADV_DONTNEED));
	EXPECT_EQ(0, munlock(p, 0, 5));
	EXPECT_EQ(0n, p.mm!.locked_vm);
	EXPECT_STREQ('-', lockedText(folioAt(p, 0)));
	EXPECT_EQ(0, userMadvise(p, at(0), PAGE, MADV_DONTNEED));
});

TEST_F(lock, 'part_of_a_mapping_is_a_vma_of_its_own', ({ p }) => {
	mapPages(p, 0, 4);
	for (let i = 0; i < 4; i++) userWrite64(p, at(i), 1n);
	EXPECT_EQ(0, userMlock(p, at(1) + 5n, PAGE));
	EXPECT_STREQ('0-1:rw 1-3:rw 3-4:rw', vmaList(p.mm!));
	EXPECT_STREQ('-11-', [0, 1, 2, 3].map((i) => lockedText(folioAt(p, i))).join(''));
	// twice counts once
	EXPECT_EQ(0, mlock(p, 1, 1));
	EXPECT_EQ(2n, p.mm!.locked_vm);
	EXPECT_STREQ('1', lockedText(folioAt(p, 1)));
	EXPECT_EQ(0, munlock(p, 2, 2));
	EXPECT_STREQ('0-1:rw 1-2:rw 2-4:rw', vmaList(p.mm!));
	EXPECT_STREQ('-1--', [0, 1, 2, 3].map((i) => lockedText(folioAt(p, i))).join(''));
	EXPECT_EQ(0, munlock(p, 0, 4));
	EXPECT_STREQ('0-4:rw', vmaList(p.mm!));
});

TEST_F(lock, 'a_page_touched_later_is_locked', ({ p }) => {
	mapPages(p, 0, 2, RW, MAP_SHARED);
	p.mm!.vmas[0]!.vm_flags |= VM_LOCKED;
	p.mm!.locked_vm = 2n;
	userRead64(p, at(0));
	EXPECT_STREQ('1', lockedText(folioAt(p, 0)));
	const f = folioAt(p, 0);
	// mapped once more, locked there too: the first to go leaves it locked
	const child = forkProcess(p) as task_struct;
	EXPECT_EQ(0, userMlock(child, at(0), PAGE));
	EXPECT_STREQ('2', lockedText(f));
	EXPECT_EQ(0, userMunmap(child, at(0), PAGE));
	EXPECT_STREQ('1', lockedText(f));
	EXPECT_EQ(0n, child.mm!.locked_vm);
	exitProcess(child);
	EXPECT_EQ(0, userMunmap(p, at(0), PAGE));
	EXPECT_EQ(1n, p.mm!.locked_vm);
	EXPECT_STREQ('-', lockedText(f));
});

TEST_F(lock, 'gap_is_enomem_and_nothing_is_faulted_in', ({ p }) => {
	mapPages(p, 0, 1);
	mapPages(p, 2, 1);
	EXPECT_EQ(-ENOMEM, mlock(p, 0, 3));
	EXPECT_STREQ('MMM', ptes(p.mm!, 0, 3));
	EXPECT_EQ(1n, p.mm!.locked_vm);
	EXPECT_EQ(-ENOMEM, munlock(p, 0, 2));
	EXPECT_EQ(0n, p.mm!.locked_vm);
	EXPECT_EQ(-ENOMEM, mlock(p, 1, 1));
	EXPECT_EQ(-ENOMEM, mlock(p, 4, 1));
	EXPECT_EQ(-EINVAL, userMlock(p, (1n << 64n) - PAGE, PAGE));
});

TEST_F(lock, 'what_cannot_be_faulted_in_is_an_errno', ({ p }) => {
	mapPages(p, 0, 1, PROT_NONE);
	EXPECT_EQ(-ENOMEM, mlock(p, 0, 1));
	mapPages(p, 1, 1);
	injectFaults().fail('folio_prealloc', 1);
	EXPECT_EQ(-EAGAIN, mlock(p, 1, 1));
	injectFaults().fail('vm_area_dup', 1);
	mapPages(p, 4, 2);
	EXPECT_EQ(-ENOMEM, mlock(p, 4, 1));
	// a driver's mapping is left out: nothing to lock
	mapPages(p, 8, 1);
	p.mm!.vmas.at(-1)!.vm_flags |= VM_PFNMAP;
	EXPECT_EQ(0, mlock(p, 8, 1));
	EXPECT_STREQ('.', ptes(p.mm!, 8, 1));
	p.mm!.vmas.at(-1)!.vm_flags &= ~VM_PFNMAP;
});

TEST_F(lock, 'what_a_locked_mapping_gains_is_faulted_in', ({ p }) => {
	mapPages(p, 0, 1);
	EXPECT_EQ(0, mlock(p, 0, 1));
	EXPECT_EQ(at(0), userMremap(p, at(0), PAGE, 2n * PAGE, 0) as bigint);
	EXPECT_STREQ('ww', ptes(p.mm!, 0, 2));
	EXPECT_EQ(2n, p.mm!.locked_vm);
	const move = MREMAP_MAYMOVE | MREMAP_FIXED;
	EXPECT_EQ(at(8), userMremap(p, at(0), 2n * PAGE, 4n * PAGE, move, at(8)) as bigint);
	EXPECT_STREQ('wwww', ptes(p.mm!, 8, 4));
	EXPECT_EQ(4n, p.mm!.locked_vm);
});

TEST_F(lock, 'killed_task_does_not_wait', ({ p }) => {
	run(mmap_write_lock(p.mm!));
	const ret: number[] = [];
	const body = function* () {
		ret.push(yield* sys_mlock(ARENA, PAGE), yield* sys_munlock(ARENA, PAGE));
	};
	spawn('killed', body, { mm: p.mm }).pending.add(SIGKILL);
	runThreads();
	EXPECT_STREQ(`${-EINTR},${-EINTR}`, ret.join());
	run(mmap_write_unlock(p.mm!));
});

TEST_F(lock, 'page_that_was_off_the_lru_is_found_locked_when_it_is_back', ({ p }) => {
	mapPages(p, 0, 2);
	userWrite64(p, at(0), 1n);
	userWrite64(p, at(1), 1n);
	const [locked, unlocked] = [folioAt(p, 0), folioAt(p, 1)];
	mlock(p, 1, 1);
	EXPECT_TRUE(folio_isolate_lru(locked) && folio_isolate_lru(unlocked));
	mlock(p, 0, 1);
	munlock(p, 1, 1);
	EXPECT_STREQ('-', lockedText(locked));
	run(folio_putback_lru(locked));
	run(folio_putback_lru(unlocked));
	EXPECT_STREQ('1', lockedText(locked));
	EXPECT_EQ(0, unlocked.flags & (PG_mlocked | PG_unevictable));
	munlock(p, 0, 1);
	EXPECT_STREQ('-', lockedText(locked));
});

TEST_F(lock, 'reclaim_counts_a_lock_that_it_finds', ({ p }) => {
	swapOn(new Disk(16));
	mapPages(p, 0, 1);
	userWrite64(p, at(0), 1n);
	const f = folioAt(p, 0);
	// as after a fault that mapped it while it was isolated
	p.mm!.vmas[0]!.vm_flags |= VM_LOCKED;
	p.mm!.locked_vm = 1n;
	EXPECT_TRUE(folio_isolate_lru(f));
	EXPECT_EQ(
		0,
		run(() => reclaim_pages([f])),
	);
	EXPECT_STREQ('w', ptes(p.mm!, 0, 1));
	EXPECT_STREQ('1', lockedText(f));
});

TEST_F(lock, 'huge_page_in_small_entries_is_locked_if_all_of_it_is', ({ p }) => {
	mapPages(p, 512, 512);
	userMadvise(p, at(512), 512n * PAGE, MADV_HUGEPAGE);
	userWrite64(p, at(512), 1n);
	// another way to map it: the folio stays whole
	run(() => split_huge_pmd_address(p.mm!.vmas[0]!, at(512), false), { task: p });
	const f = folioAt(p, 512);
	EXPECT_EQ(0, mlock(p, 512, 512));
	EXPECT_STREQ('1', lockedText(f));
	EXPECT_EQ(0, munlock(p, 512, 512));
	EXPECT_STREQ('-', lockedText(f));
	EXPECT_EQ(0, mlock(p, 512, 100));
	EXPECT_STREQ('-', lockedText(f));
});
