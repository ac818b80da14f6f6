// SPDX-License-Identifier: GPL-2.0-only
/**
 * Whole PMDs and large folios.
 *
 * The words, the walk and the order of the steps are those of the kernel. Huge entries and the
 * splitting of folios are not modelled yet: where they would be needed the step fails as it may fail
 * in the kernel (a folio that cannot be split), and only that part of the range stays.
 *
 * ```
 *   2 MiB, COMPOUND selected    src[0] VALID MIGRATE COMPOUND [WRITE] pfn    src[1..511] 0
 *   hole                        src[0] MIGRATE COMPOUND                      src[1..511] 0
 *   dst[0] without COMPOUND     src is split: 512 words, each for itself
 * ```
 */
import { EAGAIN, EBUSY } from '../../include/linux/errno.ts';
import type { migrate_vma } from '../../include/linux/migrate.ts';
import { MIGRATE_PFN_COMPOUND, MIGRATE_PFN_MIGRATE } from '../../include/linux/migrate.ts';
import type { folio, mm_struct, page } from '../../include/linux/mm_types.ts';
import type { mm_walk } from '../../include/linux/pagewalk.ts';
import { pmd_none, type TableEntry } from '../../include/linux/pgtable.ts';
import { HPAGE_PMD_NR, type int, type unsigned_long } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { spin_unlock } from '../../kernel/locking/spinlock.ts';
import { pmd_lock, pmdIsHuge } from '../pgtable.ts';
import { migrate_vma_collect_skip } from './words.ts';

/**
 * Split a large folio so that its pages can be moved one by one.
 *
 * @param _folio - the folio
 * @param _fault_page - page of the CPU fault being served, locked by the caller
 * @retval -EBUSY it cannot be split
 * @kernel mm/migrate_device.c
 */
export function* migrate_vma_split_folio(_folio: folio, _fault_page: page | null): Sim<int> {
	return -EBUSY;
}

/**
 * v6.12: a huge pmd is split before its pages are collected.
 *
 * @param _pmdp - the pmd
 * @param start - first address
 * @param end - exclusive
 * @param migrate - the migration
 * @retval 0 it could not be split, its words are 0
 */
export function* splitTransHuge(
	_pmdp: TableEntry,
	start: unsigned_long,
	end: unsigned_long,
	migrate: migrate_vma,
): Sim<int> {
	return migrate_vma_collect_skip(start, end, migrate);
}

/**
 * v7.3: a pmd that is a leaf or not present.
 *
 * @param pmdp - the pmd
 * @param start - first address
 * @param end - exclusive
 * @param walk - the walk
 * @param _fault_folio - folio of the CPU fault being served, locked by the caller
 * @retval 0 its words are filled in
 * @retval -EAGAIN it changed: look again
 * @kernel mm/migrate_device.c
 */
export function* migrate_vma_collect_huge_pmd(
	pmdp: TableEntry,
	start: unsigned_long,
	end: unsigned_long,
	walk: mm_walk,
	_fault_folio: folio | null,
): Sim<int> {
	const ptl = yield* pmd_lock(walk.mm as mm_struct, pmdp);
	const pmd = pmdp.value;
	if (pmd_none(pmd) || !pmdIsHuge(pmd)) {
		yield* spin_unlock(ptl);
		return -EAGAIN;
	}
	// A migration entry is passed by like any other that is not the owner's private one.
	yield* spin_unlock(ptl);
	return migrate_vma_collect_skip(start, end, walk.private as migrate_vma);
}

/**
 * Map a huge device folio where nothing was.
 *
 * @param src - words of the migration
 * @param at - first word of the 2 MiB
 * @returns 0; MIGRATE is cleared in all its words: it was not mapped
 * @kernel mm/migrate_device.c
 */
export function migrate_vma_insert_huge_pmd_page(src: BigUint64Array, at: number): int {
	const end = Math.min(at + HPAGE_PMD_NR, src.length);
	for (let i = at; i < end; i++) src[i]! &= ~MIGRATE_PFN_MIGRATE;
	return 0;
}

/**
 * Split a collected large folio because its destination is small.
 *
 * @param _migrate - the migration
 * @param _idx - its word
 * @retval -EBUSY it cannot be split
 * @kernel mm/migrate_device.c
 */
export function* migrate_vma_split_unmapped_folio(_migrate: migrate_vma, _idx: int): Sim<int> {
	return -EBUSY;
}

/**
 * How many pages a word stands for.
 *
 * @param word - word of src
 * @kernel mm/migrate_device.c
 */
export function migrate_vma_nr_pages(word: unsigned_long): int {
	return word & MIGRATE_PFN_COMPOUND ? HPAGE_PMD_NR : 1;
}
