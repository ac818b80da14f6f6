// SPDX-License-Identifier: GPL-2.0-only
/**
 * struct ib_umem_odp: user memory that is not pinned, but faulted when the device touches it.
 *
 * ```
 *   address      |<- ib_umem_start                            ib_umem_end ->|
 *   pfn_list     [ w0 | w1 | w2 | ...  a word a 4 KiB page                  ]
 *   dma_list     [ a0 | a1 | a2 | ...  v6.12: an address a unit             ]
 *   unit         one entry of the device's table: 1 << page_shift bytes
 * ```
 */
import { hmm_dma_map } from '../linux/hmm-dma.ts';
import { mmu_interval_notifier } from '../linux/mmu_notifier.ts';
import type { task_struct } from '../linux/sched.ts';
import { mutex } from '../linux/spinlock.ts';
import type { int, size_t, unsigned_int, unsigned_long } from '../linux/types.ts';
import { ib_umem } from './ib_umem.ts';

/**
 * v6.12, low bit of an address in dma_list: the device may read.
 *
 * @kernel include/rdma/ib_umem_odp.h (gone in v6.16)
 */
export const ODP_READ_ALLOWED_BIT = 1n << 0n;
/**
 * v6.12, low bit of an address in dma_list: the device may write.
 *
 * @kernel include/rdma/ib_umem_odp.h (gone in v6.16)
 */
export const ODP_WRITE_ALLOWED_BIT = 1n << 1n;
/**
 * The address without its permissions.
 *
 * @kernel include/rdma/ib_umem_odp.h (gone in v6.16)
 */
export const ODP_DMA_ADDR_MASK = ~(ODP_READ_ALLOWED_BIT | ODP_WRITE_ALLOWED_BIT);

/**
 * An on-demand-paged range of user memory.
 *
 * @kernel include/rdma/ib_umem_odp.h
 */
export class ib_umem_odp {
	umem = new ib_umem();
	notifier = new mmu_interval_notifier();
	/** The process whose memory it is. */
	tgid: task_struct | null = null;
	/** v7.3: words and addresses; as good as not there in v6.12. */
	map = new hmm_dma_map();
	/** v6.12: a word a page; null in v7.3. */
	pfn_list: BigUint64Array | null = null;
	/** v6.12: an address a unit, with ODP_*_ALLOWED_BIT; 0: not mapped. Null in v7.3. */
	dma_list: BigUint64Array | null = null;
	/** The user lock of the notifier: covers words, mappings, npages and the device's table. */
	umem_mutex = new mutex('&umem_odp->umem_mutex');
	/** The driver's memory region; null once the device must not be touched any more. */
	private: object | null = null;
	/** Entries that are mapped for the device. */
	npages: int = 0;
	is_implicit_odp = false;
	page_shift: unsigned_int = 12;
}

/**
 * First address.
 *
 * @param umem_odp - the range
 * @kernel include/rdma/ib_umem_odp.h
 */
export function ib_umem_start(umem_odp: ib_umem_odp): unsigned_long {
	return umem_odp.notifier.interval_tree.start;
}

/**
 * Address behind the last.
 *
 * @param umem_odp - the range
 * @kernel include/rdma/ib_umem_odp.h
 */
export function ib_umem_end(umem_odp: ib_umem_odp): unsigned_long {
	return umem_odp.notifier.interval_tree.last + 1n;
}

/**
 * Entries of the device's table that the range needs.
 *
 * @param umem_odp - the range
 * @kernel include/rdma/ib_umem_odp.h
 */
export function ib_umem_odp_num_pages(umem_odp: ib_umem_odp): size_t {
	return (ib_umem_end(umem_odp) - ib_umem_start(umem_odp)) >> BigInt(umem_odp.page_shift);
}
