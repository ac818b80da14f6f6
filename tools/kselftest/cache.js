// SPDX-License-Identifier: GPL-2.0-only
/**
 * The folder in which the test run keeps what it made of the sources, and how one tells whether it is
 * still true.
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

/** The folder; it is there. Its real name: Node looks for sources from there, and so must esbuild. */
export const cache = folder(join(root, 'node_modules/.cache/kselftest'));

/** @param {string} path */
function folder(path) {
	mkdirSync(path, { recursive: true });
	return realpathSync(path);
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
