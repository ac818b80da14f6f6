// SPDX-License-Identifier: GPL-2.0-only
/**
 * The kernel's driver that gets and pins pages for a program to try it out: /sys/kernel/debug/gup_test.
 *
 * Guarantee: when a command ends every page that it got has been put back. What it gets is held
 * against what the call promises: a pinned page counts as pinned, and one that may be pinned without
 * end lies where that is allowed.
 *
 * @kernel mm/gup_test.c
 */
import { WARN_ON } from '../include/linux/bug.ts';
import { EINVAL } from '../include/linux/errno.ts';
import { FOLL_LONGTERM } from '../include/linux/mm.ts';
import { type page, page_folio } from '../include/linux/mm_types.ts';
import { current } from '../include/linux/sched.ts';
import {
	type int,
	PAGE_SHIFT,
	PAGE_SIZE,
	type unsigned_int,
	type unsigned_long,
} from '../include/linux/types.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { get_user_pages_fast, pin_user_pages_fast } from './gup/fast.ts';
import { folio_is_longterm_pinnable } from './gup/grab.ts';
import { get_user_pages, pin_user_pages, unpin_user_pages } from './gup/pin.ts';
import { mmap_read_lock, mmap_read_unlock } from './mmap_lock.ts';
import { folio_maybe_dma_pinned } from './rmap.ts';
import { put_page } from './swap.ts';

/** get_user_pages_fast() */
export const GUP_FAST_BENCHMARK = 1;
/** pin_user_pages_fast() */
export const PIN_FAST_BENCHMARK = 2;
/** pin_user_pages(FOLL_LONGTERM) */
export const PIN_LONGTERM_BENCHMARK = 3;
/** get_user_pages() */
export const GUP_BASIC_TEST = 4;
/** pin_user_pages() */
export const PIN_BASIC_TEST = 5;

/**
 * Argument of a command; times are not taken.
 *
 * @kernel mm/gup_test.h
 */
export class gup_test {
	/** First address. */
	addr: unsigned_long = 0n;
	/** Bytes; out: those that were tried. */
	size: unsigned_long = 0n;
	/** Pages of one call. */
	nr_pages_per_call: unsigned_long = 0n;
	/** FOLL_* bits. */
	gup_flags: unsigned_int = 0;

	/** @param init - designated initialiser */
	constructor(init: Partial<gup_test> = {}) {
		Object.assign(this, init);
	}
}

type Getter = (
	start: unsigned_long,
	nr: unsigned_long,
	flags: unsigned_int,
	pages: page[],
) => Sim<int>;

/** What a command calls, whether under the mmap lock, and whether it pins. */
const getters: Readonly<Record<int, { get: Getter; lock: boolean; pin: boolean }>> = {
	[GUP_FAST_BENCHMARK]: { get: get_user_pages_fast, lock: false, pin: false },
	[PIN_FAST_BENCHMARK]: { get: pin_user_pages_fast, lock: false, pin: true },
	[PIN_LONGTERM_BENCHMARK]: {
		get: (start, nr, flags, pages) =>
			pin_user_pages(start, nr, flags | FOLL_LONGTERM, pages),
		lock: true,
		pin: true,
	},
	[GUP_BASIC_TEST]: { get: get_user_pages, lock: true, pin: false },
	[PIN_BASIC_TEST]: { get: pin_user_pages, lock: true, pin: true },
};

/** The pages that were pinned count as that. */
function verify_dma_pinned(cmd: int, pages: readonly page[]): void {
	for (const [i, p] of pages.entries()) {
		const f = page_folio(p);
		if (WARN_ON(!folio_maybe_dma_pinned(f), `pages[${i}] is NOT dma-pinned`)) break;
		if (
			cmd === PIN_LONGTERM_BENCHMARK &&
			WARN_ON(
				!folio_is_longterm_pinnable(f),
				`pages[${i}] is NOT pinnable but pinned`,
			)
		)
			break;
	}
}

function* put_back_pages(pin: boolean, pages: readonly page[]): Sim<void> {
	if (pin) yield* unpin_user_pages(pages, BigInt(pages.length));
	else for (const p of pages) yield* put_page(p);
}

/** Get pages call by call, until one gets fewer than it asked for. */
function* getAll(gup: gup_test, get: Getter, pages: page[]): Sim<void> {
	const end = gup.addr + gup.size;
	const wanted = gup.nr_pages_per_call;
	let addr = gup.addr;
	while (addr < end) {
		const left = (end - addr) >> PAGE_SHIFT;
		const nr = wanted < left ? wanted : left;
		const got = yield* get(addr, nr, gup.gup_flags, pages);
		if (got <= 0) break;
		addr += nr * PAGE_SIZE;
		if (BigInt(got) !== wanted) break;
	}
	gup.size = addr - gup.addr;
}

/**
 * A command of the driver, for the current task.
 *
 * @param cmd - GUP_*, PIN_*
 * @param gup - range and flags
 * @retval 0 it was tried; how far it came `size` tells
 * @retval -EINVAL there is no such command, or the range wraps around
 * @context Process context. Sleeps.
 * @kernel mm/gup_test.c
 */
export function* gup_test_ioctl(cmd: unsigned_int, gup: gup_test): Sim<int> {
	const how = getters[cmd];
	if (how === undefined || gup.addr + gup.size >= 1n << 64n) return -EINVAL;
	const { mm } = current();
	const pages: page[] = [];
	if (how.lock) yield* mmap_read_lock(mm!);
	yield* getAll(gup, how.get, pages);
	if (how.pin) verify_dma_pinned(cmd, pages);
	yield* put_back_pages(how.pin, pages);
	if (how.lock) yield* mmap_read_unlock(mm!);
	return 0;
}
