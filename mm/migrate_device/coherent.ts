// SPDX-License-Identifier: GPL-2.0-only
/** A page of a coherent device that somebody wants to pin without end must leave the device. */
import { WARN_ON_ONCE } from '../../include/linux/bug.ts';
import { EBUSY } from '../../include/linux/errno.ts';
import { MIGRATE_PFN_MIGRATE, migrate_pfn } from '../../include/linux/migrate.ts';
import type { folio } from '../../include/linux/mm_types.ts';
import { folio_pfn, folio_test_large } from '../../include/linux/page-flags.ts';
import { GFP_USER, type int } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { folio_lock } from '../filemap.ts';
import { copy_highpage, folio_alloc } from '../page_alloc.ts';
import { migrate_device_finalize, migrate_device_pages } from './range.ts';
import { migrate_device_unmap } from './unmap.ts';

/**
 * Migrate a coherent page to system memory.
 *
 * @param f - the page, with one reference of the caller, which is dropped
 * @retval 0 it is in the system now
 * @retval -EBUSY it is pinned, or there is no memory
 * @context Process context. Sleeps.
 * @kernel mm/migrate_device.c
 */
export function* migrate_device_coherent_folio(f: folio): Sim<int> {
	WARN_ON_ONCE(folio_test_large(f), 'a large folio of a coherent device');
	yield* folio_lock(f);
	const src = BigUint64Array.of(migrate_pfn(folio_pfn(f)) | MIGRATE_PFN_MIGRATE);
	const dst = new BigUint64Array(1);
	const moving = (): boolean => (src[0]! & MIGRATE_PFN_MIGRATE) !== 0n;
	// without VMA there is nothing to collect
	yield* migrate_device_unmap(src, 1, null);
	if (!moving()) return -EBUSY;
	const dfolio = yield* folio_alloc(GFP_USER, 0);
	if (dfolio !== null) {
		yield* folio_lock(dfolio);
		dst[0] = migrate_pfn(folio_pfn(dfolio));
	}
	yield* migrate_device_pages(src, dst, 1n);
	if (moving()) copy_highpage(dfolio!.page, f.page);
	yield* migrate_device_finalize(src, dst, 1n);
	return moving() ? 0 : -EBUSY;
}
