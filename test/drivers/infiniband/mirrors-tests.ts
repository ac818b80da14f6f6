// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: every device calls hmm_range_fault() itself and keeps its own mirror, and no mirror is ever
 * stale. Method: three NICs mirror the same pages while the process and a GPU do what they like; a
 * mirror entry is empty, or leads through the fabric to the bytes that the CPU sees, and grants no
 * more than the CPU's entry. Once the operations come one after the other; once they are threads, and
 * the mirrors are looked at before every step of any of them.
 */

import { vramOffset } from '../../../drivers/gpu/refgpu/gpu.ts';
import { migrateToVram } from '../../../drivers/gpu/refgpu/index.ts';
import {
	type Rnic,
	type RnicMr,
	rdmaReadResponder,
	rdmaWriteResponder,
} from '../../../drivers/infiniband/hw/rnic/rnic.ts';
import { MTT_READ, MTT_WRITE } from '../../../drivers/infiniband/hw/rnic/silicon.ts';
import {
	MADV_DONTNEED,
	MAP_ANONYMOUS,
	MAP_FIXED,
	MAP_PRIVATE,
	PROT_READ,
	PROT_WRITE,
} from '../../../include/linux/mm.ts';
import type { mm_struct } from '../../../include/linux/mm_types.ts';
import { pfn_to_page } from '../../../include/linux/mmzone.ts';
import {
	pgd_none,
	pmd_none,
	pte_none,
	pte_pfn,
	pte_present,
	pte_write,
	pud_none,
} from '../../../include/linux/pgtable.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import {
	softleaf_from_pte,
	softleaf_is_device_private,
	softleaf_is_device_private_write,
	softleaf_to_page,
} from '../../../include/linux/swapops.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { shutdown } from '../../../init/main.ts';
import { run, runThreads, spawn } from '../../../kernel/sched/core.ts';
import { Prng, randomStrategy } from '../../../kernel/sched/strategy.ts';
import { mmput } from '../../../mm/exec_mm.ts';
import { forkTask } from '../../../mm/fork.ts';
import { do_madvise } from '../../../mm/madvise.ts';
import { vm_mmap_pgoff } from '../../../mm/mmap.ts';
import { do_mprotect_pkey } from '../../../mm/mprotect.ts';
import { pageFrame } from '../../../mm/page_alloc.ts';
import { pgd_offset, pmd_offset, pte_offset_kernel, pud_offset } from '../../../mm/pgtable.ts';
import { exitProcess, loadUser, storeUser, userWrite } from '../../../mm/syscalls.ts';
import { vm_munmap } from '../../../mm/vma.ts';
import {
	ASSERT_EQ,
	ASSERT_STREQ,
	ASSERT_TRUE,
	EXPECT_EQ,
	EXPECT_TRUE,
	TEST,
} from '../../kselftest_harness.ts';
import { PAGE, StandardWorld } from '../../support/standard.ts';

const PAGES = 8;
const STEPS = 10_000;
const SEEDS = 20;
const OPERATIONS_PER_THREAD = 8;
/** Children alive at once; the oldest one exits for another. */
const MAX_CHILDREN = 2;

/** What the CPU's page table says of an address. */
interface CpuView {
	/** First bytes of the page; null: nothing is there. */
	readonly bytes: Uint8Array | null;
	readonly writable: boolean;
}

const NOTHING: CpuView = { bytes: null, writable: false };

function cpuView(w: StandardWorld, mm: mm_struct, address: bigint): CpuView {
	const pgd = pgd_offset(mm, address);
	if (pgd_none(pgd.value)) return NOTHING;
	const pud = pud_offset(pgd, address);
	if (pud_none(pud.value)) return NOTHING;
	const pmd = pmd_offset(pud, address);
	if (pmd_none(pmd.value)) return NOTHING;
	const pte = pte_offset_kernel(pmd, address).value;
	if (pte_none(pte)) return NOTHING;
	if (pte_present(pte)) {
		const frame = pageFrame(pfn_to_page(pte_pfn(pte)));
		return { bytes: frame.u8.subarray(0, 16), writable: pte_write(pte) };
	}
	const entry = softleaf_from_pte(pte);
	if (!softleaf_is_device_private(entry)) return NOTHING;
	const bytes = new Uint8Array(16);
	w.gpu0.silicon.vram.read(vramOffset(softleaf_to_page(entry)), bytes);
	return { bytes, writable: softleaf_is_device_private_write(entry) };
}

/** What is wrong with a mirror; the empty string if nothing. */
function judgeMirror(w: StandardWorld, nic: Rnic, mr: RnicMr, address: bigint): string {
	for (let i = 0; i < PAGES; i++) {
		const entry = mr.key.mtt[i]!;
		if (entry === 0n) continue;
		const view = cpuView(w, w.task.mm!, address + BigInt(i) * PAGE);
		const where = `${nic.ibdev.name} page ${i}`;
		if (view.bytes === null) return `${where}: mapped for the NIC, not for the CPU`;
		if (entry & MTT_WRITE && !view.writable)
			return `${where}: writable for the NIC only`;
		const got = w.machine.fabric.read(
			nic.pdev.dev.init_name,
			entry & ~(MTT_READ | MTT_WRITE),
			16,
		);
		if (got.status !== 'SC') return `${where}: ${got.status}`;
		if (Buffer.compare(got.data!, view.bytes) !== 0)
			return `${where}: other bytes than the CPU's`;
	}
	return '';
}

/** What the threads of a run share. */
class Mirrors {
	readonly w = new StandardWorld();
	readonly address: bigint;
	readonly nics: readonly Rnic[];
	readonly mrs: readonly RnicMr[];
	readonly children: task_struct[] = [];
	/** Entries seen in all mirrors, over all looks. */
	mirrored = 0;
	/** Forks that succeeded. */
	forks = 0;
	readonly random: Prng;

	constructor(seed: number) {
		this.random = new Prng(seed);
		this.address = this.w.mapPages(PAGES).address;
		this.nics = ['NIC0', 'NIC1', 'NIC2'].map((label) => this.w.nic(label));
		this.mrs = this.nics.map((nic) => this.w.register(nic, this.address, PAGES));
	}

	/** Some of the pages. */
	part(): { at: bigint; count: number; length: bigint } {
		const first = this.random.below(PAGES);
		const count = 1 + this.random.below(PAGES - first);
		const at = this.address + BigInt(first) * PAGE;
		return { at, count, length: BigInt(count) * PAGE };
	}

	/** What is wrong with any mirror; the empty string if nothing. */
	judge(): string {
		for (let i = 0; i < this.nics.length; i++) {
			const verdict = judgeMirror(
				this.w,
				this.nics[i]!,
				this.mrs[i]!,
				this.address,
			);
			if (verdict !== '') return verdict;
			for (const entry of this.mrs[i]!.key.mtt) if (entry !== 0n) this.mirrored++;
		}
		return '';
	}

	close(): void {
		for (const child of this.children.splice(0)) exitProcess(child);
		this.w.close();
	}
}

type Operation = (m: Mirrors) => Sim<unknown>;

/** Operations of the process: loads, stores, protection, holes, gaps, fork. */
const cpuOperations: readonly Operation[] = [
	(m) => loadUser(m.part().at, new Uint8Array(8)),
	(m) => {
		const bytes = new Uint8Array(8).fill(m.random.below(256));
		return storeUser(m.part().at + BigInt(m.random.below(16)), bytes);
	},
	(m) => {
		const { at, length } = m.part();
		const prot = m.random.below(2) ? PROT_READ : PROT_READ | PROT_WRITE;
		return do_mprotect_pkey(at, length, prot, -1);
	},
	(m) => {
		const { at, length } = m.part();
		return do_madvise(m.w.task.mm!, at, length, MADV_DONTNEED);
	},
	(m) => {
		const { at, length } = m.part();
		const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
		return vm_mmap_pgoff(null, at, length, PROT_READ | PROT_WRITE, flags, 0n);
	},
	(m) => vm_munmap(m.part().at, PAGE),
	function* (m) {
		if (m.children.length === MAX_CHILDREN) {
			const child = m.children.shift()!;
			const mm = child.mm!;
			child.mm = null;
			return yield* mmput(mm);
		}
		const child = yield* forkTask(m.w.task);
		if (typeof child === 'number') return;
		m.children.push(child);
		m.forks++;
	},
];

/** The GPU takes pages. */
const gpuOperation: Operation = (m) => {
	const { at, length } = m.part();
	return migrateToVram(m.w.gpu0, m.w.task.mm!, at, at + length);
};

/** One NIC reads or writes. */
const nicOperation =
	(which: number): Operation =>
	(m) => {
		const nic = m.nics[which]!;
		const { key } = m.mrs[which]!.key;
		const { at, length } = m.part();
		if (m.random.below(2)) return rdmaReadResponder(nic, key, at, Number(length));
		const bytes = new Uint8Array(Number(length)).fill(m.random.below(256));
		return rdmaWriteResponder(nic, key, at, bytes);
	};

const operations: readonly Operation[] = [
	...cpuOperations,
	gpuOperation,
	gpuOperation,
	...[0, 1, 2].map(nicOperation),
];

TEST('F9_three_mirrors_are_never_stale', () => {
	const m = new Mirrors(20240403);
	const { task } = m.w;
	let verdict = '';
	for (let step = 0; step < STEPS && verdict === ''; step++) {
		const operation = operations[m.random.below(operations.length)]!;
		run(() => operation(m), { task });
		// What a child writes is its own.
		const child = m.children[m.random.below(4)];
		if (child !== undefined)
			userWrite(child, m.part().at, new Uint8Array(8).fill(step));
		verdict = m.judge();
		if (verdict !== '') verdict = `step ${step}: ${verdict}`;
	}
	ASSERT_EQ(verdict, '');
	// The mirrors were used: a test that mirrors nothing shows nothing.
	ASSERT_TRUE(m.mirrored > STEPS);
	EXPECT_TRUE(m.forks > 100);
	EXPECT_EQ(new Set(m.mrs.map(({ umem }) => umem.notifier)).size, 3);
	m.close();
});

/** Do a few random operations of some kinds. */
function* worker(m: Mirrors, kinds: readonly Operation[]): Sim<void> {
	for (let i = 0; i < OPERATIONS_PER_THREAD; i++)
		yield* kinds[m.random.below(kinds.length)]!(m);
}

TEST('F9_no_mirror_is_stale_at_any_step_of_interleaved_threads', () => {
	let mirrored = 0;
	let steps = 0;
	for (let seed = 1; seed <= SEEDS; seed++) {
		const m = new Mirrors(seed);
		const { mm } = m.w.task;
		const random = randomStrategy(seed);
		const kinds: readonly (readonly Operation[])[] = [
			cpuOperations,
			[gpuOperation],
			...[0, 1, 2].map((which) => [nicOperation(which)]),
		];
		kinds.forEach((some, i) => {
			spawn(`worker${i}`, () => worker(m, some), { mm, cpu: i & 1 });
		});
		let verdict = '';
		runThreads({
			preemptive: true,
			pick(runnable, last) {
				steps++;
				verdict ||= m.judge();
				return random.pick(runnable, last);
			},
		});
		ASSERT_STREQ(verdict === '' ? '' : `seed ${seed}: ${verdict}`, '');
		ASSERT_STREQ(m.judge(), '');
		mirrored += m.mirrored;
		m.close();
		ASSERT_EQ(shutdown().length, 0);
	}
	ASSERT_TRUE(steps > SEEDS * 300);
	ASSERT_TRUE(mirrored > steps);
});
