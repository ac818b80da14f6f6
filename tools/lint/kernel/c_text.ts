// SPDX-License-Identifier: GPL-2.0-only
/** C files as tokens, the preprocessor's lines apart. */

/** A `#define`. */
export interface Macro {
	readonly name: string;
	/** null: it takes none. */
	readonly parameters: readonly string[] | null;
	/** Tokens. */
	readonly body: readonly string[];
}

/** A file, read. */
export interface CText {
	readonly macros: readonly Macro[];
	/** Without comments and directives; a brace in column 0 is `^{` or `^}`. */
	readonly tokens: readonly string[];
}

const commentOrLiteral = /\/\*[\s\S]*?\*\/|\/\/.*|"(?:\\.|[^"\\\n])*"|'(?:\\[^'\n]+|[^'\\\n])'/g;
const directive = /^[ \t]*#[ \t]*(?:define[ \t]+(\w+)(\([^)]*\))?(.*)|.*)$/gm;
const token = /^[{}]|[A-Za-z_]\w*|\d[\w.]*|##|[^\s\w]/gm;

/**
 * Split a C file.
 *
 * All branches of `#if` are kept: what a file has does not hang on a configuration.
 *
 * @param text - the file
 */
export function readC(text: string): CText {
	const macros: Macro[] = [];
	const plain = text
		.replace(/\\\r?\n/g, ' ')
		.replace(commentOrLiteral, (found) => (found.startsWith('/') ? ' ' : '""'));
	const code = plain.replace(directive, (_, name?: string, list?: string, body?: string) => {
		if (name !== undefined)
			macros.push({
				name,
				parameters: list === undefined ? null : parameters(list),
				body: tokensOf(body ?? ''),
			});
		return '';
	});
	return { macros, tokens: tokensOf(code) };
}

function parameters(list: string): string[] {
	const names = list.slice(1, -1).split(',');
	return names.map((one) => one.trim().replace(/^\.\.\.$|\.\.\.$/, '__VA_ARGS__'));
}

function tokensOf(code: string): string[] {
	const found: string[] = [];
	for (const { 0: text, index } of code.matchAll(token)) {
		const isBrace = text === '{' || text === '}';
		const isFirst = index > 0 && code[index - 1] === '\n';
		found.push(isBrace && isFirst ? `^${text}` : text);
	}
	return found;
}

/**
 * What a call of a macro stands for.
 *
 * @param macro - one with parameters
 * @param args - tokens of each argument
 */
export function expand(macro: Macro, args: readonly (readonly string[])[]): string[] {
	const names = macro.parameters ?? [];
	const out: string[] = [];
	let pastes = false;
	for (const one of macro.body) {
		if (one === '##') {
			pastes = true;
			continue;
		}
		const at = names.indexOf(one);
		const rest = one === '__VA_ARGS__' ? args.slice(at).flat() : (args[at] ?? []);
		const [first, ...others] = at < 0 ? [one] : rest;
		// an empty argument pastes nothing: what follows is pasted to what was before
		if (first === undefined) continue;
		out.push(pastes ? `${out.pop() ?? ''}${first}` : first);
		for (const other of others) out.push(other);
		pastes = false;
	}
	return out;
}
