// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: get_user_pages_remote() faults in what an access would, and hands out nothing else. Method:
 * pages of a process in each state are asked for; entries, references and marks are looked at.
 */

import { _PAGE_ACCESSED, _PAGE_DIRTY } from '../../include/asm/pgtable_types.ts';
import { EEXIST, EFAULT, EINTR, ENOMEM } from '../../include/linux/errno.ts';
import {
	FOLL_GET,
	FOLL_NOFAULT,
	FOLL_WRITE,
	MAP_SHARED,
	PROT_NONE,
	PROT_READ,
	VM_MIXEDMAP,
} from '../../include/linux/mm.ts';
import { type page, page_folio } from '../../include/linux/mm_types.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import {
	folio_ref_count,
	folio_test_dirty,
	PG_dirty,
	PG_hwpoison,
	PG_referenced,
} from '../../include/linux/page-flags.ts';
import { SIGKILL } from '../../include/linux/sched.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import { run } from '../../kernel/sched/core.ts';
import { insertPfn, zero_pfn } from '../../mm/memory.ts';
import { put_page } from '../../mm/swap.ts';
import { userMprotect, userRead64, userWrite64 } from '../../mm/syscalls.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST_F,
} from '../kselftest_harness.ts';
import { at, dump, entryAt, folioAt, getUserPages, pageAt, vmaOf } from './entries.ts';
import { bootMm } from './mm_world.ts';
import { processFixture } from './process_fixture.ts';
import { mapPages, PAGE, RW } from './small_machine.ts';

const gup = processFixture('gup', {
	boot: bootMm,
	ready: (p) => mapPages(p, 0, 8),
});

function putAll(pages: page[]): void {
	for (const p of pages) run(put_page(p));
}

TEST_F(gup, 'pages_are_faulted_in_as_the_access_would', ({ p }) => {
	userWrite64(p, at(0), 1n);
	userRead64(p, at(1));
	// the zero page satisfies a reader, and gets no reference that anybody counts
	EXPECT_EQ(3, getUserPages(p, 0, 3, 0));
	EXPECT_STREQ('waxd rz! rz! .', dump(p, 0, 4));
	const pages: page[] = [];
	EXPECT_EQ(3, getUserPages(p, 0, 3, FOLL_GET | FOLL_WRITE, pages));
	EXPECT_STREQ('waxd waxd waxd .', dump(p, 0, 4));
	for (let i = 0; i < 3; i++) {
		EXPECT_TRUE(pages[i] === pageAt(p, i));
		EXPECT_EQ(2, folio_ref_count(page_folio(pages[i]!)));
		EXPECT_TRUE((pages[i]!.flags & PG_referenced) !== 0);
	}
	putAll(pages);
	EXPECT_EQ(1, folio_ref_count(folioAt(p, 0)));
});

TEST_F(gup, 'reader_of_the_zero_page_gets_it', ({ p }) => {
	const pages: page[] = [];
	EXPECT_EQ(1, getUserPages(p, 0, 1, 0, pages));
	EXPECT_EQ(zero_pfn, page_to_pfn(pages[0]!));
});

TEST_F(gup, 'first_page_that_fails_ends_the_run', ({ p }) => {
	userMprotect(p, at(2), PAGE, PROT_READ);
	userMprotect(p, at(4), PAGE, PROT_NONE);
	EXPECT_EQ(2, getUserPages(p, 0, 8, FOLL_WRITE));
	EXPECT_EQ(4, getUserPages(p, 0, 8, 0));
	// as the first one it is the answer
	EXPECT_EQ(-EFAULT, getUserPages(p, 2, 1, FOLL_WRITE));
	EXPECT_EQ(-EFAULT, getUserPages(p, 4, 1, 0));
	EXPECT_EQ(1, getUserPages(p, 7, 2, 0));
	EXPECT_EQ(-EFAULT, getUserPages(p, 8, 1, 0));
});

TEST_F(gup, 'page_table_entry_without_struct_page_is_eexist', ({ p }) => {
	mapPages(p, 16, 2, RW, MAP_SHARED);
	const vma = vmaOf(p, 16);
	vma.vm_flags |= VM_MIXEDMAP;
	run(
		function* () {
			yield* insertPfn(vma, at(16), 0xfed00n);
		},
		{ task: p },
	);
	const before = entryAt(p, 16).value;
	EXPECT_EQ(-EEXIST, getUserPages(p, 16, 1, FOLL_WRITE));
	// the access to come is marked in the entry
	EXPECT_EQ(before | _PAGE_ACCESSED | _PAGE_DIRTY, entryAt(p, 16).value);
	// who wants no pages is content
	EXPECT_EQ(1, getUserPages(p, 16, 1, 0, null));
});

TEST_F(gup, 'clean_page_that_is_asked_for_to_be_written_becomes_dirty', ({ p }) => {
	mapPages(p, 16, 1, RW, MAP_SHARED);
	userRead64(p, at(16));
	const f = folioAt(p, 16);
	f.flags &= ~PG_dirty;
	entryAt(p, 16).value &= ~0x40n;
	EXPECT_EQ(1, getUserPages(p, 16, 1, 0));
	EXPECT_FALSE(folio_test_dirty(f));
	EXPECT_EQ(1, getUserPages(p, 16, 1, FOLL_WRITE));
	EXPECT_TRUE(folio_test_dirty(f));
});

TEST_F(gup, 'caller_that_forbids_faults_gets_what_is_there', ({ p }) => {
	userWrite64(p, at(0), 1n);
	EXPECT_EQ(1, getUserPages(p, 0, 2, FOLL_NOFAULT));
	EXPECT_EQ(-EFAULT, getUserPages(p, 1, 1, FOLL_NOFAULT));
	EXPECT_STREQ('waxd .', dump(p, 0, 2));
});

TEST_F(gup, 'failed_faults_say_why', ({ p }) => {
	injectFaults().fail('folio_prealloc', 1);
	userRead64(p, at(1));
	EXPECT_EQ(-ENOMEM, getUserPages(p, 0, 1, FOLL_WRITE));
	mapPages(p, 16, 1, RW, MAP_SHARED);
	userRead64(p, at(16));
	pageAt(p, 16).flags |= PG_hwpoison;
	const was = entryAt(p, 16).value;
	entryAt(p, 16).value = 0n;
	EXPECT_EQ(-EFAULT, getUserPages(p, 16, 1, 0));
	entryAt(p, 16).value = was;
	pageAt(p, 16).flags &= ~PG_hwpoison;
	p.pending.add(SIGKILL);
	EXPECT_EQ(-EINTR, getUserPages(p, 0, 1, 0));
	p.pending.delete(SIGKILL);
});
