// SPDX-License-Identifier: GPL-2.0-only
/**
 * fork() of an address space.
 *
 * Guarantee: the child has the parent's VMAs and, where a fault could not bring them back, its
 * pages: shared read-only in private mappings. When dup_mmap() returns, no CPU can write to such a
 * page through the parent's TLB entries. A failure leaves the child with the VMAs copied so far,
 * which exit_mmap() takes down.
 *
 * This is a part of kernel/fork.c and mm/mmap.c; it lives in mm/ because kernel/ knows no mm.
 */
import { EINTR, ENOMEM } from '../include/linux/errno.ts';
import { is_vm_hugetlb_page, VM_DONTCOPY, VM_LOCKED, VM_WIPEONFORK } from '../include/linux/mm.ts';
import type { mm_struct, vm_area_struct } from '../include/linux/mm_types.ts';
import type { int } from '../include/linux/types.ts';
import { __VM_UFFD_FLAGS } from '../include/linux/userfaultfd_k.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { down_write, up_write } from '../kernel/locking/rwsem.ts';
import { mm_alloc, mmput } from './exec_mm.ts';
import { get_file } from './file_table.ts';
import { hugetlb_dup_vma_private } from './hugetlb/reserve.ts';
import { copy_page_range } from './memory.ts';
import {
	mmap_write_lock_killable,
	mmap_write_lock_nested,
	mmap_write_unlock,
} from './mmap_lock.ts';
import { anon_vma_fork } from './rmap.ts';
import { flush_tlb_mm } from './tlb.ts';
import { userfaultfd_set_ctx, vm_area_dup, vm_area_free } from './vma.ts';

/** The child's copy of a VMA, linked to rmaps and in the child's list; null: no memory. */
function* dupVma(mm: mm_struct, mpnt: vm_area_struct): Sim<vm_area_struct | null> {
	const tmp = vm_area_dup(mpnt);
	if (tmp === null) return null;
	tmp.vm_mm = mm;
	// the child is not watched: nobody asked for UFFD_FEATURE_EVENT_FORK
	if (tmp.vm_userfaultfd_ctx !== null)
		userfaultfd_set_ctx(tmp, null, tmp.vm_flags & ~__VM_UFFD_FLAGS);
	if ((tmp.vm_flags & VM_WIPEONFORK) !== 0n) tmp.anon_vma = null;
	else if ((yield* anon_vma_fork(tmp, mpnt)) !== 0) {
		vm_area_free(tmp);
		return null;
	}
	tmp.vm_flags &= ~VM_LOCKED;
	mm.vmas.push(tmp);
	if (is_vm_hugetlb_page(tmp)) hugetlb_dup_vma_private(tmp);
	tmp.vm_ops?.open?.(tmp);
	const { vm_file } = tmp;
	if (vm_file === null) return tmp;
	get_file(vm_file);
	const mapping = vm_file.f_mapping!;
	yield* down_write(mapping.i_mmap_rwsem);
	mapping.i_mmap.add(tmp);
	yield* up_write(mapping.i_mmap_rwsem);
	return tmp;
}

/** Copies VMA after VMA. */
function* dupVmas(mm: mm_struct, oldmm: mm_struct): Sim<int> {
	for (const mpnt of oldmm.vmas) {
		if ((mpnt.vm_flags & VM_DONTCOPY) !== 0n) {
			mm.total_vm -= (mpnt.vm_end - mpnt.vm_start) >> 12n;
			continue;
		}
		const tmp = yield* dupVma(mm, mpnt);
		if (tmp === null) return -ENOMEM;
		if ((tmp.vm_flags & VM_WIPEONFORK) !== 0n) continue;
		const err = yield* copy_page_range(tmp, mpnt);
		if (err !== 0) return err;
	}
	return 0;
}

/**
 * Copy the VMAs and page tables of an address space.
 *
 * @param mm - the child's, new and empty
 * @param oldmm - the parent's
 * @retval 0 copied
 * @retval -EINTR killed while it waited for the mmap lock
 * @retval -ENOMEM no memory
 * @retval -ENOSPC no huge page for a copy of one that may be pinned; fork() says -ENOMEM
 * @context Process context. Sleeps.
 * @kernel mm/mmap.c
 */
export function* dup_mmap(mm: mm_struct, oldmm: mm_struct): Sim<int> {
	if ((yield* mmap_write_lock_killable(oldmm)) !== 0) return -EINTR;
	yield* mmap_write_lock_nested(mm);
	mm.total_vm = oldmm.total_vm;
	mm.def_flags = oldmm.def_flags & ~VM_LOCKED;
	const retval = yield* dupVmas(mm, oldmm);
	if (retval !== 0) {
		// only what is in the list is counted when it is taken down
		mm.total_vm = mm.vmas.reduce((n, v) => n + ((v.vm_end - v.vm_start) >> 12n), 0n);
	}
	yield* mmap_write_unlock(mm);
	// entries that became read-only may still be cached as writable
	yield* flush_tlb_mm(oldmm);
	yield* mmap_write_unlock(oldmm);
	return retval;
}

/**
 * Make a copy of an address space.
 *
 * @param oldmm - the parent's
 * @returns the child's, with one user
 * @retval null no memory, or killed
 * @context Process context. Sleeps.
 * @deviates C also takes the child's task
 * @kernel kernel/fork.c
 */
export function* dup_mm(oldmm: mm_struct): Sim<mm_struct | null> {
	const mm = yield* mm_alloc();
	if (mm === null) return null;
	if ((yield* dup_mmap(mm, oldmm)) === 0) return mm;
	yield* mmput(mm);
	return null;
}
