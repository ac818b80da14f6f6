// SPDX-License-Identifier: GPL-2.0-only
/**
 * vitest's runner, with each suite loaded as one bundle; in a run that watches, as scripts.
 *
 * It is JavaScript, as what it imports, because a worker loads it with nothing there that could read
 * TypeScript.
 */
import { pathToFileURL } from 'node:url';
import { TestRunner } from 'vitest';
import { bundle } from '../bundle/bundle.js';
import { keepGraph } from './graph.js';
import { Scripts } from './scripts.js';

process.setSourceMapsEnabled(true);

// A worker whose program has gone has nobody to tell, and would wait for ever.
process.once('disconnect', () => process.kill(process.pid, 'SIGKILL'));

/** The scripts of a worker in a run that watches. */
export const scripts = process.env['KSELFTEST_WATCH'] ? new Scripts() : null;

/** The runner that the configuration names. */
export default class BundlingRunner extends TestRunner {
	/**
	 * @param {string} filepath
	 * @param {Parameters<TestRunner['importFile']>[1]} source
	 * @override
	 */
	async importFile(filepath, source) {
		if (source !== 'collect') return super.importFile(filepath, source);
		if (scripts !== null) {
			try {
				return await scripts.load(filepath);
			} catch {
				// the bundle meets the same mistake, or takes what no script can express
			}
		}
		return import(
			pathToFileURL(
				await bundle(filepath, {
					made: (paths) => keepGraph(filepath, paths),
				}),
			).href
		);
	}

	/**
	 * Nobody waits for this process once it is told to end.
	 *
	 * @override
	 */
	onAfterRunFiles() {
		super.onAfterRunFiles();
		if (scripts === null) return;
		process.once('SIGTERM', () => {
			scripts.keepByteCode();
			process.exit();
		});
	}
}
