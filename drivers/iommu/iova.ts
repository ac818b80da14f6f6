// SPDX-License-Identifier: GPL-2.0-only
/**
 * The IOVA allocator.
 *
 * Guarantee: a range is aligned to the next power of two of its size, lies at or below the limit,
 * never contains page 0, and comes from the top: high addresses go first. Which range exactly is
 * decided as in C, so that a range freed twice, or freed while it is linked, comes back to the next
 * caller of that size just as it would there.
 * Mechanism: sorted arrays of taken ranges, searched downwards from where the last search ended;
 * in front of them, for 1 to 32 pages, a stack of freed ranges of each order.
 *
 * ```
 *   1 <-- start_pfn                        limit_pfn
 *   |..........| taken |......| taken |....|
 *                      ^ new = (lo - size) & align, unless it overlaps the next lower one
 * ```
 */
import {
	IOVA_MAG_SIZE,
	IOVA_RANGE_CACHE_MAX_SIZE,
	type iova_domain,
	orderOf,
} from '../../include/linux/iova.ts';
import type { unsigned_int, unsigned_long } from '../../include/linux/types.ts';

/** Above every page: what the C anchor node is. */
const IOVA_ANCHOR = Number.MAX_SAFE_INTEGER;

/**
 * Make a domain ready.
 *
 * @param iovad - the domain
 * @param granule - smallest page of the IOMMU
 * @param start_pfn - lowest page handed out
 * @kernel drivers/iommu/iova.c
 */
export function init_iova_domain(
	iovad: iova_domain,
	granule: unsigned_long,
	start_pfn: number,
): void {
	iovad.granule = granule;
	iovad.start_pfn = start_pfn;
	iovad.max32_alloc_size = iovad.dma_32bit_pfn;
	iovad.cached_node = IOVA_ANCHOR;
	iovad.cached32_node = IOVA_ANCHOR;
	iovad.ready = true;
}

/** Index of the first range that begins at or above `pfn`. */
function lowerBound(iovad: iova_domain, pfn: number): number {
	const { lo } = iovad;
	let low = 0;
	let high = lo.length;
	while (low < high) {
		const middle = (low + high) >> 1;
		if (lo[middle]! < pfn) low = middle + 1;
		else high = middle;
	}
	return low;
}

function loAt(iovad: iova_domain, index: number): number {
	return index < iovad.lo.length ? iovad.lo[index]! : IOVA_ANCHOR;
}

function hiAt(iovad: iova_domain, index: number): number {
	return index < iovad.hi.length ? iovad.hi[index]! : IOVA_ANCHOR;
}

/** Numbers reach 2^52: no bit operations. */
function alignDown(pfn: number, align: number): number {
	return Math.floor(pfn / align) * align;
}

/**
 * Walk down from range `curr` to a gap that holds `size` pages.
 *
 * @returns first page, or a number below `low` if there is none
 */
function walkDown(
	iovad: iova_domain,
	curr: number,
	size: number,
	align: number,
	limit: number,
	low: number,
): number {
	let high = limit;
	let at = curr;
	let found: number;
	do {
		high = Math.min(high, loAt(iovad, at));
		found = alignDown(high - size, align);
		at--;
	} while (at >= 0 && found <= hiAt(iovad, at) && found >= low);
	return high < size ? -1 : found;
}

/**
 * Take a range.
 *
 * @param iovad - the domain
 * @param size - pages
 * @param limit_pfn - highest page it may contain
 * @param size_aligned - align it to the next power of two of its size
 * @returns its first page, 0: there is none
 * @kernel drivers/iommu/iova.c
 */
export function alloc_iova(
	iovad: iova_domain,
	size: unsigned_int,
	limit_pfn: number,
	size_aligned: boolean,
): number {
	const limit = limit_pfn + 1;
	const align = size_aligned ? 2 ** orderOf(size) : 1;
	const below4g = limit <= iovad.dma_32bit_pfn;
	if (below4g && size >= iovad.max32_alloc_size) return 0;

	const cached = below4g ? iovad.cached32_node : iovad.cached_node;
	const curr = cached === IOVA_ANCHOR ? iovad.lo.length : lowerBound(iovad, cached);
	const retry_pfn = hiAt(iovad, curr);
	let found = walkDown(iovad, curr, size, align, limit, iovad.start_pfn);
	if (found < iovad.start_pfn && retry_pfn < limit)
		// Once more, in what lies above the place where this search began.
		found = atLeast(
			walkDown(
				iovad,
				lowerBound(iovad, limit),
				size,
				align,
				limit,
				retry_pfn + 1,
			),
			retry_pfn + 1,
		);
	if (found < iovad.start_pfn) {
		iovad.max32_alloc_size = size;
		return 0;
	}
	insert(iovad, found, found + size - 1);
	if (found + size - 1 < iovad.dma_32bit_pfn) iovad.cached32_node = found;
	else iovad.cached_node = found;
	return found;
}

function atLeast(pfn: number, low: number): number {
	return pfn < low ? -1 : pfn;
}

function insert(iovad: iova_domain, lo: number, hi: number): void {
	const at = lowerBound(iovad, lo);
	iovad.lo.splice(at, 0, lo);
	iovad.hi.splice(at, 0, hi);
}

/**
 * Keep a range from being handed out.
 *
 * @param iovad - the domain
 * @param pfn_lo - first page
 * @param pfn_hi - last page
 * @kernel drivers/iommu/iova.c
 */
export function reserve_iova(iovad: iova_domain, pfn_lo: number, pfn_hi: number): void {
	let lo = pfn_lo;
	let hi = pfn_hi;
	let at = lowerBound(iovad, lo);
	if (at > 0 && iovad.hi[at - 1]! >= lo) at--;
	while (at < iovad.lo.length && iovad.lo[at]! <= hi) {
		lo = Math.min(lo, iovad.lo[at]!);
		hi = Math.max(hi, iovad.hi[at]!);
		iovad.lo.splice(at, 1);
		iovad.hi.splice(at, 1);
	}
	insert(iovad, lo, hi);
}

/**
 * Give the range that contains a page back.
 *
 * @param iovad - the domain
 * @param pfn - any page of it
 * @kernel drivers/iommu/iova.c
 */
export function free_iova(iovad: iova_domain, pfn: number): void {
	let at = lowerBound(iovad, pfn);
	if (loAt(iovad, at) !== pfn) at--;
	if (at < 0 || hiAt(iovad, at) < pfn) return;
	const lo = iovad.lo[at]!;
	const hi = iovad.hi[at]!;
	const next = loAt(iovad, at + 1);
	if (lo === iovad.cached32_node || (hi < iovad.dma_32bit_pfn && lo >= iovad.cached32_node))
		iovad.cached32_node = next;
	if (lo < iovad.dma_32bit_pfn) iovad.max32_alloc_size = iovad.dma_32bit_pfn;
	if (lo >= iovad.cached_node) iovad.cached_node = next;
	iovad.lo.splice(at, 1);
	iovad.hi.splice(at, 1);
}

/** The stack that a size is cached in; undefined: too large. */
function rcacheOf(iovad: iova_domain, size: number): number[] | undefined {
	return iovad.rcaches[orderOf(size)];
}

function iova_rcache_get(iovad: iova_domain, size: number, limit_pfn: number): number {
	const stack = rcacheOf(iovad, size);
	if (stack === undefined) return 0;
	for (let i = stack.length - 1; i >= 0; i--) {
		const pfn = stack[i]!;
		if (pfn > limit_pfn - size) continue;
		const last = stack.pop()!;
		if (i < stack.length) stack[i] = last;
		return pfn;
	}
	return 0;
}

/**
 * Take a range, a freed one of its order first.
 *
 * @param iovad - the domain
 * @param size - pages
 * @param limit_pfn - highest page it may contain
 * @param flush_rcache - give all freed ranges back and try again before giving up
 * @returns its first page, 0: there is none
 * @kernel drivers/iommu/iova.c
 */
export function alloc_iova_fast(
	iovad: iova_domain,
	size: unsigned_int,
	limit_pfn: number,
	flush_rcache: boolean,
): number {
	// What is cached by order must be allocated by order, or it would not be found again.
	const pages = size < 1 << (IOVA_RANGE_CACHE_MAX_SIZE - 1) ? 2 ** orderOf(size) : size;
	const cached = iova_rcache_get(iovad, pages, limit_pfn + 1);
	if (cached !== 0) return cached;
	const fresh = alloc_iova(iovad, pages, limit_pfn, true);
	if (fresh !== 0 || !flush_rcache) return fresh;
	for (const stack of iovad.rcaches)
		for (let pfn = stack.pop(); pfn !== undefined; pfn = stack.pop())
			free_iova(iovad, pfn);
	return alloc_iova(iovad, pages, limit_pfn, true);
}

/**
 * Give a range back, to the stack of its order if there is room.
 *
 * @param iovad - the domain
 * @param pfn - its first page; not checked
 * @param size - pages; not checked
 * @kernel drivers/iommu/iova.c
 */
export function free_iova_fast(iovad: iova_domain, pfn: number, size: unsigned_int): void {
	const stack = rcacheOf(iovad, size);
	if (stack !== undefined && stack.length < 2 * IOVA_MAG_SIZE) stack.push(pfn);
	else free_iova(iovad, pfn);
}

/**
 * Largest size that is cached.
 *
 * @kernel drivers/iommu/iova.c
 */
export function iova_rcache_range(): unsigned_long {
	return 4096n << BigInt(IOVA_RANGE_CACHE_MAX_SIZE - 1);
}
