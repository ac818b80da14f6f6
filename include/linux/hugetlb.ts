// SPDX-License-Identifier: GPL-2.0-only
/**
 * hugetlb: the pool of 2 MiB pages, and who has a right to one.
 *
 * ```
 *   nr_huge_pages   all of the pool
 *   free            not in anybody's hands
 *   resv            of the free ones: promised to mappings, nobody else may take them
 *
 *   map of reservations         region there          not there
 *   private mapping's           consumed, or none     its page is promised
 *   shared file's               promised, or there    nothing promised
 * ```
 */
import { perWorld } from '../sim/world.ts';
import type { inode } from './fs.ts';
import { VM_MAYSHARE } from './mm.ts';
import type { folio, vm_area_struct } from './mm_types.ts';
import { spinlock_t } from './spinlock.ts';
import { type int, PMD_SHIFT, PMD_SIZE, type pgoff_t, type unsigned_long } from './types.ts';

/** Map of a private mapping: this mapping made the reservations. */
export const HPAGE_RESV_OWNER = 1 << 0;
/** Pages were taken away from this mapping, a child's, so that the owner could have them. */
export const HPAGE_RESV_UNMAPPED = 1 << 1;

/**
 * All of the pool of one page size. There is one size here.
 *
 * @kernel include/linux/hugetlb.h
 */
export class hstate {
	order: int = 9;
	nr_huge_pages: int = 0;
	free_huge_pages: int = 0;
	resv_huge_pages: int = 0;
	/** Free ones that have memory already. */
	hugepage_freelist: folio[] = [];
	/** Free ones that the page allocator still has: it is asked when they are needed. */
	unbacked: int = 0;
	lock = new spinlock_t('hugetlb_lock');
}

/** The pool of the installed world. */
export const default_hstate = perWorld(() => new hstate());

/**
 * Map of reservations: which huge pages of a file, or of a private mapping, have a region.
 *
 * @kernel include/linux/hugetlb.h
 */
export class resv_map {
	refs: int = 1;
	regions: Set<int> = new Set();
}

/** What a VMA's vm_private_data is: C has a pointer with the flags in its low bits. */
export interface HugetlbVmaData {
	readonly resv: resv_map | null;
	/** HPAGE_RESV_* bits. */
	readonly flags: int;
}

/** Maps of shared files, by inode: C's resv_map of the inode. */
export const inodeResvMaps = perWorld<Map<inode, resv_map>>(() => new Map());

/**
 * The pool that a VMA's pages come from.
 *
 * @param _vma - hugetlb VMA
 * @kernel include/linux/hugetlb.h
 */
export function hstate_vma(_vma: vm_area_struct): hstate {
	return default_hstate();
}
/** @kernel include/linux/hugetlb.h */
export function huge_page_size(_h: hstate): unsigned_long {
	return PMD_SIZE;
}
/** @kernel include/linux/hugetlb.h */
export function huge_page_mask(_h: hstate): unsigned_long {
	return ~(PMD_SIZE - 1n);
}
/** @kernel include/linux/hugetlb.h */
export function pages_per_huge_page(h: hstate): int {
	return 1 << h.order;
}

/**
 * Number of the huge page of an address in the VMA's file.
 *
 * @param h - the pool
 * @param vma - hugetlb VMA
 * @param address - the address
 * @kernel mm/hugetlb.c
 */
export function vma_hugecache_offset(
	h: hstate,
	vma: vm_area_struct,
	address: unsigned_long,
): pgoff_t {
	return ((address - vma.vm_start) >> PMD_SHIFT) + (vma.vm_pgoff >> BigInt(h.order));
}

/** What a VMA keeps of its reservations. */
export function hugetlbDataOf(vma: vm_area_struct): HugetlbVmaData {
	return (vma.vm_private_data as HugetlbVmaData | null) ?? { resv: null, flags: 0 };
}
/** @kernel mm/hugetlb.c */
export function is_vma_resv_set(vma: vm_area_struct, flag: int): boolean {
	return (hugetlbDataOf(vma).flags & flag) !== 0;
}
/** @kernel mm/hugetlb.c */
export function set_vma_resv_flags(vma: vm_area_struct, flags: int): void {
	const { resv, flags: was } = hugetlbDataOf(vma);
	vma.vm_private_data = { resv, flags: was | flags };
}

/**
 * The map of reservations that counts for a VMA.
 *
 * @param vma - hugetlb VMA
 * @returns null: a child's copy of a private mapping has none
 * @kernel mm/hugetlb.c
 */
export function vma_resv_map(vma: vm_area_struct): resv_map | null {
	if ((vma.vm_flags & VM_MAYSHARE) === 0n) return hugetlbDataOf(vma).resv;
	return inodeResvMaps().get(vma.vm_file!.f_inode!) ?? null;
}

/** The folio was taken from the promised ones: if it is freed unused, it is promised again. */
const HPG_restore_reserve = 1;

/** @kernel include/linux/hugetlb.h */
export function folio_test_hugetlb_restore_reserve(f: folio): boolean {
	return f.private === HPG_restore_reserve;
}
/** @kernel include/linux/hugetlb.h */
export function folio_set_hugetlb_restore_reserve(f: folio): void {
	f.private = HPG_restore_reserve;
}
/** @kernel include/linux/hugetlb.h */
export function folio_clear_hugetlb_restore_reserve(f: folio): void {
	f.private = null;
}
