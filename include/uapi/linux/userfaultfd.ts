// SPDX-License-Identifier: GPL-2.0-only
/** userfaultfd: bits of its ioctls and messages. */
import type { u64 } from '../../linux/types.ts';

export const UFFD_FEATURE_PAGEFAULT_FLAG_WP: u64 = 1n << 0n;
export const UFFD_FEATURE_EVENT_REMAP: u64 = 1n << 2n;
export const UFFD_FEATURE_MISSING_SHMEM: u64 = 1n << 5n;
/** A fault is a SIGBUS; nobody is asked. */
export const UFFD_FEATURE_SIGBUS: u64 = 1n << 7n;
/** Not offered: hugetlb mappings cannot be watched here. */
export const UFFD_FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1n << 12n;
/** Write protection also of anonymous pages that are not there. */
export const UFFD_FEATURE_WP_UNPOPULATED: u64 = 1n << 13n;
export const UFFD_FEATURE_POISON: u64 = 1n << 14n;
/** Protection against reads and writes. */
export const UFFD_FEATURE_RWP: u64 = 1n << 17n;

export const UFFDIO_REGISTER_MODE_MISSING: u64 = 1n << 0n;
export const UFFDIO_REGISTER_MODE_WP: u64 = 1n << 1n;
export const UFFDIO_REGISTER_MODE_RWP: u64 = 1n << 3n;

export const UFFDIO_COPY_MODE_DONTWAKE: u64 = 1n << 0n;
export const UFFDIO_COPY_MODE_WP: u64 = 1n << 1n;
export const UFFDIO_WRITEPROTECT_MODE_WP: u64 = 1n << 0n;
export const UFFDIO_RWPROTECT_MODE_RWP: u64 = 1n << 0n;

export const UFFD_PAGEFAULT_FLAG_WRITE = 1 << 0;
export const UFFD_PAGEFAULT_FLAG_WP = 1 << 1;
export const UFFD_PAGEFAULT_FLAG_RWP = 1 << 3;

/** A fault, as it is read from the userfaultfd. */
export interface uffd_msg {
	/** Page of the access. */
	readonly address: u64;
	/** UFFD_PAGEFAULT_FLAG_* bits. */
	readonly flags: number;
}
