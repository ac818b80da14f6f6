// SPDX-License-Identifier: GPL-2.0-only
/**
 * hugetlb: mappings of 2 MiB pages from a pool. The kernel's one file is a folder here:
 *
 * | file | functions |
 * | --- | --- |
 * | hugetlb/pool.ts | setHugePages, hugetlb_acct_memory, free_huge_folio |
 * | hugetlb/reserve.ts | hugetlb_reserve_pages, vma_needs_reservation, alloc_hugetlb_folio |
 * | hugetlb/entry.ts | huge_pte_alloc, hugetlb_walk, make_huge_pte |
 * | hugetlb/rmap.ts | hugetlb_add_new_anon_rmap, hugetlb_remove_rmap |
 * | hugetlb/fault.ts | hugetlb_fault |
 * | hugetlb/copy.ts | copy_hugetlb_page_range, hugetlb_change_protection |
 * | hugetlb/unmap.ts | zapHugetlb, unmap_ref_private |
 * | hugetlb/move.ts | move_hugetlb_page_tables |
 *
 * Files of huge pages are in hugetlbfs.ts.
 *
 * @kernel mm/hugetlb.c
 */
export { copy_hugetlb_page_range, hugetlb_change_protection } from './hugetlb/copy.ts';
export { hugetlb_fault } from './hugetlb/fault.ts';
export { clear_vma_resv_huge_pages, move_hugetlb_page_tables } from './hugetlb/move.ts';
export {
	free_huge_folio,
	hugetlb_acct_memory,
	releaseHugePages,
	setHugePages,
} from './hugetlb/pool.ts';
export { hugetlb_dup_vma_private } from './hugetlb/reserve.ts';
export { zapHugetlb } from './hugetlb/unmap.ts';
