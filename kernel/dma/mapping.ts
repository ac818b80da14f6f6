// SPDX-License-Identifier: GPL-2.0-only
/**
 * The DMA API as drivers and mm/ call it: every function that include/linux/dma-mapping.h declares.
 *
 * | file | what of mapping.c and the header |
 * | --- | --- |
 * | mapping/dispatch.ts | who does a device's DMA |
 * | mapping/phys.ts | one range: map, unmap, error check |
 * | mapping/sg.ts | scatterlists |
 * | mapping/sync.ts | dma_sync_* |
 * | mapping/mask.ts | masks and sizes |
 * | mapping/alloc.ts | coherent memory |
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
	dma_alloc_attrs,
	dma_alloc_coherent,
	dma_free_attrs,
	dma_free_coherent,
	dmaPages,
} from './mapping/alloc.ts';
export { dma_need_unmap, dma_pci_p2pdma_supported } from './mapping/dispatch.ts';
export {
	dma_addressing_limited,
	dma_get_merge_boundary,
	dma_get_required_mask,
	dma_max_mapping_size,
	dma_opt_mapping_size,
	dma_set_coherent_mask,
	dma_set_mask,
	dma_set_mask_and_coherent,
} from './mapping/mask.ts';
export {
	dma_map_page,
	dma_map_page_attrs,
	dma_map_phys,
	dma_map_resource,
	dma_map_single_attrs,
	dma_mapping_error,
	dma_unmap_page,
	dma_unmap_page_attrs,
	dma_unmap_phys,
	dma_unmap_resource,
	dma_unmap_single_attrs,
} from './mapping/phys.ts';
export {
	dma_map_sg_attrs,
	dma_map_sgtable,
	dma_unmap_sg_attrs,
	dma_unmap_sgtable,
} from './mapping/sg.ts';
export {
	dma_dev_need_sync,
	dma_need_sync,
	dma_sync_sg_for_cpu,
	dma_sync_sg_for_device,
	dma_sync_sgtable_for_cpu,
	dma_sync_sgtable_for_device,
	dma_sync_single_for_cpu,
	dma_sync_single_for_device,
	dma_sync_single_range_for_cpu,
	dma_sync_single_range_for_device,
} from './mapping/sync.ts';
