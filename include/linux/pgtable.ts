// SPDX-License-Identifier: GPL-2.0-only
/**
 * Page-table entries: x86-64 bits read by the kernel's names.
 *
 * An entry is a 64-bit word in the architecture's layout (include/asm/pgtable_types.ts). A pointer
 * to one, C's `pte_t *`, is a `TableEntry`: the table's words and an index.
 * Shifts are written as products and quotients: V8 computes those in a register, and shifts of a
 * BigInt by a call that takes five times as long.
 */
import * as x86 from '../asm/pgtable_types.ts';
import {
	type Flavour,
	PAGE_SIZE,
	PGDIR_MASK,
	PGDIR_SIZE,
	PMD_MASK,
	PMD_SIZE,
	PUD_MASK,
	PUD_SIZE,
	type pfn_t,
	type unsigned_long,
} from './types.ts';

export type pte_t = Flavour<bigint, 'pte'>;
export type pmd_t = Flavour<bigint, 'pmd'>;
export type pud_t = Flavour<bigint, 'pud'>;
export type pgd_t = Flavour<bigint, 'pgd'>;
export type pgprot_t = Flavour<bigint, 'pgprot'>;

/** The words of one page table: 512 entries. */
export interface PageTable {
	readonly u64: BigUint64Array;
	readonly u32: Uint32Array;
}

/** Pointer to an entry: `pgd_t *`, `pud_t *`, `pmd_t *` or `pte_t *`. */
export class TableEntry {
	readonly table: PageTable;
	/** PFN of the table's page. */
	readonly pfn: number;
	/** 0..511 */
	readonly index: number;

	/**
	 * @param table - the table's words
	 * @param pfn - PFN of the table's page
	 * @param index - which entry
	 */
	constructor(table: PageTable, pfn: number, index: number) {
		this.table = table;
		this.pfn = pfn;
		this.index = index;
	}

	/** The word in memory. */
	get value(): bigint {
		return this.table.u64[this.index]!;
	}
	set value(word: bigint) {
		this.table.u64[this.index] = word;
	}

	/** PFN of the table that a present entry points to; by halves, as every walk asks for it. */
	get pointsTo(): number {
		const { table, index } = this;
		const { u32 } = table;
		return (u32[2 * index]! >>> 12) + (u32[2 * index + 1]! & PFN_HIGH_MASK) * 2 ** 20;
	}
}

/** The PFN's part of an entry's high half. */
const PFN_HIGH_MASK = Number(x86.PTE_PFN_MASK >> 32n);

const WORD = 0xffff_ffff_ffff_ffffn;
const PRESENT_OR_NONE = x86._PAGE_PRESENT | x86._PAGE_PROTNONE;
const PMD_PRESENT = PRESENT_OR_NONE | x86._PAGE_PSE;
/** All but the bits that hardware may set in an entry that is none. */
const NOT_KNL_ERRATUM = ~(x86._PAGE_DIRTY | x86._PAGE_ACCESSED) & WORD;
const TABLE_FLAGS = x86.PTE_FLAGS_MASK & ~x86._PAGE_USER & WORD;
const TABLE = x86._PAGE_PRESENT | x86._PAGE_RW | x86._PAGE_ACCESSED | x86._PAGE_DIRTY;
/** All bits but one: made here, as ~ takes long. */
const NO_ACCESSED = WORD & ~x86._PAGE_ACCESSED;
const NO_DIRTY = WORD & ~x86._PAGE_DIRTY;
const NO_RW = WORD & ~x86._PAGE_RW;
const NO_UFFD_WP = WORD & ~x86._PAGE_UFFD_WP;
const NOT_PRESENT = WORD & ~PRESENT_OR_NONE;
const HUGE_OR_DEVMAP = x86._PAGE_PSE | x86._PAGE_DEVMAP;

export const PAGE_NONE: pgprot_t = x86._PAGE_PROTNONE | x86._PAGE_ACCESSED;
export const PAGE_READONLY: pgprot_t =
	x86._PAGE_PRESENT | x86._PAGE_USER | x86._PAGE_ACCESSED | x86._PAGE_NX;
export const PAGE_READONLY_EXEC: pgprot_t = x86._PAGE_PRESENT | x86._PAGE_USER | x86._PAGE_ACCESSED;
export const PAGE_SHARED: pgprot_t = PAGE_READONLY | x86._PAGE_RW;
export const PAGE_SHARED_EXEC: pgprot_t = PAGE_READONLY_EXEC | x86._PAGE_RW;
export const PAGE_COPY: pgprot_t = PAGE_READONLY;

/** Bits that pte_modify() keeps. */
export const _PAGE_CHG_MASK =
	x86.PTE_PFN_MASK |
	x86._PAGE_PCD |
	x86._PAGE_PWT |
	x86._PAGE_SPECIAL |
	x86._PAGE_ACCESSED |
	x86._PAGE_DIRTY |
	x86._PAGE_DEVMAP |
	x86._PAGE_UFFD_WP |
	x86._PAGE_PSE;
const NOT_CHG_MASK = WORD & ~_PAGE_CHG_MASK;

/** @kernel arch/x86/include/asm/pgtable.h */
export function pte_none(pte: pte_t): boolean {
	return pte === 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pte_present(pte: pte_t): boolean {
	return (pte & PRESENT_OR_NONE) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pte_protnone(pte: pte_t): boolean {
	return (pte & PRESENT_OR_NONE) === x86._PAGE_PROTNONE;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pte_write(pte: pte_t): boolean {
	return (pte & x86._PAGE_RW) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pte_dirty(pte: pte_t): boolean {
	return (pte & x86._PAGE_DIRTY) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pte_young(pte: pte_t): boolean {
	return (pte & x86._PAGE_ACCESSED) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pte_special(pte: pte_t): boolean {
	return (pte & x86._PAGE_SPECIAL) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h (gone in 7.x) */
export function pte_devmap(pte: pte_t): boolean {
	return (pte & x86._PAGE_DEVMAP) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h (gone in 7.x) */
export function pte_uffd_wp(pte: pte_t): boolean {
	return (pte & x86._PAGE_UFFD_WP) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h (gone in 7.x) */
export function pte_mkuffd_wp(pte: pte_t): pte_t {
	return pte_wrprotect(pte) | x86._PAGE_UFFD_WP;
}
/** @kernel arch/x86/include/asm/pgtable.h (gone in 7.x) */
export function pte_clear_uffd_wp(pte: pte_t): pte_t {
	return pte & NO_UFFD_WP;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pte_pfn(pte: pte_t): pfn_t {
	return (pte & x86.PTE_PFN_MASK) / PAGE_SIZE;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pfn_pte(pfn: pfn_t, prot: pgprot_t): pte_t {
	return ((pfn as bigint) * PAGE_SIZE) | prot;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pte_mkwrite(pte: pte_t): pte_t {
	return pte | x86._PAGE_RW;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pte_wrprotect(pte: pte_t): pte_t {
	return pte & NO_RW;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pte_mkdirty(pte: pte_t): pte_t {
	return pte | x86._PAGE_DIRTY;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pte_mkclean(pte: pte_t): pte_t {
	return pte & NO_DIRTY;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pte_mkyoung(pte: pte_t): pte_t {
	return pte | x86._PAGE_ACCESSED;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pte_mkold(pte: pte_t): pte_t {
	return pte & NO_ACCESSED;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pte_mkspecial(pte: pte_t): pte_t {
	return pte | x86._PAGE_SPECIAL;
}
/** @kernel arch/x86/include/asm/pgtable.h (gone in 7.x) */
export function pte_mkdevmap(pte: pte_t): pte_t {
	return pte | x86._PAGE_SPECIAL | x86._PAGE_DEVMAP;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pte_modify(pte: pte_t, prot: pgprot_t): pte_t {
	return (pte & _PAGE_CHG_MASK) | (prot & NOT_CHG_MASK) | (prot & x86._PAGE_ACCESSED);
}
/** @kernel include/linux/pgtable.h */
export function pte_same(a: pte_t, b: pte_t): boolean {
	return a === b;
}

/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_none(pmd: pmd_t): boolean {
	return (pmd & NOT_KNL_ERRATUM) === 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_present(pmd: pmd_t): boolean {
	return (pmd & PMD_PRESENT) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_protnone(pmd: pmd_t): boolean {
	return pte_protnone(pmd as bigint);
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_leaf(pmd: pmd_t): boolean {
	return (pmd & x86._PAGE_PSE) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_trans_huge(pmd: pmd_t): boolean {
	return (pmd & HUGE_OR_DEVMAP) === x86._PAGE_PSE;
}
/** @kernel arch/x86/include/asm/pgtable.h (gone in 7.x) */
export function pmd_devmap(pmd: pmd_t): boolean {
	return (pmd & x86._PAGE_DEVMAP) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_write(pmd: pmd_t): boolean {
	return (pmd & x86._PAGE_RW) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_pfn(pmd: pmd_t): pfn_t {
	return (pmd & x86.PTE_PFN_MASK) / PAGE_SIZE;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_bad(pmd: pmd_t): boolean {
	return (pmd & TABLE_FLAGS) !== TABLE;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pfn_pmd(pfn: pfn_t, prot: pgprot_t): pmd_t {
	return ((pfn as bigint) * PAGE_SIZE) | prot;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_mkhuge(pmd: pmd_t): pmd_t {
	return pmd | x86._PAGE_PSE;
}

/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_mkwrite(pmd: pmd_t): pmd_t {
	return pmd | x86._PAGE_RW;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_wrprotect(pmd: pmd_t): pmd_t {
	return pmd & NO_RW;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_dirty(pmd: pmd_t): boolean {
	return (pmd & x86._PAGE_DIRTY) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_young(pmd: pmd_t): boolean {
	return (pmd & x86._PAGE_ACCESSED) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_mkdirty(pmd: pmd_t): pmd_t {
	return pmd | x86._PAGE_DIRTY;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_mkclean(pmd: pmd_t): pmd_t {
	return pmd & NO_DIRTY;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_mkyoung(pmd: pmd_t): pmd_t {
	return pmd | x86._PAGE_ACCESSED;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_mkold(pmd: pmd_t): pmd_t {
	return pmd & NO_ACCESSED;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_mkspecial(pmd: pmd_t): pmd_t {
	return pmd | x86._PAGE_SPECIAL;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_special(pmd: pmd_t): boolean {
	return (pmd & x86._PAGE_SPECIAL) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pmd_modify(pmd: pmd_t, prot: pgprot_t): pmd_t {
	return pte_modify(pmd as bigint, prot) as bigint;
}
/** @kernel arch/x86/include/asm/pgtable.h (gone in 7.x) */
export function pmd_uffd_wp(pmd: pmd_t): boolean {
	return (pmd & x86._PAGE_UFFD_WP) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h (gone in 7.x) */
export function pmd_mkuffd_wp(pmd: pmd_t): pmd_t {
	return pmd_wrprotect(pmd) | x86._PAGE_UFFD_WP;
}
/** @kernel arch/x86/include/asm/pgtable.h (gone in 7.x) */
export function pmd_clear_uffd_wp(pmd: pmd_t): pmd_t {
	return pmd & NO_UFFD_WP;
}
/**
 * A leaf that the hardware does not use while it is changed, and that software still knows as one.
 *
 * @kernel arch/x86/include/asm/pgtable.h
 */
export function pmd_mkinvalid(pmd: pmd_t): pmd_t {
	return pmd & NOT_PRESENT;
}
/** @kernel include/linux/pgtable.h */
export function pmd_same(a: pmd_t, b: pmd_t): boolean {
	return a === b;
}

/** @kernel arch/x86/include/asm/pgtable.h */
export function pud_none(pud: pud_t): boolean {
	return (pud & NOT_KNL_ERRATUM) === 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pud_present(pud: pud_t): boolean {
	return (pud & PRESENT_OR_NONE) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pud_leaf(pud: pud_t): boolean {
	return (pud & x86._PAGE_PSE) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pud_trans_huge(pud: pud_t): boolean {
	return (pud & HUGE_OR_DEVMAP) === x86._PAGE_PSE;
}
/** @kernel arch/x86/include/asm/pgtable.h (gone in 7.x) */
export function pud_devmap(pud: pud_t): boolean {
	return (pud & x86._PAGE_DEVMAP) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pud_write(pud: pud_t): boolean {
	return (pud & x86._PAGE_RW) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pud_pfn(pud: pud_t): pfn_t {
	return (pud & x86.PTE_PFN_MASK) / PAGE_SIZE;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pgd_none(pgd: pgd_t): boolean {
	return pgd === 0n;
}

/** Bits of an entry that points to a page table (_PAGE_TABLE). */
export const _PAGE_TABLE =
	x86._PAGE_PRESENT | x86._PAGE_RW | x86._PAGE_USER | x86._PAGE_ACCESSED | x86._PAGE_DIRTY;

/** @kernel include/linux/pgtable.h */
export function pgd_index(address: unsigned_long): number {
	return Math.floor(Number(BigInt.asUintN(48, address)) / 2 ** 39);
}
/** @kernel include/linux/pgtable.h */
export function pud_index(address: unsigned_long): number {
	return Math.floor(Number(BigInt.asUintN(39, address)) / 2 ** 30);
}
/** @kernel include/linux/pgtable.h */
export function pmd_index(address: unsigned_long): number {
	return Number(BigInt.asUintN(30, address)) >>> 21;
}
/** @kernel include/linux/pgtable.h */
export function pte_index(address: unsigned_long): number {
	return Number(BigInt.asUintN(21, address)) >>> 12;
}

/** @kernel include/linux/pgtable.h */
export function pgd_addr_end(address: unsigned_long, end: unsigned_long): unsigned_long {
	const next = (address + PGDIR_SIZE) & PGDIR_MASK;
	return next < end ? next : end;
}
/** @kernel include/linux/pgtable.h */
export function pud_addr_end(address: unsigned_long, end: unsigned_long): unsigned_long {
	const next = (address + PUD_SIZE) & PUD_MASK;
	return next < end ? next : end;
}
/** @kernel include/linux/pgtable.h */
export function pmd_addr_end(address: unsigned_long, end: unsigned_long): unsigned_long {
	const next = (address + PMD_SIZE) & PMD_MASK;
	return next < end ? next : end;
}
