// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: coherent device memory is reached as RAM is, by the DMA API, while its device is online, and
 * not at all when it is not. Method: a NIC on the standard machine maps a page of it and reads it.
 */
import type { Machine } from '../../../arch/sim/machine.ts';
import { CoherentMemory } from '../../../drivers/fabric/coherent.ts';
import { p2pdma_attach, p2pdma_detach } from '../../../drivers/pci/p2pdma/provider_ops.ts';
import { device } from '../../../include/linux/device.ts';
import { DMA_TO_DEVICE } from '../../../include/linux/dma-direction.ts';
import { EREMOTEIO } from '../../../include/linux/errno.ts';
import { pfn_to_page, pfn_valid } from '../../../include/linux/mmzone.ts';
import { is_device_coherent_page, is_pci_p2pdma_page } from '../../../include/linux/page-flags.ts';
import type { p2pdma_provider } from '../../../include/linux/pci-p2pdma.ts';
import {
	type scatterlist,
	sg_alloc_table,
	sg_dma_address,
	sg_dma_is_bus_address,
	sg_set_page,
	sg_table,
} from '../../../include/linux/scatterlist.ts';
import { GFP_KERNEL } from '../../../include/linux/types.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { world } from '../../../include/sim/world.ts';
import { boot } from '../../../init/main.ts';
import { dma_map_sgtable, dma_unmap_sgtable } from '../../../kernel/dma/mapping.ts';
import { run } from '../../../kernel/sched/core.ts';
import {
	ASSERT_EQ,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../../kselftest_harness.ts';
import { dev, standardMachine } from '../pci/machines.ts';

const BASE = 0x4000_0000n;
const SIZE = 0x20_0000n;

const coherent = FIXTURE(
	'coherent',
	() => ({ memory: null as unknown as CoherentMemory, table: new sg_table() }),
	FIXTURE_VARIANT({ iommu: false }),
);
FIXTURE_VARIANT_ADD(coherent, 'direct', { iommu: false });
FIXTURE_VARIANT_ADD(coherent, 'iommu', { iommu: true });
FIXTURE_SETUP(coherent, (self, { iommu }) => {
	boot(standardMachine({ iommu }), 'v7.3', { proposals: ['fabric_provider'] });
	self.memory = new CoherentMemory(new device({ init_name: 'mem0' }), BASE, SIZE);
	ASSERT_EQ(
		0,
		run(() => self.memory.probe()),
	);
	self.table = new sg_table();
	ASSERT_EQ(0, sg_alloc_table(self.table, 1, GFP_KERNEL));
	sg_set_page(self.table.sgl as scatterlist, pfn_to_page(BASE >> 12n), 4096, 0);
});
FIXTURE_TEARDOWN(coherent, ({ memory }) => {
	run(() => memory.remove());
	EXPECT_FALSE(pfn_valid(BASE >> 12n));
	EXPECT_FALSE((world().machine as Machine).ram.has(Number(BASE >> 12n)));
});

function map(table: sg_table): number {
	return dma_map_sgtable(dev('NIC1').dev, table, DMA_TO_DEVICE, 0n);
}

TEST_F(coherent, 'F26_is_mapped_as_ram_and_its_bytes_are_read', ({ table }, { iommu }) => {
	const page = pfn_to_page(BASE >> 12n);
	EXPECT_TRUE(is_device_coherent_page(page));
	EXPECT_FALSE(is_pci_p2pdma_page(page));
	const machine = world().machine as Machine;
	machine.cpuWrite(BASE, new Uint8Array([1, 2, 3, 4]));
	ASSERT_EQ(0, map(table));
	const sg = table.sgl as scatterlist;
	EXPECT_FALSE(sg_dma_is_bus_address(sg));
	const at = sg_dma_address(sg) as bigint;
	EXPECT_EQ(iommu, at !== BASE);
	const read = machine.fabric.read(dev('NIC1').dev.init_name, at, 4);
	EXPECT_EQ('SC', read.status);
	EXPECT_EQ('1,2,3,4', [...read.data!].join());
	dma_unmap_sgtable(dev('NIC1').dev, table, DMA_TO_DEVICE, 0n);
});

TEST_F(coherent, 'F26_offline_memory_is_refused_after_its_users_let_go', ({ memory, table }) => {
	const told: p2pdma_provider[] = [];
	const user = {
		dev: dev('NIC1').dev,
		*invalidate(provider: p2pdma_provider): Sim<void> {
			told.push(provider);
		},
	};
	ASSERT_EQ(
		0,
		run(() => p2pdma_attach(memory.provider, user)),
	);
	run(() => memory.setOnline(false));
	EXPECT_EQ(1, told.length);
	EXPECT_EQ(memory.provider, told[0]);
	EXPECT_EQ(-EREMOTEIO, map(table));
	run(() => memory.setOnline(true));
	EXPECT_EQ(0, map(table));
	dma_unmap_sgtable(dev('NIC1').dev, table, DMA_TO_DEVICE, 0n);
	run(() => p2pdma_detach(memory.provider, user));
});
