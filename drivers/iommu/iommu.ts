// SPDX-License-Identifier: GPL-2.0-only
/**
 * The IOMMU core: mapping and unmapping in a domain, and which domain a device has.
 *
 * Guarantee: after iommu_map() the devices of the domain reach the range, after iommu_unmap() they
 * do not. iommu_map_nosync() and iommu_unmap_fast() leave the second half to the caller.
 */
import { WARN_ON } from '../../include/linux/bug.ts';
import type { device } from '../../include/linux/device.ts';
import { EINVAL, ENODEV, ENOMEM } from '../../include/linux/errno.ts';
import {
	IOMMU_DOMAIN_IDENTITY,
	type iommu_domain,
	iommu_iotlb_gather,
} from '../../include/linux/iommu.ts';
import { pr_err } from '../../include/linux/printk.ts';
import {
	type scatterlist,
	sg_dma_is_bus_address,
	sg_phys,
} from '../../include/linux/scatterlist.ts';
import {
	type dma_addr_t,
	type gfp_t,
	type int,
	outParam,
	type phys_addr_t,
	type size_t,
	type ssize_t,
	type unsigned_int,
	type unsigned_long,
} from '../../include/linux/types.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';
import { touch } from '../../include/sim/schedule.ts';

/**
 * The domain that a device is attached to.
 *
 * @param dev - the device
 * @returns null: no IOMMU translates for it
 * @kernel drivers/iommu/iommu.c
 */
export function iommu_get_domain_for_dev(dev: device): iommu_domain | null {
	return dev.iommu_domain as iommu_domain | null;
}

/**
 * The domain of a device for which use_dma_iommu() holds.
 *
 * @param dev - the device
 * @kernel drivers/iommu/iommu.c
 */
export function iommu_get_dma_domain(dev: device): iommu_domain {
	return dev.iommu_domain as iommu_domain;
}

/** Smallest page of a domain, as a mask. */
function minPageMask(domain: iommu_domain): bigint {
	return (domain.pgsize_bitmap & -domain.pgsize_bitmap) - 1n;
}

/**
 * Map a range without making it visible to the devices.
 *
 * @param domain - the domain
 * @param iova - first I/O address
 * @param paddr - first physical address
 * @param size - bytes
 * @param prot - IOMMU_READ and others
 * @param gfp - for page tables
 * @retval 0 mapped
 * @retval -ENODEV the domain cannot be mapped in
 * @retval -ENOMEM made to fail at site `iommu_map`
 * @retval -EINVAL no right at all, or size 0
 * @retval -ENXIO not aligned to the smallest page
 * @retval -ERANGE beyond the aperture
 * @retval -EADDRINUSE something is mapped there; what this call mapped is undone
 * @context Atomic, unless `gfp` may sleep.
 * @kernel drivers/iommu/iommu.c
 */
export function iommu_map_nosync(
	domain: iommu_domain,
	iova: unsigned_long,
	paddr: phys_addr_t,
	size: size_t,
	prot: int,
	gfp: gfp_t,
): int {
	void gfp;
	if (domain.pgsize_bitmap === 0n) return -ENODEV;
	if (shouldFail('iommu_map')) return -ENOMEM;
	touch('pte-write', domain, 'iopt');
	const mapped = outParam(0n);
	const ret = domain.ops.map_range(domain, iova, paddr, size, prot, mapped);
	if (ret && mapped.value > 0n) iommu_unmap(domain, iova, mapped.value);
	return ret;
}

/**
 * Make mapped pages visible to the devices.
 *
 * @param domain - the domain
 * @param iova - first I/O address
 * @param size - bytes
 * @retval 0 always, on the IOMMUs here
 * @kernel drivers/iommu/iommu.c
 */
export function iommu_sync_map(domain: iommu_domain, iova: unsigned_long, size: size_t): int {
	touch('pte-write', domain, 'iopt');
	return domain.ops.iotlb_sync_map(domain, iova, size);
}

/**
 * Map a range for the devices of a domain; errors as iommu_map_nosync().
 *
 * @param domain - the domain
 * @param iova - first I/O address
 * @param paddr - first physical address
 * @param size - bytes
 * @param prot - IOMMU_READ and others
 * @param gfp - for page tables
 * @retval 0 mapped
 * @kernel drivers/iommu/iommu.c
 */
export function iommu_map(
	domain: iommu_domain,
	iova: unsigned_long,
	paddr: phys_addr_t,
	size: size_t,
	prot: int,
	gfp: gfp_t,
): int {
	let ret = iommu_map_nosync(domain, iova, paddr, size, prot, gfp);
	if (ret) return ret;
	ret = iommu_sync_map(domain, iova, size);
	if (ret) iommu_unmap(domain, iova, size);
	return ret;
}

/**
 * Start to gather.
 *
 * @param gather - out: empty
 * @kernel include/linux/iommu.h
 */
export function iommu_iotlb_gather_init(gather: iommu_iotlb_gather): void {
	Object.assign(gather, new iommu_iotlb_gather());
}

/**
 * Whether the flush is left to the flush queue.
 *
 * @param gather - what was gathered
 * @kernel include/linux/iommu.h
 */
export function iommu_iotlb_gather_queued(gather: iommu_iotlb_gather | null): boolean {
	return gather?.queued ?? false;
}

/**
 * Add a range to what will be flushed.
 *
 * @param gather - what was gathered so far
 * @param iova - first I/O address
 * @param size - bytes
 * @kernel include/linux/iommu.h
 */
export function iommu_iotlb_gather_add_range(
	gather: iommu_iotlb_gather,
	iova: unsigned_long,
	size: size_t,
): void {
	const end = iova + size - 1n;
	if (gather.start > iova) gather.start = iova;
	if (gather.end < end) gather.end = end;
}

/**
 * Make the devices forget what was gathered.
 *
 * @param domain - the domain
 * @param gather - what was unmapped
 * @kernel include/linux/iommu.h
 */
export function iommu_iotlb_sync(domain: iommu_domain, gather: iommu_iotlb_gather): void {
	touch('flush', domain, 'iotlb');
	domain.ops.iotlb_sync(domain, gather);
	iommu_iotlb_gather_init(gather);
}

/**
 * Make the devices forget everything.
 *
 * @param domain - the domain
 * @kernel include/linux/iommu.h
 */
export function iommu_flush_iotlb_all(domain: iommu_domain): void {
	touch('flush', domain, 'iotlb');
	domain.ops.flush_iotlb_all(domain);
}

/**
 * Unmap a range; the devices may still reach it until what was gathered is flushed.
 *
 * @param domain - the domain
 * @param iova - first I/O address
 * @param size - bytes
 * @param gather - gathers what was unmapped
 * @returns bytes unmapped: up to the first hole; more than asked for where a large page went
 * @kernel drivers/iommu/iommu.c
 */
export function iommu_unmap_fast(
	domain: iommu_domain,
	iova: unsigned_long,
	size: size_t,
	gather: iommu_iotlb_gather,
): size_t {
	if (domain.pgsize_bitmap === 0n) return 0n;
	const mask = minPageMask(domain);
	if ((iova | size) & mask) {
		pr_err(
			`unaligned: iova 0x${iova.toString(16)} size 0x${size.toString(16)} ` +
				`min_pagesz 0x${(mask + 1n).toString(16)}`,
		);
		return 0n;
	}
	touch('pte-write', domain, 'iopt');
	return domain.ops.unmap_range(domain, iova, size, gather);
}

/**
 * Unmap a range, and make the devices forget it.
 *
 * @param domain - the domain
 * @param iova - first I/O address
 * @param size - bytes
 * @returns bytes unmapped
 * @kernel drivers/iommu/iommu.c
 */
export function iommu_unmap(domain: iommu_domain, iova: unsigned_long, size: size_t): size_t {
	const gather = new iommu_iotlb_gather();
	const unmapped = iommu_unmap_fast(domain, iova, size, gather);
	iommu_iotlb_sync(domain, gather);
	return unmapped;
}

/**
 * What an I/O address is mapped to, by the page table.
 *
 * @param domain - the domain
 * @param iova - I/O address
 * @returns physical address, 0: not mapped
 * @kernel drivers/iommu/iommu.c
 */
export function iommu_iova_to_phys(domain: iommu_domain, iova: dma_addr_t): phys_addr_t {
	if (domain.type === IOMMU_DOMAIN_IDENTITY) return iova as bigint;
	return domain.ops.iova_to_phys(domain, iova);
}

/**
 * Map a scatterlist as one range; entries that are bus addresses are left out, and what is
 * contiguous in memory is mapped in one piece, so that large pages can be used.
 *
 * @param domain - the domain
 * @param iova - first I/O address
 * @param sgl - the list; every other entry starts and ends on a page
 * @param nents - how many entries
 * @param prot - IOMMU_READ and others
 * @param gfp - for page tables
 * @returns bytes mapped, or an error as iommu_map_nosync(), with nothing mapped
 * @kernel drivers/iommu/iommu.c
 */
export function iommu_map_sg(
	domain: iommu_domain,
	iova: unsigned_long,
	sgl: scatterlist,
	nents: unsigned_int,
	prot: int,
	gfp: gfp_t,
): ssize_t {
	let mapped = 0n;
	let start: phys_addr_t = 0n;
	let len = 0n;
	let sg: scatterlist | null = sgl;
	let ret = 0;

	for (let i = 0; i <= nents; i++) {
		const skip = i < nents && sg !== null && sg_dma_is_bus_address(sg);
		const phys = i < nents && sg !== null && !skip ? (sg_phys(sg) as bigint) : -1n;
		if (len > 0n && phys !== (start as bigint) + len) {
			ret = iommu_map_nosync(domain, iova + mapped, start, len, prot, gfp);
			if (ret) break;
			mapped += len;
			len = 0n;
		}
		if (i === nents || sg === null) break;
		if (!skip) {
			if (len === 0n) start = phys;
			len += BigInt(sg.length);
		}
		sg = sg.next;
	}
	if (ret === 0) ret = iommu_sync_map(domain, iova, mapped);
	if (ret) {
		iommu_unmap(domain, iova, mapped);
		return BigInt(ret);
	}
	return mapped;
}

/**
 * Attach a device to a domain: from now on its DMA is translated there.
 *
 * @param domain - the domain
 * @param dev - the device, attached to none
 * @retval 0 attached
 * @retval -EINVAL it is attached already
 * @kernel drivers/iommu/iommu.c
 */
export function iommu_attach_device(domain: iommu_domain, dev: device): int {
	if (WARN_ON(dev.iommu_domain !== null)) return -EINVAL;
	dev.iommu_domain = domain;
	domain.devices.push(dev);
	return 0;
}
