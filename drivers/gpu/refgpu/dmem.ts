// SPDX-License-Identifier: GPL-2.0-only
/**
 * Device-private memory: chunks of VRAM, the pages handed out, and the pagemap's ops.
 *
 * Guarantee: a page that is handed out has one reference, is locked and belongs to one chunk; its
 * last put returns it to the free list.
 * Duty of callers of allocVramPage(): unlock and put the page, or give it to a migration.
 */
import { WARN_ON } from '../../../include/linux/bug.ts';
import { ENOMEM } from '../../../include/linux/errno.ts';
import { dev_pagemap, MEMORY_DEVICE_PRIVATE, type range } from '../../../include/linux/memremap.ts';
import type { folio, page } from '../../../include/linux/mm_types.ts';
import { nth_page, pfn_to_page } from '../../../include/linux/mmzone.ts';
import { folio_nr_pages } from '../../../include/linux/page-flags.ts';
import type { int } from '../../../include/linux/types.ts';
import { shouldFail } from '../../../include/sim/fault_injection.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { lockdep_assert_held } from '../../../kernel/locking/lockdep.ts';
import { mutex_lock, mutex_unlock } from '../../../kernel/locking/mutex.ts';
import { spin_lock, spin_unlock } from '../../../kernel/locking/spinlock.ts';
import { release_mem_region, request_free_mem_region } from '../../../kernel/resource.ts';
import { memremap_pages, memunmap_pages, zone_device_page_init } from '../../../mm/memremap.ts';
import { CHUNK_PAGES, chunkOf, GpuChunk, type RefGpu } from './gpu.ts';

/**
 * The last reference of a page was put: its VRAM is free again.
 *
 * @param p - the page
 */
export function* freePage(p: page): Sim<void> {
	const chunk = chunkOf(p);
	const { gpu } = chunk;

	yield* spin_lock(gpu.lock);
	WARN_ON(chunk.callocated === 0, 'a page of a chunk without pages in use is freed');
	chunk.callocated--;
	gpu.freePages.push(p);
	yield* spin_unlock(gpu.lock);
}

/**
 * The last reference of a folio was put.
 *
 * @param f - the folio
 */
export function* freeFolio(f: folio): Sim<void> {
	const pages = folio_nr_pages(f);
	for (let i = 0; i < pages; i++) yield* freePage(nth_page(f.page, i));
}

/**
 * Give one more chunk of VRAM struct pages.
 *
 * @param gpu - the GPU
 * @retval 0 done
 * @returns an errno when VRAM or physical addresses are used up, or the pagemap cannot be made
 */
export function* addChunk(gpu: RefGpu): Sim<int> {
	const pages = Math.min(CHUNK_PAGES, gpu.vramPages - gpu.nextVramPage);
	if (pages <= 0 || shouldFail('addChunk:chunk')) return -ENOMEM;
	const region = request_free_mem_region(BigInt(pages) << 12n);
	if (typeof region === 'number') return region;

	const pagemap = new dev_pagemap({
		type: MEMORY_DEVICE_PRIVATE,
		ranges: [region],
		nr_range: 1,
		ops: gpu.pagemapOps,
		owner: gpu.owner,
	});
	const chunk = new GpuChunk(gpu, pagemap, region, gpu.nextVramPage, pages);
	pagemap.container = chunk;
	const mapped = yield* memremap_pages(pagemap, gpu.pdev.dev.numa_node);
	if (typeof mapped === 'number') {
		release_mem_region(region.start, region.end + 1n - region.start);
		return mapped;
	}
	gpu.nextVramPage += pages;
	gpu.chunks.push(chunk);
	return 0;
}

/** Whether a page can be had without another chunk. */
function hasFreePage({ freePages, chunks }: RefGpu): boolean {
	const newest = chunks.at(-1);
	return freePages.length > 0 || (newest !== undefined && newest.everUsed < newest.pages);
}

/** The lowest page of the newest chunk that was never handed out. */
function neverUsedPage({ chunks }: RefGpu): page | null {
	const newest = chunks.at(-1);
	if (newest === undefined || newest.everUsed === newest.pages) return null;
	return pfn_to_page(BigInt(newest.firstPfn + newest.everUsed++));
}

/**
 * Take a page of VRAM.
 *
 * @param gpu - the GPU; its engine mutex is held, because a chunk may have to be added
 * @returns the page, locked, with one reference; null when there is none
 */
export function* allocVramPage(gpu: RefGpu): Sim<page | null> {
	// What keeps `stopping` as it is while a chunk is being added, and each new page locked by its
	// owner before an eviction looks at it.
	lockdep_assert_held(gpu.engineMutex);
	if (gpu.stopping) return null;
	if (!hasFreePage(gpu) && (yield* addChunk(gpu)) !== 0) return null;

	yield* spin_lock(gpu.lock);
	const p = gpu.freePages.pop() ?? neverUsedPage(gpu);
	if (p !== null) chunkOf(p).callocated++;
	yield* spin_unlock(gpu.lock);
	if (p === null) return null;
	yield* zone_device_page_init(p, chunkOf(p).pagemap, 0);
	return p;
}

/**
 * Whether pages of a chunk are in use.
 *
 * @param chunk - the chunk
 */
export function* isInUse(chunk: GpuChunk): Sim<boolean> {
	const { gpu } = chunk;
	yield* spin_lock(gpu.lock);
	const inUse = chunk.callocated !== 0;
	yield* spin_unlock(gpu.lock);
	return inUse;
}

/**
 * Take the struct pages of all chunks away. No page may be in use.
 *
 * @param gpu - the GPU; stopping
 */
export function* removeChunks(gpu: RefGpu): Sim<void> {
	yield* mutex_lock(gpu.engineMutex);
	yield* spin_lock(gpu.lock);
	gpu.freePages = [];
	yield* spin_unlock(gpu.lock);
	const chunks = gpu.chunks.splice(0);
	gpu.nextVramPage = 0;
	yield* mutex_unlock(gpu.engineMutex);
	// Without the mutex: this waits for whoever looks a page up, and that may be a migration.
	for (const chunk of chunks) {
		const { start, end }: range = chunk.region;
		yield* memunmap_pages(chunk.pagemap);
		release_mem_region(start, end + 1n - start);
	}
}
