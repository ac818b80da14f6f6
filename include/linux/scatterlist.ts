// SPDX-License-Identifier: GPL-2.0-only
/**
 * Scatterlists: what is in memory as a list of page, offset, length; what the device sees as a list of
 * DMA address and length in the same entries.
 *
 * The two lists are independent: after mapping the first `nents` entries hold the device's view, which
 * may have fewer entries than the `orig_nents` of memory. Entries are linked: where C does `sg + 1` or
 * follows a chain entry, there is one pointer here.
 */
import { shouldFail } from '../sim/fault_injection.ts';
import { EINVAL, ENOMEM } from './errno.ts';
import type { page } from './mm_types.ts';
import { page_to_phys } from './page-flags.ts';
import type { bool, dma_addr_t, gfp_t, int, phys_addr_t, unsigned_int } from './types.ts';

/** `dma_flags`: the DMA address is one of the PCI bus. */
export const SG_DMA_BUS_ADDRESS = 1 << 0;
/** `dma_flags` of the first entry: the list was mapped entry by entry, with bouncing. */
export const SG_DMA_SWIOTLB = 1 << 1;

/**
 * One entry.
 *
 * @kernel include/linux/scatterlist.h
 * @deviates `page_link` is a page and a link to the next entry, not one word of both
 */
export class scatterlist {
	/** The page; null where there is only a DMA address. */
	page: page | null = null;
	/** The next entry; null after the last. */
	next: scatterlist | null = null;
	offset: unsigned_int = 0;
	length: unsigned_int = 0;
	dma_address: dma_addr_t = 0n;
	dma_length: unsigned_int = 0;
	dma_flags: unsigned_int = 0;
}

/**
 * A list with the lengths of its two views.
 *
 * @kernel include/linux/scatterlist.h
 */
export class sg_table {
	sgl: scatterlist | null = null;
	/** Entries of the device's view. */
	nents: unsigned_int = 0;
	/** Entries of the memory's view. */
	orig_nents: unsigned_int = 0;
}

/**
 * Make a list of zeroed entries.
 *
 * @param nents - how many, at least 1
 * @returns the first entry
 */
export function sgList(nents: number): scatterlist {
	const first = new scatterlist();
	let last = first;
	for (let i = 1; i < nents; i++) {
		last.next = new scatterlist();
		last = last.next;
	}
	return first;
}

/**
 * The entries of a list as an iteration, at most `nents` of them: for_each_sg().
 *
 * @param sgl - first entry
 * @param nents - how many
 */
export function* sgEntries(sgl: scatterlist | null, nents: number): Iterable<scatterlist> {
	let sg = sgl;
	for (let i = 0; i < nents && sg !== null; i++, sg = sg.next) yield sg;
}

/**
 * Clear the entries of a list and end it.
 *
 * @param sgl - first entry
 * @param nents - how many entries
 * @kernel lib/scatterlist.c
 */
export function sg_init_table(sgl: scatterlist, nents: unsigned_int): void {
	let sg: scatterlist | null = sgl;
	for (let i = 0; i < nents && sg !== null; i++) {
		const next: scatterlist | null = sg.next;
		Object.assign(sg, new scatterlist());
		sg.next = i + 1 < nents ? next : null;
		sg = next;
	}
}

/**
 * Allocate the entries of a table.
 *
 * @param table - out: the table
 * @param nents - how many entries
 * @param gfp_mask - allocation flags
 * @retval 0 done
 * @retval -EINVAL no entries asked for
 * @retval -ENOMEM made to fail at site `sg_alloc_table`
 * @kernel lib/scatterlist.c
 */
export function sg_alloc_table(table: sg_table, nents: unsigned_int, gfp_mask: gfp_t): int {
	void gfp_mask;
	table.sgl = null;
	table.nents = 0;
	table.orig_nents = 0;
	if (nents === 0) return -EINVAL;
	if (shouldFail('sg_alloc_table')) return -ENOMEM;
	table.sgl = sgList(nents);
	table.nents = nents;
	table.orig_nents = nents;
	return 0;
}

/** @kernel include/linux/scatterlist.h */
export function sg_assign_page(sg: scatterlist, p: page | null): void {
	sg.page = p;
}

/**
 * Point an entry at memory.
 *
 * @param sg - the entry
 * @param p - first page
 * @param len - bytes
 * @param offset - offset in the page
 * @kernel include/linux/scatterlist.h
 */
export function sg_set_page(
	sg: scatterlist,
	p: page | null,
	len: unsigned_int,
	offset: unsigned_int,
): void {
	sg_assign_page(sg, p);
	sg.offset = offset;
	sg.length = len;
}

/** @kernel include/linux/scatterlist.h */
export function sg_page(sg: scatterlist): page | null {
	return sg.page;
}

/**
 * Physical address of an entry's first byte.
 *
 * @param sg - an entry that has a page
 * @kernel include/linux/scatterlist.h
 */
export function sg_phys(sg: scatterlist): phys_addr_t {
	return (page_to_phys(sg.page as page) as bigint) + BigInt(sg.offset);
}

/** @kernel include/linux/scatterlist.h */
export function sg_dma_address(sg: scatterlist): dma_addr_t {
	return sg.dma_address;
}

/** @kernel include/linux/scatterlist.h */
export function sg_dma_len(sg: scatterlist): unsigned_int {
	return sg.dma_length;
}

/** @kernel include/linux/scatterlist.h */
export function sg_dma_is_bus_address(sg: scatterlist): bool {
	return (sg.dma_flags & SG_DMA_BUS_ADDRESS) !== 0;
}

/** @kernel include/linux/scatterlist.h */
export function sg_dma_mark_bus_address(sg: scatterlist): void {
	sg.dma_flags |= SG_DMA_BUS_ADDRESS;
}

/** @kernel include/linux/scatterlist.h */
export function sg_dma_unmark_bus_address(sg: scatterlist): void {
	sg.dma_flags &= ~SG_DMA_BUS_ADDRESS;
}

/** @kernel include/linux/scatterlist.h */
export function sg_dma_is_swiotlb(sg: scatterlist): bool {
	return (sg.dma_flags & SG_DMA_SWIOTLB) !== 0;
}

/** @kernel include/linux/scatterlist.h */
export function sg_dma_mark_swiotlb(sg: scatterlist): void {
	sg.dma_flags |= SG_DMA_SWIOTLB;
}
