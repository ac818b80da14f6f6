// SPDX-License-Identifier: GPL-2.0-only
/** Where the DMA API tells dma-debug what it did: one call for each that a driver makes. */
import type { device } from '../../../include/linux/device.ts';
import {
	DMA_BIDIRECTIONAL,
	type dma_data_direction,
} from '../../../include/linux/dma-direction.ts';
import { DMA_ATTR_MMIO, DMA_MAPPING_ERROR } from '../../../include/linux/dma-mapping.ts';
import { pfn_to_page, pfn_valid } from '../../../include/linux/mmzone.ts';
import { is_zone_device_page } from '../../../include/linux/page-flags.ts';
import { type scatterlist, sg_phys, sgEntries } from '../../../include/linux/scatterlist.ts';
import {
	type dma_addr_t,
	type int,
	PAGE_SHIFT,
	type phys_addr_t,
	type size_t,
	type unsigned_long,
} from '../../../include/linux/types.ts';
import { active_cacheline_insert } from './cacheline.ts';
import { check_sg_segment, check_sync, check_unmap } from './check.ts';
import {
	bucket_find_exact,
	dirName,
	dma_debug_coherent,
	dma_debug_entry,
	dma_debug_sg,
	dma_debug_single,
	dmaDebug,
	err_printk,
	hash_bucket_add,
	hex16,
	liveEntries,
	MAP_ERR_CHECKED,
	MAP_ERR_NOT_CHECKED,
	typeName,
} from './entry.ts';

function add_dma_entry(entry: dma_debug_entry): void {
	hash_bucket_add(entry);
	active_cacheline_insert(entry);
}

/**
 * A range was mapped.
 *
 * @param type - how it is entered
 * @kernel kernel/dma/debug.c
 */
export function debug_dma_map_phys(
	dev: device,
	phys: phys_addr_t,
	size: size_t,
	direction: dma_data_direction,
	dma_addr: dma_addr_t,
	attrs: unsigned_long,
	type: int,
): void {
	if (dma_addr === DMA_MAPPING_ERROR) return;
	if (attrs & DMA_ATTR_MMIO) {
		const pfn = (phys as bigint) >> PAGE_SHIFT;
		if (pfn_valid(pfn) && !is_zone_device_page(pfn_to_page(pfn)))
			err_printk(
				dev,
				null,
				`dma_map_resource called for RAM address ${hex16(phys as bigint)}`,
			);
	}
	const entry = new dma_debug_entry(dev, dma_addr, size, type, direction);
	entry.paddr = phys;
	entry.map_err_type = MAP_ERR_NOT_CHECKED;
	entry.attrs = attrs;
	add_dma_entry(entry);
}

/**
 * A range is about to be unmapped.
 *
 * @param type - how it was entered
 * @kernel kernel/dma/debug.c
 */
export function debug_dma_unmap_phys(
	dev: device,
	addr: dma_addr_t,
	size: size_t,
	direction: dma_data_direction,
	attrs: unsigned_long,
	type: int,
): void {
	const ref = new dma_debug_entry(dev, addr, size, type, direction);
	ref.attrs = attrs;
	check_unmap(ref);
}

/**
 * The caller looked whether a mapping failed: the oldest unchecked one at the address is checked.
 *
 * @kernel kernel/dma/debug.c
 */
export function debug_dma_mapping_error(dev: device, dma_addr: dma_addr_t): void {
	const bucket = dmaDebug()
		.buckets.get(dev)
		?.get(Number((dma_addr as bigint) >> 13n));
	if (bucket === undefined) return;
	for (const entry of bucket) {
		if (entry.dev_addr !== dma_addr || entry.map_err_type !== MAP_ERR_NOT_CHECKED)
			continue;
		entry.map_err_type = MAP_ERR_CHECKED;
		return;
	}
}

/**
 * A scatterlist was mapped.
 *
 * @kernel kernel/dma/debug.c
 */
export function debug_dma_map_sg(
	dev: device,
	sg: scatterlist,
	nents: int,
	mapped_ents: int,
	direction: dma_data_direction,
	attrs: unsigned_long,
): void {
	for (const s of sgEntries(sg, mapped_ents)) {
		const size = BigInt(s.dma_length);
		const entry = new dma_debug_entry(
			dev,
			s.dma_address,
			size,
			dma_debug_sg,
			direction,
		);
		entry.paddr = s.page === null ? 0n : sg_phys(s);
		entry.sg_call_ents = nents;
		entry.sg_mapped_ents = mapped_ents;
		entry.attrs = attrs;
		check_sg_segment(dev, s);
		add_dma_entry(entry);
	}
}

function sgRef(
	dev: device,
	s: scatterlist,
	nelems: int,
	dir: dma_data_direction,
	attrs: unsigned_long,
): dma_debug_entry {
	const ref = new dma_debug_entry(
		dev,
		s.dma_address,
		BigInt(s.dma_length),
		dma_debug_sg,
		dir,
	);
	ref.paddr = s.page === null ? 0n : sg_phys(s);
	ref.sg_call_ents = nelems;
	ref.attrs = attrs;
	return ref;
}

/**
 * A scatterlist is about to be unmapped.
 *
 * @kernel kernel/dma/debug.c
 */
export function debug_dma_unmap_sg(
	dev: device,
	sglist: scatterlist,
	nelems: int,
	dir: dma_data_direction,
	attrs: unsigned_long,
): void {
	let mapped_ents = 0;
	let i = 0;
	for (const s of sgEntries(sglist, nelems)) {
		const ref = sgRef(dev, s, nelems, dir, attrs);
		if (mapped_ents > 0 && i >= mapped_ents) break;
		if (i === 0) mapped_ents = bucket_find_exact(ref)?.sg_mapped_ents ?? 0;
		check_unmap(ref);
		i++;
	}
}

/**
 * Coherent memory was allocated.
 *
 * @kernel kernel/dma/debug.c
 */
export function debug_dma_alloc_coherent(
	dev: device,
	size: size_t,
	dma_addr: dma_addr_t,
	phys: phys_addr_t,
	attrs: unsigned_long,
): void {
	const entry = new dma_debug_entry(
		dev,
		dma_addr,
		size,
		dma_debug_coherent,
		DMA_BIDIRECTIONAL,
	);
	entry.paddr = phys;
	entry.attrs = attrs;
	add_dma_entry(entry);
}

/**
 * Coherent memory is about to be freed.
 *
 * @kernel kernel/dma/debug.c
 */
export function debug_dma_free_coherent(
	dev: device,
	size: size_t,
	phys: phys_addr_t,
	addr: dma_addr_t,
	attrs: unsigned_long,
): void {
	const ref = new dma_debug_entry(dev, addr, size, dma_debug_coherent, DMA_BIDIRECTIONAL);
	ref.paddr = phys;
	ref.attrs = attrs;
	check_unmap(ref);
}

/**
 * A range is about to be synced.
 *
 * @param toCpu - for the CPU, else for the device
 * @kernel kernel/dma/debug.c (as debug_dma_sync_single_for_cpu)
 */
export function debug_dma_sync_single(
	dev: device,
	dma_handle: dma_addr_t,
	size: size_t,
	direction: dma_data_direction,
	toCpu: boolean,
): void {
	const ref = new dma_debug_entry(dev, dma_handle, size, dma_debug_single, direction);
	check_sync(dev, ref, toCpu);
}

/**
 * A scatterlist is about to be synced.
 *
 * @param toCpu - for the CPU, else for the device
 * @kernel kernel/dma/debug.c (as debug_dma_sync_sg_for_cpu)
 */
export function debug_dma_sync_sg(
	dev: device,
	sg: scatterlist,
	nelems: int,
	direction: dma_data_direction,
	toCpu: boolean,
): void {
	let mapped_ents = 0;
	let i = 0;
	for (const s of sgEntries(sg, nelems)) {
		const ref = sgRef(dev, s, nelems, direction, 0n);
		if (i === 0) mapped_ents = bucket_find_exact(ref)?.sg_mapped_ents ?? 0;
		if (i >= mapped_ents) break;
		check_sync(dev, ref, toCpu);
		i++;
	}
}

/**
 * A driver was unbound from its device: nothing may be mapped any more.
 *
 * @param dev - the device
 * @kernel kernel/dma/debug.c
 */
export function dma_debug_device_change(dev: device): void {
	let count = 0;
	let last: dma_debug_entry | null = null;
	for (const entry of liveEntries(dev)) {
		count++;
		last = entry;
	}
	if (last === null) return;
	err_printk(
		dev,
		last,
		`device driver has pending DMA allocations while released from device [count=${count}]\n` +
			`One of leaked entries details: [device address=${hex16(last.dev_addr as bigint)}] ` +
			`[size=${last.size} bytes] [mapped with ${dirName(last.direction)}] ` +
			`[mapped as ${typeName(last.type)}]`,
	);
}
