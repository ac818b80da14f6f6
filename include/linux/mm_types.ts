// SPDX-License-Identifier: GPL-2.0-only
/**
 * struct page, folio, vm_area_struct, mm_struct and struct vm_fault.
 *
 * A `page` is a handle on one element of a section's arrays (include/linux/mmzone.ts); it is made
 * once for a PFN and compares by identity as the pointer does. A `folio` is a handle of its own on
 * the head page, so that the compiler tells the two apart as C does.
 */
import type { Sim } from '../sim/schedule.ts';
import type { file } from './fs.ts';
import type { dev_pagemap } from './memremap.ts';
import type { mmu_notifier_subscriptions } from './mmu_notifier.ts';
import type { mem_section } from './mmzone.ts';
import type { pmd_t, pte_t, pud_t, TableEntry } from './pgtable.ts';
import { rw_semaphore, spinlock_t } from './spinlock.ts';
import type { int, pgoff_t, unsigned_int, unsigned_long, vm_fault_t, vm_flags_t } from './types.ts';
import type { userfaultfd_ctx } from './userfaultfd_k.ts';

/**
 * A page frame.
 *
 * @kernel include/linux/mm_types.h
 */
export class page {
	readonly sec: mem_section;
	readonly idx: number;
	/** The folio handle, when this is a head page and somebody asked for it. */
	folioHandle: folio | null = null;

	/**
	 * @param sec - section that holds its fields
	 * @param idx - place in the section
	 */
	constructor(sec: mem_section, idx: number) {
		this.sec = sec;
		this.idx = idx;
	}

	get flags(): number {
		return this.sec.flags[this.idx]!;
	}
	set flags(v: number) {
		this.sec.flags[this.idx] = v;
	}
	get _refcount(): int {
		return this.sec.refcount[this.idx]!;
	}
	set _refcount(v: int) {
		this.sec.refcount[this.idx] = v;
	}
	get _mapcount(): int {
		return this.sec.mapcount[this.idx]!;
	}
	set _mapcount(v: int) {
		this.sec.mapcount[this.idx] = v;
	}
	/** Head: order << 1 | 1. Tail: -(distance to the head). 0: not compound. */
	get compound(): int {
		return this.sec.compound[this.idx]!;
	}
	set compound(v: int) {
		this.sec.compound[this.idx] = v;
	}
	get index(): pgoff_t {
		const { index } = this.sec;
		return (
			BigInt(index[2 * this.idx + 1]!) * 0x1_0000_0000n +
			BigInt(index[2 * this.idx]!)
		);
	}
	set index(v: pgoff_t) {
		const { index } = this.sec;
		index[2 * this.idx] = Number(v & 0xffff_ffffn);
		index[2 * this.idx + 1] = Number((v >> 32n) & 0xffff_ffffn);
	}
	/** An address_space, an anon_vma, or null. */
	get mapping(): address_space | anon_vma | null {
		return (
			(this.sec.mapping?.[this.idx] as address_space | anon_vma | undefined) ??
			null
		);
	}
	set mapping(v: address_space | anon_vma | null) {
		if (v !== null || this.sec.mapping !== null)
			(this.sec.mapping ??= [])[this.idx] = v;
	}
	get private(): unknown {
		return this.sec.private_?.[this.idx] ?? null;
	}
	set private(v: unknown) {
		if (v !== null || this.sec.private_ !== null)
			(this.sec.private_ ??= [])[this.idx] = v;
	}
	get zone_device_data(): unknown {
		return this.sec.zone_device_data?.[this.idx] ?? null;
	}
	set zone_device_data(v: unknown) {
		if (v !== null || this.sec.zone_device_data !== null)
			(this.sec.zone_device_data ??= [])[this.idx] = v;
	}
	get pgmap(): dev_pagemap | null {
		const own = this.sec.pgmaps?.[this.idx];
		return own === undefined ? this.sec.pgmap : own;
	}
	set pgmap(v: dev_pagemap | null) {
		if (v !== this.pgmap) (this.sec.pgmaps ??= [])[this.idx] = v;
	}
}

/**
 * Who maps a large folio: two address spaces by name, and whether it may be mapped by more than one.
 *
 * @kernel include/linux/mm_types.h (as folio)
 */
export class folio_mm_ids {
	/** The address spaces; null: the slot is free. */
	mm: [mm_struct | null, mm_struct | null] = [null, null];
	/** Their mappings, less one. */
	mapcount: [int, int] = [-1, -1];
	shared = false;
}

/**
 * A page or a compound page, named by its head.
 *
 * @kernel include/linux/mm_types.h
 */
export class folio {
	/** Its head page. */
	readonly page: page;
	/** How many locked VMAs map it, while it is on the LRU as PG_unevictable. */
	mlock_count: int = 0;
	/** Pins of a large folio; those of a small one are in its references. */
	_pincount: int = 0;

	/** @param head - head page */
	constructor(head: page) {
		this.page = head;
	}

	get flags(): number {
		return this.page.flags;
	}
	set flags(v: number) {
		this.page.flags = v;
	}
	get _refcount(): int {
		return this.page._refcount;
	}
	/** Mappings of all of a large folio by one entry, less one. Kept in the first tail page. */
	get _entire_mapcount(): int {
		const { sec, idx } = this.page;
		return sec.index[2 * (idx + 1)]! - 1;
	}
	set _entire_mapcount(v: int) {
		const { sec, idx } = this.page;
		sec.index[2 * (idx + 1)] = v + 1;
	}
	/** Mappings of a large folio, of all of it or of a page, less one. In the first tail page. */
	get _large_mapcount(): int {
		const { sec, idx } = this.page;
		return sec.index[2 * (idx + 1) + 1]! - 1;
	}
	set _large_mapcount(v: int) {
		const { sec, idx } = this.page;
		sec.index[2 * (idx + 1) + 1] = v + 1;
	}
	/** Which address spaces map a large folio; null: none has yet. In the first tail page. */
	get _mm_ids(): folio_mm_ids | null {
		const { sec, idx } = this.page;
		return (sec.private_?.[idx + 1] as folio_mm_ids | null | undefined) ?? null;
	}
	set _mm_ids(v: folio_mm_ids | null) {
		const { sec, idx } = this.page;
		if (v !== null || sec.private_ !== null) (sec.private_ ??= [])[idx + 1] = v;
	}
	get mapping(): address_space | anon_vma | null {
		return this.page.mapping;
	}
	set mapping(v: address_space | anon_vma | null) {
		this.page.mapping = v;
	}
	get index(): pgoff_t {
		return this.page.index;
	}
	set index(v: pgoff_t) {
		this.page.index = v;
	}
	get private(): unknown {
		return this.page.private;
	}
	set private(v: unknown) {
		this.page.private = v;
	}
	get pgmap(): dev_pagemap | null {
		return this.page.pgmap;
	}
}

/**
 * The folio that a page belongs to.
 *
 * @param p - head or tail
 * @kernel include/linux/page-flags.h
 */
export function page_folio(p: page): folio {
	const head = compound_head(p);
	return (head.folioHandle ??= new folio(head));
}

/**
 * The head of the compound page that a page belongs to; the page itself if it is in none.
 *
 * @param p - head or tail
 * @kernel include/linux/page-flags.h
 */
export function compound_head(p: page): page {
	const word = p.compound;
	return word < 0 ? (p.sec.map.page(p.sec.base + p.idx + word) as page) : p;
}

/**
 * The page cache of a file, or of shared anonymous memory.
 *
 * @kernel include/linux/fs.h
 */
export class address_space {
	/** Pages by index. */
	i_pages: Map<number, folio> = new Map();
	/** Swap entries by index, of pages that shmem has swapped out. C has them in i_pages, too. */
	swapped: Map<number, bigint> = new Map();
	/** VMAs that map it: rmap of file pages. */
	i_mmap: Set<vm_area_struct> = new Set();
	i_mmap_rwsem = new rw_semaphore('&mapping->i_mmap_rwsem');
	invalidate_lock = new rw_semaphore('mapping.invalidate_lock');
	/** The inode it belongs to. */
	host: object | null = null;
	a_ops: object | null = null;
}

/** One VMA on an anon_vma: a process that may map pages of it. */
export interface anon_vma_chain {
	readonly vma: vm_area_struct;
	readonly anon_vma: anon_vma;
}

/**
 * Who may map an anonymous page.
 *
 * @kernel include/linux/rmap.h
 */
export class anon_vma {
	root: anon_vma = this;
	rwsem = new rw_semaphore('&anon_vma->rwsem');
	/** VMAs that may map its pages. */
	chains: Set<vm_area_struct> = new Set();
	num_children = 0;
	num_active_vmas = 0;
	parent: anon_vma | null = null;
	refcount: int = 1;
}

/** What a VMA does for its owner. */
export interface vm_operations_struct {
	readonly name?: string;
	/** A VMA was copied. */
	open?(vma: vm_area_struct): void;
	/** A VMA goes away. */
	close?(vma: vm_area_struct): Sim<void>;
	/** A VMA is to be split at an address: 0, or -errno. */
	may_split?(vma: vm_area_struct, addr: unsigned_long): int;
	/** Find or make the page of a fault. */
	fault?(vmf: vm_fault): Sim<vm_fault_t>;
	/** Map pages around a fault that are there already. */
	map_pages?(vmf: vm_fault, start_pgoff: pgoff_t, end_pgoff: pgoff_t): Sim<vm_fault_t>;
	/** A page becomes writable. */
	page_mkwrite?(vmf: vm_fault): Sim<vm_fault_t>;
}

/**
 * A mapping of a process.
 *
 * @kernel include/linux/mm_types.h
 */
export class vm_area_struct {
	vm_start: unsigned_long = 0n;
	/** Exclusive. */
	vm_end: unsigned_long = 0n;
	vm_mm: mm_struct = null as unknown as mm_struct;
	vm_page_prot: bigint = 0n;
	vm_flags: vm_flags_t = 0n;
	/** All anon_vmas its pages may belong to, its own first. */
	anon_vma_chain: anon_vma[] = [];
	anon_vma: anon_vma | null = null;
	vm_ops: vm_operations_struct | null = null;
	vm_pgoff: pgoff_t = 0n;
	vm_file: file | null = null;
	vm_private_data: unknown = null;
	/** Who resolves its faults. */
	vm_userfaultfd_ctx: userfaultfd_ctx | null = null;

	/** @param init - designated initialiser */
	constructor(init: Partial<vm_area_struct> = {}) {
		Object.assign(this, init);
	}
}

export const MM_FILEPAGES = 0;
export const MM_ANONPAGES = 1;
export const MM_SWAPENTS = 2;
export const MM_SHMEMPAGES = 3;
export const NR_MM_COUNTERS = 4;

/**
 * An address space of a process.
 *
 * @kernel include/linux/mm_types.h
 */
export class mm_struct {
	/** PFN of the top page table. */
	pgd = 0;
	mmap_lock = new rw_semaphore('&mm->mmap_lock');
	/** Serialises page-table allocation. */
	page_table_lock = new spinlock_t('&mm->page_table_lock');
	mm_users: int = 1;
	mm_count: int = 1;
	/** Sorted by address, disjoint: the maple tree. */
	vmas: vm_area_struct[] = [];
	total_vm = 0n;
	/** Pages of VM_LOCKED VMAs. */
	locked_vm = 0n;
	rss_stat: int[] = [0, 0, 0, 0];
	notifier_subscriptions: mmu_notifier_subscriptions | null = null;
	/** The OOM reaper was here: contents may be gone. */
	flags_unstable = false;
	/** CPUs whose TLB may hold entries of this mm. */
	cpu_bitmap: Set<int> = new Set();
	/** Nesting of TLB gathers and flushes in flight. */
	tlb_flush_pending: int = 0;
	/** Split page-table locks by PFN of the table. */
	ptl: Map<number, spinlock_t> = new Map();
	/** Page tables in reserve for the splitting of huge pmds, by PFN of the pmd table. */
	pmd_huge_pte: Map<number, number[]> = new Map();
	/** Small pages that hugetlb maps. */
	hugetlb_usage: int = 0;
	/** Page tables allocated, for the leak check. */
	pgtables: int = 0;
	owner_comm = '';
	def_flags: vm_flags_t = 0n;
}

/**
 * A page fault being handled.
 *
 * @kernel include/linux/mm.h
 */
export class vm_fault {
	vma: vm_area_struct = null as unknown as vm_area_struct;
	pgoff: pgoff_t = 0n;
	/** Faulting address, page aligned. */
	address: unsigned_long = 0n;
	real_address: unsigned_long = 0n;
	flags: unsigned_int = 0;
	pmd: TableEntry | null = null;
	pud: TableEntry | null = null;
	orig_pte: pte_t = 0n;
	orig_pmd: pmd_t = 0n;
	orig_pud: pud_t = 0n;
	cow_page: page | null = null;
	/** For migrate_to_ram(): the device-private page; for ->fault(): the page found. */
	page: page | null = null;
	pte: TableEntry | null = null;
	ptl: spinlock_t | null = null;

	/** @param init - designated initialiser */
	constructor(init: Partial<vm_fault> = {}) {
		Object.assign(this, init);
	}
}

export const VM_FAULT_OOM: vm_fault_t = 0x1;
export const VM_FAULT_SIGBUS: vm_fault_t = 0x2;
export const VM_FAULT_MAJOR: vm_fault_t = 0x4;
export const VM_FAULT_HWPOISON: vm_fault_t = 0x10;
export const VM_FAULT_HWPOISON_LARGE: vm_fault_t = 0x20;
export const VM_FAULT_SIGSEGV: vm_fault_t = 0x40;
export const VM_FAULT_NOPAGE: vm_fault_t = 0x100;
export const VM_FAULT_LOCKED: vm_fault_t = 0x200;
export const VM_FAULT_RETRY: vm_fault_t = 0x400;
export const VM_FAULT_FALLBACK: vm_fault_t = 0x800;
export const VM_FAULT_DONE_COW: vm_fault_t = 0x1000;
export const VM_FAULT_NEEDDSYNC: vm_fault_t = 0x2000;
export const VM_FAULT_COMPLETED: vm_fault_t = 0x4000;
export const VM_FAULT_ERROR: vm_fault_t =
	VM_FAULT_OOM |
	VM_FAULT_SIGBUS |
	VM_FAULT_SIGSEGV |
	VM_FAULT_HWPOISON |
	VM_FAULT_HWPOISON_LARGE |
	VM_FAULT_FALLBACK;

export const FAULT_FLAG_WRITE = 0x1;
export const FAULT_FLAG_MKWRITE = 0x2;
export const FAULT_FLAG_ALLOW_RETRY = 0x4;
export const FAULT_FLAG_RETRY_NOWAIT = 0x8;
export const FAULT_FLAG_KILLABLE = 0x10;
export const FAULT_FLAG_TRIED = 0x20;
export const FAULT_FLAG_USER = 0x40;
export const FAULT_FLAG_REMOTE = 0x80;
export const FAULT_FLAG_INSTRUCTION = 0x100;
export const FAULT_FLAG_INTERRUPTIBLE = 0x200;
export const FAULT_FLAG_UNSHARE = 0x400;
export const FAULT_FLAG_ORIG_PTE_VALID = 0x800;
export const FAULT_FLAG_VMA_LOCK = 0x1000;
