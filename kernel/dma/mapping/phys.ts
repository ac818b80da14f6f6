// SPDX-License-Identifier: GPL-2.0-only
/** Mapping one contiguous range for a device. */
import type { device } from '../../../include/linux/device.ts';
import type { dma_data_direction } from '../../../include/linux/dma-direction.ts';
import { DMA_MAPPING_ERROR } from '../../../include/linux/dma-mapping.ts';
import type {
	bool,
	dma_addr_t,
	int,
	phys_addr_t,
	size_t,
	unsigned_long,
} from '../../../include/linux/types.ts';

/**
 * Map a physical range for a device.
 *
 * @param dev - the device
 * @param phys - first byte
 * @param size - bytes
 * @param dir - direction
 * @param attrs - DMA_ATTR_*; MMIO: what is there is no memory
 * @returns the address that the device uses, or DMA_MAPPING_ERROR
 * @context Atomic.
 * @kernel kernel/dma/mapping.c
 * @since v6.18
 */
export function dma_map_phys(
	dev: device,
	phys: phys_addr_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): dma_addr_t {
	void [dev, phys, size, dir, attrs];
	return DMA_MAPPING_ERROR;
}

/**
 * Undo dma_map_phys().
 *
 * @param dev - the device
 * @param addr - what it returned
 * @param size - as mapped
 * @param dir - as mapped
 * @param attrs - as mapped
 * @context Atomic.
 * @kernel kernel/dma/mapping.c
 * @since v6.18
 */
export function dma_unmap_phys(
	dev: device,
	addr: dma_addr_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): void {
	void [dev, addr, size, dir, attrs];
}

/**
 * Whether a mapping call failed; also tells dma-debug that the caller looked.
 *
 * @param dev - the device
 * @param dma_addr - what the call returned
 * @retval 0 it is mapped
 * @retval -ENOMEM it failed
 * @kernel include/linux/dma-mapping.h
 */
export function dma_mapping_error(dev: device, dma_addr: dma_addr_t): int {
	void dev;
	return dma_addr === DMA_MAPPING_ERROR ? -12 : 0;
}

/**
 * Whether the addresses of this device must be kept for unmapping.
 *
 * @param dev - the device; ask after mapping, a bounce changes the answer
 * @kernel kernel/dma/mapping.c
 * @since v6.16
 */
export function dma_need_unmap(dev: device): bool {
	return !dev.dma_skip_sync;
}

/**
 * Whether the device cannot reach all of RAM.
 *
 * @param dev - the device
 * @kernel kernel/dma/mapping.c
 */
export function dma_addressing_limited(dev: device): bool {
	void dev;
	return false;
}
