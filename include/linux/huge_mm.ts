// SPDX-License-Identifier: GPL-2.0-only
/** Transparent huge pages: which VMAs may have them, and where. */
import { VM_HUGEPAGE, VM_NOHUGEPAGE, vma_is_anonymous } from './mm.ts';
import type { vm_area_struct } from './mm_types.ts';
import { type bool, type int, PAGE_SHIFT, type unsigned_long } from './types.ts';

/** What /sys/kernel/mm/transparent_hugepage/enabled says. */
export type ThpPolicy = 'always' | 'madvise' | 'never';

/**
 * Whether a block of 2^order pages around an address lies inside a VMA; of a file, at a place of it
 * that is aligned in the same way.
 *
 * @param vma - the VMA
 * @param addr - an address of the block
 * @param order - its size
 * @kernel include/linux/huge_mm.h
 */
export function thp_vma_suitable_order(vma: vm_area_struct, addr: unsigned_long, order: int): bool {
	const size = 1n << (PAGE_SHIFT + BigInt(order));
	const haddr = addr & ~(size - 1n);
	if (!vma_is_anonymous(vma)) {
		const shift = (vma.vm_start >> PAGE_SHIFT) - vma.vm_pgoff;
		if ((shift & ((1n << BigInt(order)) - 1n)) !== 0n) return false;
	}
	return haddr >= vma.vm_start && haddr + size <= vma.vm_end;
}

/**
 * Whether a policy lets a page fault put a huge page into an anonymous VMA.
 *
 * @param vma - the VMA
 * @param policy - the policy
 */
export function policyAllowsHuge(vma: vm_area_struct, policy: ThpPolicy): bool {
	if ((vma.vm_flags & VM_NOHUGEPAGE) !== 0n || policy === 'never') return false;
	return policy === 'always' || (vma.vm_flags & VM_HUGEPAGE) !== 0n;
}
