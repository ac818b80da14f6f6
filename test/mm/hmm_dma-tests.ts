// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: hmm_dma_map_*(): which address an entry gets, what its word says of that, and that unmapping
 * undoes just what mapping did. Method: one map of some pages in each of the three modes, words as
 * hmm_range_fault() would leave them; what an address reaches is read by the device itself.
 *
 *   NIC0  below GPU0's switch       bus address
 *   NIC1  below another root port   through the host bridge
 *   NIC2  below another host bridge not at all
 */

import { devres_release_all } from '../../drivers/base/devres.ts';
import { pci_p2pdma_add_resource } from '../../drivers/pci/p2pdma/memory.ts';
import type { device } from '../../include/linux/device.ts';
import {
	DMA_ATTR_REQUIRE_COHERENT,
	DMA_BIDIRECTIONAL,
	DMA_BIT_MASK,
	DMA_MAPPING_ERROR,
	dma_use_iova,
} from '../../include/linux/dma-mapping.ts';
import { ENOMEM, EOPNOTSUPP } from '../../include/linux/errno.ts';
import {
	HMM_PFN_DMA_MAPPED,
	HMM_PFN_P2PDMA,
	HMM_PFN_P2PDMA_BUS,
	HMM_PFN_VALID,
	HMM_PFN_WRITE,
} from '../../include/linux/hmm.ts';
import { hmm_dma_map } from '../../include/linux/hmm-dma.ts';
import type { pci_dev } from '../../include/linux/pci.ts';
import {
	PCI_P2PDMA_MAP_BUS_ADDR,
	PCI_P2PDMA_MAP_UNKNOWN,
	pci_p2pdma_map_state,
} from '../../include/linux/pci-p2pdma.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import { KernelOops } from '../../include/sim/report.ts';
import { world } from '../../include/sim/world.ts';
import { PCI_ACS_CTRL } from '../../include/uapi/linux/pci_regs.ts';
import {
	dma_map_phys,
	dma_mapping_error,
	dma_need_unmap,
	dma_set_mask,
	dma_unmap_phys,
} from '../../kernel/dma/mapping.ts';
import { run } from '../../kernel/sched/core.ts';
import {
	hmm_dma_map_alloc,
	hmm_dma_map_free,
	hmm_dma_map_pfn,
	hmm_dma_unmap_pfn,
} from '../../mm/hmm_dma.ts';
import { dev, gpuBar } from '../drivers/pci/machines.ts';
import {
	bootDma,
	type DmaWorldOptions,
	deviceRead,
	fill,
	HIGH,
	LOW,
	runs,
} from '../kernel/dma/dma_machine.ts';
import { touchesOf } from '../kernel/footprint.ts';
import {
	ASSERT_EQ,
	ASSERT_TRUE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NE,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
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
import { switchOn } from '../support/switch_on.ts';
import { PAGE, wordText } from './hmm_world.ts';

const PAGES = 4;
const MIB2 = 0x20_0000n;
const STICKY = HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA | HMM_PFN_P2PDMA_BUS;
const INTEL = { kind: 'intel', domains: 'dma' } as const;

/** Where the address of a mapped entry comes from. */
type Mode = 'direct' | 'iommu' | 'list';

interface Self {
	map: hmm_dma_map;
}

const hmmDma = FIXTURE<Self, { mode: Mode }>(
	'hmm_dma',
	() => ({ map: new hmm_dma_map() }),
	FIXTURE_VARIANT({ mode: 'direct' as Mode }),
);
FIXTURE_VARIANT_ADD(hmmDma, 'direct', { mode: 'direct' });
FIXTURE_VARIANT_ADD(hmmDma, 'iommu', { mode: 'iommu' });
FIXTURE_VARIANT_ADD(hmmDma, 'list', { mode: 'list' });

function bootWithP2p(options: DmaWorldOptions): void {
	bootDma(options);
	for (const name of ['NIC0', 'NIC1', 'NIC2'] as const)
		ASSERT_EQ(0, dma_set_mask(dev(name).dev, DMA_BIT_MASK(64)));
	for (let page = 0; page < 8; page++) fill(LOW + BigInt(page) * PAGE, 4096, 0x10 + page);
	const ret = run(() => pci_p2pdma_add_resource(dev('GPU0'), gpuBar.bar, MIB2, 0n));
	ASSERT_EQ(0, ret);
	for (let page = 0; page < 8; page++)
		fill(gpuBar.phys + BigInt(page) * PAGE, 4096, 0x80 + page);
}

FIXTURE_SETUP(hmmDma, (self, { mode }) => {
	bootWithP2p(mode === 'direct' ? {} : { iommu: INTEL });
	self.map = allocFor(dev('NIC1'), mode);
});

FIXTURE_TEARDOWN(hmmDma, ({ map }) => {
	if (map.pfn_list !== null) {
		for (let i = 0n; i < BigInt(PAGES); i++) hmm_dma_unmap_pfn(dev('NIC1').dev, map, i);
		hmm_dma_map_free(dev('NIC1').dev, map);
	}
	run(() => devres_release_all(dev('GPU0').dev));
});

/** A map of some pages; in list mode there was no room for an IOVA range. */
function allocFor(pdev: pci_dev, mode: Mode, pages = PAGES, entry = PAGE): hmm_dma_map {
	const map = new hmm_dma_map();
	if (mode === 'list') injectFaults().fail('dma_iova_try_alloc', 1);
	ASSERT_EQ(0, hmm_dma_map_alloc(pdev.dev, map, BigInt(pages), entry));
	world().faultInjection = null;
	return map;
}

/** A word of RAM page `n`, as hmm_range_fault() leaves it. */
const ram = (n: number, sticky = 0n): bigint =>
	HMM_PFN_VALID | HMM_PFN_WRITE | sticky | ((LOW >> 12n) + BigInt(n));
/** A word of P2P page `n`. */
const p2p = (n: number, sticky = 0n): bigint =>
	HMM_PFN_VALID | HMM_PFN_WRITE | sticky | ((gpuBar.phys >> 12n) + BigInt(n));

function mapPfn(
	pdev: pci_dev,
	map: hmm_dma_map,
	index: number,
	word: bigint,
	state = new pci_p2pdma_map_state(),
): bigint {
	map.pfn_list![index] = word;
	return hmm_dma_map_pfn(pdev.dev, map, BigInt(index), state) as bigint;
}

/** Sticky letters of a word. */
const sticky = (map: hmm_dma_map, index: number): string =>
	wordText(map.pfn_list![index]! & STICKY);

function unmap(pdev: pci_dev, map: hmm_dma_map, index: number): boolean {
	return hmm_dma_unmap_pfn(pdev.dev, map, BigInt(index));
}

TEST_F(hmmDma, 'alloc_takes_what_the_mode_needs', ({ map }, { mode }) => {
	EXPECT_EQ(mode === 'iommu', dma_use_iova(map.state));
	EXPECT_EQ(mode === 'list', map.dma_list !== null);
	EXPECT_EQ(PAGES, map.pfn_list!.length);
	EXPECT_EQ(PAGE, map.dma_entry_size);
	hmm_dma_map_free(dev('NIC1').dev, map);
	EXPECT_NULL(map.pfn_list);
	EXPECT_NULL(map.dma_list);
});

TEST_F(hmmDma, 'ram_entry_is_reached_at_its_address', ({ map }, { mode }) => {
	const nic = dev('NIC1');
	const addr = mapPfn(nic, map, 2, ram(5));
	EXPECT_NE(DMA_MAPPING_ERROR, addr);
	EXPECT_STREQ('16*21', runs(deviceRead(nic, addr, 16)));
	EXPECT_STREQ('M', sticky(map, 2));
	if (mode === 'direct') EXPECT_EQ(LOW + 5n * PAGE, addr);
	if (mode === 'iommu') EXPECT_EQ((map.state.addr as bigint) + 2n * PAGE, addr);
	if (mode === 'list') EXPECT_EQ(map.dma_list![2]!, addr);
	EXPECT_TRUE(unmap(nic, map, 2));
	EXPECT_STREQ(mode === 'direct' ? '16*21' : 'UR', runs(deviceRead(nic, addr, 16)));
});

TEST_F(hmmDma, 'each_word_is_told_apart_in_the_footprint', ({ map }) => {
	const nic = dev('NIC1');
	const { buffer } = map.pfn_list!;
	for (const index of [1, 3]) {
		const mapped = touchesOf(buffer, () => mapPfn(nic, map, index, ram(index)));
		EXPECT_STREQ(`write words ${index} 1`, mapped);
		EXPECT_STREQ(
			`write words ${index} 1`,
			touchesOf(buffer, () => unmap(nic, map, index)),
		);
	}
});

TEST_F(hmmDma, 'unmap_clears_the_sticky_bits_and_no_other', ({ map }) => {
	const nic = dev('NIC1');
	mapPfn(nic, map, 0, ram(1));
	EXPECT_TRUE(unmap(nic, map, 0));
	EXPECT_EQ(ram(1), map.pfn_list![0]!);
	// so that it can be mapped again
	EXPECT_NE(DMA_MAPPING_ERROR, hmm_dma_map_pfn(nic.dev, map, 0n, new pci_p2pdma_map_state()));
	EXPECT_TRUE(unmap(nic, map, 0));
	EXPECT_FALSE(unmap(nic, map, 0));
});

TEST_F(hmmDma, 'mapped_entry_gives_its_address_again', ({ map }, { mode }) => {
	const nic = dev('NIC1');
	const addr = mapPfn(nic, map, 1, ram(1));
	EXPECT_EQ(addr, hmm_dma_map_pfn(nic.dev, map, 1n, new pci_p2pdma_map_state()));
	// another page in the word: not noticed where the address is known, followed where it is computed
	const again = mapPfn(nic, map, 1, ram(6, HMM_PFN_DMA_MAPPED));
	EXPECT_EQ(mode === 'direct' ? LOW + 6n * PAGE : addr, again);
	EXPECT_STREQ('M', sticky(map, 1));
});

TEST_F(hmmDma, 'p2p_page_through_the_host_bridge_is_mapped_as_mmio', ({ map }, { mode }) => {
	const nic = dev('NIC1');
	const addr = mapPfn(nic, map, 3, p2p(2));
	EXPECT_NE(DMA_MAPPING_ERROR, addr);
	EXPECT_STREQ('MP', sticky(map, 3));
	if (mode === 'direct') EXPECT_EQ(gpuBar.phys + 2n * PAGE, addr);
	else EXPECT_STREQ('16*130', runs(deviceRead(nic, addr, 16)));
	EXPECT_EQ(addr, hmm_dma_map_pfn(nic.dev, map, 3n, new pci_p2pdma_map_state()));
	EXPECT_TRUE(unmap(nic, map, 3));
	EXPECT_EQ(p2p(2), map.pfn_list![3]!);
});

TEST_F(hmmDma, 'p2p_page_below_a_common_switch_has_its_bus_address', (_self, { mode }) => {
	// with an IOMMU the ports redirect, unless they are told not to
	for (const name of ['USP', 'DSP0', 'DSP1'] as const) {
		const { acs_cap, config } = dev(name);
		config.writeConfig(acs_cap + PCI_ACS_CTRL, 2, 0);
	}
	const nic = dev('NIC0');
	const map = allocFor(nic, mode);
	const addr = mapPfn(nic, map, 0, p2p(3));
	EXPECT_EQ(gpuBar.bus + 3n * PAGE, addr);
	EXPECT_STREQ('MB', sticky(map, 0));
	EXPECT_STREQ('16*131', runs(deviceRead(nic, addr, 16)));
	// judged and computed again at every call
	const state = new pci_p2pdma_map_state();
	EXPECT_EQ(addr, hmm_dma_map_pfn(nic.dev, map, 0n, state));
	EXPECT_EQ(PCI_P2PDMA_MAP_BUS_ADDR, state.map);
	if (mode === 'list') EXPECT_EQ(0n, map.dma_list![0]!);
	EXPECT_TRUE(unmap(nic, map, 0));
	EXPECT_EQ(p2p(3), map.pfn_list![0]!);
	hmm_dma_map_free(nic.dev, map);
});

TEST_F(hmmDma, 'p2p_page_out_of_reach_is_an_error_and_leaves_the_word', (_self, { mode }) => {
	const nic = dev('NIC2');
	const map = allocFor(nic, mode);
	EXPECT_EQ(DMA_MAPPING_ERROR, mapPfn(nic, map, 0, p2p(1)));
	EXPECT_EQ(p2p(1), map.pfn_list![0]!);
	// a stale bit stays too
	EXPECT_EQ(DMA_MAPPING_ERROR, mapPfn(nic, map, 0, p2p(1, HMM_PFN_P2PDMA)));
	EXPECT_STREQ('P', sticky(map, 0));
	EXPECT_FALSE(unmap(nic, map, 0));
	hmm_dma_map_free(nic.dev, map);
});

TEST_F(hmmDma, 'state_of_a_run_remembers_the_provider', ({ map }) => {
	const nic = dev('NIC1');
	const state = new pci_p2pdma_map_state();
	mapPfn(nic, map, 0, ram(0), state);
	EXPECT_EQ(PCI_P2PDMA_MAP_UNKNOWN, state.map);
	mapPfn(nic, map, 1, p2p(0), state);
	const { mem } = state;
	EXPECT_TRUE(mem !== null);
	mapPfn(nic, map, 2, ram(2), state);
	mapPfn(nic, map, 3, p2p(1), state);
	EXPECT_EQ(mem, state.mem);
	EXPECT_STREQ('M MP M MP', [0, 1, 2, 3].map((i) => sticky(map, i)).join(' '));
});

TEST_F(hmmDma, 'unmap_needs_a_valid_and_mapped_word', ({ map }) => {
	const nic = dev('NIC1');
	map.pfn_list![0] = ram(0);
	EXPECT_FALSE(unmap(nic, map, 0));
	const addr = mapPfn(nic, map, 0, ram(0));
	const word = map.pfn_list![0]!;
	// the word lost VALID: its translation stays
	map.pfn_list![0] = word & ~HMM_PFN_VALID;
	EXPECT_FALSE(unmap(nic, map, 0));
	EXPECT_STREQ('M', sticky(map, 0));
	EXPECT_STREQ('8*16', runs(deviceRead(nic, addr, 8)));
	map.pfn_list![0] = word;
	EXPECT_TRUE(unmap(nic, map, 0));
});

TEST_F(hmmDma, 'map_does_not_ask_for_valid', ({ map }) => {
	const nic = dev('NIC1');
	const addr = mapPfn(nic, map, 0, ram(4) & ~HMM_PFN_VALID);
	EXPECT_NE(DMA_MAPPING_ERROR, addr);
	EXPECT_STREQ('M', sticky(map, 0));
	map.pfn_list![0]! |= HMM_PFN_VALID;
});

TEST_F(hmmDma, 'failed_mapping_clears_p2pdma_only', ({ map }, { mode }) => {
	const nic = dev('NIC1');
	const site = mode === 'iommu' ? 'iommu_map' : 'dma_map_phys';
	injectFaults().fail(site);
	EXPECT_EQ(DMA_MAPPING_ERROR, mapPfn(nic, map, 0, p2p(0)));
	EXPECT_EQ(p2p(0), map.pfn_list![0]!);
	EXPECT_EQ(DMA_MAPPING_ERROR, mapPfn(nic, map, 1, ram(0)));
	EXPECT_EQ(ram(0), map.pfn_list![1]!);
	if (mode !== 'direct') return;
	// an entry without an address of its own is mapped again, and keeps DMA_MAPPED when that fails
	EXPECT_EQ(DMA_MAPPING_ERROR, mapPfn(nic, map, 2, ram(0, HMM_PFN_DMA_MAPPED)));
	EXPECT_STREQ('M', sticky(map, 2));
});

TEST_F(hmmDma, 'failed_sync_unlinks_again', ({ map }, { mode }) => {
	if (mode !== 'iommu') SKIP('only IOVA ranges are synced');
	const nic = dev('NIC1');
	injectFaults().fail('dma_iova_sync', 1);
	EXPECT_EQ(DMA_MAPPING_ERROR, mapPfn(nic, map, 0, ram(0)));
	EXPECT_STREQ('-', sticky(map, 0));
	// nothing is linked: the next try finds the IOVA free
	const addr = mapPfn(nic, map, 0, ram(0));
	EXPECT_NE(DMA_MAPPING_ERROR, addr);
	EXPECT_STREQ('8*16', runs(deviceRead(nic, addr, 8)));
});

TEST_F(hmmDma, 'stale_bus_bit_makes_unmap_forget_a_translation', (_self, { mode }) => {
	const nic = dev('NIC1');
	const map = allocFor(nic, mode);
	const addr = mapPfn(nic, map, 0, ram(0, HMM_PFN_P2PDMA_BUS));
	EXPECT_STREQ('MB', sticky(map, 0));
	EXPECT_TRUE(unmap(nic, map, 0));
	EXPECT_EQ(ram(0), map.pfn_list![0]!);
	if (mode !== 'iommu') {
		// the entry is given back by hand
		if (mode === 'list')
			dma_unmap_phys(
				nic.dev,
				addr,
				PAGE,
				DMA_BIDIRECTIONAL,
				DMA_ATTR_REQUIRE_COHERENT,
			);
		hmm_dma_map_free(nic.dev, map);
		return;
	}
	// still there, and in the way
	EXPECT_STREQ('8*16', runs(deviceRead(nic, addr, 8)));
	EXPECT_EQ(DMA_MAPPING_ERROR, mapPfn(nic, map, 0, ram(1)));
	map.pfn_list![0] = ram(0, HMM_PFN_DMA_MAPPED);
	EXPECT_TRUE(unmap(nic, map, 0));
	hmm_dma_map_free(nic.dev, map);
});

TEST_F(hmmDma, 'entry_lies_at_its_index_times_the_entry_size', (_self, { mode }) => {
	const nic = dev('NIC1');
	const map = allocFor(nic, mode, 8, 2n * PAGE);
	const addr = mapPfn(nic, map, 1, ram(2));
	EXPECT_STREQ('4096*18 4096*19', runs(deviceRead(nic, addr, 8192)));
	if (mode === 'iommu') EXPECT_EQ((map.state.addr as bigint) + 2n * PAGE, addr);
	EXPECT_TRUE(unmap(nic, map, 1));
	hmm_dma_map_free(nic.dev, map);
});

TEST_F(
	hmmDma,
	'entries_smaller_than_a_page_fail_at_odd_indexes_of_an_iova_range',
	(_self, { mode }) => {
		const nic = dev('NIC1');
		const map = allocFor(nic, mode, 4, PAGE / 2n);
		EXPECT_NE(DMA_MAPPING_ERROR, mapPfn(nic, map, 0, ram(0)));
		const odd = mapPfn(nic, map, 1, ram(1));
		EXPECT_EQ(mode === 'iommu', odd === DMA_MAPPING_ERROR);
		EXPECT_TRUE(unmap(nic, map, 0));
		unmap(nic, map, 1);
		hmm_dma_map_free(nic.dev, map);
	},
);

TEST_F(hmmDma, 'entry_larger_than_the_map_is_reported_and_taken', (_self, { mode }) => {
	expectReport(/entries are larger than the map/);
	const map = allocFor(dev('NIC1'), mode, 1, 16n * PAGE);
	hmm_dma_map_free(dev('NIC1').dev, map);
});

TEST_F(hmmDma, 'map_of_nothing_is_reported_and_falls_back', (_self, { mode }) => {
	expectReport(/entries are larger than the map/);
	if (mode !== 'direct') expectReport(/dma_iova_try_alloc: !size/);
	const map = allocFor(dev('NIC1'), mode, 0);
	EXPECT_FALSE(dma_use_iova(map.state));
	EXPECT_EQ(mode !== 'direct', map.dma_list !== null);
	EXPECT_EQ(0, map.pfn_list!.length);
	hmm_dma_map_free(dev('NIC1').dev, map);
});

TEST_F(hmmDma, 'no_memory_for_the_words', () => {
	const map = new hmm_dma_map();
	injectFaults().fail('hmm_dma_map_alloc:pfn_list', 1);
	EXPECT_EQ(-ENOMEM, hmm_dma_map_alloc(dev('NIC1').dev, map, 4n, PAGE));
	EXPECT_NULL(map.pfn_list);
	EXPECT_FALSE(dma_use_iova(map.state));
});

TEST_F(hmmDma, 'no_memory_for_the_addresses', (_self, { mode }) => {
	if (mode !== 'list') SKIP('no list is needed');
	const map = new hmm_dma_map();
	injectFaults().fail('dma_iova_try_alloc', 1).fail('hmm_dma_map_alloc:dma_list', 1);
	EXPECT_EQ(-ENOMEM, hmm_dma_map_alloc(dev('NIC1').dev, map, 4n, PAGE));
	// pfn_list is freed and its pointer left as it is
	EXPECT_TRUE(map.pfn_list !== null);
	EXPECT_NULL(map.dma_list);
});

TEST_F(hmmDma, 'device_that_needs_syncs_is_refused', () => {
	const { dev: nic } = dev('NIC1');
	nic.dma_skip_sync = false;
	EXPECT_EQ(-EOPNOTSUPP, hmm_dma_map_alloc(nic, new hmm_dma_map(), 4n, PAGE));
	nic.dma_skip_sync = true;
});

TEST_F(hmmDma, 'mask_must_cover_what_the_mode_needs', (_self, { mode }) => {
	const { dev: nic } = dev('NIC1');
	// an IOMMU needs 32 bits, direct mapping all of RAM, which ends below 2^28 here
	const enough = mode === 'direct' ? 28 : 32;
	const alloc = (bits: number): number => {
		nic.dma_mask = DMA_BIT_MASK(bits);
		const map = new hmm_dma_map();
		const ret = hmm_dma_map_alloc(nic, map, 4n, PAGE);
		if (ret === 0) hmm_dma_map_free(nic, map);
		return ret;
	};
	EXPECT_EQ(0, alloc(enough));
	EXPECT_EQ(-EOPNOTSUPP, alloc(enough - 1));
	nic.dma_mask = DMA_BIT_MASK(64);
});

/** A direct map made while the device needed no list, and then the device bounced something. */
function bouncedSince(): { nic: device; map: hmm_dma_map } {
	bootWithP2p({ high: true });
	const nic = dev('NIC1');
	const map = allocFor(nic, 'direct');
	mapPfn(nic, map, 0, ram(0));
	EXPECT_EQ(0, dma_set_mask(nic.dev, DMA_BIT_MASK(32)));
	const addr = dma_map_phys(nic.dev, HIGH, PAGE, DMA_BIDIRECTIONAL, 0n);
	EXPECT_EQ(0, dma_mapping_error(nic.dev, addr));
	dma_unmap_phys(nic.dev, addr, PAGE, DMA_BIDIRECTIONAL, 0n);
	nic.dev.dma_mask = DMA_BIT_MASK(64);
	EXPECT_TRUE(dma_need_unmap(nic.dev));
	EXPECT_NULL(map.dma_list);
	return { nic: nic.dev, map };
}

/** What a call dies of. */
function oopsOf(call: () => unknown): string {
	try {
		call();
		return 'it went on';
	} catch (error) {
		if (error instanceof KernelOops) return error.report.title;
		throw error;
	}
}

TEST('new_entry_after_a_bounce_is_reported_and_fails', () => {
	expectReport(/map without dma_list/);
	const { nic, map } = bouncedSince();
	map.pfn_list![1] = ram(1);
	EXPECT_EQ(DMA_MAPPING_ERROR, hmm_dma_map_pfn(nic, map, 1n, new pci_p2pdma_map_state()));
	EXPECT_EQ(ram(1), map.pfn_list![1]!);
	EXPECT_EQ(-EOPNOTSUPP, hmm_dma_map_alloc(nic, new hmm_dma_map(), 4n, PAGE));
	run(() => devres_release_all(dev('GPU0').dev));
});

TEST('mapped_entry_after_a_bounce_oopses_in_map', () => {
	expectReport(/NULL pointer dereference in hmm_dma_map_pfn/);
	const { nic, map } = bouncedSince();
	EXPECT_STREQ(
		'BUG: kernel NULL pointer dereference in hmm_dma_map_pfn',
		oopsOf(() => hmm_dma_map_pfn(nic, map, 0n, new pci_p2pdma_map_state())),
	);
	run(() => devres_release_all(dev('GPU0').dev));
});

TEST('mapped_entry_after_a_bounce_oopses_in_unmap', () => {
	expectReport(/NULL pointer dereference in hmm_dma_unmap_pfn/);
	const { nic, map } = bouncedSince();
	EXPECT_STREQ(
		'BUG: kernel NULL pointer dereference in hmm_dma_unmap_pfn',
		oopsOf(() => hmm_dma_unmap_pfn(nic, map, 0n)),
	);
	run(() => devres_release_all(dev('GPU0').dev));
});

TEST('fix_s21_map_does_without_a_list_that_was_not_made', () => {
	const { nic, map } = bouncedSince();
	ASSERT_TRUE(switchOn('fix_s21'));
	const state = new pci_p2pdma_map_state();
	// the address of then, and a way back
	EXPECT_EQ(LOW, hmm_dma_map_pfn(nic, map, 0n, state) as bigint);
	EXPECT_TRUE(hmm_dma_unmap_pfn(nic, map, 0n));
	EXPECT_EQ(ram(0), map.pfn_list![0]!);
	run(() => devres_release_all(dev('GPU0').dev));
});

TEST('fix_s22_stale_bus_bit_is_taken_away', () => {
	bootWithP2p({ iommu: INTEL });
	ASSERT_TRUE(switchOn('fix_s22'));
	const nic = dev('NIC1');
	const map = allocFor(nic, 'iommu');
	mapPfn(nic, map, 0, ram(0, HMM_PFN_P2PDMA_BUS));
	EXPECT_STREQ('M', sticky(map, 0));
	EXPECT_TRUE(unmap(nic, map, 0));
	// nothing is in the way of the next page
	const addr = mapPfn(nic, map, 0, ram(1));
	EXPECT_STREQ('8*17', runs(deviceRead(nic, addr, 8)));
	EXPECT_TRUE(unmap(nic, map, 0));
	// nor of one behind the host bridge
	mapPfn(nic, map, 1, p2p(1, HMM_PFN_P2PDMA_BUS));
	EXPECT_STREQ('MP', sticky(map, 1));
	EXPECT_TRUE(unmap(nic, map, 1));
	hmm_dma_map_free(nic.dev, map);
	run(() => devres_release_all(dev('GPU0').dev));
});

TEST('forced_bouncing_leaves_bus_addresses_only', () => {
	bootWithP2p({ dma: { swiotlb: 'force' } });
	const near = dev('NIC0');
	const far = dev('NIC1');
	const map = allocFor(near, 'direct');
	// what is used by both sides at once cannot be bounced
	EXPECT_EQ(DMA_MAPPING_ERROR, mapPfn(near, map, 0, ram(0)));
	EXPECT_STREQ('-', sticky(map, 0));
	EXPECT_EQ(gpuBar.bus, mapPfn(near, map, 1, p2p(0)));
	EXPECT_TRUE(unmap(near, map, 1));
	const other = allocFor(far, 'direct');
	EXPECT_EQ(DMA_MAPPING_ERROR, mapPfn(far, other, 0, p2p(0)));
	EXPECT_STREQ('-', sticky(other, 0));
	// the first bounce of the device ends it
	const addr = dma_map_phys(near.dev, LOW, PAGE, DMA_BIDIRECTIONAL, 0n);
	EXPECT_EQ(0, dma_mapping_error(near.dev, addr));
	dma_unmap_phys(near.dev, addr, PAGE, DMA_BIDIRECTIONAL, 0n);
	EXPECT_EQ(-EOPNOTSUPP, hmm_dma_map_alloc(near.dev, new hmm_dma_map(), 4n, PAGE));
	hmm_dma_map_free(far.dev, other);
	hmm_dma_map_free(near.dev, map);
	run(() => devres_release_all(dev('GPU0').dev));
});
