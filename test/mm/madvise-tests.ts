// SPDX-License-Identifier: GPL-2.0-only
/** madvise(): what each advice does to pages and VMAs, and how gaps are answered. */
import { EINVAL, ENOMEM } from '../../include/linux/errno.ts';
import {
	MADV_DONTNEED,
	MAP_PRIVATE,
	PROT_READ,
	PROT_WRITE,
	VM_DONTEXPAND,
	VM_HUGEPAGE,
	VM_LOCKED,
	VM_NOHUGEPAGE,
} from '../../include/linux/mm.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import { boot } from '../../init/main.ts';
import { MADV_FREE, MADV_HUGEPAGE, MADV_NOHUGEPAGE } from '../../mm/madvise.ts';
import {
	createProcess,
	exitProcess,
	userMadvise,
	userMmap,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import {
	EXPECT_EQ,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../kselftest_harness.ts';
import { ARENA, InvalidationLog, PAGE, ptes, smallMachine, vmaList } from './small_machine.ts';

const RW = PROT_READ | PROT_WRITE;

const advise = FIXTURE('madvise', () => ({ p: null as unknown as task_struct }));

FIXTURE_SETUP(advise, (self) => {
	boot(smallMachine());
	self.p = createProcess('madvise');
});

FIXTURE_TEARDOWN(advise, (self) => {
	exitProcess(self.p);
});

function anon(p: task_struct, page: number, pages: number): void {
	userMmap(p, ARENA + BigInt(page) * PAGE, BigInt(pages) * PAGE, RW, MAP_PRIVATE);
	for (let i = page; i < page + pages; i++) userWrite64(p, ARENA + BigInt(i) * PAGE, 1n);
}

function madvise(p: task_struct, page: number, pages: number, behavior: number): number {
	return userMadvise(p, ARENA + BigInt(page) * PAGE, BigInt(pages) * PAGE, behavior);
}

TEST_F(advise, 'dontneed_drops_pages_and_keeps_tables', ({ p }) => {
	anon(p, 0, 4);
	const { pgtables } = p.mm!;
	const log = new InvalidationLog(p.mm!);
	EXPECT_EQ(0, madvise(p, 1, 2, MADV_DONTNEED));
	EXPECT_STREQ('1 1-3', log.take());
	EXPECT_STREQ('w..w', ptes(p.mm!, 0, 4));
	EXPECT_EQ(pgtables, p.mm!.pgtables);
	EXPECT_EQ(0n, userRead64(p, ARENA + PAGE));
	EXPECT_EQ(1n, userRead64(p, ARENA));
	log.remove();
});

TEST_F(advise, 'gap_is_enomem_and_what_lies_behind_is_done', ({ p }) => {
	anon(p, 0, 1);
	anon(p, 2, 1);
	EXPECT_EQ(-ENOMEM, madvise(p, 0, 3, MADV_DONTNEED));
	EXPECT_STREQ('...', ptes(p.mm!, 0, 3));
	EXPECT_EQ(-ENOMEM, madvise(p, 4, 2, MADV_DONTNEED));
	anon(p, 0, 1);
	EXPECT_EQ(-ENOMEM, madvise(p, 0, 2, MADV_DONTNEED));
});

TEST_F(advise, 'refuses_what_makes_no_sense', ({ p }) => {
	anon(p, 0, 1);
	EXPECT_EQ(-EINVAL, userMadvise(p, ARENA + 1n, PAGE, MADV_DONTNEED));
	EXPECT_EQ(-EINVAL, userMadvise(p, ARENA, (1n << 64n) - PAGE, MADV_DONTNEED));
	EXPECT_EQ(-EINVAL, madvise(p, 0, 1, 77));
	EXPECT_EQ(-EINVAL, madvise(p, 0, 1, MADV_FREE));
	EXPECT_EQ(0, madvise(p, 0, 0, MADV_DONTNEED));
	const vma = p.mm!.vmas[0]!;
	vma.vm_flags |= VM_LOCKED;
	EXPECT_EQ(-EINVAL, madvise(p, 0, 1, MADV_DONTNEED));
	vma.vm_flags &= ~VM_LOCKED;
	EXPECT_STREQ('w', ptes(p.mm!, 0, 1));
});

TEST_F(advise, 'huge_page_advice_splits_the_vma', ({ p }) => {
	anon(p, 0, 4);
	EXPECT_EQ(0, madvise(p, 1, 2, MADV_HUGEPAGE));
	EXPECT_STREQ('0-1:rw 1-3:rw 3-4:rw', vmaList(p.mm!));
	EXPECT_TRUE((p.mm!.vmas[1]!.vm_flags & VM_HUGEPAGE) !== 0n);
	EXPECT_EQ(0, madvise(p, 1, 2, MADV_HUGEPAGE));
	EXPECT_EQ(0, madvise(p, 0, 4, MADV_NOHUGEPAGE));
	EXPECT_STREQ('0-4:rw', vmaList(p.mm!));
	EXPECT_EQ(VM_NOHUGEPAGE, p.mm!.vmas[0]!.vm_flags & (VM_HUGEPAGE | VM_NOHUGEPAGE));
});

TEST_F(advise, 'huge_page_advice_is_refused_for_special_mappings', ({ p }) => {
	anon(p, 0, 2);
	p.mm!.vmas[0]!.vm_flags |= VM_DONTEXPAND;
	EXPECT_EQ(-EINVAL, madvise(p, 0, 2, MADV_HUGEPAGE));
	p.mm!.vmas[0]!.vm_flags &= ~VM_DONTEXPAND;
	injectFaults().fail('vm_area_dup', 1);
	EXPECT_EQ(-ENOMEM, madvise(p, 0, 1, MADV_HUGEPAGE));
	EXPECT_STREQ('0-2:rw', vmaList(p.mm!));
});
