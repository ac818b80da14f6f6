// SPDX-License-Identifier: GPL-2.0-only
/**
 * Page tables. What lives where:
 *
 * - `pgtable/alloc.ts`: p?d_offset, p?d_alloc, pte_alloc, pgd_alloc/free, the locks of tables
 * - `pgtable/map.ts`: pte_offset_map(_lock), pte_unmap(_unlock), p??p_get(_lockless), p?d_trans_huge_lock
 * - `pgtable/set.ts`: set_pte_at, ptep_get_and_clear, ptep_clear_flush, ptep_modify_prot_*
 * - `pgtable/prot.ts`: vm_get_page_prot
 *
 * free_pgtables() and what it needs is in `free_pgtables.ts`.
 */
export * from './pgtable/alloc.ts';
export * from './pgtable/map.ts';
export * from './pgtable/prot.ts';
export * from './pgtable/set.ts';
