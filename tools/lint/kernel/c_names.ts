// SPDX-License-Identifier: GPL-2.0-only
/**
 * The names that a C file has at its outermost level: functions, macros, types, constants, variables.
 *
 * It is no parser of C: it looks at each statement between two ends (`;` or a body) and says which
 * name that statement is about. The kernel makes many functions by macros that paste names
 * (`PAGEFLAG(Locked, locked, PF_NO_TAIL)` makes folio_test_locked()): those are expanded.
 */
import { type CText, expand, type Macro } from './c_text.ts';

/** What a file has. */
export interface Names {
	readonly defined: ReadonlySet<string>;
	/** Prototypes and `extern` alone. */
	readonly declared: ReadonlySet<string>;
}

/** A statement's part: a token, or what stands in round brackets. */
type Part = string | readonly string[];

/** Tokens that the macros called in one file may make; those of variants of variants make more. */
const expansionMax = 200_000;

const word = /^[A-Za-z_]\w*$/;
/** What may stand before a macro that makes a whole function. */
const storage = new Set(['static', 'inline', 'extern', '__always_inline', '__maybe_unused']);
/** Says of a name of another place that modules may use it. */
const exporting = /^EXPORT_SYMBOL/;
/** Attributes of data, which are no names. */
const dataAttributes =
	/^__(aligned|cacheline_\w+|data_racy|init\w*|latent_entropy|maybe_unused|packed|percpu|private|randomize_layout|rcu|read_mostly|refdata|ro_after_init|section|used|user|visible|weak)$/;
/** Attributes with brackets, which are no functions. */
const attributes =
	/^(__attribute__|__printf|__scanf|__aligned|__section|__acquires|__releases|__must_hold|__alloc_size|__realloc_size|__guarded_by|typeof|__no_context_analysis|asm|defined)$/;

/** Tokens of a file, with those that an expansion puts before. */
class Stream {
	/** The innermost last; with the macro whose expansion it is. */
	readonly stack: { tokens: readonly string[]; macro: string | null; at: number }[];

	constructor(tokens: readonly string[]) {
		this.stack = [{ tokens, macro: null, at: 0 }];
	}

	next(): string | null {
		for (;;) {
			const top = this.stack.at(-1);
			if (top === undefined) return null;
			const one = top.tokens[top.at++];
			if (one !== undefined) return one;
			this.stack.pop();
		}
	}

	/** As in C, a macro is not expanded inside its own expansion. */
	isExpanding(macro: string): boolean {
		return this.stack.some((one) => one.macro === macro);
	}

	push(tokens: readonly string[], macro: string): void {
		this.stack.push({ tokens, macro, at: 0 });
	}

	/** What stands before the bracket that closes the one just read; `,` separates. */
	group(): string[] {
		const inner: string[] = [];
		for (let depth = 1; ; ) {
			const one = this.next();
			if (one === '(') depth++;
			else if (one === ')') depth--;
			// unbalanced, by an #if: the function's end is one whatever came before
			if (one === null || one === '^}' || depth === 0) return inner;
			inner.push(one);
		}
	}

	/** The same for braces. */
	block(): string[] {
		const inner: string[] = [];
		for (let depth = 1; ; ) {
			const one = this.next();
			if (one === '{' || one === '^{') depth++;
			else if (one === '}') depth--;
			if (one === null || one === '^}' || depth === 0) return inner;
			inner.push(one);
		}
	}
}

/**
 * The names of a file.
 *
 * @param text - the file
 * @param macros - those of the headers, all of a name; the file's own come first
 */
export function namesOf(text: CText, macros: ReadonlyMap<string, readonly Macro[]>): Names {
	const own = byName(text.macros);
	const defined = new Set(own.keys());
	const declared = new Set<string>();
	const stream = new Stream(text.tokens);
	let budget = expansionMax;
	let parts: Part[] = [];
	const end = (hasBody: boolean) => {
		nameStatement(parts, hasBody, defined, declared);
		parts = [];
	};
	for (let one = stream.next(); one !== null; one = stream.next()) {
		if (one === ';') end(false);
		else if (one === '(') {
			const inner = stream.group();
			const name = calledName(parts);
			const called =
				name === null ? [] : (own.get(name) ?? macros.get(name) ?? []);
			const bodies = called.filter(makesNames);
			const isDone = budget < 0 || stream.isExpanding(name ?? '');
			if (name !== null && bodies.length > 0 && !isDone) {
				if (name.startsWith('SYSCALL_DEFINE'))
					defined.add(`sys_${inner[0]}`);
				const args = argumentsOf(inner);
				const text = bodies.flatMap((macro) => [
					...expand(macro, args),
					' ',
				]);
				budget -= text.length;
				stream.push(text, name);
				parts = [];
			} else parts.push(inner);
		} else if (one === '{' || one === '^{') {
			const inner = stream.block();
			if (isFunction(parts)) end(true);
			else {
				if (parts.includes('enum'))
					for (const constant of enumNames(inner))
						defined.add(constant);
				nameTag(parts, defined);
				parts.push([]);
			}
		} else if (one === '^}' || one === '}') parts = [];
		else if (one !== ' ') parts.push(one);
	}
	return { defined, declared };
}

/**
 * Macros by name.
 *
 * @param macros - in any order; a name may have several, for several configurations
 */
export function byName(macros: readonly Macro[]): Map<string, Macro[]> {
	const all = new Map<string, Macro[]>();
	for (const one of macros) {
		const same = all.get(one.name);
		if (same === undefined) all.set(one.name, [one]);
		else same.push(one);
	}
	return all;
}

/**
 * Whether a macro may stand for a statement: it pastes names, calls another first of all, or begins
 * as a declaration does.
 */
function makesNames({ parameters, body }: Macro): boolean {
	const [first = '', second] = body;
	return (
		parameters !== null &&
		(body.includes('##') || second === '(' || isTagKind(first) || storage.has(first))
	);
}

function isTagKind(part: Part | undefined): boolean {
	return part === 'struct' || part === 'union' || part === 'enum';
}

/** The name that a statement begins with, its brackets just read; null: something is before it. */
function calledName(parts: readonly Part[]): string | null {
	const name = parts.at(-1);
	const before = parts.slice(0, -1);
	const isFirst = before.every((one) => typeof one === 'string' && storage.has(one));
	return isFirst && typeof name === 'string' && !exporting.test(name) ? name : null;
}

function argumentsOf(inner: readonly string[]): string[][] {
	const args: string[][] = [[]];
	let depth = 0;
	for (const one of inner) {
		if (one === '(' || one === '{') depth++;
		else if (one === ')' || one === '}') depth--;
		if (one === ',' && depth === 0) args.push([]);
		else args.at(-1)?.push(one);
	}
	return args;
}

function enumNames(inner: readonly string[]): string[] {
	return argumentsOf(inner).flatMap(([first = '']) => (word.test(first) ? [first] : []));
}

/** Where the name of what has brackets stands; -1: nowhere. */
function functionAt(parts: readonly Part[]): number {
	return parts.findIndex((one, i) => {
		if (typeof one !== 'string' || !word.test(one) || attributes.test(one))
			return false;
		const before = parts[i - 1];
		const isTyped =
			before === '*' ||
			(typeof before === 'string' && word.test(before) && !isTagKind(before));
		return Array.isArray(parts[i + 1]) && isTyped;
	});
}

function isFunction(parts: readonly Part[]): boolean {
	return !parts.includes('=') && functionAt(parts) >= 0;
}

/** `struct x {`: x. */
function nameTag(parts: readonly Part[], defined: Set<string>): void {
	if (parts.includes('=')) return;
	const at = parts.findIndex(isTagKind);
	const name = parts
		.slice(at + 1)
		.find(
			(one) =>
				typeof one === 'string' &&
				word.test(one) &&
				!dataAttributes.test(one),
		);
	const plain = name ?? parts.at(-1);
	if (at >= 0 && typeof plain === 'string' && plain !== parts[at]) defined.add(plain);
}

function nameStatement(
	parts: readonly Part[],
	hasBody: boolean,
	defined: Set<string>,
	declared: Set<string>,
): void {
	if (parts[0] === 'typedef') {
		const pointer = parts.find((one) => Array.isArray(one) && one[0] === '*');
		const name = pointer?.[1] ?? variableOf(parts);
		if (name !== null && name !== undefined) defined.add(name);
		return;
	}
	const at = parts.includes('=') ? -1 : functionAt(parts);
	if (at >= 0) (hasBody ? defined : declared).add(parts[at] as string);
	else {
		const name = variableOf(parts);
		// "struct x;" says nothing, "CALL(x);" makes nothing
		const isForward = parts.length === 2 && isTagKind(parts[0]);
		const isOther = isForward || parts[0] === name;
		if (name !== null && !isOther)
			(parts[0] === 'extern' ? declared : defined).add(name);
	}
}

/** The name before `=`, `[` or the end. */
function variableOf(parts: readonly Part[]): string | null {
	const end = parts.findIndex((one) => one === '=' || one === '[' || one === ':');
	const before = (end < 0 ? parts : parts.slice(0, end)).filter(
		(one): one is string => typeof one === 'string' && word.test(one),
	);
	return before.findLast((one) => !dataAttributes.test(one)) ?? null;
}
