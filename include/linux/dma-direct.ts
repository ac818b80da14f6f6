// SPDX-License-Identifier: GPL-2.0-only
/**
 * CPU physical addresses and the addresses of a device that has no IOMMU.
 *
 * Without a `dma_range_map` the two are the same; with one each region has an offset, and what lies
 * in none cannot be reached.
 */
import type { device } from './device.ts';
import { dmaLimit } from './dma-map-ops.ts';
import { DMA_MAPPING_ERROR } from './dma-mapping.ts';
import type { bool, dma_addr_t, phys_addr_t, size_t, u64, unsigned_long } from './types.ts';

/**
 * The device's address of a physical one, by its dma_range_map.
 *
 * @param dev - a device that has one
 * @param paddr - physical address
 * @returns DMA_MAPPING_ERROR where no region holds it
 * @kernel include/linux/dma-direct.h
 */
export function translate_phys_to_dma(dev: device, paddr: phys_addr_t): dma_addr_t {
	for (const m of dev.dma_range_map ?? []) {
		const offset = (paddr as bigint) - m.cpu_start;
		if (offset >= 0n && offset < m.size) return (m.dma_start as bigint) + offset;
	}
	return DMA_MAPPING_ERROR;
}

/**
 * The physical address of a device's one, by its dma_range_map.
 *
 * @param dev - a device that has one
 * @param dma_addr - device's address
 * @returns all ones where no region holds it
 * @kernel include/linux/dma-direct.h
 */
export function translate_dma_to_phys(dev: device, dma_addr: dma_addr_t): phys_addr_t {
	for (const m of dev.dma_range_map ?? []) {
		const offset = (dma_addr as bigint) - (m.dma_start as bigint);
		if (offset >= 0n && offset < m.size) return m.cpu_start + offset;
	}
	return (1n << 64n) - 1n;
}

/**
 * The device's address of a physical one.
 *
 * @param dev - the device
 * @param paddr - physical address
 * @kernel include/linux/dma-direct.h
 */
export function phys_to_dma(dev: device, paddr: phys_addr_t): dma_addr_t {
	if (dev.dma_range_map !== null) return translate_phys_to_dma(dev, paddr);
	return paddr as bigint;
}

/** As phys_to_dma(): no memory is encrypted here. */
export const phys_to_dma_unencrypted = phys_to_dma;
/** As phys_to_dma(): no memory is encrypted here. */
export const phys_to_dma_encrypted = phys_to_dma;

/**
 * The physical address of a device's one.
 *
 * @param dev - the device
 * @param dma_addr - device's address
 * @kernel include/linux/dma-direct.h
 */
export function dma_to_phys(dev: device, dma_addr: dma_addr_t): phys_addr_t {
	if (dev.dma_range_map !== null) return translate_dma_to_phys(dev, dma_addr);
	return dma_addr as bigint;
}

/**
 * Whether a device reaches a range.
 *
 * @param dev - the device
 * @param addr - its first address
 * @param size - bytes
 * @param is_ram - whether it is memory; only looked at on 32-bit machines
 * @param attrs - DMA_ATTR_*; only looked at with memory encryption
 * @kernel include/linux/dma-direct.h
 */
export function dma_capable(
	dev: device,
	addr: dma_addr_t,
	size: size_t,
	is_ram: bool,
	attrs: unsigned_long,
): bool {
	void is_ram;
	void attrs;
	if (addr === DMA_MAPPING_ERROR) return false;
	const end: u64 = (addr as bigint) + size - 1n;
	return end <= dmaLimit(dev, dev.dma_mask as u64);
}
