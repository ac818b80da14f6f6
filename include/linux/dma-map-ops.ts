// SPDX-License-Identifier: GPL-2.0-only
/** What an implementation of the DMA API offers, and what the core asks of a device. */
import type { device } from './device.ts';
import { DMA_TO_DEVICE, type dma_data_direction } from './dma-direction.ts';
import { dma_get_cache_alignment } from './dma-mapping.ts';
import type { page } from './mm_types.ts';
import type { scatterlist } from './scatterlist.ts';
import type { bool, dma_addr_t, int, phys_addr_t, size_t, u64, unsigned_long } from './types.ts';

/**
 * DMA of a device that is neither direct nor behind dma-iommu. No device of x86-64 has any; a test
 * can give one some.
 *
 * @kernel include/linux/dma-map-ops.h
 */
export interface dma_map_ops {
	/** v7.3 */
	map_phys?(
		dev: device,
		phys: phys_addr_t,
		size: size_t,
		dir: dma_data_direction,
		attrs: unsigned_long,
	): dma_addr_t;
	/** v7.3 */
	unmap_phys?(
		dev: device,
		dma_handle: dma_addr_t,
		size: size_t,
		dir: dma_data_direction,
		attrs: unsigned_long,
	): void;
	/** v6.12 */
	map_page?(
		dev: device,
		p: page,
		offset: unsigned_long,
		size: size_t,
		dir: dma_data_direction,
		attrs: unsigned_long,
	): dma_addr_t;
	/** v6.12 */
	unmap_page?(
		dev: device,
		dma_handle: dma_addr_t,
		size: size_t,
		dir: dma_data_direction,
		attrs: unsigned_long,
	): void;
	/** v6.12 */
	map_resource?(
		dev: device,
		phys_addr: phys_addr_t,
		size: size_t,
		dir: dma_data_direction,
		attrs: unsigned_long,
	): dma_addr_t;
	/** v6.12 */
	unmap_resource?(
		dev: device,
		dma_handle: dma_addr_t,
		size: size_t,
		dir: dma_data_direction,
		attrs: unsigned_long,
	): void;
	/** Map a scatterlist; segments mapped, or a negative errno. */
	map_sg?(
		dev: device,
		sg: scatterlist,
		nents: int,
		dir: dma_data_direction,
		attrs: unsigned_long,
	): int;
	/** Undo map_sg. */
	unmap_sg?(
		dev: device,
		sg: scatterlist,
		nents: int,
		dir: dma_data_direction,
		attrs: unsigned_long,
	): void;
	/** Make what the device wrote visible to the CPU. */
	sync_single_for_cpu?(
		dev: device,
		dma_handle: dma_addr_t,
		size: size_t,
		dir: dma_data_direction,
	): void;
	/** Make what the CPU wrote visible to the device. */
	sync_single_for_device?(
		dev: device,
		dma_handle: dma_addr_t,
		size: size_t,
		dir: dma_data_direction,
	): void;
	/** sync_single_for_cpu for a list. */
	sync_sg_for_cpu?(dev: device, sg: scatterlist, nents: int, dir: dma_data_direction): void;
	/** sync_single_for_device for a list. */
	sync_sg_for_device?(
		dev: device,
		sg: scatterlist,
		nents: int,
		dir: dma_data_direction,
	): void;
	/** Whether a mask is wide enough. */
	dma_supported?(dev: device, mask: u64): int;
	/** The mask that reaches all memory. */
	get_required_mask?(dev: device): u64;
	/** Longest mapping, in bytes. */
	max_mapping_size?(dev: device): size_t;
	/** Longest mapping that is still fast, in bytes. */
	opt_mapping_size?(): size_t;
	/** Boundary at which segments can be merged, as a mask. */
	get_merge_boundary?(dev: device): unsigned_long;
}

/**
 * The device's own DMA operations.
 *
 * @param dev - the device
 * @returns null: direct or dma-iommu
 * @kernel include/linux/dma-map-ops.h
 */
export function get_dma_ops(dev: device): dma_map_ops | null {
	return dev.dma_ops as dma_map_ops | null;
}

/**
 * Give a device DMA operations of its own.
 *
 * @param dev - the device
 * @param dma_ops - the operations, or null
 * @kernel include/linux/dma-map-ops.h
 */
export function set_dma_ops(dev: device, dma_ops: dma_map_ops | null): void {
	dev.dma_ops = dma_ops;
}

/** @kernel include/linux/dma-map-ops.h */
export function dev_is_dma_coherent(dev: device): bool {
	return dev.dma_coherent;
}

/**
 * Whether syncs of this device do nothing.
 *
 * @param dev - the device
 * @kernel include/linux/device.h
 */
export function dev_dma_skip_sync(dev: device): bool {
	return dev.dma_skip_sync;
}

/**
 * Say whether syncs of this device do nothing.
 *
 * @param dev - the device
 * @param value - whether
 * @kernel include/linux/device.h
 */
export function dev_assign_dma_skip_sync(dev: device, value: bool): void {
	dev.dma_skip_sync = value;
}

/**
 * A bounce slot was taken: from now on syncs of this device are looked at.
 *
 * @param dev - the device
 * @kernel include/linux/dma-map-ops.h
 */
export function dma_reset_need_sync(dev: device): void {
	if (dev.dma_skip_sync) dev.dma_skip_sync = false;
}

/**
 * Whether kmalloc() memory of any size can be mapped without bouncing.
 *
 * @kernel include/linux/dma-map-ops.h
 */
export function dma_kmalloc_safe(dev: device, dir: dma_data_direction): bool {
	return dev_is_dma_coherent(dev) || dir === DMA_TO_DEVICE || dma_get_cache_alignment() === 1;
}

/**
 * Whether a buffer of this size shares no cache line with others.
 *
 * @kernel include/linux/dma-map-ops.h
 */
export function dma_kmalloc_size_aligned(size: size_t): bool {
	return size % BigInt(dma_get_cache_alignment()) === 0n;
}

/**
 * Whether a kmalloc() buffer must be bounced; never on x86-64.
 *
 * @param dev - the device
 * @param size - bytes
 * @param dir - direction
 * @kernel include/linux/dma-map-ops.h
 */
export function dma_kmalloc_needs_bounce(dev: device, size: size_t, dir: dma_data_direction): bool {
	return !dma_kmalloc_safe(dev, dir) && !dma_kmalloc_size_aligned(size);
}

/** Limit of a device: the smaller of its mask and its bus's, where each is set. */
export function dmaLimit(dev: device, mask: u64): u64 {
	const limit = dev.bus_dma_limit;
	return limit !== 0n && limit < mask ? limit : mask;
}
