// SPDX-License-Identifier: GPL-2.0-only
/** The text of a file as people have it: packed, in another encoding, or from a pipe. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { TopologyError } from './error.ts';

/** The path that means standard input. */
export const STDIN = '-';
/** Bytes of text at the most: no machine's description is longer, a packed file may be. */
const MAX_TEXT = 256 << 20;

/** By the mark it begins with; without one it is UTF-8. */
function decode(bytes: Uint8Array): string {
	const [first, second] = bytes;
	if (first === 0xff && second === 0xfe) return new TextDecoder('utf-16le').decode(bytes);
	if (first === 0xfe && second === 0xff) return new TextDecoder('utf-16be').decode(bytes);
	return new TextDecoder().decode(bytes);
}

/**
 * Read a text file.
 *
 * @param path - the file, packed by gzip or not; `-` for standard input
 * @throws TopologyError it cannot be read, or unpacked
 */
export function readTextFile(path: string): string {
	try {
		const bytes = readFileSync(path === STDIN ? 0 : path);
		const packed = bytes[0] === 0x1f && bytes[1] === 0x8b;
		return decode(packed ? gunzipSync(bytes, { maxOutputLength: MAX_TEXT }) : bytes);
	} catch (error) {
		const { code } = error as { code?: string };
		throw new TopologyError(
			path,
			1,
			`a topology file that can be read (${code ?? 'error'})`,
		);
	}
}
