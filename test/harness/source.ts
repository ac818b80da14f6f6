// SPDX-License-Identifier: GPL-2.0-only
/**
 * The source text of a call's arguments: what C gets from the preprocessor's `#expr`.
 *
 * Mechanism: the stack gives file and line of the call; the file is read once and its tokens are
 * walked to the matching bracket. Only failures come here, so nothing of it costs a passing test.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import jsTokens from 'js-tokens';

/** A place in the tree. */
export interface Place {
	/** Absolute path. */
	readonly file: string;
	/** Path below the tree's root. */
	readonly path: string;
	readonly line: number;
	readonly column: number;
}

const root = fileURLToPath(new URL('../../', import.meta.url));
const harnessPaths = /^test\/(?:harness\/|kselftest_harness\.ts)/;

/**
 * The frames of a stack that are in the tree but not in the harness, innermost first.
 *
 * @param stack - an Error's `stack`
 */
export function treePlaces(stack: string): Place[] {
	const places: Place[] = [];
	for (const row of stack.split('\n')) {
		const match = /(?:\(|at (?:async )?)(?:file:\/\/)?(\/[^()]*?):(\d+):(\d+)\)?$/.exec(
			row,
		);
		if (match === null) continue;
		const [, file = '', line = '', column = ''] = match;
		if (!file.startsWith(root) || file.includes('/node_modules/')) continue;
		const path = file.slice(root.length);
		if (harnessPaths.test(path)) continue;
		places.push({ file, path, line: Number(line), column: Number(column) });
	}
	return places;
}

/**
 * The arguments of the call of `callee` at `place`, as written.
 *
 * @param place - a position in the line where the call begins
 * @param callee - name of the called function
 * @returns null when the source is not there or has no such call
 */
export function argumentTexts(place: Place, callee: string): string[] | null {
	let source: string;
	try {
		source = readFileSync(place.file, 'utf8');
	} catch {
		return null;
	}
	const lines = source.split('\n');
	const row = lines[place.line - 1] ?? '';
	const call = `${callee}(`;
	let at = row.lastIndexOf(call, place.column - 1);
	if (at < 0) at = row.indexOf(call);
	if (at < 0) return null;
	const rest = [row.slice(at + call.length), ...lines.slice(place.line)].join('\n');
	return splitArguments(rest);
}

/** The arguments up to the bracket that closes the call, `rest` beginning after the opening one. */
function splitArguments(rest: string): string[] | null {
	const texts: string[] = [];
	let text = '';
	let depth = 0;
	for (const { type, value } of jsTokens(rest)) {
		if (value === ')' && depth === 0) {
			if (text.trim() !== '') texts.push(text.trim());
			return texts;
		}
		if (value === ',' && depth === 0) {
			texts.push(text.trim());
			text = '';
			continue;
		}
		if (value === '(' || value === '[' || value === '{') depth++;
		if (value === ')' || value === ']' || value === '}') depth--;
		if (type === 'SingleLineComment' || type === 'MultiLineComment') continue;
		if (type === 'TemplateHead') depth++;
		if (type === 'TemplateTail') depth--;
		const blank = type === 'WhiteSpace' || type === 'LineTerminatorSequence';
		if (!blank) text += value;
		else if (!text.endsWith(' ')) text += ' ';
	}
	return null;
}
