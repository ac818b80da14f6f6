// SPDX-License-Identifier: GPL-2.0-only
/**
 * The folder in which tools keep what they made of the sources, and how one tells whether it is still
 * true.
 */
import { createHash } from 'node:crypto';
import {
	mkdirSync,
	readFileSync,
	realpathSync,
	renameSync,
	statSync,
	writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The root of the tree. */
export const root = fileURLToPath(new URL('../..', import.meta.url));

/** @type {string | null} */
let folder = null;

/**
 * The folder; it is made if it is not there. Its real name: Node looks for sources from there, and so
 * must esbuild.
 *
 * @throws {Error} it can't be made: the tree is somebody else's
 */
export function cache() {
	if (folder !== null) return folder;
	const path = join(root, 'node_modules/.cache/kproto');
	mkdirSync(path, { recursive: true });
	folder = realpathSync(path);
	return folder;
}

/**
 * What of a file changes with every edit.
 *
 * @param {string} path
 * @returns {string} `0 0` for a file that is not there
 */
export function stamp(path) {
	const { ctimeMs, size } = statSync(path, { throwIfNoEntry: false }) ?? {
		ctimeMs: 0,
		size: 0,
	};
	return `${ctimeMs} ${size}`;
}

/**
 * The first half of the name under which something about a file is kept.
 *
 * @param {string} path - absolute path
 */
export function nameOf(path) {
	return createHash('sha1').update(path).digest('hex').slice(0, 12);
}

/**
 * What JSON a file holds.
 *
 * @param {string} path
 * @returns {any} null where it is not there or is cut off
 */
export function readJson(path) {
	try {
		return JSON.parse(readFileSync(path, 'utf8'));
	} catch {
		return null;
	}
}

/**
 * Write under the name only when all is there: two processes may write the same file.
 *
 * @param {string} path
 * @param {string | Uint8Array} data
 */
export function writeWhole(path, data) {
	const draft = `${path}.${process.pid}`;
	writeFileSync(draft, data);
	renameSync(draft, path);
}
