// SPDX-License-Identifier: GPL-2.0-only
/** Taking huge pmds out of page tables, moving them, and giving them another protection. */
import { BUG_ON, WARN_ON_ONCE } from '../../include/linux/bug.ts';
import { SINGLE_DEPTH_NESTING } from '../../include/linux/lockdep.ts';
import {
	MM_CP_TRY_CHANGE_WRITABLE,
	MM_CP_UFFD_RWP,
	MM_CP_UFFD_RWP_RESOLVE,
	MM_CP_UFFD_WP,
	MM_CP_UFFD_WP_RESOLVE,
	VM_SHARED,
	VM_WRITE,
	vma_is_anonymous,
} from '../../include/linux/mm.ts';
import { MM_ANONPAGES, page_folio, type vm_area_struct } from '../../include/linux/mm_types.ts';
import { pfn_to_page } from '../../include/linux/mmzone.ts';
import {
	folio_set_dirty,
	folio_test_anon,
	PageAnonExclusive,
} from '../../include/linux/page-flags.ts';
import {
	PAGE_NONE,
	type pgprot_t,
	pmd_clear_uffd_wp,
	pmd_dirty,
	pmd_mkuffd_wp,
	pmd_mkwrite,
	pmd_modify,
	pmd_none,
	pmd_pfn,
	pmd_present,
	pmd_protnone,
	pmd_same,
	type pmd_t,
	pmd_uffd_wp,
	pmd_write,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import {
	pmd_is_device_private_entry,
	pmd_swp_clear_uffd_wp,
	pmd_swp_mkuffd_wp,
	pmd_swp_uffd_wp,
	softleaf_from_pmd,
	softleaf_is_device_private,
	softleaf_to_folio,
	softleaf_to_pmd,
	softleafWithoutWrite,
} from '../../include/linux/swapops.ts';
import {
	type bool,
	HPAGE_PMD_NR,
	HPAGE_PMD_SIZE,
	type int,
	type unsigned_long,
} from '../../include/linux/types.ts';
import {
	userfaultfd_huge_pmd_rwp,
	userfaultfd_huge_pmd_wp,
	vma_has_uffd_without_event_remap,
} from '../../include/linux/userfaultfd_k.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { spin_lock_nested, spin_unlock } from '../../kernel/locking/spinlock.ts';
import { add_mm_counter, mm_counter_file } from '../memory/counter.ts';
import { __tlb_remove_page, type mmu_gather, tlb_flush_pte_range } from '../mmu_gather.ts';
import {
	pmd_lockptr,
	pmd_trans_huge_lock,
	pmdp_huge_get_and_clear,
	pmdp_invalidate_ad,
	set_pmd_at,
} from '../pgtable.ts';
import { folio_remove_rmap_pmd } from '../rmap/mapcount.ts';
import { folio_put } from '../swap.ts';
import { flush_tlb_range, huge_pmd_needs_flush } from '../tlb.ts';
import {
	pgtable_trans_huge_deposit,
	pgtable_trans_huge_withdraw,
	zap_deposited_table,
} from './deposit.ts';
import { is_huge_zero_pmd } from './zero.ts';

const UFFD_PROT = MM_CP_UFFD_WP | MM_CP_UFFD_RWP;
const UFFD_RESOLVE = MM_CP_UFFD_WP_RESOLVE | MM_CP_UFFD_RWP_RESOLVE;

/**
 * Take a huge pmd out; the reference of a present page is put after the flush.
 *
 * @param tlb - the gather
 * @param vma - its VMA
 * @param pmd - the entry
 * @param addr - its first address
 * @returns whether it was one
 * @context The mmap lock is held, the notifiers were told.
 * @kernel mm/huge_memory.c
 */
export function* zap_huge_pmd(
	tlb: mmu_gather,
	vma: vm_area_struct,
	pmd: TableEntry,
	addr: unsigned_long,
): Sim<bool> {
	const { vm_mm: mm } = vma;
	const ptl = yield* pmd_trans_huge_lock(pmd, vma);
	if (ptl === null) return false;
	const old = yield* pmdp_huge_get_and_clear(mm, addr, pmd);
	tlb_flush_pte_range(tlb, addr, HPAGE_PMD_SIZE);
	const present = pmd_present(old);
	if (is_huge_zero_pmd(old)) {
		yield* zap_deposited_table(mm, pmd);
		yield* spin_unlock(ptl);
		return true;
	}
	const f = present
		? page_folio(pfn_to_page(pmd_pfn(old)))
		: softleaf_to_folio(softleaf_from_pmd(old));
	// not the folio's kind: an entry of one that migrates holds neither mapping nor reference
	const isPrivate = pmd_is_device_private_entry(old);
	if (present || isPrivate) yield* folio_remove_rmap_pmd(f, vma);
	if (folio_test_anon(f)) {
		add_mm_counter(mm, MM_ANONPAGES, -HPAGE_PMD_NR);
		yield* zap_deposited_table(mm, pmd);
	} else {
		add_mm_counter(mm, mm_counter_file(f), -HPAGE_PMD_NR);
		if (present && pmd_dirty(old)) folio_set_dirty(f);
	}
	if (isPrivate) yield* folio_put(f);
	yield* spin_unlock(ptl);
	if (present) __tlb_remove_page(tlb, f.page);
	return true;
}

/** A huge entry at its new place, where nobody resolves faults. */
function withoutUffd(vma: vm_area_struct, pmd: pmd_t): pmd_t {
	if (!pmd_present(pmd)) return pmd_swp_clear_uffd_wp(pmd);
	const open = userfaultfd_huge_pmd_rwp(vma, pmd) ? pmd_modify(pmd, vma.vm_page_prot) : pmd;
	return pmd_clear_uffd_wp(open);
}

/**
 * Move a huge pmd to an address whose pmd is empty.
 *
 * @param vma - VMA of the old address
 * @param old_addr - where it is, aligned
 * @param new_addr - where it goes, aligned
 * @param old_pmd - its entry
 * @param new_pmd - the other entry
 * @returns whether it was moved: else it is no huge pmd, or there is a page table where it should go
 * @context The mmap lock is held for writing, the notifiers were told.
 * @kernel mm/huge_memory.c
 */
export function* move_huge_pmd(
	vma: vm_area_struct,
	old_addr: unsigned_long,
	new_addr: unsigned_long,
	old_pmd: TableEntry,
	new_pmd: TableEntry,
): Sim<bool> {
	const { vm_mm: mm } = vma;
	if (!pmd_none(new_pmd.value)) return false;
	const old_ptl = yield* pmd_trans_huge_lock(old_pmd, vma);
	if (old_ptl === null) return false;
	const new_ptl = pmd_lockptr(mm, new_pmd);
	const other = new_ptl !== old_ptl;
	if (other) yield* spin_lock_nested(new_ptl, SINGLE_DEPTH_NESTING);
	const was = yield* pmdp_huge_get_and_clear(mm, old_addr, old_pmd);
	const pmd = vma_has_uffd_without_event_remap(vma) ? withoutUffd(vma, was) : was;
	BUG_ON(!pmd_none(new_pmd.value), 'a huge pmd is moved onto an entry');
	if (other && vma_is_anonymous(vma))
		pgtable_trans_huge_deposit(mm, new_pmd, pgtable_trans_huge_withdraw(mm, old_pmd));
	yield* set_pmd_at(mm, new_addr, new_pmd, pmd);
	if (pmd_present(pmd)) yield* flush_tlb_range(vma, old_addr, old_addr + HPAGE_PMD_SIZE);
	if (other) yield* spin_unlock(new_ptl);
	yield* spin_unlock(old_ptl);
	return true;
}

/** The word of an entry that is not present, without write access. */
function withoutWrite(pmd: pmd_t): pmd_t {
	const entry = softleaf_from_pmd(pmd);
	const leaf = softleafWithoutWrite(entry);
	if (leaf === entry) return pmd;
	const after = softleaf_to_pmd(leaf);
	// an entry of a folio that migrates is told by its folio
	const kept = softleaf_is_device_private(leaf) && pmd_swp_uffd_wp(pmd);
	return kept ? pmd_swp_mkuffd_wp(after) : after;
}

/** A migration entry or a device-private one loses its right to write. */
function* change_non_present_huge_pmd(
	vma: vm_area_struct,
	addr: bigint,
	pmd: TableEntry,
	cp_flags: unsigned_long,
): Sim<void> {
	let after = withoutWrite(pmd.value);
	if ((cp_flags & UFFD_PROT) !== 0n) after = pmd_swp_mkuffd_wp(after);
	else if ((cp_flags & UFFD_RESOLVE) !== 0n) after = pmd_swp_clear_uffd_wp(after);
	if (!pmd_same(after, pmd.value)) yield* set_pmd_at(vma.vm_mm, addr, pmd, after);
}

/**
 * Whether a huge entry of a writable VMA can be made writable without a fault.
 *
 * @param vma - its VMA
 * @param pmd - the word, with its new protection
 * @context The lock of the pmd is held.
 * @deviates without the address
 * @kernel mm/huge_memory.c
 */
export function can_change_pmd_writable(vma: vm_area_struct, pmd: pmd_t): boolean {
	if (WARN_ON_ONCE((vma.vm_flags & VM_WRITE) === 0n)) return false;
	if (pmd_protnone(pmd) || userfaultfd_huge_pmd_wp(vma, pmd)) return false;
	if ((vma.vm_flags & VM_SHARED) !== 0n) return pmd_dirty(pmd);
	if (is_huge_zero_pmd(pmd)) return false;
	const p = pfn_to_page(pmd_pfn(pmd));
	return folio_test_anon(page_folio(p)) && PageAnonExclusive(p);
}

/**
 * Give a huge pmd the protection of its VMA, or protect it for userfaultfd, or undo that.
 *
 * @param tlb - gathers what must be flushed
 * @param vma - its VMA
 * @param pmd - the entry
 * @param addr - its first address
 * @param newprot - protection
 * @param cp_flags - MM_CP_*
 * @retval 0 it is no huge pmd any more
 * @retval 1 nothing to count: an entry that is not present, or that is protected so already
 * @retval 512 changed
 * @context The mmap lock is held, for writing unless a userfaultfd protects; the notifiers were told.
 * @kernel mm/huge_memory.c
 */
export function* change_huge_pmd(
	tlb: mmu_gather,
	vma: vm_area_struct,
	pmd: TableEntry,
	addr: unsigned_long,
	newprot: pgprot_t,
	cp_flags: unsigned_long,
): Sim<int> {
	const ptl = yield* pmd_trans_huge_lock(pmd, vma);
	if (ptl === null) return 0;
	if (!pmd_present(pmd.value)) {
		yield* change_non_present_huge_pmd(vma, addr, pmd, cp_flags);
		yield* spin_unlock(ptl);
		return 1;
	}
	const rwp = (cp_flags & MM_CP_UFFD_RWP) !== 0n;
	if (rwp && pmd_protnone(pmd.value) && pmd_uffd_wp(pmd.value)) {
		yield* spin_unlock(ptl);
		return 1;
	}
	// not emptied: whoever looks without the lock must still see a huge pmd
	const before = yield* pmdp_invalidate_ad(vma, addr, pmd);
	let after = pmd_modify(before, newprot);
	if ((cp_flags & UFFD_PROT) !== 0n) after = pmd_mkuffd_wp(after);
	else if ((cp_flags & UFFD_RESOLVE) !== 0n) after = pmd_clear_uffd_wp(after);
	// whatever the new protection allows: the access is to be heard of
	if (userfaultfd_huge_pmd_rwp(vma, after)) after = pmd_modify(after, PAGE_NONE);
	if (
		(cp_flags & MM_CP_TRY_CHANGE_WRITABLE) !== 0n &&
		!pmd_write(after) &&
		can_change_pmd_writable(vma, after)
	)
		after = pmd_mkwrite(after);
	yield* set_pmd_at(vma.vm_mm, addr, pmd, after);
	if (huge_pmd_needs_flush(before, after)) tlb_flush_pte_range(tlb, addr, HPAGE_PMD_SIZE);
	yield* spin_unlock(ptl);
	return HPAGE_PMD_NR;
}
