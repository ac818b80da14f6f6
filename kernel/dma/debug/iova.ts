// SPDX-License-Identifier: GPL-2.0-only
/**
 * What dma-debug does not follow and the harness does: ranges of the two-step API and their links.
 *
 * Guarantee: a range that is never freed, a range freed with links in it, and an unlink whose
 * direction or attributes are not the link's are reported. The kernel is silent about all of these,
 * so these reports begin with DMA-IOVA and not with DMA-API.
 */
import { fileReport } from '../../../include/linux/bug.ts';
import { dev_driver_string, dev_name, type device } from '../../../include/linux/device.ts';
import type { dma_data_direction } from '../../../include/linux/dma-direction.ts';
import type { dma_addr_t, size_t, unsigned_long } from '../../../include/linux/types.ts';
import { formatTrace, takeOrigin } from '../../../include/sim/origin.ts';
import { perWorld } from '../../../include/sim/world.ts';
import { DEBUG_ATTRS_COMPARED } from './check.ts';
import { dirName, hex16 } from './entry.ts';

/** One successful dma_iova_link(). */
export interface iovaLink {
	readonly dir: dma_data_direction;
	readonly attrs: unsigned_long;
	/** Where it was linked. */
	readonly origin: Error | null;
}

/** A range that dma_iova_try_alloc() gave. */
export class iovaRange {
	dev: device;
	/** Page number of the first page. */
	first: number;
	size: size_t;
	/** Link of each linked page, by its page number. */
	links: Map<number, iovaLink> = new Map();
	/** Where it was allocated. */
	origin: Error | null = takeOrigin();

	/**
	 * @param dev - the device
	 * @param first - page number of the first page
	 * @param size - bytes
	 */
	constructor(dev: device, first: number, size: size_t) {
		this.dev = dev;
		this.first = first;
		this.size = size;
	}
}

/** Live ranges of the installed world: by device, then by the page number of the first page. */
export const iovaRanges = perWorld(() => new Map<device, Map<number, iovaRange>>());

function pageOf(addr: dma_addr_t): number {
	return Number((addr as bigint) >> 12n);
}

function rangeAt(dev: device, start: dma_addr_t): iovaRange | undefined {
	return iovaRanges().get(dev)?.get(pageOf(start));
}

function report(kind: 'DMA-API' | 'leak', dev: device, message: string, lines: string[]): void {
	fileReport(kind, `DMA-IOVA: ${dev_driver_string(dev)} ${dev_name(dev)}: ${message}`, lines);
}

/** Enter a range. */
export function trackIovaAlloc(dev: device, start: dma_addr_t, size: size_t): void {
	const ranges = iovaRanges();
	let ofDevice = ranges.get(dev);
	if (ofDevice === undefined) {
		ofDevice = new Map();
		ranges.set(dev, ofDevice);
	}
	ofDevice.set(pageOf(start), new iovaRange(dev, pageOf(start), size));
}

/**
 * Enter a link.
 *
 * @param start - first byte of the range
 * @param addr - first byte that was linked
 * @param size - bytes, whole pages
 */
export function trackIovaLink(
	dev: device,
	start: dma_addr_t,
	addr: dma_addr_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): void {
	const range = rangeAt(dev, start);
	if (range === undefined) return;
	const link = { dir, attrs, origin: takeOrigin() };
	const end = pageOf((addr as bigint) + size - 1n);
	for (let page = pageOf(addr); page <= end; page++) range.links.set(page, link);
}

/**
 * Strike links out, comparing how they were made.
 *
 * @param start - first byte of the range
 * @param addr - first byte that is unlinked
 * @param size - bytes that the IOMMU unmapped
 */
export function trackIovaUnlink(
	dev: device,
	start: dma_addr_t,
	addr: dma_addr_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): void {
	const range = rangeAt(dev, start);
	if (range === undefined || size === 0n) return;
	const end = pageOf((addr as bigint) + size - 1n);
	let last: iovaLink | undefined;
	for (let page = pageOf(addr); page <= end; page++) {
		const link = range.links.get(page);
		range.links.delete(page);
		if (link === undefined || link === last) continue;
		last = link;
		const at = `[device address=${hex16(BigInt(page) << 12n)}] [size=${size} bytes]`;
		if (link.dir !== dir)
			report(
				'DMA-API',
				dev,
				`device driver unlinks IOVA with different direction ${at} ` +
					`[linked with ${dirName(link.dir)}] [unlinked with ${dirName(dir)}]`,
				['Linked at:', ...formatTrace(link.origin)],
			);
		if ((link.attrs ^ attrs) & DEBUG_ATTRS_COMPARED)
			report(
				'DMA-API',
				dev,
				`device driver unlinks IOVA with different attributes ${at} ` +
					`[linked with 0x${link.attrs.toString(16)}] [unlinked with 0x${attrs.toString(16)}]`,
				['Linked at:', ...formatTrace(link.origin)],
			);
	}
}

/** Strike a range out; links that are still in it are reported. */
export function trackIovaFree(dev: device, start: dma_addr_t): void {
	const range = rangeAt(dev, start);
	if (range === undefined) {
		report(
			'DMA-API',
			dev,
			`device driver frees an IOVA range it has not allocated [device address=${hex16(start as bigint)}]`,
			[],
		);
		return;
	}
	iovaRanges().get(dev)?.delete(range.first);
	const [left] = range.links;
	if (left === undefined) return;
	const [page, link] = left;
	report(
		'DMA-API',
		dev,
		`device driver frees an IOVA range with ${range.links.size} pages still linked ` +
			`[device address=${hex16(BigInt(page) << 12n)}] [linked with ${dirName(link.dir)}]`,
		['Linked at:', ...formatTrace(link.origin)],
	);
}

/** Report every range that was not freed. */
export function checkIovaLeaks(): void {
	for (const ofDevice of iovaRanges().values())
		for (const range of ofDevice.values())
			report(
				'leak',
				range.dev,
				'leaked IOVA range ' +
					`[device address=${hex16(BigInt(range.first) << 12n)}] [size=${range.size} bytes] ` +
					`[${range.links.size} pages linked]`,
				['Allocated at:', ...formatTrace(range.origin)],
			);
}
