// SPDX-License-Identifier: GPL-2.0-only
/**
 * Loads and stores of a CPU. Goal: translations are those of the tables or those that the TLB remembers,
 * A and D bits are the hardware's, faults carry the right error code. Method: tables built by hand in RAM,
 * a page fault vector that the test sets.
 *
 *     pgd 0x100 ─> pud 0x101 ─> pmd 0x102 ─> pte 0x103 ─> pages 0x200…       va 0…2 MiB
 *                                    └ [1] 2 MiB leaf at pfn 0x400             va 2…4 MiB
 *                       └ [1] 1 GiB leaf at pfn 0x40000                        va 1…2 GiB
 */

import { FAULTS_MAX } from '../../../arch/sim/cpu.ts';
import type { MachineDescription } from '../../../arch/sim/description.ts';
import { type Machine, makeMachine } from '../../../arch/sim/machine.ts';
import type { Frame } from '../../../arch/sim/memory.ts';
import type { Signal } from '../../../arch/sim/vectors.ts';
import { ACCESS_FETCH } from '../../../arch/sim/walk.ts';
import {
	_PAGE_ACCESSED,
	_PAGE_DIRTY,
	_PAGE_NX,
	_PAGE_PRESENT,
	_PAGE_PSE,
	_PAGE_RW,
	_PAGE_USER,
} from '../../../include/asm/pgtable_types.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import {
	ASSERT_NE,
	EXPECT_EQ,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	TEST_F,
} from '../../kselftest_harness.ts';
import { refusal } from './refusal.ts';

const description: MachineDescription = {
	name: 'ram only',
	cpu: { vendor: 'intel', family: 6, model: 1 },
	ram: [{ start: '0x0', size: '0x80000000' }],
	iommu: null,
	crossHostBridge: 'aborts',
	hostBridges: [],
	devices: [],
};
const PGD = 0x100;
const TABLE = _PAGE_PRESENT | _PAGE_RW | _PAGE_USER;
const MIB = 0x10_0000n;
const GIB = 0x4000_0000n;

/** Bring a generator that never waits to its end. */
function finish<T>(sim: Sim<T>): T {
	const step = sim.next();
	if (step.done !== true) throw new Error('this access should not have waited');
	return step.value;
}

interface CpuTest {
	machine: Machine;
	pte: Frame;
	pmd: Frame;
	/** Error codes of the faults so far. */
	faults: number[];
	/** What the vector does. */
	handler: (va: bigint) => 0 | Signal;
}

const cpu = FIXTURE<CpuTest>('cpu', () => ({
	machine: makeMachine(description),
	pte: null as unknown as Frame,
	pmd: null as unknown as Frame,
	faults: [],
	handler: () => ({ sig: 11, code: 1 }),
}));

FIXTURE_SETUP(cpu, (self) => {
	const { ram } = self.machine;
	const table = (pfn: number) => ram.frame(pfn) as Frame;
	table(PGD).u64[0] = (0x101n << 12n) | TABLE;
	table(0x101).u64[0] = (0x102n << 12n) | TABLE;
	table(0x101).u64[1] = (0x4_0000n << 12n) | TABLE | _PAGE_PSE;
	self.pmd = table(0x102);
	self.pmd.u64[0] = (0x103n << 12n) | TABLE;
	self.pmd.u64[1] = (0x400n << 12n) | TABLE | _PAGE_PSE;
	self.pte = table(0x103);
	self.pte.u64[0] = (0x200n << 12n) | TABLE;
	self.pte.u64[1] = (0x201n << 12n) | _PAGE_PRESENT | _PAGE_USER;
	self.pte.u64[2] = (0x202n << 12n) | _PAGE_PRESENT | _PAGE_RW;
	self.machine.vectors.pageFault = function* (_cpu, va, errorCode) {
		self.faults.push(errorCode);
		return self.handler(va);
	};
	for (const one of self.machine.cpus) one.cr3 = PGD;
});

function load(self: CpuTest, va: bigint, id = 0): number | Signal {
	const into = new Uint8Array(1);
	return (
		finish((self.machine.cpus[id] as Machine['cpus'][0]).load(va, into)) ??
		into[0] ??
		-1
	);
}

function store(self: CpuTest, va: bigint, value: number): Signal | null {
	return finish((self.machine.cpus[0] as Machine['cpus'][0]).store(va, Uint8Array.of(value)));
}

TEST_F(cpu, 'store_reaches_the_page_that_the_tables_name', (self) => {
	EXPECT_NULL(store(self, 5n, 77));
	EXPECT_EQ(77, self.machine.ram.peek(0x200)?.u8[5] ?? 0);
	EXPECT_EQ(77, load(self, 5n));
	EXPECT_EQ(0, self.faults.length);
});

TEST_F(cpu, 'large_and_huge_leaves', (self) => {
	EXPECT_NULL(store(self, 2n * MIB + 0x3456n, 1));
	EXPECT_EQ(1, self.machine.ram.peek(0x403)?.u8[0x456] ?? 0);
	EXPECT_NULL(store(self, GIB + 9n * 4096n, 2));
	EXPECT_EQ(2, self.machine.ram.peek(0x4_0009)?.u8[0] ?? 0);
	EXPECT_EQ(1, load(self, 2n * MIB + 0x3456n));
	EXPECT_EQ(2, self.machine.cpus[0]?.tlb.count() ?? 0);
	self.machine.cpus[0]?.invlpg(GIB + 5n);
	self.machine.cpus[0]?.invlpg(3n * MIB);
	EXPECT_EQ(0, self.machine.cpus[0]?.tlb.count(PGD) ?? -1);
});

TEST_F(cpu, 'accessed_on_load_dirty_only_on_store', (self) => {
	load(self, 0n);
	EXPECT_EQ(_PAGE_ACCESSED, (self.pte.u64[0] ?? 0n) & (_PAGE_ACCESSED | _PAGE_DIRTY));
	EXPECT_EQ(_PAGE_ACCESSED, (self.pmd.u64[0] ?? 0n) & (_PAGE_ACCESSED | _PAGE_DIRTY));
	store(self, 0n, 1);
	EXPECT_EQ(_PAGE_DIRTY, (self.pte.u64[0] ?? 0n) & _PAGE_DIRTY);
	EXPECT_EQ(0n, (self.pmd.u64[0] ?? 0n) & _PAGE_DIRTY);
});

TEST_F(cpu, 'dirty_bit_cleared_without_flush_stays_clear', (self) => {
	store(self, 0n, 1);
	self.pte.u64[0] = (self.pte.u64[0] ?? 0n) & ~_PAGE_DIRTY;
	store(self, 0n, 2);
	EXPECT_EQ(0n, (self.pte.u64[0] ?? 0n) & _PAGE_DIRTY);
	self.machine.cpus[0]?.invlpg(0n);
	store(self, 0n, 3);
	EXPECT_EQ(_PAGE_DIRTY, (self.pte.u64[0] ?? 0n) & _PAGE_DIRTY);
});

TEST_F(cpu, 'stale_entry_is_used_until_invlpg', (self) => {
	store(self, 0n, 1);
	load(self, 0n, 1);
	self.pte.u64[0] = (0x205n << 12n) | TABLE;
	store(self, 0n, 99);
	EXPECT_EQ(99, self.machine.ram.peek(0x200)?.u8[0] ?? 0);
	EXPECT_NULL(self.machine.ram.peek(0x205));
	self.machine.cpus[0]?.invlpg(0n);
	EXPECT_EQ(0, load(self, 0n));
	// Each CPU has its own.
	EXPECT_EQ(99, load(self, 0n, 1));
	self.machine.cpus[1]?.flushTlb();
	EXPECT_EQ(0, load(self, 0n, 1));
});

TEST_F(cpu, 'flush_of_one_address_space_leaves_the_others', (self) => {
	const [one] = self.machine.cpus;
	ASSERT_NE(null, one ?? null);
	load(self, 0n);
	self.machine.ram.frame(0x110)?.u64.set(self.machine.ram.frame(PGD)?.u64 ?? []);
	if (one !== undefined) one.cr3 = 0x110;
	load(self, 0n);
	EXPECT_EQ(2, one?.tlb.count() ?? 0);
	one?.flushTlb(PGD);
	EXPECT_EQ(0, one?.tlb.count(PGD) ?? -1);
	EXPECT_EQ(1, one?.tlb.count(0x110) ?? -1);
});

TEST_F(cpu, 'page_fault_tells_write_user_and_present_by_its_error_code', (self) => {
	load(self, 0x3000n);
	store(self, 0x3000n, 1);
	store(self, 0x1000n, 1);
	load(self, 0x2000n);
	EXPECT_STREQ('4 6 7 5', self.faults.join(' '));
	EXPECT_EQ(0, (self.pte.u32[2] ?? 0) & 0x60);
});

TEST_F(cpu, 'fetch_from_a_no_execute_page_faults', (self) => {
	self.pte.u64[0] = (self.pte.u64[0] ?? 0n) | _PAGE_NX;
	EXPECT_EQ(0x15, self.machine.cpus[0]?.translate(0, ACCESS_FETCH | 4) as number);
});

TEST_F(cpu, 'access_is_tried_again_after_the_handler', (self) => {
	self.handler = (va) => {
		self.pte.u64[Number(va >> 12n)] = (0x210n << 12n) | TABLE;
		return 0;
	};
	EXPECT_NULL(store(self, 0x4007n, 8));
	EXPECT_EQ(8, self.machine.ram.peek(0x210)?.u8[7] ?? 0);
	EXPECT_STREQ('6', self.faults.join(' '));
});

TEST_F(cpu, 'right_that_was_added_needs_no_flush', (self) => {
	load(self, 0x1000n);
	self.pte.u64[1] = (self.pte.u64[1] ?? 0n) | _PAGE_RW;
	EXPECT_NULL(store(self, 0x1000n, 4));
	EXPECT_EQ(0, self.faults.length);
});

TEST_F(cpu, 'bytes_before_the_fault_are_stored', (self) => {
	const from = new Uint8Array(8192).fill(3);
	const signal = finish(
		(self.machine.cpus[0] as Machine['cpus'][0]).store(0n, from),
	) as Signal;
	EXPECT_EQ(11, signal.sig);
	EXPECT_EQ(3, self.machine.ram.peek(0x200)?.u8[4095] ?? 0);
	EXPECT_NULL(self.machine.ram.peek(0x201));
});

TEST_F(cpu, 'handler_that_never_maps_is_named', (self) => {
	self.handler = () => 0;
	const said = refusal(() => load(self, 0x5000n)) ?? '';
	EXPECT_TRUE(said.startsWith(`Cpu.load: ${FAULTS_MAX} page faults in a row at 0x5000`));
});

TEST_F(cpu, 'machine_without_a_kernel_stops', () => {
	const bare = makeMachine(description);
	const one = bare.cpus[0] as Machine['cpus'][0];
	const said = refusal(() => finish(one.load(0n, new Uint8Array(1))));
	EXPECT_TRUE(said?.includes('no kernel has set vectors.pageFault'));
	EXPECT_TRUE(
		refusal(() => bare.vectors.interrupt('0000:01:00.0', 3))?.includes('interrupt 3'),
	);
});

TEST_F(cpu, 'physical_address_of_nothing_reads_as_ones', (self) => {
	self.pte.u64[6] = (0xf_0000n << 12n) | TABLE;
	EXPECT_EQ(255, load(self, 0x6000n));
	EXPECT_NULL(store(self, 0x6000n, 1));
});

TEST_F(cpu, 'read_that_nobody_answers', () => {
	for (const [reads, byte] of [
		[undefined, 0xff],
		['ones', 0xff],
		['zeros', 0],
	] as const) {
		const machine = makeMachine({
			...description,
			...(reads && { unclaimedReads: reads }),
		});
		const into = new Uint8Array(2).fill(0x55);
		EXPECT_STREQ('UR', machine.cpuRead(0xfe00_0000n, into).status);
		EXPECT_STREQ(`${byte},${byte}`, into.join());
	}
});
