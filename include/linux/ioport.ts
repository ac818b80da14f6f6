// SPDX-License-Identifier: GPL-2.0-only
/** struct resource: a range of CPU addresses, and what is decoded there. */
import type { resource_size_t, unsigned_long } from './types.ts';

export const IORESOURCE_IO: unsigned_long = 0x100n;
export const IORESOURCE_MEM: unsigned_long = 0x200n;
export const IORESOURCE_PREFETCH: unsigned_long = 0x2000n;
export const IORESOURCE_MEM_64: unsigned_long = 0x10_0000n;

/**
 * A range of CPU addresses.
 *
 * @kernel include/linux/ioport.h
 */
export class resource {
	start: resource_size_t = 0n;
	/** Inclusive. */
	end: resource_size_t = 0n;
	name = '';
	/** IORESOURCE_*; 0: unused. */
	flags: unsigned_long = 0n;

	/** @param init - designated initialiser */
	constructor(init: Partial<resource> = {}) {
		Object.assign(this, init);
	}
}

/**
 * Bytes in a resource, as the C expression computes them: the all-zero resource has one.
 *
 * @param res - the resource
 * @kernel include/linux/ioport.h
 */
export function resource_size(res: resource): resource_size_t {
	return res.end - res.start + 1n;
}

/**
 * What kind of resource it is.
 *
 * @param res - the resource
 * @returns IORESOURCE_IO, IORESOURCE_MEM, or 0
 * @kernel include/linux/ioport.h
 */
export function resource_type(res: resource): unsigned_long {
	return res.flags & 0x1f00n;
}

/**
 * Whether `r2` lies in `r1` and is of the same type.
 *
 * @param r1 - the outer one
 * @param r2 - the inner one
 * @kernel include/linux/ioport.h
 */
export function resource_contains(r1: resource, r2: resource): boolean {
	return resource_type(r1) === resource_type(r2) && r1.start <= r2.start && r1.end >= r2.end;
}
