// SPDX-License-Identifier: GPL-2.0-only
/** struct ib_umem: a range of user memory that an RDMA device may touch. */
import type { mm_struct } from '../linux/mm_types.ts';
import type { size_t, u64, unsigned_long } from '../linux/types.ts';
import type { ib_device } from './ib_verbs.ts';

/**
 * A range of user memory.
 *
 * @kernel include/rdma/ib_umem.h
 */
export class ib_umem {
	ibdev: ib_device = null as unknown as ib_device;
	owning_mm: mm_struct | null = null;
	iova: u64 = 0n;
	length: size_t = 0n;
	address: unsigned_long = 0n;
	writable = false;
	is_odp = false;
	is_dmabuf = false;
}
