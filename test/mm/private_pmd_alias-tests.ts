// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a PMD-mapped private folio with `dma_dev`: one order-9 run of aliases, or none at all.
 * Method: a folio of a device of the test's in one PMD entry, put in by hand; its op answers with
 * pages of GPU0's window, in one run or not. The callback is called alone: nothing is faulted.
 */
import { pcim_p2pdma_provider } from '../../drivers/pci/p2pdma/provider.ts';
import { EAGAIN, EINVAL, EOPNOTSUPP, EREMOTEIO } from '../../include/linux/errno.ts';
import {
	HMM_PFN_FLAGS,
	HMM_PFN_REQ_FAULT,
	HMM_PFN_REQ_WRITE,
	HMM_PFN_VALID,
	hmm_pfn_to_map_order,
	hmm_range,
} from '../../include/linux/hmm.ts';
import { PROT_READ, PROT_WRITE } from '../../include/linux/mm.ts';
import { type folio, page_folio } from '../../include/linux/mm_types.ts';
import { page_to_pfn, pfn_to_page } from '../../include/linux/mmzone.ts';
import { mm_walk } from '../../include/linux/pagewalk.ts';
import type { p2pdma_provider } from '../../include/linux/pci-p2pdma.ts';
import type { TableEntry } from '../../include/linux/pgtable.ts';
import {
	make_readable_device_private_entry,
	make_writable_device_private_entry,
	softleaf_to_pmd,
} from '../../include/linux/swapops.ts';
import { outParam, PMD_SIZE } from '../../include/linux/types.ts';
import { PointerSlice } from '../../include/sim/pointer_slice.ts';
import { world } from '../../include/sim/world.ts';
import { run } from '../../kernel/sched/core.ts';
import { folio_unlock } from '../../mm/filemap.ts';
import { hmm_private_dma_pfn, hmm_vma_walk, hmm_vma_walk_pmd } from '../../mm/hmm.ts';
import { zone_device_folio_init } from '../../mm/memremap.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import { pgd_offset, pmd_alloc, pud_alloc } from '../../mm/pgtable.ts';
import { folio_put } from '../../mm/swap.ts';
import { mmapAnonymous } from '../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_STREQ,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../kselftest_harness.ts';
import { PAGE, StandardWorld } from '../support/standard.ts';
import { TestDevice, vmaAt } from './mm_world.ts';

/** PFN of the device's memory: nothing else of the machine is there. */
const BASE = 0x4000_0000n;
const HUGE = 512n;

interface Self {
	w: StandardWorld;
	dev: TestDevice;
	folio: folio;
	address: bigint;
	pmd: TableEntry;
	/** PFN of the alias of page `n`; null: it has none. */
	alias: (n: bigint) => bigint | null;
}

const pmdAlias = FIXTURE<Self>('private_pmd_alias', () => ({}) as Self);

FIXTURE_SETUP(pmdAlias, (self) => {
	const w = new StandardWorld();
	const dev = new TestDevice(BASE);
	run(dev.probe());
	const first = BigInt(w.gpu0.window!.firstPfn);
	self.alias = (n) => first + n;
	dev.pgmap.ops = {
		...dev.pgmap.ops,
		device_private_dma_pfn(p, pfn) {
			const alias = self.alias(page_to_pfn(p) - BASE);
			if (alias === null) return -EOPNOTSUPP;
			pfn.value = alias;
			return 0;
		},
	} as typeof dev.pgmap.ops;
	const f = page_folio(pfn_to_page(BASE));
	run(zone_device_folio_init(f, dev.pgmap, 9));
	const { mm } = w.task;
	const mapped = mmapAnonymous(w.task, 2n * PMD_SIZE, PROT_READ | PROT_WRITE);
	const address = (mapped + PMD_SIZE - 1n) & ~(PMD_SIZE - 1n);
	const pmd = run(function* () {
		const pud = yield* pud_alloc(mm!, pgd_offset(mm!, address), address);
		return yield* pmd_alloc(mm!, pud!, address);
	});
	Object.assign(self, { w, dev, folio: f, address, pmd });
	pmd!.value = softleaf_to_pmd(make_writable_device_private_entry(BASE));
});

FIXTURE_TEARDOWN(pmdAlias, ({ w, dev, folio: f, pmd }) => {
	pmd.value = 0n;
	run(function* () {
		yield* folio_unlock(f);
		yield* folio_put(f);
	});
	w.close();
	run(dev.remove());
});

/** What the callback makes of some pages of the entry. */
function walk(
	{ w, address, pmd }: Self,
	first: bigint,
	pages: bigint,
	init: Partial<hmm_range>,
): { ret: number; words: BigUint64Array; state: hmm_vma_walk } {
	const start = address + first * PAGE;
	const range = new hmm_range({
		start,
		end: start + pages * PAGE,
		hmm_pfns: new BigUint64Array(Number(pages)),
		...init,
	});
	const state = new hmm_vma_walk(range, null);
	const mm = w.task.mm!;
	const walker = new mm_walk({ mm, vma: vmaAt(w.task, start), private: state });
	const ret = run(
		function* () {
			yield* mmap_read_lock(mm);
			const result = yield* hmm_vma_walk_pmd(pmd, start, range.end, walker);
			yield* mmap_read_unlock(mm);
			return result;
		},
		{ task: w.task },
	);
	return { ret, words: range.hmm_pfns, state };
}

/** What the core makes of the op's answer for the whole folio. */
function ask(self: Self, nic = 'NIC0'): number {
	const range = new hmm_range({ dma_dev: self.w.pdev(nic).dev });
	return hmm_private_dma_pfn(
		new hmm_vma_walk(range, null),
		self.folio.page,
		HUGE,
		outParam(0n),
	);
}

const pfnOf = (word: bigint): bigint => word & ~HMM_PFN_FLAGS();

TEST_F(pmdAlias, 'unbroken_run_is_one_order_9_mapping', (self) => {
	const dma_dev = self.w.pdev('NIC0').dev;
	const { ret, words } = walk(self, 0n, HUGE, { dma_dev });
	ASSERT_EQ(0, ret);
	EXPECT_EQ(self.alias(0n), pfnOf(words[0]!));
	EXPECT_EQ(self.alias(511n), pfnOf(words[511]!));
	EXPECT_EQ(9, hmm_pfn_to_map_order(words[0]!));
});

TEST_F(pmdAlias, 'range_that_starts_inside_gets_the_aliases_of_its_pages', (self) => {
	const dma_dev = self.w.pdev('NIC0').dev;
	const { ret, words } = walk(self, 5n, 2n, { dma_dev });
	ASSERT_EQ(0, ret);
	EXPECT_EQ(self.alias(5n), pfnOf(words[0]!));
	EXPECT_EQ(self.alias(6n), pfnOf(words[1]!));
});

TEST_F(pmdAlias, 'F13_frames_of_its_pages_and_their_provider_without_a_p2p_page', (self) => {
	const { w, dev } = self;
	// GPU0's BAR as it is without a window.
	const provider = pcim_p2pdma_provider(w.pdev('GPU0'), w.gpu0.window!.bar)!;
	world().features = Object.freeze({ ...world().features, p2p_provider_only: true });
	const frame = 0x8_0000_0000n;
	dev.pgmap.ops = {
		...dev.pgmap.ops,
		device_private_dma_phys(p, mem, phys) {
			mem.value = provider;
			phys.value = (frame + page_to_pfn(p) - BASE) << 12n;
			return 0;
		},
	} as typeof dev.pgmap.ops;
	const dma_dev = w.pdev('NIC0').dev;
	const list = new Array<p2pdma_provider | null>(4).fill(null);
	const hmm_providers = new PointerSlice(list).from(1);
	const { ret, words } = walk(self, 5n, 2n, { dma_dev, hmm_providers });
	ASSERT_EQ(0, ret);
	EXPECT_EQ(frame + 5n, pfnOf(words[0]!));
	EXPECT_EQ(frame + 6n, pfnOf(words[1]!));
	EXPECT_EQ(9, hmm_pfn_to_map_order(words[0]!));
	EXPECT_STREQ('- P P -', list.map((one) => (one === provider ? 'P' : '-')).join(' '));
});

TEST_F(pmdAlias, 'write_request_on_a_read_only_entry_is_faulted', (self) => {
	self.pmd.value = softleaf_to_pmd(make_readable_device_private_entry(BASE));
	const dma_dev = self.w.pdev('NIC0').dev;
	EXPECT_EQ(0, walk(self, 0n, 2n, { dma_dev, default_flags: HMM_PFN_REQ_FAULT }).ret);
	const default_flags = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE;
	const { ret, state } = walk(self, 0n, 2n, { dma_dev, default_flags });
	EXPECT_EQ(-EAGAIN, ret);
	EXPECT_EQ(3, state.required_fault);
});

TEST_F(pmdAlias, 'broken_run_gives_no_alias', (self) => {
	const { alias } = self;
	self.alias = (n) => (n === 511n ? alias(n)! - 1n : alias(n));
	EXPECT_EQ(-EOPNOTSUPP, ask(self));
	self.alias = (n) => (n === 511n ? null : alias(n));
	EXPECT_EQ(-EOPNOTSUPP, ask(self));
	const { ret, words } = walk(self, 0n, 2n, { dma_dev: self.w.pdev('NIC0').dev });
	EXPECT_EQ(0, ret);
	// as without dma_dev: the error word of a foreign entry
	EXPECT_STREQ('20', (words[0]! >> 56n).toString(16));
});

TEST_F(pmdAlias, 'run_whose_end_is_no_p2p_page_is_reported', (self) => {
	expectReport(/answered with a page that is not P2PDMA/);
	const { alias } = self;
	self.alias = (n) => (n === 511n ? 0x100n : alias(n));
	EXPECT_EQ(-EINVAL, ask(self));
});

TEST_F(pmdAlias, 'run_that_the_device_cannot_reach', (self) => {
	EXPECT_EQ(-EREMOTEIO, ask(self, 'NIC2'));
	EXPECT_EQ(0, ask(self));
});

TEST_F(pmdAlias, 'P15_window_that_shows_half_of_the_folio_gives_no_alias', (self) => {
	const { w, alias } = self;
	self.alias = (n) => (n < HUGE / 2n ? alias(n) : null);
	EXPECT_EQ(-EOPNOTSUPP, ask(self));
	const { ret, words } = walk(self, 0n, HUGE, { dma_dev: w.pdev('NIC0').dev });
	ASSERT_EQ(0, ret);
	// Not even for the half that the window shows: one entry, one answer.
	EXPECT_EQ(0, [...words].filter((word) => word & HMM_PFN_VALID).length);
});

TEST_F(pmdAlias, 'P15_op_that_counts_on_behind_the_window_is_reported', (self) => {
	expectReport(/answered with a page that is not P2PDMA/);
	const { w } = self;
	// The second half of what it says is behind the window's last page.
	const { firstPfn, pages } = w.gpu0.window!;
	self.alias = (n) => BigInt(firstPfn + pages) - HUGE / 2n + n;
	EXPECT_EQ(-EINVAL, ask(self));
});

TEST_F(pmdAlias, 'P15_first_page_alone_does_not_tell_where_the_others_are', (self) => {
	const { w, alias } = self;
	self.alias = (n) => (n < HUGE / 2n ? alias(n) : alias(n)! + HUGE);
	const dma_dev = w.pdev('NIC0').dev;
	EXPECT_EQ(-EOPNOTSUPP, ask(self));
	const { words } = walk(self, HUGE / 2n, 1n, { dma_dev });
	EXPECT_EQ(0n, words[0]! & HMM_PFN_VALID);
	// A walker that asked for the first page only would take this for the page in the middle.
	const first = outParam(0n);
	const state = new hmm_vma_walk(new hmm_range({ dma_dev }), null);
	ASSERT_EQ(0, hmm_private_dma_pfn(state, self.folio.page, 1n, first));
	EXPECT_FALSE(first.value + HUGE / 2n === self.alias(HUGE / 2n));
});
