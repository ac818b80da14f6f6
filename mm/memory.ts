// SPDX-License-Identifier: GPL-2.0-only
/**
 * Page faults, page tables of a fork, and unmapping. The kernel's one file is a folder here:
 *
 * | file | functions |
 * | --- | --- |
 * | memory/fault.ts | handle_mm_fault, __handle_mm_fault, handle_pte_fault, do_numa_page |
 * | memory/missing.ts | do_pte_missing |
 * | memory/anon.ts | do_anonymous_page |
 * | memory/file.ts | do_fault, do_read_fault, do_cow_fault, do_shared_fault, finish_fault, fault-around |
 * | memory/shared.ts | do_page_mkwrite, fault_dirty_shared_page, wp_page_shared |
 * | memory/wp.ts | do_wp_page, wp_page_copy, wp_can_reuse_anon_folio |
 * | memory/swap_page.ts | do_swap_page, restore_exclusive_pte |
 * | memory/swapin.ts | swapInPage: the part of do_swap_page() that swaps in |
 * | memory/fault_lock.ts | folio_lock_or_retry |
 * | memory/change_writable.ts | can_change_pte_writable |
 * | memory/copy.ts | copy_page_range |
 * | memory/zap.ts | unmap_vmas, zap_page_range_single, unmap_page_range |
 * | memory/unmap_mapping.ts | unmap_mapping_range, unmap_mapping_pages, unmap_mapping_folio |
 * | memory/insert.ts | vm_insert_page, remap_pfn_range, vmf_insert_pfn, vmf_insert_mixed |
 * | memory/vm_normal.ts | vm_normal_page, print_bad_pte |
 * | memory/zero_page.ts | is_zero_pfn, my_zero_pfn, ZERO_PAGE |
 * | memory/counter.ts | add_mm_counter, mm_counter |
 * | memory/fault_common.ts | what the kinds of fault share |
 *
 * free_pgtables() is in free_pgtables.ts.
 *
 * @kernel mm/memory.c
 */
export { copy_page_range } from './memory/copy.ts';
export {
	add_mm_counter,
	add_mm_rss_vec,
	dec_mm_counter,
	inc_mm_counter,
	mm_counter,
	mm_counter_file,
} from './memory/counter.ts';
export { handle_mm_fault } from './memory/fault.ts';
export {
	check_stable_address_space,
	fault_flag_allow_retry_first,
	folio_mk_pte,
	maybe_mkwrite,
} from './memory/fault_common.ts';
export { __folio_lock_or_retry, folio_lock_or_retry } from './memory/fault_lock.ts';
export { FaultAround, faultAround, finish_fault, set_pte_range } from './memory/file.ts';
export {
	insertDevmap,
	insertPfn,
	remap_pfn_range,
	vm_insert_page,
	vmf_insert_mixed,
	vmf_insert_page_mkwrite,
	vmf_insert_pfn,
} from './memory/insert.ts';
export {
	restore_exclusive_pte,
	try_restore_exclusive_pte,
} from './memory/swap_page.ts';
export {
	unmap_mapping_folio,
	unmap_mapping_pages,
	unmap_mapping_range,
} from './memory/unmap_mapping.ts';
export { print_bad_pte, vm_normal_folio, vm_normal_page } from './memory/vm_normal.ts';
export {
	unmap_page_range,
	unmap_vmas,
	zap_details,
	zap_page_range_single,
	zapDontneed,
} from './memory/zap.ts';
export { is_zero_pfn, my_zero_pfn, ZERO_PAGE, zero_pfn } from './memory/zero_page.ts';
