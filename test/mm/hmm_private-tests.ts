// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: hmm_range_fault() tells memory without struct pages by the provider beside the word, and only
 * to a caller that can take it. Method: the standard topology with a GPU that has no P2P window; a
 * range of its private pages, requesters of each kind, ops that break their contract.
 */
import { addWindow, devicePrivateDmaPfn } from '../../drivers/gpu/refgpu/p2p.ts';
import { EINVAL, EOPNOTSUPP, EPERM, EREMOTEIO } from '../../include/linux/errno.ts';
import {
	HMM_PFN_DMA_MAPPED,
	HMM_PFN_FLAGS,
	HMM_PFN_P2PDMA_BUS,
	HMM_PFN_REQ_FAULT,
	HMM_PFN_REQ_WRITE,
	HMM_PFN_VALID,
	HMM_PFN_WRITE,
	hmm_pfn_to_page,
	hmm_pfn_to_phys,
	hmm_range,
} from '../../include/linux/hmm.ts';
import type { dev_pagemap_ops } from '../../include/linux/memremap.ts';
import { PROT_READ, PROT_WRITE } from '../../include/linux/mm.ts';
import { type page, page_folio } from '../../include/linux/mm_types.ts';
import { page_to_pfn, pfn_to_page, pfn_valid } from '../../include/linux/mmzone.ts';
import {
	is_device_private_page,
	is_pci_p2pdma_page,
	is_zone_device_page,
} from '../../include/linux/page-flags.ts';
import { pci_resource_start } from '../../include/linux/pci.ts';
import {
	PCI_P2PDMA_MAP_NONE,
	p2pdma_provider,
	pci_p2pdma_bus_addr_map,
	pci_p2pdma_map_state,
} from '../../include/linux/pci-p2pdma.ts';
import { outParam, PMD_SIZE } from '../../include/linux/types.ts';
import { PointerSlice } from '../../include/sim/pointer_slice.ts';
import { world } from '../../include/sim/world.ts';
import { run } from '../../kernel/sched/core.ts';
import { folio_unlock } from '../../mm/filemap.ts';
import { hmm_private_dma_phys } from '../../mm/hmm_private.ts';
import { zone_device_folio_init } from '../../mm/memremap.ts';
import { folio_put } from '../../mm/swap.ts';
import { userMprotect, userRead } from '../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	ASSERT_NE,
	EXPECT_EQ,
	EXPECT_NE,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../kselftest_harness.ts';
import { PAGE, StandardWorld } from '../support/standard.ts';
import { TestDevice } from './mm_world.ts';

const PAGES = 8;
const FAULT = HMM_PFN_REQ_FAULT;
const WRITE = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE;

type DmaPhys = NonNullable<dev_pagemap_ops['device_private_dma_phys']>;

interface Self {
	w: StandardWorld;
	/** Eight private pages, in the first pages of VRAM. */
	address: bigint;
	/** GPU0's BAR. */
	provider: p2pdma_provider;
	/** CPU physical address of VRAM in it. */
	phys: bigint;
}

const provider_words = FIXTURE<Self>('provider_words', () => ({}) as Self);

FIXTURE_SETUP(provider_words, (self) => {
	const w = new StandardWorld({ proposals: ['p2p_op_dma_dev', 'p2p_provider_only'] });
	const { address } = w.mapPages(PAGES);
	ASSERT_EQ(PAGES, w.toVram(address, PAGES));
	ASSERT_NE(null, w.gpu0.aperture);
	const { provider, phys } = w.gpu0.aperture!;
	Object.assign(self, { w, address, provider, phys: phys as bigint });
});

FIXTURE_TEARDOWN(provider_words, ({ w }) => {
	w.close();
});

/** What one word is about, asked as a caller has to: the provider first. */
function kind(word: bigint, provider: p2pdma_provider | null): string {
	if (!(word & HMM_PFN_VALID)) return provider === null ? '0' : 'lost provider';
	if (provider !== null) return 'frame';
	const p = hmm_pfn_to_page(word);
	if (is_pci_p2pdma_page(p)) return 'alias';
	if (is_device_private_page(p)) return 'private';
	return is_zone_device_page(p) ? 'device' : 'ram';
}

/** hmm_range_fault() with an array of providers; `stale` is in it before. */
function ask(
	{ w, address }: Self,
	init: Partial<hmm_range>,
	stale: p2pdma_provider | null = null,
): { ret: number; pfns: BigUint64Array; providers: (p2pdma_provider | null)[]; kinds: string } {
	const providers = new Array<p2pdma_provider | null>(PAGES).fill(stale);
	const hmm_providers = new PointerSlice(providers);
	const { ret, pfns } = w.rangeFault(address, PAGES, { hmm_providers, ...init });
	const kinds = [...pfns].map((word, i) => kind(word, providers[i]!)).join(' ');
	return { ret, pfns, providers, kinds };
}

const eight = (what: string): string => Array(PAGES).fill(what).join(' ');
const nic = ({ w }: Self, label = 'NIC0') => w.pdev(label).dev;

/** GPU0's op, replaced for the rest of the test. */
function replaceOps({ w }: Self, ops: Partial<dev_pagemap_ops>): DmaPhys {
	const own = w.gpu0.chunks[0]!.pagemap.ops!.device_private_dma_phys!;
	for (const { pagemap } of w.gpu0.chunks)
		pagemap.ops = { ...pagemap.ops, ...ops } as dev_pagemap_ops;
	return own;
}

TEST_F(provider_words, 'F13_words_have_the_bars_frames_and_no_struct_page', (self) => {
	const { ret, pfns, providers, kinds } = ask(self, {
		dma_dev: nic(self),
		default_flags: FAULT,
	});
	ASSERT_EQ(0, ret);
	EXPECT_STREQ(eight('frame'), kinds);
	for (let i = 0; i < PAGES; i++) {
		EXPECT_EQ(self.provider, providers[i]);
		EXPECT_EQ(self.phys + BigInt(i) * PAGE, hmm_pfn_to_phys(pfns[i]!));
		EXPECT_EQ(HMM_PFN_VALID | HMM_PFN_WRITE, pfns[i]! & HMM_PFN_FLAGS());
		EXPECT_TRUE(!pfn_valid(pfns[i]! & ~HMM_PFN_FLAGS()));
	}
	EXPECT_EQ(0, self.w.gpu0.counters.migrateToRam);
	EXPECT_EQ(PAGES, self.w.gpu0.counters.opCalls);
});

TEST_F(provider_words, 'F13_a_snapshot_gives_them_too', (self) => {
	const { ret, kinds } = ask(self, { dma_dev: nic(self, 'NIC1') });
	ASSERT_EQ(0, ret);
	EXPECT_STREQ(eight('frame'), kinds);
});

TEST_F(provider_words, 'F13_who_takes_pages_only_gets_no_frame', (self) => {
	const { w } = self;
	const request = { dma_dev: nic(self), hmm_providers: null };
	// As if the pagemap had no op: nothing in a snapshot, system memory for a fault.
	EXPECT_STREQ(eight('0'), ask(self, request).kinds);
	EXPECT_EQ(0, w.gpu0.counters.opCalls);
	EXPECT_STREQ(eight('ram'), ask(self, { ...request, default_flags: FAULT }).kinds);
	EXPECT_EQ(PAGES, w.gpu0.counters.migrateToRam);
});

TEST_F(provider_words, 'F13_without_dma_dev_it_is_todays_behaviour', (self) => {
	EXPECT_STREQ(eight('0'), ask(self, {}).kinds);
	EXPECT_STREQ(eight('ram'), ask(self, { default_flags: FAULT }).kinds);
	EXPECT_EQ(0, self.w.gpu0.counters.opCalls);
});

TEST_F(provider_words, 'F13_with_the_switch_off_nothing_of_it_is_seen', (self) => {
	const w = world();
	w.features = Object.freeze({ ...w.features, p2p_provider_only: false });
	EXPECT_STREQ(eight('0'), ask(self, { dma_dev: nic(self) }).kinds);
	EXPECT_EQ(0, self.w.gpu0.counters.opCalls);
});

TEST_F(provider_words, 'F13_owner_match_wins_over_the_op', (self) => {
	const { kinds } = ask(self, { dma_dev: nic(self), dev_private_owner: self.w.gpu0 });
	EXPECT_STREQ(eight('private'), kinds);
	EXPECT_EQ(0, self.w.gpu0.counters.opCalls);
});

TEST_F(provider_words, 'F13_every_other_word_loses_a_stale_provider', (self) => {
	const { w, address, provider } = self;
	// Two pages come home, and two are never touched again.
	userRead(w.task, address + 2n * PAGE, 1);
	userRead(w.task, address + 5n * PAGE, 1);
	const { kinds } = ask(self, { dma_dev: nic(self) }, provider);
	EXPECT_STREQ('frame frame ram frame frame ram frame frame', kinds);
	EXPECT_STREQ(eight('0'), ask(self, {}, provider).kinds.replaceAll('ram', '0'));
});

TEST_F(provider_words, 'F13_unreachable_memory_migrates', (self) => {
	const { w } = self;
	for (const dma_dev of [nic(self, 'NIC2'), w.soc0])
		EXPECT_STREQ(eight('0'), ask(self, { dma_dev }).kinds);
	const { ret, kinds } = ask(self, { dma_dev: nic(self, 'NIC2'), default_flags: FAULT });
	ASSERT_EQ(0, ret);
	EXPECT_STREQ(eight('ram'), kinds);
	EXPECT_EQ(PAGES, w.gpu0.counters.migrateToRam);
});

TEST_F(provider_words, 'F13_one_page_that_the_bar_does_not_show_migrates_alone', (self) => {
	const { firstPfn } = self.w.gpu0.chunks[0]!;
	const own = replaceOps(self, {
		device_private_dma_phys: (p, mem, phys) =>
			page_to_pfn(p) === BigInt(firstPfn + 3) ? -EOPNOTSUPP : own(p, mem, phys),
	});
	const { kinds } = ask(self, { dma_dev: nic(self), default_flags: FAULT });
	EXPECT_STREQ('frame frame frame ram frame frame frame frame', kinds);
	EXPECT_EQ(1, self.w.gpu0.counters.migrateToRam);
});

TEST_F(provider_words, 'F13_a_page_without_a_frame_may_still_have_an_alias', (self) => {
	const { w } = self;
	const { bar } = w.gpu0.aperture!;
	ASSERT_EQ(
		0,
		run(() => addWindow(w.gpu0, bar, PMD_SIZE)),
	);
	const { firstPfn } = w.gpu0.chunks[0]!;
	const own = replaceOps(self, {
		device_private_dma_pfn: devicePrivateDmaPfn,
		device_private_dma_phys: (p, mem, phys) =>
			page_to_pfn(p) === BigInt(firstPfn + 3) ? -EOPNOTSUPP : own(p, mem, phys),
	});
	const { pfns, kinds } = ask(self, { dma_dev: nic(self) });
	EXPECT_STREQ('frame frame frame alias frame frame frame frame', kinds);
	EXPECT_EQ(self.phys + 3n * PAGE, hmm_pfn_to_phys(pfns[3]!));
	// A caller that takes pages only has aliases for all.
	const pages = ask(self, { dma_dev: nic(self), hmm_providers: null });
	EXPECT_STREQ(eight('alias'), pages.kinds);
});

TEST_F(provider_words, 'F31_a_read_only_entry_gives_no_writable_frame', (self) => {
	const { w, address } = self;
	const length = BigInt(PAGES) * PAGE;
	const dma_dev = nic(self);
	ASSERT_EQ(0, userMprotect(w.task, address, length, PROT_READ));
	EXPECT_EQ(-EPERM, ask(self, { dma_dev, default_flags: WRITE }).ret);
	ASSERT_EQ(0, userMprotect(w.task, address, length, PROT_READ | PROT_WRITE));
	const read = ask(self, { dma_dev, default_flags: FAULT });
	EXPECT_STREQ(eight('frame'), read.kinds);
	for (const word of read.pfns) EXPECT_EQ(0n, word & HMM_PFN_WRITE);
	const write = ask(self, { dma_dev, default_flags: WRITE });
	EXPECT_STREQ(eight('ram'), write.kinds);
	for (const word of write.pfns) EXPECT_NE(0n, word & HMM_PFN_WRITE);
});

TEST_F(provider_words, 'F13_a_mapped_word_keeps_frame_and_provider', (self) => {
	const mapped = HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA_BUS;
	const request = { dma_dev: nic(self) };
	const { pfns } = ask(self, request);
	const hmm_pfns = pfns.map((word) => word | mapped);
	const again = ask(self, { ...request, hmm_pfns }, self.provider);
	EXPECT_EQ(hmm_pfns[0]!, again.pfns[0]!);
	// The same frame by another provider would be unmapped by the wrong one.
	expectReport(/alias of a DMA-mapped word changed/);
	const own = replaceOps(self, {
		device_private_dma_phys(p, mem, phys) {
			const ret = own(p, mem, phys);
			mem.value = new p2pdma_provider(mem.value!.owner, mem.value!.bus_offset);
			return ret;
		},
	});
	ask(self, { ...request, hmm_pfns }, self.provider);
});

/** What an op answers that is broken. */
const nonsense: Readonly<
	Record<string, (self: Self) => { provider: p2pdma_provider | null; phys: bigint }>
> = {
	'no provider': ({ phys }) => ({ provider: null, phys }),
	'part of a page': ({ provider, phys }) => ({ provider, phys: phys + 8n }),
	'an address that no word holds': ({ provider }) => ({ provider, phys: 1n << 66n }),
	RAM: ({ provider }) => ({ provider, phys: 0x10_0000n }),
};
for (const [what, answer] of Object.entries(nonsense))
	TEST_F(
		provider_words,
		`F13_an_op_that_answers_${what.replaceAll(' ', '_')}_is_as_no_op`,
		(self) => {
			expectReport(/answered with what is no memory of a provider/);
			replaceOps(self, {
				device_private_dma_phys(_p, mem, phys) {
					const made = answer(self);
					mem.value = made.provider;
					phys.value = made.phys;
					return 0;
				},
			});
			const { ret, kinds } = ask(self, {
				dma_dev: nic(self),
				default_flags: FAULT,
			});
			ASSERT_EQ(0, ret);
			EXPECT_STREQ(eight('ram'), kinds);
		},
	);

TEST_F(provider_words, 'F13_a_provider_that_would_be_mapped_as_ram_is_refused', (self) => {
	self.provider.ops = {
		name: 'coherent',
		map_type: () => PCI_P2PDMA_MAP_NONE,
		bus_addr: pci_p2pdma_bus_addr_map,
	};
	EXPECT_STREQ(eight('0'), ask(self, { dma_dev: nic(self) }).kinds);
	self.provider.ops = null;
	EXPECT_STREQ(eight('frame'), ask(self, { dma_dev: nic(self) }).kinds);
});

interface Huge extends Self {
	dev: TestDevice;
	first: page;
	/** Frame of page `n` of the folio, and its provider; null: it has none. */
	frame: (n: bigint) => { provider: p2pdma_provider; phys: bigint } | null;
}

/** PFN of the device's memory: nothing else of the machine is there. */
const BASE = 0x4000_0000n;
const HUGE = 512n;

const huge = FIXTURE<Huge>('provider_huge', () => ({}) as Huge);

FIXTURE_SETUP(huge, (self) => {
	const w = new StandardWorld({ proposals: ['p2p_op_dma_dev', 'p2p_provider_only'] });
	const { provider } = w.gpu0.aperture!;
	const phys = pci_resource_start(w.pdev('GPU0'), w.gpu0.aperture!.bar) as bigint;
	const dev = new TestDevice(BASE);
	run(dev.probe());
	self.frame = (n) => ({ provider, phys: phys + n * PAGE });
	dev.pgmap.ops = {
		...dev.pgmap.ops,
		device_private_dma_phys(p, mem, out) {
			const made = self.frame(page_to_pfn(p) - BASE);
			if (made === null) return -EOPNOTSUPP;
			mem.value = made.provider;
			out.value = made.phys;
			return 0;
		},
	} as dev_pagemap_ops;
	const first = pfn_to_page(BASE);
	run(zone_device_folio_init(page_folio(first), dev.pgmap, 9));
	Object.assign(self, { w, dev, first, provider, phys });
});

FIXTURE_TEARDOWN(huge, ({ w, dev, first }) => {
	run(function* () {
		yield* folio_unlock(page_folio(first));
		yield* folio_put(page_folio(first));
	});
	w.close();
	run(dev.remove());
});

/** What the core makes of the op's answer for the whole folio. */
function askHuge(self: Huge, label = 'NIC0'): { ret: number; phys: bigint | null } {
	const range = new hmm_range({
		dma_dev: nic(self, label),
		hmm_providers: PointerSlice.zeroed(Number(HUGE)),
	});
	const pfn = outParam(-1n);
	const provider = outParam<p2pdma_provider | null>(null);
	const state = new pci_p2pdma_map_state();
	const ret = hmm_private_dma_phys(range, state, self.first, HUGE, pfn, provider);
	EXPECT_EQ(ret === 0 ? self.provider : null, provider.value);
	return { ret, phys: ret === 0 ? pfn.value << 12n : null };
}

TEST_F(huge, 'F13_a_huge_folio_is_one_run_or_nothing', (self) => {
	const { frame } = self;
	ASSERT_EQ(0, askHuge(self).ret);
	EXPECT_EQ(self.phys, askHuge(self).phys);
	self.frame = (n) => (n === 511n ? null : frame(n));
	EXPECT_EQ(-EOPNOTSUPP, askHuge(self).ret);
	self.frame = (n) => ({ provider: self.provider, phys: self.phys + (n >> 8n) * PAGE });
	EXPECT_EQ(-EOPNOTSUPP, askHuge(self).ret);
});

TEST_F(huge, 'F13_a_huge_folio_lies_in_one_provider', (self) => {
	const { frame } = self;
	const other = new p2pdma_provider(self.provider.owner, self.provider.bus_offset);
	self.frame = (n) => (n === 511n ? { ...frame(n)!, provider: other } : frame(n));
	EXPECT_EQ(-EINVAL, askHuge(self).ret);
});

TEST_F(huge, 'F13_a_huge_folio_out_of_reach', (self) => {
	EXPECT_EQ(-EREMOTEIO, askHuge(self, 'NIC2').ret);
	EXPECT_NULL(askHuge(self, 'NIC2').phys);
});
