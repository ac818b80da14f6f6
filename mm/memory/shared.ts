// SPDX-License-Identifier: GPL-2.0-only
/** Writing to a page of a shared mapping: who is told, and what is dirty then. */
import {
	FAULT_FLAG_RETRY_NOWAIT,
	type folio,
	page_folio,
	VM_FAULT_COMPLETED,
	VM_FAULT_ERROR,
	VM_FAULT_LOCKED,
	VM_FAULT_NOPAGE,
	type vm_fault,
} from '../../include/linux/mm_types.ts';
import type { vm_fault_t } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { folio_lock, folio_unlock } from '../filemap.ts';
import { mmap_read_unlock } from '../mmap_lock.ts';
import { folio_mark_dirty } from '../page-writeback.ts';
import { ptep_get } from '../pgtable.ts';
import { folio_get, folio_put } from '../swap.ts';
import {
	fault_flag_allow_retry_first,
	mapFaultEntry,
	unmapFaultEntry,
	wp_page_reuse,
} from './fault_common.ts';

/**
 * Let the file system know that a page is about to be written to.
 *
 * @param vmf - the fault; no lock is held
 * @param f - folio of the page
 * @returns with VM_FAULT_LOCKED: go on, the folio is locked
 * @retval 0 the page was truncated: let the CPU try again
 * @returns else what failed
 * @kernel mm/memory.c
 */
export function* do_page_mkwrite(vmf: vm_fault, f: folio): Sim<vm_fault_t> {
	const ret = yield* vmf.vma.vm_ops!.page_mkwrite!(vmf);
	if (ret & (VM_FAULT_ERROR | VM_FAULT_NOPAGE | VM_FAULT_LOCKED)) return ret;
	yield* folio_lock(f);
	if (f.mapping !== null) return ret | VM_FAULT_LOCKED;
	yield* folio_unlock(f);
	return 0;
}

/**
 * A shared page was made writable: it is dirty. A writer may have to wait until other pages are
 * clean, and drops the mmap lock for that where it may.
 *
 * @param vmf - the fault; its page is locked on entry and not on return
 * @retval 0 done
 * @retval VM_FAULT_COMPLETED done, and the mmap lock was dropped
 * @kernel mm/memory.c
 */
export function* fault_dirty_shared_page(vmf: vm_fault): Sim<vm_fault_t> {
	const f = page_folio(vmf.page!);
	const dirtied = yield* folio_mark_dirty(f);
	const { mapping } = f;
	yield* folio_unlock(f);
	const throttle = dirtied || vmf.vma.vm_ops?.page_mkwrite !== undefined;
	if (!throttle || mapping === null) return 0;
	if (!fault_flag_allow_retry_first(vmf.flags)) return 0;
	if (vmf.flags & FAULT_FLAG_RETRY_NOWAIT) return 0;
	yield* mmap_read_unlock(vmf.vma.vm_mm);
	return VM_FAULT_COMPLETED;
}

/** Makes the entry writable after page_mkwrite(), if it is still what it was. */
function* finish_mkwrite_fault(vmf: vm_fault): Sim<vm_fault_t> {
	if (!(yield* mapFaultEntry(vmf))) return VM_FAULT_NOPAGE;
	if (ptep_get(vmf.pte!) !== vmf.orig_pte) {
		yield* unmapFaultEntry(vmf);
		return VM_FAULT_NOPAGE;
	}
	yield* wp_page_reuse(vmf);
	return 0;
}

/**
 * A write to a shared page that is mapped read-only.
 *
 * @param vmf - the fault; its entry is locked on entry and left on return
 * @param f - folio of the page
 * @returns bits of the fault's result
 * @kernel mm/memory.c
 */
export function* wp_page_shared(vmf: vm_fault, f: folio): Sim<vm_fault_t> {
	folio_get(f);
	if (vmf.vma.vm_ops?.page_mkwrite !== undefined) {
		yield* unmapFaultEntry(vmf);
		const tmp = yield* do_page_mkwrite(vmf, f);
		if (tmp === 0 || tmp & (VM_FAULT_ERROR | VM_FAULT_NOPAGE)) {
			yield* folio_put(f);
			return tmp;
		}
		const finished = yield* finish_mkwrite_fault(vmf);
		if (finished !== 0) {
			yield* folio_unlock(f);
			yield* folio_put(f);
			return finished;
		}
	} else {
		yield* wp_page_reuse(vmf);
		yield* folio_lock(f);
	}
	const ret = yield* fault_dirty_shared_page(vmf);
	yield* folio_put(f);
	return ret;
}
