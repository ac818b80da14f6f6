// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the mistakes that a driver can make with the proposal do not go unseen. Method: one op, one
 * field or one callback is replaced by a wrong one; the fabric, the bytes or a sanitizer has to find
 * it. Each test first shows that the same steps are right without the mutant, where that is not
 * shown elsewhere.
 */

import { devres_release_all } from '../../../drivers/base/devres.ts';
import { vramOffset } from '../../../drivers/gpu/refgpu/gpu.ts';
import { type RefGpu, refgpuProbe, refgpuRemove } from '../../../drivers/gpu/refgpu/index.ts';
import { removeWindow } from '../../../drivers/gpu/refgpu/p2p.ts';
import {
	ib_umem_odp_map_dma_and_lock,
	ib_umem_odp_release,
	ib_umem_odp_unmap_dma_pages,
} from '../../../drivers/infiniband/core/umem_odp.ts';
import {
	deregMr,
	type Rnic,
	type RnicMr,
	rdmaReadResponder,
	rdmaWriteResponder,
	rnicAdviseMr,
} from '../../../drivers/infiniband/hw/rnic/rnic.ts';
import { MTT_WRITE } from '../../../drivers/infiniband/hw/rnic/silicon.ts';
import { oops } from '../../../include/linux/bug.ts';
import { HMM_PFN_FLAGS } from '../../../include/linux/hmm.ts';
import type { dev_pagemap_ops } from '../../../include/linux/memremap.ts';
import type { page } from '../../../include/linux/mm_types.ts';
import { pfn_valid } from '../../../include/linux/mmzone.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import { GFP_HIGHUSER_MOVABLE } from '../../../include/linux/types.ts';
import type { ib_umem_odp } from '../../../include/rdma/ib_umem_odp.ts';
import {
	IB_WC_REM_OP_ERR,
	IB_WC_SUCCESS,
	IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH as PREFETCH,
} from '../../../include/rdma/ib_verbs.ts';
import { shutdown } from '../../../init/main.ts';
import { mutex_lock, mutex_unlock } from '../../../kernel/locking/mutex.ts';
import { run, runThreads, spawn } from '../../../kernel/sched/core.ts';
import { randomStrategy } from '../../../kernel/sched/strategy.ts';
import { forkProcess } from '../../../mm/fork.ts';
import { mmu_interval_set_seq } from '../../../mm/mmu_notifier.ts';
import { alloc_page, pageFrame } from '../../../mm/page_alloc.ts';
import { put_page } from '../../../mm/swap.ts';
import { exitProcess, userMunmap, userRead } from '../../../mm/syscalls.ts';
import { vm_munmap } from '../../../mm/vma.ts';
import {
	ASSERT_EQ,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../../kselftest_harness.ts';
import { patternBytes, type StandardOptions, StandardWorld } from '../../support/standard.ts';

const PAGES = 4;
const BYTES = PAGES * 4096;

interface Self {
	w: StandardWorld;
	nic: Rnic;
	mr: RnicMr;
	address: bigint;
	bytes: Uint8Array;
}

const mutants = FIXTURE<Self>('odp_mutants', () => ({
	w: null as unknown as StandardWorld,
	nic: null as unknown as Rnic,
	mr: null as unknown as RnicMr,
	address: 0n,
	bytes: new Uint8Array(0),
}));

/** Pages in VRAM, registered with a NIC below the same switch. */
function stage(self: Self, options: StandardOptions = {}, pages = PAGES): void {
	const w = new StandardWorld(options);
	const { address, bytes } = w.mapPages(pages);
	ASSERT_EQ(w.toVram(address, pages), pages);
	const nic = w.nic('NIC0');
	Object.assign(self, { w, nic, address, bytes, mr: w.register(nic, address, pages) });
}

FIXTURE_SETUP(mutants, (self) => {
	stage(self);
});

FIXTURE_TEARDOWN(mutants, ({ w }) => {
	w.close();
});

function read({ w, nic, mr, address }: Self, at = address): { status: number; data: Uint8Array } {
	return run(() => rdmaReadResponder(nic, mr.key.key, at, BYTES), { task: w.task });
}

function write({ w, nic, mr, address }: Self, bytes: Uint8Array): number {
	return run(() => rdmaWriteResponder(nic, mr.key.key, address, bytes), { task: w.task });
}

function same(a: Uint8Array, b: unknown): boolean {
	return b instanceof Uint8Array && Buffer.compare(a, b) === 0;
}

/** The op of a GPU's pagemaps, replaced for the rest of the test. */
function replaceOp(gpu: RefGpu, op: dev_pagemap_ops['device_private_dma_pfn']): void {
	for (const { pagemap } of gpu.chunks)
		pagemap.ops = { ...pagemap.ops, device_private_dma_pfn: op } as dev_pagemap_ops;
}

TEST_F(mutants, 'P4_op_that_answers_with_bytes_is_reported', (self) => {
	const { w, bytes } = self;
	replaceOp(w.gpu0, (p, pfn) => {
		pfn.value = (BigInt(w.gpu0.window!.firstPfn) << 12n) + vramOffset(p);
		return 0;
	});
	expectReport(/answered with a page that is not P2PDMA/);
	// The page goes home instead, and no byte is wrong.
	EXPECT_TRUE(same(bytes, read(self).data));
	EXPECT_EQ(w.gpu0.counters.migrateToRam, PAGES);
});

TEST_F(mutants, 'P5_alias_of_the_next_page_brings_wrong_bytes', (self) => {
	const { w, bytes } = self;
	const { device_private_dma_pfn: op } = w.gpu0.pagemapOps;
	replaceOp(w.gpu0, (p, pfn) => {
		const ret = op!(p, pfn);
		pfn.value++;
		return ret;
	});
	const { status, data } = read(self);
	EXPECT_EQ(status, IB_WC_SUCCESS);
	EXPECT_FALSE(same(bytes, data));
	EXPECT_TRUE(same(bytes.subarray(4096), data.subarray(0, BYTES - 4096)));
});

TEST_F(mutants, 'P7_op_that_does_not_look_at_the_window_is_reported', (self) => {
	self.w.close();
	ASSERT_EQ(shutdown().length, 0);
	const behind = 512;
	stage(self, { gpu: { windowSize: 2n << 20n, vramSize: 4n << 20n } }, behind + PAGES);
	const { w, bytes, address } = self;
	replaceOp(w.gpu0, (p, pfn) => {
		const { firstPfn } = w.gpu0.window!;
		pfn.value = BigInt(firstPfn) + (vramOffset(p) >> 12n);
		return 0;
	});
	expectReport(/answered with a page that is not P2PDMA/);
	const at = address + (BigInt(behind) << 12n);
	EXPECT_TRUE(same(bytes.subarray(behind * 4096), read(self, at).data));
	EXPECT_EQ(w.gpu0.counters.migrateToRam, PAGES);
});

TEST_F(mutants, 'P7_alias_in_another_gpus_window_brings_wrong_bytes', (self) => {
	const { w, bytes } = self;
	const other = run(() => refgpuProbe(w.pdev('GPU1')));
	replaceOp(w.gpu0, (p, pfn) => {
		pfn.value = BigInt(other.window!.firstPfn) + (vramOffset(p) >> 12n);
		return 0;
	});
	// This NIC reaches the other GPU, not this one: right would be to migrate.
	self.nic = w.nic('NIC2');
	self.mr = w.register(self.nic, self.address, PAGES);
	const { status, data } = read(self);
	EXPECT_EQ(status, IB_WC_SUCCESS);
	EXPECT_EQ(w.gpu0.counters.migrateToRam, 0);
	EXPECT_FALSE(same(bytes, data));
	run(() => deregMr(self.mr), { task: w.task });
	EXPECT_EQ(
		run(() => refgpuRemove(other)),
		0,
	);
});

/** The process forks, the NIC has the now read-only private pages for reading. */
function forkAndPrefetch({ w, nic, mr, address }: Self): task_struct {
	const child = forkProcess(w.task);
	if (typeof child === 'number') throw new Error(`fork() returned ${child}`);
	const length = BigInt(BYTES);
	const { key } = mr.key;
	ASSERT_EQ(
		run(() => rnicAdviseMr(nic, PREFETCH, key, address, length), { task: w.task }),
		0,
	);
	EXPECT_EQ(w.gpu0.counters.migrateToRam, 0);
	EXPECT_TRUE(mr.key.mtt.every((word) => (word & 3n) === 1n));
	return child;
}

TEST_F(mutants, 'P8_write_through_a_read_only_private_page_is_copied_first', (self) => {
	const { w, bytes } = self;
	const child = forkAndPrefetch(self);
	const fresh = patternBytes(BYTES, 99);
	ASSERT_EQ(write(self, fresh), IB_WC_SUCCESS);
	EXPECT_TRUE(same(fresh, userRead(w.task, self.address, BYTES)));
	EXPECT_TRUE(same(bytes, userRead(child, self.address, BYTES)));
	exitProcess(child);
});

TEST_F(mutants, 'P8_entry_that_only_the_nic_may_write_changes_the_childs_bytes', (self) => {
	const { mr, bytes } = self;
	const child = forkAndPrefetch(self);
	for (let i = 0; i < PAGES; i++) mr.key.mtt[i] = mr.key.mtt[i]! | MTT_WRITE;
	const fresh = patternBytes(BYTES, 99);
	ASSERT_EQ(write(self, fresh), IB_WC_SUCCESS);
	EXPECT_FALSE(same(bytes, userRead(child, self.address, BYTES)));
	exitProcess(child);
});

TEST_F(mutants, 'P11_mirror_that_is_not_zapped_reads_what_is_there_now', (self) => {
	const { w, mr, bytes } = self;
	EXPECT_TRUE(same(bytes, read(self).data));
	const { notifier } = mr.umem;
	const { ops } = notifier;
	// Forgets the NIC's table, and does all else.
	notifier.ops = {
		*invalidate(mni, _range, seq) {
			const umem = mni.container as ib_umem_odp;
			yield* mutex_lock(umem.umem_mutex);
			mmu_interval_set_seq(mni, seq);
			yield* mutex_unlock(umem.umem_mutex);
			return true;
		},
	};
	userRead(w.task, self.address, BYTES);
	notifier.ops = ops;
	// The pages are home, their VRAM is another's: the NIC reads that.
	const { address } = w.mapPages(PAGES, 55);
	ASSERT_EQ(w.toVram(address, PAGES), PAGES);
	const { status, data } = read(self);
	EXPECT_EQ(status, IB_WC_SUCCESS);
	EXPECT_FALSE(same(bytes, data));
});

TEST_F(mutants, 'P11_callback_that_keeps_the_sequence_is_reported', (self) => {
	const { w, mr, bytes } = self;
	EXPECT_TRUE(same(bytes, read(self).data));
	const { notifier } = mr.umem;
	const { ops } = notifier;
	notifier.ops = {
		*invalidate() {
			return true;
		},
	};
	expectReport(/invalidate callback without mmu_interval_set_seq/);
	ASSERT_EQ(userMunmap(w.task, self.address, 4096n), 0);
	notifier.ops = ops;
	// what the callback should have done
	run(function* () {
		const { umem, key, nic } = mr;
		yield* mutex_lock(umem.umem_mutex);
		yield* nic.silicon.writeTable(key, 0, [0n]);
		yield* ib_umem_odp_unmap_dma_pages(umem, self.address, self.address + 4096n);
		yield* mutex_unlock(umem.umem_mutex);
	});
});

TEST_F(mutants, 'P11_mapping_that_outlives_the_page_faults_behind_an_iommu', (self) => {
	self.w.close();
	ASSERT_EQ(shutdown().length, 0);
	stage(self, {
		machine: (d) => {
			d.iommu = { kind: 'intel', domains: 'dma' };
		},
	});
	const { w, nic, mr, bytes } = self;
	// below a switch it is a bus address; NIC1's goes through the root, so it is an IOVA
	self.nic = w.nic('NIC1');
	self.mr = w.register(self.nic, self.address, PAGES);
	EXPECT_TRUE(same(bytes, read(self).data));
	const stale = [...self.mr.key.mtt];
	userRead(w.task, self.address, BYTES);
	EXPECT_TRUE(self.mr.key.mtt.every((word) => word === 0n));
	// a NIC that kept its old entries
	self.mr.key.mtt.set(stale);
	EXPECT_EQ(read(self).status, IB_WC_REM_OP_ERR);
	EXPECT_EQ(self.nic.silicon.faults.length, 1);
	EXPECT_TRUE(/^DMAR: /.test(w.machine.iommu!.faultLog[0]?.text ?? ''));
	self.mr.key.mtt.fill(0n);
	EXPECT_EQ(nic.silicon.faults.length + mr.umem.npages, 0);
});

TEST_F(mutants, 'P12_window_that_goes_before_the_chunks_leaves_the_nic_without_memory', (self) => {
	const { w, mr } = self;
	read(self);
	run(function* () {
		removeWindow(w.gpu0);
		yield* devres_release_all(w.gpu0.pdev.dev);
	});
	// The aliases that the NIC still has are pages of nothing: the first one that is marked dirty
	// ends the run.
	expectReport(/has no struct page/);
	EXPECT_FALSE(pfn_valid(mr.umem.map.pfn_list![0]! & ~HMM_PFN_FLAGS()));
	try {
		userRead(w.task, self.address, BYTES);
	} catch (error) {
		oops(String(error));
	}
});

TEST_F(mutants, 'P6_retry_under_the_umem_mutex_is_a_self_deadlock', (self) => {
	const { w, mr, address } = self;
	expectReport(/recursive locking/);
	expectReport(/blocked for more than 120 seconds/);
	run(
		function* () {
			yield* mutex_lock(mr.umem.umem_mutex);
			yield* ib_umem_odp_map_dma_and_lock(mr.umem, address, 4096n, 0n, true);
		},
		{ task: w.task },
	);
});

TEST_F(mutants, 'B31_release_under_the_umem_mutex_is_a_self_deadlock', (self) => {
	const { w, mr } = self;
	expectReport(/recursive locking/);
	expectReport(/blocked for more than 120 seconds/);
	run(
		function* () {
			yield* mutex_lock(mr.umem.umem_mutex);
			yield* ib_umem_odp_release(mr.umem);
			yield* mutex_unlock(mr.umem.umem_mutex);
		},
		{ task: w.task },
	);
});

TEST_F(mutants, 'B19_engine_that_claims_to_have_copied_shows_zeros_and_no_poison', (self) => {
	const { w, bytes } = self;
	poisonFreePages(64);
	const { silicon } = w.gpu0;
	silicon.copyOut = function* () {
		return 0;
	};
	const seen = userRead(w.task, self.address, BYTES);
	EXPECT_FALSE(same(bytes, seen));
	EXPECT_TRUE(same(new Uint8Array(BYTES), seen));
});

function poisonFreePages(count: number): void {
	run(function* () {
		const pages: page[] = [];
		for (let i = 0; i < count; i++) {
			const p = (yield* alloc_page(GFP_HIGHUSER_MOVABLE))!;
			pageFrame(p).u8.fill(0x6b);
			pages.push(p);
		}
		for (const p of pages) yield* put_page(p);
	});
}

TEST_F(mutants, 'B27_key_revoked_without_the_mutex_is_programmed_when_it_is_dead', (self) => {
	const { w, nic } = self;
	const length = BigInt(BYTES);
	expectReport(/CQE with error: key 0x[0-9a-f]+ is programmed after it was revoked/);
	for (let seed = 1; seed <= 20; seed++) {
		const { address } = w.mapPages(PAGES, seed);
		const mr = w.register(nic, address, PAGES);
		const { umem, key } = mr;
		run(() => rdmaReadResponder(nic, key.key, address, BYTES), { task: w.task });
		spawn('unmapper', () => vm_munmap(address, length), { mm: w.task.mm, cpu: 0 });
		spawn(
			'deregisterer',
			function* () {
				yield* nic.silicon.revokeKey(key);
				yield* mutex_lock(umem.umem_mutex);
				umem.private = null;
				yield* mutex_unlock(umem.umem_mutex);
				nic.mrs.delete(key.key);
				yield* ib_umem_odp_release(umem);
			},
			{ mm: w.task.mm, cpu: 1 },
		);
		runThreads(randomStrategy(seed));
	}
});
