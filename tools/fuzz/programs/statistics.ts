// SPDX-License-Identifier: GPL-2.0-only
/** What programs reached: how often each step was executed and succeeded, and which states there were. */
import type { Answer, Step } from '../../replay/hmm/record.ts';
import type { Program } from './program.ts';

/** What there is at one moment. */
export interface State {
	readonly privatePages: number;
	readonly privateHuge: number;
	readonly presentHuge: number;
	readonly exclusive: number;
	readonly swapped: number;
	readonly processes: number;
}

/** Counts that can be sent from one thread to another. */
export interface Figures {
	programs: number;
	executed: number;
	/** By name: executed, succeeded. */
	readonly steps: Record<string, [executed: number, succeeded: number]>;
	/** Moments at which there was some, and the most at one. */
	readonly states: Record<string, [moments: number, most: number]>;
	/** By setup. */
	readonly setups: Record<string, number>;
	moments: number;
	/** CPU faults on device-private pages, and calls that had to try again. */
	privateFaults: number;
	retries: number;
}

function isSuccess(answer: Answer): boolean {
	if (answer['ret'] !== undefined) return answer['ret'] === 0;
	return answer['rc'] === undefined ? answer['sig'] === undefined : answer['rc'] === 0;
}

/** No figures yet. */
export function noFigures(): Figures {
	return {
		programs: 0,
		executed: 0,
		steps: {},
		states: {},
		setups: {},
		moments: 0,
		privateFaults: 0,
		retries: 0,
	};
}

/** Counts. */
export class Statistics {
	readonly figures = noFigures();

	/** A step was executed. */
	step(step: Step, answer: Answer): void {
		const { steps } = this.figures;
		const name = step[0] === 'madvise' ? `madvise ${String(step[3])}` : step[0];
		steps[name] ??= [0, 0];
		steps[name][0]++;
		this.figures.executed++;
		if (isSuccess(answer)) steps[name][1]++;
		if (Number(answer['tries'] ?? 1) > 1) this.figures.retries++;
	}

	/** Everything was counted. */
	state(state: State): void {
		const { states } = this.figures;
		this.figures.moments++;
		for (const [name, count] of Object.entries(state)) {
			states[name] ??= [0, 0];
			const least = name === 'processes' ? 1 : 0;
			if (count > least) states[name][0]++;
			states[name][1] = Math.max(states[name][1], count);
		}
	}

	/** A device was asked by so many CPU faults for a page of its own. */
	faults(count: number): void {
		this.figures.privateFaults += count;
	}

	/** A program is over. */
	program({ setup }: Program): void {
		const { profile, machine, np } = setup;
		const name = `${profile}${machine === null ? '' : ' with the proposal'}${np > 64 ? ', 2 MiB pages' : ''}`;
		this.figures.programs++;
		this.figures.setups[name] = (this.figures.setups[name] ?? 0) + 1;
	}
}

/** Add the figures of one thread to those of all. */
export function addFigures(to: Figures, from: Figures): void {
	to.programs += from.programs;
	to.executed += from.executed;
	to.moments += from.moments;
	to.privateFaults += from.privateFaults;
	to.retries += from.retries;
	for (const [name, [executed, succeeded]] of Object.entries(from.steps)) {
		to.steps[name] ??= [0, 0];
		to.steps[name][0] += executed;
		to.steps[name][1] += succeeded;
	}
	for (const [name, [moments, most]] of Object.entries(from.states)) {
		to.states[name] ??= [0, 0];
		to.states[name][0] += moments;
		to.states[name][1] = Math.max(to.states[name][1], most);
	}
	for (const [name, count] of Object.entries(from.setups))
		to.setups[name] = (to.setups[name] ?? 0) + count;
}

const stateNames: Readonly<Record<string, string>> = {
	privatePages: 'device-private pages',
	privateHuge: 'device-private huge pages',
	presentHuge: 'present huge pages',
	exclusive: 'device-exclusive entries',
	swapped: 'swap entries',
	processes: 'several processes',
};

const percent = (part: number, of: number): string =>
	`${of === 0 ? 0 : Math.round((100 * part) / of)} %`.padStart(6);

/**
 * The figures as a table.
 *
 * @param figures - what was counted
 */
export function figuresText(figures: Figures): string {
	const lines = [`${figures.programs} programs, ${figures.executed} steps executed`];
	for (const [name, count] of Object.entries(figures.setups).sort())
		lines.push(`  ${name.padEnd(34)}${String(count).padStart(9)}`);
	lines.push('', '  step             executed succeeded');
	for (const [name, [executed, succeeded]] of Object.entries(figures.steps).sort())
		lines.push(
			`  ${name.padEnd(15)}${String(executed).padStart(10)}${percent(succeeded, executed).padStart(10)}`,
		);
	lines.push('', '  state                        moments   at most');
	for (const [name, [moments, most]] of Object.entries(figures.states))
		lines.push(
			`  ${stateNames[name]!.padEnd(27)}${percent(moments, figures.moments).padStart(9)}${String(most).padStart(10)}`,
		);
	lines.push(
		'',
		`  CPU faults on device-private pages ${figures.privateFaults}, hmm_range_fault() tried again ${figures.retries}`,
	);
	return `${lines.join('\n')}\n`;
}
