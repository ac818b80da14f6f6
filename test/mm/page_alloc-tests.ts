// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: blocks are aligned and exclusive and come back whole, and bad ones do not. Method: blocks
 * of chosen orders are taken and put, down to the last page of a small machine; then pages in
 * states that must be reported.
 */
import { page_folio } from '../../include/linux/mm_types.ts';
import { memoryMap, nth_page, page_to_pfn } from '../../include/linux/mmzone.ts';
import {
	folio_nr_pages,
	folio_order,
	PageTail,
	PG_locked,
	page_count,
} from '../../include/linux/page-flags.ts';
import {
	__GFP_COMP,
	__GFP_NOFAIL,
	__GFP_ZERO,
	GFP_ATOMIC,
	GFP_KERNEL,
} from '../../include/linux/types.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import { world } from '../../include/sim/world.ts';
import { boot } from '../../init/main.ts';
import { preempt_disable, preempt_enable } from '../../kernel/sched/might_sleep.ts';
import { dump_page } from '../../mm/debug.ts';
import {
	__free_page,
	__free_pages,
	alloc_page,
	alloc_pages,
	clear_highpage,
	copy_highpage,
	folio_alloc,
	frameOf,
	pageFrame,
	theZone,
} from '../../mm/page_alloc.ts';
import { folio_put, get_page, put_page } from '../../mm/swap.ts';
import {
	ASSERT_NE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	TEST_F,
} from '../kselftest_harness.ts';
import { smallMachine } from './small_machine.ts';

const alloc = FIXTURE('page_alloc', () => ({}));

FIXTURE_SETUP(alloc, () => {
	boot(smallMachine(0x1000), 'v7.3', { trackOrigins: true });
});

TEST_F(alloc, 'page_has_one_reference_and_lies_above_the_first_megabyte', function* () {
	const p = yield* alloc_page(GFP_KERNEL);
	ASSERT_NE(null, p);
	EXPECT_EQ(1, page_count(p));
	EXPECT_TRUE(page_to_pfn(p) >= 0x100n);
	yield* __free_page(p);
	EXPECT_EQ(0, theZone().allocated);
});

TEST_F(alloc, 'blocks_are_naturally_aligned_and_leave_no_page_unused', function* () {
	const single = yield* alloc_page(GFP_KERNEL);
	const block = yield* alloc_pages(GFP_KERNEL, 9);
	ASSERT_NE(null, single);
	ASSERT_NE(null, block);
	EXPECT_EQ(0n, (page_to_pfn(block) as bigint) % 512n);
	// what was skipped for the alignment is handed out next
	const between = yield* alloc_page(GFP_KERNEL);
	ASSERT_NE(null, between);
	EXPECT_TRUE(page_to_pfn(between) < page_to_pfn(block));
	yield* __free_page(single);
	yield* __free_page(between);
	yield* __free_pages(block, 9);
});

TEST_F(alloc, 'freed_buddies_become_one_block_again', function* () {
	const first = yield* alloc_pages(GFP_KERNEL, 4);
	ASSERT_NE(null, first);
	yield* __free_pages(first, 4);
	const parts = [];
	for (let i = 0; i < 16; i++) parts.push((yield* alloc_page(GFP_KERNEL))!);
	for (const p of parts) yield* __free_page(p);
	const again = yield* alloc_pages(GFP_KERNEL, 4);
	ASSERT_NE(null, again);
	EXPECT_TRUE(page_to_pfn(again) <= page_to_pfn(first));
	yield* __free_pages(again, 4);
});

TEST_F(alloc, 'compound_block_is_one_folio', function* () {
	const f = yield* folio_alloc(GFP_KERNEL, 3);
	ASSERT_NE(null, f);
	EXPECT_EQ(3, folio_order(f));
	EXPECT_EQ(8, folio_nr_pages(f));
	const tail = nth_page(f.page, 7);
	EXPECT_TRUE(PageTail(tail));
	EXPECT_TRUE(page_folio(tail) === f);
	get_page(tail);
	EXPECT_EQ(2, page_count(tail));
	yield* put_page(tail);
	yield* folio_put(f);
	EXPECT_EQ(0, theZone().allocated);
	EXPECT_EQ(0, tail.compound);
});

TEST_F(alloc, 'first_page_of_a_plain_block_may_outlive_the_others', function* () {
	const p = yield* alloc_pages(GFP_KERNEL, 2);
	ASSERT_NE(null, p);
	get_page(p);
	yield* __free_pages(p, 2);
	EXPECT_EQ(1, theZone().allocated);
	yield* put_page(p);
	EXPECT_EQ(0, theZone().allocated);
});

TEST_F(alloc, 'extra_reference_keeps_a_compound_block_whole', function* () {
	const p = yield* alloc_pages(GFP_KERNEL | __GFP_COMP, 2);
	ASSERT_NE(null, p);
	get_page(p);
	yield* __free_pages(p, 2);
	EXPECT_EQ(4, theZone().allocated);
	yield* put_page(p);
	EXPECT_EQ(0, theZone().allocated);
});

TEST_F(alloc, 'zeroed_page_has_no_bytes_of_its_last_owner', function* () {
	const p = yield* alloc_page(GFP_KERNEL);
	ASSERT_NE(null, p);
	pageFrame(p).u64[7] = 0xdeadn;
	yield* __free_page(p);
	const again = yield* alloc_page(GFP_KERNEL | __GFP_ZERO);
	ASSERT_NE(null, again);
	EXPECT_TRUE(again === p);
	EXPECT_EQ(0n, pageFrame(again).u64[7]);
	yield* __free_page(again);
});

TEST_F(alloc, 'copy_and_clear_move_all_bytes', function* () {
	const from = yield* alloc_page(GFP_KERNEL);
	const to = yield* alloc_page(GFP_KERNEL);
	ASSERT_NE(null, from);
	ASSERT_NE(null, to);
	pageFrame(from).u64[511] = 0x1234n;
	copy_highpage(to, from);
	EXPECT_EQ(0x1234n, pageFrame(to).u64[511]);
	clear_highpage(from);
	copy_highpage(to, from);
	EXPECT_EQ(0n, pageFrame(to).u64[511]);
	yield* __free_page(from);
	// a page that nobody ever wrote reads as zeros
	const fresh = yield* alloc_pages(GFP_KERNEL, 5);
	ASSERT_NE(null, fresh);
	pageFrame(to).u64[0] = 1n;
	copy_highpage(to, fresh);
	EXPECT_EQ(0n, pageFrame(to).u64[0]);
	yield* __free_pages(fresh, 5);
	yield* __free_page(to);
});

TEST_F(alloc, 'runs_out_of_memory_with_a_message_and_recovers', function* () {
	const held = [];
	for (;;) {
		const p = yield* alloc_pages(GFP_KERNEL, 8);
		if (p === null) break;
		held.push(p);
	}
	EXPECT_EQ(16, held.length);
	EXPECT_TRUE(world().log.some((line) => line.includes('page allocation failure: order:8')));
	for (const p of held) yield* __free_pages(p, 8);
	const p = yield* alloc_pages(GFP_KERNEL, 10);
	ASSERT_NE(null, p);
	yield* __free_pages(p, 10);
});

TEST_F(alloc, 'injected_failure_hits_the_chosen_call_and_never_nofail', function* () {
	injectFaults().fail('alloc_pages', 2);
	const first = yield* alloc_page(GFP_KERNEL);
	ASSERT_NE(null, first);
	EXPECT_NULL(yield* folio_alloc(GFP_KERNEL, 0));
	injectFaults().fail('alloc_pages');
	EXPECT_NULL(yield* alloc_page(GFP_KERNEL));
	const sure = yield* alloc_page(GFP_KERNEL | __GFP_NOFAIL);
	ASSERT_NE(null, sure);
	yield* __free_page(first);
	yield* __free_page(sure);
});

TEST_F(alloc, 'sleeping_allocation_in_atomic_context_is_reported', function* () {
	preempt_disable();
	const fine = yield* alloc_page(GFP_ATOMIC);
	EXPECT_EQ(0, world().reports.length);
	const p = yield* alloc_page(GFP_KERNEL);
	preempt_enable();
	expectReport(/sleeping function called from invalid context/);
	yield* __free_page(p!);
	yield* __free_page(fine!);
});

TEST_F(alloc, 'second_free_is_a_use_after_free', function* () {
	const p = yield* alloc_page(GFP_KERNEL);
	yield* __free_page(p!);
	yield* __free_page(p!);
	expectReport(/KASAN: use-after-free in __free_pages/);
	EXPECT_EQ(0, theZone().allocated);
});

TEST_F(alloc, 'locked_page_is_not_freed_but_reported', function* () {
	const p = yield* alloc_page(GFP_KERNEL);
	p!.flags |= PG_locked;
	yield* __free_page(p!);
	expectReport(/Bad page state in process/);
	const next = yield* alloc_page(GFP_KERNEL);
	EXPECT_FALSE(next === p);
	yield* __free_page(next!);
	p!.flags = 0;
});

TEST_F(alloc, 'mapped_page_and_mapped_tail_are_not_freed', function* () {
	const p = yield* alloc_page(GFP_KERNEL);
	p!._mapcount = 0;
	yield* __free_page(p!);
	const f = yield* folio_alloc(GFP_KERNEL, 2);
	nth_page(f!.page, 3)._mapcount = 0;
	yield* folio_put(f!);
	expectReport(/nonzero mapcount of a tail page/);
	expectReport(/nonzero mapcount$/m);
	p!._mapcount = -1;
	EXPECT_EQ(0, theZone().allocated);
});

TEST_F(alloc, 'dump_page_names_flags_and_reason', function* () {
	const f = yield* folio_alloc(GFP_KERNEL, 1);
	dump_page(nth_page(f!.page, 1), 'because');
	const { log } = world();
	EXPECT_TRUE(log.some((line) => /^head: order:1 .*refcount:1/.test(line)));
	EXPECT_TRUE(log.includes('page dumped because: because'));
	yield* folio_put(f!);
});

TEST_F(alloc, 'oops_where_no_ram_is_and_nothing_is_made_by_booting', () => {
	let message = '';
	try {
		frameOf(0x7fff_ffff);
	} catch (error) {
		message = String(error);
	}
	EXPECT_TRUE(message.includes('is not RAM'));
	expectReport(/is not RAM/);
	EXPECT_EQ(0, memoryMap().sections.size);
});
