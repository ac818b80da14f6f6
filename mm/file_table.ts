// SPDX-License-Identifier: GPL-2.0-only
/** References of open files, as far as mappings hold them. */
import { BUG_ON } from '../include/linux/bug.ts';
import type { file } from '../include/linux/fs.ts';
import { type Sim, touch } from '../include/sim/schedule.ts';

/**
 * Take a reference of a file.
 *
 * @param f - the file, in use
 * @returns the file
 * @kernel include/linux/fs.h
 */
export function get_file(f: file): file {
	touch('atomic', f, 'f_count');
	BUG_ON(f.f_count <= 0, 'get_file() of a file that is closed');
	f.f_count++;
	return f;
}

/**
 * Put a reference of a file; the last one releases it.
 *
 * @param f - the file
 * @context Process context. Sleeps.
 * @deviates the kernel puts the release off to the way out to user space
 * @kernel fs/file_table.c
 */
export function* fput(f: file): Sim<void> {
	touch('atomic', f, 'f_count');
	BUG_ON(f.f_count <= 0, 'fput() of a file that is closed');
	f.f_count--;
	if (f.f_count === 0 && f.f_op.release) yield* f.f_op.release(f);
}
