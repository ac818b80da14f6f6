// SPDX-License-Identifier: GPL-2.0-only
/** Which way the bytes of a DMA mapping go. */
import type { int } from './types.ts';

export const DMA_BIDIRECTIONAL = 0;
export const DMA_TO_DEVICE = 1;
export const DMA_FROM_DEVICE = 2;
export const DMA_NONE = 3;

/**
 * Direction of a mapping.
 *
 * @kernel include/linux/dma-direction.h
 */
export type dma_data_direction = 0 | 1 | 2 | 3;

/**
 * Whether a mapping can have this direction.
 *
 * @param dir - the direction
 * @returns 1 or 0
 * @kernel include/linux/dma-direction.h
 */
export function valid_dma_direction(dir: dma_data_direction): int {
	return dir === DMA_BIDIRECTIONAL || dir === DMA_TO_DEVICE || dir === DMA_FROM_DEVICE
		? 1
		: 0;
}
