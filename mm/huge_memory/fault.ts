// SPDX-License-Identifier: GPL-2.0-only
/**
 * Page faults at the level of a pmd.
 *
 * ```
 *   pmd                  read                         write
 *   none                 huge zero page               huge page of its own
 *   huge zero page       young                        huge page of its own, CLEAR (6.12: split)
 *   NUMA hint            the protection of its VMA again, and what that allows
 *   huge page, exclusive young                        writable now
 *     else, one mapping                               ours again: exclusive, writable now
 *     else                                            split; the page of the address is copied
 *   device-private       migrate_to_ram() of the whole folio
 * ```
 *
 * VM_FAULT_FALLBACK: the page tables have to do.
 */
import { BUG_ON } from '../../include/linux/bug.ts';
import { thp_vma_suitable_order } from '../../include/linux/huge_mm.ts';
import { VM_UFFD_MISSING, VM_WRITE } from '../../include/linux/mm.ts';
import {
	FAULT_FLAG_UNSHARE,
	FAULT_FLAG_VMA_LOCK,
	FAULT_FLAG_WRITE,
	type folio,
	MM_ANONPAGES,
	page_folio,
	VM_FAULT_FALLBACK,
	VM_FAULT_OOM,
	VM_FAULT_RETRY,
	type vm_area_struct,
	type vm_fault,
} from '../../include/linux/mm_types.ts';
import { MMU_NOTIFY_CLEAR, mmu_notifier_range } from '../../include/linux/mmu_notifier.ts';
import { page_to_pfn, pfn_to_page } from '../../include/linux/mmzone.ts';
import {
	folio_ref_count,
	PageAnonExclusive,
	page_pgmap,
	SetPageAnonExclusive,
} from '../../include/linux/page-flags.ts';
import {
	pfn_pmd,
	type pgprot_t,
	pmd_mkdirty,
	pmd_mkhuge,
	pmd_mkspecial,
	pmd_mkwrite,
	pmd_mkyoung,
	pmd_modify,
	pmd_none,
	pmd_pfn,
	pmd_same,
	type pmd_t,
	pmd_write,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import { softleaf_from_pmd, softleaf_to_page } from '../../include/linux/swapops.ts';
import {
	__GFP_ZERO,
	type bool,
	GFP_HIGHUSER_MOVABLE,
	HPAGE_PMD_NR,
	HPAGE_PMD_ORDER,
	HPAGE_PMD_SIZE,
	PMD_MASK,
	type unsigned_long,
	type vm_fault_t,
} from '../../include/linux/types.ts';
import { userfaultfd_missing } from '../../include/linux/userfaultfd_k.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { spin_lock, spin_unlock } from '../../kernel/locking/spinlock.ts';
import {
	folio_lock,
	folio_trylock,
	folio_unlock,
	softleaf_entry_wait_on_locked,
} from '../filemap.ts';
import { add_mm_counter } from '../memory/counter.ts';
import {
	__folio_mark_uptodate,
	check_stable_address_space,
	vmf_anon_prepare,
} from '../memory/fault_common.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init,
} from '../mmu_notifier.ts';
import { folio_alloc } from '../page_alloc.ts';
import {
	freeTable,
	pmd_lock,
	pmdp_huge_clear_flush,
	pmdp_set_access_flags,
	pte_alloc_one,
	set_pmd_at,
} from '../pgtable.ts';
import { folio_add_new_anon_rmap, folio_move_anon_rmap, RMAP_EXCLUSIVE } from '../rmap/mapcount.ts';
import { folio_add_lru_vma, folio_get, folio_put } from '../swap.ts';
import { flush_tlb_range } from '../tlb.ts';
import { handle_userfault } from '../userfaultfd/fault.ts';
import { vma_wants_manual_pte_write_upgrade } from '../vma/area.ts';
import { can_change_pmd_writable } from './change.ts';
import { pgtable_trans_huge_deposit } from './deposit.ts';
import { transparentHugepage } from './policy.ts';
import { __split_huge_pmd } from './split_pmd.ts';
import { is_huge_zero_pmd, mm_get_huge_zero_folio } from './zero.ts';

/**
 * The entry that maps a whole folio.
 *
 * @param f - the folio
 * @param pgprot - protection
 * @kernel include/linux/mm.h
 */
export function folio_mk_pmd(f: folio, pgprot: pgprot_t): pmd_t {
	return pmd_mkhuge(pfn_pmd(page_to_pfn(f.page), pgprot));
}

/**
 * Make a huge entry writable if its VMA is.
 *
 * @param pmd - the entry
 * @param vma - its VMA
 * @kernel mm/huge_memory.c
 */
export function maybe_pmd_mkwrite(pmd: pmd_t, vma: vm_area_struct): pmd_t {
	return (vma.vm_flags & VM_WRITE) !== 0n ? pmd_mkwrite(pmd) : pmd;
}

/** A zeroed huge page; null: no memory, or made to fail at site `vma_alloc_anon_folio_pmd`. */
function* vma_alloc_anon_folio_pmd(): Sim<folio | null> {
	if (shouldFail('vma_alloc_anon_folio_pmd')) return null;
	const f = yield* folio_alloc(GFP_HIGHUSER_MOVABLE | __GFP_ZERO, HPAGE_PMD_ORDER);
	if (f !== null) __folio_mark_uptodate(f);
	return f;
}

/**
 * Map a new huge page, exclusive and as writable as its VMA.
 *
 * @param f - the folio, unknown so far
 * @param pmd - the entry, empty
 * @param vma - its VMA
 * @param haddr - its first address
 * @context The lock of the pmd is held.
 * @kernel mm/huge_memory.c
 */
export function* map_anon_folio_pmd_nopf(
	f: folio,
	pmd: TableEntry,
	vma: vm_area_struct,
	haddr: bigint,
): Sim<void> {
	const entry = maybe_pmd_mkwrite(pmd_mkdirty(folio_mk_pmd(f, vma.vm_page_prot)), vma);
	yield* folio_add_new_anon_rmap(f, vma, haddr, RMAP_EXCLUSIVE);
	folio_add_lru_vma(f, vma);
	yield* set_pmd_at(vma.vm_mm, haddr, pmd, entry);
}

function* map_anon_folio_pmd_pf(
	f: folio,
	pmd: TableEntry,
	vma: vm_area_struct,
	haddr: bigint,
): Sim<void> {
	yield* map_anon_folio_pmd_nopf(f, pmd, vma, haddr);
	add_mm_counter(vma.vm_mm, MM_ANONPAGES, HPAGE_PMD_NR);
}

/** A huge page for memory that was never touched. */
function* __do_huge_pmd_anonymous_page(vmf: vm_fault): Sim<vm_fault_t> {
	const { vma } = vmf;
	const { vm_mm: mm } = vma;
	const haddr = vmf.address & PMD_MASK;
	const f = yield* vma_alloc_anon_folio_pmd();
	if (f === null) return VM_FAULT_FALLBACK;
	const pgtable = yield* pte_alloc_one(mm);
	if (pgtable === 0) {
		yield* folio_put(f);
		return VM_FAULT_OOM;
	}
	vmf.ptl = yield* pmd_lock(mm, vmf.pmd!);
	const taken = !pmd_none(vmf.pmd!.value);
	const ret = taken ? 0 : check_stable_address_space(mm);
	if (taken || ret !== 0) {
		yield* spin_unlock(vmf.ptl);
		yield* freeTable(mm, pgtable);
		yield* folio_put(f);
		return ret;
	}
	if (userfaultfd_missing(vma)) {
		yield* spin_unlock(vmf.ptl);
		yield* freeTable(mm, pgtable);
		yield* folio_put(f);
		return yield* handle_userfault(vmf, VM_UFFD_MISSING);
	}
	pgtable_trans_huge_deposit(mm, vmf.pmd!, pgtable);
	yield* map_anon_folio_pmd_pf(f, vmf.pmd!, vma, haddr);
	yield* spin_unlock(vmf.ptl);
	return 0;
}

/** The huge zero page for memory that was never touched. */
function* mapHugeZero(vmf: vm_fault): Sim<vm_fault_t> {
	const { vma } = vmf;
	const { vm_mm: mm } = vma;
	const pgtable = yield* pte_alloc_one(mm);
	if (pgtable === 0) return VM_FAULT_OOM;
	const zero = yield* mm_get_huge_zero_folio();
	if (zero === null) {
		yield* freeTable(mm, pgtable);
		return VM_FAULT_FALLBACK;
	}
	vmf.ptl = yield* pmd_lock(mm, vmf.pmd!);
	const taken = !pmd_none(vmf.pmd!.value);
	const ret = taken ? 0 : check_stable_address_space(mm);
	const ask = !taken && ret === 0 && userfaultfd_missing(vma);
	if (!taken && ret === 0 && !ask) {
		const entry = folio_mk_pmd(zero, vma.vm_page_prot);
		pgtable_trans_huge_deposit(mm, vmf.pmd!, pgtable);
		const special = feature('huge_zero_wp_thp') ? pmd_mkspecial(entry) : entry;
		yield* set_pmd_at(mm, vmf.address & PMD_MASK, vmf.pmd!, special);
	}
	yield* spin_unlock(vmf.ptl);
	if (taken || ret !== 0 || ask) yield* freeTable(mm, pgtable);
	return ask ? yield* handle_userfault(vmf, VM_UFFD_MISSING) : ret;
}

/**
 * A fault on 2 MiB of anonymous memory that was never touched: the huge zero page for a read, a huge
 * page for a write.
 *
 * @param vmf - the fault; its pmd is empty
 * @retval 0 handled, or somebody else was faster
 * @retval VM_FAULT_FALLBACK the VMA does not hold all of the 2 MiB, or no memory for a huge page
 * @retval VM_FAULT_OOM no memory
 * @retval VM_FAULT_SIGBUS memory that the OOM reaper emptied
 * @returns else what handle_userfault() says
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/huge_memory.c
 */
export function* do_huge_pmd_anonymous_page(vmf: vm_fault): Sim<vm_fault_t> {
	if (!thp_vma_suitable_order(vmf.vma, vmf.address & PMD_MASK, HPAGE_PMD_ORDER))
		return VM_FAULT_FALLBACK;
	const ret = yield* vmf_anon_prepare(vmf);
	if (ret !== 0) return ret;
	if ((vmf.flags & FAULT_FLAG_WRITE) === 0 && transparentHugepage().use_zero_page)
		return yield* mapHugeZero(vmf);
	return yield* __do_huge_pmd_anonymous_page(vmf);
}

/**
 * Mark a huge entry as accessed, and as written to.
 *
 * @param vma - its VMA
 * @param addr - an address of it
 * @param pmd - the entry
 * @param write - it is written to
 * @returns whether the entry was something else before
 * @context The lock of the pmd is held.
 * @kernel mm/huge_memory.c
 */
export function* touch_pmd(
	vma: vm_area_struct,
	addr: unsigned_long,
	pmd: TableEntry,
	write: bool,
): Sim<bool> {
	let entry = pmd_mkyoung(pmd.value);
	if (write) entry = pmd_mkdirty(entry);
	return yield* pmdp_set_access_flags(vma, addr & PMD_MASK, pmd, entry, write);
}

/**
 * An access that a huge entry allows: it is young now, and dirty if written.
 *
 * @param vmf - the fault; its pmd is locked
 * @returns whether the entry was something else before
 * @kernel mm/huge_memory.c
 */
export function* huge_pmd_set_accessed(vmf: vm_fault): Sim<bool> {
	const pmd = vmf.pmd!;
	if (!pmd_same(pmd.value, vmf.orig_pmd)) return false;
	const write = (vmf.flags & FAULT_FLAG_WRITE) !== 0;
	return yield* touch_pmd(vmf.vma, vmf.address, pmd, write);
}

/**
 * The part of a fault for a huge entry that has the right that was missing.
 *
 * @param vmf - the fault
 * @context Sleeps. The mmap lock is held.
 */
export function* hugeFaultAllowed(vmf: vm_fault): Sim<void> {
	const { vma } = vmf;
	vmf.ptl = yield* pmd_lock(vma.vm_mm, vmf.pmd!);
	const changed = yield* huge_pmd_set_accessed(vmf);
	const haddr = vmf.address & PMD_MASK;
	if (!changed && (vmf.flags & FAULT_FLAG_WRITE) !== 0)
		yield* flush_tlb_range(vma, haddr, haddr + HPAGE_PMD_SIZE);
	yield* spin_unlock(vmf.ptl);
}

/**
 * A NUMA-hint entry for 2 MiB: PROT_NONE in a VMA that may be accessed. There is one node: the folio
 * stays, and the entry gets its protection back.
 *
 * @param vmf - the fault, with orig_pmd
 * @retval 0 handled, or somebody else was faster
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/huge_memory.c
 */
export function* do_huge_pmd_numa_page(vmf: vm_fault): Sim<vm_fault_t> {
	const { vma } = vmf;
	const pmdp = vmf.pmd!;
	vmf.ptl = yield* pmd_lock(vma.vm_mm, pmdp);
	if (pmd_same(pmdp.value, vmf.orig_pmd)) {
		let pmd = pmd_mkyoung(pmd_modify(pmdp.value, vma.vm_page_prot));
		if (
			!pmd_write(pmd) &&
			vma_wants_manual_pte_write_upgrade(vma) &&
			can_change_pmd_writable(vma, pmd)
		)
			pmd = pmd_mkwrite(pmd);
		yield* set_pmd_at(vma.vm_mm, vmf.address & PMD_MASK, pmdp, pmd);
	}
	yield* spin_unlock(vmf.ptl);
	return 0;
}

/** A write to the huge zero page: a huge page in its place. */
function* do_huge_zero_wp_pmd(vmf: vm_fault): Sim<vm_fault_t> {
	const { vma } = vmf;
	const { vm_mm: mm } = vma;
	const haddr = vmf.address & PMD_MASK;
	const f = yield* vma_alloc_anon_folio_pmd();
	if (f === null) return VM_FAULT_FALLBACK;
	const range = new mmu_notifier_range();
	mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, mm, haddr, haddr + HPAGE_PMD_SIZE);
	yield* mmu_notifier_invalidate_range_start(range);
	vmf.ptl = yield* pmd_lock(mm, vmf.pmd!);
	const changed = !pmd_same(vmf.pmd!.value, vmf.orig_pmd);
	const ret = changed ? 0 : check_stable_address_space(mm);
	const used = !changed && ret === 0;
	if (used) {
		// the page table that was deposited for the huge zero page stays
		yield* pmdp_huge_clear_flush(vma, haddr, vmf.pmd!);
		yield* map_anon_folio_pmd_pf(f, vmf.pmd!, vma, haddr);
	}
	yield* spin_unlock(vmf.ptl);
	yield* mmu_notifier_invalidate_range_end(range);
	if (!used) yield* folio_put(f);
	return ret;
}

/** Makes the entry writable, unless it is only to be unshared; unlocks. */
function* reuseHuge(vmf: vm_fault): Sim<vm_fault_t> {
	const { vma } = vmf;
	if ((vmf.flags & FAULT_FLAG_UNSHARE) === 0) {
		const entry = maybe_pmd_mkwrite(pmd_mkdirty(pmd_mkyoung(vmf.orig_pmd)), vma);
		yield* pmdp_set_access_flags(vma, vmf.address & PMD_MASK, vmf.pmd!, entry, 1);
	}
	yield* spin_unlock(vmf.ptl!);
	return 0;
}

/**
 * Locks a folio under the lock of its pmd, which is given up for it if need be.
 *
 * @returns whether it is locked and still mapped; else nothing is held
 */
function* lockMapped(vmf: vm_fault, f: folio): Sim<boolean> {
	if (yield* folio_trylock(f)) return true;
	folio_get(f);
	yield* spin_unlock(vmf.ptl!);
	yield* folio_lock(f);
	yield* spin_lock(vmf.ptl!);
	const same = pmd_same(vmf.pmd!.value, vmf.orig_pmd);
	if (!same) {
		yield* spin_unlock(vmf.ptl!);
		yield* folio_unlock(f);
	}
	yield* folio_put(f);
	return same;
}

/**
 * A write to 2 MiB that are mapped read-only by one entry.
 *
 * @param vmf - the fault, with orig_pmd
 * @retval 0 handled, or somebody else was faster
 * @retval VM_FAULT_FALLBACK the pmd was split: the page table has to do
 * @retval VM_FAULT_SIGBUS memory that the OOM reaper emptied
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/huge_memory.c
 */
export function* do_huge_pmd_wp_page(vmf: vm_fault): Sim<vm_fault_t> {
	const { vma, orig_pmd } = vmf;
	BUG_ON(vma.anon_vma === null, 'huge pmd in a VMA without anon_vma');
	fallback: {
		if (is_huge_zero_pmd(orig_pmd)) {
			if (!feature('huge_zero_wp_thp')) break fallback;
			const ret = yield* do_huge_zero_wp_pmd(vmf);
			if (ret & VM_FAULT_FALLBACK) break fallback;
			return ret;
		}
		vmf.ptl = yield* pmd_lock(vma.vm_mm, vmf.pmd!);
		if (!pmd_same(vmf.pmd!.value, orig_pmd)) {
			yield* spin_unlock(vmf.ptl);
			return 0;
		}
		const p = pfn_to_page(pmd_pfn(orig_pmd));
		const f = page_folio(p);
		if (PageAnonExclusive(p)) return yield* reuseHuge(vmf);
		if (!(yield* lockMapped(vmf, f))) return 0;
		const ours = PageAnonExclusive(p) || folio_ref_count(f) === 1;
		if (ours && !PageAnonExclusive(p)) {
			folio_move_anon_rmap(f, vma);
			SetPageAnonExclusive(p);
		}
		yield* folio_unlock(f);
		if (ours) return yield* reuseHuge(vmf);
		yield* spin_unlock(vmf.ptl);
	}
	yield* __split_huge_pmd(vma, vmf.pmd!, vmf.address, false);
	return VM_FAULT_FALLBACK;
}

/**
 * A fault on a device-private folio that one entry maps: its owner brings all of it back.
 *
 * @param vmf - the fault, with orig_pmd
 * @retval 0 handled, or to be tried again
 * @retval VM_FAULT_RETRY take the mmap lock and come again
 * @returns else what the pagemap's migrate_to_ram() says
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/huge_memory.c
 * @since v6.19
 */
export function* do_huge_pmd_device_private(vmf: vm_fault): Sim<vm_fault_t> {
	const { vma } = vmf;
	if (vmf.flags & FAULT_FLAG_VMA_LOCK) return VM_FAULT_RETRY;
	const ptl = yield* pmd_lock(vma.vm_mm, vmf.pmd!);
	if (!pmd_same(vmf.pmd!.value, vmf.orig_pmd)) {
		yield* spin_unlock(ptl);
		return 0;
	}
	const p = softleaf_to_page(softleaf_from_pmd(vmf.orig_pmd));
	const f = page_folio(p);
	vmf.page = p;
	vmf.pte = null;
	const locked = yield* folio_trylock(f);
	if (!locked && feature('fix_s7')) {
		yield* softleaf_entry_wait_on_locked(softleaf_from_pmd(vmf.orig_pmd), ptl);
		return 0;
	}
	if (locked) folio_get(f);
	yield* spin_unlock(ptl);
	// 7.3.4 comes again at once, and keeps the CPU from whoever is to unlock it
	if (!locked) return 0;
	const ops = page_pgmap(p).ops;
	BUG_ON(ops?.migrate_to_ram === undefined, 'pagemap without migrate_to_ram()');
	const ret = yield* ops!.migrate_to_ram!(vmf);
	yield* folio_unlock(f);
	yield* folio_put(f);
	return ret;
}
