// SPDX-License-Identifier: GPL-2.0-only
/**
 * HMM_DMIRROR_EXCLUSIVE: pages for the device alone.
 *
 * ```
 *          6.12, 64 pages at once                      7.3, page by page
 *   maps   all of them or, if a page is missing in     each that could be had
 *          the answer, those that could be had
 *   fails  -EBUSY                                      the errno of the first that could not
 * ```
 *
 * An exclusive page is in the mirror with DPT_XA_TAG_ATOMIC until a notifier takes it away.
 *
 * @kernel lib/test_hmm.c
 */
import { EBUSY, EINVAL } from '../../include/linux/errno.ts';
import { type folio, type page, page_folio } from '../../include/linux/mm_types.ts';
import {
	GFP_ATOMIC,
	type int,
	outParam,
	PAGE_SHIFT,
	PAGE_SIZE,
	type unsigned_long,
} from '../../include/linux/types.ts';
import { xa_err, xa_is_err, xa_store } from '../../include/linux/xarray.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { mutex_lock, mutex_unlock } from '../../kernel/locking/mutex.ts';
import { make_device_exclusive, make_device_exclusive_range } from '../../mm/device_exclusive.ts';
import { mmget_not_zero, mmput } from '../../mm/exec_mm.ts';
import { folio_unlock } from '../../mm/filemap.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import { folio_put, put_page } from '../../mm/swap.ts';
import type { hmm_dmirror_cmd } from '../test_hmm_uapi.ts';
import { DPT_XA_TAG_ATOMIC, type dmirror, readBack } from './mirror.ts';

/** Pages that 6.12 asks for at once. */
const PAGES_AT_ONCE = 64n;

/**
 * Put exclusive pages into the mirror.
 *
 * @param self - the mirror
 * @param start - address of the first page
 * @param pages - the pages, locked; null: that one is not exclusive
 * @returns how many there are, or an errno
 * @kernel lib/test_hmm.c
 */
function* dmirror_atomic_map(
	self: dmirror,
	start: unsigned_long,
	pages: readonly (page | null)[],
): Sim<int> {
	let mapped = 0;
	yield* mutex_lock(self.mutex);
	for (const [i, p] of pages.entries()) {
		if (p === null) continue;
		const at = (start >> PAGE_SHIFT) + BigInt(i);
		const entry = xa_store(
			self.pt,
			at,
			{ page: p, tag: DPT_XA_TAG_ATOMIC },
			GFP_ATOMIC,
		);
		if (xa_is_err(entry)) {
			yield* mutex_unlock(self.mutex);
			return xa_err(entry);
		}
		mapped++;
	}
	yield* mutex_unlock(self.mutex);
	return mapped;
}

/** v7.3: one page. */
function* exclusivePage(self: dmirror, addr: unsigned_long): Sim<int> {
	const f = outParam<folio | null>(null);
	const p = yield* make_device_exclusive(self.mm, addr, null, f);
	if (typeof p === 'number') return p;
	const ret = yield* dmirror_atomic_map(self, addr, [p]);
	yield* folio_unlock(f.value!);
	yield* folio_put(f.value!);
	return ret < 0 ? ret : 0;
}

/** v6.12: some pages. */
function* exclusivePages(self: dmirror, addr: unsigned_long, next: unsigned_long): Sim<int> {
	const pages: (page | null)[] = [];
	const wanted = Number((next - addr) >> PAGE_SHIFT);
	const ret = yield* make_device_exclusive_range(self.mm, addr, next, pages, null);
	const mapped = ret === wanted ? yield* dmirror_atomic_map(self, addr, pages) : 0;
	for (const p of pages) {
		if (p === null) continue;
		yield* folio_unlock(page_folio(p));
		yield* put_page(p);
	}
	return mapped < wanted ? -EBUSY : 0;
}

/**
 * Make the pages of a range exclusive to the device, and hand their data to the program.
 *
 * @param self - the mirror
 * @param cmd - range and buffer; out: pages
 * @retval 0 all of them are
 * @retval -EINVAL the process is gone
 * @retval -EBUSY v6.12: some are not
 * @retval -ENOENT a page was taken back at once
 * @returns v7.3: an errno of make_device_exclusive()
 * @kernel lib/test_hmm.c
 */
export function* dmirror_exclusive(self: dmirror, cmd: hmm_dmirror_cmd): Sim<int> {
	const { mm } = self;
	const end = cmd.addr + (cmd.npages << PAGE_SHIFT);
	const single = feature('device_exclusive_single');
	if (!mmget_not_zero(mm)) return -EINVAL;
	yield* mmap_read_lock(mm);
	let ret: int = 0;
	for (let addr = cmd.addr; ret === 0 && addr < end; ) {
		const step = addr + (single ? 1n : PAGES_AT_ONCE) * PAGE_SIZE;
		const next = step < end ? step : end;
		ret = single
			? yield* exclusivePage(self, addr)
			: yield* exclusivePages(self, addr, next);
		addr = next;
	}
	yield* mmap_read_unlock(mm);
	yield* mmput(mm);
	return ret !== 0 ? ret : yield* readBack(self, cmd);
}
