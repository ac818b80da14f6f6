// SPDX-License-Identifier: GPL-2.0-only
/** struct completion: one thread says "done", others wait for it. */
import type { unsigned_int } from './types.ts';

/**
 * A completion.
 *
 * @kernel include/linux/completion.h
 */
export class completion {
	/** Name for reports. */
	readonly name: string;
	/** complete() calls that no waiter has used up; UINT_MAX after complete_all(). */
	done: unsigned_int = 0;

	/** @param name - name for reports */
	constructor(name = 'completion') {
		this.name = name;
	}
}

/**
 * Set a completion up, or anew.
 *
 * @param x - the completion
 * @kernel include/linux/completion.h
 */
export function init_completion(x: completion): void {
	x.done = 0;
}

/**
 * Make a completion usable again after complete_all().
 *
 * @param x - the completion; nobody must wait on it
 * @kernel include/linux/completion.h
 */
export function reinit_completion(x: completion): void {
	x.done = 0;
}
