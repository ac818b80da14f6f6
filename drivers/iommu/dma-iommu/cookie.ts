// SPDX-License-Identifier: GPL-2.0-only
/**
 * IOVA space of a domain, and the flush queue that frees it lazily.
 *
 * Guarantee: in a strict domain an unmapped range is gone for the device, and its IOVA free, when
 * the unmap returns. In a lazy one (IOMMU_DOMAIN_DMA_FQ) the device may still reach it, and the IOVA
 * stays taken, until the queue is flushed: when it is full, or by drainFlushQueue(), which is what
 * the kernel's timer does after 10 ms.
 * Bus addresses below the host bridges are never used as IOVA: a switch would route them to a BAR.
 */
import { dev_info, type device } from '../../../include/linux/device.ts';
import { dmaLimit } from '../../../include/linux/dma-map-ops.ts';
import { DMA_BIT_MASK } from '../../../include/linux/dma-mapping.ts';
import {
	IOMMU_DOMAIN_DMA_FQ,
	type iommu_domain,
	type iommu_iotlb_gather,
} from '../../../include/linux/iommu.ts';
import { IORESOURCE_MEM, resource_type } from '../../../include/linux/ioport.ts';
import { iova_domain } from '../../../include/linux/iova.ts';
import { dev_is_pci, to_pci_dev, to_pci_host_bridge } from '../../../include/linux/pci.ts';
import type { dma_addr_t, size_t, u64 } from '../../../include/linux/types.ts';
import { shouldFail } from '../../../include/sim/fault_injection.ts';
import { touch } from '../../../include/sim/schedule.ts';
import { iommu_flush_iotlb_all, iommu_iotlb_gather_queued } from '../iommu.ts';
import { alloc_iova_fast, free_iova_fast, init_iova_domain, reserve_iova } from '../iova.ts';

/** Entries of a flush queue before it is flushed. */
export const IOVA_DEFAULT_FQ_SIZE = 256;
/** The interrupt window of x86-64: writes there are messages, never memory. */
const MSI_RANGE_START_PFN = 0xfee00;
const MSI_RANGE_END_PFN = 0xfeeff;

/** A range that waits for the flush. */
export interface iova_fq_entry {
	readonly iova_pfn: number;
	readonly pages: number;
}

/**
 * What dma-iommu keeps of a domain.
 *
 * @kernel drivers/iommu/dma-iommu.c
 */
export class iommu_dma_cookie {
	iovad: iova_domain = new iova_domain();
	/** Lazy domains: what waits for the flush. */
	fq: iova_fq_entry[] = [];
	/** The domain, if it is lazy. */
	fq_domain: iommu_domain | null = null;
	/** Devices that have tried all below 4 GiB: they use all of their mask. */
	no32bitWorkaround: Set<device> = new Set();
}

/**
 * The cookie of a domain, made when it is first asked for.
 *
 * @param domain - a domain of dma-iommu
 */
export function cookieOf(domain: iommu_domain): iommu_dma_cookie {
	return (domain.iova_cookie ??= makeCookie(domain)) as iommu_dma_cookie;
}

function makeCookie(domain: iommu_domain): iommu_dma_cookie {
	const cookie = new iommu_dma_cookie();
	if (domain.type === IOMMU_DOMAIN_DMA_FQ) cookie.fq_domain = domain;
	init_iova_domain(cookie.iovad, domain.pgsize_bitmap & -domain.pgsize_bitmap, 1);
	reserve_iova(cookie.iovad, MSI_RANGE_START_PFN, MSI_RANGE_END_PFN);
	for (const dev of domain.devices) iova_reserve_pci_windows(dev, cookie.iovad);
	return cookie;
}

/** Keep the bus addresses of a device's hierarchy out of the IOVA space. */
function iova_reserve_pci_windows(dev: device, iovad: iova_domain): void {
	if (!dev_is_pci(dev)) return;
	let { bus } = to_pci_dev(dev);
	while (bus.parent !== null) bus = bus.parent;
	if (bus.bridge === null) return;
	for (const { res, offset } of to_pci_host_bridge(bus.bridge).windows) {
		if (resource_type(res) !== IORESOURCE_MEM) continue;
		const lo = Number(((res.start as bigint) - offset) >> 12n);
		const hi = Number(((res.end as bigint) - offset) >> 12n);
		reserve_iova(iovad, lo, hi);
	}
}

/**
 * Take I/O addresses.
 *
 * @param domain - the domain
 * @param size - bytes, whole granules
 * @param dma_limit - the device's mask
 * @param dev - the device
 * @returns first address, 0: there are none, or made to fail at site `iommu_dma_alloc_iova`
 * @kernel drivers/iommu/dma-iommu.c
 */
export function iommu_dma_alloc_iova(
	domain: iommu_domain,
	size: size_t,
	dma_limit: u64,
	dev: device,
): dma_addr_t {
	if (shouldFail('iommu_dma_alloc_iova')) return 0n;
	touch('atomic', domain, 'iova');
	const cookie = cookieOf(domain);
	const pages = Number(size >> 12n);
	let limit = dmaLimit(dev, dma_limit);
	const { aperture_end, force_aperture } = domain.geometry;
	if (force_aperture && limit > aperture_end) limit = aperture_end as bigint;

	let pfn = 0;
	if (limit > DMA_BIT_MASK(32) && dev_is_pci(dev) && !cookie.no32bitWorkaround.has(dev)) {
		// Some devices claim 64 bits and mean fewer, so the low addresses are used up first.
		pfn = alloc_iova_fast(cookie.iovad, pages, Number(DMA_BIT_MASK(32) >> 12n), false);
		if (pfn === 0) {
			cookie.no32bitWorkaround.add(dev);
			dev_info(dev, `Using ${limit.toString(2).length}-bit DMA addresses`);
		}
	}
	if (pfn === 0) pfn = alloc_iova_fast(cookie.iovad, pages, Number(limit >> 12n), true);
	return BigInt(pfn) << 12n;
}

/**
 * Give I/O addresses back.
 *
 * @param domain - the domain
 * @param iova - first address
 * @param size - bytes, whole granules
 * @param gather - what was unmapped there; queued: it is freed after the flush. null: nothing was
 * @kernel drivers/iommu/dma-iommu.c
 */
export function iommu_dma_free_iova(
	domain: iommu_domain,
	iova: dma_addr_t,
	size: size_t,
	gather: iommu_iotlb_gather | null,
): void {
	touch('atomic', domain, 'iova');
	const cookie = cookieOf(domain);
	const pfn = Number((iova as bigint) >> 12n);
	const pages = Number(size >> 12n);
	if (iommu_iotlb_gather_queued(gather)) queue_iova(domain, cookie, pfn, pages);
	else free_iova_fast(cookie.iovad, pfn, pages);
}

function queue_iova(
	domain: iommu_domain,
	cookie: iommu_dma_cookie,
	pfn: number,
	pages: number,
): void {
	if (cookie.fq.length >= IOVA_DEFAULT_FQ_SIZE) drainFlushQueue(domain);
	cookie.fq.push({ iova_pfn: pfn, pages });
}

/**
 * Flush what a lazy domain has queued: the devices forget it, and its IOVAs are free.
 *
 * @param domain - the domain; nothing happens if it is strict
 */
export function drainFlushQueue(domain: iommu_domain): void {
	if (domain.iova_cookie === null) return;
	const cookie = cookieOf(domain);
	if (cookie.fq.length === 0) return;
	iommu_flush_iotlb_all(domain);
	for (const { iova_pfn, pages } of cookie.fq.splice(0))
		free_iova_fast(cookie.iovad, iova_pfn, pages);
}
