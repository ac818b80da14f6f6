// SPDX-License-Identifier: GPL-2.0-only
/**
 * Cache lines that several mappings share; only in a kernel with CONFIG_DMA_API_DEBUG.
 *
 * Two mappings of one line are no error on x86-64, where DMA buffers need no alignment; more than
 * eight are taken for a driver that maps in a loop and never unmaps.
 */

import { fileReport } from '../../../include/linux/bug.ts';
import { DMA_TO_DEVICE } from '../../../include/linux/dma-direction.ts';
import {
	DMA_ATTR_DEBUGGING_IGNORE_CACHELINES,
	DMA_ATTR_REQUIRE_COHERENT,
} from '../../../include/linux/dma-mapping.ts';
import { feature } from '../../../include/sim/world.ts';
import { type dma_debug_entry, dmaDebug } from './entry.ts';

const L1_CACHE_SHIFT = 6n;
/** Mappings beyond the first that are counted. */
const ACTIVE_CACHELINE_MAX_OVERLAP = 7;

function lineOf(entry: dma_debug_entry): number {
	return Number((entry.paddr as bigint) >> L1_CACHE_SHIFT);
}

/** Whether nobody minds that the line is shared. */
function isCacheClean(entry: dma_debug_entry): boolean {
	const clean = DMA_ATTR_DEBUGGING_IGNORE_CACHELINES | DMA_ATTR_REQUIRE_COHERENT;
	return feature('dma_map_phys') && (entry.attrs & clean) !== 0n;
}

/**
 * Count a mapping's first line.
 *
 * @param entry - the mapping
 * @kernel kernel/dma/debug.c
 */
export function active_cacheline_insert(entry: dma_debug_entry): void {
	const debug = dmaDebug();
	if (!debug.config || entry.direction === DMA_TO_DEVICE) return;
	const line = lineOf(entry);
	const overlap = debug.cachelines.get(line);
	if (overlap === undefined) {
		debug.cachelines.set(line, 0);
		return;
	}
	if (overlap < ACTIVE_CACHELINE_MAX_OVERLAP) debug.cachelines.set(line, overlap + 1);
	else if (!isCacheClean(entry))
		fileReport(
			'DMA-API',
			`DMA-API: exceeded ${ACTIVE_CACHELINE_MAX_OVERLAP} overlapping mappings of cacheline ` +
				`0x${line.toString(16).padStart(16, '0')}`,
		);
}

/**
 * Stop counting a mapping's first line.
 *
 * @param entry - the mapping
 * @kernel kernel/dma/debug.c
 */
export function active_cacheline_remove(entry: dma_debug_entry): void {
	const debug = dmaDebug();
	if (!debug.config || entry.direction === DMA_TO_DEVICE) return;
	const line = lineOf(entry);
	const overlap = debug.cachelines.get(line);
	if (overlap === undefined) return;
	if (overlap === 0) debug.cachelines.delete(line);
	else debug.cachelines.set(line, overlap - 1);
}
