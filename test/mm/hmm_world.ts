// SPDX-License-Identifier: GPL-2.0-only
/**
 * A process and a mirror over some of its pages: what tests of mm/hmm.ts stand on.
 *
 * Entries that the rest of mm/ cannot make are put into the page tables by hand and taken out again
 * by close(), so that the process exits as if they had never been there.
 */
import { file } from '../../include/linux/fs.ts';
import {
	HMM_PFN_DMA_MAPPED,
	HMM_PFN_ERROR,
	HMM_PFN_FLAGS,
	HMM_PFN_P2PDMA,
	HMM_PFN_P2PDMA_BUS,
	HMM_PFN_VALID,
	HMM_PFN_WRITE,
	hmm_pfn_to_map_order,
	hmm_range,
} from '../../include/linux/hmm.ts';
import { MAP_PRIVATE, MAP_SHARED, VM_MIXEDMAP } from '../../include/linux/mm.ts';
import {
	type page,
	VM_FAULT_COMPLETED,
	VM_FAULT_NOPAGE,
	VM_FAULT_RETRY,
	type vm_area_struct,
	type vm_fault,
} from '../../include/linux/mm_types.ts';
import {
	mmu_interval_notifier,
	type mmu_interval_notifier_ops,
	type mmu_notifier_range,
} from '../../include/linux/mmu_notifier.ts';
import { mm_walk } from '../../include/linux/pagewalk.ts';
import { pte_none, pte_pfn, pte_write, type TableEntry } from '../../include/linux/pgtable.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { mutex } from '../../include/linux/spinlock.ts';
import {
	GFP_HIGHUSER_MOVABLE,
	type int,
	type unsigned_int,
	type vm_fault_t,
} from '../../include/linux/types.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature, world } from '../../include/sim/world.ts';
import type { BootOptions } from '../../init/main.ts';
import { mutex_lock, mutex_unlock } from '../../kernel/locking/mutex.ts';
import { run } from '../../kernel/sched/core.ts';
import {
	hmm_range_fault,
	hmm_range_fault_unlocked_timeout,
	hmm_vma_walk,
	hmm_vma_walk_pmd,
} from '../../mm/hmm.ts';
import { vm_insert_page } from '../../mm/memory.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import {
	mmu_interval_notifier_insert,
	mmu_interval_notifier_remove,
	mmu_interval_read_begin,
	mmu_interval_set_seq,
} from '../../mm/mmu_notifier.ts';
import { alloc_page } from '../../mm/page_alloc.ts';
import {
	pgd_offset,
	pmd_alloc,
	pte_alloc,
	pte_offset_kernel,
	pud_alloc,
} from '../../mm/pgtable.ts';
import { put_page } from '../../mm/swap.ts';
import { createProcess, exitProcess, userMmap } from '../../mm/syscalls.ts';
import { bootMm, vmaAt } from './mm_world.ts';
import { ARENA, at, PAGE, RW } from './small_machine.ts';

export { ARENA, at, PAGE, RW };

/** The three bits that belong to the owner of the DMA map. */
export const STICKY = HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA | HMM_PFN_P2PDMA_BUS;

const letters: readonly [bigint, string][] = [
	[HMM_PFN_VALID, 'V'],
	[HMM_PFN_WRITE, 'W'],
	[HMM_PFN_ERROR, 'E'],
	[HMM_PFN_DMA_MAPPED, 'M'],
	[HMM_PFN_P2PDMA, 'P'],
	[HMM_PFN_P2PDMA_BUS, 'B'],
];

/**
 * A word as text: flags, `/order`, `@pfn`; what is zero is left out, an empty word is `-`.
 *
 * @param word - of an hmm_pfns array
 */
export function wordText(word: bigint): string {
	let text = '';
	for (const [bit, letter] of letters) {
		// v6.12 has the upper bits of the order there
		const known = (bit & STICKY) === 0n || feature('hmm_dma_flags');
		if (known && word & bit) text += letter;
	}
	const order = hmm_pfn_to_map_order(word);
	const pfn = word & ~HMM_PFN_FLAGS();
	if (order !== 0) text += `/${order}`;
	if (pfn !== 0n) text += `@${pfn.toString(16)}`;
	return text === '' ? '-' : text;
}

/** Words as text, a run of equal ones as `word*count`. */
export function wordsText(words: Iterable<bigint>): string {
	const runs: [string, number][] = [];
	for (const word of words) {
		const text = wordText(word);
		const last = runs.at(-1);
		if (last !== undefined && last[0] === text) last[1]++;
		else runs.push([text, 1]);
	}
	return runs.map(([text, n]) => (n === 1 ? text : `${text}*${n}`)).join(' ');
}

/** As wordsText(), without PFNs. */
export function flagsText(words: Iterable<bigint>): string {
	const flags = HMM_PFN_FLAGS();
	return wordsText([...words].map((word) => word & flags));
}

/** What one call answered. */
export interface Answer {
	readonly ret: int;
	readonly words: BigUint64Array;
	/** The words as text. */
	readonly text: string;
	/** Their flags as text. */
	readonly flags: string;
	/** Page faults that succeeded. */
	readonly faults: number;
	/** Invalidations that hit the range: `event start-end`, pages of the arena. */
	readonly events: string;
}

/** What the walk of one pmd did, without anybody handling the fault that it may have asked for. */
export interface Walked {
	readonly ret: int;
	readonly text: string;
	readonly last: bigint;
	readonly end: bigint;
	readonly required: unsigned_int;
	readonly words: BigUint64Array;
}

/** How to call. */
export interface CallOptions extends Partial<hmm_range> {
	/** hmm_range_fault_unlocked_timeout() with so many jiffies, instead of hmm_range_fault(). */
	readonly timeout?: bigint;
	/** Calls at the most while -EBUSY comes back; default 1. */
	readonly tries?: int;
	/** Words going in; the array itself is used. */
	readonly words?: BigUint64Array;
}

/** A notifier with what hit it. */
export class WatchedRange {
	sub = new mmu_interval_notifier();
	lock = new mutex('mirror');
	events: string[] = [];

	constructor() {
		this.sub.container = this;
	}
}

const watchOps: mmu_interval_notifier_ops = {
	*invalidate(sub: mmu_interval_notifier, { event, start, end }: mmu_notifier_range, seq) {
		const { lock, events } = sub.container as WatchedRange;
		yield* mutex_lock(lock);
		mmu_interval_set_seq(sub, seq);
		yield* mutex_unlock(lock);
		events.push(`${event} ${(start - ARENA) / PAGE}-${(end - ARENA) / PAGE}`);
		return true;
	},
};

/**
 * hmm_range_fault() once over pages of the arena of any process, with a notifier that does nothing.
 *
 * @param p - whose
 * @param first - first page of the arena
 * @param pages - how many
 * @param default_flags - HMM_PFN_REQ_*; 0: nothing is faulted in
 * @returns 0 or -errno, and the words
 */
export function snapshot(
	p: task_struct,
	first: int,
	pages: int,
	default_flags = 0n,
): { ret: int; words: BigUint64Array } {
	const mm = p.mm!;
	const words = new BigUint64Array(pages);
	const sub = new mmu_interval_notifier();
	const range = new hmm_range({
		notifier: sub,
		start: at(first),
		end: at(first + pages),
		hmm_pfns: words,
		default_flags,
	});
	const ret = run(
		function* () {
			const length = BigInt(pages) * PAGE;
			yield* mmu_interval_notifier_insert(sub, mm, at(first), length, {
				*invalidate() {
					return true;
				},
			});
			range.notifier_seq = yield* mmu_interval_read_begin(sub);
			yield* mmap_read_lock(mm);
			const err = yield* hmm_range_fault(range);
			yield* mmap_read_unlock(mm);
			yield* mmu_interval_notifier_remove(sub);
			return err;
		},
		{ task: p },
	);
	return { ret, words };
}

/** A booted kernel with one process. */
export class HmmWorld {
	readonly task: task_struct;
	private readonly edits: [TableEntry, bigint][] = [];

	/**
	 * @param profile - the release
	 * @param options - of boot()
	 */
	constructor(profile: ProfileName, options: BootOptions = {}) {
		bootMm(profile, options);
		this.task = createProcess('mirrored');
	}

	/** Map pages of the arena, private and anonymous unless flags say something else. */
	map(
		first: int,
		pages: int,
		prot: unsigned_int = RW,
		flags: unsigned_int = MAP_PRIVATE,
	): bigint {
		const ret = userMmap(this.task, at(first), BigInt(pages) * PAGE, prot, flags);
		if (ret !== at(first)) throw new Error(`mmap() returned ${ret}`);
		return ret;
	}

	/** The VMA of a page. */
	vma(pageNumber: int = 0): vm_area_struct {
		return vmaAt(this.task, at(pageNumber));
	}

	/** Tables down to the pmd of a page, which may be empty. */
	pmd(pageNumber: int = 0): TableEntry {
		return this.run(() => tables(this.task, at(pageNumber)));
	}

	/** Tables down to the pud of a page, which may be empty. */
	pud(pageNumber: int = 0): TableEntry {
		const mm = this.task.mm!;
		const addr = at(pageNumber);
		return this.run(() => pud_alloc(mm, pgd_offset(mm, addr), addr))!;
	}

	/** Tables down to the entry of a page. */
	pte(pageNumber: int): TableEntry {
		const pmd = this.pmd(pageNumber);
		this.run(() => pte_alloc(this.task.mm!, pmd));
		return pte_offset_kernel(pmd, at(pageNumber));
	}

	/** Put a word into an entry, of whatever level, until close(). */
	set(entry: TableEntry, word: bigint): void {
		this.edits.push([entry, entry.value]);
		entry.value = word;
	}

	/** Put a word into the page-table entry of a page until close(). */
	setPte(pageNumber: int, word: bigint): void {
		this.set(this.pte(pageNumber), word);
	}

	/** Forget what set() is to undo: somebody else changed the entry since. */
	keep(): void {
		this.edits.length = 0;
	}

	/** PFN that the entry of a page holds. */
	pfn(pageNumber: int): bigint {
		return pte_pfn(this.pte(pageNumber).value);
	}

	/** Pages of the arena: `.` empty, `r`, `w`, `?` not present. */
	ptes(first: int, count: int): string {
		let text = '';
		for (let i = first; i < first + count; i++) {
			const { value } = this.pte(i);
			if (pte_none(value)) text += '.';
			else if (!(value & 1n)) text += '?';
			else text += pte_write(value) ? 'w' : 'r';
		}
		return text;
	}

	/** Run kernel code as the process. */
	run<T>(body: () => Sim<T>): T {
		return run(body, { task: this.task });
	}

	/** Call hmm_range_fault() over pages of the arena as a driver does. */
	call(first: int, pages: int, options: CallOptions = {}): Answer {
		return this.run(() => this.callSim(first, pages, options));
	}

	/** As call(), for a simulated thread. */
	*callSim(first: int, pages: int, options: CallOptions = {}): Sim<Answer> {
		const { timeout, tries = 1, words = new BigUint64Array(pages), ...init } = options;
		const mm = this.task.mm!;
		const watch = new WatchedRange();
		const { sub } = watch;
		const length = BigInt(pages || 1) * PAGE;
		yield* mmu_interval_notifier_insert(sub, mm, at(first), length, watchOps);
		const range = new hmm_range({
			...init,
			notifier: sub,
			start: at(first),
			end: at(first + pages),
			hmm_pfns: words,
		});
		const before = this.task.min_flt + this.task.maj_flt;
		let ret: int = 0;
		if (timeout !== undefined)
			ret = yield* hmm_range_fault_unlocked_timeout(range, timeout);
		else
			for (let n = 0; n < tries; n++) {
				range.notifier_seq = yield* mmu_interval_read_begin(sub);
				yield* mmap_read_lock(mm);
				ret = yield* hmm_range_fault(range);
				yield* mmap_read_unlock(mm);
				if (ret !== -16) break;
			}
		const faults = Number(this.task.min_flt + this.task.maj_flt - before);
		yield* mmu_interval_notifier_remove(sub);
		return {
			ret,
			words,
			text: wordsText(words),
			flags: flagsText(words),
			faults,
			events: watch.events.join(', '),
		};
	}

	/** Walk one pmd of the arena with the callback itself. */
	walkPmd(first: int, pages: int, options: CallOptions = {}): Walked {
		const { words = new BigUint64Array(pages), ...init } = options;
		const range = new hmm_range({
			...init,
			start: at(first),
			end: at(first + pages),
			hmm_pfns: words,
		});
		const mm = this.task.mm!;
		const state = new hmm_vma_walk(range, null);
		const walk = new mm_walk({ mm, vma: this.vma(first), private: state });
		const pmd = this.pmd(first);
		const ret = this.run(function* () {
			yield* mmap_read_lock(mm);
			const result = yield* hmm_vma_walk_pmd(pmd, range.start, range.end, walk);
			yield* mmap_read_unlock(mm);
			return result;
		});
		const { last, end, required_fault: required } = state;
		return { ret, text: wordsText(words), last, end, required, words };
	}

	/** Undo what was put in by hand, and let the process exit. */
	close(): void {
		for (const [entry, was] of this.edits.reverse()) entry.value = was;
		exitProcess(this.task);
	}
}

function* tables(task: task_struct, addr: bigint): Sim<TableEntry> {
	const mm = task.mm!;
	const pud = (yield* pud_alloc(mm, pgd_offset(mm, addr), addr)) as TableEntry;
	return (yield* pmd_alloc(mm, pud, addr)) as TableEntry;
}

/** A mapping whose pages come from a fault handler of the test's. */
export class HandledMapping {
	/** What the handler answers, the last one for ever; 0: maps a page of its own. */
	answers: vm_fault_t[] = [0];
	calls = 0;
	/** FAULT_FLAG_* of each call. */
	flags: unsigned_int[] = [];
	/** Virtual time (ns) that each call takes. */
	takes = 0n;
	/** Whether it drops the mmap lock when it says that it did. */
	honest = true;
	/** Done before it answers. */
	hook: ((vmf: vm_fault) => Sim<void>) | null = null;
	private readonly pages: page[] = [];

	/**
	 * @param w - the world
	 * @param first - first page of the arena
	 * @param pages - how many
	 */
	constructor(w: HmmWorld, first: int, pages: int) {
		const ops = { fault: (vmf: vm_fault) => this.fault(vmf) };
		const handle = new file({
			f_op: {
				*mmap(_f, vma) {
					vma.vm_ops = ops;
					vma.vm_flags |= VM_MIXEDMAP;
					return 0;
				},
			},
		});
		const ret = userMmap(
			w.task,
			at(first),
			BigInt(pages) * PAGE,
			RW,
			MAP_SHARED,
			handle,
		);
		if (ret !== at(first)) throw new Error(`mmap() returned ${ret}`);
	}

	/** Give the pages back. */
	close(): void {
		for (const p of this.pages.splice(0)) run(put_page(p));
	}

	private *fault(vmf: vm_fault): Sim<vm_fault_t> {
		const answer = this.answers[Math.min(this.calls++, this.answers.length - 1)]!;
		this.flags.push(vmf.flags);
		world().clock += this.takes;
		if (this.hook !== null) yield* this.hook(vmf);
		if (answer & (VM_FAULT_RETRY | VM_FAULT_COMPLETED) && this.honest)
			yield* mmap_read_unlock(vmf.vma.vm_mm);
		if (answer !== 0 && !(answer & VM_FAULT_COMPLETED)) return answer;
		const p = (yield* alloc_page(GFP_HIGHUSER_MOVABLE)) as page;
		this.pages.push(p);
		// somebody else may have been here meanwhile
		yield* vm_insert_page(vmf.vma, vmf.address, p);
		return answer | VM_FAULT_NOPAGE;
	}
}
