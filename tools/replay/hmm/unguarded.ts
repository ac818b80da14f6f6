// SPDX-License-Identifier: GPL-2.0-only
/**
 * `kproto replay hmm --unguarded`: the steps that the recorder left out, because the kernel's own test
 * driver oopses in them.
 *
 * Guarantee: each guarded step is executed on the state that the record has just before it. What it
 * does is told and counted apart, and is no failure: no kernel answered it.
 * Mechanism: the scenario is replayed up to that step once more, the other guards held; nothing is
 * compared behind it, since the recorded kernel never did it.
 */
import type { ProfileName } from '../../../include/sim/feature.ts';
import { world } from '../../../include/sim/world.ts';
import type { ReplayResults } from '../report.ts';
import type { Oracle } from './oracle.ts';
import { type Answer, type Scenario, stepText } from './record.ts';
import { type Replayer, replayScenario, type StepObserver } from './scenario.ts';

/** What became of a step: the kernel oopsed, warned and went on, or just answered. */
export type StepOutcome = 'oops' | 'warning' | 'answer';

/** A guarded step that was executed. */
export interface UnguardedStep {
	/** `FILE:LINE FAMILY NAME` */
	readonly title: string;
	readonly profile: ProfileName;
	/** Number and text of the step. */
	readonly step: string;
	readonly outcome: StepOutcome;
	/** null: the kernel oopsed. */
	readonly answer: Answer | null;
	/** What the kernel printed; empty: nothing. */
	readonly report: string;
}

/** Keeps what one step did. */
class OneStep implements StepObserver {
	private readonly index: number;
	private reportsBefore = 0;
	/** null: the step was not reached. */
	done: Pick<UnguardedStep, 'outcome' | 'answer' | 'report'> | null = null;

	constructor(index: number) {
		this.index = index;
	}

	before(index: number): void {
		if (index === this.index) this.reportsBefore = world().reports.length;
	}

	after(index: number, answer: Answer | null): void {
		if (index !== this.index) return;
		const reports = world().reports.slice(this.reportsBefore);
		const outcome =
			answer === null ? 'oops' : reports.length > 0 ? 'warning' : 'answer';
		this.done = { outcome, answer, report: reports.map(({ text }) => text).join('\n') };
	}
}

/** The scenario up to a step, that step's guard taken away. */
function upTo({ steps, r, ...rest }: Scenario, index: number): Scenario {
	return { ...rest, steps: steps.slice(0, index + 1), r: [...r.slice(0, index), {}] };
}

/**
 * Execute the guarded steps of a scenario.
 *
 * @param title - file, line and name
 * @param profile - the kernel
 * @param scenario - what it was asked
 * @param replayer - how it is set up and what steps do
 * @returns each guarded step that was reached, in order
 */
export function replayGuarded<O extends Oracle>(
	title: string,
	profile: ProfileName,
	scenario: Scenario,
	replayer: Replayer<O>,
): UnguardedStep[] {
	const found: UnguardedStep[] = [];
	for (const [i, { skip }] of scenario.r.entries()) {
		if (skip !== 'guard') continue;
		const one = new OneStep(i);
		replayScenario(upTo(scenario, i), profile, replayer, one);
		const step = `${i} ${stepText(scenario.steps[i]!)}`;
		if (one.done !== null) found.push({ title, profile, step, ...one.done });
	}
	return found;
}

/** A report without the calls of the replay itself, which end each trace. */
function kernelLines(report: string): string {
	return report
		.split('\n')
		.filter((line) => !/ (?:tools\/replay|kernel\/sched\/core\.ts)/.test(line))
		.join('\n');
}

/** Executes guarded steps of scenarios and tells of them. */
export class UnguardedSteps<O extends Oracle> {
	private readonly replayer: Replayer<O>;
	private readonly results: ReplayResults;
	private readonly found: UnguardedStep[] = [];
	private guarded = 0;

	/**
	 * @param replayer - how scenarios are set up and what steps do
	 * @param results - where it is told
	 */
	constructor(replayer: Replayer<O>, results: ReplayResults) {
		this.replayer = replayer;
		this.results = results;
	}

	/** Execute the guarded steps of one scenario. */
	replay(title: string, profile: ProfileName, scenario: Scenario): void {
		this.guarded += scenario.r.filter(({ skip }) => skip === 'guard').length;
		for (const one of replayGuarded(title, profile, scenario, this.replayer)) {
			this.found.push(one);
			const answer =
				one.answer === null ? '' : ` = ${JSON.stringify(one.answer)}`;
			this.results.tell(
				`${one.outcome} ${title} step ${one.step}${answer}`,
				kernelLines(one.report),
			);
		}
	}

	/** Tell the figures. */
	finish(): void {
		const count = (of: StepOutcome): number =>
			this.found.filter(({ outcome }) => outcome === of).length;
		const rest = this.guarded - this.found.length;
		this.results.tellBeside(
			`unguarded: of ${this.guarded} guarded steps ${count('oops')} oops, ` +
				`${count('warning')} warn and go on, ${count('answer')} answer` +
				(rest === 0 ? '' : `, ${rest} not reached`),
			'unguarded',
			this.found,
		);
	}
}
