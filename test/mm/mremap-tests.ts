// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: what is moved is whole at its new place and gone from the old one, notifiers hear of it,
 * and a failure leaves all as it was. Method: pages get values, the mapping is moved, and values,
 * entries and VMAs are looked at on both sides; once with each release, since 6.12 refuses what
 * spans several VMAs.
 */
import { EFAULT, EINTR, EINVAL, ENOMEM } from '../../include/linux/errno.ts';
import { MAP_SHARED, PROT_READ, VM_ACCOUNT, VM_LOCKED } from '../../include/linux/mm.ts';
import { SIGKILL, type task_struct } from '../../include/linux/sched.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import { run, runThreads, spawn } from '../../kernel/sched/core.ts';
import { mmap_write_lock, mmap_write_unlock } from '../../mm/mmap_lock.ts';
import { MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, sys_mremap } from '../../mm/mremap.ts';
import {
	userMprotect,
	userMremap,
	userMunmap,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import { EXPECT_EQ, EXPECT_NULL, EXPECT_STREQ, EXPECT_TRUE, TEST_F } from '../kselftest_harness.ts';
import { RELEASES, watchedProcessFixture } from './process_fixture.ts';
import { ARENA, at, mapPages, PAGE, ptes, RW, signalText, vmaList } from './small_machine.ts';

const MOVE = MREMAP_MAYMOVE | MREMAP_FIXED;
const KEEP = MOVE | MREMAP_DONTUNMAP;

const move = watchedProcessFixture('mremap', { releases: RELEASES });

/** Page number of the result, or the errno. */
function mremap(
	p: task_struct,
	from: number,
	pages: number,
	to: number,
	flags = MOVE,
	newPages = pages,
): number {
	const len = BigInt(pages) * PAGE;
	const ret = userMremap(p, at(from), len, BigInt(newPages) * PAGE, flags, at(to));
	return typeof ret === 'number' ? ret : Number((ret - ARENA) / PAGE);
}

TEST_F(move, 'pages_are_at_the_new_address_and_nothing_at_the_old_one', ({ p, log }) => {
	mapPages(p, 0, 4);
	for (const i of [0, 1, 3]) userWrite64(p, at(i), BigInt(i + 10));
	log.take();
	EXPECT_EQ(8, mremap(p, 0, 4, 8));
	// once for the entries, once for the mapping
	EXPECT_STREQ('0 0-4, 0 0-4', log.take());
	EXPECT_STREQ('ww.w', ptes(p.mm!, 8, 4));
	EXPECT_STREQ('8-12:rw', vmaList(p.mm!));
	for (const i of [0, 1, 3]) EXPECT_EQ(BigInt(i + 10), userRead64(p, at(8 + i)));
	EXPECT_EQ(0n, userRead64(p, at(10)));
	EXPECT_STREQ('sig 11 code 1', signalText(userRead64(p, at(0))));
	// the new VMA is what their protection follows
	EXPECT_EQ(0, userMprotect(p, at(8), PAGE, PROT_READ));
	EXPECT_STREQ('rwrw', ptes(p.mm!, 8, 4));
});

TEST_F(move, 'a_cpu_does_not_use_the_old_translation', ({ p }) => {
	mapPages(p, 0, 1);
	userWrite64(p, at(0), 1n);
	EXPECT_EQ(4, mremap(p, 0, 1, 4, KEEP));
	// a new page at the old address, not the one that moved
	EXPECT_EQ(0n, userRead64(p, at(0)));
	EXPECT_NULL(userWrite64(p, at(0), 2n));
	EXPECT_EQ(1n, userRead64(p, at(4)));
});

TEST_F(move, 'what_was_at_the_destination_goes', ({ p, log }) => {
	mapPages(p, 0, 2);
	mapPages(p, 4, 4);
	userWrite64(p, at(0), 1n);
	userWrite64(p, at(5), 5n);
	log.take();
	EXPECT_EQ(5, mremap(p, 0, 2, 5));
	EXPECT_STREQ('0 5-7, 0 0-2, 0 0-2', log.take());
	EXPECT_EQ(1n, userRead64(p, at(5)));
	EXPECT_EQ(0n, userRead64(p, at(6)));
	EXPECT_STREQ('4-5:rw 5-7:rw 7-8:rw', vmaList(p.mm!));
});

TEST_F(move, 'dontunmap_leaves_an_empty_mapping', ({ p, log }) => {
	mapPages(p, 0, 3);
	userWrite64(p, at(1), 11n);
	log.take();
	EXPECT_EQ(8, mremap(p, 0, 3, 8, KEEP));
	EXPECT_STREQ('0 0-3', log.take());
	EXPECT_STREQ('0-3:rw 8-11:rw', vmaList(p.mm!));
	EXPECT_STREQ('...', ptes(p.mm!, 0, 3));
	const [old, fresh] = p.mm!.vmas;
	EXPECT_NULL(old!.anon_vma);
	EXPECT_TRUE(fresh!.anon_vma !== null);
	EXPECT_TRUE((old!.vm_flags & VM_ACCOUNT) !== 0n);
	EXPECT_EQ(11n, userRead64(p, at(9)));
	EXPECT_EQ(0n, userRead64(p, at(1)));
});

TEST_F(move, 'dontunmap_of_untouched_memory_is_not_merged_with_itself', ({ p }) => {
	mapPages(p, 0, 4);
	EXPECT_EQ(4, mremap(p, 2, 2, 4, KEEP));
	EXPECT_STREQ('0-4:rw 4-6:rw', vmaList(p.mm!));
	// but moved for good it is
	EXPECT_EQ(6, mremap(p, 0, 2, 6));
	EXPECT_STREQ('2-4:rw 4-8:rw', vmaList(p.mm!));
});

TEST_F(move, 'untouched_memory_merges_at_its_new_place', ({ p }) => {
	mapPages(p, 0, 2);
	mapPages(p, 8, 2);
	EXPECT_EQ(10, mremap(p, 0, 2, 10));
	EXPECT_STREQ('8-12:rw', vmaList(p.mm!));
	EXPECT_EQ(at(8) >> 12n, p.mm!.vmas[0]!.vm_pgoff);
});

TEST_F(move, 'touched_memory_goes_back_to_where_it_was', ({ p }) => {
	mapPages(p, 0, 4);
	for (let i = 0; i < 4; i++) userWrite64(p, at(i), BigInt(i + 1));
	EXPECT_EQ(8, mremap(p, 1, 2, 8));
	EXPECT_STREQ('0-1:rw 3-4:rw 8-10:rw', vmaList(p.mm!));
	EXPECT_EQ(1, mremap(p, 8, 2, 1));
	EXPECT_STREQ('0-4:rw', vmaList(p.mm!));
	for (let i = 0; i < 4; i++) EXPECT_EQ(BigInt(i + 1), userRead64(p, at(i)));
});

TEST_F(move, 'faulted_range_gives_an_unfaulted_neighbour_its_anon_vma', ({ p }) => {
	mapPages(p, 1, 1);
	mapPages(p, 0, 1, PROT_READ);
	mapPages(p, 2, 1);
	userWrite64(p, at(2), 2n);
	// 1-3 is one mapping with an anon_vma: take page 2 away, forget the rest, put it back
	EXPECT_EQ(8, mremap(p, 2, 1, 8));
	EXPECT_EQ(0, userMunmap(p, at(1), PAGE));
	mapPages(p, 1, 1);
	EXPECT_NULL(p.mm!.vmas[1]!.anon_vma);
	EXPECT_EQ(2, mremap(p, 8, 1, 2));
	EXPECT_STREQ('0-1:r 1-3:rw', vmaList(p.mm!));
	EXPECT_TRUE(p.mm!.vmas[1]!.anon_vma !== null);
	EXPECT_EQ(2n, userRead64(p, at(2)));
});

TEST_F(move, 'shared_memory_keeps_its_offset', ({ p }) => {
	mapPages(p, 0, 4, RW, MAP_SHARED);
	userWrite64(p, at(2), 22n);
	EXPECT_EQ(9, mremap(p, 1, 2, 9));
	EXPECT_STREQ('0-1:rws 3-4:rws 9-11:rws', vmaList(p.mm!));
	EXPECT_EQ(22n, userRead64(p, at(10)));
	const moved = p.mm!.vmas[2]!;
	EXPECT_EQ(1n, moved.vm_pgoff);
	EXPECT_TRUE(moved.vm_file === p.mm!.vmas[0]!.vm_file);
});

TEST_F(move, 'length_0_is_another_view_of_shared_memory', ({ p }) => {
	mapPages(p, 0, 2, RW, MAP_SHARED);
	userWrite64(p, at(1), 7n);
	EXPECT_EQ(8, mremap(p, 0, 0, 8, MOVE, 2));
	EXPECT_STREQ('0-2:rws 8-10:rws', vmaList(p.mm!));
	EXPECT_EQ(7n, userRead64(p, at(9)));
	mapPages(p, 4, 1);
	EXPECT_EQ(-EINVAL, mremap(p, 4, 0, 12, MOVE, 1));
});

TEST_F(
	move,
	'range_over_several_vmas_moves_in_v7_3_and_is_refused_by_v6_12',
	({ p, log }, { profile }) => {
		mapPages(p, 0, 2);
		mapPages(p, 3, 2, PROT_READ);
		mapPages(p, 8, 6);
		for (const i of [0, 1]) userWrite64(p, at(i), BigInt(i + 1));
		userWrite64(p, at(10), 10n);
		userWrite64(p, at(13), 13n);
		log.take();
		const ret = mremap(p, 0, 6, 8);
		if (profile === 'v6.12') {
			// too late: what was there is gone
			EXPECT_EQ(-EFAULT, ret);
			EXPECT_STREQ('0 8-14', log.take());
			EXPECT_STREQ('0-2:rw 3-5:r', vmaList(p.mm!));
			return;
		}
		EXPECT_EQ(8, ret);
		EXPECT_STREQ('0 8-10, 0 0-2, 0 0-2, 0 11-13, 0 3-5, 0 3-5', log.take());
		// the hole and the end of the range: what was there stays
		EXPECT_STREQ('8-10:rw 10-11:rw 11-13:r 13-14:rw', vmaList(p.mm!));
		EXPECT_EQ(2n, userRead64(p, at(9)));
		EXPECT_EQ(10n, userRead64(p, at(10)));
		EXPECT_EQ(13n, userRead64(p, at(13)));
	},
);

TEST_F(move, 'first_address_must_be_mapped', ({ p, log }) => {
	mapPages(p, 1, 2);
	mapPages(p, 8, 3);
	userWrite64(p, at(8), 1n);
	log.take();
	EXPECT_EQ(-EFAULT, mremap(p, 0, 3, 8));
	EXPECT_STREQ('', log.take());
	EXPECT_EQ(1n, userRead64(p, at(8)));
});

TEST_F(move, 'parameters_that_make_no_sense_are_refused', ({ p }) => {
	mapPages(p, 0, 4);
	EXPECT_EQ(-EINVAL, mremap(p, 0, 4, 2));
	EXPECT_EQ(-EINVAL, mremap(p, 0, 4, 8, MREMAP_FIXED));
	EXPECT_EQ(-EINVAL, mremap(p, 0, 4, 8, 8));
	EXPECT_EQ(-EINVAL, mremap(p, 0, 4, 8, KEEP, 5));
	EXPECT_EQ(-EINVAL, mremap(p, 0, 4, 8, MOVE, 0));
	EXPECT_EQ(-EINVAL, Number(userMremap(p, at(0) + 1n, PAGE, PAGE, MOVE, at(8))));
	EXPECT_EQ(-EINVAL, Number(userMremap(p, at(0), PAGE, PAGE, MOVE, at(8) + 1n)));
	EXPECT_EQ(-EINVAL, Number(userMremap(p, at(0), PAGE, PAGE, MOVE, 0x7fff_ffff_f000n)));
	EXPECT_STREQ('0-4:rw', vmaList(p.mm!));
});

TEST_F(
	move,
	'place_without_sense_is_told_after_or_before_the_missing_mapping',
	({ p }, { profile }) => {
		mapPages(p, 2, 2);
		const told = profile === 'v6.12' ? -EFAULT : -EINVAL;
		// nothing is mapped at the first page: an overlap, a crooked address, one beyond the end
		EXPECT_EQ(told, mremap(p, 0, 4, 2));
		EXPECT_EQ(told, mremap(p, 0, 4, 3, KEEP));
		EXPECT_EQ(told, Number(userMremap(p, at(0), PAGE, PAGE, MOVE, at(8) + 1n)));
		EXPECT_EQ(told, Number(userMremap(p, at(0), PAGE, PAGE, MOVE, 0x7fff_ffff_f000n)));
		// what is wrong with flags and lengths comes first in both
		EXPECT_EQ(-EINVAL, mremap(p, 0, 4, 8, MREMAP_FIXED));
		EXPECT_EQ(-EINVAL, mremap(p, 0, 4, 8, KEEP, 5));
		EXPECT_EQ(-EINVAL, mremap(p, 0, 4, 8, MOVE, 0));
		// and with a mapping there is one answer
		EXPECT_EQ(-EINVAL, mremap(p, 2, 2, 3));
		EXPECT_EQ(-EFAULT, mremap(p, 0, 2, 8));
		EXPECT_STREQ('2-4:rw', vmaList(p.mm!));
	},
);

TEST_F(move, 'length_beyond_all_addresses_is_refused', ({ p }, { profile }) => {
	mapPages(p, 0, 1);
	const len = 0x8000_0000_0000n;
	const told = profile === 'v6.12' ? -ENOMEM : -EINVAL;
	EXPECT_EQ(told, Number(userMremap(p, at(0), PAGE, len, MREMAP_MAYMOVE)));
	EXPECT_EQ(-EINVAL, Number(userMremap(p, at(0), PAGE, len, MOVE, at(8))));
	EXPECT_STREQ('0-1:rw', vmaList(p.mm!));
});

TEST_F(move, 'shrinks_and_grows_in_place', ({ p, log }) => {
	mapPages(p, 0, 4);
	userWrite64(p, at(3), 3n);
	userWrite64(p, at(0), 1n);
	log.take();
	EXPECT_EQ(0, mremap(p, 0, 4, 0, 0, 4));
	EXPECT_EQ(0, mremap(p, 0, 4, 0, 0, 2));
	EXPECT_STREQ('0 2-4', log.take());
	EXPECT_STREQ('0-2:rw', vmaList(p.mm!));
	EXPECT_EQ(0, mremap(p, 0, 2, 0, 0, 3));
	EXPECT_STREQ('0-3:rw', vmaList(p.mm!));
	EXPECT_EQ(0n, userRead64(p, at(2)));
	mapPages(p, 3, 1, PROT_READ);
	EXPECT_EQ(-ENOMEM, mremap(p, 0, 3, 0, 0, 4));
	const moved = mremap(p, 0, 3, 0, MREMAP_MAYMOVE, 5);
	EXPECT_EQ(4, moved);
	EXPECT_EQ(1n, userRead64(p, at(moved)));
	EXPECT_STREQ('3-4:r 4-9:rw', vmaList(p.mm!));
	// to a place of fewer pages: the rest goes first
	EXPECT_EQ(20, mremap(p, 4, 5, 20, MOVE, 1));
	EXPECT_STREQ('3-4:r 20-21:rw', vmaList(p.mm!));
	EXPECT_EQ(1n, userRead64(p, at(20)));
});

TEST_F(move, 'whole_tables_change_their_owner', ({ p, log }) => {
	mapPages(p, 0x200, 0x400);
	userWrite64(p, at(0x200), 1n);
	userWrite64(p, at(0x5ff), 2n);
	const tables = p.mm!.pgtables;
	log.take();
	EXPECT_EQ(0x1000, mremap(p, 0x200, 0x400, 0x1000));
	EXPECT_STREQ('0 512-1536, 0 512-1536', log.take());
	EXPECT_STREQ('M', ptes(p.mm!, 0x200, 1));
	EXPECT_EQ(1n, userRead64(p, at(0x1000)));
	EXPECT_EQ(2n, userRead64(p, at(0x13ff)));
	EXPECT_EQ(tables, p.mm!.pgtables);
	// and a whole pud's
	mapPages(p, 0x40000, 0x40000);
	userWrite64(p, at(0x41234), 3n);
	EXPECT_EQ(0x80000, mremap(p, 0x40000, 0x40000, 0x80000));
	EXPECT_EQ(3n, userRead64(p, at(0x81234)));
});

TEST_F(move, 'start_is_rounded_down_where_nothing_else_is_in_the_table', ({ p, log }) => {
	mapPages(p, 0x2f0, 0x210);
	userWrite64(p, at(0x2f1), 1n);
	log.take();
	EXPECT_EQ(0x6f0, mremap(p, 0x2f0, 0x210, 0x6f0));
	EXPECT_STREQ('0 512-1280, 0 752-1280', log.take());
	EXPECT_EQ(1n, userRead64(p, at(0x6f1)));
	// somebody is in the table: not rounded
	mapPages(p, 0xa00, 1);
	EXPECT_EQ(0xaf0, mremap(p, 0x6f0, 0x210, 0xaf0));
	EXPECT_STREQ('0 1776-2304, 0 1776-2304', log.take());
	EXPECT_EQ(1n, userRead64(p, at(0xaf1)));
});

TEST_F(move, 'failure_puts_the_pages_back', ({ p }) => {
	mapPages(p, 0x1f0, 0x20);
	userWrite64(p, at(0x1f0), 1n);
	userWrite64(p, at(0x20f), 2n);
	injectFaults().fail('move_page_tables', 3);
	EXPECT_EQ(-ENOMEM, mremap(p, 0x1f0, 0x20, 0x808));
	EXPECT_STREQ('496-528:rw', vmaList(p.mm!));
	EXPECT_EQ(1n, userRead64(p, at(0x1f0)));
	EXPECT_EQ(2n, userRead64(p, at(0x20f)));
	injectFaults().fail('vm_area_dup', 1);
	EXPECT_EQ(-ENOMEM, mremap(p, 0x1f0, 0x20, 0x808));
	injectFaults().fail('anon_vma_chain_alloc', 1);
	EXPECT_EQ(-ENOMEM, mremap(p, 0x1f0, 0x20, 0x808));
	EXPECT_STREQ('496-528:rw', vmaList(p.mm!));
	EXPECT_EQ(0x808, mremap(p, 0x1f0, 0x20, 0x808));
});

TEST_F(move, 'killed_while_it_waits', ({ p }) => {
	mapPages(p, 0, 1);
	run(mmap_write_lock(p.mm!));
	const results: unknown[] = [];
	const killed = spawn(
		'killed',
		function* () {
			results.push(yield* sys_mremap(at(0), PAGE, PAGE, MOVE, at(4)));
		},
		{ mm: p.mm! },
	);
	killed.pending.add(SIGKILL);
	runThreads();
	run(mmap_write_unlock(p.mm!));
	EXPECT_EQ(-EINTR, results[0] as number);
});

TEST_F(move, 'locked_pages_are_counted_where_they_are', ({ p }) => {
	mapPages(p, 0, 4);
	const vma = p.mm!.vmas[0]!;
	vma.vm_flags |= VM_LOCKED;
	p.mm!.locked_vm = 4n;
	EXPECT_EQ(8, mremap(p, 1, 2, 8, KEEP));
	EXPECT_EQ(4n, p.mm!.locked_vm);
	const locked = p.mm!.vmas.map((v) => Number((v.vm_flags & VM_LOCKED) !== 0n)).join('');
	// 0-1, the empty rest 1-3, 3-4, and what moved
	EXPECT_STREQ('1011', locked);
	EXPECT_STREQ('0-1:rw 1-3:rw 3-4:rw 8-10:rw', vmaList(p.mm!));
	for (const v of p.mm!.vmas) v.vm_flags &= ~VM_LOCKED;
	p.mm!.locked_vm = 0n;
});
