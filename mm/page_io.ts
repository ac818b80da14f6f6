// SPDX-License-Identifier: GPL-2.0-only
/**
 * Writing folios of the swap cache out.
 *
 * | file | functions |
 * | --- | --- |
 * | page_io/bio.ts | swap_read_folio, swap_write_unplug, the ends of transfers |
 * | page_io.ts | swap_writepage |
 *
 * @kernel mm/page_io.c
 */
import type { folio } from '../include/linux/mm_types.ts';
import type { int } from '../include/linux/types.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { folio_unlock } from './filemap.ts';
import { submitSwapWrite } from './page_io/bio.ts';
import { folio_start_writeback } from './page-writeback.ts';
import { folio_free_swap } from './swapfile.ts';

export { swap_read_folio, swap_write_unplug } from './page_io/bio.ts';

/**
 * Write a folio to its slot, unless nobody needs what is there any more.
 *
 * @param f - the folio, locked, clean; unlocked on return
 * @retval 0 it is being written, or need not be
 * @context Process context.
 * @deviates takes the folio, and no writeback_control; the write is submitted here
 * @kernel mm/page_io.c (gone in 7.x)
 */
export function* swap_writepage(f: folio): Sim<int> {
	if (yield* folio_free_swap(f)) {
		yield* folio_unlock(f);
		return 0;
	}
	yield* folio_start_writeback(f);
	yield* folio_unlock(f);
	yield* submitSwapWrite(f);
	return 0;
}
