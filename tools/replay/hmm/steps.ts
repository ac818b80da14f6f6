// SPDX-License-Identifier: GPL-2.0-only
/** What each step does, and what it answers. */
import { MAP_HUGETLB, MAP_PRIVATE, MAP_SHARED } from '../../../include/linux/mm.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import { PAGE_SIZE } from '../../../include/linux/types.ts';
import { run } from '../../../kernel/sched/core.ts';
import {
	HMM_DMIRROR_CHECK_EXCLUSIVE,
	HMM_DMIRROR_EXCLUSIVE,
	HMM_DMIRROR_FLAGS,
	HMM_DMIRROR_MIGRATE_TO_DEV,
	HMM_DMIRROR_MIGRATE_TO_SYS,
	HMM_DMIRROR_READ,
	HMM_DMIRROR_READ_UNLOCKED,
	HMM_DMIRROR_RELEASE,
	HMM_DMIRROR_SNAPSHOT,
	HMM_DMIRROR_WRITE,
	hmm_dmirror_cmd,
} from '../../../lib/test_hmm_uapi.ts';
import { shmemTruncate } from '../../../mm/shmem.ts';
import {
	userMadvise,
	userMmap,
	userMprotect,
	userMremap,
	userMunmap,
	userRead64,
	userWrite64,
} from '../../../mm/syscalls.ts';
import { type SpecialKind, specialKinds } from '../../../test/support/special_mappings.ts';
import type { Oracle } from './oracle.ts';
import { deviceOf, processSteps } from './processes.ts';
import { faultRange, faultsOf, type RangeCall, type RangeRequest } from './range.ts';
import { type Answer, runLength, type Step } from './record.ts';
import { watchSteps } from './watch.ts';

/** Values of more pages than this are recorded as runs. */
const VALUES_UP_TO = 64;

/** A step that the replay does not know. */
export class UnknownStep extends Error {}

type Num = readonly number[];
/** Executes a step with the arguments that the record has. */
export type Handler = (oracle: Oracle, task: task_struct, args: Num) => Answer;

const bytes = (pages: number): bigint => BigInt(pages) * PAGE_SIZE;

function isSpecial(kind: string): kind is SpecialKind {
	return (specialKinds as readonly string[]).includes(kind);
}

function mmapStep(oracle: Oracle, task: task_struct, step: Step): Answer {
	const [, page, pages, prot, kind, off] = step as unknown as [
		string,
		number,
		number,
		number,
		string,
		number,
	];
	const at = oracle.address(page);
	const shared = kind[1] === 's';
	const flags = shared ? MAP_SHARED : MAP_PRIVATE;
	let got: bigint | number;
	if (kind === 'ap' || kind === 'as') got = userMmap(task, at, bytes(pages), prot, flags);
	else if (kind === 'fp' || kind === 'fs')
		got = userMmap(task, at, bytes(pages), prot, flags, oracle.file, BigInt(off));
	else if (kind === 'ht' || kind === 'hs')
		got = userMmap(task, at, bytes(pages), prot, flags | MAP_HUGETLB);
	else if (isSpecial(kind))
		got = userMmap(task, at, bytes(pages), prot, MAP_SHARED, oracle.special.file(kind));
	else throw new UnknownStep(`mmap of kind ${kind}`);
	return { rc: typeof got === 'number' ? got : 0 };
}

function readStep(oracle: Oracle, task: task_struct, [page = 0]: Num): Answer {
	const before = faultsOf(task);
	const got = userRead64(task, oracle.address(page));
	const nf = faultsOf(task) - before;
	return typeof got === 'bigint'
		? { rc: 0, v: Number(got), nf }
		: { sig: got.sig, code: got.code, nf };
}

function writeStep(oracle: Oracle, task: task_struct, [page = 0, value = 0]: Num): Answer {
	const before = faultsOf(task);
	const got = userWrite64(task, oracle.address(page), BigInt(value));
	const nf = faultsOf(task) - before;
	return got === null ? { rc: 0, nf } : { sig: got.sig, code: got.code, nf };
}

/** One command of a device, on the mirror of the process that opened it. */
function ioctl(
	oracle: Oracle,
	by: task_struct,
	dev: number,
	command: number,
	cmd: hmm_dmirror_cmd,
): number {
	const opened = deviceOf(oracle, by, dev);
	if (opened === null) throw new UnknownStep(`device ${dev}`);
	const { file: filp, task } = opened;
	return run(filp.f_op.unlocked_ioctl!(filp, command, cmd), { task });
}

const BYTES_A_PAGE = Number(PAGE_SIZE);
const WORDS_A_PAGE = BYTES_A_PAGE / 4;
const HALF = 2 ** 32;

/**
 * The program's buffer, a value at the beginning of each page.
 *
 * Steps use one after the other the same memory, since a fresh one of 4 MiB costs more than what the
 * kernel does with it. Beyond the values there is what the kernel wrote before: nothing, in a buffer that
 * it only reads.
 */
class ProgramBuffer {
	private words = new Uint32Array(0);

	/** The first pages, each with its value: `first`, `first + 1`, …; undefined: each with 0. */
	fill(pages: number, first: number | undefined): Uint8Array {
		if (this.words.length < pages * WORDS_A_PAGE)
			this.words = new Uint32Array(pages * WORDS_A_PAGE);
		const { words } = this;
		for (let i = 0; i < pages; i++) {
			const value = first === undefined ? 0 : first + i;
			words[i * WORDS_A_PAGE] = value % HALF;
			words[i * WORDS_A_PAGE + 1] = Math.floor(value / HALF);
		}
		return new Uint8Array(words.buffer, 0, pages * BYTES_A_PAGE);
	}

	/** The values of the first pages; of many, in runs. */
	values(pages: number): unknown[] {
		const { words } = this;
		const values: number[] = [];
		for (let i = 0; i < pages; i++)
			values.push(words[i * WORDS_A_PAGE]! + words[i * WORDS_A_PAGE + 1]! * HALF);
		if (pages <= VALUES_UP_TO) return values;
		const runs: [number, number][] = [];
		for (const value of values) {
			const last = runs.at(-1);
			if (last !== undefined && last[0] === value) last[1]++;
			else runs.push([value, 1]);
		}
		return runs;
	}
}

/** What the kernel writes to, and what it reads. */
const buffers = { out: new ProgramBuffer(), in: new ProgramBuffer() };

/** A command that moves a page's data for each page. */
function dataStep(command: number, fields: readonly ('cp' | 'd' | 'fl')[]): Handler {
	return (oracle, task, [dev = 0, page = 0, pages = 0, value]) => {
		const buffer = value === undefined ? buffers.out : buffers.in;
		const cmd = new hmm_dmirror_cmd({
			addr: oracle.address(page),
			npages: BigInt(pages),
			ptr: buffer.fill(pages, value),
		});
		const rc = ioctl(oracle, task, dev, command, cmd);
		if (rc !== 0) return { rc };
		const answer: Record<string, unknown> = { rc };
		if (fields.includes('cp')) answer['cp'] = Number(cmd.cpages);
		if (fields.includes('d')) answer['d'] = buffer.values(pages);
		if (fields.includes('fl')) answer['fl'] = Number(cmd.faults);
		return answer;
	};
}

function snapshotStep(
	oracle: Oracle,
	task: task_struct,
	[dev = 0, page = 0, pages = 0]: Num,
): Answer {
	const perm = new Uint8Array(pages);
	const cmd = new hmm_dmirror_cmd({
		addr: oracle.address(page),
		npages: BigInt(pages),
		ptr: perm,
	});
	const rc = ioctl(oracle, task, dev, HMM_DMIRROR_SNAPSHOT, cmd);
	if (rc !== 0) return { rc };
	const tokens = [...perm].map((byte) => byte.toString(16).padStart(2, '0'));
	return { rc, s: runLength(tokens), cp: Number(cmd.cpages) };
}

/** A command without data. */
function plainStep(command: number): Handler {
	return (oracle, task, [dev = 0, page = 0, pages = 1]) => ({
		rc: ioctl(
			oracle,
			task,
			dev,
			command,
			new hmm_dmirror_cmd({ addr: oracle.address(page), npages: BigInt(pages) }),
		),
	});
}

const handlers: Readonly<Record<string, Handler>> = {
	...watchSteps,
	...processSteps,
	munmap: (o, t, [p = 0, n = 0]) => ({ rc: userMunmap(t, o.address(p), bytes(n)) }),
	mprotect: (o, t, [p = 0, n = 0, prot = 0]) => ({
		rc: userMprotect(t, o.address(p), bytes(n), prot),
	}),
	madvise: (o, t, [p = 0, n = 0, advice = 0]) => ({
		rc: userMadvise(t, o.address(p), bytes(n), advice),
	}),
	mremap: (o, t, [p = 0, n = 0, q = 0, flags = 0]) => {
		const got = userMremap(t, o.address(p), bytes(n), bytes(n), flags, o.address(q));
		return { rc: typeof got === 'number' ? got : 0 };
	},
	read: readStep,
	write: writeStep,
	ftrunc: (o, t, [n = 0]) => {
		run(shmemTruncate(o.file, bytes(n)), { task: t });
		return { rc: 0 };
	},
	mig: dataStep(HMM_DMIRROR_MIGRATE_TO_DEV, ['cp', 'd']),
	sys: dataStep(HMM_DMIRROR_MIGRATE_TO_SYS, ['cp']),
	dread: dataStep(HMM_DMIRROR_READ, ['cp', 'd', 'fl']),
	dreadu: dataStep(HMM_DMIRROR_READ_UNLOCKED, ['cp', 'd', 'fl']),
	dwrite: dataStep(HMM_DMIRROR_WRITE, ['cp', 'fl']),
	snap: snapshotStep,
	excl: dataStep(HMM_DMIRROR_EXCLUSIVE, ['cp', 'd']),
	cexcl: plainStep(HMM_DMIRROR_CHECK_EXCLUSIVE),
	rel: (o, t, [dev = 0]) => plainStep(HMM_DMIRROR_RELEASE)(o, t, [dev]),
	flags: (o, t, [dev = 0, v = 0]) => ({
		rc: ioctl(
			o,
			t,
			dev,
			HMM_DMIRROR_FLAGS,
			new hmm_dmirror_cmd({ addr: o.address(0), npages: BigInt(v) }),
		),
	}),
};

/**
 * Execute a step.
 *
 * @param oracle - the scenario's kernel
 * @param task - who makes the call
 * @param step - name and arguments
 * @throws UnknownStep the replay has no such step
 */
export function execute(oracle: Oracle, task: task_struct, step: Step): Answer {
	const op = step[0];
	if (op === 'mmap') return mmapStep(oracle, task, step);
	if (op === 'hmm' || op === 'hmmu') return rangeStep(oracle, task, step);
	const handler = Object.hasOwn(handlers, op) ? handlers[op] : undefined;
	if (handler === undefined) throw new UnknownStep(`step ${op}`);
	return handler(oracle, task, step.slice(1) as unknown as Num);
}

function numberAt(step: Step, i: number): number {
	return step[i] as number;
}

function rangeStep(oracle: Oracle, task: task_struct, step: Step): Answer {
	const unlocked = step[0] === 'hmmu';
	const request: RangeRequest = {
		page: numberAt(step, 1),
		pages: numberAt(step, 2),
		deflt: numberAt(step, 3),
		mask: numberAt(step, 4),
		owner: numberAt(step, 5),
		req: (step[unlocked ? 7 : 8] as string | undefined) ?? '',
	};
	const call: RangeCall = unlocked
		? { locked: false, timeout: BigInt(numberAt(step, 6)) }
		: { locked: true, maxTries: numberAt(step, 6), refill: numberAt(step, 7) !== 0 };
	return faultRange(oracle, task, request, call);
}
