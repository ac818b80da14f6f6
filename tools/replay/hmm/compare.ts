// SPDX-License-Identifier: GPL-2.0-only
/**
 * Whether an answer is the recorded one.
 *
 * Records have a page table or a list of VMAs only where it changed; here the whole state is compared
 * after each step. Letters that few models have (x and d of a pte, A and a of a VMA) are compared
 * apart.
 */
import type { Mismatch } from '../report.ts';
import { type Answer, expandRuns, type Step, stepText } from './record.ts';

/** Page table and VMAs of an address space. */
export interface SpaceState {
	pt: string;
	vma: string;
}

/** Fields that are lists with an entry a page. */
const perPage = new Set(['pt', 'f', 's', 'w', 'a']);
/** Fields that are compared as state, or are no answer. */
const aside = new Set(['pt', 'vma', 'c', 'note']);

const plainPt = (text: string): string => text.replace(/[xd]/g, '');
const plainVma = (text: string): string =>
	text.replace(/:(\S*)/g, (flags) => flags.replace(/[Aa]/g, ''));

/** Collects what differs in one step. */
export class StepComparison {
	readonly mismatches: Mismatch[] = [];
	/** Differences in the letters that are compared apart. */
	readonly strict: Mismatch[] = [];
	private readonly step: { readonly number: number; readonly what: Step };

	/**
	 * @param number - of the step
	 * @param what - the step
	 */
	constructor(number: number, what: Step) {
		this.step = { number, what };
	}

	/** Number and text of the step; made only when something differs. */
	private get title(): string {
		return `${this.step.number} ${stepText(this.step.what)}`;
	}

	/**
	 * Compare the state of an address space.
	 *
	 * @param of - whose, as a prefix of the field
	 * @param expected - recorded
	 * @param got - the model's
	 */
	space(of: string, expected: SpaceState, got: SpaceState): void {
		this.apart(`${of}pt`, expected.pt, got.pt, plainPt);
		this.apart(`${of}vma`, expected.vma, got.vma, plainVma);
	}

	private apart(
		field: string,
		expected: string,
		got: string,
		plain: (text: string) => string,
	): void {
		if (expected === got) return;
		const [e, g] = [plain(expected), plain(got)];
		if (this.pages(this.mismatches, field, e, g)) return;
		this.pages(this.strict, field, expected, got);
	}

	/** Add what differs in two run-length texts, a run of pages a line; whether anything does. */
	private pages(to: Mismatch[], field: string, expected: string, got: string): boolean {
		if (expected === got) return false;
		const [e, g] = [expandRuns(expected), expandRuns(got)];
		let differs = false;
		for (let i = 0; i < Math.max(e.length, g.length); ) {
			let end = i + 1;
			while (
				end < Math.max(e.length, g.length) &&
				e[end] === e[i] &&
				g[end] === g[i]
			)
				end++;
			if (e[i] !== g[i]) {
				differs = true;
				const where = end - i === 1 ? `page ${i}` : `pages ${i}-${end - 1}`;
				to.push({
					step: `${this.title} ${field} ${where}`,
					expected: e[i],
					got: g[i],
				});
			}
			i = end;
		}
		return differs;
	}

	/**
	 * Compare the fields of an answer.
	 *
	 * @param of - prefix of the fields
	 * @param expected - recorded
	 * @param got - the model's
	 * @param besides - more fields of it; null: none
	 * @param inv - its field `inv`; empty: it has none
	 */
	fields(
		of: string,
		expected: Answer,
		got: Answer,
		besides: Answer | null = null,
		inv: readonly unknown[] = [],
	): void {
		const value = (field: string): unknown => {
			if (field === 'inv' && inv.length > 0) return inv;
			return besides !== null && field in besides ? besides[field] : got[field];
		};
		for (const field in expected) this.field(of, field, expected[field], value(field));
		const more = (field: string): void => {
			if (expected[field] === undefined)
				this.field(of, field, undefined, value(field));
		};
		for (const field in got) more(field);
		if (besides !== null) for (const field in besides) more(field);
		if (inv.length > 0) more('inv');
	}

	private field(of: string, field: string, expected: unknown, got: unknown): void {
		// most are the same number, text or list
		if (isSame(expected, got) || aside.has(field)) return;
		const e = normal(field, expected);
		const g = normal(field, got);
		if (perPage.has(field) && typeof e === 'string' && typeof g === 'string')
			this.pages(this.mismatches, of + field, e, g);
		else if (JSON.stringify(e) !== JSON.stringify(g))
			this.mismatches.push({
				step: `${this.title} ${of}${field}`,
				expected: e,
				got: g,
			});
	}
}

/** Whether two values are the same as they stand: plain ones, or lists of them. */
function isSame(a: unknown, b: unknown): boolean {
	if (a === b) return true;
	if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false;
	for (let i = 0; i < a.length; i++) if (!isSame(a[i], b[i])) return false;
	return true;
}

/** A value in the one form that it is compared in. */
function normal(field: string, value: unknown): unknown {
	if (field === 'inv') return expandInvalidations(value as number[][] | undefined);
	if (field === 'cls' && Array.isArray(value)) return renumber(value as number[]);
	return value;
}

/** `[event, start, end, owner, count]` is `count` invalidations, each a page further. */
function expandInvalidations(list: readonly number[][] = []): number[][] {
	return list.flatMap(([event = 0, start = 0, end = 0, owner = 0, count = 1]) =>
		Array.from({ length: count }, (_, i) => [event, start + i, end + i, owner]),
	);
}

/** Classes numbered by their first page. */
function renumber(classes: readonly number[]): number[] {
	const names = new Map<number, number>();
	return classes.map((one) => {
		if (one < 0) return -1;
		if (!names.has(one)) names.set(one, names.size);
		return names.get(one)!;
	});
}
