// SPDX-License-Identifier: GPL-2.0-only
/**
 * What each step must answer, as far as the shadow knows, and what it changes in it.
 *
 * A call that succeeded had its effect; one that failed may have had a part of it.
 */
import { VM_ACCESS_FLAGS } from '../../../include/linux/mm.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import { HPAGE_PMD_NR, PAGE_SIZE } from '../../../include/linux/types.ts';
import type { Oracle } from '../../replay/hmm/oracle.ts';
import { deviceOf, processes, processOf } from '../../replay/hmm/processes.ts';
import type { Answer, Step } from '../../replay/hmm/record.ts';
import { BUS, type Contents, contentsText, either, mayBe, nothing, SEGV } from './contents.ts';
import { orZero, type Shadow } from './shadow.ts';
import type { Slot } from './slot.ts';

const SIGBUS = 7;
const SIGSEGV = 11;
const MADV_DONTNEED = 4;
const MADV_FREE = 8;
const MADV_POPULATE_WRITE = 23;
const MADV_HWPOISON = 100;
const MADV_GUARD_INSTALL = 102;
const MADV_GUARD_REMOVE = 103;
const DONTUNMAP = 4;
/** What the monitor fills a page with, by policy 1: this, and its number. */
const COPIED = 0xb000;

/** What a step is given. */
interface Call {
	readonly oracle: Oracle;
	readonly shadow: Shadow;
	/** Number of the process that executes it. */
	readonly by: number;
	readonly task: task_struct;
	readonly args: readonly number[];
	readonly step: Step;
	readonly answer: Answer;
	/** It succeeded. */
	readonly ok: boolean;
}

/** @returns null, or what is wrong with the answer */
type Effect = (call: Call) => string | null;

/** Protection of a page by the kernel's own list of mappings; null: not mapped. */
function protectionOf(task: task_struct, oracle: Oracle): (page: number) => number | null {
	const { vmas } = task.mm!;
	return (page) => {
		const at = oracle.address(page);
		const vma = vmas.find((one) => one.vm_start <= at && at < one.vm_end);
		return vma === undefined ? null : Number(vma.vm_flags & VM_ACCESS_FLAGS);
	};
}

function resync({ shadow, by, task, oracle }: Call): null {
	shadow.resync(by, protectionOf(task, oracle));
	return null;
}

function outcomeText({ sig, code, v }: Answer): string {
	if (sig === undefined) return v === undefined ? 'success' : `value ${String(v)}`;
	return `signal ${String(sig)} code ${String(code)}`;
}

/** What an access must end in; null: it must not be a fault of the program. */
function segvOf(slot: Slot | null, write: boolean): Answer | null {
	if (slot === null) return { sig: SIGSEGV, code: 1 };
	const allowed = write ? (slot.prot & 2) !== 0 : slot.prot !== 0;
	return allowed ? null : { sig: SIGSEGV, code: 2 };
}

/** Whether the signal that an access ended in was due. */
function signalIsDue(slot: Slot, sig: number, contents: Contents, poisoned: boolean): boolean {
	if (sig === SIGSEGV) return slot.guard !== 'no' || mayBe(contents, SEGV);
	return sig === SIGBUS && (poisoned || mayBe(contents, BUS));
}

function access(call: Call, write: boolean): string | null {
	const { shadow, by, args, answer } = call;
	const [page = 0, value = 0] = args;
	const slot = shadow.space(by)[page] ?? null;
	const due = segvOf(slot, write);
	if (due !== null || slot === null)
		return answer['sig'] === due!['sig'] && answer['code'] === due!['code']
			? null
			: `expected ${outcomeText(due!)}, got ${outcomeText(answer)}`;
	const contents = slot.contents();
	const sig = answer['sig'] as number | undefined;
	if (sig !== undefined)
		return signalIsDue(slot, sig, contents, shadow.poisoned)
			? null
			: `expected ${contentsText(contents)}, got ${outcomeText(answer)}`;
	if (slot.guard === 'yes') return `expected SIGSEGV, got ${outcomeText(answer)}`;
	if (write) return storeAccess(slot, value, contents);
	const v = answer['v'] as number;
	if (!mayBe(contents, v)) return `expected ${contentsText(contents)}, got ${v}`;
	slot.saw(v);
	return null;
}

function storeAccess(slot: Slot, value: number, contents: Contents): string | null {
	const valueIsPossible = contents === null || contents.some((one) => one >= 0);
	if (!valueIsPossible) return `expected ${contentsText(contents)}, got success`;
	slot.write(value);
	return null;
}

/** Values that a device read from pages of a range. */
function checkData(call: Call, number: number, page: number, data: unknown): string | null {
	const { shadow } = call;
	let at = page;
	for (const item of data as (number | [number, number])[]) {
		const [value, count] = typeof item === 'number' ? [item, 1] : item;
		for (let i = 0; i < count; i++, at++) {
			const slot = shadow.space(number)[at];
			if (!slot) return `page ${at} is not mapped, a device read ${value}`;
			const contents = slot.contents();
			if (!mayBe(contents, value))
				return `page ${at}: expected ${contentsText(contents)}, a device read ${value}`;
			slot.saw(value);
		}
	}
	return null;
}

/**
 * Number of the process that a device mirrors.
 *
 * @param oracle - the kernel
 * @param task - who makes the call
 * @param dev - the device
 */
export function mirroredBy(oracle: Oracle, task: task_struct, dev: number): number {
	const owner = deviceOf(oracle, task, dev)?.task;
	return processes(oracle).find(([, one]) => one === owner)?.[0] ?? 0;
}

function ownerOf({ oracle, task, args }: Call): number {
	return mirroredBy(oracle, task, args[0]!);
}

const deviceRead: Effect = (call) => {
	const { args, answer, ok } = call;
	const [, page = 0] = args;
	return ok ? checkData(call, ownerOf(call), page, answer['d']) : null;
};

/** A range whose private file pages may have been copied. */
function mayCopy({ shadow }: Call, number: number, page: number, pages: number): void {
	for (const [slot] of shadow.range(number, page, pages)) slot.mayCopy();
}

const exclusive: Effect = (call) => {
	const [, page = 0, pages = 0] = call.args;
	mayCopy(call, ownerOf(call), page, pages);
	return deviceRead(call);
};

const deviceWrite: Effect = (call) => {
	const { shadow, args, ok } = call;
	const [, page = 0, pages = 0, value = 0] = args;
	const owner = ownerOf(call);
	for (let i = 0; i < pages; i++) {
		const slot = shadow.space(owner)[page + i] ?? null;
		if (ok && slot === null) return `page ${page + i} is not mapped, a device wrote it`;
		if (slot === null) continue;
		if (ok && !(slot.prot & 2))
			return `page ${page + i} is read-only, a device wrote it`;
		if (!ok) slot.mayWrite(value + i);
		else slot.write(value + i);
	}
	return null;
};

const range: Effect = (call) => {
	const [page = 0, pages = 0] = call.args;
	mayCopy(call, call.by, page, pages);
	return null;
};

function dropRange(call: Call): void {
	const { shadow, by, args, ok } = call;
	for (const [slot] of shadow.range(by, args[0]!, args[1]!)) {
		if (slot.fragile || !ok) {
			const { lazy } = slot;
			slot.mayDrop();
			slot.lazy = lazy;
		} else slot.drop();
	}
}

function guard(call: Call, guardIs: 'no' | 'yes'): void {
	const { shadow, by, args, ok } = call;
	if (guardIs === 'yes') dropRange(call);
	for (const [slot] of shadow.range(by, args[0]!, args[1]!))
		if (ok) slot.guard = guardIs;
		else if (slot.guard !== guardIs) slot.guard = 'maybe';
}

const madvise: Effect = (call) => {
	const { shadow, by, args } = call;
	const [page = 0, pages = 0, advice] = args;
	if (advice === MADV_DONTNEED) dropRange(call);
	else if (advice === MADV_FREE)
		for (const [slot] of shadow.range(by, page, pages)) {
			if (slot.store === null) slot.mayDrop();
		}
	else if (advice === MADV_POPULATE_WRITE) mayCopy(call, by, page, pages);
	else if (advice === MADV_GUARD_INSTALL) guard(call, 'yes');
	else if (advice === MADV_GUARD_REMOVE) guard(call, 'no');
	else if (advice === MADV_HWPOISON) {
		shadow.poisoned = true;
		for (const [slot] of shadow.range(by, page, pages)) {
			slot.own = either(slot.own, [BUS]);
			slot.lazy = true;
		}
	}
	return null;
};

const mremap: Effect = (call) => {
	const { shadow, by, args, ok, task, oracle } = call;
	const [from = 0, pages = 0, to = 0, flags = 0] = args;
	const keeps = (flags & DONTUNMAP) !== 0;
	const protection = protectionOf(task, oracle);
	if (ok) shadow.move(by, from, pages, to, keeps);
	else if (!keeps) shadow.mayMove(by, from, pages, to, (page) => protection(page) !== null);
	return resync(call);
};

const fork: Effect = ({ shadow, by, args, ok, oracle }) => {
	const [number = 1] = args;
	if (!ok) return processOf(oracle, number) === null ? 'fork made nobody' : null;
	shadow.fork(by, number);
	return null;
};

const watch: Effect = (call) => {
	const { shadow, by, args, ok } = call;
	const [page = 0, pages = 0] = args;
	for (const [slot, i] of shadow.range(by, page, pages)) {
		// a write-protected page is not filled, but nobody may resolve its faults
		slot.fills = shadow.fills(i);
		if (ok) slot.lazy = true;
		slot.mayFill();
	}
	return null;
};

/** A userfaultfd call that puts something into pages where nothing is. */
function filled(contents: (args: readonly number[]) => number): Effect {
	return (call) => {
		const { shadow, by, args, ok, step } = call;
		const pages = step[0] === 'ucopy' ? 1 : args[1]!;
		const value = contents(args);
		for (const [slot] of shadow.range(by, args[0]!, pages)) {
			if (value < 0 || !ok) {
				slot.own = either(slot.own, [value]);
				if (slot.shared && value >= 0) slot.mayWrite(value);
			} else slot.write(value);
		}
		return null;
	};
}

const effects: Readonly<Record<string, Effect>> = {
	read: (call) => access(call, false),
	write: (call) => access(call, true),
	mmap(call) {
		const { shadow, by, step, ok, args } = call;
		const [page = 0, pages = 0, prot = 0] = args;
		if (!ok) return resync(call);
		const kind = step[4] as string;
		// mappings of huge pages are as long as these
		const all =
			kind[0] === 'h' ? Math.ceil(pages / HPAGE_PMD_NR) * HPAGE_PMD_NR : pages;
		shadow.map(by, page, all, prot, kind, step[5] as number);
		return null;
	},
	munmap(call) {
		const { shadow, by, args, ok } = call;
		if (!ok) return resync(call);
		shadow.unmap(by, args[0]!, args[1]!);
		return null;
	},
	mprotect(call) {
		const { shadow, by, args, ok } = call;
		if (!ok) return resync(call);
		for (const [slot] of shadow.range(by, args[0]!, args[1]!)) slot.prot = args[2]!;
		return null;
	},
	madvise,
	mremap,
	fork,
	cexit({ shadow, args, ok }) {
		if (ok) shadow.spaces.delete(args[0] ?? 1);
		return null;
	},
	ftrunc({ shadow, args }) {
		shadow.truncate(args[0]!);
		return null;
	},
	mlock: range,
	hmm: range,
	hmmu: range,
	hmmd: (call) => range({ ...call, args: call.args.slice(1) }),
	hmmud: (call) => range({ ...call, args: call.args.slice(1) }),
	hmmm: (call) => range({ ...call, args: call.args.slice(1) }),
	mig: deviceRead,
	dread: deviceRead,
	dreadu: deviceRead,
	excl: exclusive,
	dwrite: deviceWrite,
	uffd({ shadow, args }) {
		const [policy = 0] = args;
		shadow.fills = (page) => {
			if (policy === 1) return [COPIED + page];
			return policy === 2 ? orZero(nothing) : [BUS];
		};
		return null;
	},
	ureg: watch,
	ucopy: filled((args) => args[1]!),
	uzero: filled(() => 0),
	upoison: filled(() => BUS),
};

/**
 * Hold an answer against the shadow, and let the step change it.
 *
 * @param call - the step, who executed it, and its answer
 * @returns null, or what is wrong
 */
export function takeEffect(call: Omit<Call, 'ok' | 'args'>): string | null {
	const { step, answer } = call;
	if (answer['skip'] !== undefined) return null;
	const ok = answer['rc'] === 0;
	return (
		effects[step[0]]?.({ ...call, ok, args: step.slice(1) as unknown as number[] }) ??
		null
	);
}

/**
 * Compare the mappings of a process with the shadow's.
 *
 * @param shadow - what is expected
 * @param by - number of the process
 * @param task - the process
 * @param oracle - its kernel
 * @returns null, or what is wrong
 */
export function checkMappings(
	shadow: Shadow,
	by: number,
	task: task_struct,
	oracle: Oracle,
): string | null {
	const space = shadow.space(by);
	const { base } = oracle.window;
	let page = 0;
	const absent = (end: number): string | null => {
		for (; page < end; page++)
			if (space[page] !== null)
				return `page ${page} of process ${by} lost its mapping`;
		return null;
	};
	for (const vma of task.mm!.vmas) {
		const start = Number((vma.vm_start - base) / PAGE_SIZE);
		const end = Number((vma.vm_end - base) / PAGE_SIZE);
		const lost = absent(start);
		if (lost !== null) return lost;
		const prot = Number(vma.vm_flags & VM_ACCESS_FLAGS);
		for (; page < end; page++) {
			const slot = space[page] ?? null;
			if (slot === null) return `page ${page} of process ${by} is still mapped`;
			if (slot.prot !== prot)
				return `page ${page} of process ${by} has protection ${prot}, not ${slot.prot}`;
		}
	}
	return absent(shadow.np);
}
