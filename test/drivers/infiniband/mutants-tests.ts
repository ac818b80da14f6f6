// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the mistakes that a driver can make with the proposal do not go unseen. Method: one op, one
 * field or one callback is replaced by a wrong one; the fabric, the bytes or a sanitizer has to find
 * it. Each test first shows that the same steps are right without the mutant, where that is not
 * shown elsewhere.
 */

import { devres_release_all } from '../../../drivers/base/devres.ts';
import { GpuWindow, vramOffset } from '../../../drivers/gpu/refgpu/gpu.ts';
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
import { map_types_idx } from '../../../drivers/pci/p2pdma/cache.ts';
import { p2pdmaOf } from '../../../drivers/pci/p2pdma/objects.ts';
import { oops } from '../../../include/linux/bug.ts';
import { DMA_MAPPING_ERROR } from '../../../include/linux/dma-mapping.ts';
import { EOPNOTSUPP } from '../../../include/linux/errno.ts';
import {
	HMM_PFN_DMA_MAPPED,
	HMM_PFN_FLAGS,
	HMM_PFN_ORDER_SHIFT,
	HMM_PFN_P2PDMA,
	HMM_PFN_P2PDMA_BUS,
	HMM_PFN_REQ_FAULT,
	HMM_PFN_VALID,
	hmm_pfn_to_map_order,
	type hmm_range,
} from '../../../include/linux/hmm.ts';
import { hmm_dma_map } from '../../../include/linux/hmm-dma.ts';
import type { dev_pagemap_ops } from '../../../include/linux/memremap.ts';
import { MADV_DONTNEED } from '../../../include/linux/mm.ts';
import type { page } from '../../../include/linux/mm_types.ts';
import { pfn_valid } from '../../../include/linux/mmzone.ts';
import {
	PCI_P2PDMA_MAP_NOT_SUPPORTED,
	PCI_P2PDMA_MAP_THRU_HOST_BRIDGE,
	pci_p2pdma_map_state,
} from '../../../include/linux/pci-p2pdma.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import { GFP_HIGHUSER_MOVABLE } from '../../../include/linux/types.ts';
import type { ib_umem_odp } from '../../../include/rdma/ib_umem_odp.ts';
import {
	IB_WC_REM_ACCESS_ERR,
	IB_WC_REM_OP_ERR,
	IB_WC_SUCCESS,
	IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH as PREFETCH,
} from '../../../include/rdma/ib_verbs.ts';
import { injectFaults } from '../../../include/sim/fault_injection.ts';
import { shutdown } from '../../../init/main.ts';
import { mutex_lock, mutex_unlock } from '../../../kernel/locking/mutex.ts';
import { run, runThreads, spawn } from '../../../kernel/sched/core.ts';
import { randomStrategy } from '../../../kernel/sched/strategy.ts';
import { forkProcess } from '../../../mm/fork.ts';
import { hmm_dma_map_alloc, hmm_dma_map_free, hmm_dma_map_pfn } from '../../../mm/hmm_dma.ts';
import { mmu_interval_set_seq } from '../../../mm/mmu_notifier.ts';
import { alloc_page, pageFrame } from '../../../mm/page_alloc.ts';
import { put_page } from '../../../mm/swap.ts';
import { exitProcess, userMadvise, userMunmap, userRead } from '../../../mm/syscalls.ts';
import { vm_munmap } from '../../../mm/vma.ts';
import {
	ASSERT_EQ,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_STREQ,
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

const STICKY = HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA | HMM_PFN_P2PDMA_BUS;

/** Another start of the fixture's world. */
function restage(self: Self, options: StandardOptions): void {
	self.w.close();
	ASSERT_EQ(shutdown().length, 0);
	stage(self, options);
}

/** A second fault over words that are mapped. */
function prefetchAgain({ w, nic, mr, address }: Self): number {
	const { key } = mr.key;
	return run(() => rnicAdviseMr(nic, PREFETCH, key, address, BigInt(BYTES)), {
		task: w.task,
	});
}

/** NIC1 has the pages through the root complex and an IOMMU. */
function stageBehindIommu(self: Self): void {
	restage(self, {
		machine: (d) => {
			d.iommu = { kind: 'intel', domains: 'dma' };
		},
	});
	const { w } = self;
	self.nic = w.nic('NIC1');
	self.mr = w.register(self.nic, self.address, PAGES);
	EXPECT_TRUE(same(self.bytes, read(self).data));
}

TEST_F(mutants, 'P1_second_fault_keeps_what_the_first_one_mapped', (self) => {
	stageBehindIommu(self);
	const { w, mr } = self;
	const words = [...mr.umem.map.pfn_list!];
	ASSERT_EQ(prefetchAgain(self), 0);
	EXPECT_STREQ([...mr.umem.map.pfn_list!].join(), words.join());
	EXPECT_TRUE(
		words.every((word) => (word & STICKY) === (HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA)),
	);
	ASSERT_EQ(userMunmap(w.task, self.address, BigInt(BYTES)), 0);
	EXPECT_EQ(mr.umem.npages, 0);
});

TEST_F(mutants, 'P1_words_that_lose_their_sticky_bits_cannot_be_mapped_again', (self) => {
	stageBehindIommu(self);
	const { mr } = self;
	const { pfn_list } = mr.umem.map;
	const words = [...pfn_list!];
	for (let i = 0; i < PAGES; i++) pfn_list![i] = pfn_list![i]! & ~STICKY;
	EXPECT_TRUE(prefetchAgain(self) < 0);
	pfn_list!.set(words);
});

/** Words of a region as a kernel would leave them that stores `f(word)` where it has an alias. */
class WrongWords extends BigUint64Array {
	f: (word: bigint) => bigint = (word) => word;

	override subarray(begin?: number, end?: number): BigUint64Array<ArrayBuffer> {
		const { f } = this;
		// a view of the plain kind: subarray() of this class would come here again
		const part = new BigUint64Array(
			this.buffer,
			(begin ?? 0) * 8,
			(end ?? this.length) - (begin ?? 0),
		);
		return new Proxy(part as BigUint64Array<ArrayBuffer>, {
			get(target, key) {
				const value: unknown = Reflect.get(target, key, target);
				return typeof value === 'function' ? value.bind(target) : value;
			},
			set(target, key, word: bigint) {
				return Reflect.set(
					target,
					key,
					word & HMM_PFN_VALID ? f(word) : word,
					target,
				);
			},
		});
	}
}

TEST_F(mutants, 'P2_word_without_valid_and_pfn_after_a_fault_is_reported', (self) => {
	const { w, mr, bytes } = self;
	const wrong = new WrongWords(PAGES);
	wrong.f = (word) => word & HMM_PFN_DMA_MAPPED;
	mr.umem.map.pfn_list = wrong as never;
	expectReport(/a faulted page is not there/);
	// The NIC's table stays empty, however often it asks.
	EXPECT_EQ(read(self).status, IB_WC_REM_OP_ERR);
	EXPECT_TRUE(mr.key.mtt.every((word) => word === 0n));
	wrong.f = (word) => word;
	EXPECT_TRUE(same(bytes, read(self).data));
	EXPECT_EQ(w.gpu0.counters.migrateToRam, 0);
});

TEST_F(mutants, 'P3_bit_57_is_neither_permission_nor_lost_from_the_order', ({ w, address }) => {
	const bit57 = 1n << 57n;
	const hmm_pfns = new BigUint64Array(PAGES).fill(bit57);
	// Set in every word and in the defaults, it asks for nothing.
	const asked = w.rangeFault(address, PAGES, { hmm_pfns, default_flags: bit57 });
	ASSERT_EQ(asked.ret, 0);
	EXPECT_TRUE([...asked.pfns].every((word) => word === 0n));
	EXPECT_EQ(w.gpu0.counters.opCalls, 0);
	// An alias has the order of its entry, whatever was there before.
	const alias = w.rangeFault(address, PAGES, { hmm_pfns, dma_dev: w.pdev('NIC0').dev });
	ASSERT_EQ(alias.ret, 0);
	for (const word of alias.pfns) {
		EXPECT_EQ(hmm_pfn_to_map_order(word), 0);
		// The faulty form: the flag kept in the word is the order's bit 1 here.
		EXPECT_EQ(
			hmm_pfn_to_map_order(word | bit57),
			1 << Number(57n - HMM_PFN_ORDER_SHIFT()),
		);
	}
	// And a PUD mapping has one of the field's bits by itself, wherever the flag is put.
	const PUD_ORDER = 18;
	const word = BigInt(PUD_ORDER) << HMM_PFN_ORDER_SHIFT();
	EXPECT_EQ(hmm_pfn_to_map_order(word), PUD_ORDER);
	EXPECT_TRUE((word & (bit57 | (1n << 60n))) !== 0n);
});

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

TEST_F(mutants, 'P9_refusal_of_one_page_holds_through_the_whole_call', (self) => {
	const { w, address } = self;
	const { device_private_dma_pfn: op } = w.gpu0.pagemapOps;
	const asked = new Map<bigint, number>();
	replaceOp(w.gpu0, (p, pfn) => {
		const at = vramOffset(p);
		asked.set(at, (asked.get(at) ?? 0) + 1);
		return at === 4096n ? -EOPNOTSUPP : op!(p, pfn);
	});
	const dma_dev = w.pdev('NIC0').dev;
	const { ret, tries } = w.rangeFault(address, PAGES, {
		dma_dev,
		default_flags: HMM_PFN_REQ_FAULT,
	});
	ASSERT_EQ(ret, 0);
	// Asked once and sent home at once, though the defaults ask for every page.
	EXPECT_EQ(asked.get(4096n), 1);
	EXPECT_EQ(w.gpu0.counters.migrateToRam, 1);
	EXPECT_TRUE(tries <= 2);
});

TEST_F(mutants, 'P9_grant_that_the_dma_layer_takes_back_fails_every_time', (self) => {
	const { w } = self;
	// The walk is told yes for a pair that is refused: nobody but the core could send the page home.
	self.nic = w.nic('NIC2');
	self.mr = w.register(self.nic, self.address, PAGES);
	const gpu = p2pdmaOf(w.pdev('GPU0'))!;
	const index = map_types_idx(w.pdev('NIC2'));
	let turn = 0;
	const { get } = gpu.map_types;
	gpu.map_types.get = function (key) {
		if (key !== index) return get.call(this, key);
		return turn++ % 2 ? PCI_P2PDMA_MAP_NOT_SUPPORTED : PCI_P2PDMA_MAP_THRU_HOST_BRIDGE;
	};
	for (let i = 0; i < 3; i++) EXPECT_EQ(read(self).status, IB_WC_REM_ACCESS_ERR);
	EXPECT_EQ(w.gpu0.counters.migrateToRam, 0);
	gpu.map_types.get = get;
	// The right answer, in both places: the pages move.
	gpu.map_types.clear();
	EXPECT_TRUE(same(self.bytes, read(self).data));
	EXPECT_EQ(w.gpu0.counters.migrateToRam, PAGES);
});

TEST_F(mutants, 'P10_third_device_gets_what_it_reaches_and_no_error', (self) => {
	const { w, bytes } = self;
	EXPECT_TRUE(same(bytes, read(self).data));
	self.nic = w.nic('NIC2');
	self.mr = w.register(self.nic, self.address, PAGES);
	EXPECT_TRUE(same(bytes, read(self).data));
	EXPECT_EQ(w.gpu0.counters.migrateToRam, PAGES);
});

TEST_F(mutants, 'P10_words_asked_for_another_device_cannot_be_mapped', (self) => {
	const { w, address } = self;
	const { dev } = w.nic('NIC2').pdev;
	const map = new hmm_dma_map();
	ASSERT_EQ(hmm_dma_map_alloc(dev, map, BigInt(PAGES), 4096n), 0);
	// "P2P pages are welcome", without saying to whom: kept in place for a NIC that is not this one.
	const { ret, pfns } = w.rangeFault(address, PAGES, {
		dma_dev: w.pdev('NIC0').dev,
		default_flags: HMM_PFN_REQ_FAULT,
	});
	ASSERT_EQ(ret, 0);
	map.pfn_list!.set(pfns);
	EXPECT_EQ(hmm_dma_map_pfn(dev, map, 0n, new pci_p2pdma_map_state()), DMA_MAPPING_ERROR);
	EXPECT_EQ(w.gpu0.counters.migrateToRam, 0);
	hmm_dma_map_free(dev, map);
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

/** A world whose GPU gets no P2P memory. */
function stageWithoutWindow(self: Self): void {
	self.w.close();
	ASSERT_EQ(shutdown().length, 0);
	const w = new StandardWorld();
	ASSERT_EQ(
		run(() => refgpuRemove(w.gpu0)),
		0,
	);
	injectFaults().fail('pci_alloc_p2pmem', 1);
	const gpu = run(() => refgpuProbe(w.pdev('GPU0')));
	Object.assign(w, { gpu0: gpu });
	const { address, bytes } = w.mapPages(PAGES);
	ASSERT_EQ(w.toVram(address, PAGES), PAGES);
	const nic = w.nic('NIC0');
	Object.assign(self, { w, nic, address, bytes, mr: w.register(nic, address, PAGES) });
}

TEST_F(mutants, 'P13_gpu_that_gets_no_p2p_memory_has_no_window', (self) => {
	stageWithoutWindow(self);
	const { w, bytes } = self;
	EXPECT_TRUE(w.gpu0.window === null);
	EXPECT_TRUE(same(bytes, read(self).data));
	EXPECT_EQ(w.gpu0.counters.migrateToRam, PAGES);
});

TEST_F(mutants, 'P13_null_taken_for_an_address_is_reported', (self) => {
	stageWithoutWindow(self);
	const { w, bytes } = self;
	// The window of a driver that did not look: the pages at address 0.
	w.gpu0.window = new GpuWindow(0, 0, 0, PAGES, 0n);
	expectReport(/answered with a page that is not P2PDMA/);
	EXPECT_TRUE(same(bytes, read(self).data));
	EXPECT_EQ(w.gpu0.counters.migrateToRam, PAGES);
	w.gpu0.window = null;
});

/** Page 0 of the region is empty, or has no alias; how many pages went to system memory. */
function migratedBy({ w, address }: Self, init: Partial<hmm_range>): number {
	const { device_private_dma_pfn: op } = w.gpu0.pagemapOps;
	replaceOp(w.gpu0, (p, pfn) => (vramOffset(p) === 0n ? -EOPNOTSUPP : op!(p, pfn)));
	const request = { default_flags: HMM_PFN_REQ_FAULT, ...init };
	ASSERT_EQ(w.rangeFault(address, PAGES, request).ret, 0);
	return w.gpu0.counters.migrateToRam;
}

TEST_F(mutants, 'P14_page_without_alias_takes_no_neighbour_along', (self) => {
	EXPECT_EQ(migratedBy(self, { dma_dev: self.w.pdev('NIC0').dev }), 1);
});

TEST_F(mutants, 'P14_hole_takes_none_of_the_callers_own_pages_along', (self) => {
	const { w, address } = self;
	ASSERT_EQ(userMadvise(w.task, address, 4096n, MADV_DONTNEED), 0);
	const dma_dev = w.pdev('NIC0').dev;
	EXPECT_EQ(migratedBy(self, { dma_dev, dev_private_owner: w.gpu0 }), 0);
});

TEST_F(mutants, 'P14_span_of_the_chunk_takes_every_page_along', (self) => {
	const { w, address } = self;
	ASSERT_EQ(userMadvise(w.task, address, 4096n, MADV_DONTNEED), 0);
	// dma_dev is what asks for the other span: without it, the caller's own pages go.
	EXPECT_EQ(migratedBy(self, { dev_private_owner: w.gpu0 }), PAGES - 1);
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
