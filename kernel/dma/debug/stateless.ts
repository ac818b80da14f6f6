// SPDX-License-Identifier: GPL-2.0-only
/** Mappings that nobody will unmap, because there is nothing to give back. */

import type { device } from '../../../include/linux/device.ts';
import type { dma_data_direction } from '../../../include/linux/dma-direction.ts';
import type { dma_addr_t, u64 } from '../../../include/linux/types.ts';
import { bucket_find_exact, dma_debug_entry, dma_debug_phy, hash_bucket_del } from './entry.ts';

/**
 * A caller that asked dma_need_unmap() and was told "no" keeps no address: its mapping is not one
 * that could leak. With CONFIG_DMA_API_DEBUG the answer is "yes", and this is never reached.
 *
 * @param dev - the device
 * @param addr - what the mapping gave
 * @param size - bytes
 * @param direction - direction
 */
export function forgetStateless(
	dev: device,
	addr: dma_addr_t,
	size: u64,
	direction: dma_data_direction,
): void {
	const entry = bucket_find_exact(
		new dma_debug_entry(dev, addr, size, dma_debug_phy, direction),
	);
	if (entry !== null) hash_bucket_del(entry);
}
