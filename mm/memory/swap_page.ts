// SPDX-License-Identifier: GPL-2.0-only
/**
 * A fault on an entry that is neither empty nor present.
 *
 * ```
 *   migration          wait until the folio is unlocked, come again
 *   device-exclusive   take the right back from the device: notifier, then the entry is present again
 *   device-private     the pagemap's migrate_to_ram()
 *   hwpoison           VM_FAULT_HWPOISON
 *   marker             guard: SIGSEGV; poisoned: HWPOISON; uffd-wp: as if the entry were empty
 *   swap               swapin.ts
 * ```
 */
import { BUG_ON, WARN_ON_ONCE } from '../../include/linux/bug.ts';
import { VM_WRITE } from '../../include/linux/mm.ts';
import {
	FAULT_FLAG_VMA_LOCK,
	type folio,
	type page,
	page_folio,
	VM_FAULT_HWPOISON,
	VM_FAULT_RETRY,
	VM_FAULT_SIGBUS,
	VM_FAULT_SIGSEGV,
	type vm_area_struct,
	type vm_fault,
} from '../../include/linux/mm_types.ts';
import {
	MMU_NOTIFY_CLEAR,
	MMU_NOTIFY_EXCLUSIVE,
	mmu_notifier_range,
} from '../../include/linux/mmu_notifier.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import { folio_test_anon, folio_test_dirty, page_pgmap } from '../../include/linux/page-flags.ts';
import {
	pfn_pte,
	pte_mkdirty,
	pte_mkold,
	pte_mkwrite,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import { swp_swap_info } from '../../include/linux/swap.ts';
import {
	is_writable_device_exclusive_entry,
	softleaf_from_pte,
	softleaf_is_device_exclusive,
	softleaf_is_device_private,
	softleaf_is_guard_marker,
	softleaf_is_hwpoison,
	softleaf_is_marker,
	softleaf_is_migration,
	softleaf_is_poison_marker,
	softleaf_is_swap,
	softleaf_is_uffd_wp_marker,
	type softleaf_t,
	softleaf_to_page,
} from '../../include/linux/swapops.ts';
import { PAGE_SIZE, type unsigned_long, type vm_fault_t } from '../../include/linux/types.ts';
import { restoreUffd, userfaultfd_wp } from '../../include/linux/userfaultfd_k.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { folio_trylock, folio_unlock, softleaf_entry_wait_on_locked } from '../filemap.ts';
import { migration_entry_wait } from '../migrate.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init,
	mmu_notifier_range_init_owner,
} from '../mmu_notifier.ts';
import { pte_unmap, pte_unmap_unlock, ptep_get, set_pte_at } from '../pgtable.ts';
import { folio_add_anon_rmap_pte, RMAP_NONE } from '../rmap.ts';
import { folio_get, folio_put, folio_try_get } from '../swap.ts';
import { can_change_pte_writable } from './change_writable.ts';
import { mapFaultEntry, maybe_mkwrite, unmapFaultEntry } from './fault_common.ts';
import { folio_lock_or_retry } from './fault_lock.ts';
import { do_pte_missing } from './missing.ts';
import { swapInPage } from './swapin.ts';
import { print_bad_pte } from './vm_normal.ts';

/**
 * Make a device-exclusive entry present again.
 *
 * @param vma - its VMA
 * @param f - folio of the page, locked
 * @param p - the page
 * @param address - the address
 * @param ptep - the entry, locked
 * @kernel mm/memory.c
 */
export function* restore_exclusive_pte(
	vma: vm_area_struct,
	f: folio,
	p: page,
	address: unsigned_long,
	ptep: TableEntry,
): Sim<void> {
	const orig_pte = ptep_get(ptep);
	const entry = softleaf_from_pte(orig_pte);
	let pte = restoreUffd(vma, orig_pte, pte_mkold(pfn_pte(page_to_pfn(p), vma.vm_page_prot)));
	if (feature('device_exclusive_single')) {
		// by the VMA and the page, whatever the entry was
		if (
			(vma.vm_flags & VM_WRITE) !== 0n &&
			can_change_pte_writable(vma, address, pte)
		) {
			if (folio_test_dirty(f)) pte = pte_mkdirty(pte);
			pte = pte_mkwrite(pte);
		}
	} else {
		if (is_writable_device_exclusive_entry(entry))
			pte = maybe_mkwrite(pte_mkdirty(pte), vma);
		// the entry kept its reference, but did not count as a mapping
		if (folio_test_anon(f))
			yield* folio_add_anon_rmap_pte(f, p, vma, address, RMAP_NONE);
		else WARN_ON_ONCE(true, 'device-exclusive entry of a file page');
	}
	yield* set_pte_at(vma.vm_mm, address, ptep, pte);
}

/**
 * Make a device-exclusive entry present again if its folio can be locked at once.
 *
 * @param ptep - the entry, locked
 * @param vma - its VMA
 * @param addr - the address
 * @returns whether it is present
 * @kernel mm/memory.c
 */
export function* try_restore_exclusive_pte(
	ptep: TableEntry,
	vma: vm_area_struct,
	addr: unsigned_long,
): Sim<boolean> {
	const p = softleaf_to_page(softleaf_from_pte(ptep_get(ptep)));
	const f = page_folio(p);
	if (!(yield* folio_trylock(f))) return false;
	yield* restore_exclusive_pte(vma, f, p, addr, ptep);
	yield* folio_unlock(f);
	return true;
}

/** Takes exclusive access back from a device. */
function* remove_device_exclusive_entry(vmf: vm_fault): Sim<vm_fault_t> {
	const { vma, address, page: p } = vmf;
	const f = page_folio(p!);
	// without the lock the entry may be gone and the folio somebody else's: then locking it is all
	if (!folio_try_get(f)) return 0;
	const busy = yield* folio_lock_or_retry(f, vmf);
	if (busy !== 0) {
		yield* folio_put(f);
		return busy;
	}
	const range = new mmu_notifier_range();
	const end = address + PAGE_SIZE;
	if (feature('device_exclusive_single'))
		mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, vma.vm_mm, address, end);
	else
		mmu_notifier_range_init_owner(
			range,
			MMU_NOTIFY_EXCLUSIVE,
			0,
			vma.vm_mm,
			address,
			end,
			null,
		);
	yield* mmu_notifier_invalidate_range_start(range);
	if (yield* mapFaultEntry(vmf)) {
		if (ptep_get(vmf.pte!) === vmf.orig_pte)
			yield* restore_exclusive_pte(vma, f, p!, address, vmf.pte!);
		yield* unmapFaultEntry(vmf);
	}
	yield* folio_unlock(f);
	yield* folio_put(f);
	yield* mmu_notifier_invalidate_range_end(range);
	return 0;
}

/** A fault on memory that only a device can address. */
function* deviceFault(vmf: vm_fault, entry: softleaf_t): Sim<vm_fault_t> {
	if (vmf.flags & FAULT_FLAG_VMA_LOCK) return VM_FAULT_RETRY;
	const p = softleaf_to_page(entry);
	vmf.page = p;
	if (!(yield* mapFaultEntry(vmf))) return 0;
	if (ptep_get(vmf.pte!) !== vmf.orig_pte) {
		yield* unmapFaultEntry(vmf);
		return 0;
	}
	// Not before: until the entry is locked the page may be freed, or become part of another folio.
	const f = page_folio(p);
	const locks = feature('swap_private_trylock');
	if (locks && !(yield* folio_trylock(f))) {
		// without a reference: one more would keep whoever migrates it from succeeding
		yield* pte_unmap(vmf.pte!);
		yield* softleaf_entry_wait_on_locked(entry, vmf.ptl!);
		return 0;
	}
	// the entry keeps the page alive as long as it is locked
	folio_get(f);
	yield* unmapFaultEntry(vmf);
	const ops = page_pgmap(p).ops;
	BUG_ON(ops?.migrate_to_ram === undefined, 'pagemap without migrate_to_ram()');
	const ret = yield* ops!.migrate_to_ram!(vmf);
	// another folio than before, if it was split
	const after = page_folio(p);
	if (locks) yield* folio_unlock(after);
	yield* folio_put(after);
	return ret;
}

/** A uffd-wp marker whose VMA is not watched any more: gone, and the fault is tried again. */
function* pte_marker_clear(vmf: vm_fault): Sim<vm_fault_t> {
	if (!(yield* mapFaultEntry(vmf))) return 0;
	if (ptep_get(vmf.pte!) === vmf.orig_pte)
		yield* set_pte_at(vmf.vma.vm_mm, vmf.address, vmf.pte!, 0n);
	yield* unmapFaultEntry(vmf);
	return 0;
}

/** A fault on an entry that only marks its address. */
function* handle_pte_marker(vmf: vm_fault, entry: softleaf_t): Sim<vm_fault_t> {
	if (softleaf_is_poison_marker(entry)) return VM_FAULT_HWPOISON;
	if (softleaf_is_guard_marker(entry)) return VM_FAULT_SIGSEGV;
	if (!softleaf_is_uffd_wp_marker(entry)) return VM_FAULT_SIGBUS;
	// as if nothing were there; the new entry is write-protected
	return userfaultfd_wp(vmf.vma) ? yield* do_pte_missing(vmf) : yield* pte_marker_clear(vmf);
}

/** Whether the entry is still what it was, and leaves it. */
function* pte_unmap_same(vmf: vm_fault): Sim<boolean> {
	yield* pte_unmap(vmf.pte!);
	if (!(yield* mapFaultEntry(vmf))) return false;
	const same = ptep_get(vmf.pte!) === vmf.orig_pte;
	yield* pte_unmap_unlock(vmf.pte!, vmf.ptl);
	vmf.pte = null;
	return same;
}

/**
 * A fault on an entry that is neither empty nor present.
 *
 * @param vmf - the fault; its entry is mapped but not locked on entry, and left on return
 * @retval 0 handled, or to be tried again
 * @retval VM_FAULT_RETRY try again; the mmap lock was dropped
 * @retval VM_FAULT_HWPOISON poisoned memory
 * @retval VM_FAULT_SIGSEGV a guard page
 * @retval VM_FAULT_SIGBUS an entry that nobody knows
 * @returns else what the pagemap's migrate_to_ram() or swapping in says
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/memory.c
 */
export function* do_swap_page(vmf: vm_fault): Sim<vm_fault_t> {
	if (!(yield* pte_unmap_same(vmf))) return 0;
	const entry = softleaf_from_pte(vmf.orig_pte);
	if (softleaf_is_migration(entry)) {
		yield* migration_entry_wait(vmf.vma.vm_mm, vmf.pmd!, vmf.address);
		return 0;
	}
	if (softleaf_is_device_exclusive(entry)) {
		vmf.page = softleaf_to_page(entry);
		return yield* remove_device_exclusive_entry(vmf);
	}
	if (softleaf_is_device_private(entry)) return yield* deviceFault(vmf, entry);
	if (softleaf_is_hwpoison(entry)) return VM_FAULT_HWPOISON;
	if (softleaf_is_marker(entry)) return yield* handle_pte_marker(vmf, entry);
	if (softleaf_is_swap(entry) && swp_swap_info(entry) !== null)
		return yield* swapInPage(vmf, entry);
	print_bad_pte(vmf.vma, vmf.address, vmf.orig_pte, null);
	return VM_FAULT_SIGBUS;
}
