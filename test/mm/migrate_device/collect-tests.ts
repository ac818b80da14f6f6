// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: what setup collects: the words that it leaves in `src`, and the pages, entries and mappings
 * that it passes by. Method: every state of an entry and of a folio once; the page table is
 * compared before and after.
 */
import type { Machine } from '../../../arch/sim/machine.ts';
import { _PAGE_PSE, _PAGE_SPECIAL } from '../../../include/asm/pgtable_types.ts';
import { EINVAL } from '../../../include/linux/errno.ts';
import {
	MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
	MIGRATE_VMA_SELECT_SYSTEM,
	migrate_pfn,
	migrate_pfn_to_page,
	type migrate_vma,
} from '../../../include/linux/migrate.ts';
import { PROT_READ, VM_HUGETLB, VM_IO } from '../../../include/linux/mm.ts';
import { type page, page_folio } from '../../../include/linux/mm_types.ts';
import { page_to_pfn, pfn_to_page } from '../../../include/linux/mmzone.ts';
import {
	folio_test_lru,
	PageAnonExclusive,
	PageLocked,
	PG_locked,
	set_page_count,
} from '../../../include/linux/page-flags.ts';
import { _PAGE_TABLE, PAGE_SHARED, pte_pfn } from '../../../include/linux/pgtable.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import {
	make_hwpoison_entry,
	make_pte_marker_entry,
	make_readable_migration_entry,
	make_writable_device_private_entry,
	PTE_MARKER_POISONED,
	softleaf_to_pmd,
	swp_entry_to_pte,
} from '../../../include/linux/swapops.ts';
import { PAGE_SIZE } from '../../../include/linux/types.ts';
import { HarnessError } from '../../../include/sim/report.ts';
import { world } from '../../../include/sim/world.ts';
import { folio_unlock } from '../../../mm/filemap.ts';
import { forkProcess } from '../../../mm/fork.ts';
import { migrate_vma_setup } from '../../../mm/migrate_device.ts';
import { get_page, put_page } from '../../../mm/swap.ts';
import {
	createProcess,
	exitProcess,
	mmapAnonymous,
	userMprotect,
	userRead64,
	userWrite64,
} from '../../../mm/syscalls.ts';
import { EXPECT_EQ, EXPECT_TRUE, expectReport, TEST_F } from '../../kselftest_harness.ts';
import { expectList } from '../bare_world.ts';
import {
	dropPage,
	fillDst,
	lockedRamPage,
	migration,
	pmdEntry,
	pteEntry,
	pteOf,
	SELECT_COHERENT,
	TestDevice,
	toDevice,
	vmaAt,
} from '../mm_world.ts';
import { RW } from '../small_machine.ts';
import { FLAGS, M, migrateFixture, VALID, W } from './stage.ts';

const migrate = migrateFixture('migrate_device');

TEST_F(migrate, 'setup_words_say_what_is_there', function* (s) {
	const { task } = s;
	s.fill(2);
	EXPECT_EQ(0, userMprotect(task, s.address(1), PAGE_SIZE, PROT_READ));
	EXPECT_EQ(0, userMprotect(task, s.address(1), PAGE_SIZE, RW));
	EXPECT_EQ(0n, userRead64(task, s.address(2)));
	EXPECT_EQ(null, userWrite64(task, s.address(4), 1n));
	EXPECT_EQ(1, yield* toDevice(s.dev, task.mm!, s.address(4), 1));
	const ram0 = page_to_pfn(s.page(0));
	const args = s.args(0, 6);
	EXPECT_EQ(0, yield* s.setup(args));
	// present, present, zero page, hole, private (SYSTEM only selected), hole
	EXPECT_EQ(migrate_pfn(ram0) | M | W, args.src[0]);
	EXPECT_EQ(VALID | M, args.src[1]! & (FLAGS & ~W));
	expectList([M, M, 0n, M], [...args.src.subarray(2, 6)]);
	expectList([0n, 0n, 0n, 0n, 0n, 0n], [...args.dst]);
	EXPECT_EQ(5n, args.cpages);
	EXPECT_EQ(6n, args.npages);
	expectList(['Mw', 'Dw'], [s.state(0), s.state(4)]);
	EXPECT_TRUE(PageLocked(migrate_pfn_to_page(args.src[0]!) as page));
	// Nothing is given: everything goes back as it was.
	yield* s.finish(args);
	EXPECT_EQ(0n, args.src[0]! & M);
	expectList(['rw', 'none', 'Dw', 'none'], [s.state(0), s.state(3), s.state(4), s.state(5)]);
	EXPECT_EQ(100n, userRead64(task, s.at));
});

TEST_F(migrate, 'a_pinned_page_goes_back', function* (s) {
	s.fill(2);
	const pinned = s.page(0);
	get_page(pinned);
	const args = s.args(0, 2);
	EXPECT_EQ(0, yield* s.setup(args));
	EXPECT_EQ(0n, args.src[0]);
	EXPECT_EQ(1n, args.cpages);
	expectList(['rw', 'Mw'], s.states(2));
	expectList(
		[2, false, true],
		[pinned._refcount, PageLocked(pinned), folio_test_lru(page_folio(pinned))],
	);
	yield* fillDst(args.src, args.dst, 2, () => s.dev.alloc());
	yield* s.finish(args);
	expectList(['rw', 'Dw'], s.states(2));
	yield* put_page(pinned);
});

TEST_F(migrate, 'a_locked_page_is_passed_by', function* (s) {
	s.fill(1);
	s.page(0).flags |= PG_locked;
	EXPECT_EQ(0, yield* toDevice(s.dev, s.task.mm!, s.at, 1));
	EXPECT_EQ('rw', s.state(0));
	EXPECT_EQ(1, s.page(0)._refcount);
	yield* folio_unlock(page_folio(s.page(0)));
});

TEST_F(migrate, 'a_page_off_the_lru_goes_back', function* (s) {
	s.fill(1);
	const f = page_folio(s.page(0));
	const { flags } = f;
	f.flags = flags & ~(flags & 0x10);
	EXPECT_EQ(0, yield* toDevice(s.dev, s.task.mm!, s.at, 1));
	EXPECT_EQ('rw', s.state(0));
	f.flags = flags;
});

TEST_F(migrate, 'only_the_owner_takes_private_pages', function* (s) {
	s.fill(1);
	EXPECT_EQ(1, yield* toDevice(s.dev, s.task.mm!, s.at, 1));
	const other = new TestDevice(0x200000n);
	const flags = MIGRATE_VMA_SELECT_DEVICE_PRIVATE | MIGRATE_VMA_SELECT_SYSTEM;
	const theirs = migration(other, s.vma(), s.at, s.address(1), flags);
	EXPECT_EQ(0, yield* s.setup(theirs));
	EXPECT_EQ(0n, theirs.src[0]);
	const ours = s.args(0, 1, MIGRATE_VMA_SELECT_DEVICE_PRIVATE);
	EXPECT_EQ(0, yield* s.setup(ours));
	EXPECT_EQ(VALID | M | W, ours.src[0]! & FLAGS);
	yield* s.finish(ours);
	EXPECT_EQ('Dw', s.state(0));
});

TEST_F(migrate, 'system_pages_are_left_when_not_selected', function* (s) {
	s.fill(1);
	EXPECT_EQ(0n, userRead64(s.task, s.address(1)));
	const args = s.args(0, 3, MIGRATE_VMA_SELECT_DEVICE_PRIVATE);
	EXPECT_EQ(0, yield* s.setup(args));
	// The zero page is no candidate then; a hole always is.
	expectList([0n, 0n, M], [...args.src]);
	yield* s.finish(args);
});

TEST_F(migrate, 'coherent_pages_need_their_flag_and_owner', function* (s) {
	const dev = new TestDevice(0x200000n, true);
	yield* dev.probe();
	s.fill(1);
	EXPECT_EQ(1, yield* toDevice(dev, s.task.mm!, s.at, 1));
	EXPECT_EQ('rw', s.state(0));
	EXPECT_EQ(dev.base, pte_pfn(s.pte(0)));
	for (const [who, flags] of [
		[dev, MIGRATE_VMA_SELECT_SYSTEM],
		[s.dev, SELECT_COHERENT],
	] as const) {
		const args = migration(who, s.vma(), s.at, s.address(1), flags);
		EXPECT_EQ(0, yield* s.setup(args));
		EXPECT_EQ(0n, args.src[0]);
	}
	const args = migration(dev, s.vma(), s.at, s.address(2), SELECT_COHERENT);
	EXPECT_EQ(0, yield* s.setup(args));
	EXPECT_EQ(VALID | M | W, args.src[0]! & FLAGS);
	yield* fillDst(args.src, args.dst, 2, lockedRamPage);
	yield* s.finish(args);
	expectList(['rw', 'rw'], s.states(2));
	// A hole takes a coherent page too.
	EXPECT_EQ(1, yield* toDevice(dev, s.task.mm!, s.address(2), 1));
	EXPECT_EQ('rw', s.state(2));
	exitProcess(s.task);
	s.task = createProcess('next');
	yield* dev.remove();
});

TEST_F(migrate, 'setup_refuses_what_it_cannot_migrate', function* (s, { profile }) {
	s.fill(1);
	const cases: [string, (a: migrate_vma) => void][] = [
		['no VMA', (a) => (a.vma = null)],
		['hugetlb', (a) => (a.vma!.vm_flags |= VM_HUGETLB)],
		['special', (a) => (a.vma!.vm_flags |= VM_IO)],
		['empty', (a) => (a.end = a.start)],
		['part of a page', (a) => (a.end = a.start + 1n)],
		['backwards', (a) => (a.end = a.start - PAGE_SIZE)],
		['before the VMA', (a) => (a.start -= PAGE_SIZE)],
		['behind the VMA', (a) => (a.start = s.address(8))],
		['past the end', (a) => (a.end = s.address(9))],
		['no src', (a) => (a.src = null as unknown as BigUint64Array)],
		['no dst', (a) => (a.dst = null as unknown as BigUint64Array)],
		['fault page of RAM', (a) => (a.fault_page = s.page(0))],
	];
	for (const [, spoil] of cases) {
		const args = s.args(0, 1);
		const { vm_flags } = args.vma!;
		const { vma } = args;
		spoil(args);
		EXPECT_EQ(-EINVAL, yield* s.setup(args));
		vma!.vm_flags = vm_flags;
	}
	EXPECT_EQ('rw', s.state(0));
	const args = s.args(0, 2);
	args.src = new BigUint64Array(1);
	let thrown: unknown = null;
	try {
		yield* migrate_vma_setup(args);
	} catch (error) {
		thrown = error;
	}
	EXPECT_TRUE(thrown instanceof HarnessError);
	// The fault page: v7.3 wants it locked, v6.12 does not ask.
	EXPECT_EQ(1, yield* toDevice(s.dev, s.task.mm!, s.at, 1));
	const fault = s.args(0, 1, MIGRATE_VMA_SELECT_DEVICE_PRIVATE);
	fault.fault_page = s.page(0);
	const ret = yield* s.setup(fault);
	EXPECT_EQ(profile === 'v7.3' ? -EINVAL : 0, ret);
	if (ret === 0) yield* s.finish(fault);
});

TEST_F(
	migrate,
	'a_locked_fault_page_is_taken_in_7_3_and_passed_by_in_6_12',
	function* (s, { profile }) {
		s.fill(1);
		EXPECT_EQ(1, yield* toDevice(s.dev, s.task.mm!, s.at, 1));
		const p = s.page(0);
		get_page(p);
		p.flags |= PG_locked;
		const args = s.args(0, 1, MIGRATE_VMA_SELECT_DEVICE_PRIVATE);
		args.fault_page = p;
		EXPECT_EQ(0, yield* s.setup(args));
		EXPECT_EQ(profile === 'v7.3' ? VALID | M | W : 0n, args.src[0]! & FLAGS);
		yield* fillDst(args.src, args.dst, 1, lockedRamPage);
		yield* s.finish(args);
		EXPECT_EQ(profile === 'v7.3' ? 'rw' : 'Dw', s.state(0));
		// The lock is the caller's in both.
		EXPECT_TRUE(PageLocked(p));
		yield* dropPage(p);
	},
);

TEST_F(migrate, 'a_page_pinned_for_dma_is_not_even_unmapped', function* (s) {
	s.fill(1);
	const p = s.page(0);
	set_page_count(p, 1 + 1024);
	const args = s.args(0, 1);
	EXPECT_EQ(0, yield* s.setup(args));
	expectList([0n, 0n, 'rw', 1025], [args.src[0], args.cpages, s.state(0), p._refcount]);
	expectList([true, false], [PageAnonExclusive(p), PageLocked(p)]);
	set_page_count(p, 1);
});

TEST_F(migrate, 'a_file_mapping_has_no_holes', function* (s) {
	const vma = s.vma();
	vma.vm_ops = {};
	const args = s.args(0, 2);
	EXPECT_EQ(0, yield* s.setup(args));
	expectList([0n, 0n, 0n, 2n], [...args.src, args.cpages, args.npages]);
	s.dev.free.length = 0;
	vma.vm_ops = null;
	s.fill(1);
	vma.vm_ops = {};
	const again = s.args(0, 2);
	EXPECT_EQ(0, yield* s.setup(again));
	expectList([VALID | M | W, 0n], [again.src[0]! & FLAGS, again.src[1]]);
	yield* s.finish(again);
	vma.vm_ops = null;
	for (let i = 0n; i < 16n; i++) s.dev.free.push(pfn_to_page(s.dev.base + i));
});

TEST_F(migrate, 'other_entries_are_left_alone', function* (s) {
	s.fill(2);
	const entry = pteEntry(s.task, s.at)!;
	const { value } = entry;
	expectReport('Bad page map');
	for (const other of [
		swp_entry_to_pte(make_pte_marker_entry(PTE_MARKER_POISONED)),
		swp_entry_to_pte(make_hwpoison_entry(0x500n)),
		// a special entry where the VMA has none: reported, and no page
		0x900_0000_0000n | _PAGE_SPECIAL | PAGE_SHARED,
	]) {
		entry.value = other;
		const args = s.args(0, 1);
		EXPECT_EQ(0, yield* s.setup(args));
		EXPECT_EQ(0n, args.src[0]);
		EXPECT_EQ(other, entry.value);
	}
	entry.value = value;
	// A page that is mapped without rmap.
	const p = s.page(1);
	const { mapping } = p;
	p.mapping = null;
	EXPECT_EQ(0, yield* toDevice(s.dev, s.task.mm!, s.address(1), 1));
	p.mapping = mapping;
});

TEST_F(migrate, 'a_large_folio_that_cannot_be_split_stays', function* (s, { profile }) {
	s.fill(4);
	const p = s.page(2);
	p.compound = (1 << 1) | 1;
	const args = s.args(0, 4);
	EXPECT_EQ(0, yield* s.setup(args));
	// v6.12 passes by that page only, v7.3 gives the rest of the table up.
	expectList(['Mw', 'Mw', 'rw', profile === 'v7.3' ? 'rw' : 'Mw'], s.states(4));
	expectList([0n, 4n], [args.src[2], args.npages]);
	p.compound = 0;
	yield* s.finish(args);
	expectList(['rw', 'rw', 'rw', 'rw'], s.states(4));
	const first = s.args(2, 4);
	p.compound = (1 << 1) | 1;
	EXPECT_EQ(0, yield* s.setup(first));
	EXPECT_EQ(0n, first.src[0]);
	p.compound = 0;
	yield* s.finish(first);
});

TEST_F(migrate, 'a_huge_entry_that_is_not_selected_stays', function* (s) {
	s.fill(1);
	const entry = pmdEntry(s.task, s.at);
	const { value } = entry;
	const present = _PAGE_TABLE | _PAGE_PSE | 0x400_0000n;
	const isPrivate = softleaf_to_pmd(make_writable_device_private_entry(0x100000n));
	const migrating = softleaf_to_pmd(make_readable_migration_entry(0x100000n));
	const cases: [bigint, bigint][] = [[migrating, MIGRATE_VMA_SELECT_SYSTEM]];
	if (s.profile === 'v7.3')
		cases.push(
			[present, MIGRATE_VMA_SELECT_DEVICE_PRIVATE],
			[isPrivate, MIGRATE_VMA_SELECT_SYSTEM],
		);
	for (const [pmd, flags] of cases) {
		entry.value = pmd;
		const args = s.args(0, 2, flags);
		EXPECT_EQ(0, yield* s.setup(args));
		expectList([0n, 0n, 2n], [...args.src, args.npages]);
		EXPECT_EQ(pmd, entry.value);
	}
	entry.value = value;
});

TEST_F(migrate, 'file_pages_do_not_go_to_a_device', function* (s) {
	const at = mmapAnonymous(s.task, 2n * PAGE_SIZE, RW, true);
	EXPECT_EQ(null, userWrite64(s.task, at, 9n));
	EXPECT_EQ(0, yield* toDevice(s.dev, s.task.mm!, at, 2));
	EXPECT_EQ(16, s.dev.free.length);
	const before = pte_pfn(pteOf(s.task, at));
	const args = migration(s.dev, vmaAt(s.task, at), at, at + 2n * PAGE_SIZE);
	EXPECT_EQ(0, yield* s.setup(args));
	// A hole of a file is not filled.
	expectList([VALID | M | W, 0n], [args.src[0]! & FLAGS, args.src[1]]);
	yield* s.finish(args);
	EXPECT_EQ(before, pte_pfn(pteOf(s.task, at)));
	EXPECT_EQ(9n, userRead64(s.task, at));
});

TEST_F(migrate, 'no_cpu_keeps_a_translation_that_collecting_took_away', function* (s) {
	s.fill(2);
	const child = forkProcess(s.task) as task_struct;
	// Both processes have the pages in the TLB of their CPU, shared and read-only.
	for (const task of [s.task, child])
		for (let i = 0; i < 2; i++)
			EXPECT_EQ(BigInt(100 + i), userRead64(task, s.address(i)));
	EXPECT_EQ(2, yield* toDevice(s.dev, s.task.mm!, s.at, 2));
	EXPECT_EQ(100n, userRead64(s.task, s.address(0)));
	EXPECT_EQ(1, s.dev.faults);
	EXPECT_EQ(101n, userRead64(child, s.address(1)));
	EXPECT_EQ(2, s.dev.faults);
	exitProcess(child);
});

TEST_F(migrate, 'a_failed_split_flushes_what_was_collected_before_it', function* (s) {
	s.fill(3);
	// Collected after fork, the entries are cleared without a flush of their own.
	const child = forkProcess(s.task) as task_struct;
	EXPECT_EQ(100n, userRead64(s.task, s.address(0)));
	const p = s.page(2);
	p.compound = (1 << 1) | 1;
	const args = s.args(0, 3);
	EXPECT_EQ(0, yield* s.setup(args));
	const vpn = Number(s.address(0) >> 12n);
	for (const { tlb } of (world().machine as Machine).cpus)
		EXPECT_EQ(null, tlb.lookup(s.task.mm!.pgd, vpn));
	p.compound = 0;
	yield* s.finish(args);
	exitProcess(child);
});
