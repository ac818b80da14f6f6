// SPDX-License-Identifier: GPL-2.0-only
/**
 * The two-step IOVA calls as the DMA API offers them (include/linux/dma-mapping.h): callers see
 * kernel/dma/, the code is dma-iommu's.
 */
export {
	dma_iova_destroy,
	dma_iova_free,
	dma_iova_link,
	dma_iova_sync,
	dma_iova_try_alloc,
	dma_iova_unlink,
} from '../../drivers/iommu/dma-iommu.ts';
