// SPDX-License-Identifier: GPL-2.0-only
/** What readers throw: one line that a person can act on. */

import { UserError } from '../kproto/user_error.ts';

/** A topology file that cannot be read as one. */
export class TopologyError extends UserError {
	readonly file: string;
	/** Counted from 1. */
	readonly line: number;
	/** What should stand there. */
	readonly expected: string;

	/**
	 * @param file - name as the user gave it
	 * @param line - counted from 1
	 * @param expected - what should stand there, without "expected"
	 */
	constructor(file: string, line: number, expected: string) {
		super(`${file}:${line}: expected ${expected}`);
		this.name = 'TopologyError';
		this.file = file;
		this.line = line;
		this.expected = expected;
	}
}
