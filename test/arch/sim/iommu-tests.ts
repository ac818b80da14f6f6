// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: an IOMMU lets through what is mapped for the requester, with the rights it has, until the
 * IOTLB is flushed, and records the rest in the kernel's wording. Method: domains of both vendors,
 * with pages mapped and unmapped by hand; translations and the fault log are read.
 */
import {
	FAULT_LOG_MAX,
	IOMMU_PROT_READ,
	IOMMU_PROT_WRITE,
	Iommu,
} from '../../../arch/sim/iommu.ts';
import {
	EXPECT_EQ,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST,
} from '../../kselftest_harness.ts';
import { refusal } from './refusal.ts';

const RW = IOMMU_PROT_READ | IOMMU_PROT_WRITE;
const MIB = 0x10_0000n;
const NIC = 0x0400;

TEST('mapped_page_translates_with_its_rights', () => {
	const iommu = new Iommu('intel', 'dma');
	const domain = iommu.makeDomain();
	iommu.attach(0, NIC, domain);
	EXPECT_EQ(0x1000n, iommu.map(domain, 0xf000n, 0x8000n, 0x1000n, IOMMU_PROT_READ));
	EXPECT_EQ(0x8123n, iommu.translate(0, NIC, 0xf123n, false));
	EXPECT_NULL(iommu.translate(0, NIC, 0xf123n, true));
	EXPECT_STREQ(
		'DMAR: [DMA Write NO_PASID] Request device [04:00.0] fault addr 0xf000 ' +
			'[fault reason 0x05] PTE Write access is not set',
		iommu.lastFault(),
	);
	EXPECT_EQ(0x8000n, iommu.iovaToPhys(domain, 0xf000n));
	EXPECT_NULL(iommu.iovaToPhys(domain, 0x10000n));
});

TEST('miss_and_missing_domain_are_recorded', () => {
	const iommu = new Iommu('intel', 'dma');
	EXPECT_NULL(iommu.translate(0, NIC, 0x5678n, false));
	EXPECT_STREQ(
		'DMAR: [DMA Read NO_PASID] Request device [04:00.0] fault addr 0x5000 ' +
			'[fault reason 0x02] Present bit in context entry is clear',
		iommu.lastFault(),
	);
	iommu.attach(0, NIC, iommu.makeDomain());
	EXPECT_NULL(iommu.translate(0, NIC, 0x5678n, false));
	EXPECT_TRUE(iommu.lastFault().endsWith('[fault reason 0x06] PTE Read access is not set'));
	EXPECT_EQ(2, iommu.faultLog.length);
	EXPECT_STREQ('0000:04:00.0', iommu.faultLog[1]?.requester ?? '');
});

TEST('amd_tells_a_fault_in_its_own_words', () => {
	const iommu = new Iommu('amd', 'dma');
	iommu.attach(1, NIC, iommu.makeDomain());
	iommu.translate(1, NIC, 0x5678n, true);
	EXPECT_STREQ(
		'AMD-Vi: Event logged [IO_PAGE_FAULT device=0001:04:00.0 domain=0x0001 ' +
			'address=0x5678 flags=0x0020]',
		iommu.lastFault(),
	);
});

TEST('fault_log_keeps_the_newest', () => {
	const iommu = new Iommu('intel', 'dma');
	for (let i = 0; i <= FAULT_LOG_MAX; i++) iommu.translate(0, NIC, BigInt(i) << 12n, false);
	EXPECT_EQ(FAULT_LOG_MAX, iommu.faultLog.length);
	EXPECT_EQ(0x1000n, iommu.faultLog[0]?.address ?? 0n);
});

TEST('unattached_requester_passes_in_identity_mode', () => {
	const iommu = new Iommu('intel', 'identity');
	EXPECT_EQ(0x5678n, iommu.translate(0, NIC, 0x5678n, true));
	iommu.attach(0, NIC, iommu.makeDomain());
	EXPECT_NULL(iommu.translate(0, NIC, 0x5678n, true));
	iommu.attach(0, NIC, null);
	EXPECT_EQ(0x5678n, iommu.translate(0, NIC, 0x5678n, true));
});

TEST('domains_are_by_segment_and_requester', () => {
	const iommu = new Iommu('intel', 'dma');
	const [a, b] = [iommu.makeDomain(), iommu.makeDomain()];
	iommu.attach(0, NIC, a);
	iommu.attach(1, NIC, b);
	iommu.map(a, 0n, 0x1000n, 0x1000n, RW);
	iommu.map(b, 0n, 0x2000n, 0x1000n, RW);
	EXPECT_EQ(0x1000n, iommu.translate(0, NIC, 0n, false));
	EXPECT_EQ(0x2000n, iommu.translate(1, NIC, 0n, false));
	EXPECT_TRUE(iommu.domainOf(1, NIC) === b);
	EXPECT_NULL(iommu.domainOf(2, NIC));
});

TEST('iotlb_entry_outlives_unmap_until_flushed', () => {
	const iommu = new Iommu('intel', 'dma-fq');
	const domain = iommu.makeDomain();
	iommu.attach(0, NIC, domain);
	iommu.map(domain, 0n, 0x8000n, 0x3000n, RW);
	iommu.translate(0, NIC, 0n, true);
	iommu.translate(0, NIC, 0x1000n, true);
	EXPECT_EQ(0x3000n, iommu.unmap(domain, 0n, 0x3000n));
	EXPECT_EQ(0x8000n, iommu.translate(0, NIC, 0n, true));
	EXPECT_NULL(iommu.translate(0, NIC, 0x2000n, true));
	iommu.flushIotlb(domain, 0n, 0x1000n);
	EXPECT_NULL(iommu.translate(0, NIC, 0n, true));
	EXPECT_EQ(0x9000n, iommu.translate(0, NIC, 0x1000n, true));
	iommu.flushIotlb(domain);
	EXPECT_NULL(iommu.translate(0, NIC, 0x1000n, true));
	EXPECT_EQ(2, iommu.flushes);
});

TEST('vtd_superpage_goes_only_as_a_whole_and_from_its_start', () => {
	const iommu = new Iommu('intel', 'dma');
	const domain = iommu.makeDomain();
	iommu.map(domain, 4n * MIB, 8n * MIB, 2n * MIB, RW);
	EXPECT_EQ(8n * MIB + 0x1234n, iommu.iovaToPhys(domain, 4n * MIB + 0x1234n));
	EXPECT_EQ(0n, iommu.unmap(domain, 4n * MIB + 0x1000n, 0x1000n));
	EXPECT_EQ(2n * MIB, iommu.unmap(domain, 4n * MIB, 0x1000n));
	EXPECT_NULL(iommu.iovaToPhys(domain, 5n * MIB));
});

TEST('two_halves_of_a_superpage_stay_small_pages', () => {
	const iommu = new Iommu('intel', 'dma');
	const domain = iommu.makeDomain();
	iommu.map(domain, 0n, 0n, MIB, RW);
	iommu.map(domain, MIB, MIB, MIB, RW);
	EXPECT_EQ(0x1000n, iommu.unmap(domain, 0x5000n, 0x1000n));
	EXPECT_EQ(0x4000n, iommu.iovaToPhys(domain, 0x4000n));
});

TEST('amd_cuts_into_powers_of_two', () => {
	const iommu = new Iommu('amd', 'dma');
	const domain = iommu.makeDomain();
	iommu.map(domain, 0n, 0n, 4n * MIB, RW);
	EXPECT_EQ(4n * MIB, iommu.unmap(domain, 0n, 2n * MIB));
	iommu.map(domain, 0n, 0n, 0x3000n, RW);
	EXPECT_EQ(0n, iommu.unmap(domain, 0x1000n, 0x1000n));
	EXPECT_EQ(0x1000n, iommu.unmap(domain, 0x2000n, 0x1000n));
});

TEST('map_stops_at_a_page_that_is_there', () => {
	const iommu = new Iommu('intel', 'dma');
	const domain = iommu.makeDomain();
	iommu.map(domain, 0x2000n, 0x9000n, 0x1000n, RW);
	EXPECT_EQ(0x2000n, iommu.map(domain, 0n, 0x4000n, 0x4000n, RW));
	EXPECT_EQ(0x9000n, iommu.iovaToPhys(domain, 0x2000n));
	iommu.map(domain, 3n * MIB, 0n, 0x1000n, RW);
	EXPECT_EQ(0n, iommu.map(domain, 2n * MIB, 0n, 2n * MIB, RW));
	EXPECT_EQ(0x3000n, iommu.unmap(domain, 0n, 4n * MIB));
});

TEST('map_of_part_of_a_page_is_misuse', () => {
	const iommu = new Iommu('intel', 'dma');
	EXPECT_STREQ(
		'Iommu.map(): addresses and size are whole pages of 4096 bytes',
		refusal(() => iommu.map(iommu.makeDomain(), 0x10n, 0n, 0x1000n, RW)),
	);
});
