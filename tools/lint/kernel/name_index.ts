// SPDX-License-Identifier: GPL-2.0-only
/**
 * In which files of which release a name of the kernel is: what `kernel-names.tsv` holds.
 *
 * Its first line names the releases, the oldest first. Each other line is a name, or the path of a
 * file, and for each release the files that have it; `-` is none, and one column alone holds for all.
 * Only what a @kernel tag of this tree speaks of is in it. `kproto lint --kernel DIR` makes it from the kernel's sources.
 */
import { readFileSync } from 'node:fs';

/** Where one name is: files, for each release in the order of the index. */
export type Places = readonly (readonly string[])[];

/** The index. */
export interface NameIndex {
	/** The oldest first, as `v6.12`. */
	readonly releases: readonly string[];
	/** Names, and paths of files. */
	readonly places: ReadonlyMap<string, Places>;
}

const none = '-';

/** The index of this tree. */
export const indexFile = new URL('./kernel-names.tsv', import.meta.url);

/**
 * Read the index of this tree.
 */
export function readNameIndex(): NameIndex {
	return parseNameIndex(readFileSync(indexFile, 'utf8'));
}

/**
 * An index from its text.
 *
 * @param text - as formatNameIndex() makes it
 */
export function parseNameIndex(text: string): NameIndex {
	const [head = '', ...lines] = text.trimEnd().split('\n');
	const [, ...releases] = head.split('\t');
	const places = lines.map((line): [string, Places] => {
		const [name = '', ...columns] = line.split('\t');
		const files = releases.map((_, i) => columns[i] ?? columns[0] ?? none);
		return [name, files.map((one) => (one === none ? [] : one.split(' ')))];
	});
	return { releases, places: new Map(places) };
}

/**
 * An index as text, one name a line.
 *
 * @param index - the index
 */
export function formatNameIndex({ releases, places }: NameIndex): string {
	const lines = [...places].map(([name, columns]) => {
		const files = columns.map((one) => one.join(' ') || none);
		const isSame = files.every((one) => one === files[0]);
		return [name, ...(isSame ? files.slice(0, 1) : files)].join('\t');
	});
	return `${[['name', ...releases].join('\t'), ...lines.sort()].join('\n')}\n`;
}
