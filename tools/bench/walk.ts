// SPDX-License-Identifier: GPL-2.0-only
/**
 * hmm_range_fault() over 1 GiB, a snapshot, against the same loop in C (cwalk.c), both in one run; and
 * the plain version, entry by entry. What is mapped: walk_kinds.ts.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hmm_range } from '../../include/linux/hmm.ts';
import { PROT_READ, PROT_WRITE } from '../../include/linux/mm.ts';
import { mmu_interval_notifier } from '../../include/linux/mmu_notifier.ts';
import { mutex } from '../../include/linux/spinlock.ts';
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
import { createProcess, exitProcess, mmapAnonymous } from '../../mm/syscalls.ts';
import { namedMachine } from '../machines/index.ts';
import { bounded, figure, median, now, type Row } from './timing.ts';
import { PAGES, WalkedRange, type WalkKind } from './walk_kinds.ts';

const PAGE = 4096n;

/** How the kinds are called in the rows. */
const titles: Readonly<Record<WalkKind, string>> = {
	present: '262,144 present pages',
	huge: '512 huge pages',
	holes: '512 holes of 2 MiB',
	private: 'one page in eight on the device',
};

/** Median ns a page of the C loop; null without a compiler. */
function cWalk(kind: WalkKind): number | null {
	const folder = mkdtempSync(join(tmpdir(), 'cwalk-'));
	try {
		const program = join(folder, 'cwalk');
		const source = fileURLToPath(new URL('cwalk.c', import.meta.url));
		if (spawnSync('gcc', ['-O2', '-o', program, source]).status !== 0) return null;
		const { stdout } = spawnSync(program, [String(PAGES), '101', kind], {
			encoding: 'utf8',
		});
		const found = /median ([0-9.]+)/.exec(stdout);
		return found === null ? null : Number(found[1]);
	} finally {
		rmSync(folder, { recursive: true });
	}
}

/**
 * ns a page of snapshots.
 *
 * @param kind - what is mapped
 * @param bulk - with the bulk loops
 * @param rounds - how often
 */
export function modelWalk(kind: WalkKind, bulk: boolean, rounds: number): number[] {
	boot(namedMachine('standard'));
	bulkFill().enabled = bulk;
	const task = createProcess('bench');
	const mm = task.mm!;
	const base = mmapAnonymous(task, BigInt(PAGES) * PAGE, PROT_READ | PROT_WRITE);
	const walked = new WalkedRange(kind, mm, base);
	run(() => walked.map(), { task });
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
			const range = new hmm_range({
				notifier: sub,
				start: base,
				end,
				hmm_pfns,
				dev_private_owner: walked.owner,
			});
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
	for (let i = 0; i < PAGES; i++)
		if (hmm_pfns[i] !== walked.expected(i))
			throw new Error(`word ${i} is ${hmm_pfns[i]!.toString(16)}`);
	run(() => walked.unmap(), { task });
	exitProcess(task);
	shutdown();
	return times;
}

/** Walks of the bulk version, and how many of them only warm the compiler up. */
const WALKS = 800;
const WARM = 400;

/**
 * Times that a walk may take longer than the C loop. 4 is what a prototype is promised; a huge entry and a
 * private page cost more beside a C loop that looks at a word only, and may not become dearer unseen.
 */
const limits: Readonly<Record<WalkKind, number>> = { present: 4, holes: 4, huge: 6, private: 8 };

/**
 * The rows of this benchmark.
 *
 * @param kind - what is mapped
 */
export function walkRows(kind: WalkKind): Row[] {
	const c = cWalk(kind);
	const bulk = median(modelWalk(kind, true, WALKS).slice(WARM));
	const plain = median(modelWalk(kind, false, 5));
	const rows = [
		figure(`hmm_range_fault, ${titles[kind]}, ns a page`, bulk.toFixed(2)),
		figure('  the same entry by entry, ns a page', plain.toFixed(2)),
	];
	if (c === null) return [...rows, figure('  C loop (cwalk.c)', 'no C compiler here')];
	return [
		...rows,
		figure('  C loop at -O2 (cwalk.c), ns a page', c.toFixed(2)),
		bounded(
			'  hmm_range_fault against the C loop',
			bulk / c,
			'times',
			limits[kind],
			'most',
		),
	];
}
