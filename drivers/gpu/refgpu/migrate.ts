// SPDX-License-Identifier: GPL-2.0-only
/**
 * Moving pages between system memory and VRAM.
 *
 * Guarantee: bytes are copied after every mapping of the page was replaced and every notifier
 * returned; a page whose copy fails stays where it was, and no unwritten memory becomes visible.
 * Mechanism: migrate_vma_* for a range of a process and for a CPU fault, migrate_device_range() for
 * eviction by PFN; the copy engine moves the bytes through the DMA API.
 *
 * ```
 *   to VRAM      migrate_vma_setup -> VRAM page, copyIn  -> migrate_vma_pages -> _finalize
 *   CPU fault    migrate_vma_setup -> RAM page,  copyOut -> migrate_vma_pages -> _finalize
 *   eviction     migrate_device_range   ...                 migrate_device_pages, _finalize
 * ```
 */
import { DMA_FROM_DEVICE, DMA_TO_DEVICE } from '../../../include/linux/dma-direction.ts';
import { EBUSY, EFAULT, EINVAL, ENOMEM } from '../../../include/linux/errno.ts';
import {
	MIGRATE_PFN_MIGRATE,
	MIGRATE_PFN_WRITE,
	MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
	MIGRATE_VMA_SELECT_SYSTEM,
	migrate_pfn,
	migrate_pfn_to_page,
	migrate_vma,
} from '../../../include/linux/migrate.ts';
import {
	type mm_struct,
	type page,
	page_folio,
	VM_FAULT_OOM,
	VM_FAULT_SIGBUS,
	type vm_fault,
} from '../../../include/linux/mm_types.ts';
import { page_to_pfn } from '../../../include/linux/mmzone.ts';
import {
	__GFP_NOFAIL,
	__GFP_ZERO,
	GFP_HIGHUSER_MOVABLE,
	type int,
	PAGE_SIZE,
	type unsigned_long,
	type vm_fault_t,
} from '../../../include/linux/types.ts';
import { shouldFail } from '../../../include/sim/fault_injection.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import {
	dma_map_page_attrs,
	dma_mapping_error,
	dma_unmap_page_attrs,
} from '../../../kernel/dma/mapping.ts';
import { mutex_lock, mutex_unlock } from '../../../kernel/locking/mutex.ts';
import { cond_resched } from '../../../kernel/sched/core.ts';
import { folio_lock, folio_unlock } from '../../../mm/filemap.ts';
import {
	migrate_device_finalize,
	migrate_device_pages,
	migrate_device_range,
	migrate_vma_finalize,
	migrate_vma_pages,
	migrate_vma_setup,
} from '../../../mm/migrate_device.ts';
import { find_vma } from '../../../mm/mmap.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../../mm/mmap_lock.ts';
import { alloc_page } from '../../../mm/page_alloc.ts';
import { put_page } from '../../../mm/swap.ts';
import { allocVramPage, isInUse } from './dmem.ts';
import { chunkOf, type GpuChunk, type RefGpu, vramOffset } from './gpu.ts';

/** Pages moved by one migrate_vma_* round. */
const PAGES_PER_ROUND = 64;
/** Rounds of an eviction: each takes what is not pinned for a moment by somebody else. */
const MAX_EVICT_ROUNDS = 1000;

/** Copy a page of VRAM to a page of system memory. */
function* copyToRam(gpu: RefGpu, from: page, to: page): Sim<int> {
	const { dev } = gpu.pdev;
	const dma = dma_map_page_attrs(dev, to, 0n, PAGE_SIZE, DMA_FROM_DEVICE, 0n);
	if (dma_mapping_error(dev, dma)) return -EFAULT;
	const ret = yield* gpu.silicon.copyOut(vramOffset(from), dma);
	dma_unmap_page_attrs(dev, dma, PAGE_SIZE, DMA_FROM_DEVICE, 0n);
	return ret;
}

/** Copy a page of system memory to a page of VRAM. */
function* copyToVram(gpu: RefGpu, from: page, to: page): Sim<int> {
	const { dev } = gpu.pdev;
	const dma = dma_map_page_attrs(dev, from, 0n, PAGE_SIZE, DMA_TO_DEVICE, 0n);
	if (dma_mapping_error(dev, dma)) return -EFAULT;
	const ret = yield* gpu.silicon.copyIn(dma, vramOffset(to));
	dma_unmap_page_attrs(dev, dma, PAGE_SIZE, DMA_TO_DEVICE, 0n);
	return ret;
}

/** Pages that moved, after migrate_vma_pages() took its mark from those that somebody else holds. */
function countMoved(src: BigUint64Array, dst: BigUint64Array): number {
	let moved = 0;
	for (let i = 0; i < src.length; i++) if (dst[i]! && src[i]! & MIGRATE_PFN_MIGRATE) moved++;
	return moved;
}

/** A page that no migration took: unlock it and let it go. */
function* dropPage(p: page): Sim<void> {
	yield* folio_unlock(page_folio(p));
	yield* put_page(p);
}

/**
 * A system page for a copy; zeroed, so that nothing old shows where the engine did not write.
 *
 * Never under the engine's mutex: reclaim would sleep with it, and who waits for it cannot be killed.
 */
function* ramPage(gfp: int): Sim<page | null> {
	return yield* alloc_page(GFP_HIGHUSER_MOVABLE | __GFP_ZERO | gfp);
}

/**
 * Give a new system page the bytes of a VRAM page; the engine's mutex is held.
 *
 * @returns 0, with the new page locked; or an errno, and the new page is gone
 */
function* ramCopy(gpu: RefGpu, from: page, to: page): Sim<int> {
	yield* folio_lock(page_folio(to));
	const err = yield* copyToRam(gpu, from, to);
	if (err) yield* dropPage(to);
	return err;
}

/**
 * The way back of one page.
 *
 * @param dst - out: its word, when there is a copy
 * @returns 0, VM_FAULT_OOM or VM_FAULT_SIGBUS
 */
function* fetchPage(gpu: RefGpu, spage: page, dst: BigUint64Array): Sim<vm_fault_t> {
	const dpage = yield* ramPage(0);
	if (dpage === null) return VM_FAULT_OOM;
	yield* mutex_lock(gpu.engineMutex);
	const err = yield* ramCopy(gpu, spage, dpage);
	yield* mutex_unlock(gpu.engineMutex);
	if (err) return VM_FAULT_SIGBUS;
	dst[0] = migrate_pfn(page_to_pfn(dpage));
	return 0;
}

/**
 * A CPU touched a page in VRAM: bring it back.
 *
 * @param vmf - the fault; `vmf.page` is the page, referenced, and locked in v7.3
 * @retval 0 it is back, or somebody else moved it meanwhile
 * @returns VM_FAULT_OOM without memory, VM_FAULT_SIGBUS when the copy failed: the page stays
 */
export function* migrateToRam(vmf: vm_fault): Sim<vm_fault_t> {
	const { gpu } = chunkOf(vmf.page as page);
	if (shouldFail('migrateToRam:pfns')) return VM_FAULT_OOM;
	const src = new BigUint64Array(1);
	const dst = new BigUint64Array(1);
	const args = new migrate_vma({
		vma: vmf.vma,
		start: vmf.address,
		end: vmf.address + PAGE_SIZE,
		src,
		dst,
		pgmap_owner: gpu.owner,
		fault_page: vmf.page,
		flags: MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
	});
	let ret: vm_fault_t = 0;

	gpu.counters.migrateToRam++;
	if ((yield* migrate_vma_setup(args)) < 0) return VM_FAULT_SIGBUS;
	if (!args.cpages) return 0;

	const spage = migrate_pfn_to_page(src[0]!);
	if (spage !== null && src[0]! & MIGRATE_PFN_MIGRATE)
		ret = yield* fetchPage(chunkOf(spage).gpu, spage, dst);
	// Also without a destination: the entry has to be put back.
	yield* migrate_vma_pages(args);
	gpu.counters.pagesToRam += countMoved(src, dst);
	yield* migrate_vma_finalize(args);
	return ret;
}

/** The VRAM pages for one round: words in `dst` for what will move, 0 for what stays. */
function* fillVram(gpu: RefGpu, args: migrate_vma, count: number): Sim<void> {
	const { src, dst } = args;

	for (let i = 0; i < count; i++) {
		dst[i] = 0n;
		if (!(src[i]! & MIGRATE_PFN_MIGRATE)) continue;
		const dpage = yield* allocVramPage(gpu);
		if (dpage === null) continue;
		const spage = migrate_pfn_to_page(src[i]!);
		let err = 0;
		// Nothing there yet: an empty anonymous page is all zeros.
		if (spage === null) yield* gpu.silicon.clear(vramOffset(dpage));
		else err = yield* copyToVram(gpu, spage, dpage);
		if (err) {
			yield* dropPage(dpage);
			continue;
		}
		dst[i] = migrate_pfn(page_to_pfn(dpage)) | (src[i]! & MIGRATE_PFN_WRITE);
	}
}

/**
 * Move a range of a process into VRAM.
 *
 * @param gpu - the GPU
 * @param mm - the process's address space
 * @param start - first address, page aligned
 * @param end - exclusive
 * @returns pages that are in VRAM now and were not before, or an errno
 * @retval -EINVAL the range is empty or not page aligned, or a mapping is not private memory
 * @retval -EFAULT nothing is mapped somewhere in the range
 * @retval -ENOMEM no memory for the words of a round
 */
export function* migrateToVram(
	gpu: RefGpu,
	mm: mm_struct,
	start: unsigned_long,
	end: unsigned_long,
): Sim<int> {
	if (start >= end || (start | end) & (PAGE_SIZE - 1n)) return -EINVAL;
	let total = 0;
	let ret = 0;

	yield* mmap_read_lock(mm);
	for (let addr = start; addr < end && ret === 0; ) {
		const vma = find_vma(mm, addr);
		if (vma === null || vma.vm_start > addr) {
			ret = -EFAULT;
			break;
		}
		const limit = addr + BigInt(PAGES_PER_ROUND) * PAGE_SIZE;
		const stop = [end, vma.vm_end, limit].reduce((a, b) => (a < b ? a : b));
		const count = Number((stop - addr) >> 12n);
		if (shouldFail('migrateToVram:pfns')) {
			ret = -ENOMEM;
			break;
		}
		const args = new migrate_vma({
			vma,
			start: addr,
			end: stop,
			src: new BigUint64Array(count),
			dst: new BigUint64Array(count),
			pgmap_owner: gpu.owner,
			flags: MIGRATE_VMA_SELECT_SYSTEM,
		});
		ret = yield* migrate_vma_setup(args);
		if (ret === 0) {
			yield* mutex_lock(gpu.engineMutex);
			yield* fillVram(gpu, args, count);
			yield* mutex_unlock(gpu.engineMutex);
			yield* migrate_vma_pages(args);
			total += countMoved(args.src, args.dst);
			yield* migrate_vma_finalize(args);
		}
		addr = stop;
	}
	yield* mmap_read_unlock(mm);
	gpu.counters.pagesToVram += total;
	return ret ? ret : total;
}

/** Pages for one round of eviction; fewer when there is no memory at all. */
function* ramPages(count: number): Sim<page[]> {
	const pages: page[] = [];
	while (pages.length < count) {
		const p = yield* ramPage(__GFP_NOFAIL);
		if (p === null) break;
		pages.push(p);
	}
	return pages;
}

/** One try to bring every page of a chunk back. */
function* evictRound(chunk: GpuChunk, pages: number): Sim<void> {
	const { gpu } = chunk;
	if (shouldFail('evictRound:pfns')) return;
	const src = new BigUint64Array(pages);
	const dst = new BigUint64Array(pages);

	// As many as can move: none is handed out any more.
	const spare = yield* ramPages(chunk.callocated);
	// The mutex before the pages' locks: whoever allocates holds it while it waits for the lock of its new page, and
	// here pages are locked that may be new.
	yield* mutex_lock(gpu.engineMutex);
	yield* migrate_device_range(src, BigInt(chunk.firstPfn), BigInt(pages));
	for (let i = 0; i < pages; i++) {
		const spage = migrate_pfn_to_page(src[i]!);
		if (spage === null || !(src[i]! & MIGRATE_PFN_MIGRATE)) continue;
		const dpage = spare.pop();
		if (dpage === undefined) break;
		if (yield* ramCopy(gpu, spage, dpage)) continue;
		dst[i] = migrate_pfn(page_to_pfn(dpage));
	}
	yield* mutex_unlock(gpu.engineMutex);
	for (const p of spare) yield* put_page(p);
	yield* migrate_device_pages(src, dst, BigInt(pages));
	gpu.counters.pagesEvicted += countMoved(src, dst);
	yield* migrate_device_finalize(src, dst, BigInt(pages));
}

/**
 * Bring every page of a chunk back to system memory, whoever maps it.
 *
 * @param chunk - the chunk
 * @retval 0 no page is in use
 * @retval -EBUSY pages are still held after MAX_EVICT_ROUNDS: somebody keeps a reference, or copies
 *   fail, or there is no memory
 */
export function* evictChunk(chunk: GpuChunk): Sim<int> {
	for (let round = 0; round < MAX_EVICT_ROUNDS; round++) {
		if (!(yield* isInUse(chunk))) return 0;
		yield* evictRound(chunk, chunk.everUsed);
		yield* cond_resched();
	}
	return -EBUSY;
}
