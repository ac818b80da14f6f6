// SPDX-License-Identifier: GPL-2.0-only
/**
 * Run a program and hold the kernel against the shadow and the invariants.
 *
 * Guarantee: null means that every value that a process or device read was right, that the invariants
 * held whenever they were looked at, that nothing was reported, and that nothing was left at the end.
 * Mechanism: what is cheap is looked at after each step, counts after some and at the end; then each
 * process reads all that it has, and everything is taken down.
 */
import { MM_SWAPENTS, type page } from '../../../include/linux/mm_types.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import { KernelOops } from '../../../include/sim/report.ts';
import { world } from '../../../include/sim/world.ts';
import { dmirrorDevice } from '../../../lib/test_hmm.ts';
import { dumpPageTable, dumpVmas } from '../../replay/hmm/dump.ts';
import type { Oracle } from '../../replay/hmm/oracle.ts';
import { innerStep, processes, processOf } from '../../replay/hmm/processes.ts';
import type { Answer, Step } from '../../replay/hmm/record.ts';
import { checkMappings, mirroredBy, takeEffect } from './effects.ts';
import { guardOf, type ProgramTraits } from './guards.ts';
import { checkCounts, checkIdle, checkMirrors } from './invariants.ts';
import type { Kernel, Kernels } from './kernels.ts';
import type { Program } from './program.ts';
import { checkRequest } from './requests.ts';
import { Shadow } from './shadow.ts';
import type { Statistics } from './statistics.ts';

/** Counts are compared after so many steps. */
const COUNT_EVERY = 10;
/** Pages of a large window that are read at the end: every so many. */
const READ_EVERY = 37;
const SMALL_WINDOW = 64;
const MADV_PAGEOUT = 21;

/** What is held against a kernel, as Documentation/random-programs.md has it. */
export type Invariant =
	| 'bytes'
	| 'answers'
	| 'words'
	| 'mappings'
	| 'counts'
	| 'mirrors'
	| 'numbers and locks'
	| 'reports';

/** What is wrong. */
export interface Violation {
	/** Number of the step after which it was found; steps.length: when all was taken down. */
	readonly at: number;
	readonly invariant: Invariant;
	readonly what: string;
	/** Answers to the steps, where they were asked for. */
	readonly answers: readonly Answer[];
}

/** How a program is run. */
export interface RunOptions {
	/** Counts what happened. */
	readonly statistics?: Statistics;
	/** Look at everything after each step, and keep the answers as the records have them. */
	readonly closely?: boolean;
	/** Something that a test does to the kernel, or to the answer of a step. */
	tamper?(kernel: Kernel, at: number, step: Step, answer: Answer): Answer;
}

/** A program under way. */
class Run {
	private readonly program: Program;
	private readonly kernel: Kernel;
	private readonly options: RunOptions;
	private readonly shadow: Shadow;
	private readonly states = new Map<task_struct, { pt: string; vma: string }>();
	private readonly traits: ProgramTraits;
	/** The driver of special mappings is used. */
	private readonly special: boolean;
	private readonly failsAllocation: boolean;
	readonly answers: Answer[] = [];
	at = 0;
	/** What was looked at last. */
	invariant: Invariant = 'reports';

	constructor(program: Program, kernel: Kernel, options: RunOptions) {
		this.program = program;
		this.kernel = kernel;
		this.options = options;
		this.shadow = new Shadow(program.setup.np);
		const policy = program.steps.find(([op]) => op === 'uffd')?.[1];
		this.traits = {
			pagesOut: program.steps.some(isPageout),
			policy: Number(policy ?? 0),
		};
		this.special = program.steps.some(isSpecialMapping);
		this.failsAllocation = program.steps.some((step) => step.includes('flags'));
	}

	private get oracle(): Oracle {
		return this.kernel.oracle;
	}

	/** @returns null, or what is wrong */
	run(): string | null {
		const { steps } = this.program;
		for (; this.at < steps.length; this.at++) {
			const wrong = this.step(steps[this.at]!);
			if (wrong !== null) return wrong;
		}
		return this.readAll() ?? this.counts() ?? this.takeDown();
	}

	private step(step: Step): string | null {
		const { oracle, at } = this;
		const inner = innerStep(oracle, step);
		const task = inner === null ? oracle.parent : inner.task;
		const does = inner?.step ?? step;
		if (task === null) return this.answer(step, null, { skip: 'nochild' });
		const skip = guardOf(oracle, task, does, this.traits);
		if (skip !== null) return this.answer(step, null, { skip });
		const by = processes(oracle).find(([, one]) => one === task)![0];
		oracle.log.seen = [];
		this.invariant = 'reports';
		let answer = this.kernel.execute(task, does);
		answer = this.options.tamper?.(this.kernel, at, does, answer) ?? answer;
		this.answer(step, task, answer);
		this.options.statistics?.step(does, answer);
		const { shadow } = this;
		this.invariant = 'bytes';
		const wrong = takeEffect({ oracle, shadow, by, task, step: does, answer });
		return (
			wrong ??
			this.request(by, task, does, answer) ??
			this.afterStep(by, task, does, answer)
		);
	}

	/** What a call for pages answered. */
	private request(by: number, task: task_struct, step: Step, answer: Answer): string | null {
		const { shadow, oracle } = this;
		// whose allocation fails, and who else has a page that was poisoned, is not followed
		if (this.failsAllocation || shadow.poisoned) return null;
		this.invariant = 'answers';
		const isAccess = /^d(read|readu|write)$/.test(step[0]);
		const of = isAccess ? mirroredBy(oracle, task, step[1] as number) : by;
		return checkRequest(shadow, of, step, answer);
	}

	private afterStep(
		by: number,
		task: task_struct,
		step: Step,
		answer: Answer,
	): string | null {
		const { oracle, shadow, options } = this;
		this.invariant = 'reports';
		const { reports } = world();
		if (reports.length > 0) return reports.map(({ text }) => text).join('\n');
		this.invariant = 'words';
		const words = String(answer['f'] ?? '');
		// behind the place where a call failed, an array that is kept has the words of one before
		const isOld = step[0] === 'hmmm' && answer['ret'] !== 0;
		if (words.includes('~') && !isOld)
			return `a word names another page than is there: ${words}`;
		this.invariant = 'mappings';
		const isAlive = processOf(oracle, by) === task;
		const wrong =
			(isAlive ? checkMappings(shadow, by, task, oracle) : null) ??
			this.betweenCalls();
		if (wrong !== null) return wrong;
		const counts =
			options.closely === true || this.at % COUNT_EVERY === COUNT_EVERY - 1;
		return counts ? this.counts() : null;
	}

	private betweenCalls(): string | null {
		this.invariant = 'numbers and locks';
		const wrong = checkIdle(this.oracle);
		if (wrong !== null) return wrong;
		this.invariant = 'mirrors';
		return checkMirrors(this.oracle);
	}

	private counts(): string | null {
		const { oracle, options } = this;
		this.invariant = 'counts';
		const { census, complaint } = checkCounts(oracle, this.specials());
		options.statistics?.state({
			privatePages: census.privatePages,
			privateHuge: census.privateHuge,
			presentHuge: census.presentHuge,
			exclusive: census.exclusive,
			swapped: processes(oracle).reduce(
				(sum, [, task]) => sum + task.mm!.rss_stat[MM_SWAPENTS]!,
				0,
			),
			processes: processes(oracle).length,
		});
		return complaint;
	}

	/** Pages that the driver of special mappings holds. */
	private specials(): ReadonlySet<page> {
		return this.special ? new Set(this.oracle.special.pages) : new Set();
	}

	/** Keep an answer as a record has it. */
	private answer(step: Step, task: task_struct | null, answer: Answer): null {
		if (this.options.closely !== true) return null;
		const { oracle } = this;
		const own = task === null ? answer : { ...answer, ...this.space(task) };
		if (step[0] !== 'child' && step[0] !== 'proc') {
			this.answers.push({ ...own, ...this.besides(step) });
			return null;
		}
		const parent =
			task === null || task === oracle.parent ? {} : this.space(oracle.parent);
		const inner = task === null ? answer : { c: own };
		this.answers.push({ ...inner, ...parent, ...this.besides(step) });
		return null;
	}

	private besides(step: Step): Answer {
		const { seen } = this.oracle.log;
		const inv = step[0] === 'rel' ? [...seen].sort() : seen;
		return { ...this.oracle.takeAsides(), ...(inv.length === 0 ? {} : { inv }) };
	}

	/** Page table and mappings, where they changed. */
	private space(task: task_struct): Answer {
		const { mm } = task;
		if (mm === null) return {};
		const { window } = this.oracle;
		const now = { pt: dumpPageTable(mm, window), vma: dumpVmas(mm, window) };
		const before = this.states.get(task);
		this.states.set(task, now);
		return {
			...(before?.pt === now.pt ? {} : { pt: now.pt }),
			...(before?.vma === now.vma ? {} : { vma: now.vma }),
		};
	}

	/** Each process reads all that it has. */
	private readAll(): string | null {
		const { oracle, shadow } = this;
		this.invariant = 'bytes';
		const stride = shadow.np > SMALL_WINDOW ? READ_EVERY : 1;
		for (const [by, task] of processes(oracle))
			for (let page = 0; page < shadow.np; page += stride) {
				if (shadow.space(by)[page] === null) continue;
				const step: Step = ['read', page];
				const answer = this.kernel.execute(task, step);
				const wrong = takeEffect({
					oracle,
					shadow,
					by,
					task,
					step,
					answer,
				});
				if (wrong !== null)
					return `at the end, process ${by} reads page ${page}: ${wrong}`;
			}
		return this.options.tamper === undefined ? null : this.tamperedEnd();
	}

	/** A test may do its last deed when all steps are over. */
	private tamperedEnd(): null {
		this.options.tamper?.(this.kernel, this.at, ['read', 0], {});
		return null;
	}

	private takeDown(): string | null {
		const { oracle, options } = this;
		this.invariant = 'reports';
		for (let minor = 0; minor < 2; minor++)
			options.statistics?.faults(dmirrorDevice(minor)?.ramFaults ?? 0);
		// in either order: the device evicts what is left, or finds nothing
		const reports = oracle.close(this.at % 2 === 0);
		return reports.length === 0 ? null : reports.map(({ text }) => text).join('\n');
	}
}

function isPageout(step: Step): boolean {
	const at = step.indexOf('madvise');
	return at >= 0 && step[at + 3] === MADV_PAGEOUT;
}

function isSpecialMapping(step: Step): boolean {
	const at = step.indexOf('mmap');
	return at >= 0 && /^(mx|pf|io)$/.test(String(step[at + 4]));
}

/**
 * Run a program.
 *
 * @param program - what to run
 * @param kernels - booted ones
 * @param options - how
 * @returns null, or what is wrong
 */
export function runProgram(
	program: Program,
	kernels: Kernels,
	options: RunOptions = {},
): Violation | null {
	const run = new Run(program, kernels.get(program), options);
	let what: string | null;
	try {
		what = run.run();
	} catch (error) {
		what =
			error instanceof KernelOops
				? error.report.text
				: String((error as Error).stack);
	}
	options.statistics?.program(program);
	kernels.put(program, what === null);
	const { at, invariant, answers } = run;
	return what === null ? null : { at, invariant, what, answers };
}
