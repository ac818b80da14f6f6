// SPDX-License-Identifier: GPL-2.0-only
/**
 * Migration entries at the level of a pmd.
 *
 * ```
 *   pmd                 AnonExclusive   becomes
 *   writable                  1         MIGRATION_WRITE
 *   read-only                 1         MIGRATION_READ_EXCLUSIVE
 *   read-only                 0         MIGRATION_READ           young and dirty go along
 *   DEVICE_WRITE              1         MIGRATION_WRITE
 *   DEVICE_READ              0/1        MIGRATION_READ(_EXCLUSIVE)   and protection by a userfaultfd
 * ```
 */
import { EBUSY } from '../../include/linux/errno.ts';
import { type folio, page_folio, type vm_area_struct } from '../../include/linux/mm_types.ts';
import { pfn_to_page } from '../../include/linux/mmzone.ts';
import {
	folio_is_device_private,
	folio_pfn,
	folio_test_anon,
	folio_test_dirty,
	PageAnonExclusive,
} from '../../include/linux/page-flags.ts';
import {
	pfn_pmd,
	pmd_dirty,
	pmd_mkdirty,
	pmd_mkhuge,
	pmd_mkold,
	pmd_mkwrite,
	pmd_pfn,
	pmd_present,
	type pmd_t,
	pmd_uffd_wp,
	pmd_write,
	pmd_young,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import {
	make_readable_device_private_entry,
	make_writable_device_private_entry,
	migrationEntryOf,
	pmd_swp_mkuffd_wp,
	pmd_swp_uffd_wp,
	softleaf_from_pmd,
	softleaf_is_device_private_write,
	softleaf_is_migration_dirty,
	softleaf_is_migration_read,
	softleaf_is_migration_write,
	softleaf_is_migration_young,
	softleaf_to_folio,
	softleaf_to_pmd,
} from '../../include/linux/swapops.ts';
import { type int, PMD_MASK, type unsigned_long } from '../../include/linux/types.ts';
import { restoreHugeUffd } from '../../include/linux/userfaultfd_k.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { folio_mark_dirty } from '../page-writeback.ts';
import { pmdp_huge_get_and_clear, pmdp_invalidate, set_pmd_at } from '../pgtable.ts';
import {
	folio_add_anon_rmap_pmd,
	folio_remove_rmap_pmd,
	folio_try_share_anon_rmap_pmd,
	RMAP_EXCLUSIVE,
	RMAP_NONE,
} from '../rmap/mapcount.ts';
import { folio_get, folio_put } from '../swap.ts';

/**
 * Replace a huge pmd by a migration entry; its mapping and its reference go.
 *
 * @param vma - its VMA
 * @param address - its first address
 * @param pmdp - the entry: a present huge page, or a device-private one
 * @retval 0 replaced
 * @retval -EBUSY the folio may be pinned: the entry is as it was
 * @context The lock of the pmd is held; the caller has another reference of the folio.
 * @deviates takes what it needs of the page_vma_mapped_walk; the folio is the entry's
 * @kernel mm/huge_memory.c
 */
export function* set_pmd_migration_entry(
	vma: vm_area_struct,
	address: unsigned_long,
	pmdp: TableEntry,
): Sim<int> {
	const { vm_mm: mm } = vma;
	const present = pmd_present(pmdp.value);
	const was = present
		? yield* pmdp_invalidate(vma, address, pmdp)
		: yield* pmdp_huge_get_and_clear(mm, address, pmdp);
	const f = present
		? page_folio(pfn_to_page(pmd_pfn(was)))
		: softleaf_to_folio(softleaf_from_pmd(was));
	const writable = present
		? pmd_write(was)
		: softleaf_is_device_private_write(softleaf_from_pmd(was));
	const exclusive = folio_test_anon(f) && PageAnonExclusive(f.page);
	if (exclusive && folio_try_share_anon_rmap_pmd(f) !== 0) {
		yield* set_pmd_at(mm, address, pmdp, was);
		return -EBUSY;
	}
	if (present && pmd_dirty(was)) yield* folio_mark_dirty(f);
	const entry = migrationEntryOf(folio_pfn(f) as bigint, {
		writable,
		exclusive,
		young: present && pmd_young(was),
		dirty: present && pmd_dirty(was),
	});
	const uffd = present ? pmd_uffd_wp(was) : pmd_swp_uffd_wp(was);
	const word = softleaf_to_pmd(entry);
	yield* set_pmd_at(mm, address, pmdp, uffd ? pmd_swp_mkuffd_wp(word) : word);
	yield* folio_remove_rmap_pmd(f, vma);
	yield* folio_put(f);
	return 0;
}

/**
 * Map a folio where a huge migration entry stands.
 *
 * @param vma - its VMA
 * @param address - its address
 * @param pmdp - the entry
 * @param f - the folio: the one that the entry names, or the one that took its place
 * @context The lock of the pmd is held. No notifier: nobody has a translation of such an entry.
 * @deviates takes what it needs of the page_vma_mapped_walk
 * @kernel mm/huge_memory.c
 */
export function* remove_migration_pmd(
	vma: vm_area_struct,
	address: unsigned_long,
	pmdp: TableEntry,
	f: folio,
): Sim<void> {
	const entry = softleaf_from_pmd(pmdp.value);
	const haddr = address & PMD_MASK;
	const write = softleaf_is_migration_write(entry);
	const pfn = folio_pfn(f) as bigint;
	folio_get(f);
	let pmde: pmd_t = pmd_mkhuge(pfn_pmd(pfn, vma.vm_page_prot));
	if (write) pmde = pmd_mkwrite(pmde);
	pmde = restoreHugeUffd(vma, pmdp.value, pmde);
	if (!softleaf_is_migration_young(entry)) pmde = pmd_mkold(pmde);
	if (folio_test_dirty(f) && softleaf_is_migration_dirty(entry)) pmde = pmd_mkdirty(pmde);
	if (folio_is_device_private(f)) {
		pmde = softleaf_to_pmd(
			pmd_write(pmde)
				? make_writable_device_private_entry(pfn)
				: make_readable_device_private_entry(pfn),
		);
		if (pmd_swp_uffd_wp(pmdp.value)) pmde = pmd_swp_mkuffd_wp(pmde);
	}
	const flags = softleaf_is_migration_read(entry) ? RMAP_NONE : RMAP_EXCLUSIVE;
	yield* folio_add_anon_rmap_pmd(f, vma, haddr, flags);
	yield* set_pmd_at(vma.vm_mm, haddr, pmdp, pmde);
}
