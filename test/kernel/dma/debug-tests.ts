// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: each finding of dma-debug, in the kernel's wording; best fit among several mappings of one
 * address; what CONFIG_DMA_API_DEBUG changes in the API. Method: a NIC without an IOMMU, so that the
 * device address is the physical one.
 */
import { devres_release_all } from '../../../drivers/base/devres.ts';
import { pci_p2pdma_add_resource } from '../../../drivers/pci/p2pdma/memory.ts';
import type { device } from '../../../include/linux/device.ts';
import {
	DMA_ATTR_MMIO,
	DMA_ATTR_REQUIRE_COHERENT,
	DMA_ATTR_SKIP_CPU_SYNC,
	DMA_BIDIRECTIONAL,
	DMA_FROM_DEVICE,
	DMA_MAPPING_ERROR,
	DMA_TO_DEVICE,
	type dma_data_direction,
	dma_set_seg_boundary,
} from '../../../include/linux/dma-mapping.ts';
import { pfn_to_page } from '../../../include/linux/mmzone.ts';
import {
	sg_alloc_table,
	sg_set_page,
	sg_table,
	sgEntries,
} from '../../../include/linux/scatterlist.ts';
import { GFP_KERNEL, type out, outParam } from '../../../include/linux/types.ts';
import { world } from '../../../include/sim/world.ts';
import { dma_debug_device_change } from '../../../kernel/dma/debug.ts';
import {
	dma_alloc_coherent,
	dma_free_coherent,
	dma_map_page_attrs,
	dma_map_phys,
	dma_map_resource,
	dma_map_sg_attrs,
	dma_mapping_error,
	dma_need_unmap,
	dma_sync_sg_for_cpu,
	dma_sync_single_for_cpu,
	dma_sync_single_for_device,
	dma_unmap_page,
	dma_unmap_phys,
	dma_unmap_resource,
	dma_unmap_sg_attrs,
} from '../../../kernel/dma/mapping.ts';
import { dev, gpuBar } from '../../drivers/pci/machines.ts';
import {
	ASSERT_EQ,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	TEST,
	TEST_F,
} from '../../kselftest_harness.ts';
import { bootDma, LOW, nic } from './dma_machine.ts';

const at = '\\[device address=0x0000000002000000\\]';

function d(): device {
	return nic().dev;
}

function map(size: bigint, dir: dma_data_direction, attrs = 0n, phys = LOW): bigint {
	const addr = dma_map_phys(d(), phys, size, dir, attrs);
	ASSERT_EQ(0, dma_mapping_error(d(), addr));
	return addr as bigint;
}

/** Expect a finding about the NIC. */
function expectFinding(message: string): void {
	expectReport(new RegExp(`^DMA-API: pci 0000:05:00.0: ${message}$`, 'm'));
}

function list(...ranges: readonly (readonly [bigint, number])[]): sg_table {
	const sgt = new sg_table();
	ASSERT_EQ(0, sg_alloc_table(sgt, ranges.length, GFP_KERNEL));
	let i = 0;
	for (const sg of sgEntries(sgt.sgl, ranges.length)) {
		const [phys, length] = ranges[i++]!;
		sg_set_page(sg, pfn_to_page(phys >> 12n), length, Number(phys & 0xfffn));
	}
	return sgt;
}

const debug = FIXTURE('dma_debug', () => ({}));
FIXTURE_SETUP(debug, () => {
	bootDma();
});

TEST_F(debug, 'every_difference_is_reported', () => {
	const addr = dma_map_phys(d(), LOW, 256n, DMA_TO_DEVICE, 0n) as bigint;
	expectFinding(
		`device driver frees DMA memory with different size ${at} ` +
			'\\[map size=256 bytes\\] \\[unmap size=128 bytes\\]',
	);
	expectFinding(
		`device driver frees DMA memory with different direction ${at} \\[size=128 bytes\\] ` +
			'\\[mapped with DMA_TO_DEVICE\\] \\[unmapped with DMA_FROM_DEVICE\\]',
	);
	expectFinding(
		`device driver failed to check map error${at} \\[size=128 bytes\\] \\[mapped as phy\\]`,
	);
	expectFinding(
		`device driver frees DMA memory with different attributes ${at} \\[size=128 bytes\\] ` +
			'\\[mapped with 0x0\\] \\[unmapped with 0x1000\\]',
	);
	dma_unmap_phys(d(), addr, 128n, DMA_FROM_DEVICE, DMA_ATTR_REQUIRE_COHERENT);
});

TEST_F(debug, 'attributes_that_change_nothing_are_not_compared', () => {
	const addr = map(64n, DMA_TO_DEVICE, DMA_ATTR_SKIP_CPU_SYNC);
	dma_unmap_phys(d(), addr, 64n, DMA_TO_DEVICE, 0n);
	EXPECT_EQ(0, world().reports.length);
});

TEST_F(debug, 'unmap_of_nothing', () => {
	expectFinding(
		'device driver tries to free DMA memory it has not allocated ' +
			`${at} \\[size=64 bytes\\]`,
	);
	dma_unmap_phys(d(), LOW, 64n, DMA_TO_DEVICE, 0n);
	expectFinding('device driver tries to free an invalid DMA memory address');
	dma_unmap_phys(d(), DMA_MAPPING_ERROR, 64n, DMA_TO_DEVICE, 0n);
});

TEST_F(debug, 'of_two_mappings_only_one_that_fits_is_taken', () => {
	map(64n, DMA_TO_DEVICE);
	map(128n, DMA_TO_DEVICE);
	expectFinding(
		'device driver tries to free DMA memory it has not allocated ' +
			`${at} \\[size=32 bytes\\]`,
	);
	dma_unmap_phys(d(), LOW, 32n, DMA_TO_DEVICE, 0n);
	dma_unmap_phys(d(), LOW, 128n, DMA_TO_DEVICE, 0n);
	dma_unmap_phys(d(), LOW, 64n, DMA_TO_DEVICE, 0n);
});

TEST_F(debug, 'sync_is_compared_with_the_containing_mapping', () => {
	const addr = map(256n, DMA_FROM_DEVICE);
	const to = map(256n, DMA_TO_DEVICE, 0n, LOW + 0x1000n);
	dma_sync_single_for_cpu(d(), addr + 16n, 32n, DMA_FROM_DEVICE);
	dma_sync_single_for_device(d(), to, 256n, DMA_TO_DEVICE);
	expectFinding(
		`device driver syncs DMA memory with different direction ${at} \\[size=256 bytes\\] ` +
			'\\[mapped with DMA_FROM_DEVICE\\] \\[synced with DMA_TO_DEVICE\\]',
	);
	expectFinding(
		`device driver syncs device write-only DMA memory to device ${at} \\[size=256 bytes\\] ` +
			'\\[mapped with DMA_FROM_DEVICE\\] \\[synced with DMA_TO_DEVICE\\]',
	);
	dma_sync_single_for_device(d(), addr, 256n, DMA_TO_DEVICE);
	expectReport(/syncs DMA memory with different direction .*synced with DMA_BIDIRECTIONAL/);
	expectReport(/syncs device read-only DMA memory for cpu .*mapped with DMA_TO_DEVICE/);
	dma_sync_single_for_cpu(d(), to, 256n, DMA_BIDIRECTIONAL);
	expectFinding(
		'device driver tries to sync DMA memory it has not allocated ' +
			`${at} \\[size=257 bytes\\]`,
	);
	dma_sync_single_for_cpu(d(), addr, 257n, DMA_FROM_DEVICE);
	dma_unmap_phys(d(), addr, 256n, DMA_FROM_DEVICE, 0n);
	dma_unmap_phys(d(), to, 256n, DMA_TO_DEVICE, 0n);
});

TEST_F(debug, 'scatterlist_counts_and_limits', () => {
	dma_set_seg_boundary(d(), 0xfffn);
	const sgt = list([LOW, 64], [LOW + 0x1ff0n, 32]);
	expectFinding(
		'mapping sg segment across boundary \\[start=0x0000000002001ff0\\] ' +
			'\\[end=0x000000000200200f\\] \\[boundary=0x0000000000000fff\\]',
	);
	EXPECT_EQ(2, dma_map_sg_attrs(d(), sgt.sgl!, 2, DMA_TO_DEVICE, 0n));
	expectReport(
		/syncs DMA sg list with different entry count \[map count=2\] \[sync count=1\]/,
	);
	dma_sync_sg_for_cpu(d(), sgt.sgl!, 1, DMA_TO_DEVICE);
	expectReport(
		/frees DMA sg list with different entry count \[map count=2\] \[unmap count=1\]/,
	);
	dma_unmap_sg_attrs(d(), sgt.sgl!, 1, DMA_TO_DEVICE, 0n);
	expectReport(/leaked mapping .*\[mapped as scatter-gather\]/);
});

TEST_F(debug, 'unmapping_with_the_wrong_function_is_reported', function* () {
	const sgt = list([LOW, 64]);
	EXPECT_EQ(1, dma_map_sg_attrs(d(), sgt.sgl!, 1, DMA_TO_DEVICE, 0n));
	expectReport(/with wrong function .*\[mapped as scatter-gather\] \[unmapped as phy\]/);
	dma_unmap_phys(d(), LOW, 64n, DMA_TO_DEVICE, 0n);

	const handle: out<bigint> = outParam(0n);
	const virt = yield* dma_alloc_coherent(d(), 64n, handle, GFP_KERNEL);
	const other: out<bigint> = outParam(0n);
	const second = yield* dma_alloc_coherent(d(), 64n, other, GFP_KERNEL);
	expectReport(
		/with different CPU address .*\[cpu alloc address=0x0x.*\[cpu free address=0x0x/,
	);
	yield* dma_free_coherent(d(), 64n, second, handle.value);
	expectReport(/with different CPU address/);
	yield* dma_free_coherent(d(), 64n, virt, other.value);
});

TEST_F(debug, 'ram_mapped_as_a_resource', () => {
	expectFinding('dma_map_resource called for RAM address 0x0000000002000000');
	const addr = dma_map_resource(d(), LOW, 64n, DMA_TO_DEVICE, 0n);
	EXPECT_EQ(0, dma_mapping_error(d(), addr));
	dma_unmap_resource(d(), addr, 64n, DMA_TO_DEVICE, 0n);
});

TEST_F(debug, 'leaks_at_unbind_and_at_shutdown_say_where', () => {
	world().trackOrigins = true;
	map(64n, DMA_TO_DEVICE);
	map(64n, DMA_BIDIRECTIONAL, 0n, LOW + 0x1000n);
	expectReport(
		/pending DMA allocations while released from device \[count=2\]\nOne of leaked/,
	);
	dma_debug_device_change(d());
	expectReport(
		/leaked mapping .*02000000\] \[size=64 bytes\] \[mapped with DMA_TO_DEVICE\][\s\S]*Mapped at:[\s\S]*dma_map_phys kernel/,
	);
	expectReport(/leaked mapping .*02001000\].*DMA_BIDIRECTIONAL/);
});

TEST('v6_12_has_types_of_its_own', () => {
	bootDma({ profile: 'v6.12' });
	const p = pfn_to_page(LOW >> 12n);
	const addr = dma_map_page_attrs(d(), p, 0n, 64n, DMA_TO_DEVICE, 0n);
	expectReport(/failed to check map error.*\[mapped as single\]/);
	dma_unmap_page(d(), addr, 64n, DMA_TO_DEVICE);
	const bar = dma_map_resource(d(), 0x1000_0000n, 64n, DMA_TO_DEVICE, 0n);
	expectReport(/failed to check map error.*\[mapped as resource\]/);
	dma_unmap_resource(d(), bar, 64n, DMA_TO_DEVICE, 0n);
});

TEST('debug_kernel_answers_differently', function* () {
	bootDma({ dma: { debug: true } });
	EXPECT_TRUE(dma_need_unmap(d()));
	ASSERT_EQ(0, yield* pci_p2pdma_add_resource(dev('GPU0'), gpuBar.bar, 0n, 0n));
	const p = pfn_to_page(gpuBar.phys >> 12n);
	expectReport(/at dma_map_page_attrs: is_zone_device_page\(page\)/);
	EXPECT_EQ(DMA_MAPPING_ERROR, dma_map_page_attrs(d(), p, 0n, 64n, DMA_BIDIRECTIONAL, 0n));
	const addr = dma_map_phys(dev('NIC0').dev, LOW, 64n, DMA_BIDIRECTIONAL, DMA_ATTR_MMIO);
	expectReport(/dma_map_resource called for RAM address/);
	expectReport(/failed to check map error/);
	dma_unmap_phys(dev('NIC0').dev, addr, 64n, DMA_BIDIRECTIONAL, DMA_ATTR_MMIO);
	yield* devres_release_all(dev('GPU0').dev);
});

TEST('ninth_mapping_of_a_cache_line_is_too_many', () => {
	bootDma({ dma: { debug: true } });
	for (let i = 0; i < 8; i++) map(8n, DMA_FROM_DEVICE);
	EXPECT_EQ(0, world().reports.length);
	map(8n, DMA_FROM_DEVICE, DMA_ATTR_REQUIRE_COHERENT);
	EXPECT_EQ(0, world().reports.length);
	expectReport(/^DMA-API: exceeded 7 overlapping mappings of cacheline 0x0000000000080000$/m);
	map(8n, DMA_FROM_DEVICE);
	for (let i = 0; i < 9; i++) dma_unmap_phys(d(), LOW, 8n, DMA_FROM_DEVICE, 0n);
	expectReport(/different attributes/);
	dma_unmap_phys(d(), LOW, 8n, DMA_FROM_DEVICE, 0n);
	EXPECT_FALSE(world().reports.length === 0);
});
