// SPDX-License-Identifier: GPL-2.0-only
/** Sizes and boundaries of dma-iommu, and its half of coherent memory. */
import type { device } from '../../../include/linux/device.ts';
import { DMA_BIDIRECTIONAL } from '../../../include/linux/dma-direction.ts';
import { dev_is_dma_coherent } from '../../../include/linux/dma-map-ops.ts';
import type {
	dma_addr_t,
	phys_addr_t,
	size_t,
	unsigned_long,
} from '../../../include/linux/types.ts';
import { SIZE_MAX } from '../../../include/linux/types.ts';
import { swiotlb_max_mapping_size } from '../../../kernel/dma/swiotlb.ts';
import { iommu_get_dma_domain } from '../iommu.ts';
import { iova_rcache_range } from '../iova.ts';
import { __iommu_dma_map, __iommu_dma_unmap, dev_is_untrusted, dma_info_to_prot } from './map.ts';

/**
 * Boundary at which segments are joined: the smallest page less one.
 *
 * @kernel drivers/iommu/dma-iommu.c
 */
export function iommu_dma_get_merge_boundary(dev: device): unsigned_long {
	const { pgsize_bitmap } = iommu_get_dma_domain(dev);
	return (pgsize_bitmap & -pgsize_bitmap) - 1n;
}

/**
 * Longest range whose IOVA is cached.
 *
 * @kernel drivers/iommu/dma-iommu.c
 */
export function iommu_dma_opt_mapping_size(): size_t {
	return iova_rcache_range();
}

/**
 * Longest range that is sure to be mapped.
 *
 * @kernel drivers/iommu/dma-iommu.c
 */
export function iommu_dma_max_mapping_size(dev: device): size_t {
	return dev_is_untrusted(dev) ? swiotlb_max_mapping_size(dev) : SIZE_MAX;
}

/**
 * Map pages as coherent memory.
 *
 * @param dev - the device: its coherent mask is what counts
 * @param phys - first page
 * @param size - bytes, whole pages
 * @param attrs - DMA_ATTR_*
 * @returns the IOVA, or DMA_MAPPING_ERROR
 */
export function iommuDmaAllocContiguous(
	dev: device,
	phys: phys_addr_t,
	size: size_t,
	attrs: unsigned_long,
): dma_addr_t {
	const prot = dma_info_to_prot(DMA_BIDIRECTIONAL, dev_is_dma_coherent(dev), attrs);
	return __iommu_dma_map(dev, phys, size, prot, dev.coherent_dma_mask);
}

/**
 * Undo iommuDmaAllocContiguous().
 *
 * @param dev - the device
 * @param handle - the IOVA
 * @param size - bytes, whole pages
 */
export function iommuDmaFreeContiguous(dev: device, handle: dma_addr_t, size: size_t): void {
	__iommu_dma_unmap(dev, handle, size);
}
