// SPDX-License-Identifier: GPL-2.0-only
/**
 * The two-step DMA API: one IOVA range, linked and unlinked piece by piece.
 *
 * Guarantee: a linked piece translates once dma_iova_sync() was called on it, and until
 * dma_iova_unlink() returned; errors and WARNs are those of the kernel, in its order of checks.
 */
import type { device } from '../../../include/linux/device.ts';
import type { dma_data_direction } from '../../../include/linux/dma-direction.ts';
import type { dma_iova_state } from '../../../include/linux/dma-mapping.ts';
import { EOPNOTSUPP } from '../../../include/linux/errno.ts';
import type { bool, int, phys_addr_t, size_t, unsigned_long } from '../../../include/linux/types.ts';

/**
 * Try to get an IOVA range for a device.
 *
 * @param dev - the device
 * @param state - out: zeroed, then the range
 * @param phys - first byte to be linked; only its offset in the granule matters
 * @param size - bytes
 * @returns whether there is one: false means that the caller maps with dma_map_phys()
 * @context Atomic.
 * @kernel drivers/iommu/dma-iommu.c
 * @since v6.16
 */
export function dma_iova_try_alloc(
	dev: device,
	state: dma_iova_state,
	phys: phys_addr_t,
	size: size_t,
): bool {
	state.addr = 0n;
	state.__size = 0n;
	void dev;
	void phys;
	void size;
	return false;
}

/**
 * Free the range; every link must be undone.
 *
 * @param dev - the device
 * @param state - the range; not zeroed
 * @context Atomic.
 * @kernel drivers/iommu/dma-iommu.c
 * @since v6.16
 */
export function dma_iova_free(dev: device, state: dma_iova_state): void {
	void dev;
	void state;
}

/**
 * Map a physical range at an offset of the IOVA range, without flushing the IOTLB.
 *
 * @param dev - the device
 * @param state - the range
 * @param phys - first byte
 * @param offset - where in the range
 * @param size - bytes
 * @param dir - direction
 * @param attrs - DMA_ATTR_*
 * @retval 0 linked; the device may use it after dma_iova_sync()
 * @retval -EIO `phys` is unaligned and `offset` is not 0
 * @retval -EOPNOTSUPP REQUIRE_COHERENT on a non-coherent device, or after something was bounced
 * @retval -EPERM it would have to be bounced, and MMIO or REQUIRE_COHERENT forbids that
 * @retval -ENOMEM no bounce slot, or no page table
 * @retval -ENXIO the IOVA would not be aligned to the granule
 * @retval -EINVAL size 0, or no direction
 * @retval -EADDRINUSE some page of it is linked already
 * @retval -ERANGE beyond the IOMMU's aperture
 * @context Atomic.
 * @kernel drivers/iommu/dma-iommu.c
 * @since v6.16
 */
export function dma_iova_link(
	dev: device,
	state: dma_iova_state,
	phys: phys_addr_t,
	offset: size_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): int {
	void [dev, state, phys, offset, size, dir, attrs];
	return -EOPNOTSUPP;
}

/**
 * Make links visible to the device.
 *
 * @param dev - the device
 * @param state - the range
 * @param offset - first byte
 * @param size - bytes
 * @retval 0 always, on the IOMMUs here
 * @context Atomic.
 * @kernel drivers/iommu/dma-iommu.c
 * @since v6.16
 */
export function dma_iova_sync(
	dev: device,
	state: dma_iova_state,
	offset: size_t,
	size: size_t,
): int {
	void [dev, state, offset, size];
	return 0;
}

/**
 * Undo links; the range stays allocated.
 *
 * @param dev - the device
 * @param state - the range
 * @param offset - first byte
 * @param size - bytes
 * @param dir - as linked
 * @param attrs - as linked
 * @context Atomic.
 * @kernel drivers/iommu/dma-iommu.c
 * @since v6.16
 */
export function dma_iova_unlink(
	dev: device,
	state: dma_iova_state,
	offset: size_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): void {
	void [dev, state, offset, size, dir, attrs];
}

/**
 * Undo all links and free the range.
 *
 * @param dev - the device
 * @param state - the range
 * @param mapped_len - bytes from the start that are linked, exactly
 * @param dir - as linked
 * @param attrs - as linked
 * @context Atomic.
 * @kernel drivers/iommu/dma-iommu.c
 * @since v6.16
 */
export function dma_iova_destroy(
	dev: device,
	state: dma_iova_state,
	mapped_len: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): void {
	void [dev, state, mapped_len, dir, attrs];
}
