// SPDX-License-Identifier: GPL-2.0-only
/**
 * The page cache of a shmem file: finding and making folios, and truncation.
 *
 * Guarantee: a folio in `i_pages` is up to date and has the cache's reference; a hole has none and is
 * filled with zeros by whoever touches it; what was swapped out (swap.ts) comes back on a touch. Truncation unmaps first, then drops folios, then unmaps
 * again: a fault in between may have copied one privately.
 */
import { EEXIST, EFAULT, EINVAL, EIO, ENOMEM } from '../../include/linux/errno.ts';
import type { inode } from '../../include/linux/fs.ts';
import { type address_space, type folio, page_folio } from '../../include/linux/mm_types.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import {
	folio_clear_dirty,
	PG_locked,
	PG_swapbacked,
	PG_uptodate,
} from '../../include/linux/page-flags.ts';
import {
	__GFP_ZERO,
	type errno,
	GFP_HIGHUSER_MOVABLE,
	type int,
	type loff_t,
	type out,
	outParam,
	type pgoff_t,
} from '../../include/linux/types.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';
import { preemptible, type Sim, schedulePoint } from '../../include/sim/schedule.ts';
import { filemap_lock_folio, folio_lock, folio_unlock } from '../filemap.ts';
import { unmap_mapping_folio, unmap_mapping_range } from '../memory.ts';
import { alloc_pages, pageFrame, touchFrame } from '../page_alloc.ts';
import { folio_mark_dirty, folio_wait_writeback } from '../page-writeback.ts';
import { folio_mapped } from '../rmap.ts';
import { folio_add_lru, folio_get, folio_put } from '../swap.ts';
import { cachePoint, dropSwapped, shmem_swapin_folio, swappedEntry } from './swap.ts';

/** Do not allocate; a hole is no folio. */
export const SGP_READ = 0;
/** Allocate within i_size. */
export const SGP_CACHE = 2;
/** Allocate, also beyond i_size. */
export const SGP_WRITE = 3;
/** What shmem_get_folio() does about holes. */
export type sgp_type = 0 | 2 | 3;

function* sizePoint(i: inode, access: 'read' | 'write'): Sim<void> {
	if (preemptible()) yield schedulePoint(access, i, 'i_size');
}

/**
 * A new folio in the cache, locked, zeroed, with a reference for the caller; -ENOMEM: no memory;
 * -EEXIST: there is one.
 */
function* shmem_add_to_page_cache(mapping: address_space, index: pgoff_t): Sim<folio | errno> {
	if (shouldFail('shmem_alloc_folio')) return -ENOMEM;
	const p = yield* alloc_pages(GFP_HIGHUSER_MOVABLE | __GFP_ZERO, 0);
	if (p === null) return -ENOMEM;
	const f = page_folio(p);
	yield* cachePoint(mapping, 'write');
	if (mapping.i_pages.has(Number(index)) || mapping.swapped.has(Number(index))) {
		yield* folio_put(f);
		return -EEXIST;
	}
	f.flags |= PG_locked | PG_swapbacked | PG_uptodate;
	f.mapping = mapping;
	f.index = index;
	folio_get(f);
	mapping.i_pages.set(Number(index), f);
	folio_add_lru(f);
	return f;
}

/** An index without a folio: swapped out, or a hole, which null leaves one. -EEXIST: look again. */
function* absentFolio(i: inode, index: pgoff_t, sgp: sgp_type): Sim<folio | null | errno> {
	const entry = swappedEntry(i.i_mapping, index);
	if (entry === null)
		return sgp === SGP_READ ? null : yield* shmem_add_to_page_cache(i.i_mapping, index);
	const back = outParam<folio | null>(null);
	const err = yield* shmem_swapin_folio(i, index, entry, back);
	return err === 0 ? back.value : err;
}

/**
 * Put a new page of zeros into the page cache of a shmem file, for userfaultfd.
 *
 * @param i - the inode
 * @param index - the page
 * @returns the folio, locked and with a reference
 * @retval -EFAULT beyond the end of the file
 * @retval -EEXIST there is one
 * @retval -ENOMEM no memory, or made to fail at site `shmem_alloc_folio`
 * @context Sleeps.
 */
export function* shmemAddZeroed(i: inode, index: pgoff_t): Sim<folio | errno> {
	yield* sizePoint(i, 'read');
	if (index << 12n >= i.i_size) return -EFAULT;
	return yield* shmem_add_to_page_cache(i.i_mapping, index);
}

/**
 * Take a page out of the page cache again that shmemAddZeroed() put there and nobody mapped.
 *
 * @param i - the inode
 * @param f - the folio, locked; the caller's reference stays
 * @context Sleeps.
 */
export function* shmemDropNew(i: inode, f: folio): Sim<void> {
	yield* cachePoint(i.i_mapping, 'write');
	i.i_mapping.i_pages.delete(Number(f.index));
	f.mapping = null;
	yield* folio_put(f);
}

/**
 * The folio of a page of a shmem file.
 *
 * @param i - the inode
 * @param index - the page
 * @param foliop - out: the folio, locked and with a reference; null for a hole and SGP_READ
 * @param sgp - what is done about a hole
 * @retval 0 foliop is set
 * @retval -EINVAL beyond the end of the file, unless SGP_WRITE
 * @retval -ENOMEM no memory
 * @retval -EIO it is swapped out, and could not be read
 * @context Sleeps.
 * @deviates no write_end: there are no large folios to choose
 * @kernel mm/shmem.c
 */
export function* shmem_get_folio(
	i: inode,
	index: pgoff_t,
	foliop: out<folio | null>,
	sgp: sgp_type,
): Sim<int> {
	const mapping = i.i_mapping;
	foliop.value = null;
	for (;;) {
		yield* sizePoint(i, 'read');
		if (sgp <= SGP_CACHE && index << 12n >= i.i_size) return -EINVAL;
		let f = yield* filemap_lock_folio(mapping, index);
		if (f === null) {
			const made = yield* absentFolio(i, index, sgp);
			if (made === -EEXIST) continue;
			if (typeof made === 'number' || made === null) return made ?? 0;
			f = made;
		}
		yield* sizePoint(i, 'read');
		if (f.mapping === mapping && (sgp === SGP_WRITE || index << 12n < i.i_size)) {
			foliop.value = f;
			return 0;
		}
		// truncated meanwhile: a folio beyond the end must not stay
		if (f.mapping === mapping) yield* truncate_inode_folio(mapping, f);
		yield* folio_unlock(f);
		yield* folio_put(f);
	}
}

/**
 * Take a folio out of the page cache, and out of whatever maps it.
 *
 * @param mapping - page cache
 * @param f - the folio, locked, with a reference of the caller's
 * @retval 0 gone
 * @retval -EIO it is not of this page cache any more
 * @context Sleeps.
 * @kernel mm/truncate.c
 */
export function* truncate_inode_folio(mapping: address_space, f: folio): Sim<int> {
	if (f.mapping !== mapping) return -EIO;
	if (folio_mapped(f)) yield* unmap_mapping_folio(f);
	yield* cachePoint(mapping, 'write');
	mapping.i_pages.delete(Number(f.index));
	f.mapping = null;
	folio_clear_dirty(f);
	// the cache's reference
	yield* folio_put(f);
	return 0;
}

/**
 * Drop the folios of a range, and zero the parts of pages at its ends.
 *
 * @param i - the inode
 * @param lstart - first byte
 * @param lend - last byte; -1: everything behind lstart
 * @context Sleeps.
 * @kernel mm/shmem.c
 */
export function* shmem_truncate_range(i: inode, lstart: loff_t, lend: loff_t): Sim<void> {
	const mapping = i.i_mapping;
	const first = Number((lstart + 4095n) >> 12n);
	const behind = lend < 0n ? Number.MAX_SAFE_INTEGER : Number((lend + 1n) >> 12n);
	yield* zeroEnds(i, lstart, lend);
	yield* cachePoint(mapping, 'read');
	yield* dropSwapped(mapping, first, behind);
	const indices = [...mapping.i_pages.keys()].sort((a, b) => a - b);
	for (const index of indices) {
		if (index < first || index >= behind) continue;
		const f = mapping.i_pages.get(index);
		if (f === undefined) continue;
		folio_get(f);
		yield* folio_lock(f);
		yield* truncate_inode_folio(mapping, f);
		yield* folio_unlock(f);
		yield* folio_put(f);
	}
}

/** Zeroes what a range covers of the pages that it covers in part: those in which it begins and ends. */
function* zeroEnds(i: inode, lstart: loff_t, lend: loff_t): Sim<void> {
	const from = Number(lstart & 4095n);
	// behind the last byte, in its page; to the end of the file is to the end of a page
	const to = lend < 0n ? 4096 : Number(lend & 4095n) + 1;
	const first = lstart >> 12n;
	const last = lend < 0n ? -1n : lend >> 12n;
	if (first === last) {
		if (from !== 0 || to !== 4096) yield* zeroPart(i, first, from, to);
		return;
	}
	if (from !== 0) yield* zeroPart(i, first, from, 4096);
	if (to !== 4096) yield* zeroPart(i, last, 0, to);
}

/** Zeroes bytes [from, to) of a page, unless it is a hole. */
function* zeroPart(i: inode, index: pgoff_t, from: number, to: number): Sim<void> {
	const found = outParam<folio | null>(null);
	// a hole stays one; what is swapped out comes back, since some of it is left
	if (swappedEntry(i.i_mapping, index) !== null)
		yield* shmem_get_folio(i, index, found, SGP_READ);
	else found.value = yield* filemap_lock_folio(i.i_mapping, index);
	const f = found.value;
	if (f === null) return;
	yield* folio_wait_writeback(f);
	touchFrame('memory-write', Number(page_to_pfn(f.page)));
	pageFrame(f.page).u8.fill(0, from, to);
	yield* folio_mark_dirty(f);
	yield* folio_unlock(f);
	yield* folio_put(f);
}

/**
 * Set the size of a shmem file: the size's part of shmem_setattr().
 *
 * @param i - the inode
 * @param newsize - bytes
 * @context Sleeps.
 */
export function* shmemSetSize(i: inode, newsize: loff_t): Sim<void> {
	const oldsize = i.i_size;
	yield* sizePoint(i, 'write');
	i.i_size = newsize;
	if (newsize >= oldsize) return;
	const holebegin = (newsize + 4095n) & ~4095n;
	if (oldsize > holebegin) yield* unmap_mapping_range(i.i_mapping, holebegin, 0n, true);
	yield* shmem_truncate_range(i, newsize, -1n);
	// private copies that a fault made meanwhile
	if (oldsize > holebegin) yield* unmap_mapping_range(i.i_mapping, holebegin, 0n, true);
}
