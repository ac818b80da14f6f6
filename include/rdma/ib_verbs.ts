// SPDX-License-Identifier: GPL-2.0-only
/** Access flags, completion codes and struct ib_device. */
import type { device } from '../linux/device.ts';
import type { int } from '../linux/types.ts';

export const IB_ACCESS_LOCAL_WRITE = 1;
export const IB_ACCESS_REMOTE_WRITE = 2;
export const IB_ACCESS_REMOTE_READ = 4;
export const IB_ACCESS_REMOTE_ATOMIC = 8;
export const IB_ACCESS_MW_BIND = 16;
export const IB_ACCESS_ON_DEMAND = 64;
export const IB_ACCESS_HUGETLB = 128;

export const IB_WC_SUCCESS = 0;
export const IB_WC_LOC_QP_OP_ERR = 2;
export const IB_WC_LOC_PROT_ERR = 4;
export const IB_WC_WR_FLUSH_ERR = 5;
export const IB_WC_REM_INV_REQ_ERR = 9;
export const IB_WC_REM_ACCESS_ERR = 10;
export const IB_WC_REM_OP_ERR = 11;
/** Result of a work request. */
export type ib_wc_status = 0 | 2 | 4 | 5 | 9 | 10 | 11;

export const IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH = 0;
export const IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE = 1;
export const IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT = 2;

/**
 * ODP statistics of a device or a memory region.
 *
 * @kernel include/rdma/ib_verbs.h
 */
export class ib_odp_counters {
	faults = 0;
	faults_handled = 0;
	invalidations = 0;
	invalidations_handled = 0;
	prefetch = 0;
}

/**
 * An RDMA device.
 *
 * @kernel include/rdma/ib_verbs.h
 */
export class ib_device {
	name = '';
	/** Issues the DMA; null for a device that copies by CPU. */
	dma_device: device | null = null;
	/** The driver's object around it (container_of()). */
	container: object | null = null;

	/** @param init - designated initialiser */
	constructor(init: Partial<ib_device> = {}) {
		Object.assign(this, init);
	}
}

/**
 * Whether a device copies by CPU instead of issuing DMA.
 *
 * @param dev - the device
 * @kernel include/rdma/ib_verbs.h
 */
export function ib_uses_virt_dma(dev: ib_device): boolean {
	return dev.dma_device === null;
}

/**
 * Whether any of the flags lets somebody write.
 *
 * @param access_flags - IB_ACCESS_*
 * @kernel include/rdma/ib_verbs.h
 */
export function ib_access_writable(access_flags: int): boolean {
	return (
		(access_flags &
			(IB_ACCESS_LOCAL_WRITE |
				IB_ACCESS_REMOTE_WRITE |
				IB_ACCESS_REMOTE_ATOMIC |
				IB_ACCESS_MW_BIND)) !==
		0
	);
}
