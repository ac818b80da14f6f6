// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: what hmm_range_fault() makes of entries above the page tables: huge pages, migrations and
 * private memory at PMD level, bad entries, PUD leaves, hugetlb. Method: words put in by hand, seen
 * by the whole call where it needs no fault, and by one callback where it does; an entry that
 * changes under the walk is changed between two steps of a thread.
 *
 *   ARENA             +2 MiB            +4 MiB
 *   | pmd 0           | pmd 1           |          the huge entry is pmd 0
 *   0                 512               1024       pages
 */
import {
	_PAGE_DEVMAP,
	_PAGE_PRESENT,
	_PAGE_PROTNONE,
	_PAGE_PSE,
} from '../../include/asm/pgtable_types.ts';
import { EAGAIN, EBUSY, EFAULT, EPERM } from '../../include/linux/errno.ts';
import { HMM_PFN_REQ_FAULT, HMM_PFN_REQ_WRITE, hmm_range } from '../../include/linux/hmm.ts';
import { PROT_READ, VM_HUGETLB, VM_WRITE } from '../../include/linux/mm.ts';
import { page_folio } from '../../include/linux/mm_types.ts';
import { page_to_pfn, pfn_to_page } from '../../include/linux/mmzone.ts';
import { ACTION_CONTINUE, ACTION_SUBTREE, mm_walk } from '../../include/linux/pagewalk.ts';
import {
	_PAGE_TABLE,
	PAGE_READONLY,
	PAGE_SHARED,
	pfn_pmd,
	pmd_mkhuge,
	TableEntry,
} from '../../include/linux/pgtable.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import {
	make_hwpoison_entry,
	make_readable_device_private_entry,
	make_writable_device_private_entry,
	make_writable_migration_entry,
	softleaf_to_pmd,
} from '../../include/linux/swapops.ts';
import { GFP_HIGHUSER_MOVABLE, PMD_MASK } from '../../include/linux/types.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import { spin_unlock } from '../../kernel/locking/spinlock.ts';
import { run, runThreads, spawn, stepThread } from '../../kernel/sched/core.ts';
import { folio_lock, folio_unlock } from '../../mm/filemap.ts';
import {
	hmm_vma_handle_absent_pmd,
	hmm_vma_walk,
	hmm_vma_walk_hugetlb_entry,
	hmm_vma_walk_pmd,
	hmm_vma_walk_pud,
} from '../../mm/hmm.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import { alloc_page } from '../../mm/page_alloc.ts';
import { pud_lock } from '../../mm/pgtable.ts';
import { put_page } from '../../mm/swap.ts';
import { userMprotect, userWrite64 } from '../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	ASSERT_NE,
	EXPECT_EQ,
	EXPECT_STREQ,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	SKIP,
	TEST,
	TEST_F,
} from '../kselftest_harness.ts';
import { type Answer, at, HmmWorld, PAGE, wordText } from './hmm_world.ts';
import { TestDevice } from './mm_world.ts';
import { HUGE } from './small_machine.ts';

const READ = { default_flags: HMM_PFN_REQ_FAULT };
const WRITE = { default_flags: HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE };

interface Self {
	w: HmmWorld;
	dev: TestDevice;
}

const huge = FIXTURE<Self, { profile: ProfileName }>(
	'hmm_huge_entries',
	() => ({ w: null as unknown as HmmWorld, dev: null as unknown as TestDevice }),
	FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName }),
);
FIXTURE_VARIANT_ADD(huge, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(huge, 'v7_3', { profile: 'v7.3' });

FIXTURE_SETUP(huge, (self, { profile }) => {
	self.w = new HmmWorld(profile);
	self.dev = new TestDevice();
	run(self.dev.probe());
	self.w.map(0, 2 * HUGE);
});

FIXTURE_TEARDOWN(huge, ({ w, dev }) => {
	w.close();
	run(dev.remove());
});

const isNew = (profile: ProfileName): boolean => profile === 'v7.3';
const hugePage = (pfn: bigint, prot = PAGE_SHARED): bigint => pmd_mkhuge(pfn_pmd(pfn, prot));

/** A callback on an entry of the arena, with the mmap lock, and the words that it leaves. */
function callback(
	w: HmmWorld,
	entry: TableEntry,
	first: number,
	pages: number,
	options: { default_flags?: bigint; words?: bigint[]; mask?: bigint },
	call: typeof hmm_vma_walk_pmd,
): { ret: number; words: BigUint64Array; walk: mm_walk; state: hmm_vma_walk } {
	const hmm_pfns = new BigUint64Array(pages);
	hmm_pfns.set(options.words ?? []);
	const range = new hmm_range({
		start: at(first),
		end: at(first + pages),
		hmm_pfns,
		default_flags: options.default_flags ?? 0n,
		pfn_flags_mask: options.mask ?? 0n,
	});
	const mm = w.task.mm!;
	const state = new hmm_vma_walk(range, null);
	const walk = new mm_walk({ mm, vma: w.vma(first), private: state });
	const ret = w.run(function* () {
		yield* mmap_read_lock(mm);
		const result = yield* call(entry, range.start, range.end, walk);
		yield* mmap_read_unlock(mm);
		return result;
	});
	return { ret, words: hmm_pfns, walk, state };
}

TEST_F(huge, 'huge_page_gives_ascending_pfns_and_order_9', ({ w }) => {
	w.set(w.pmd(), hugePage(0x40000n));
	for (const request of [{}, READ, WRITE]) {
		const { ret, words, faults } = w.call(0, HUGE, request);
		EXPECT_EQ(0, ret);
		EXPECT_STREQ('VW/9@40000', wordText(words[0]!));
		EXPECT_STREQ('VW/9@401ff', wordText(words[511]!));
		EXPECT_EQ(0, faults);
	}
	// in the middle, and a part only: the order is that of the mapping
	EXPECT_STREQ('VW/9@40007 VW/9@40008', w.call(7, 2).text);
	// the next pmd has nothing
	EXPECT_STREQ('VW/9@401ff -', w.call(511, 2).text);
});

TEST_F(huge, 'huge_page_without_write_is_enough_for_reading', ({ w }, { profile }) => {
	w.set(w.pmd(), hugePage(0x40000n, PAGE_READONLY));
	EXPECT_STREQ('V/9@40003', w.call(3, 1, READ).text);
	// a write request is a fault from the start of the walked part on
	if (isNew(profile)) {
		const { ret, last, end, required } = w.walkPmd(3, 5, WRITE);
		EXPECT_EQ(-EAGAIN, ret);
		EXPECT_EQ(at(3), last);
		EXPECT_EQ(at(8), end);
		EXPECT_EQ(3, required);
	}
	w.set(w.pmd(), 0n);
	EXPECT_EQ(0, userMprotect(w.task, at(0), BigInt(HUGE) * PAGE, PROT_READ));
	w.set(w.pmd(), hugePage(0x40000n, PAGE_READONLY));
	const { ret, faults } = w.call(3, 5, WRITE);
	EXPECT_EQ(-EPERM, ret);
	EXPECT_EQ(0, faults);
});

TEST_F(huge, 'protnone_huge_page_has_pfns_and_neither_valid_nor_order', ({ w }, { profile }) => {
	w.set(w.pmd(), (hugePage(0x40000n) & ~_PAGE_PRESENT) | _PAGE_PROTNONE);
	EXPECT_STREQ('@40003 @40004', w.call(3, 2).text);
	if (!isNew(profile)) return;
	const { ret, required } = w.walkPmd(3, 2, READ);
	EXPECT_EQ(-EAGAIN, ret);
	EXPECT_EQ(1, required);
});

TEST_F(huge, 'devmap_pmd_is_a_huge_page_in_v6_12', ({ w }, { profile }) => {
	w.set(w.pmd(), hugePage(0x40000n) | _PAGE_DEVMAP);
	const { ret, text } = w.walkPmd(2, 2);
	EXPECT_EQ(0, ret);
	// no such bit in v7.3: the entry is no table either
	EXPECT_STREQ(isNew(profile) ? 'E*2' : 'VW/9@40002 VW/9@40003', text);
});

TEST_F(huge, 'bad_pmd_is_an_error_word_or_EFAULT', ({ w }) => {
	w.set(w.pmd(), (0x40n << 12n) | _PAGE_PRESENT);
	EXPECT_STREQ('E*3', w.call(5, 3).text);
	EXPECT_EQ(-EFAULT, w.call(5, 3, READ).ret);
	// one page that asks is enough
	const words = BigUint64Array.of(0n, HMM_PFN_REQ_FAULT, 0n);
	EXPECT_EQ(-EFAULT, w.call(5, 3, { words, pfn_flags_mask: HMM_PFN_REQ_FAULT }).ret);
});

TEST_F(huge, 'empty_pmd_is_a_hole_of_its_part_of_the_range', ({ w }) => {
	ASSERT_EQ(null, userWrite64(w.task, at(600), 1n));
	EXPECT_STREQ('-*4', w.call(508, 4).text);
	// all of the hole is faulted with the union of what its pages want
	const words = new BigUint64Array(8);
	words[2] = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE;
	const mask = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE;
	const { ret, flags, faults } = w.call(508, 8, { words, pfn_flags_mask: mask });
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('VW*4 -*4', flags);
	EXPECT_EQ(4, faults);
});

TEST_F(huge, 'pmd_migration_is_0_or_waited_for', ({ w }) => {
	const p = w.run(() => alloc_page(GFP_HIGHUSER_MOVABLE));
	ASSERT_NE(null, p);
	const f = page_folio(p);
	w.run(() => folio_lock(f));
	const pmd = w.pmd();
	w.set(pmd, softleaf_to_pmd(make_writable_migration_entry(page_to_pfn(p))));
	EXPECT_STREQ('-*4', w.call(2, 4).text);
	spawn('migrator', function* () {
		pmd.value = hugePage(0x40000n);
		yield* folio_unlock(f);
	});
	const { ret, text, faults } = w.call(2, 2, READ);
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('VW/9@40002 VW/9@40003', text);
	EXPECT_EQ(0, faults);
	w.run(() => put_page(p));
});

TEST_F(huge, 'other_absent_pmd_is_an_error_word_or_EFAULT', ({ w }) => {
	w.set(w.pmd(), softleaf_to_pmd(make_hwpoison_entry(0x123n)));
	EXPECT_STREQ('E*3', w.call(5, 3).text);
	const { ret, faults } = w.call(5, 3, READ);
	EXPECT_EQ(-EFAULT, ret);
	EXPECT_EQ(0, faults);
});

/** GPU-like memory in a whole pmd. */
function privatePmd(w: HmmWorld, dev: TestDevice, writable: boolean): void {
	const make = writable
		? make_writable_device_private_entry
		: make_readable_device_private_entry;
	w.set(w.pmd(), softleaf_to_pmd(make(dev.base)));
}

TEST_F(huge, 'own_private_pmd_is_returned_whatever_is_asked', ({ w, dev }, { profile }) => {
	privatePmd(w, dev, true);
	const { ret, words } = w.call(0, HUGE, { dev_private_owner: dev });
	EXPECT_EQ(0, ret);
	if (!isNew(profile)) {
		// v6.12 does not know such entries
		EXPECT_STREQ('E', wordText(words[0]!));
		EXPECT_EQ(-EFAULT, w.call(0, 4, { ...READ, dev_private_owner: dev }).ret);
		return;
	}
	EXPECT_STREQ('VW/9@100000', wordText(words[0]!));
	EXPECT_STREQ('VW/9@1001ff', wordText(words[511]!));
	w.pmd().value = 0n;
	privatePmd(w, dev, false);
	const readOnly = w.call(0, 2, { ...WRITE, dev_private_owner: dev });
	EXPECT_EQ(0, readOnly.ret);
	EXPECT_STREQ('V/9@100000 V/9@100001', readOnly.text);
	EXPECT_EQ(0, readOnly.faults);
});

TEST_F(huge, 'own_private_pmd_is_counted_from_its_first_page', ({ w, dev }, { profile }) => {
	privatePmd(w, dev, true);
	if (!isNew(profile)) SKIP('v6.12 has no private entries at PMD level');
	// a bug of 7.3.4 (S17): page 5 of the entry should be 100005
	EXPECT_STREQ('VW/9@100000 VW/9@100001', w.call(5, 2, { dev_private_owner: dev }).text);
});

TEST('own_private_pmd_is_counted_from_the_start_of_the_range_with_fix_s17', () => {
	const w = new HmmWorld('v7.3', { features: { fix_s17: true } });
	const dev = new TestDevice();
	run(dev.probe());
	w.map(0, 2 * HUGE);
	privatePmd(w, dev, true);
	EXPECT_STREQ('VW/9@100005 VW/9@100006', w.call(5, 2, { dev_private_owner: dev }).text);
	EXPECT_STREQ('VW/9@100000', w.call(0, 1, { dev_private_owner: dev }).text);
	w.close();
	run(dev.remove());
});

TEST_F(huge, 'foreign_private_pmd_is_an_error_word_or_faulted', ({ w, dev }, { profile }) => {
	privatePmd(w, dev, true);
	EXPECT_STREQ('E*2', w.call(5, 2).text);
	EXPECT_STREQ('E*2', w.call(5, 2, { dev_private_owner: w }).text);
	const { ret, last, end, required } = w.walkPmd(5, 2, WRITE);
	EXPECT_EQ(isNew(profile) ? -EAGAIN : -EFAULT, ret);
	if (!isNew(profile)) return;
	EXPECT_EQ(at(5), last);
	EXPECT_EQ(at(7), end);
	EXPECT_EQ(3, required);
});

TEST_F(huge, 'pud_leaf_gives_ascending_pfns_and_order_18', ({ w }, { profile }) => {
	// a leaf that is no device's is not expected in v6.12: only devmap ones were looked at
	const bit = isNew(profile) ? 0n : _PAGE_DEVMAP;
	w.set(w.pud(), hugePage(0x4_0000n) | bit);
	for (const request of [{}, READ, WRITE]) {
		const { ret, text } = w.call(0x3, 2, request);
		EXPECT_EQ(0, ret);
		EXPECT_STREQ('VW/18@40003 VW/18@40004', text);
	}
	const { ret, text } = w.call(1022, 2);
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('VW/18@403fe VW/18@403ff', text);
	w.set(w.pud(), 0n);
});

TEST_F(huge, 'pud_leaf_without_write_is_faulted_for_writing', ({ w }, { profile }) => {
	const bit = isNew(profile) ? 0n : _PAGE_DEVMAP;
	const pud = w.pud();
	// the handler of v6.12 is not to come across the leaf: EPERM comes before it
	w.vma().vm_flags &= ~VM_WRITE;
	w.set(pud, hugePage(0x4_0000n, PAGE_READONLY) | bit);
	const { ret, words, state } = callback(w, pud, 3, 2, WRITE, hmm_vma_walk_pud);
	EXPECT_EQ(isNew(profile) ? -EAGAIN : -EPERM, ret);
	EXPECT_EQ(0n, words[0]!);
	if (isNew(profile)) EXPECT_EQ(at(5), state.end);
	EXPECT_EQ(-EPERM, w.call(3, 2, WRITE).ret);
	EXPECT_STREQ('V/18@40003', w.call(3, 1, READ).text);
	w.vma().vm_flags |= VM_WRITE;
});

TEST_F(
	huge,
	'pud_leaf_that_is_not_devmap_is_left_to_the_levels_below_in_v6_12',
	({ w }, { profile }) => {
		const pud = w.pud();
		w.set(pud, hugePage(0x4_0000n));
		const { ret, walk, words } = callback(w, pud, 0, 1, {}, hmm_vma_walk_pud);
		EXPECT_EQ(0, ret);
		EXPECT_EQ(isNew(profile) ? ACTION_CONTINUE : ACTION_SUBTREE, walk.action);
		EXPECT_STREQ(isNew(profile) ? 'VW/18@40000' : '-', wordText(words[0]!));
	},
);

TEST_F(huge, 'pud_table_is_left_to_the_levels_below', ({ w }) => {
	const { ret, walk } = callback(w, w.pud(), 0, 1, READ, hmm_vma_walk_pud);
	EXPECT_EQ(0, ret);
	EXPECT_EQ(ACTION_SUBTREE, walk.action);
});

TEST_F(huge, 'huge_pud_found_not_present_is_a_hole', ({ w }, { profile }) => {
	// PSE without PRESENT: locked as huge, and nothing is there
	const pud = w.pud();
	w.set(pud, (0x4_0000n << 12n) | _PAGE_PSE);
	const { ret, words, walk } = callback(w, pud, 0, 2, {}, hmm_vma_walk_pud);
	EXPECT_EQ(0, ret);
	EXPECT_EQ(ACTION_CONTINUE, walk.action);
	EXPECT_EQ(0n, words[0]!);
	w.vma().vm_flags &= ~VM_WRITE;
	const faulted = callback(w, pud, 0, 2, WRITE, hmm_vma_walk_pud);
	EXPECT_EQ(isNew(profile) ? -EAGAIN : -EPERM, faulted.ret);
	w.vma().vm_flags |= VM_WRITE;
});

TEST_F(huge, 'pud_that_is_split_before_its_lock_is_taken_is_left_alone', ({ w }) => {
	const mm = w.task.mm!;
	const pud = w.pud();
	const table = pud.value;
	const leaf = hugePage(0x4_0000n) | _PAGE_DEVMAP;
	w.set(pud, leaf & ~_PAGE_DEVMAP);
	const range = new hmm_range({ start: at(0), end: at(1), hmm_pfns: new BigUint64Array(1) });
	const walk = new mm_walk({ mm, vma: w.vma(), private: new hmm_vma_walk(range, null) });
	let ret = 1;
	spawn('splitter', function* () {
		const ptl = yield* pud_lock(mm, pud);
		pud.value = table;
		yield* spin_unlock(ptl);
	});
	const walker = spawn('walker', function* () {
		ret = yield* hmm_vma_walk_pud(pud, range.start, range.end, walk);
	});
	// the walker has seen the leaf and is about to take the lock
	stepThread(walker);
	runThreads();
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0n, range.hmm_pfns[0]!);
	EXPECT_EQ(ACTION_SUBTREE, walk.action);
});

const hugetlb: typeof hmm_vma_walk_pmd = (entry, start, end, walk) =>
	hmm_vma_walk_hugetlb_entry(entry, PMD_MASK, start, end, walk);

TEST_F(huge, 'hugetlb_page_gives_pfns_order_and_rights', ({ w }) => {
	const vma = w.vma();
	w.set(w.pmd(), hugePage(0x40000n));
	vma.vm_flags |= VM_HUGETLB;
	EXPECT_STREQ('VW/9@40004 VW/9@40005', w.call(4, 2, WRITE).text);
	vma.vm_flags &= ~VM_HUGETLB;
});

TEST_F(huge, 'empty_hugetlb_entry_has_the_order_alone', ({ w }) => {
	const vma = w.vma();
	w.pmd();
	vma.vm_flags |= VM_HUGETLB;
	EXPECT_STREQ('/9@4 /9@5', w.call(4, 2).text);
	vma.vm_flags &= ~VM_HUGETLB;
});

TEST_F(huge, 'hugetlb_without_table_is_a_hole', ({ w }) => {
	const vma = w.vma();
	vma.vm_flags |= VM_HUGETLB;
	EXPECT_STREQ('-*2', w.call(4, 2).text);
	vma.vm_flags &= ~VM_HUGETLB;
});

TEST_F(huge, 'hugetlb_looks_at_the_request_of_the_first_page_only', ({ w }, { profile }) => {
	const pmd = w.pmd();
	w.set(pmd, hugePage(0x40000n, PAGE_READONLY));
	w.vma().vm_flags &= ~VM_WRITE;
	const ask = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE;
	const second = callback(w, pmd, 4, 2, { words: [0n, ask], mask: ask }, hugetlb);
	EXPECT_EQ(0, second.ret);
	EXPECT_STREQ('V/9@40005', wordText(second.words[1]!));
	const first = callback(w, pmd, 4, 2, { words: [ask, 0n], mask: ask }, hugetlb);
	EXPECT_EQ(isNew(profile) ? -EAGAIN : -EPERM, first.ret);
	EXPECT_EQ(ask, first.words[0]!);
	w.vma().vm_flags |= VM_WRITE;
});

/** Steps a thread up to its n-th look at the pmd. */
function toLook(walker: task_struct, pmd: TableEntry, n: number): void {
	let looks = 0;
	for (let step = 0; step < 200; step++) {
		const { point } = walker;
		if (point?.access === 'pte-read' && point.object === pmd.table && ++looks === n)
			return;
		stepThread(walker);
	}
	throw new Error(`the walker looked ${looks} times`);
}

/** The call of a thread during which `change` happens before its n-th look at the pmd. */
function changedAtLook(w: HmmWorld, n: number, change: (pmd: TableEntry) => void): Answer {
	const pmd = w.pmd();
	let answer = null as Answer | null;
	const walker = spawn(
		'walker',
		function* () {
			answer = yield* w.callSim(0, 2);
		},
		{ mm: w.task.mm },
	);
	toLook(walker, pmd, n);
	change(pmd);
	runThreads();
	return answer!;
}

TEST_F(huge, 'huge_page_split_between_two_looks_is_walked_as_a_table', ({ w }) => {
	ASSERT_EQ(null, userWrite64(w.task, at(1), 1n));
	const pmd = w.pmd();
	const table = pmd.value;
	w.set(pmd, hugePage(0x40000n));
	const { ret, flags } = changedAtLook(w, 2, () => {
		pmd.value = table;
	});
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('- VW', flags);
});

TEST_F(huge, 'page_table_that_vanishes_makes_the_pmd_be_looked_at_again', ({ w }) => {
	ASSERT_EQ(null, userWrite64(w.task, at(1), 1n));
	const pmd = w.pmd();
	EXPECT_EQ(_PAGE_TABLE, pmd.value & 0xfffn);
	const { ret, text } = changedAtLook(w, 2, () => {
		w.set(pmd, 0n);
	});
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('-*2', text);
	w.pmd().value = 0n;
});

TEST_F(huge, 'pmd_that_never_stays_the_same_is_given_up', ({ w }) => {
	expectReport(/changed 1000 times under the walk/);
	let turn = 0;
	const real = w.pmd();
	class Flicker extends TableEntry {
		override get value(): bigint {
			return turn++ % 2 === 0 ? hugePage(0x40000n) : (0x50n << 12n) | _PAGE_TABLE;
		}
	}
	const flicker = new Flicker(real.table, real.pfn, real.index);
	const { ret } = callback(w, flicker, 0, 1, {}, hmm_vma_walk_pmd);
	EXPECT_EQ(-EBUSY, ret);
});

TEST_F(huge, 'absent_pmd_takes_no_reference', ({ w, dev }) => {
	// called alone, as the walk does for what is neither present, empty nor migrating
	const word = softleaf_to_pmd(make_writable_device_private_entry(dev.base));
	const handle: typeof hmm_vma_walk_pmd = (_entry, start, end, walk) =>
		hmm_vma_handle_absent_pmd(walk, start, end, word);
	const { ret, words } = callback(w, w.pmd(), 0, 1, {}, handle);
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('E', wordText(words[0]!));
	EXPECT_EQ(0, pfn_to_page(dev.base)._refcount);
});
