// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a touch of a NUMA-hint entry (PROT_NONE where the VMA may be accessed) gives it the rights
 * back that it would have, and tells nobody. Method: there is one node, so that the kernel itself
 * makes no hints; the tests put them into page tables, touch, and count faults.
 */
import { MAP_SHARED, PROT_READ } from '../../include/linux/mm.ts';
import {
	PAGE_NONE,
	pte_modify,
	pte_protnone,
	pte_write,
	pte_young,
} from '../../include/linux/pgtable.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { run } from '../../kernel/sched/core.ts';
import { forkProcess } from '../../mm/fork.ts';
import { exitProcess, userMprotect, userRead64, userWrite64 } from '../../mm/syscalls.ts';
import { flush_tlb_mm } from '../../mm/tlb.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST_F,
} from '../kselftest_harness.ts';
import { processFixture } from './process_fixture.ts';
import { at, InvalidationLog, mapPages, PAGE, pteOf, ptes, RW } from './small_machine.ts';

const hint = processFixture('numa_hint');

/** What change_prot_numa() makes of an entry. */
function hintAt(p: task_struct, page: number): void {
	const pte = pteOf(p.mm!, at(page))!;
	pte.value = pte_modify(pte.value, PAGE_NONE);
	run(flush_tlb_mm(p.mm!));
}

function isHint(p: task_struct, page: number): boolean {
	return pte_protnone(pteOf(p.mm!, at(page))!.value);
}

TEST_F(hint, 'access_gives_the_entry_its_protection_back', ({ p }) => {
	mapPages(p, 0, 2);
	for (let i = 0; i < 2; i++) userWrite64(p, at(i), BigInt(i + 5));
	const log = new InvalidationLog(p.mm!);
	hintAt(p, 0);
	hintAt(p, 1);
	const faults = p.min_flt;
	EXPECT_EQ(5n, userRead64(p, at(0)));
	// exclusive: writable again at once, so that the write needs no second fault
	EXPECT_STREQ('w', ptes(p.mm!, 0, 1));
	EXPECT_NULL(userWrite64(p, at(1), 8n));
	EXPECT_EQ(2n, p.min_flt - faults);
	EXPECT_FALSE(isHint(p, 0));
	EXPECT_FALSE(isHint(p, 1));
	EXPECT_TRUE(pte_young(pteOf(p.mm!, at(0))!.value));
	// nobody was told: whoever mirrors the page may go on
	EXPECT_STREQ('', log.take());
	log.remove();
});

TEST_F(hint, 'shared_page_stays_read_only', ({ p }) => {
	mapPages(p, 0, 1);
	userWrite64(p, at(0), 5n);
	const child = forkProcess(p) as task_struct;
	hintAt(p, 0);
	EXPECT_EQ(5n, userRead64(p, at(0)));
	EXPECT_STREQ('r', ptes(p.mm!, 0, 1));
	EXPECT_FALSE(isHint(p, 0));
	hintAt(p, 0);
	// hint first, then the copy
	const faults = p.min_flt;
	EXPECT_NULL(userWrite64(p, at(0), 6n));
	EXPECT_EQ(2n, p.min_flt - faults);
	EXPECT_EQ(5n, userRead64(child, at(0)));
	exitProcess(child);
});

TEST_F(hint, 'file_page_is_writable_as_its_mapping_says', ({ p }) => {
	mapPages(p, 0, 2, RW, MAP_SHARED);
	for (let i = 0; i < 2; i++) userWrite64(p, at(i), 1n);
	EXPECT_EQ(0, userMprotect(p, at(1), PAGE, PROT_READ));
	hintAt(p, 0);
	hintAt(p, 1);
	EXPECT_EQ(1n, userRead64(p, at(0)));
	EXPECT_EQ(1n, userRead64(p, at(1)));
	EXPECT_FALSE(isHint(p, 0));
	EXPECT_FALSE(isHint(p, 1));
	EXPECT_TRUE(pte_write(pteOf(p.mm!, at(0))!.value));
	EXPECT_FALSE(pte_write(pteOf(p.mm!, at(1))!.value));
});
