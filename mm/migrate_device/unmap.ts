// SPDX-License-Identifier: GPL-2.0-only
/**
 * Unmapping: off the LRU, migration entries in all other mappings, and a look at the references.
 *
 * ```
 *   references that an unmapped page may have
 *   1            collect's; of a system page the LRU isolation's in its place
 *   +1           fault page: the CPU fault's
 *   +1           device page: collect's besides the driver's
 *   +1 [+1]      page of a file, or of the swap cache: the cache's, and that of private data
 *   mapcount     mappings that could not be taken away
 *   any more     somebody has pinned it: it goes back
 * ```
 */
import {
	MIGRATE_PFN_COMPOUND,
	MIGRATE_PFN_MIGRATE,
	migrate_pfn_to_page,
} from '../../include/linux/migrate.ts';
import { type folio, type page, page_folio } from '../../include/linux/mm_types.ts';
import {
	folio_is_zone_device,
	folio_nr_pages,
	folio_ref_count,
	folio_test_lru,
	PG_private,
} from '../../include/linux/page-flags.ts';
import type { unsigned_long } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { folio_unlock } from '../filemap.ts';
import { remove_migration_ptes } from '../migrate.ts';
import { folio_mapcount, folio_mapped, folio_mapping, try_to_migrate } from '../rmap.ts';
import {
	folio_get,
	folio_isolate_lru,
	folio_put,
	folio_putback_lru,
	lru_add_drain,
	lru_add_drain_all,
} from '../swap.ts';

/**
 * Whether nobody but the migration refers to a page.
 *
 * @param p - the page, unmapped as far as it can be
 * @param fault_page - page of the CPU fault being served
 * @kernel mm/migrate_device.c
 */
function migrate_vma_check_page(p: page, fault_page: page | null): boolean {
	const f = page_folio(p);
	let extra = 1 + (p === fault_page ? 1 : 0);
	if (folio_is_zone_device(f)) extra++;
	if (folio_mapping(f) !== null) extra += 1 + (f.flags & PG_private ? 1 : 0);
	return folio_ref_count(f) - extra <= folio_mapcount(f);
}

/** Take a folio off the LRU, which drains the CPUs' batches once if it is not on it. */
class lru_isolation {
	allow_drain = true;

	/**
	 * @param f - a folio of system memory, with collect's reference
	 * @returns whether it is isolated; collect's reference is dropped then
	 */
	*isolate(f: folio): Sim<boolean> {
		if (!folio_test_lru(f) && this.allow_drain) {
			yield* lru_add_drain_all();
			this.allow_drain = false;
		}
		if (!folio_isolate_lru(f)) return false;
		yield* folio_put(f);
		return true;
	}
}

/** Unmap one page; false: it stays, its mappings are to be restored. */
function* unmapPage(p: page, fault_page: page | null, lru: lru_isolation): Sim<boolean> {
	const f = page_folio(p);
	const device = folio_is_zone_device(f);
	if (!device && !(yield* lru.isolate(f))) return false;
	if (folio_mapped(f)) yield* try_to_migrate(f, 0);
	if (!folio_mapped(f) && migrate_vma_check_page(p, fault_page)) return true;
	if (!device) {
		folio_get(f);
		yield* folio_putback_lru(f);
	}
	return false;
}

/** Map again what could not be unmapped, and drop it from the migration. */
function* restore(
	src_pfns: BigUint64Array,
	npages: number,
	count: number,
	fault_folio: folio | null,
): Sim<void> {
	let left = count;
	for (let i = 0; i < npages && left !== 0; i++) {
		const word = src_pfns[i]!;
		const p = migrate_pfn_to_page(word);
		if (p === null || word & MIGRATE_PFN_MIGRATE) continue;
		const f = page_folio(p);
		yield* remove_migration_ptes(f, f, 0);
		src_pfns[i] = 0n;
		if (f !== fault_folio) yield* folio_unlock(f);
		yield* folio_put(f);
		left--;
	}
}

/**
 * Unmap collected pages; those that are pinned go back.
 *
 * @param src_pfns - words; 0 where a page went back
 * @param npages - how many words
 * @param fault_page - page of the CPU fault being served
 * @returns number of words that are still to be migrated
 * @context Process context. Sleeps.
 * @kernel mm/migrate_device.c
 */
export function* migrate_device_unmap(
	src_pfns: BigUint64Array,
	npages: number,
	fault_page: page | null,
): Sim<unsigned_long> {
	const large = feature('device_private_thp');
	const locked = feature('migrate_fault_page_locked');
	const fault_folio = fault_page !== null && locked ? page_folio(fault_page) : null;
	const lru = new lru_isolation();
	let unmapped = 0n;
	let back = 0;
	lru_add_drain();
	for (let i = 0; i < npages; ) {
		const p = migrate_pfn_to_page(src_pfns[i]!);
		if (p === null) {
			if (src_pfns[i]! & MIGRATE_PFN_MIGRATE) unmapped++;
			i++;
			continue;
		}
		const nr = large ? folio_nr_pages(page_folio(p)) : 1;
		if (nr > 1) src_pfns[i]! |= MIGRATE_PFN_COMPOUND;
		if (yield* unmapPage(p, fault_page, lru)) unmapped++;
		else {
			src_pfns[i]! &= ~MIGRATE_PFN_MIGRATE;
			back++;
		}
		i += nr;
	}
	yield* restore(src_pfns, npages, back, fault_folio);
	return unmapped;
}
