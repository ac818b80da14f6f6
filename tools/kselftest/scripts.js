// SPDX-License-Identifier: GPL-2.0-only
/**
 * A suite and all that it imports, each module a script of its own: how a run that watches loads.
 *
 * After an edit one script is made, and compiled; all others were read and compiled before, by a
 * worker that waits, from the byte code that V8 kept of the run before. A bundle would be made and
 * compiled as a whole.
 *
 * Guarantee: modules are evaluated in the order, and see each other's exports, as ECMAScript has it;
 * positions in stacks are those of the sources. What a script cannot express, and a suite with a
 * mistake in it, is left to the bundle.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire, isBuiltin, Module } from 'node:module';
import { join, resolve } from 'node:path';
import vm from 'node:vm';
import { cache, nameOf, writeWhole } from '../bundle/cache.js';
import { keepGraph } from './graph.js';
import { isCurrent, keptScript, makeScript, NoScript } from './script.js';

/**
 * @typedef {import('./script.js').Script} Script
 * @typedef {Record<string, unknown>} Exports
 * @typedef {(require: (specifier: string) => unknown, module: { exports: Exports }, load: (specifier: string) => Promise<unknown>) => void} Body
 * @typedef {{ script: Script, compiled: vm.Script, body: Body, isNew: boolean }} Ready
 * @typedef {{ exports: Exports, isLive: boolean }} Evaluated
 */

const require = createRequire(import.meta.url);

/** @param {string} code @returns {Buffer} */
function digest(code) {
	return createHash('sha1').update(code).digest();
}

/** @param {string} path */
function byteCodeFile(path) {
	return join(cache(), `${nameOf(path)}.v8`);
}

/**
 * The byte code of a script. V8 itself compares no more than the length of the source, so the file
 * begins with a digest.
 *
 * @param {Script} script
 * @returns {Buffer | undefined}
 */
function byteCode({ path, code }) {
	try {
		const kept = readFileSync(byteCodeFile(path));
		const isIts = kept.subarray(0, 20).equals(digest(code));
		return isIts ? kept.subarray(20) : undefined;
	} catch {
		return undefined;
	}
}

/**
 * What holds a module's source map for Node, by path: it looks up the first one of a file.
 *
 * @type {Map<string, Module>}
 */
const maps = new Map();

/**
 * Have Node map the positions in a script. It takes source maps of what its own loaders compile
 * only, so it is given a module of nothing but the comment that names the map.
 *
 * @param {Script} script
 */
function registerMap({ path, map }) {
	const holder = maps.get(path) ?? new Module(path);
	maps.set(path, holder);
	/** @type {any} */ (holder)._compile(`//# sourceMappingURL=${map}`, path);
}

const head = '(function (require, module, __kselftest_import) { "use strict";';

/**
 * @param {Script} script
 * @returns {Ready}
 */
function compile(script) {
	const compiled = new vm.Script(`${head}${script.code}\n})`, {
		filename: script.path,
		columnOffset: -head.length,
		cachedData: byteCode(script),
	});
	registerMap(script);
	const isNew = compiled.cachedDataRejected !== false;
	return { script, compiled, body: compiled.runInThisContext(), isNew };
}

/**
 * A package as the scripts see it: marked as what it is, a module with a default export of its own.
 *
 * @param {string} specifier
 * @returns {Promise<unknown>}
 */
async function importPackage(specifier) {
	if (isBuiltin(specifier)) return require(specifier);
	const namespace = await import(specifier);
	const seen = Object.defineProperty({}, '__esModule', { value: true });
	for (const name of Object.keys(namespace))
		Object.defineProperty(seen, name, { get: () => namespace[name], enumerable: true });
	return seen;
}

/** The modules of a worker's suite. */
export class Scripts {
	/** @type {Map<string, Ready>} */
	ready = new Map();
	/** @type {Map<string, unknown>} */
	packages = new Map();
	/** @type {Map<string, Evaluated>} */
	evaluated = new Map();

	/**
	 * Read and compile a suite and all that it imports; what is ready and has not changed is kept.
	 *
	 * @param {string} suite - absolute path
	 * @param {Set<string>} paths - out: the paths of its modules, as far as it got
	 */
	async prepare(suite, paths = new Set()) {
		paths.add(suite);
		const packages = new Set();
		let wave = [suite];
		while (wave.length > 0) {
			const scripts = await Promise.all(wave.map((path) => this.current(path)));
			wave = [];
			for (const { tree, packages: others } of scripts) {
				for (const other of others) packages.add(other);
				for (const path of Object.values(tree)) {
					if (paths.has(path)) continue;
					paths.add(path);
					wave.push(path);
				}
			}
		}
		await Promise.all(Array.from(packages, (one) => this.package(one)));
	}

	/**
	 * A script that is compiled and is what its file gives now.
	 *
	 * @param {string} path
	 * @returns {Promise<Script>}
	 */
	async current(path) {
		const known = this.ready.get(path);
		if (known !== undefined && isCurrent(known.script)) return known.script;
		const script = keptScript(path) ?? (await makeScript(path));
		this.ready.set(path, compile(script));
		return script;
	}

	/** @param {string} specifier */
	async package(specifier) {
		if (this.packages.has(specifier)) return;
		this.packages.set(specifier, await importPackage(specifier));
	}

	/**
	 * Evaluate a suite.
	 *
	 * @param {string} suite - absolute path
	 * @throws {Error} whatever goes wrong: the suite's own mistakes, too
	 */
	async load(suite) {
		/** @type {Set<string>} */
		const paths = new Set();
		try {
			await this.prepare(suite, paths);
		} finally {
			keepGraph(suite, [...paths]);
		}
		this.evaluate(suite);
	}

	/**
	 * Evaluate a module behind those that it imports. One after the other and not one from within
	 * the other, so that a stack begins with the module.
	 *
	 * @param {string} path
	 * @returns {Exports}
	 */
	evaluate(path) {
		for (const one of this.order(path)) this.run(one);
		return this.exports(path);
	}

	/**
	 * The modules to evaluate, each behind its imports.
	 *
	 * @param {string} path
	 * @param {Set<string>} met - modules that have their place
	 * @param {Set<string>} above - modules whose imports are being looked at
	 * @returns {string[]}
	 * @throws {NoScript} modules import each other: the first would have no exports to show
	 */
	order(path, met = new Set(), above = new Set()) {
		if (above.has(path)) throw new NoScript(path);
		if (met.has(path) || this.evaluated.has(path)) return [];
		met.add(path);
		above.add(path);
		const { script } = this.compiled(path);
		const before = script.first.flatMap((one) => this.order(one, met, above));
		above.delete(path);
		return [...before, path];
	}

	/** @param {string} path */
	run(path) {
		const { body, script } = this.compiled(path);
		const module = { exports: {} };
		const find = (/** @type {string} */ specifier) => {
			const target = script.tree[specifier];
			return target === undefined
				? this.packages.get(specifier)
				: this.exports(target);
		};
		const load = (/** @type {string} */ specifier) => this.import(path, specifier);
		body(find, module, load);
		const isLive =
			script.isLive ||
			script.rebound.some((other) => this.evaluated.get(other)?.isLive);
		this.evaluated.set(path, {
			exports: isLive ? module.exports : settled(module.exports),
			isLive,
		});
	}

	/** @param {string} path */
	compiled(path) {
		const ready = this.ready.get(path);
		if (ready === undefined) throw new NoScript(path);
		return ready;
	}

	/** @param {string} path */
	exports(path) {
		const known = this.evaluated.get(path);
		if (known === undefined) throw new NoScript(path);
		return known.exports;
	}

	/**
	 * What `import()` in a module gives.
	 *
	 * @param {string} path - of the module
	 * @param {string} specifier
	 * @returns {Promise<unknown>}
	 */
	async import(path, specifier) {
		const target = this.ready.get(path)?.script.tree[specifier];
		if (target !== undefined) return this.evaluate(target);
		if (!/^\.{0,2}\//.test(specifier)) return import(specifier);
		return import(resolve(path, '..', specifier));
	}

	/** Keep the byte code of what was compiled from source, with the functions that have run. */
	keepByteCode() {
		for (const { script, compiled, isNew } of this.ready.values()) {
			if (!isNew) continue;
			const data = compiled.createCachedData();
			writeWhole(
				byteCodeFile(script.path),
				Buffer.concat([digest(script.code), data]),
			);
		}
	}
}

/**
 * The exports of a module whose every binding has its last value: plain fields, which read faster
 * than what esbuild makes, a getter for each that calls another.
 *
 * @param {Exports} exports
 */
function settled(exports) {
	return Object.defineProperty({ ...exports }, '__esModule', { value: true });
}
