// SPDX-License-Identifier: GPL-2.0-only
/** struct seq_buf: text appended to a buffer of fixed size. */
import type { size_t } from './types.ts';

/**
 * A text buffer that remembers that it overflowed.
 *
 * @kernel include/linux/seq_buf.h
 */
export class seq_buf {
	/** What a reader of the C string sees. */
	text = '';
	/** Bytes of the buffer, the terminating zero included. */
	size: size_t;
	/** Bytes used; `size + 1` after an overflow. */
	len: size_t = 0n;

	/** @param size - bytes of the buffer */
	constructor(size: size_t) {
		this.size = size;
	}
}

/**
 * Append text; what does not fit is cut off and the overflow remembered.
 *
 * @param s - the buffer
 * @param str - text, already formatted
 * @kernel lib/seq_buf.c
 */
export function seq_buf_puts(s: seq_buf, str: string): void {
	const length = BigInt(str.length);
	if (s.len < s.size) {
		if (s.len + length < s.size) {
			s.text += str;
			s.len += length;
			return;
		}
		s.text += str.slice(0, Number(s.size - s.len) - 1);
	}
	s.len = s.size + 1n;
}
