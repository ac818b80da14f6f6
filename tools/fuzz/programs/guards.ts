// SPDX-License-Identifier: GPL-2.0-only
/**
 * Steps that are not executed.
 *
 * The driver of the devices has faults of its own, which oops: it must not read or write a page of its
 * device that its mirror has lost. The recorder left such steps out, too. And when a program is shrunk,
 * steps lose what they were written for.
 */

import { page_folio } from '../../../include/linux/mm_types.ts';
import { memoryMap } from '../../../include/linux/mmzone.ts';
import { folio_test_dirty } from '../../../include/linux/page-flags.ts';
import { pte_dirty, pte_pfn, pte_present, pte_write } from '../../../include/linux/pgtable.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import {
	softleaf_from_pte,
	softleaf_is_device_exclusive,
	softleaf_is_device_private,
	softleaf_to_page,
} from '../../../include/linux/swapops.ts';
import { xa_load } from '../../../include/linux/xarray.ts';
import { feature } from '../../../include/sim/world.ts';
import { dmirror_is_private_zone, dmirror_page_to_device } from '../../../lib/test_hmm/device.ts';
import { DPT_XA_TAG_WRITE, type dmirror } from '../../../lib/test_hmm/mirror.ts';
import type { Oracle } from '../../replay/hmm/oracle.ts';
import { deviceOf, processes } from '../../replay/hmm/processes.ts';
import type { Step } from '../../replay/hmm/record.ts';
import { lookUpWord } from '../../replay/hmm/words.ts';

/** madvise() advices that the shadow knows. */
const knownAdvice: readonly number[] = [4, 8, 14, 15, 21, 22, 23, 25, 100, 102, 103];
/** Mode of userfaultfd, and the first policy of a monitor that does not copy. */
const WP = 2;
const ZEROPAGE = 2;
const FIXED = 3;
const FIXED_DONTUNMAP = 7;

/** Where page and number stand among the arguments of a step. */
const ranges: Readonly<Record<string, readonly [page: number, pages: number | null]>> = {
	read: [0, null],
	write: [0, null],
	ucopy: [0, null],
	mmap: [0, 1],
	munmap: [0, 1],
	mprotect: [0, 1],
	madvise: [0, 1],
	mlock: [0, 1],
	munlock: [0, 1],
	hmm: [0, 1],
	hmmu: [0, 1],
	ureg: [0, 1],
	uunreg: [0, 1],
	uwp: [0, 1],
	uzero: [0, 1],
	upoison: [0, 1],
	noal: [0, 1],
	mig: [1, 2],
	sys: [1, 2],
	dread: [1, 2],
	dreadu: [1, 2],
	dwrite: [1, 2],
	snap: [1, 2],
	excl: [1, 2],
	cexcl: [1, 2],
	hmmd: [1, 2],
	hmmm: [1, 2],
	dmap: [1, 2],
	dunmap: [1, 2],
};

const deviceSteps: readonly string[] = [
	...['mig', 'sys', 'dread', 'dreadu', 'dwrite', 'snap', 'excl', 'cexcl', 'rel', 'flags'],
];
const watchSteps: readonly string[] = [
	'ureg',
	'uunreg',
	'uwp',
	'urwp',
	'ucopy',
	'uzero',
	'upoison',
];

/** Whether all pages lie in the window, and there is one. */
function isInside(np: number, op: string, args: readonly number[]): boolean {
	const where = ranges[op];
	if (where === undefined) return true;
	const page = args[where[0]]!;
	const pages = where[1] === null ? 1 : args[where[1]]!;
	return page >= 0 && pages >= 1 && page + pages <= np;
}

function isKnownMove(
	np: number,
	[from = 0, pages = 0, to = 0, flags = 0]: readonly number[],
): boolean {
	if (flags !== FIXED && flags !== FIXED_DONTUNMAP) return false;
	const apart = Math.abs(from - to) >= pages;
	return pages >= 1 && apart && Math.max(from, to) + pages <= np;
}

/** Whether a move that keeps the old mapping could end half way: what is shared then nobody can tell. */
function mayStopHalfWay(oracle: Oracle, task: task_struct, args: readonly number[]): boolean {
	const [from = 0, pages = 0, , flags] = args;
	if (flags !== FIXED_DONTUNMAP) return false;
	const start = oracle.address(from);
	const end = oracle.address(from + pages);
	return !task.mm!.vmas.some((vma) => vma.vm_start <= start && end <= vma.vm_end);
}

/** Whether the driver would touch a page of its device that it has no entry for. */
function touchesLostPage(oracle: Oracle, task: task_struct, step: Step): boolean {
	const [op, dev, page, pages] = step as unknown as [string, number, number, number];
	const opened = deviceOf(oracle, task, dev);
	if (opened === null) return false;
	const self = opened.file.private_data as dmirror;
	const mm = opened.task.mm!;
	let faults = false;
	for (let i = page; i < page + pages; i++) {
		const at = oracle.address(i);
		const entry = xa_load(self.pt, at >> 12n);
		faults ||= entry === null || (op === 'dwrite' && entry.tag !== DPT_XA_TAG_WRITE);
		if (!faults) continue;
		const word = lookUpWord(mm, at)?.word;
		if (word === undefined || word === 0n || pte_present(word)) continue;
		const leaf = softleaf_from_pte(word);
		if (!softleaf_is_device_private(leaf)) continue;
		if (dmirror_page_to_device(softleaf_to_page(leaf)) === self.mdevice) return true;
	}
	return false;
}

/** What is known of a program before it runs. */
export interface ProgramTraits {
	/** Some step makes the kernel drop pages. */
	readonly pagesOut: boolean;
	/** What the monitor of its userfaultfd does. */
	readonly policy: number;
}

/** Whether a step may leave write-protect markers, over which only UFFDIO_COPY can fill in a page. */
function protects(op: string, args: readonly number[]): boolean {
	if (op === 'ureg' || op === 'ucopy') return (args[2]! & WP) !== 0;
	return op === 'uwp' || op === 'urwp';
}

/**
 * Whether the driver would write a clean page, which the kernel may drop without writing it out: it does
 * not mark what it writes dirty, as a driver of a real device has to.
 */
function writesCleanPage(oracle: Oracle, task: task_struct, step: Step): boolean {
	const [, dev, page, pages] = step as unknown as [string, number, number, number];
	const opened = deviceOf(oracle, task, dev);
	if (opened === null) return false;
	for (let i = page; i < page + pages; i++) {
		const at = oracle.address(i);
		const word = lookUpWord(opened.task.mm!, at)?.word ?? 0n;
		if (!pte_present(word) || !pte_write(word) || pte_dirty(word)) continue;
		const p = memoryMap().page(Number(pte_pfn(word)));
		if (p !== null && !folio_test_dirty(page_folio(p))) return true;
	}
	return false;
}

/**
 * Whether the driver would wait for ever for a page of its own that is exclusive to a device: 6.12 cannot
 * migrate those, and a coherent device takes its memory away all the same.
 */
function waitsForExclusive(oracle: Oracle, task: task_struct, dev: number): boolean {
	if (feature('device_exclusive_single')) return false;
	const self = deviceOf(oracle, task, dev)?.file.private_data as dmirror | undefined;
	if (self === undefined || dmirror_is_private_zone(self.mdevice)) return false;
	for (const [, { mm }] of processes(oracle))
		for (let i = 0; i < oracle.window.np; i++) {
			const word = lookUpWord(mm!, oracle.address(i))?.word ?? 0n;
			if (word === 0n || pte_present(word)) continue;
			if (softleaf_is_device_exclusive(softleaf_from_pte(word))) return true;
		}
	return false;
}

/**
 * Whether a step is left out.
 *
 * @param oracle - the kernel
 * @param task - who would execute it
 * @param step - the step
 * @param traits - of the program
 * @returns why; null: it is executed
 */
export function guardOf(
	oracle: Oracle,
	task: task_struct,
	step: Step,
	{ pagesOut, policy }: ProgramTraits,
): string | null {
	const [op, ...rest] = step;
	const args = rest as number[];
	const { np } = oracle.window;
	if (!isInside(np, op, args)) return 'outside';
	if (op === 'mremap' && !isKnownMove(np, args)) return 'outside';
	if (op === 'mremap' && mayStopHalfWay(oracle, task, args)) return 'parts';
	if (op === 'madvise' && !knownAdvice.includes(args[2]!)) return 'advice';
	if (op === 'uffd' && (oracle.monitor !== null || task !== oracle.parent)) return 'uffd';
	if (watchSteps.includes(op) && (oracle.monitor === null || task !== oracle.parent))
		return 'uffd';
	if (policy >= ZEROPAGE && protects(op, args)) return 'monitor';
	if (op === 'dopen' && task === oracle.parent) return 'open';
	if (deviceSteps.includes(op) && deviceOf(oracle, task, args[0]!) === null) return 'closed';
	if (op === 'rel' && waitsForExclusive(oracle, task, args[0]!)) return 'exclusive';
	if (pagesOut && op === 'dwrite' && writesCleanPage(oracle, task, step)) return 'clean';
	const touches = op === 'dread' || op === 'dreadu' || op === 'dwrite';
	return touches && touchesLostPage(oracle, task, step) ? 'guard' : null;
}
