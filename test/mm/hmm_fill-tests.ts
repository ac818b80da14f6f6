// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: PresentFill, which works on 32-bit halves, writes what hmm_vma_handle_pte() would.
 * Method: random page tables with entries of every kind, random request words and flags; the walk of
 * one pmd with the hot loop and without it must agree in every word, in its result, and in the fault
 * that it asks for. Entries that would be faulted are only recorded (`hmm_deferred_fault`).
 */
import fc from 'fast-check';
import {
	_PAGE_ACCESSED,
	_PAGE_DEVMAP,
	_PAGE_DIRTY,
	_PAGE_NX,
	_PAGE_PRESENT,
	_PAGE_PROTNONE,
	_PAGE_RW,
	_PAGE_SPECIAL,
	_PAGE_USER,
} from '../../include/asm/pgtable_types.ts';
import { HMM_PFN_REQ_FAULT, HMM_PFN_REQ_WRITE } from '../../include/linux/hmm.ts';
import {
	make_hwpoison_entry,
	make_pte_marker_entry,
	make_readable_device_private_entry,
	make_writable_device_private_entry,
	PTE_MARKER_GUARD,
	PTE_MARKER_UFFD_WP,
	swp_entry,
	swp_entry_to_pte,
} from '../../include/linux/swapops.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import { run } from '../../kernel/sched/core.ts';
import { bulkFill } from '../../mm/hmm_fill.ts';
import { zero_pfn } from '../../mm/memory.ts';
import {
	EXPECT_EQ,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../kselftest_harness.ts';
import { at, HmmWorld, PAGE, STICKY, wordText } from './hmm_world.ts';
import { TestDevice } from './mm_world.ts';

const TABLE = 512;
const PRESENT = _PAGE_PRESENT | _PAGE_USER | _PAGE_ACCESSED;

interface Self {
	w: HmmWorld;
	dev: TestDevice;
}

const fill = FIXTURE<Self, { profile: ProfileName }>(
	'hmm_fill',
	() => ({ w: null as unknown as HmmWorld, dev: null as unknown as TestDevice }),
	FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName }),
);
FIXTURE_VARIANT_ADD(fill, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(fill, 'v7_3', { profile: 'v7.3' });

FIXTURE_SETUP(fill, (self, { profile }) => {
	self.w = new HmmWorld(profile, { features: { hmm_deferred_fault: true } });
	self.dev = new TestDevice();
	run(self.dev.probe());
	self.w.map(0, TABLE);
});

FIXTURE_TEARDOWN(fill, (self) => {
	self.w.close();
	run(self.dev.remove());
});

/** PFNs of up to 40 bits, with their ends. */
const pfn = fc.oneof(
	fc.bigInt({ min: 1n, max: (1n << 40n) - 1n }),
	fc.constantFrom(1n, 0xf_ffffn, 0x10_0000n, 0xffff_ffffn, 0x1_0000_0000n, (1n << 40n) - 1n),
);
const bits = (...masks: bigint[]): fc.Arbitrary<bigint> =>
	fc
		.tuple(...masks.map((mask) => fc.constantFrom(0n, mask)))
		.map((list) => list.reduce((sum, bit) => sum | bit, 0n));

/** Present entries as hardware and kernel may leave them. */
const plain = fc
	.tuple(pfn, bits(_PAGE_RW, _PAGE_DIRTY, _PAGE_NX))
	.map(([p, flags]) => (p << 12n) | PRESENT | flags);

const odd = (dev: TestDevice): fc.Arbitrary<bigint> =>
	fc.oneof(
		fc.constant(0n),
		plain.map((word) => word | _PAGE_SPECIAL),
		plain.map((word) => word | _PAGE_DEVMAP),
		plain.map((word) => word | _PAGE_DEVMAP | _PAGE_SPECIAL),
		plain.map((word) => (word & ~_PAGE_PRESENT) | _PAGE_PROTNONE),
		fc.constant((zero_pfn << 12n) | PRESENT | _PAGE_SPECIAL | _PAGE_NX),
		fc.constantFrom(
			swp_entry_to_pte(make_writable_device_private_entry(dev.base + 3n)),
			swp_entry_to_pte(make_readable_device_private_entry(dev.base + 9n)),
			swp_entry_to_pte(swp_entry(1, 77n)),
			swp_entry_to_pte(make_hwpoison_entry(5n)),
			swp_entry_to_pte(make_pte_marker_entry(PTE_MARKER_UFFD_WP)),
			swp_entry_to_pte(make_pte_marker_entry(PTE_MARKER_GUARD)),
		),
	);

const requestBits = bits(HMM_PFN_REQ_FAULT, HMM_PFN_REQ_WRITE);
/** Words going in: requests, sticky bits, and now and then anything. */
const input = fc
	.oneof(
		{
			weight: 8,
			arbitrary: fc.tuple(requestBits, bits(1n << 60n, 1n << 59n, 1n << 58n)),
		},
		{ weight: 1, arbitrary: fc.tuple(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })) },
	)
	.map((list) => list.reduce((sum, bit) => sum | bit, 0n));

interface Case {
	readonly entries: bigint[];
	readonly inputs: bigint[];
	readonly first: number;
	readonly default_flags: bigint;
	readonly pfn_flags_mask: bigint;
	readonly owned: boolean;
}

const cases = (dev: TestDevice): fc.Arbitrary<Case> =>
	fc.integer({ min: 1, max: 24 }).chain((n) =>
		fc.record({
			// mostly plain, so that the loop runs for a while
			entries: fc.array(
				fc.oneof(
					{ weight: 6, arbitrary: plain },
					{ weight: 1, arbitrary: odd(dev) },
				),
				{ minLength: n, maxLength: n },
			),
			inputs: fc.array(input, { minLength: n, maxLength: n }),
			first: fc.integer({ min: 0, max: TABLE - n }),
			default_flags: fc.oneof(fc.constant(0n), requestBits, fc.constant(STICKY)),
			pfn_flags_mask: fc.oneof(
				fc.constant(0n),
				requestBits,
				fc.constant((1n << 64n) - 1n),
			),
			owned: fc.boolean(),
		}),
	);

TEST_F(fill, 'hot_loop_and_plain_version_agree', ({ w, dev }) => {
	const first = w.pte(0);
	const { u64 } = first.table;
	const was = u64.slice();
	let bulk = 0;
	const walk = (c: Case, enabled: boolean): string => {
		bulkFill().enabled = enabled;
		u64.set(was);
		u64.set(c.entries, first.index + c.first);
		const { ret, last, end, required, words } = w.walkPmd(c.first, c.entries.length, {
			words: BigUint64Array.from(c.inputs),
			default_flags: c.default_flags,
			pfn_flags_mask: c.pfn_flags_mask,
			dev_private_owner: c.owned ? dev : null,
		});
		if (enabled) bulk++;
		const list = [...words].map((word) => word.toString(16)).join(' ');
		return `ret ${ret} last ${last} end ${end} required ${required}: ${list}`;
	};
	try {
		fc.assert(
			fc.property(cases(dev), (c) => walk(c, true) === walk(c, false)),
			{ numRuns: 3000, seed: 1 },
		);
	} finally {
		u64.set(was);
		bulkFill().enabled = true;
	}
	EXPECT_TRUE(bulk >= 3000);
});

TEST_F(fill, 'a_whole_table_of_present_pages', ({ w }, { profile }) => {
	const first = w.pte(0);
	const { u64 } = first.table;
	const was = u64.slice();
	for (let i = 0; i < TABLE; i++)
		u64[i] =
			((0xff_0000_0000n + BigInt(i)) << 12n) |
			PRESENT |
			(i % 2 ? _PAGE_RW : 0n) |
			_PAGE_NX;
	const words = new BigUint64Array(TABLE).fill(STICKY);
	const { ret } = w.walkPmd(0, TABLE, { words });
	u64.set(was);
	EXPECT_EQ(0, ret);
	const kept = profile === 'v7.3' ? 'MPB' : '';
	EXPECT_STREQ(`V${kept}@ff00000000`, wordText(words[0]!));
	EXPECT_STREQ(`VW${kept}@ff000001ff`, wordText(words[TABLE - 1]!));
});

TEST_F(fill, 'words_outside_of_the_run_stay', ({ w }) => {
	for (let i = 0; i < 8; i++) w.setPte(i, (BigInt(0x100 + i) << 12n) | PRESENT);
	const buffer = new BigUint64Array(10).fill(0x1234n);
	const words = buffer.subarray(2, 6);
	const { ret } = w.walkPmd(4, 4, { words });
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('V@104 V@105 V@106 V@107', [...words].map(wordText).join(' '));
	EXPECT_TRUE([0, 1, 6, 7, 8, 9].every((i) => buffer[i] === 0x1234n));
	EXPECT_EQ(PAGE, at(1) - at(0));
});
