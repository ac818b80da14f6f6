// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: each advice does to pages and VMAs what a program may rely on, and gaps and refusals are
 * answered as the kernel does. Method: advice on written pages of a process; entries, VMAs, flags
 * of folios and invalidations are looked at after each.
 */
import { EAGAIN, EFAULT, EHWPOISON, EINVAL, ENOMEM } from '../../include/linux/errno.ts';
import {
	MADV_DONTNEED,
	MAP_SHARED,
	PROT_READ,
	VM_HUGEPAGE,
	VM_IO,
	VM_LOCKED,
	VM_NOHUGEPAGE,
} from '../../include/linux/mm.ts';
import {
	FAULT_FLAG_ALLOW_RETRY,
	FAULT_FLAG_WRITE,
	VM_FAULT_COMPLETED,
	VM_FAULT_LOCKED,
} from '../../include/linux/mm_types.ts';
import { PG_dirty, PG_locked, PG_swapbacked } from '../../include/linux/page-flags.ts';
import { pte_dirty } from '../../include/linux/pgtable.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import {
	make_hwpoison_entry,
	make_pte_marker_entry,
	PTE_MARKER_POISONED,
	swp_entry_to_pte,
} from '../../include/linux/swapops.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import { run } from '../../kernel/sched/core.ts';
import { forkProcess } from '../../mm/fork.ts';
import {
	MADV_FREE,
	MADV_HUGEPAGE,
	MADV_NOHUGEPAGE,
	MADV_POPULATE_READ,
	MADV_POPULATE_WRITE,
} from '../../mm/madvise.ts';
import { shmemTruncate } from '../../mm/shmem.ts';
import {
	exitProcess,
	userMadvise,
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
	TEST_F,
} from '../kselftest_harness.ts';
import { entryAt, faultAt, folioAt } from './entries.ts';
import { processFixture } from './process_fixture.ts';
import {
	ARENA,
	at,
	InvalidationLog,
	madvisePages,
	mapPages,
	mapWritten,
	PAGE,
	pteOf,
	ptes,
	RW,
	signalText,
	vmaList,
} from './small_machine.ts';

const advise = processFixture('madvise');

function isDirty(p: task_struct, page: number): boolean {
	return pte_dirty(entryAt(p, page).value);
}

TEST_F(advise, 'dontneed_drops_pages_and_keeps_tables', ({ p }) => {
	mapWritten(p, 0, 4);
	const { pgtables } = p.mm!;
	const log = new InvalidationLog(p.mm!);
	EXPECT_EQ(0, madvisePages(p, 1, 2, MADV_DONTNEED));
	EXPECT_STREQ('1 1-3', log.take());
	EXPECT_STREQ('w..w', ptes(p.mm!, 0, 4));
	EXPECT_EQ(pgtables, p.mm!.pgtables);
	EXPECT_EQ(0n, userRead64(p, ARENA + PAGE));
	EXPECT_EQ(1n, userRead64(p, ARENA));
	log.remove();
});

TEST_F(advise, 'gap_is_enomem_and_what_lies_behind_is_done', ({ p }) => {
	mapWritten(p, 0, 1);
	mapWritten(p, 2, 1);
	EXPECT_EQ(-ENOMEM, madvisePages(p, 0, 3, MADV_DONTNEED));
	EXPECT_STREQ('...', ptes(p.mm!, 0, 3));
	EXPECT_EQ(-ENOMEM, madvisePages(p, 4, 2, MADV_DONTNEED));
	mapWritten(p, 0, 1);
	EXPECT_EQ(-ENOMEM, madvisePages(p, 0, 2, MADV_DONTNEED));
});

TEST_F(advise, 'refuses_what_makes_no_sense', ({ p }) => {
	mapWritten(p, 0, 1);
	EXPECT_EQ(-EINVAL, userMadvise(p, ARENA + 1n, PAGE, MADV_DONTNEED));
	EXPECT_EQ(-EINVAL, userMadvise(p, ARENA, (1n << 64n) - PAGE, MADV_DONTNEED));
	EXPECT_EQ(-EINVAL, madvisePages(p, 0, 1, 77));
	EXPECT_EQ(0, madvisePages(p, 0, 0, MADV_DONTNEED));
	const vma = p.mm!.vmas[0]!;
	vma.vm_flags |= VM_LOCKED;
	EXPECT_EQ(-EINVAL, madvisePages(p, 0, 1, MADV_DONTNEED));
	vma.vm_flags &= ~VM_LOCKED;
	EXPECT_STREQ('w', ptes(p.mm!, 0, 1));
});

TEST_F(advise, 'huge_page_advice_splits_the_vma', ({ p }) => {
	mapWritten(p, 0, 4);
	EXPECT_EQ(0, madvisePages(p, 1, 2, MADV_HUGEPAGE));
	EXPECT_STREQ('0-1:rw 1-3:rw 3-4:rw', vmaList(p.mm!));
	EXPECT_TRUE((p.mm!.vmas[1]!.vm_flags & VM_HUGEPAGE) !== 0n);
	EXPECT_EQ(0, madvisePages(p, 1, 2, MADV_HUGEPAGE));
	EXPECT_EQ(0, madvisePages(p, 0, 4, MADV_NOHUGEPAGE));
	EXPECT_STREQ('0-4:rw', vmaList(p.mm!));
	EXPECT_EQ(VM_NOHUGEPAGE, p.mm!.vmas[0]!.vm_flags & (VM_HUGEPAGE | VM_NOHUGEPAGE));
});

TEST_F(advise, 'no_memory_for_a_vma_may_be_there_later', ({ p }) => {
	mapWritten(p, 0, 2);
	injectFaults().fail('vm_area_dup', 1);
	EXPECT_EQ(-EAGAIN, madvisePages(p, 0, 1, MADV_HUGEPAGE));
	EXPECT_STREQ('0-2:rw', vmaList(p.mm!));
});

TEST_F(advise, 'free_keeps_the_bytes_until_reclaim_wants_the_page', ({ p }) => {
	mapWritten(p, 0, 3);
	const log = new InvalidationLog(p.mm!);
	const f = folioAt(p, 1);
	EXPECT_EQ(0, madvisePages(p, 1, 2, MADV_FREE));
	EXPECT_STREQ('1 1-3', log.take());
	EXPECT_EQ(0, f.flags & PG_swapbacked);
	EXPECT_TRUE(isDirty(p, 0));
	EXPECT_FALSE(isDirty(p, 1));
	EXPECT_EQ(2n, userRead64(p, at(1)));
	// a write shows in the entry: it is needed again
	EXPECT_NULL(userWrite64(p, at(1), 9n));
	EXPECT_TRUE(isDirty(p, 1));
	EXPECT_EQ(9n, userRead64(p, at(1)));
	log.remove();
});

TEST_F(advise, 'free_leaves_pages_that_somebody_else_has', ({ p }) => {
	mapWritten(p, 0, 2);
	const f = folioAt(p, 0);
	// dirty by itself, and mapped twice
	f.flags |= PG_dirty;
	const child = forkProcess(p) as task_struct;
	EXPECT_EQ(0, madvisePages(p, 0, 2, MADV_FREE));
	EXPECT_TRUE((f.flags & PG_swapbacked) !== 0);
	EXPECT_EQ(0, folioAt(p, 1).flags & PG_swapbacked);
	exitProcess(child);
	f.flags &= ~PG_dirty;
	// somebody works on it
	f.flags |= PG_dirty | PG_locked;
	EXPECT_EQ(0, madvisePages(p, 0, 1, MADV_FREE));
	EXPECT_TRUE((f.flags & PG_swapbacked) !== 0);
	f.flags &= ~PG_locked;
	EXPECT_EQ(0, madvisePages(p, 0, 1, MADV_FREE));
	EXPECT_EQ(0, f.flags & (PG_swapbacked | PG_dirty));
});

TEST_F(advise, 'free_empties_poisoned_entries', ({ p }) => {
	mapWritten(p, 0, 2);
	EXPECT_EQ(0, madvisePages(p, 0, 2, MADV_DONTNEED));
	const poison = swp_entry_to_pte(make_pte_marker_entry(PTE_MARKER_POISONED));
	pteOf(p.mm!, at(0))!.value = poison;
	pteOf(p.mm!, at(1))!.value = swp_entry_to_pte(make_hwpoison_entry(0x123n));
	EXPECT_STREQ('sig 7 code 4', signalText(userRead64(p, at(0))));
	EXPECT_EQ(0, madvisePages(p, 0, 2, MADV_FREE));
	EXPECT_STREQ('..', ptes(p.mm!, 0, 2));
	EXPECT_EQ(0n, userRead64(p, at(0)));
});

TEST_F(advise, 'free_is_for_anonymous_memory', ({ p }) => {
	mapPages(p, 0, 1, RW, MAP_SHARED);
	EXPECT_EQ(-EINVAL, madvisePages(p, 0, 1, MADV_FREE));
	mapWritten(p, 1, 1);
	p.mm!.vmas[1]!.vm_flags |= VM_LOCKED;
	EXPECT_EQ(-EINVAL, madvisePages(p, 1, 1, MADV_FREE));
	p.mm!.vmas[1]!.vm_flags &= ~VM_LOCKED;
});

TEST_F(advise, 'populate_faults_pages_in', ({ p }) => {
	mapPages(p, 0, 4);
	EXPECT_EQ(0, madvisePages(p, 0, 2, MADV_POPULATE_READ));
	EXPECT_STREQ('rr..', ptes(p.mm!, 0, 4));
	EXPECT_EQ(0, madvisePages(p, 1, 2, MADV_POPULATE_WRITE));
	EXPECT_STREQ('rww.', ptes(p.mm!, 0, 4));
});

TEST_F(advise, 'populate_ends_where_it_may_not_go_on', ({ p }) => {
	mapPages(p, 0, 2);
	mapPages(p, 2, 1, PROT_READ);
	EXPECT_EQ(-EINVAL, madvisePages(p, 0, 3, MADV_POPULATE_WRITE));
	EXPECT_STREQ('ww.', ptes(p.mm!, 0, 3));
	EXPECT_EQ(-ENOMEM, madvisePages(p, 2, 3, MADV_POPULATE_READ));
	EXPECT_STREQ('wwr', ptes(p.mm!, 0, 3));
	p.mm!.vmas[1]!.vm_flags |= VM_IO;
	EXPECT_EQ(-EINVAL, madvisePages(p, 2, 1, MADV_POPULATE_READ));
	p.mm!.vmas[1]!.vm_flags &= ~VM_IO;
	// beyond the end of a file
	mapPages(p, 3, 2, RW, MAP_SHARED);
	run(shmemTruncate(p.mm!.vmas[2]!.vm_file!, PAGE));
	EXPECT_EQ(-EFAULT, madvisePages(p, 3, 2, MADV_POPULATE_READ));
	EXPECT_STREQ('w.', ptes(p.mm!, 3, 2));
	pteOf(p.mm!, at(2))!.value = swp_entry_to_pte(make_pte_marker_entry(PTE_MARKER_POISONED));
	EXPECT_EQ(-EHWPOISON, madvisePages(p, 2, 1, MADV_POPULATE_READ));
	pteOf(p.mm!, at(2))!.value = 0n;
	injectFaults().fail('folio_prealloc', 1);
	EXPECT_EQ(0, userMunmap(p, at(0), PAGE));
	mapPages(p, 0, 1);
	EXPECT_EQ(-ENOMEM, madvisePages(p, 0, 1, MADV_POPULATE_WRITE));
});

TEST_F(advise, 'populate_goes_on_after_the_lock_was_dropped', ({ p }) => {
	// the first write to a clean page of a file may have to wait for others to be written back
	mapPages(p, 0, 4, RW, MAP_SHARED);
	const flags = FAULT_FLAG_WRITE | FAULT_FLAG_ALLOW_RETRY;
	EXPECT_EQ(VM_FAULT_LOCKED | VM_FAULT_COMPLETED, faultAt(p, 3, flags));
	EXPECT_EQ(0, madvisePages(p, 0, 3, MADV_POPULATE_WRITE));
	EXPECT_STREQ('wwww', ptes(p.mm!, 0, 4));
});
