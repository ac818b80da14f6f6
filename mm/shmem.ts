// SPDX-License-Identifier: GPL-2.0-only
/**
 * Files in memory: what tmpfs, memfd_create() and shared anonymous mappings are made of.
 *
 * Guarantee: a mapping shows the file's bytes; pages never written to read as zeros; a touch beyond
 * the end is SIGBUS. Mechanism: the folios of the page cache are the file (shmem/cache.ts), and those
 * that were swapped out (shmem/swap.ts); both stay until truncation or the last close.
 * Duty: whoever set a file up puts it with fput(); a mapping has a reference of its own.
 *
 * ```
 *   file ──f_inode──> inode { i_size } ──i_mapping──> address_space { i_pages, i_mmap }
 *    ^                                                                 |
 *    └────────────────vm_file──────────── VMA  <───────────────────────┘
 * ```
 *
 * | file | functions |
 * | --- | --- |
 * | shmem/cache.ts | shmem_get_folio, shmem_truncate_range, shmemSetSize, truncate_inode_folio |
 * | shmem/swap.ts | shmem_writeout, shmem_swapin_folio, shmem_mapping |
 * | shmem.ts | shmem_fault, shmem_file_setup, shmem_zero_setup, shmemWrite, shmemRead, shmemTruncate |
 *
 * @kernel mm/shmem.c
 */
import { BUG_ON } from '../include/linux/bug.ts';
import { EINVAL, ENOMEM } from '../include/linux/errno.ts';
import { file, type file_operations, inode } from '../include/linux/fs.ts';
import { VM_UFFD_MISSING, vmf_error } from '../include/linux/mm.ts';
import {
	address_space,
	type folio,
	VM_FAULT_LOCKED,
	type vm_area_struct,
	type vm_fault,
	type vm_operations_struct,
} from '../include/linux/mm_types.ts';
import { page_to_pfn } from '../include/linux/mmzone.ts';
import {
	type errno,
	type int,
	type loff_t,
	outParam,
	type vm_fault_t,
	type vm_flags_t,
} from '../include/linux/types.ts';
import { userfaultfd_missing } from '../include/linux/userfaultfd_k.ts';
import { shouldFail } from '../include/sim/fault_injection.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { fput } from './file_table.ts';
import { filemap_map_pages } from './filemap/map_pages.ts';
import { folio_unlock } from './filemap.ts';
import { pageFrame, touchFrame } from './page_alloc.ts';
import { folio_mark_dirty } from './page-writeback.ts';
import {
	SGP_CACHE,
	SGP_READ,
	SGP_WRITE,
	shmem_get_folio,
	shmem_truncate_range,
	shmemSetSize,
} from './shmem/cache.ts';
import { shmem_aops } from './shmem/swap.ts';
import { folio_put } from './swap.ts';
import { handle_userfault } from './userfaultfd/fault.ts';

export {
	SGP_CACHE,
	SGP_READ,
	SGP_WRITE,
	type sgp_type,
	shmem_get_folio,
	shmem_truncate_range,
	shmemAddZeroed,
	shmemDropNew,
	shmemSetSize,
	truncate_inode_folio,
} from './shmem/cache.ts';
export { shmem_mapping, shmem_writeout } from './shmem/swap.ts';

/** The largest file. */
const MAX_LFS_FILESIZE = (1n << 63n) - 1n;

function* shmem_fault(vmf: vm_fault): Sim<vm_fault_t> {
	const i = vmf.vma.vm_file!.f_inode!;
	const found = outParam<folio | null>(null);
	if (userfaultfd_missing(vmf.vma)) {
		// only what is not in the page cache is missing
		const beyond = vmf.pgoff << 12n >= i.i_size;
		const err = yield* shmem_get_folio(i, vmf.pgoff, found, SGP_READ);
		if (err !== 0) return vmf_error(err);
		if (found.value === null && !beyond)
			return yield* handle_userfault(vmf, VM_UFFD_MISSING);
		if (found.value !== null) {
			yield* folio_unlock(found.value);
			yield* folio_put(found.value);
		}
	}
	const err = yield* shmem_get_folio(i, vmf.pgoff, found, SGP_CACHE);
	if (err !== 0) return vmf_error(err);
	vmf.page = found.value!.page;
	return VM_FAULT_LOCKED;
}

/**
 * Whether a VMA maps memory of a shmem file.
 *
 * @param vma - the VMA
 * @kernel mm/shmem.c
 */
export function vma_is_shmem(vma: vm_area_struct): boolean {
	return vma.vm_ops === shmem_vm_ops || vma.vm_ops === shmem_anon_vm_ops;
}

/** Mappings of a file. */
const shmem_vm_ops: vm_operations_struct = {
	name: 'shmem',
	fault: shmem_fault,
	map_pages: filemap_map_pages,
};

/** Shared anonymous mappings: a file that nobody else can open. */
const shmem_anon_vm_ops: vm_operations_struct = {
	name: 'shmem_anon',
	fault: shmem_fault,
	map_pages: filemap_map_pages,
};

function* shmem_mmap(_f: file, vma: vm_area_struct): Sim<int> {
	vma.vm_ops = shmem_vm_ops;
	return 0;
}

/** The last close: nobody can name the inode any more, so its pages go. */
function* shmem_release(f: file): Sim<int> {
	const i = f.f_inode!;
	i.i_count--;
	if (i.i_count > 0) return 0;
	BUG_ON(i.i_mapping.i_mmap.size > 0, 'inode is evicted while it is mapped');
	i.i_size = 0n;
	yield* shmem_truncate_range(i, 0n, -1n);
	return 0;
}

const shmem_file_operations: file_operations = { mmap: shmem_mmap, release: shmem_release };

/**
 * Make a file in memory, all of it a hole.
 *
 * @param _name - shown in /proc/PID/maps
 * @param size - bytes
 * @param _flags - VM_NORESERVE: nothing is reserved for it; nothing ever is here
 * @returns the file with one reference
 * @retval -EINVAL size negative or too large
 * @retval -ENOMEM made to fail at site `shmem_file_setup`
 * @context Sleeps.
 * @kernel mm/shmem.c
 */
export function* shmem_file_setup(
	_name: string,
	size: loff_t,
	_flags: vm_flags_t,
): Sim<file | errno> {
	if (size < 0n || size > MAX_LFS_FILESIZE) return -EINVAL;
	if (shouldFail('shmem_file_setup')) return -ENOMEM;
	const i = new inode(new address_space());
	i.i_mapping.a_ops = shmem_aops;
	i.i_size = size;
	return new file({ f_inode: i, f_mapping: i.i_mapping, f_op: shmem_file_operations });
}

/**
 * Make a VMA shared anonymous memory: give it a file of its own.
 *
 * @param vma - the VMA, being made
 * @retval 0 done
 * @returns else an errno of shmem_file_setup()
 * @context Sleeps. The mmap lock is held for writing.
 * @kernel mm/shmem.c
 */
export function* shmem_zero_setup(vma: vm_area_struct): Sim<int> {
	const made = yield* shmem_file_setup('dev/zero', vma.vm_end - vma.vm_start, vma.vm_flags);
	if (typeof made === 'number') return made;
	if (vma.vm_file !== null) yield* fput(vma.vm_file);
	vma.vm_file = made;
	vma.vm_ops = shmem_anon_vm_ops;
	return 0;
}

/**
 * Write to a shmem file, as write() does: the pages are in the page cache and dirty afterwards.
 *
 * @param f - the file
 * @param pos - first byte; the file grows as needed
 * @param bytes - what
 * @retval 0 written
 * @retval -ENOMEM no memory; what is before it is written
 * @retval -EIO a page is swapped out and cannot be read; what is before it is written
 * @context Sleeps.
 */
export function* shmemWrite(f: file, pos: loff_t, bytes: Uint8Array): Sim<int> {
	const i = f.f_inode!;
	for (let done = 0; done < bytes.length; ) {
		const at = pos + BigInt(done);
		const offset = Number(at & 4095n);
		const part = Math.min(4096 - offset, bytes.length - done);
		const found = outParam<folio | null>(null);
		const err = yield* shmem_get_folio(i, at >> 12n, found, SGP_WRITE);
		if (err !== 0) return err;
		const page = found.value!;
		touchFrame('memory-write', Number(page_to_pfn(page.page)));
		pageFrame(page.page).u8.set(bytes.subarray(done, done + part), offset);
		if (at + BigInt(part) > i.i_size) i.i_size = at + BigInt(part);
		yield* folio_mark_dirty(page);
		yield* folio_unlock(page);
		yield* folio_put(page);
		done += part;
	}
	return 0;
}

/**
 * Read from a shmem file, as read() does: a hole reads as zeros and stays one.
 *
 * @param f - the file
 * @param pos - first byte
 * @param into - where to
 * @returns bytes read: fewer than asked for at the end of the file, or before a page that fails
 * @retval -EIO the first page is swapped out and cannot be read
 * @retval -ENOMEM no memory for the first page
 * @context Sleeps.
 */
export function* shmemRead(f: file, pos: loff_t, into: Uint8Array): Sim<int> {
	const i = f.f_inode!;
	for (let done = 0; done < into.length; ) {
		const at = pos + BigInt(done);
		if (at >= i.i_size) return done;
		const offset = Number(at & 4095n);
		const left = i.i_size - at;
		let part = Math.min(4096 - offset, into.length - done);
		if (BigInt(part) > left) part = Number(left);
		const found = outParam<folio | null>(null);
		const err = yield* shmem_get_folio(i, at >> 12n, found, SGP_READ);
		if (err !== 0) return done > 0 ? done : err;
		const page = found.value;
		if (page === null) into.fill(0, done, done + part);
		else {
			touchFrame('memory-read', Number(page_to_pfn(page.page)));
			into.set(pageFrame(page.page).u8.subarray(offset, offset + part), done);
			yield* folio_unlock(page);
			yield* folio_put(page);
		}
		done += part;
	}
	return into.length;
}

/**
 * ftruncate() of a shmem file.
 *
 * @param f - the file
 * @param size - bytes
 * @context Sleeps. No mmap lock is held.
 */
export function* shmemTruncate(f: file, size: loff_t): Sim<void> {
	yield* shmemSetSize(f.f_inode!, size);
}
