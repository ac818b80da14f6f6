// SPDX-License-Identifier: GPL-2.0-only
/**
 * A part of an array of pointers: what `&list[i]` is in C, as subarray() gives it of numbers.
 *
 * Guarantee: every slice of one array shows the same pointers.
 */

/** Pointers from one place of an array on. */
export class PointerSlice<T extends object> {
	private readonly list: (T | null)[];
	private readonly first: number;

	/**
	 * @param list - the array
	 * @param first - place that index 0 is
	 */
	constructor(list: (T | null)[], first = 0) {
		this.list = list;
		this.first = first;
	}

	/**
	 * A zeroed array of pointers.
	 *
	 * @param length - how many
	 */
	static zeroed<T extends object>(length: number): PointerSlice<T> {
		return new PointerSlice<T>(new Array<T | null>(length).fill(null));
	}

	/** Pointer `index`, null beyond what was ever stored. */
	at(index: number): T | null {
		return this.list[this.first + index] ?? null;
	}

	/** Store one pointer. */
	set(index: number, pointer: T | null): void {
		this.list[this.first + index] = pointer;
	}

	/** Store the same pointer at [from, to). */
	fill(pointer: T | null, from: number, to: number): void {
		this.list.fill(pointer, this.first + from, this.first + to);
	}

	/** The part from `index` on. */
	from(index: number): PointerSlice<T> {
		return new PointerSlice<T>(this.list, this.first + index);
	}
}
