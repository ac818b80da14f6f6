// SPDX-License-Identifier: GPL-2.0-only
/**
 * Entries of page tables that are not present: swap, migration, device-private, device-exclusive,
 * hwpoison, markers. `softleaf_*` is 7.3's name for the same words (include/linux/leafops.h).
 *
 * ```
 *   type 0 .. MAX_SWAPFILES-1   a swap file
 *        then: HWPOISON, MIGRATION_READ, MIGRATION_READ_EXCLUSIVE, MIGRATION_WRITE,
 *              DEVICE_WRITE, DEVICE_READ, DEVICE_EXCLUSIVE(_WRITE), [6.12: _READ], PTE_MARKER
 *   offset of the pfn kinds: 40 bits of PFN; migration entries keep young at 40, dirty at 41
 * ```
 * Products and quotients stand for shifts, as in pgtable.ts.
 */
import * as x86 from '../asm/pgtable_types.ts';
import { feature } from '../sim/world.ts';
import { type folio, type page, page_folio } from './mm_types.ts';
import { pfn_to_page } from './mmzone.ts';
import { folio_test_anon } from './page-flags.ts';
import type { pte_t } from './pgtable.ts';
import type { Flavour, int, pfn_t, pgoff_t, unsigned_long } from './types.ts';

/** A swap entry: type << 58 | offset. */
export type swp_entry_t = Flavour<bigint, 'swp'>;
export type softleaf_t = swp_entry_t;
export type pte_marker = unsigned_long;

export const PTE_MARKER_UFFD_WP: pte_marker = 1n;
export const PTE_MARKER_POISONED: pte_marker = 2n;
export const PTE_MARKER_GUARD: pte_marker = 4n;

/** Kinds of entry, numbered from the top as include/linux/swap.h does: a release has 3 or 4 device kinds. */
const KINDS = 32;
/** @kernel include/linux/swap.h */
export function SWP_DEVICE_NUM(): int {
	return feature('device_exclusive_single') ? 3 : 4;
}
/** @kernel include/linux/swap.h */
export function MAX_SWAPFILES(): int {
	return KINDS - SWP_DEVICE_NUM() - 3 - 1 - 1;
}
const HWPOISON = 0;
const MIGRATION_READ = 1;
const MIGRATION_READ_EXCLUSIVE = 2;
const MIGRATION_WRITE = 3;
const DEVICE_WRITE = 4;
const DEVICE_READ = 5;
const DEVICE_EXCLUSIVE_WRITE = 6;
const DEVICE_EXCLUSIVE_READ = 7;

const PMD_PRESENT = x86._PAGE_PRESENT | x86._PAGE_PROTNONE | x86._PAGE_PSE;
const TYPE_SHIFT = 58n;
/** What one more of the type adds to an entry, and to a word of a page table. */
const TYPE_UNIT = 1n << TYPE_SHIFT;
const WORD_TYPE_UNIT = 1n << 59n;
const OFFSET_MASK = TYPE_UNIT - 1n;
/** How much more the type stands for in a word than in an entry. */
const WORD_TYPE_PER_TYPE = WORD_TYPE_UNIT / TYPE_UNIT;
/** The offset's place in a word, inverted there. */
const WORD_OFFSET_UNIT = 1n << x86.SWP_OFFSET_FIRST_BIT;
const WORD_OFFSET_MAX = (1n << x86.SWP_OFFSET_BITS) - 1n;
const WORD_OFFSET_MASK = WORD_OFFSET_MAX * WORD_OFFSET_UNIT;
const TYPE_BITS = (1n << x86.SWP_TYPE_BITS) - 1n;
const TYPE_MASK = TYPE_BITS * TYPE_UNIT;
const WORD_TYPE_MASK = TYPE_BITS * WORD_TYPE_UNIT;
const PFN_BITS = 40n;
const PFN_MASK = (1n << PFN_BITS) - 1n;
const YOUNG = 1n << PFN_BITS;
const DIRTY = 1n << (PFN_BITS + 1n);

function special(kind: int, offset: pgoff_t): swp_entry_t {
	return swp_entry(MAX_SWAPFILES() + kind, offset);
}
function isKind(entry: swp_entry_t, kind: int): boolean {
	return swp_type(entry) === MAX_SWAPFILES() + kind;
}

/** @kernel include/linux/swapops.h */
export function swp_entry(type: int, offset: pgoff_t): swp_entry_t {
	return (BigInt(type) * TYPE_UNIT) | (offset & OFFSET_MASK);
}
/** @kernel include/linux/swapops.h */
export function swp_type(entry: swp_entry_t): int {
	return Number(entry & TYPE_MASK) / 2 ** 58;
}
/** @kernel include/linux/swapops.h */
export function swp_offset(entry: swp_entry_t): pgoff_t {
	return entry & OFFSET_MASK;
}
/** @kernel include/linux/swapops.h */
export function swp_entry_to_pte(entry: swp_entry_t): pte_t {
	const offset = WORD_OFFSET_MAX - (swp_offset(entry) & WORD_OFFSET_MAX);
	return ((entry & TYPE_MASK) * WORD_TYPE_PER_TYPE) | (offset * WORD_OFFSET_UNIT);
}
/** The entry in a word that is neither none nor present; software bits of the word are dropped. */
function wordToEntry(word: bigint): swp_entry_t {
	const offset = (WORD_OFFSET_MASK - (word & WORD_OFFSET_MASK)) / WORD_OFFSET_UNIT;
	return ((word & WORD_TYPE_MASK) / WORD_TYPE_PER_TYPE) | offset;
}
const HALF_TYPE_SHIFT = 59 - 32;
const OFFSET_FIRST_BIT = Number(x86.SWP_OFFSET_FIRST_BIT);
/** Bits of the PFN in the low half of a word, and the mask of those in the high half. */
const LOW_PFN_BITS = 32 - OFFSET_FIRST_BIT;
const HIGH_PFN_MASK = (1 << (Number(PFN_BITS) - LOW_PFN_BITS)) - 1;

/**
 * The access of a device-private entry, from the high half of a word that is neither none nor present:
 * for those who read whole tables.
 *
 * @param high - upper 32 bits of the word
 * @returns null: the entry is of another kind
 */
export function privateAccess(high: number): 'r' | 'w' | null {
	const kind = (high >>> HALF_TYPE_SHIFT) - MAX_SWAPFILES();
	if (kind === DEVICE_WRITE) return 'w';
	return kind === DEVICE_READ ? 'r' : null;
}

/**
 * softleaf_to_pfn(softleaf_from_pte()) of a word in halves.
 *
 * @param low - lower 32 bits of the word
 * @param high - upper 32 bits
 */
export function entryPfn(low: number, high: number): number {
	return (~high & HIGH_PFN_MASK) * 2 ** LOW_PFN_BITS + (~low >>> OFFSET_FIRST_BIT);
}

/** @kernel include/linux/swapops.h (gone in 7.x) */
export function pte_to_swp_entry(pte: pte_t): swp_entry_t {
	return wordToEntry(pte);
}
/** @kernel include/linux/leafops.h */
export function softleaf_from_pte(pte: pte_t): softleaf_t {
	return wordToEntry(pte);
}
/** @kernel include/linux/leafops.h */
export function softleaf_from_pmd(pmd: bigint): softleaf_t {
	return wordToEntry(pmd);
}
/** @kernel include/linux/leafops.h */
export function softleaf_to_pmd(entry: softleaf_t): bigint {
	return swp_entry_to_pte(entry);
}

/** @kernel include/linux/swapops.h */
export function make_readable_device_private_entry(offset: pgoff_t): swp_entry_t {
	return special(DEVICE_READ, offset);
}
/** @kernel include/linux/swapops.h */
export function make_writable_device_private_entry(offset: pgoff_t): swp_entry_t {
	return special(DEVICE_WRITE, offset);
}
/** @kernel include/linux/swapops.h */
export function make_device_exclusive_entry(offset: pgoff_t): swp_entry_t {
	return special(DEVICE_EXCLUSIVE_WRITE, offset);
}
/** @kernel include/linux/swapops.h (gone in 7.x) */
export function make_writable_device_exclusive_entry(offset: pgoff_t): swp_entry_t {
	return special(DEVICE_EXCLUSIVE_WRITE, offset);
}
/** @kernel include/linux/swapops.h (gone in 7.x) */
export function make_readable_device_exclusive_entry(offset: pgoff_t): swp_entry_t {
	return special(DEVICE_EXCLUSIVE_READ, offset);
}
/** @kernel include/linux/swapops.h */
export function make_readable_migration_entry(offset: pgoff_t): swp_entry_t {
	return special(MIGRATION_READ, offset);
}
/** @kernel include/linux/swapops.h */
export function make_readable_exclusive_migration_entry(offset: pgoff_t): swp_entry_t {
	return special(MIGRATION_READ_EXCLUSIVE, offset);
}
/** @kernel include/linux/swapops.h */
export function make_writable_migration_entry(offset: pgoff_t): swp_entry_t {
	return special(MIGRATION_WRITE, offset);
}
/** @kernel include/linux/swapops.h */
export function make_migration_entry_young(entry: swp_entry_t): swp_entry_t {
	return entry | YOUNG;
}
/** @kernel include/linux/swapops.h */
export function make_migration_entry_dirty(entry: swp_entry_t): swp_entry_t {
	return entry | DIRTY;
}
/** @kernel include/linux/swapops.h */
export function make_pte_marker_entry(marker: pte_marker): swp_entry_t {
	return swp_entry(KINDS - 1, marker);
}
/** @kernel include/linux/swapops.h */
export function make_hwpoison_entry(p: pfn_t): swp_entry_t {
	return special(HWPOISON, p);
}

/** @kernel include/linux/leafops.h */
export function softleaf_is_swap(entry: softleaf_t): boolean {
	return swp_type(entry) < MAX_SWAPFILES();
}
/** @kernel include/linux/leafops.h */
export function softleaf_is_migration_write(entry: softleaf_t): boolean {
	return isKind(entry, MIGRATION_WRITE);
}
/** @kernel include/linux/leafops.h */
export function softleaf_is_migration_read(entry: softleaf_t): boolean {
	return isKind(entry, MIGRATION_READ);
}
/** @kernel include/linux/leafops.h */
export function softleaf_is_migration_read_exclusive(entry: softleaf_t): boolean {
	return isKind(entry, MIGRATION_READ_EXCLUSIVE);
}
/** @kernel include/linux/leafops.h */
export function softleaf_is_migration(entry: softleaf_t): boolean {
	const kind = swp_type(entry) - MAX_SWAPFILES();
	return kind >= MIGRATION_READ && kind <= MIGRATION_WRITE;
}
/** @kernel include/linux/leafops.h */
export function softleaf_is_migration_young(entry: softleaf_t): boolean {
	return (entry & YOUNG) !== 0n;
}
/** @kernel include/linux/leafops.h */
export function softleaf_is_migration_dirty(entry: softleaf_t): boolean {
	return (entry & DIRTY) !== 0n;
}
/** @kernel include/linux/leafops.h */
export function softleaf_is_device_private(entry: softleaf_t): boolean {
	const kind = swp_type(entry) - MAX_SWAPFILES();
	return kind === DEVICE_WRITE || kind === DEVICE_READ;
}
/** @kernel include/linux/leafops.h */
export function softleaf_is_device_private_write(entry: softleaf_t): boolean {
	return isKind(entry, DEVICE_WRITE);
}
/** @kernel include/linux/leafops.h */
export function softleaf_is_device_exclusive(entry: softleaf_t): boolean {
	if (isKind(entry, DEVICE_EXCLUSIVE_WRITE)) return true;
	return SWP_DEVICE_NUM() === 4 && isKind(entry, DEVICE_EXCLUSIVE_READ);
}
/** @kernel include/linux/swapops.h (gone in 7.x) */
export function is_writable_device_exclusive_entry(entry: swp_entry_t): boolean {
	return isKind(entry, DEVICE_EXCLUSIVE_WRITE);
}
/** @kernel include/linux/leafops.h */
export function softleaf_is_hwpoison(entry: softleaf_t): boolean {
	return isKind(entry, HWPOISON);
}
/** @kernel include/linux/leafops.h */
export function softleaf_is_marker(entry: softleaf_t): boolean {
	return swp_type(entry) === KINDS - 1;
}
/** @kernel include/linux/leafops.h */
export function softleaf_to_marker(entry: softleaf_t): pte_marker {
	return swp_offset(entry) & 7n;
}
/** @kernel include/linux/leafops.h */
export function softleaf_is_uffd_wp_marker(entry: softleaf_t): boolean {
	return softleaf_is_marker(entry) && (softleaf_to_marker(entry) & PTE_MARKER_UFFD_WP) !== 0n;
}
/** @kernel include/linux/leafops.h */
export function softleaf_is_poison_marker(entry: softleaf_t): boolean {
	return (
		softleaf_is_marker(entry) &&
		(softleaf_to_marker(entry) & PTE_MARKER_POISONED) !== 0n
	);
}
/** @kernel include/linux/leafops.h */
export function softleaf_is_guard_marker(entry: softleaf_t): boolean {
	return softleaf_is_marker(entry) && (softleaf_to_marker(entry) & PTE_MARKER_GUARD) !== 0n;
}
/** @kernel include/linux/leafops.h */
export function softleaf_to_pfn(entry: softleaf_t): pfn_t {
	return swp_offset(entry) & PFN_MASK;
}
/** @kernel include/linux/leafops.h */
export function softleaf_to_page(entry: softleaf_t): page {
	return pfn_to_page(softleaf_to_pfn(entry));
}
/** @kernel include/linux/leafops.h */
export function softleaf_to_folio(entry: softleaf_t): folio {
	return page_folio(softleaf_to_page(entry));
}

/** @kernel include/linux/leafops.h */
export function pmd_is_migration_entry(pmd: bigint): boolean {
	return isPmdSoftleaf(pmd) && softleaf_is_migration(softleaf_from_pmd(pmd));
}
/** @kernel include/linux/leafops.h */
export function pmd_is_device_private_entry(pmd: bigint): boolean {
	return isPmdSoftleaf(pmd) && softleaf_is_device_private(softleaf_from_pmd(pmd));
}
/** Whether a pmd is neither none nor present. */
function isPmdSoftleaf(pmd: bigint): boolean {
	return pmd !== 0n && (pmd & PMD_PRESENT) === 0n;
}

/** @kernel arch/x86/include/asm/pgtable.h */
export function pte_swp_mkexclusive(pte: pte_t): pte_t {
	return pte | x86._PAGE_SWP_EXCLUSIVE;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pte_swp_exclusive(pte: pte_t): boolean {
	return (pte & x86._PAGE_SWP_EXCLUSIVE) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h */
export function pte_swp_clear_exclusive(pte: pte_t): pte_t {
	return pte & ~x86._PAGE_SWP_EXCLUSIVE;
}
/** @kernel arch/x86/include/asm/pgtable.h (gone in 7.x) */
export function pte_swp_uffd_wp(pte: pte_t): boolean {
	return (pte & x86._PAGE_SWP_UFFD_WP) !== 0n;
}
/** @kernel arch/x86/include/asm/pgtable.h (gone in 7.x) */
export function pte_swp_mkuffd_wp(pte: pte_t): pte_t {
	return pte | x86._PAGE_SWP_UFFD_WP;
}
/** @kernel arch/x86/include/asm/pgtable.h (gone in 7.x) */
export function pte_swp_clear_uffd_wp(pte: pte_t): pte_t {
	return pte & ~x86._PAGE_SWP_UFFD_WP & 0xffff_ffff_ffff_ffffn;
}
/** @kernel arch/x86/include/asm/pgtable.h (gone in 7.x) */
export function pmd_swp_uffd_wp(pmd: bigint): boolean {
	return pte_swp_uffd_wp(pmd);
}
/** @kernel arch/x86/include/asm/pgtable.h (gone in 7.x) */
export function pmd_swp_mkuffd_wp(pmd: bigint): bigint {
	return pte_swp_mkuffd_wp(pmd);
}
/** @kernel arch/x86/include/asm/pgtable.h (gone in 7.x) */
export function pmd_swp_clear_uffd_wp(pmd: bigint): bigint {
	return pte_swp_clear_uffd_wp(pmd);
}

/** What a present entry was, as far as the migration entry in its place remembers it. */
export interface MigrationMemory {
	readonly writable: boolean;
	/** The page was this process's alone. */
	readonly exclusive: boolean;
	readonly young: boolean;
	readonly dirty: boolean;
}

/**
 * The migration entry for a page that was mapped.
 *
 * @param pfn - the page
 * @param was - how it was mapped
 */
export function migrationEntryOf(pfn: pgoff_t, was: MigrationMemory): swp_entry_t {
	let entry: swp_entry_t;
	if (was.writable) entry = make_writable_migration_entry(pfn);
	else if (was.exclusive) entry = make_readable_exclusive_migration_entry(pfn);
	else entry = make_readable_migration_entry(pfn);
	if (was.young) entry = make_migration_entry_young(entry);
	return was.dirty ? make_migration_entry_dirty(entry) : entry;
}

/**
 * An entry that is not present, without its right to write.
 *
 * @param entry - the entry
 * @returns another one, or the same if it has no such right
 */
export function softleafWithoutWrite(entry: softleaf_t): softleaf_t {
	const offset = swp_offset(entry);
	if (softleaf_is_migration_write(entry))
		return folio_test_anon(softleaf_to_folio(entry))
			? make_readable_exclusive_migration_entry(offset)
			: make_readable_migration_entry(offset);
	if (softleaf_is_device_private_write(entry))
		return make_readable_device_private_entry(offset);
	if (!feature('device_exclusive_single') && is_writable_device_exclusive_entry(entry))
		return make_readable_device_exclusive_entry(offset);
	return entry;
}
