// SPDX-License-Identifier: GPL-2.0-only
/** The first touch of anonymous memory. */
import { VM_SHARED, VM_UFFD_MISSING, VM_WRITE } from '../../include/linux/mm.ts';
import {
	FAULT_FLAG_WRITE,
	type folio,
	MM_ANONPAGES,
	VM_FAULT_OOM,
	VM_FAULT_SIGBUS,
	type vm_fault,
} from '../../include/linux/mm_types.ts';
import {
	pfn_pte,
	pte_mkdirty,
	pte_mkspecial,
	pte_mkuffd_wp,
	pte_mkwrite,
	type pte_t,
} from '../../include/linux/pgtable.ts';
import type { vm_fault_t } from '../../include/linux/types.ts';
import { userfaultfd_missing, vmf_orig_pte_uffd_wp } from '../../include/linux/userfaultfd_k.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { pte_alloc, set_pte_at } from '../pgtable.ts';
import { folio_add_new_anon_rmap, RMAP_EXCLUSIVE } from '../rmap.ts';
import { folio_add_lru_vma, folio_put } from '../swap.ts';
import { handle_userfault } from '../userfaultfd/fault.ts';
import { inc_mm_counter } from './counter.ts';
import {
	__folio_mark_uptodate,
	check_stable_address_space,
	folio_mk_pte,
	folio_prealloc,
	mapFaultEntry,
	unmapFaultEntry,
	vmf_anon_prepare,
	vmf_pte_changed,
} from './fault_common.ts';
import { my_zero_pfn } from './zero_page.ts';

/** A result that no fault has: user space is to be asked. */
const NOBODY_KNOWS: vm_fault_t = -1;

/** Installs what was prepared, if the entry is still empty: null; else why not. */
function* installAnon(vmf: vm_fault, entry: pte_t, f: folio | null): Sim<vm_fault_t | null> {
	const { vma, address } = vmf;
	if (!(yield* mapFaultEntry(vmf))) return 0;
	const changed = vmf_pte_changed(vmf);
	const ret = changed ? 0 : check_stable_address_space(vma.vm_mm);
	if (changed || ret !== 0) {
		yield* unmapFaultEntry(vmf);
		return ret;
	}
	if (userfaultfd_missing(vma)) {
		yield* unmapFaultEntry(vmf);
		return NOBODY_KNOWS;
	}
	if (f !== null) {
		inc_mm_counter(vma.vm_mm, MM_ANONPAGES);
		yield* folio_add_new_anon_rmap(f, vma, address, RMAP_EXCLUSIVE);
		folio_add_lru_vma(f, vma);
	}
	const made = vmf_orig_pte_uffd_wp(vmf) ? pte_mkuffd_wp(entry) : entry;
	yield* set_pte_at(vma.vm_mm, address, vmf.pte!, made);
	yield* unmapFaultEntry(vmf);
	return null;
}

/**
 * A fault on memory of an anonymous VMA that was never touched: the zero page for a read, a page of
 * its own for a write. A huge page for a whole pmd would have been tried before.
 *
 * @param vmf - the fault
 * @retval 0 handled, or somebody else was faster
 * @retval VM_FAULT_OOM no memory
 * @retval VM_FAULT_SIGBUS a shared mapping without vm_ops, or memory that the OOM reaper emptied
 * @returns else what handle_userfault() says
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/memory.c
 */
export function* do_anonymous_page(vmf: vm_fault): Sim<vm_fault_t> {
	const { vma } = vmf;
	// file mapping without vm_ops
	if ((vma.vm_flags & VM_SHARED) !== 0n) return VM_FAULT_SIGBUS;
	if ((yield* pte_alloc(vma.vm_mm, vmf.pmd!, vmf.address)) !== 0) return VM_FAULT_OOM;
	if ((vmf.flags & FAULT_FLAG_WRITE) === 0) {
		const zero = pte_mkspecial(pfn_pte(my_zero_pfn(vmf.address), vma.vm_page_prot));
		const refused = yield* installAnon(vmf, zero, null);
		if (refused === NOBODY_KNOWS) return yield* handle_userfault(vmf, VM_UFFD_MISSING);
		return refused ?? 0;
	}
	const ret = yield* vmf_anon_prepare(vmf);
	if (ret !== 0) return ret;
	const f = yield* folio_prealloc(vma.vm_mm, true);
	if (f === null) return VM_FAULT_OOM;
	__folio_mark_uptodate(f);
	let entry = folio_mk_pte(f, vma.vm_page_prot);
	if ((vma.vm_flags & VM_WRITE) !== 0n) entry = pte_mkwrite(pte_mkdirty(entry));
	const refused = yield* installAnon(vmf, entry, f);
	if (refused === null) return 0;
	yield* folio_put(f);
	return refused === NOBODY_KNOWS ? yield* handle_userfault(vmf, VM_UFFD_MISSING) : refused;
}
