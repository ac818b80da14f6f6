// SPDX-License-Identifier: GPL-2.0-only
/**
 * Transfers between folios and a swap device.
 *
 * Guarantee: a transfer takes or gives the bytes when it ends; a write ends PG_writeback, a read makes
 * the folio uptodate and unlocks it. Mechanism: a queue for each device. Where interleavings are
 * looked for, a kworker ends transfers one by one, as the device's interrupts would; elsewhere reads
 * end when they are submitted, and writes when the batch is (swap_write_unplug()), which is long
 * before anybody looks.
 */
import { WARN_ON_ONCE } from '../../include/linux/bug.ts';
import type { folio } from '../../include/linux/mm_types.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import { folio_test_swapcache, PG_uptodate } from '../../include/linux/page-flags.ts';
import {
	folioSwapEntry,
	SWP_SYNCHRONOUS_IO,
	type SwapIo,
	swap_cache_index,
	swap_info,
	type swap_info_struct,
	swp_swap_info,
} from '../../include/linux/swap.ts';
import { work_struct } from '../../include/linux/workqueue.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';
import { preemptible, type Sim, schedulePoint } from '../../include/sim/schedule.ts';
import { schedule_work } from '../../kernel/workqueue.ts';
import { folio_end_writeback, folio_unlock } from '../filemap.ts';
import { pageFrame, touchFrame } from '../page_alloc.ts';
import { folio_mark_dirty } from '../page-writeback.ts';

/** A write is over: the folio is clean, or dirty again if it failed. */
function* end_swap_bio_write(si: swap_info_struct, f: folio): Sim<void> {
	if (shouldFail('swap_write')) yield* folio_mark_dirty(f);
	else {
		touchFrame('memory-read', Number(page_to_pfn(f.page)));
		si.bdev.write(swap_cache_index(folioSwapEntry(f)), pageFrame(f.page).u32);
	}
	yield* folio_end_writeback(f);
}

/** A read is over: the folio is uptodate, or not if it failed. */
function* end_swap_bio_read(si: swap_info_struct, f: folio): Sim<void> {
	if (!shouldFail('swap_read')) {
		touchFrame('memory-write', Number(page_to_pfn(f.page)));
		si.bdev.read(swap_cache_index(folioSwapEntry(f)), pageFrame(f.page).u32);
		f.flags |= PG_uptodate;
	}
	yield* folio_unlock(f);
}

/** Ends the transfers of a device. */
function* endAll(si: swap_info_struct): Sim<void> {
	for (;;) {
		if (preemptible()) yield schedulePoint('atomic', si, 'queue');
		const io = si.queue.shift();
		if (io === undefined) return;
		if (io.write) yield* end_swap_bio_write(si, io.folio);
		else yield* end_swap_bio_read(si, io.folio);
	}
}

function* swapIoWork(work: work_struct): Sim<void> {
	yield* endAll(work.container as swap_info_struct);
}

/** Submits a transfer. */
function* submit(si: swap_info_struct, io: SwapIo): Sim<void> {
	const { folio: f } = io;
	WARN_ON_ONCE(!folio_test_swapcache(f), 'transfer of a folio that is not in the swap cache');
	if (preemptible()) yield schedulePoint('atomic', si, 'queue');
	si.queue.push(io);
	if (si.flags & SWP_SYNCHRONOUS_IO) yield* endAll(si);
	else if (preemptible()) {
		si.io_work ??= new work_struct(swapIoWork, si);
		schedule_work(si.io_work);
	} else if (!io.write) yield* endAll(si);
}

/**
 * Read a folio of the swap cache from its slot.
 *
 * @param f - the folio, locked, not uptodate; unlocked when the read is over
 * @context Process context.
 * @deviates no plug is passed
 * @kernel mm/page_io.c
 */
export function* swap_read_folio(f: folio): Sim<void> {
	yield* submit(deviceOf(f), { folio: f, write: false });
}

/**
 * Write a folio of the swap cache to its slot.
 *
 * @param f - the folio, under writeback until the write is over
 */
export function* submitSwapWrite(f: folio): Sim<void> {
	yield* submit(deviceOf(f), { folio: f, write: true });
}

function deviceOf(f: folio): swap_info_struct {
	return swp_swap_info(folioSwapEntry(f))!;
}

/**
 * Let the writes of a batch go.
 *
 * @context Process context.
 * @deviates all devices; the kernel passes its plug
 * @kernel mm/page_io.c (gone in 7.x)
 */
export function* swap_write_unplug(): Sim<void> {
	// where interleavings are looked for a kworker is on its way
	if (!preemptible()) for (const si of swap_info()) yield* endAll(si);
}
