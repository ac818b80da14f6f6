// SPDX-License-Identifier: GPL-2.0-only
/**
 * The NIC's translation table, made from what umem_odp knows of a region's pages.
 *
 * | release | access mask | address and permissions of an entry |
 * | --- | --- | --- |
 * | v7.3 | HMM_PFN_WRITE or 0 | hmm_dma_map_pfn() here, WRITE from the word |
 * | v6.12 | ODP_*_ALLOWED_BIT | `dma_list`, mapped by ib_umem_odp_map_dma_and_lock() |
 */
import { DMA_MAPPING_ERROR } from '../../../../include/linux/dma-mapping.ts';
import { EFAULT } from '../../../../include/linux/errno.ts';
import { HMM_PFN_DMA_MAPPED, HMM_PFN_VALID, HMM_PFN_WRITE } from '../../../../include/linux/hmm.ts';
import { pci_p2pdma_map_state } from '../../../../include/linux/pci-p2pdma.ts';
import type { dma_addr_t, int, u64 } from '../../../../include/linux/types.ts';
import {
	ODP_DMA_ADDR_MASK,
	ODP_READ_ALLOWED_BIT,
	ODP_WRITE_ALLOWED_BIT,
} from '../../../../include/rdma/ib_umem_odp.ts';
import type { Sim } from '../../../../include/sim/schedule.ts';
import { feature } from '../../../../include/sim/world.ts';
import { hmm_dma_map_pfn } from '../../../../mm/hmm_dma.ts';
import type { RnicMr } from './rnic.ts';
import { MTT_READ, MTT_WRITE } from './silicon.ts';

/**
 * What a page fault asks ib_umem_odp_map_dma_and_lock() for.
 *
 * @param write - the pages have to be writable
 */
export function accessMask(write: boolean): u64 {
	if (feature('odp_hmm_dma_map')) return write ? HMM_PFN_WRITE : 0n;
	return ODP_READ_ALLOWED_BIT | (write ? ODP_WRITE_ALLOWED_BIT : 0n);
}

/** An entry of the NIC's table from one of dma_list; 0 from 0. */
function umemDmaToMtt(umem_dma: dma_addr_t): u64 {
	let entry = umem_dma & ODP_DMA_ADDR_MASK;
	if (umem_dma & ODP_READ_ALLOWED_BIT) entry |= MTT_READ;
	if (umem_dma & ODP_WRITE_ALLOWED_BIT) entry |= MTT_WRITE;
	return entry;
}

/** Map the VALID words of a part for DMA and make their entries. */
function* mapWords(mr: RnicMr, first: number, count: number, downgrade: boolean): Sim<int> {
	const { umem, nic, key } = mr;
	const { map } = umem;
	const dev = nic.ibdev.dma_device!;
	const state = new pci_p2pdma_map_state();

	for (let idx = first; idx < first + count; idx++) {
		const word = map.pfn_list![idx]!;
		if (!(word & HMM_PFN_VALID)) continue;

		const address = hmm_dma_map_pfn(dev, map, BigInt(idx), state);
		if (address === DMA_MAPPING_ERROR) return -EFAULT;
		// A word that was mapped before is not one more entry.
		if (!(word & HMM_PFN_DMA_MAPPED)) umem.npages++;
		const write = word & HMM_PFN_WRITE && !downgrade ? MTT_WRITE : 0n;
		yield* nic.silicon.writeTable(key, idx, [(address as bigint) | MTT_READ | write]);
	}
	return 0;
}

/**
 * Make the entries of a part of the NIC's table; v7.3 maps the words for DMA first.
 *
 * @param mr - the region; umem_mutex held
 * @param first - first entry
 * @param count - entries
 * @param downgrade - v7.3: leave WRITE out; v6.12 has left it out of the access mask
 * @retval 0 the table has every page that is there
 * @retval -EFAULT v7.3: a word could not be mapped; earlier ones stay mapped
 */
export function* populateTable(
	mr: RnicMr,
	first: number,
	count: number,
	downgrade: boolean,
): Sim<int> {
	if (feature('odp_hmm_dma_map')) return yield* mapWords(mr, first, count, downgrade);
	const part = mr.umem.dma_list!.subarray(first, first + count);
	yield* mr.nic.silicon.writeTable(mr.key, first, part.map(umemDmaToMtt));
	return 0;
}
