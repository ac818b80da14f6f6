// SPDX-License-Identifier: GPL-2.0-only
/** What the administrator has set: /sys/kernel/mm/transparent_hugepage. */
import {
	policyAllowsHuge,
	type ThpPolicy,
	thp_vma_suitable_order,
} from '../../include/linux/huge_mm.ts';
import { VM_HUGETLB, VM_NOHUGEPAGE, VM_SPECIAL, vma_is_anonymous } from '../../include/linux/mm.ts';
import type { vm_area_struct } from '../../include/linux/mm_types.ts';
import { type bool, HPAGE_PMD_ORDER, HPAGE_PMD_SIZE } from '../../include/linux/types.ts';
import { perWorld } from '../../include/sim/world.ts';

/** The settings of a world. */
export interface ThpSettings {
	/** Who gets huge pages. */
	enabled: ThpPolicy;
	/** Reads of untouched memory map the huge zero page. */
	use_zero_page: boolean;
}

/** The installed world's settings. */
export const transparentHugepage = perWorld(
	(): ThpSettings => ({ enabled: 'madvise', use_zero_page: true }),
);

/**
 * Whether a page fault may try a huge page; alignment is the fault handler's to check.
 *
 * @param vma - the VMA
 */
export function faultMayBeHuge(vma: vm_area_struct): bool {
	return vma_is_anonymous(vma) && policyAllowsHuge(vma, transparentHugepage().enabled);
}

/**
 * Whether MADV_COLLAPSE may make huge pages in a VMA: whatever the policy is, unless the VMA was
 * excluded, and if a huge page fits into it at all.
 *
 * @param vma - the VMA
 */
export function collapseAllowed(vma: vm_area_struct): bool {
	if ((vma.vm_flags & (VM_NOHUGEPAGE | VM_SPECIAL | VM_HUGETLB)) !== 0n) return false;
	const addr = vma.vm_end - HPAGE_PMD_SIZE;
	if (addr < 0n || !thp_vma_suitable_order(vma, addr, HPAGE_PMD_ORDER)) return false;
	return vma_is_anonymous(vma) && vma.anon_vma !== null;
}
