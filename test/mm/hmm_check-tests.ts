// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the checks of mm/hmm_check.ts call a word wrong that is wrong, and no other; they tell S11 as
 * what it is, and are silent with fix_s11, which faults what was asked for and nothing else.
 * Method: words changed behind a good call; small ranges with a hole, private pages, a failing page.
 */
import {
	HMM_PFN_ERROR,
	HMM_PFN_ORDER_SHIFT,
	HMM_PFN_REQ_FAULT,
	HMM_PFN_REQ_WRITE,
	HMM_PFN_VALID,
	HMM_PFN_WRITE,
	hmm_range,
} from '../../include/linux/hmm.ts';
import { PROT_READ } from '../../include/linux/mm.ts';
import { VM_FAULT_SIGBUS } from '../../include/linux/mm_types.ts';
import { mmu_interval_notifier } from '../../include/linux/mmu_notifier.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import { world } from '../../include/sim/world.ts';
import { shutdown } from '../../init/main.ts';
import { run } from '../../kernel/sched/core.ts';
import { hmm_range_fault } from '../../mm/hmm.ts';
import { checkWords } from '../../mm/hmm_check.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import {
	mmu_interval_notifier_insert,
	mmu_interval_notifier_remove,
	mmu_interval_read_begin,
} from '../../mm/mmu_notifier.ts';
import { userMprotect, userWrite64 } from '../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	EXPECT_EQ,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../kselftest_harness.ts';
import { at, HandledMapping, HmmWorld, PAGE } from './hmm_world.ts';
import { TestDevice, toDevice } from './mm_world.ts';

const F = HMM_PFN_REQ_FAULT;
const W = HMM_PFN_REQ_WRITE;

const kernels = FIXTURE(
	'hmm_check',
	() => ({}),
	FIXTURE_VARIANT<{ profile: ProfileName }>({ profile: 'v7.3' }),
);
FIXTURE_VARIANT_ADD(kernels, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(kernels, 'v7_3', { profile: 'v7.3' });

/** Findings since the last call, `check (fix): text` each. */
function findings(): string[] {
	return world()
		.findings!.splice(0)
		.map(({ check, fix, text }) => `${check} (${fix}): ${text}`);
}

/** A world with checks, and a device; closed at the end. */
function inWorld(
	profile: ProfileName,
	fix: boolean,
	body: (w: HmmWorld, dev: TestDevice) => (() => void) | undefined,
): void {
	const w = new HmmWorld(profile, { checks: true, features: { fix_s11: fix } });
	const dev = new TestDevice();
	run(dev.probe());
	const after = body(w, dev);
	w.close();
	after?.();
	run(dev.remove());
	EXPECT_EQ(0, shutdown().length);
}

function write(w: HmmWorld, ...pages: number[]): void {
	for (const n of pages) userWrite64(w.task, at(n), 1n);
}

/** What the check says of four pages' words after each was changed. */
function changed(w: HmmWorld, change: (words: BigUint64Array) => void): string[] {
	const mm = w.task.mm!;
	const sub = new mmu_interval_notifier();
	const range = new hmm_range({
		notifier: sub,
		start: at(0),
		end: at(4),
		hmm_pfns: new BigUint64Array(4),
		default_flags: F,
	});
	w.run(function* () {
		const ops = {
			*invalidate() {
				return true;
			},
		};
		yield* mmu_interval_notifier_insert(sub, mm, at(0), 4n * PAGE, ops);
		range.notifier_seq = yield* mmu_interval_read_begin(sub);
		yield* mmap_read_lock(mm);
		ASSERT_EQ(0, yield* hmm_range_fault(range));
		change(range.hmm_pfns);
		checkWords(range);
		yield* mmap_read_unlock(mm);
		yield* mmu_interval_notifier_remove(sub);
	});
	return findings();
}

TEST_F(kernels, 'wrong_words_are_called_wrong', (_self, { profile }) => {
	inWorld(profile, false, (w): undefined => {
		w.map(0, 8);
		write(w, 0, 1, 2, 3);
		userMprotect(w.task, at(3), PAGE, PROT_READ);
		EXPECT_STREQ('', changed(w, () => {}).join());
		const word = (change: (words: BigUint64Array) => void, what: RegExp): void => {
			const found = changed(w, change);
			EXPECT_EQ(1, found.length);
			EXPECT_TRUE(found[0]!.startsWith('word against page table (null): 0x'));
			EXPECT_TRUE(what.test(found[0] ?? ''));
		};
		word((words) => (words[1] = words[1]! + 1n), /1000: pfn 0x\w+, 0x\w+ is mapped$/);
		word((words) => (words[3]! |= HMM_PFN_WRITE), /3000: writable word of a read-only/);
		word(
			(words) => (words[0]! |= 9n << HMM_PFN_ORDER_SHIFT()),
			/order 9, the entry has 0/,
		);
		word((words) => (words[0]! |= HMM_PFN_ERROR), /both VALID and ERROR/);
		// one finding for a run of pages
		word(
			(words) =>
				words.set(
					[words[2]!, words[1]!, words[0]!]
						.slice(0, 1)
						.concat(words[0]!),
				),
			/0000: pfn .* and 1 more behind it$/,
		);
		// less than what is mapped is never wrong
		EXPECT_STREQ('', changed(w, (words) => words.fill(0n)).join());
		const noWrite = (words: BigUint64Array): void => {
			words[0]! &= ~HMM_PFN_WRITE;
		};
		EXPECT_STREQ('', changed(w, noWrite).join());
	});
});

TEST_F(kernels, 'word_without_anything_mapped_is_called_wrong', (_self, { profile }) => {
	inWorld(profile, false, (w, dev): undefined => {
		w.map(0, 4);
		write(w, 0, 1, 2);
		ASSERT_EQ(
			1,
			w.run(() => toDevice(dev, w.task.mm!, at(1), 1)),
		);
		const sub = new mmu_interval_notifier();
		sub.mm = w.task.mm!;
		const range = new hmm_range({
			notifier: sub,
			start: at(1),
			end: at(4),
			hmm_pfns: new BigUint64Array(3).fill(HMM_PFN_VALID | 0x123n),
		});
		checkWords(range);
		const found = findings();
		EXPECT_EQ(3, found.length);
		EXPECT_TRUE(found[0]!.endsWith('private page of somebody else'));
		EXPECT_TRUE(found[1]!.includes(' is mapped'));
		EXPECT_TRUE(found[2]!.endsWith('nothing is mapped'));
		range.hmm_pfns.fill(0n);
		checkWords(range);
		EXPECT_EQ(0, findings().length);
	});
});

TEST_F(kernels, 'pages_migrated_that_nobody_asked_for', (_self, { profile }) => {
	for (const fix of [false, true])
		inWorld(profile, fix, (w, dev): undefined => {
			w.map(0, 8);
			write(w, 1, 2, 3, 4, 5, 6, 7);
			ASSERT_EQ(
				7,
				w.run(() => toDevice(dev, w.task.mm!, at(1), 7)),
			);
			// a hole in front of seven pages of the caller's own device
			const own = { default_flags: F, dev_private_owner: dev, tries: 10 };
			const { ret, flags } = w.call(0, 8, own);
			EXPECT_EQ(0, ret);
			EXPECT_STREQ('V VW*7', flags);
			EXPECT_EQ(fix ? 0 : 7, dev.faults);
			const told = fix
				? ''
				: `pages migrated that nobody asked for (fix_s11): 0x${at(1).toString(16)}: ` +
					"7 device-private page(s) sent to system memory, 7 of them the caller's own";
			EXPECT_STREQ(told, findings().join());
		});
});

TEST_F(kernels, 'pages_that_asked_are_no_finding', (_self, { profile }) => {
	inWorld(profile, false, (w, dev): undefined => {
		w.map(0, 4);
		write(w, 0, 1, 2, 3);
		ASSERT_EQ(
			4,
			w.run(() => toDevice(dev, w.task.mm!, at(0), 4)),
		);
		EXPECT_EQ(0, w.call(0, 4, { default_flags: F, tries: 10 }).ret);
		EXPECT_EQ(4, dev.faults);
		EXPECT_STREQ('', findings().join());
	});
});

TEST_F(kernels, 'call_failed_by_a_page_that_nobody_asked_for', (_self, { profile }) => {
	for (const fix of [false, true])
		for (const hasTable of [false, true])
			inWorld(profile, fix, (w) => {
				const mapping = new HandledMapping(w, 0, 4);
				// without a page table it is a hole, with one the walk stops at an entry
				if (hasTable) write(w, 3);
				mapping.calls = 0;
				mapping.answers = [0, VM_FAULT_SIGBUS];
				const words = new BigUint64Array(3);
				words[0] = F;
				const { ret, flags } = w.call(0, 3, {
					words,
					pfn_flags_mask: F | W,
				});
				EXPECT_EQ(fix ? 0 : -14, ret);
				if (fix) EXPECT_TRUE(flags.startsWith('V'));
				EXPECT_EQ(fix ? 1 : 2, mapping.calls);
				const found = findings();
				EXPECT_EQ(fix ? 0 : 1, found.length);
				if (!fix)
					EXPECT_TRUE(
						found[0]!.startsWith(
							'call failed by a page that nobody asked for (fix_s11)',
						),
					);
				return () => mapping.close();
			});
});

TEST_F(kernels, 'fix_s11_faults_each_page_as_it_asks', (_self, { profile }) => {
	for (const hasTable of [false, true])
		inWorld(profile, true, (w): undefined => {
			w.map(0, 16);
			if (hasTable) write(w, 15);
			const words = new BigUint64Array(8);
			words[1] = words[2] = words[6] = F;
			words[3] = words[7] = F | W;
			const { ret, flags, faults } = w.call(0, 8, {
				words,
				pfn_flags_mask: F | W,
				tries: 10,
			});
			EXPECT_EQ(0, ret);
			EXPECT_STREQ('- V*2 VW -*2 V VW', flags);
			EXPECT_EQ(5, faults);
			EXPECT_STREQ('.rrw..rw', w.ptes(0, 8));
			EXPECT_STREQ('', findings().join());
		});
});
