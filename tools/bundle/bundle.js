// SPDX-License-Identifier: GPL-2.0-only
/**
 * A module and all that it imports as one file.
 *
 * A suite, or a replay, imports most of the kernel model, and a loader that is asked for each module
 * takes longer than the tests do; esbuild reads the same modules in a tenth of the time. Source maps
 * keep stacks on the real lines. Coverage does without bundles: V8 has to see each file by itself.
 *
 * Guarantee: a bundle is used again only while each file in it has the size and change time that it
 * had before it was read.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { cache, nameOf, readJson, root, stamp, writeWhole } from './cache.js';

/**
 * What is kept beside a bundle.
 *
 * @typedef {{ inputs: Record<string, string>, bundle: string }} Manifest - the files and the bundle, by
 *	what of them changes
 */

/**
 * In what form the modules are taken.
 *
 * @typedef {{
 *	name: string,
 *	madeBy: readonly string[],
 *	text(source: string, path: string): string,
 *	check?(): void,
 * }} Form - name in the cache; absolute paths of the files that decide about the form; the text of a
 *	module, from its source and absolute path; throws where the modules together are no good
 */

/** What says which releases of the packages make a bundle. */
const makers = ['esbuild', 'js-tokens']
	.map((name) => join(root, 'node_modules', name, 'package.json'))
	.filter((path) => existsSync(path));

/** @type {Form} */
const asWritten = { name: '', madeBy: [], text: (source) => source };

/**
 * The text of a module of which `import.meta` tells about the source and not about the bundle.
 *
 * @param {string} source
 * @param {string} path
 */
function withOwnMeta(source, path) {
	/** @type {Record<string, string>} */
	const values = { url: pathToFileURL(path).href, filename: path, dirname: dirname(path) };
	return source.replace(/\bimport\.meta\.(url|filename|dirname)\b/g, (_, name) =>
		JSON.stringify(values[name]),
	);
}

/**
 * @param {Form} form
 * @returns {import('esbuild').Plugin}
 */
function reading(form) {
	// the kernel model itself never asks where it lies
	const filter = form === asWritten ? /\/(?:test|tools)\/.*\.[jt]s$/ : /\.[jt]s$/;
	return {
		name: 'modules',
		setup({ onLoad }) {
			onLoad({ filter }, ({ path }) => ({
				contents: withOwnMeta(
					form.text(readFileSync(path, 'utf8'), path),
					path,
				),
				loader: path.endsWith('.ts') ? 'ts' : 'js',
			}));
		},
	};
}

/** @param {Uint8Array} content */
function hashOf(content) {
	return createHash('sha1').update(content).digest('hex');
}

/** @param {string} outfile */
function isFresh(outfile) {
	/** @type {Manifest | null} */
	const manifest = readJson(`${outfile}.json`);
	// of two programs that write at once, one may have left its bundle beside the other's manifest
	if (manifest === null || hashOf(readFileSync(outfile)) !== manifest.bundle) return false;
	return Object.entries(manifest.inputs).every(([path, seen]) => stamp(path) === seen);
}

/**
 * The bundle of a module, made if it is not there or is stale.
 *
 * @param {string} entry - absolute path
 * @param {{
 *	form?: Form,
 *	made?: (paths: string[]) => void,
 * }} [options] - form of the modules, default: as they are written; who is told the absolute paths of
 *	the files in a bundle that had to be made
 * @returns {Promise<string>} path of a module that Node can import
 */
export async function bundle(entry, { form = asWritten, made } = {}) {
	const outfile = join(cache(), `${nameOf(entry)}${form.name}.mjs`);
	if (isFresh(outfile)) return outfile;
	const started = Date.now();
	const esbuild = await import('esbuild');
	const { metafile, outputFiles } = await esbuild.build({
		entryPoints: [entry],
		outfile,
		absWorkingDir: root,
		bundle: true,
		packages: 'external',
		platform: 'node',
		format: 'esm',
		target: 'node20',
		// what is written may be seen in a stack
		keepNames: form === asWritten,
		sourcemap: form === asWritten ? 'inline' : false,
		sourcesContent: false,
		metafile: true,
		write: false,
		logLevel: 'silent',
		plugins: [reading(form)],
	});
	form.check?.();
	const paths = Object.keys(metafile.inputs).map((input) => resolve(root, input));
	/** @type {Manifest} */
	const manifest = { inputs: {}, bundle: hashOf(outputFiles[0].contents) };
	for (const path of [fileURLToPath(import.meta.url), ...makers, ...form.madeBy, ...paths]) {
		const { ctimeMs } = statSync(path);
		// edited while it was read: which of the two texts is in the bundle is not known
		manifest.inputs[path] = ctimeMs < started ? stamp(path) : '';
	}
	writeWhole(outfile, outputFiles[0].contents);
	writeWhole(`${outfile}.json`, JSON.stringify(manifest));
	made?.(paths);
	return outfile;
}
