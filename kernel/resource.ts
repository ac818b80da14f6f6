// SPDX-License-Identifier: GPL-2.0-only
/**
 * Physical address ranges that nobody's memory is at, for device-private pagemaps.
 *
 * Guarantee: a range handed out overlaps no RAM, no BAR window and no other range handed out.
 * Mechanism: from the top of the physical address space downwards, as upstream does.
 *
 * ```
 *   0 ......... RAM ......... BARs ......... | <- next range | taken | taken | 2^46
 * ```
 */
import { ENOMEM } from '../include/linux/errno.ts';
import type { range } from '../include/linux/memremap.ts';
import type { errno, phys_addr_t } from '../include/linux/types.ts';
import { shouldFail } from '../include/sim/fault_injection.ts';
import { perWorld } from '../include/sim/world.ts';

/** Top of the physical address space that struct pages can describe. */
export const MAX_PHYSMEM_BITS = 46n;
/** Alignment of a range: one subsection of the memory map. */
const ALIGNMENT = 1n << 21n;
/** Nothing is handed out below this: RAM and device windows live there. */
const FLOOR = 1n << 45n;

const takenRanges = perWorld<range[]>(() => []);

/**
 * Take a range of physical addresses that no memory is at.
 *
 * @param size - bytes; rounded up to 2 MiB
 * @retval -ENOMEM the address space is used up
 * @kernel kernel/resource.c
 */
export function request_free_mem_region(size: phys_addr_t): range | errno {
	if (shouldFail('request_free_mem_region')) return -ENOMEM;
	const bytes = ((size as bigint) + ALIGNMENT - 1n) & ~(ALIGNMENT - 1n);
	const taken = takenRanges();
	let end = 1n << MAX_PHYSMEM_BITS;

	// Sorted from the top: the first gap that is large enough is the highest.
	for (const other of taken) {
		if (end - (other.end + 1n) >= bytes) break;
		end = other.start;
	}
	if (end - bytes < FLOOR) return -ENOMEM;
	const found: range = { start: end - bytes, end: end - 1n };
	taken.push(found);
	taken.sort((a, b) => (a.start < b.start ? 1 : -1));
	return found;
}

/**
 * Give a range back.
 *
 * @param start - its first address
 * @param _size - its bytes
 * @kernel include/linux/ioport.h
 */
export function release_mem_region(start: phys_addr_t, _size: phys_addr_t): void {
	const taken = takenRanges();
	const at = taken.findIndex((r) => r.start === start);
	if (at >= 0) taken.splice(at, 1);
}
