// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: without the proposal the NIC moves the right bytes in both releases, and its table grants
 * what the region and the CPU grant. Method: whole work requests over RAM and over pages in VRAM,
 * which come home, directly and behind an IOMMU; a migration beside the transfer in many schedules.
 */

import { migrateToVram } from '../../../../../drivers/gpu/refgpu/index.ts';
import {
	deregMr,
	postSend,
	type Rnic,
	type RnicMr,
	rdmaReadResponder,
	rdmaWriteResponder,
	rnicAdviseMr,
} from '../../../../../drivers/infiniband/hw/rnic/rnic.ts';
import { MTT_READ, MTT_WRITE } from '../../../../../drivers/infiniband/hw/rnic/silicon.ts';
import {
	IB_WC_REM_ACCESS_ERR,
	IB_WC_SUCCESS,
	IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH as PREFETCH,
	IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT as PREFETCH_NO_FAULT,
	IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE as PREFETCH_WRITE,
} from '../../../../../include/rdma/ib_verbs.ts';
import type { ProfileName } from '../../../../../include/sim/feature.ts';
import { run, runThreads, spawn } from '../../../../../kernel/sched/core.ts';
import { randomStrategy } from '../../../../../kernel/sched/strategy.ts';
import { userMunmap, userRead } from '../../../../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	ASSERT_TRUE,
	EXPECT_EQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../../../../kselftest_harness.ts';
import { patternBytes, StandardWorld } from '../../../../support/standard.ts';

const PAGES = 4;
const BYTES = PAGES * 4096;
const SEEDS = 30;

interface Self {
	w: StandardWorld;
	nic: Rnic;
	mr: RnicMr;
	address: bigint;
	bytes: Uint8Array;
}

interface Variant {
	profile: ProfileName;
	iommu: boolean;
}

const mtt = FIXTURE<Self, Variant>(
	'mtt',
	() => ({
		w: null as unknown as StandardWorld,
		nic: null as unknown as Rnic,
		mr: null as unknown as RnicMr,
		address: 0n,
		bytes: new Uint8Array(0),
	}),
	FIXTURE_VARIANT({ profile: 'v6.12' as ProfileName, iommu: false }),
);
FIXTURE_VARIANT_ADD(mtt, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(mtt, 'v6_12_iommu', { profile: 'v6.12', iommu: true });
FIXTURE_VARIANT_ADD(mtt, 'v7_3', { profile: 'v7.3' });
FIXTURE_VARIANT_ADD(mtt, 'v7_3_iommu', { profile: 'v7.3', iommu: true });

FIXTURE_SETUP(mtt, (self, { profile, iommu }) => {
	self.w = new StandardWorld({
		profile,
		proposals: [],
		...(iommu && {
			machine: (d) => {
				d.iommu = { kind: 'intel', domains: 'dma' };
			},
		}),
	});
	self.nic = self.w.nic('NIC0');
	Object.assign(self, self.w.mapPages(PAGES));
	self.mr = self.w.register(self.nic, self.address, PAGES);
});

FIXTURE_TEARDOWN(mtt, ({ w }) => {
	w.close();
});

function same(a: Uint8Array, b: unknown): boolean {
	return b instanceof Uint8Array && Buffer.compare(a, b) === 0;
}

function readAll({ w, nic, mr, address }: Self): Uint8Array {
	const { status, data } = run(() => rdmaReadResponder(nic, mr.key.key, address, BYTES), {
		task: w.task,
	});
	ASSERT_EQ(status, IB_WC_SUCCESS);
	return data;
}

function writeAll({ w, nic, mr, address }: Self, bytes: Uint8Array): number {
	return run(() => rdmaWriteResponder(nic, mr.key.key, address, bytes), { task: w.task });
}

/** Permissions of each entry, one letter each. */
function permissions({ mr }: Self): string {
	return [...mr.key.mtt]
		.map((entry) => (entry & MTT_WRITE ? 'w' : entry & MTT_READ ? 'r' : '0'))
		.join('');
}

TEST_F(mtt, 'read_and_write_over_ram', (self) => {
	const { w, mr, address, bytes } = self;
	ASSERT_TRUE(same(bytes, readAll(self)));
	const fresh = patternBytes(BYTES, 3);
	ASSERT_EQ(writeAll(self, fresh), IB_WC_SUCCESS);
	EXPECT_TRUE(same(fresh, userRead(w.task, address, BYTES)));
	EXPECT_EQ(permissions(self), 'wwww');
	EXPECT_EQ(mr.umem.npages, PAGES);
});

TEST_F(mtt, 'read_over_vram_brings_the_pages_home', (self) => {
	const { w, address, bytes } = self;
	ASSERT_EQ(w.toVram(address, PAGES), PAGES);
	ASSERT_TRUE(same(bytes, readAll(self)));
	EXPECT_EQ(w.gpu0.counters.migrateToRam, PAGES);
	EXPECT_EQ(w.gpu0.counters.opCalls, 0);
});

TEST_F(mtt, 'write_over_vram_brings_the_pages_home_and_they_go_again', (self) => {
	const { w, nic, mr, address } = self;
	ASSERT_EQ(w.toVram(address, PAGES), PAGES);
	const fresh = patternBytes(BYTES, 5);
	ASSERT_EQ(writeAll(self, fresh), IB_WC_SUCCESS);
	EXPECT_EQ(w.gpu0.counters.migrateToRam, PAGES);
	// The GPU takes them back: the NIC's entries go first, and what it wrote is in VRAM.
	ASSERT_EQ(w.toVram(address, PAGES), PAGES);
	EXPECT_EQ(permissions(self), '0000');
	EXPECT_EQ(mr.umem.npages, 0);
	ASSERT_TRUE(same(fresh, readAll(self)));
	EXPECT_EQ(nic.silicon.faults.length, 0);
});

TEST_F(mtt, 'work_request_between_two_nics', (self) => {
	const { w, nic, mr, address, bytes } = self;
	const peer = w.nic('NIC1');
	const { address: raddr } = w.mapPages(PAGES, 9);
	const rkey = w.register(peer, raddr, PAGES).key.key;
	ASSERT_EQ(w.toVram(address, PAGES), PAGES);
	const common = { lkey: mr.key.key, laddr: address, rkey, raddr, length: BYTES };
	const send = (opcode: 'RDMA_READ' | 'RDMA_WRITE'): number =>
		run(() => postSend(nic, peer, { opcode, ...common }), { task: w.task });
	ASSERT_EQ(send('RDMA_WRITE'), IB_WC_SUCCESS);
	EXPECT_TRUE(same(bytes, userRead(w.task, raddr, BYTES)));
	ASSERT_EQ(send('RDMA_READ'), IB_WC_SUCCESS);
	EXPECT_TRUE(same(bytes, userRead(w.task, address, BYTES)));
});

TEST_F(mtt, 'prefetch_grants_reading_and_prefetch_write_writing', (self) => {
	const { w, nic, mr, address } = self;
	const advise = (advice: number): number =>
		run(() => rnicAdviseMr(nic, advice, mr.key.key, address, BigInt(BYTES)), {
			task: w.task,
		});
	ASSERT_EQ(advise(PREFETCH), 0);
	EXPECT_EQ(permissions(self), 'rrrr');
	ASSERT_EQ(advise(PREFETCH_WRITE), 0);
	EXPECT_EQ(permissions(self), 'wwww');
	EXPECT_EQ(mr.umem.npages, PAGES);
});

TEST_F(mtt, 'prefetch_without_faults_leaves_vram_alone', (self) => {
	const { w, nic, mr, address } = self;
	ASSERT_EQ(w.toVram(address, 2), 2);
	const ret = run(
		() => rnicAdviseMr(nic, PREFETCH_NO_FAULT, mr.key.key, address, BigInt(BYTES)),
		{ task: w.task },
	);
	ASSERT_EQ(ret, 0);
	EXPECT_EQ(w.gpu0.counters.migrateToRam, 0);
	EXPECT_EQ(mr.umem.npages, 2);
	ASSERT_EQ(permissions(self).slice(0, 2), '00');
});

TEST_F(mtt, 'munmap_and_deregistering_leave_nothing_mapped', (self) => {
	const { w, nic, mr, address } = self;
	readAll(self);
	ASSERT_EQ(userMunmap(w.task, address, BigInt(BYTES)), 0);
	EXPECT_EQ(permissions(self), '0000');
	const { status } = run(() => rdmaReadResponder(nic, mr.key.key, address, BYTES), {
		task: w.task,
	});
	EXPECT_EQ(status, IB_WC_REM_ACCESS_ERR);
	run(() => deregMr(mr), { task: w.task });
	EXPECT_EQ(mr.umem.npages, 0);
});

TEST_F(mtt, 'migration_beside_a_transfer_loses_no_byte', (self) => {
	const { w, nic, mr, address } = self;
	const { task } = w;
	const end = address + BigInt(BYTES);
	for (let seed = 1; seed <= SEEDS; seed++) {
		const fresh = patternBytes(BYTES, seed);
		let status = -1;
		spawn(
			'responder',
			function* () {
				status = yield* rdmaWriteResponder(nic, mr.key.key, address, fresh);
			},
			{ mm: task.mm, cpu: 0 },
		);
		spawn(
			'gpu',
			function* () {
				yield* migrateToVram(w.gpu0, task.mm!, address, end);
			},
			{ mm: task.mm, cpu: 1 },
		);
		runThreads(randomStrategy(seed));
		ASSERT_EQ(status, IB_WC_SUCCESS);
		ASSERT_TRUE(same(fresh, userRead(task, address, BYTES)));
	}
	EXPECT_EQ(nic.silicon.faults.length, 0);
	EXPECT_TRUE(w.gpu0.counters.migrateToRam > 0);
});
