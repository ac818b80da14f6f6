// SPDX-License-Identifier: GPL-2.0-only
/**
 * Replay one scenario: execute its steps, and hold each answer against the recorded one.
 *
 * The first step that differs ends it: what follows would be a consequence.
 */
import type { task_struct } from '../../../include/linux/sched.ts';
import type { ProfileName } from '../../../include/sim/feature.ts';
import type { Finding } from '../../../include/sim/finding.ts';
import { KernelOops, type Report } from '../../../include/sim/report.ts';
import { installedWorld, installWorld, world } from '../../../include/sim/world.ts';
import type { BootOptions } from '../../../init/main.ts';
import type { Mismatch } from '../report.ts';
import { type SpaceState, StepComparison } from './compare.ts';
import { dumpPageTable, dumpVmas } from './dump.ts';
import { Oracle } from './oracle.ts';
import { innerStep } from './processes.ts';
import { type Answer, type Scenario, type Step, stepText } from './record.ts';
import { execute, UnknownStep } from './steps.ts';

/** What a replay found. */
export interface ScenarioResult {
	/** Empty: all answers are the recorded ones. */
	readonly mismatches: readonly Mismatch[];
	/** The same for the letters that are compared apart. */
	readonly strict: readonly Mismatch[];
	/** What checks found that know better than the kernel, and in which step. */
	readonly findings: readonly StepFinding[];
}

/** A finding, and the step in which it was made. */
export interface StepFinding extends Finding {
	/** Number and text of the step. */
	readonly step: string;
}

/** How the kernel of a scenario is set up, and what its steps do. */
export interface Replayer<O extends Oracle = Oracle> {
	/** The family of records, as the command line names it. */
	readonly family: string;
	readonly boot: BootOptions;
	open(scenario: Scenario, profile: ProfileName, options: BootOptions): O;
	execute(oracle: O, task: task_struct, step: Step): Answer;
	/** Whether a report belongs to what the scenario does. */
	isExpected?(report: Report, scenario: Scenario): boolean;
}

/** The kernel without anything that is only proposed. */
export const plainReplayer: Replayer = {
	family: 'hmm',
	boot: { checks: true },
	open: (scenario, profile, options) => new Oracle(scenario, profile, options),
	execute,
};

/** Who is shown each step while a scenario is replayed. */
export interface StepObserver {
	/** The kernel is about to be asked. */
	before(index: number): void;
	/** It has answered; null: it oopsed. */
	after(index: number, answer: Answer | null): void;
	/** The step's answers were compared with the recorded ones. */
	compared?(index: number, mismatches: readonly Mismatch[]): void;
}

/** A replay under way. */
class Replay<O extends Oracle> {
	private readonly scenario: Scenario;
	private readonly oracle: O;
	private readonly execute: Replayer<O>['execute'];
	private readonly observer: StepObserver | null;
	/** Number of the step that is executed. */
	private at = 0;
	private readonly expected = new Map<task_struct, SpaceState>();
	mismatches: Mismatch[] = [];
	strict: Mismatch[] = [];
	findings: StepFinding[] = [];

	constructor(
		scenario: Scenario,
		oracle: O,
		run: Replayer<O>['execute'],
		observer: StepObserver | null,
	) {
		this.scenario = scenario;
		this.oracle = oracle;
		this.execute = run;
		this.observer = observer;
	}

	steps(): void {
		const { steps, r } = this.scenario;
		for (let i = 0; i < steps.length; i++) {
			const step = steps[i]!;
			const answer = r[i]!;
			if (answer['skip'] === 'guard') continue;
			const comparison = new StepComparison(i, step);
			this.at = i;
			this.step(step, answer, comparison);
			this.keepFindings(i, step);
			this.observer?.compared?.(i, comparison.mismatches);
			this.strict.push(...comparison.strict);
			if (comparison.mismatches.length === 0) continue;
			this.mismatches.push(...comparison.mismatches);
			return;
		}
	}

	private step(step: Step, expected: Answer, comparison: StepComparison): void {
		const { oracle } = this;
		oracle.log.seen = [];
		const inner = innerStep(oracle, step);
		if (inner === null) {
			const got = this.ask(oracle.parent, step);
			this.compare(step, expected, got, comparison);
			return;
		}
		const { task } = inner;
		if (task === null) {
			comparison.fields('', expected, { skip: 'nochild' });
			return;
		}
		const got = this.ask(task, inner.step);
		const recorded = (expected['c'] ?? {}) as Answer;
		comparison.fields('c.', recorded, got);
		if (task.mm !== null) this.space('c.', task, recorded, comparison);
		this.compare(step, expected, {}, comparison);
	}

	/** Take what the checks found in a step. */
	private keepFindings(index: number, step: Step): void {
		const { findings } = world();
		if (findings === null || findings.length === 0) return;
		const title = `${index} ${stepText(step)}`;
		for (const one of findings.splice(0)) this.findings.push({ ...one, step: title });
	}

	/** Execute a step under the eyes of the observer. */
	private ask(task: task_struct, step: Step): Answer {
		const { oracle, observer, at } = this;
		if (observer === null) return this.execute(oracle, task, step);
		let answer: Answer | null = null;
		observer.before(at);
		try {
			answer = this.execute(oracle, task, step);
		} finally {
			observer.after(at, answer);
		}
		return answer;
	}

	/** Compare a step of the parent, or what a child's step did to the parent. */
	private compare(
		step: Step,
		expected: Answer,
		got: Answer,
		comparison: StepComparison,
	): void {
		const { log, parent } = this.oracle;
		const inv = step[0] === 'rel' ? [...log.seen].sort(inOrder) : log.seen;
		const aside = this.oracle.takeAsides();
		comparison.fields('', expected, got, aside, inv);
		if (got['skip'] === undefined) this.space('', parent, expected, comparison);
	}

	private space(
		of: string,
		task: task_struct,
		recorded: Answer,
		comparison: StepComparison,
	): void {
		const state = this.expected.get(task) ?? { pt: '', vma: '' };
		if (typeof recorded['pt'] === 'string') state.pt = recorded['pt'];
		if (typeof recorded['vma'] === 'string') state.vma = recorded['vma'];
		this.expected.set(task, state);
		const { window } = this.oracle;
		const mm = task.mm!;
		comparison.space(of, state, {
			pt: dumpPageTable(mm, window),
			vma: dumpVmas(mm, window),
		});
	}
}

function inOrder(a: readonly number[], b: readonly number[]): number {
	for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
	return 0;
}

/** What the model did instead of answering. */
function breakdown(error: unknown): Mismatch {
	if (error instanceof KernelOops)
		return { step: 'the kernel', expected: 'an answer', got: error.report.text };
	if (error instanceof UnknownStep)
		return { step: 'the model', expected: 'an answer', got: `has no ${error.message}` };
	if (!(error instanceof Error) || error.name === 'NeedsThreads') throw error;
	// arguments that no recorder writes, or a fault of the model: the other records are replayed
	const [, where = ''] = /\n\s*at (\S+)/.exec(error.stack ?? '') ?? [];
	const got = `${error.constructor.name} in ${where}: ${error.message}`;
	return { step: 'the replay', expected: 'an answer', got };
}

/**
 * Replay a scenario.
 *
 * @param scenario - what the kernel was asked and answered
 * @param profile - the kernel
 * @param replayer - how it is set up and what steps do
 * @param observer - who is shown each step; null: nobody
 */
export function replayScenario(
	scenario: Scenario,
	profile: ProfileName,
	replayer?: undefined,
): ScenarioResult;
export function replayScenario<O extends Oracle>(
	scenario: Scenario,
	profile: ProfileName,
	replayer: Replayer<O>,
	observer?: StepObserver | null,
): ScenarioResult;
export function replayScenario(
	scenario: Scenario,
	profile: ProfileName,
	replayer: Replayer = plainReplayer,
	observer: StepObserver | null = null,
): ScenarioResult {
	let oracle: Oracle;
	try {
		oracle = replayer.open(scenario, profile, replayer.boot);
	} catch (error) {
		if (installedWorld() !== null) installWorld(null);
		return { mismatches: [breakdown(error)], strict: [], findings: [] };
	}
	const replay = new Replay(scenario, oracle, replayer.execute, observer);
	try {
		replay.steps();
		const reports = oracle
			.close()
			.filter((report) => !replayer.isExpected?.(report, scenario));
		if (reports.length > 0 && replay.mismatches.length === 0)
			replay.mismatches.push({
				step: 'the kernel',
				expected: 'no report',
				got: reports.map(({ text }) => text).join('\n'),
			});
	} catch (error) {
		replay.mismatches.push(breakdown(error));
	} finally {
		if (installedWorld() !== null) installWorld(null);
	}
	return replay;
}
