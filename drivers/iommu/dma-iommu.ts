// SPDX-License-Identifier: GPL-2.0-only
/**
 * DMA through an IOMMU, in the order of the C file.
 *
 * | file | what of dma-iommu.c |
 * | --- | --- |
 * | dma-iommu/link.ts | the two-step calls dma_iova_* |
 */
export {
	dma_iova_destroy,
	dma_iova_free,
	dma_iova_link,
	dma_iova_sync,
	dma_iova_try_alloc,
	dma_iova_unlink,
} from './dma-iommu/link.ts';
