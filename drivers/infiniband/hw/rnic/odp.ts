// SPDX-License-Identifier: GPL-2.0-only
/**
 * On-demand paging of the NIC: page faults, invalidations and prefetch, in the manner of mlx5.
 *
 * Guarantee: an entry of the NIC's table is there only while its page is mapped at that address for
 * the CPU too; when an invalidation returns, the NIC cannot reach the page any more.
 * Mechanism: umem_mutex is the notifier's user lock. A fault brings words up to date under it, maps
 * them for DMA and programs the table (mtt.ts); an invalidation zaps the table first, then unmaps.
 * Duty: `umem_odp.private` is null before the key is revoked and after, so that nobody programs a
 * dead key.
 *
 * ```
 *   page fault      map_dma_and_lock -> [umem_mutex  map for DMA, write table ]
 *   invalidation    [umem_mutex  set_seq, zap table, unmap_dma_pages ]
 * ```
 */
import { EFAULT, EINVAL, ENOENT, EOPNOTSUPP, EPERM } from '../../../../include/linux/errno.ts';
import {
	MMU_NOTIFIER_RANGE_BLOCKABLE,
	type mmu_interval_notifier,
	type mmu_interval_notifier_ops,
	type mmu_notifier_range,
} from '../../../../include/linux/mmu_notifier.ts';
import type { int, u64, unsigned_long } from '../../../../include/linux/types.ts';
import {
	ib_umem_end,
	type ib_umem_odp,
	ib_umem_start,
} from '../../../../include/rdma/ib_umem_odp.ts';
import {
	IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH,
	IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT,
	IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE,
} from '../../../../include/rdma/ib_verbs.ts';
import type { Sim } from '../../../../include/sim/schedule.ts';
import { mutex_lock, mutex_unlock } from '../../../../kernel/locking/mutex.ts';
import { mmu_interval_set_seq } from '../../../../mm/mmu_notifier.ts';
import { ib_umem_odp_map_dma_and_lock, ib_umem_odp_unmap_dma_pages } from '../../core/umem_odp.ts';
import { accessMask, populateTable } from './mtt.ts';
import type { RnicMr } from './rnic.ts';
import type { PageFault } from './silicon.ts';

/** Take a snapshot, fault nothing. */
const PF_FLAGS_SNAPSHOT = 1;
/** Do not ask for write access even where the region is writable. */
const PF_FLAGS_DOWNGRADE = 2;

/**
 * Bring a part of a region within the NIC's reach.
 *
 * @param mr - the region
 * @param user_va - first byte, as the process sees it
 * @param bcnt - bytes
 * @param flags - PF_FLAGS_*
 * @returns entries covered, or an errno
 * @retval -EFAULT cannot be made present, or cannot be mapped
 * @retval -EPERM cannot be made writable
 * @retval -EBUSY no answer in time
 * @retval -EINVAL the process is gone
 * @retval -EINTR killed
 * @retval -ENOMEM no memory
 */
export function* pagefaultRealMr(mr: RnicMr, user_va: u64, bcnt: u64, flags: int): Sim<int> {
	const { umem } = mr;
	const downgrade = (flags & PF_FLAGS_DOWNGRADE) !== 0;
	const fault = (flags & PF_FLAGS_SNAPSHOT) === 0;
	const access_mask = accessMask(umem.umem.writable && !downgrade);

	const np = yield* ib_umem_odp_map_dma_and_lock(umem, user_va, bcnt, access_mask, fault);
	if (np < 0) return np;

	// umem_mutex is held: no invalidation comes between the words and the table.
	const shift = BigInt(umem.page_shift);
	const first = Number((user_va - ib_umem_start(umem)) >> shift);
	const ret =
		umem.private === null ? -EFAULT : yield* populateTable(mr, first, np, downgrade);
	yield* mutex_unlock(umem.umem_mutex);
	if (ret) return ret;
	return np;
}

/**
 * Answer a page fault of the NIC.
 *
 * @param mr - the region of the faulting key
 * @param fault - what the NIC could not reach
 * @retval 0 the NIC tries again
 * @returns an errno otherwise: the work request fails
 */
export function* pagefaultMr(mr: RnicMr, fault: PageFault): Sim<int> {
	const { counters } = mr.nic;
	counters.faults++;
	const va = mr.address + (fault.iova - mr.key.iova);
	const np = yield* pagefaultRealMr(mr, va, BigInt(fault.length), 0);
	if (np < 0) return np;
	counters.faults_handled++;
	return 0;
}

/** Zap the entries of [start, end) from the NIC's table, then from the DMA map. */
function* invalidateRange(
	mni: mmu_interval_notifier,
	range: mmu_notifier_range,
	cur_seq: unsigned_long,
): Sim<boolean> {
	const umem = mni.container as ib_umem_odp;

	if (!(range.flags & MMU_NOTIFIER_RANGE_BLOCKABLE)) return false;
	yield* mutex_lock(umem.umem_mutex);
	mmu_interval_set_seq(mni, cur_seq);
	const mr = umem.private as RnicMr | null;
	// Nothing mapped, or the region is being torn down: the NIC has no entry to zap.
	if (mr !== null && umem.npages > 0) {
		const { counters } = mr.nic;
		const unit = 1n << BigInt(umem.page_shift);
		const start = range.start > ib_umem_start(umem) ? range.start : ib_umem_start(umem);
		const end = range.end < ib_umem_end(umem) ? range.end : ib_umem_end(umem);
		const first = Number((start - ib_umem_start(umem)) / unit);
		const last = Number((end - ib_umem_start(umem) + unit - 1n) / unit);

		counters.invalidations++;
		yield* mr.nic.silicon.writeTable(mr.key, first, new BigUint64Array(last - first));
		yield* ib_umem_odp_unmap_dma_pages(umem, start & ~(unit - 1n), end);
		counters.invalidations_handled++;
	}
	yield* mutex_unlock(umem.umem_mutex);
	return true;
}

/** The notifier of a memory region. */
export const rnicMnOps: mmu_interval_notifier_ops = Object.freeze({ invalidate: invalidateRange });

/**
 * Bring parts of regions within reach before the NIC asks.
 *
 * @param mr - the region of the scatter entry's lkey; null: no such key
 * @param advice - IB_UVERBS_ADVISE_MR_ADVICE_*
 * @param address - first byte
 * @param length - bytes
 * @retval 0 done
 * @retval -ENOENT no such key
 * @retval -EOPNOTSUPP unknown advice
 * @retval -EPERM write access to a region that is not writable
 * @retval -EINVAL outside of the region
 * @returns an errno of the fault otherwise
 */
export function* adviseMr(mr: RnicMr | null, advice: int, address: u64, length: u64): Sim<int> {
	let flags = 0;

	switch (advice) {
		case IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH:
			flags = PF_FLAGS_DOWNGRADE;
			break;
		case IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE:
			break;
		case IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT:
			flags = PF_FLAGS_SNAPSHOT | PF_FLAGS_DOWNGRADE;
			break;
		default:
			return -EOPNOTSUPP;
	}
	if (mr === null) return -ENOENT;
	if (advice === IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE && !mr.umem.umem.writable)
		return -EPERM;
	if (address < mr.address || address + length > mr.address + mr.length) return -EINVAL;

	mr.nic.counters.prefetch++;
	const np = yield* pagefaultRealMr(mr, address, length, flags);
	return np < 0 ? np : 0;
}
