// SPDX-License-Identifier: GPL-2.0-only
/**
 * struct ib_umem_odp: user memory that is not pinned, but faulted when the device touches it.
 *
 * ```
 *   address      |<- ib_umem_start                            ib_umem_end ->|
 *   pfn_list     [ w0 | w1 | w2 | ...  a word a 4 KiB page                  ]
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
 * An on-demand-paged range of user memory.
 *
 * @kernel include/rdma/ib_umem_odp.h
 */
export class ib_umem_odp {
	umem = new ib_umem();
	notifier = new mmu_interval_notifier();
	/** The process whose memory it is. */
	tgid: task_struct | null = null;
	map = new hmm_dma_map();
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
