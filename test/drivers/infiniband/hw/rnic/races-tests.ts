// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: work requests, page faults, invalidations and deregistration of one region may meet in any
 * order. Method: threads under seeded schedules at every schedule point; after each run the NIC
 * reaches nothing that is gone, counters are balanced, and the sanitizers have nothing to say.
 */
import { migrateToVram } from '../../../../../drivers/gpu/refgpu/index.ts';
import {
	deregMr,
	type RnicMr,
	rdmaReadResponder,
	rdmaWriteResponder,
	rnicAdviseMr,
} from '../../../../../drivers/infiniband/hw/rnic/rnic.ts';
import { MADV_DONTNEED } from '../../../../../include/linux/mm.ts';
import {
	IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE,
	IB_WC_REM_ACCESS_ERR,
	IB_WC_SUCCESS,
} from '../../../../../include/rdma/ib_verbs.ts';
import type { Sim } from '../../../../../include/sim/schedule.ts';
import { runThreads, spawn } from '../../../../../kernel/sched/core.ts';
import { randomStrategy } from '../../../../../kernel/sched/strategy.ts';
import { do_madvise } from '../../../../../mm/madvise.ts';
import { loadUser64, storeUser64, userRead, userWrite } from '../../../../../mm/syscalls.ts';
import { vm_munmap } from '../../../../../mm/vma.ts';
import {
	ASSERT_EQ,
	EXPECT_EQ,
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
