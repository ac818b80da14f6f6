// SPDX-License-Identifier: GPL-2.0-only
/** What a line of a record file says: a scenario, and what a kernel answered. */

import { type ProfileName, profiles } from '../../../include/sim/feature.ts';
import type { Shape } from '../shape.ts';

/** A step: its name, then its arguments. */
export type Step = readonly [op: string, ...args: (number | string | Step)[]];

/** Answer to a step; a field that is absent is unchanged or empty. */
export type Answer = Readonly<Record<string, unknown>>;

/** One scenario. */
export interface Scenario {
	readonly id: string;
	/** Family: `A` anon, `B` file, … */
	readonly fam: string;
	/** First page of the window in the arena. */
	readonly win: number;
	/** Pages of the window. */
	readonly np: number;
	/** Bytes that fault-around maps. */
	readonly fa: number;
	/** Devices that are open: 0 none, 1 the private ones, 2 the coherent ones too. */
	readonly dev: number;
	/** Machine of the proposal's records. */
	readonly mach?: string;
	readonly steps: readonly Step[];
	/** Answer to each step. */
	readonly r: readonly Answer[];
	/** The kernel, where the record itself says so. */
	readonly profile?: ProfileName;
	/** The point of a hand-written one. */
	readonly note?: string;
}

/** A list that is written as it grows: what stands in it once as itself, more of it as `item*count`. */
export class RunText {
	private text = '';
	private item = '';
	private count = 0;

	/**
	 * Put something at the end of the list.
	 *
	 * @param item - what
	 * @param count - how often
	 */
	add(item: string, count = 1): void {
		if (item === this.item) {
			this.count += count;
			return;
		}
		this.flush();
		this.item = item;
		this.count = count;
	}

	private flush(): void {
		if (this.count === 0) return;
		if (this.text !== '') this.text += ' ';
		this.text += this.count === 1 ? this.item : `${this.item}*${this.count}`;
		this.count = 0;
	}

	/** The list; nothing is added any more. */
	toString(): string {
		this.flush();
		return this.text;
	}
}

/**
 * The text of a list.
 *
 * @param items - none is empty
 */
export function runLength(items: readonly string[]): string {
	const runs = new RunText();
	for (let i = 0; i < items.length; i++) runs.add(items[i]!);
	return runs.toString();
}

/** The list that a run-length text stands for. */
export function expandRuns(text: string): string[] {
	if (text === '') return [];
	return text.split(' ').flatMap((token) => {
		const at = token.lastIndexOf('*');
		const count = at < 0 ? Number.NaN : Number(token.slice(at + 1));
		// `-*` is a token of its own: stale pfn bits whose value is not recorded
		return at < 0 || Number.isNaN(count) || token.slice(at + 1) === ''
			? [token]
			: new Array<string>(count).fill(token.slice(0, at));
	});
}

/**
 * A step as the records write it.
 *
 * @param step - name and arguments
 */
export function stepText(step: Step): string {
	return JSON.stringify(step);
}

/** What a line of a record file must look like. */
export const scenarioShape: Shape<Scenario> = {
	expected: 'a scenario',
	check(value, path) {
		const expected = scenarioProblem(value);
		return expected === null ? null : { path, expected };
	},
};

/** What is missing; null: it is a scenario. */
function scenarioProblem(value: unknown): string | null {
	if (typeof value !== 'object' || value === null) return 'an object';
	const s = value as Partial<Scenario>;
	if (typeof s.id !== 'string' || typeof s.fam !== 'string') return 'fields "id" and "fam"';
	for (const key of ['win', 'np', 'fa', 'dev'] as const)
		if (!Number.isSafeInteger(s[key])) return `a number "${key}"`;
	if (!Array.isArray(s.steps) || !Array.isArray(s.r)) return 'lists "steps" and "r"';
	if (s.steps.length !== s.r.length) return 'as many answers as steps';
	if (!s.steps.every((step) => Array.isArray(step) && typeof step[0] === 'string'))
		return 'steps that begin with a name';
	if (!s.steps.every(hasWholeNumbers)) return 'steps whose numbers are whole';
	if (!s.r.every((answer) => typeof answer === 'object' && answer !== null))
		return 'answers that are objects';
	if (s.np! < 0 || s.np! > MOST_PAGES) return `"np" from 0 to ${MOST_PAGES}`;
	if (s.profile !== undefined && !Object.hasOwn(profiles, s.profile))
		return 'a profile that there is';
	return null;
}

/** Pages of a window of 4 GiB. */
const MOST_PAGES = 1 << 20;

/** Whether each number of a step, and of a step within it, is whole. */
function hasWholeNumbers(step: Step): boolean {
	return step.every((arg) => {
		if (Array.isArray(arg)) return hasWholeNumbers(arg as unknown as Step);
		return typeof arg !== 'number' || Number.isSafeInteger(arg);
	});
}
