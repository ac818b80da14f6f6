// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: what the DMA API hears about a pair, and how long it is remembered. Method: the standard
 * machine with a provider on GPU0, and ACS words that change behind the cache's back.
 */

import { device_release_driver } from '../../../drivers/base/dd.ts';
import { devres_release_all } from '../../../drivers/base/devres.ts';
import { pci_write_config_word } from '../../../drivers/pci/access.ts';
import { cachedMapType, forgetMapTypes, map_types_idx } from '../../../drivers/pci/p2pdma/cache.ts';
import { pci_p2pdma_distance } from '../../../drivers/pci/p2pdma/distance.ts';
import { pci_p2pdma_map_segment } from '../../../drivers/pci/p2pdma/map_segment.ts';
import {
	mapTypeNumber,
	pci_p2pdma_map_type,
	pci_p2pdma_state,
} from '../../../drivers/pci/p2pdma/map_type.ts';
import { pci_p2pdma_add_resource } from '../../../drivers/pci/p2pdma/memory.ts';
import { p2pdmaOf, to_p2p_pgmap } from '../../../drivers/pci/p2pdma/objects.ts';
import { pcim_p2pdma_init, pcim_p2pdma_provider } from '../../../drivers/pci/p2pdma/provider.ts';
import { device } from '../../../include/linux/device.ts';
import type { page } from '../../../include/linux/mm_types.ts';
import { memoryMap, page_to_pfn, pfn_to_page } from '../../../include/linux/mmzone.ts';
import { page_pgmap } from '../../../include/linux/page-flags.ts';
import { pci_name, pci_resource_start, to_pci_dev } from '../../../include/linux/pci.ts';
import {
	PCI_P2PDMA_MAP_BUS_ADDR,
	PCI_P2PDMA_MAP_NONE,
	PCI_P2PDMA_MAP_NOT_SUPPORTED,
	PCI_P2PDMA_MAP_THRU_HOST_BRIDGE,
	PCI_P2PDMA_MAP_UNKNOWN,
	type p2pdma_provider,
	pci_p2pdma_bus_addr_map,
	pci_p2pdma_map_state,
} from '../../../include/linux/pci-p2pdma.ts';
import {
	scatterlist,
	sg_dma_is_bus_address,
	sg_set_page,
} from '../../../include/linux/scatterlist.ts';
import { injectFaults } from '../../../include/sim/fault_injection.ts';
import { HarnessError } from '../../../include/sim/report.ts';
import { world } from '../../../include/sim/world.ts';
import { PCI_ACS_CTRL } from '../../../include/uapi/linux/pci_regs.ts';
import { touchesOf } from '../../kernel/footprint.ts';
import {
	ASSERT_EQ,
	ASSERT_NE,
	EXPECT_EQ,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST,
	TEST_F,
} from '../../kselftest_harness.ts';
import { bootPci, dev, gpuBar, standardMachine } from './machines.ts';

const BUS = PCI_P2PDMA_MAP_BUS_ADDR;
const THRU = PCI_P2PDMA_MAP_THRU_HOST_BRIDGE;
const NO = PCI_P2PDMA_MAP_NOT_SUPPORTED;

function setAcs(name: Parameters<typeof dev>[0], word: number): void {
	pci_write_config_word(dev(name), dev(name).acs_cap + PCI_ACS_CTRL, word);
}

const maps = FIXTURE('map_type', () => ({ mem: null as unknown as p2pdma_provider }));
FIXTURE_SETUP(maps, function* (self) {
	bootPci(standardMachine());
	ASSERT_EQ(0, yield* pcim_p2pdma_init(dev('GPU0')));
	const mem = pcim_p2pdma_provider(dev('GPU0'), gpuBar.bar);
	ASSERT_NE(null, mem);
	self.mem = mem;
});
FIXTURE_TEARDOWN(maps, function* () {
	yield* devres_release_all(dev('GPU0').dev);
});

TEST_F(maps, 'verdict_is_computed_once_and_never_again', ({ mem }) => {
	const nic = dev('NIC0');
	EXPECT_EQ(PCI_P2PDMA_MAP_UNKNOWN, cachedMapType(dev('GPU0'), nic));
	EXPECT_EQ(BUS, pci_p2pdma_map_type(mem, nic.dev));
	setAcs('DSP0', 0x0c);
	EXPECT_EQ(BUS, pci_p2pdma_map_type(mem, nic.dev));
	// A distance query computes anew and stores.
	EXPECT_EQ(4, pci_p2pdma_distance(dev('GPU0'), nic.dev, false));
	EXPECT_EQ(THRU, pci_p2pdma_map_type(mem, nic.dev));
	setAcs('DSP0', 0);
	EXPECT_EQ(THRU, pci_p2pdma_map_type(mem, nic.dev));
	forgetMapTypes(dev('GPU0'));
	EXPECT_EQ(BUS, pci_p2pdma_map_type(mem, nic.dev));
});

TEST_F(maps, 'verdict_that_cannot_be_stored_is_computed_again', ({ mem }) => {
	injectFaults().fail('xa_store', 1);
	EXPECT_EQ(BUS, pci_p2pdma_map_type(mem, dev('NIC0').dev));
	setAcs('DSP0', 0x0c);
	EXPECT_EQ(THRU, pci_p2pdma_map_type(mem, dev('NIC0').dev));
});

TEST_F(maps, 'verdicts_of_two_clients_are_told_apart_in_the_footprint', ({ mem }) => {
	const p2pdma = p2pdmaOf(dev('GPU0'))!;
	for (const name of ['NIC0', 'NIC1'] as const) {
		const key = map_types_idx(dev(name));
		const ask = (): unknown => pci_p2pdma_map_type(mem, dev(name).dev);
		EXPECT_STREQ(
			`read map_types ${key} 1, write map_types ${key} 1`,
			touchesOf(p2pdma, ask),
		);
		EXPECT_STREQ(`read map_types ${key} 1`, touchesOf(p2pdma, ask));
	}
});

TEST_F(maps, 'cold_cache_is_filled_verbosely', ({ mem }) => {
	world().log.length = 0;
	EXPECT_EQ(NO, pci_p2pdma_map_type(mem, dev('NIC2').dev));
	EXPECT_EQ(1, world().log.length);
	EXPECT_EQ(NO, pci_p2pdma_map_type(mem, dev('NIC2').dev));
	EXPECT_EQ(1, world().log.length);
});

TEST_F(maps, 'F27_soc_device_is_not_supported_and_its_parents_are_not_looked_at', ({ mem }) => {
	EXPECT_EQ(NO, pci_p2pdma_map_type(mem, new device({ init_name: 'soc0' })));
	const child = new device({ init_name: 'child', parent: dev('NIC0').dev });
	EXPECT_EQ(NO, pci_p2pdma_map_type(mem, child));
	EXPECT_EQ(4, pci_p2pdma_distance(dev('GPU0'), child, false));
});

TEST_F(maps, 'clients_with_the_same_bus_number_in_two_domains_are_told_apart', () => {
	const key = map_types_idx(dev('NIC0'));
	dev('NIC0').bus.domain_nr = 0x1_0000;
	EXPECT_EQ(key + 0x1_0000_0000, map_types_idx(dev('NIC0')));
});

TEST_F(maps, 'unbound_provider_supports_nobody', function* ({ mem }) {
	EXPECT_EQ(BUS, pci_p2pdma_map_type(mem, dev('NIC0').dev));
	yield* devres_release_all(dev('GPU0').dev);
	EXPECT_EQ(NO, pci_p2pdma_map_type(mem, dev('NIC0').dev));
	EXPECT_EQ(PCI_P2PDMA_MAP_UNKNOWN, cachedMapType(dev('GPU0'), dev('NIC0')));
});

TEST('numbers_are_those_of_the_profile', () => {
	bootPci(standardMachine(), 'v7.3');
	EXPECT_EQ('0,1,2,3,4', ([0, 1, 2, 3, 4] as const).map(mapTypeNumber).join());
	bootPci(standardMachine(), 'v6.12');
	EXPECT_EQ('0,1,2,3', ([0, 2, 3, 4] as const).map(mapTypeNumber).join());
	try {
		mapTypeNumber(PCI_P2PDMA_MAP_NONE);
	} catch (error) {
		EXPECT_TRUE(error instanceof HarnessError);
		return;
	}
	EXPECT_TRUE(false);
});

const pages = FIXTURE('p2p_page', () => ({ page: null as unknown as page }));
FIXTURE_SETUP(pages, function* (self) {
	bootPci(standardMachine());
	memoryMap().add({ start: 0x100, end: 0x200, pgmap: null, idle: 0 });
	ASSERT_EQ(
		0,
		yield* pci_p2pdma_add_resource(dev('GPU0'), gpuBar.bar, 0x40_0000n, 0x20_0000n),
	);
	self.page = pfn_to_page(((gpuBar.phys + 0x20_0000n) >> 12n) + 3n);
});
FIXTURE_TEARDOWN(pages, function* () {
	yield* device_release_driver(dev('GPU0').dev);
	yield* devres_release_all(dev('GPU0').dev);
});

TEST_F(pages, 'F11_page_leads_to_provider_bar_and_offset_by_its_pgmap_alone', ({ page }) => {
	const { mem } = to_p2p_pgmap(page_pgmap(page));
	const owner = to_pci_dev(mem.owner);
	EXPECT_EQ('0000:03:00.0', pci_name(owner));
	const bar = owner.resource.findIndex(
		(res) =>
			res.flags !== 0n &&
			page_to_pfn(page) >= res.start >> 12n &&
			page_to_pfn(page) <= res.end >> 12n,
	);
	EXPECT_EQ(gpuBar.bar, bar);
	const offset =
		((page_to_pfn(page) as bigint) << 12n) - (pci_resource_start(owner, bar) as bigint);
	EXPECT_EQ(0x20_3000n, offset);
	EXPECT_EQ(mem, pcim_p2pdma_provider(owner, bar));
});

TEST_F(pages, 'F11_map_type_depends_on_the_requester', ({ page }) => {
	const ask = (name: 'NIC0' | 'NIC1' | 'NIC2') =>
		pci_p2pdma_state(new pci_p2pdma_map_state(), dev(name).dev, page);
	EXPECT_EQ(BUS, ask('NIC0'));
	EXPECT_EQ(THRU, ask('NIC1'));
	EXPECT_EQ(NO, ask('NIC2'));
	const soc = new device({ init_name: 'soc0' });
	EXPECT_EQ(NO, pci_p2pdma_state(new pci_p2pdma_map_state(), soc, page));
});

TEST_F(pages, 'ram_page_is_none_and_leaves_the_state_alone', ({ page }) => {
	const state = new pci_p2pdma_map_state();
	EXPECT_EQ(
		PCI_P2PDMA_MAP_NONE,
		pci_p2pdma_state(state, dev('NIC0').dev, pfn_to_page(0x100n)),
	);
	EXPECT_EQ(null, state.mem);
	EXPECT_EQ(BUS, pci_p2pdma_state(state, dev('NIC0').dev, page));
	EXPECT_EQ(
		PCI_P2PDMA_MAP_NONE,
		pci_p2pdma_state(state, dev('NIC0').dev, pfn_to_page(0x101n)),
	);
	EXPECT_EQ(BUS, state.map);
});

TEST_F(pages, 'state_remembers_the_provider_even_when_the_cache_changes', ({ page }) => {
	const state = new pci_p2pdma_map_state();
	EXPECT_EQ(BUS, pci_p2pdma_state(state, dev('NIC0').dev, page));
	setAcs('DSP0', 0x04);
	EXPECT_EQ(4, pci_p2pdma_distance(dev('GPU0'), dev('NIC0').dev, false));
	EXPECT_EQ(BUS, pci_p2pdma_state(state, dev('NIC0').dev, page));
	EXPECT_EQ(THRU, pci_p2pdma_state(new pci_p2pdma_map_state(), dev('NIC0').dev, page));
});

TEST_F(pages, 'bus_address_is_physical_address_plus_offset_modulo_2_64', ({ page }) => {
	const { mem } = to_p2p_pgmap(page_pgmap(page));
	EXPECT_EQ((1n << 64n) - 0x4000_0000_0000n, mem.bus_offset);
	EXPECT_EQ(gpuBar.bus + 5n, pci_p2pdma_bus_addr_map(mem, gpuBar.phys + 5n));
});

TEST('v6_12_segment_is_mapped_by_bus_address', function* () {
	bootPci(standardMachine(), 'v6.12');
	ASSERT_EQ(0, yield* pci_p2pdma_add_resource(dev('GPU0'), gpuBar.bar, 0x20_0000n, 0n));
	const sg = new scatterlist();
	sg_set_page(sg, pfn_to_page(gpuBar.phys >> 12n), 0x800, 0x100);
	const state = new pci_p2pdma_map_state();
	EXPECT_EQ(BUS, pci_p2pdma_map_segment(state, dev('NIC0').dev, sg));
	EXPECT_EQ(gpuBar.bus + 0x100n, sg.dma_address);
	EXPECT_EQ(0x800, sg.dma_length);
	EXPECT_TRUE(sg_dma_is_bus_address(sg));
	const other = new scatterlist();
	sg_set_page(other, pfn_to_page(gpuBar.phys >> 12n), 0x800, 0x100);
	EXPECT_EQ(THRU, pci_p2pdma_map_segment(new pci_p2pdma_map_state(), dev('NIC1').dev, other));
	EXPECT_EQ(0, other.dma_length);
	yield* devres_release_all(dev('GPU0').dev);
});
