// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: after mprotect() no CPU has a right that the VMA has not, and notifiers hear of it only
 * where entries change. Method: protections of written, shared and untouched pages are changed;
 * VMAs, entries, invalidations and the signals of later touches are compared, with each release.
 */
import { EACCES, EINTR, EINVAL, ENOMEM } from '../../include/linux/errno.ts';
import {
	MAP_PRIVATE,
	PROT_NONE,
	PROT_READ,
	VM_ACCOUNT,
	VM_MAYWRITE,
} from '../../include/linux/mm.ts';
import { pfn_to_page } from '../../include/linux/mmzone.ts';
import { ClearPageAnonExclusive, SetPageAnonExclusive } from '../../include/linux/page-flags.ts';
import { pte_pfn } from '../../include/linux/pgtable.ts';
import { SIGKILL, type task_struct } from '../../include/linux/sched.ts';
import {
	make_readable_device_exclusive_entry,
	make_readable_device_private_entry,
	make_readable_exclusive_migration_entry,
	make_writable_device_exclusive_entry,
	make_writable_device_private_entry,
	make_writable_migration_entry,
	pte_swp_mkuffd_wp,
	pte_swp_uffd_wp,
	pte_to_swp_entry,
	swp_entry_to_pte,
} from '../../include/linux/swapops.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import { run, runThreads, spawn } from '../../kernel/sched/core.ts';
import { MAP_NORESERVE } from '../../mm/mmap.ts';
import { mmap_write_lock, mmap_write_unlock } from '../../mm/mmap_lock.ts';
import { do_mprotect_pkey } from '../../mm/mprotect.ts';
import { userMmap, userMprotect, userMunmap, userRead64, userWrite64 } from '../../mm/syscalls.ts';
import { EXPECT_EQ, EXPECT_NULL, EXPECT_STREQ, EXPECT_TRUE, TEST_F } from '../kselftest_harness.ts';
import { RELEASES, watchedProcessFixture } from './process_fixture.ts';
import {
	ARENA,
	at,
	mapPages,
	PAGE,
	pteOf,
	ptes,
	RW,
	signalText,
	vmaList,
} from './small_machine.ts';

const protect = watchedProcessFixture('mprotect', { releases: RELEASES });

function mprotect(p: task_struct, page: number, pages: number, prot: number): number {
	return userMprotect(p, at(page), BigInt(pages) * PAGE, prot);
}

TEST_F(protect, 'write_after_the_right_is_gone_is_a_segv', ({ p }) => {
	mapPages(p, 0, 2, RW);
	EXPECT_NULL(userWrite64(p, at(0), 7n));
	EXPECT_EQ(0, mprotect(p, 0, 1, PROT_READ));
	// the TLB had the writable entry
	EXPECT_STREQ('sig 11 code 2', signalText(userWrite64(p, at(0), 8n)));
	EXPECT_EQ(7n, userRead64(p, at(0)));
	EXPECT_EQ(0, mprotect(p, 0, 1, PROT_NONE));
	EXPECT_STREQ('sig 11 code 2', signalText(userRead64(p, at(0))));
	EXPECT_EQ(0, mprotect(p, 0, 1, RW));
	EXPECT_EQ(7n, userRead64(p, at(0)));
});

TEST_F(protect, 'exclusive_page_is_writable_again_at_once_and_a_shared_one_is_not', ({ p }) => {
	mapPages(p, 0, 2, RW);
	userWrite64(p, at(0), 1n);
	userWrite64(p, at(1), 1n);
	mprotect(p, 0, 2, PROT_READ);
	EXPECT_STREQ('rr', ptes(p.mm!, 0, 2));
	const shared = pfn_to_page(pte_pfn(pteOf(p.mm!, at(1))!.value));
	ClearPageAnonExclusive(shared);
	mprotect(p, 0, 2, RW);
	EXPECT_STREQ('wr', ptes(p.mm!, 0, 2));
	SetPageAnonExclusive(shared);
});

TEST_F(protect, 'zero_page_stays_read_only', ({ p }) => {
	mapPages(p, 0, 1, PROT_READ);
	EXPECT_EQ(0n, userRead64(p, at(0)));
	mprotect(p, 0, 1, RW);
	EXPECT_STREQ('r', ptes(p.mm!, 0, 1));
});

TEST_F(protect, 'range_splits_and_merges_vmas', ({ p }) => {
	mapPages(p, 0, 8, RW);
	mprotect(p, 2, 2, PROT_READ);
	EXPECT_STREQ('0-2:rw 2-4:r 4-8:rw', vmaList(p.mm!));
	mprotect(p, 4, 1, PROT_READ);
	EXPECT_STREQ('0-2:rw 2-5:r 5-8:rw', vmaList(p.mm!));
	mprotect(p, 1, 1, PROT_READ);
	EXPECT_STREQ('0-1:rw 1-5:r 5-8:rw', vmaList(p.mm!));
	mprotect(p, 1, 4, RW);
	EXPECT_STREQ('0-8:rw', vmaList(p.mm!));
	mprotect(p, 7, 1, PROT_READ);
	mprotect(p, 6, 2, RW);
	EXPECT_STREQ('0-8:rw', vmaList(p.mm!));
	EXPECT_EQ(ARENA >> 12n, p.mm!.vmas[0]!.vm_pgoff);
});

TEST_F(protect, 'merge_hands_the_anon_vma_on', ({ p }) => {
	mapPages(p, 0, 1, RW);
	mapPages(p, 1, 2, PROT_READ);
	mapPages(p, 3, 1, RW);
	userWrite64(p, at(3), 3n);
	mprotect(p, 1, 2, RW);
	EXPECT_STREQ('0-4:rw', vmaList(p.mm!));
	EXPECT_TRUE(p.mm!.vmas[0]!.anon_vma !== null);
	EXPECT_EQ(3n, userRead64(p, at(3)));
});

TEST_F(protect, 'part_moves_to_the_neighbour_on_either_side', ({ p }) => {
	// without accounting the flags differ in the protection only
	const flags = MAP_PRIVATE | MAP_NORESERVE;
	userMmap(p, at(0), 2n * PAGE, PROT_READ, flags);
	userMmap(p, at(2), 4n * PAGE, RW, flags);
	userMmap(p, at(6), 2n * PAGE, PROT_READ, flags);
	for (let i = 2; i < 6; i++) userWrite64(p, at(i), BigInt(i));
	mprotect(p, 2, 1, PROT_READ);
	mprotect(p, 5, 1, PROT_READ);
	EXPECT_STREQ('0-3:r 3-5:rw 5-8:r', vmaList(p.mm!));
	for (let i = 2; i < 6; i++) EXPECT_EQ(BigInt(i), userRead64(p, at(i)));
	EXPECT_EQ((ARENA >> 12n) + 3n, p.mm!.vmas[1]!.vm_pgoff);
	EXPECT_EQ((ARENA >> 12n) + 5n, p.mm!.vmas[2]!.vm_pgoff);
	mprotect(p, 3, 2, PROT_READ);
	EXPECT_STREQ('0-8:r', vmaList(p.mm!));
});

TEST_F(protect, 'notifiers_hear_of_it_only_where_page_tables_are', ({ p, log }) => {
	mapPages(p, 0, 8, RW);
	mprotect(p, 0, 8, PROT_READ);
	EXPECT_STREQ('', log.take());
	userRead64(p, at(0));
	log.take();
	mprotect(p, 4, 2, RW);
	EXPECT_STREQ('2 4-6', log.take());
	// no change of flags: nothing is done
	mprotect(p, 4, 2, RW);
	EXPECT_STREQ('', log.take());
	// two VMAs, two events
	mprotect(p, 3, 3, PROT_NONE);
	EXPECT_STREQ('2 3-4, 2 4-6', log.take());
	// a pud without an entry is passed over; an event starts at the first that has one
	EXPECT_EQ(0, userMunmap(p, at(0), 8n * PAGE));
	mapPages(p, 0x40000 - 2, 4, RW);
	EXPECT_NULL(userWrite64(p, at(0x40000 + 1), 1n));
	log.take();
	mprotect(p, 0x40000 - 2, 4, PROT_READ);
	EXPECT_STREQ('2 262144-262146', log.take());
});

TEST_F(protect, 'gap_ends_it_with_what_lies_before_done', ({ p }) => {
	mapPages(p, 0, 2, RW);
	mapPages(p, 3, 2, RW);
	EXPECT_EQ(-ENOMEM, mprotect(p, 0, 5, PROT_READ));
	EXPECT_STREQ('0-2:r 3-5:rw', vmaList(p.mm!));
	EXPECT_EQ(-ENOMEM, mprotect(p, 2, 1, PROT_READ));
	EXPECT_EQ(-ENOMEM, mprotect(p, 4, 3, PROT_READ));
	EXPECT_STREQ('0-2:r 3-4:rw 4-5:r', vmaList(p.mm!));
});

TEST_F(protect, 'refuses_what_makes_no_sense', ({ p }) => {
	mapPages(p, 0, 1, PROT_READ);
	EXPECT_EQ(-EINVAL, userMprotect(p, at(0) + 1n, PAGE, RW));
	EXPECT_EQ(0, userMprotect(p, at(0), 0n, RW));
	EXPECT_EQ(-ENOMEM, userMprotect(p, at(0), (1n << 64n) - PAGE, RW));
	EXPECT_EQ(-EINVAL, userMprotect(p, at(0), PAGE, 0x10));
	p.mm!.vmas[0]!.vm_flags &= ~VM_MAYWRITE;
	EXPECT_EQ(-EACCES, userMprotect(p, at(0), PAGE, RW));
	EXPECT_STREQ('0-1:r', vmaList(p.mm!));
});

TEST_F(protect, 'killed_task_does_not_wait', ({ p }) => {
	run(mmap_write_lock(p.mm!));
	let ret = 0;
	const body = function* () {
		ret = yield* do_mprotect_pkey(ARENA, PAGE, RW, -1);
	};
	spawn('killed', body, { mm: p.mm }).pending.add(SIGKILL);
	runThreads();
	EXPECT_EQ(-EINTR, ret);
	run(mmap_write_unlock(p.mm!));
});

TEST_F(protect, 'failed_split_changes_no_entry', ({ p }) => {
	mapPages(p, 0, 4, RW);
	for (let i = 0; i < 4; i++) userWrite64(p, at(i), 1n);
	injectFaults().fail('vm_area_dup', 1);
	EXPECT_EQ(-ENOMEM, mprotect(p, 1, 3, PROT_READ));
	injectFaults().fail('vm_area_dup', 1);
	EXPECT_EQ(-ENOMEM, mprotect(p, 0, 3, PROT_READ));
	EXPECT_STREQ('0-4:rw', vmaList(p.mm!));
	EXPECT_STREQ('wwww', ptes(p.mm!, 0, 4));
});

TEST_F(protect, 'accounting_follows_the_write_right_while_nothing_was_written', ({ p }) => {
	const accounted = () => (p.mm!.vmas[0]!.vm_flags & VM_ACCOUNT) !== 0n;
	mapPages(p, 0, 1, PROT_READ);
	EXPECT_TRUE(!accounted());
	mprotect(p, 0, 1, RW);
	EXPECT_TRUE(accounted());
	mprotect(p, 0, 1, PROT_READ);
	EXPECT_TRUE(!accounted());
	mprotect(p, 0, 1, RW);
	userWrite64(p, at(0), 1n);
	mprotect(p, 0, 1, PROT_READ);
	EXPECT_TRUE(accounted());
});

TEST_F(protect, 'non_present_entries_lose_the_write_right', ({ p }, { profile }) => {
	mapPages(p, 0, 5, RW);
	for (let i = 0; i < 5; i++) userWrite64(p, at(i), 1n);
	const mm = p.mm!;
	const words = [0, 1, 2, 3, 4].map((i) => pteOf(mm, at(i))!.value);
	const pfn = pte_pfn(words[0]!) as bigint;
	const set = (i: number, word: bigint) => {
		pteOf(mm, at(i))!.value = word;
	};
	set(0, swp_entry_to_pte(make_writable_migration_entry(pfn)));
	set(1, pte_swp_mkuffd_wp(swp_entry_to_pte(make_writable_device_private_entry(pfn))));
	set(2, pte_swp_mkuffd_wp(swp_entry_to_pte(make_writable_device_exclusive_entry(pfn))));
	set(3, swp_entry_to_pte(make_readable_device_private_entry(pfn)));
	EXPECT_EQ(0, mprotect(p, 0, 4, PROT_READ));
	const entry = (i: number) => pte_to_swp_entry(pteOf(mm, at(i))!.value);
	EXPECT_EQ(make_readable_exclusive_migration_entry(pfn), entry(0));
	EXPECT_EQ(make_readable_device_private_entry(pfn), entry(1));
	EXPECT_TRUE(pte_swp_uffd_wp(pteOf(mm, at(1))!.value));
	// 7.3 knows one kind of exclusive entry only
	const exclusive =
		profile === 'v7.3'
			? make_writable_device_exclusive_entry(pfn)
			: make_readable_device_exclusive_entry(pfn);
	EXPECT_EQ(exclusive, entry(2));
	EXPECT_EQ(make_readable_device_private_entry(pfn), entry(3));
	for (const [i, word] of words.entries()) set(i, word);
});
