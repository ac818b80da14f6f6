// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the rules of hmm_range_fault() that go beyond one entry: what is requested, which bits a
 * word keeps, how far a fault reaches, what an error leaves behind, when -EBUSY comes. Method: pages
 * of one process; what the process has done before is all the setup there is. Kinds of entries are
 * in hmm_entries and hmm_huge_entries, the call that takes the lock itself in hmm_unlocked.
 */
import { EAGAIN, EBUSY, EFAULT, EINVAL, ENOMEM, EPERM } from '../../include/linux/errno.ts';
import {
	HMM_PFN_ERROR,
	HMM_PFN_FLAGS,
	HMM_PFN_ORDER_SHIFT,
	HMM_PFN_P2PDMA_BUS,
	HMM_PFN_REQ_FAULT,
	HMM_PFN_REQ_WRITE,
	hmm_pfn_to_map_order,
	hmm_pfn_to_page,
	hmm_pfn_to_phys,
	hmm_range,
} from '../../include/linux/hmm.ts';
import { MADV_DONTNEED, PROT_READ } from '../../include/linux/mm.ts';
import {
	FAULT_FLAG_ALLOW_RETRY,
	FAULT_FLAG_KILLABLE,
	FAULT_FLAG_REMOTE,
	FAULT_FLAG_WRITE,
	VM_FAULT_FALLBACK,
	VM_FAULT_HWPOISON,
	VM_FAULT_HWPOISON_LARGE,
	VM_FAULT_OOM,
	VM_FAULT_RETRY,
	VM_FAULT_SIGBUS,
	VM_FAULT_SIGSEGV,
} from '../../include/linux/mm_types.ts';
import { mmu_interval_notifier } from '../../include/linux/mmu_notifier.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import { mm_walk } from '../../include/linux/pagewalk.ts';
import {
	make_pte_marker_entry,
	PTE_MARKER_GUARD,
	swp_entry_to_pte,
} from '../../include/linux/swapops.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import { run } from '../../kernel/sched/core.ts';
import {
	HMM_PFN_INOUT_FLAGS,
	hmm_do_fault,
	hmm_range_fault,
	hmm_record_fault,
	hmm_vma_walk,
} from '../../mm/hmm.ts';
import { handle_mm_fault, zero_pfn } from '../../mm/memory.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import {
	mmu_interval_notifier_insert,
	mmu_interval_notifier_remove,
	mmu_interval_read_begin,
	mmu_interval_set_seq,
} from '../../mm/mmu_notifier.ts';
import { userMadvise, userMprotect, userRead64, userWrite64 } from '../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	EXPECT_EQ,
	EXPECT_STREQ,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	SKIP,
	TEST_F,
} from '../kselftest_harness.ts';
import { at, flagsText, HandledMapping, HmmWorld, PAGE, STICKY, wordsText } from './hmm_world.ts';
import { TestDevice, toDevice } from './mm_world.ts';

const F = HMM_PFN_REQ_FAULT;
const W = HMM_PFN_REQ_WRITE;
const READ = { default_flags: F };
const WRITE = { default_flags: F | W };
const ALL = (1n << 64n) - 1n;

interface Self {
	w: HmmWorld;
	dev: TestDevice;
}

const hmm = FIXTURE<Self, { profile: ProfileName }>(
	'hmm_range_fault',
	() => ({ w: null as unknown as HmmWorld, dev: null as unknown as TestDevice }),
	FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName }),
);
FIXTURE_VARIANT_ADD(hmm, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(hmm, 'v7_3', { profile: 'v7.3' });

FIXTURE_SETUP(hmm, (self, { profile }) => {
	self.w = new HmmWorld(profile);
	self.dev = new TestDevice();
	run(self.dev.probe());
});

FIXTURE_TEARDOWN(hmm, ({ w, dev }) => {
	w.close();
	run(dev.remove());
});

const isNew = (profile: ProfileName): boolean => profile === 'v7.3';

/** Words going in, the rest 0. */
function input(pages: number, words: Record<number, bigint>): BigUint64Array {
	const array = new BigUint64Array(pages);
	for (const [index, word] of Object.entries(words)) array[Number(index)] = word;
	return array;
}

function write(w: HmmWorld, ...pages: number[]): void {
	for (const page of pages)
		ASSERT_EQ(null, userWrite64(w.task, at(page), BigInt(100 + page)));
}

function read(w: HmmWorld, ...pages: number[]): void {
	for (const page of pages) ASSERT_EQ('bigint', typeof userRead64(w.task, at(page)));
}

TEST_F(hmm, 'layout_of_the_word', (_self, { profile }) => {
	EXPECT_EQ(isNew(profile) ? 53n : 56n, HMM_PFN_ORDER_SHIFT());
	EXPECT_EQ(
		isNew(profile) ? 0xffe0_0000_0000_0000n : 0xff00_0000_0000_0000n,
		HMM_PFN_FLAGS(),
	);
	const word = F | W | (9n << HMM_PFN_ORDER_SHIFT()) | 0x123n;
	EXPECT_EQ(9, hmm_pfn_to_map_order(word));
	EXPECT_EQ(0x12_3000n, hmm_pfn_to_phys(word));
	EXPECT_EQ(0x123n, page_to_pfn(hmm_pfn_to_page(word)));
	// the order of a PUD leaf takes the bit below the sticky ones
	const pud = 18n << HMM_PFN_ORDER_SHIFT();
	EXPECT_EQ(0n, pud & (isNew(profile) ? STICKY : 0n));
	EXPECT_EQ(18, hmm_pfn_to_map_order(pud));
	EXPECT_EQ(isNew(profile) ? STICKY : 0n, HMM_PFN_INOUT_FLAGS());
	if (isNew(profile)) EXPECT_EQ(HMM_PFN_P2PDMA_BUS >> 1n, pud & (HMM_PFN_P2PDMA_BUS >> 1n));
});

TEST_F(hmm, 'write_alone_requests_nothing', ({ w }) => {
	w.map(0, 4);
	const words = input(4, { 0: W, 1: W, 2: W, 3: W });
	const { ret, text, faults } = w.call(0, 4, { words, default_flags: W, pfn_flags_mask: W });
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, faults);
	EXPECT_STREQ('-*4', text);
});

TEST_F(hmm, 'mask_of_0_lets_no_request_through', ({ w }) => {
	w.map(0, 4);
	const { ret, text, faults } = w.call(0, 4, { words: input(4, { 1: F | W, 2: F }) });
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, faults);
	EXPECT_STREQ('-*4', text);
});

TEST_F(hmm, 'mask_lets_single_bits_of_single_pages_through', ({ w }) => {
	w.map(0, 4);
	write(w, 3);
	const words = input(4, { 2: F | W });
	const { ret, flags } = w.call(0, 4, { words, pfn_flags_mask: F });
	EXPECT_EQ(0, ret);
	// WRITE was asked for and masked out
	EXPECT_STREQ('-*2 V VW', flags);
});

TEST_F(hmm, 'default_and_masked_request_add_up', ({ w }) => {
	w.map(0, 4);
	write(w, 3);
	const { ret, flags } = w.call(0, 3, {
		words: input(3, { 1: W }),
		default_flags: F,
		pfn_flags_mask: W,
		tries: 10,
	});
	EXPECT_EQ(0, ret);
	// page 1 stops the walk again, and takes page 2 along
	EXPECT_STREQ('V VW*2', flags);
});

TEST_F(hmm, 'outputs_of_a_failed_call_are_requests_of_the_next', ({ w }) => {
	w.map(0, 4);
	read(w, 0, 1, 2, 3);
	const words = input(4, { 2: F | W });
	const once = w.call(0, 4, { words, pfn_flags_mask: F | W });
	EXPECT_EQ(-EBUSY, once.ret);
	// 0 and 1 were written, 2 and 3 are inputs
	EXPECT_STREQ('V*2 VW -', once.flags);
	EXPECT_STREQ(`V@${zero_pfn.toString(16)}*2 VW -`, once.text);
	const { ret, flags } = w.call(0, 4, { words, pfn_flags_mask: F | W, tries: 10 });
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('V*2 VW*2', flags);
});

TEST_F(hmm, 'sticky_bits_of_each_word_are_kept_by_every_store', ({ w, dev }, { profile }) => {
	w.map(0, 8);
	w.map(9, 1);
	write(w, 1, 2, 3);
	read(w, 4);
	ASSERT_EQ(
		1,
		w.run(() => toDevice(dev, w.task.mm!, at(5), 1)),
	);
	const words = new BigUint64Array(10).fill(STICKY);
	const { ret, flags } = w.call(0, 10, { words, dev_private_owner: dev });
	EXPECT_EQ(0, ret);
	EXPECT_STREQ(
		isNew(profile) ? 'MPB VWMPB*3 VMPB VWMPB MPB*2 EMPB MPB' : '- VW*3 V VW -*2 E -',
		flags,
	);
});

TEST_F(hmm, 'sticky_bits_stay_through_faults_and_errors', ({ w }, { profile }) => {
	if (!isNew(profile)) SKIP('v6.12 has no sticky bits');
	w.map(0, 2);
	w.map(2, 2, PROT_READ);
	const words = new BigUint64Array(4).fill(STICKY | F | W);
	const { ret, flags } = w.call(0, 4, { words, pfn_flags_mask: F | W });
	EXPECT_EQ(-EPERM, ret);
	EXPECT_STREQ('VWMPB*4', flags);
});

TEST_F(hmm, 'sticky_bits_never_come_from_default_flags', ({ w }) => {
	w.map(0, 2);
	write(w, 0);
	const { ret, flags } = w.call(0, 3, { default_flags: STICKY });
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('VW - E', flags);
});

TEST_F(hmm, 'other_bits_of_an_input_do_not_survive', ({ w }) => {
	w.map(0, 3);
	write(w, 0);
	const garbage = HMM_PFN_ERROR | (9n << HMM_PFN_ORDER_SHIFT()) | 0xfee00n;
	const words = new BigUint64Array(4).fill(garbage);
	const { ret, text } = w.call(0, 4, { words });
	EXPECT_EQ(0, ret);
	EXPECT_STREQ(`VW@${w.pfn(0).toString(16)} -*2 E`, text);
});

TEST_F(hmm, 'words_that_are_not_reached_keep_all_of_their_input', ({ w }) => {
	w.map(0, 2);
	write(w, 0, 1);
	// page 2 is in a gap
	const words = input(4, { 0: 0n, 1: 0n, 2: F | 0xabcn, 3: F | W | 0xdefn });
	const { ret, text } = w.call(0, 4, { words, pfn_flags_mask: F });
	EXPECT_EQ(-EFAULT, ret);
	const [a, b] = [w.pfn(0), w.pfn(1)].map((pfn) => pfn.toString(16));
	EXPECT_STREQ(`VW@${a} VW@${b} V@abc VW@def`, text);
});

TEST_F(hmm, 'empty_range_is_EINVAL', ({ w }) => {
	w.map(0, 1);
	EXPECT_EQ(-EINVAL, w.call(0, 0).ret);
});

TEST_F(hmm, 'fault_at_pte_level_takes_all_behind_it_and_nothing_before', ({ w }) => {
	w.map(0, 12);
	write(w, 11);
	const { ret, flags, faults } = w.call(0, 8, {
		words: input(8, { 2: F }),
		pfn_flags_mask: F,
	});
	EXPECT_EQ(0, ret);
	EXPECT_EQ(6, faults);
	EXPECT_STREQ('-*2 V*6', flags);
	EXPECT_STREQ('..rrrrrr...w', w.ptes(0, 12));
});

TEST_F(hmm, 'fault_in_a_hole_takes_the_hole_before_it_too', ({ w }) => {
	w.map(0, 8);
	const { ret, flags, faults } = w.call(0, 8, {
		words: input(8, { 5: F }),
		pfn_flags_mask: F,
	});
	EXPECT_EQ(0, ret);
	EXPECT_EQ(8, faults);
	EXPECT_STREQ('V*8', flags);
});

TEST_F(hmm, 'hole_is_faulted_with_the_union_of_its_requests', ({ w }) => {
	w.map(0, 8);
	const words = input(8, { 5: F, 7: F | W });
	const { ret, flags, faults } = w.call(0, 8, { words, pfn_flags_mask: F | W });
	EXPECT_EQ(0, ret);
	EXPECT_EQ(8, faults);
	EXPECT_STREQ('VW*8', flags);
});

TEST_F(hmm, 'pte_that_stops_the_walk_decides_alone', ({ w }) => {
	w.map(0, 9);
	write(w, 8);
	// page 2 is faulted for reading, and page 5 stops the walk a second time for writing
	const words = input(8, { 2: F, 5: F | W });
	const { ret, flags, faults } = w.call(0, 8, { words, pfn_flags_mask: F | W, tries: 1 });
	// the zero pages of 5 to 7 are copied: the range was invalidated
	EXPECT_EQ(-EBUSY, ret);
	EXPECT_EQ(6 + 3, faults);
	EXPECT_STREQ('-*2 V*3 VW -*2', flags);
	EXPECT_STREQ('..rrrwww', w.ptes(0, 8));
});

TEST_F(hmm, 'present_pages_behind_a_write_fault_are_faulted_again', ({ w }) => {
	w.map(0, 8);
	read(w, 4, 5);
	const words = input(8, { 2: F | W });
	const { ret, events, faults } = w.call(0, 8, { words, pfn_flags_mask: F | W });
	EXPECT_EQ(-EBUSY, ret);
	EXPECT_EQ(6, faults);
	EXPECT_STREQ('1 4-5, 1 5-6', events);
	EXPECT_STREQ('..wwwwww', w.ptes(0, 8));
});

TEST_F(hmm, 'hole_reaches_across_pmds_when_the_top_level_is_empty', ({ w }) => {
	w.map(508, 8);
	const { ret, faults } = w.call(508, 8, { words: input(8, { 6: F }), pfn_flags_mask: F });
	EXPECT_EQ(0, ret);
	EXPECT_EQ(8, faults);
});

TEST_F(hmm, 'hole_ends_with_its_pmd_when_upper_levels_exist', ({ w }) => {
	w.map(508, 12);
	w.map(2000, 1);
	write(w, 2000);
	const { ret, flags, faults } = w.call(508, 8, {
		words: input(8, { 6: F }),
		pfn_flags_mask: F,
	});
	EXPECT_EQ(0, ret);
	EXPECT_EQ(4, faults);
	EXPECT_STREQ('-*4 V*4', flags);
});

TEST_F(hmm, 'fault_ends_with_its_vma', ({ w }) => {
	w.map(0, 4);
	w.map(4, 4, PROT_READ);
	write(w, 0);
	const words = input(8, { 1: F | W });
	const { ret, flags, faults } = w.call(0, 8, { words, pfn_flags_mask: F | W });
	EXPECT_EQ(0, ret);
	EXPECT_EQ(3, faults);
	EXPECT_STREQ('VW*4 -*4', flags);
});

TEST_F(hmm, 'hole_drags_the_callers_own_private_pages_back', ({ w, dev }) => {
	w.map(0, 8);
	write(w, 1, 2, 3, 4, 5, 6, 7);
	ASSERT_EQ(
		7,
		w.run(() => toDevice(dev, w.task.mm!, at(1), 7)),
	);
	// page 0 is empty in 7.3.4 and in 6.12 alike: the span is faulted whatever lies in it (S11)
	const { ret, flags } = w.call(0, 8, { ...READ, dev_private_owner: dev, tries: 10 });
	EXPECT_EQ(0, ret);
	EXPECT_EQ(7, dev.faults);
	EXPECT_STREQ('V VW*7', flags);
});

TEST_F(hmm, 'own_private_pages_before_the_hole_stay', ({ w, dev }) => {
	w.map(0, 8);
	write(w, 0, 1, 2);
	ASSERT_EQ(
		3,
		w.run(() => toDevice(dev, w.task.mm!, at(0), 3)),
	);
	const { ret, faults } = w.call(0, 8, { ...READ, dev_private_owner: dev });
	EXPECT_EQ(0, ret);
	EXPECT_EQ(5, faults);
	EXPECT_EQ(0, dev.faults);
});

TEST_F(hmm, 'page_that_nobody_asked_for_fails_the_call', ({ w }) => {
	w.map(0, 8);
	w.setPte(5, swp_entry_to_pte(make_pte_marker_entry(PTE_MARKER_GUARD)));
	const words = input(8, { 2: F });
	const { ret, faults, flags } = w.call(0, 8, { words, pfn_flags_mask: F });
	EXPECT_EQ(-EFAULT, ret);
	EXPECT_EQ(3, faults);
	// what was faulted stays, the words from the stop on are inputs
	EXPECT_STREQ('..rrr?..', w.ptes(0, 8));
	EXPECT_STREQ('-*2 V -*5', flags);
});

TEST_F(hmm, 'EPERM_comes_before_any_fault_of_its_span', ({ w }) => {
	w.map(0, 4, PROT_READ);
	const { ret, faults, flags } = w.call(0, 4, {
		words: input(4, { 3: F | W }),
		pfn_flags_mask: F | W,
	});
	EXPECT_EQ(-EPERM, ret);
	EXPECT_EQ(0, faults);
	EXPECT_STREQ('-*3 VW', flags);
});

TEST_F(hmm, 'faults_done_before_an_error_stay', ({ w }) => {
	w.map(0, 4);
	w.map(4, 4, PROT_READ);
	const { ret, faults, flags } = w.call(0, 8, WRITE);
	EXPECT_EQ(-EPERM, ret);
	EXPECT_EQ(4, faults);
	EXPECT_STREQ('VW*4 -*4', flags);
	EXPECT_STREQ('wwww....', w.ptes(0, 8));
});

TEST_F(hmm, 'allocation_failure_in_a_fault', ({ w }, { profile }) => {
	w.map(0, 4);
	injectFaults().fail('folio_prealloc', 2);
	const { ret, faults } = w.call(0, 4, WRITE);
	EXPECT_EQ(isNew(profile) ? -ENOMEM : -EFAULT, ret);
	EXPECT_EQ(1, faults);
});

for (const [name, answer, errno] of [
	['oom', VM_FAULT_OOM, -ENOMEM],
	['sigbus', VM_FAULT_SIGBUS, -EFAULT],
	['sigsegv', VM_FAULT_SIGSEGV, -EFAULT],
	['hwpoison', VM_FAULT_HWPOISON, -EFAULT],
	['hwpoison_large', VM_FAULT_HWPOISON_LARGE, -EFAULT],
] as const)
	TEST_F(hmm, `handler_that_says_${name}`, ({ w }, { profile }) => {
		const mapping = new HandledMapping(w, 0, 4);
		mapping.answers = [0, answer];
		const { ret, flags } = w.call(0, 4, READ);
		EXPECT_EQ(isNew(profile) ? errno : -EFAULT, ret);
		EXPECT_STREQ('-*4', flags);
		EXPECT_EQ(2, mapping.calls);
		mapping.close();
	});

TEST_F(hmm, 'handler_that_says_fallback_alone', ({ w }, { profile }) => {
	if (isNew(profile)) expectReport(/fault 0x800 has no errno/);
	const mapping = new HandledMapping(w, 0, 1);
	mapping.answers = [VM_FAULT_FALLBACK];
	EXPECT_EQ(isNew(profile) ? -EINVAL : -EFAULT, w.call(0, 1, READ).ret);
});

TEST_F(hmm, 'handler_is_not_allowed_to_drop_the_lock', ({ w }) => {
	const mapping = new HandledMapping(w, 0, 2);
	EXPECT_EQ(0, w.call(0, 2, WRITE).ret);
	EXPECT_EQ(2, mapping.calls);
	for (const flags of mapping.flags) {
		EXPECT_EQ(FAULT_FLAG_REMOTE, flags & FAULT_FLAG_REMOTE);
		EXPECT_EQ(FAULT_FLAG_WRITE, flags & FAULT_FLAG_WRITE);
		EXPECT_EQ(0, flags & (FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE));
	}
	mapping.close();
});

TEST_F(hmm, 'handler_that_claims_to_have_dropped_the_lock_is_reported', ({ w }, { profile }) => {
	if (!isNew(profile)) SKIP('v6.12 does not look at VM_FAULT_RETRY');
	expectReport(/dropped the mmap lock unasked/);
	const mapping = new HandledMapping(w, 0, 2);
	mapping.answers = [VM_FAULT_RETRY];
	mapping.honest = false;
	EXPECT_EQ(-EBUSY, w.call(0, 2, READ).ret);
	EXPECT_EQ(1, mapping.calls);
});

TEST_F(hmm, 'pages_seen_before_a_fault_are_not_looked_at_again', ({ w }) => {
	w.map(0, 4);
	const mapping = new HandledMapping(w, 4, 2);
	write(w, 0);
	// the handler of page 4 populates page 1, whose word is written already
	mapping.hook = function* () {
		yield* handle_mm_fault(w.vma(1), at(1), FAULT_FLAG_REMOTE, null);
	};
	const words = input(6, { 4: F });
	const { ret, flags } = w.call(0, 5, { words: words.subarray(0, 5), pfn_flags_mask: F });
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('VW -*3 VW', flags);
	EXPECT_STREQ('wr..', w.ptes(0, 4));
	mapping.close();
});

TEST_F(hmm, 'snapshot_never_faults', ({ w }) => {
	w.map(0, 4);
	const { ret, faults, flags } = w.call(0, 6, {});
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, faults);
	EXPECT_STREQ('-*4 E*2', flags);
});

TEST_F(hmm, 'faults_that_break_sharing_make_the_first_call_EBUSY', ({ w }) => {
	w.map(0, 4);
	read(w, 0, 1, 2, 3);
	const first = w.call(0, 4, WRITE);
	EXPECT_EQ(-EBUSY, first.ret);
	EXPECT_EQ(4, first.faults);
	EXPECT_STREQ('1 0-1, 1 1-2, 1 2-3, 1 3-4', first.events);
	const second = w.call(0, 4, WRITE);
	EXPECT_EQ(0, second.ret);
	EXPECT_EQ(0, second.faults);
});

TEST_F(hmm, 'faults_on_empty_entries_invalidate_nothing', ({ w }) => {
	w.map(0, 4);
	const { ret, events } = w.call(0, 4, WRITE);
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('', events);
});

TEST_F(hmm, 'invalidation_before_the_call_is_EBUSY_without_a_walk', ({ w }) => {
	w.map(0, 4);
	write(w, 0, 1, 2, 3);
	const mm = w.task.mm!;
	const sub = new mmu_interval_notifier();
	const words = new BigUint64Array(4).fill(0x77n);
	const ret = w.run(function* () {
		yield* mmu_interval_notifier_insert(sub, mm, at(0), 4n * PAGE, {
			*invalidate(notifier, _range, seq) {
				mmu_interval_set_seq(notifier, seq);
				return true;
			},
		});
		const seq = yield* mmu_interval_read_begin(sub);
		const range = new hmm_range({
			notifier: sub,
			notifier_seq: seq - 2n,
			start: at(0),
			end: at(4),
			hmm_pfns: words,
		});
		yield* mmap_read_lock(mm);
		const answer = yield* hmm_range_fault(range);
		yield* mmap_read_unlock(mm);
		yield* mmu_interval_notifier_remove(sub);
		return answer;
	});
	EXPECT_EQ(-EBUSY, ret);
	EXPECT_STREQ('@77*4', wordsText(words));
});

TEST_F(hmm, 'caller_without_the_mmap_lock_is_reported', ({ w }) => {
	expectReport(/mmap_lock/);
	w.map(0, 1);
	const mm = w.task.mm!;
	const sub = new mmu_interval_notifier();
	w.run(function* () {
		yield* mmu_interval_notifier_insert(sub, mm, at(0), PAGE, {
			*invalidate() {
				return true;
			},
		});
		const range = new hmm_range({ notifier: sub, start: at(0), end: at(1) });
		range.hmm_pfns = new BigUint64Array(1);
		range.notifier_seq = yield* mmu_interval_read_begin(sub);
		yield* hmm_range_fault(range);
		yield* mmu_interval_notifier_remove(sub);
	});
});

TEST_F(hmm, 'words_follow_what_the_process_did_last', ({ w }) => {
	w.map(0, 4);
	write(w, 0, 1, 2, 3);
	EXPECT_STREQ('VW*4', w.call(0, 4).flags);
	EXPECT_EQ(0, userMprotect(w.task, at(1), PAGE, PROT_READ));
	EXPECT_EQ(0, userMadvise(w.task, at(2), PAGE, MADV_DONTNEED));
	EXPECT_STREQ('VW V - VW', w.call(0, 4).flags);
	EXPECT_EQ(-EPERM, w.call(0, 4, WRITE).ret);
	EXPECT_EQ(0, w.call(0, 4, READ).ret);
});

TEST_F(hmm, 'vma_that_is_gone_when_the_fault_is_handled', ({ w }, { profile }) => {
	if (!isNew(profile)) SKIP('v6.12 handles the fault inside the walk');
	w.map(0, 1);
	const mm = w.task.mm!;
	const range = new hmm_range({ start: at(5), end: at(6), hmm_pfns: new BigUint64Array(1) });
	const state = new hmm_vma_walk(range, null);
	state.end = at(6);
	state.required_fault = 1;
	const ret = w.run(function* () {
		yield* mmap_read_lock(mm);
		const answer = yield* hmm_do_fault(mm, state);
		yield* mmap_read_unlock(mm);
		return answer;
	});
	EXPECT_EQ(-EFAULT, ret);
});

TEST_F(hmm, 'fault_that_nobody_needs_is_reported', ({ w }, { profile }) => {
	expectReport(/WARNING/);
	w.map(0, 1);
	const mm = w.task.mm!;
	const range = new hmm_range({ start: at(0), end: at(1), hmm_pfns: new BigUint64Array(1) });
	const walk = new mm_walk({ mm, vma: w.vma(), private: new hmm_vma_walk(range, null) });
	const ret = w.run(function* () {
		yield* mmap_read_lock(mm);
		const answer = yield* hmm_record_fault(at(0), at(1), 0, walk);
		yield* mmap_read_unlock(mm);
		return answer;
	});
	EXPECT_EQ(isNew(profile) ? -EAGAIN : -EBUSY, ret);
});

TEST_F(hmm, 'range_of_many_tables', ({ w }) => {
	w.map(0, 3 * 512);
	for (let page = 0; page < 3 * 512; page += 100) write(w, page);
	const { ret, words } = w.call(0, 3 * 512, { pfn_flags_mask: ALL });
	EXPECT_EQ(0, ret);
	for (let page = 0; page < 3 * 512; page++) {
		const there = page % 100 === 0;
		if (flagsText([words[page]!]) !== (there ? 'VW' : '-')) EXPECT_EQ(page, -1);
	}
	EXPECT_TRUE(words.length === 3 * 512);
});
