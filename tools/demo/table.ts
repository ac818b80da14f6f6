// SPDX-License-Identifier: GPL-2.0-only
/** Columns of text. */

/** A column: heading, and whether its cells stand at the right. */
export interface Column {
	readonly title: string;
	readonly right?: boolean;
}

/**
 * Lay out a table, two spaces between columns.
 *
 * @param columns - headings
 * @param rows - cells
 * @param indent - spaces before each line
 */
export function table(
	columns: readonly Column[],
	rows: readonly (readonly string[])[],
	indent = 2,
): string[] {
	const widths = columns.map(({ title }, i) =>
		Math.max(title.length, ...rows.map((row) => (row[i] ?? '').length)),
	);
	const line = (cells: readonly string[]): string =>
		(
			' '.repeat(indent) +
			columns
				.map(({ right }, i) => {
					const cell = cells[i] ?? '';
					return right === true
						? cell.padStart(widths[i]!)
						: cell.padEnd(widths[i]!);
				})
				.join('  ')
		).trimEnd();
	return [line(columns.map(({ title }) => title)), ...rows.map(line)];
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
