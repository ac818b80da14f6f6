// SPDX-License-Identifier: GPL-2.0-only
/** An IOVA domain: which I/O virtual addresses of an IOMMU domain are taken. */
import type { bool, dma_addr_t, size_t, unsigned_int, unsigned_long } from './types.ts';

/** Orders of range that are cached when freed: 1 to 32 pages. */
export const IOVA_RANGE_CACHE_MAX_SIZE = 6;
/** Ranges of one order that are kept before they go back: two magazines. */
export const IOVA_MAG_SIZE = 127;
/** First address that needs more than 32 bits, as a page number. */
const PFN_4G = 0x10_0000;

/**
 * The taken ranges of one domain, in pages.
 *
 * @kernel include/linux/iova.h
 * @deviates two sorted arrays in place of the red-black tree
 */
export class iova_domain {
	granule: unsigned_long = 4096n;
	/** Lowest page that is handed out. */
	start_pfn = 1;
	dma_32bit_pfn = PFN_4G;
	/** Smallest size that failed below 4 GiB since something there was freed. */
	max32_alloc_size = PFN_4G;
	/** First and last page of each taken range, by rising address. */
	lo: number[] = [];
	hi: number[] = [];
	/** First page of the range that the next search begins at; below 4 GiB, and in general. */
	cached32_node = -1;
	cached_node = -1;
	/** Freed ranges by order, the latest last. */
	rcaches: number[][] = Array.from({ length: IOVA_RANGE_CACHE_MAX_SIZE }, () => []);
	/** Whether init_iova_domain() was called. */
	ready = false;
}

/** @kernel include/linux/iova.h */
export function iova_mask(iovad: iova_domain): unsigned_long {
	return iovad.granule - 1n;
}

/**
 * Offset of an address in its granule.
 *
 * @kernel include/linux/iova.h
 */
export function iova_offset(iovad: iova_domain, iova: dma_addr_t): size_t {
	return (iova as bigint) & iova_mask(iovad);
}

/**
 * A size rounded up to whole granules.
 *
 * @kernel include/linux/iova.h
 */
export function iova_align(iovad: iova_domain, size: size_t): size_t {
	return BigInt.asUintN(64, (size + iova_mask(iovad)) & ~iova_mask(iovad));
}

/**
 * An address rounded down to its granule.
 *
 * @kernel include/linux/iova.h
 */
export function iova_align_down(iovad: iova_domain, size: size_t): size_t {
	return size & ~iova_mask(iovad);
}

/** Smallest order of a power of two that is not below `n`. */
export function orderOf(n: unsigned_int): number {
	let order = 0;
	while (2 ** order < n) order++;
	return order;
}

/**
 * Whether an address or a size of a range is not a multiple of the granule.
 *
 * @kernel drivers/iommu/dma-iommu.c
 */
export function iova_unaligned(iovad: iova_domain, phys: bigint, size: size_t): bool {
	return ((phys | size) & iova_mask(iovad)) !== 0n;
}
