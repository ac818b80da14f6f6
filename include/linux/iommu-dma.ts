// SPDX-License-Identifier: GPL-2.0-only
/** Whether a device's DMA goes through drivers/iommu/dma-iommu. */
import type { device } from './device.ts';
import type { bool } from './types.ts';

/**
 * Whether a device's DMA goes through dma-iommu.
 *
 * @param dev - the device
 * @kernel include/linux/iommu-dma.h
 */
export function use_dma_iommu(dev: device): bool {
	return dev.dma_iommu;
}
