// SPDX-License-Identifier: GPL-2.0-only
/**
 * DMA mapping for RDMA devices: ib_dma_*() of include/rdma/ib_verbs.h.
 *
 * A device that copies by CPU gets the page's kernel address. They are here and not in the header
 * because a header stands on headers only.
 */
import type { dma_data_direction } from '../../../include/linux/dma-direction.ts';
import type { page } from '../../../include/linux/mm_types.ts';
import { page_to_phys } from '../../../include/linux/page-flags.ts';
import type { dma_addr_t, int, size_t } from '../../../include/linux/types.ts';
import { type ib_device, ib_uses_virt_dma } from '../../../include/rdma/ib_verbs.ts';
import { phys_to_virt } from '../../../kernel/dma/linear_map.ts';
import { dma_map_page, dma_mapping_error, dma_unmap_page } from '../../../kernel/dma/mapping.ts';

/**
 * Whether ib_dma_map_page() failed.
 *
 * @param dev - the device
 * @param dma_addr - what it returned
 * @retval 0 it is mapped
 * @retval -ENOMEM it failed
 * @kernel include/rdma/ib_verbs.h
 */
export function ib_dma_mapping_error(dev: ib_device, dma_addr: dma_addr_t): int {
	return ib_uses_virt_dma(dev) ? 0 : dma_mapping_error(dev.dma_device!, dma_addr);
}

/**
 * Map part of a page. A P2P page is mapped as if it were RAM.
 *
 * @param dev - the device
 * @param page - the page
 * @param offset - first byte in it
 * @param size - bytes
 * @param direction - direction
 * @returns the address that the device uses, or DMA_MAPPING_ERROR
 * @kernel include/rdma/ib_verbs.h
 */
export function ib_dma_map_page(
	dev: ib_device,
	page: page,
	offset: size_t,
	size: size_t,
	direction: dma_data_direction,
): dma_addr_t {
	if (ib_uses_virt_dma(dev)) return phys_to_virt(page_to_phys(page)) + offset;
	return dma_map_page(dev.dma_device!, page, offset, size, direction);
}

/**
 * Undo ib_dma_map_page().
 *
 * @param dev - the device
 * @param addr - what it returned
 * @param size - as mapped
 * @param direction - as mapped
 * @kernel include/rdma/ib_verbs.h
 */
export function ib_dma_unmap_page(
	dev: ib_device,
	addr: dma_addr_t,
	size: size_t,
	direction: dma_data_direction,
): void {
	if (!ib_uses_virt_dma(dev)) dma_unmap_page(dev.dma_device!, addr, size, direction);
}
