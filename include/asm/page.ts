// SPDX-License-Identifier: GPL-2.0-only
/** Kernel addresses of physical memory: the linear map. */
import type { page } from '../linux/mm_types.ts';
import { page_to_pfn, pfn_to_page } from '../linux/mmzone.ts';
import { PAGE_SHIFT, type phys_addr_t, type unsigned_long } from '../linux/types.ts';

/** Where the linear map begins on x86-64 without KASLR. */
export const PAGE_OFFSET: unsigned_long = 0xffff_8880_0000_0000n;

/**
 * Kernel address of physical memory.
 *
 * @param phys - physical address
 * @kernel arch/x86/include/asm/page.h
 */
export function __va(phys: phys_addr_t): unsigned_long {
	return (phys as bigint) + PAGE_OFFSET;
}

/**
 * Physical address of a kernel address.
 *
 * @param virt - address in the linear map
 * @kernel arch/x86/include/asm/page.h
 */
export function __pa(virt: unsigned_long): phys_addr_t {
	return virt - PAGE_OFFSET;
}

/**
 * Kernel address of a page.
 *
 * @param p - page in the linear map
 * @kernel include/linux/mm.h
 */
export function page_to_virt(p: page): unsigned_long {
	return __va((page_to_pfn(p) as bigint) << PAGE_SHIFT);
}

/**
 * The page that a kernel address lies in.
 *
 * @param virt - address in the linear map
 * @kernel arch/x86/include/asm/page.h
 */
export function virt_to_page(virt: unsigned_long): page {
	return pfn_to_page((__pa(virt) as bigint) >> PAGE_SHIFT) as page;
}
