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
import { createHash } from 'node:crypto';
import {
	existsSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmSync,
	statSync,
	writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const cache = join(root, 'node_modules/.cache/kselftest');

/**
 * What is kept beside a bundle.
 *
 * @typedef {{ suite: string, inputs: Record<string, string> }} Manifest
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
		onLoad({ filter: /\/(?:test|tools)\/.*\.ts$/ }, ({ path }) => ({
			contents: sourceText(path),
			loader: 'ts',
		}));
	},
};

/**
 * What of a file changes with every edit.
 *
 * @param {string} path
 */
function stamp(path) {
	const { ctimeMs, size } = statSync(path, { throwIfNoEntry: false }) ?? {
		ctimeMs: 0,
		size: 0,
	};
	return `${ctimeMs} ${size}`;
}

/** @param {string} path @returns {Manifest | null} */
function readManifest(path) {
	try {
		return JSON.parse(readFileSync(path, 'utf8'));
	} catch {
		return null;
	}
}

/** @param {string} outfile */
function isFresh(outfile) {
	const manifest = readManifest(`${outfile}.json`);
	if (manifest === null) return false;
	return Object.entries(manifest.inputs).every(([path, seen]) => stamp(path) === seen);
}

/**
 * Write under the name only when all is there: two processes may make the same bundle.
 *
 * @param {string} path
 * @param {string | Uint8Array} data
 */
function writeWhole(path, data) {
	const draft = `${path}.${process.pid}`;
	writeFileSync(draft, data);
	renameSync(draft, path);
}

/** @param {string} suite */
function outfileOf(suite) {
	const name = createHash('sha1').update(suite).digest('hex').slice(0, 12);
	return join(cache, `${name}.mjs`);
}

/**
 * A file that is there while the program that watches builds.
 *
 * @param {string} outfile
 */
function busyMark(outfile) {
	return `${outfile}.busy`;
}

/**
 * Build a suite before its worker asks for it, in a program that watches.
 *
 * @param {string} suite - absolute path
 */
export async function bundleAhead(suite) {
	const mark = busyMark(outfileOf(suite));
	writeFileSync(mark, '');
	try {
		await bundle(suite, true);
	} catch {
		// the worker meets the same mistake, and reports it
	} finally {
		rmSync(mark, { force: true });
	}
}

/**
 * Wait for the program that watches, which began with the edit, rather than do its work twice. A
 * mark that is old was left by a program that was killed.
 *
 * @param {string} mark - file that is there while it builds
 */
async function whileBusy(mark) {
	const isBusy = () =>
		Date.now() - (statSync(mark, { throwIfNoEntry: false })?.mtimeMs ?? 0) < 2000;
	while (isBusy()) await setTimeout(5);
}

/**
 * What esbuild keeps of each suite, by its path.
 *
 * @type {Map<string, import('esbuild').BuildContext<{ metafile: true, write: false }>>}
 */
const contexts = new Map();

/**
 * Build a suite again, reading only what has changed.
 *
 * @param {typeof import('esbuild')} esbuild
 * @param {string} suite
 * @param {import('esbuild').BuildOptions & { metafile: true, write: false }} settings
 */
async function rebuild(esbuild, suite, settings) {
	const context = contexts.get(suite) ?? (await esbuild.context(settings));
	contexts.set(suite, context);
	return context.rebuild();
}

/**
 * The bundle of a suite, made if it is not there or is stale.
 *
 * @param {string} suite - absolute path
 * @param {boolean} keep - remember what was read for the next time, in a program that watches
 * @returns {Promise<string>} path of a module that Node can import
 */
export async function bundle(suite, keep = false) {
	const outfile = outfileOf(suite);
	if (!keep) await whileBusy(busyMark(outfile));
	if (isFresh(outfile)) return outfile;
	const started = Date.now();
	const esbuild = await import('esbuild');
	/** @type {import('esbuild').BuildOptions & { metafile: true, write: false }} */
	const settings = {
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
	};
	const { metafile, outputFiles } = await (keep
		? rebuild(esbuild, suite, settings)
		: esbuild.build(settings));
	/** @type {Manifest} */
	const manifest = { suite, inputs: { [fileURLToPath(import.meta.url)]: '' } };
	for (const input of [fileURLToPath(import.meta.url), ...Object.keys(metafile.inputs)]) {
		const path = resolve(root, input);
		const { ctimeMs } = statSync(path);
		// edited while it was read: which of the two texts is in the bundle is not known
		manifest.inputs[path] = ctimeMs < started ? stamp(path) : '';
	}
	mkdirSync(cache, { recursive: true });
	for (const { contents } of outputFiles) writeWhole(outfile, contents);
	writeWhole(`${outfile}.json`, JSON.stringify(manifest));
	return outfile;
}

/**
 * The suites whose last bundle has a file in it.
 *
 * @param {string} file - absolute path
 */
export function suitesWith(file) {
	/** @type {string[]} */
	const suites = [];
	mkdirSync(cache, { recursive: true });
	for (const name of readdirSync(cache)) {
		if (!name.endsWith('.mjs.json')) continue;
		const manifest = readManifest(join(cache, name));
		if (manifest === null || !existsSync(manifest.suite)) continue;
		if (Object.hasOwn(manifest.inputs, file)) suites.push(manifest.suite);
	}
	return suites;
}
