// SPDX-License-Identifier: GPL-2.0-only
/** What a device can reach, and how much can be mapped for it at once. */

import {
	iommu_dma_get_merge_boundary,
	iommu_dma_max_mapping_size,
	iommu_dma_opt_mapping_size,
} from '../../../drivers/iommu/dma-iommu.ts';
import { WARN_ON } from '../../../include/linux/bug.ts';
import type { device } from '../../../include/linux/device.ts';
import { dmaLimit, get_dma_ops } from '../../../include/linux/dma-map-ops.ts';
import { DMA_BIT_MASK, dma_get_mask } from '../../../include/linux/dma-mapping.ts';
import { EIO } from '../../../include/linux/errno.ts';
import { use_dma_iommu } from '../../../include/linux/iommu-dma.ts';
import {
	type bool,
	type int,
	SIZE_MAX,
	type size_t,
	type u64,
	type unsigned_long,
} from '../../../include/linux/types.ts';
import {
	dma_direct_all_ram_mapped,
	dma_direct_get_required_mask,
	dma_direct_max_mapping_size,
	dma_direct_supported,
} from '../direct.ts';
import { dma_map_direct, dma_setup_need_sync } from './dispatch.ts';

function dma_supported(dev: device, mask: u64): bool {
	const ops = get_dma_ops(dev);
	if (use_dma_iommu(dev)) return !WARN_ON(ops !== null, 'ops with dma-iommu');
	if (ops === null) return dma_direct_supported(dev, mask) !== 0;
	return ops.dma_supported === undefined || ops.dma_supported(dev, mask) !== 0;
}

/**
 * Say which addresses a device can put on its bus.
 *
 * @param dev - the device; its syncs do nothing again, until the next bounce
 * @param mask - the mask
 * @retval 0 set
 * @retval -EIO the platform cannot serve such a small mask; the old one stays
 * @kernel kernel/dma/mapping.c
 */
export function dma_set_mask(dev: device, mask: u64): int {
	if (dev.dma_mask === null || !dma_supported(dev, mask)) return -EIO;
	dev.dma_mask = mask;
	dma_setup_need_sync(dev);
	return 0;
}

/**
 * Say where a device's coherent memory may lie.
 *
 * @param dev - the device
 * @param mask - the mask
 * @retval 0 set
 * @retval -EIO the platform cannot serve such a small mask
 * @kernel kernel/dma/mapping.c
 */
export function dma_set_coherent_mask(dev: device, mask: u64): int {
	if (!dma_supported(dev, mask)) return -EIO;
	dev.coherent_dma_mask = mask;
	return 0;
}

/**
 * Set both masks.
 *
 * @param dev - the device
 * @param mask - the mask
 * @retval 0 set
 * @retval -EIO as dma_set_mask()
 * @kernel include/linux/dma-mapping.h
 */
export function dma_set_mask_and_coherent(dev: device, mask: u64): int {
	const rc = dma_set_mask(dev, mask);
	if (rc === 0) dma_set_coherent_mask(dev, mask);
	return rc;
}

/**
 * Smallest mask that is enough on this machine.
 *
 * @param dev - the device
 * @kernel kernel/dma/mapping.c
 */
export function dma_get_required_mask(dev: device): u64 {
	const ops = get_dma_ops(dev);
	if (dma_map_direct(dev, ops)) return dma_direct_get_required_mask(dev);
	// IOVAs come from below 4 GiB if need be.
	if (use_dma_iommu(dev)) return DMA_BIT_MASK(32);
	return ops?.get_required_mask?.(dev) ?? DMA_BIT_MASK(32);
}

/**
 * Whether a device cannot reach all of RAM, so that its mappings may be bounced.
 *
 * @param dev - the device
 * @kernel kernel/dma/mapping.c
 */
export function dma_addressing_limited(dev: device): bool {
	const ops = get_dma_ops(dev);
	if (dmaLimit(dev, dma_get_mask(dev)) < dma_get_required_mask(dev)) return true;
	if (ops !== null || use_dma_iommu(dev)) return false;
	return !dma_direct_all_ram_mapped(dev);
}

/**
 * Longest range that is sure to be mapped.
 *
 * @param dev - the device
 * @returns SIZE_MAX: no limit
 * @kernel kernel/dma/mapping.c
 */
export function dma_max_mapping_size(dev: device): size_t {
	const ops = get_dma_ops(dev);
	if (dma_map_direct(dev, ops))
		return dma_direct_max_mapping_size(dev, dma_addressing_limited(dev));
	if (use_dma_iommu(dev)) return iommu_dma_max_mapping_size(dev);
	return ops?.max_mapping_size?.(dev) ?? SIZE_MAX;
}

/**
 * Longest range that is mapped fast.
 *
 * @param dev - the device
 * @kernel kernel/dma/mapping.c
 */
export function dma_opt_mapping_size(dev: device): size_t {
	const max = dma_max_mapping_size(dev);
	const opt = use_dma_iommu(dev)
		? iommu_dma_opt_mapping_size()
		: (get_dma_ops(dev)?.opt_mapping_size?.() ?? SIZE_MAX);
	return opt < max ? opt : max;
}

/**
 * Boundary at which segments of a list are joined.
 *
 * @param dev - the device
 * @returns boundary less one; 0: they are not joined
 * @kernel kernel/dma/mapping.c
 */
export function dma_get_merge_boundary(dev: device): unsigned_long {
	if (use_dma_iommu(dev)) return iommu_dma_get_merge_boundary(dev);
	return get_dma_ops(dev)?.get_merge_boundary?.(dev) ?? 0n;
}
