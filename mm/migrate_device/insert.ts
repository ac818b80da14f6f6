// SPDX-License-Identifier: GPL-2.0-only
/**
 * Device memory where nothing was: an anonymous fault whose page the driver has brought.
 *
 * ```
 *   VMA with VM_WRITE     private: writable entry        other: writable, dirty pte
 *   without               private: readable entry        other: read-only pte
 * ```
 */
import {
	MIGRATE_PFN_COMPOUND,
	MIGRATE_PFN_MIGRATE,
	migrate_pfn_to_page,
	type migrate_vma,
} from '../../include/linux/migrate.ts';
import { VM_UFFD_MISSING, VM_WRITE, vma_is_anonymous } from '../../include/linux/mm.ts';
import {
	type folio,
	MM_ANONPAGES,
	type mm_struct,
	type page,
	page_folio,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import {
	folio_is_device_coherent,
	folio_is_device_private,
	folio_is_zone_device,
	PG_uptodate,
} from '../../include/linux/page-flags.ts';
import {
	pfn_pte,
	pmd_devmap,
	pmd_leaf,
	pmd_none,
	pmd_trans_huge,
	pte_mkdirty,
	pte_mkwrite,
	pte_none,
	pte_pfn,
	pte_present,
	type pte_t,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import { pr_warn } from '../../include/linux/printk.ts';
import type { spinlock_t } from '../../include/linux/spinlock.ts';
import {
	make_readable_device_private_entry,
	make_writable_device_private_entry,
	swp_entry_to_pte,
} from '../../include/linux/swapops.ts';
import { outParam, type unsigned_long } from '../../include/linux/types.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';
import { type Sim, touch } from '../../include/sim/schedule.ts';
import { feature, world } from '../../include/sim/world.ts';
import { is_huge_zero_pmd, split_huge_pmd } from '../huge_memory.ts';
import { is_zero_pfn } from '../memory/zero_page.ts';
import {
	pgd_offset,
	pmd_alloc,
	pte_alloc,
	pte_offset_map_lock,
	pte_unmap_unlock,
	ptep_clear_flush,
	ptep_get,
	pud_alloc,
	set_pte_at,
} from '../pgtable.ts';
import { anon_vma_prepare, folio_add_new_anon_rmap, RMAP_EXCLUSIVE } from '../rmap.ts';
import { folio_add_lru_vma, folio_get } from '../swap.ts';
import { migrate_vma_insert_huge_pmd_page } from './huge.ts';

/** The tables down to the pmd of an address; null: no memory. */
function* allocPmd(mm: mm_struct, addr: unsigned_long): Sim<TableEntry | null> {
	const pudp = yield* pud_alloc(mm, pgd_offset(mm, addr), addr);
	return pudp === null ? null : yield* pmd_alloc(mm, pudp, addr);
}

/** What is needed besides the tables: the anon_vma, and the charge. */
function* prepare(vma: vm_area_struct, addr: unsigned_long, pmdp: TableEntry): Sim<boolean> {
	const pmd = pmdp.value;
	if (feature('device_private_thp') && is_huge_zero_pmd(pmd))
		yield* split_huge_pmd(vma, pmdp, addr);
	else if (!pmd_none(pmd) && (pmd_trans_huge(pmd) || pmd_leaf(pmd) || pmd_devmap(pmd)))
		return false;
	if (yield* pte_alloc(vma.vm_mm, pmdp)) return false;
	if (yield* anon_vma_prepare(vma)) return false;
	return !shouldFail('mem_cgroup_charge');
}

/** The entry that maps the new page; null: a kind of page that cannot be mapped so. */
function newEntry(vma: vm_area_struct, f: folio, p: page): pte_t | null {
	const pfn = page_to_pfn(p) as bigint;
	const writable = (vma.vm_flags & VM_WRITE) !== 0n;
	if (folio_is_device_private(f))
		return swp_entry_to_pte(
			writable
				? make_writable_device_private_entry(pfn)
				: make_readable_device_private_entry(pfn),
		);
	if (folio_is_zone_device(f) && !folio_is_device_coherent(f)) {
		const { once } = world();
		if (!once.has('migrate_vma_insert_page'))
			pr_warn('Unsupported ZONE_DEVICE page type.');
		once.add('migrate_vma_insert_page');
		return null;
	}
	const entry = pfn_pte(pfn, vma.vm_page_prot);
	return writable ? pte_mkwrite(pte_mkdirty(entry)) : entry;
}

/** Map the page if the entry is still empty, or the zero page; under the PTL. */
function* mapLocked(
	vma: vm_area_struct,
	addr: unsigned_long,
	ptep: TableEntry,
	f: folio,
	entry: pte_t,
): Sim<boolean> {
	const mm = vma.vm_mm;
	const orig_pte = ptep_get(ptep);
	touch('read', mm, 'flags_unstable');
	if (mm.flags_unstable) return false;
	const flush = pte_present(orig_pte);
	if (flush ? !is_zero_pfn(pte_pfn(orig_pte)) : !pte_none(orig_pte)) return false;
	if (vma.vm_flags & VM_UFFD_MISSING) return false;

	mm.rss_stat[MM_ANONPAGES]!++;
	yield* folio_add_new_anon_rmap(f, vma, addr, RMAP_EXCLUSIVE);
	if (!folio_is_zone_device(f)) folio_add_lru_vma(f, vma);
	folio_get(f);
	if (flush) yield* ptep_clear_flush(vma, addr, ptep);
	yield* set_pte_at(mm, addr, ptep, entry);
	return true;
}

/** Map a page at an empty address; false: it was not, and stays the driver's. */
function* insert(
	vma: vm_area_struct,
	addr: unsigned_long,
	p: page,
	pmdp: TableEntry,
): Sim<boolean> {
	const f = page_folio(p);
	if (!(yield* prepare(vma, addr, pmdp))) return false;
	f.flags |= PG_uptodate;
	const entry = newEntry(vma, f, p);
	if (entry === null) return false;
	const ptl = outParam<spinlock_t | null>(null);
	const ptep = yield* pte_offset_map_lock(vma.vm_mm, pmdp, addr, ptl);
	if (ptep === null) return false;
	const mapped = yield* mapLocked(vma, addr, ptep, f, entry);
	yield* pte_unmap_unlock(ptep, ptl.value);
	return mapped;
}

/**
 * Map a destination page where nothing, or the zero page, was.
 *
 * @param migrate - the migration
 * @param addr - where
 * @param at - which word: src becomes MIGRATE, or loses MIGRATE if the page was not mapped
 * @context mmap_lock held, inside an invalidation of the range. Sleeps.
 * @kernel mm/migrate_device.c
 */
export function* migrate_vma_insert_page(
	migrate: migrate_vma,
	addr: unsigned_long,
	at: number,
): Sim<void> {
	const { src, dst } = migrate;
	const vma = migrate.vma as vm_area_struct;
	const p = migrate_pfn_to_page(dst[at]!);
	abort: {
		if (p === null || !vma_is_anonymous(vma)) break abort;
		const pmdp = yield* allocPmd(vma.vm_mm, addr);
		if (pmdp === null) break abort;
		if (dst[at]! & MIGRATE_PFN_COMPOUND) {
			if (yield* migrate_vma_insert_huge_pmd_page(migrate, addr, p, at, pmdp))
				break abort;
			return;
		}
		if (!(yield* insert(vma, addr, p, pmdp))) break abort;
		src[at] = MIGRATE_PFN_MIGRATE;
		return;
	}
	src[at]! &= ~MIGRATE_PFN_MIGRATE;
}
