// SPDX-License-Identifier: GPL-2.0-only
/**
 * Mapping one range through the IOMMU, with bouncing for devices that are not trusted.
 *
 * Guarantee: an untrusted device never sees bytes that share a page with its buffer: what is not
 * whole pages goes through bounce slots whose padding is zeroed.
 */
import { WARN_ON } from '../../../include/linux/bug.ts';
import {
	dev_driver_string,
	dev_name,
	dev_warn,
	type device,
} from '../../../include/linux/device.ts';
import {
	DMA_BIDIRECTIONAL,
	DMA_FROM_DEVICE,
	DMA_TO_DEVICE,
	type dma_data_direction,
} from '../../../include/linux/dma-direction.ts';
import {
	dev_is_dma_coherent,
	dma_kmalloc_needs_bounce,
} from '../../../include/linux/dma-map-ops.ts';
import {
	DMA_ATTR_MMIO,
	DMA_ATTR_PRIVILEGED,
	DMA_ATTR_REQUIRE_COHERENT,
	DMA_MAPPING_ERROR,
	dma_get_mask,
	dma_get_min_align_mask,
} from '../../../include/linux/dma-mapping.ts';
import {
	IOMMU_CACHE,
	IOMMU_MMIO,
	IOMMU_PRIV,
	IOMMU_READ,
	IOMMU_WRITE,
	iommu_iotlb_gather,
} from '../../../include/linux/iommu.ts';
import {
	iova_align,
	iova_align_down,
	iova_mask,
	iova_offset,
	iova_unaligned,
} from '../../../include/linux/iova.ts';
import { dev_is_pci, to_pci_dev } from '../../../include/linux/pci.ts';
import {
	type bool,
	type dma_addr_t,
	GFP_ATOMIC,
	type int,
	type phys_addr_t,
	type size_t,
	type u64,
	type unsigned_long,
} from '../../../include/linux/types.ts';
import { zeroPhys } from '../../../kernel/dma/linear_map.ts';
import { firstTime } from '../../../kernel/dma/once.ts';
import {
	is_swiotlb_active,
	swiotlb_sync_single_for_cpu,
	swiotlb_sync_single_for_device,
	swiotlb_tbl_map_single,
	swiotlb_tbl_unmap_single,
} from '../../../kernel/dma/swiotlb.ts';
import {
	iommu_get_dma_domain,
	iommu_iotlb_sync,
	iommu_iova_to_phys,
	iommu_map,
	iommu_unmap_fast,
} from '../iommu.ts';
import { cookieOf, iommu_dma_alloc_iova, iommu_dma_free_iova } from './cookie.ts';

/**
 * Whether a device is behind an external port.
 *
 * @param dev - the device
 * @kernel drivers/iommu/dma-iommu.c
 */
export function dev_is_untrusted(dev: device): bool {
	return dev_is_pci(dev) && to_pci_dev(dev).untrusted;
}

/**
 * Whether a buffer of this size may have to be bounced.
 *
 * @kernel drivers/iommu/dma-iommu.c
 */
export function dev_use_swiotlb(dev: device, size: size_t, dir: dma_data_direction): bool {
	return dev_is_untrusted(dev) || dma_kmalloc_needs_bounce(dev, size, dir);
}

/**
 * Rights and kind of a mapping.
 *
 * @param dir - direction; NONE gives no right at all
 * @param coherent - whether the device snoops
 * @param attrs - DMA_ATTR_*
 * @kernel drivers/iommu/dma-iommu.c
 */
export function dma_info_to_prot(
	dir: dma_data_direction,
	coherent: bool,
	attrs: unsigned_long,
): int {
	let prot = attrs & DMA_ATTR_MMIO ? IOMMU_MMIO : coherent ? IOMMU_CACHE : 0;
	if (attrs & DMA_ATTR_PRIVILEGED) prot |= IOMMU_PRIV;
	switch (dir) {
		case DMA_BIDIRECTIONAL:
			return prot | IOMMU_READ | IOMMU_WRITE;
		case DMA_TO_DEVICE:
			return prot | IOMMU_READ;
		case DMA_FROM_DEVICE:
			return prot | IOMMU_WRITE;
		default:
			return 0;
	}
}

/**
 * Bounce a buffer into whole pages of its own.
 *
 * @param dev - the device
 * @param phys - the buffer
 * @param size - bytes
 * @param dir - direction
 * @param attrs - DMA_ATTR_*
 * @returns the bounce address, or DMA_MAPPING_ERROR
 * @kernel drivers/iommu/dma-iommu.c
 */
export function iommu_dma_map_swiotlb(
	dev: device,
	phys: phys_addr_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): phys_addr_t {
	const { iovad } = cookieOf(iommu_get_dma_domain(dev));
	if (!is_swiotlb_active(dev)) {
		if (firstTime('iommu_dma_map_swiotlb'))
			dev_warn(
				dev,
				'DMA bounce buffers are inactive, unable to map unaligned transaction.',
			);
		return DMA_MAPPING_ERROR as bigint;
	}
	const bounce = swiotlb_tbl_map_single(dev, phys, size, iova_mask(iovad), dir, attrs);
	if (bounce !== DMA_MAPPING_ERROR && dev_is_untrusted(dev)) {
		const first = iova_align_down(iovad, bounce as bigint);
		zeroPhys(first, (bounce as bigint) - first);
		const end = (bounce as bigint) + size;
		zeroPhys(end, iova_align(iovad, end) - end);
	}
	return bounce;
}

/**
 * Unmap a range and give its IOVA back.
 *
 * @param dev - the device
 * @param dma_addr - as __iommu_dma_map() gave it
 * @param size - bytes
 * @kernel drivers/iommu/dma-iommu.c
 */
export function __iommu_dma_unmap(dev: device, dma_addr: dma_addr_t, size: size_t): void {
	const domain = iommu_get_dma_domain(dev);
	const cookie = cookieOf(domain);
	const iova_off = iova_offset(cookie.iovad, dma_addr);
	const first = (dma_addr as bigint) - iova_off;
	const length = iova_align(cookie.iovad, size + iova_off);
	const gather = new iommu_iotlb_gather();
	gather.queued = cookie.fq_domain !== null;

	const unmapped = iommu_unmap_fast(domain, first, length, gather);
	WARN_ON(unmapped !== length, 'unmapped != size');

	const { queued } = gather;
	if (!queued) iommu_iotlb_sync(domain, gather);
	gather.queued = queued;
	iommu_dma_free_iova(domain, first, length, gather);
}

/**
 * Take an IOVA for a range and map it.
 *
 * @param dev - the device
 * @param phys - first byte
 * @param size - bytes
 * @param prot - IOMMU_*
 * @param dma_mask - highest address that the device reaches
 * @returns the address, or DMA_MAPPING_ERROR
 * @kernel drivers/iommu/dma-iommu.c
 */
export function __iommu_dma_map(
	dev: device,
	phys: phys_addr_t,
	size: size_t,
	prot: int,
	dma_mask: u64,
): dma_addr_t {
	const domain = iommu_get_dma_domain(dev);
	const { iovad } = cookieOf(domain);
	const iova_off = iova_offset(iovad, phys as bigint);

	if (BigInt(dma_get_min_align_mask(dev)) > iova_mask(iovad)) {
		if (firstTime('__iommu_dma_map'))
			WARN_ON(
				true,
				`${dev_driver_string(dev)} ${dev_name(dev)}: Unsupported alignment constraint`,
			);
		return DMA_MAPPING_ERROR;
	}
	const length = iova_align(iovad, size + iova_off);
	const iova = iommu_dma_alloc_iova(domain, length, dma_mask, dev) as bigint;
	if (iova === 0n) return DMA_MAPPING_ERROR;
	if (iommu_map(domain, iova, (phys as bigint) - iova_off, length, prot, GFP_ATOMIC)) {
		iommu_dma_free_iova(domain, iova, length, null);
		return DMA_MAPPING_ERROR;
	}
	return iova + iova_off;
}

/**
 * Map a range.
 *
 * @param dev - the device
 * @param phys - first byte
 * @param size - bytes
 * @param dir - direction
 * @param attrs - DMA_ATTR_*; MMIO is never bounced, REQUIRE_COHERENT fails instead
 * @returns the IOVA, or DMA_MAPPING_ERROR
 * @context Atomic.
 * @kernel drivers/iommu/dma-iommu.c
 * @since v6.18
 */
export function iommu_dma_map_phys(
	dev: device,
	phys: phys_addr_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): dma_addr_t {
	const { iovad } = cookieOf(iommu_get_dma_domain(dev));
	const prot = dma_info_to_prot(dir, dev_is_dma_coherent(dev), attrs);
	let source = phys;
	if (
		!(attrs & DMA_ATTR_MMIO) &&
		dev_use_swiotlb(dev, size, dir) &&
		iova_unaligned(iovad, phys as bigint, size)
	) {
		if (attrs & DMA_ATTR_REQUIRE_COHERENT) return DMA_MAPPING_ERROR;
		source = iommu_dma_map_swiotlb(dev, phys, size, dir, attrs);
		if (source === DMA_MAPPING_ERROR) return DMA_MAPPING_ERROR;
	}
	const iova = __iommu_dma_map(dev, source, size, prot, dma_get_mask(dev));
	if (iova === DMA_MAPPING_ERROR && !(attrs & (DMA_ATTR_MMIO | DMA_ATTR_REQUIRE_COHERENT)))
		swiotlb_tbl_unmap_single(dev, source, size, dir, attrs);
	return iova;
}

/**
 * Undo iommu_dma_map_phys().
 *
 * @param dev - the device
 * @param dma_handle - the IOVA
 * @param size - bytes
 * @param dir - direction
 * @param attrs - DMA_ATTR_*; with MMIO or REQUIRE_COHERENT nothing was bounced
 * @context Atomic.
 * @kernel drivers/iommu/dma-iommu.c
 * @since v6.18
 */
export function iommu_dma_unmap_phys(
	dev: device,
	dma_handle: dma_addr_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): void {
	if (attrs & (DMA_ATTR_MMIO | DMA_ATTR_REQUIRE_COHERENT)) {
		__iommu_dma_unmap(dev, dma_handle, size);
		return;
	}
	const phys = iommu_iova_to_phys(iommu_get_dma_domain(dev), dma_handle);
	if (WARN_ON(phys === 0n, '!phys')) return;
	__iommu_dma_unmap(dev, dma_handle, size);
	swiotlb_tbl_unmap_single(dev, phys, size, dir, attrs);
}

/**
 * Hand a mapped range to the CPU: copies back what was bounced.
 *
 * @kernel drivers/iommu/dma-iommu.c
 */
export function iommu_dma_sync_single_for_cpu(
	dev: device,
	dma_handle: dma_addr_t,
	size: size_t,
	dir: dma_data_direction,
): void {
	if (dev_is_dma_coherent(dev) && !dev_use_swiotlb(dev, size, dir)) return;
	const phys = iommu_iova_to_phys(iommu_get_dma_domain(dev), dma_handle);
	swiotlb_sync_single_for_cpu(dev, phys, size, dir);
}

/**
 * Hand a mapped range to the device: copies in what is bounced.
 *
 * @kernel drivers/iommu/dma-iommu.c
 */
export function iommu_dma_sync_single_for_device(
	dev: device,
	dma_handle: dma_addr_t,
	size: size_t,
	dir: dma_data_direction,
): void {
	if (dev_is_dma_coherent(dev) && !dev_use_swiotlb(dev, size, dir)) return;
	const phys = iommu_iova_to_phys(iommu_get_dma_domain(dev), dma_handle);
	swiotlb_sync_single_for_device(dev, phys, size, dir);
}
