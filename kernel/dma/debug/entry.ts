// SPDX-License-Identifier: GPL-2.0-only
/**
 * dma-debug's book: every live mapping, found by device and address.
 *
 * Mechanism: as in C a hash of buckets, each holding what was mapped in 8 KiB of addresses, oldest
 * first; unlike C one hash for each device, and buckets are made when used and dropped when empty.
 */
import { fileReport } from '../../../include/linux/bug.ts';
import { dev_driver_string, dev_name, type device } from '../../../include/linux/device.ts';
import type { dma_data_direction } from '../../../include/linux/dma-direction.ts';
import { dma_get_max_seg_size } from '../../../include/linux/dma-mapping.ts';
import type {
	dma_addr_t,
	int,
	phys_addr_t,
	u64,
	unsigned_long,
} from '../../../include/linux/types.ts';
import { formatTrace, takeOrigin } from '../../../include/sim/origin.ts';
import { feature, perWorld } from '../../../include/sim/world.ts';

export const dma_debug_single = 0;
export const dma_debug_sg = 1;
export const dma_debug_coherent = 2;
/** v7.3: map_page, map_phys and map_resource. */
export const dma_debug_phy = 4;
/** v6.12: map_resource; its number there is 3, and noncoherent's 4. */
export const dma_debug_resource = 5;

const typeNames = ['single', 'scatter-gather', 'coherent', 'noncoherent', 'phy', 'resource'];
const dirNames = ['DMA_BIDIRECTIONAL', 'DMA_TO_DEVICE', 'DMA_FROM_DEVICE', 'DMA_NONE'];

/** Name of a type of entry, as reports have it. */
export function typeName(type: int): string {
	return typeNames[type] ?? 'unknown';
}

/** Name of a direction, as reports have it. */
export function dirName(dir: dma_data_direction): string {
	return dirNames[dir] ?? 'unknown';
}

export const MAP_ERR_CHECK_NOT_APPLICABLE = 0;
export const MAP_ERR_NOT_CHECKED = 1;
export const MAP_ERR_CHECKED = 2;

/**
 * A live mapping, or what an unmap or a sync says of one.
 *
 * @kernel kernel/dma/debug.c
 */
export class dma_debug_entry {
	dev: device;
	dev_addr: dma_addr_t;
	size: u64;
	type: int;
	direction: dma_data_direction;
	sg_call_ents: int = 0;
	sg_mapped_ents: int = 0;
	paddr: phys_addr_t = 0n;
	map_err_type: int = MAP_ERR_CHECK_NOT_APPLICABLE;
	attrs: unsigned_long = 0n;
	/** Where it was mapped, when the world tracks origins. */
	origin: Error | null = null;

	/**
	 * @param dev - the device
	 * @param dev_addr - its address
	 * @param size - bytes
	 * @param type - dma_debug_*
	 * @param direction - direction
	 */
	constructor(
		dev: device,
		dev_addr: dma_addr_t,
		size: u64,
		type: int,
		direction: dma_data_direction,
	) {
		this.dev = dev;
		this.dev_addr = dev_addr;
		this.size = size;
		this.type = type;
		this.direction = direction;
	}
}

/** dma-debug of one world. */
export class dmaDebugState {
	/** Buckets of each device, by address >> 13. */
	buckets: Map<device, Map<number, dma_debug_entry[]>> = new Map();
	/** Live entries. */
	count = 0;
	/** The kernel was built with CONFIG_DMA_API_DEBUG: the API itself behaves differently. */
	config = false;
	/** CONFIG only: mappings of each cache line that a device may write, beyond the first. */
	cachelines: Map<number, number> = new Map();
}

/** dma-debug of the installed world. */
export const dmaDebug = perWorld(() => new dmaDebugState());

/**
 * Whether this kernel has CONFIG_DMA_API_DEBUG. The tracker is on in any case; the option changes
 * what dma_need_unmap() and dma_map_page_attrs() answer.
 */
export function dmaApiDebug(): boolean {
	return dmaDebug().config;
}

/** The type under which map_page, and map_resource, are entered. */
export function pageType(resource: boolean): int {
	if (feature('dma_map_phys')) return dma_debug_phy;
	return resource ? dma_debug_resource : dma_debug_single;
}

const HASH_FN_SHIFT = 13n;

function bucketOf(dev: device, addr: dma_addr_t): dma_debug_entry[] | undefined {
	return dmaDebug()
		.buckets.get(dev)
		?.get(Number((addr as bigint) >> HASH_FN_SHIFT));
}

type matchFn = (ref: dma_debug_entry, entry: dma_debug_entry) => boolean;

function exact_match(ref: dma_debug_entry, entry: dma_debug_entry): boolean {
	return ref.dev_addr === entry.dev_addr;
}

function containing_match(ref: dma_debug_entry, entry: dma_debug_entry): boolean {
	const first = ref.dev_addr as bigint;
	const mapped = entry.dev_addr as bigint;
	return mapped <= first && mapped + entry.size >= first + ref.size;
}

/**
 * The entry that fits best. One candidate is taken whatever it is; of several only one that agrees
 * in size, type, direction and entry count, because any other could be the wrong one.
 */
function hash_bucket_find(
	bucket: dma_debug_entry[] | undefined,
	ref: dma_debug_entry,
	match: matchFn,
): dma_debug_entry | null {
	if (bucket === undefined) return null;
	let found: dma_debug_entry | null = null;
	let matches = 0;
	for (const entry of bucket) {
		if (!match(ref, entry)) continue;
		if (
			entry.size === ref.size &&
			entry.type === ref.type &&
			entry.direction === ref.direction &&
			entry.sg_call_ents === ref.sg_call_ents
		)
			return entry;
		matches++;
		found = entry;
	}
	return matches === 1 ? found : null;
}

/**
 * The live entry at exactly this address.
 *
 * @param ref - what is looked for
 * @kernel kernel/dma/debug.c
 */
export function bucket_find_exact(ref: dma_debug_entry): dma_debug_entry | null {
	return hash_bucket_find(bucketOf(ref.dev, ref.dev_addr), ref, exact_match);
}

/**
 * The live entry that contains this range, looked for no farther back than the device's longest
 * segment.
 *
 * @param ref - what is looked for
 * @kernel kernel/dma/debug.c
 */
export function bucket_find_contain(ref: dma_debug_entry): dma_debug_entry | null {
	const max_range = dma_get_max_seg_size(ref.dev);
	const step = 1n << HASH_FN_SHIFT;
	let addr = ref.dev_addr as bigint;
	for (let range = 0; range <= max_range; range += Number(step)) {
		const entry = hash_bucket_find(bucketOf(ref.dev, addr), ref, containing_match);
		if (entry !== null) return entry;
		if (addr < step) break;
		addr -= step;
	}
	return null;
}

/**
 * Enter a mapping.
 *
 * @param entry - the mapping
 * @kernel kernel/dma/debug.c
 */
export function hash_bucket_add(entry: dma_debug_entry): void {
	const debug = dmaDebug();
	let ofDevice = debug.buckets.get(entry.dev);
	if (ofDevice === undefined) {
		ofDevice = new Map();
		debug.buckets.set(entry.dev, ofDevice);
	}
	const key = Number((entry.dev_addr as bigint) >> HASH_FN_SHIFT);
	const bucket = ofDevice.get(key);
	if (bucket === undefined) ofDevice.set(key, [entry]);
	else bucket.push(entry);
	debug.count++;
	entry.origin = takeOrigin();
}

/**
 * Take a mapping out.
 *
 * @param entry - the mapping
 * @kernel kernel/dma/debug.c
 */
export function hash_bucket_del(entry: dma_debug_entry): void {
	const debug = dmaDebug();
	const ofDevice = debug.buckets.get(entry.dev);
	const key = Number((entry.dev_addr as bigint) >> HASH_FN_SHIFT);
	const bucket = ofDevice?.get(key);
	if (ofDevice === undefined || bucket === undefined) return;
	if (bucket.length === 1) ofDevice.delete(key);
	else bucket.splice(bucket.indexOf(entry), 1);
	debug.count--;
}

/** Every live entry, oldest first within a bucket. */
export function* liveEntries(dev: device | null = null): Iterable<dma_debug_entry> {
	for (const [owner, ofDevice] of dmaDebug().buckets)
		if (dev === null || owner === dev)
			for (const bucket of ofDevice.values()) yield* bucket;
}

/** An address as reports have it. */
export function hex16(value: bigint): string {
	return `0x${value.toString(16).padStart(16, '0')}`;
}

/**
 * File a finding in the kernel's wording.
 *
 * @param dev - the device
 * @param entry - the mapping it is about: the report says where it was mapped
 * @param message - what is wrong
 * @kernel kernel/dma/debug.c
 */
export function err_printk(dev: device, entry: dma_debug_entry | null, message: string): void {
	fileReport(
		'DMA-API',
		`DMA-API: ${dev_driver_string(dev)} ${dev_name(dev)}: ${message}`,
		entry === null ? [] : ['Mapped at:', ...formatTrace(entry.origin)],
	);
}
