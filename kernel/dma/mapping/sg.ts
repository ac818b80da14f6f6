// SPDX-License-Identifier: GPL-2.0-only
/** Mapping scatterlists. */

import { iommu_dma_map_sg, iommu_dma_unmap_sg } from '../../../drivers/iommu/dma-iommu.ts';
import { BUG_ON, WARN_ON_ONCE } from '../../../include/linux/bug.ts';
import type { device } from '../../../include/linux/device.ts';
import {
	type dma_data_direction,
	valid_dma_direction,
} from '../../../include/linux/dma-direction.ts';
import { dev_is_dma_coherent, get_dma_ops } from '../../../include/linux/dma-map-ops.ts';
import { DMA_ATTR_REQUIRE_COHERENT } from '../../../include/linux/dma-mapping.ts';
import { EINVAL, EIO, ENOMEM, EOPNOTSUPP, EREMOTEIO } from '../../../include/linux/errno.ts';
import { use_dma_iommu } from '../../../include/linux/iommu-dma.ts';
import type { scatterlist, sg_table } from '../../../include/linux/scatterlist.ts';
import type { int, unsigned_int, unsigned_long } from '../../../include/linux/types.ts';
import { shouldFail } from '../../../include/sim/fault_injection.ts';
import { feature } from '../../../include/sim/world.ts';
import { debug_dma_map_sg, debug_dma_unmap_sg } from '../debug.ts';
import { dma_direct_map_sg, dma_direct_unmap_sg } from '../direct.ts';
import { dma_map_direct } from './dispatch.ts';

/** Map a list; returns the number of the device's segments, 0, or an error that may be passed on. */
function __dma_map_sg_attrs(
	dev: device,
	sg: scatterlist,
	nents: int,
	dir: dma_data_direction,
	attrs: unsigned_long,
): int {
	BUG_ON(!valid_dma_direction(dir), '!valid_dma_direction(dir)');
	const coherentOnly = feature('dma_map_phys') && (attrs & DMA_ATTR_REQUIRE_COHERENT) !== 0n;
	if (coherentOnly && !dev_is_dma_coherent(dev)) return -EOPNOTSUPP;
	if (WARN_ON_ONCE(dev.dma_mask === null, '!dev->dma_mask'))
		return feature('fix_s16') ? -EINVAL : 0;
	if (shouldFail('dma_map_sg')) return -ENOMEM;

	const ops = get_dma_ops(dev);
	let ents: int;
	if (dma_map_direct(dev, ops)) ents = dma_direct_map_sg(dev, sg, nents, dir, attrs);
	else if (use_dma_iommu(dev)) ents = iommu_dma_map_sg(dev, sg, nents, dir, attrs);
	else ents = ops?.map_sg?.(dev, sg, nents, dir, attrs) ?? 0;

	if (ents > 0) {
		debug_dma_map_sg(dev, sg, nents, ents, dir, attrs);
		return ents;
	}
	const known = [-EINVAL, -ENOMEM, -EIO, -EREMOTEIO].includes(ents);
	if (WARN_ON_ONCE(!known, 'unexpected result of map_sg')) return -EIO;
	return ents;
}

/**
 * Map a scatterlist.
 *
 * @param dev - the device
 * @param sg - the list
 * @param nents - entries
 * @param dir - direction
 * @param attrs - DMA_ATTR_*
 * @returns segments of the device's view, 0 on any error
 * @context Atomic.
 * @kernel kernel/dma/mapping.c
 */
export function dma_map_sg_attrs(
	dev: device,
	sg: scatterlist,
	nents: int,
	dir: dma_data_direction,
	attrs: unsigned_long,
): unsigned_int {
	const ret = __dma_map_sg_attrs(dev, sg, nents, dir, attrs);
	return ret < 0 ? 0 : ret;
}

/**
 * Map a scatterlist table.
 *
 * @param dev - the device
 * @param sgt - the table; `nents` is set to the segments of the device's view
 * @param dir - direction
 * @param attrs - DMA_ATTR_*
 * @retval 0 mapped (or the device has no DMA mask: `nents` is 0 then)
 * @retval -EINVAL the list cannot be mapped as it is
 * @retval -ENOMEM no IOVA, no page table
 * @retval -EIO a segment could not be mapped
 * @retval -EREMOTEIO the device cannot reach a P2P segment
 * @retval -EOPNOTSUPP REQUIRE_COHERENT on a device that is not coherent
 * @context Atomic.
 * @kernel kernel/dma/mapping.c
 */
export function dma_map_sgtable(
	dev: device,
	sgt: sg_table,
	dir: dma_data_direction,
	attrs: unsigned_long,
): int {
	const nents = __dma_map_sg_attrs(dev, sgt.sgl as scatterlist, sgt.orig_nents, dir, attrs);
	if (nents < 0) return nents;
	sgt.nents = nents;
	return 0;
}

/**
 * Undo dma_map_sg_attrs().
 *
 * @param dev - the device
 * @param sg - the list
 * @param nents - entries as mapped, not the number that mapping returned
 * @param dir - as mapped
 * @param attrs - as mapped
 * @context Atomic.
 * @kernel kernel/dma/mapping.c
 */
export function dma_unmap_sg_attrs(
	dev: device,
	sg: scatterlist,
	nents: int,
	dir: dma_data_direction,
	attrs: unsigned_long,
): void {
	BUG_ON(!valid_dma_direction(dir), '!valid_dma_direction(dir)');
	const ops = get_dma_ops(dev);
	debug_dma_unmap_sg(dev, sg, nents, dir, attrs);
	if (dma_map_direct(dev, ops)) dma_direct_unmap_sg(dev, sg, nents, dir, attrs);
	else if (use_dma_iommu(dev)) iommu_dma_unmap_sg(dev, sg, nents, dir, attrs);
	else ops?.unmap_sg?.(dev, sg, nents, dir, attrs);
}

/**
 * Undo dma_map_sgtable().
 *
 * @kernel include/linux/dma-mapping.h
 */
export function dma_unmap_sgtable(
	dev: device,
	sgt: sg_table,
	dir: dma_data_direction,
	attrs: unsigned_long,
): void {
	dma_unmap_sg_attrs(dev, sgt.sgl as scatterlist, sgt.orig_nents, dir, attrs);
}
