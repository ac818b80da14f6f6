// SPDX-License-Identifier: GPL-2.0-only
/**
 * Which files a suite is made of, kept from its last load to know whom an edit concerns.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { cache, nameOf, readJson, writeWhole } from '../bundle/cache.js';

/**
 * The modules of a suite.
 *
 * @typedef {{ suite: string, paths: string[] }} Graph
 */

const ending = '.graph.json';

/**
 * Keep what a suite was made of.
 *
 * @param {string} suite - absolute path
 * @param {string[]} paths - absolute paths of all its modules
 */
export function keepGraph(suite, paths) {
	const file = join(cache(), `${nameOf(suite)}${ending}`);
	/** @type {Graph} */
	const graph = { suite, paths: [...paths].sort() };
	if (JSON.stringify(readJson(file)) !== JSON.stringify(graph))
		writeWhole(file, JSON.stringify(graph));
}

/**
 * The suites that had a file in them when they were last loaded.
 *
 * @param {string} file - absolute path
 */
export function suitesWith(file) {
	/** @type {string[]} */
	const suites = [];
	for (const name of readdirSync(cache())) {
		if (!name.endsWith(ending)) continue;
		/** @type {Graph | null} */
		const graph = readJson(join(cache(), name));
		if (graph !== null && existsSync(graph.suite) && graph.paths.includes(file))
			suites.push(graph.suite);
	}
	return suites;
}
