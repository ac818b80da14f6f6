// SPDX-License-Identifier: GPL-2.0-only
/**
 * hmm_range_fault() over 1 GiB of present 4 KiB pages, a snapshot, against the same loop in C
 * (cwalk.c), both in one run; and the plain version, entry by entry.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hmm_range } from '../../include/linux/hmm.ts';
import { PROT_READ, PROT_WRITE } from '../../include/linux/mm.ts';
import type { mm_struct } from '../../include/linux/mm_types.ts';
import { mmu_interval_notifier } from '../../include/linux/mmu_notifier.ts';
import { PAGE_READONLY, PAGE_SHARED, pfn_pte } from '../../include/linux/pgtable.ts';
import { mutex } from '../../include/linux/spinlock.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { boot, shutdown } from '../../init/main.ts';
import { mutex_lock, mutex_unlock } from '../../kernel/locking/mutex.ts';
import { run } from '../../kernel/sched/core.ts';
import { hmm_range_fault } from '../../mm/hmm.ts';
import { bulkFill } from '../../mm/hmm_fill.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import {
	mmu_interval_notifier_insert,
	mmu_interval_notifier_remove,
	mmu_interval_read_begin,
	mmu_interval_set_seq,
} from '../../mm/mmu_notifier.ts';
import {
	pgd_offset,
	pmd_alloc,
	pmd_offset,
	pte_alloc,
	pte_offset_kernel,
	pud_alloc,
	pud_offset,
} from '../../mm/pgtable.ts';
import { createProcess, exitProcess, mmapAnonymous } from '../../mm/syscalls.ts';
import { namedMachine } from '../machines/index.ts';
import { bounded, figure, median, now, type Row } from './timing.ts';

const PAGES = 262_144;
const PAGE = 4096n;
/** First PFN of the entries: as in cwalk.c, no page is behind them. */
const FIRST_PFN = 0x100000n;

/** Median ns a page of the C loop; null without a compiler. */
function cWalk(): number | null {
	const folder = mkdtempSync(join(tmpdir(), 'cwalk-'));
	try {
		const program = join(folder, 'cwalk');
		const source = fileURLToPath(new URL('cwalk.c', import.meta.url));
		if (spawnSync('gcc', ['-O2', '-o', program, source]).status !== 0) return null;
		const { stdout } = spawnSync(program, [String(PAGES), '101'], { encoding: 'utf8' });
		const found = /median ([0-9.]+)/.exec(stdout);
		return found === null ? null : Number(found[1]);
	} finally {
		rmSync(folder, { recursive: true });
	}
}

/** Page tables for the whole range, filled as cwalk.c fills its own. */
function* mapAll(mm: mm_struct, base: bigint, pfns: bigint): Sim<void> {
	for (let i = 0; i < PAGES; i += 512) {
		const addr = base + BigInt(i) * PAGE;
		const pud = (yield* pud_alloc(mm, pgd_offset(mm, addr), addr))!;
		const pmd = (yield* pmd_alloc(mm, pud, addr))!;
		yield* pte_alloc(mm, pmd, addr);
		const { table } = pte_offset_kernel(pmd, addr);
		for (let n = 0; n < 512; n++) {
			const prot = (i + n) % 3 ? PAGE_SHARED : PAGE_READONLY;
			table.u64[n] = pfn_pte(pfns + BigInt(i + n), prot);
		}
	}
}

/** Empty the page tables again: the entries count no pages. */
function unmapAll(mm: mm_struct, base: bigint): void {
	for (let i = 0; i < PAGES; i += 512) {
		const addr = base + BigInt(i) * PAGE;
		const pmd = pmd_offset(pud_offset(pgd_offset(mm, addr), addr), addr);
		pte_offset_kernel(pmd, addr).table.u64.fill(0n);
	}
}

/**
 * Median ns a page of a snapshot.
 *
 * @param bulk - with the bulk loop
 * @param rounds - how often
 */
export function modelWalk(bulk: boolean, rounds: number): number {
	boot(namedMachine('standard'));
	bulkFill().enabled = bulk;
	const task = createProcess('bench');
	const mm = task.mm!;
	const base = mmapAnonymous(task, BigInt(PAGES) * PAGE, PROT_READ | PROT_WRITE);
	run(() => mapAll(mm, base, FIRST_PFN), { task });
	const sub = new mmu_interval_notifier();
	const user = new mutex('user lock');
	const end = base + BigInt(PAGES) * PAGE;
	const hmm_pfns = new BigUint64Array(PAGES);
	const times: number[] = [];
	run(
		function* () {
			yield* mmu_interval_notifier_insert(sub, mm, base, end - base, {
				*invalidate(notifier, _range, seq) {
					yield* mutex_lock(user);
					mmu_interval_set_seq(notifier, seq);
					yield* mutex_unlock(user);
					return true;
				},
			});
			const range = new hmm_range({ notifier: sub, start: base, end, hmm_pfns });
			for (let r = 0; r < rounds; r++) {
				range.notifier_seq = yield* mmu_interval_read_begin(sub);
				yield* mmap_read_lock(mm);
				const start = now();
				const ret = yield* hmm_range_fault(range);
				times.push((now() - start) / PAGES);
				yield* mmap_read_unlock(mm);
				if (ret !== 0) throw new Error(`hmm_range_fault() returned ${ret}`);
			}
			yield* mmu_interval_notifier_remove(sub);
		},
		{ task },
	);
	for (let i = 0; i < PAGES; i++) {
		const want = (FIRST_PFN + BigInt(i)) | (1n << 63n) | (i % 3 ? 1n << 62n : 0n);
		if (hmm_pfns[i] !== want)
			throw new Error(`word ${i} is ${hmm_pfns[i]!.toString(16)}`);
	}
	unmapAll(mm, base);
	exitProcess(task);
	shutdown();
	return median(times);
}

/** The rows of this benchmark. */
export function walkRows(): Row[] {
	const c = cWalk();
	const bulk = modelWalk(true, 51);
	const plain = modelWalk(false, 5);
	const rows = [
		figure('hmm_range_fault, 262,144 present pages, ns a page', bulk.toFixed(2)),
		figure('  the same entry by entry, ns a page', plain.toFixed(2)),
	];
	if (c === null) return [...rows, figure('  C loop (cwalk.c)', 'no C compiler here')];
	return [
		...rows,
		figure('  C loop at -O2 (cwalk.c), ns a page', c.toFixed(2)),
		bounded('  hmm_range_fault against the C loop', bulk / c, 'times', 4, 'most'),
	];
}
