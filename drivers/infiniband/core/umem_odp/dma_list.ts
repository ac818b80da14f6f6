// SPDX-License-Identifier: GPL-2.0-only
/**
 * Pages of a range in two lists, as v6.12 keeps them: words, and addresses with permissions.
 *
 * Guarantee: an address that is not 0 is mapped for the device, with the access in its low bits.
 * Mechanism: each page is mapped while ib_umem_odp_map_dma_and_lock() holds umem_mutex. A page that
 * is mapped already went from read-only to writable or back without an invalidation: only its bits
 * are replaced.
 * Duty: no word may be of a P2P page. ib_dma_map_page() takes it for RAM, and the device gets the
 * physical address also where it needs a bus address.
 *
 * ```
 *   pfn_list   [ w0 | w1 | w2 | w3 ]     a word a 4 KiB page
 *   dma_list   [ a0 RW   | 0       ]     an address a unit (here of two pages); 0: not mapped
 * ```
 */
import { WARN_ON } from '../../../../include/linux/bug.ts';
import { DMA_BIDIRECTIONAL } from '../../../../include/linux/dma-direction.ts';
import { EBUSY, EFAULT, EINVAL, ENOMEM } from '../../../../include/linux/errno.ts';
import {
	HMM_PFN_WRITE,
	HMM_RANGE_DEFAULT_TIMEOUT,
	hmm_pfn_to_page,
	type hmm_range,
} from '../../../../include/linux/hmm.ts';
import { compound_head, type mm_struct, type page } from '../../../../include/linux/mm_types.ts';
import {
	type int,
	PAGE_SHIFT,
	type size_t,
	type u64,
	type unsigned_int,
} from '../../../../include/linux/types.ts';
import {
	type ib_umem_odp,
	ODP_DMA_ADDR_MASK,
	ODP_READ_ALLOWED_BIT,
	ODP_WRITE_ALLOWED_BIT,
} from '../../../../include/rdma/ib_umem_odp.ts';
import { shouldFail } from '../../../../include/sim/fault_injection.ts';
import type { Sim } from '../../../../include/sim/schedule.ts';
import { world } from '../../../../include/sim/world.ts';
import { hmm_range_fault } from '../../../../mm/hmm.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../../../mm/mmap_lock.ts';
import { mmu_interval_read_begin } from '../../../../mm/mmu_notifier.ts';
import { set_page_dirty } from '../../../../mm/page-writeback.ts';
import { ib_dma_map_page, ib_dma_mapping_error, ib_dma_unmap_page } from '../ib_dma.ts';
import { fillsUnit } from './map_order.ts';
import type { OdpPages } from './pages.ts';

const NS_PER_MS = 1_000_000n;

function alloc(umem_odp: ib_umem_odp, npfns: size_t, unit: size_t): int {
	if (shouldFail('ib_init_umem_odp:pfn_list')) return -ENOMEM;
	umem_odp.pfn_list = new BigUint64Array(Number(npfns));
	if (shouldFail('ib_init_umem_odp:dma_list')) {
		umem_odp.pfn_list = null;
		return -ENOMEM;
	}
	umem_odp.dma_list = new BigUint64Array(Number(npfns / (unit >> PAGE_SHIFT)));
	return 0;
}

function free(umem_odp: ib_umem_odp): void {
	umem_odp.dma_list = null;
	umem_odp.pfn_list = null;
}

/** hmm_range_fault() with the mmap lock, as long as it collides and there is time. */
function* fault(range: hmm_range, began: bigint): Sim<int> {
	const mm = range.notifier.mm as mm_struct;
	const timeout = began + BigInt(HMM_RANGE_DEFAULT_TIMEOUT) * NS_PER_MS;
	let ret: int;

	do {
		range.notifier_seq = yield* mmu_interval_read_begin(range.notifier);
		yield* mmap_read_lock(mm);
		ret = yield* hmm_range_fault(range);
		yield* mmap_read_unlock(mm);
	} while (ret === -EBUSY && world().clock <= timeout);
	return ret;
}

/**
 * Map one page for the device, or replace its permissions if it is mapped.
 *
 * @param umem_odp - the range
 * @param dma_index - unit
 * @param page - its first page
 * @param access_mask - ODP_*_ALLOWED_BIT
 * @retval 0 mapped
 * @retval -EFAULT the DMA API refused
 * @context umem_mutex held.
 * @kernel drivers/infiniband/core/umem_odp.c (v6.12; gone in v6.16)
 */
export function ib_umem_odp_map_dma_single_page(
	umem_odp: ib_umem_odp,
	dma_index: unsigned_int,
	page: page,
	access_mask: u64,
): int {
	const dev = umem_odp.umem.ibdev;
	const dma_list = umem_odp.dma_list!;
	const mapped = dma_list[dma_index]!;

	if (mapped) {
		dma_list[dma_index] = (mapped & ODP_DMA_ADDR_MASK) | access_mask;
		return 0;
	}
	const size = 1n << BigInt(umem_odp.page_shift);
	const dma_addr = ib_dma_map_page(dev, page, 0n, size, DMA_BIDIRECTIONAL);
	if (ib_dma_mapping_error(dev, dma_addr)) return -EFAULT;
	umem_odp.npages++;
	dma_list[dma_index] = dma_addr | access_mask;
	return 0;
}

/** What a VALID word grants, as permissions of the address. */
function grantedBy(word: u64): u64 {
	const write = word & HMM_PFN_WRITE ? ODP_WRITE_ALLOWED_BIT : 0n;
	return ODP_READ_ALLOWED_BIT | write;
}

function present(umem_odp: ib_umem_odp, idx: number, word: u64, access_mask: u64 | null): int {
	if (!fillsUnit(umem_odp, word)) return -EINVAL;
	const page = hmm_pfn_to_page(word);
	const access = access_mask ?? grantedBy(word);
	return ib_umem_odp_map_dma_single_page(umem_odp, idx, page, access);
}

function absent(umem_odp: ib_umem_odp, idx: number): void {
	WARN_ON(umem_odp.dma_list![idx] !== 0n, 'a page that is not there is mapped for DMA');
}

function* unmap(umem_odp: ib_umem_odp, idx: number): Sim<void> {
	const dma_list = umem_odp.dma_list!;
	const dma = dma_list[idx]!;

	if (dma === 0n) return;
	const pfn_idx = idx << (umem_odp.page_shift - Number(PAGE_SHIFT));
	const page = hmm_pfn_to_page(umem_odp.pfn_list![pfn_idx]!);
	const size = 1n << BigInt(umem_odp.page_shift);
	ib_dma_unmap_page(umem_odp.umem.ibdev, dma & ODP_DMA_ADDR_MASK, size, DMA_BIDIRECTIONAL);
	if (dma & ODP_WRITE_ALLOWED_BIT) yield* set_page_dirty(compound_head(page));
	dma_list[idx] = 0n;
	umem_odp.npages--;
}

/** Words in `ib_umem_odp.pfn_list`, addresses in `dma_list`: gone in v6.16. */
export const dmaListPages: OdpPages = Object.freeze({
	writeBit: ODP_WRITE_ALLOWED_BIT,
	needsAccess: true,
	mapsP2p: false,
	alloc,
	free,
	words: (umem_odp: ib_umem_odp) => umem_odp.pfn_list!,
	fault,
	present,
	absent,
	unmap,
});
