// SPDX-License-Identifier: GPL-2.0-only
/**
 * On-demand paging of RDMA memory regions: faulting a range of user memory for a device.
 *
 * Guarantee: after ib_umem_odp_map_dma_and_lock() the words of the range are what the CPU maps, and
 * stay so as long as the caller holds umem_mutex; an invalidation waits for the mutex. Nothing is
 * pinned.
 * Mechanism: an interval notifier over the range, a fault into the words, the sequence checked again
 * under umem_mutex. v6.12 maps the pages for DMA here; since v6.16 that is the driver's part
 * (hmm_dma_map_pfn()), unmapping is here in both. What differs is in umem_odp/.
 * Duty: the driver's notifier takes umem_mutex, zaps its device's table and calls
 * ib_umem_odp_unmap_dma_pages().
 */
import { WARN_ON } from '../../../include/linux/bug.ts';
import { EFAULT, EINVAL, ENOMEM, EOVERFLOW } from '../../../include/linux/errno.ts';
import {
	HMM_PFN_ERROR,
	HMM_PFN_REQ_FAULT,
	HMM_PFN_REQ_WRITE,
	HMM_PFN_VALID,
	hmm_range,
} from '../../../include/linux/hmm.ts';
import type { mm_struct } from '../../../include/linux/mm_types.ts';
import type { mmu_interval_notifier_ops } from '../../../include/linux/mmu_notifier.ts';
import { current, type task_struct } from '../../../include/linux/sched.ts';
import {
	type errno,
	type int,
	PAGE_SHIFT,
	type size_t,
	ULONG_MAX,
	type u64,
	type unsigned_long,
} from '../../../include/linux/types.ts';
import { ib_umem_end, ib_umem_odp, ib_umem_start } from '../../../include/rdma/ib_umem_odp.ts';
import {
	IB_ACCESS_HUGETLB,
	IB_ACCESS_ON_DEMAND,
	ib_access_writable,
	type ib_device,
	ib_uses_virt_dma,
} from '../../../include/rdma/ib_verbs.ts';
import { shouldFail } from '../../../include/sim/fault_injection.ts';
import { retryRound } from '../../../include/sim/retry.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { feature, world } from '../../../include/sim/world.ts';
import { lockdep_assert_held } from '../../../kernel/locking/lockdep.ts';
import { mutex_lock, mutex_unlock } from '../../../kernel/locking/mutex.ts';
import { mmdrop, mmget_not_zero, mmgrab, mmput } from '../../../mm/exec_mm.ts';
import {
	mmu_interval_notifier_insert,
	mmu_interval_notifier_remove,
	mmu_interval_read_retry,
} from '../../../mm/mmu_notifier.ts';
import { odpPages } from './umem_odp/pages.ts';

/** Size of a huge page of hugetlb, as a shift. */
const HPAGE_SHIFT = 21;

/** Set up the words, room for DMA addresses and the notifier of a range. */
function* ib_init_umem_odp(umem_odp: ib_umem_odp, ops: mmu_interval_notifier_ops): Sim<int> {
	const unit = 1n << BigInt(umem_odp.page_shift);
	const start = umem_odp.umem.address & ~(unit - 1n);
	const sum = umem_odp.umem.address + umem_odp.umem.length;

	if (sum > ULONG_MAX) return -EOVERFLOW;
	const end = (sum + unit - 1n) & ~(unit - 1n);
	if (end > ULONG_MAX) return -EOVERFLOW;
	if (end === start) return -EINVAL;

	const err = odpPages().alloc(umem_odp, (end - start) >> PAGE_SHIFT, unit);
	if (err) return err;

	umem_odp.notifier.container = umem_odp;
	const ret = yield* mmu_interval_notifier_insert(
		umem_odp.notifier,
		umem_odp.umem.owning_mm!,
		start,
		end - start,
		ops,
	);
	if (ret) odpPages().free(umem_odp);
	return ret;
}

/**
 * Make a range of the current process's memory accessible to a device on demand.
 *
 * @param device - the RDMA device
 * @param addr - first byte
 * @param size - bytes
 * @param access - IB_ACCESS_*, with IB_ACCESS_ON_DEMAND
 * @param ops - the driver's notifier
 * @retval -EINVAL not on demand, or empty
 * @retval -ENOMEM no memory
 * @retval -EOVERFLOW the range wraps
 * @retval -EOPNOTSUPP v7.3: the device needs cache syncs or bounce buffers
 * @context Process context; may sleep.
 * @kernel drivers/infiniband/core/umem_odp.c
 */
export function* ib_umem_odp_get(
	device: ib_device,
	addr: unsigned_long,
	size: size_t,
	access: int,
	ops: mmu_interval_notifier_ops,
): Sim<ib_umem_odp | errno> {
	if (WARN_ON((access & IB_ACCESS_ON_DEMAND) === 0, 'umem is not on demand')) return -EINVAL;
	if (shouldFail('ib_umem_odp_get')) return -ENOMEM;

	const umem_odp = new ib_umem_odp();
	const mm = current().mm as mm_struct;
	umem_odp.umem.ibdev = device;
	umem_odp.umem.length = size;
	umem_odp.umem.address = addr;
	umem_odp.umem.writable = ib_access_writable(access);
	umem_odp.umem.is_odp = true;
	umem_odp.umem.owning_mm = mm;
	umem_odp.page_shift = access & IB_ACCESS_HUGETLB ? HPAGE_SHIFT : Number(PAGE_SHIFT);
	umem_odp.tgid = current();
	mmgrab(mm);

	const ret = yield* ib_init_umem_odp(umem_odp, ops);
	if (ret) {
		umem_odp.tgid = null;
		yield* mmdrop(mm);
		return ret;
	}
	return umem_odp;
}

/**
 * A placeholder for all of the process's address space; children stand for its parts.
 *
 * @param device - the RDMA device
 * @param access - IB_ACCESS_*
 * @retval -EINVAL huge pages were asked for
 * @retval -ENOMEM no memory
 * @kernel drivers/infiniband/core/umem_odp.c
 */
export function* ib_umem_odp_alloc_implicit(
	device: ib_device,
	access: int,
): Sim<ib_umem_odp | errno> {
	if (access & IB_ACCESS_HUGETLB) return -EINVAL;
	if (shouldFail('ib_umem_odp_alloc_implicit')) return -ENOMEM;

	const umem_odp = new ib_umem_odp();
	umem_odp.umem.ibdev = device;
	umem_odp.umem.writable = ib_access_writable(access);
	umem_odp.umem.is_odp = true;
	umem_odp.umem.owning_mm = current().mm;
	umem_odp.is_implicit_odp = true;
	umem_odp.tgid = current();
	mmgrab(current().mm as mm_struct);
	return umem_odp;
}

/**
 * A part of an implicit range.
 *
 * @param root_umem - the implicit range
 * @param addr - first byte
 * @param size - bytes
 * @param ops - the driver's notifier
 * @retval -EINVAL `root_umem` is not implicit, or the part is empty
 * @retval -EFAULT the address space is gone
 * @retval -ENOMEM no memory
 * @retval -EOVERFLOW the part wraps
 * @kernel drivers/infiniband/core/umem_odp.c
 */
export function* ib_umem_odp_alloc_child(
	root_umem: ib_umem_odp,
	addr: unsigned_long,
	size: size_t,
	ops: mmu_interval_notifier_ops,
): Sim<ib_umem_odp | errno> {
	if (WARN_ON(!root_umem.is_implicit_odp, 'the parent is not implicit')) return -EINVAL;
	if (shouldFail('ib_umem_odp_alloc_child')) return -ENOMEM;

	const mm = root_umem.umem.owning_mm as mm_struct;
	const odp_data = new ib_umem_odp();
	odp_data.umem.ibdev = root_umem.umem.ibdev;
	odp_data.umem.length = size;
	odp_data.umem.address = addr;
	odp_data.umem.writable = root_umem.umem.writable;
	odp_data.umem.is_odp = true;
	odp_data.umem.owning_mm = mm;
	odp_data.page_shift = Number(PAGE_SHIFT);

	// A notifier may only be inserted into an address space that still has a user.
	if (!mmget_not_zero(mm)) return -EFAULT;
	odp_data.tgid = root_umem.tgid;
	const ret = yield* ib_init_umem_odp(odp_data, ops);
	if (ret) odp_data.tgid = null;
	else mmgrab(mm);
	yield* mmput(mm);
	return ret ? ret : odp_data;
}

/**
 * Undo ib_umem_odp_get(), ib_umem_odp_alloc_implicit() or ib_umem_odp_alloc_child().
 *
 * @param umem_odp - the range; the device's table does not refer to it any more
 * @context Process context; may sleep, waits for invalidations that run. Without umem_mutex.
 * @kernel drivers/infiniband/core/umem_odp.c
 */
export function* ib_umem_odp_release(umem_odp: ib_umem_odp): Sim<void> {
	if (!umem_odp.is_implicit_odp) {
		yield* mutex_lock(umem_odp.umem_mutex);
		yield* ib_umem_odp_unmap_dma_pages(
			umem_odp,
			ib_umem_start(umem_odp),
			ib_umem_end(umem_odp),
		);
		yield* mutex_unlock(umem_odp.umem_mutex);
		// Not under the mutex: it waits for invalidations, and those take it.
		yield* mmu_interval_notifier_remove(umem_odp.notifier);
		odpPages().free(umem_odp);
	}
	umem_odp.tgid = null;
	yield* mmdrop(umem_odp.umem.owning_mm as mm_struct);
}

/**
 * Whether get_pid_task() finds the owner no more. Its threads may end, and others may use its address
 * space still: it is gone when it has let its address space go.
 */
function hasExited(tgid: task_struct | null): boolean {
	return tgid === null || tgid.mm === null;
}

/**
 * Bring the words of a range up to date, faulting pages in if asked, and keep them so.
 *
 * @param umem_odp - the range
 * @param user_virt - first byte
 * @param bcnt - bytes
 * @param access_mask - HMM_PFN_WRITE if the pages have to be writable, else 0; v6.12:
 *   ODP_READ_ALLOWED_BIT, with ODP_WRITE_ALLOWED_BIT if they have to be writable
 * @param fault - false takes a snapshot
 * @returns entries of the device's table covered, **with umem_mutex held**; or an errno without it
 * @retval -EFAULT outside of the range, or a page cannot be made present; v6.12: nor mapped
 * @retval -EINVAL the process is gone, or a page is smaller than the range's unit; v6.12: no access
 *   is asked for
 * @retval -EPERM a page cannot be made writable
 * @retval -EBUSY no answer in time
 * @retval -EINTR v7.3: killed
 * @retval -ENOMEM v7.3: no memory
 * @context Process context; may sleep.
 * @kernel drivers/infiniband/core/umem_odp.c
 */
export function* ib_umem_odp_map_dma_and_lock(
	umem_odp: ib_umem_odp,
	user_virt: u64,
	bcnt: u64,
	access_mask: u64,
	fault: boolean,
): Sim<int> {
	const dev = umem_odp.umem.ibdev;
	const unit = 1n << BigInt(umem_odp.page_shift);
	const mm = umem_odp.umem.owning_mm as mm_struct;
	const pages = odpPages();
	const began = world().clock;

	if (pages.needsAccess && access_mask === 0n) return -EINVAL;
	if (user_virt < ib_umem_start(umem_odp) || user_virt + bcnt > ib_umem_end(umem_odp))
		return -EFAULT;
	if (hasExited(umem_odp.tgid) || !mmget_not_zero(mm)) return -EINVAL;

	const start = user_virt & ~(unit - 1n);
	const end = (user_virt + bcnt + unit - 1n) & ~(unit - 1n);
	const pfn_start_idx = Number((start - ib_umem_start(umem_odp)) >> PAGE_SHIFT);
	const num_pfns = Number((end - start) >> PAGE_SHIFT);
	const range = new hmm_range({
		notifier: umem_odp.notifier,
		start,
		end,
		hmm_pfns: pages.words(umem_odp).subarray(pfn_start_idx, pfn_start_idx + num_pfns),
		// It maps by hmm_dma_map_pfn() only, which does not need a page.
		hmm_providers: umem_odp.map.provider_list?.from(pfn_start_idx) ?? null,
	});
	if (fault) {
		range.default_flags = HMM_PFN_REQ_FAULT;
		if (access_mask & pages.writeBit) range.default_flags |= HMM_PFN_REQ_WRITE;
	}
	// All that the proposal asks of a requester: name the device that will issue the DMA. Who maps
	// every page as RAM must not ask.
	if (feature('p2p_op_dma_dev') && pages.mapsP2p && !ib_uses_virt_dma(dev))
		range.dma_dev = dev.dma_device;

	let ret: int;
	for (let round = 0; ; round++) {
		retryRound(
			round,
			'ib_umem_odp_map_dma_and_lock',
			'an invalidation that keeps coming',
		);
		ret = yield* pages.fault(range, began);
		if (ret) {
			yield* mmput(mm);
			return ret;
		}
		yield* mutex_lock(umem_odp.umem_mutex);
		if (!mmu_interval_read_retry(umem_odp.notifier, range.notifier_seq)) break;
		yield* mutex_unlock(umem_odp.umem_mutex);
	}

	const step = Number(unit >> PAGE_SHIFT);
	const first = pfn_start_idx / step;
	let units = 0;
	for (let i = 0; i < num_pfns; i += step, units++) {
		const word = range.hmm_pfns[i]!;
		if (fault) {
			WARN_ON((word & HMM_PFN_ERROR) !== 0n, 'a faulted page is in error');
			WARN_ON((word & HMM_PFN_VALID) === 0n, 'a faulted page is not there');
		} else if (!(word & HMM_PFN_VALID)) {
			pages.absent?.(umem_odp, first + units);
			continue;
		}
		// A snapshot takes what the word grants.
		ret = pages.present(umem_odp, first + units, word, fault ? access_mask : null);
		if (ret) break;
	}
	if (ret) yield* mutex_unlock(umem_odp.umem_mutex);
	yield* mmput(mm);
	return ret ? ret : units;
}

/**
 * Unmap a part of the range from the device's DMA.
 *
 * @param umem_odp - the range; the device's table has no entry for the part any more
 * @param virt - first address
 * @param bound - exclusive
 * @context umem_mutex held.
 * @kernel drivers/infiniband/core/umem_odp.c
 */
export function* ib_umem_odp_unmap_dma_pages(
	umem_odp: ib_umem_odp,
	virt: u64,
	bound: u64,
): Sim<void> {
	const start = ib_umem_start(umem_odp);
	const end = ib_umem_end(umem_odp);
	const shift = BigInt(umem_odp.page_shift);
	const pages = odpPages();

	lockdep_assert_held(umem_odp.umem_mutex);
	const first = virt > start ? virt : start;
	const last = bound < end ? bound : end;
	for (let addr = first; addr < last; addr += 1n << shift)
		yield* pages.unmap(umem_odp, Number((addr - start) >> shift));
}
