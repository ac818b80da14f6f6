// SPDX-License-Identifier: GPL-2.0-only
/** A module and the kernel model under it in straight form, as one file. */
import { readFileSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { bundle } from '../bundle/bundle.js';
import { straighten } from './straighten.ts';

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** The module that knows of generators, and the one that stands in its place. */
const bodies = here('../../kernel/sched/body.ts');
const straightBodies = here('body.ts');

const form = {
	name: '.straight',
	madeBy: [here('straighten.ts'), here('bundle.ts'), straightBodies],
	text: (source: string, path: string): string =>
		path === bodies ? readFileSync(straightBodies, 'utf8') : straighten(source, bodies),
};

/** What keeps one from writing into a tree that others own. */
const notOurs: readonly unknown[] = ['EACCES', 'EPERM', 'EROFS'];

/**
 * Import a module in straight form.
 *
 * @param entry - absolute path
 * @returns its exports, none of whose classes is the one of that name elsewhere; null: the folder for
 *	what is made of sources can't be written
 */
export async function importStraight<T>(entry: string): Promise<T | null> {
	let path: string;
	try {
		path = await bundle(entry, { form });
	} catch (error) {
		if (notOurs.includes((error as NodeJS.ErrnoException).code)) return null;
		throw error;
	}
	return (await import(pathToFileURL(path).href)) as T;
}
