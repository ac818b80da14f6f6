// SPDX-License-Identifier: GPL-2.0-only
/**
 * IOMMU hardware: a domain for each requester, translation of its DMA addresses, a fault log.
 *
 *     requester id ──> domain ── iova ──> IOTLB entry (stale until flushed)
 *                               else ──> page table ──> CPU physical address
 *                               else ──> fault record, the request is unsupported
 *
 * Guarantee: what a device reaches is what its domain maps, or what it mapped when the IOTLB last looked.
 *
 * Mechanism: one map of entries a page size, keyed by the page's number at that size. A mapping takes the
 * largest pages that alignment allows (VT-d: 4 KiB, 2 MiB, 1 GiB; AMD-Vi: every power of two), and is taken
 * apart only in whole pages: unmap() says how much went.
 *
 * Duty: the kernel attaches domains, and flushes after unmap() when it wants the right to be gone.
 */
import { HarnessError } from '../../include/sim/report.ts';
import { touch } from '../../include/sim/schedule.ts';

/** The device may read. */
export const IOMMU_PROT_READ = 1;
/** The device may write. */
export const IOMMU_PROT_WRITE = 2;

/** Fault records that the hardware keeps; older ones are dropped, as its ring does. */
export const FAULT_LOG_MAX = 1024;

/** Page sizes of VT-d, as log2, largest first. */
const INTEL_PAGE_SHIFTS: readonly number[] = [30, 21, 12];
/** AMD-Vi has every power of two. */
const AMD_PAGE_SHIFTS: readonly number[] = Array.from({ length: 36 }, (_, i) => 47 - i);

/** A page of a domain. */
export class IommuEntry {
	/** First CPU physical address. */
	phys: bigint;
	/** log2 of its size. */
	shift: number;
	/** IOMMU_PROT_* bits. */
	prot: number;

	constructor(phys: bigint, shift: number, prot: number) {
		this.phys = phys;
		this.shift = shift;
		this.prot = prot;
	}
}

/** Entries by page number, one map for each page size in use. */
export class IommuTable {
	/** By log2 of the page size, then by the page's number at that size. */
	sizes: Map<number, Map<bigint, IommuEntry>> = new Map();

	/** The entry that covers an address. */
	lookup(iova: bigint): IommuEntry | null {
		for (const [shift, pages] of this.sizes) {
			const entry = pages.get(iova >> BigInt(shift));
			if (entry !== undefined) return entry;
		}
		return null;
	}

	/** Put an entry at the page of its size that covers an address. */
	insert(iova: bigint, entry: IommuEntry): void {
		let pages = this.sizes.get(entry.shift);
		if (pages === undefined) {
			pages = new Map();
			this.sizes.set(entry.shift, pages);
		}
		pages.set(iova >> BigInt(entry.shift), entry);
	}

	/** Take away the entry of a size that covers an address. */
	remove(iova: bigint, shift: number): void {
		const pages = this.sizes.get(shift);
		pages?.delete(iova >> BigInt(shift));
		if (pages?.size === 0) this.sizes.delete(shift);
	}

	/** Whether any entry overlaps a range. */
	overlaps(first: bigint, last: bigint): boolean {
		for (const [size, pages] of this.sizes) {
			const shift = BigInt(size);
			const [from, to] = [first >> shift, last >> shift];
			// Look up the range's pages or look through the entries, whichever is less.
			if (to - from < BigInt(pages.size)) {
				for (let page = from; page <= to; page++)
					if (pages.has(page)) return true;
			} else {
				for (const page of pages.keys())
					if (page >= from && page <= to) return true;
			}
		}
		return false;
	}

	/** Take away every entry that overlaps a range. */
	removeRange(first: bigint, last: bigint): void {
		for (const [size, pages] of this.sizes) {
			const shift = BigInt(size);
			const [from, to] = [first >> shift, last >> shift];
			if (to - from < BigInt(pages.size)) {
				for (let page = from; page <= to; page++) pages.delete(page);
			} else {
				for (const page of pages.keys())
					if (page >= from && page <= to) pages.delete(page);
			}
		}
	}

	/** Forget everything. */
	clear(): void {
		this.sizes.clear();
	}
}

/** An I/O address space. */
export class IommuDomain {
	id: number;
	/** What the kernel has mapped. */
	table: IommuTable = new IommuTable();
	/** What the hardware remembers of it. */
	iotlb: IommuTable = new IommuTable();

	/** @param id - as fault records show it */
	constructor(id: number) {
		this.id = id;
	}
}

/** A refused translation. */
export interface IommuFault {
	/** `dddd:bb:dd.f` of the requester id. */
	requester: string;
	address: bigint;
	write: boolean;
	/**
	 * VT-d fault reason: 0x02 no domain, 0x05 no write access, 0x06 no read access, 0x0d a translated
	 * request of a function without ATS.
	 */
	reason: number;
	/** The line that the kernel prints for it. */
	text: string;
}

const REASON_TEXT: Readonly<Record<number, string>> = {
	2: 'Present bit in context entry is clear',
	5: 'PTE Write access is not set',
	6: 'PTE Read access is not set',
	13: 'PCE for translation request specifies blocking',
};

/** VT-d: the translation type in the context entry blocks translation and translated requests. */
const BLOCKED = 0x0d;

/** The IOMMU of a machine; one for all its host bridges. */
export class Iommu {
	/** Whose: decides the wording of fault records. */
	kind: 'intel' | 'amd';
	/** How the firmware and the command line set it up; `identity`: unattached requesters pass. */
	domains: 'dma' | 'dma-fq' | 'identity';
	/** Domain of each requester, by segment * 65536 + requester id. */
	attached: Map<number, IommuDomain>;
	faultLog: IommuFault[];
	/** Domains made so far. */
	domainCount: number;
	/** IOTLB flushes that the kernel asked for. */
	flushes: number;

	constructor(kind: 'intel' | 'amd', domains: 'dma' | 'dma-fq' | 'identity') {
		this.kind = kind;
		this.domains = domains;
		this.attached = new Map();
		this.faultLog = [];
		this.domainCount = 0;
		this.flushes = 0;
	}

	/** A new, empty domain, attached to nobody. */
	makeDomain(): IommuDomain {
		return new IommuDomain(++this.domainCount);
	}

	/**
	 * Let a requester's DMA go through a domain.
	 *
	 * @param segment - PCI domain number
	 * @param requesterId - bus number and devfn as its requests carry them
	 * @param domain - null: detach; it then passes through or faults, see `domains`
	 */
	attach(segment: number, requesterId: number, domain: IommuDomain | null): void {
		const key = segment * 65536 + requesterId;
		if (domain === null) this.attached.delete(key);
		else this.attached.set(key, domain);
	}

	/** The domain of a requester, or null. */
	domainOf(segment: number, requesterId: number): IommuDomain | null {
		return this.attached.get(segment * 65536 + requesterId) ?? null;
	}

	/**
	 * Map a range.
	 *
	 * @param domain - where
	 * @param iova - first I/O address, page-aligned
	 * @param phys - first CPU physical address, page-aligned
	 * @param size - bytes, whole pages
	 * @param prot - IOMMU_PROT_* bits
	 * @returns bytes mapped: less than `size` where a page was already there
	 */
	map(domain: IommuDomain, iova: bigint, phys: bigint, size: bigint, prot: number): bigint {
		if (((iova | phys | size) & 4095n) !== 0n) {
			throw new HarnessError(
				'Iommu.map()',
				'addresses and size are whole pages of 4096 bytes',
			);
		}
		const shifts = this.kind === 'intel' ? INTEL_PAGE_SHIFTS : AMD_PAGE_SHIFTS;
		touch('pte-write', domain, 'iopt');
		let done = 0n;
		while (done < size) {
			const at = iova + done;
			const shift = largestPage(shifts, at | (phys + done), size - done);
			const bytes = 1n << BigInt(shift);
			if (domain.table.overlaps(at, at + bytes - 1n)) return done;
			domain.table.insert(at, new IommuEntry(phys + done, shift, prot));
			done += bytes;
		}
		return done;
	}

	/**
	 * Unmap a range. The walk stops at a hole, and at a page that began before the range; a page that
	 * straddles the end goes as a whole. IOTLB entries stay.
	 *
	 * @param domain - where
	 * @param iova - first I/O address
	 * @param size - bytes
	 * @returns bytes unmapped: less than `size` at a hole, more for a straddling page
	 */
	unmap(domain: IommuDomain, iova: bigint, size: bigint): bigint {
		touch('pte-write', domain, 'iopt');
		let done = 0n;
		while (done < size) {
			const at = iova + done;
			const entry = domain.table.lookup(at);
			if (entry === null || (at & ((1n << BigInt(entry.shift)) - 1n)) !== 0n)
				break;
			domain.table.remove(at, entry.shift);
			done += 1n << BigInt(entry.shift);
		}
		return done;
	}

	/** CPU physical address that a domain maps an I/O address to, by the page table; null: none. */
	iovaToPhys(domain: IommuDomain, iova: bigint): bigint | null {
		const entry = domain.table.lookup(iova);
		return entry === null ? null : entryAddress(entry, iova);
	}

	/**
	 * Forget remembered translations.
	 *
	 * @param domain - of which domain
	 * @param iova - first address; absent: all of the domain
	 * @param size - bytes
	 */
	flushIotlb(domain: IommuDomain, iova?: bigint, size: bigint = 4096n): void {
		touch('flush', domain, 'iotlb');
		this.flushes++;
		if (iova === undefined) {
			domain.iotlb.clear();
			return;
		}
		domain.iotlb.removeRange(iova, iova + size - 1n);
	}

	/**
	 * What the hardware does with a request at the root.
	 *
	 * @returns the CPU physical address, or null after a fault record
	 */
	translate(
		segment: number,
		requesterId: number,
		address: bigint,
		write: boolean,
	): bigint | null {
		const domain = this.domainOf(segment, requesterId);
		if (domain === null) {
			if (this.domains === 'identity') return address;
			this.fault(segment, requesterId, 0, address, write, 0x02);
			return null;
		}
		touch('pte-read', domain, 'iopt');
		touch('read', domain, 'iotlb');
		const need = write ? IOMMU_PROT_WRITE : IOMMU_PROT_READ;
		const cached = domain.iotlb.lookup(address);
		if (cached !== null && (cached.prot & need) !== 0)
			return entryAddress(cached, address);
		const entry = domain.table.lookup(address);
		if (entry === null || (entry.prot & need) === 0) {
			this.fault(
				segment,
				requesterId,
				domain.id,
				address,
				write,
				write ? 0x05 : 0x06,
			);
			return null;
		}
		domain.iotlb.insert(address, entry);
		return entryAddress(entry, address);
	}

	/**
	 * What the hardware does with a request that says its address is translated already. It takes the
	 * requester's word only where ATS is on for it.
	 *
	 * @param ats - whether the requester has ATS and it is enabled
	 * @returns the address, or null after a fault record
	 */
	passTranslated(
		segment: number,
		requesterId: number,
		address: bigint,
		write: boolean,
		ats: boolean,
	): bigint | null {
		const domain = this.domainOf(segment, requesterId);
		const known = domain !== null || this.domains === 'identity';
		if (known && ats) return address;
		this.fault(
			segment,
			requesterId,
			domain?.id ?? 0,
			address,
			write,
			known ? BLOCKED : 0x02,
		);
		return null;
	}

	private fault(
		segment: number,
		requesterId: number,
		domainId: number,
		address: bigint,
		write: boolean,
		reason: number,
	): void {
		const hex = (n: number, width: number) => n.toString(16).padStart(width, '0');
		const device = `${hex(requesterId >> 8, 2)}:${hex((requesterId >> 3) & 31, 2)}.${requesterId & 7}`;
		const requester = `${hex(segment, 4)}:${device}`;
		const page = (address & ~4095n).toString(16);
		const text =
			this.kind === 'intel'
				? `DMAR: [DMA ${write ? 'Write' : 'Read'} NO_PASID] Request device [${device}] ` +
					`fault addr 0x${page} [fault reason 0x${hex(reason, 2)}] ${REASON_TEXT[reason]}`
				: reason === BLOCKED
					? `AMD-Vi: Event logged [INVALID_DEVICE_REQUEST device=${requester} ` +
						`pasid=0x00000 address=0x${address.toString(16)} ` +
						`flags=0x${hex(write ? 0x20 : 0, 4)} tag=0x000]`
					: `AMD-Vi: Event logged [IO_PAGE_FAULT device=${requester} domain=0x${hex(domainId, 4)} ` +
						`address=0x${address.toString(16)} flags=0x${hex(write ? 0x20 : 0, 4)}]`;
		if (this.faultLog.length >= FAULT_LOG_MAX) this.faultLog.shift();
		this.faultLog.push({ requester, address, write, reason, text });
	}

	/** Text of the newest fault record. */
	lastFault(): string {
		return this.faultLog[this.faultLog.length - 1]?.text ?? '';
	}
}

/** log2 of the largest page that fits at both addresses (or-ed together) and in the rest of the range. */
function largestPage(shifts: readonly number[], addresses: bigint, left: bigint): number {
	for (const shift of shifts) {
		const mask = (1n << BigInt(shift)) - 1n;
		if ((addresses & mask) === 0n && left > mask) return shift;
	}
	return 12;
}

function entryAddress(entry: IommuEntry, iova: bigint): bigint {
	return entry.phys + (iova & ((1n << BigInt(entry.shift)) - 1n));
}
