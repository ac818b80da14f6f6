// SPDX-License-Identifier: GPL-2.0-only
/** Locking a folio in a fault, which may drop the mmap lock while it waits. These are of mm/filemap.c. */
import {
	FAULT_FLAG_KILLABLE,
	FAULT_FLAG_RETRY_NOWAIT,
	type folio,
	VM_FAULT_RETRY,
	type vm_fault,
} from '../../include/linux/mm_types.ts';
import type { vm_fault_t } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { folio_lock, folio_lock_killable, folio_trylock, folio_wait_locked } from '../filemap.ts';
import { mmap_read_unlock } from '../mmap_lock.ts';
import { fault_flag_allow_retry_first } from './fault_common.ts';

/**
 * Lock a folio for a fault, or have the fault come again without the mmap lock.
 *
 * @param f - the folio, with a reference
 * @param vmf - the fault
 * @retval 0 locked
 * @retval VM_FAULT_RETRY not locked; the mmap lock was dropped unless FAULT_FLAG_RETRY_NOWAIT
 * @context Sleeps.
 * @kernel mm/filemap.c
 */
export function* __folio_lock_or_retry(f: folio, vmf: vm_fault): Sim<vm_fault_t> {
	const { flags } = vmf;
	if (fault_flag_allow_retry_first(flags)) {
		if (flags & FAULT_FLAG_RETRY_NOWAIT) return VM_FAULT_RETRY;
		yield* mmap_read_unlock(vmf.vma.vm_mm);
		yield* folio_wait_locked(f);
		return VM_FAULT_RETRY;
	}
	if ((flags & FAULT_FLAG_KILLABLE) === 0) {
		yield* folio_lock(f);
		return 0;
	}
	if ((yield* folio_lock_killable(f)) === 0) return 0;
	yield* mmap_read_unlock(vmf.vma.vm_mm);
	return VM_FAULT_RETRY;
}

/**
 * Lock a folio for a fault: at once if nobody has the lock, else as __folio_lock_or_retry() does.
 *
 * @param f - the folio, with a reference
 * @param vmf - the fault
 * @retval 0 locked
 * @retval VM_FAULT_RETRY not locked; the mmap lock was dropped unless FAULT_FLAG_RETRY_NOWAIT
 * @context Sleeps.
 * @kernel include/linux/pagemap.h
 */
export function* folio_lock_or_retry(f: folio, vmf: vm_fault): Sim<vm_fault_t> {
	return (yield* folio_trylock(f)) ? 0 : yield* __folio_lock_or_retry(f, vmf);
}
