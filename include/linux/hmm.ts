// SPDX-License-Identifier: GPL-2.0-only
/**
 * The HMM word and struct hmm_range.
 *
 * ```
 *        63     62     61     60       59      58        57..53   52..0
 *  v7.3 VALID  WRITE  ERROR  DMA_MAPPED P2PDMA P2PDMA_BUS  order    PFN
 *        63     62     61     60..56                               55..0
 *  v6.12 VALID WRITE  ERROR  order                                  PFN
 *        in: REQ_FAULT, REQ_WRITE          sticky: DMA_MAPPED, P2PDMA, P2PDMA_BUS
 * ```
 */
import type { PointerSlice } from '../sim/pointer_slice.ts';
import { feature } from '../sim/world.ts';
import type { device } from './device.ts';
import type { page } from './mm_types.ts';
import type { mmu_interval_notifier } from './mmu_notifier.ts';
import { pfn_to_page } from './mmzone.ts';
import type { p2pdma_provider } from './pci-p2pdma.ts';
import type { phys_addr_t, unsigned_int, unsigned_long } from './types.ts';

export const HMM_PFN_VALID = 1n << 63n;
export const HMM_PFN_WRITE = 1n << 62n;
export const HMM_PFN_ERROR = 1n << 61n;
/** The entry was mapped for DMA by hmm_dma_map_pfn(). */
export const HMM_PFN_DMA_MAPPED = 1n << 60n;
/** The mapping is of a P2P page through the host bridge. */
export const HMM_PFN_P2PDMA = 1n << 59n;
/** The mapping is a bus address. */
export const HMM_PFN_P2PDMA_BUS = 1n << 58n;
export const HMM_PFN_REQ_FAULT = HMM_PFN_VALID;
export const HMM_PFN_REQ_WRITE = HMM_PFN_WRITE;

/** Milliseconds that drivers give a fault before they give up. */
export const HMM_RANGE_DEFAULT_TIMEOUT = 1000;

/**
 * Where the map order sits in a word of the installed world: 53, in v6.12 56.
 *
 * @kernel include/linux/hmm.h
 */
export function HMM_PFN_ORDER_SHIFT(): bigint {
	return feature('hmm_dma_flags') ? 53n : 56n;
}

/** What one more of the map order adds to a word: 1 << HMM_PFN_ORDER_SHIFT. */
export function mapOrderUnit(): bigint {
	return feature('hmm_dma_flags') ? 1n << 53n : 1n << 56n;
}

/**
 * Every bit of a word that is not PFN.
 *
 * @kernel include/linux/hmm.h
 */
export function HMM_PFN_FLAGS(): bigint {
	return feature('hmm_dma_flags') ? 0xffe0_0000_0000_0000n : 0xff00_0000_0000_0000n;
}

/**
 * What is asked of hmm_range_fault() and where the answers go.
 *
 * @kernel include/linux/hmm.h
 */
export class hmm_range {
	notifier: mmu_interval_notifier = null as unknown as mmu_interval_notifier;
	notifier_seq: unsigned_long = 0n;
	start: unsigned_long = 0n;
	/** Exclusive. */
	end: unsigned_long = 0n;
	/** A word a page, in and out. */
	hmm_pfns: BigUint64Array = new BigUint64Array(0);
	/** The same words by 32-bit halves, once the bulk loops made that view (mm/hmm_fill.ts). */
	halves: { readonly of: BigUint64Array; readonly words: Uint32Array } | null = null;
	default_flags: unsigned_long = 0n;
	pfn_flags_mask: unsigned_long = 0n;
	/** Owner whose device-private pages are returned as they are. */
	dev_private_owner: object | null = null;
	/**
	 * The device that will issue the DMA; null asks for no P2P pages.
	 *
	 * @proposed Documentation/proposals/device-private-dma-pfn.md
	 */
	dma_dev: device | null = null;
	/**
	 * A pointer a page, out, beside the words: where it is not null, the word's PFN is that of a
	 * page frame of this provider's memory, which has no struct page. null: the caller takes words
	 * with pages only.
	 *
	 * @proposed Documentation/proposals/device-private-dma-phys.md
	 */
	hmm_providers: PointerSlice<p2pdma_provider> | null = null;

	/** @param init - designated initialiser */
	constructor(init: Partial<hmm_range> = {}) {
		Object.assign(this, init);
	}
}

/**
 * The page of a VALID word.
 *
 * @param hmm_pfn - a word with HMM_PFN_VALID, and without a provider beside it
 * @kernel include/linux/hmm.h
 */
export function hmm_pfn_to_page(hmm_pfn: unsigned_long): page {
	return pfn_to_page(hmm_pfn & ~HMM_PFN_FLAGS());
}

/**
 * The physical address of a VALID word's page.
 *
 * @param hmm_pfn - a word with HMM_PFN_VALID
 * @kernel include/linux/hmm.h
 * @since v6.16
 */
export function hmm_pfn_to_phys(hmm_pfn: unsigned_long): phys_addr_t {
	return (hmm_pfn & ~HMM_PFN_FLAGS()) << 12n;
}

/**
 * log2 of the pages that the CPU maps with the entry this word came from. The page may be in the
 * middle of that block, and the block may reach out of the range.
 *
 * @param hmm_pfn - a word with HMM_PFN_VALID
 * @kernel include/linux/hmm.h
 */
export function hmm_pfn_to_map_order(hmm_pfn: unsigned_long): unsigned_int {
	return Number((hmm_pfn >> HMM_PFN_ORDER_SHIFT()) & 0x1fn);
}
