// SPDX-License-Identifier: GPL-2.0-only
/**
 * The DMA API as drivers call it: every function that include/linux/dma-mapping.h declares.
 *
 * | file | what of mapping.c and the header |
 * | --- | --- |
 * | mapping/phys.ts | one range: map, unmap, error check |
 * | drivers/iommu/dma-iommu/link.ts | the two-step calls dma_iova_* |
 */
export {
	dma_iova_destroy,
	dma_iova_free,
	dma_iova_link,
	dma_iova_sync,
	dma_iova_try_alloc,
	dma_iova_unlink,
} from '../../drivers/iommu/dma-iommu.ts';
export {
	dma_addressing_limited,
	dma_map_phys,
	dma_mapping_error,
	dma_need_unmap,
	dma_unmap_phys,
} from './mapping/phys.ts';
