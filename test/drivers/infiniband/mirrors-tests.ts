// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: every device calls hmm_range_fault() itself and keeps its own mirror, and no mirror is ever
 * stale. Method: three NICs mirror the same pages while the process and a GPU do what they like; a
 * mirror entry is empty, or leads through the fabric to the bytes that the CPU sees, and grants no
 * more than the CPU's entry.
 */

import { vramOffset } from '../../../drivers/gpu/refgpu/gpu.ts';
import {
	type Rnic,
	type RnicMr,
	rdmaReadResponder,
	rdmaWriteResponder,
} from '../../../drivers/infiniband/hw/rnic/rnic.ts';
import { MTT_READ, MTT_WRITE } from '../../../drivers/infiniband/hw/rnic/silicon.ts';
import { MADV_DONTNEED, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '../../../include/linux/mm.ts';
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
import {
	softleaf_from_pte,
	softleaf_is_device_private,
	softleaf_is_device_private_write,
	softleaf_to_page,
} from '../../../include/linux/swapops.ts';
import { run } from '../../../kernel/sched/core.ts';
import { Prng } from '../../../kernel/sched/strategy.ts';
import { pageFrame } from '../../../mm/page_alloc.ts';
import { pgd_offset, pmd_offset, pte_offset_kernel, pud_offset } from '../../../mm/pgtable.ts';
import { userMadvise, userMmap, userMprotect, userRead, userWrite } from '../../../mm/syscalls.ts';
import { ASSERT_EQ, ASSERT_TRUE, EXPECT_EQ, TEST } from '../../kselftest_harness.ts';
import { PAGE, StandardWorld } from '../../support/standard.ts';

const PAGES = 8;
const STEPS = 10_000;

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

TEST('F9_three_mirrors_are_never_stale', () => {
	const w = new StandardWorld();
	const { address } = w.mapPages(PAGES);
	const nics = ['NIC0', 'NIC1', 'NIC2'].map((label) => w.nic(label));
	const mrs = nics.map((nic) => w.register(nic, address, PAGES));
	const random = new Prng(20240403);
	const below = (n: number): number => random.below(n);
	const { task } = w;
	let verdict = '';
	let mirrored = 0;

	for (let step = 0; step < STEPS && verdict === ''; step++) {
		const first = below(PAGES);
		const count = 1 + below(PAGES - first);
		const at = address + BigInt(first) * PAGE;
		const length = BigInt(count) * PAGE;
		const which = below(nics.length);
		switch (below(9)) {
			case 0:
				userRead(task, at, 8);
				break;
			case 1:
				userWrite(
					task,
					at + BigInt(below(16)),
					new Uint8Array(8).fill(step),
				);
				break;
			case 2:
				userMprotect(
					task,
					at,
					length,
					below(2) ? PROT_READ : PROT_READ | PROT_WRITE,
				);
				break;
			case 3:
				userMadvise(task, at, length, MADV_DONTNEED);
				break;
			case 4:
				userMmap(task, at, length, PROT_READ | PROT_WRITE, MAP_PRIVATE);
				break;
			case 5:
			case 6:
				w.toVram(at, count);
				break;
			case 7: {
				const { key } = mrs[which]!.key;
				run(
					() =>
						rdmaReadResponder(
							nics[which]!,
							key,
							at,
							Number(length),
						),
					{ task },
				);
				break;
			}
			default: {
				const { key } = mrs[which]!.key;
				const bytes = new Uint8Array(Number(length)).fill(step);
				run(() => rdmaWriteResponder(nics[which]!, key, at, bytes), {
					task,
				});
			}
		}
		for (let i = 0; i < nics.length && verdict === ''; i++) {
			verdict = judgeMirror(w, nics[i]!, mrs[i]!, address);
			if (verdict !== '') verdict = `step ${step}: ${verdict}`;
			mirrored += mrs[i]!.key.mtt.reduce(
				(n, entry) => n + (entry === 0n ? 0 : 1),
				0,
			);
		}
	}
	ASSERT_EQ(verdict, '');
	// The mirrors were used: a test that mirrors nothing shows nothing.
	ASSERT_TRUE(mirrored > STEPS);
	EXPECT_EQ(new Set(mrs.map(({ umem }) => umem.notifier)).size, 3);
	w.close();
});
