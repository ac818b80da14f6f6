// SPDX-License-Identifier: GPL-2.0-only
/** What a program says to the HMM test driver, and what it hears. */
import type { unsigned_long } from '../include/linux/types.ts';

/**
 * Argument of every command.
 *
 * @kernel lib/test_hmm_uapi.h
 */
export class hmm_dmirror_cmd {
	/** First address, page aligned. */
	addr: unsigned_long = 0n;
	/** The program's buffer: a page a page for data, a byte a page for a snapshot. */
	ptr: Uint8Array = new Uint8Array(0);
	/** Pages; the flags of HMM_DMIRROR_FLAGS. */
	npages: unsigned_long = 0n;
	/** Out: pages that were copied. */
	cpages: unsigned_long = 0n;
	/** Out: how often the device faulted. */
	faults: unsigned_long = 0n;

	/** @param init - designated initialiser */
	constructor(init: Partial<hmm_dmirror_cmd> = {}) {
		Object.assign(this, init);
	}
}

export const HMM_DMIRROR_READ = 0x00;
export const HMM_DMIRROR_WRITE = 0x01;
export const HMM_DMIRROR_MIGRATE_TO_DEV = 0x02;
export const HMM_DMIRROR_MIGRATE_TO_SYS = 0x03;
export const HMM_DMIRROR_SNAPSHOT = 0x04;
export const HMM_DMIRROR_EXCLUSIVE = 0x05;
export const HMM_DMIRROR_CHECK_EXCLUSIVE = 0x06;
export const HMM_DMIRROR_RELEASE = 0x07;
/** @since v6.19 */
export const HMM_DMIRROR_FLAGS = 0x08;
/** @since v7.3 */
export const HMM_DMIRROR_READ_UNLOCKED = 0x09;

/** The next page that is allocated for a migration is refused. */
export const HMM_DMIRROR_FLAG_FAIL_ALLOC: unsigned_long = 1n;

export const HMM_DMIRROR_PROT_ERROR = 0xff;
export const HMM_DMIRROR_PROT_NONE = 0x00;
export const HMM_DMIRROR_PROT_READ = 0x01;
export const HMM_DMIRROR_PROT_WRITE = 0x02;
export const HMM_DMIRROR_PROT_PMD = 0x04;
export const HMM_DMIRROR_PROT_PUD = 0x08;
export const HMM_DMIRROR_PROT_ZERO = 0x10;
export const HMM_DMIRROR_PROT_DEV_PRIVATE_LOCAL = 0x20;
export const HMM_DMIRROR_PROT_DEV_PRIVATE_REMOTE = 0x30;
export const HMM_DMIRROR_PROT_DEV_COHERENT_LOCAL = 0x40;
export const HMM_DMIRROR_PROT_DEV_COHERENT_REMOTE = 0x50;

export const HMM_DMIRROR_MEMORY_DEVICE_PRIVATE = 1;
export const HMM_DMIRROR_MEMORY_DEVICE_COHERENT = 2;
