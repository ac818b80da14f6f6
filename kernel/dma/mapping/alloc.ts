// SPDX-License-Identifier: GPL-2.0-only
/**
 * Coherent memory: pages that CPU and device both use without handing them over.
 *
 * @deviates the page allocator is reached through dmaPages(), which boot fills in: mm/ is above
 */

import {
	iommuDmaAllocContiguous,
	iommuDmaFreeContiguous,
} from '../../../drivers/iommu/dma-iommu.ts';
import { WARN_ON_ONCE } from '../../../include/linux/bug.ts';
import type { device } from '../../../include/linux/device.ts';
import { phys_to_dma } from '../../../include/linux/dma-direct.ts';
import { dmaLimit, get_dma_ops } from '../../../include/linux/dma-map-ops.ts';
import {
	__DMA_ATTR_ALLOC_CC_SHARED,
	DMA_ATTR_CC_SHARED,
	DMA_MAPPING_ERROR,
} from '../../../include/linux/dma-mapping.ts';
import { use_dma_iommu } from '../../../include/linux/iommu-dma.ts';
import { orderOf } from '../../../include/linux/iova.ts';
import type { page } from '../../../include/linux/mm_types.ts';
import { pfn_to_page } from '../../../include/linux/mmzone.ts';
import { page_to_phys } from '../../../include/linux/page-flags.ts';
import {
	__GFP_COMP,
	__GFP_ZERO,
	type dma_addr_t,
	type gfp_t,
	type out,
	PAGE_SHIFT,
	PAGE_SIZE,
	type size_t,
	type unsigned_int,
	type unsigned_long,
} from '../../../include/linux/types.ts';
import { shouldFail } from '../../../include/sim/fault_injection.ts';
import { HarnessError } from '../../../include/sim/report.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { feature, perWorld } from '../../../include/sim/world.ts';
import { debug_dma_alloc_coherent, debug_dma_free_coherent } from '../debug.ts';
import { phys_to_virt, virt_to_phys } from '../linear_map.ts';

/** The page allocator, as boot fills it in. */
export class dmaPageAllocator {
	/** alloc_pages() */
	alloc: ((gfp: gfp_t, order: unsigned_int) => Sim<page | null>) | null = null;
	/** __free_pages() */
	free: ((p: page, order: unsigned_int) => Sim<void>) | null = null;
}

/** The page allocator of the installed world. */
export const dmaPages = perWorld(() => new dmaPageAllocator());

function orderOfSize(size: size_t): number {
	return orderOf(Number((size + PAGE_SIZE - 1n) >> PAGE_SHIFT));
}

/**
 * Allocate coherent memory, zeroed.
 *
 * @param dev - the device
 * @param size - bytes
 * @param dma_handle - out: the device's address
 * @param flag - GFP_KERNEL may sleep
 * @param attrs - DMA_ATTR_*
 * @returns kernel address in the linear map; null: no memory, or none that the device reaches
 * @context Sleeps if `flag` allows it.
 * @kernel kernel/dma/mapping.c
 */
export function* dma_alloc_attrs(
	dev: device,
	size: size_t,
	dma_handle: out<dma_addr_t>,
	flag: gfp_t,
	attrs: unsigned_long,
): Sim<bigint | null> {
	WARN_ON_ONCE(dev.coherent_dma_mask === 0n, '!dev->coherent_dma_mask');
	if (WARN_ON_ONCE((flag & __GFP_COMP) !== 0, 'flag & __GFP_COMP')) return null;
	const shared = DMA_ATTR_CC_SHARED | __DMA_ATTR_ALLOC_CC_SHARED;
	if (feature('dma_map_phys') && attrs & shared) return null;
	if (get_dma_ops(dev) !== null)
		throw new HarnessError(
			'dma_alloc_attrs()',
			'dma_map_ops of a device have no alloc here',
		);
	if (shouldFail('dma_alloc_attrs')) return null;
	const { alloc, free } = dmaPages();
	if (alloc === null || free === null)
		throw new HarnessError('dma_alloc_attrs()', 'boot has not set dmaPages()');

	const order = orderOfSize(size);
	const p = yield* alloc(flag | __GFP_ZERO, order);
	if (p === null) return null;
	const phys = page_to_phys(p) as bigint;
	const length = (size + PAGE_SIZE - 1n) & ~(PAGE_SIZE - 1n);
	let handle: dma_addr_t;
	if (use_dma_iommu(dev)) {
		handle = iommuDmaAllocContiguous(dev, phys, length, attrs);
	} else {
		handle = phys_to_dma(dev, phys);
		const last = (handle as bigint) + length - 1n;
		if (last > dmaLimit(dev, dev.coherent_dma_mask)) handle = DMA_MAPPING_ERROR;
	}
	if (handle === DMA_MAPPING_ERROR) {
		yield* free(p, order);
		return null;
	}
	dma_handle.value = handle;
	debug_dma_alloc_coherent(dev, size, handle, phys, attrs);
	return phys_to_virt(phys);
}

/**
 * Free coherent memory.
 *
 * @param dev - the device
 * @param size - as allocated
 * @param cpu_addr - kernel address
 * @param dma_handle - the device's address
 * @param attrs - as allocated
 * @context May sleep.
 * @kernel kernel/dma/mapping.c
 */
export function* dma_free_attrs(
	dev: device,
	size: size_t,
	cpu_addr: bigint | null,
	dma_handle: dma_addr_t,
	attrs: unsigned_long,
): Sim<void> {
	if (cpu_addr === null) return;
	const phys = virt_to_phys(cpu_addr) as bigint;
	debug_dma_free_coherent(dev, size, phys, dma_handle, attrs);
	if (use_dma_iommu(dev))
		iommuDmaFreeContiguous(
			dev,
			dma_handle,
			(size + PAGE_SIZE - 1n) & ~(PAGE_SIZE - 1n),
		);
	const { free } = dmaPages();
	if (free !== null) yield* free(pfn_to_page(phys >> PAGE_SHIFT), orderOfSize(size));
}

/**
 * Allocate coherent memory.
 *
 * @kernel include/linux/dma-mapping.h
 */
export function* dma_alloc_coherent(
	dev: device,
	size: size_t,
	dma_handle: out<dma_addr_t>,
	gfp: gfp_t,
): Sim<bigint | null> {
	return yield* dma_alloc_attrs(dev, size, dma_handle, gfp, 0n);
}

/**
 * Free coherent memory.
 *
 * @kernel include/linux/dma-mapping.h
 */
export function* dma_free_coherent(
	dev: device,
	size: size_t,
	cpu_addr: bigint | null,
	dma_handle: dma_addr_t,
): Sim<void> {
	yield* dma_free_attrs(dev, size, cpu_addr, dma_handle, 0n);
}
