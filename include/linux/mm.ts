// SPDX-License-Identifier: GPL-2.0-only
/** Flags of a VMA, protection bits of mmap(), and what faults turn into. */
import { EFAULT, EHWPOISON, ENOMEM } from './errno.ts';
import {
	VM_FAULT_HWPOISON,
	VM_FAULT_HWPOISON_LARGE,
	VM_FAULT_OOM,
	VM_FAULT_SIGBUS,
	VM_FAULT_SIGSEGV,
	type vm_area_struct,
} from './mm_types.ts';
import type { int, pgoff_t, unsigned_int, unsigned_long, vm_fault_t, vm_flags_t } from './types.ts';

export const VM_NONE: vm_flags_t = 0n;
export const VM_READ: vm_flags_t = 0x1n;
export const VM_WRITE: vm_flags_t = 0x2n;
export const VM_EXEC: vm_flags_t = 0x4n;
export const VM_SHARED: vm_flags_t = 0x8n;
export const VM_MAYREAD: vm_flags_t = 0x10n;
export const VM_MAYWRITE: vm_flags_t = 0x20n;
export const VM_MAYEXEC: vm_flags_t = 0x40n;
export const VM_MAYSHARE: vm_flags_t = 0x80n;
export const VM_UFFD_MISSING: vm_flags_t = 0x200n;
export const VM_PFNMAP: vm_flags_t = 0x400n;
/** There may be guard markers in the page tables: set for good once one was asked for. */
export const VM_MAYBE_GUARD: vm_flags_t = 0x800n;
export const VM_UFFD_WP: vm_flags_t = 0x1000n;
export const VM_LOCKED: vm_flags_t = 0x2000n;
export const VM_IO: vm_flags_t = 0x4000n;
export const VM_DONTCOPY: vm_flags_t = 0x20000n;
export const VM_DONTEXPAND: vm_flags_t = 0x40000n;
export const VM_ACCOUNT: vm_flags_t = 0x100000n;
export const VM_NORESERVE: vm_flags_t = 0x200000n;
export const VM_HUGETLB: vm_flags_t = 0x400000n;
export const VM_WIPEONFORK: vm_flags_t = 0x2000000n;
export const VM_DONTDUMP: vm_flags_t = 0x4000000n;
export const VM_SOFTDIRTY: vm_flags_t = 0x8000000n;
export const VM_MIXEDMAP: vm_flags_t = 0x10000000n;
export const VM_HUGEPAGE: vm_flags_t = 0x20000000n;
export const VM_NOHUGEPAGE: vm_flags_t = 0x40000000n;
export const VM_UFFD_RWP: vm_flags_t = 1n << 43n;
/** Mappings that the core does not touch page by page. */
export const VM_SPECIAL: vm_flags_t = VM_IO | VM_DONTEXPAND | VM_PFNMAP | VM_MIXEDMAP;
/** Flags that do not keep neighbours apart; what one of them has, both have when they are merged. */
export const VM_STICKY: vm_flags_t = VM_SOFTDIRTY | VM_MAYBE_GUARD;
export const VM_ACCESS_FLAGS: vm_flags_t = VM_READ | VM_WRITE | VM_EXEC;

/** What change_protection() does besides: look at each entry whether it can be made writable. */
export const MM_CP_TRY_CHANGE_WRITABLE: unsigned_long = 1n << 0n;
/** Protect against writes for userfaultfd, and undo that. */
export const MM_CP_UFFD_WP: unsigned_long = 1n << 2n;
export const MM_CP_UFFD_WP_RESOLVE: unsigned_long = 1n << 3n;
/** Protect against all accesses for userfaultfd, and undo that. */
export const MM_CP_UFFD_RWP: unsigned_long = 1n << 4n;
export const MM_CP_UFFD_RWP_RESOLVE: unsigned_long = 1n << 5n;

export const PROT_NONE = 0;
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const PROT_EXEC = 4;
export const MAP_SHARED = 0x01;
export const MAP_PRIVATE = 0x02;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_HUGETLB = 0x40000;
export const MADV_DONTNEED = 4;
/** mmap() areas are placed from here downwards or upwards: where the tests' arena starts. */
export const TASK_UNMAPPED_BASE: unsigned_long = 0x2000_0000_0000n;
export const TASK_SIZE: unsigned_long = 0x7fff_ffff_f000n;

/** @kernel include/linux/mm.h */
export function vma_is_anonymous(vma: vm_area_struct): boolean {
	return vma.vm_ops === null;
}
/** @kernel include/linux/mm.h */
export function vma_pages(vma: vm_area_struct): unsigned_long {
	return (vma.vm_end - vma.vm_start) >> 12n;
}
/** @kernel include/linux/pagemap.h */
export function linear_page_index(vma: vm_area_struct, address: unsigned_long): pgoff_t {
	return ((address - vma.vm_start) >> 12n) + vma.vm_pgoff;
}
/** @kernel include/linux/hugetlb_inline.h */
export function is_vm_hugetlb_page(vma: vm_area_struct): boolean {
	return (vma.vm_flags & VM_HUGETLB) !== 0n;
}
/** @kernel include/linux/mm.h (gone in 7.x) */
export function is_cow_mapping(flags: vm_flags_t): boolean {
	return (flags & (VM_SHARED | VM_MAYWRITE)) === VM_MAYWRITE;
}

/** memory_failure(): the caller has a reference. */
export const MF_COUNT_INCREASED = 1 << 0;
/** The task was to use the memory. */
export const MF_ACTION_REQUIRED = 1 << 1;
/** Nothing is broken: somebody only says so. */
export const MF_SW_SIMULATED = 1 << 5;

/** get_user_pages*(): check pages as for writing. */
export const FOLL_WRITE = 1 << 0;
/** Take a reference of each page. */
export const FOLL_GET = 1 << 1;
/** Read what may be read at all, and copy what would be copied, whatever the VMA allows now. */
export const FOLL_FORCE = 1 << 3;
/** Do not handle faults. */
export const FOLL_NOFAULT = 1 << 5;
/** Whether hwpoison is told apart in vm_fault_to_errno(). */
export const FOLL_HWPOISON = 1 << 6;
/** Pages of P2P memory may be handed out. */
export const FOLL_PCI_P2PDMA = 1 << 10;
/** A NUMA-hint entry is faulted first, as an access would. */
export const FOLL_HONOR_NUMA_FAULT = 1 << 12;
/** The pin may last for ever: only pages whose memory nobody needs back. */
export const FOLL_LONGTERM = 1 << 8;
/** Split a huge pmd before its page is returned. */
export const FOLL_SPLIT_PMD = 1 << 9;
/** Mark the pages accessed, and dirty if written to. */
export const FOLL_TOUCH = 1 << 16;
/** The fault was tried before, and the mmap lock was dropped for it. */
export const FOLL_TRIED = 1 << 17;
/** The pages are not those of the current task. */
export const FOLL_REMOTE = 1 << 18;
/** Pin each page, for DMA. */
export const FOLL_PIN = 1 << 19;
/** A fault may drop the mmap lock. */
export const FOLL_UNLOCKABLE = 1 << 21;

/**
 * What a failed fault is as an errno.
 *
 * @param vm_fault - result of handle_mm_fault()
 * @param foll_flags - FOLL_HWPOISON gives -EHWPOISON where it applies
 * @retval 0 no error that this knows
 * @retval -ENOMEM VM_FAULT_OOM
 * @retval -EHWPOISON poisoned memory, and asked for
 * @retval -EFAULT SIGBUS, SIGSEGV or poisoned memory
 * @kernel include/linux/mm.h
 */
export function vm_fault_to_errno(vm_fault: vm_fault_t, foll_flags: int): int {
	if (vm_fault & VM_FAULT_OOM) return -ENOMEM;
	if (vm_fault & (VM_FAULT_HWPOISON | VM_FAULT_HWPOISON_LARGE))
		return foll_flags & FOLL_HWPOISON ? -EHWPOISON : -EFAULT;
	if (vm_fault & (VM_FAULT_SIGBUS | VM_FAULT_SIGSEGV)) return -EFAULT;
	return 0;
}

/**
 * What an errno is as the result of a fault.
 *
 * @param err - negative
 * @kernel include/linux/mm.h
 */
export function vmf_error(err: int): vm_fault_t {
	if (err === -ENOMEM) return VM_FAULT_OOM;
	return err === -EHWPOISON ? VM_FAULT_HWPOISON : VM_FAULT_SIGBUS;
}

/** @kernel include/linux/mm.h */
export function vma_is_accessible(vma: vm_area_struct): boolean {
	return (vma.vm_flags & VM_ACCESS_FLAGS) !== 0n;
}

/**
 * Whether get_user_pages*() may go by a PROT_NONE entry without a fault.
 *
 * @param vma - its VMA
 * @param flags - FOLL_* bits
 * @kernel include/linux/mm.h
 */
export function gup_can_follow_protnone(vma: vm_area_struct, flags: unsigned_int): boolean {
	// userfaultfd is to hear of the access
	if ((vma.vm_flags & VM_UFFD_RWP) !== 0n && vma_is_accessible(vma)) return false;
	if (!(flags & FOLL_HONOR_NUMA_FAULT)) return true;
	// no hint where nothing may be accessed: a fault would change nothing
	return !vma_is_accessible(vma);
}
