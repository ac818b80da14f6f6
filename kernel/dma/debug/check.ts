// SPDX-License-Identifier: GPL-2.0-only
/** What dma-debug finds wrong with an unmap, a sync, or a segment. */
import type { device } from '../../../include/linux/device.ts';
import {
	DMA_BIDIRECTIONAL,
	DMA_FROM_DEVICE,
	DMA_TO_DEVICE,
} from '../../../include/linux/dma-direction.ts';
import {
	DMA_ATTR_CC_SHARED,
	DMA_ATTR_FORCE_CONTIGUOUS,
	DMA_ATTR_MMIO,
	DMA_ATTR_NO_KERNEL_MAPPING,
	DMA_ATTR_PRIVILEGED,
	DMA_ATTR_REQUIRE_COHERENT,
	DMA_MAPPING_ERROR,
	dma_get_max_seg_size,
	dma_get_seg_boundary,
} from '../../../include/linux/dma-mapping.ts';
import type { scatterlist } from '../../../include/linux/scatterlist.ts';
import { feature } from '../../../include/sim/world.ts';
import { active_cacheline_remove } from './cacheline.ts';
import {
	bucket_find_contain,
	bucket_find_exact,
	dirName,
	dma_debug_coherent,
	type dma_debug_entry,
	dma_debug_sg,
	err_printk,
	hash_bucket_del,
	hex16,
	MAP_ERR_NOT_CHECKED,
	typeName,
} from './entry.ts';

/** Attributes that must be the same at map and unmap; the others do not change what is undone. */
export const DEBUG_ATTRS_COMPARED =
	DMA_ATTR_NO_KERNEL_MAPPING |
	DMA_ATTR_FORCE_CONTIGUOUS |
	DMA_ATTR_MMIO |
	DMA_ATTR_REQUIRE_COHERENT |
	DMA_ATTR_PRIVILEGED |
	DMA_ATTR_CC_SHARED;

/** `[device address=…] [size=… bytes]` */
function where(ref: dma_debug_entry): string {
	return `[device address=${hex16(ref.dev_addr as bigint)}] [size=${ref.size} bytes]`;
}

/**
 * Compare an unmap with the mapping it undoes, and strike that out.
 *
 * @param ref - what the unmap says
 * @kernel kernel/dma/debug.c
 */
export function check_unmap(ref: dma_debug_entry): void {
	const entry = bucket_find_exact(ref);
	if (entry === null) {
		err_printk(
			ref.dev,
			null,
			ref.dev_addr === DMA_MAPPING_ERROR
				? 'device driver tries to free an invalid DMA memory address'
				: `device driver tries to free DMA memory it has not allocated ${where(ref)}`,
		);
		return;
	}
	const at = `[device address=${hex16(ref.dev_addr as bigint)}]`;
	if (ref.size !== entry.size)
		err_printk(
			ref.dev,
			entry,
			`device driver frees DMA memory with different size ${at} ` +
				`[map size=${entry.size} bytes] [unmap size=${ref.size} bytes]`,
		);
	if (ref.type !== entry.type)
		err_printk(
			ref.dev,
			entry,
			`device driver frees DMA memory with wrong function ${where(ref)} ` +
				`[mapped as ${typeName(entry.type)}] [unmapped as ${typeName(ref.type)}]`,
		);
	else if (entry.type === dma_debug_coherent && ref.paddr !== entry.paddr)
		err_printk(
			ref.dev,
			entry,
			`device driver frees DMA memory with different CPU address ${where(ref)} ` +
				`[cpu alloc address=0x${hex16(entry.paddr as bigint)}] ` +
				`[cpu free address=0x${hex16(ref.paddr as bigint)}]`,
		);
	if (ref.type === dma_debug_sg && ref.sg_call_ents !== entry.sg_call_ents)
		err_printk(
			ref.dev,
			entry,
			'device driver frees DMA sg list with different entry count ' +
				`[map count=${entry.sg_call_ents}] [unmap count=${ref.sg_call_ents}]`,
		);
	if (ref.direction !== entry.direction)
		err_printk(
			ref.dev,
			entry,
			`device driver frees DMA memory with different direction ${where(ref)} ` +
				`[mapped with ${dirName(entry.direction)}] [unmapped with ${dirName(ref.direction)}]`,
		);
	if (entry.map_err_type === MAP_ERR_NOT_CHECKED)
		err_printk(
			ref.dev,
			entry,
			`device driver failed to check map error${where(ref)} [mapped as ${typeName(entry.type)}]`,
		);
	if (feature('dma_map_phys') && (ref.attrs ^ entry.attrs) & DEBUG_ATTRS_COMPARED)
		err_printk(
			ref.dev,
			entry,
			`device driver frees DMA memory with different attributes ${where(ref)} ` +
				`[mapped with 0x${entry.attrs.toString(16)}] [unmapped with 0x${ref.attrs.toString(16)}]`,
		);
	hash_bucket_del(entry);
	active_cacheline_remove(entry);
}

/**
 * Compare a sync with the mapping it is part of.
 *
 * @param dev - the device
 * @param ref - what the sync says
 * @param to_cpu - for the CPU, else for the device
 * @kernel kernel/dma/debug.c
 */
export function check_sync(dev: device, ref: dma_debug_entry, to_cpu: boolean): void {
	const entry = bucket_find_contain(ref);
	if (entry === null) {
		err_printk(
			dev,
			null,
			`device driver tries to sync DMA memory it has not allocated ${where(ref)}`,
		);
		return;
	}
	if (entry.direction === DMA_BIDIRECTIONAL) return;

	const how =
		`[device address=${hex16(ref.dev_addr as bigint)}] [size=${entry.size} bytes] ` +
		`[mapped with ${dirName(entry.direction)}] [synced with ${dirName(ref.direction)}]`;
	if (ref.direction !== entry.direction)
		err_printk(
			dev,
			entry,
			`device driver syncs DMA memory with different direction ${how}`,
		);
	if (to_cpu && entry.direction !== DMA_FROM_DEVICE && ref.direction !== DMA_TO_DEVICE)
		err_printk(
			dev,
			entry,
			`device driver syncs device read-only DMA memory for cpu ${how}`,
		);
	if (!to_cpu && entry.direction !== DMA_TO_DEVICE && ref.direction !== DMA_FROM_DEVICE)
		err_printk(
			dev,
			entry,
			`device driver syncs device write-only DMA memory to device ${how}`,
		);
	if (ref.type === dma_debug_sg && ref.sg_call_ents !== entry.sg_call_ents)
		err_printk(
			dev,
			entry,
			'device driver syncs DMA sg list with different entry count ' +
				`[map count=${entry.sg_call_ents}] [sync count=${ref.sg_call_ents}]`,
		);
}

/**
 * Compare a mapped segment with the limits that the device states.
 *
 * @param dev - the device
 * @param sg - the segment
 * @kernel kernel/dma/debug.c
 */
export function check_sg_segment(dev: device, sg: scatterlist): void {
	const max_seg = dma_get_max_seg_size(dev);
	const boundary = dma_get_seg_boundary(dev);
	if (sg.length > max_seg)
		err_printk(
			dev,
			null,
			`mapping sg segment longer than device claims to support [len=${sg.length}] [max=${max_seg}]`,
		);
	const start = sg.dma_address as bigint;
	const end = BigInt.asUintN(64, start + BigInt(sg.dma_length) - 1n);
	if ((start ^ end) & ~boundary)
		err_printk(
			dev,
			null,
			`mapping sg segment across boundary [start=${hex16(start)}] [end=${hex16(end)}] ` +
				`[boundary=${hex16(boundary)}]`,
		);
}
