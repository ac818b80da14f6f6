// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a work request moves exactly its bytes, or fails with the status that says why and moves
 * none that its key does not allow; the table has what the CPU maps. Method: two NICs on the
 * standard machine, each with a region of the same process, and a GPU below the same switch.
 *
 * ```
 *   postSend()   local region --lkey--> NIC0  ~wire~  NIC1 <--rkey-- remote region
 * ```
 */
import { refgpuRemove } from '../../../../../drivers/gpu/refgpu/index.ts';
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
	rnicProbe,
	rnicRemove,
	tryRnicProbe,
	type WorkRequest,
} from '../../../../../drivers/infiniband/hw/rnic/rnic.ts';
import {
	MAX_FAULTS_PER_PAGE,
	MTT_READ,
	MTT_WRITE,
} from '../../../../../drivers/infiniband/hw/rnic/silicon.ts';
import {
	EFAULT,
	EINVAL,
	EIO,
	ENOENT,
	ENOMEM,
	EOPNOTSUPP,
	EPERM,
} from '../../../../../include/linux/errno.ts';
import { MADV_DONTNEED, PROT_READ } from '../../../../../include/linux/mm.ts';
import {
	IB_ACCESS_HUGETLB,
	IB_ACCESS_LOCAL_WRITE,
	IB_ACCESS_ON_DEMAND,
	IB_ACCESS_REMOTE_READ,
	IB_ACCESS_REMOTE_WRITE,
	IB_WC_LOC_PROT_ERR,
	IB_WC_LOC_QP_OP_ERR,
	IB_WC_REM_ACCESS_ERR,
	IB_WC_REM_OP_ERR,
	IB_WC_SUCCESS,
	IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH as PREFETCH,
	IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT as PREFETCH_NO_FAULT,
	IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE as PREFETCH_WRITE,
} from '../../../../../include/rdma/ib_verbs.ts';
import { injectFaults } from '../../../../../include/sim/fault_injection.ts';
import { HarnessError } from '../../../../../include/sim/report.ts';
import { run } from '../../../../../kernel/sched/core.ts';
import {
	exitProcess,
	userMadvise,
	userMprotect,
	userMunmap,
	userRead,
	userWrite,
} from '../../../../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../../../../kselftest_harness.ts';
import { PAGE, patternBytes, StandardWorld } from '../../../../support/standard.ts';

const PAGES = 4;
const BYTES = PAGES * 4096;
const LENGTH = BigInt(BYTES);

interface Region {
	nic: Rnic;
	mr: RnicMr;
	address: bigint;
	bytes: Uint8Array;
}

interface Self {
	w: StandardWorld;
	/** NIC0's. */
	local: Region;
	/** NIC1's. */
	remote: Region;
}

const rnic = FIXTURE<Self>('rnic', () => ({
	w: null as unknown as StandardWorld,
	local: null as unknown as Region,
	remote: null as unknown as Region,
}));

function region(w: StandardWorld, label: string, seed: number): Region {
	const nic = w.nic(label);
	const mapped = w.mapPages(PAGES, seed);
	return { nic, mr: w.register(nic, mapped.address, PAGES), ...mapped };
}

FIXTURE_SETUP(rnic, (self) => {
	self.w = new StandardWorld();
	self.local = region(self.w, 'NIC0', 1);
	self.remote = region(self.w, 'NIC1', 2);
});

FIXTURE_TEARDOWN(rnic, ({ w }) => {
	if (w.task.mm !== null) w.close();
});

function register(w: StandardWorld, nic: Rnic, address: bigint, access: number): RnicMr {
	const mr = run(() => regMr(nic, address, LENGTH, access), { task: w.task });
	if (typeof mr === 'number') throw new Error(`regMr() returned ${mr}`);
	return mr;
}

function same(a: Uint8Array, b: unknown): boolean {
	return b instanceof Uint8Array && Buffer.compare(a, b) === 0;
}

function send({ w, local, remote }: Self, wr: Partial<WorkRequest>): number {
	const request: WorkRequest = {
		opcode: 'RDMA_WRITE',
		lkey: local.mr.key.key,
		laddr: local.address,
		rkey: remote.mr.key.key,
		raddr: remote.address,
		length: BYTES,
		...wr,
	};
	return run(() => postSend(local.nic, remote.nic, request), { task: w.task });
}

function table({ key }: RnicMr): string {
	return [...key.mtt]
		.map((word) => (word & MTT_WRITE ? 'w' : word & MTT_READ ? 'r' : '-'))
		.join('');
}

function advise(w: StandardWorld, mr: RnicMr, advice: number, from = 0n, length = LENGTH): number {
	return run(() => rnicAdviseMr(mr.nic, advice, mr.key.key, mr.address + from, length), {
		task: w.task,
	});
}

// --- work requests ---

TEST_F(rnic, 'rdma_write_carries_local_bytes_to_the_peer', (self) => {
	const { w, local, remote } = self;
	EXPECT_EQ(send(self, {}), IB_WC_SUCCESS);
	EXPECT_TRUE(same(local.bytes, userRead(w.task, remote.address, BYTES)));
	EXPECT_EQ(local.nic.silicon.bytesRead, BYTES);
	EXPECT_EQ(remote.nic.silicon.bytesWritten, BYTES);
	EXPECT_EQ(remote.nic.silicon.bytesRead, 0);
});

TEST_F(rnic, 'rdma_read_carries_the_peers_bytes_here', (self) => {
	const { w, local, remote } = self;
	EXPECT_EQ(send(self, { opcode: 'RDMA_READ' }), IB_WC_SUCCESS);
	EXPECT_TRUE(same(remote.bytes, userRead(w.task, local.address, BYTES)));
	EXPECT_EQ(remote.nic.silicon.bytesRead, BYTES);
	EXPECT_EQ(local.nic.silicon.bytesWritten, BYTES);
});

TEST_F(rnic, 'length_and_place_are_kept_to_the_byte_across_pages', (self) => {
	const { w, local, remote } = self;
	const cases: [from: number, to: number, length: number][] = [
		[0, 0, 1],
		[4095, 4095, 2],
		[4090, 1, 4096 + 12],
		[1, 4095, 2 * 4096 + 3],
		[BYTES - 1, BYTES - 1, 1],
	];
	for (const opcode of ['RDMA_WRITE', 'RDMA_READ'] as const) {
		const [source, target] =
			opcode === 'RDMA_WRITE' ? [local, remote] : [remote, local];
		for (const [from, to, length] of cases) {
			for (const { address, bytes } of [local, remote])
				userWrite(w.task, address, bytes);
			const [l, r] = opcode === 'RDMA_WRITE' ? [from, to] : [to, from];
			const wr = {
				opcode,
				length,
				laddr: local.address + BigInt(l),
				raddr: remote.address + BigInt(r),
			};
			ASSERT_EQ(send(self, wr), IB_WC_SUCCESS);
			const expected = target.bytes.slice();
			expected.set(source.bytes.subarray(from, from + length), to);
			EXPECT_TRUE(same(expected, userRead(w.task, target.address, BYTES)));
		}
	}
});

TEST_F(rnic, 'between_two_gpu_resident_regions_nothing_moves_home', (self) => {
	const { w, local, remote } = self;
	ASSERT_EQ(w.toVram(local.address, PAGES), PAGES);
	ASSERT_EQ(w.toVram(remote.address, PAGES), PAGES);
	EXPECT_EQ(send(self, {}), IB_WC_SUCCESS);
	EXPECT_EQ(w.gpu0.counters.migrateToRam, 0);
	EXPECT_TRUE(same(local.bytes, userRead(w.task, remote.address, BYTES)));
});

TEST_F(rnic, 'length_that_is_not_positive_is_a_misuse', (self) => {
	for (const length of [0, -1]) {
		let rule = '';
		try {
			send(self, { length });
		} catch (error) {
			if (error instanceof HarnessError) rule = error.message;
		}
		EXPECT_EQ(rule, 'postSend(): length must be positive');
	}
});

// --- keys ---

TEST_F(rnic, 'rkey_allows_only_what_the_region_allows_peers', (self) => {
	const { w, local, remote } = self;
	const read = register(
		w,
		remote.nic,
		remote.address,
		IB_ACCESS_ON_DEMAND | IB_ACCESS_REMOTE_READ,
	);
	const write = register(
		w,
		remote.nic,
		remote.address,
		IB_ACCESS_ON_DEMAND | IB_ACCESS_REMOTE_WRITE | IB_ACCESS_LOCAL_WRITE,
	);
	const own = register(w, remote.nic, remote.address, IB_ACCESS_ON_DEMAND);
	const ask = (opcode: WorkRequest['opcode'], { key }: RnicMr): number =>
		send(self, { opcode, rkey: key.key });
	EXPECT_EQ(ask('RDMA_READ', read), IB_WC_SUCCESS);
	EXPECT_EQ(ask('RDMA_WRITE', read), IB_WC_REM_ACCESS_ERR);
	EXPECT_EQ(ask('RDMA_READ', write), IB_WC_REM_ACCESS_ERR);
	EXPECT_EQ(ask('RDMA_WRITE', write), IB_WC_SUCCESS);
	EXPECT_EQ(ask('RDMA_READ', own), IB_WC_REM_ACCESS_ERR);
	EXPECT_EQ(ask('RDMA_WRITE', own), IB_WC_REM_ACCESS_ERR);
	EXPECT_EQ(local.nic.silicon.faults.length + remote.nic.silicon.faults.length, 0);
	for (const mr of [read, write, own]) run(() => deregMr(mr), { task: w.task });
});

TEST_F(rnic, 'lkey_may_always_read_and_writes_only_with_local_write', (self) => {
	const { w, local } = self;
	const mr = register(w, local.nic, local.address, IB_ACCESS_ON_DEMAND);
	const lkey = mr.key.key;
	EXPECT_EQ(send(self, { lkey }), IB_WC_SUCCESS);
	EXPECT_EQ(send(self, { lkey, opcode: 'RDMA_READ' }), IB_WC_LOC_PROT_ERR);
	EXPECT_TRUE(same(local.bytes, userRead(w.task, local.address, BYTES)));
	run(() => deregMr(mr), { task: w.task });
});

TEST_F(rnic, 'key_that_does_not_exist_or_is_dead_is_refused', (self) => {
	const { w, remote } = self;
	EXPECT_EQ(send(self, { lkey: 1 }), IB_WC_LOC_PROT_ERR);
	EXPECT_EQ(send(self, { rkey: 1 }), IB_WC_REM_ACCESS_ERR);
	const { key } = remote.mr.key;
	run(() => deregMr(remote.mr), { task: w.task });
	EXPECT_FALSE(remote.mr.key.live);
	EXPECT_EQ(send(self, { rkey: key }), IB_WC_REM_ACCESS_ERR);
	EXPECT_EQ(send(self, { rkey: key, opcode: 'RDMA_READ' }), IB_WC_REM_ACCESS_ERR);
	EXPECT_TRUE(same(remote.bytes, userRead(w.task, remote.address, BYTES)));
});

TEST_F(rnic, 'access_outside_of_a_region_is_refused_whole', (self) => {
	const { w, local, remote } = self;
	const end = remote.address + LENGTH;
	for (const [raddr, length] of [
		[remote.address - 1n, 2],
		[end - 1n, 2],
		[end, 1],
		[remote.address, BYTES + 1],
	] as const)
		for (const opcode of ['RDMA_READ', 'RDMA_WRITE'] as const)
			EXPECT_TRUE(
				[IB_WC_REM_ACCESS_ERR, IB_WC_LOC_PROT_ERR].includes(
					send(self, { opcode, raddr, length }) as 10,
				),
			);
	EXPECT_EQ(send(self, { laddr: local.address + 1n }), IB_WC_LOC_PROT_ERR);
	EXPECT_EQ(
		send(self, { laddr: local.address + 1n, opcode: 'RDMA_READ' }),
		IB_WC_LOC_PROT_ERR,
	);
	EXPECT_TRUE(same(remote.bytes, userRead(w.task, remote.address, BYTES)));
	EXPECT_TRUE(same(local.bytes, userRead(w.task, local.address, BYTES)));
});

// --- page faults ---

TEST_F(rnic, 'page_fault_that_cannot_be_answered_fails_the_request', (self) => {
	const { w, local, remote } = self;
	ASSERT_EQ(userMunmap(w.task, remote.address + PAGE, PAGE), 0);
	EXPECT_EQ(send(self, { opcode: 'RDMA_READ' }), IB_WC_REM_ACCESS_ERR);
	EXPECT_EQ(send(self, {}), IB_WC_REM_ACCESS_ERR);
	ASSERT_EQ(userMprotect(w.task, local.address, LENGTH, PROT_READ), 0);
	// A writable region faults for writing, whatever the request does.
	EXPECT_EQ(send(self, {}), IB_WC_LOC_PROT_ERR);
	EXPECT_EQ(local.nic.silicon.faults.length + remote.nic.silicon.faults.length, 0);
});

TEST_F(rnic, 'nic_without_a_driver_fails_what_faults', (self) => {
	const { local, remote } = self;
	local.nic.silicon.faultHandler = null;
	EXPECT_EQ(send(self, { opcode: 'RDMA_READ' }), IB_WC_LOC_QP_OP_ERR);
	local.nic.silicon.faultHandler = local.nic;
	run(() => deregMr(remote.mr), { task: self.w.task });
	remote.mr = self.w.register(remote.nic, remote.address, PAGES);
	remote.nic.silicon.faultHandler = null;
	EXPECT_EQ(send(self, {}), IB_WC_REM_OP_ERR);
	remote.nic.silicon.faultHandler = remote.nic;
	// A key that its driver does not know.
	const stray = remote.nic.silicon.createKey(remote.address, PAGE, 12);
	stray.remoteRead = true;
	EXPECT_EQ(
		send(self, { opcode: 'RDMA_READ', rkey: stray.key, length: 8 }),
		IB_WC_REM_ACCESS_ERR,
	);
});

TEST_F(rnic, 'handler_that_never_brings_the_page_nearer_ends_the_request', ({ w, remote }) => {
	let calls = 0;
	remote.nic.silicon.faultHandler = {
		*pageFault() {
			calls++;
			return 0;
		},
	};
	const { status } = run(
		() => rdmaReadResponder(remote.nic, remote.mr.key.key, remote.address, 8),
		{ task: w.task },
	);
	EXPECT_EQ(status, IB_WC_REM_OP_ERR);
	EXPECT_EQ(calls, MAX_FAULTS_PER_PAGE);
	remote.nic.silicon.faultHandler = remote.nic;
});

TEST_F(rnic, 'tlp_that_nobody_completes_fails_the_request_and_is_noted', ({ w, remote }) => {
	const { nic, mr, address } = remote;
	const nowhere = 1n << 50n;
	mr.key.mtt[0] = nowhere | MTT_READ | MTT_WRITE;
	const read = run(() => rdmaReadResponder(nic, mr.key.key, address + 8n, 8), {
		task: w.task,
	});
	EXPECT_EQ(read.status, IB_WC_REM_OP_ERR);
	EXPECT_EQ(read.data.length, 0);
	const wrote = run(() => rdmaWriteResponder(nic, mr.key.key, address, new Uint8Array(8)));
	EXPECT_EQ(wrote, IB_WC_REM_OP_ERR);
	EXPECT_EQ(
		nic.silicon.faults.map(({ address: a, write }) => `${a - nowhere}${write}`).join(),
		'8false,0true',
	);
	mr.key.mtt[0] = 0n;
});

TEST_F(rnic, 'process_that_exited_is_reached_by_nobody', (self) => {
	const { w, local, remote } = self;
	EXPECT_EQ(send(self, {}), IB_WC_SUCCESS);
	const { task } = w;
	exitProcess(task);
	EXPECT_TRUE(table(local.mr) === '----' && table(remote.mr) === '----');
	EXPECT_EQ(remote.mr.umem.npages, 0);
	const { status } = run(() =>
		rdmaReadResponder(remote.nic, remote.mr.key.key, remote.address, 8),
	);
	EXPECT_EQ(status, IB_WC_REM_ACCESS_ERR);
	for (const { nic } of [local, remote]) run(() => rnicRemove(nic));
	w.nics.length = 0;
	ASSERT_EQ(
		run(() => refgpuRemove(w.gpu0)),
		0,
	);
});

// --- the table ---

TEST_F(rnic, 'table_is_zapped_where_the_cpu_unmaps_and_there_only', ({ w, remote }) => {
	const { mr, address } = remote;
	ASSERT_EQ(advise(w, mr, PREFETCH_WRITE), 0);
	EXPECT_EQ(table(mr), 'wwww');
	const zapped = mr.nic.counters.invalidations;
	ASSERT_EQ(userMadvise(w.task, address + PAGE, 2n * PAGE, MADV_DONTNEED), 0);
	EXPECT_EQ(table(mr), 'w--w');
	EXPECT_EQ(mr.umem.npages, 2);
	EXPECT_EQ(mr.nic.counters.invalidations_handled, zapped + 1);
	ASSERT_EQ(userMunmap(w.task, address, LENGTH), 0);
	EXPECT_EQ(table(mr), '----');
	EXPECT_EQ(mr.umem.npages, 0);
});

TEST_F(rnic, 'removing_the_nic_deregisters_everything', ({ w, local, remote }) => {
	ASSERT_EQ(advise(w, remote.mr, PREFETCH), 0);
	const second = register(w, remote.nic, remote.address, RNIC_ACCESS_ALL);
	run(() => rnicRemove(remote.nic), { task: w.task });
	EXPECT_EQ(remote.nic.mrs.size, 0);
	EXPECT_EQ(remote.nic.silicon.keys.size, 0);
	EXPECT_FALSE(second.key.live || remote.mr.key.live);
	EXPECT_NULL(remote.nic.pdev.dev.driver_data);
	EXPECT_TRUE(local.mr.key.live);
});

// --- registration and prefetch ---

TEST_F(rnic, 'registration_that_fails_leaves_no_key', ({ w, local }) => {
	const { nic, address } = local;
	const keys = nic.silicon.keys.size;
	const reg = (length: bigint): unknown =>
		run(() => regMr(nic, address, length, RNIC_ACCESS_ALL), { task: w.task });
	EXPECT_EQ(reg(0n), -EINVAL);
	const { mm } = w.task;
	const holders = mm!.mm_count;
	for (const site of ['ib_umem_odp_get', 'regMr:mr', 'regMr:key']) {
		injectFaults().fail(site, 1);
		EXPECT_EQ(reg(PAGE), -ENOMEM);
		EXPECT_EQ(nic.silicon.keys.size, keys);
		EXPECT_EQ(nic.mrs.size, 1);
		EXPECT_EQ(mm!.mm_count, holders);
	}
});

TEST_F(rnic, 'probe_that_fails_binds_nothing', ({ w }) => {
	const pdev = w.pdev('NIC2');
	const { dev } = pdev;
	injectFaults().fail('rnicProbe:nic', 1);
	EXPECT_EQ(
		run(() => tryRnicProbe(pdev)),
		-ENOMEM,
	);
	const mask = dev.dma_mask;
	// A device that can't do DMA has no mask to set.
	dev.dma_mask = null;
	EXPECT_EQ(
		run(() => tryRnicProbe(pdev)),
		-EIO,
	);
	EXPECT_NULL(dev.driver_data);
	let rule = '';
	try {
		run(() => rnicProbe(pdev));
	} catch (error) {
		if (error instanceof HarnessError) rule = error.message;
	}
	EXPECT_EQ(rule, `rnicProbe(): ${dev.init_name} cannot be bound: ${-EIO}`);
	dev.dma_mask = mask;
	EXPECT_TRUE(w.nic('NIC2').pdev === pdev);
});

TEST_F(rnic, 'three_kinds_of_prefetch', ({ w, remote }) => {
	const { mr, address } = remote;
	// Half of the pages are not there.
	ASSERT_EQ(userMadvise(w.task, address, 2n * PAGE, MADV_DONTNEED), 0);
	EXPECT_EQ(advise(w, mr, PREFETCH_NO_FAULT), 0);
	EXPECT_EQ(table(mr), '--rr');
	EXPECT_EQ(mr.umem.npages, 2);
	EXPECT_EQ(advise(w, mr, PREFETCH, 0n, PAGE), 0);
	EXPECT_EQ(table(mr), 'r-rr');
	EXPECT_EQ(advise(w, mr, PREFETCH_WRITE), 0);
	EXPECT_EQ(table(mr), 'wwww');
	// S10: each page counts once, however often it was mapped.
	EXPECT_EQ(mr.umem.npages, PAGES);
	EXPECT_EQ(mr.nic.counters.prefetch, 3);
	EXPECT_EQ(mr.nic.counters.faults, 0);
	const { status } = run(() => rdmaReadResponder(mr.nic, mr.key.key, address, BYTES));
	EXPECT_EQ(status, IB_WC_SUCCESS);
	EXPECT_EQ(mr.nic.counters.faults, 0);
	ASSERT_EQ(userMunmap(w.task, address, LENGTH), 0);
	EXPECT_EQ(mr.umem.npages, 0);
});

TEST_F(rnic, 'prefetched_for_reading_faults_once_more_for_writing', ({ w, remote }) => {
	const { mr, address } = remote;
	ASSERT_EQ(advise(w, mr, PREFETCH), 0);
	EXPECT_EQ(table(mr), 'rrrr');
	const fresh = patternBytes(8, 9);
	EXPECT_EQ(
		run(() => rdmaWriteResponder(mr.nic, mr.key.key, address, fresh), { task: w.task }),
		IB_WC_SUCCESS,
	);
	EXPECT_EQ(table(mr), 'wrrr');
	EXPECT_EQ(mr.nic.counters.faults, 1);
	EXPECT_EQ(mr.nic.counters.faults_handled, 1);
	EXPECT_EQ(mr.umem.npages, PAGES);
});

TEST_F(rnic, 'prefetch_that_makes_no_sense_is_refused', ({ w, remote }) => {
	const { mr, nic } = remote;
	EXPECT_EQ(advise(w, mr, 7), -EOPNOTSUPP);
	EXPECT_EQ(
		run(() => rnicAdviseMr(nic, PREFETCH, 1, mr.address, PAGE)),
		-ENOENT,
	);
	EXPECT_EQ(advise(w, mr, PREFETCH, 0n, LENGTH + 1n), -EINVAL);
	EXPECT_EQ(advise(w, mr, PREFETCH, -1n, PAGE), -EINVAL);
	const readOnly = register(w, nic, mr.address, IB_ACCESS_ON_DEMAND | IB_ACCESS_REMOTE_READ);
	EXPECT_EQ(advise(w, readOnly, PREFETCH_WRITE), -EPERM);
	EXPECT_EQ(advise(w, readOnly, PREFETCH), 0);
	EXPECT_EQ(table(readOnly), 'rrrr');
	run(() => deregMr(readOnly), { task: w.task });
	ASSERT_EQ(userMunmap(w.task, mr.address + PAGE, PAGE), 0);
	EXPECT_EQ(advise(w, mr, PREFETCH), -EFAULT);
	EXPECT_EQ(advise(w, mr, PREFETCH_NO_FAULT), 0);
	ASSERT_EQ(userMprotect(w.task, mr.address, PAGE, PROT_READ), 0);
	EXPECT_EQ(advise(w, mr, PREFETCH_WRITE, 0n, PAGE), -EPERM);
});

TEST_F(rnic, 'page_that_cannot_be_mapped_for_dma_fails_and_earlier_ones_stay', ({ w, remote }) => {
	const { mr } = remote;
	injectFaults().fail('dma_map_phys', 3);
	EXPECT_EQ(advise(w, mr, PREFETCH_WRITE), -EFAULT);
	EXPECT_EQ(table(mr), 'ww--');
	EXPECT_EQ(mr.umem.npages, 2);
	injectFaults();
	EXPECT_EQ(advise(w, mr, PREFETCH_WRITE), 0);
	EXPECT_EQ(mr.umem.npages, PAGES);
});

TEST_F(rnic, 'region_of_huge_units_refuses_small_pages', ({ w }) => {
	const unit = 1n << 21n;
	const { address } = w.mapPages(1024);
	const start = (address + unit - 1n) & ~(unit - 1n);
	const nic = w.nic('NIC0');
	const mr = run(() => regMr(nic, start, unit, RNIC_ACCESS_ALL | IB_ACCESS_HUGETLB), {
		task: w.task,
	}) as RnicMr;
	EXPECT_EQ(mr.key.mtt.length, 1);
	EXPECT_EQ(advise(w, mr, PREFETCH, 0n, PAGE), -EINVAL);
	const { status } = run(() => rdmaReadResponder(nic, mr.key.key, start, 8), {
		task: w.task,
	});
	EXPECT_EQ(status, IB_WC_REM_ACCESS_ERR);
	run(() => deregMr(mr), { task: w.task });
});
