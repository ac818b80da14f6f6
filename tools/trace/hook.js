// SPDX-License-Identifier: GPL-2.0-only
/**
 * Node's module loader hook of the call tracer.
 *
 * Guarantee: only modules of the kernel model are touched, and only by lines at their end, so that
 * each position in a stack trace stays what it was.
 * Mechanism: the TypeScript loader below gives JavaScript; which functions a module declares is read
 * from the source, where top-level declarations begin in column 0.
 */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const root = new URL('../../', import.meta.url).href;

/** Folders whose functions are traced, and what in them is the tracer's or the harness's own. */
const traced = /^(?:include|mm|kernel|drivers|lib)\//;
const untraced =
	/^(?:include\/sim|kernel\/trace|kernel\/locking\/lockdep|kernel\/sched\/(?:body|core|strategy|hung_task|might_sleep))/;

const declaration = /^(?:export )?function\*? ?(\w+)/gm;

/**
 * The lines that put each function's traced version in its place.
 *
 * @param {string} source TypeScript
 * @param {string} module path below the root
 */
export function tracingLines(source, module) {
	const names = new Set(Array.from(source.matchAll(declaration), ([, name]) => name));
	return [...names]
		.map(
			(name) =>
				`${name} = globalThis.__ktrace.wrap('${name}', ${name}, '${module}');`,
		)
		.join('\n');
}

/** @type {import('node:module').LoadHook} */
export async function load(url, context, nextLoad) {
	const loaded = await nextLoad(url, context);
	const [file] = url.split('?');
	if (!file.startsWith(root) || !file.endsWith('.ts')) return loaded;
	const module = file.slice(root.length);
	if (!traced.test(module) || untraced.test(module)) return loaded;
	const lines = tracingLines(await readFile(fileURLToPath(file), 'utf8'), module);
	return lines === '' ? loaded : { ...loaded, source: `${loaded.source}\n${lines}\n` };
}
