// SPDX-License-Identifier: GPL-2.0-only
/** Drawing from weighted choices. */

/** Where chance comes from: fast-check's Random is one. */
export interface Source {
	/** A whole number, both ends included. */
	nextInt(min: number, max: number): number;
}

/** Choices and their weights. */
export type Weighted<T> = readonly (readonly [weight: number, value: T])[];

/** Draws. */
export class Chance {
	private readonly source: Source;

	/** @param source - numbers */
	constructor(source: Source) {
		this.source = source;
	}

	/** A whole number below `n`. */
	below(n: number): number {
		return n <= 1 ? 0 : this.source.nextInt(0, n - 1);
	}

	/** True so many times in a hundred. */
	percent(n: number): boolean {
		return this.below(100) < n;
	}

	/** One of some. */
	of<T>(values: readonly T[]): T {
		return values[this.below(values.length)]!;
	}

	/** One of some, by weight. */
	weighted<T>(choices: Weighted<T>): T {
		let left = this.below(choices.reduce((sum, [weight]) => sum + weight, 0));
		for (const [weight, value] of choices) {
			left -= weight;
			if (left < 0) return value;
		}
		return choices[0]![1];
	}
}
