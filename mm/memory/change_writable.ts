// SPDX-License-Identifier: GPL-2.0-only
/**
 * Whether an entry can be made writable without a fault.
 *
 * A part of mm/mprotect.c; a file of its own, since faults need it and mprotect() needs the rest.
 */
import { WARN_ON_ONCE } from '../../include/linux/bug.ts';
import { VM_SHARED, VM_WRITE } from '../../include/linux/mm.ts';
import type { vm_area_struct } from '../../include/linux/mm_types.ts';
import { PageAnon, PageAnonExclusive } from '../../include/linux/page-flags.ts';
import { pte_dirty, pte_protnone, type pte_t } from '../../include/linux/pgtable.ts';
import type { bool, unsigned_long } from '../../include/linux/types.ts';
import { userfaultfd_pte_wp } from '../../include/linux/userfaultfd_k.ts';
import { vm_normal_page } from './vm_normal.ts';

/**
 * Whether a pte of a writable VMA can be made writable without a fault.
 *
 * @param vma - its VMA
 * @param addr - its address
 * @param pte - the word, with its new protection
 * @context The table's lock is held.
 * @kernel mm/mprotect.c
 */
export function can_change_pte_writable(
	vma: vm_area_struct,
	addr: unsigned_long,
	pte: pte_t,
): bool {
	if (WARN_ON_ONCE((vma.vm_flags & VM_WRITE) === 0n)) return false;
	if (pte_protnone(pte) || userfaultfd_pte_wp(vma, pte)) return false;
	if ((vma.vm_flags & VM_SHARED) === 0n) {
		// as the write fault would: only a page that nobody else can have
		const p = vm_normal_page(vma, addr, pte);
		return p !== null && PageAnon(p) && PageAnonExclusive(p);
	}
	// clean: somebody may want to hear of the first write
	return pte_dirty(pte);
}
