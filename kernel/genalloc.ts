// SPDX-License-Identifier: GPL-2.0-only
/**
 * General purpose special memory pool: lib/genalloc.c.
 *
 * Guarantee: the same answers as the kernel's bitmap with gen_pool_first_fit, at a cost that knows
 * allocations only, not the size of the pool. Mechanism: per chunk the allocated extents, sorted;
 * an allocation takes the first gap that is wide enough. It stands here and not in lib/, because
 * drivers use it.
 *
 * ```
 *   chunk   |####....##........|      used = [0,4) [8,10)     first gap of 4 blocks: 4
 * ```
 */
import { BUG_ON, oops } from '../include/linux/bug.ts';
import { ENOMEM } from '../include/linux/errno.ts';
import { gen_pool, gen_pool_chunk, type gen_pool_extent } from '../include/linux/genalloc.ts';
import type { int, out, phys_addr_t, size_t, unsigned_long } from '../include/linux/types.ts';
import { shouldFail } from '../include/sim/fault_injection.ts';
import { touch } from '../include/sim/schedule.ts';

/**
 * Make a pool.
 *
 * @param min_alloc_order - log2 of the bytes of a block
 * @param _nid - NUMA node of the structure
 * @returns NULL when there is no memory
 * @kernel lib/genalloc.c
 */
export function gen_pool_create(min_alloc_order: int, _nid: int): gen_pool | null {
	return shouldFail('gen_pool_create') ? null : new gen_pool(min_alloc_order);
}

/**
 * Add a range to a pool.
 *
 * @param pool - the pool
 * @param virt - first address
 * @param phys - its physical address
 * @param size - bytes
 * @param _nid - NUMA node of the structure
 * @param owner - given back by the calls that name an owner
 * @retval 0 added
 * @retval -ENOMEM no memory for the bitmap
 * @kernel lib/genalloc.c
 */
export function gen_pool_add_owner(
	pool: gen_pool,
	virt: unsigned_long,
	phys: phys_addr_t,
	size: size_t,
	_nid: int,
	owner: unknown,
): int {
	if (shouldFail('gen_pool_add_owner')) return -ENOMEM;
	pool.chunks.unshift(new gen_pool_chunk(virt, phys, size, owner));
	return 0;
}

/**
 * gen_pool_add_owner() without owner.
 *
 * @param pool - the pool
 * @param addr - first address
 * @param phys - its physical address
 * @param size - bytes
 * @param nid - NUMA node of the structure
 * @retval 0 added
 * @retval -ENOMEM no memory for the bitmap
 * @kernel include/linux/genalloc.h
 */
export function gen_pool_add_virt(
	pool: gen_pool,
	addr: unsigned_long,
	phys: phys_addr_t,
	size: size_t,
	nid: int,
): int {
	return gen_pool_add_owner(pool, addr, phys, size, nid, null);
}

/**
 * gen_pool_add_virt() for addresses that have no physical address.
 *
 * @param pool - the pool
 * @param addr - first address
 * @param size - bytes
 * @param nid - NUMA node of the structure
 * @retval 0 added
 * @retval -ENOMEM no memory for the bitmap
 * @kernel include/linux/genalloc.h
 */
export function gen_pool_add(pool: gen_pool, addr: unsigned_long, size: size_t, nid: int): int {
	return gen_pool_add_virt(pool, addr, -1n, size, nid);
}

/**
 * Physical address of an address of a pool.
 *
 * @param pool - the pool
 * @param addr - the address
 * @returns -1n where no chunk has it
 * @kernel lib/genalloc.c
 */
export function gen_pool_virt_to_phys(pool: gen_pool, addr: unsigned_long): phys_addr_t {
	const chunk = pool.chunks.find((c) => addr >= c.start_addr && addr <= c.end_addr);
	return chunk === undefined ? -1n : chunk.phys_addr + (addr - chunk.start_addr);
}

/**
 * Destroy a pool. A BUG if something is allocated from it.
 *
 * @param pool - the pool
 * @kernel lib/genalloc.c
 */
export function gen_pool_destroy(pool: gen_pool): void {
	for (const chunk of pool.chunks)
		BUG_ON(
			chunk.used.length !== 0,
			`gen_pool_destroy: ${chunk.used.length} allocated extents in chunk 0x${chunk.start_addr.toString(16)}`,
		);
	pool.chunks = [];
}

/** Blocks of a chunk, as the kernel's chunk_size() >> order. */
function blocks(pool: gen_pool, chunk: gen_pool_chunk): number {
	return Number((chunk.end_addr + 1n - chunk.start_addr) >> BigInt(pool.min_alloc_order));
}

/** Mark the first gap of `nr` blocks as used; -1: there is none. */
function firstFit(chunk: gen_pool_chunk, end: number, nr: number): number {
	const { used } = chunk;
	let start = 0;
	let at = 0;
	while (at < used.length && used[at]!.start - start < nr) start = used[at++]!.end;
	if (start + nr > end) return -1;
	const before = at > 0 && used[at - 1]!.end === start ? used[at - 1]! : null;
	const after = at < used.length && used[at]!.start === start + nr ? used[at]! : null;
	if (before !== null && after !== null) {
		before.end = after.end;
		used.splice(at, 1);
	} else if (before !== null) before.end = start + nr;
	else if (after !== null) after.start = start;
	else used.splice(at, 0, { start, end: start + nr });
	return start;
}

/**
 * Allocate from a pool, first fit.
 *
 * @param pool - the pool
 * @param size - bytes, rounded up to whole blocks
 * @param owner - out: owner of the chunk
 * @returns address; 0 when no chunk has room
 * @kernel include/linux/genalloc.h
 */
export function gen_pool_alloc_owner(
	pool: gen_pool,
	size: size_t,
	owner: out<unknown> | null,
): unsigned_long {
	touch('atomic', pool);
	if (owner !== null) owner.value = null;
	if (size === 0n || shouldFail('gen_pool_alloc')) return 0n;
	const order = BigInt(pool.min_alloc_order);
	const nr = Number((size + (1n << order) - 1n) >> order);
	for (const chunk of pool.chunks) {
		if (size > chunk.avail) continue;
		const start = firstFit(chunk, blocks(pool, chunk), nr);
		if (start < 0) continue;
		chunk.avail -= BigInt(nr) << order;
		if (owner !== null) owner.value = chunk.owner;
		return chunk.start_addr + (BigInt(start) << order);
	}
	return 0n;
}

/**
 * gen_pool_alloc_owner() for a caller that does not ask for the owner.
 *
 * @param pool - the pool
 * @param size - bytes
 * @returns address; 0 when no chunk has room
 * @kernel include/linux/genalloc.h
 */
export function gen_pool_alloc(pool: gen_pool, size: size_t): unsigned_long {
	return gen_pool_alloc_owner(pool, size, null);
}

/** Whether all of the blocks were used; they are free then. */
function clearBlocks(used: gen_pool_extent[], start: number, end: number): boolean {
	const at = used.findIndex((e) => e.start <= start && start < e.end);
	const extent = used[at];
	if (extent === undefined || extent.end < end) return false;
	const rest: gen_pool_extent[] = [];
	if (extent.start < start) rest.push({ start: extent.start, end: start });
	if (extent.end > end) rest.push({ start: end, end: extent.end });
	used.splice(at, 1, ...rest);
	return true;
}

/**
 * Give back to a pool. A BUG if it is not allocated, or not the pool's.
 *
 * @param pool - the pool
 * @param addr - what the allocation returned
 * @param size - bytes that it asked for
 * @param owner - out: owner of the chunk
 * @kernel lib/genalloc.c
 */
export function gen_pool_free_owner(
	pool: gen_pool,
	addr: unsigned_long,
	size: size_t,
	owner: out<unknown> | null,
): void {
	touch('atomic', pool);
	const order = BigInt(pool.min_alloc_order);
	const nr = Number((size + (1n << order) - 1n) >> order);
	const where = `[0x${addr.toString(16)}, 0x${(addr + size).toString(16)})`;
	const chunk = pool.chunks.find((c) => addr >= c.start_addr && addr <= c.end_addr);
	if (chunk === undefined) oops(`gen_pool_free: ${where} is not of this pool`);
	BUG_ON(addr + size - 1n > chunk.end_addr, `gen_pool_free: ${where} leaves its chunk`);
	const start = Number((addr - chunk.start_addr) >> order);
	const cleared = clearBlocks(chunk.used, start, start + nr);
	BUG_ON(!cleared, `gen_pool_free: ${where} is not allocated as a whole`);
	chunk.avail += BigInt(nr) << order;
	if (owner !== null) owner.value = chunk.owner;
}

/**
 * gen_pool_free_owner() for a caller that does not ask for the owner.
 *
 * @param pool - the pool
 * @param addr - what the allocation returned
 * @param size - bytes that it asked for
 * @kernel include/linux/genalloc.h
 */
export function gen_pool_free(pool: gen_pool, addr: unsigned_long, size: size_t): void {
	gen_pool_free_owner(pool, addr, size, null);
}

/**
 * Whether a range lies in one chunk of a pool.
 *
 * @param pool - the pool
 * @param start - first address
 * @param size - bytes
 * @kernel lib/genalloc.c
 */
export function gen_pool_has_addr(pool: gen_pool, start: unsigned_long, size: size_t): boolean {
	const end = start + size - 1n;
	return pool.chunks.some(
		(c) => start >= c.start_addr && start <= c.end_addr && end <= c.end_addr,
	);
}

/**
 * Bytes free.
 *
 * @param pool - the pool
 * @kernel lib/genalloc.c
 */
export function gen_pool_avail(pool: gen_pool): size_t {
	return pool.chunks.reduce((sum, c) => sum + c.avail, 0n);
}

/**
 * Bytes in all.
 *
 * @param pool - the pool
 * @kernel lib/genalloc.c
 */
export function gen_pool_size(pool: gen_pool): size_t {
	return pool.chunks.reduce((sum, c) => sum + (c.end_addr + 1n - c.start_addr), 0n);
}
