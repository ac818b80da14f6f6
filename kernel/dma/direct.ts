// SPDX-License-Identifier: GPL-2.0-only
/**
 * DMA without an IOMMU: the device's address is the physical one, give or take an offset.
 *
 * Guarantee: a range that the device cannot reach is bounced, or refused where bouncing would be
 * wrong (MMIO, REQUIRE_COHERENT; a P2P page before v7.3); `swiotlb=force` bounces everything else.
 * Mechanism: no state at all. What must be undone is seen from the address: it lies in the pool.
 */
import type { PhysicalRam } from '../../arch/sim/memory.ts';
import { WARN_ON } from '../../include/linux/bug.ts';
import type { device } from '../../include/linux/device.ts';
import { dma_capable, dma_to_phys, phys_to_dma } from '../../include/linux/dma-direct.ts';
import type { dma_data_direction } from '../../include/linux/dma-direction.ts';
import { dev_is_dma_coherent, dma_kmalloc_needs_bounce } from '../../include/linux/dma-map-ops.ts';
import {
	DMA_ATTR_MMIO,
	DMA_ATTR_REQUIRE_COHERENT,
	DMA_ATTR_SKIP_CPU_SYNC,
	DMA_BIT_MASK,
	DMA_MAPPING_ERROR,
} from '../../include/linux/dma-mapping.ts';
import { EIO, EREMOTEIO } from '../../include/linux/errno.ts';
import { pfn_to_page, pfn_valid } from '../../include/linux/mmzone.ts';
import { is_pci_p2pdma_page } from '../../include/linux/page-flags.ts';
import {
	PCI_P2PDMA_MAP_BUS_ADDR,
	PCI_P2PDMA_MAP_NONE,
	PCI_P2PDMA_MAP_THRU_HOST_BRIDGE,
	pci_p2pdma_map_state,
} from '../../include/linux/pci-p2pdma.ts';
import {
	type scatterlist,
	sg_dma_is_bus_address,
	sg_dma_unmark_bus_address,
	sg_phys,
	sgEntries,
} from '../../include/linux/scatterlist.ts';
import {
	type bool,
	type dma_addr_t,
	type int,
	PAGE_SIZE,
	type phys_addr_t,
	SIZE_MAX,
	type size_t,
	type u64,
	type unsigned_long,
} from '../../include/linux/types.ts';
import { feature, world } from '../../include/sim/world.ts';
import { firstTime } from './once.ts';
import { p2pSegment } from './p2p.ts';
import {
	is_swiotlb_active,
	is_swiotlb_force_bounce,
	overflowText,
	swiotlb_find_pool,
	swiotlb_map,
	swiotlb_max_mapping_size,
	swiotlb_sync_single_for_cpu,
	swiotlb_sync_single_for_device,
	swiotlb_tbl_unmap_single,
} from './swiotlb.ts';

/** RAM of the machine below. */
function ramRanges(): PhysicalRam['ranges'] {
	return (world().machine as { ram: PhysicalRam }).ram.ranges;
}

/** Physical address of the last page of RAM. */
function lastRamPage(): bigint {
	let end = PAGE_SIZE;
	for (const { start, size, special } of ramRanges())
		if (!special && start + size > end) end = start + size;
	return end - PAGE_SIZE;
}

/**
 * Smallest mask that reaches all of RAM.
 *
 * @param dev - the device
 * @kernel kernel/dma/direct.c
 */
export function dma_direct_get_required_mask(dev: device): u64 {
	const max_dma = phys_to_dma(dev, lastRamPage()) as bigint;
	return DMA_BIT_MASK(max_dma.toString(2).length);
}

/**
 * Whether a mask can be used.
 *
 * @param dev - the device
 * @param mask - the mask
 * @returns 1 for masks of 32 bits and more: there is no zone for smaller ones, so those must reach
 *   all of RAM
 * @kernel kernel/dma/direct.c
 */
export function dma_direct_supported(dev: device, mask: u64): int {
	if (mask >= DMA_BIT_MASK(32)) return 1;
	return mask >= (phys_to_dma(dev, lastRamPage()) as bigint) ? 1 : 0;
}

/**
 * Whether the device's dma_range_map has all of RAM.
 *
 * @param dev - the device
 * @kernel kernel/dma/direct.c
 */
export function dma_direct_all_ram_mapped(dev: device): bool {
	const map = dev.dma_range_map;
	if (map === null) return true;
	for (const { start, size } of ramRanges())
		for (let at = start; at < start + size; ) {
			const region = map.find(
				(m) => at >= m.cpu_start && at < m.cpu_start + m.size,
			);
			if (region === undefined) return false;
			at = region.cpu_start + region.size;
		}
	return true;
}

/**
 * Longest range that is sure to be mapped.
 *
 * @param dev - the device
 * @param limited - dma_addressing_limited() of it
 * @kernel kernel/dma/direct.c
 */
export function dma_direct_max_mapping_size(dev: device, limited: bool): size_t {
	if (is_swiotlb_active(dev) && (limited || is_swiotlb_force_bounce(dev)))
		return swiotlb_max_mapping_size(dev);
	return SIZE_MAX;
}

/**
 * Whether syncing a mapping can have any effect.
 *
 * @param dev - the device
 * @param dma_addr - the mapping
 * @kernel kernel/dma/direct.c
 */
export function dma_direct_need_sync(dev: device, dma_addr: dma_addr_t): bool {
	return (
		!dev_is_dma_coherent(dev) ||
		swiotlb_find_pool(dev, dma_to_phys(dev, dma_addr)) !== null
	);
}

/** Whether the address is that of a P2P page. */
function isP2p(phys: phys_addr_t): boolean {
	const pfn = (phys as bigint) >> 12n;
	return pfn_valid(pfn) && is_pci_p2pdma_page(pfn_to_page(pfn));
}

/**
 * Map a range.
 *
 * @param dev - the device
 * @param phys - first byte
 * @param size - bytes
 * @param dir - direction
 * @param attrs - DMA_ATTR_*
 * @returns the device's address, or DMA_MAPPING_ERROR
 * @context Atomic.
 * @kernel kernel/dma/direct.c
 */
export function dma_direct_map_phys(
	dev: device,
	phys: phys_addr_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): dma_addr_t {
	const bouncesP2p = feature('dma_direct_bounces_p2p');
	if (is_swiotlb_force_bounce(dev)) {
		if (attrs & (DMA_ATTR_MMIO | DMA_ATTR_REQUIRE_COHERENT)) return DMA_MAPPING_ERROR;
		if (!bouncesP2p && isP2p(phys)) return DMA_MAPPING_ERROR;
		return swiotlb_map(dev, phys, size, dir, attrs);
	}

	const dma_addr = phys_to_dma(dev, phys);
	const mmio = (attrs & DMA_ATTR_MMIO) !== 0n;
	const reached = dma_capable(dev, dma_addr, size, !mmio, attrs);
	if (reached && (mmio || !dma_kmalloc_needs_bounce(dev, size, dir))) return dma_addr;
	if (!mmio) {
		if (!bouncesP2p && isP2p(phys)) return DMA_MAPPING_ERROR;
		if (is_swiotlb_active(dev) && !(attrs & DMA_ATTR_REQUIRE_COHERENT))
			return swiotlb_map(dev, phys, size, dir, attrs);
	}
	if (firstTime('dma_direct_map_phys'))
		WARN_ON(true, overflowText(dev, 'DMA addr', dma_addr, size));
	return DMA_MAPPING_ERROR;
}

/**
 * Undo dma_direct_map_phys().
 *
 * @param dev - the device
 * @param addr - the device's address
 * @param size - bytes
 * @param dir - direction
 * @param attrs - DMA_ATTR_*; with MMIO or REQUIRE_COHERENT nothing was bounced
 * @context Atomic.
 * @kernel kernel/dma/direct.h
 */
export function dma_direct_unmap_phys(
	dev: device,
	addr: dma_addr_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): void {
	if (attrs & (DMA_ATTR_MMIO | DMA_ATTR_REQUIRE_COHERENT)) return;
	swiotlb_tbl_unmap_single(dev, dma_to_phys(dev, addr), size, dir, attrs);
}

/**
 * Map a range that is no memory, before v7.3: no dma_range_map, no bouncing.
 *
 * @param dev - the device
 * @param paddr - first byte
 * @param size - bytes
 * @param dir - direction
 * @param attrs - DMA_ATTR_*
 * @returns the physical address, or DMA_MAPPING_ERROR
 * @context Atomic.
 * @kernel kernel/dma/direct.c (v6.12; gone in v6.18)
 */
export function dma_direct_map_resource(
	dev: device,
	paddr: phys_addr_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): dma_addr_t {
	void dir;
	const dma_addr: dma_addr_t = paddr as bigint;
	if (dma_capable(dev, dma_addr, size, false, attrs)) return dma_addr;
	if (firstTime('dma_direct_map_resource'))
		WARN_ON(true, overflowText(dev, 'DMA addr', dma_addr, size));
	return DMA_MAPPING_ERROR;
}

/**
 * Hand a mapped range to the CPU.
 *
 * @kernel kernel/dma/direct.h
 */
export function dma_direct_sync_single_for_cpu(
	dev: device,
	addr: dma_addr_t,
	size: size_t,
	dir: dma_data_direction,
): void {
	swiotlb_sync_single_for_cpu(dev, dma_to_phys(dev, addr), size, dir);
}

/**
 * Hand a mapped range to the device.
 *
 * @kernel kernel/dma/direct.h
 */
export function dma_direct_sync_single_for_device(
	dev: device,
	addr: dma_addr_t,
	size: size_t,
	dir: dma_data_direction,
): void {
	swiotlb_sync_single_for_device(dev, dma_to_phys(dev, addr), size, dir);
}

/**
 * Map a scatterlist, each segment by itself.
 *
 * @param dev - the device
 * @param sgl - the list
 * @param nents - entries
 * @param dir - direction
 * @param attrs - DMA_ATTR_*
 * @returns `nents`, or an error
 * @retval -EIO a segment could not be mapped
 * @retval -EREMOTEIO the device cannot reach a P2P segment
 * @context Atomic.
 * @kernel kernel/dma/direct.c
 */
export function dma_direct_map_sg(
	dev: device,
	sgl: scatterlist,
	nents: int,
	dir: dma_data_direction,
	attrs: unsigned_long,
): int {
	const state = new pci_p2pdma_map_state();
	let ret = 0;
	let done = 0;
	for (const sg of sgEntries(sgl, nents)) {
		const type = p2pSegment(state, dev, sg);
		if (type === PCI_P2PDMA_MAP_NONE || type === PCI_P2PDMA_MAP_THRU_HOST_BRIDGE) {
			// Through the host bridge: by CPU address, like memory; 7.3.4 forgets that it is MMIO.
			const bridge =
				type === PCI_P2PDMA_MAP_THRU_HOST_BRIDGE && feature('fix_s12');
			sg.dma_address = dma_direct_map_phys(
				dev,
				sg_phys(sg),
				BigInt(sg.length),
				dir,
				bridge ? attrs | DMA_ATTR_MMIO : attrs,
			);
			if (sg.dma_address === DMA_MAPPING_ERROR) ret = -EIO;
			else sg.dma_length = sg.length;
		} else if (type !== PCI_P2PDMA_MAP_BUS_ADDR) {
			ret = -EREMOTEIO;
		}
		if (ret) {
			dma_direct_unmap_sg(dev, sgl, done, dir, attrs | DMA_ATTR_SKIP_CPU_SYNC);
			return ret;
		}
		done++;
	}
	return nents;
}

/**
 * Undo dma_direct_map_sg().
 *
 * @param dev - the device
 * @param sgl - the list
 * @param nents - entries
 * @param dir - direction
 * @param attrs - DMA_ATTR_*
 * @context Atomic.
 * @kernel kernel/dma/direct.c
 */
export function dma_direct_unmap_sg(
	dev: device,
	sgl: scatterlist,
	nents: int,
	dir: dma_data_direction,
	attrs: unsigned_long,
): void {
	for (const sg of sgEntries(sgl, nents)) {
		if (sg_dma_is_bus_address(sg)) sg_dma_unmark_bus_address(sg);
		else dma_direct_unmap_phys(dev, sg.dma_address, BigInt(sg.dma_length), dir, attrs);
	}
}

/**
 * Hand a mapped list to the CPU.
 *
 * @kernel kernel/dma/direct.c
 */
export function dma_direct_sync_sg_for_cpu(
	dev: device,
	sgl: scatterlist,
	nents: int,
	dir: dma_data_direction,
): void {
	for (const sg of sgEntries(sgl, nents))
		dma_direct_sync_single_for_cpu(dev, sg.dma_address, BigInt(sg.length), dir);
}

/**
 * Hand a mapped list to the device.
 *
 * @kernel kernel/dma/direct.c
 */
export function dma_direct_sync_sg_for_device(
	dev: device,
	sgl: scatterlist,
	nents: int,
	dir: dma_data_direction,
): void {
	for (const sg of sgEntries(sgl, nents))
		dma_direct_sync_single_for_device(dev, sg.dma_address, BigInt(sg.length), dir);
}
