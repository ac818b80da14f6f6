// SPDX-License-Identifier: GPL-2.0-only
/**
 * Node's module loader hook of the mutants.
 *
 * Guarantee: the files of the edits are loaded with them, all others as they are; a text that does not
 * occur just once ends the process.
 * Mechanism: it is registered before the TypeScript loader, which so asks it for the text of each
 * file; that loader's cache goes by the text, so a mutant is never taken for the file without it.
 */

/** @typedef {import('./mutant.ts').Edit} Edit */

const root = new URL('../../../', import.meta.url).href;

/** @type {readonly Edit[]} */
let edits = [];

/**
 * Make an edit.
 *
 * @param {string} source text of the file
 * @param {Edit} edit the edit
 * @throws Error its text does not occur, or more than once
 */
export function applyEdit(source, edit) {
	const parts = source.split(edit.old);
	if (parts.length === 2) return parts.join(edit.new);
	throw new Error(`${edit.file} has this text ${parts.length - 1} times: ${edit.old}`);
}

/** @param {readonly Edit[]} data */
export function initialize(data) {
	edits = data;
}

/** @type {import('node:module').LoadHook} */
export async function load(url, context, nextLoad) {
	const loaded = await nextLoad(url, context);
	const [path] = /** @type {[string]} */ (url.split('?'));
	const mine = edits.filter(({ file }) => path === root + file);
	if (mine.length === 0) return loaded;
	return { ...loaded, source: mine.reduce(applyEdit, String(loaded.source)) };
}
