// SPDX-License-Identifier: GPL-2.0-only
/**
 * The IOMMU driver: domains of the kernel on the machine's IOMMU (arch/sim/iommu.ts).
 *
 * Guarantee: page sizes, alignment and errors are those that drivers/iommu/generic_pt gives VT-d
 * (4 KiB, 2 MiB, 1 GiB) and AMD-Vi (every power of two): each range is cut into the largest pages
 * that fit, and a page can only be unmapped as a whole, from its start.
 * Mechanism: a page that was mapped but not yet synced is kept back in a table of the driver's own.
 * The kernel finds it, the hardware does not: a device that uses an unsynced mapping faults, as it
 * may on hardware that caches absent entries or does not snoop the page walk.
 *
 * ```
 *   map_range ──> pending table ── iotlb_sync_map ──> hardware table ──> (device) IOTLB
 *   unmap_range: removes from both tables; the IOTLB keeps what it knows until iotlb_sync
 * ```
 */
import {
	IOMMU_PROT_READ,
	IOMMU_PROT_WRITE,
	type Iommu,
	type IommuDomain,
	IommuEntry,
	IommuTable,
} from '../../arch/sim/iommu.ts';
import { WARN_ON } from '../../include/linux/bug.ts';
import { EADDRINUSE, EINVAL, ENXIO, ERANGE } from '../../include/linux/errno.ts';
import {
	IOMMU_READ,
	IOMMU_WRITE,
	iommu_domain,
	type iommu_domain_ops,
	type iommu_iotlb_gather,
} from '../../include/linux/iommu.ts';
import type {
	dma_addr_t,
	int,
	out,
	phys_addr_t,
	size_t,
	unsigned_int,
	unsigned_long,
} from '../../include/linux/types.ts';
import { iommu_iotlb_gather_add_range } from './iommu.ts';

/** VT-d: 4 KiB, 2 MiB, 1 GiB. */
const INTEL_PGSIZES = 0x4020_1000n;
/** AMD-Vi: every power of two from 4 KiB on that generic_pt offers. */
const AMD_PGSIZES = 0x7f7_ffff_f000n;
/** A three-level VT-d table; AMD-Vi grows its tables. */
const INTEL_APERTURE = 0x7f_ffff_ffffn;
const AMD_APERTURE = 0xffff_ffff_ffffn;

/** Page sizes of a bitmap as log2, largest first. */
function shiftsOf(pgsizes: bigint): readonly number[] {
	const shifts: number[] = [];
	for (let bit = 47; bit >= 12; bit--) if ((pgsizes >> BigInt(bit)) & 1n) shifts.push(bit);
	return shifts;
}

const INTEL_SHIFTS = shiftsOf(INTEL_PGSIZES);
const AMD_SHIFTS = shiftsOf(AMD_PGSIZES);

/** What the driver keeps of a domain. */
export class hardwareDomain {
	iommu: Iommu;
	hw: IommuDomain;
	/** Mapped, not synced. */
	pending: IommuTable = new IommuTable();
	/** Page sizes as log2, largest first. */
	readonly shifts: readonly number[];

	/** @param iommu - the machine's IOMMU */
	constructor(iommu: Iommu) {
		this.iommu = iommu;
		this.hw = iommu.makeDomain();
		this.shifts = iommu.kind === 'intel' ? INTEL_SHIFTS : AMD_SHIFTS;
	}
}

/**
 * The hardware's side of a domain.
 *
 * @param domain - a domain that makeHardwareDomain() made
 */
export function hardwareOf(domain: iommu_domain): hardwareDomain {
	return domain.driverData as hardwareDomain;
}

/** log2 of the largest page that fits at both addresses and in what is left; 0: none. */
function bestPage(shifts: readonly number[], addresses: bigint, left: bigint): number {
	for (const shift of shifts) {
		const mask = (1n << BigInt(shift)) - 1n;
		if ((addresses & mask) === 0n && left > mask) return shift;
	}
	return 0;
}

function mapPages(
	domain: iommu_domain,
	iova: bigint,
	paddr: bigint,
	size: bigint,
	prot: int,
	mapped: out<size_t>,
): int {
	if (size === 0n) return -EINVAL;
	const { hw, pending, shifts } = hardwareOf(domain);
	const last = iova + size - 1n;
	if (last > domain.geometry.aperture_end) return -ERANGE;
	const rights =
		(prot & IOMMU_READ ? IOMMU_PROT_READ : 0) |
		(prot & IOMMU_WRITE ? IOMMU_PROT_WRITE : 0);
	for (let done = 0n; done < size; ) {
		const at = iova + done;
		const shift = bestPage(shifts, at | (paddr + done), size - done);
		if (shift === 0) return -ENXIO;
		const bytes = 1n << BigInt(shift);
		if (hw.table.overlaps(at, at + bytes - 1n) || pending.overlaps(at, at + bytes - 1n))
			return -EADDRINUSE;
		pending.insert(at, new IommuEntry(paddr + done, shift, rights));
		done += bytes;
		mapped.value = done;
	}
	return 0;
}

function vtdss_map_range(
	domain: iommu_domain,
	iova: unsigned_long,
	paddr: phys_addr_t,
	size: size_t,
	prot: int,
	mapped: out<size_t>,
): int {
	if (WARN_ON((prot & (IOMMU_READ | IOMMU_WRITE)) === 0)) return -EINVAL;
	return mapPages(domain, iova, paddr as bigint, size, prot, mapped);
}

function amdv1_map_range(
	domain: iommu_domain,
	iova: unsigned_long,
	paddr: phys_addr_t,
	size: size_t,
	prot: int,
	mapped: out<size_t>,
): int {
	if (WARN_ON((prot & (IOMMU_READ | IOMMU_WRITE)) === 0)) return -EINVAL;
	return mapPages(domain, iova, paddr as bigint, size, prot, mapped);
}

function unmap_range(
	domain: iommu_domain,
	iova: unsigned_long,
	size: size_t,
	gather: iommu_iotlb_gather,
): size_t {
	const { hw, pending } = hardwareOf(domain);
	let done = 0n;
	while (done < size) {
		const at = iova + done;
		let table = hw.table;
		let entry = table.lookup(at);
		if (entry === null && pending.sizes.size > 0) {
			table = pending;
			entry = table.lookup(at);
		}
		if (entry === null || (at & ((1n << BigInt(entry.shift)) - 1n)) !== 0n) break;
		table.remove(at, entry.shift);
		done += 1n << BigInt(entry.shift);
	}
	if (done > 0n) iommu_iotlb_gather_add_range(gather, iova, done);
	return done;
}

function iotlb_sync_map(domain: iommu_domain, iova: unsigned_long, size: size_t): int {
	const { hw, pending } = hardwareOf(domain);
	if (size === 0n) return 0;
	const last = iova + size - 1n;
	for (const [size_, pages] of pending.sizes) {
		const shift = BigInt(size_);
		const from = iova >> shift;
		const to = last >> shift;
		for (const [page, entry] of pages) {
			if (page < from || page > to) continue;
			hw.table.insert(page << shift, entry);
			pages.delete(page);
		}
		if (pages.size === 0) pending.sizes.delete(size_);
	}
	return 0;
}

function iotlb_sync(domain: iommu_domain, gather: iommu_iotlb_gather): void {
	if (gather.end === 0n) return;
	const { iommu, hw } = hardwareOf(domain);
	iommu.flushIotlb(hw, gather.start, gather.end - gather.start + 1n);
}

function flush_iotlb_all(domain: iommu_domain): void {
	const { iommu, hw } = hardwareOf(domain);
	iommu.flushIotlb(hw);
}

function iova_to_phys(domain: iommu_domain, iova: dma_addr_t): phys_addr_t {
	const { hw, pending } = hardwareOf(domain);
	const entry = hw.table.lookup(iova as bigint) ?? pending.lookup(iova as bigint);
	if (entry === null) return 0n;
	return entry.phys + ((iova as bigint) & ((1n << BigInt(entry.shift)) - 1n));
}

const shared = { unmap_range, iotlb_sync_map, iotlb_sync, flush_iotlb_all, iova_to_phys };
const intelOps: iommu_domain_ops = { map_range: vtdss_map_range, ...shared };
const amdOps: iommu_domain_ops = { map_range: amdv1_map_range, ...shared };

/**
 * Make a domain on the machine's IOMMU.
 *
 * @param iommu - the machine's IOMMU
 * @param type - IOMMU_DOMAIN_DMA or IOMMU_DOMAIN_DMA_FQ
 */
export function makeHardwareDomain(iommu: Iommu, type: unsigned_int): iommu_domain {
	const intel = iommu.kind === 'intel';
	const domain = new iommu_domain(
		type,
		intel ? intelOps : amdOps,
		intel ? INTEL_APERTURE : AMD_APERTURE,
	);
	domain.pgsize_bitmap = intel ? INTEL_PGSIZES : AMD_PGSIZES;
	domain.driverData = new hardwareDomain(iommu);
	return domain;
}
