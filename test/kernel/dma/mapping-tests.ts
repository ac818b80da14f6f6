// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: what the classic calls map, bounce and refuse, directly and through an IOMMU, in both
 * releases. Method: NICs read and write through the fabric; P2P pages are those of GPU0's BAR.
 */

import { devres_release_all } from '../../../drivers/base/devres.ts';
import { pci_write_config_word } from '../../../drivers/pci/access.ts';
import { pci_p2pdma_add_resource } from '../../../drivers/pci/p2pdma/memory.ts';
import type { device } from '../../../include/linux/device.ts';
import type { dma_map_ops } from '../../../include/linux/dma-map-ops.ts';
import { set_dma_ops } from '../../../include/linux/dma-map-ops.ts';
import {
	DMA_ATTR_CC_SHARED,
	DMA_ATTR_MMIO,
	DMA_ATTR_REQUIRE_COHERENT,
	DMA_BIDIRECTIONAL,
	DMA_BIT_MASK,
	DMA_FROM_DEVICE,
	DMA_MAPPING_ERROR,
	DMA_NONE,
	DMA_TO_DEVICE,
	dma_set_max_seg_size,
	dma_set_min_align_mask,
	dma_set_seg_boundary,
} from '../../../include/linux/dma-mapping.ts';
import { EINVAL, EIO, ENOMEM, EREMOTEIO } from '../../../include/linux/errno.ts';
import { pfn_to_page } from '../../../include/linux/mmzone.ts';
import {
	sg_alloc_table,
	sg_set_page,
	sg_table,
	sgEntries,
} from '../../../include/linux/scatterlist.ts';
import { GFP_KERNEL, type out, outParam, SIZE_MAX } from '../../../include/linux/types.ts';
import { injectFaults } from '../../../include/sim/fault_injection.ts';
import { HarnessError, KernelOops } from '../../../include/sim/report.ts';
import { PCI_ACS_CTRL } from '../../../include/uapi/linux/pci_regs.ts';
import { phys_to_virt } from '../../../kernel/dma/linear_map.ts';
import {
	dma_addressing_limited,
	dma_alloc_coherent,
	dma_free_coherent,
	dma_get_merge_boundary,
	dma_get_required_mask,
	dma_map_page_attrs,
	dma_map_phys,
	dma_map_resource,
	dma_map_sg_attrs,
	dma_map_sgtable,
	dma_map_single_attrs,
	dma_mapping_error,
	dma_max_mapping_size,
	dma_need_sync,
	dma_need_unmap,
	dma_opt_mapping_size,
	dma_pci_p2pdma_supported,
	dma_set_coherent_mask,
	dma_set_mask,
	dma_set_mask_and_coherent,
	dma_sync_sgtable_for_cpu,
	dma_sync_sgtable_for_device,
	dma_sync_single_for_cpu,
	dma_sync_single_for_device,
	dma_sync_single_range_for_cpu,
	dma_sync_single_range_for_device,
	dma_unmap_page_attrs,
	dma_unmap_phys,
	dma_unmap_resource,
	dma_unmap_sgtable,
	dma_unmap_single_attrs,
} from '../../../kernel/dma/mapping.ts';
import { ioTlbDefaultMem } from '../../../kernel/dma/swiotlb.ts';
import { dev, gpuBar } from '../../drivers/pci/machines.ts';
import {
	ASSERT_EQ,
	ASSERT_NE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	expectReport,
	TEST,
} from '../../kselftest_harness.ts';
import { switchOn } from '../../support/switch_on.ts';
import {
	bootDma,
	deviceRead,
	deviceWrite,
	fill,
	HIGH,
	LOW,
	nic,
	peek,
	runs,
} from './dma_machine.ts';

const KIB4 = 0x1000n;
const intel = { kind: 'intel', domains: 'dma' } as const;
const BI = DMA_BIDIRECTIONAL;

function d(): device {
	return nic().dev;
}

function map(phys: bigint, size: bigint, attrs = 0n, dir: 0 | 1 | 2 = BI): bigint {
	const addr = dma_map_phys(d(), phys, size, dir, attrs) as bigint;
	dma_mapping_error(d(), addr);
	return addr;
}

function used(): number {
	return ioTlbDefaultMem().defpool.used;
}

/** A table of physical ranges. */
function table(...ranges: readonly (readonly [bigint, number])[]): sg_table {
	const sgt = new sg_table();
	ASSERT_EQ(0, sg_alloc_table(sgt, ranges.length, GFP_KERNEL));
	let i = 0;
	for (const sg of sgEntries(sgt.sgl, ranges.length)) {
		const [phys, length] = ranges[i++]!;
		sg_set_page(sg, pfn_to_page(phys >> 12n), length, Number(phys & 0xfffn));
	}
	return sgt;
}

/** The device's view: `offset from the first, bytes, B for a bus address`. */
function view(sgt: sg_table): string {
	const first = sgt.sgl!.dma_address as bigint;
	return [...sgEntries(sgt.sgl, sgt.nents)]
		.map((sg) => {
			const at = (sg.dma_address as bigint) - first;
			return `${at.toString(16)}+${sg.dma_length.toString(16)}${sg.dma_flags & 1 ? 'B' : ''}`;
		})
		.join(' ');
}

TEST('direct_address_is_the_physical_one', () => {
	bootDma();
	fill(LOW, 4096, 3);
	const addr = map(LOW + 8n, 16n);
	EXPECT_EQ(LOW + 8n, addr);
	EXPECT_STREQ('16*3', runs(deviceRead(nic(), addr, 16)));
	EXPECT_FALSE(dma_need_unmap(d()));
	dma_unmap_phys(d(), addr, 16n, BI, 0n);
	EXPECT_TRUE(dma_pci_p2pdma_supported(d()));
});

TEST('direct_range_map_shifts_addresses', () => {
	bootDma();
	d().dma_range_map = [{ cpu_start: LOW, dma_start: 0x8000_0000n, size: 0x10000n }];
	const addr = map(LOW + KIB4, 16n);
	EXPECT_EQ(0x8000_1000n, addr);
	dma_unmap_phys(d(), addr, 16n, BI, 0n);
	EXPECT_TRUE(dma_addressing_limited(d()));
	expectReport(/DMA addr 0xffffffffffffffff\+16 overflow/);
	EXPECT_EQ(DMA_MAPPING_ERROR, map(0x100_0000n, 16n));
});

TEST('direct_bounces_what_the_mask_does_not_reach', () => {
	bootDma({ high: true });
	EXPECT_EQ(0, dma_set_mask(d(), DMA_BIT_MASK(32)));
	EXPECT_TRUE(dma_addressing_limited(d()));
	EXPECT_EQ(0x40000n, dma_max_mapping_size(d()));
	fill(HIGH, 4096, 0x11);
	const addr = map(HIGH, 512n);
	ASSERT_NE(DMA_MAPPING_ERROR, addr);
	EXPECT_EQ(1, used());
	EXPECT_TRUE(dma_need_unmap(d()));
	EXPECT_TRUE(dma_need_sync(d(), addr));
	EXPECT_STREQ('512*17', runs(deviceRead(nic(), addr, 512)));
	EXPECT_STREQ('SC', deviceWrite(nic(), addr, new Uint8Array(4).fill(1)));
	EXPECT_STREQ('8*17', runs(peek(HIGH, 8)));
	dma_sync_single_for_cpu(d(), addr, 512n, BI);
	EXPECT_STREQ('4*1 4*17', runs(peek(HIGH, 8)));
	fill(HIGH, 8, 0x22);
	dma_sync_single_range_for_device(d(), addr, 0n, 8n, BI);
	EXPECT_STREQ('8*34', runs(deviceRead(nic(), addr, 8)));
	EXPECT_STREQ('SC', deviceWrite(nic(), addr, new Uint8Array(4).fill(5)));
	dma_sync_single_range_for_cpu(d(), addr, 0n, 2n, BI);
	EXPECT_STREQ('2*5 6*34', runs(peek(HIGH, 8)));
	dma_unmap_phys(d(), addr, 512n, BI, 0n);
	EXPECT_STREQ('4*5 4*34', runs(peek(HIGH, 8)));
	EXPECT_EQ(0, used());
	expectReport(/DMA addr 0x0000000100000000\+16 overflow \(mask ffffffff, bus limit 0\)/);
	EXPECT_EQ(DMA_MAPPING_ERROR, map(HIGH, 16n, DMA_ATTR_REQUIRE_COHERENT));
	EXPECT_EQ(DMA_MAPPING_ERROR, map(HIGH, 16n, DMA_ATTR_MMIO));
});

TEST('bounce_that_is_too_long_or_without_room_fails', () => {
	bootDma({ high: true });
	EXPECT_EQ(0, dma_set_mask(d(), DMA_BIT_MASK(32)));
	EXPECT_EQ(DMA_MAPPING_ERROR, map(HIGH, 0x40001n));
	dma_set_min_align_mask(d(), 0xfff);
	EXPECT_EQ(0x3f000n, dma_max_mapping_size(d()));
	const kept = map(HIGH + 0xabcn, 64n);
	EXPECT_EQ(0xabcn, kept & 0xfffn);
	injectFaults().fail('swiotlb_tbl_map_single', 1);
	EXPECT_EQ(DMA_MAPPING_ERROR, map(HIGH, 64n));
	dma_unmap_phys(d(), kept, 64n, BI, 0n);
});

TEST('unmap_as_mmio_loses_the_slots', () => {
	bootDma({ high: true });
	EXPECT_EQ(0, dma_set_mask(d(), DMA_BIT_MASK(32)));
	const addr = map(HIGH, 64n);
	expectReport(/frees DMA memory with different attributes/);
	dma_unmap_phys(d(), addr, 64n, BI, DMA_ATTR_MMIO);
	EXPECT_EQ(1, used());
	expectReport(/swiotlb: 1 bounce slots in use, and nothing is mapped/);
});

TEST('swiotlb_force_bounces_all_but_mmio', () => {
	bootDma({ dma: { swiotlb: 'force' } });
	fill(LOW, 64, 9);
	const addr = map(LOW, 64n, 0n, DMA_TO_DEVICE);
	EXPECT_NE(LOW, addr);
	EXPECT_STREQ('64*9', runs(deviceRead(nic(), addr, 64)));
	EXPECT_EQ(DMA_MAPPING_ERROR, map(LOW, 64n, DMA_ATTR_MMIO));
	EXPECT_EQ(DMA_MAPPING_ERROR, map(LOW, 64n, DMA_ATTR_REQUIRE_COHERENT));
	dma_unmap_phys(d(), addr, 64n, DMA_TO_DEVICE, 0n);
});

TEST('bouncing_what_has_no_page_is_an_oops', () => {
	bootDma({ dma: { swiotlb: 'force' } });
	let message = '';
	expectReport(/unable to handle page fault for address: [0-9a-f]{16}$/m);
	try {
		map(gpuBar.phys, 64n);
	} catch (error) {
		if (error instanceof KernelOops) ({ message } = error);
	}
	EXPECT_TRUE(message.includes('has no struct page'));
	expectReport(/bounce slots in use/);
});

TEST('masks_and_sizes', () => {
	bootDma({ high: true });
	EXPECT_EQ(DMA_BIT_MASK(33), dma_get_required_mask(d()));
	EXPECT_EQ(-EIO, dma_set_mask(d(), DMA_BIT_MASK(31)));
	EXPECT_EQ(-EIO, dma_set_coherent_mask(d(), DMA_BIT_MASK(24)));
	EXPECT_EQ(-EIO, dma_set_mask_and_coherent(d(), DMA_BIT_MASK(24)));
	EXPECT_EQ(0, dma_set_mask_and_coherent(d(), DMA_BIT_MASK(40)));
	EXPECT_FALSE(dma_addressing_limited(d()));
	EXPECT_EQ(SIZE_MAX, dma_max_mapping_size(d()));
	EXPECT_EQ(SIZE_MAX, dma_opt_mapping_size(d()));
	EXPECT_EQ(0n, dma_get_merge_boundary(d()));
	d().bus_dma_limit = DMA_BIT_MASK(32);
	EXPECT_TRUE(dma_addressing_limited(d()));
});

TEST('iommu_takes_any_mask', () => {
	bootDma({ iommu: intel, high: true });
	EXPECT_EQ(0, dma_set_mask(d(), DMA_BIT_MASK(20)));
	EXPECT_EQ(DMA_BIT_MASK(32), dma_get_required_mask(d()));
	EXPECT_TRUE(dma_addressing_limited(d()));
	EXPECT_EQ(0x20000n, dma_opt_mapping_size(d()));
	EXPECT_EQ(0xfffn, dma_get_merge_boundary(d()));
	const addr = map(HIGH, KIB4);
	EXPECT_TRUE(addr < 0x10_0000n);
	EXPECT_TRUE(dma_need_unmap(d()));
	dma_unmap_phys(d(), addr, KIB4, BI, 0n);
	nic().untrusted = true;
	EXPECT_EQ(0x40000n, dma_max_mapping_size(d()));
});

TEST('iommu_maps_pages_and_faults_elsewhere', () => {
	const machine = bootDma({ iommu: intel });
	fill(LOW, 8192, 4);
	const addr = map(LOW + 0x10n, 32n);
	EXPECT_EQ(0x10n, addr & 0xfffn);
	EXPECT_STREQ('32*4', runs(deviceRead(nic(), addr, 32)));
	EXPECT_STREQ('UR', runs(deviceRead(nic(), addr + KIB4, 32)));
	// Another device has another address space.
	EXPECT_STREQ('UR', runs(deviceRead(dev('NIC2'), addr, 32)));
	EXPECT_TRUE(machine.iommu!.lastFault().startsWith('DMAR: [DMA Read NO_PASID]'));
	EXPECT_EQ(DMA_MAPPING_ERROR, map(LOW, 32n, DMA_ATTR_CC_SHARED));
	dma_set_min_align_mask(d(), 0x1fff);
	expectReport(/Unsupported alignment constraint/);
	EXPECT_EQ(DMA_MAPPING_ERROR, map(LOW, 32n));
	dma_unmap_phys(d(), addr, 32n, BI, 0n);
	EXPECT_STREQ('UR', runs(deviceRead(nic(), addr, 32)));
	expectReport(/device driver tries to free DMA memory it has not allocated/);
	expectReport(/at iommu_dma_unmap_phys: !phys/);
	dma_unmap_phys(d(), addr, 32n, BI, 0n);
});

TEST('iommu_iova_is_no_bus_address', () => {
	const machine = bootDma({ iommu: intel });
	for (const { cpu, bus, size } of machine.fabric.hosts.flatMap((h) => h.windows))
		EXPECT_TRUE(cpu !== bus && size > 0n);
	const addr = map(LOW, KIB4);
	// The interrupt window is left out as well.
	EXPECT_FALSE(addr >= 0xfee0_0000n && addr < 0xfef0_0000n);
	dma_unmap_phys(d(), addr, KIB4, BI, 0n);
});

TEST('page_single_and_resource', () => {
	bootDma();
	const p = pfn_to_page(LOW >> 12n);
	EXPECT_EQ(DMA_MAPPING_ERROR, dma_map_page_attrs(d(), p, 0n, 64n, BI, DMA_ATTR_MMIO));
	const single = dma_map_single_attrs(d(), phys_to_virt(LOW + 4n), 8n, BI, 0n);
	EXPECT_EQ(0, dma_mapping_error(d(), single));
	EXPECT_EQ(LOW + 4n, single);
	dma_unmap_single_attrs(d(), single, 8n, BI, 0n);
	expectReport(/rejecting DMA map of vmalloc memory/);
	const vmalloc = dma_map_single_attrs(d(), 0xffff_c900_0000_1000n, 8n, BI, 0n);
	EXPECT_EQ(-ENOMEM, dma_mapping_error(d(), vmalloc));
	EXPECT_EQ(0, dma_set_mask(d(), DMA_BIT_MASK(64)));
	const bar = dma_map_resource(d(), gpuBar.phys, 64n, BI, 0n);
	EXPECT_EQ(0, dma_mapping_error(d(), bar));
	EXPECT_EQ(gpuBar.phys, bar);
	dma_unmap_resource(d(), bar, 64n, BI, 0n);
	injectFaults().fail('dma_map_phys', 1);
	EXPECT_EQ(DMA_MAPPING_ERROR, dma_map_page_attrs(d(), p, 0n, 64n, BI, 0n));
});

TEST('bad_direction_is_a_bug_and_no_mask_a_warning', () => {
	bootDma();
	let bug = false;
	expectReport(/kernel BUG at .*valid_dma_direction/);
	try {
		dma_map_phys(d(), LOW, 8n, DMA_NONE, 0n);
	} catch (error) {
		bug = error instanceof KernelOops;
	}
	EXPECT_TRUE(bug);
	d().dma_mask = null;
	expectReport(/at dma_map_phys: !dev->dma_mask/);
	EXPECT_EQ(DMA_MAPPING_ERROR, map(LOW, 8n));
	expectReport(/at __dma_map_sg_attrs: !dev->dma_mask/);
	const sgt = table([LOW, 64]);
	EXPECT_EQ(0, dma_map_sgtable(d(), sgt, BI, 0n));
	EXPECT_EQ(0, sgt.nents);
});

TEST('coherent_memory_is_aligned_to_its_size_and_zeroed', function* () {
	for (const iommu of [null, intel]) {
		bootDma({ iommu });
		const handle: out<bigint> = outParam(0n);
		const virt = yield* dma_alloc_coherent(d(), 0x1800n, handle, GFP_KERNEL);
		ASSERT_NE(null, virt);
		EXPECT_EQ(0n, handle.value & 0x1fffn);
		EXPECT_STREQ('16*0', runs(deviceRead(nic(), handle.value, 16)));
		yield* dma_free_coherent(d(), 0x1800n, virt, handle.value);
		injectFaults().fail('dma_alloc_attrs', 1);
		EXPECT_EQ(null, yield* dma_alloc_coherent(d(), KIB4, handle, GFP_KERNEL));
	}
});

TEST('sg_iommu_merges_whole_pages', () => {
	bootDma({ iommu: intel });
	const sgt = table([LOW, 4096], [LOW + 0x10000n, 4096], [LOW + 0x20000n, 100], [LOW, 50]);
	fill(LOW, 4096, 1);
	fill(LOW + 0x10000n, 4096, 2);
	EXPECT_EQ(0, dma_map_sgtable(d(), sgt, BI, 0n));
	EXPECT_STREQ('0+2064 3000+32', view(sgt));
	EXPECT_STREQ('4096*1 4096*2', runs(deviceRead(nic(), sgt.sgl!.dma_address, 8192)));
	dma_sync_sgtable_for_cpu(d(), sgt, BI);
	dma_sync_sgtable_for_device(d(), sgt, BI);
	dma_unmap_sgtable(d(), sgt, BI, 0n);
	EXPECT_STREQ('UR', runs(deviceRead(nic(), sgt.sgl!.dma_address, 64)));

	dma_set_max_seg_size(d(), 4096);
	const limited = table([LOW, 4096], [LOW + 0x10000n, 4096]);
	EXPECT_EQ(0, dma_map_sgtable(d(), limited, BI, 0n));
	EXPECT_STREQ('0+1000 1000+1000', view(limited));
	dma_unmap_sgtable(d(), limited, BI, 0n);
});

TEST('sg_room_wraps_when_a_segment_is_too_long', () => {
	bootDma({ iommu: intel });
	dma_set_max_seg_size(d(), 2048);
	const sgt = table([LOW, 4096], [LOW + 0x10000n, 4096]);
	expectReport(
		/mapping sg segment longer than device claims to support \[len=4096\] \[max=2048\]/,
	);
	EXPECT_EQ(0, dma_map_sgtable(d(), sgt, BI, 0n));
	EXPECT_STREQ('0+2000', view(sgt));
	dma_unmap_sgtable(d(), sgt, BI, 0n);
});

TEST('sg_pads_to_the_segment_boundary', () => {
	bootDma({ iommu: intel });
	dma_set_seg_boundary(d(), 0x1fffn);
	const sgt = table([LOW, 4096], [LOW + 0x10000n, 8192]);
	EXPECT_EQ(0, dma_map_sgtable(d(), sgt, BI, 0n));
	EXPECT_STREQ('0+1000 2000+2000', view(sgt));
	dma_unmap_sgtable(d(), sgt, BI, 0n);
});

TEST('sg_failure_restores_the_list', () => {
	bootDma({ iommu: intel });
	const sgt = table([LOW + 0x10n, 100], [LOW + 0x10020n, 200]);
	for (const site of ['iommu_map', 'iommu_dma_alloc_iova', 'dma_map_sg']) {
		injectFaults().fail(site, 1);
		EXPECT_EQ(-ENOMEM, dma_map_sgtable(d(), sgt, BI, 0n));
		const shape = [...sgEntries(sgt.sgl, 2)].map((s) => `${s.offset}+${s.length}`);
		EXPECT_STREQ('16+100 32+200', shape.join(' '));
	}
	EXPECT_EQ(2, dma_map_sg_attrs(d(), sgt.sgl!, 2, DMA_FROM_DEVICE, 0n));
	dma_unmap_sgtable(d(), sgt, DMA_FROM_DEVICE, 0n);
});

for (const profile of ['v6.12', 'v7.3'] as const) {
	const suffix = profile.replace('.', '_');

	TEST(`p2p_segment_takes_the_bus_address_${suffix}`, function* () {
		for (const iommu of [null, intel]) {
			bootDma({ iommu, profile });
			// With an IOMMU the kernel turns ACS redirection on.
			for (const name of ['USP', 'DSP0', 'DSP1'] as const)
				pci_write_config_word(
					dev(name),
					dev(name).acs_cap + PCI_ACS_CTRL,
					0,
				);
			ASSERT_EQ(
				0,
				yield* pci_p2pdma_add_resource(dev('GPU0'), gpuBar.bar, 0n, 0n),
			);
			const near = dev('NIC0').dev;
			fill(gpuBar.phys, 4096, 0x77);
			const sgt = table([LOW, 4096], [gpuBar.phys, 4096], [LOW + KIB4, 4096]);
			EXPECT_EQ(0, dma_map_sgtable(near, sgt, BI, 0n));
			const [, bus] = [...sgEntries(sgt.sgl, sgt.nents)];
			EXPECT_EQ(3, sgt.nents);
			EXPECT_EQ(gpuBar.bus, bus!.dma_address);
			EXPECT_EQ(1, bus!.dma_flags);
			EXPECT_STREQ('8*119', runs(deviceRead(dev('NIC0'), bus!.dma_address, 8)));
			dma_unmap_sgtable(near, sgt, BI, 0n);
			EXPECT_EQ(0, bus!.dma_flags);
			// Behind another root port, and the host bridge is not known for it.
			const far = dev('NIC2').dev;
			EXPECT_EQ(-EREMOTEIO, dma_map_sgtable(far, sgt, BI, 0n));
			EXPECT_EQ(0, dma_map_sg_attrs(far, sgt.sgl!, 3, BI, 0n));
			const only = table([gpuBar.phys, 4096]);
			EXPECT_EQ(0, dma_map_sgtable(near, only, BI, 0n));
			dma_unmap_sgtable(near, only, BI, 0n);
			yield* devres_release_all(dev('GPU0').dev);
		}
	});

	TEST(`p2p_segment_through_the_host_bridge_is_merged_${suffix}`, function* () {
		bootDma({ iommu: intel, profile });
		ASSERT_EQ(0, yield* pci_p2pdma_add_resource(dev('GPU0'), gpuBar.bar, 0n, 0n));
		const near = dev('NIC0');
		fill(gpuBar.phys, 4096, 0x77);
		fill(LOW, 4096, 0x11);
		const sgt = table([LOW, 4096], [gpuBar.phys, 4096]);
		EXPECT_EQ(0, dma_map_sgtable(near.dev, sgt, BI, 0n));
		EXPECT_STREQ('0+2000', view(sgt));
		const bytes = deviceRead(near, sgt.sgl!.dma_address, 8192);
		EXPECT_STREQ('4096*17 4096*119', runs(bytes));
		dma_unmap_sgtable(near.dev, sgt, BI, 0n);
		yield* devres_release_all(dev('GPU0').dev);
	});

	TEST(`p2p_page_maps_like_ram_where_nobody_asks_${suffix}`, function* () {
		bootDma({ iommu: intel, profile });
		ASSERT_EQ(0, yield* pci_p2pdma_add_resource(dev('GPU0'), gpuBar.bar, 0n, 0n));
		const p = pfn_to_page(gpuBar.phys >> 12n);
		const far = dev('NIC2').dev;
		const addr = dma_map_page_attrs(far, p, 0n, 64n, BI, 0n);
		EXPECT_EQ(0, dma_mapping_error(far, addr));
		dma_unmap_page_attrs(far, addr, 64n, BI, 0n);
		yield* devres_release_all(dev('GPU0').dev);
	});

	TEST(`p2p_segment_beyond_the_mask_${suffix}`, function* () {
		bootDma({ high: true, profile });
		ASSERT_EQ(0, yield* pci_p2pdma_add_resource(dev('GPU0'), gpuBar.bar, 0n, 0n));
		const { dev: client } = nic();
		EXPECT_EQ(0, dma_set_mask(client, DMA_BIT_MASK(32)));
		const sgt = table([gpuBar.phys, 64]);
		fill(gpuBar.phys, 64, 0x66);
		if (profile === 'v6.12') {
			EXPECT_EQ(-EIO, dma_map_sgtable(client, sgt, BI, 0n));
		} else {
			// The BAR's bytes are bounced as if it were RAM.
			EXPECT_EQ(0, dma_map_sgtable(client, sgt, BI, 0n));
			EXPECT_STREQ('64*102', runs(deviceRead(nic(), sgt.sgl!.dma_address, 64)));
			EXPECT_EQ(1, used());
			dma_unmap_sgtable(client, sgt, BI, 0n);
		}
		yield* devres_release_all(dev('GPU0').dev);
	});
}

TEST('sg_untrusted_device_is_bounced_without_a_verdict', function* () {
	bootDma({ iommu: intel, high: true });
	ASSERT_EQ(0, yield* pci_p2pdma_add_resource(dev('GPU0'), gpuBar.bar, 0n, 0n));
	const client = dev('NIC2');
	client.untrusted = true;
	fill(LOW, 4096, 8);
	const sgt = table([LOW, 100], [gpuBar.phys, 4096]);
	EXPECT_EQ(0, dma_map_sgtable(client.dev, sgt, BI, 0n));
	EXPECT_EQ(2, sgt.nents);
	EXPECT_EQ(2, sgt.sgl!.dma_flags);
	EXPECT_STREQ('100*8 28*0', runs(deviceRead(client, sgt.sgl!.dma_address, 128)));
	dma_sync_sgtable_for_device(client.dev, sgt, BI);
	dma_sync_sgtable_for_cpu(client.dev, sgt, BI);
	dma_unmap_sgtable(client.dev, sgt, BI, 0n);
	EXPECT_EQ(0, used());
	dma_set_min_align_mask(client.dev, 0x1fff);
	expectReport(/Unsupported alignment constraint/);
	EXPECT_EQ(-EIO, dma_map_sgtable(client.dev, sgt, BI, 0n));
	yield* devres_release_all(dev('GPU0').dev);
});

TEST('fix_s12_segment_through_the_host_bridge_is_never_bounced', function* () {
	bootDma({ high: true });
	EXPECT_TRUE(switchOn('fix_s12'));
	ASSERT_EQ(0, yield* pci_p2pdma_add_resource(dev('GPU0'), gpuBar.bar, 0n, 0n));
	const { dev: client } = nic();
	EXPECT_EQ(0, dma_set_mask(client, DMA_BIT_MASK(32)));
	expectReport(/DMA addr .* overflow/);
	EXPECT_EQ(-EIO, dma_map_sgtable(client, table([gpuBar.phys, 64]), BI, 0n));
	EXPECT_EQ(0, used());
	EXPECT_EQ(0, dma_set_mask(client, DMA_BIT_MASK(64)));
	const sgt = table([gpuBar.phys, 64]);
	fill(gpuBar.phys, 64, 0x66);
	EXPECT_EQ(0, dma_map_sgtable(client, sgt, BI, 0n));
	EXPECT_STREQ('64*102', runs(deviceRead(nic(), sgt.sgl!.dma_address, 64)));
	dma_unmap_sgtable(client, sgt, BI, 0n);
	yield* devres_release_all(dev('GPU0').dev);
});

TEST('fix_s13_untrusted_device_is_asked_about', function* () {
	bootDma({ iommu: intel, high: true });
	EXPECT_TRUE(switchOn('fix_s13'));
	ASSERT_EQ(0, yield* pci_p2pdma_add_resource(dev('GPU0'), gpuBar.bar, 0n, 0n));
	// out of reach
	const far = dev('NIC2');
	far.untrusted = true;
	const refused = table([LOW, 100], [gpuBar.phys, 4096]);
	EXPECT_EQ(-EREMOTEIO, dma_map_sgtable(far.dev, refused, BI, 0n));
	EXPECT_EQ(0, used());
	// through the host bridge or by bus address, as a trusted one
	const near = dev('NIC0');
	near.untrusted = true;
	fill(gpuBar.phys, 4096, 0x77);
	const sgt = table([LOW, 100], [gpuBar.phys, 4096]);
	EXPECT_EQ(0, dma_map_sgtable(near.dev, sgt, BI, 0n));
	const [, second] = [...sgEntries(sgt.sgl!, 2)];
	EXPECT_STREQ('8*119', runs(deviceRead(near, second!.dma_address, 8)));
	dma_unmap_sgtable(near.dev, sgt, BI, 0n);
	EXPECT_EQ(0, used());
	yield* devres_release_all(dev('GPU0').dev);
});

TEST('fix_s16_no_mask_is_an_error', () => {
	bootDma();
	EXPECT_TRUE(switchOn('fix_s16'));
	d().dma_mask = null;
	expectReport(/at __dma_map_sg_attrs: !dev->dma_mask/);
	EXPECT_EQ(-EINVAL, dma_map_sgtable(d(), table([LOW, 64]), BI, 0n));
});

TEST('v6_12_maps_pages_and_resources', () => {
	for (const iommu of [null, intel]) {
		bootDma({ iommu, profile: 'v6.12' });
		EXPECT_EQ(0, dma_set_mask(d(), DMA_BIT_MASK(64)));
		fill(LOW, 64, 6);
		const p = pfn_to_page(LOW >> 12n);
		const page = dma_map_page_attrs(d(), p, 0n, 64n, BI, DMA_ATTR_MMIO);
		EXPECT_EQ(0, dma_mapping_error(d(), page));
		EXPECT_STREQ('64*6', runs(deviceRead(nic(), page, 64)));
		dma_unmap_page_attrs(d(), page, 64n, BI, DMA_ATTR_MMIO);
		const bar = dma_map_resource(d(), gpuBar.phys, 64n, BI, 0n);
		EXPECT_EQ(0, dma_mapping_error(d(), bar));
		dma_unmap_resource(d(), bar, 64n, BI, 0n);
		injectFaults().fail('dma_map_resource').fail('dma_map_page_attrs');
		EXPECT_EQ(DMA_MAPPING_ERROR, dma_map_resource(d(), gpuBar.phys, 64n, BI, 0n));
		EXPECT_EQ(DMA_MAPPING_ERROR, dma_map_page_attrs(d(), p, 0n, 64n, BI, 0n));
		let refused = false;
		try {
			map(LOW, 64n);
		} catch (error) {
			refused = error instanceof HarnessError;
		}
		EXPECT_TRUE(refused);
	}
	expectReport(/at dma_direct_map_resource: .*DMA addr .* overflow/);
	bootDma({ profile: 'v6.12' });
	EXPECT_EQ(0, dma_set_mask(d(), DMA_BIT_MASK(32)));
	EXPECT_EQ(DMA_MAPPING_ERROR, dma_map_resource(d(), gpuBar.phys, 64n, BI, 0n));
});

TEST('ops_of_a_device_are_asked', () => {
	bootDma();
	const calls: string[] = [];
	const ops: dma_map_ops = {
		map_phys: (_dev, phys) => {
			calls.push('map_phys');
			return (phys as bigint) + 0x1000_0000n;
		},
		unmap_phys: () => void calls.push('unmap_phys'),
		map_sg: () => -EREMOTEIO - 1,
		sync_single_for_cpu: () => void calls.push('sync_for_cpu'),
		sync_single_for_device: () => void calls.push('sync_for_device'),
		dma_supported: (_dev, mask) => (mask > 0xffffn ? 1 : 0),
		get_required_mask: () => 0xffff_ffn,
		max_mapping_size: () => 77n,
	};
	set_dma_ops(d(), ops);
	EXPECT_FALSE(dma_pci_p2pdma_supported(d()));
	EXPECT_EQ(-EIO, dma_set_mask(d(), 0xffn));
	EXPECT_EQ(0, dma_set_mask(d(), DMA_BIT_MASK(32)));
	EXPECT_FALSE(d().dma_skip_sync);
	EXPECT_TRUE(dma_need_unmap(d()));
	EXPECT_EQ(77n, dma_max_mapping_size(d()));
	EXPECT_FALSE(dma_addressing_limited(d()));
	const addr = map(LOW, 64n);
	EXPECT_EQ(LOW + 0x1000_0000n, addr);
	EXPECT_TRUE(dma_need_sync(d(), addr));
	dma_sync_single_for_cpu(d(), addr, 64n, BI);
	dma_sync_single_for_device(d(), addr, 64n, BI);
	dma_unmap_phys(d(), addr, 64n, BI, 0n);
	EXPECT_STREQ('map_phys sync_for_cpu sync_for_device unmap_phys', calls.join(' '));
	expectReport(/at __dma_map_sg_attrs: unexpected result of map_sg/);
	EXPECT_EQ(-EIO, dma_map_sgtable(d(), table([LOW, 64]), BI, 0n));
});
