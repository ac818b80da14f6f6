// SPDX-License-Identifier: GPL-2.0-only
/**
 * Looking up VMAs. mm/mmap.ts hands these on; they are a file of their own because the page walker
 * needs them and nothing else of it.
 *
 * `mm.vmas` is sorted and disjoint; what the kernel has as a maple tree is a binary search here.
 */
import type { mm_struct, vm_area_struct } from '../include/linux/mm_types.ts';
import type { unsigned_long } from '../include/linux/types.ts';
import { mmap_assert_locked } from './mmap_lock.ts';

/**
 * Index of the first VMA that ends above an address; the number of VMAs when there is none.
 *
 * @param mm - address space
 * @param addr - the address
 */
export function vmaIndex(mm: mm_struct, addr: unsigned_long): number {
	const { vmas } = mm;
	let low = 0;
	let high = vmas.length;
	while (low < high) {
		const middle = (low + high) >> 1;
		if (vmas[middle]!.vm_end <= addr) low = middle + 1;
		else high = middle;
	}
	return low;
}

/**
 * The first VMA that ends above an address: it holds the address or lies behind it.
 *
 * @param mm - address space
 * @param addr - the address
 * @returns null when there is none
 * @context The mmap lock is held.
 * @kernel mm/mmap.c
 */
export function find_vma(mm: mm_struct, addr: unsigned_long): vm_area_struct | null {
	mmap_assert_locked(mm);
	return mm.vmas[vmaIndex(mm, addr)] ?? null;
}

/**
 * find_vma() and the VMA in front of what it finds.
 *
 * @param mm - address space
 * @param addr - the address
 * @param pprev - out: the VMA in front, or null
 * @returns null when there is none
 * @context The mmap lock is held.
 * @kernel mm/mmap.c
 */
export function find_vma_prev(
	mm: mm_struct,
	addr: unsigned_long,
	pprev: { value: vm_area_struct | null },
): vm_area_struct | null {
	mmap_assert_locked(mm);
	const at = vmaIndex(mm, addr);
	pprev.value = mm.vmas[at - 1] ?? null;
	return mm.vmas[at] ?? null;
}

/**
 * The first VMA that overlaps a range.
 *
 * @param mm - address space
 * @param start - first address
 * @param end - exclusive
 * @returns null when there is none
 * @context The mmap lock is held.
 * @kernel mm/mmap.c
 */
export function find_vma_intersection(
	mm: mm_struct,
	start: unsigned_long,
	end: unsigned_long,
): vm_area_struct | null {
	const vma = find_vma(mm, start);
	return vma !== null && vma.vm_start < end ? vma : null;
}

/**
 * The VMA that holds an address.
 *
 * @param mm - address space
 * @param addr - the address
 * @returns null when none does
 * @context The mmap lock is held.
 * @kernel include/linux/mm.h
 */
export function vma_lookup(mm: mm_struct, addr: unsigned_long): vm_area_struct | null {
	const vma = find_vma(mm, addr);
	return vma !== null && vma.vm_start <= addr ? vma : null;
}
