// SPDX-License-Identifier: GPL-2.0-only
/**
 * What a walked range has in its page tables, the same as cwalk.c of that name:
 *
 * ```
 *   present   [pte][pte][pte] …            a 4 KiB page each, two in three writable
 *   huge      [pmd ............]           a huge page each, two in three writable
 *   holes     [none ...........]           no page table below any pmd
 *   private   [pte] * 7 [private] …        one entry in eight is a device-private page of the caller
 * ```
 */
import { HMM_PFN_ORDER_SHIFT, HMM_PFN_VALID, HMM_PFN_WRITE } from '../../include/linux/hmm.ts';
import { dev_pagemap, MEMORY_DEVICE_PRIVATE } from '../../include/linux/memremap.ts';
import { type mm_struct, VM_FAULT_SIGBUS } from '../../include/linux/mm_types.ts';
import {
	PAGE_READONLY,
	PAGE_SHARED,
	pfn_pmd,
	pfn_pte,
	pmd_mkhuge,
} from '../../include/linux/pgtable.ts';
import {
	make_readable_device_private_entry,
	make_writable_device_private_entry,
	swp_entry_to_pte,
} from '../../include/linux/swapops.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { release_mem_region, request_free_mem_region } from '../../kernel/resource.ts';
import { memremap_pages, memunmap_pages } from '../../mm/memremap.ts';
import {
	pgd_offset,
	pmd_alloc,
	pmd_offset,
	pte_alloc,
	pte_offset_kernel,
	pud_alloc,
	pud_offset,
} from '../../mm/pgtable.ts';

/** Pages of the range. */
export const PAGES = 262_144;
const PAGE = 4096n;
/** Pages that a pmd covers. */
const PAGES_A_PMD = 512;
/** First PFN of the entries: as in cwalk.c, no page is behind them. */
const FIRST_PFN = 0x100000n;
/** Of so many pages one is on the device. */
const PRIVATE_IN = 8;

/** What is mapped. */
export const walkKinds = ['present', 'huge', 'holes', 'private'] as const;
/** One of them. */
export type WalkKind = (typeof walkKinds)[number];

/** The memory of a device that owns the private pages. */
class Device {
	readonly pgmap: dev_pagemap;
	readonly first: bigint;
	readonly size = BigInt(PAGES / PRIVATE_IN) * PAGE;

	constructor() {
		const found = request_free_mem_region(this.size);
		if (typeof found === 'number') throw new Error(`device memory: ${found}`);
		this.first = found.start / PAGE;
		this.pgmap = new dev_pagemap({
			type: MEMORY_DEVICE_PRIVATE,
			ranges: [found],
			nr_range: 1,
			owner: this,
			ops: {
				*folio_free() {},
				*migrate_to_ram() {
					return VM_FAULT_SIGBUS;
				},
			},
		});
	}
}

const isWritable = (i: number): boolean => i % 3 !== 0;

/** A range of one kind. */
export class WalkedRange {
	readonly kind: WalkKind;
	readonly mm: mm_struct;
	readonly base: bigint;
	private device: Device | null = null;

	/**
	 * @param kind - what is mapped
	 * @param mm - address space
	 * @param base - first address, the beginning of a pmd
	 */
	constructor(kind: WalkKind, mm: mm_struct, base: bigint) {
		this.kind = kind;
		this.mm = mm;
		this.base = base;
	}

	/** Owner of the device-private pages. */
	get owner(): object | null {
		return this.device;
	}

	/** Fill the page tables as cwalk.c fills its own. */
	*map(): Sim<void> {
		if (this.kind === 'private') {
			this.device = new Device();
			const mapped = yield* memremap_pages(this.device.pgmap, 0);
			if (typeof mapped === 'number') throw new Error(`device memory: ${mapped}`);
		}
		for (let i = 0; i < PAGES; i += PAGES_A_PMD) {
			const addr = this.base + BigInt(i) * PAGE;
			const pud = (yield* pud_alloc(this.mm, pgd_offset(this.mm, addr), addr))!;
			const pmd = (yield* pmd_alloc(this.mm, pud, addr))!;
			if (this.kind === 'holes') continue;
			if (this.kind === 'huge') {
				pmd.value = pmd_mkhuge(
					pfn_pmd(FIRST_PFN + BigInt(i), this.prot(i)),
				);
				continue;
			}
			yield* pte_alloc(this.mm, pmd, addr);
			const { u64 } = pte_offset_kernel(pmd, addr).table;
			for (let n = 0; n < PAGES_A_PMD; n++) u64[n] = this.entry(i + n);
		}
	}

	private prot(i: number): bigint {
		const at = this.kind === 'huge' ? i / PAGES_A_PMD : i;
		return isWritable(at) ? PAGE_SHARED : PAGE_READONLY;
	}

	/** PFN of a device-private page; null: the page is in system memory. */
	private privatePfn(i: number): bigint | null {
		if (this.device === null || i % PRIVATE_IN !== PRIVATE_IN - 1) return null;
		return this.device.first + BigInt(Math.floor(i / PRIVATE_IN));
	}

	private entry(i: number): bigint {
		const pfn = this.privatePfn(i);
		if (pfn === null) return pfn_pte(FIRST_PFN + BigInt(i), this.prot(i));
		return swp_entry_to_pte(
			isWritable(i)
				? make_writable_device_private_entry(pfn)
				: make_readable_device_private_entry(pfn),
		);
	}

	/**
	 * The word that a page must give.
	 *
	 * @param i - its number in the range
	 */
	expected(i: number): bigint {
		if (this.kind === 'holes') return 0n;
		const isHuge = this.kind === 'huge';
		const pfn = this.privatePfn(i) ?? FIRST_PFN + BigInt(i);
		const order = isHuge ? 9n << HMM_PFN_ORDER_SHIFT() : 0n;
		const at = isHuge ? Math.floor(i / PAGES_A_PMD) : i;
		return pfn | HMM_PFN_VALID | order | (isWritable(at) ? HMM_PFN_WRITE : 0n);
	}

	/** Empty the page tables again: the entries count no pages. */
	*unmap(): Sim<void> {
		for (let i = 0; i < PAGES && this.kind !== 'holes'; i += PAGES_A_PMD) {
			const addr = this.base + BigInt(i) * PAGE;
			const pmd = pmd_offset(pud_offset(pgd_offset(this.mm, addr), addr), addr);
			if (this.kind === 'huge') pmd.value = 0n;
			else pte_offset_kernel(pmd, addr).table.u64.fill(0n);
		}
		if (this.device === null) return;
		yield* memunmap_pages(this.device.pgmap);
		release_mem_region(this.device.first * PAGE, this.device.size);
	}
}
