// SPDX-License-Identifier: GPL-2.0-only
/** Whether the CPU's page is as large as an entry of the device's table. */
import { hmm_pfn_to_map_order } from '../../../../include/linux/hmm.ts';
import { PAGE_SHIFT, type u64 } from '../../../../include/linux/types.ts';
import type { ib_umem_odp } from '../../../../include/rdma/ib_umem_odp.ts';

/**
 * The device's table has entries of one size: a smaller page does not fill one.
 *
 * @param umem_odp - the range
 * @param word - a VALID word
 */
export function fillsUnit(umem_odp: ib_umem_odp, word: u64): boolean {
	return hmm_pfn_to_map_order(word) + Number(PAGE_SHIFT) >= umem_odp.page_shift;
}
