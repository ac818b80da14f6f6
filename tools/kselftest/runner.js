// SPDX-License-Identifier: GPL-2.0-only
/**
 * vitest's runner, with each suite loaded as one bundle.
 *
 * It is JavaScript, as what it imports, because a worker loads it with nothing there that could read
 * TypeScript.
 */
import { pathToFileURL } from 'node:url';
import { TestRunner } from 'vitest';
import { bundle } from './bundle.js';

process.setSourceMapsEnabled(true);

// A worker whose program has gone has nobody to tell, and would wait for ever.
process.once('disconnect', () => process.kill(process.pid, 'SIGKILL'));

/** The runner that the configuration names. */
export default class BundlingRunner extends TestRunner {
	/**
	 * @param {string} filepath
	 * @param {Parameters<TestRunner['importFile']>[1]} source
	 * @override
	 */
	async importFile(filepath, source) {
		if (source !== 'collect') return super.importFile(filepath, source);
		return import(pathToFileURL(await bundle(filepath)).href);
	}
}
