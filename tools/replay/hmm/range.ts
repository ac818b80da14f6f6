// SPDX-License-Identifier: GPL-2.0-only
/** The steps that call hmm_range_fault() itself: `hmm`, `hmmu`. */
import type { device } from '../../../include/linux/device.ts';
import { EBUSY } from '../../../include/linux/errno.ts';
import {
	HMM_PFN_DMA_MAPPED,
	HMM_PFN_ERROR,
	HMM_PFN_ORDER_SHIFT,
	HMM_PFN_P2PDMA,
	HMM_PFN_P2PDMA_BUS,
	HMM_PFN_REQ_FAULT,
	HMM_PFN_REQ_WRITE,
	hmm_range,
} from '../../../include/linux/hmm.ts';
import type { mm_struct } from '../../../include/linux/mm_types.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import { PAGE_SIZE } from '../../../include/linux/types.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { run } from '../../../kernel/sched/core.ts';
import { dmirrorDevice } from '../../../lib/test_hmm.ts';
import { hmm_range_fault, hmm_range_fault_unlocked_timeout } from '../../../mm/hmm.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../../mm/mmap_lock.ts';
import {
	mmu_interval_notifier_insert,
	mmu_interval_notifier_remove,
	mmu_interval_read_begin,
} from '../../../mm/mmu_notifier.ts';
import { InvalidationLog, logOps, type Oracle } from './oracle.ts';
import type { Answer } from './record.ts';
import { dumpWords, GARBAGE_PFN, pageClasses } from './words.ts';

/** Most pages of a range whose classes are recorded. */
const CLASSES_UP_TO = 64;
const HUGE_ORDER = 9n;
const ALL_ONES = (1n << 64n) - 1n;

/** Arguments of a step, by name. */
export interface RangeRequest {
	readonly page: number;
	readonly pages: number;
	/** Bits: 1 fault, 2 write, 4 8 16 the sticky ones. */
	readonly deflt: number;
	/** The same bits; 15: all ones. */
	readonly mask: number;
	/** Device number, -1 nobody, 9 somebody without pages. */
	readonly owner: number;
	/** Input words, `d*count` separated by commas. */
	readonly req: string;
	/** Who will do the DMA, where the proposal is asked. */
	readonly dmaDev?: device | null;
	/** The array itself, where it is the caller's: it is not filled. */
	readonly words?: BigUint64Array;
	/** More to answer from the words. */
	readonly seen?: (words: BigUint64Array) => Answer;
}

/** How often, and by which call. */
export type RangeCall =
	| { readonly locked: true; readonly maxTries: number; readonly refill: boolean }
	| { readonly locked: false; readonly timeout: bigint };

function requestBits(bits: number): bigint {
	return (bits & 1 ? HMM_PFN_REQ_FAULT : 0n) | (bits & 2 ? HMM_PFN_REQ_WRITE : 0n);
}

function stickyBits(bits: number): bigint {
	return (
		(bits & 4 ? HMM_PFN_DMA_MAPPED : 0n) |
		(bits & 8 ? HMM_PFN_P2PDMA : 0n) |
		(bits & 16 ? HMM_PFN_P2PDMA_BUS : 0n)
	);
}

function bitsOfLetter(letter: string): bigint {
	switch (letter) {
		case 'M':
			return HMM_PFN_DMA_MAPPED;
		case 'P':
			return HMM_PFN_P2PDMA;
		case 'B':
			return HMM_PFN_P2PDMA_BUS;
		case 'E':
			return HMM_PFN_ERROR;
		case 'O':
			return HUGE_ORDER << HMM_PFN_ORDER_SHIFT();
		case 'N':
			return GARBAGE_PFN;
		default:
			return 0n;
	}
}

/** One input word: a digit, then letters. */
function inputWord(item: string): bigint {
	let word = requestBits(Number(item[0]));
	for (let i = 1; i < item.length; i++) word |= bitsOfLetter(item[i]!);
	return word;
}

/** Most pages of a range whose arrays are used again. */
const REUSED_UP_TO = 1024;
const inputMemory = new ArrayBuffer(8 * REUSED_UP_TO);
const rangeMemory = new ArrayBuffer(8 * REUSED_UP_TO);

/** An array of words in a memory that one call after the other uses. */
function wordsIn(memory: ArrayBuffer, pages: number): BigUint64Array {
	return pages <= REUSED_UP_TO
		? new BigUint64Array(memory, 0, pages)
		: new BigUint64Array(pages);
}

/** The array as the caller fills it. */
function inputWords(req: string, pages: number): BigUint64Array {
	const words = wordsIn(inputMemory, pages).fill(0n);
	let at = 0;
	if (req === '') return words;
	for (const item of req.split(',')) {
		if (item === '') continue;
		const [text = '', count = '1'] = item.split('*');
		const end = Math.min(pages, at + Number(count));
		words.fill(inputWord(text), at, end);
		at = end;
	}
	return words;
}

const nobody = {};

function ownerOf(owner: number): object | null {
	return owner === -1 ? null : (dmirrorDevice(owner) ?? nobody);
}

/** The calls under the notifier, and what each returned. */
function* tries(
	mm: mm_struct,
	log: InvalidationLog,
	range: hmm_range,
	input: BigUint64Array,
	call: RangeCall,
): Sim<number[]> {
	const { base, np } = log.window;
	const tried: number[] = [];
	yield* mmu_interval_notifier_insert(log.sub, mm, base, BigInt(np) * PAGE_SIZE, logOps);
	if (!call.locked) tried.push(yield* hmm_range_fault_unlocked_timeout(range, call.timeout));
	else
		do {
			if (tried.length > 0 && call.refill) range.hmm_pfns.set(input);
			range.notifier_seq = yield* mmu_interval_read_begin(log.sub);
			yield* mmap_read_lock(mm);
			tried.push(yield* hmm_range_fault(range));
			yield* mmap_read_unlock(mm);
		} while (tried.at(-1) === -EBUSY && tried.length < call.maxTries);
	yield* mmu_interval_notifier_remove(log.sub);
	return tried;
}

/**
 * Call hmm_range_fault() for a range of the window under a notifier of its own.
 *
 * @param oracle - the scenario's kernel
 * @param task - whose address space
 * @param request - range and flags
 * @param call - how
 */
export function faultRange(
	oracle: Oracle,
	task: task_struct,
	request: RangeRequest,
	call: RangeCall,
): Answer {
	const { page, pages } = request;
	const mm = task.mm!;
	const window = { base: oracle.address(page), np: Math.max(1, pages) };
	const log = new InvalidationLog(window, 'range');
	const input = inputWords(request.req, pages);
	const words = request.words ?? wordsIn(rangeMemory, pages);
	if (request.words === undefined) words.set(input);
	const range = new hmm_range({
		notifier: log.sub,
		start: oracle.address(page),
		end: oracle.address(page + pages),
		hmm_pfns: words,
		default_flags: requestBits(request.deflt) | stickyBits(request.deflt),
		pfn_flags_mask: request.mask === 15 ? ALL_ONES : requestBits(request.mask),
		dev_private_owner: ownerOf(request.owner),
		dma_dev: request.dmaDev ?? null,
	});
	const faultsBefore = faultsOf(task);
	const tried = run(tries(mm, log, range, input, call), { task });
	const answer: Record<string, unknown> = { ret: tried.at(-1) };
	if (call.locked) {
		answer['ret0'] = tried[0];
		answer['tries'] = tried.length;
	}
	answer['nf'] = faultsOf(task) - faultsBefore;
	answer['ni'] = log.hits;
	answer['f'] = dumpWords(mm, range.start, range.hmm_pfns);
	const classes = pages <= CLASSES_UP_TO ? pageClasses(range.hmm_pfns) : null;
	if (classes !== null) answer['cls'] = classes;
	return request.seen === undefined ? answer : { ...answer, ...request.seen(range.hmm_pfns) };
}

/** handle_mm_fault() calls of a task that succeeded. */
export function faultsOf(task: task_struct): number {
	return Number(task.min_flt + task.maj_flt);
}
