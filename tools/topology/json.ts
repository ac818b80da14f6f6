// SPDX-License-Identifier: GPL-2.0-only
/**
 * Topology files in JSON: a MachineDescription, read with the line of whatever is wrong, and written so
 * that a device is a line or two in a diff.
 */
import type { MachineDescription } from '../../arch/sim/description.ts';
import { validateDescription } from '../../arch/sim/validate.ts';
import { fillWindows } from '../../arch/sim/windows.ts';
import { TopologyError } from './error.ts';

/**
 * Read a topology in JSON.
 *
 * @param text - the file
 * @param file - its name, for messages
 * @throws TopologyError naming line and expectation
 */
export function parseJsonTopology(text: string, file: string): MachineDescription {
	const value = readJson(text, file);
	const problem = validateDescription(value);
	if (problem === null) return fillWindows(value as MachineDescription);
	const offset = new Locator(text).find(problem.path);
	const place = problem.path.length === 0 ? '' : ` (at ${formatPath(problem.path)})`;
	throw new TopologyError(file, lineAt(text, offset), problem.expected + place);
}

/**
 * The line of a value in a JSON text that is known to be well formed.
 *
 * @param text - the text
 * @param path - keys from the top
 */
export function lineOfPath(text: string, path: readonly (string | number)[]): number {
	return lineAt(text, new Locator(text).find(path));
}

/**
 * Read JSON, whatever it holds.
 *
 * @param text - the file
 * @param file - its name, for messages
 * @throws TopologyError at the line where it is no JSON
 */
export function readJson(text: string, file: string): unknown {
	try {
		return JSON.parse(text);
	} catch (error) {
		const at = syntaxErrorOffset(text, error as Error);
		const what =
			at >= text.trimEnd().length
				? 'the rest of the JSON: the file is cut off'
				: 'valid JSON';
		throw new TopologyError(file, lineAt(text, at), what);
	}
}

function formatPath(path: readonly (string | number)[]): string {
	let text = '';
	for (const key of path)
		text += typeof key === 'number' ? `[${key}]` : text ? `.${key}` : key;
	return text;
}

function lineAt(text: string, offset: number): number {
	let line = 1;
	for (let i = 0; i < offset && i < text.length; i++) if (text[i] === '\n') line++;
	return line;
}

/** JSON.parse names a position, or says that the input ended. */
function syntaxErrorOffset(text: string, error: Error): number {
	const position = /position (\d+)/.exec(error.message);
	return position === null ? text.trimEnd().length : Number(position[1]);
}

/** Finds where a value stands in JSON that is known to be well formed. */
class Locator {
	private readonly text: string;
	private at = 0;

	constructor(text: string) {
		this.text = text;
	}

	/** Offset of the value at a path, or of the deepest part of it that exists. */
	find(path: readonly (string | number)[]): number {
		this.at = 0;
		this.space();
		for (const key of path) {
			const here = this.at;
			if (!this.enter(key)) return here;
		}
		return this.at;
	}

	/** Step into an element of the value at hand. */
	private enter(key: string | number): boolean {
		const open = this.text[this.at];
		if (open !== '{' && open !== '[') return false;
		const close = open === '{' ? '}' : ']';
		this.at++;
		for (let index = 0; ; index++) {
			this.space();
			if (this.text[this.at] === close || this.at >= this.text.length)
				return false;
			let name: string | number = index;
			if (open === '{') {
				const start = this.at;
				this.skip();
				name = JSON.parse(this.text.slice(start, this.at)) as string;
				this.space();
				this.at++;
				this.space();
			}
			if (name === key) return true;
			this.skip();
			this.space();
			if (this.text[this.at] === ',') this.at++;
		}
	}

	private space(): void {
		while (' \t\r\n'.includes(this.text[this.at] ?? 'x')) this.at++;
	}

	/** Pass over one value. */
	private skip(): void {
		let depth = 0;
		do {
			this.space();
			const c = this.text[this.at] ?? '';
			if (c === '"') this.skipString();
			else if ('{['.includes(c)) depth++;
			else if ('}]'.includes(c)) depth--;
			else if (!',:'.includes(c)) this.skipWord();
			if (c !== '"' && '{}[],:'.includes(c)) this.at++;
		} while (depth > 0 && this.at < this.text.length);
	}

	private skipString(): void {
		for (this.at++; this.text[this.at] !== '"'; this.at++)
			if (this.text[this.at] === '\\') this.at++;
		this.at++;
	}

	private skipWord(): void {
		while (
			this.at < this.text.length &&
			!' \t\r\n,:{}[]"'.includes(this.text[this.at] as string)
		) {
			this.at++;
		}
	}
}

const COLUMNS = 100;
const TAB_COLUMNS = 8;

/** JSON of a value in one line. */
function flatJson(value: unknown): string {
	if (typeof value !== 'object' || value === null) return JSON.stringify(value);
	if (Array.isArray(value)) return `[${value.map(flatJson).join(', ')}]`;
	const fields = Object.entries(value)
		.filter(([, field]) => field !== undefined)
		.map(([key, field]) => `${JSON.stringify(key)}: ${flatJson(field)}`);
	return fields.length === 0 ? '{}' : `{ ${fields.join(', ')} }`;
}

/** JSON of a value, in one line where that fits after `before` columns, as the formatter lays it out. */
function layOut(value: unknown, depth: number, before: number): string {
	const flat = flatJson(value);
	const room = COLUMNS - TAB_COLUMNS * depth - before - 1;
	const short = flat.length <= room && !flat.includes('[{') && depth > 0;
	if (short || typeof value !== 'object' || value === null) return flat;
	const outer = '\t'.repeat(depth);
	const inner = `${outer}\t`;
	if (Array.isArray(value)) {
		const lines = value.map((element) => `${inner}${layOut(element, depth + 1, 0)}`);
		return `[\n${lines.join(',\n')}\n${outer}]`;
	}
	const lines = Object.entries(value)
		.filter(([, field]) => field !== undefined)
		.map(([key, field]) => {
			const name = `${JSON.stringify(key)}: `;
			return `${inner}${name}${layOut(field, depth + 1, name.length)}`;
		});
	return `{\n${lines.join(',\n')}\n${outer}}`;
}

/**
 * Write a topology as a file.
 *
 * @param description - the machine
 */
export function formatTopology(description: MachineDescription): string {
	return `${layOut(description, 0, 0)}\n`;
}
