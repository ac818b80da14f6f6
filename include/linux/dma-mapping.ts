// SPDX-License-Identifier: GPL-2.0-only
/**
 * The DMA API's constants, the state of the two-step IOVA calls, and what only reads or writes
 * struct device.
 *
 * The calls that do work are in kernel/dma/mapping.ts, the C header's inline wrappers included:
 * a header imports headers only.
 */
import { type device, device_dma_parameters } from './device.ts';
import type { dma_addr_t, int, u64, unsigned_int, unsigned_long } from './types.ts';

export {
	DMA_BIDIRECTIONAL,
	DMA_FROM_DEVICE,
	DMA_NONE,
	DMA_TO_DEVICE,
	type dma_data_direction,
} from './dma-direction.ts';

/** Reads and writes may pass each other. */
export const DMA_ATTR_WEAK_ORDERING = 1n << 1n;
/** Writes may be buffered. */
export const DMA_ATTR_WRITE_COMBINE = 1n << 2n;
/** The caller needs no kernel address of the buffer. */
export const DMA_ATTR_NO_KERNEL_MAPPING = 1n << 4n;
/** The caller syncs by itself. */
export const DMA_ATTR_SKIP_CPU_SYNC = 1n << 5n;
/** The buffer must be contiguous in physical memory. */
export const DMA_ATTR_FORCE_CONTIGUOUS = 1n << 6n;
/** A hint that huge pages are not worth it. */
export const DMA_ATTR_ALLOC_SINGLE_PAGES = 1n << 7n;
/** A failed allocation is not logged. */
export const DMA_ATTR_NO_WARN = 1n << 8n;
/** The buffer is for a device in supervisor mode. */
export const DMA_ATTR_PRIVILEGED = 1n << 9n;
/**
 * What is mapped is no memory: it cannot be bounced and has no caches to sync.
 *
 * @since v6.18
 */
export const DMA_ATTR_MMIO = 1n << 10n;
/** Cacheline overlap with another mapping is intended. */
export const DMA_ATTR_DEBUGGING_IGNORE_CACHELINES = 1n << 11n;
/** The mapping must work without sync and without bouncing, or fail. */
export const DMA_ATTR_REQUIRE_COHERENT = 1n << 12n;
/** The memory is shared with the host of a confidential guest. */
export const DMA_ATTR_CC_SHARED = 1n << 13n;
/** dma_alloc_attrs() allocates shared memory; never passed by a caller. */
export const __DMA_ATTR_ALLOC_CC_SHARED = 1n << 14n;

/** What a mapping call returns when it failed. */
export const DMA_MAPPING_ERROR: dma_addr_t = (1n << 64n) - 1n;

/**
 * The mask with the low `n` bits set.
 *
 * @param n - 1 to 64
 * @kernel include/linux/dma-mapping.h
 */
export function DMA_BIT_MASK(n: number): u64 {
	return (1n << BigInt(n)) - 1n;
}

/** Bit of `__size`: some part of the range is bounced. */
export const DMA_IOVA_USE_SWIOTLB = 1n << 63n;

/**
 * An IOVA range that is mapped piece by piece.
 *
 * @kernel include/linux/dma-mapping.h
 * @since v6.16
 */
export class dma_iova_state {
	/** Address of the first byte. */
	addr: dma_addr_t = 0n;
	/** Bytes, and DMA_IOVA_USE_SWIOTLB. */
	__size: u64 = 0n;
}

/**
 * Bytes of the range.
 *
 * @param state - the range
 * @kernel include/linux/dma-mapping.h
 */
export function dma_iova_size(state: dma_iova_state): bigint {
	return state.__size & ~DMA_IOVA_USE_SWIOTLB;
}

/**
 * Whether dma_iova_try_alloc() gave this state a range.
 *
 * @param state - the range
 * @kernel include/linux/dma-mapping.h
 */
export function dma_use_iova(state: dma_iova_state): boolean {
	return state.__size !== 0n;
}

/**
 * The addresses that a device can put on its bus.
 *
 * @param dev - the device
 * @kernel include/linux/dma-mapping.h
 */
export function dma_get_mask(dev: device): u64 {
	return dev.dma_mask !== null && dev.dma_mask !== 0n ? dev.dma_mask : DMA_BIT_MASK(32);
}

/**
 * Longest scatterlist segment that the device takes.
 *
 * @param dev - the device
 * @kernel include/linux/dma-mapping.h
 */
export function dma_get_max_seg_size(dev: device): unsigned_int {
	const { max_segment_size } = dmaParms(dev);
	return max_segment_size !== 0 ? max_segment_size : 65536;
}

/**
 * Set the longest scatterlist segment that the device takes.
 *
 * @param dev - the device
 * @param size - bytes
 * @kernel include/linux/dma-mapping.h
 */
export function dma_set_max_seg_size(dev: device, size: unsigned_int): void {
	dmaParms(dev).max_segment_size = size;
}

/**
 * Mask of the addresses that a segment must not cross.
 *
 * @param dev - the device
 * @kernel include/linux/dma-mapping.h
 */
export function dma_get_seg_boundary(dev: device): unsigned_long {
	const { segment_boundary_mask } = dmaParms(dev);
	return segment_boundary_mask !== 0n ? segment_boundary_mask : (1n << 64n) - 1n;
}

/**
 * Set the boundary that a segment must not cross.
 *
 * @param dev - the device
 * @param mask - boundary less one
 * @kernel include/linux/dma-mapping.h
 */
export function dma_set_seg_boundary(dev: device, mask: unsigned_long): void {
	dmaParms(dev).segment_boundary_mask = mask;
}

/**
 * Low address bits that a bounce must keep.
 *
 * @param dev - the device
 * @kernel include/linux/dma-mapping.h
 */
export function dma_get_min_align_mask(dev: device): unsigned_int {
	return dmaParms(dev).min_align_mask;
}

/**
 * Set the low address bits that a bounce must keep.
 *
 * @param dev - the device
 * @param min_align_mask - the bits
 * @kernel include/linux/dma-mapping.h
 */
export function dma_set_min_align_mask(dev: device, min_align_mask: unsigned_int): void {
	dmaParms(dev).min_align_mask = min_align_mask;
}

/**
 * Bytes that a DMA buffer must be aligned to, so that nobody else shares its cache lines.
 *
 * @kernel include/linux/dma-mapping.h
 */
export function dma_get_cache_alignment(): int {
	return 1;
}

/** The device's limits, which the bus code sets up. */
function dmaParms(dev: device): device_dma_parameters {
	return (dev.dma_parms ??= new device_dma_parameters());
}
