// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: memory of a BAR is reached by each client as it may without any struct page (v7.3), and a
 * driver that is unbound while others hold addresses of it is reported. Method: GPU0's BAR of the
 * standard machine has providers only; NICs read it by the addresses that they get.
 */
import type { Machine } from '../../../arch/sim/machine.ts';
import { device_driver_attach, device_release_driver } from '../../../drivers/base/dd.ts';
import { pci_p2pdma_map_type } from '../../../drivers/pci/p2pdma/map_type.ts';
import { pcim_p2pdma_init, pcim_p2pdma_provider } from '../../../drivers/pci/p2pdma/provider.ts';
import { p2pdma_attach, p2pdma_detach } from '../../../drivers/pci/p2pdma/provider_ops.ts';
import { p2pmemAttribute } from '../../../drivers/pci/p2pdma/sysfs.ts';
import { DMA_TO_DEVICE } from '../../../include/linux/dma-direction.ts';
import { DMA_ATTR_MMIO } from '../../../include/linux/dma-mapping.ts';
import { memoryMap, pfn_valid } from '../../../include/linux/mmzone.ts';
import { type pci_dev, pci_resource_start } from '../../../include/linux/pci.ts';
import {
	PCI_P2PDMA_MAP_BUS_ADDR,
	PCI_P2PDMA_MAP_NOT_SUPPORTED,
	PCI_P2PDMA_MAP_THRU_HOST_BRIDGE,
	type p2pdma_provider,
	pci_p2pdma_bus_addr_map,
} from '../../../include/linux/pci-p2pdma.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { world } from '../../../include/sim/world.ts';
import { boot } from '../../../init/main.ts';
import { dma_map_phys, dma_mapping_error, dma_unmap_phys } from '../../../kernel/dma/mapping.ts';
import { run } from '../../../kernel/sched/core.ts';
import {
	ASSERT_EQ,
	ASSERT_NE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_STREQ,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../../kselftest_harness.ts';
import { dev, gpuBar, standardMachine } from './machines.ts';

const WORDS = new Uint8Array([0xca, 0xfe, 0xba, 0xbe, 1, 2, 3, 4]);
const OFFSET = 0x3000n;

/** A driver that offers its BARs and keeps nothing. */
const driver = {
	name: 'offers',
	*probe(): Sim<number> {
		return yield* pcim_p2pdma_init(dev('GPU0'));
	},
};

const bare = FIXTURE(
	'provider_only',
	() => ({ provider: null as unknown as p2pdma_provider }),
	FIXTURE_VARIANT({ iommu: false }),
);
FIXTURE_VARIANT_ADD(bare, 'direct', { iommu: false });
FIXTURE_VARIANT_ADD(bare, 'iommu', { iommu: true });
FIXTURE_SETUP(bare, (self, { iommu }) => {
	boot(standardMachine({ iommu }));
	// What an IOMMU driver switched on would send everything up to the root.
	for (const name of ['RP0', 'USP', 'DSP0', 'DSP1', 'RP1'] as const) {
		const port = dev(name);
		if (port.acs_cap !== 0) port.config.writeConfig(port.acs_cap + 6, 2, 0);
	}
	ASSERT_EQ(
		0,
		run(() => device_driver_attach(driver, dev('GPU0').dev)),
	);
	const provider = pcim_p2pdma_provider(dev('GPU0'), gpuBar.bar);
	ASSERT_NE(null, provider);
	self.provider = provider as p2pdma_provider;
	(world().machine as Machine).cpuWrite(gpuBar.phys + OFFSET, WORDS);
});
FIXTURE_TEARDOWN(bare, () => {
	run(() => device_release_driver(dev('GPU0').dev));
});

/** What a function reads at an address. */
function read(pdev: pci_dev, address: bigint): string {
	const { fabric } = world().machine as Machine;
	const { status, data } = fabric.read(pdev.dev.init_name, address, WORDS.length);
	return status === 'SC' ? [...data!].join() : status;
}

TEST_F(bare, 'F13_no_struct_page_and_no_pool_is_made', () => {
	EXPECT_FALSE(pfn_valid(gpuBar.phys >> 12n));
	EXPECT_EQ(0, memoryMap().ranges.filter(({ pgmap }) => pgmap !== null).length);
	EXPECT_NULL(p2pmemAttribute(dev('GPU0'), 'size'));
});

TEST_F(bare, 'F13_below_a_common_switch_the_address_is_computed', ({ provider }) => {
	const nic = dev('NIC0');
	ASSERT_EQ(PCI_P2PDMA_MAP_BUS_ADDR, pci_p2pdma_map_type(provider, nic.dev));
	const at = pci_p2pdma_bus_addr_map(provider, gpuBar.phys + OFFSET) as bigint;
	EXPECT_EQ(gpuBar.bus + OFFSET, at);
	EXPECT_STREQ(WORDS.join(), read(nic, at));
});

TEST_F(bare, 'F13_through_the_host_bridge_it_is_mapped_as_mmio', ({ provider }, { iommu }) => {
	const nic = dev('NIC1');
	nic.dev.dma_mask = (1n << 64n) - 1n;
	ASSERT_EQ(PCI_P2PDMA_MAP_THRU_HOST_BRIDGE, pci_p2pdma_map_type(provider, nic.dev));
	const phys = (pci_resource_start(dev('GPU0'), gpuBar.bar) as bigint) + OFFSET;
	const at = dma_map_phys(nic.dev, phys, 4096n, DMA_TO_DEVICE, DMA_ATTR_MMIO) as bigint;
	ASSERT_EQ(0, dma_mapping_error(nic.dev, at));
	EXPECT_EQ(iommu, at !== phys);
	EXPECT_STREQ(WORDS.join(), read(nic, at));
	dma_unmap_phys(nic.dev, at, 4096n, DMA_TO_DEVICE, DMA_ATTR_MMIO);
});

TEST_F(bare, 'F13_another_socket_is_refused', ({ provider }) => {
	EXPECT_EQ(PCI_P2PDMA_MAP_NOT_SUPPORTED, pci_p2pdma_map_type(provider, dev('NIC2').dev));
});

TEST_F(bare, 'F13_unbinding_under_a_live_user_is_reported', ({ provider }) => {
	const user = {
		dev: dev('NIC0').dev,
		*invalidate(): Sim<void> {
			// Nobody asks it to: it is the driver's duty to have it detached before.
		},
	};
	ASSERT_EQ(
		0,
		run(() => p2pdma_attach(provider, user)),
	);
	expectReport(/provider of 0000:03:00\.0 goes while 0000:04:00\.0 holds addresses/);
	run(() => device_release_driver(dev('GPU0').dev));
	EXPECT_NULL(dev('GPU0').p2pdma);
	run(() => p2pdma_detach(provider, user));
});
