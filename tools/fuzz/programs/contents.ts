// SPDX-License-Identifier: GPL-2.0-only
/**
 * What a page may hold, as far as a process that only knows its own calls can tell.
 *
 * Most pages hold one value. Where a call may have had one of two effects (it failed half way, the
 * kernel was allowed to drop the page) there are several, and a read decides.
 */

/** An access ends in this signal. */
export const BUS = -7;
/** An access to a guard page. */
export const SEGV = -11;

/** Values and signals that an access may give; null: anything. */
export type Contents = readonly number[] | null;

/** Contents of more values than this are not worth keeping. */
const MOST = 12;

export const zero: Contents = [0];
export const nothing: Contents = [];

/** What is in one of two. */
export function either(a: Contents, b: Contents): Contents {
	if (a === null || b === null) return null;
	if (b.length === 0 || a === b) return a;
	if (a.length === 0) return b;
	if (a.length === 1 && b.length === 1 && a[0] === b[0]) return a;
	const all = [...a];
	for (const one of b) if (!all.includes(one)) all.push(one);
	return all.length > MOST ? null : all;
}

/** Whether an access may give a value or signal. */
export function mayBe(contents: Contents, outcome: number): boolean {
	return contents === null || contents.includes(outcome);
}

/** For reports. */
export function contentsText(contents: Contents): string {
	if (contents === null) return 'anything';
	const names = contents.map((one) => {
		if (one === BUS) return 'SIGBUS';
		return one === SEGV ? 'SIGSEGV' : String(one);
	});
	return names.length === 1 ? names[0]! : `one of ${names.join(', ')}`;
}

/** Pages that several mappings share: a file, shared anonymous memory, a driver's pages. */
export class Store {
	readonly values: Contents[];
	/** Pages; an access beyond is a SIGBUS. */
	size: number;

	/** @param values - a page each */
	constructor(values: Contents[]) {
		this.values = values;
		this.size = values.length;
	}

	/** What a page holds. */
	at(index: number): Contents {
		return index >= this.size ? [BUS] : (this.values[index] ?? zero);
	}

	/** Something was stored in a page. */
	set(index: number, contents: Contents): void {
		if (index < this.size) this.values[index] = contents;
	}

	/** Cut it, or let it grow with zeros. */
	resize(size: number): void {
		for (let i = Math.min(size, this.size); i < Math.max(size, this.size); i++)
			this.values[i] = zero;
		this.size = size;
	}
}
