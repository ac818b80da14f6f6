// SPDX-License-Identifier: GPL-2.0-only
/**
 * The test driver's devices: their chunks of device memory and the pages in them.
 *
 * Guarantee: a page that is handed out is locked and has one reference; its last put gives it back.
 * Mechanism: a private page is a struct page without bytes, so each has a page of system memory that
 * holds them, its backing page, whose zone_device_data names the mirror that migrated it. A coherent
 * page has bytes of its own.
 *
 * ```
 *   dmirror_device ── chunk (256 MiB) ── pagemap ── page ── zone_device_data ── backing page ── mirror
 *        free_pages, free_folios      idle: on a list of the device
 *        chunk.untouched              idle and never handed out: not on a list, taken from the end
 * ```
 *
 * @kernel lib/test_hmm.c
 */
import { WARN_ON_ONCE } from '../../include/linux/bug.ts';
import type { device } from '../../include/linux/device.ts';
import { ENOMEM } from '../../include/linux/errno.ts';
import {
	dev_pagemap,
	type dev_pagemap_ops,
	MEMORY_DEVICE_COHERENT,
	MEMORY_DEVICE_PRIVATE,
	type range,
} from '../../include/linux/memremap.ts';
import { type folio, type page, page_folio } from '../../include/linux/mm_types.ts';
import { page_to_pfn, pfn_to_page } from '../../include/linux/mmzone.ts';
import { folio_order, is_device_private_page, page_pgmap } from '../../include/linux/page-flags.ts';
import { mutex, spinlock_t } from '../../include/linux/spinlock.ts';
import {
	GFP_HIGHUSER_MOVABLE,
	HPAGE_PMD_NR,
	HPAGE_PMD_ORDER,
	type int,
} from '../../include/linux/types.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { mutex_lock, mutex_unlock } from '../../kernel/locking/mutex.ts';
import { spin_lock, spin_unlock } from '../../kernel/locking/spinlock.ts';
import { release_mem_region, request_free_mem_region } from '../../kernel/resource.ts';
import { memremap_pages, zone_device_folio_init } from '../../mm/memremap.ts';
import { __free_pages, folio_alloc } from '../../mm/page_alloc.ts';
import {
	HMM_DMIRROR_MEMORY_DEVICE_COHERENT,
	HMM_DMIRROR_MEMORY_DEVICE_PRIVATE,
} from '../test_hmm_uapi.ts';

export const DEVMEM_CHUNK_SIZE = 256n << 20n;

/**
 * A range of device memory.
 *
 * @kernel lib/test_hmm.c
 */
export class dmirror_chunk {
	readonly pagemap: dev_pagemap;
	readonly mdevice: dmirror_device;
	/** It is being given back: its pages do not return to a list. */
	remove = false;
	readonly firstPfn: number;
	/** One past the last page that was never handed out. */
	untouchedEnd: number;
	/** Pages that one step of `untouchedEnd` hands out. */
	readonly step: number;

	/**
	 * @param mdevice - whose it is
	 * @param pagemap - its pages
	 * @param large - it is handed out in folios of PMD size
	 */
	constructor(mdevice: dmirror_device, pagemap: dev_pagemap, large: boolean) {
		const [{ start, end }] = pagemap.ranges as [range];
		this.mdevice = mdevice;
		this.pagemap = pagemap;
		this.firstPfn = Number(start >> 12n);
		this.untouchedEnd = Number((end + 1n) >> 12n);
		this.step = large ? HPAGE_PMD_NR : 1;
	}

	/** The highest page that was never handed out; null: none is left. */
	takeUntouched(): page | null {
		if (this.untouchedEnd - this.step < this.firstPfn) return null;
		this.untouchedEnd -= this.step;
		return pfn_to_page(BigInt(this.untouchedEnd));
	}
}

/**
 * One of the driver's devices.
 *
 * @kernel lib/test_hmm.c
 */
export class dmirror_device {
	/** `hmm_dmirror0` */
	readonly name: string;
	readonly zone_device_type: int;
	/** Where its memory is, for a coherent device. */
	readonly spm: range | null;
	readonly ops: dev_pagemap_ops;
	/** The function that reaches its memory; null: none does. */
	readonly parent: device | null = null;
	devmem_chunks: dmirror_chunk[] = [];
	/** Protects the chunks. */
	readonly devmem_lock = new mutex('mdevice->devmem_lock');
	/** Pages handed out, given back. */
	calloc = 0;
	cfree = 0;
	/** Calls of migrate_to_ram, and pages that it could still move after migrate_vma_pages(). */
	ramFaults = 0;
	ramPages = 0;
	free_pages: page[] = [];
	free_folios: page[] = [];
	/** Protects the lists and counts. */
	readonly lock = new spinlock_t('mdevice->lock');

	/**
	 * @param name - its name
	 * @param spm - memory of a coherent device; null: it is private
	 * @param ops - of its pagemaps
	 */
	constructor(name: string, spm: range | null, ops: dev_pagemap_ops) {
		this.name = name;
		this.zone_device_type =
			spm === null
				? HMM_DMIRROR_MEMORY_DEVICE_PRIVATE
				: HMM_DMIRROR_MEMORY_DEVICE_COHERENT;
		this.spm = spm;
		this.ops = ops;
	}
}

/**
 * Whether a device's memory is private.
 *
 * @kernel lib/test_hmm.c
 */
export function dmirror_is_private_zone(mdevice: dmirror_device): boolean {
	return mdevice.zone_device_type === HMM_DMIRROR_MEMORY_DEVICE_PRIVATE;
}

/** The page with the bytes of a device page. */
export function BACKING_PAGE(p: page): page {
	return is_device_private_page(p) ? (p.zone_device_data as page) : p;
}

/**
 * The chunk that a device page lies in.
 *
 * @kernel lib/test_hmm.c
 */
export function dmirror_page_to_chunk(p: page): dmirror_chunk {
	return page_pgmap(p).container as dmirror_chunk;
}

/**
 * The device that a page belongs to.
 *
 * @kernel lib/test_hmm.c
 */
export function dmirror_page_to_device(p: page): dmirror_device {
	return dmirror_page_to_chunk(p).mdevice;
}

/** Where a new chunk lies. */
function chunkRange({ spm }: dmirror_device): range | int {
	return spm ?? request_free_mem_region(DEVMEM_CHUNK_SIZE);
}

/**
 * Give a device one more chunk.
 *
 * @param mdevice - the device
 * @param is_large - its pages are handed out as folios of PMD size
 * @returns the chunk, or an errno
 * @kernel lib/test_hmm.c
 */
export function* dmirror_allocate_chunk(
	mdevice: dmirror_device,
	is_large: boolean,
): Sim<dmirror_chunk | int> {
	if (shouldFail('dmirror_allocate_chunk:devmem')) return -ENOMEM;
	const found = chunkRange(mdevice);
	if (typeof found === 'number') return found;
	const pagemap = new dev_pagemap({
		type: dmirror_is_private_zone(mdevice)
			? MEMORY_DEVICE_PRIVATE
			: MEMORY_DEVICE_COHERENT,
		ranges: [found],
		nr_range: 1,
		ops: mdevice.ops,
		owner: mdevice,
	});
	const chunk = new dmirror_chunk(mdevice, pagemap, is_large);
	pagemap.container = chunk;
	yield* mutex_lock(mdevice.devmem_lock);
	const mapped = yield* memremap_pages(pagemap, 0);
	if (typeof mapped !== 'number') mdevice.devmem_chunks.push(chunk);
	yield* mutex_unlock(mdevice.devmem_lock);
	if (typeof mapped !== 'number') return chunk;
	if (dmirror_is_private_zone(mdevice)) release_mem_region(found.start, DEVMEM_CHUNK_SIZE);
	return mapped;
}

/** An idle page of the chunks there are; its lock is held. */
function takeIdle(mdevice: dmirror_device, is_large: boolean): page | null {
	const list = is_large ? mdevice.free_folios : mdevice.free_pages;
	const freed = list.pop();
	if (freed !== undefined) return freed;
	const step = is_large ? HPAGE_PMD_NR : 1;
	// The newest chunk first, as its pages are in front of the list.
	for (let i = mdevice.devmem_chunks.length - 1; i >= 0; i--) {
		const chunk = mdevice.devmem_chunks[i]!;
		const found = chunk.step === step ? chunk.takeUntouched() : null;
		if (found !== null) return found;
	}
	return null;
}

function* takePage(mdevice: dmirror_device, is_large: boolean): Sim<page | null> {
	yield* spin_lock(mdevice.lock);
	const found = takeIdle(mdevice, is_large);
	if (found !== null) mdevice.calloc += is_large ? HPAGE_PMD_NR : 1;
	yield* spin_unlock(mdevice.lock);
	return found;
}

/**
 * Take a page of a device.
 *
 * @param mdevice - the device
 * @param is_large - a folio of PMD size
 * @returns the page, locked, with one reference and a backing page; null: there is no memory
 * @kernel lib/test_hmm.c
 */
export function* dmirror_devmem_alloc_page(
	mdevice: dmirror_device,
	is_large: boolean,
): Sim<page | null> {
	const order = is_large ? HPAGE_PMD_ORDER : 0;
	const isPrivate = dmirror_is_private_zone(mdevice);
	const backing = isPrivate ? yield* folio_alloc(GFP_HIGHUSER_MOVABLE, order) : null;
	if (isPrivate && backing === null) return null;

	let dpage = yield* takePage(mdevice, is_large);
	if (
		dpage === null &&
		typeof (yield* dmirror_allocate_chunk(mdevice, is_large)) !== 'number'
	)
		dpage = yield* takePage(mdevice, is_large);
	if (dpage === null) {
		if (backing !== null) yield* __free_pages(backing.page, order);
		return null;
	}
	yield* zone_device_folio_init(page_folio(dpage), page_pgmap(dpage), order);
	dpage.zone_device_data = backing?.page ?? null;
	return dpage;
}

/**
 * The last reference of a device page was put.
 *
 * @param p - its first page
 * @kernel lib/test_hmm.c
 */
export function* dmirror_devmem_free(p: page): Sim<void> {
	const rpage = BACKING_PAGE(p);
	const order = folio_order(page_folio(rpage));
	if (rpage !== p) yield* __free_pages(rpage, order);
	const chunk = dmirror_page_to_chunk(p);
	const { mdevice } = chunk;
	yield* spin_lock(mdevice.lock);
	if (!chunk.remove) {
		mdevice.cfree += 1 << order;
		(order === 0 ? mdevice.free_pages : mdevice.free_folios).push(p);
	}
	yield* spin_unlock(mdevice.lock);
}

/**
 * A device folio was split: each new folio gets its part of the backing folio.
 *
 * @param head - what was split
 * @param tail - a new folio; null: all are made
 * @since v6.19
 * @kernel lib/test_hmm.c
 */
export function dmirror_devmem_folio_split(head: folio, tail: folio | null): void {
	const rpage = BACKING_PAGE(head.page) as page | null;
	if (rpage === null) {
		if (tail !== null) tail.page.zone_device_data = null;
		return;
	}
	if (tail === null) {
		rpage.compound = 0;
		rpage.mapping = null;
		WARN_ON_ONCE(rpage._refcount < 1, 'backing page without reference');
		return;
	}
	const offset = Number(
		(page_to_pfn(tail.page) as bigint) - (page_to_pfn(head.page) as bigint),
	);
	const part = pfn_to_page((page_to_pfn(rpage) as bigint) + BigInt(offset));
	tail.page.zone_device_data = part;
	part.zone_device_data = rpage.zone_device_data;
	part.compound = 0;
	part.mapping = null;
	part._refcount = 1;
	tail.mapping = head.mapping;
	tail.page.pgmap = head.pgmap;
}
