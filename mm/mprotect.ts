// SPDX-License-Identifier: GPL-2.0-only
/**
 * mprotect().
 *
 * Guarantee: after it returns no CPU has a right that the new protection does not give. A right
 * that is added is in the page tables at once where no fault is needed for it: in a shared mapping,
 * and for exclusive anonymous pages. Mechanism: VMA by VMA: flags, split or merge, then the entries;
 * one PROTECTION_VMA event for each stretch of 512 GiB in which page tables exist at all.
 */

import { BUG_ON } from '../include/linux/bug.ts';
import { EACCES, EINTR, EINVAL, ENOMEM } from '../include/linux/errno.ts';
import {
	is_vm_hugetlb_page,
	MM_CP_TRY_CHANGE_WRITABLE,
	MM_CP_UFFD_RWP,
	MM_CP_UFFD_RWP_RESOLVE,
	MM_CP_UFFD_WP,
	MM_CP_UFFD_WP_RESOLVE,
	PROT_EXEC,
	PROT_READ,
	PROT_WRITE,
	VM_ACCESS_FLAGS,
	VM_ACCOUNT,
	VM_HUGETLB,
	VM_NORESERVE,
	VM_SHARED,
	VM_STICKY,
	VM_WRITE,
	vma_is_anonymous,
} from '../include/linux/mm.ts';
import type { mm_struct, vm_area_struct } from '../include/linux/mm_types.ts';
import { MMU_NOTIFY_PROTECTION_VMA, mmu_notifier_range } from '../include/linux/mmu_notifier.ts';
import {
	PAGE_NONE,
	pgd_addr_end,
	type pgprot_t,
	pmd_addr_end,
	pmd_none,
	pte_clear_uffd_wp,
	pte_mkuffd_wp,
	pte_mkwrite,
	pte_modify,
	pte_none,
	pte_present,
	pte_protnone,
	type pte_t,
	pte_uffd_wp,
	pte_write,
	pud_addr_end,
	pud_none,
	type TableEntry,
} from '../include/linux/pgtable.ts';
import { current } from '../include/linux/sched.ts';
import type { spinlock_t } from '../include/linux/spinlock.ts';
import {
	make_pte_marker_entry,
	PTE_MARKER_UFFD_WP,
	pte_swp_clear_uffd_wp,
	pte_swp_mkuffd_wp,
	pte_swp_uffd_wp,
	pte_to_swp_entry,
	softleaf_from_pte,
	softleaf_is_marker,
	softleaf_is_migration,
	softleafWithoutWrite,
	swp_entry_to_pte,
} from '../include/linux/swapops.ts';
import {
	HPAGE_PMD_NR,
	HPAGE_PMD_SIZE,
	type int,
	type out,
	PAGE_MASK,
	PAGE_SIZE,
	type size_t,
	type unsigned_int,
	type unsigned_long,
	type vm_flags_t,
} from '../include/linux/types.ts';
import {
	pte_is_uffd_wp_marker,
	userfaultfd_pte_rwp,
	userfaultfd_wp_use_markers,
} from '../include/linux/userfaultfd_k.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { vmaIndex } from './find_vma.ts';
import { change_huge_pmd } from './huge_memory/change.ts';
import { __split_huge_pmd } from './huge_memory/split_pmd.ts';
import { hugetlb_change_protection } from './hugetlb/copy.ts';
import { can_change_pte_writable } from './memory/change_writable.ts';
import { calc_vm_prot_bits } from './mmap.ts';
import { mmap_write_lock_killable, mmap_write_unlock } from './mmap_lock.ts';
import {
	type mmu_gather,
	tlb_finish_mmu,
	tlb_flush_pte_range,
	tlb_gather_mmu,
} from './mmu_gather.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init,
} from './mmu_notifier.ts';
import {
	nextEntry,
	pgd_none_or_clear_bad,
	pgd_offset,
	pmd_alloc,
	pmd_offset,
	pmdIsHuge,
	pte_alloc,
	pte_offset_map_lock,
	pte_unmap_unlock,
	ptep_get,
	ptep_modify_prot_commit,
	ptep_modify_prot_start,
	pud_alloc,
	pud_offset,
	set_pte_at,
} from './pgtable.ts';
import { pte_needs_flush } from './tlb.ts';
import { vma_modify_flags, vma_set_page_prot, vma_wants_manual_pte_write_upgrade } from './vma.ts';

export { can_change_pte_writable } from './memory/change_writable.ts';

const UFFD_PROT = MM_CP_UFFD_WP | MM_CP_UFFD_RWP;
const UFFD_RESOLVE = MM_CP_UFFD_WP_RESOLVE | MM_CP_UFFD_RWP_RESOLVE;

/** The word of a non-present entry without write access. */
function withoutWrite(pte: pte_t): pte_t {
	const entry = pte_to_swp_entry(pte);
	const leaf = softleafWithoutWrite(entry);
	if (leaf === entry) return pte;
	const after = swp_entry_to_pte(leaf);
	// an entry of a page that migrates is told by its folio
	const kept = !softleaf_is_migration(leaf) && pte_swp_uffd_wp(pte);
	return kept ? pte_swp_mkuffd_wp(after) : after;
}

/** A present entry; whether it was looked at as one that changes. */
function* changePresent(
	tlb: mmu_gather,
	vma: vm_area_struct,
	pte: TableEntry,
	addr: bigint,
	newprot: pgprot_t,
	cp_flags: unsigned_long,
): Sim<boolean> {
	const old = ptep_get(pte);
	// protected already
	if ((cp_flags & MM_CP_UFFD_RWP) !== 0n && pte_protnone(old) && pte_uffd_wp(old))
		return false;
	const before = yield* ptep_modify_prot_start(vma, addr, pte);
	let after = pte_modify(before, newprot);
	if ((cp_flags & UFFD_PROT) !== 0n) after = pte_mkuffd_wp(after);
	else if ((cp_flags & UFFD_RESOLVE) !== 0n) after = pte_clear_uffd_wp(after);
	// whatever the new protection allows: the access is to be heard of
	if (userfaultfd_pte_rwp(vma, after)) after = pte_modify(after, PAGE_NONE);
	if (
		(cp_flags & MM_CP_TRY_CHANGE_WRITABLE) !== 0n &&
		!pte_write(after) &&
		can_change_pte_writable(vma, addr, after)
	)
		after = pte_mkwrite(after);
	yield* ptep_modify_prot_commit(vma, addr, pte, before, after);
	if (pte_needs_flush(before, after)) tlb_flush_pte_range(tlb, addr, PAGE_SIZE);
	return true;
}

/** An entry that is not present and not empty; whether it was changed. */
function* change_softleaf_pte(
	vma: vm_area_struct,
	pte: TableEntry,
	addr: bigint,
	cp_flags: unsigned_long,
): Sim<boolean> {
	const word = ptep_get(pte);
	let after: pte_t = 0n;
	if (!softleaf_is_marker(softleaf_from_pte(word))) {
		after = withoutWrite(word);
		if ((cp_flags & UFFD_PROT) !== 0n) after = pte_swp_mkuffd_wp(after);
		else if ((cp_flags & UFFD_RESOLVE) !== 0n) after = pte_swp_clear_uffd_wp(after);
	} else if (!pte_is_uffd_wp_marker(word) || (cp_flags & UFFD_RESOLVE) === 0n) return false;
	if (after === word) return false;
	yield* set_pte_at(vma.vm_mm, addr, pte, after);
	return true;
}

/** An empty entry; whether it is marked now as write-protected. */
function* changeEmpty(
	vma: vm_area_struct,
	pte: TableEntry,
	addr: bigint,
	cp_flags: unsigned_long,
): Sim<boolean> {
	if ((cp_flags & MM_CP_UFFD_WP) === 0n || !userfaultfd_wp_use_markers(vma)) return false;
	const marker = swp_entry_to_pte(make_pte_marker_entry(PTE_MARKER_UFFD_WP));
	yield* set_pte_at(vma.vm_mm, addr, pte, marker);
	return true;
}

/** Whether tables are made where there are none, for markers. */
function pgtable_populate_needed(vma: vm_area_struct, cp_flags: unsigned_long): boolean {
	return (cp_flags & MM_CP_UFFD_WP) !== 0n && userfaultfd_wp_use_markers(vma);
}

/** Whether a huge pmd is split first: protection of a file's page may have to be a marker. */
function pgtable_split_needed(vma: vm_area_struct, cp_flags: unsigned_long): boolean {
	return (cp_flags & UFFD_PROT) !== 0n && !vma_is_anonymous(vma);
}

/** @returns entries changed; -1: the pmd points to no table any more, look at it again */
function* change_pte_range(
	tlb: mmu_gather,
	vma: vm_area_struct,
	pmd: TableEntry,
	addr: bigint,
	end: bigint,
	newprot: pgprot_t,
	cp_flags: unsigned_long,
): Sim<number> {
	const ptl: out<spinlock_t | null> = { value: null };
	const first = yield* pte_offset_map_lock(vma.vm_mm, pmd, addr, ptl);
	if (first === null) return -1;
	let pages = 0;
	let pte = first;
	for (let at = addr; ; pte = nextEntry(pte)) {
		const word = ptep_get(pte);
		let changed: boolean;
		if (pte_present(word))
			changed = yield* changePresent(tlb, vma, pte, at, newprot, cp_flags);
		else if (pte_none(word)) changed = yield* changeEmpty(vma, pte, at, cp_flags);
		else changed = yield* change_softleaf_pte(vma, pte, at, cp_flags);
		if (changed) pages++;
		at += PAGE_SIZE;
		if (at === end) break;
	}
	yield* pte_unmap_unlock(pte, ptl.value);
	return pages;
}

/** One pmd, huge or not. Returns entries changed; -1: look at it again. */
function* changePmd(
	tlb: mmu_gather,
	vma: vm_area_struct,
	pmd: TableEntry,
	addr: bigint,
	next: bigint,
	newprot: pgprot_t,
	cp_flags: unsigned_long,
): Sim<number> {
	if (pmdIsHuge(pmd.value)) {
		if (next - addr !== HPAGE_PMD_SIZE || pgtable_split_needed(vma, cp_flags))
			yield* __split_huge_pmd(vma, pmd, addr, false);
		else {
			const ret = yield* change_huge_pmd(tlb, vma, pmd, addr, newprot, cp_flags);
			if (ret !== 0) return ret === HPAGE_PMD_NR ? ret : 0;
		}
	}
	return yield* change_pte_range(tlb, vma, pmd, addr, next, newprot, cp_flags);
}

function* change_pmd_range(
	tlb: mmu_gather,
	vma: vm_area_struct,
	pud: TableEntry,
	addr: bigint,
	end: bigint,
	newprot: pgprot_t,
	cp_flags: unsigned_long,
): Sim<number> {
	let pages = 0;
	let pmd = pmd_offset(pud, addr);
	for (let at = addr; ; pmd = nextEntry(pmd)) {
		const next = pmd_addr_end(at, end);
		if (
			pgtable_populate_needed(vma, cp_flags) &&
			(yield* pte_alloc(vma.vm_mm, pmd)) !== 0
		)
			return -ENOMEM;
		for (let changed = -1; changed < 0 && !pmd_none(pmd.value); ) {
			changed = yield* changePmd(tlb, vma, pmd, at, next, newprot, cp_flags);
			pages += Math.max(changed, 0);
		}
		at = next;
		if (at === end) return pages;
	}
}

function* change_pud_range(
	tlb: mmu_gather,
	vma: vm_area_struct,
	pgd: TableEntry,
	addr: bigint,
	end: bigint,
	newprot: pgprot_t,
	cp_flags: unsigned_long,
): Sim<number> {
	let range: mmu_notifier_range | null = null;
	let pages = 0;
	let pud = pud_offset(pgd, addr);
	for (let at = addr; ; pud = nextEntry(pud)) {
		const next = pud_addr_end(at, end);
		if (
			pgtable_populate_needed(vma, cp_flags) &&
			(yield* pmd_alloc(vma.vm_mm, pud, at)) === null
		) {
			pages = -ENOMEM;
			break;
		}
		if (!pud_none(pud.value)) {
			if (range === null) {
				range = new mmu_notifier_range();
				mmu_notifier_range_init(
					range,
					MMU_NOTIFY_PROTECTION_VMA,
					0,
					vma.vm_mm,
					at,
					end,
				);
				yield* mmu_notifier_invalidate_range_start(range);
			}
			const changed = yield* change_pmd_range(
				tlb,
				vma,
				pud,
				at,
				next,
				newprot,
				cp_flags,
			);
			pages = changed < 0 ? changed : pages + changed;
			if (changed < 0) break;
		}
		at = next;
		if (at === end) break;
	}
	if (range !== null) yield* mmu_notifier_invalidate_range_end(range);
	return pages;
}

/**
 * Give the entries of a range the protection of its VMA.
 *
 * @param tlb - gathers what must be flushed
 * @param vma - the VMA, with its new flags and protection bits
 * @param start - first address
 * @param end - exclusive
 * @param cp_flags - MM_CP_*
 * @returns entries changed
 * @retval -ENOMEM no memory for tables that markers need
 * @context Sleeps. The mmap lock is held, for writing unless a userfaultfd protects.
 * @kernel mm/mprotect.c
 */
export function* change_protection(
	tlb: mmu_gather,
	vma: vm_area_struct,
	start: unsigned_long,
	end: unsigned_long,
	cp_flags: unsigned_long,
): Sim<number> {
	BUG_ON(start >= end, 'change_protection() of nothing');
	if (is_vm_hugetlb_page(vma))
		return yield* hugetlb_change_protection(
			vma,
			start,
			end,
			vma.vm_page_prot,
			cp_flags,
		);
	let pages = 0;
	const newprot = (cp_flags & MM_CP_UFFD_RWP) !== 0n ? PAGE_NONE : vma.vm_page_prot;
	let pgd = pgd_offset(vma.vm_mm, start);
	for (let at = start; ; pgd = nextEntry(pgd)) {
		const next = pgd_addr_end(at, end);
		if (
			pgtable_populate_needed(vma, cp_flags) &&
			(yield* pud_alloc(vma.vm_mm, pgd, at)) === null
		)
			return -ENOMEM;
		if (!pgd_none_or_clear_bad(pgd)) {
			const changed = yield* change_pud_range(
				tlb,
				vma,
				pgd,
				at,
				next,
				newprot,
				cp_flags,
			);
			if (changed < 0) return changed;
			pages += changed;
		}
		at = next;
		if (at === end) return pages;
	}
}

/** Flags with the reservation that the new protection needs. */
function accountedFlags(vma: vm_area_struct, newflags: vm_flags_t): vm_flags_t {
	const { vm_flags: old } = vma;
	const reserved = VM_ACCOUNT | VM_WRITE | VM_HUGETLB | VM_SHARED | VM_NORESERVE;
	if ((newflags & VM_WRITE) !== 0n)
		return (old & reserved) === 0n ? newflags | VM_ACCOUNT : newflags;
	if ((old & VM_ACCOUNT) !== 0n && vma_is_anonymous(vma) && vma.anon_vma === null)
		return newflags & ~VM_ACCOUNT;
	return newflags;
}

/**
 * Give a part of a VMA other flags.
 *
 * @param tlb - gathers what must be flushed
 * @param vma - the VMA
 * @param start - first address, inside
 * @param end - exclusive
 * @param flags - the new flags
 * @returns the VMA that the part is in now
 * @retval -ENOMEM no memory, or too many VMAs
 * @context Sleeps. The mmap lock is held for writing.
 * @deviates neither the iterator nor the VMA in front is passed; the VMA is returned
 * @kernel mm/mprotect.c
 */
function* mprotect_fixup(
	tlb: mmu_gather,
	vma: vm_area_struct,
	start: unsigned_long,
	end: unsigned_long,
	flags: vm_flags_t,
): Sim<vm_area_struct | int> {
	if (flags === vma.vm_flags) return vma;
	const newflags = accountedFlags(vma, flags);
	const part = yield* vma_modify_flags(vma, start, end, newflags);
	if (typeof part === 'number') return part;
	part.vm_flags = newflags | (part.vm_flags & VM_STICKY);
	const cp_flags = vma_wants_manual_pte_write_upgrade(part) ? MM_CP_TRY_CHANGE_WRITABLE : 0n;
	vma_set_page_prot(part);
	yield* change_protection(tlb, part, start, end, cp_flags);
	return part;
}

/** mprotect() of the VMAs of [start, end), under the mmap lock. */
function* protectRange(
	mm: mm_struct,
	tlb: mmu_gather,
	start: bigint,
	end: bigint,
	prot: unsigned_int,
): Sim<int> {
	const wanted = calc_vm_prot_bits(prot);
	let at = start;
	while (at < end) {
		const vma = mm.vmas[vmaIndex(mm, at)];
		if (vma === undefined || vma.vm_start > at) return -ENOMEM;
		const newflags = wanted | (vma.vm_flags & ~VM_ACCESS_FLAGS);
		// VM_MAY* are the same bits four places up
		if ((newflags & ~(newflags >> 4n) & VM_ACCESS_FLAGS) !== 0n) return -EACCES;
		const stop = vma.vm_end < end ? vma.vm_end : end;
		const part = yield* mprotect_fixup(tlb, vma, at, stop, newflags);
		if (typeof part === 'number') return part;
		at = stop;
	}
	return 0;
}

/**
 * mprotect() of an address space.
 *
 * @param mm - address space
 * @param start - first address
 * @param len - length
 * @param prot - PROT_* bits
 * @retval 0 done, also if `len` is 0
 * @retval -EINVAL not aligned, or unknown bits
 * @retval -ENOMEM a gap in the range, no memory, or too many VMAs; what lies before it is changed
 * @retval -EACCES the mapping must never have this right
 * @retval -EINTR killed while it waited for the mmap lock
 * @context Sleeps. The mmap lock is not held.
 */
function* mprotectMm(
	mm: mm_struct,
	start: unsigned_long,
	len: size_t,
	prot: unsigned_int,
): Sim<int> {
	if ((start & ~PAGE_MASK) !== 0n) return -EINVAL;
	if (len === 0n) return 0;
	const end = start + ((len + PAGE_SIZE - 1n) & PAGE_MASK);
	if (end >= 1n << 64n) return -ENOMEM;
	if ((prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC)) !== 0) return -EINVAL;
	if ((yield* mmap_write_lock_killable(mm)) !== 0) return -EINTR;
	const tlb = tlb_gather_mmu(mm);
	const ret = yield* protectRange(mm, tlb, start, end, prot);
	yield* tlb_finish_mmu(tlb);
	yield* mmap_write_unlock(mm);
	return ret;
}

/**
 * mprotect() of the current task.
 *
 * @param start - first address
 * @param len - length
 * @param prot - PROT_* bits
 * @param _pkey - must be -1: no protection keys
 * @retval 0 done
 * @returns else an errno of mprotectMm()
 * @context Sleeps. The mmap lock is not held.
 * @kernel mm/mprotect.c
 */
export function* do_mprotect_pkey(
	start: unsigned_long,
	len: size_t,
	prot: unsigned_int,
	_pkey: int,
): Sim<int> {
	return yield* mprotectMm(current().mm!, start, len, prot);
}
