// SPDX-License-Identifier: GPL-2.0-only
/**
 * Migration by PFN, without a VMA: how a driver empties its memory.
 *
 * ```
 *   page              free      tail      locked     in use
 *   word              0         0         0          VALID MIGRATE pfn, then unmapped
 *   v7.3, large       -         -         COMPOUND   VALID MIGRATE COMPOUND pfn, its other words 0
 * ```
 */
import {
	MIGRATE_PFN_COMPOUND,
	MIGRATE_PFN_MIGRATE,
	migrate_pfn,
} from '../../include/linux/migrate.ts';
import { page_folio } from '../../include/linux/mm_types.ts';
import { pfn_to_page } from '../../include/linux/mmzone.ts';
import { folio_nr_pages, PageTail } from '../../include/linux/page-flags.ts';
import type { int, unsigned_long } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { folio_trylock } from '../filemap.ts';
import { folio_put, folio_try_get } from '../swap.ts';
import { __migrate_device_finalize, __migrate_device_pages } from './pages.ts';
import { migrate_device_unmap } from './unmap.ts';

/** Reference and lock the folio whose head a PFN is; 0: free, a tail, or locked. */
function* migrate_device_pfn_lock(pfn: unsigned_long): Sim<unsigned_long> {
	const p = pfn_to_page(pfn);
	if (PageTail(p)) return 0n;
	const f = page_folio(p);
	if (!folio_try_get(f)) return 0n;
	if (!(yield* folio_trylock(f))) {
		yield* folio_put(f);
		return 0n;
	}
	return migrate_pfn(pfn) | MIGRATE_PFN_MIGRATE;
}

/** Lock one PFN for the words from `i` on; gives how many words that filled. */
function* lockAt(
	src_pfns: BigUint64Array,
	i: number,
	pfn: unsigned_long,
	npages: number,
): Sim<number> {
	// The size is read without a reference, as the kernel does.
	const nr = feature('device_private_thp') ? folio_nr_pages(page_folio(pfn_to_page(pfn))) : 1;
	src_pfns[i] = yield* migrate_device_pfn_lock(pfn);
	if (nr === 1) return 1;
	// 7.3.4 marks a folio too that it could not lock: the word is neither 0 nor valid.
	if (src_pfns[i] !== 0n || !feature('fix_s15')) src_pfns[i]! |= MIGRATE_PFN_COMPOUND;
	src_pfns.fill(0n, i + 1, Math.min(i + nr, npages));
	return nr;
}

/**
 * Lock and unmap the device pages of a range of PFNs.
 *
 * @param src_pfns - out: words
 * @param start - first PFN
 * @param npages - how many
 * @returns 0 always; pages that were busy have the word 0, and the caller tries again
 * @context Process context. Sleeps.
 * @kernel mm/migrate_device.c
 */
export function* migrate_device_range(
	src_pfns: BigUint64Array,
	start: unsigned_long,
	npages: unsigned_long,
): Sim<int> {
	const n = Number(npages);
	for (let i = 0; i < n; ) i += yield* lockAt(src_pfns, i, start + BigInt(i), n);
	yield* migrate_device_unmap(src_pfns, n, null);
	return 0;
}

/**
 * Lock and unmap device pages given by PFN.
 *
 * @param src_pfns - in: PFNs; out: words
 * @param npages - how many
 * @returns 0 always; pages that were busy have the word 0
 * @context Process context. Sleeps.
 * @kernel mm/migrate_device.c
 * @since v6.15
 */
export function* migrate_device_pfns(src_pfns: BigUint64Array, npages: unsigned_long): Sim<int> {
	const n = Number(npages);
	for (let i = 0; i < n; ) i += yield* lockAt(src_pfns, i, src_pfns[i]!, n);
	yield* migrate_device_unmap(src_pfns, n, null);
	return 0;
}

/**
 * migrate_vma_pages() without a VMA.
 *
 * @param src_pfns - words of migrate_device_range()
 * @param dst_pfns - words of the destinations
 * @param npages - how many
 * @context Process context. Sleeps.
 * @kernel mm/migrate_device.c
 */
export function* migrate_device_pages(
	src_pfns: BigUint64Array,
	dst_pfns: BigUint64Array,
	npages: unsigned_long,
): Sim<void> {
	yield* __migrate_device_pages(src_pfns, dst_pfns, Number(npages), null);
}

/**
 * migrate_vma_finalize() without a VMA.
 *
 * @param src_pfns - words of migrate_device_range()
 * @param dst_pfns - words of the destinations
 * @param npages - how many
 * @context Process context. Sleeps.
 * @kernel mm/migrate_device.c
 */
export function* migrate_device_finalize(
	src_pfns: BigUint64Array,
	dst_pfns: BigUint64Array,
	npages: unsigned_long,
): Sim<void> {
	yield* __migrate_device_finalize(src_pfns, dst_pfns, Number(npages), null);
}
