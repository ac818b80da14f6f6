// SPDX-License-Identifier: GPL-2.0-only
/**
 * The memory map: struct page by PFN, structure of arrays below, handles above.
 *
 * Guarantee: a PFN that lies in RAM or in a ZONE_DEVICE range has one `page`, the same object each
 * time. Pages never touched cost nothing; a touched section costs 24 bytes a page plus 8 for each
 * pointer field that one of its pages uses.
 * Mechanism: ranges of valid PFNs, sorted; below them sections of 128 pages, made on the first
 * touch, whose integer fields share one buffer.
 *
 * ```
 *   ranges    [ RAM 0x0..0x80000 ) [ RAM 0x100000.. ) [ ZONE_DEVICE pgmap A ) [ pgmap B )
 *                 |
 *   sections  map: pfn >> 7 -> mem_section { base, flags[128], refcount[128], ..., pages[128] }
 * ```
 */
import { perWorld } from '../sim/world.ts';
import type { dev_pagemap } from './memremap.ts';
import { page } from './mm_types.ts';
import type { pfn_t, unsigned_long } from './types.ts';

/** Pages in one section, a power of two. */
export const PAGES_PER_SECTION = 128;

/**
 * The pages of one section, field by field.
 *
 * @kernel include/linux/mmzone.h
 */
export class mem_section {
	/** The map it is part of. */
	readonly map: MemoryMap;
	/** PFN of its first page. */
	readonly base: number;
	/** The pagemap whose range covers it; null for RAM. */
	pgmap: dev_pagemap | null;
	/** All integer fields, one buffer. */
	readonly words: Int32Array;
	readonly flags: Uint32Array;
	readonly refcount: Int32Array;
	readonly mapcount: Int32Array;
	/** Head: order << 1 | 1. Tail: -(distance to the head). 0: not compound. */
	readonly compound: Int32Array;
	/** Low and high halves of `page->index`. */
	readonly index: Uint32Array;
	mapping: (object | null)[] | null = null;
	private_: unknown[] | null = null;
	zone_device_data: unknown[] | null = null;
	/** Per-page pgmap where it differs from the section's. */
	pgmaps: (dev_pagemap | null)[] | null = null;
	/** Handles made so far. */
	pages: (page | undefined)[] = [];
	/** Where the newest reference of each page was taken, when the world tracks origins. */
	origins: (Error | null)[] | null = null;

	/**
	 * @param map - the map it is part of
	 * @param base - PFN of the first page
	 * @param pgmap - pagemap of the range, or null
	 * @param idle - reference count of an idle page
	 */
	constructor(map: MemoryMap, base: number, pgmap: dev_pagemap | null, idle: number) {
		this.map = map;
		this.base = base;
		this.pgmap = pgmap;
		const n = PAGES_PER_SECTION;
		this.words = new Int32Array(6 * n);
		const { buffer } = this.words;
		this.flags = new Uint32Array(buffer, 0, n);
		this.refcount = this.words.subarray(n, 2 * n);
		this.mapcount = this.words.subarray(2 * n, 3 * n);
		this.compound = this.words.subarray(3 * n, 4 * n);
		this.index = new Uint32Array(buffer, 16 * n, 2 * n);
		this.mapcount.fill(-1);
		if (idle !== 0) this.refcount.fill(idle);
	}
}

/** A range of valid PFNs. */
export interface PfnRange {
	readonly start: number;
	/** Exclusive. */
	readonly end: number;
	/** null for RAM. */
	readonly pgmap: dev_pagemap | null;
	/** Reference count of its idle pages. */
	readonly idle: number;
}

/** All of the memory map of one world. */
export class MemoryMap {
	/** Sorted, disjoint. */
	ranges: PfnRange[] = [];
	sections: Map<number, mem_section> = new Map();
	/** The section that was asked for last: most walks stay in one for a while. */
	private last: mem_section | null = null;

	/**
	 * The range that holds a PFN.
	 *
	 * @param pfn - page frame number
	 */
	find(pfn: number): PfnRange | null {
		const { ranges } = this;
		let low = 0;
		let high = ranges.length;
		while (low < high) {
			const middle = (low + high) >> 1;
			if (ranges[middle]!.end <= pfn) low = middle + 1;
			else high = middle;
		}
		const range = ranges[low];
		return range !== undefined && range.start <= pfn ? range : null;
	}

	/**
	 * Add a range of valid PFNs.
	 *
	 * @param range - must not overlap one that is there
	 */
	add(range: PfnRange): void {
		this.ranges.push(range);
		this.last = null;
		this.ranges.sort((a, b) => a.start - b.start);
	}

	/**
	 * Take a range away, with the sections made for it.
	 *
	 * @param start - first PFN of the range as it was added
	 */
	remove(start: number): void {
		const at = this.ranges.findIndex((r) => r.start === start);
		const [range] = this.ranges.splice(at, 1);
		if (range === undefined) return;
		this.last = null;
		for (const [key, section] of this.sections)
			if (section.base >= range.start && section.base < range.end)
				this.sections.delete(key);
	}

	/**
	 * The section of a PFN, made when it is first asked for.
	 *
	 * @param pfn - page frame number
	 * @returns null where no memory is
	 */
	section(pfn: number): mem_section | null {
		const { last } = this;
		if (last !== null && pfn >= last.base && pfn < last.base + PAGES_PER_SECTION)
			return last;
		const key = Math.floor(pfn / PAGES_PER_SECTION);
		const there = this.sections.get(key);
		if (there !== undefined) {
			this.last = there;
			return there;
		}
		const range = this.find(pfn);
		if (range === null) return null;
		const section = new mem_section(
			this,
			key * PAGES_PER_SECTION,
			range.pgmap,
			range.idle,
		);
		this.sections.set(key, section);
		return section;
	}

	/**
	 * The handle of a PFN.
	 *
	 * @param pfn - page frame number
	 * @returns null where no memory is
	 */
	page(pfn: number): page | null {
		const section = this.section(pfn);
		if (section === null) return null;
		const at = pfn & (PAGES_PER_SECTION - 1);
		return (section.pages[at] ??= new page(section, at));
	}
}

/** The installed world's memory map. */
export const memoryMap = perWorld(() => new MemoryMap());

/**
 * Whether a PFN has a struct page.
 *
 * @param pfn - page frame number
 * @kernel include/linux/mmzone.h
 */
export function pfn_valid(pfn: unsigned_long): boolean {
	return memoryMap().find(Number(pfn)) !== null;
}

/**
 * The struct page of a PFN.
 *
 * @param pfn - page frame number; must be valid
 * @kernel include/asm-generic/memory_model.h
 */
export function pfn_to_page(pfn: unsigned_long): page {
	return pageOfNumber(Number(pfn));
}

/**
 * pfn_to_page() for a PFN that is a number already.
 *
 * @param pfn - page frame number; must be valid
 */
export function pageOfNumber(pfn: number): page {
	const found = memoryMap().page(pfn);
	if (found === null)
		throw new RangeError(`pfn_to_page: pfn 0x${pfn.toString(16)} has no struct page`);
	return found;
}

/**
 * The PFN of a struct page.
 *
 * @param p - the page
 * @kernel include/asm-generic/memory_model.h
 */
export function page_to_pfn(p: page): pfn_t {
	return BigInt(p.sec.base + p.idx);
}

/**
 * The page `n` places behind another in the memory map.
 *
 * @param p - the page
 * @param n - distance in pages, may be negative
 * @kernel include/linux/mm.h (gone in 7.x)
 */
export function nth_page(p: page, n: number): page {
	const at = p.idx + n;
	if (at >= 0 && at < PAGES_PER_SECTION) return (p.sec.pages[at] ??= new page(p.sec, at));
	return pageOfNumber(p.sec.base + at);
}
