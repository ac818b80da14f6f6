// SPDX-License-Identifier: GPL-2.0-only
/**
 * handle_mm_fault(): a page of a VMA is wanted, for reading or writing.
 *
 * ```
 *   handle_mm_fault --- hugetlb_fault, for hugetlb mappings
 *     __handle_mm_fault         makes the tables down to the pmd
 *       handlePmdFault            pmd empty, huge, or not present: mm/huge_memory.ts
 *       handle_pte_fault
 *         entry empty           do_pte_missing: do_anonymous_page | do_fault
 *         not present           do_swap_page
 *         PROT_NONE             userfaultfd RWP: handle_userfault; NUMA hint: do_numa_page
 *         present               read-only and written to: do_wp_page; else young (and dirty)
 * ```
 */
import { WARN_ON_ONCE } from '../../include/linux/bug.ts';
import {
	is_cow_mapping,
	is_vm_hugetlb_page,
	linear_page_index,
	VM_MAYWRITE,
	VM_UFFD_RWP,
	VM_UFFD_WP,
	VM_WRITE,
	vma_is_accessible,
} from '../../include/linux/mm.ts';
import {
	FAULT_FLAG_ORIG_PTE_VALID,
	FAULT_FLAG_TRIED,
	FAULT_FLAG_UNSHARE,
	FAULT_FLAG_WRITE,
	VM_FAULT_ERROR,
	VM_FAULT_FALLBACK,
	VM_FAULT_MAJOR,
	VM_FAULT_OOM,
	VM_FAULT_RETRY,
	VM_FAULT_SIGSEGV,
	type vm_area_struct,
	vm_fault,
} from '../../include/linux/mm_types.ts';
import {
	pmd_none,
	pmd_present,
	pmd_protnone,
	type pmd_t,
	pmd_trans_huge,
	pmd_write,
	pte_mkdirty,
	pte_mkwrite,
	pte_mkyoung,
	pte_modify,
	pte_none,
	pte_present,
	pte_protnone,
	pte_write,
} from '../../include/linux/pgtable.ts';
import { current } from '../../include/linux/sched.ts';
import type { spinlock_t } from '../../include/linux/spinlock.ts';
import {
	pmd_is_device_private_entry,
	pmd_is_migration_entry,
} from '../../include/linux/swapops.ts';
import {
	outParam,
	PAGE_MASK,
	type unsigned_int,
	type unsigned_long,
	type vm_fault_t,
} from '../../include/linux/types.ts';
import {
	userfaultfd_huge_pmd_rwp,
	userfaultfd_huge_pmd_wp,
	userfaultfd_pte_rwp,
} from '../../include/linux/userfaultfd_k.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { spin_lock } from '../../kernel/locking/spinlock.ts';
import {
	do_huge_pmd_anonymous_page,
	do_huge_pmd_device_private,
	do_huge_pmd_numa_page,
	do_huge_pmd_wp_page,
	faultMayBeHuge,
	hugeFaultAllowed,
} from '../huge_memory.ts';
import { hugetlb_fault } from '../hugetlb/fault.ts';
import { pmd_migration_entry_wait } from '../migrate.ts';
import { mmap_assert_locked } from '../mmap_lock.ts';
import {
	pgd_offset,
	pmd_alloc,
	pmdp_get_lockless,
	pte_offset_map_rw_nolock,
	pte_unmap,
	ptep_get,
	ptep_get_lockless,
	ptep_modify_prot_commit,
	ptep_modify_prot_start,
	ptep_set_access_flags,
	pud_alloc,
} from '../pgtable.ts';
import { flush_tlb_page } from '../tlb.ts';
import { handle_userfault } from '../userfaultfd/fault.ts';
import { vma_wants_manual_pte_write_upgrade } from '../vma/area.ts';
import { can_change_pte_writable } from './change_writable.ts';
import { unmapFaultEntry } from './fault_common.ts';
import { do_pte_missing } from './missing.ts';
import { do_swap_page } from './swap_page.ts';
import { do_wp_page } from './wp.ts';

/** Reads the entry of the fault without its lock: vmf.pte, mapped; null when it is empty. */
function* readEntry(vmf: vm_fault): Sim<boolean> {
	vmf.pte = null;
	if (pmd_none(yield* pmdp_get_lockless(vmf.pmd!))) {
		vmf.flags &= ~FAULT_FLAG_ORIG_PTE_VALID;
		return true;
	}
	const ptl = outParam<spinlock_t | null>(null);
	const pte = yield* pte_offset_map_rw_nolock(
		vmf.vma.vm_mm,
		vmf.pmd!,
		vmf.address,
		outParam<pmd_t>(0n),
		ptl,
	);
	// the table became something else: the CPU tries again
	if (pte === null) return false;
	vmf.ptl = ptl.value;
	vmf.orig_pte = yield* ptep_get_lockless(pte);
	vmf.flags |= FAULT_FLAG_ORIG_PTE_VALID;
	if (pte_none(vmf.orig_pte)) yield* pte_unmap(pte);
	else vmf.pte = pte;
	return true;
}

/**
 * A NUMA-hint entry: PROT_NONE in a VMA that may be accessed, so that the kernel hears who uses the
 * page. There is one node: the page stays, and the entry gets its protection back.
 */
function* do_numa_page(vmf: vm_fault): Sim<vm_fault_t> {
	const { vma, address } = vmf;
	const ptep = vmf.pte!;
	yield* spin_lock(vmf.ptl!);
	if (ptep_get(ptep) === vmf.orig_pte) {
		const old = yield* ptep_modify_prot_start(vma, address, ptep);
		let pte = pte_mkyoung(pte_modify(old, vma.vm_page_prot));
		if (
			!pte_write(pte) &&
			vma_wants_manual_pte_write_upgrade(vma) &&
			can_change_pte_writable(vma, address, pte)
		)
			pte = pte_mkwrite(pte);
		yield* ptep_modify_prot_commit(vma, address, ptep, old, pte);
	}
	yield* unmapFaultEntry(vmf);
	return 0;
}

function* handle_pte_fault(vmf: vm_fault): Sim<vm_fault_t> {
	if (!(yield* readEntry(vmf))) return 0;
	if (vmf.pte === null) return yield* do_pte_missing(vmf);
	if (!pte_present(vmf.orig_pte)) return yield* do_swap_page(vmf);
	if (pte_protnone(vmf.orig_pte) && vma_is_accessible(vmf.vma)) {
		if (!userfaultfd_pte_rwp(vmf.vma, vmf.orig_pte)) return yield* do_numa_page(vmf);
		yield* pte_unmap(vmf.pte);
		return yield* handle_userfault(vmf, VM_UFFD_RWP);
	}
	yield* spin_lock(vmf.ptl!);
	let entry = vmf.orig_pte;
	if (ptep_get(vmf.pte) !== entry) {
		yield* unmapFaultEntry(vmf);
		return 0;
	}
	const write = (vmf.flags & FAULT_FLAG_WRITE) !== 0;
	if (write || vmf.flags & FAULT_FLAG_UNSHARE) {
		if (!pte_write(entry)) return yield* do_wp_page(vmf);
		if (write) entry = pte_mkdirty(entry);
	}
	entry = pte_mkyoung(entry);
	const changed = yield* ptep_set_access_flags(vmf.vma, vmf.address, vmf.pte, entry, write);
	// nothing to do: a CPU used a right that it remembers as missing
	if (!changed && write && (vmf.flags & FAULT_FLAG_TRIED) === 0)
		yield* flush_tlb_page(vmf.vma, vmf.address);
	yield* unmapFaultEntry(vmf);
	return 0;
}

/** A write to a huge page that is read-only; VM_FAULT_FALLBACK: its pmd was split. */
function* wp_huge_pmd(vmf: vm_fault): Sim<vm_fault_t> {
	const { vma, orig_pmd, flags } = vmf;
	if ((flags & FAULT_FLAG_UNSHARE) === 0 && userfaultfd_huge_pmd_wp(vma, orig_pmd))
		return yield* handle_userfault(vmf, VM_UFFD_WP);
	return yield* do_huge_pmd_wp_page(vmf);
}

/** The part of a fault at the level of the pmd; VM_FAULT_FALLBACK: the page table has to do. */
function* handlePmdFault(vmf: vm_fault): Sim<vm_fault_t> {
	const { vma } = vmf;
	const pmd = vmf.pmd!;
	if (pmd_none(pmd.value) && faultMayBeHuge(vma))
		return yield* do_huge_pmd_anonymous_page(vmf);
	vmf.orig_pmd = yield* pmdp_get_lockless(pmd);
	const { orig_pmd } = vmf;
	if (pmd_none(orig_pmd)) return VM_FAULT_FALLBACK;
	if (!pmd_present(orig_pmd)) {
		if (feature('device_private_thp') && pmd_is_device_private_entry(orig_pmd))
			return yield* do_huge_pmd_device_private(vmf);
		if (pmd_is_migration_entry(orig_pmd))
			yield* pmd_migration_entry_wait(vma.vm_mm, pmd);
		return 0;
	}
	if (!pmd_trans_huge(orig_pmd)) return VM_FAULT_FALLBACK;
	if (pmd_protnone(orig_pmd) && vma_is_accessible(vma))
		return userfaultfd_huge_pmd_rwp(vma, orig_pmd)
			? yield* handle_userfault(vmf, VM_UFFD_RWP)
			: yield* do_huge_pmd_numa_page(vmf);
	const wants = vmf.flags & (FAULT_FLAG_WRITE | FAULT_FLAG_UNSHARE);
	if (wants && !pmd_write(orig_pmd)) return yield* wp_huge_pmd(vmf);
	yield* hugeFaultAllowed(vmf);
	return 0;
}

function* __handle_mm_fault(
	vma: vm_area_struct,
	address: unsigned_long,
	flags: unsigned_int,
): Sim<vm_fault_t> {
	const mm = vma.vm_mm;
	const vmf = new vm_fault({
		vma,
		address: address & PAGE_MASK,
		real_address: address,
		flags,
		pgoff: linear_page_index(vma, address),
	});
	vmf.pud = yield* pud_alloc(mm, pgd_offset(mm, address), address);
	if (vmf.pud === null) return VM_FAULT_OOM;
	// a huge pud would be created or handled here
	vmf.pmd = yield* pmd_alloc(mm, vmf.pud, address);
	if (vmf.pmd === null) return VM_FAULT_OOM;
	const ret = yield* handlePmdFault(vmf);
	return ret & VM_FAULT_FALLBACK ? yield* handle_pte_fault(vmf) : ret;
}

/** Refuses flags that make no sense together. Returns the flags to use, or the failure as -bits. */
function sanitize_fault_flags(vma: vm_area_struct, flags: unsigned_int): number {
	if (flags & FAULT_FLAG_UNSHARE) {
		if (WARN_ON_ONCE((flags & FAULT_FLAG_WRITE) !== 0, 'fault to write and to unshare'))
			return -VM_FAULT_SIGSEGV;
		return is_cow_mapping(vma.vm_flags) ? flags : flags & ~FAULT_FLAG_UNSHARE;
	}
	if ((flags & FAULT_FLAG_WRITE) === 0) return flags;
	if (
		WARN_ON_ONCE(
			(vma.vm_flags & VM_MAYWRITE) === 0n,
			'write fault in a mapping that never may',
		)
	)
		return -VM_FAULT_SIGSEGV;
	const forced = (vma.vm_flags & VM_WRITE) === 0n && !is_cow_mapping(vma.vm_flags);
	if (WARN_ON_ONCE(forced, 'write fault forced on a shared mapping'))
		return -VM_FAULT_SIGSEGV;
	return flags;
}

/** Counts a fault that is over and did not fail. */
function mm_account_fault(flags: unsigned_int, ret: vm_fault_t): void {
	if (ret & (VM_FAULT_RETRY | VM_FAULT_ERROR)) return;
	const task = current();
	if (ret & VM_FAULT_MAJOR || flags & FAULT_FLAG_TRIED) task.maj_flt++;
	else task.min_flt++;
}

/**
 * Handle a page fault, or see to it that a page is there as an access would need it.
 *
 * @param vma - the VMA; the access was checked against its flags
 * @param address - the address
 * @param flags - FAULT_FLAG_*
 * @param _regs - registers of the fault; null when it comes from somewhere else
 * @retval 0 handled, or to be tried again
 * @retval VM_FAULT_RETRY the mmap lock was dropped: take it and try again
 * @retval VM_FAULT_COMPLETED handled, and the mmap lock was dropped
 * @returns else VM_FAULT_* bits of what failed
 * @context Sleeps. The mmap lock is held for reading or writing.
 * @kernel mm/memory.c
 */
export function* handle_mm_fault(
	vma: vm_area_struct,
	address: unsigned_long,
	flags: unsigned_int,
	_regs: object | null,
): Sim<vm_fault_t> {
	mmap_assert_locked(vma.vm_mm);
	const checked = sanitize_fault_flags(vma, flags);
	let ret: vm_fault_t;
	if (checked < 0) ret = -checked;
	else if (is_vm_hugetlb_page(vma))
		ret = yield* hugetlb_fault(vma.vm_mm, vma, address, checked);
	else ret = yield* __handle_mm_fault(vma, address, checked);
	mm_account_fault(flags, ret);
	return ret;
}
