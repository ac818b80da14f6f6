// SPDX-License-Identifier: GPL-2.0-only
/** struct hmm_dma_map: the HMM words of a mirror and what they are mapped to for one device. */
import type { PointerSlice } from '../sim/pointer_slice.ts';
import { dma_iova_state } from './dma-mapping.ts';
import type { p2pdma_provider } from './pci-p2pdma.ts';
import type { dma_addr_t, size_t } from './types.ts';

/**
 * The words and the DMA mapping of one mirror.
 *
 * @kernel include/linux/hmm-dma.h
 * @since v6.16
 */
export class hmm_dma_map {
	/** IOVA range, in use when dma_use_iova(state). */
	state = new dma_iova_state();
	/** A word a page. */
	pfn_list: BigUint64Array | null = null;
	/** A DMA address an entry, only where no IOVA range is used and unmapping needs the address. */
	dma_list: dma_addr_t[] | null = null;
	/**
	 * The provider of each word whose memory has no struct page: what a range's `hmm_providers`
	 * points into. Kept until the entry is unmapped.
	 *
	 * @proposed Documentation/proposals/device-private-dma-phys.md
	 */
	provider_list: PointerSlice<p2pdma_provider> | null = null;
	/** Bytes that one entry maps. */
	dma_entry_size: size_t = 0n;
}
