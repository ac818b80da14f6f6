// SPDX-License-Identifier: GPL-2.0-only
/**
 * struct xarray: a sparse array of pointers by unsigned long.
 *
 * Guarantee: iteration is by index; a range store is one entry, whatever its width, and a store
 * inside a range splits it. Mechanism: sorted extents [first, last] with a value, in blocks of some
 * hundred, so that a store into many moves few; a lookup is a binary search. Duty: a store that may allocate can fail; its `xa_err()` is a negative errno.
 */
import { shouldFail } from '../sim/fault_injection.ts';
import { touch } from '../sim/schedule.ts';
import { EBUSY, ENOMEM } from './errno.ts';
import { type errno, type gfp_t, type int, ULONG_MAX, type unsigned_long } from './types.ts';

/** Consecutive indices with one value. */
export interface xa_extent<T> {
	readonly first: unsigned_long;
	/** Inclusive. */
	readonly last: unsigned_long;
	readonly entry: T;
}

/** Extents of a block; one that gets more is divided. */
const BLOCK_LIMIT = 256;

/**
 * A sparse array.
 *
 * @kernel include/linux/xarray.h
 */
export class xarray<T> {
	/** Sorted, disjoint, no block empty. */
	blocks: xa_extent<T>[][] = [];
}

/** Where an extent is, or would be. */
interface Place {
	readonly block: number;
	readonly at: number;
}

/** Number of blocks that end before an index. */
function blocksBefore<T>(blocks: readonly xa_extent<T>[][], index: unsigned_long): number {
	let low = 0;
	let high = blocks.length;
	while (low < high) {
		const middle = (low + high) >> 1;
		const block = blocks[middle]!;
		if (block[block.length - 1]!.last < index) low = middle + 1;
		else high = middle;
	}
	return low;
}

/** Number of a block's extents that end before an index. */
function extentsBefore<T>(block: readonly xa_extent<T>[], index: unsigned_long): number {
	let low = 0;
	let high = block.length;
	while (low < high) {
		const middle = (low + high) >> 1;
		if (block[middle]!.last < index) low = middle + 1;
		else high = middle;
	}
	return low;
}

/** First extent that ends at or after an index; where none does, the place behind the last one. */
function lowerBound<T>({ blocks }: xarray<T>, index: unsigned_long): Place {
	const block = blocksBefore(blocks, index);
	if (block === blocks.length && block > 0)
		return { block: block - 1, at: blocks[block - 1]!.length };
	return { block, at: block === blocks.length ? 0 : extentsBefore(blocks[block]!, index) };
}

/** The extent at a place. */
function extentAt<T>({ blocks }: xarray<T>, { block, at }: Place): xa_extent<T> | undefined {
	return blocks[block]?.[at];
}

/** Put an extent in front of what is at a place. */
function insertAt<T>({ blocks }: xarray<T>, { block, at }: Place, extent: xa_extent<T>): void {
	const into = blocks[block];
	if (into === undefined) blocks.push([extent]);
	else if (at === into.length) into.push(extent);
	else into.splice(at, 0, extent);
	if (into !== undefined && into.length > BLOCK_LIMIT)
		blocks.splice(block + 1, 0, into.splice(into.length >> 1));
}

/** Take the extent at a place out. */
function removeAt<T>({ blocks }: xarray<T>, { block, at }: Place): void {
	const from = blocks[block]!;
	if (from.length === 1) blocks.splice(block, 1);
	else from.splice(at, 1);
}

/**
 * The entry at an index.
 *
 * @param xa - the array
 * @param index - where
 * @returns NULL where there is none
 * @kernel lib/xarray.c
 */
export function xa_load<T>(xa: xarray<T>, index: unsigned_long): T | null {
	touch('read', xa);
	const extent = extentAt(xa, lowerBound(xa, index));
	return extent !== undefined && extent.first <= index ? extent.entry : null;
}

/**
 * Set the entries of a range.
 *
 * @param xa - the array
 * @param first - first index
 * @param last - last index, inclusive
 * @param entry - the value; NULL erases
 * @param _gfp - allocation flags
 * @returns NULL, or a negative errno (-ENOMEM)
 * @kernel lib/xarray.c
 */
export function xa_store_range<T>(
	xa: xarray<T>,
	first: unsigned_long,
	last: unsigned_long,
	entry: T | null,
	_gfp: gfp_t,
): null | errno {
	touch('write', xa);
	if (entry !== null && shouldFail('xa_store')) return -ENOMEM;
	setRange(xa, first, last, entry);
	return null;
}

function setRange<T>(
	xa: xarray<T>,
	first: unsigned_long,
	last: unsigned_long,
	entry: T | null,
): void {
	let place = lowerBound(xa, first);
	let there = extentAt(xa, place);
	while (there !== undefined && there.first <= last) {
		removeAt(xa, place);
		// what sticks out on either side stays
		if (there.last > last) insertInOrder(xa, { ...there, first: last + 1n });
		if (there.first < first) insertInOrder(xa, { ...there, last: first - 1n });
		place = lowerBound(xa, first);
		there = extentAt(xa, place);
	}
	if (entry !== null) insertAt(xa, place, { first, last, entry });
}

/** Put an extent, where nothing is, between its neighbours. */
function insertInOrder<T>(xa: xarray<T>, extent: xa_extent<T>): void {
	insertAt(xa, lowerBound(xa, extent.first), extent);
}

/**
 * Set the entry at an index.
 *
 * @param xa - the array
 * @param index - where
 * @param entry - the value; NULL erases
 * @param gfp - allocation flags
 * @returns the entry that was there, or a negative errno (-ENOMEM)
 * @deviates in the kernel a store into a range changes the whole range; here it splits it
 * @kernel lib/xarray.c
 */
export function xa_store<T>(
	xa: xarray<T>,
	index: unsigned_long,
	entry: T | null,
	gfp: gfp_t,
): T | null | errno {
	const old = xa_load(xa, index);
	const error = xa_store_range(xa, index, index, entry, gfp);
	return error ?? old;
}

/**
 * Erase the entry at an index.
 *
 * @param xa - the array
 * @param index - where
 * @returns the entry that was there
 * @kernel lib/xarray.c
 */
export function xa_erase<T>(xa: xarray<T>, index: unsigned_long): T | null {
	const old = xa_load(xa, index);
	touch('write', xa);
	setRange(xa, index, index, null);
	return old;
}

/**
 * Set the entry at an index if it is `old`.
 *
 * @param xa - the array
 * @param index - where
 * @param old - what must be there; NULL: nothing
 * @param entry - the value; NULL erases
 * @param gfp - allocation flags
 * @returns the entry that was there: the store was done if it is `old`; or a negative errno
 * @kernel include/linux/xarray.h
 */
export function xa_cmpxchg<T>(
	xa: xarray<T>,
	index: unsigned_long,
	old: T | null,
	entry: T | null,
	gfp: gfp_t,
): T | null | errno {
	const there = xa_load(xa, index);
	return there === old ? xa_store(xa, index, entry, gfp) : there;
}

/**
 * Set the entry at an index where there is none.
 *
 * @param xa - the array
 * @param index - where
 * @param entry - the value
 * @param gfp - allocation flags
 * @retval 0 stored
 * @retval -EBUSY there is one
 * @retval -ENOMEM no memory
 * @kernel include/linux/xarray.h
 */
export function xa_insert<T>(xa: xarray<T>, index: unsigned_long, entry: T, gfp: gfp_t): int {
	if (xa_load(xa, index) !== null) return -EBUSY;
	return xa_store_range(xa, index, index, entry, gfp) ?? 0;
}

/**
 * The errno of what a store returned; 0 when it is no error.
 *
 * @param entry - what a store returned
 * @kernel include/linux/xarray.h
 */
export function xa_err(entry: unknown): int {
	return typeof entry === 'number' && entry < 0 ? entry : 0;
}

/**
 * Whether a store returned an error.
 *
 * @param entry - what a store returned
 * @kernel include/linux/xarray.h
 */
export function xa_is_err(entry: unknown): boolean {
	return xa_err(entry) !== 0;
}

/**
 * Whether an array is empty.
 *
 * @param xa - the array
 * @kernel include/linux/xarray.h
 */
export function xa_empty<T>(xa: xarray<T>): boolean {
	return xa.blocks.length === 0;
}

/**
 * Erase everything.
 *
 * @param xa - the array
 * @kernel lib/xarray.c
 */
export function xa_destroy<T>(xa: xarray<T>): void {
	touch('write', xa);
	xa.blocks = [];
}

/**
 * Go over the entries of a range by index. Entries may be stored and erased meanwhile: the next one
 * is looked up in the array as it then is.
 *
 * @param xa - the array
 * @param start - first index
 * @param last - last index, inclusive
 * @returns pairs of index and entry; a range gives one pair, at its first index
 * @kernel include/linux/xarray.h
 */
export function* xa_for_each_range<T>(
	xa: xarray<T>,
	start: unsigned_long,
	last: unsigned_long,
): Generator<[index: unsigned_long, entry: T], void, void> {
	let from = start;
	for (;;) {
		touch('read', xa);
		const extent = extentAt(xa, lowerBound(xa, from));
		if (extent === undefined || extent.first > last) return;
		yield [extent.first > from ? extent.first : from, extent.entry];
		if (extent.last === ULONG_MAX) return;
		from = extent.last + 1n;
	}
}

/**
 * Go over all entries by index.
 *
 * @param xa - the array
 * @returns pairs of index and entry
 * @kernel include/linux/xarray.h
 */
export function xa_for_each<T>(
	xa: xarray<T>,
): Generator<[index: unsigned_long, entry: T], void, void> {
	return xa_for_each_range(xa, 0n, ULONG_MAX);
}
