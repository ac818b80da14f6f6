// SPDX-License-Identifier: GPL-2.0-only
/**
 * What get_user_pages*() may do with a VMA and with an entry.
 *
 * ```
 *   asked for            VMA allows it    FOLL_FORCE besides
 *   read                 VM_READ          VM_MAYREAD
 *   write                VM_WRITE         copy on write: the process's own copy, its entry stays read-only
 * ```
 *
 * @kernel mm/gup.c
 */
import { EFAULT, EOPNOTSUPP } from '../../include/linux/errno.ts';
import { vma_is_fsdax } from '../../include/linux/fs.ts';
import {
	FOLL_FORCE,
	FOLL_LONGTERM,
	FOLL_SPLIT_PMD,
	FOLL_WRITE,
	is_cow_mapping,
	is_vm_hugetlb_page,
	VM_IO,
	VM_MAYREAD,
	VM_MAYSHARE,
	VM_MAYWRITE,
	VM_PFNMAP,
	VM_READ,
	VM_SHARED,
	VM_WRITE,
} from '../../include/linux/mm.ts';
import type { page, vm_area_struct } from '../../include/linux/mm_types.ts';
import { PageAnon, PageAnonExclusive } from '../../include/linux/page-flags.ts';
import { type pmd_t, pmd_write, type pte_t, pte_write } from '../../include/linux/pgtable.ts';
import type { bool, int, unsigned_int } from '../../include/linux/types.ts';
import { userfaultfd_huge_pmd_wp, userfaultfd_pte_wp } from '../../include/linux/userfaultfd_k.ts';
import { feature } from '../../include/sim/world.ts';

/**
 * Whether the flags of a VMA allow what is asked for.
 *
 * @param vma - the VMA
 * @param gup_flags - FOLL_* bits
 * @retval 0 they do
 * @retval -EFAULT they do not, or the VMA has no pages to hand out
 * @retval -EOPNOTSUPP a hugetlb entry cannot be split; a DAX file may have to take its pages away at
 *   any time
 * @kernel mm/gup.c
 */
export function check_vma_flags(vma: vm_area_struct, gup_flags: unsigned_int): int {
	const { vm_flags } = vma;
	if ((vm_flags & (VM_IO | VM_PFNMAP)) !== 0n) return -EFAULT;
	if (gup_flags & FOLL_LONGTERM && vma_is_fsdax(vma)) return -EOPNOTSUPP;
	if (gup_flags & FOLL_SPLIT_PMD && is_vm_hugetlb_page(vma)) return -EOPNOTSUPP;
	const force = (gup_flags & FOLL_FORCE) !== 0;
	if (gup_flags & FOLL_WRITE) {
		if ((vm_flags & VM_WRITE) !== 0n) return 0;
		// 6.12: hugetlb cannot keep what was written by force read-only
		const can = feature('hugetlb_forced_write') || !is_vm_hugetlb_page(vma);
		return force && can && is_cow_mapping(vm_flags) ? 0 : -EFAULT;
	}
	if ((vm_flags & VM_READ) !== 0n) return 0;
	return force && (vm_flags & VM_MAYREAD) !== 0n ? 0 : -EFAULT;
}

/** Whether FOLL_FORCE may write by an entry that is read-only: COW was broken for it. */
function can_follow_write_common(p: page | null, vma: vm_area_struct, flags: unsigned_int): bool {
	if (!(flags & FOLL_FORCE)) return false;
	if ((vma.vm_flags & (VM_MAYSHARE | VM_SHARED)) !== 0n) return false;
	// a mapping that may be written to takes a write fault
	if ((vma.vm_flags & (VM_MAYWRITE | VM_WRITE)) !== VM_MAYWRITE) return false;
	return p !== null && PageAnon(p) && PageAnonExclusive(p);
}

/**
 * Whether the page of a pte may be written to without a fault.
 *
 * @param pte - the entry, present
 * @param p - its page; null: it has none
 * @param vma - its VMA
 * @param flags - FOLL_* bits
 * @kernel mm/gup.c
 */
export function can_follow_write_pte(
	pte: pte_t,
	p: page | null,
	vma: vm_area_struct,
	flags: unsigned_int,
): bool {
	if (pte_write(pte)) return true;
	return can_follow_write_common(p, vma, flags) && !userfaultfd_pte_wp(vma, pte);
}

/**
 * Whether the pages of a huge pmd may be written to without a fault.
 *
 * @param pmd - the entry, present
 * @param p - its first page
 * @param vma - its VMA
 * @param flags - FOLL_* bits
 * @kernel mm/gup.c
 */
export function can_follow_write_pmd(
	pmd: pmd_t,
	p: page,
	vma: vm_area_struct,
	flags: unsigned_int,
): bool {
	if (pmd_write(pmd)) return true;
	return can_follow_write_common(p, vma, flags) && !userfaultfd_huge_pmd_wp(vma, pmd);
}
