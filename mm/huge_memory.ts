// SPDX-License-Identifier: GPL-2.0-only
/**
 * Transparent huge pages: 2 MiB of anonymous memory mapped by one pmd. The kernel's one file is a
 * folder here:
 *
 * | file | functions |
 * | --- | --- |
 * | huge_memory/policy.ts | the settings, and whom they let have huge pages |
 * | huge_memory/zero.ts | mm_get_huge_zero_folio, is_huge_zero_pmd |
 * | huge_memory/deposit.ts | pgtable_trans_huge_deposit, _withdraw |
 * | huge_memory/fault.ts | do_huge_pmd_anonymous_page, do_huge_pmd_wp_page, do_huge_pmd_numa_page, do_huge_pmd_device_private |
 * | huge_memory/copy.ts | copy_huge_pmd |
 * | huge_memory/change.ts | zap_huge_pmd, move_huge_pmd, change_huge_pmd |
 * | huge_memory/free.ts | madvise_free_huge_pmd |
 * | huge_memory/split_pmd.ts | split_huge_pmd, split_huge_pmd_address, vma_adjust_trans_huge |
 * | huge_memory/split_folio.ts | split_folio, split_huge_page, folio_split_unmapped |
 * | huge_memory/migrate.ts | set_pmd_migration_entry, remove_migration_pmd |
 *
 * free.ts, split_folio.ts and migrate.ts are not handed on here: they need rmap and migration, which
 * come here.
 *
 * @kernel mm/huge_memory.c
 */
export { change_huge_pmd, move_huge_pmd, zap_huge_pmd } from './huge_memory/change.ts';
export { copy_huge_pmd } from './huge_memory/copy.ts';
export {
	pgtable_trans_huge_deposit,
	pgtable_trans_huge_withdraw,
	zap_deposited_table,
} from './huge_memory/deposit.ts';
export {
	do_huge_pmd_anonymous_page,
	do_huge_pmd_device_private,
	do_huge_pmd_numa_page,
	do_huge_pmd_wp_page,
	folio_mk_pmd,
	huge_pmd_set_accessed,
	hugeFaultAllowed,
	map_anon_folio_pmd_nopf,
	maybe_pmd_mkwrite,
	touch_pmd,
} from './huge_memory/fault.ts';
export {
	collapseAllowed,
	faultMayBeHuge,
	type ThpSettings,
	transparentHugepage,
} from './huge_memory/policy.ts';
export {
	__split_huge_pmd,
	split_huge_pmd,
	split_huge_pmd_address,
	split_huge_pmd_locked,
	vma_adjust_trans_huge,
} from './huge_memory/split_pmd.ts';
export {
	hugeZeroStart,
	is_huge_zero_pfn,
	is_huge_zero_pmd,
	mm_get_huge_zero_folio,
} from './huge_memory/zero.ts';
