// SPDX-License-Identifier: GPL-2.0-only
/**
 * The fault side of userfaultfd: a thread waits until somebody has resolved its fault.
 *
 * Guarantee: the mmap lock is not held while it waits, and afterwards the fault is tried again. A
 * caller that cannot come again (no FAULT_FLAG_ALLOW_RETRY) gets a SIGBUS instead. Mechanism: the
 * fault is put on the list of the context before the entry is looked at once more, so that whoever
 * resolves it meanwhile either is seen or wakes the thread.
 */

import { VM_UFFD_RWP, VM_UFFD_WP } from '../../include/linux/mm.ts';
import {
	FAULT_FLAG_ALLOW_RETRY,
	FAULT_FLAG_RETRY_NOWAIT,
	FAULT_FLAG_WRITE,
	VM_FAULT_RETRY,
	VM_FAULT_SIGBUS,
	type vm_fault,
} from '../../include/linux/mm_types.ts';
import {
	pmd_leaf,
	pmd_none,
	pmd_present,
	pmd_protnone,
	type pmd_t,
	pmd_uffd_wp,
	pmd_write,
	pte_none,
	pte_present,
	pte_protnone,
	type pte_t,
	pte_uffd_wp,
	pte_write,
	pud_none,
} from '../../include/linux/pgtable.ts';
import type { bool, vm_fault_t, vm_flags_t } from '../../include/linux/types.ts';
import { type userfaultfd_ctx, userfaultfd_wait_queue } from '../../include/linux/userfaultfd_k.ts';
import { type Sim, touch } from '../../include/sim/schedule.ts';
import {
	UFFD_FEATURE_SIGBUS,
	UFFD_PAGEFAULT_FLAG_RWP,
	UFFD_PAGEFAULT_FLAG_WP,
	UFFD_PAGEFAULT_FLAG_WRITE,
} from '../../include/uapi/linux/userfaultfd.ts';
import { wait_event_killable, wake_up_all } from '../../kernel/sched/wait.ts';
import { mmap_assert_locked, mmap_read_unlock } from '../mmap_lock.ts';
import {
	pgd_none_or_clear_bad,
	pgd_offset,
	pmd_offset,
	pmdp_get_lockless,
	pte_offset_map,
	pte_unmap,
	ptep_get_lockless,
	pud_offset,
} from '../pgtable.ts';
import { isUffdMarker } from './marker.ts';

/** What the fault says to whoever resolves it. */
function userfault_msg(vmf: vm_fault, reason: vm_flags_t): userfaultfd_wait_queue {
	let flags = 0;
	if (vmf.flags & FAULT_FLAG_WRITE) flags |= UFFD_PAGEFAULT_FLAG_WRITE;
	if (reason === VM_UFFD_WP) flags |= UFFD_PAGEFAULT_FLAG_WP;
	if (reason === VM_UFFD_RWP) flags |= UFFD_PAGEFAULT_FLAG_RWP;
	return new userfaultfd_wait_queue({ address: vmf.address, flags });
}

/** Whether an entry still is what the fault was raised for. */
function entryMustWait(pte: pte_t, reason: vm_flags_t): bool {
	if (pte_none(pte) || isUffdMarker(pte)) return true;
	// swapped out or moved meanwhile: the access asks again when the page is back
	if (!pte_present(pte)) return false;
	if (!pte_write(pte) && reason === VM_UFFD_WP) return true;
	return pte_protnone(pte) && pte_uffd_wp(pte) && reason === VM_UFFD_RWP;
}

/** The same of a huge entry that is present. */
function hugeMustWait(pmd: pmd_t, reason: vm_flags_t): bool {
	if (!pmd_write(pmd) && reason === VM_UFFD_WP) return true;
	return pmd_protnone(pmd) && pmd_uffd_wp(pmd) && reason === VM_UFFD_RWP;
}

/** Whether the fault is not resolved yet; without locks. */
function* userfaultfd_must_wait(vmf: vm_fault, reason: vm_flags_t): Sim<bool> {
	const { vma, address } = vmf;
	const pgd = pgd_offset(vma.vm_mm, address);
	if (pgd_none_or_clear_bad(pgd)) return true;
	const pud = pud_offset(pgd, address);
	if (pud_none(pud.value)) return true;
	const pmd = pmd_offset(pud, address);
	for (;;) {
		const word = yield* pmdp_get_lockless(pmd);
		if (pmd_none(word)) return true;
		if (!pmd_present(word)) return false;
		if (pmd_leaf(word)) return hugeMustWait(word, reason);
		const pte = yield* pte_offset_map(pmd, address);
		// the table went between the two looks: what took its place is asked
		if (pte === null) continue;
		const waits = entryMustWait(yield* ptep_get_lockless(pte), reason);
		yield* pte_unmap(pte);
		return waits;
	}
}

/**
 * Hand a fault to user space and wait until it is resolved.
 *
 * @param vmf - the fault; its entry is not locked
 * @param reason - VM_UFFD_MISSING, VM_UFFD_WP or VM_UFFD_RWP
 * @retval VM_FAULT_RETRY try again; the mmap lock was dropped unless FAULT_FLAG_RETRY_NOWAIT
 * @retval VM_FAULT_SIGBUS nobody resolves faults, or the caller cannot wait
 * @context Process context. Sleeps. The mmap lock is held for reading.
 * @kernel mm/userfaultfd.c
 */
export function* handle_userfault(vmf: vm_fault, reason: vm_flags_t): Sim<vm_fault_t> {
	const { vma, flags } = vmf;
	const { vm_mm: mm } = vma;
	mmap_assert_locked(mm);
	const ctx = vma.vm_userfaultfd_ctx;
	if (ctx === null || ctx.features & UFFD_FEATURE_SIGBUS) return VM_FAULT_SIGBUS;
	if ((flags & FAULT_FLAG_ALLOW_RETRY) === 0) return VM_FAULT_SIGBUS;
	if (flags & FAULT_FLAG_RETRY_NOWAIT) return VM_FAULT_RETRY;
	touch('read', ctx, 'released');
	if (ctx.released) {
		yield* mmap_read_unlock(mm);
		return VM_FAULT_RETRY;
	}
	const uwq = userfault_msg(vmf, reason);
	touch('write', ctx, 'faults');
	ctx.faults.push(uwq);
	const waits = yield* userfaultfd_must_wait(vmf, reason);
	yield* mmap_read_unlock(mm);
	if (waits) {
		wake_up_all(ctx.fd_wqh);
		yield* wait_event_killable(ctx.fault_wqh, () => uwq.waken || ctx.released);
	}
	touch('write', ctx, 'faults');
	ctx.faults.splice(ctx.faults.indexOf(uwq), 1);
	return VM_FAULT_RETRY;
}

/**
 * Let threads look at their faults again.
 *
 * @param ctx - the userfaultfd
 * @param start - first address
 * @param len - length; 0: all of them
 * @kernel mm/userfaultfd.c
 */
export function wake_userfault(ctx: userfaultfd_ctx, start: bigint, len: bigint): void {
	touch('read', ctx, 'faults');
	let any = false;
	for (const uwq of ctx.faults) {
		const { address } = uwq.msg;
		if (len !== 0n && (address < start || address >= start + len)) continue;
		uwq.waken = true;
		any = true;
	}
	if (any) wake_up_all(ctx.fault_wqh);
}
