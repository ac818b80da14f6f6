// SPDX-License-Identifier: GPL-2.0-only
/**
 * Migration between system memory and device memory.
 *
 * Guarantee: from setup to finalize a collected page has no CPU mapping but migration entries, is
 * locked, and has no reference that is not accounted for, so the driver may copy it; afterwards the
 * page tables point to the destination where the migration went through, else to the source again.
 * Mechanism: words in `src` and `dst`, one a page; a step that fails clears MIGRATE in the word and
 * the next steps pass it by.
 * Duty: the driver fills `dst` with locked pages of its own between setup and pages, copies, and
 * calls finalize in any case.
 *
 * ```
 *                    src word after setup          after pages                  after finalize
 *   empty, zero      MIGRATE                       MIGRATE if dst was mapped    dst mapped
 *   page             VALID MIGRATE [WRITE] pfn     same, or without MIGRATE     dst or src mapped
 *   not collected    0                             0                            as it was
 *
 *   setup    [ collect: lock, replace ptes ][ unmap: off the LRU, other mappings, pinned? ]
 *   driver   allocate dst, copy
 *   pages    [ struct page of src -> dst, or map dst where nothing was ]
 *   finalize [ migration entries -> dst or src, unlock, put ]
 *
 *   references of an anonymous page mapped once, fault page aside:
 *   before 1 (pte)   collect +1 -1   unmap (system) +1 -1 by the LRU   pages 1 or 1   finalize -1
 * ```
 *
 * The kernel's one file is a folder here:
 *
 * | file | functions |
 * | --- | --- |
 * | collect.ts | migrate_vma_collect and its walk callbacks |
 * | huge.ts | what 7.3 does for whole PMDs |
 * | unmap.ts | migrate_vma_check_page, migrate_device_unmap |
 * | insert.ts | migrate_vma_insert_page: device memory where nothing was |
 * | pages.ts | __migrate_device_pages, __migrate_device_finalize |
 * | vma.ts | migrate_vma_setup, _pages, _finalize |
 * | coherent.ts | migrate_device_coherent_folio |
 * | words.ts | migrate_vma_collect_skip, one word into `src` and `dst` |
 * | range.ts | migrate_device_range, _pfns, _pages, _finalize |
 *
 * @kernel mm/migrate_device.c
 */
export { migrate_device_coherent_folio } from './migrate_device/coherent.ts';
export {
	migrate_device_finalize,
	migrate_device_pages,
	migrate_device_pfns,
	migrate_device_range,
} from './migrate_device/range.ts';
export {
	migrate_vma_finalize,
	migrate_vma_pages,
	migrate_vma_setup,
} from './migrate_device/vma.ts';
