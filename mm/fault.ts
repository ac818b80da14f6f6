// SPDX-License-Identifier: GPL-2.0-only
/**
 * The page-fault vector (arch/x86/mm/fault.c).
 *
 * Guarantee: when it says "try again", either the entry gives the right that was missing, or
 * something changed meanwhile and the next fault will tell; else the access ends with the signal
 * that a process would get. Mechanism: the VMA is looked up under the mmap lock, which
 * handle_mm_fault() may drop (VM_FAULT_RETRY, VM_FAULT_COMPLETED).
 *
 * There are no per-VMA locks: each fault takes the mmap lock, as the kernel's slow path does.
 */
import type { Machine } from '../arch/sim/machine.ts';
import type { Signal, TrappedCpu } from '../arch/sim/vectors.ts';
import { X86_PF_INSTR, X86_PF_PROT, X86_PF_WRITE } from '../include/asm/pgtable_types.ts';
import { VM_ACCESS_FLAGS, VM_WRITE } from '../include/linux/mm.ts';
import {
	FAULT_FLAG_ALLOW_RETRY,
	FAULT_FLAG_INSTRUCTION,
	FAULT_FLAG_INTERRUPTIBLE,
	FAULT_FLAG_KILLABLE,
	FAULT_FLAG_TRIED,
	FAULT_FLAG_USER,
	FAULT_FLAG_WRITE,
	VM_FAULT_COMPLETED,
	VM_FAULT_ERROR,
	VM_FAULT_HWPOISON,
	VM_FAULT_HWPOISON_LARGE,
	VM_FAULT_OOM,
	VM_FAULT_RETRY,
	VM_FAULT_SIGBUS,
	type vm_area_struct,
} from '../include/linux/mm_types.ts';
import { pr_warn } from '../include/linux/printk.ts';
import { current, fatal_signal_pending, SIGBUS, SIGKILL, SIGSEGV } from '../include/linux/sched.ts';
import type { unsigned_long, vm_fault_t } from '../include/linux/types.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { vma_lookup } from './find_vma.ts';
import { handle_mm_fault } from './memory.ts';
import { mmap_read_lock, mmap_read_unlock } from './mmap_lock.ts';
import { theZone } from './page_alloc.ts';
import { loadMm } from './tlb.ts';

export const SEGV_MAPERR = 1;
export const SEGV_ACCERR = 2;
export const BUS_ADRERR = 2;
export const BUS_MCEERR_AR = 4;

/** What faults of a user's access may do. */
export const FAULT_FLAG_DEFAULT =
	FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE | FAULT_FLAG_INTERRUPTIBLE;

/** Whether a VMA forbids an access, whatever its page tables say. */
function access_error(error_code: number, vma: vm_area_struct): boolean {
	if (error_code & X86_PF_WRITE) return (vma.vm_flags & VM_WRITE) === 0n;
	// a read of something present that was refused
	if (error_code & X86_PF_PROT) return true;
	return (vma.vm_flags & VM_ACCESS_FLAGS) === 0n;
}

/** All RAM is in use: the OOM killer takes the one that asks, there is nothing to reclaim. */
function outOfMemory(): Signal {
	const { pid, comm } = current();
	pr_warn(`Out of memory: Killed process ${pid} (${comm})`);
	return { sig: SIGKILL, code: 0 };
}

/** The signal that a failed fault becomes. */
function mm_fault_error(fault: vm_fault_t): 0 | Signal {
	if (fault & VM_FAULT_OOM) {
		if (theZone().exhausted) return outOfMemory();
		// a failure that the allocator survives: the access is tried again
		pr_warn('Huh VM_FAULT_OOM leaked out to the #PF handler. Retrying PF');
		return 0;
	}
	if (fault & (VM_FAULT_HWPOISON | VM_FAULT_HWPOISON_LARGE))
		return { sig: SIGBUS, code: BUS_MCEERR_AR };
	if (fault & VM_FAULT_SIGBUS) return { sig: SIGBUS, code: BUS_ADRERR };
	return { sig: SIGSEGV, code: SEGV_MAPERR };
}

/**
 * Handle a page fault of a user's access in the current task's address space.
 *
 * @param regs - the CPU, for whoever accounts faults
 * @param error_code - X86_PF_* bits
 * @param address - the address
 * @returns 0: try the access again; else the signal that ends it
 * @context Process context. Sleeps.
 * @kernel arch/x86/mm/fault.c
 */
export function* do_user_addr_fault(
	regs: object,
	error_code: number,
	address: unsigned_long,
): Sim<0 | Signal> {
	const task = current();
	const { mm } = task;
	if (mm === null) return { sig: SIGSEGV, code: SEGV_MAPERR };
	let flags = FAULT_FLAG_DEFAULT | FAULT_FLAG_USER;
	if (error_code & X86_PF_WRITE) flags |= FAULT_FLAG_WRITE;
	if (error_code & X86_PF_INSTR) flags |= FAULT_FLAG_INSTRUCTION;
	for (;;) {
		yield* mmap_read_lock(mm);
		const vma = vma_lookup(mm, address);
		if (vma === null || access_error(error_code, vma)) {
			yield* mmap_read_unlock(mm);
			return { sig: SIGSEGV, code: vma === null ? SEGV_MAPERR : SEGV_ACCERR };
		}
		const fault = yield* handle_mm_fault(vma, address, flags, regs);
		// killed while it waited: the lock is gone already
		if (fault & VM_FAULT_RETRY && fatal_signal_pending(task))
			return { sig: SIGKILL, code: 0 };
		if (fault & VM_FAULT_COMPLETED) return 0;
		if (fault & VM_FAULT_RETRY) {
			flags |= FAULT_FLAG_TRIED;
			continue;
		}
		yield* mmap_read_unlock(mm);
		return fault & VM_FAULT_ERROR ? mm_fault_error(fault) : 0;
	}
}

/**
 * The vector.
 *
 * @param cpu - the CPU that faulted
 * @param va - the address
 * @param errorCode - X86_PF_* bits
 */
function* exc_page_fault(cpu: TrappedCpu, va: bigint, errorCode: number): Sim<0 | Signal> {
	const outcome = yield* do_user_addr_fault(cpu, errorCode, va);
	// another task may have had this CPU meanwhile
	const { mm } = current();
	if (mm !== null) loadMm(cpu, mm);
	return outcome;
}

/**
 * Let page faults of a machine's CPUs come here.
 *
 * @param machine - the machine
 */
export function installPageFaultVector(machine: Machine): void {
	machine.vectors.pageFault = exc_page_fault;
}
