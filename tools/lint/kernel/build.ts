// SPDX-License-Identifier: GPL-2.0-only
/** Makes the index of kernel names from the kernel's sources. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../../kproto/user_error.ts';
import { byName, namesOf } from './c_names.ts';
import { readC } from './c_text.ts';
import type { NameIndex } from './name_index.ts';

/** A kernel's tree. */
export interface KernelTree {
	readonly root: string;
	/** As `v6.12`. */
	readonly release: string;
}

/** What the index is to know. */
export interface Wanted {
	readonly names: ReadonlySet<string>;
	/** Paths in the kernel's tree. */
	readonly files: ReadonlySet<string>;
}

/** Looked through with all below: a name may be in any of them. */
const deep: readonly string[] = [
	'include',
	'mm',
	'kernel',
	'lib',
	'arch/x86/include',
	'arch/x86/mm',
];

/**
 * Open a kernel's tree.
 *
 * @param root - the folder with the kernel's own Makefile
 * @throws UserError it is none
 */
export function kernelTree(root: string): KernelTree {
	let makefile: string;
	try {
		makefile = readFileSync(join(root, 'Makefile'), 'utf8');
	} catch (error) {
		throw new UserError(
			`--kernel: ${root} is no kernel's tree: ${(error as Error).message}`,
		);
	}
	const [, version] = /^VERSION = (\d+)$/m.exec(makefile) ?? [];
	const [, level] = /^PATCHLEVEL = (\d+)$/m.exec(makefile) ?? [];
	if (version === undefined || level === undefined)
		throw new UserError(`--kernel: ${root}/Makefile tells no release of a kernel`);
	return { root, release: `v${version}.${level}` };
}

/**
 * Look names up in the kernels' trees.
 *
 * A prototype counts only where no file defines the name.
 *
 * @param trees - one for each release, the oldest first
 * @param wanted - the names, and the files that tags speak of: their folders are looked through too
 */
export function buildNameIndex(trees: readonly KernelTree[], wanted: Wanted): NameIndex {
	const found = trees.map((tree) => lookUp(tree, wanted));
	const keys = [...wanted.names, ...wanted.files].sort();
	return {
		releases: trees.map(({ release }) => release),
		places: new Map(keys.map((key) => [key, found.map((one) => one.get(key) ?? [])])),
	};
}

function lookUp({ root }: KernelTree, { names, files }: Wanted): Map<string, string[]> {
	const paths = sources(root, files);
	const texts = paths.map((path) => readC(readFileSync(join(root, path), 'utf8')));
	const headers = texts.filter((_, i) => paths[i]?.endsWith('.h'));
	const macros = byName(headers.flatMap((text) => text.macros));
	const defined = new Map<string, string[]>();
	const declared = new Map<string, string[]>();
	for (const [i, path] of paths.entries()) {
		if (files.has(path)) defined.set(path, [path]);
		const has = namesOf(texts[i] as (typeof texts)[number], macros);
		for (const name of names) {
			if (has.defined.has(name)) append(defined, name, path);
			else if (has.declared.has(name)) append(declared, name, path);
		}
	}
	return new Map([...declared, ...defined]);
}

function append(map: Map<string, string[]>, key: string, value: string): void {
	const list = map.get(key);
	if (list === undefined) map.set(key, [value]);
	else list.push(value);
}

/** The C files of all folders that are looked through, sorted. */
function sources(root: string, files: ReadonlySet<string>): string[] {
	const all = new Set<string>();
	for (const folder of deep) addFolder(root, folder, true, all);
	for (const file of files) addFolder(root, file.replace(/\/?[^/]*$/, ''), false, all);
	return [...all].sort();
}

function addFolder(root: string, folder: string, recursive: boolean, all: Set<string>): void {
	let entries: string[];
	try {
		entries = readdirSync(join(root, folder), { recursive, encoding: 'utf8' });
	} catch (error) {
		// a release may lack a folder that another one has
		if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
		throw error;
	}
	for (const entry of entries) if (/\.[ch]$/.test(entry)) all.add(`${folder}/${entry}`);
}
