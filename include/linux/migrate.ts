// SPDX-License-Identifier: GPL-2.0-only
/**
 * Migration words and struct migrate_vma.
 *
 * ```
 *   63......6  5   4          3       2  1         0
 *  |   pfn   | - | COMPOUND | WRITE | - | MIGRATE | VALID |      COMPOUND: v7.3
 * ```
 */
import type { page, vm_area_struct } from './mm_types.ts';
import { pageOfNumber } from './mmzone.ts';
import type { pfn_t, unsigned_long } from './types.ts';

export const MIGRATE_PFN_VALID = 1n << 0n;
export const MIGRATE_PFN_MIGRATE = 1n << 1n;
export const MIGRATE_PFN_WRITE = 1n << 3n;
export const MIGRATE_PFN_COMPOUND = 1n << 4n;
export const MIGRATE_PFN_SHIFT = 6n;
const VALID_NUMBER = Number(MIGRATE_PFN_VALID);
const UNITS = 2 ** Number(MIGRATE_PFN_SHIFT);

export const MIGRATE_VMA_SELECT_SYSTEM = 1n << 0n;
export const MIGRATE_VMA_SELECT_DEVICE_PRIVATE = 1n << 1n;
export const MIGRATE_VMA_SELECT_DEVICE_COHERENT = 1n << 2n;
export const MIGRATE_VMA_SELECT_COMPOUND = 1n << 3n;

/** @kernel include/linux/migrate.h */
export function migrate_pfn_to_page(mpfn: unsigned_long): page | null {
	if (mpfn === 0n) return null;
	// a PFN of 40 bits and 6 of flags: a number has them all, and costs less
	const word = Number(mpfn);
	return word & VALID_NUMBER ? pageOfNumber(Math.floor(word / UNITS)) : null;
}
/** @kernel include/linux/migrate.h */
export function migrate_pfn(pfn: pfn_t): unsigned_long {
	return ((pfn as bigint) << MIGRATE_PFN_SHIFT) | MIGRATE_PFN_VALID;
}

/**
 * One migration of a range of a VMA.
 *
 * @kernel include/linux/migrate.h
 */
export class migrate_vma {
	vma: vm_area_struct | null = null;
	/** Filled by the driver: where each page goes; 0: stays. */
	dst: BigUint64Array = null as unknown as BigUint64Array;
	/** Filled by migrate_vma_setup(): what is there. */
	src: BigUint64Array = null as unknown as BigUint64Array;
	/** Pages collected. */
	cpages: unsigned_long = 0n;
	npages: unsigned_long = 0n;
	start: unsigned_long = 0n;
	end: unsigned_long = 0n;
	pgmap_owner: object | null = null;
	flags: unsigned_long = 0n;
	/** Page locked and referenced by the CPU fault that this migration serves. */
	fault_page: page | null = null;

	/** @param init - designated initialiser */
	constructor(init: Partial<migrate_vma> = {}) {
		Object.assign(this, init);
	}
}
