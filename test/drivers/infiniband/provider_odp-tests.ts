// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the whole way from a GPU's private pages to a NIC's READ works with no P2P struct page
 * (F4 as F13 asks for it), by the address that is right on each topology. Method: the standard
 * machine with real drivers, GPU0 as provider only; what is compared is bytes that travelled through
 * the fabric, the memory map, counters of both drivers, and the addresses in the NIC's table.
 *
 *   variant        NIC   ports redirect   IOMMU    the NIC uses
 *   bus            NIC0  no               -        phys + bus offset
 *   redirected     NIC0  yes              -        phys
 *   host_bridge    NIC1  no               -        phys
 *   iommu_bus      NIC0  have no ACS      strict   phys + bus offset
 *   iommu          NIC1  yes              strict   an IOVA of its own
 */
import type { MachineDescription } from '../../../arch/sim/description.ts';
import { devres_release_all } from '../../../drivers/base/devres.ts';
import { type RefGpu, refgpuProbe, refgpuRemove } from '../../../drivers/gpu/refgpu/index.ts';
import {
	deregMr,
	postSend,
	RNIC_ACCESS_ALL,
	type Rnic,
	type RnicMr,
	rdmaReadResponder,
	rdmaWriteResponder,
	regMr,
	rnicAdviseMr,
} from '../../../drivers/infiniband/hw/rnic/rnic.ts';
import { DMA_MAPPING_ERROR } from '../../../include/linux/dma-mapping.ts';
import { ENOMEM } from '../../../include/linux/errno.ts';
import {
	HMM_PFN_DMA_MAPPED,
	HMM_PFN_FLAGS,
	HMM_PFN_P2PDMA,
	HMM_PFN_P2PDMA_BUS,
	HMM_PFN_VALID,
} from '../../../include/linux/hmm.ts';
import { hmm_dma_map } from '../../../include/linux/hmm-dma.ts';
import { MEMORY_DEVICE_PCI_P2PDMA } from '../../../include/linux/memremap.ts';
import { PROT_READ, PROT_WRITE } from '../../../include/linux/mm.ts';
import { memoryMap } from '../../../include/linux/mmzone.ts';
import { pci_name } from '../../../include/linux/pci.ts';
import {
	PCI_P2PDMA_MAP_NONE,
	pci_p2pdma_bus_addr_map,
	pci_p2pdma_map_state,
} from '../../../include/linux/pci-p2pdma.ts';
import {
	IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT,
	IB_WC_SUCCESS,
} from '../../../include/rdma/ib_verbs.ts';
import { injectFaults } from '../../../include/sim/fault_injection.ts';
import { run } from '../../../kernel/sched/core.ts';
import {
	hmm_dma_map_alloc,
	hmm_dma_map_free,
	hmm_dma_map_pfn,
	hmm_dma_unmap_pfn,
} from '../../../mm/hmm_dma.ts';
import { userMprotect, userMunmap, userRead } from '../../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	ASSERT_NE,
	ASSERT_TRUE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NE,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST,
	TEST_F,
} from '../../kselftest_harness.ts';
import { labelled, PAGE, patternBytes, portAbove, StandardWorld } from '../../support/standard.ts';

const PAGES = 8;
const BYTES = PAGES * 4096;
const ACS_SV_RR_CR = 0x0d;
const STICKY = HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA | HMM_PFN_P2PDMA_BUS;

const ports = (d: MachineDescription) => ['GPU0', 'NIC0'].map((label) => portAbove(d, label));

function redirecting(d: MachineDescription): void {
	for (const port of ports(d)) port.acs!.control = ACS_SV_RR_CR;
}

function withoutAcs(d: MachineDescription): void {
	for (const port of ports(d)) port.acs = null;
}

/** Strict DMA domains, one for each device. */
function behindIommu(d: MachineDescription): void {
	d.iommu = { kind: 'intel', domains: 'dma' };
}

interface Variant {
	readonly label: string;
	readonly machine: ((d: MachineDescription) => void)[];
	readonly uses: 'bus' | 'phys' | 'iova';
}

interface Self {
	w: StandardWorld;
	nic: Rnic;
	mr: RnicMr;
	address: bigint;
	/** What the pages hold. */
	bytes: Uint8Array;
}

const odp = FIXTURE<Self, Variant>(
	'provider_odp',
	() => ({}) as Self,
	FIXTURE_VARIANT<Variant>({ label: 'NIC0', machine: [], uses: 'bus' }),
);
FIXTURE_VARIANT_ADD(odp, 'bus', {});
FIXTURE_VARIANT_ADD(odp, 'redirected', { machine: [redirecting], uses: 'phys' });
FIXTURE_VARIANT_ADD(odp, 'host_bridge', { label: 'NIC1', uses: 'phys' });
FIXTURE_VARIANT_ADD(odp, 'iommu_bus', { machine: [withoutAcs, behindIommu] });
FIXTURE_VARIANT_ADD(odp, 'iommu', { label: 'NIC1', machine: [behindIommu], uses: 'iova' });

/** The standard world with nothing but providers. */
function providerWorld(
	machine: readonly ((d: MachineDescription) => void)[],
	gpu: ConstructorParameters<typeof StandardWorld>[0] = {},
): StandardWorld {
	return new StandardWorld({
		proposals: ['p2p_op_dma_dev', 'p2p_provider_only'],
		machine: (d) => {
			for (const change of machine) change(d);
		},
		...gpu,
	});
}

/** Pages in VRAM, registered with one NIC. */
function stage(w: StandardWorld, label: string): Omit<Self, 'w'> {
	const { address, bytes } = w.mapPages(PAGES);
	ASSERT_EQ(PAGES, w.toVram(address, PAGES));
	const nic = w.nic(label);
	return { nic, mr: w.register(nic, address, PAGES), address, bytes };
}

FIXTURE_SETUP(odp, (self, { label, machine }) => {
	self.w = providerWorld(machine);
	Object.assign(self, stage(self.w, label));
});

FIXTURE_TEARDOWN(odp, ({ w }) => {
	w.close();
});

/** P2P struct pages that the machine has. */
function p2pPages(): number {
	return memoryMap()
		.ranges.filter(({ pgmap }) => pgmap?.type === MEMORY_DEVICE_PCI_P2PDMA)
		.reduce((sum, { start, end }) => sum + end - start, 0);
}

function readAll({ w, nic, mr, address }: Self): Uint8Array {
	const { status, data } = run(() => rdmaReadResponder(nic, mr.key.key, address, BYTES), {
		task: w.task,
	});
	ASSERT_EQ(IB_WC_SUCCESS, status);
	return data;
}

function writeAll({ w, nic, mr, address }: Self, bytes: Uint8Array): number {
	return run(() => rdmaWriteResponder(nic, mr.key.key, address, bytes), { task: w.task });
}

function same(a: Uint8Array, b: unknown): boolean {
	return b instanceof Uint8Array && Buffer.compare(a, b) === 0;
}

/** Providers beside the words of the region. */
function providers({ mr }: Self): unknown[] {
	return Array.from({ length: PAGES }, (_, i) => mr.umem.map.provider_list!.at(i));
}

/** Entries that the NIC has mapped to GPU0's memory, as the sanitizer counts them. */
function live({ w, nic }: Self): number {
	return w.gpu0.aperture!.provider.mapped.get(nic.pdev.dev) ?? 0;
}

TEST_F(odp, 'F13_F4_rdma_over_a_migrated_range_makes_no_page', (self) => {
	const { w } = self;
	const { seen } = injectFaults();
	const fresh = patternBytes(BYTES, 77);

	ASSERT_TRUE(same(self.bytes, readAll(self)));
	ASSERT_EQ(IB_WC_SUCCESS, writeAll(self, fresh));
	EXPECT_EQ(0, w.gpu0.counters.migrateToRam);
	EXPECT_EQ(0, self.nic.silicon.faults.length);
	// Neither a page of system memory, nor a P2P page.
	EXPECT_EQ(0, seen.get('alloc_pages') ?? 0);
	EXPECT_EQ(0, p2pPages());
	// The bytes are in VRAM: the GPU sees them before any CPU does.
	const vram = new Uint8Array(BYTES);
	w.gpu0.silicon.vram.read(0n, vram);
	EXPECT_TRUE(same(fresh, vram));
	EXPECT_TRUE(same(fresh, userRead(w.task, self.address, BYTES)));
	EXPECT_EQ(PAGES, seen.get('alloc_pages'));
});

TEST_F(odp, 'F13_each_topology_has_its_own_address', (self, { uses }) => {
	const { w, mr } = self;
	const { provider, bar } = w.gpu0.aperture!;
	readAll(self);
	const { phys, bus } = labelled(w.machine.description, 'GPU0').bars.find(
		(one) => one.bar === bar,
	)!;
	ASSERT_NE(BigInt(bus), BigInt(phys));
	for (let i = 0; i < PAGES; i++) {
		const at = BigInt(phys) + BigInt(i) * PAGE;
		const word = mr.umem.map.pfn_list![i]!;
		const used = mr.key.mtt[i]! & ~3n;
		EXPECT_EQ(at, (word & ~HMM_PFN_FLAGS()) << 12n);
		EXPECT_EQ(provider, providers(self)[i]);
		EXPECT_EQ(
			HMM_PFN_DMA_MAPPED | (uses === 'bus' ? HMM_PFN_P2PDMA_BUS : HMM_PFN_P2PDMA),
			word & STICKY,
		);
		if (uses === 'bus') EXPECT_EQ(pci_p2pdma_bus_addr_map(provider, at), used);
		if (uses === 'bus') EXPECT_EQ(BigInt(bus) + BigInt(i) * PAGE, used);
		if (uses === 'phys') EXPECT_EQ(at, used);
		if (uses === 'iova') EXPECT_TRUE(used !== at && used < 1n << 48n);
	}
	EXPECT_EQ(PAGES, live(self));
});

TEST_F(odp, 'F13_F25_migration_back_tears_the_mapping_down', (self) => {
	const { w, mr, address, bytes } = self;
	readAll(self);
	const frame = mr.umem.map.pfn_list![0]! & ~HMM_PFN_FLAGS();
	// A CPU access brings the first page home.
	ASSERT_TRUE(same(bytes.subarray(0, 8), userRead(w.task, address, 8)));
	EXPECT_EQ(0n, mr.key.mtt[0]!);
	EXPECT_EQ(0n, mr.umem.map.pfn_list![0]! & (HMM_PFN_VALID | STICKY));
	EXPECT_EQ(null, providers(self)[0]);
	EXPECT_NE(0n, mr.key.mtt[1]!);
	EXPECT_EQ(PAGES - 1, live(self));
	EXPECT_EQ(PAGES - 1, mr.umem.npages);
	// The next access finds it in system memory.
	ASSERT_TRUE(same(bytes, readAll(self)));
	EXPECT_NE(frame, mr.umem.map.pfn_list![0]! & ~HMM_PFN_FLAGS());
	EXPECT_EQ(null, providers(self)[0]);
	EXPECT_EQ(PAGES, mr.umem.npages);
});

TEST_F(odp, 'F13_munmap_and_deregistration_leave_nothing_mapped', (self) => {
	const { w, mr, address } = self;
	readAll(self);
	ASSERT_EQ(0, userMunmap(w.task, address, 2n * PAGE));
	EXPECT_EQ(PAGES - 2, live(self));
	ASSERT_EQ(
		0,
		run(() => deregMr(mr), { task: w.task }),
	);
	EXPECT_EQ(0, live(self));
});

TEST_F(odp, 'F13_a_prefetch_without_faults_maps_what_is_there', (self) => {
	const { w, nic, mr, address, bytes } = self;
	const advice = IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT;
	ASSERT_EQ(
		0,
		run(() => rnicAdviseMr(nic, advice, mr.key.key, address, BigInt(BYTES)), {
			task: w.task,
		}),
	);
	EXPECT_EQ(PAGES, live(self));
	EXPECT_EQ(0, w.gpu0.counters.migrateToRam);
	const { faults } = nic.counters;
	ASSERT_TRUE(same(bytes, readAll(self)));
	EXPECT_EQ(faults, nic.counters.faults);
	EXPECT_EQ(PAGES, live(self));
});

TEST_F(odp, 'F13_F31_read_only_entries_give_no_write_access', (self) => {
	const { w, nic, address } = self;
	const length = BigInt(BYTES);
	ASSERT_EQ(0, userMprotect(w.task, address, length, PROT_READ));
	ASSERT_EQ(0, userMprotect(w.task, address, length, PROT_READ | PROT_WRITE));
	const advice = IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT;
	run(() => rnicAdviseMr(nic, advice, self.mr.key.key, address, length), { task: w.task });
	for (const word of self.mr.key.mtt) EXPECT_EQ(1n, word & 3n);
	// The WRITE wants pages that are writable: they move, none is written in place.
	const fresh = patternBytes(BYTES, 9);
	ASSERT_EQ(IB_WC_SUCCESS, writeAll(self, fresh));
	EXPECT_EQ(PAGES, w.gpu0.counters.migrateToRam);
	EXPECT_EQ(0, live(self));
	EXPECT_TRUE(same(fresh, userRead(w.task, address, BYTES)));
});

TEST_F(odp, 'F13_orderly_removal_evicts_first_and_loses_nothing', (self) => {
	const { w, mr, address, bytes } = self;
	const { provider } = w.gpu0.aperture!;
	readAll(self);
	ASSERT_EQ(
		0,
		run(() => refgpuRemove(w.gpu0)),
	);
	EXPECT_TRUE(mr.key.mtt.every((word) => word === 0n));
	EXPECT_EQ(0, provider.mapped.size);
	ASSERT_TRUE(same(bytes, readAll(self)));
	EXPECT_TRUE(same(bytes, userRead(w.task, address, BYTES)));
});

TEST_F(odp, 'F13_removal_under_a_live_mapping_is_reported', (self) => {
	const { w, nic } = self;
	readAll(self);
	// A driver that gives its resources back and has forgotten its private pages.
	expectReport(
		new RegExp(
			`provider of ${pci_name(w.gpu0.pdev)} goes while ${pci_name(nic.pdev)} has ${PAGES} entries mapped to it`,
		),
	);
	run(() => devres_release_all(w.gpu0.pdev.dev));
	// What was mapped is still unmapped as it was mapped.
	run(() => deregMr(self.mr), { task: w.task });
	EXPECT_EQ(0, live(self));
});

TEST_F(odp, 'F13_no_memory_for_the_providers_is_no_region', ({ w, nic, address }) => {
	injectFaults().fail('hmm_dma_map_alloc:provider_list');
	EXPECT_EQ(
		-ENOMEM,
		run(() => regMr(nic, address, BigInt(BYTES), RNIC_ACCESS_ALL), { task: w.task }),
	);
});

interface Plain {
	w: StandardWorld;
}

const provider_only = FIXTURE<Plain>('provider_only_odp', () => ({}) as Plain);
FIXTURE_SETUP(provider_only, (self) => {
	// VRAM is larger than what the BAR shows of it.
	self.w = providerWorld([], { gpu: { windowSize: 2n << 20n, vramSize: 8n << 20n } });
});
FIXTURE_TEARDOWN(provider_only, ({ w }) => {
	w.close();
});

TEST_F(provider_only, 'F13_F24_a_refused_pair_falls_back_to_ram_with_the_right_bytes', ({ w }) => {
	const self = { w, ...stage(w, 'NIC2') };
	const fresh = patternBytes(BYTES, 5);
	ASSERT_TRUE(same(self.bytes, readAll(self)));
	EXPECT_EQ(PAGES, w.gpu0.counters.migrateToRam);
	ASSERT_EQ(IB_WC_SUCCESS, writeAll(self, fresh));
	EXPECT_TRUE(same(fresh, userRead(w.task, self.address, BYTES)));
	EXPECT_EQ(0, live(self));
	EXPECT_EQ(0, p2pPages());
});

TEST_F(provider_only, 'F13_F24_only_pages_that_the_bar_does_not_show_migrate', ({ w }) => {
	const chunk = 512;
	const { address: base } = w.mapPages(chunk + 4);
	ASSERT_EQ(chunk + 4, w.toVram(base, chunk + 4));
	const address = base + BigInt(chunk - 4) * PAGE;
	const nic = w.nic('NIC0');
	const self = {
		w,
		nic,
		mr: w.register(nic, address, PAGES),
		address,
		bytes: new Uint8Array(),
	};
	readAll(self);
	EXPECT_EQ(4, w.gpu0.counters.migrateToRam);
	EXPECT_EQ(4, live(self));
	EXPECT_EQ(4, providers(self).filter((one) => one !== null).length);
});

TEST_F(provider_only, 'F13_a_posted_read_carries_the_bytes_to_another_nic', ({ w }) => {
	const self = { w, ...stage(w, 'NIC0') };
	const peer = w.nic('NIC2');
	const target = w.mapPages(PAGES, 3);
	const sink = w.register(peer, target.address, PAGES);
	const status = run(
		() =>
			postSend(peer, self.nic, {
				opcode: 'RDMA_READ',
				lkey: sink.key.key,
				laddr: target.address,
				rkey: self.mr.key.key,
				raddr: self.address,
				length: BYTES,
			}),
		{ task: w.task },
	);
	ASSERT_EQ(IB_WC_SUCCESS, status);
	EXPECT_TRUE(same(self.bytes, userRead(w.task, target.address, BYTES)));
	EXPECT_EQ(0, w.gpu0.counters.migrateToRam);
});

TEST_F(provider_only, 'F13_F10_dma_map_judges_each_client_by_the_provider', ({ w }) => {
	const { provider, phys } = w.gpu0.aperture!;
	const frame = (phys as bigint) >> 12n;
	const mapFor = (label: string): { address: bigint; word: bigint; again: bigint } => {
		const { dev } = w.pdev(label);
		const map = new hmm_dma_map();
		ASSERT_EQ(0, hmm_dma_map_alloc(dev, map, 1n, PAGE));
		map.pfn_list![0] = HMM_PFN_VALID | frame;
		map.provider_list!.set(0, provider);
		const state = new pci_p2pdma_map_state();
		const address = hmm_dma_map_pfn(dev, map, 0n, state) as bigint;
		const word = map.pfn_list![0]!;
		// Mapped again it is the same, and counted once.
		const again = hmm_dma_map_pfn(dev, map, 0n, state) as bigint;
		if (address !== DMA_MAPPING_ERROR) {
			EXPECT_EQ(1, provider.mapped.get(dev));
			EXPECT_TRUE(hmm_dma_unmap_pfn(dev, map, 0n));
			EXPECT_FALSE(hmm_dma_unmap_pfn(dev, map, 0n));
		}
		EXPECT_FALSE(provider.mapped.has(dev));
		hmm_dma_map_free(dev, map);
		return { address, word: word & STICKY, again };
	};
	w.nic('NIC0');
	w.nic('NIC1');
	w.nic('NIC2');

	const bus = mapFor('NIC0');
	EXPECT_EQ(pci_p2pdma_bus_addr_map(provider, phys), bus.address);
	EXPECT_EQ(HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA_BUS, bus.word);
	EXPECT_EQ(bus.address, bus.again);
	const through = mapFor('NIC1');
	EXPECT_EQ(phys as bigint, through.address);
	EXPECT_EQ(HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA, through.word);
	EXPECT_EQ(through.address, through.again);
	const refused = mapFor('NIC2');
	EXPECT_EQ(DMA_MAPPING_ERROR, refused.address);
	EXPECT_EQ(0n, refused.word);
	// What would be mapped as RAM is refused: there is no page.
	provider.ops = {
		name: 'coherent',
		map_type: () => PCI_P2PDMA_MAP_NONE,
		bus_addr: pci_p2pdma_bus_addr_map,
	};
	EXPECT_EQ(DMA_MAPPING_ERROR, mapFor('NIC1').address);
});

/** Every root complex routes between its ports, and to the other one. */
function routesAll(d: MachineDescription): void {
	d.cpu = { vendor: 'amd', family: 0x17, model: 0 };
	d.crossHostBridge = 'works';
}

/** Four pages of each GPU in one region of NIC0; GPU1 without P2P pages, or with. */
function twoGpus(providerOnly: boolean): Self & { gpu1: RefGpu } {
	const w = providerWorld([routesAll]);
	const gpu1 = run(() => refgpuProbe(w.pdev('GPU1'), { providerOnly }));
	const { address, bytes } = w.mapPages(PAGES);
	const half = BigInt(PAGES / 2) * PAGE;
	ASSERT_EQ(PAGES / 2, w.toVram(address, PAGES / 2));
	ASSERT_EQ(PAGES / 2, w.toVram(address + half, PAGES / 2, gpu1));
	const nic = w.nic('NIC0');
	return { w, nic, mr: w.register(nic, address, PAGES), address, bytes, gpu1 };
}

for (const [how, providerOnly] of [
	['two_providers', true],
	['a_provider_and_p2p_pages', false],
] as const)
	TEST(`F13_F17_one_region_over_${how}`, () => {
		const self = twoGpus(providerOnly);
		const { w, nic, mr, bytes, gpu1, address } = self;
		// All of it in one walk and one loop: neither may keep the first provider's verdict.
		const advice = IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT;
		run(() => rnicAdviseMr(nic, advice, mr.key.key, address, BigInt(BYTES)), {
			task: w.task,
		});
		EXPECT_EQ(PAGES, mr.umem.npages);
		ASSERT_TRUE(same(bytes, readAll(self)));
		EXPECT_EQ(0, w.gpu0.counters.migrateToRam + gpu1.counters.migrateToRam);
		const own = w.gpu0.aperture!.provider;
		const other = gpu1.aperture?.provider ?? null;
		ASSERT_EQ(providerOnly, other !== null);
		for (let i = 0; i < PAGES; i++) {
			EXPECT_EQ(i < PAGES / 2 ? own : other, providers(self)[i]);
			EXPECT_EQ(
				i < PAGES / 2 ? HMM_PFN_P2PDMA_BUS : HMM_PFN_P2PDMA,
				mr.umem.map.pfn_list![i]! & (HMM_PFN_P2PDMA | HMM_PFN_P2PDMA_BUS),
			);
		}
		EXPECT_EQ(providerOnly, p2pPages() === 0);
		// One of them goes: the other's mappings stay.
		ASSERT_EQ(
			0,
			run(() => refgpuRemove(gpu1)),
		);
		EXPECT_EQ(PAGES / 2, live(self));
		EXPECT_EQ(PAGES / 2, mr.umem.npages);
		ASSERT_TRUE(same(bytes, readAll(self)));
		EXPECT_TRUE(same(bytes, userRead(w.task, address, BYTES)));
		w.close();
	});
