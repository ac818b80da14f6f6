// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: ib_umem_odp_*() return each errno of their documentation, hold umem_mutex on success and
 * never else, and give all that they took back. Method: ranges of a process's memory on a NIC, and
 * on a device that copies by CPU; the driver's part is a notifier that does nothing but its duty.
 * What both releases do is in one fixture with a variant each; what only v7.3 does is in another,
 * what only v6.12 does in umem_odp/dma_list-tests.ts.
 */
import {
	ib_umem_odp_alloc_child,
	ib_umem_odp_alloc_implicit,
	ib_umem_odp_get,
	ib_umem_odp_map_dma_and_lock,
	ib_umem_odp_release,
	ib_umem_odp_unmap_dma_pages,
} from '../../../../drivers/infiniband/core/umem_odp.ts';
import { DMA_BIT_MASK } from '../../../../include/linux/dma-mapping.ts';
import {
	EAGAIN,
	EBUSY,
	EFAULT,
	EINTR,
	EINVAL,
	ENOMEM,
	EOPNOTSUPP,
	EOVERFLOW,
	EPERM,
} from '../../../../include/linux/errno.ts';
import {
	HMM_PFN_DMA_MAPPED,
	HMM_PFN_FLAGS,
	HMM_PFN_P2PDMA,
	HMM_PFN_P2PDMA_BUS,
	HMM_PFN_VALID,
	HMM_PFN_WRITE,
	hmm_pfn_to_page,
} from '../../../../include/linux/hmm.ts';
import { MADV_DONTNEED, PROT_NONE, PROT_READ, PROT_WRITE } from '../../../../include/linux/mm.ts';
import { page_folio } from '../../../../include/linux/mm_types.ts';
import {
	MMU_NOTIFY_CLEAR,
	type mmu_interval_notifier_ops,
	mmu_notifier_range,
} from '../../../../include/linux/mmu_notifier.ts';
import {
	folio_test_dirty,
	is_pci_p2pdma_page,
	PG_dirty,
	page_ref_count,
} from '../../../../include/linux/page-flags.ts';
import { pci_p2pdma_map_state } from '../../../../include/linux/pci-p2pdma.ts';
import { SIGKILL } from '../../../../include/linux/sched.ts';
import { ULONG_MAX } from '../../../../include/linux/types.ts';
import {
	ib_umem_end,
	type ib_umem_odp,
	ib_umem_odp_num_pages,
	ib_umem_start,
	ODP_READ_ALLOWED_BIT,
	ODP_WRITE_ALLOWED_BIT,
} from '../../../../include/rdma/ib_umem_odp.ts';
import {
	IB_ACCESS_HUGETLB,
	IB_ACCESS_LOCAL_WRITE,
	IB_ACCESS_ON_DEMAND,
	IB_ACCESS_REMOTE_READ,
	ib_device,
} from '../../../../include/rdma/ib_verbs.ts';
import { injectFaults } from '../../../../include/sim/fault_injection.ts';
import type { ProfileName } from '../../../../include/sim/feature.ts';
import { feature } from '../../../../include/sim/world.ts';
import { dma_set_mask_and_coherent } from '../../../../kernel/dma/mapping.ts';
import { mutex_lock, mutex_unlock } from '../../../../kernel/locking/mutex.ts';
import { run, runThreads, spawn } from '../../../../kernel/sched/core.ts';
import { msleep } from '../../../../kernel/time/sleep_timeout.ts';
import { mmget, mmput } from '../../../../mm/exec_mm.ts';
import { hmm_dma_map_pfn } from '../../../../mm/hmm_dma.ts';
import { mmap_write_lock, mmap_write_unlock } from '../../../../mm/mmap_lock.ts';
import {
	mmu_interval_set_seq,
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_invalidate_range_start_nonblock,
	mmu_notifier_range_init,
} from '../../../../mm/mmu_notifier.ts';
import {
	createProcess,
	exitProcess,
	mmapAnonymous,
	userMadvise,
	userMprotect,
	userMunmap,
} from '../../../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	ASSERT_TRUE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../../../kselftest_harness.ts';
import { PAGE, StandardWorld } from '../../../support/standard.ts';

const PAGES = 4;
const LENGTH = BigInt(PAGES) * PAGE;
const RW = IB_ACCESS_ON_DEMAND | IB_ACCESS_LOCAL_WRITE;

interface Self {
	w: StandardWorld;
	dev: ib_device;
	/** Four pages with bytes. */
	address: bigint;
}

const fields = (): Self => ({
	w: null as unknown as StandardWorld,
	dev: null as unknown as ib_device,
	address: 0n,
});

const umem_odp = FIXTURE<Self, { profile: ProfileName }>(
	'umem_odp',
	fields,
	FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName }),
);
FIXTURE_VARIANT_ADD(umem_odp, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(umem_odp, 'v7_3', { profile: 'v7.3' });

/** What only v7.3 does. */
const hmm_map = FIXTURE<Self>('umem_odp_hmm_map', fields);

FIXTURE_SETUP(umem_odp, (self, { profile }) => {
	begin(self, new StandardWorld({ profile, proposals: [] }));
});

FIXTURE_SETUP(hmm_map, (self) => {
	begin(self, new StandardWorld());
});

FIXTURE_TEARDOWN(umem_odp, ({ w }) => {
	w.close();
});

FIXTURE_TEARDOWN(hmm_map, ({ w }) => {
	w.close();
});

function begin(self: Self, w: StandardWorld): void {
	self.w = w;
	self.dev = w.nic('NIC0').ibdev;
	self.address = w.mapPages(PAGES).address;
}

/** The driver's duty, and nothing of a driver. */
const ops: mmu_interval_notifier_ops = {
	*invalidate(mni, range, seq) {
		const umem = mni.container as ib_umem_odp;
		if (!(range.flags & 1)) return false;
		yield* mutex_lock(umem.umem_mutex);
		mmu_interval_set_seq(mni, seq);
		yield* ib_umem_odp_unmap_dma_pages(umem, range.start, range.end);
		yield* mutex_unlock(umem.umem_mutex);
		return true;
	},
};

function get(self: Self, access = RW, address = self.address, size = LENGTH): ib_umem_odp | number {
	return run(() => ib_umem_odp_get(self.dev, address, size, access, ops), {
		task: self.w.task,
	});
}

function good(x: ib_umem_odp | number): ib_umem_odp {
	if (typeof x === 'number') throw new Error(`umem: ${x}`);
	return x;
}

function release(self: Self, ...umems: ib_umem_odp[]): void {
	for (const umem of umems) run(() => ib_umem_odp_release(umem), { task: self.w.task });
}

interface MapOptions {
	readonly write?: boolean;
	readonly fault?: boolean;
	readonly at?: bigint;
	readonly size?: bigint;
	/** Map the words for DMA as a driver does; v6.12 has done it. */
	readonly dma?: boolean;
}

/** The access mask of the installed release. */
function accessMask(write: boolean): bigint {
	if (feature('odp_hmm_dma_map')) return write ? HMM_PFN_WRITE : 0n;
	return ODP_READ_ALLOWED_BIT | (write ? ODP_WRITE_ALLOWED_BIT : 0n);
}

/** map_dma_and_lock() and the mutex given back; a negative answer must not have it. */
function map(self: Self, umem: ib_umem_odp, options: MapOptions = {}): number {
	const { write = true, fault = true, at = self.address, size = LENGTH, dma } = options;
	return run(
		function* () {
			const mask = accessMask(write);
			const np = yield* ib_umem_odp_map_dma_and_lock(umem, at, size, mask, fault);
			EXPECT_EQ(umem.umem_mutex.owner === null, np < 0);
			if (np < 0) return np;
			const state = new pci_p2pdma_map_state();
			if (dma === true && umem.map.pfn_list !== null)
				for (let i = 0n; i < BigInt(np); i++) {
					const word = umem.map.pfn_list![Number(i)]!;
					if (!(word & HMM_PFN_VALID)) continue;
					hmm_dma_map_pfn(self.dev.dma_device!, umem.map, i, state);
					if (!(word & HMM_PFN_DMA_MAPPED)) umem.npages++;
				}
			yield* mutex_unlock(umem.umem_mutex);
			return np;
		},
		{ task: self.w.task },
	);
}

/** Words of a range, wherever the release keeps them. */
const list = ({ map, pfn_list }: ib_umem_odp): BigUint64Array | null => map.pfn_list ?? pfn_list;
const words = (umem: ib_umem_odp): bigint[] => [...list(umem)!];

// --- get, alloc, release ---

/** Where a range's arrays are allocated. */
const arraySites: Record<ProfileName, string[]> = {
	'v6.12': ['ib_init_umem_odp:pfn_list', 'ib_init_umem_odp:dma_list'],
	'v7.3': ['hmm_dma_map_alloc:pfn_list'],
};

TEST_F(umem_odp, 'range_is_rounded_to_units_and_refers_to_its_process', (self) => {
	const { task } = self.w;
	const umem = good(get(self, RW, self.address + 5n, PAGE));
	EXPECT_EQ(ib_umem_start(umem), self.address);
	EXPECT_EQ(ib_umem_end(umem), self.address + 2n * PAGE);
	EXPECT_EQ(ib_umem_odp_num_pages(umem), 2n);
	EXPECT_TRUE(umem.tgid === task && umem.umem.owning_mm === task.mm);
	EXPECT_TRUE(umem.umem.writable && umem.umem.is_odp);
	EXPECT_EQ(task.mm!.mm_count, 3);
	release(self, umem);
	EXPECT_NULL(umem.tgid);
	EXPECT_NULL(list(umem));
	EXPECT_NULL(umem.dma_list);
	const readOnly = good(get(self, IB_ACCESS_ON_DEMAND | IB_ACCESS_REMOTE_READ));
	EXPECT_FALSE(readOnly.umem.writable);
	release(self, readOnly);
});

TEST_F(
	umem_odp,
	'get_of_nothing_of_a_wrap_or_without_memory_leaves_nothing',
	(self, { profile }) => {
		const { mm } = self.w.task;
		const { mm_count } = mm!;
		EXPECT_EQ(get(self, RW, self.address, 0n), -EINVAL);
		// sum wraps; sum fits and its rounding wraps
		EXPECT_EQ(get(self, RW, ULONG_MAX - 4095n, 2n * PAGE), -EOVERFLOW);
		EXPECT_EQ(get(self, RW, ULONG_MAX - 100n, 50n), -EOVERFLOW);
		for (const site of ['ib_umem_odp_get', ...arraySites[profile]]) {
			injectFaults().fail(site, 1);
			EXPECT_EQ(get(self), -ENOMEM);
		}
		EXPECT_EQ(mm!.mm_count, mm_count);
		injectFaults();
		release(self, good(get(self)));
		EXPECT_EQ(mm!.notifier_subscriptions === null ? 0 : 1, 1);
	},
);

TEST_F(umem_odp, 'get_whose_notifier_cannot_be_inserted_gives_the_map_back', (self) => {
	// A process that has no notifiers yet has to allocate their list.
	const fresh = createProcess('fresh');
	const { mm_count } = fresh.mm!;
	injectFaults().fail('mmu_notifier_register', 1);
	const umem = run(() => ib_umem_odp_get(self.dev, PAGE, PAGE, RW, ops), { task: fresh });
	EXPECT_EQ(umem, -ENOMEM);
	injectFaults().fail('mmu_notifier_register', 1);
	const virtual = new ib_device({ name: 'rxe0' });
	EXPECT_EQ(
		run(() => ib_umem_odp_get(virtual, PAGE, PAGE, RW, ops), { task: fresh }),
		-ENOMEM,
	);
	EXPECT_EQ(fresh.mm!.mm_count, mm_count);
	exitProcess(fresh);
});

TEST_F(umem_odp, 'get_without_on_demand_is_a_driver_bug', (self) => {
	expectReport(/umem is not on demand/);
	EXPECT_EQ(get(self, IB_ACCESS_LOCAL_WRITE), -EINVAL);
});

TEST_F(hmm_map, 'device_that_would_bounce_is_not_supported', (self) => {
	const dev = self.dev.dma_device!;
	ASSERT_EQ(dma_set_mask_and_coherent(dev, DMA_BIT_MASK(32)), 0);
	EXPECT_EQ(get(self), -EOPNOTSUPP);
	ASSERT_EQ(dma_set_mask_and_coherent(dev, DMA_BIT_MASK(64)), 0);
	dev.dma_skip_sync = false;
	EXPECT_EQ(get(self), -EOPNOTSUPP);
	dev.dma_skip_sync = true;
});

TEST_F(umem_odp, 'implicit_range_has_no_words_and_children_have', (self, { profile }) => {
	const { task } = self.w;
	const alloc = (access: number): ib_umem_odp | number =>
		run(() => ib_umem_odp_alloc_implicit(self.dev, access), { task });
	const { mm_count } = task.mm!;
	EXPECT_EQ(alloc(RW | IB_ACCESS_HUGETLB), -EINVAL);
	injectFaults().fail('ib_umem_odp_alloc_implicit', 1);
	EXPECT_EQ(alloc(RW), -ENOMEM);
	const root = good(alloc(RW));
	EXPECT_TRUE(root.is_implicit_odp && root.umem.writable);
	EXPECT_NULL(list(root));

	const child = (size = LENGTH, at = self.address): ib_umem_odp | number =>
		run(() => ib_umem_odp_alloc_child(root, at, size, ops), { task });
	injectFaults().fail('ib_umem_odp_alloc_child', 1);
	EXPECT_EQ(child(), -ENOMEM);
	injectFaults().fail(arraySites[profile][0]!, 1);
	EXPECT_EQ(child(), -ENOMEM);
	EXPECT_EQ(child(2n * PAGE, ULONG_MAX - 4095n), -EOVERFLOW);
	EXPECT_EQ(child(0n), -EINVAL);
	const part = good(child());
	EXPECT_TRUE(part.tgid === task && part.umem.writable && !part.is_implicit_odp);
	EXPECT_EQ(map(self, part), PAGES);
	// B30: whoever is released lets go of the process
	release(self, part, root);
	EXPECT_NULL(part.tgid);
	EXPECT_NULL(root.tgid);
	EXPECT_EQ(task.mm!.mm_count, mm_count);
});

TEST_F(umem_odp, 'child_of_a_range_that_is_not_implicit_is_a_driver_bug', (self) => {
	const umem = good(get(self));
	expectReport(/the parent is not implicit/);
	EXPECT_EQ(
		run(() => ib_umem_odp_alloc_child(umem, self.address, PAGE, ops)),
		-EINVAL,
	);
	release(self, umem);
});

TEST_F(umem_odp, 'B29_exited_process_gets_no_child_and_no_words', (self) => {
	const other = createProcess('short');
	const root = good(run(() => ib_umem_odp_alloc_implicit(self.dev, RW), { task: other }));
	const umem = good(
		run(() => ib_umem_odp_get(self.dev, PAGE, PAGE, RW, ops), { task: other }),
	);
	exitProcess(other);
	EXPECT_EQ(
		run(() => ib_umem_odp_alloc_child(root, PAGE, PAGE, ops)),
		-EFAULT,
	);
	EXPECT_EQ(map(self, umem, { at: PAGE, size: PAGE }), -EINVAL);
	release(self, umem, root);
	EXPECT_EQ(map(self, umemWithout(self), { fault: false }), -EINVAL);
});

TEST_F(umem_odp, 'exited_process_gets_no_words_from_an_mm_that_another_user_keeps', (self) => {
	const other = createProcess('short');
	const mm = other.mm!;
	const at = mmapAnonymous(other, LENGTH, PROT_READ | PROT_WRITE);
	const umem = good(
		run(() => ib_umem_odp_get(self.dev, at, LENGTH, RW, ops), { task: other }),
	);
	EXPECT_EQ(map(self, umem, { at }), PAGES);
	mmget(mm);
	exitProcess(other);
	for (const fault of [true, false]) EXPECT_EQ(map(self, umem, { at, fault }), -EINVAL);
	EXPECT_EQ(mm.mm_users, 1);
	release(self, umem);
	run(() => mmput(mm));
});

TEST_F(umem_odp, 'thread_that_ends_leaves_its_process_the_words', (self) => {
	const { mm } = self.w.task;
	let umem: ib_umem_odp | number = 0;
	spawn(
		'registers',
		function* () {
			umem = yield* ib_umem_odp_get(self.dev, self.address, LENGTH, RW, ops);
		},
		{ mm },
	);
	runThreads();
	EXPECT_EQ(map(self, good(umem)), PAGES);
	release(self, good(umem));
});

/** A range whose process is not known any more. */
function umemWithout(self: Self): ib_umem_odp {
	const umem = good(get(self));
	release(self, umem);
	return umem;
}

// --- map_dma_and_lock ---

TEST_F(umem_odp, 'words_are_valid_and_writable_under_the_mutex', (self) => {
	const umem = good(get(self));
	EXPECT_EQ(map(self, umem), PAGES);
	EXPECT_TRUE(
		words(umem).every(
			(word) => (word & HMM_PFN_VALID) !== 0n && (word & HMM_PFN_WRITE) !== 0n,
		),
	);
	// A part, not aligned: every unit that it touches.
	EXPECT_EQ(map(self, umem, { at: self.address + PAGE - 1n, size: 2n }), 2);
	release(self, umem);
});

TEST_F(umem_odp, 'outside_of_the_range_is_efault', (self) => {
	const umem = good(get(self, RW, self.address + PAGE, PAGE));
	for (const [at, size] of [
		[0n, PAGE],
		[PAGE, 2n * PAGE],
		[2n * PAGE, 1n],
		[PAGE - 1n, 1n],
	] as const)
		EXPECT_EQ(map(self, umem, { at: self.address + at, size }), -EFAULT);
	EXPECT_EQ(map(self, umem, { at: self.address + PAGE, size: PAGE }), 1);
	release(self, umem);
});

TEST_F(umem_odp, 'write_where_the_process_may_not_is_eperm_and_nothing_there_is_efault', (self) => {
	const { task } = self.w;
	const umem = good(get(self));
	ASSERT_EQ(userMprotect(task, self.address, PAGE, PROT_READ), 0);
	EXPECT_EQ(map(self, umem), -EPERM);
	EXPECT_EQ(map(self, umem, { write: false }), PAGES);
	EXPECT_EQ(words(umem)[0]! & HMM_PFN_WRITE, 0n);
	ASSERT_EQ(userMprotect(task, self.address, PAGE, PROT_NONE), 0);
	EXPECT_TRUE(map(self, umem, { write: false }) < 0);
	ASSERT_EQ(userMunmap(task, self.address, PAGE), 0);
	EXPECT_EQ(map(self, umem, { write: false }), -EFAULT);
	// A snapshot asks for nothing, and gets what there is.
	EXPECT_EQ(map(self, umem, { fault: false }), PAGES);
	EXPECT_EQ(words(umem)[0]! & HMM_PFN_VALID, 0n);
	EXPECT_TRUE((words(umem)[1]! & HMM_PFN_VALID) !== 0n);
	release(self, umem);
});

TEST_F(umem_odp, 'snapshot_faults_nothing', (self) => {
	const { task } = self.w;
	const hole = userHole(self);
	const umem = good(get(self, RW, hole));
	const { min_flt } = task;
	EXPECT_EQ(map(self, umem, { fault: false, at: hole }), PAGES);
	EXPECT_TRUE(words(umem).every((word) => (word & HMM_PFN_VALID) === 0n));
	EXPECT_EQ(task.min_flt, min_flt);
	release(self, umem);
});

/** Memory of the process that nobody has touched. */
function userHole(self: Self): bigint {
	const { address } = self.w.mapPages(PAGES);
	ASSERT_EQ(userMadvise(self.w.task, address, LENGTH, MADV_DONTNEED), 0);
	return address;
}

TEST_F(umem_odp, 'empty_part_is_einval', (self) => {
	const umem = good(get(self));
	EXPECT_EQ(map(self, umem, { size: 0n }), -EINVAL);
	release(self, umem);
});

TEST_F(umem_odp, 'fault_without_memory_is_enomem_and_efault_in_v6_12', (self, { profile }) => {
	const hole = userHole(self);
	const umem = good(get(self, RW, hole));
	injectFaults().fail('alloc_pages').fail('folio_prealloc');
	EXPECT_EQ(map(self, umem, { at: hole }), profile === 'v6.12' ? -EFAULT : -ENOMEM);
	injectFaults();
	EXPECT_EQ(map(self, umem, { at: hole }), PAGES);
	release(self, umem);
});

TEST_F(hmm_map, 'invalidation_that_takes_too_long_is_ebusy', (self) => {
	const { mm } = self.w.task;
	const umem = good(get(self));
	spawn('invalidator', function* () {
		const range = new mmu_notifier_range();
		const end = self.address + LENGTH;
		mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, mm!, self.address, end);
		yield* mmu_notifier_invalidate_range_start(range);
		yield* msleep(2000);
		yield* mmu_notifier_invalidate_range_end(range);
	});
	runUntilWaiting();
	EXPECT_EQ(map(self, umem), -EBUSY);
	runThreads();
	EXPECT_EQ(map(self, umem), PAGES);
	release(self, umem);
});

/** Lets the other threads go on until each waits. */
function runUntilWaiting(): void {
	run(function* () {
		yield* msleep(10);
	});
}

TEST_F(hmm_map, 'killed_while_it_waits_for_the_mmap_lock_is_eintr', (self) => {
	const { task } = self.w;
	const umem = good(get(self));
	spawn('locker', function* () {
		yield* mmap_write_lock(task.mm!);
		yield* msleep(100);
		yield* mmap_write_unlock(task.mm!);
	});
	runUntilWaiting();
	task.pending.add(SIGKILL);
	EXPECT_EQ(map(self, umem), -EINTR);
	task.pending.clear();
	runThreads();
	release(self, umem);
});

TEST_F(umem_odp, 'small_page_does_not_fill_a_huge_unit', (self) => {
	const unit = 1n << 21n;
	const { address } = self.w.mapPages(1024);
	const start = (address + unit - 1n) & ~(unit - 1n);
	const umem = good(get(self, RW | IB_ACCESS_HUGETLB, start, unit));
	EXPECT_EQ(umem.page_shift, 21);
	EXPECT_EQ(ib_umem_odp_num_pages(umem), 1n);
	EXPECT_EQ(map(self, umem, { at: start, size: PAGE }), -EINVAL);
	EXPECT_EQ(map(self, umem, { at: start, size: PAGE, fault: false }), -EINVAL);
	release(self, umem);
});

TEST_F(hmm_map, 'word_that_is_mapped_already_keeps_its_mapping', (self) => {
	const umem = good(get(self));
	EXPECT_EQ(map(self, umem, { write: false, dma: true }), PAGES);
	EXPECT_EQ(umem.npages, PAGES);
	const before = words(umem);
	EXPECT_EQ(map(self, umem, { dma: true }), PAGES);
	// S10: mapped twice counts once
	EXPECT_EQ(umem.npages, PAGES);
	EXPECT_TRUE(words(umem).every((word, i) => word === before[i]));
	ASSERT_EQ(userMunmap(self.w.task, self.address, LENGTH), 0);
	EXPECT_EQ(umem.npages, 0);
	release(self, umem);
});

TEST_F(hmm_map, 'unmapped_pages_that_the_device_could_write_are_dirty', (self) => {
	const { task } = self.w;
	const umem = good(get(self));
	ASSERT_EQ(userMprotect(task, self.address, PAGE, PROT_READ), 0);
	EXPECT_EQ(map(self, umem, { write: false, dma: true }), PAGES);
	const folios = words(umem).map((word) => page_folio(hmm_pfn_to_page(word)));
	const counts = folios.map((f) => page_ref_count(f.page));
	for (const f of folios) f.flags &= ~PG_dirty;
	release(self, umem);
	EXPECT_EQ(folios.map((f) => (folio_test_dirty(f) ? 'd' : '-')).join(''), '-ddd');
	// Nothing was pinned, nothing is put.
	for (const [i, f] of folios.entries()) EXPECT_EQ(page_ref_count(f.page), counts[i]!);
});

TEST_F(hmm_map, 'unmapping_is_clipped_to_the_range_and_keeps_the_pfn', (self) => {
	const umem = good(get(self, RW, self.address + PAGE, 2n * PAGE));
	EXPECT_EQ(map(self, umem, { at: self.address + PAGE, size: 2n * PAGE, dma: true }), 2);
	const pfns = words(umem).map((word) => word & ~HMM_PFN_FLAGS());
	run(function* () {
		yield* mutex_lock(umem.umem_mutex);
		yield* ib_umem_odp_unmap_dma_pages(umem, 0n, ULONG_MAX);
		yield* mutex_unlock(umem.umem_mutex);
	});
	EXPECT_EQ(umem.npages, 0);
	EXPECT_TRUE(words(umem).every((word, i) => word === pfns[i]));
	release(self, umem);
});

TEST_F(umem_odp, 'unmapping_without_the_mutex_is_reported', (self) => {
	const umem = good(get(self));
	expectReport(/WARNING/);
	run(() => ib_umem_odp_unmap_dma_pages(umem, self.address, self.address + PAGE));
	release(self, umem);
});

TEST_F(umem_odp, 'invalidation_that_must_not_sleep_is_refused_and_changes_nothing', (self) => {
	const umem = good(get(self));
	EXPECT_EQ(map(self, umem, { dma: true }), PAGES);
	const before = words(umem);
	run(function* () {
		const range = new mmu_notifier_range();
		const end = self.address + LENGTH;
		const { mm } = self.w.task;
		mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, mm!, self.address, end);
		EXPECT_EQ(yield* mmu_notifier_invalidate_range_start_nonblock(range), -EAGAIN);
	});
	EXPECT_TRUE(words(umem).every((word, i) => word === before[i]));
	EXPECT_EQ(umem.npages, PAGES);
	release(self, umem);
});

// --- a device that copies by CPU ---

TEST_F(hmm_map, 'P16_device_without_dma_gets_words_and_never_an_alias', (self) => {
	const { w } = self;
	ASSERT_EQ(w.toVram(self.address, PAGES), PAGES);
	self.dev = new ib_device({ name: 'rxe0' });
	injectFaults().fail('ib_init_umem_odp:pfn_list', 1);
	EXPECT_EQ(get(self), -ENOMEM);
	const umem = good(get(self));
	// A snapshot sees nothing that the CPU could not read.
	EXPECT_EQ(map(self, umem, { fault: false }), PAGES);
	EXPECT_TRUE(words(umem).every((word) => (word & HMM_PFN_VALID) === 0n));
	EXPECT_EQ(map(self, umem), PAGES);
	EXPECT_EQ(w.gpu0.counters.opCalls, 0);
	EXPECT_EQ(w.gpu0.counters.migrateToRam, PAGES);
	const sticky = HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA | HMM_PFN_P2PDMA_BUS;
	for (const word of words(umem)) {
		EXPECT_EQ(word & sticky, 0n);
		EXPECT_FALSE(is_pci_p2pdma_page(hmm_pfn_to_page(word)));
	}
	EXPECT_EQ(umem.npages, 0);
	ASSERT_EQ(userMunmap(w.task, self.address, PAGE), 0);
	EXPECT_EQ(words(umem)[0]! & HMM_PFN_VALID, 0n);
	EXPECT_TRUE((words(umem)[1]! & HMM_PFN_VALID) !== 0n);
	release(self, umem);
});

TEST_F(umem_odp, 'without_the_proposal_private_pages_come_home', (self) => {
	const { w } = self;
	ASSERT_EQ(w.toVram(self.address, PAGES), PAGES);
	const umem = good(get(self));
	EXPECT_EQ(map(self, umem, { dma: true }), PAGES);
	EXPECT_EQ(w.gpu0.counters.migrateToRam, PAGES);
	EXPECT_EQ(umem.npages, PAGES);
	ASSERT_TRUE(words(umem).every((word) => !is_pci_p2pdma_page(hmm_pfn_to_page(word))));
	release(self, umem);
});
