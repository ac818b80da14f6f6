// SPDX-License-Identifier: GPL-2.0-only
/** Mapping one contiguous range for a device. */

import { iommu_dma_map_phys, iommu_dma_unmap_phys } from '../../../drivers/iommu/dma-iommu.ts';
import { BUG_ON, WARN_ON, WARN_ON_ONCE } from '../../../include/linux/bug.ts';
import { dev_driver_string, dev_name, type device } from '../../../include/linux/device.ts';
import {
	type dma_data_direction,
	valid_dma_direction,
} from '../../../include/linux/dma-direction.ts';
import { dev_is_dma_coherent, get_dma_ops } from '../../../include/linux/dma-map-ops.ts';
import {
	DMA_ATTR_CC_SHARED,
	DMA_ATTR_MMIO,
	DMA_ATTR_REQUIRE_COHERENT,
	DMA_MAPPING_ERROR,
} from '../../../include/linux/dma-mapping.ts';
import { ENOMEM } from '../../../include/linux/errno.ts';
import { use_dma_iommu } from '../../../include/linux/iommu-dma.ts';
import type { page } from '../../../include/linux/mm_types.ts';
import { pfn_to_page } from '../../../include/linux/mmzone.ts';
import { is_zone_device_page, page_to_phys } from '../../../include/linux/page-flags.ts';
import {
	type dma_addr_t,
	type int,
	PAGE_SHIFT,
	type phys_addr_t,
	type size_t,
	type unsigned_long,
} from '../../../include/linux/types.ts';
import { shouldFail } from '../../../include/sim/fault_injection.ts';
import { feature } from '../../../include/sim/world.ts';
import {
	debug_dma_map_phys,
	debug_dma_mapping_error,
	debug_dma_unmap_phys,
	dmaApiDebug,
	pageType,
} from '../debug.ts';
import { dma_direct_map_phys, dma_direct_map_resource, dma_direct_unmap_phys } from '../direct.ts';
import { virt_to_phys } from '../linear_map.ts';
import { firstTime } from '../once.ts';
import { dma_map_direct, needsMapPhys } from './dispatch.ts';

/** vmalloc addresses: mapped page by page, so a range of them is not contiguous. */
const VMALLOC_START = 0xffff_c900_0000_0000n;
const VMALLOC_END = 0xffff_e8ff_ffff_ffffn;

/** Attributes that v6.12 does not have: bits that it does not look at. */
const NEW_ATTRS = DMA_ATTR_MMIO | DMA_ATTR_REQUIRE_COHERENT | DMA_ATTR_CC_SHARED;

/**
 * Map a physical range for a device.
 *
 * @param dev - the device
 * @param phys - first byte
 * @param size - bytes
 * @param dir - direction
 * @param attrs - DMA_ATTR_*; MMIO: what is there is no memory; REQUIRE_COHERENT: without bouncing
 *   and without syncs, or not at all; CC_SHARED: refused by an IOMMU
 * @returns the address that the device uses, or DMA_MAPPING_ERROR
 * @context Atomic. Whether the device can reach a P2P page at all is not asked here.
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
	needsMapPhys('dma_map_phys');
	BUG_ON(!valid_dma_direction(dir), '!valid_dma_direction(dir)');
	if (WARN_ON_ONCE(dev.dma_mask === null, '!dev->dma_mask')) return DMA_MAPPING_ERROR;
	if (!dev_is_dma_coherent(dev) && attrs & DMA_ATTR_REQUIRE_COHERENT)
		return DMA_MAPPING_ERROR;
	if (shouldFail('dma_map_phys')) return DMA_MAPPING_ERROR;

	const ops = get_dma_ops(dev);
	let addr: dma_addr_t;
	if (dma_map_direct(dev, ops)) addr = dma_direct_map_phys(dev, phys, size, dir, attrs);
	else if (attrs & DMA_ATTR_CC_SHARED) return DMA_MAPPING_ERROR;
	else if (use_dma_iommu(dev)) addr = iommu_dma_map_phys(dev, phys, size, dir, attrs);
	else addr = ops?.map_phys?.(dev, phys, size, dir, attrs) ?? DMA_MAPPING_ERROR;
	const type = pageType((attrs & DMA_ATTR_MMIO) !== 0n);
	debug_dma_map_phys(dev, phys, size, dir, addr, attrs, type);
	return addr;
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
	needsMapPhys('dma_unmap_phys');
	BUG_ON(!valid_dma_direction(dir), '!valid_dma_direction(dir)');
	const ops = get_dma_ops(dev);
	debug_dma_unmap_phys(dev, addr, size, dir, attrs, pageType((attrs & DMA_ATTR_MMIO) !== 0n));
	if (dma_map_direct(dev, ops)) dma_direct_unmap_phys(dev, addr, size, dir, attrs);
	else if (use_dma_iommu(dev)) iommu_dma_unmap_phys(dev, addr, size, dir, attrs);
	else ops?.unmap_phys?.(dev, addr, size, dir, attrs);
}

/** dma_map_page_attrs() of v6.12, where pages are what is mapped. */
function mapPageOld(
	dev: device,
	p: page,
	offset: size_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): dma_addr_t {
	BUG_ON(!valid_dma_direction(dir), '!valid_dma_direction(dir)');
	if (WARN_ON_ONCE(dev.dma_mask === null, '!dev->dma_mask')) return DMA_MAPPING_ERROR;
	if (shouldFail('dma_map_page_attrs')) return DMA_MAPPING_ERROR;
	const known = attrs & ~NEW_ATTRS;
	const ops = get_dma_ops(dev);
	const phys = (page_to_phys(p) as bigint) + offset;
	let addr: dma_addr_t;
	if (dma_map_direct(dev, ops)) addr = dma_direct_map_phys(dev, phys, size, dir, known);
	else if (use_dma_iommu(dev)) addr = iommu_dma_map_phys(dev, phys, size, dir, known);
	else addr = ops?.map_page?.(dev, p, offset, size, dir, attrs) ?? DMA_MAPPING_ERROR;
	debug_dma_map_phys(dev, phys, size, dir, addr, known, pageType(false));
	return addr;
}

/**
 * Map part of a page for a device.
 *
 * @param dev - the device
 * @param p - the page
 * @param offset - first byte in it
 * @param size - bytes
 * @param dir - direction
 * @param attrs - DMA_ATTR_*; v7.3: MMIO is refused
 * @returns the address that the device uses, or DMA_MAPPING_ERROR
 * @context Atomic. A P2P page is mapped as if it were RAM, unless the kernel has
 *   CONFIG_DMA_API_DEBUG.
 * @kernel kernel/dma/mapping.c
 */
export function dma_map_page_attrs(
	dev: device,
	p: page,
	offset: size_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): dma_addr_t {
	if (!feature('dma_map_phys')) return mapPageOld(dev, p, offset, size, dir, attrs);
	if (attrs & DMA_ATTR_MMIO) return DMA_MAPPING_ERROR;
	if (dmaApiDebug() && WARN_ON_ONCE(is_zone_device_page(p), 'is_zone_device_page(page)'))
		return DMA_MAPPING_ERROR;
	return dma_map_phys(dev, (page_to_phys(p) as bigint) + offset, size, dir, attrs);
}

/**
 * Undo dma_map_page_attrs().
 *
 * @param dev - the device
 * @param addr - what it returned
 * @param size - as mapped
 * @param dir - as mapped
 * @param attrs - as mapped
 * @context Atomic.
 * @kernel kernel/dma/mapping.c
 */
export function dma_unmap_page_attrs(
	dev: device,
	addr: dma_addr_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): void {
	if (feature('dma_map_phys')) {
		if (!(attrs & DMA_ATTR_MMIO)) dma_unmap_phys(dev, addr, size, dir, attrs);
		return;
	}
	BUG_ON(!valid_dma_direction(dir), '!valid_dma_direction(dir)');
	const known = attrs & ~NEW_ATTRS;
	const ops = get_dma_ops(dev);
	debug_dma_unmap_phys(dev, addr, size, dir, known, pageType(false));
	if (dma_map_direct(dev, ops)) dma_direct_unmap_phys(dev, addr, size, dir, known);
	else if (use_dma_iommu(dev)) iommu_dma_unmap_phys(dev, addr, size, dir, known);
	else ops?.unmap_page?.(dev, addr, size, dir, attrs);
}

/**
 * Map part of a page.
 *
 * @kernel include/linux/dma-mapping.h
 */
export function dma_map_page(
	dev: device,
	p: page,
	offset: size_t,
	size: size_t,
	dir: dma_data_direction,
): dma_addr_t {
	return dma_map_page_attrs(dev, p, offset, size, dir, 0n);
}

/**
 * Undo dma_map_page().
 *
 * @kernel include/linux/dma-mapping.h
 */
export function dma_unmap_page(
	dev: device,
	addr: dma_addr_t,
	size: size_t,
	dir: dma_data_direction,
): void {
	dma_unmap_page_attrs(dev, addr, size, dir, 0n);
}

/**
 * Map memory by its kernel address.
 *
 * @param dev - the device
 * @param ptr - address in the linear map, as phys_to_virt() gives
 * @param size - bytes
 * @param dir - direction
 * @param attrs - DMA_ATTR_*
 * @returns the address that the device uses, or DMA_MAPPING_ERROR: also for vmalloc memory
 * @context Atomic.
 * @kernel include/linux/dma-mapping.h
 */
export function dma_map_single_attrs(
	dev: device,
	ptr: bigint,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): dma_addr_t {
	if (ptr >= VMALLOC_START && ptr <= VMALLOC_END) {
		if (firstTime('dma_map_single_attrs'))
			WARN_ON(
				true,
				`${dev_driver_string(dev)} ${dev_name(dev)}: rejecting DMA map of vmalloc memory`,
			);
		return DMA_MAPPING_ERROR;
	}
	const phys = virt_to_phys(ptr) as bigint;
	const p = pfn_to_page(phys >> PAGE_SHIFT);
	return dma_map_page_attrs(dev, p, phys & 0xfffn, size, dir, attrs);
}

/**
 * Undo dma_map_single_attrs().
 *
 * @kernel include/linux/dma-mapping.h
 */
export function dma_unmap_single_attrs(
	dev: device,
	addr: dma_addr_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): void {
	dma_unmap_page_attrs(dev, addr, size, dir, attrs);
}

/**
 * Map a range that is no memory, a BAR for example.
 *
 * @param dev - the device
 * @param phys_addr - first byte
 * @param size - bytes
 * @param dir - direction
 * @param attrs - DMA_ATTR_*
 * @returns the address that the device uses, or DMA_MAPPING_ERROR
 * @context Atomic.
 * @kernel kernel/dma/mapping.c
 */
export function dma_map_resource(
	dev: device,
	phys_addr: phys_addr_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): dma_addr_t {
	if (feature('dma_map_phys'))
		return dma_map_phys(dev, phys_addr, size, dir, attrs | DMA_ATTR_MMIO);

	BUG_ON(!valid_dma_direction(dir), '!valid_dma_direction(dir)');
	if (WARN_ON_ONCE(dev.dma_mask === null, '!dev->dma_mask')) return DMA_MAPPING_ERROR;
	if (shouldFail('dma_map_resource')) return DMA_MAPPING_ERROR;
	const ops = get_dma_ops(dev);
	let addr: dma_addr_t = DMA_MAPPING_ERROR;
	if (dma_map_direct(dev, ops))
		addr = dma_direct_map_resource(dev, phys_addr, size, dir, attrs);
	else if (use_dma_iommu(dev))
		addr = iommu_dma_map_phys(dev, phys_addr, size, dir, attrs | DMA_ATTR_MMIO);
	else addr = ops?.map_resource?.(dev, phys_addr, size, dir, attrs) ?? DMA_MAPPING_ERROR;
	debug_dma_map_phys(dev, phys_addr, size, dir, addr, attrs, pageType(true));
	return addr;
}

/**
 * Undo dma_map_resource().
 *
 * @param dev - the device
 * @param addr - what it returned
 * @param size - as mapped
 * @param dir - as mapped
 * @param attrs - as mapped
 * @context Atomic.
 * @kernel kernel/dma/mapping.c
 */
export function dma_unmap_resource(
	dev: device,
	addr: dma_addr_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): void {
	if (feature('dma_map_phys')) {
		dma_unmap_phys(dev, addr, size, dir, attrs | DMA_ATTR_MMIO);
		return;
	}
	BUG_ON(!valid_dma_direction(dir), '!valid_dma_direction(dir)');
	const ops = get_dma_ops(dev);
	debug_dma_unmap_phys(dev, addr, size, dir, attrs, pageType(true));
	if (dma_map_direct(dev, ops)) return;
	if (use_dma_iommu(dev)) iommu_dma_unmap_phys(dev, addr, size, dir, attrs | DMA_ATTR_MMIO);
	else ops?.unmap_resource?.(dev, addr, size, dir, attrs);
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
	debug_dma_mapping_error(dev, dma_addr);
	return dma_addr === DMA_MAPPING_ERROR ? -ENOMEM : 0;
}
