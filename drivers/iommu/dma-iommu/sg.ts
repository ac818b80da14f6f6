// SPDX-License-Identifier: GPL-2.0-only
/**
 * Mapping a scatterlist into one IOVA range.
 *
 * Guarantee: the device sees the list's bytes in order, in as few segments as its limits allow; P2P
 * segments that are reached by bus address take no IOVA. On an error the list is as it was.
 * Mechanism: each segment is widened to whole granules, all are mapped as one range, and then
 * neighbours are joined:
 *
 * ```
 *   memory     [ s0 ]  [   s1    ]  [bus s2]   [ s3 ]
 *   IOVA       |s0..|  |   s1    |             |s3..|     one range, granule by granule
 *   output     (s0+s1 if s0 ends and s1 begins on a granule) (s2: bus address) (s3)
 * ```
 */

import type { device } from '../../../include/linux/device.ts';
import type { dma_data_direction } from '../../../include/linux/dma-direction.ts';
import { dev_is_dma_coherent } from '../../../include/linux/dma-map-ops.ts';
import {
	DMA_ATTR_SKIP_CPU_SYNC,
	DMA_MAPPING_ERROR,
	dma_get_mask,
	dma_get_max_seg_size,
	dma_get_seg_boundary,
} from '../../../include/linux/dma-mapping.ts';
import { EINVAL, EIO, ENOMEM, EREMOTEIO } from '../../../include/linux/errno.ts';
import { iova_align, iova_mask } from '../../../include/linux/iova.ts';
import {
	PCI_P2PDMA_MAP_BUS_ADDR,
	PCI_P2PDMA_MAP_NONE,
	PCI_P2PDMA_MAP_THRU_HOST_BRIDGE,
	pci_p2pdma_map_state,
} from '../../../include/linux/pci-p2pdma.ts';
import {
	type scatterlist,
	sg_dma_is_bus_address,
	sg_dma_is_swiotlb,
	sg_dma_mark_bus_address,
	sg_dma_mark_swiotlb,
	sg_dma_unmark_bus_address,
	sg_phys,
	sgEntries,
} from '../../../include/linux/scatterlist.ts';
import {
	type bool,
	type dma_addr_t,
	GFP_ATOMIC,
	type int,
	type unsigned_long,
} from '../../../include/linux/types.ts';
import { feature } from '../../../include/sim/world.ts';
import { p2pSegment } from '../../../kernel/dma/p2p.ts';
import { iommu_get_dma_domain, iommu_map_sg } from '../iommu.ts';
import { cookieOf, iommu_dma_alloc_iova, iommu_dma_free_iova } from './cookie.ts';
import {
	__iommu_dma_unmap,
	dev_is_untrusted,
	dma_info_to_prot,
	iommu_dma_map_phys,
	iommu_dma_sync_single_for_cpu,
	iommu_dma_sync_single_for_device,
	iommu_dma_unmap_phys,
} from './map.ts';

/** Whether the list is mapped entry by entry, with bouncing. */
function dev_use_sg_swiotlb(dev: device): bool {
	return dev_is_untrusted(dev);
}

/** Write the device's view of a mapped list; returns its number of segments. */
function __finalise_sg(dev: device, sg: scatterlist, nents: int, start: dma_addr_t): int {
	const seg_mask = dma_get_seg_boundary(dev);
	const max_len = dma_get_max_seg_size(dev);
	let dma_addr = start as bigint;
	let cur = sg;
	let cur_len = 0;
	let count = 0;
	let i = 0;

	for (const s of sgEntries(sg, nents)) {
		const s_dma_addr = s.dma_address;
		const s_length = s.dma_length;
		const s_iova_len = s.length;

		s.dma_address = DMA_MAPPING_ERROR;
		s.dma_length = 0;

		if (sg_dma_is_bus_address(s)) {
			if (i++ > 0) cur = cur.next as scatterlist;
			sg_dma_unmark_bus_address(s);
			cur.dma_address = s_dma_addr;
			cur.dma_length = s_length;
			sg_dma_mark_bus_address(cur);
			count++;
			cur_len = 0;
			continue;
		}

		const s_iova_off = Number(s_dma_addr as bigint);
		s.offset += s_iova_off;
		s.length = s_length;

		// Unsigned, as in C: a segment that is too long already lets everything be appended.
		const room = (max_len - cur_len) >>> 0;
		if (cur_len > 0 && s_iova_off === 0 && dma_addr & seg_mask && room >= s_length) {
			cur_len += s_length;
		} else {
			if (i > 0) cur = cur.next as scatterlist;
			cur_len = s_length;
			count++;
			cur.dma_address = dma_addr + BigInt(s_iova_off);
		}
		i++;
		cur.dma_length = cur_len;
		dma_addr += BigInt(s_iova_len);

		// What follows would begin in the middle of a granule.
		if (s_length + s_iova_off < s_iova_len) cur_len = 0;
	}
	return count;
}

/** Give a list that could not be mapped its offsets and lengths back. */
function __invalidate_sg(sg: scatterlist, nents: int): void {
	for (const s of sgEntries(sg, nents)) {
		if (sg_dma_is_bus_address(s)) {
			sg_dma_unmark_bus_address(s);
		} else {
			if (s.dma_address !== DMA_MAPPING_ERROR)
				s.offset += Number(s.dma_address as bigint);
			if (s.dma_length) s.length = s.dma_length;
		}
		s.dma_address = DMA_MAPPING_ERROR;
		s.dma_length = 0;
	}
}

function iommu_dma_unmap_sg_swiotlb(
	dev: device,
	sg: scatterlist,
	nents: int,
	dir: dma_data_direction,
	attrs: unsigned_long,
): void {
	for (const s of sgEntries(sg, nents))
		if (sg_dma_is_bus_address(s)) sg_dma_unmark_bus_address(s);
		else iommu_dma_unmap_phys(dev, s.dma_address, BigInt(s.dma_length), dir, attrs);
}

function iommu_dma_map_sg_swiotlb(
	dev: device,
	sg: scatterlist,
	nents: int,
	dir: dma_data_direction,
	attrs: unsigned_long,
): int {
	sg_dma_mark_swiotlb(sg);
	const state = new pci_p2pdma_map_state();
	let i = 0;
	for (const s of sgEntries(sg, nents)) {
		// The kernels do not ask the P2P layer here.
		const type = feature('fix_s13') ? p2pSegment(state, dev, s) : PCI_P2PDMA_MAP_NONE;
		if (type === PCI_P2PDMA_MAP_BUS_ADDR) {
			s.dma_length = s.length;
			i++;
			continue;
		}
		if (type !== PCI_P2PDMA_MAP_NONE && type !== PCI_P2PDMA_MAP_THRU_HOST_BRIDGE) {
			iommu_dma_unmap_sg_swiotlb(dev, sg, i, dir, attrs | DMA_ATTR_SKIP_CPU_SYNC);
			return -EREMOTEIO;
		}
		s.dma_address = iommu_dma_map_phys(dev, sg_phys(s), BigInt(s.length), dir, attrs);
		if (s.dma_address === DMA_MAPPING_ERROR) {
			iommu_dma_unmap_sg_swiotlb(dev, sg, i, dir, attrs | DMA_ATTR_SKIP_CPU_SYNC);
			return -EIO;
		}
		s.dma_length = s.length;
		i++;
	}
	return nents;
}

/**
 * Map a scatterlist.
 *
 * @param dev - the device
 * @param sg - the list
 * @param nents - entries
 * @param dir - direction
 * @param attrs - DMA_ATTR_*
 * @returns segments of the device's view, at least 1, or an error
 * @retval -ENOMEM no IOVA, or no page table
 * @retval -EREMOTEIO the device cannot reach a P2P segment; an untrusted device is not asked
 * @retval -EIO untrusted device: a segment could not be mapped
 * @retval -EINVAL any other error
 * @context Atomic.
 * @kernel drivers/iommu/dma-iommu.c
 */
export function iommu_dma_map_sg(
	dev: device,
	sg: scatterlist,
	nents: int,
	dir: dma_data_direction,
	attrs: unsigned_long,
): int {
	const domain = iommu_get_dma_domain(dev);
	const { iovad } = cookieOf(domain);
	const mask = dma_get_seg_boundary(dev);
	const granuleMask = Number(iova_mask(iovad));
	const state = new pci_p2pdma_map_state();
	let prev: scatterlist | null = null;
	let iova_len = 0n;
	let ret = 0;

	if (dev_use_sg_swiotlb(dev)) return iommu_dma_map_sg_swiotlb(dev, sg, nents, dir, attrs);

	out_restore_sg: {
		for (const s of sgEntries(sg, nents)) {
			const s_iova_off = s.offset & granuleMask;
			let s_length = BigInt(s.length);
			const pad_len = (mask - iova_len + 1n) & mask;

			const type = p2pSegment(state, dev, s);
			if (type === PCI_P2PDMA_MAP_BUS_ADDR) continue;
			if (
				type !== PCI_P2PDMA_MAP_NONE &&
				type !== PCI_P2PDMA_MAP_THRU_HOST_BRIDGE
			) {
				ret = -EREMOTEIO;
				break out_restore_sg;
			}

			s.dma_address = BigInt(s_iova_off);
			s.dma_length = s.length;
			s.offset -= s_iova_off;
			s_length = iova_align(iovad, s_length + BigInt(s_iova_off));
			s.length = Number(s_length);

			// The range's start is aligned to its size, so a boundary can only be crossed here.
			if (prev !== null && pad_len > 0n && pad_len < s_length - 1n) {
				prev.length += Number(pad_len);
				iova_len += pad_len;
			}
			iova_len += s_length;
			prev = s;
		}

		if (iova_len === 0n) return __finalise_sg(dev, sg, nents, 0n);

		const iova = iommu_dma_alloc_iova(
			domain,
			iova_len,
			dma_get_mask(dev),
			dev,
		) as bigint;
		if (iova === 0n) {
			ret = -ENOMEM;
			break out_restore_sg;
		}
		const prot = dma_info_to_prot(dir, dev_is_dma_coherent(dev), attrs);
		const mapped = iommu_map_sg(domain, iova, sg, nents, prot, GFP_ATOMIC);
		if (mapped >= iova_len) return __finalise_sg(dev, sg, nents, iova);

		ret = mapped < 0n ? Number(mapped) : -EINVAL;
		iommu_dma_free_iova(domain, iova, iova_len, null);
	}
	__invalidate_sg(sg, nents);
	return ret === -ENOMEM || ret === -EREMOTEIO ? ret : -EINVAL;
}

/**
 * Undo iommu_dma_map_sg().
 *
 * @param dev - the device
 * @param sg - the list
 * @param nents - entries as mapped
 * @param dir - direction
 * @param attrs - DMA_ATTR_*
 * @context Atomic.
 * @kernel drivers/iommu/dma-iommu.c
 */
export function iommu_dma_unmap_sg(
	dev: device,
	sg: scatterlist,
	nents: int,
	dir: dma_data_direction,
	attrs: unsigned_long,
): void {
	if (sg_dma_is_swiotlb(sg)) {
		iommu_dma_unmap_sg_swiotlb(dev, sg, nents, dir, attrs);
		return;
	}
	// All segments lie in one range: only its two ends matter.
	let start: bigint | null = null;
	let end = 0n;
	let ended = false;
	for (const s of sgEntries(sg, nents)) {
		if (sg_dma_is_bus_address(s)) {
			sg_dma_unmark_bus_address(s);
			continue;
		}
		if (ended || s.dma_length === 0) {
			ended = true;
			break;
		}
		start ??= s.dma_address as bigint;
		end = (s.dma_address as bigint) + BigInt(s.dma_length);
	}
	if (start !== null) __iommu_dma_unmap(dev, start, end - start);
}

/**
 * Hand a mapped list to the CPU.
 *
 * @kernel drivers/iommu/dma-iommu.c
 */
export function iommu_dma_sync_sg_for_cpu(
	dev: device,
	sgl: scatterlist,
	nelems: int,
	dir: dma_data_direction,
): void {
	if (!sg_dma_is_swiotlb(sgl)) return;
	for (const s of sgEntries(sgl, nelems))
		iommu_dma_sync_single_for_cpu(dev, s.dma_address, BigInt(s.length), dir);
}

/**
 * Hand a mapped list to the device.
 *
 * @kernel drivers/iommu/dma-iommu.c
 */
export function iommu_dma_sync_sg_for_device(
	dev: device,
	sgl: scatterlist,
	nelems: int,
	dir: dma_data_direction,
): void {
	if (!sg_dma_is_swiotlb(sgl)) return;
	for (const s of sgEntries(sgl, nelems))
		iommu_dma_sync_single_for_device(dev, s.dma_address, BigInt(s.length), dir);
}
