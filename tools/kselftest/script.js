// SPDX-License-Identifier: GPL-2.0-only
/**
 * One module of the tree as a script: what esbuild makes of it, kept on disk.
 *
 * Guarantee: a script is used only while its file has the content that it was made of.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, extname, isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { cache, nameOf, readJson, stamp, writeWhole } from '../bundle/cache.js';

/**
 * A module's script.
 *
 * @typedef {object} Script
 * @property {string} path - absolute path of the source
 * @property {string} stamp - the source's, taken before it was read; empty: it may hide a later edit
 * @property {string} hash - of the source
 * @property {string} maker - stamp of this file: another version makes other scripts
 * @property {string} code - body of a function of `require`, `module` and `__kselftest_import`
 * @property {string} map - source map, as a data URL
 * @property {Record<string, string>} tree - modules of the tree that it imports, by specifier
 * @property {string[]} first - those of them that are evaluated before it, in this order
 * @property {string[]} packages - others that it needs before it is evaluated
 * @property {string[]} rebound - modules of the tree whose exports it exports
 * @property {boolean} isLive - an export of its own may change after it was evaluated
 */

/** What no script can express, to be met as a reason to bundle. */
export class NoScript extends Error {}

/** Milliseconds in which a second edit may leave the change time as it is, and more. */
const TICK = 50;

const maker = stamp(fileURLToPath(import.meta.url));

/** @param {string | Uint8Array} content */
function hashOf(content) {
	return createHash('sha1').update(content).digest('hex');
}

/** @param {string} path */
function fileOf(path) {
	return join(cache(), `${nameOf(path)}.script`);
}

/**
 * Whether a script is what its file gives now. A file that was written again within a tick of the
 * clock, or put back, is told by its content.
 *
 * @param {Script} script
 */
export function isCurrent(script) {
	if (script.maker !== maker) return false;
	const now = stamp(script.path);
	if (now === script.stamp) return true;
	if (now === stamp('')) return false;
	return hashOf(readFileSync(script.path)) === script.hash;
}

/**
 * The script of a module that is on disk.
 *
 * @param {string} path - absolute path
 * @returns {Script | null} null: there is none that is current
 */
export function keptScript(path) {
	/** @type {Script | null} */
	const script = readJson(fileOf(path));
	return script !== null && script.path === path && isCurrent(script) ? script : null;
}

/**
 * What the compiler is told of a file, as where it bundles: the nearest tsconfig.json.
 *
 * @param {string} folder
 * @returns {string}
 */
function compilerOptions(folder) {
	const file = join(folder, 'tsconfig.json');
	if (existsSync(file)) return readFileSync(file, 'utf8');
	return dirname(folder) === folder ? '{}' : compilerOptions(dirname(folder));
}

/** @type {Record<string, 'ts' | 'js'>} */
const loaders = { '.ts': 'ts', '.js': 'js' };

/**
 * As esbuild prints `import()` where it may not use it, and what takes its place: as long, so that
 * every position in the line stays.
 */
const printedImport = 'Promise.resolve().then(() => __toESM(require(';
const ownImport = `${'__kselftest_import'.padEnd(printedImport.length - 3)}(((`;

/** Exports that can be assigned to. A function or class is none: the type check sees to it. */
const assignable = /^[ \t]*export\s+(?:let|var)\b|^[ \t]*export\s*\{[^}]*\}(?!\s*from\b)/m;
const reexport = /^[ \t]*export\s*(?:\*(?:\s*as\s+\w+)?|\{[^}]*\})\s*from\s*(['"])(.*?)\1/gm;

/**
 * @param {string} path
 * @param {string} source
 * @returns {Promise<{ code: string, map: string, imports: string[] }>}
 */
async function transform(path, source) {
	const esbuild = await import('esbuild');
	const about = { url: pathToFileURL(path).href, filename: path, dirname: dirname(path) };
	const { metafile, outputFiles, warnings } = await esbuild.build({
		stdin: { contents: source, loader: loaders[extname(path)], sourcefile: path },
		outdir: '/',
		bundle: false,
		platform: 'node',
		format: 'cjs',
		target: 'node20',
		supported: { 'dynamic-import': false },
		define: Object.fromEntries(
			Object.entries(about).map(([name, value]) => [
				`import.meta.${name}`,
				JSON.stringify(value),
			]),
		),
		tsconfigRaw: compilerOptions(dirname(path)),
		sourcemap: 'external',
		sourcesContent: false,
		metafile: true,
		write: false,
		logLevel: 'silent',
	});
	// such as another property of import.meta
	if (warnings.some(({ id }) => id === 'empty-import-meta')) throw new NoScript(path);
	const code = outputFiles.find((file) => file.path.endsWith('.js'));
	const map = outputFiles.find((file) => file.path.endsWith('.map'));
	if (code === undefined || map === undefined) throw new NoScript(path);
	const absolute = JSON.stringify({ ...JSON.parse(map.text), sources: [path] });
	return {
		code: code.text.replaceAll(printedImport, ownImport),
		map: `data:application/json;base64,${Buffer.from(absolute).toString('base64')}`,
		imports: Object.values(metafile.outputs).flatMap(({ imports }) =>
			imports.map((one) => one.path),
		),
	};
}

/**
 * Make the script of a module, and keep it.
 *
 * @param {string} path - absolute path
 * @returns {Promise<Script>}
 * @throws {Error} what is wrong with the source, or that no script can be made of it
 */
export async function makeScript(path) {
	const before = stamp(path);
	const isRecent = Date.now() - Number.parseFloat(before) < TICK;
	if (!Object.hasOwn(loaders, extname(path))) throw new NoScript(path);
	const source = readFileSync(path, 'utf8');
	const { code, map, imports } = await transform(path, source);
	/** @type {Record<string, string>} */
	const tree = {};
	for (const specifier of imports)
		if (isAbsolute(specifier) || /^\.\.?\//.test(specifier))
			tree[specifier] = resolve(dirname(path), specifier);
	// the others are asked for by import()
	const required = new Set(
		imports.filter((specifier) =>
			code.includes(`require(${JSON.stringify(specifier)})`),
		),
	);
	/** @type {Script} */
	const script = {
		path,
		stamp: isRecent ? '' : before,
		hash: hashOf(source),
		maker,
		code,
		map,
		tree,
		first: Array.from(required, (specifier) => tree[specifier] ?? '').filter(Boolean),
		packages: [...required].filter((specifier) => !Object.hasOwn(tree, specifier)),
		rebound: Array.from(source.matchAll(reexport), ([, , specifier = '']) =>
			resolve(dirname(path), specifier),
		),
		isLive: assignable.test(source),
	};
	writeWhole(fileOf(path), JSON.stringify(script));
	return script;
}
