// SPDX-License-Identifier: GPL-2.0-only
/**
 * Reverse mapping: who maps a page. The kernel's one file is a folder here:
 *
 * | file | functions |
 * | --- | --- |
 * | rmap/anon_vma.ts | anon_vma_prepare, _clone, _fork, unlink_anon_vmas, find_mergeable_anon_vma |
 * | rmap/large_mapcount.ts | folio_large_mapcount, folio_add_large_mapcount, folio_sub_large_mapcount |
 * | rmap/mapcount.ts | folio_add_*_rmap_pte, folio_remove_rmap_pte, folio_try_dup_*, _try_share_*, folio_mapcount |
 * | rmap/walk.ts | rmap_walk, page_vma_mapped_walk, vma_address |
 * | rmap/try_to_migrate.ts | try_to_migrate, folio_mapping |
 * | rmap/try_to_unmap.ts | try_to_unmap |
 * | device_exclusive.ts, beside it | make_device_exclusive, make_device_exclusive_range |
 *
 * @kernel mm/rmap.c
 */
export * from './rmap/anon_vma.ts';
export * from './rmap/large_mapcount.ts';
export * from './rmap/mapcount.ts';
export * from './rmap/try_to_migrate.ts';
export { try_to_unmap } from './rmap/try_to_unmap.ts';
export * from './rmap/walk.ts';
