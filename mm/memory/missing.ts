// SPDX-License-Identifier: GPL-2.0-only
/** A fault on an entry that is empty. */
import { vma_is_anonymous } from '../../include/linux/mm.ts';
import type { vm_fault } from '../../include/linux/mm_types.ts';
import type { vm_fault_t } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { do_anonymous_page } from './anon.ts';
import { do_fault } from './file.ts';

/**
 * A fault on an entry that is empty, or only marked.
 *
 * @param vmf - the fault; its entry is not mapped
 * @returns bits of the fault's result
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/memory.c
 */
export function* do_pte_missing(vmf: vm_fault): Sim<vm_fault_t> {
	return vma_is_anonymous(vmf.vma) ? yield* do_anonymous_page(vmf) : yield* do_fault(vmf);
}
