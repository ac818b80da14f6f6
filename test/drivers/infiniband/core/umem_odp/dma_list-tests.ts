// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: v6.12 maps a range's pages while it takes umem_mutex, keeps address and permissions in one
 * word, and gives up where the C does. Method: ranges of a process's memory on a NIC and on a
 * device that copies by CPU; lists and counters are read under no contention.
 */
import { ib_dma_map_page } from '../../../../../drivers/infiniband/core/ib_dma.ts';
import { ib_umem_odp_map_dma_single_page } from '../../../../../drivers/infiniband/core/umem_odp/dma_list.ts';
import {
	ib_umem_odp_get,
	ib_umem_odp_map_dma_and_lock,
	ib_umem_odp_release,
	ib_umem_odp_unmap_dma_pages,
} from '../../../../../drivers/infiniband/core/umem_odp.ts';
import { DMA_BIDIRECTIONAL } from '../../../../../include/linux/dma-direction.ts';
import { EBUSY, EFAULT, EINVAL } from '../../../../../include/linux/errno.ts';
import {
	HMM_PFN_FLAGS,
	HMM_PFN_VALID,
	HMM_PFN_WRITE,
	hmm_pfn_to_page,
	hmm_pfn_to_phys,
} from '../../../../../include/linux/hmm.ts';
import { PROT_READ, PROT_WRITE } from '../../../../../include/linux/mm.ts';
import { page_folio } from '../../../../../include/linux/mm_types.ts';
import {
	MMU_NOTIFY_CLEAR,
	type mmu_interval_notifier_ops,
	mmu_notifier_range,
} from '../../../../../include/linux/mmu_notifier.ts';
import { pfn_to_page } from '../../../../../include/linux/mmzone.ts';
import {
	folio_test_dirty,
	is_pci_p2pdma_page,
	PG_dirty,
	page_ref_count,
	page_to_phys,
} from '../../../../../include/linux/page-flags.ts';
import { ULONG_MAX } from '../../../../../include/linux/types.ts';
import {
	type ib_umem_odp,
	ODP_DMA_ADDR_MASK,
	ODP_READ_ALLOWED_BIT,
	ODP_WRITE_ALLOWED_BIT,
} from '../../../../../include/rdma/ib_umem_odp.ts';
import {
	IB_ACCESS_LOCAL_WRITE,
	IB_ACCESS_ON_DEMAND,
	ib_device,
} from '../../../../../include/rdma/ib_verbs.ts';
import { injectFaults } from '../../../../../include/sim/fault_injection.ts';
import { phys_to_virt } from '../../../../../kernel/dma/linear_map.ts';
import { mutex_lock, mutex_unlock } from '../../../../../kernel/locking/mutex.ts';
import { run, runThreads, spawn } from '../../../../../kernel/sched/core.ts';
import { msleep } from '../../../../../kernel/time/sleep_timeout.ts';
import { mmap_write_lock, mmap_write_unlock } from '../../../../../mm/mmap_lock.ts';
import {
	mmu_interval_set_seq,
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init,
} from '../../../../../mm/mmu_notifier.ts';
import { userMprotect, userMunmap } from '../../../../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	ASSERT_NE,
	ASSERT_TRUE,
	EXPECT_EQ,
	EXPECT_NE,
	EXPECT_NULL,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../../../../kselftest_harness.ts';
import { labelled, PAGE, StandardWorld } from '../../../../support/standard.ts';

const PAGES = 4;
const LENGTH = BigInt(PAGES) * PAGE;
const ACCESS = IB_ACCESS_ON_DEMAND | IB_ACCESS_LOCAL_WRITE;
const R = ODP_READ_ALLOWED_BIT;
const RW = ODP_READ_ALLOWED_BIT | ODP_WRITE_ALLOWED_BIT;

interface Self {
	w: StandardWorld;
	dev: ib_device;
	/** Four pages with bytes. */
	address: bigint;
	umem: ib_umem_odp;
}

const dma_list = FIXTURE<Self>('dma_list', () => ({
	w: null as unknown as StandardWorld,
	dev: null as unknown as ib_device,
	address: 0n,
	umem: null as unknown as ib_umem_odp,
}));

FIXTURE_SETUP(dma_list, (self) => {
	self.w = new StandardWorld({ profile: 'v6.12', proposals: [] });
	self.address = self.w.mapPages(PAGES).address;
	self.dev = self.w.nic('NIC0').ibdev;
	self.umem = get(self);
});

FIXTURE_TEARDOWN(dma_list, ({ w, umem }) => {
	if (umem.tgid !== null) release(w, umem);
	w.close();
});

const ops: mmu_interval_notifier_ops = {
	*invalidate(mni, range, seq) {
		const umem = mni.container as ib_umem_odp;
		yield* mutex_lock(umem.umem_mutex);
		mmu_interval_set_seq(mni, seq);
		yield* ib_umem_odp_unmap_dma_pages(umem, range.start, range.end);
		yield* mutex_unlock(umem.umem_mutex);
		return true;
	},
};

function get({ w, dev, address }: Self): ib_umem_odp {
	const umem = run(() => ib_umem_odp_get(dev, address, LENGTH, ACCESS, ops), {
		task: w.task,
	});
	if (typeof umem === 'number') throw new Error(`umem: ${umem}`);
	return umem;
}

function release(w: StandardWorld, umem: ib_umem_odp): void {
	run(() => ib_umem_odp_release(umem), { task: w.task });
}

/** map_dma_and_lock() and the mutex given back; a negative answer must not have it. */
function map({ w, umem, address }: Self, access: bigint, fault = true, size = LENGTH): number {
	return run(
		function* () {
			const np = yield* ib_umem_odp_map_dma_and_lock(
				umem,
				address,
				size,
				access,
				fault,
			);
			EXPECT_EQ(umem.umem_mutex.owner === null, np < 0);
			if (np >= 0) yield* mutex_unlock(umem.umem_mutex);
			return np;
		},
		{ task: w.task },
	);
}

/** Permissions of each address, one letter each. */
function permissions({ dma_list: dmas }: ib_umem_odp): string {
	return [...dmas!].map((dma) => (dma === 0n ? '0' : dma & 2n ? 'w' : 'r')).join('');
}

TEST_F(dma_list, 'pages_are_mapped_under_the_mutex_with_the_access_that_was_asked', (self) => {
	const { umem } = self;
	ASSERT_EQ(map(self, RW), PAGES);
	EXPECT_EQ(umem.npages, PAGES);
	EXPECT_NULL(umem.map.pfn_list);
	for (const [i, dma] of umem.dma_list!.entries())
		EXPECT_EQ(dma, (hmm_pfn_to_phys(umem.pfn_list![i]!) as bigint) | RW);
});

TEST_F(dma_list, 'no_access_is_einval_before_anything_is_looked_at', (self) => {
	EXPECT_EQ(map(self, 0n), -EINVAL);
	EXPECT_EQ(map(self, 0n, false, 2n * LENGTH), -EINVAL);
	EXPECT_EQ(self.umem.npages, 0);
});

TEST_F(dma_list, 'page_that_is_mapped_gets_new_bits_and_keeps_its_address', (self) => {
	const { umem } = self;
	ASSERT_EQ(map(self, R), PAGES);
	EXPECT_EQ(permissions(umem), 'rrrr');
	const before = [...umem.dma_list!];
	// A second mapping would be refused.
	injectFaults().fail('dma_map_page_attrs');
	ASSERT_EQ(map(self, RW, true, 2n * PAGE), 2);
	EXPECT_EQ(permissions(umem), 'wwrr');
	EXPECT_TRUE([...umem.dma_list!].every((dma, i) => (dma ^ before[i]!) < 4n));
	EXPECT_EQ(umem.npages, PAGES);
	ASSERT_EQ(map(self, R), PAGES);
	EXPECT_EQ(permissions(umem), 'rrrr');
	injectFaults();
});

TEST_F(dma_list, 'snapshot_takes_what_the_cpu_grants_and_maps_what_is_there', (self) => {
	const { w, umem, address } = self;
	ASSERT_EQ(userMprotect(w.task, address, PAGE, PROT_READ), 0);
	ASSERT_EQ(userMunmap(w.task, address + PAGE, PAGE), 0);
	ASSERT_EQ(map(self, R, false), PAGES);
	EXPECT_EQ(permissions(umem), 'r0ww');
	EXPECT_EQ(umem.npages, 3);
});

TEST_F(dma_list, 'snapshot_that_finds_a_mapping_without_a_page_is_reported', (self) => {
	const { w, umem, address } = self;
	ASSERT_EQ(userMunmap(w.task, address, PAGE), 0);
	umem.dma_list![0] = RW | 0x1000n;
	expectReport(/a page that is not there is mapped for DMA/);
	ASSERT_EQ(map(self, R, false), PAGES);
	umem.dma_list![0] = 0n;
});

TEST_F(dma_list, 'mapping_that_is_refused_is_efault_and_earlier_ones_stay', (self) => {
	const { umem } = self;
	ASSERT_EQ(map(self, RW, true, PAGE), 1);
	injectFaults().fail('dma_map_page_attrs', 1);
	EXPECT_EQ(map(self, RW), -EFAULT);
	EXPECT_EQ(permissions(umem), 'w000');
	EXPECT_EQ(umem.npages, 1);
	ASSERT_EQ(map(self, RW), PAGES);
	EXPECT_EQ(umem.npages, PAGES);
});

TEST_F(dma_list, 'unmapping_dirties_what_the_device_could_write_and_puts_nothing', (self) => {
	const { w, umem } = self;
	ASSERT_EQ(map(self, R), PAGES);
	ASSERT_EQ(map(self, RW, true, 2n * PAGE), 2);
	const pfns = [...umem.pfn_list!];
	const folios = pfns.map((word) => page_folio(hmm_pfn_to_page(word)));
	const counts = folios.map((f) => page_ref_count(f.page));
	for (const f of folios) f.flags &= ~PG_dirty;
	run(function* () {
		yield* mutex_lock(umem.umem_mutex);
		yield* ib_umem_odp_unmap_dma_pages(umem, 0n, ULONG_MAX);
		yield* mutex_unlock(umem.umem_mutex);
	});
	EXPECT_EQ(folios.map((f) => (folio_test_dirty(f) ? 'd' : '-')).join(''), 'dd--');
	for (const [i, f] of folios.entries()) EXPECT_EQ(page_ref_count(f.page), counts[i]!);
	EXPECT_EQ(permissions(umem), '0000');
	EXPECT_EQ(umem.npages, 0);
	// The words stay as they are; nobody looks at one without an address.
	EXPECT_TRUE(pfns.every((word, i) => word === umem.pfn_list![i]));
	release(w, umem);
	EXPECT_NULL(umem.dma_list);
	EXPECT_NULL(umem.pfn_list);
});

TEST_F(dma_list, 'downgrade_of_a_page_that_was_written_forgets_that_it_is_dirty', (self) => {
	const { w, umem } = self;
	ASSERT_EQ(map(self, RW), PAGES);
	const folios = [...umem.pfn_list!].map((word) => page_folio(hmm_pfn_to_page(word)));
	for (const f of folios) f.flags &= ~PG_dirty;
	// Here the device writes; then a fault for reading alone replaces the bits.
	ASSERT_EQ(map(self, R, true, PAGE), 1);
	release(w, umem);
	EXPECT_EQ(folios.map((f) => (folio_test_dirty(f) ? 'd' : '-')).join(''), '-ddd');
});

/** Lets the other threads go on until each waits. */
function runUntilWaiting(): void {
	run(function* () {
		yield* msleep(10);
	});
}

/** Hold the mmap lock for `ms`, and invalidate the range in that time. */
function collide({ w, address }: Self, ms: number): void {
	const { mm } = w.task;
	spawn('collider', function* () {
		yield* mmap_write_lock(mm!);
		yield* msleep(ms);
		const range = new mmu_notifier_range();
		mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, mm!, address, address + LENGTH);
		yield* mmu_notifier_invalidate_range_start(range);
		yield* mmu_notifier_invalidate_range_end(range);
		yield* mmap_write_unlock(mm!);
	});
	runUntilWaiting();
}

TEST_F(dma_list, 'collision_is_tried_again_within_its_time_and_ebusy_after_it', (self) => {
	collide(self, 500);
	EXPECT_EQ(map(self, RW), PAGES);
	runThreads();
	collide(self, 2000);
	EXPECT_EQ(map(self, RW), -EBUSY);
	runThreads();
	// A long invalidation alone is waited for: there is no collision.
	spawn('invalidator', function* () {
		const range = new mmu_notifier_range();
		const { mm } = self.w.task;
		const end = self.address + LENGTH;
		mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, mm!, self.address, end);
		yield* mmu_notifier_invalidate_range_start(range);
		yield* msleep(2000);
		yield* mmu_notifier_invalidate_range_end(range);
	});
	runUntilWaiting();
	EXPECT_EQ(map(self, RW), PAGES);
	runThreads();
});

TEST_F(dma_list, 'device_that_copies_by_cpu_gets_kernel_addresses', (self) => {
	const { w } = self;
	release(w, self.umem);
	ASSERT_EQ(w.toVram(self.address, PAGES), PAGES);
	self.dev = new ib_device({ name: 'virtual' });
	self.umem = get(self);
	const { umem } = self;
	ASSERT_EQ(map(self, RW), PAGES);
	EXPECT_EQ(w.gpu0.counters.migrateToRam, PAGES);
	for (const [i, dma] of umem.dma_list!.entries())
		EXPECT_EQ(
			dma & ODP_DMA_ADDR_MASK,
			phys_to_virt(hmm_pfn_to_phys(umem.pfn_list![i]!)),
		);
	ASSERT_EQ(userMunmap(w.task, self.address, PAGE), 0);
	EXPECT_EQ(permissions(umem), '0www');
	EXPECT_EQ(umem.npages, 3);
});

TEST_F(dma_list, 'fault_never_asks_for_an_alias', (self) => {
	const { w, umem, address } = self;
	ASSERT_EQ(w.toVram(address, PAGES), PAGES);
	ASSERT_EQ(map(self, R), PAGES);
	EXPECT_EQ(w.gpu0.counters.opCalls, 0);
	EXPECT_EQ(w.gpu0.counters.migrateToRam, PAGES);
	EXPECT_TRUE([...umem.pfn_list!].every((p) => !is_pci_p2pdma_page(hmm_pfn_to_page(p))));
	ASSERT_EQ(userMprotect(w.task, address, LENGTH, PROT_READ | PROT_WRITE), 0);
});

TEST_F(dma_list, 'B25_p2p_page_gets_its_physical_address_below_a_switch_too', (self) => {
	const { w, umem, dev } = self;
	const { bar, firstPfn } = w.gpu0.window!;
	const alias = pfn_to_page(BigInt(firstPfn));
	ASSERT_TRUE(is_pci_p2pdma_page(alias));
	const phys = page_to_phys(alias) as bigint;
	const d = labelled(w.machine.description, 'GPU0').bars.find(({ bar: n }) => n === bar)!;
	const bus = phys + BigInt(d.bus) - BigInt(d.phys);
	ASSERT_NE(bus, phys);

	// No fault gives such a word: it is made by hand.
	run(function* () {
		yield* mutex_lock(umem.umem_mutex);
		umem.pfn_list![0] = BigInt(firstPfn) | HMM_PFN_VALID | HMM_PFN_WRITE;
		ASSERT_EQ(ib_umem_odp_map_dma_single_page(umem, 0, alias, R), 0);
		yield* mutex_unlock(umem.umem_mutex);
	});
	EXPECT_EQ(umem.pfn_list![0]! & ~HMM_PFN_FLAGS(), BigInt(firstPfn));
	EXPECT_EQ(umem.dma_list![0]!, phys | R);

	// It works only where the root complex forwards between its ports.
	const { fabric } = w.machine;
	const requester = dev.dma_device!.init_name;
	fabric.hosts[0]!.peerToPeer = 'aborts';
	EXPECT_NE(fabric.read(requester, umem.dma_list![0]! & ODP_DMA_ADDR_MASK, 64).status, 'SC');
	EXPECT_EQ(fabric.read(requester, bus, 64).status, 'SC');
});

TEST_F(dma_list, 'device_that_copies_by_cpu_maps_part_of_a_page_at_its_place', (self) => {
	ASSERT_EQ(map(self, R), PAGES);
	const page = hmm_pfn_to_page(self.umem.pfn_list![0]!);
	const virtual = new ib_device({ name: 'virtual' });
	EXPECT_EQ(
		ib_dma_map_page(virtual, page, 64n, 64n, DMA_BIDIRECTIONAL),
		phys_to_virt(page_to_phys(page)) + 64n,
	);
});
