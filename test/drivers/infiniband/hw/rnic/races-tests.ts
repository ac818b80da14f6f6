// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: work requests, page faults, invalidations and deregistration of one region may meet in any
 * order. Method: threads under seeded schedules at every schedule point; after each run the NIC
 * reaches nothing that is gone, counters are balanced, and the sanitizers have nothing to say.
 */
import { migrateToVram } from '../../../../../drivers/gpu/refgpu/index.ts';
import { ib_umem_odp_map_dma_and_lock } from '../../../../../drivers/infiniband/core/umem_odp.ts';
import {
	deregMr,
	RNIC_ACCESS_ALL,
	type RnicMr,
	rdmaReadResponder,
	rdmaWriteResponder,
	regMr,
	rnicAdviseMr,
	rnicProbe,
	rnicRemove,
} from '../../../../../drivers/infiniband/hw/rnic/rnic.ts';
import { ENODEV, ENOENT } from '../../../../../include/linux/errno.ts';
import { HMM_PFN_FLAGS, HMM_PFN_WRITE } from '../../../../../include/linux/hmm.ts';
import { MADV_DONTNEED } from '../../../../../include/linux/mm.ts';
import { pte_pfn, pte_present } from '../../../../../include/linux/pgtable.ts';
import {
	IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE,
	IB_WC_REM_ACCESS_ERR,
	IB_WC_SUCCESS,
} from '../../../../../include/rdma/ib_verbs.ts';
import type { Sim } from '../../../../../include/sim/schedule.ts';
import { mutex_unlock } from '../../../../../kernel/locking/mutex.ts';
import { cond_resched, run, runThreads, spawn } from '../../../../../kernel/sched/core.ts';
import { randomStrategy } from '../../../../../kernel/sched/strategy.ts';
import { do_madvise } from '../../../../../mm/madvise.ts';
import {
	pgd_offset,
	pmd_offset,
	pte_offset_kernel,
	pud_offset,
} from '../../../../../mm/pgtable.ts';
import {
	loadUser64,
	storeUser64,
	userMunmap,
	userRead,
	userRead64,
} from '../../../../../mm/syscalls.ts';
import { vm_munmap } from '../../../../../mm/vma.ts';
import {
	ASSERT_EQ,
	ASSERT_TRUE,
	EXPECT_EQ,
	EXPECT_NULL,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../../../../kselftest_harness.ts';
import { PAGE, patternBytes, StandardWorld } from '../../../../support/standard.ts';

const PAGES = 2;
const BYTES = PAGES * 4096;
const LENGTH = BigInt(BYTES);
const SEEDS = 60;

interface Self {
	w: StandardWorld;
}

const races = FIXTURE<Self>('rnic_races', () => ({ w: null as unknown as StandardWorld }));

FIXTURE_SETUP(races, (self) => {
	self.w = new StandardWorld();
});

FIXTURE_TEARDOWN(races, (self) => {
	self.w.close();
});

/** Runs threads of the process to their ends under one seed. */
function together(w: StandardWorld, seed: number, bodies: (() => Sim<unknown>)[]): void {
	bodies.forEach((body, cpu) => {
		spawn(`t${cpu}`, body, { mm: w.task.mm, cpu });
	});
	runThreads(randomStrategy(seed));
}

function same(a: Uint8Array, b: unknown): boolean {
	return b instanceof Uint8Array && Buffer.compare(a, b) === 0;
}

/** Nothing is left of a region that was deregistered. */
function expectGone({ umem, key, nic }: RnicMr): void {
	EXPECT_EQ(umem.npages, 0);
	EXPECT_EQ(key.live, false);
	EXPECT_TRUE(key.mtt.every((word) => word === 0n));
	EXPECT_EQ(nic.silicon.faults.length, 0);
}

TEST_F(races, 'B27_dereg_races_with_munmap', ({ w }) => {
	const nic = w.nic('NIC0');
	for (let seed = 1; seed <= SEEDS; seed++) {
		const { address } = w.mapPages(PAGES, seed);
		if (seed % 2) ASSERT_EQ(w.toVram(address, PAGES), PAGES);
		const mr = w.register(nic, address, PAGES);
		const { key } = mr.key;
		together(w, seed, [
			function* () {
				const { status } = yield* rdmaReadResponder(
					nic,
					key,
					address,
					BYTES,
				);
				EXPECT_TRUE(
					status === IB_WC_SUCCESS || status === IB_WC_REM_ACCESS_ERR,
				);
				yield* deregMr(mr);
			},
			() => vm_munmap(address, LENGTH),
		]);
		expectGone(mr);
	}
});

TEST_F(races, 'dereg_waits_for_page_faults_that_run', ({ w }) => {
	const nic = w.nic('NIC0');
	let refused = 0;
	for (let seed = 1; seed <= SEEDS; seed++) {
		const { address, bytes } = w.mapPages(PAGES, seed);
		if (seed % 2) ASSERT_EQ(w.toVram(address, PAGES), PAGES);
		const mr = w.register(nic, address, PAGES);
		const { key } = mr.key;
		together(w, seed, [
			function* () {
				const { status, data } = yield* rdmaReadResponder(
					nic,
					key,
					address,
					BYTES,
				);
				if (status === IB_WC_SUCCESS) EXPECT_TRUE(same(bytes, data));
				else refused++;
			},
			() => deregMr(mr),
			() =>
				rnicAdviseMr(
					nic,
					IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE,
					key,
					address,
					LENGTH,
				),
		]);
		expectGone(mr);
		EXPECT_TRUE(same(bytes, userRead(w.task, address, BYTES)));
	}
	EXPECT_TRUE(refused > 0);
});

TEST_F(races, 'dereg_races_with_unbinding_and_one_of_them_releases_the_region', ({ w }) => {
	const pdev = w.pdev('NIC0');
	const winners = new Set<number>();
	for (let seed = 1; seed <= SEEDS; seed++) {
		const nic = run(() => rnicProbe(pdev));
		const { address } = w.mapPages(PAGES, seed);
		const mr = w.register(nic, address, PAGES);
		const { key } = mr.key;
		const task = { task: w.task };
		run(() => rdmaReadResponder(nic, key, address, BYTES), task);
		let isReleased = false;
		together(w, seed, [
			function* () {
				// Some schedules begin with the one, some with the other.
				for (let i = 0; i < seed % 3; i++) yield* cond_resched();
				winners.add(yield* deregMr(mr));
			},
			function* () {
				yield* rnicRemove(nic);
				// Whoever released it, it is over now.
				isReleased = !mr.key.live && mr.umem.tgid === null;
			},
		]);
		ASSERT_TRUE(isReleased);
		expectGone(mr);
		EXPECT_EQ(nic.mrs.size, 0);
		EXPECT_NULL(pdev.dev.driver_data);
		userMunmap(w.task, address, LENGTH);
	}
	EXPECT_EQ([...winners].sort((a, b) => a - b).join(), `${-ENOENT},0`);
});

TEST_F(races, 'unbound_nic_has_no_region_however_late_one_was_registered', ({ w }) => {
	const pdev = w.pdev('NIC0');
	const answers = new Set<string>();
	for (let seed = 1; seed <= SEEDS; seed++) {
		const nic = run(() => rnicProbe(pdev));
		const { address } = w.mapPages(PAGES, seed);
		let left = -1;
		together(w, seed, [
			function* () {
				for (let i = 0; i < seed % 5; i++) yield* cond_resched();
				const mr = yield* regMr(nic, address, LENGTH, RNIC_ACCESS_ALL);
				answers.add(typeof mr === 'number' ? `${mr}` : 'MR');
			},
			function* () {
				for (let i = 0; i < seed % 4; i++) yield* cond_resched();
				yield* rnicRemove(nic);
				left = nic.mrs.size + nic.silicon.keys.size;
			},
		]);
		ASSERT_EQ(left, 0);
		EXPECT_EQ(nic.mrs.size + nic.silicon.keys.size, 0);
		// Nobody listens to the process any more.
		EXPECT_EQ(userMunmap(w.task, address, LENGTH), 0);
		EXPECT_EQ(
			run(() => regMr(nic, address, LENGTH, RNIC_ACCESS_ALL), { task: w.task }),
			-ENODEV,
		);
	}
	EXPECT_EQ([...answers].sort().join(), `${-ENODEV},MR`);
});

TEST_F(races, 'migration_races_with_rdma_and_a_cpu_and_no_byte_is_lost', ({ w }) => {
	const nic = w.nic('NIC0');
	let inPlace = 0;
	for (let seed = 1; seed <= SEEDS; seed++) {
		const { address, bytes } = w.mapPages(PAGES, seed);
		const mr = w.register(nic, address, PAGES);
		const { key } = mr.key;
		const fresh = patternBytes(4096, seed + 1000);
		const migrated = w.gpu0.counters.migrateToRam;
		const stores = BigInt(1 + (seed % 40));
		// The peer writes page 0 and reads page 1; the CPU writes a word of page 1 again and again.
		together(w, seed, [
			() => migrateToVram(w.gpu0, w.task.mm!, address, address + LENGTH),
			function* () {
				const write = yield* rdmaWriteResponder(nic, key, address, fresh);
				EXPECT_EQ(write, IB_WC_SUCCESS);
				const at = address + PAGE;
				const { status, data } = yield* rdmaReadResponder(
					nic,
					key,
					at,
					4096,
				);
				EXPECT_EQ(status, IB_WC_SUCCESS);
				EXPECT_TRUE(same(bytes.subarray(4096 + 8), data.subarray(8)));
			},
			function* () {
				for (let word = 1n; word <= stores; word++) {
					EXPECT_NULL(yield* storeUser64(address + PAGE, word));
					EXPECT_EQ(word, yield* loadUser64(address + PAGE));
					// An access that hits is no schedule point.
					yield* cond_resched();
				}
			},
		]);
		if (w.gpu0.counters.migrateToRam === migrated) inPlace++;
		EXPECT_TRUE(same(fresh, userRead(w.task, address, 4096)));
		EXPECT_EQ(stores, userRead64(w.task, address + PAGE));
		run(() => deregMr(mr), { task: w.task });
		expectGone(mr);
		userMunmap(w.task, address, LENGTH);
	}
	EXPECT_EQ(w.gpu0.chunks[0]?.callocated ?? 0, 0);
	// Both kinds of schedule were met.
	EXPECT_TRUE(inPlace > 0 && inPlace < SEEDS);
});

TEST_F(races, 'after_the_zap_returned_the_nic_writes_no_old_page', ({ w }) => {
	const nic = w.nic('NIC0');
	for (let seed = 1; seed <= SEEDS; seed++) {
		const { address } = w.mapPages(PAGES, seed);
		if (seed % 2) ASSERT_EQ(w.toVram(address, PAGES), PAGES);
		const mr = w.register(nic, address, PAGES);
		const { key } = mr.key;
		let isZapped = false;
		let after = false;
		together(w, seed, [
			function* () {
				EXPECT_EQ(
					0,
					yield* do_madvise(
						w.task.mm!,
						address,
						LENGTH,
						MADV_DONTNEED,
					),
				);
				isZapped = true;
			},
			function* () {
				for (let i = 0; i < 3; i++) {
					const began = isZapped;
					const fresh = new Uint8Array(BYTES).fill(0xa0 + i);
					const status = yield* rdmaWriteResponder(
						nic,
						key,
						address,
						fresh,
					);
					EXPECT_EQ(status, IB_WC_SUCCESS);
					if (began) after = true;
				}
			},
		]);
		// What was written after the zap is in the new pages, all else was lost with the old ones.
		const seen = userRead(w.task, address, BYTES) as Uint8Array;
		const values = new Set(seen);
		if (after) EXPECT_TRUE(values.size === 1 && values.has(0xa2));
		else EXPECT_TRUE([...values].every((value) => value === 0 || value >= 0xa0));
		run(() => deregMr(mr), { task: w.task });
		expectGone(mr);
		userMunmap(w.task, address, LENGTH);
	}
});

TEST_F(races, 'words_are_the_cpus_under_the_mutex_whatever_came_in_between', ({ w }) => {
	const nic = w.nic('NIC0');
	let invalidated = 0;
	for (let seed = 1; seed <= SEEDS; seed++) {
		const { address } = w.mapPages(PAGES, seed);
		const mr = w.register(nic, address, PAGES);
		const { umem } = mr;
		const before = umem.notifier.invalidate_seq;
		together(w, seed, [
			function* () {
				const np = yield* ib_umem_odp_map_dma_and_lock(
					umem,
					address,
					LENGTH,
					HMM_PFN_WRITE,
					true,
				);
				EXPECT_EQ(np, PAGES);
				if (umem.notifier.invalidate_seq !== before) invalidated++;
				for (let i = 0; i < PAGES; i++) {
					const cpu = entryPfn(w, address + BigInt(i) * PAGE);
					EXPECT_EQ(umem.map.pfn_list![i]! & ~HMM_PFN_FLAGS(), cpu);
				}
				yield* mutex_unlock(umem.umem_mutex);
			},
			function* () {
				yield* do_madvise(w.task.mm!, address, LENGTH, MADV_DONTNEED);
				for (let i = 0; i < PAGES; i++)
					yield* storeUser64(
						address + BigInt(i) * PAGE,
						BigInt(seed),
					);
			},
		]);
		run(() => deregMr(mr), { task: w.task });
		userMunmap(w.task, address, LENGTH);
	}
	// In some of the schedules the invalidation came first, or in between, in some later.
	EXPECT_TRUE(invalidated > 0 && invalidated < SEEDS);
});

/** PFN of a present entry of the process; -1 if there is none. */
function entryPfn(w: StandardWorld, address: bigint): bigint {
	const pmd = pmd_offset(pud_offset(pgd_offset(w.task.mm!, address), address), address);
	const pte = pte_offset_kernel(pmd, address).value;
	return pte_present(pte) ? pte_pfn(pte) : -1n;
}
