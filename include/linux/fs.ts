// SPDX-License-Identifier: GPL-2.0-only
/** Files and inodes, as far as memory mappings need them. */
import type { Sim } from '../sim/schedule.ts';
import type { address_space, vm_area_struct } from './mm_types.ts';
import type { int, loff_t } from './types.ts';

/** What a mapped file does. */
export interface file_operations {
	/** Set up a mapping of the file. */
	mmap?(f: file, vma: vm_area_struct): Sim<int>;
	/** The file is opened. */
	open?(f: file): Sim<int>;
	/** The last user closed the file. */
	release?(f: file): Sim<int>;
	/** A command. */
	unlocked_ioctl?(f: file, cmd: int, arg: object): Sim<int>;
}

/** A file's inode: its size and page cache. */
export class inode {
	i_size: loff_t = 0n;
	/** S_* bits. */
	i_flags: number = 0;
	i_mapping: address_space;
	i_count: int = 1;

	/** @param mapping - its page cache */
	constructor(mapping: address_space) {
		this.i_mapping = mapping;
		mapping.host = this;
	}
}

/** Its pages are the device's memory itself: there is no page cache. */
export const S_DAX = 1 << 13;

/** @kernel include/linux/fs.h */
export function IS_DAX(i: inode): boolean {
	return (i.i_flags & S_DAX) !== 0;
}

/**
 * Whether a VMA maps a file of a DAX file system.
 *
 * @param vma - the VMA
 * @deviates device-dax has no inodes here
 * @kernel include/linux/fs.h
 */
export function vma_is_fsdax(vma: vm_area_struct): boolean {
	const host = vma.vm_file?.f_mapping?.host;
	return host instanceof inode && IS_DAX(host);
}

/** An open file. */
export class file {
	f_inode: inode | null = null;
	f_mapping: address_space | null = null;
	f_op: file_operations = {};
	private_data: unknown = null;
	f_count: int = 1;

	/** @param init - designated initialiser */
	constructor(init: Partial<file> = {}) {
		Object.assign(this, init);
	}
}
