// SPDX-License-Identifier: GPL-2.0-only
/**
 * VMAs. What lives where:
 *
 * - `vma/area.ts`: vm_area_alloc/dup/free, remove_vma, the file's rmap, protection bits
 * - `vma/adjust.ts`: split_vma, vma_merge_new_range, vma_modify_flags
 * - `vma/copy.ts`: copy_vma
 * - `vma/unmap.ts`: do_munmap and its steps
 */

export * from './vma/adjust.ts';
export * from './vma/area.ts';
export * from './vma/copy.ts';
export * from './vma/unmap.ts';
