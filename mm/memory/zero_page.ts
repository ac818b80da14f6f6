// SPDX-License-Identifier: GPL-2.0-only
/**
 * The zero page: what an anonymous page that nobody wrote to reads from.
 *
 * One page below what the allocator owns, as the kernel's lies in its image. Entries that map it
 * are special: it has no rmap and no references.
 */
import type { page } from '../../include/linux/mm_types.ts';
import { pfn_to_page } from '../../include/linux/mmzone.ts';
import { PG_reserved } from '../../include/linux/page-flags.ts';
import type { bool, pfn_t, unsigned_long } from '../../include/linux/types.ts';

/** PFN of the zero page. */
export const zero_pfn: pfn_t = 0x10n;

/**
 * Whether a PFN is the zero page.
 *
 * @param pfn - page frame number
 * @kernel include/linux/pgtable.h
 */
export function is_zero_pfn(pfn: pfn_t): bool {
	return pfn === zero_pfn;
}

/**
 * PFN of the zero page for an address.
 *
 * @param _addr - some architectures have one for each cache colour
 * @kernel include/linux/pgtable.h (gone in 7.x)
 */
export function my_zero_pfn(_addr: unsigned_long): pfn_t {
	return zero_pfn;
}

/**
 * The zero page itself.
 *
 * @param vaddr - as for my_zero_pfn()
 * @kernel include/linux/pgtable.h
 */
export function ZERO_PAGE(vaddr: unsigned_long): page {
	const p = pfn_to_page(my_zero_pfn(vaddr));
	if (p._refcount === 0) {
		p._refcount = 1;
		p.flags |= PG_reserved;
	}
	return p;
}
