// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a NIC's on-demand paging reaches a GPU's device-private pages where they are, and nothing
 * but the pages that cannot be reached goes to system memory. Method: the standard topology with
 * real drivers; what is compared is bytes that travelled through the fabric, counters of both
 * drivers, and the addresses that the NIC put on its bus.
 */
import type { MachineDescription } from '../../../arch/sim/description.ts';
import { vramOffset } from '../../../drivers/gpu/refgpu/gpu.ts';
import { refgpuRemove } from '../../../drivers/gpu/refgpu/index.ts';
import {
	deregMr,
	type Rnic,
	type RnicMr,
	rdmaReadResponder,
	rdmaWriteResponder,
} from '../../../drivers/infiniband/hw/rnic/rnic.ts';
import { cachedMapType, map_types_idx, storeMapType } from '../../../drivers/pci/p2pdma/cache.ts';
import { calc_map_type_and_dist } from '../../../drivers/pci/p2pdma/distance.ts';
import { p2pdmaOf } from '../../../drivers/pci/p2pdma/objects.ts';
import { pciBus } from '../../../drivers/pci/search.ts';
import { DMA_MAPPING_ERROR } from '../../../include/linux/dma-mapping.ts';
import {
	HMM_PFN_DMA_MAPPED,
	HMM_PFN_FLAGS,
	HMM_PFN_P2PDMA,
	HMM_PFN_P2PDMA_BUS,
	HMM_PFN_VALID,
	HMM_PFN_WRITE,
	hmm_pfn_to_page,
} from '../../../include/linux/hmm.ts';
import { hmm_dma_map } from '../../../include/linux/hmm-dma.ts';
import type { dev_pagemap_ops } from '../../../include/linux/memremap.ts';
import { PROT_READ, PROT_WRITE } from '../../../include/linux/mm.ts';
import type { folio } from '../../../include/linux/mm_types.ts';
import { page_to_pfn, pfn_to_page } from '../../../include/linux/mmzone.ts';
import { is_pci_p2pdma_page, page_ref_count } from '../../../include/linux/page-flags.ts';
import {
	PCI_P2PDMA_MAP_BUS_ADDR,
	PCI_P2PDMA_MAP_NOT_SUPPORTED,
	PCI_P2PDMA_MAP_THRU_HOST_BRIDGE,
	pci_p2pdma_map_state,
} from '../../../include/linux/pci-p2pdma.ts';
import { outParam } from '../../../include/linux/types.ts';
import {
	IB_WC_REM_ACCESS_ERR,
	IB_WC_REM_OP_ERR,
	IB_WC_SUCCESS,
} from '../../../include/rdma/ib_verbs.ts';
import { injectFaults } from '../../../include/sim/fault_injection.ts';
import { shutdown } from '../../../init/main.ts';
import { run, runThreads, spawn } from '../../../kernel/sched/core.ts';
import {
	hmm_dma_map_alloc,
	hmm_dma_map_free,
	hmm_dma_map_pfn,
	hmm_dma_unmap_pfn,
} from '../../../mm/hmm_dma.ts';
import { loadUser, userMprotect, userMunmap, userRead, userWrite } from '../../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	ASSERT_NE,
	ASSERT_TRUE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../../kselftest_harness.ts';
import { labelled, PAGE, patternBytes, portAbove, StandardWorld } from '../../support/standard.ts';

const PAGES = 8;
const BYTES = PAGES * 4096;
const ACS_SV = 0x01;
const ACS_RR = 0x04;
/** Steps of the migration of one page. The usual cause of more is a migration that never ends. */
const MAX_MIGRATION_STEPS = 1000;

interface Self {
	w: StandardWorld;
}

const p2p_odp = FIXTURE<Self>('p2p_odp', () => ({ w: null as unknown as StandardWorld }));

FIXTURE_SETUP(p2p_odp, (self) => {
	self.w = new StandardWorld();
});

FIXTURE_TEARDOWN(p2p_odp, (self) => {
	self.w.close();
});

/** Replace the fixture's world by one that is set up otherwise. */
function reboot(
	self: Self,
	options: ConstructorParameters<typeof StandardWorld>[0],
): StandardWorld {
	self.w.close();
	// The first world of a test is shut down here; what it has to report counts as well.
	shutdownEmpty();
	self.w = new StandardWorld(options);
	return self.w;
}

function shutdownEmpty(): void {
	const reports = shutdown();
	ASSERT_EQ(reports.length, 0);
}

function readAll(w: StandardWorld, nic: Rnic, mr: RnicMr, address: bigint): Uint8Array {
	const { status, data } = run(() => rdmaReadResponder(nic, mr.key.key, address, BYTES), {
		task: w.task,
	});
	ASSERT_EQ(status, IB_WC_SUCCESS);
	return data;
}

function writeAll(
	w: StandardWorld,
	nic: Rnic,
	mr: RnicMr,
	address: bigint,
	bytes: Uint8Array,
): number {
	return run(() => rdmaWriteResponder(nic, mr.key.key, address, bytes), { task: w.task });
}

function same(a: Uint8Array, b: unknown): boolean {
	return b instanceof Uint8Array && Buffer.compare(a, b) === 0;
}

/** Strict DMA domains, one for each device. */
function behindIommu(d: MachineDescription): void {
	d.iommu = { kind: 'intel', domains: 'dma' };
}

/** Pages in VRAM, registered with one NIC. */
function stage(
	w: StandardWorld,
	label: string,
): { nic: Rnic; mr: RnicMr; address: bigint; bytes: Uint8Array } {
	const { address, bytes } = w.mapPages(PAGES);
	ASSERT_EQ(w.toVram(address, PAGES), PAGES);
	const nic = w.nic(label);
	return { nic, mr: w.register(nic, address, PAGES), address, bytes };
}

TEST_F(p2p_odp, 'F1_foreign_page_stays_when_a_nic_faults', ({ w }) => {
	const { nic, mr, address, bytes } = stage(w, 'NIC0');

	ASSERT_TRUE(same(bytes, readAll(w, nic, mr, address)));
	EXPECT_EQ(w.gpu0.counters.migrateToRam, 0);
	EXPECT_EQ(w.gpu0.counters.opCalls > 0 ? 1 : 0, 1);
	EXPECT_EQ(nic.silicon.faults.length, 0);
});

TEST_F(p2p_odp, 'F3_below_a_switch_the_nic_uses_the_bus_address', ({ w }) => {
	const { nic, mr, address } = stage(w, 'NIC0');
	readAll(w, nic, mr, address);

	const word = mr.umem.map.pfn_list![0]!;
	EXPECT_TRUE((word & HMM_PFN_P2PDMA_BUS) !== 0n);
	EXPECT_TRUE((word & HMM_PFN_P2PDMA) === 0n);
	const phys = page_to_pfn(hmm_pfn_to_page(word)) << 12n;
	const bar = labelled(w.machine.description, 'GPU0').bars.find(
		({ bar: n }) => n === w.gpu0.window!.bar,
	)!;
	ASSERT_NE(BigInt(bar.bus), BigInt(bar.phys));
	EXPECT_EQ(mr.key.mtt[0]! & ~3n, phys + BigInt(bar.bus) - BigInt(bar.phys));
});

TEST_F(p2p_odp, 'F4_rdma_over_a_migrated_range_allocates_no_page', ({ w }) => {
	const { nic, mr, address, bytes } = stage(w, 'NIC0');
	const { seen } = injectFaults();
	const fresh = patternBytes(BYTES, 77);

	ASSERT_TRUE(same(bytes, readAll(w, nic, mr, address)));
	ASSERT_EQ(writeAll(w, nic, mr, address, fresh), IB_WC_SUCCESS);
	EXPECT_EQ(w.gpu0.counters.migrateToRam, 0);
	EXPECT_EQ(seen.get('alloc_pages') ?? 0, 0);
	// The bytes are in VRAM: the GPU sees them before any CPU does.
	const vram = new Uint8Array(BYTES);
	w.gpu0.silicon.vram.read(0n, vram);
	EXPECT_TRUE(same(fresh, vram));
	// Bringing them home does allocate, and is counted.
	EXPECT_TRUE(same(fresh, userRead(w.task, address, BYTES)));
	EXPECT_EQ(seen.get('alloc_pages'), PAGES);
});

TEST_F(p2p_odp, 'F6_an_address_makes_sense_to_one_device_only', (self) => {
	// A domain for each device, and a switch without ACS, which an IOMMU would make redirect.
	const w = reboot(self, {
		machine: (d) => {
			behindIommu(d);
			for (const label of ['GPU0', 'NIC0']) portAbove(d, label).acs = null;
		},
	});
	const { nic: nic0, mr: mr0, address, bytes } = stage(w, 'NIC0');
	const nic1 = w.nic('NIC1');
	const mr1 = w.register(nic1, address, PAGES);
	ASSERT_TRUE(same(bytes, readAll(w, nic0, mr0, address)));
	ASSERT_TRUE(same(bytes, readAll(w, nic1, mr1, address)));
	const { faultLog } = w.machine.iommu!;
	ASSERT_EQ(faultLog.length, 0);

	// The same page, two addresses: on the bus below the switch, and in NIC1's domain.
	const pfnOf = (mr: RnicMr): bigint => mr.umem.map.pfn_list![0]! & ~HMM_PFN_FLAGS();
	EXPECT_EQ(pfnOf(mr0), pfnOf(mr1));
	const bus = mr0.key.mtt[0]! & ~3n;
	const iova = mr1.key.mtt[0]! & ~3n;
	EXPECT_NE(bus, iova);
	for (const [nic, foreign] of [
		[nic0, iova],
		[nic1, bus],
	] as const) {
		const { silicon } = nic;
		faultLog.length = 0;
		EXPECT_EQ(silicon.port.read(foreign, 64).status, 'UR');
		EXPECT_EQ(silicon.port.write(foreign, new Uint8Array(64)).status, 'UR');
		EXPECT_EQ(faultLog.length, 2);
		for (const fault of faultLog) {
			EXPECT_TRUE(fault.text.startsWith('DMAR: '));
			EXPECT_EQ(fault.address, foreign);
		}
	}
	// Nothing was written on the way.
	EXPECT_TRUE(same(bytes, readAll(w, nic0, mr0, address)));
});

TEST_F(p2p_odp, 'F10_dma_map_of_the_four_kinds_of_page', (self) => {
	const { w } = self;
	const { address } = w.mapPages(2);
	ASSERT_EQ(w.toVram(address, 1), 1);
	const nic0 = w.nic('NIC0').pdev.dev;
	const { ret, pfns } = w.rangeFault(address, 2, { dma_dev: nic0 });
	ASSERT_EQ(ret, 0);
	ASSERT_TRUE(is_pci_p2pdma_page(hmm_pfn_to_page(pfns[0]!)));

	const mapFor = (dev: typeof nic0): { address: bigint; word: bigint; ram: bigint } => {
		const map = new hmm_dma_map();
		ASSERT_EQ(hmm_dma_map_alloc(dev, map, 2n, PAGE), 0);
		map.pfn_list!.set(pfns);
		const state = new pci_p2pdma_map_state();
		const alias = hmm_dma_map_pfn(dev, map, 0n, state);
		const ram = hmm_dma_map_pfn(dev, map, 1n, state);
		const word = map.pfn_list![0]!;
		hmm_dma_unmap_pfn(dev, map, 0n);
		hmm_dma_unmap_pfn(dev, map, 1n);
		hmm_dma_map_free(dev, map);
		return { address: alias, word, ram };
	};
	const phys = (pfns[0]! & ~HMM_PFN_FLAGS()) << 12n;
	const sticky = HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA | HMM_PFN_P2PDMA_BUS;

	const bus = mapFor(nic0);
	EXPECT_EQ(bus.word & sticky, HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA_BUS);
	EXPECT_NE(bus.address, phys);
	// NONE: system memory.
	EXPECT_EQ(bus.ram, (pfns[1]! & ~HMM_PFN_FLAGS()) << 12n);
	const through = mapFor(w.nic('NIC1').pdev.dev);
	EXPECT_EQ(through.word & sticky, HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA);
	EXPECT_EQ(through.address, phys);
	const refused = mapFor(w.nic('NIC2').pdev.dev);
	EXPECT_EQ(refused.address, DMA_MAPPING_ERROR);
	EXPECT_EQ(refused.word & sticky, 0n);
});

TEST_F(p2p_odp, 'F24_only_unreachable_pages_migrate', (self) => {
	// VRAM is larger than its window: the first four pages have aliases, the others do not.
	const w = reboot(self, { gpu: { windowSize: 2n << 20n, vramSize: 8n << 20n } });
	const chunkPages = 512;
	const { address } = w.mapPages(chunkPages + 4);
	ASSERT_EQ(w.toVram(address, chunkPages + 4), chunkPages + 4);
	const at = address + BigInt(chunkPages - 4) * PAGE;
	const nic = w.nic('NIC0');
	const mr = w.register(nic, at, PAGES);

	const { status } = run(() => rdmaReadResponder(nic, mr.key.key, at, BYTES), {
		task: w.task,
	});
	ASSERT_EQ(status, IB_WC_SUCCESS);
	EXPECT_EQ(w.gpu0.counters.migrateToRam, 4);
	const kept = [...mr.umem.map.pfn_list!].filter((word) =>
		is_pci_p2pdma_page(hmm_pfn_to_page(word)),
	);
	EXPECT_EQ(kept.length, 4);
});

TEST_F(p2p_odp, 'F24_a_refused_pair_falls_back_to_ram_with_the_right_bytes', ({ w }) => {
	const { nic, mr, address, bytes } = stage(w, 'NIC2');
	const fresh = patternBytes(BYTES, 5);

	ASSERT_TRUE(same(bytes, readAll(w, nic, mr, address)));
	EXPECT_EQ(w.gpu0.counters.migrateToRam, PAGES);
	ASSERT_EQ(writeAll(w, nic, mr, address, fresh), IB_WC_SUCCESS);
	EXPECT_TRUE(same(fresh, userRead(w.task, address, BYTES)));
	EXPECT_EQ(nic.silicon.faults.length, 0);
});

TEST_F(p2p_odp, 'F25_migration_zaps_the_alias_before_the_page_is_freed', ({ w }) => {
	const { nic, mr, address, bytes } = stage(w, 'NIC0');
	ASSERT_TRUE(same(bytes, readAll(w, nic, mr, address)));
	const alias = hmm_pfn_to_page(mr.umem.map.pfn_list![0]!);
	EXPECT_EQ(page_ref_count(alias), 0);

	// A CPU access brings the first page home.
	ASSERT_TRUE(same(bytes.subarray(0, 8), userRead(w.task, address, 8)));
	EXPECT_EQ(mr.key.mtt[0]!, 0n);
	EXPECT_EQ(mr.umem.map.pfn_list![0]! & (HMM_PFN_VALID | HMM_PFN_DMA_MAPPED), 0n);
	EXPECT_TRUE(mr.key.mtt[1]! !== 0n);
	// The next access faults again and finds the page in RAM.
	const faults = nic.counters.faults;
	ASSERT_TRUE(same(bytes, readAll(w, nic, mr, address)));
	EXPECT_TRUE(nic.counters.faults > faults);
	EXPECT_FALSE(is_pci_p2pdma_page(hmm_pfn_to_page(mr.umem.map.pfn_list![0]!)));
});

/** What happens to a page that leaves VRAM: its entry of the NIC's table goes, its memory is freed. */
function recordOrder(w: StandardWorld, mr: RnicMr): string[] {
	const order: string[] = [];
	const alias = mr.key.mtt[0]! & ~3n;
	const { silicon } = mr.nic;
	const { writeTable } = silicon;
	silicon.writeTable = function* (key, first, words) {
		yield* writeTable.call(silicon, key, first, words);
		if (first === 0 && words[0] === 0n) order.push('zap');
	};
	for (const { pagemap } of w.gpu0.chunks) {
		const { folio_free } = pagemap.ops!;
		pagemap.ops = {
			...pagemap.ops,
			*folio_free(f: folio) {
				order.push(
					(mr.key.mtt[0]! & ~3n) === alias
						? 'free under DMA'
						: 'free',
				);
				// Whoever still gets there sees it.
				w.gpu0.silicon.vram.write(
					vramOffset(f.page),
					new Uint8Array(4096).fill(0x6b),
				);
				yield* folio_free!(f);
			},
		} as dev_pagemap_ops;
	}
	return order;
}

/** A migration stops after some steps, a READ runs until it waits or ends; then both go on. */
function readInside(self: Self, steps: number): { ended: boolean; waited: boolean } {
	const w = reboot(self, {});
	const { nic, mr, address, bytes } = stage(w, 'NIC0');
	ASSERT_TRUE(same(bytes, readAll(w, nic, mr, address)));
	const order = recordOrder(w, mr);
	const got = { status: -1, data: new Uint8Array(0) };
	const { mm } = w.task;
	const migrator = spawn('migrator', () => loadUser(address, new Uint8Array(8)), {
		mm,
		cpu: 0,
	});
	const reader = spawn(
		'reader',
		function* () {
			Object.assign(
				got,
				yield* rdmaReadResponder(nic, mr.key.key, address, BYTES),
			);
		},
		{ mm, cpu: 1 },
	);
	let step = 0;
	let ended = false;
	let waited = false;
	runThreads({
		preemptive: true,
		pick(runnable) {
			const migrating = runnable.includes(migrator);
			if (step < steps && migrating) {
				step++;
				return migrator;
			}
			if (step < steps) ended = true;
			step = steps;
			if (runnable.includes(reader)) return reader;
			if (got.status === -1) waited = true;
			return runnable[0]!;
		},
	});
	EXPECT_EQ(got.status, IB_WC_SUCCESS);
	EXPECT_TRUE(same(bytes, got.data));
	EXPECT_STREQ(order.join(', '), 'zap, free');
	EXPECT_EQ(nic.silicon.faults.length, 0);
	return { ended, waited };
}

TEST_F(p2p_odp, 'F25_dma_at_any_step_of_a_migration_never_reads_freed_memory', (self) => {
	let waits = 0;
	let steps = 0;
	for (let ended = false; !ended && steps < MAX_MIGRATION_STEPS; steps++) {
		const { ended: over, waited } = readInside(self, steps);
		ended = over;
		if (waited) waits++;
	}
	ASSERT_TRUE(steps < MAX_MIGRATION_STEPS);
	// Some began while the entry was zapped and the page not freed yet: they waited for the migration.
	EXPECT_TRUE(waits > 0);
	EXPECT_TRUE(waits < steps);
});

TEST_F(p2p_odp, 'F25_munmap_leaves_the_nic_nothing_to_reach', ({ w }) => {
	const { nic, mr, address } = stage(w, 'NIC0');
	readAll(w, nic, mr, address);
	ASSERT_EQ(userMunmap(w.task, address, BigInt(BYTES)), 0);
	EXPECT_TRUE(mr.key.mtt.every((word) => word === 0n));
	EXPECT_EQ(mr.umem.npages, 0);
	const { status } = run(() => rdmaReadResponder(nic, mr.key.key, address, BYTES), {
		task: w.task,
	});
	EXPECT_EQ(status, IB_WC_REM_ACCESS_ERR);
});

TEST_F(p2p_odp, 'F30_aliases_and_private_pages_are_a_bijection_and_count_apart', ({ w }) => {
	const { nic, mr, address } = stage(w, 'NIC0');
	const owner = w.rangeFault(address, PAGES, { dev_private_owner: w.gpu0 });
	ASSERT_EQ(owner.ret, 0);
	readAll(w, nic, mr, address);

	const seen = new Set<bigint>();
	for (let i = 0; i < PAGES; i++) {
		const word = mr.umem.map.pfn_list![i]!;
		const alias = hmm_pfn_to_page(word);
		const own = pfn_to_page(owner.pfns[i]! & ~HMM_PFN_FLAGS());
		seen.add(page_to_pfn(alias));
		EXPECT_EQ(page_ref_count(alias), 0);
		EXPECT_EQ(page_ref_count(own), 1);
		EXPECT_TRUE(alias !== own);
	}
	EXPECT_EQ(seen.size, PAGES);
	run(() => deregMr(mr), { task: w.task });
	// Unregistering put no reference that it had not taken.
	for (let i = 0; i < PAGES; i++)
		EXPECT_EQ(page_ref_count(pfn_to_page(owner.pfns[i]! & ~HMM_PFN_FLAGS())), 1);
});

TEST_F(p2p_odp, 'F31_read_only_entry_gives_the_nic_no_write_access', ({ w }) => {
	const { nic, mr, address, bytes } = stage(w, 'NIC0');
	ASSERT_EQ(userMprotect(w.task, address, BigInt(BYTES), PROT_READ), 0);
	ASSERT_EQ(userMprotect(w.task, address, BigInt(BYTES), PROT_READ | PROT_WRITE), 0);
	const snapshot = w.rangeFault(address, PAGES, { dma_dev: nic.pdev.dev });
	ASSERT_EQ(snapshot.ret, 0);
	for (const word of snapshot.pfns) {
		EXPECT_TRUE((word & HMM_PFN_VALID) !== 0n);
		EXPECT_EQ(word & HMM_PFN_WRITE, 0n);
	}
	// The NIC's region is writable, so its fault wants to write: the pages move, none is written in place.
	const fresh = patternBytes(BYTES, 9);
	ASSERT_EQ(writeAll(w, nic, mr, address, fresh), IB_WC_SUCCESS);
	EXPECT_EQ(w.gpu0.counters.migrateToRam, PAGES);
	EXPECT_TRUE(same(fresh, userRead(w.task, address, BYTES)));
	EXPECT_FALSE(same(bytes, fresh));
});

/**
 * The fabric alone finds a wrong decision out: one thing that the kernel decides by is taken away, all
 * else is the kernel's own way from the page fault to the NIC's table, and the TLP faults. The control
 * is the same run with nothing taken away.
 */
interface Wrong {
	readonly machine: (d: MachineDescription) => void;
	/** What the right kernel says. */
	readonly type: number;
	/** What is taken away. */
	readonly breakKernel: (w: StandardWorld) => void;
}

/** ACS on both ports below the switch. */
const acsOnBothPorts =
	(control: number) =>
	(d: MachineDescription): void => {
		for (const label of ['GPU0', 'NIC0']) portAbove(d, label).acs!.control = control;
	};

/** No function shows the kernel an ACS capability: nothing redirects, as far as it knows. */
function withoutAcsCheck(): void {
	for (const pdev of pciBus().byName.values()) pdev.acs_cap = 0;
}

/** The provider's cache has what a kernel without the check stored. */
function withStoredBusAddr(w: StandardWorld): void {
	storeMapType(
		p2pdmaOf(w.pdev('GPU0'))!,
		map_types_idx(w.pdev('NIC0')),
		PCI_P2PDMA_MAP_BUS_ADDR,
	);
}

/** The bus address is the physical address. */
function withoutBusOffset(w: StandardWorld): void {
	p2pdmaOf(w.pdev('GPU0'))!.mem[w.gpu0.window!.bar]!.bus_offset = 0n;
}

function endToEnd(self: Self, { machine, type, breakKernel }: Wrong): void {
	const right = reboot(self, { machine });
	const control = stage(right, 'NIC0');
	ASSERT_TRUE(same(control.bytes, readAll(right, control.nic, control.mr, control.address)));
	ASSERT_EQ(cachedMapType(right.pdev('GPU0'), right.pdev('NIC0')), type);
	EXPECT_EQ(right.gpu0.counters.migrateToRam, 0);
	EXPECT_EQ(control.nic.silicon.faults.length, 0);

	const w = reboot(self, { machine });
	breakKernel(w);
	const { nic, mr, address, bytes } = stage(w, 'NIC0');
	const { status } = run(() => rdmaReadResponder(nic, mr.key.key, address, BYTES), {
		task: w.task,
	});
	EXPECT_EQ(status, IB_WC_REM_OP_ERR);
	EXPECT_EQ(cachedMapType(w.pdev('GPU0'), w.pdev('NIC0')), PCI_P2PDMA_MAP_BUS_ADDR);
	EXPECT_EQ(nic.silicon.faults.length, 1);
	EXPECT_EQ(nic.silicon.faults[0]?.status, 'UR');
	EXPECT_EQ(writeAll(w, nic, mr, address, patternBytes(BYTES, 3)), IB_WC_REM_OP_ERR);
	// The kernel noticed nothing, and no byte went anywhere.
	EXPECT_EQ(w.gpu0.counters.migrateToRam, 0);
	EXPECT_TRUE(same(bytes, userRead(w.task, address, BYTES)));
}

TEST_F(p2p_odp, 'F7_without_the_acs_check_the_fabric_faults', (self) => {
	endToEnd(self, {
		machine: acsOnBothPorts(ACS_SV | ACS_RR),
		type: PCI_P2PDMA_MAP_THRU_HOST_BRIDGE,
		breakKernel: withoutAcsCheck,
	});
});

TEST_F(p2p_odp, 'F7_without_the_acs_check_an_iommu_faults', (self) => {
	endToEnd(self, {
		machine: (d) => {
			acsOnBothPorts(ACS_SV | ACS_RR)(d);
			behindIommu(d);
		},
		type: PCI_P2PDMA_MAP_THRU_HOST_BRIDGE,
		breakKernel: withoutAcsCheck,
	});
	const { iommu } = self.w.machine;
	EXPECT_EQ(iommu!.faultLog.length, 2);
	EXPECT_TRUE(iommu!.faultLog.every(({ text }) => text.startsWith('DMAR: ')));
});

TEST_F(p2p_odp, 'F7_verdict_stored_before_acs_was_switched_on_faults', (self) => {
	endToEnd(self, {
		machine: acsOnBothPorts(ACS_SV | ACS_RR),
		type: PCI_P2PDMA_MAP_THRU_HOST_BRIDGE,
		breakKernel: withStoredBusAddr,
	});
});

TEST_F(p2p_odp, 'F7_the_physical_address_below_a_switch_is_not_the_bus_address', (self) => {
	endToEnd(self, {
		// What the switch does not turn around, the root complex does not either.
		machine: (d) => {
			for (const host of d.hostBridges) host.peerToPeer = 'aborts';
		},
		type: PCI_P2PDMA_MAP_BUS_ADDR,
		breakKernel: withoutBusOffset,
	});
});

TEST_F(p2p_odp, 'F7_distance_and_type_of_the_standard_pair', ({ w }) => {
	const dist = outParam(0);
	EXPECT_EQ(
		calc_map_type_and_dist(w.pdev('GPU0'), w.pdev('NIC0'), dist, false),
		PCI_P2PDMA_MAP_BUS_ADDR,
	);
	ASSERT_EQ(dist.value, 4);
});

TEST_F(p2p_odp, 'F7_refused_pair_is_not_supported', ({ w }) => {
	const dist = outParam(0);
	EXPECT_EQ(
		calc_map_type_and_dist(w.pdev('GPU0'), w.pdev('NIC2'), dist, false),
		PCI_P2PDMA_MAP_NOT_SUPPORTED,
	);
	ASSERT_TRUE(dist.value > 0);
});

TEST_F(p2p_odp, 'unloading_the_gpu_takes_its_pages_from_the_nic_first', ({ w }) => {
	const { nic, mr, address, bytes } = stage(w, 'NIC0');
	readAll(w, nic, mr, address);
	ASSERT_EQ(
		run(() => refgpuRemove(w.gpu0)),
		0,
	);
	EXPECT_TRUE(mr.key.mtt.every((word) => word === 0n));
	// Evicted, not lost.
	ASSERT_TRUE(same(bytes, readAll(w, nic, mr, address)));
	EXPECT_TRUE(same(bytes, userRead(w.task, address, BYTES)));
	userWrite(w.task, address, bytes);
});
