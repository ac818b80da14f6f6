// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the state machine of the two-step API: allocate, link, sync, unlink, free, destroy, with
 * every errno and WARN. Method: one NIC behind VT-d or AMD-Vi; what it reaches is read through the
 * fabric.
 *
 * ```
 *   try_alloc ──> link ──> sync ──> (device) ──> unlink ──> free
 *                   └───────────────────────────────────── destroy = unlink all + free
 * ```
 */

import {
	dma_iova_destroy,
	dma_iova_free,
	dma_iova_link,
	dma_iova_sync,
	dma_iova_try_alloc,
	dma_iova_unlink,
	drainFlushQueue,
} from '../../../drivers/iommu/dma-iommu.ts';
import { iommu_iova_to_phys, iommu_unmap } from '../../../drivers/iommu/iommu.ts';
import {
	DMA_ATTR_MMIO,
	DMA_ATTR_REQUIRE_COHERENT,
	DMA_BIDIRECTIONAL,
	DMA_BIT_MASK,
	DMA_FROM_DEVICE,
	DMA_IOVA_USE_SWIOTLB,
	DMA_NONE,
	DMA_TO_DEVICE,
	dma_iova_size,
	dma_iova_state,
	dma_set_min_align_mask,
	dma_use_iova,
} from '../../../include/linux/dma-mapping.ts';
import {
	EADDRINUSE,
	EINVAL,
	EIO,
	ENOMEM,
	ENXIO,
	EOPNOTSUPP,
	EPERM,
	ERANGE,
} from '../../../include/linux/errno.ts';
import type { iommu_domain } from '../../../include/linux/iommu.ts';
import { injectFaults } from '../../../include/sim/fault_injection.ts';
import { HarnessError } from '../../../include/sim/report.ts';
import { dma_map_phys, dma_set_mask, dma_unmap_phys } from '../../../kernel/dma/mapping.ts';
import { ioTlbDefaultMem } from '../../../kernel/dma/swiotlb.ts';
import {
	bootDma,
	deviceRead,
	deviceWrite,
	fill,
	LOW,
	nic,
	peek,
	runs,
} from '../../kernel/dma/dma_machine.ts';
import {
	ASSERT_EQ,
	ASSERT_TRUE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	TEST,
	TEST_F,
} from '../../kselftest_harness.ts';
import { switchOn } from '../../support/switch_on.ts';

const KIB4 = 0x1000n;
const MIB2 = 0x20_0000n;
const BI = DMA_BIDIRECTIONAL;

const iova = FIXTURE('iova', () => ({ state: new dma_iova_state() }));
FIXTURE_SETUP(iova, () => {
	bootDma({ iommu: { kind: 'intel', domains: 'dma' }, high: true });
	for (let page = 0; page < 4; page++) fill(LOW + BigInt(page) * KIB4, 4096, 0x10 + page);
});

function alloc(state: dma_iova_state, size: bigint, phys = 0n): void {
	ASSERT_TRUE(dma_iova_try_alloc(nic().dev, state, phys, size));
}

function link(state: dma_iova_state, phys: bigint, off: bigint, size: bigint, attrs = 0n): number {
	return dma_iova_link(nic().dev, state, phys, off, size, BI, attrs);
}

function unlink(state: dma_iova_state, off: bigint, size: bigint): void {
	dma_iova_unlink(nic().dev, state, off, size, BI, 0n);
}

/** What the page table says, page by page: `-` where nothing is linked, else the page of LOW. */
function table(state: dma_iova_state, pages: number): string {
	const domain = nic().dev.iommu_domain as iommu_domain;
	const at = (page: number) =>
		iommu_iova_to_phys(domain, (state.addr & ~0xfffn) + BigInt(page) * KIB4) as bigint;
	return Array.from({ length: pages }, (_, i) => {
		const phys = at(i);
		return phys === 0n ? '-' : `${(phys - LOW) / KIB4}`;
	}).join(' ');
}

TEST_F(iova, 'F19_linked_and_synced_range_is_reached', ({ state }) => {
	alloc(state, 3n * KIB4);
	EXPECT_EQ(0, link(state, LOW + KIB4, 0n, KIB4));
	EXPECT_EQ(0, link(state, LOW + 3n * KIB4, KIB4, KIB4));
	EXPECT_EQ(0, dma_iova_sync(nic().dev, state, 0n, 2n * KIB4));
	EXPECT_STREQ('4096*17 4096*19', runs(deviceRead(nic(), state.addr, 8192)));
	EXPECT_STREQ('SC', deviceWrite(nic(), state.addr + KIB4, new Uint8Array(16).fill(9)));
	EXPECT_STREQ('16*9 16*19', runs(peek(LOW + 3n * KIB4, 32)));
	EXPECT_STREQ('UR', runs(deviceRead(nic(), state.addr + 2n * KIB4, 16)));
	dma_iova_destroy(nic().dev, state, 2n * KIB4, BI, 0n);
});

TEST_F(iova, 'F19_unsynced_link_is_not_usable', ({ state }) => {
	alloc(state, 2n * KIB4);
	EXPECT_EQ(0, link(state, LOW, 0n, 2n * KIB4));
	EXPECT_STREQ('0 1', table(state, 2));
	EXPECT_STREQ('UR', runs(deviceRead(nic(), state.addr, 16)));
	EXPECT_EQ(0, dma_iova_sync(nic().dev, state, KIB4, KIB4));
	EXPECT_STREQ('UR', runs(deviceRead(nic(), state.addr, 16)));
	EXPECT_STREQ('16*17', runs(deviceRead(nic(), state.addr + KIB4, 16)));
	dma_iova_destroy(nic().dev, state, 2n * KIB4, BI, 0n);
});

TEST_F(iova, 'F19_unlink_takes_the_remembered_translation_away', ({ state }) => {
	alloc(state, KIB4);
	EXPECT_EQ(0, link(state, LOW, 0n, KIB4));
	EXPECT_EQ(0, dma_iova_sync(nic().dev, state, 0n, KIB4));
	EXPECT_STREQ('16*16', runs(deviceRead(nic(), state.addr, 16)));
	unlink(state, 0n, KIB4);
	EXPECT_STREQ('UR', runs(deviceRead(nic(), state.addr, 16)));
	EXPECT_TRUE(dma_use_iova(state));
	dma_iova_free(nic().dev, state);
});

TEST_F(iova, 'F19_direction_is_a_right', ({ state }) => {
	alloc(state, KIB4);
	EXPECT_EQ(0, dma_iova_link(nic().dev, state, LOW, 0n, KIB4, DMA_TO_DEVICE, 0n));
	EXPECT_EQ(0, dma_iova_sync(nic().dev, state, 0n, KIB4));
	EXPECT_STREQ('16*16', runs(deviceRead(nic(), state.addr, 16)));
	EXPECT_STREQ('UR', deviceWrite(nic(), state.addr, new Uint8Array(16)));
	dma_iova_destroy(nic().dev, state, KIB4, DMA_TO_DEVICE, 0n);
});

TEST_F(iova, 'F19_try_alloc_zeroes_and_keeps_the_offset', ({ state }) => {
	state.addr = 0xa5a5n;
	alloc(state, 0x800n, LOW + 0x123n);
	EXPECT_EQ(0x123n, state.addr & 0xfffn);
	EXPECT_EQ(0x800n, dma_iova_size(state));
	dma_iova_free(nic().dev, state);

	state.addr = 0xa5a5n;
	state.__size = 0xa5a5n;
	expectReport(/at dma_iova_try_alloc: !size/);
	EXPECT_FALSE(dma_iova_try_alloc(nic().dev, state, 0n, 0n));
	EXPECT_FALSE(dma_use_iova(state));
	EXPECT_EQ(0n, state.addr);
	expectReport(/size has DMA_IOVA_USE_SWIOTLB/);
	EXPECT_FALSE(dma_iova_try_alloc(nic().dev, state, 0n, DMA_IOVA_USE_SWIOTLB | KIB4));
});

TEST_F(iova, 'F19_small_mask_runs_out', ({ state }) => {
	// 64 KiB of addresses, page 0 is never handed out: eight aligned pages fit once.
	EXPECT_EQ(0, dma_set_mask(nic().dev, DMA_BIT_MASK(16)));
	alloc(state, 8n * KIB4);
	EXPECT_EQ(8n * KIB4, state.addr);
	const second = new dma_iova_state();
	EXPECT_FALSE(dma_iova_try_alloc(nic().dev, second, 0n, 8n * KIB4));
	EXPECT_FALSE(dma_iova_try_alloc(nic().dev, second, 0n, 16n * KIB4));
	EXPECT_FALSE(dma_use_iova(second));
	dma_iova_free(nic().dev, state);
});

TEST_F(iova, 'F19_link_errors_in_order', ({ state }) => {
	alloc(state, 4n * KIB4);
	expectReport(/at dma_iova_link: iova_start_pad && offset > 0/);
	EXPECT_EQ(-EIO, link(state, LOW + 0x10n, KIB4, KIB4));
	EXPECT_EQ(-ENXIO, link(state, LOW + 0x10n, 0n, KIB4));
	EXPECT_EQ(-ENXIO, link(state, LOW, 0x10n, KIB4));
	EXPECT_EQ(-EINVAL, link(state, LOW, 0n, 0n));
	expectReport(/at vtdss_map_range/);
	EXPECT_EQ(-EINVAL, dma_iova_link(nic().dev, state, LOW, 0n, KIB4, DMA_NONE, 0n));
	EXPECT_EQ(-ERANGE, link(state, LOW, 1n << 40n, KIB4));
	injectFaults().fail('iommu_map', 1);
	EXPECT_EQ(-ENOMEM, link(state, LOW, 0n, KIB4));
	EXPECT_STREQ('- - - -', table(state, 4));

	nic().dev.dma_coherent = false;
	EXPECT_EQ(-EOPNOTSUPP, link(state, LOW, 0n, KIB4, DMA_ATTR_REQUIRE_COHERENT));
	nic().dev.dma_coherent = true;
	dma_iova_free(nic().dev, state);
});

TEST_F(iova, 'F19_double_link_fails_and_is_rolled_back', ({ state }) => {
	alloc(state, 4n * KIB4);
	EXPECT_EQ(0, link(state, LOW + 2n * KIB4, 2n * KIB4, KIB4));
	EXPECT_EQ(-EADDRINUSE, link(state, LOW + 2n * KIB4, 2n * KIB4, KIB4));
	EXPECT_EQ(-EADDRINUSE, link(state, LOW, 0n, 4n * KIB4));
	EXPECT_STREQ('- - 2 -', table(state, 4));
	unlink(state, 2n * KIB4, KIB4);
	dma_iova_free(nic().dev, state);
});

TEST_F(iova, 'F19_unlink_stops_at_a_hole', ({ state }) => {
	alloc(state, 4n * KIB4);
	EXPECT_EQ(0, link(state, LOW, 0n, KIB4));
	EXPECT_EQ(0, link(state, LOW + 2n * KIB4, 2n * KIB4, 2n * KIB4));
	expectReport(/at dma_iova_unlink: unmapped != size/);
	unlink(state, 0n, 4n * KIB4);
	EXPECT_STREQ('- - 2 3', table(state, 4));
	unlink(state, 2n * KIB4, 16n);
	EXPECT_STREQ('- - - 3', table(state, 4));
	unlink(state, 3n * KIB4, KIB4);
	dma_iova_free(nic().dev, state);
});

TEST_F(iova, 'F19_large_page_cannot_be_split', ({ state }) => {
	alloc(state, MIB2);
	EXPECT_EQ(0, link(state, LOW, 0n, MIB2));
	expectReport(/at dma_iova_unlink: unmapped != size/);
	unlink(state, KIB4, KIB4);
	EXPECT_STREQ('0 1 2', table(state, 3));
	expectReport(/at dma_iova_unlink: unmapped != size/);
	unlink(state, 0n, KIB4);
	EXPECT_STREQ('- - -', table(state, 3));

	EXPECT_EQ(0, link(state, LOW, 0n, MIB2 / 2n));
	EXPECT_EQ(0, link(state, LOW + MIB2 / 2n, MIB2 / 2n, MIB2 / 2n));
	unlink(state, KIB4, KIB4);
	EXPECT_STREQ('0 - 2', table(state, 3));
	unlink(state, 0n, KIB4);
	unlink(state, 2n * KIB4, MIB2 - 2n * KIB4);
	dma_iova_free(nic().dev, state);
});

TEST_F(iova, 'F19_freed_with_links_hurts_the_next_owner', ({ state }) => {
	alloc(state, KIB4);
	EXPECT_EQ(0, link(state, LOW, 0n, KIB4));
	expectReport(/DMA-IOVA: .*frees an IOVA range with 1 pages still linked/);
	dma_iova_free(nic().dev, state);

	const next = new dma_iova_state();
	alloc(next, KIB4);
	EXPECT_EQ(state.addr, next.addr);
	EXPECT_EQ(-EADDRINUSE, link(next, LOW, 0n, KIB4));
	iommu_unmap(nic().dev.iommu_domain as iommu_domain, next.addr as bigint, KIB4);
	dma_iova_free(nic().dev, next);
});

TEST_F(iova, 'F19_destroy_looks_only_at_what_is_said_to_be_mapped', ({ state }) => {
	alloc(state, 2n * KIB4);
	EXPECT_EQ(0, link(state, LOW, 0n, 2n * KIB4));
	expectReport(/frees an IOVA range with 1 pages still linked/);
	dma_iova_destroy(nic().dev, state, KIB4, BI, 0n);
	EXPECT_STREQ('- 1', table(state, 2));
});

TEST_F(iova, 'F19_leaked_range_is_reported', ({ state }) => {
	alloc(state, 3n * KIB4);
	EXPECT_EQ(0, link(state, LOW, 0n, KIB4));
	expectReport(
		/leaked IOVA range \[device address=0x[0-9a-f]{16}\] \[size=12288 bytes\] \[1 pages linked\]/,
	);
});

TEST_F(iova, 'F19_unlink_is_compared_with_its_link', ({ state }) => {
	alloc(state, KIB4);
	EXPECT_EQ(0, link(state, LOW, 0n, KIB4));
	expectReport(
		/different direction .*linked with DMA_BIDIRECTIONAL\] \[unlinked with DMA_FROM_DEVICE/,
	);
	expectReport(/different attributes .*linked with 0x0\] \[unlinked with 0x400\]/);
	dma_iova_destroy(nic().dev, state, KIB4, DMA_FROM_DEVICE, DMA_ATTR_MMIO);
});

TEST_F(iova, 'untrusted_head_and_tail_are_bounced', ({ state }) => {
	const { dev } = nic();
	nic().untrusted = true;
	dma_set_min_align_mask(dev, 0xfff);
	const source = LOW + 0x800n;
	alloc(state, 2n * KIB4, source);
	EXPECT_EQ(-EPERM, link(state, source, 0n, 2n * KIB4, DMA_ATTR_MMIO));
	EXPECT_EQ(-EPERM, link(state, source, 0n, 2n * KIB4, DMA_ATTR_REQUIRE_COHERENT));
	EXPECT_EQ(0, link(state, source, 0n, 2n * KIB4));
	EXPECT_NE(0n, state.__size & DMA_IOVA_USE_SWIOTLB);
	EXPECT_EQ(4, ioTlbDefaultMem().defpool.used);
	EXPECT_EQ(0, dma_iova_sync(dev, state, 0n, 2n * KIB4));
	// Bytes of the buffer, but nothing of what shares its first page.
	const page = state.addr & ~0xfffn;
	EXPECT_STREQ(
		'2048*0 2048*16 4096*17 2048*18 2048*0',
		runs(deviceRead(nic(), page, 3 * 4096)),
	);
	EXPECT_STREQ('SC', deviceWrite(nic(), state.addr, new Uint8Array(16).fill(7)));
	EXPECT_STREQ('16*16', runs(peek(source, 16)));
	expectReport(/at dma_iova_link: REQUIRE_COHERENT after a bounce/);
	EXPECT_EQ(-EOPNOTSUPP, link(state, LOW, 3n * KIB4, KIB4, DMA_ATTR_REQUIRE_COHERENT));
	dma_iova_destroy(dev, state, 2n * KIB4, BI, 0n);
	EXPECT_STREQ('16*7 16*16', runs(peek(source, 32)));
	EXPECT_EQ(0, ioTlbDefaultMem().defpool.used);
});

TEST_F(iova, 'head_bounce_needs_the_min_align_mask', ({ state }) => {
	nic().untrusted = true;
	alloc(state, 0x100n, LOW + 0x800n);
	EXPECT_EQ(-ENXIO, link(state, LOW + 0x800n, 0n, 0x100n));
	EXPECT_EQ(0, ioTlbDefaultMem().defpool.used);
	EXPECT_EQ(0n, state.__size & DMA_IOVA_USE_SWIOTLB);
	dma_iova_free(nic().dev, state);
});

TEST_F(iova, 'fix_s24_bounce_is_forgotten_with_the_last_link', ({ state }) => {
	EXPECT_TRUE(switchOn('fix_s24'));
	const { dev } = nic();
	nic().untrusted = true;
	dma_set_min_align_mask(dev, 0xfff);
	const source = LOW + 0x800n;
	alloc(state, 2n * KIB4, source);
	EXPECT_EQ(0, link(state, source, 0n, 2n * KIB4));
	EXPECT_NE(0n, state.__size & DMA_IOVA_USE_SWIOTLB);
	dma_iova_unlink(dev, state, 0n, 2n * KIB4, BI, 0n);
	EXPECT_EQ(0n, state.__size & DMA_IOVA_USE_SWIOTLB);
	EXPECT_EQ(0, ioTlbDefaultMem().defpool.used);
	// and what must not be bounced can be linked again
	EXPECT_EQ(0, link(state, LOW + 0x800n, 0n, 0x800n));
	dma_iova_destroy(dev, state, 0x800n, BI, 0n);
});

TEST('F19_amd_cuts_a_link_into_powers_of_two', () => {
	bootDma({ iommu: { kind: 'amd', domains: 'dma' } });
	const state = new dma_iova_state();
	alloc(state, 4n * KIB4);
	EXPECT_EQ(0, link(state, LOW, 0n, 4n * KIB4));
	expectReport(/unmapped != size/);
	unlink(state, KIB4, KIB4);
	EXPECT_STREQ('0 1 2 3', table(state, 4));
	expectReport(/unmapped != size/);
	unlink(state, 0n, KIB4);
	EXPECT_STREQ('- - - -', table(state, 4));
	dma_iova_free(nic().dev, state);
});

TEST('lazy_unmap_is_reached_until_the_queue_is_flushed', () => {
	bootDma({ iommu: { kind: 'intel', domains: 'dma-fq' } });
	fill(LOW, 4096, 0x55);
	const addr = dma_map_phys(nic().dev, LOW, KIB4, BI, DMA_ATTR_REQUIRE_COHERENT);
	EXPECT_STREQ('16*85', runs(deviceRead(nic(), addr, 16)));
	expectReport(/failed to check map error/);
	dma_unmap_phys(nic().dev, addr, KIB4, BI, DMA_ATTR_REQUIRE_COHERENT);
	EXPECT_STREQ('16*85', runs(deviceRead(nic(), addr, 16)));
	drainFlushQueue(nic().dev.iommu_domain as iommu_domain);
	EXPECT_STREQ('UR', runs(deviceRead(nic(), addr, 16)));

	// The two-step API flushes at once, whatever the domain's type.
	const state = new dma_iova_state();
	alloc(state, KIB4);
	ASSERT_EQ(0, link(state, LOW, 0n, KIB4));
	EXPECT_EQ(0, dma_iova_sync(nic().dev, state, 0n, KIB4));
	EXPECT_STREQ('16*85', runs(deviceRead(nic(), state.addr, 16)));
	dma_iova_destroy(nic().dev, state, KIB4, BI, 0n);
	EXPECT_STREQ('UR', runs(deviceRead(nic(), state.addr, 16)));
});

TEST('no_iova_without_dma_iommu', () => {
	bootDma({ iommu: { kind: 'intel', domains: 'identity' } });
	const state = new dma_iova_state();
	EXPECT_FALSE(dma_iova_try_alloc(nic().dev, state, 0n, KIB4));
	EXPECT_EQ(-EOPNOTSUPP, link(state, LOW, 0n, KIB4));
	EXPECT_EQ(-EOPNOTSUPP, dma_iova_sync(nic().dev, state, 0n, KIB4));
});

TEST('v6_12_has_no_two_step_calls', () => {
	bootDma({ iommu: { kind: 'intel', domains: 'dma' }, profile: 'v6.12' });
	let refused = false;
	try {
		dma_iova_try_alloc(nic().dev, new dma_iova_state(), 0n, KIB4);
	} catch (error) {
		refused = error instanceof HarnessError;
	}
	EXPECT_TRUE(refused);
});
