// SPDX-License-Identifier: GPL-2.0-only
/**
 * Files of huge pages: what MAP_HUGETLB mappings are made of (fs/hugetlbfs/inode.c).
 *
 * Guarantee: a mapping is aligned to whole huge pages and has reservations for all of them, or mmap()
 * fails. Mechanism: an anonymous mapping has a file of its own, which nobody else can open; it goes
 * with the last VMA, and what it has not used of the pool with it.
 *
 * @kernel fs/hugetlbfs/inode.c
 */
import { EINVAL, ENOMEM } from '../include/linux/errno.ts';
import { file, type file_operations, inode } from '../include/linux/fs.ts';
import { VM_DONTEXPAND, VM_HUGETLB, VM_NORESERVE } from '../include/linux/mm.ts';
import {
	address_space,
	type vm_area_struct,
	type vm_operations_struct,
} from '../include/linux/mm_types.ts';
import {
	type errno,
	type int,
	PMD_SHIFT,
	PMD_SIZE,
	type size_t,
	type unsigned_long,
	type vm_flags_t,
} from '../include/linux/types.ts';
import { shouldFail } from '../include/sim/fault_injection.ts';
import { type Sim, touch } from '../include/sim/schedule.ts';
import { folio_lock, folio_unlock } from './filemap.ts';
import {
	hugetlb_reserve_pages,
	hugetlb_unreserve_pages,
	hugetlb_vm_op_close,
	hugetlb_vm_op_open,
} from './hugetlb/reserve.ts';
import { folio_get, folio_put } from './swap.ts';

/** A VMA is split at whole huge pages only. */
function hugetlb_vm_op_split(_vma: vm_area_struct, addr: unsigned_long): int {
	return (addr & (PMD_SIZE - 1n)) !== 0n ? -EINVAL : 0;
}

/** Mappings of huge pages; faults come to hugetlb_fault(). */
const hugetlb_vm_ops: vm_operations_struct = {
	name: 'hugetlb',
	open: hugetlb_vm_op_open,
	close: hugetlb_vm_op_close,
	may_split: hugetlb_vm_op_split,
};

function* hugetlbfs_file_mmap(f: file, vma: vm_area_struct): Sim<int> {
	vma.vm_flags |= VM_HUGETLB | VM_DONTEXPAND;
	vma.vm_ops = hugetlb_vm_ops;
	const first = vma.vm_pgoff << 12n;
	if ((first & (PMD_SIZE - 1n)) !== 0n) return -EINVAL;
	const i = f.f_inode!;
	const len = vma.vm_end - vma.vm_start;
	const from = Number(first >> PMD_SHIFT);
	const ret = yield* hugetlb_reserve_pages(
		i,
		from,
		from + Number(len >> PMD_SHIFT),
		vma,
		(vma.vm_flags & VM_NORESERVE) !== 0n,
	);
	if (ret !== 0) return ret;
	if (i.i_size < first + len) i.i_size = first + len;
	return 0;
}

/** Drops all pages of a file. Returns how many it had. */
function* remove_inode_hugepages(i: inode): Sim<int> {
	const { i_pages } = i.i_mapping;
	let freed = 0;
	for (const [index, f] of [...i_pages]) {
		folio_get(f);
		yield* folio_lock(f);
		touch('write', i.i_mapping, 'i_pages');
		i_pages.delete(index);
		f.mapping = null;
		yield* folio_put(f);
		yield* folio_unlock(f);
		yield* folio_put(f);
		freed++;
	}
	return freed;
}

/** The last close: its pages go back to the pool, and what it was promised. */
function* hugetlbfs_evict_inode(f: file): Sim<int> {
	const i = f.f_inode!;
	i.i_count--;
	if (i.i_count > 0) return 0;
	yield* hugetlb_unreserve_pages(i, yield* remove_inode_hugepages(i));
	return 0;
}

const hugetlbfs_file_operations: file_operations = {
	mmap: hugetlbfs_file_mmap,
	release: hugetlbfs_evict_inode,
};

/**
 * Whether a file is made of huge pages.
 *
 * @param f - the file; null: none
 * @kernel include/linux/hugetlb.h
 */
export function is_file_hugepages(f: file | null): boolean {
	return f?.f_op === hugetlbfs_file_operations;
}

/**
 * Make a file of huge pages for a mapping.
 *
 * @param _name - shown in /proc/PID/maps
 * @param size - bytes, whole huge pages
 * @param acctflag - VM_NORESERVE: mmap() will reserve
 * @returns the file with one reference
 * @retval -ENOMEM the pool has not so many pages, or made to fail at site `hugetlb_file_setup`
 * @context Sleeps.
 * @deviates neither the kind of inode nor the size of a page is passed
 * @kernel fs/hugetlbfs/inode.c
 */
export function* hugetlb_file_setup(
	_name: string,
	size: size_t,
	acctflag: vm_flags_t,
): Sim<file | errno> {
	if (shouldFail('hugetlb_file_setup')) return -ENOMEM;
	const i = new inode(new address_space());
	i.i_size = size;
	const pages = Number(size >> PMD_SHIFT);
	const noreserve = (acctflag & VM_NORESERVE) !== 0n;
	const ret = yield* hugetlb_reserve_pages(i, 0, pages, null, noreserve);
	if (ret !== 0) return ret;
	return new file({
		f_inode: i,
		f_mapping: i.i_mapping,
		f_op: hugetlbfs_file_operations,
	});
}
