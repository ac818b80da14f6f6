// SPDX-License-Identifier: GPL-2.0-only
/**
 * Who has what: all entries of all page tables of a program, counted by folio, kind and device.
 *
 * Every mapping of a program lies in its window, so the count is complete.
 */
import { type dev_pagemap, MEMORY_DEVICE_PRIVATE } from '../../../include/linux/memremap.ts';
import {
	MM_ANONPAGES,
	MM_SHMEMPAGES,
	MM_SWAPENTS,
	type mm_struct,
	NR_MM_COUNTERS,
	type page,
	page_folio,
} from '../../../include/linux/mm_types.ts';
import { memoryMap } from '../../../include/linux/mmzone.ts';
import {
	folio_nr_pages,
	folio_test_anon,
	folio_test_hugetlb,
	folio_test_swapbacked,
	is_zone_device_page,
} from '../../../include/linux/page-flags.ts';
import {
	pgd_none,
	pmd_leaf,
	pmd_none,
	pmd_present,
	pte_pfn,
	pte_present,
	pte_special,
	pud_none,
} from '../../../include/linux/pgtable.ts';
import {
	softleaf_from_pte,
	softleaf_is_device_exclusive,
	softleaf_is_device_private,
	softleaf_is_migration,
	softleaf_is_swap,
	softleaf_to_page,
	type swp_entry_t,
} from '../../../include/linux/swapops.ts';
import { HPAGE_PMD_NR, type unsigned_long } from '../../../include/linux/types.ts';
import { is_huge_zero_pfn } from '../../../mm/huge_memory.ts';
import { pgd_offset, pmd_offset, pte_offset_kernel, pud_offset } from '../../../mm/pgtable.ts';
import type { Window } from '../../replay/hmm/dump.ts';

/** Entries that name a folio. */
export interface Uses {
	/** Its first page. */
	readonly head: page;
	/** Entries of a page each, and of all of it. */
	ptes: number;
	pmds: number;
	/** Device-exclusive entries, contained in `ptes`. */
	exclusive: number;
}

/** What all page tables name together. */
export class Census {
	readonly folios = new Map<page, Uses>();
	/** Entries by swap slot. */
	readonly swap = new Map<swp_entry_t, number>();
	/** Pages by pagemap of device memory. */
	readonly devicePages = new Map<dev_pagemap, number>();
	/** Entries that only a migration under way may leave. */
	migrating = 0;
	exclusive = 0;
	privateHuge = 0;
	presentHuge = 0;
	/** Counters that an address space should have. */
	rss: number[] = [];

	/** Count the entries of an address space; `rss` is then what it should have. */
	add(mm: mm_struct, window: Window): void {
		this.rss = new Array<number>(NR_MM_COUNTERS).fill(0);
		const end = window.base + (BigInt(window.np) << 12n);
		for (let at = window.base; at < end; ) at = this.table(mm, at, end);
	}

	/** The entries of one table; where the next begins. */
	private table(mm: mm_struct, at: unsigned_long, end: unsigned_long): unsigned_long {
		const next = (at & ~((1n << 21n) - 1n)) + (1n << 21n);
		const stop = next < end ? next : end;
		const pgd = pgd_offset(mm, at);
		if (pgd_none(pgd.value)) return end;
		const pud = pud_offset(pgd, at);
		if (pud_none(pud.value)) return stop;
		const pmd = pmd_offset(pud, at);
		const { value } = pmd;
		if (pmd_none(value)) return stop;
		if (!pmd_present(value) || pmd_leaf(value)) {
			this.entry(value, HPAGE_PMD_NR);
			return stop;
		}
		for (let one = at; one < stop; one += 4096n) {
			const word = pte_offset_kernel(pmd, one).value;
			if (word !== 0n) this.entry(word, 1);
		}
		return stop;
	}

	private entry(word: bigint, pages: number): void {
		if (pte_present(word)) {
			const pfn = pte_pfn(word) as bigint;
			if (pages > 1) this.presentHuge++;
			if (pte_special(word) || is_huge_zero_pfn(pfn)) return;
			const p = memoryMap().page(Number(pfn));
			if (p !== null) this.use(p, pages, false);
			return;
		}
		const entry = softleaf_from_pte(word);
		if (softleaf_is_migration(entry)) this.migrating++;
		else if (softleaf_is_swap(entry)) {
			this.swap.set(entry, (this.swap.get(entry) ?? 0) + 1);
			this.rss[MM_SWAPENTS]!++;
		} else if (softleaf_is_device_private(entry)) {
			if (pages > 1) this.privateHuge++;
			this.use(softleaf_to_page(entry), pages, false);
		} else if (softleaf_is_device_exclusive(entry)) {
			this.exclusive++;
			this.use(softleaf_to_page(entry), pages, true);
		}
	}

	private use(p: page, pages: number, isExclusive: boolean): void {
		const f = page_folio(p);
		let uses = this.folios.get(f.page);
		if (uses === undefined) {
			uses = { head: f.page, ptes: 0, pmds: 0, exclusive: 0 };
			this.folios.set(f.page, uses);
			if (is_zone_device_page(f.page)) this.device(f.page, folio_nr_pages(f));
		}
		if (pages > 1) uses.pmds++;
		else uses.ptes++;
		if (isExclusive) uses.exclusive++;
		if (folio_test_hugetlb(f)) return;
		let member = 0;
		if (folio_test_anon(f)) member = MM_ANONPAGES;
		else if (folio_test_swapbacked(f)) member = MM_SHMEMPAGES;
		this.rss[member]! += pages;
	}

	/** A folio is in use as a whole, be it mapped only in part. */
	private device({ pgmap }: page, pages: number): void {
		if (pgmap !== null)
			this.devicePages.set(pgmap, (this.devicePages.get(pgmap) ?? 0) + pages);
	}

	/** Device-private pages of all devices. */
	get privatePages(): number {
		let n = 0;
		for (const [pgmap, pages] of this.devicePages)
			if (pgmap.type === MEMORY_DEVICE_PRIVATE) n += pages;
		return n;
	}
}
