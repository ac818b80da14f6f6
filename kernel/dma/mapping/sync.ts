// SPDX-License-Identifier: GPL-2.0-only
/**
 * Handing mapped memory back and forth between CPU and device.
 *
 * Guarantee: of a coherent device only bounced mappings have anything to copy, so until the first
 * bounce all of these do nothing. dma-debug compares them with the mapping in any case.
 */

import {
	iommu_dma_sync_sg_for_cpu,
	iommu_dma_sync_sg_for_device,
	iommu_dma_sync_single_for_cpu,
	iommu_dma_sync_single_for_device,
} from '../../../drivers/iommu/dma-iommu.ts';
import { BUG_ON } from '../../../include/linux/bug.ts';
import type { device } from '../../../include/linux/device.ts';
import {
	type dma_data_direction,
	valid_dma_direction,
} from '../../../include/linux/dma-direction.ts';
import { dev_dma_skip_sync, get_dma_ops } from '../../../include/linux/dma-map-ops.ts';
import { use_dma_iommu } from '../../../include/linux/iommu-dma.ts';
import type { scatterlist, sg_table } from '../../../include/linux/scatterlist.ts';
import type { bool, dma_addr_t, int, size_t, unsigned_long } from '../../../include/linux/types.ts';
import { debug_dma_sync_sg, debug_dma_sync_single, dmaApiDebug } from '../debug.ts';
import {
	dma_direct_need_sync,
	dma_direct_sync_sg_for_cpu,
	dma_direct_sync_sg_for_device,
	dma_direct_sync_single_for_cpu,
	dma_direct_sync_single_for_device,
} from '../direct.ts';
import { dma_map_direct } from './dispatch.ts';

/**
 * Whether syncs of this device must be called.
 *
 * @param dev - the device
 * @kernel include/linux/dma-mapping.h
 */
export function dma_dev_need_sync(dev: device): bool {
	return !dev_dma_skip_sync(dev) || dmaApiDebug();
}

/**
 * Whether syncs of this mapping must be called.
 *
 * @param dev - the device
 * @param dma_addr - the mapping
 * @kernel include/linux/dma-mapping.h
 */
export function dma_need_sync(dev: device, dma_addr: dma_addr_t): bool {
	if (!dma_dev_need_sync(dev)) return false;
	if (dma_map_direct(dev, get_dma_ops(dev))) return dma_direct_need_sync(dev, dma_addr);
	return true;
}

/**
 * Hand a range to the CPU.
 *
 * @param dev - the device
 * @param addr - in a mapping
 * @param size - bytes
 * @param dir - direction of the mapping
 * @context Atomic.
 * @kernel include/linux/dma-mapping.h
 */
export function dma_sync_single_for_cpu(
	dev: device,
	addr: dma_addr_t,
	size: size_t,
	dir: dma_data_direction,
): void {
	if (dma_dev_need_sync(dev)) {
		BUG_ON(!valid_dma_direction(dir), '!valid_dma_direction(dir)');
		const ops = get_dma_ops(dev);
		if (dma_map_direct(dev, ops)) dma_direct_sync_single_for_cpu(dev, addr, size, dir);
		else if (use_dma_iommu(dev)) iommu_dma_sync_single_for_cpu(dev, addr, size, dir);
		else ops?.sync_single_for_cpu?.(dev, addr, size, dir);
	}
	debug_dma_sync_single(dev, addr, size, dir, true);
}

/**
 * Hand a range to the device.
 *
 * @param dev - the device
 * @param addr - in a mapping
 * @param size - bytes
 * @param dir - direction of the mapping
 * @context Atomic.
 * @kernel include/linux/dma-mapping.h
 */
export function dma_sync_single_for_device(
	dev: device,
	addr: dma_addr_t,
	size: size_t,
	dir: dma_data_direction,
): void {
	if (dma_dev_need_sync(dev)) {
		BUG_ON(!valid_dma_direction(dir), '!valid_dma_direction(dir)');
		const ops = get_dma_ops(dev);
		if (dma_map_direct(dev, ops))
			dma_direct_sync_single_for_device(dev, addr, size, dir);
		else if (use_dma_iommu(dev)) iommu_dma_sync_single_for_device(dev, addr, size, dir);
		else ops?.sync_single_for_device?.(dev, addr, size, dir);
	}
	debug_dma_sync_single(dev, addr, size, dir, false);
}

/**
 * Hand part of a range to the CPU.
 *
 * @kernel include/linux/dma-mapping.h
 */
export function dma_sync_single_range_for_cpu(
	dev: device,
	addr: dma_addr_t,
	offset: unsigned_long,
	size: size_t,
	dir: dma_data_direction,
): void {
	dma_sync_single_for_cpu(dev, (addr as bigint) + offset, size, dir);
}

/**
 * Hand part of a range to the device.
 *
 * @kernel include/linux/dma-mapping.h
 */
export function dma_sync_single_range_for_device(
	dev: device,
	addr: dma_addr_t,
	offset: unsigned_long,
	size: size_t,
	dir: dma_data_direction,
): void {
	dma_sync_single_for_device(dev, (addr as bigint) + offset, size, dir);
}

/**
 * Hand a list to the CPU.
 *
 * @param dev - the device
 * @param sg - mapped list
 * @param nelems - entries as mapped
 * @param dir - direction of the mapping
 * @context Atomic.
 * @kernel include/linux/dma-mapping.h
 */
export function dma_sync_sg_for_cpu(
	dev: device,
	sg: scatterlist,
	nelems: int,
	dir: dma_data_direction,
): void {
	if (dma_dev_need_sync(dev)) {
		BUG_ON(!valid_dma_direction(dir), '!valid_dma_direction(dir)');
		const ops = get_dma_ops(dev);
		if (dma_map_direct(dev, ops)) dma_direct_sync_sg_for_cpu(dev, sg, nelems, dir);
		else if (use_dma_iommu(dev)) iommu_dma_sync_sg_for_cpu(dev, sg, nelems, dir);
		else ops?.sync_sg_for_cpu?.(dev, sg, nelems, dir);
	}
	debug_dma_sync_sg(dev, sg, nelems, dir, true);
}

/**
 * Hand a list to the device.
 *
 * @param dev - the device
 * @param sg - mapped list
 * @param nelems - entries as mapped
 * @param dir - direction of the mapping
 * @context Atomic.
 * @kernel include/linux/dma-mapping.h
 */
export function dma_sync_sg_for_device(
	dev: device,
	sg: scatterlist,
	nelems: int,
	dir: dma_data_direction,
): void {
	if (dma_dev_need_sync(dev)) {
		BUG_ON(!valid_dma_direction(dir), '!valid_dma_direction(dir)');
		const ops = get_dma_ops(dev);
		if (dma_map_direct(dev, ops)) dma_direct_sync_sg_for_device(dev, sg, nelems, dir);
		else if (use_dma_iommu(dev)) iommu_dma_sync_sg_for_device(dev, sg, nelems, dir);
		else ops?.sync_sg_for_device?.(dev, sg, nelems, dir);
	}
	debug_dma_sync_sg(dev, sg, nelems, dir, false);
}

/**
 * Hand a table's list to the CPU.
 *
 * @kernel include/linux/dma-mapping.h
 */
export function dma_sync_sgtable_for_cpu(
	dev: device,
	sgt: sg_table,
	dir: dma_data_direction,
): void {
	dma_sync_sg_for_cpu(dev, sgt.sgl as scatterlist, sgt.orig_nents, dir);
}

/**
 * Hand a table's list to the device.
 *
 * @kernel include/linux/dma-mapping.h
 */
export function dma_sync_sgtable_for_device(
	dev: device,
	sgt: sg_table,
	dir: dma_data_direction,
): void {
	dma_sync_sg_for_device(dev, sgt.sgl as scatterlist, sgt.orig_nents, dir);
}
