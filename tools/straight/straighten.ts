// SPDX-License-Identifier: GPL-2.0-only
/**
 * The source of a kernel module, for a kernel in which one thread runs at a time and to its end.
 *
 * Kernel code is written so that it can be left at each schedule point: functions that can be are
 * generators, called with `yield*`. Where nobody looks for interleavings that costs several times what
 * the code itself does. A module in straight form does the same without: each such function is a plain
 * one, each such call a plain call.
 *
 * | source | straight form |
 * | --- | --- |
 * | `function* f(…)`, `*f(…) {`, `function* (…)` | `function f(…)`, `f(…) {`, `function (…)` |
 * | `yield* f(…)` | `f(…)` |
 * | `yield point` | `passPoint(point)` |
 * | `run(f(…), as)` | `run(() => f(…), as)` |
 *
 * The last keeps the call where it was: a generator begins to run inside of run(), as the task that
 * run() installs. A generator whose type is another than `Sim` is an iterator and stays what it is.
 *
 * Guarantee: no line moves. Tokens are replaced where they stand, so that a stack trace names the lines
 * of the source.
 */
import jsTokens from 'js-tokens';

/** A piece of source. */
interface Piece {
	readonly type: string;
	text: string;
}

const blank: ReadonlySet<string> = new Set([
	'WhiteSpace',
	'LineTerminatorSequence',
	'MultiLineComment',
	'SingleLineComment',
]);

const opening = '([{';
const closing = ')]}';

/** The pieces of one module. */
class Source {
	readonly pieces: Piece[];
	/** Which pieces mean something. */
	private readonly at: number[] = [];

	constructor(text: string) {
		this.pieces = Array.from(jsTokens(text), ({ type, value }) => ({
			type,
			text: value,
		}));
		for (const [i, { type }] of this.pieces.entries())
			if (!blank.has(type)) this.at.push(i);
	}

	get length(): number {
		return this.at.length;
	}

	/** The text of the i-th token; empty: there is none. */
	text(i: number): string {
		const at = this.at[i];
		return at === undefined ? '' : this.pieces[at]!.text;
	}

	isName(i: number): boolean {
		const at = this.at[i];
		if (at === undefined) return false;
		const { type } = this.pieces[at]!;
		return type === 'IdentifierName' || type === 'PrivateIdentifier';
	}

	/** Put another text in the place of a token. */
	replace(i: number, text: string): void {
		this.pieces[this.at[i]!]!.text = text;
	}

	/** Number of the bracket that closes the one at i. */
	close(i: number): number {
		let depth = 0;
		for (let k = i; k < this.length; k++) {
			const text = this.text(k);
			if (isBracket(text, opening)) depth++;
			else if (isBracket(text, closing) && --depth === 0) return k;
		}
		throw new Error('a bracket is not closed');
	}

	/** Number of the token before which the expression that begins at i ends. */
	end(i: number): number {
		let k = i;
		while (k < this.length) {
			const text = this.text(k);
			if (isBracket(text, opening)) k = this.close(k) + 1;
			else if (text === ';' || text === ',' || isBracket(text, closing)) return k;
			else k++;
		}
		return k;
	}

	toString(): string {
		return this.pieces.map(({ text }) => text).join('');
	}
}

function isBracket(text: string, of: string): boolean {
	return text.length === 1 && of.includes(text);
}

/** What stands before a statement. */
const statementBefore: ReadonlySet<string> = new Set([';', '{', '}', ')', 'else']);

const memberBefore: ReadonlySet<string> = new Set([
	'{',
	'}',
	',',
	';',
	'static',
	'override',
	'private',
	'protected',
	'public',
]);

/** Whether the type that begins at token i is an iterator's: what it yields is for a `for` loop. */
function isIteratorType(source: Source, i: number): boolean {
	return source.text(i) === ':' && source.text(i + 1) !== 'Sim';
}

/**
 * Number of the token behind the head of a generator whose `*` is token i: behind its parameters.
 */
function behindParameters(source: Source, i: number): number {
	let k = i + 1;
	while (source.text(k) !== '(') k++;
	return source.close(k) + 1;
}

/** Number of the token behind an iterator whose `*` is token i. */
function behindIterator(source: Source, i: number): number {
	let k = behindParameters(source, i);
	// what is between angle brackets is its type, and may have braces
	for (let depth = 0; depth > 0 || source.text(k) !== '{'; k++) {
		const text = source.text(k);
		if (/^<+$/.test(text)) depth += text.length;
		else if (/^>+$/.test(text)) depth -= text.length;
	}
	return source.close(k) + 1;
}

/** Whether a module has `run` from the scheduler. */
const drives = /\bimport\s*\{[^}]*\brun\b[^}]*\}\s*from\s*'[^']*\/sched\/core\.ts'/;

/** A module on its way to its straight form. */
class Straightening {
	private readonly source: Source;
	private readonly drives: boolean;
	/** Tokens before which a passPoint() ends. */
	private readonly ends: number[] = [];
	hasPoints = false;
	/** Functions that are generators. */
	readonly generators: string[] = [];
	/** Functions that are called for nothing but what they do. */
	readonly bareCalls = new Set<string>();

	constructor(text: string) {
		this.source = new Source(text);
		this.drives = drives.test(text);
	}

	toString(): string {
		return this.source.toString();
	}

	go(): void {
		const { source } = this;
		for (let i = 0; i < source.length; ) {
			for (; this.ends.at(-1) === i; this.ends.pop())
				source.replace(i, `)${source.text(i)}`);
			i = this.token(i);
		}
	}

	/** @returns number of the next token to look at */
	private token(i: number): number {
		const { source } = this;
		const text = source.text(i);
		if (text === '*') return this.star(i);
		if (!source.isName(i) || /^\??\.$/.test(source.text(i - 1))) return i + 1;
		if (text === 'yield') return this.yield(i);
		if (this.isBareCall(i)) this.bareCalls.add(text);
		if (text === 'run' && this.drives && source.text(i + 1) === '(')
			source.replace(i + 1, '(() => ');
		return i + 1;
	}

	/** Whether a statement begins at token i that is a call and no more. */
	private isBareCall(i: number): boolean {
		const { source } = this;
		if (source.text(i + 1) !== '(' || !statementBefore.has(source.text(i - 1)))
			return false;
		return source.text(source.close(i + 1) + 1) === ';';
	}

	private star(i: number): number {
		const { source } = this;
		const before = source.text(i - 1);
		const isComputed = source.text(i + 1) === '[';
		const isGenerator =
			before === 'function' ||
			(memberBefore.has(before) && (isComputed || source.isName(i + 1)));
		if (!isGenerator) return i + 1;
		if (isComputed || isIteratorType(source, behindParameters(source, i)))
			return behindIterator(source, i);
		if (before === 'function' && source.isName(i + 1))
			this.generators.push(source.text(i + 1));
		source.replace(i, '');
		return i + 1;
	}

	private yield(i: number): number {
		const { source } = this;
		if (source.text(i + 1) === '*') {
			source.replace(i, '');
			source.replace(i + 1, '');
			return i + 2;
		}
		source.replace(i, 'passPoint(');
		this.ends.push(source.end(i + 1));
		this.hasPoints = true;
		return i + 1;
	}
}

/** A module in straight form, and what is known of its calls. */
export interface StraightModule {
	readonly text: string;
	/** Functions of it that are generators. */
	readonly generators: readonly string[];
	/** Functions that it calls for what they do, without `yield*`. */
	readonly bareCalls: readonly string[];
	/** What it imports, and what it exports of others (`*`: all), with where from. */
	readonly imports: readonly Link[];
	readonly exports: readonly Link[];
}

/** A name, and the module that it is of, as written. */
export type Link = readonly [name: string, from: string];

/** The names of all `import {…} from` or `export {…} from` of a text. */
function links(text: string, word: 'import' | 'export'): Link[] {
	const all = new RegExp(`^${word} (?:type )?(?:\\{([^}]*)\\}|(\\*)) from '([^']+)'`, 'gm');
	return [...text.matchAll(all)].flatMap(([, names = '', star, from = '']) =>
		star === undefined
			? (names.match(/\w+/g) ?? []).map((name): Link => [name, from])
			: [['*', from]],
	);
}

/**
 * The straight form of a module.
 *
 * @param text - TypeScript, formatted as the house does
 * @param bodies - from where passPoint() is imported
 */
export function straighten(text: string, bodies: string): StraightModule {
	const module = new Straightening(text);
	module.go();
	const straight = module.toString();
	const points = `import { passPoint } from ${JSON.stringify(bodies)}; `;
	return {
		text: (module.hasPoints ? points : '') + straight,
		generators: module.generators,
		bareCalls: [...module.bareCalls],
		imports: links(text, 'import'),
		exports: links(text, 'export'),
	};
}
