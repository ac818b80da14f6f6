// SPDX-License-Identifier: GPL-2.0-only
/**
 * mmap(): where a mapping goes, what it may do, and the VMA that it becomes.
 *
 * Guarantee: a mapping is page aligned, inside the user's addresses, and nothing else is mapped
 * there; a neighbour that is equal takes it in. Looking up, splitting, merging and unmapping VMAs
 * is in find_vma.ts and vma.ts, which are handed on here.
 */
import { EEXIST, EINTR, EINVAL, ENODEV, ENOMEM, EOVERFLOW } from '../include/linux/errno.ts';
import type { file } from '../include/linux/fs.ts';
import {
	MAP_ANONYMOUS,
	MAP_FIXED,
	MAP_HUGETLB,
	MAP_PRIVATE,
	MAP_SHARED,
	PROT_EXEC,
	PROT_READ,
	PROT_WRITE,
	TASK_SIZE,
	TASK_UNMAPPED_BASE,
	VM_ACCOUNT,
	VM_EXEC,
	VM_MAYEXEC,
	VM_MAYREAD,
	VM_MAYSHARE,
	VM_MAYWRITE,
	VM_NORESERVE,
	VM_READ,
	VM_SHARED,
	VM_WRITE,
} from '../include/linux/mm.ts';
import type { mm_struct, vm_area_struct } from '../include/linux/mm_types.ts';
import { current } from '../include/linux/sched.ts';
import {
	type errno,
	type int,
	PAGE_MASK,
	PAGE_SIZE,
	PMD_SIZE,
	type pgoff_t,
	type unsigned_int,
	type unsigned_long,
	type vm_flags_t,
} from '../include/linux/types.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { fput, get_file } from './file_table.ts';
import { find_vma_intersection, vmaIndex } from './find_vma.ts';
import { hugetlb_file_setup, is_file_hugepages } from './hugetlbfs.ts';
import {
	mmap_assert_write_locked,
	mmap_write_lock_killable,
	mmap_write_unlock,
} from './mmap_lock.ts';
import { vm_get_page_prot } from './pgtable.ts';
import { shmem_zero_setup } from './shmem.ts';
import {
	accountable_mapping,
	sysctl_max_map_count,
	unmap_region,
	vm_area_alloc,
	vm_area_free,
	vma_link_file,
	vma_merge_new_range,
	vma_set_page_prot,
	vms_complete_munmap_vmas,
	vms_gather_munmap_vmas,
} from './vma.ts';

export {
	find_vma,
	find_vma_intersection,
	find_vma_prev,
	vma_lookup,
} from './find_vma.ts';
export { vm_get_page_prot } from './pgtable.ts';
export { do_munmap, split_vma, vm_munmap, vma_set_page_prot } from './vma.ts';

export const MAP_TYPE = 0x0f;
export const MAP_NORESERVE = 0x4000;
export const MAP_FIXED_NOREPLACE = 0x100000;

/**
 * VM_READ, VM_WRITE and VM_EXEC of PROT_* bits.
 *
 * @param prot - PROT_* bits
 * @kernel include/linux/mman.h
 */
export function calc_vm_prot_bits(prot: unsigned_int): vm_flags_t {
	return (
		(prot & PROT_READ ? VM_READ : 0n) |
		(prot & PROT_WRITE ? VM_WRITE : 0n) |
		(prot & PROT_EXEC ? VM_EXEC : 0n)
	);
}

/** Lowest free range from TASK_UNMAPPED_BASE on. */
function unmapped_area(mm: mm_struct, len: bigint, align: bigint): bigint | errno {
	let addr = TASK_UNMAPPED_BASE;
	for (let i = vmaIndex(mm, addr); i < mm.vmas.length; i++) {
		const vma = mm.vmas[i]!;
		if (addr + len <= vma.vm_start) break;
		addr = (vma.vm_end + align - 1n) & ~(align - 1n);
	}
	return addr + len <= TASK_SIZE ? addr : -ENOMEM;
}

/**
 * Lowest free range that begins at a huge page; where there is no room to choose, any.
 *
 * @kernel mm/huge_memory.c
 */
function thp_get_unmapped_area(mm: mm_struct, len: bigint): bigint | errno {
	const padded = unmapped_area(mm, len + PMD_SIZE, PAGE_SIZE);
	if (typeof padded === 'number') return unmapped_area(mm, len, PAGE_SIZE);
	return (padded + PMD_SIZE - 1n) & ~(PMD_SIZE - 1n);
}

/**
 * Where a mapping goes: bottom up from TASK_UNMAPPED_BASE, without randomisation.
 *
 * @param mm - address space
 * @param addr - hint, or the place if `fixed`
 * @param len - length, page aligned
 * @param fixed - nowhere else, whatever is mapped there
 * @param align - what the address is a multiple of; the length must be
 * @param anonymous - it has no file: without hint, whole huge pages begin at one
 * @returns the address
 * @retval -ENOMEM no room
 * @retval -EINVAL place or length is not aligned
 */
export function placeOf(
	mm: mm_struct,
	addr: unsigned_long,
	len: unsigned_long,
	fixed: boolean,
	align: unsigned_long = PAGE_SIZE,
	anonymous = false,
): unsigned_long | errno {
	if (len > TASK_SIZE) return -ENOMEM;
	if ((len & (align - 1n)) !== 0n) return -EINVAL;
	if (fixed) {
		if (addr > TASK_SIZE - len) return -ENOMEM;
		return (addr & (align - 1n)) !== 0n ? -EINVAL : addr;
	}
	const hint = (addr + align - 1n) & ~(align - 1n);
	if (
		hint !== 0n &&
		hint <= TASK_SIZE - len &&
		find_vma_intersection(mm, hint, hint + len) === null
	)
		return hint;
	return anonymous && hint === 0n && (len & (PMD_SIZE - 1n)) === 0n
		? thp_get_unmapped_area(mm, len)
		: unmapped_area(mm, len, align);
}

/** Flags of a mapping of a file, or -errno. */
function fileFlags(f: file, flags: unsigned_int, vm_flags: vm_flags_t): vm_flags_t | errno {
	const type = flags & MAP_TYPE;
	if (type !== MAP_SHARED && type !== MAP_PRIVATE) return -EINVAL;
	if (!f.f_op.mmap) return -ENODEV;
	return type === MAP_SHARED ? vm_flags | VM_SHARED | VM_MAYSHARE : vm_flags;
}

/** Flags of an anonymous mapping, or -errno. */
function anonFlags(flags: unsigned_int, vm_flags: vm_flags_t): vm_flags_t | errno {
	const type = flags & MAP_TYPE;
	if (type === MAP_SHARED) return vm_flags | VM_SHARED | VM_MAYSHARE;
	return type === MAP_PRIVATE ? vm_flags : -EINVAL;
}

/**
 * Map something: do_mmap() of an address space that need not be the current one.
 *
 * @param mm - address space
 * @param f - file, or null for anonymous memory
 * @param addr - hint, or the place if MAP_FIXED
 * @param len - length, rounded up to pages
 * @param prot - PROT_* bits
 * @param flags - MAP_* bits
 * @param pgoff - first page of the file
 * @returns the address
 * @retval -EINVAL length 0, not aligned, or neither shared nor private
 * @retval -ENOMEM no room, no memory, or too many VMAs
 * @retval -EOVERFLOW offset and length do not fit
 * @retval -EEXIST MAP_FIXED_NOREPLACE and something is there
 * @retval -ENODEV the file cannot be mapped
 * @returns else what the file's mmap() says
 * @context Sleeps. The mmap lock is held for writing.
 * @kernel mm/mmap.c (as do_mmap)
 */
export function* doMmap(
	mm: mm_struct,
	f: file | null,
	addr: unsigned_long,
	len: unsigned_long,
	prot: unsigned_int,
	flags: unsigned_int,
	pgoff: pgoff_t,
): Sim<unsigned_long | errno> {
	mmap_assert_write_locked(mm);
	if (len === 0n) return -EINVAL;
	let how = flags;
	if (how & MAP_FIXED_NOREPLACE) how |= MAP_FIXED;
	const length = (len + PAGE_SIZE - 1n) & PAGE_MASK;
	if (length > TASK_SIZE) return -ENOMEM;
	if (pgoff + (length >> 12n) >= 1n << 52n) return -EOVERFLOW;
	if (mm.vmas.length > sysctl_max_map_count) return -ENOMEM;
	const align = is_file_hugepages(f) ? PMD_SIZE : PAGE_SIZE;
	const anonymous = f === null && (how & MAP_TYPE) !== MAP_SHARED;
	const at = placeOf(mm, addr, length, (how & MAP_FIXED) !== 0, align, anonymous);
	if (typeof at === 'number') return at;
	if (how & MAP_FIXED_NOREPLACE && find_vma_intersection(mm, at, at + length)) return -EEXIST;
	const wanted =
		calc_vm_prot_bits(prot) | mm.def_flags | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC;
	let vm_flags = f !== null ? fileFlags(f, how, wanted) : anonFlags(how, wanted);
	if (typeof vm_flags === 'number') return vm_flags;
	if (how & MAP_NORESERVE) vm_flags |= VM_NORESERVE;
	let offset = pgoff;
	if (f === null) offset = how & MAP_SHARED ? 0n : at >> 12n;
	return yield* mapRegion(mm, f, at, length, vm_flags, offset);
}

/** Makes the VMA of a mapping that no neighbour takes in. */
function* newVma(
	mm: mm_struct,
	f: file | null,
	addr: bigint,
	len: bigint,
	vm_flags: vm_flags_t,
	pgoff: pgoff_t,
): Sim<vm_area_struct | errno> {
	const vma = vm_area_alloc(mm);
	if (vma === null) return -ENOMEM;
	vma.vm_start = addr;
	vma.vm_end = addr + len;
	vma.vm_pgoff = pgoff;
	vma.vm_flags = vm_flags;
	vma.vm_page_prot = vm_get_page_prot(vm_flags);
	let err: int = 0;
	if (f !== null) {
		vma.vm_file = get_file(f);
		err = yield* f.f_op.mmap!(f, vma);
	} else if ((vm_flags & VM_SHARED) !== 0n) err = yield* shmem_zero_setup(vma);
	if (err === 0) return vma;
	if (f !== null) yield* unmap_region(mm, vma);
	if (vma.vm_file !== null) yield* fput(vma.vm_file);
	vm_area_free(vma);
	return err;
}

/**
 * Puts a mapping at its place: what is there goes, then a neighbour grows or a VMA is made. (The
 * kernel makes the VMA before it unmaps, so that a failure can put the old ones back.)
 */
function* mapRegion(
	mm: mm_struct,
	f: file | null,
	addr: unsigned_long,
	len: unsigned_long,
	vm_flags: vm_flags_t,
	pgoff: pgoff_t,
): Sim<unsigned_long | errno> {
	const end = addr + len;
	const old = yield* vms_gather_munmap_vmas(mm, addr, end);
	if (typeof old === 'number') return old;
	yield* vms_complete_munmap_vmas(mm, old, addr, end);
	// huge pages have an accounting of their own
	const account = !is_file_hugepages(f) && accountable_mapping(vm_flags, VM_NORESERVE);
	const flags = account ? vm_flags | VM_ACCOUNT : vm_flags;
	const mergeable = f !== null || (flags & VM_SHARED) === 0n;
	const range = { start: addr, end, flags, file: f, pgoff, middle: null };
	let vma = mergeable ? yield* vma_merge_new_range(mm, range) : null;
	if (vma === null) {
		const made = yield* newVma(mm, f, addr, len, flags, pgoff);
		if (typeof made === 'number') return made;
		vma = made;
		mm.vmas.splice(vmaIndex(mm, addr), 0, vma);
		yield* vma_link_file(vma);
		vma_set_page_prot_unless_special(vma);
	}
	mm.total_vm += len >> 12n;
	return addr;
}

/** A driver that chose protection bits of its own keeps them. */
function vma_set_page_prot_unless_special(vma: vm_area_struct): void {
	if (vma.vm_page_prot === vm_get_page_prot(vma.vm_flags)) vma_set_page_prot(vma);
}

/**
 * Map something in the current task's address space.
 *
 * @param f - file, or null for anonymous memory
 * @param addr - hint, or the place if MAP_FIXED
 * @param len - length, rounded up to pages
 * @param prot - PROT_* bits
 * @param flags - MAP_* bits
 * @param pgoff - first page of the file
 * @returns the address, else an errno of doMmap()
 * @context Sleeps. The mmap lock is held for writing.
 * @deviates no populate and userfaultfd out-parameters, no VM_* bits to add
 * @kernel mm/mmap.c
 */
export function* do_mmap(
	f: file | null,
	addr: unsigned_long,
	len: unsigned_long,
	prot: unsigned_int,
	flags: unsigned_int,
	pgoff: pgoff_t,
): Sim<unsigned_long | errno> {
	return yield* doMmap(current().mm!, f, addr, len, prot, flags, pgoff);
}

/** Anonymous memory of huge pages: a mapping of a file that nobody else can open. */
function* mmapHuge(
	addr: unsigned_long,
	len: unsigned_long,
	prot: unsigned_int,
	flag: unsigned_int,
): Sim<unsigned_long | errno> {
	const size = (len + PMD_SIZE - 1n) & ~(PMD_SIZE - 1n);
	// mmap() of the file makes the reservations
	const f = yield* hugetlb_file_setup('anon_hugepage', size, VM_NORESERVE);
	if (typeof f === 'number') return f;
	const flags = flag & ~(MAP_ANONYMOUS | MAP_HUGETLB);
	const ret = yield* vm_mmap_pgoff(f, addr, size, prot, flags, 0n);
	yield* fput(f);
	return ret;
}

/**
 * mmap() of the current task.
 *
 * @param f - file, or null; MAP_ANONYMOUS goes with null
 * @param addr - hint, or the place if MAP_FIXED
 * @param len - length
 * @param prot - PROT_* bits
 * @param flag - MAP_* bits
 * @param pgoff - first page of the file
 * @returns the address
 * @retval -EINTR killed while it waited for the mmap lock
 * @returns else an errno of doMmap()
 * @context Sleeps. The mmap lock is not held.
 * @kernel mm/util.c
 */
export function* vm_mmap_pgoff(
	f: file | null,
	addr: unsigned_long,
	len: unsigned_long,
	prot: unsigned_int,
	flag: unsigned_int,
	pgoff: pgoff_t,
): Sim<unsigned_long | errno> {
	const mm = current().mm!;
	if (flag & MAP_ANONYMOUS && f !== null) return -EINVAL;
	if (flag & MAP_HUGETLB && f === null) return yield* mmapHuge(addr, len, prot, flag);
	if ((yield* mmap_write_lock_killable(mm)) !== 0) return -EINTR;
	const ret = yield* doMmap(mm, f, addr, len, prot, flag, pgoff);
	yield* mmap_write_unlock(mm);
	return ret;
}
