// SPDX-License-Identifier: GPL-2.0-only
/** Columns of text. */

/** A column: heading, and whether its cells stand at the right. */
export interface Column {
	readonly title: string;
	readonly right?: boolean;
}

/**
 * Lay out rows without a heading, two spaces between columns.
 *
 * @param rows - cells
 * @param isRight - by column: its cells stand at the right
 * @param indent - spaces before each line
 */
export function columns(
	rows: readonly (readonly string[])[],
	isRight: readonly boolean[] = [],
	indent = 2,
): string[] {
	const widths: number[] = [];
	for (const row of rows)
		for (const [i, { length }] of row.entries())
			widths[i] = Math.max(widths[i] ?? 0, length);
	const line = (row: readonly string[]): string => {
		const cells = row.map((cell, i) =>
			isRight[i] ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0),
		);
		return `${' '.repeat(indent)}${cells.join('  ')}`.trimEnd();
	};
	return rows.map(line);
}

/**
 * Lay out a table, two spaces between columns.
 *
 * @param heads - headings
 * @param rows - cells
 * @param indent - spaces before each line
 */
export function table(
	heads: readonly Column[],
	rows: readonly (readonly string[])[],
	indent = 2,
): string[] {
	return columns(
		[heads.map(({ title }) => title), ...rows],
		heads.map(({ right }) => right === true),
		indent,
	);
}

/**
 * Break a text into lines.
 *
 * @param text - words separated by blanks
 * @param width - columns
 * @param indent - before each line
 */
export function wrap(text: string, width = 96, indent = ''): string[] {
	const lines: string[] = [];
	let line = '';
	for (const word of text.split(/\s+/)) {
		if (line !== '' && indent.length + line.length + 1 + word.length > width) {
			lines.push(indent + line);
			line = word;
		} else line = line === '' ? word : `${line} ${word}`;
	}
	if (line !== '') lines.push(indent + line);
	return lines;
}
