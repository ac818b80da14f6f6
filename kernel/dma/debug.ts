// SPDX-License-Identifier: GPL-2.0-only
/**
 * dma-debug: what drivers do wrong with the DMA API.
 *
 * Guarantee: an unmap or sync that does not fit its mapping, a mapping whose error was not looked
 * at, a segment beyond the device's limits, and what is still mapped at shutdown are reported in
 * the kernel's wording, every time and not only the first.
 * Mechanism: the tracker is a sanitizer and always on. Whether the kernel was *built* with
 * CONFIG_DMA_API_DEBUG is another matter, because the option changes what the API answers: that is
 * `dmaDebug().config`, and off by default.
 *
 * | file | what of debug.c |
 * | --- | --- |
 * | debug/entry.ts | entries, buckets, best fit, reports |
 * | debug/cacheline.ts | lines that several mappings share |
 * | debug/check.ts | check_unmap, check_sync, check_sg_segment |
 * | debug/hooks.ts | debug_dma_* |
 * | debug/iova.ts | ours: ranges and links of the two-step API |
 */
import { fileReport } from '../../include/linux/bug.ts';
import { dev_driver_string, dev_name } from '../../include/linux/device.ts';
import { formatTrace } from '../../include/sim/origin.ts';
import { dirName, dmaDebug, hex16, liveEntries, typeName } from './debug/entry.ts';
import { checkIovaLeaks } from './debug/iova.ts';
import { ioTlbDefaultMem } from './swiotlb.ts';

export { dmaApiDebug, dmaDebug, pageType } from './debug/entry.ts';
export {
	debug_dma_alloc_coherent,
	debug_dma_free_coherent,
	debug_dma_map_phys,
	debug_dma_map_sg,
	debug_dma_mapping_error,
	debug_dma_sync_sg,
	debug_dma_sync_single,
	debug_dma_unmap_phys,
	debug_dma_unmap_sg,
	dma_debug_device_change,
} from './debug/hooks.ts';

/**
 * At shutdown: report every mapping and IOVA range that is still live as a leak, and bounce slots
 * that no mapping holds.
 */
export function dmaShutdownCheck(): void {
	const live = dmaDebug().count;
	if (live > 0)
		for (const entry of liveEntries())
			fileReport(
				'leak',
				`DMA-API: ${dev_driver_string(entry.dev)} ${dev_name(entry.dev)}: leaked mapping ` +
					`[device address=${hex16(entry.dev_addr as bigint)}] [size=${entry.size} bytes] ` +
					`[mapped with ${dirName(entry.direction)}] [mapped as ${typeName(entry.type)}]`,
				['Mapped at:', ...formatTrace(entry.origin)],
			);
	checkIovaLeaks();
	const { used } = ioTlbDefaultMem().defpool;
	if (used > 0 && live === 0)
		fileReport('leak', `swiotlb: ${used} bounce slots in use, and nothing is mapped`);
}
