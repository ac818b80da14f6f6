// SPDX-License-Identifier: GPL-2.0-only
/**
 * A suite and all that it imports as one module.
 *
 * A suite imports most of the kernel model, and a loader that is asked for each module takes longer
 * than the tests do; esbuild reads the same modules in a tenth of the time. Source maps keep stacks
 * on the real lines. Coverage does without: V8 has to see each file by itself.
 *
 * Guarantee: a bundle is used again only while each file in it has the size and change time that it
 * had before it was read.
 */
import { readFileSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { cache, nameOf, readJson, root, stamp, writeWhole } from './cache.js';
import { keepGraph } from './graph.js';

/**
 * What is kept beside a bundle.
 *
 * @typedef {{ inputs: Record<string, string> }} Manifest
 */

/**
 * The text of a module, what it says of itself by `import.meta` being about the source and not
 * about the bundle.
 *
 * @param {string} path
 */
function sourceText(path) {
	/** @type {Record<string, string>} */
	const values = { url: pathToFileURL(path).href, filename: path, dirname: dirname(path) };
	return readFileSync(path, 'utf8').replace(
		/\bimport\.meta\.(url|filename|dirname)\b/g,
		(_, name) => JSON.stringify(values[name]),
	);
}

/** @type {import('esbuild').Plugin} */
const importMeta = {
	name: 'import-meta',
	setup({ onLoad }) {
		// the kernel model itself never asks where it lies
		onLoad({ filter: /\/(?:test|tools)\/.*\.[jt]s$/ }, ({ path }) => ({
			contents: sourceText(path),
			loader: path.endsWith('.ts') ? 'ts' : 'js',
		}));
	},
};

/** @param {string} outfile */
function isFresh(outfile) {
	/** @type {Manifest | null} */
	const manifest = readJson(`${outfile}.json`);
	if (manifest === null) return false;
	return Object.entries(manifest.inputs).every(([path, seen]) => stamp(path) === seen);
}

/**
 * The bundle of a suite, made if it is not there or is stale.
 *
 * @param {string} suite - absolute path
 * @returns {Promise<string>} path of a module that Node can import
 */
export async function bundle(suite) {
	const outfile = join(cache, `${nameOf(suite)}.mjs`);
	if (isFresh(outfile)) return outfile;
	const started = Date.now();
	const esbuild = await import('esbuild');
	const { metafile, outputFiles } = await esbuild.build({
		entryPoints: [suite],
		outfile,
		absWorkingDir: root,
		bundle: true,
		packages: 'external',
		platform: 'node',
		format: 'esm',
		target: 'node20',
		keepNames: true,
		sourcemap: 'inline',
		sourcesContent: false,
		metafile: true,
		write: false,
		logLevel: 'silent',
		plugins: [importMeta],
	});
	/** @type {Manifest} */
	const manifest = { inputs: { [fileURLToPath(import.meta.url)]: '' } };
	for (const input of [fileURLToPath(import.meta.url), ...Object.keys(metafile.inputs)]) {
		const path = resolve(root, input);
		const { ctimeMs } = statSync(path);
		// edited while it was read: which of the two texts is in the bundle is not known
		manifest.inputs[path] = ctimeMs < started ? stamp(path) : '';
	}
	for (const { contents } of outputFiles) writeWhole(outfile, contents);
	writeWhole(`${outfile}.json`, JSON.stringify(manifest));
	keepGraph(
		suite,
		Object.keys(metafile.inputs).map((input) => resolve(root, input)),
	);
	return outfile;
}
