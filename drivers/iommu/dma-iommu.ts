// SPDX-License-Identifier: GPL-2.0-only
/**
 * DMA through an IOMMU, in the order of the C file.
 *
 * | file | what of dma-iommu.c |
 * | --- | --- |
 * | dma-iommu/cookie.ts | IOVA space of a domain, flush queue |
 * | dma-iommu/map.ts | one range: map, unmap, sync, bouncing |
 * | dma-iommu/sg.ts | scatterlists |
 * | dma-iommu/link.ts | the two-step calls dma_iova_* |
 * | dma-iommu/info.ts | sizes and boundaries, coherent memory |
 */
export { drainFlushQueue } from './dma-iommu/cookie.ts';
export {
	iommu_dma_get_merge_boundary,
	iommu_dma_max_mapping_size,
	iommu_dma_opt_mapping_size,
	iommuDmaAllocContiguous,
	iommuDmaFreeContiguous,
} from './dma-iommu/info.ts';
export {
	dma_iova_destroy,
	dma_iova_free,
	dma_iova_link,
	dma_iova_sync,
	dma_iova_try_alloc,
	dma_iova_unlink,
} from './dma-iommu/link.ts';
export {
	dev_is_untrusted,
	iommu_dma_map_phys,
	iommu_dma_sync_single_for_cpu,
	iommu_dma_sync_single_for_device,
	iommu_dma_unmap_phys,
} from './dma-iommu/map.ts';
export {
	iommu_dma_map_sg,
	iommu_dma_sync_sg_for_cpu,
	iommu_dma_sync_sg_for_device,
	iommu_dma_unmap_sg,
} from './dma-iommu/sg.ts';
