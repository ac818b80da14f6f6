// SPDX-License-Identifier: GPL-2.0-only
/**
 * Who uses a page whose memory went bad.
 *
 * ```
 *   anonymous            its own entry at the page's address
 *   of a file, of shmem  a VMA that covers the page, whether or not it was ever touched
 *   of a device's file   such a VMA, with a present entry at the page's address
 * ```
 *
 * @kernel mm/memory-failure.c
 */
import type { folio, page, vm_area_struct } from '../../include/linux/mm_types.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import { folio_pfn, folio_test_anon, is_zone_device_page } from '../../include/linux/page-flags.ts';
import {
	pmd_devmap,
	pmd_present,
	pmd_trans_huge,
	pte_devmap,
	pte_present,
	pud_devmap,
	pud_none,
	pud_trans_huge,
} from '../../include/linux/pgtable.ts';
import { current } from '../../include/linux/sched.ts';
import {
	type bool,
	PAGE_SIZE,
	type pgoff_t,
	type unsigned_long,
} from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import {
	pgd_none_or_clear_bad,
	pgd_offset,
	pmd_offset,
	pmdp_get_lockless,
	pte_offset_map,
	pte_unmap,
	ptep_get_lockless,
	pud_offset,
} from '../pgtable.ts';
import {
	folio_vma_mapped_walk,
	page_vma_mapped_walk,
	page_vma_mapped_walk_done,
	rmap_walk,
	vma_address,
} from '../rmap/walk.ts';

/** Where a page lies in its file, or in its anon_vma. */
function page_pgoff(f: folio, p: page): pgoff_t {
	return f.index + ((page_to_pfn(p) as bigint) - (folio_pfn(f) as bigint));
}

/** Whether the page itself is mapped at its address; the rest of its folio does not count. */
function* page_mapped_in_vma(f: folio, vma: vm_area_struct, address: bigint): Sim<bool> {
	const pvmw = new folio_vma_mapped_walk(f, vma, address, address + PAGE_SIZE, 0);
	if (!(yield* page_vma_mapped_walk(pvmw))) return false;
	yield* page_vma_mapped_walk_done(pvmw);
	return true;
}

/** Whether an address has an entry of a device's memory: dev_pagemap_mapping_shift() is not 0. */
function* isDeviceMapped(vma: vm_area_struct, address: unsigned_long): Sim<bool> {
	const devmap = feature('devmap_entries');
	const pgd = pgd_offset(vma.vm_mm, address);
	if (pgd_none_or_clear_bad(pgd)) return false;
	const pud = pud_offset(pgd, address);
	if (pud_none(pud.value)) return false;
	if (devmap ? pud_devmap(pud.value) : pud_trans_huge(pud.value)) return true;
	const pmd = pmd_offset(pud, address);
	const word = yield* pmdp_get_lockless(pmd);
	if (!pmd_present(word)) return false;
	if (devmap ? pmd_devmap(word) : pmd_trans_huge(word)) return true;
	const ptep = yield* pte_offset_map(pmd, address);
	if (ptep === null) return false;
	const pte = yield* ptep_get_lockless(ptep);
	yield* pte_unmap(ptep);
	return pte_present(pte) && (!devmap || pte_devmap(pte));
}

/**
 * Whether the current task uses a page.
 *
 * @param f - its folio
 * @param p - the page
 * @context Sleeps: takes the rmap's semaphore.
 * @deviates no list of tasks: only the current one is ever told early (MF_ACTION_REQUIRED)
 * @kernel mm/memory-failure.c
 */
export function* collect_procs(f: folio, p: page): Sim<bool> {
	const { mm } = current();
	const pgoff = page_pgoff(f, p);
	let found = false;
	yield* rmap_walk(f, {
		arg: null,
		invalid_vma: (vma: vm_area_struct) => vma.vm_mm !== mm,
		*rmap_one(_f, vma): Sim<bool> {
			const address = vma_address(vma, pgoff, 1);
			if (address === null) return true;
			if (folio_test_anon(f)) found = yield* page_mapped_in_vma(f, vma, address);
			else
				found =
					!is_zone_device_page(p) ||
					(yield* isDeviceMapped(vma, address));
			return !found;
		},
	});
	return found;
}
