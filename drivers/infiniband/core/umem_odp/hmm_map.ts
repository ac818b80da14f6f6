// SPDX-License-Identifier: GPL-2.0-only
/**
 * Pages of a range in a hmm_dma_map, as v7.3 keeps them.
 *
 * Guarantee: a word with DMA_MAPPED is mapped for the device, any other is not.
 * Mechanism: the driver maps each word with hmm_dma_map_pfn() under umem_mutex, which knows P2P
 * pages; here a mapping is only taken back. The fault takes the mmap lock by itself.
 * Duty: a device that copies by CPU uses the words and maps none.
 */
import { EINVAL, ENOMEM } from '../../../../include/linux/errno.ts';
import {
	HMM_PFN_DMA_MAPPED,
	HMM_PFN_FLAGS,
	HMM_PFN_WRITE,
	HMM_RANGE_DEFAULT_TIMEOUT,
	hmm_pfn_to_page,
	type hmm_range,
} from '../../../../include/linux/hmm.ts';
import { compound_head } from '../../../../include/linux/mm_types.ts';
import type { int, size_t, u64 } from '../../../../include/linux/types.ts';
import type { ib_umem_odp } from '../../../../include/rdma/ib_umem_odp.ts';
import { ib_uses_virt_dma } from '../../../../include/rdma/ib_verbs.ts';
import { shouldFail } from '../../../../include/sim/fault_injection.ts';
import type { Sim } from '../../../../include/sim/schedule.ts';
import { hmm_range_fault_unlocked_timeout } from '../../../../mm/hmm.ts';
import { hmm_dma_map_alloc, hmm_dma_map_free, hmm_dma_unmap_pfn } from '../../../../mm/hmm_dma.ts';
import { set_page_dirty } from '../../../../mm/page-writeback.ts';
import { fillsUnit } from './map_order.ts';
import type { OdpPages } from './pages.ts';

function alloc(umem_odp: ib_umem_odp, npfns: size_t, unit: size_t): int {
	const dev = umem_odp.umem.ibdev;

	if (!ib_uses_virt_dma(dev))
		return hmm_dma_map_alloc(dev.dma_device!, umem_odp.map, npfns, unit);
	// It copies by CPU: it needs the pages, not their addresses.
	if (shouldFail('ib_init_umem_odp:pfn_list')) return -ENOMEM;
	umem_odp.map.pfn_list = new BigUint64Array(Number(npfns));
	return 0;
}

function free(umem_odp: ib_umem_odp): void {
	const dev = umem_odp.umem.ibdev;

	if (ib_uses_virt_dma(dev)) umem_odp.map.pfn_list = null;
	else hmm_dma_map_free(dev.dma_device!, umem_odp.map);
}

function* fault(range: hmm_range): Sim<int> {
	return yield* hmm_range_fault_unlocked_timeout(range, BigInt(HMM_RANGE_DEFAULT_TIMEOUT));
}

function present(umem_odp: ib_umem_odp, _idx: number, word: u64): int {
	if (word & HMM_PFN_DMA_MAPPED) return 0;
	return fillsUnit(umem_odp, word) ? 0 : -EINVAL;
}

function* unmap(umem_odp: ib_umem_odp, idx: number): Sim<void> {
	const dev = umem_odp.umem.ibdev;
	const { provider_list } = umem_odp.map;
	const pfn_list = umem_odp.map.pfn_list!;

	if (
		!ib_uses_virt_dma(dev) &&
		hmm_dma_unmap_pfn(dev.dma_device!, umem_odp.map, BigInt(idx))
	) {
		// The device may have written: the page's content is newer than its file or swap slot.
		// Memory without a page has neither.
		if (pfn_list[idx]! & HMM_PFN_WRITE && !provider_list?.at(idx))
			yield* set_page_dirty(compound_head(hmm_pfn_to_page(pfn_list[idx]!)));
		umem_odp.npages--;
	}
	pfn_list[idx] = pfn_list[idx]! & ~HMM_PFN_FLAGS();
	provider_list?.set(idx, null);
}

/**
 * Words and addresses in `ib_umem_odp.map`.
 *
 * @since v6.16
 */
export const hmmMapPages: OdpPages = Object.freeze({
	writeBit: HMM_PFN_WRITE,
	needsAccess: false,
	mapsP2p: true,
	alloc,
	free,
	words: (umem_odp: ib_umem_odp) => umem_odp.map.pfn_list!,
	fault,
	present,
	unmap,
});
