// SPDX-License-Identifier: GPL-2.0-only
/**
 * IOMMU domains: address spaces of devices, and what an IOMMU driver does for them.
 *
 * Guarantee of a driver: a page that map_range() mapped is found by iova_to_phys() at once, by the
 * device after iotlb_sync_map(). A page that unmap_range() unmapped may still be reached by the
 * device until iotlb_sync() or flush_iotlb_all().
 */
import type { device } from './device.ts';
import type {
	bool,
	dma_addr_t,
	int,
	out,
	phys_addr_t,
	size_t,
	unsigned_int,
	unsigned_long,
} from './types.ts';

export const IOMMU_READ = 1 << 0;
export const IOMMU_WRITE = 1 << 1;
/** Cache coherent. */
export const IOMMU_CACHE = 1 << 2;
export const IOMMU_NOEXEC = 1 << 3;
/** Device memory. */
export const IOMMU_MMIO = 1 << 4;
export const IOMMU_PRIV = 1 << 5;

/** Addresses are physical ones. */
export const IOMMU_DOMAIN_IDENTITY = 4;
/** Kernel-managed, unmapped at once. */
export const IOMMU_DOMAIN_DMA = 3;
/** Kernel-managed, unmapped lazily: a flush queue. */
export const IOMMU_DOMAIN_DMA_FQ = 11;

/**
 * What an unmap gathers to flush later.
 *
 * @kernel include/linux/iommu.h
 */
export class iommu_iotlb_gather {
	/** First address of what was unmapped; all ones: nothing. */
	start: unsigned_long = (1n << 64n) - 1n;
	/** Last address. */
	end: unsigned_long = 0n;
	/** The flush queue will flush. */
	queued: bool = false;
}

/**
 * What an IOMMU driver does for a domain.
 *
 * @kernel include/linux/iommu.h
 */
export interface iommu_domain_ops {
	/**
	 * Map a range; on an error nothing that this call mapped stays.
	 *
	 * @param mapped - out: bytes mapped before the error
	 * @retval 0 mapped
	 * @retval -EINVAL neither readable nor writable, or size 0
	 * @retval -ENXIO not aligned to any page size
	 * @retval -ERANGE beyond the addresses that the table has
	 * @retval -EADDRINUSE something is mapped there
	 * @retval -ENOMEM no page table
	 */
	map_range(
		domain: iommu_domain,
		iova: unsigned_long,
		paddr: phys_addr_t,
		size: size_t,
		prot: int,
		mapped: out<size_t>,
	): int;
	/**
	 * Unmap from `iova` on, up to the first page that is not mapped.
	 *
	 * @returns bytes unmapped: less than asked for at a hole, more where a large page went
	 */
	unmap_range(
		domain: iommu_domain,
		iova: unsigned_long,
		size: size_t,
		gather: iommu_iotlb_gather,
	): size_t;
	/** Make mapped pages visible to the devices. */
	iotlb_sync_map(domain: iommu_domain, iova: unsigned_long, size: size_t): int;
	/** Forget what was gathered. */
	iotlb_sync(domain: iommu_domain, gather: iommu_iotlb_gather): void;
	/** Forget everything. */
	flush_iotlb_all(domain: iommu_domain): void;
	/** What an IOVA is translated to; 0 if to nothing. */
	iova_to_phys(domain: iommu_domain, iova: dma_addr_t): phys_addr_t;
	/** Give the domain's hardware back. */
	free?(domain: iommu_domain): void;
}

/** Addresses that a domain can translate. */
export interface iommu_domain_geometry {
	aperture_start: dma_addr_t;
	/** Inclusive. */
	aperture_end: dma_addr_t;
	force_aperture: bool;
}

/**
 * An address space of devices.
 *
 * @kernel include/linux/iommu.h
 */
export class iommu_domain {
	type: unsigned_int;
	ops: iommu_domain_ops;
	/** Bit n: pages of 2^n bytes. */
	pgsize_bitmap: unsigned_long = 0n;
	geometry: iommu_domain_geometry;
	/** struct iommu_dma_cookie of drivers/iommu/dma-iommu. */
	iova_cookie: object | null = null;
	/** What the driver keeps. */
	driverData: object | null = null;
	/** Devices attached. */
	devices: device[] = [];

	/**
	 * @param type - IOMMU_DOMAIN_*
	 * @param ops - the driver
	 * @param aperture_end - last address
	 */
	constructor(type: unsigned_int, ops: iommu_domain_ops, aperture_end: dma_addr_t) {
		this.type = type;
		this.ops = ops;
		this.geometry = { aperture_start: 0n, aperture_end, force_aperture: true };
	}
}
