// SPDX-License-Identifier: GPL-2.0-only
/** What the flags of a VMA allow, as bits of a page-table entry. */
import { VM_ACCESS_FLAGS, VM_EXEC, VM_SHARED, VM_WRITE } from '../../include/linux/mm.ts';
import {
	PAGE_COPY,
	PAGE_NONE,
	PAGE_READONLY_EXEC,
	PAGE_SHARED,
	PAGE_SHARED_EXEC,
	type pgprot_t,
} from '../../include/linux/pgtable.ts';
import type { vm_flags_t } from '../../include/linux/types.ts';

/**
 * Protection bits of new entries of a VMA. A private mapping never gets the write bit from here:
 * the first write must fault.
 *
 * @param vm_flags - flags of the VMA
 * @kernel arch/x86/mm/pgprot.c
 */
export function vm_get_page_prot(vm_flags: vm_flags_t): pgprot_t {
	if ((vm_flags & VM_ACCESS_FLAGS) === 0n) return PAGE_NONE;
	const exec = (vm_flags & VM_EXEC) !== 0n;
	if ((vm_flags & (VM_SHARED | VM_WRITE)) === (VM_SHARED | VM_WRITE))
		return exec ? PAGE_SHARED_EXEC : PAGE_SHARED;
	return exec ? PAGE_READONLY_EXEC : PAGE_COPY;
}
