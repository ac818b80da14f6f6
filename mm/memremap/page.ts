// SPDX-License-Identifier: GPL-2.0-only
/**
 * Device pages: allocated by their driver, freed by their last put.
 *
 * ```
 *   PRIVATE, COHERENT   idle(0) ── zone_device_page_init ──> 1, locked ── last put ──> free op, idle(0)
 *   PCI_P2PDMA  v6.12   idle(1) ── get ──> 2 ... last put ──> free op, count 1
 *               v7.3    idle(0) ── mmap sets 1 ── last put ──> free op, idle(0)
 *   FS_DAX      v6.12   idle(1) ── fault ──> 2 ── put to 1 ──> wakes
 *               v7.3    idle(0) ── fault ──> 1 ── put to 0 ──> wakes
 *   GENERIC             always 1
 * ```
 */
import { BUG_ON, WARN_ON_ONCE } from '../../include/linux/bug.ts';
import {
	type dev_pagemap,
	MEMORY_DEVICE_COHERENT,
	MEMORY_DEVICE_FS_DAX,
	MEMORY_DEVICE_GENERIC,
	MEMORY_DEVICE_PCI_P2PDMA,
	MEMORY_DEVICE_PRIVATE,
} from '../../include/linux/memremap.ts';
import { type folio, type page, page_folio } from '../../include/linux/mm_types.ts';
import { nth_page } from '../../include/linux/mmzone.ts';
import {
	ClearPageAnonExclusive,
	folio_nr_pages,
	folio_test_anon,
	folio_test_large,
	is_zone_device_page,
	PageLocked,
	PG_dirty,
	PG_large_rmappable,
	PG_locked,
	PG_lru,
	PG_referenced,
	PG_uptodate,
	PG_writeback,
	page_ref_count,
	set_page_count,
} from '../../include/linux/page-flags.ts';
import {
	percpu_ref_put_many,
	percpu_ref_tryget_live,
	percpu_ref_tryget_many,
} from '../../include/linux/percpu-refcount.ts';
import type { int, unsigned_int } from '../../include/linux/types.ts';
import { takeOrigin } from '../../include/sim/origin.ts';
import { preemptible, type Sim, touch, waitPoint } from '../../include/sim/schedule.ts';
import { feature, world } from '../../include/sim/world.ts';
import { wake_up_var } from '../../kernel/sched/wait.ts';
import { prep_compound_page } from '../page_alloc.ts';
import { countsPagesInUse, put_dev_pagemap } from './pagemap.ts';

/** The free op of a private, coherent or P2P folio. */
function* callFreeOp(pgmap: dev_pagemap, f: folio): Sim<void> {
	const { ops } = pgmap;
	if (WARN_ON_ONCE(!ops?.folio_free, 'Missing folio_free method')) return;
	yield* ops!.folio_free!(f);
}

/** v6.12: every kind needs the op; the count of all but private and coherent becomes 1 again. */
function* freeWithPageFree(pgmap: dev_pagemap, f: folio): Sim<void> {
	if (WARN_ON_ONCE(!pgmap.ops?.page_free, 'Missing page_free method')) return;
	if (folio_test_anon(f)) {
		BUG_ON(folio_test_large(f), 'large anonymous device folio');
		ClearPageAnonExclusive(f.page);
	}
	f.mapping = null;
	yield* pgmap.ops!.page_free!(f.page);
	if (countsPagesInUse(pgmap)) put_dev_pagemap(pgmap);
	else set_page_count(f.page, 1);
}

/**
 * The last reference of a device folio was put.
 *
 * @param f - the folio
 * @context Whoever put it; sleeps if the free op does.
 * @kernel mm/memremap.c
 */
export function* free_zone_device_folio(f: folio): Sim<void> {
	const { pgmap } = f;
	const nr = folio_nr_pages(f);
	if (WARN_ON_ONCE(pgmap === null, 'device folio without pagemap') || pgmap === null) return;
	if (!feature('pgmap_folio_ops')) {
		yield* freeWithPageFree(pgmap, f);
		return;
	}
	if (folio_test_anon(f))
		for (let i = 0; i < nr; i++) ClearPageAnonExclusive(nth_page(f.page, i));
	// A stale mapping would make the next owner believe that the page is anonymous.
	if (pgmap.type !== MEMORY_DEVICE_FS_DAX && pgmap.type !== MEMORY_DEVICE_GENERIC)
		f.mapping = null;

	switch (pgmap.type) {
		case MEMORY_DEVICE_PRIVATE:
		case MEMORY_DEVICE_COHERENT:
			yield* callFreeOp(pgmap, f);
			percpu_ref_put_many(pgmap.ref!, nr);
			break;
		case MEMORY_DEVICE_GENERIC:
			set_page_count(f.page, 1);
			break;
		case MEMORY_DEVICE_FS_DAX:
			wake_up_var(f.page);
			break;
		case MEMORY_DEVICE_PCI_P2PDMA:
			yield* callFreeOp(pgmap, f);
			break;
		default:
	}
}

/**
 * v6.12: put references of a folio whose idle count is 1.
 *
 * @param f - a device folio
 * @param refs - how many
 * @returns false when it is not FS_DAX, and an ordinary put is due
 * @kernel include/linux/mm.h (gone in 7.x)
 */
export function put_devmap_managed_folio_refs(f: folio, refs: int): boolean {
	if (feature('zone_device_zero_refcount')) return false;
	if (f.pgmap?.type !== MEMORY_DEVICE_FS_DAX) return false;
	touch('atomic', f.page, '_refcount');
	set_page_count(f.page, page_ref_count(f.page) - refs);
	if (page_ref_count(f.page) === 1) wake_up_var(f.page);
	return true;
}

/** v7.3: whatever an earlier folio left in the pages of a new one. */
function resetPages(first: page, pgmap: dev_pagemap, order: unsigned_int): void {
	const stale =
		PG_locked |
		PG_referenced |
		PG_uptodate |
		PG_dirty |
		PG_lru |
		PG_writeback |
		PG_large_rmappable;
	for (let i = 0; i < 1 << order; i++) {
		const p = nth_page(first, i);
		p.flags &= ~stale;
		p.compound = 0;
		p.mapping = null;
		p.pgmap = pgmap;
		WARN_ON_ONCE(page_ref_count(p) !== 0, 'allocated device page is in use');
		WARN_ON_ONCE(!is_zone_device_page(p), 'not a device page');
	}
}

/** The new page is locked: at once, unless somebody wrongly holds the lock of a free page. */
function* lockNewPage(p: page): Sim<void> {
	const f = page_folio(p);
	if (preemptible() || PageLocked(p)) yield waitPoint('acquire', f, () => !PageLocked(p));
	p.flags |= PG_locked;
}

/**
 * Allocate an idle private or coherent page: count 1, locked, holding the pagemap.
 *
 * @param p - the idle page, head of 2^order
 * @param pgmap - v7.3: the pagemap; v6.12 takes the page's
 * @param order - v7.3: pages as a power of two
 * @context Process context; never sleeps on a page that is really free.
 * @kernel mm/memremap.c
 */
export function* zone_device_page_init(
	p: page,
	pgmap: dev_pagemap = p.pgmap as dev_pagemap,
	order: unsigned_int = 0,
): Sim<void> {
	if (feature('pgmap_folio_ops')) {
		resetPages(p, pgmap, order);
		// "many" and not "live": it fails only when the last reference is gone.
		WARN_ON_ONCE(!percpu_ref_tryget_many(pgmap.ref!, 1 << order), 'pgmap is gone');
	} else WARN_ON_ONCE(!percpu_ref_tryget_live(p.pgmap!.ref!), 'pgmap is dying');
	touch('atomic', p, '_refcount');
	set_page_count(p, 1);
	if (world().trackOrigins) (p.sec.origins ??= [])[p.idx] = takeOrigin();
	yield* lockNewPage(p);
	if (order !== 0) prep_compound_page(p, order);
}

/**
 * zone_device_page_init() of a folio that can be mapped page by page.
 *
 * @param f - the idle folio
 * @param pgmap - its pagemap
 * @param order - pages as a power of two
 * @kernel include/linux/memremap.h
 * @since v6.19
 */
export function* zone_device_folio_init(
	f: folio,
	pgmap: dev_pagemap,
	order: unsigned_int,
): Sim<void> {
	yield* zone_device_page_init(f.page, pgmap, order);
	if (order !== 0) f.flags |= PG_large_rmappable;
}

/**
 * A device-private folio was split: let the driver tell the tail what it keeps for the head.
 *
 * @param original_folio - what was split
 * @param new_folio - one of the new folios; null once at the end
 * @kernel include/linux/memremap.h
 * @since v6.19
 */
export function* zone_device_private_split_cb(
	original_folio: folio,
	new_folio: folio | null,
): Sim<void> {
	const { pgmap } = original_folio;
	if (pgmap?.type !== MEMORY_DEVICE_PRIVATE) return;
	if (pgmap.ops?.folio_split !== undefined) {
		yield* pgmap.ops.folio_split(original_folio, new_folio);
		return;
	}
	if (new_folio === null) return;
	new_folio.page.pgmap = pgmap;
	new_folio.mapping = original_folio.mapping;
}

/**
 * What the driver keeps for a device folio.
 *
 * @param f - the folio
 * @kernel include/linux/memremap.h
 */
export function folio_zone_device_data(f: folio): unknown {
	return f.page.zone_device_data;
}

/**
 * Set what the driver keeps for a device folio.
 *
 * @param f - the folio
 * @param data - anything
 * @kernel include/linux/memremap.h
 */
export function folio_set_zone_device_data(f: folio, data: unknown): void {
	f.page.zone_device_data = data;
}
