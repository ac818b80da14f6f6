// SPDX-License-Identifier: GPL-2.0-only
/** A module and the kernel model under it in straight form, as one file. */
import { readFileSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { bundle, type Form } from '../bundle/bundle.js';
import { root } from '../bundle/cache.js';
import { UserError } from '../kproto/user_error.ts';
import { type StraightModule, straighten } from './straighten.ts';

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** The module that knows of generators, and the one that stands in its place. */
const bodies = here('../../kernel/sched/body.ts');
const straightBodies = here('body.ts');

/** Straight modules, and what their calls say of each other. */
class StraightForm implements Form {
	readonly name = '.straight';
	readonly madeBy = [here('straighten.ts'), here('bundle.ts'), straightBodies];
	private readonly modules = new Map<string, StraightModule>();

	text(source: string, path: string): string {
		if (path === bodies) return readFileSync(straightBodies, 'utf8');
		const module = straighten(source, bodies);
		this.modules.set(path, module);
		return module.text;
	}

	/** Straight code runs a call that lacks its `yield*`, and the source as it is written does not. */
	check(): void {
		for (const [path, { bareCalls, generators, imports }] of this.modules)
			for (const name of bareCalls) {
				const from = imports.find(([one]) => one === name)?.[1];
				const isWrong =
					generators.includes(name) ||
					(from !== undefined &&
						this.isGenerator(
							resolve(dirname(path), from),
							name,
						));
				if (isWrong)
					throw new UserError(
						`${relative(root, path)}: ${name}() may be scheduled, and is called without yield*`,
					);
			}
	}

	/** Whether what a module exports under a name is a generator, of its own or of another module. */
	private isGenerator(path: string, name: string): boolean {
		const module = this.modules.get(path);
		if (module === undefined) return false;
		if (module.generators.includes(name)) return true;
		return module.exports.some(
			([one, from]) =>
				(one === name || one === '*') &&
				this.isGenerator(resolve(dirname(path), from), name),
		);
	}
}

/** What keeps one from writing into a tree that others own. */
const notOurs: readonly unknown[] = ['EACCES', 'EPERM', 'EROFS'];

/**
 * Import a module in straight form.
 *
 * @param entry - absolute path
 * @returns its exports, none of whose classes is the one of that name elsewhere; null: the folder for
 *	what is made of sources can't be written
 * @throws UserError a module calls a generator as if it were a plain function
 */
export async function importStraight<T>(entry: string): Promise<T | null> {
	let path: string;
	try {
		path = await bundle(entry, { form: new StraightForm() });
	} catch (error) {
		if (notOurs.includes((error as NodeJS.ErrnoException).code)) return null;
		throw error;
	}
	return (await import(pathToFileURL(path).href)) as T;
}
