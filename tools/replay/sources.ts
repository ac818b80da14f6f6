// SPDX-License-Identifier: GPL-2.0-only
/**
 * Files of records: which there are, which kernel they are of, and what is in them.
 *
 * A file has one JSON object a line and may be gzip-compressed. Whatever is wrong with one is told
 * with its line: nobody looks for a bad byte in a hundred thousand lines.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { defaultProfile, type ProfileName, profiles } from '../../include/sim/feature.ts';
import { UserError } from '../kproto/user_error.ts';
import type { Shape } from './shape.ts';

/** A file or a record that cannot be used. */
export class RecordError extends UserError {
	/**
	 * @param file - its path
	 * @param line - from 1; 0: the file as a whole
	 * @param what - what is wrong, one line
	 */
	constructor(file: string, line: number, what: string) {
		super(line === 0 ? `${file}: ${what}` : `${file}:${line}: ${what}`);
		this.name = 'RecordError';
	}
}

/** A record and where it stands. */
export interface RecordLine<T> {
	readonly file: string;
	/** From 1. */
	readonly line: number;
	readonly value: T;
}

/** How a file of records ends. */
const ENDING = /\.jsonl(?:\.gz)?$/;

/**
 * Files of records in a path, in a stable order.
 *
 * @param path - a file, or a folder
 * @throws RecordError there is no such path, none below it, or a folder that can't be read
 */
export function recordFiles(path: string): string[] {
	let isFolder: boolean;
	try {
		isFolder = statSync(path).isDirectory();
	} catch {
		throw new RecordError(path, 0, 'there is no such file or folder');
	}
	if (!isFolder) return [path];
	let names: string[];
	try {
		names = readdirSync(path, { recursive: true, encoding: 'utf8' });
	} catch (error) {
		throw new RecordError(path, 0, (error as Error).message);
	}
	// a folder may be called so too
	const isFile = (name: string): boolean =>
		!statSync(join(path, name), { throwIfNoEntry: false })?.isDirectory();
	const found = names.filter((name) => ENDING.test(name) && isFile(name)).sort();
	if (found.length === 0)
		throw new RecordError(path, 0, 'no file of records (.jsonl, .jsonl.gz) is below');
	return found.map((name) => join(path, name));
}

/**
 * The kind of records that a file has: its name without the ending.
 *
 * @param file - its path
 */
export function familyOf(file: string): string {
	return basename(file).replace(ENDING, '');
}

/**
 * The kernel that a file is of.
 *
 * @param file - its path
 * @param forced - what the command line says; null: nothing
 * @returns else the nearest folder above that is a profile's name, else the default
 */
export function profileOf(file: string, forced: ProfileName | null): ProfileName {
	if (forced !== null) return forced;
	for (let folder = dirname(resolve(file)); ; folder = dirname(folder)) {
		const name = basename(folder);
		if (Object.hasOwn(profiles, name)) return name as ProfileName;
		if (folder === dirname(folder)) return defaultProfile;
	}
}

function textOf(file: string): string {
	let bytes: Buffer;
	try {
		bytes = readFileSync(file);
	} catch (error) {
		throw new RecordError(file, 0, (error as Error).message);
	}
	if (!file.endsWith('.gz')) return bytes.toString();
	try {
		return gunzipSync(bytes).toString();
	} catch (error) {
		throw new RecordError(file, 0, `cannot be unpacked: ${(error as Error).message}`);
	}
}

/**
 * Read a file of records.
 *
 * @param file - its path
 * @param shape - what each must look like
 * @throws RecordError naming the line and what was expected
 */
export function readRecordFile<T>(file: string, shape: Shape<T>): RecordLine<T>[] {
	const lines = textOf(file).split('\n');
	const records: RecordLine<T>[] = [];
	for (const [i, line] of lines.entries()) {
		if (line.trim() === '') continue;
		let value: unknown;
		try {
			value = JSON.parse(line);
		} catch (error) {
			throw new RecordError(file, i + 1, `no JSON: ${(error as Error).message}`);
		}
		const problem = shape.check(value, '');
		if (problem !== null)
			throw new RecordError(
				file,
				i + 1,
				`${problem.path === '' ? '' : `${problem.path}: `}expected ${problem.expected}`,
			);
		records.push({ file, line: i + 1, value: value as T });
	}
	if (records.length === 0) throw new RecordError(file, 0, 'there is no record in it');
	return records;
}
