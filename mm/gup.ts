// SPDX-License-Identifier: GPL-2.0-only
/**
 * get_user_pages_remote(): the pages behind user addresses, faulted in as an access would.
 *
 * Guarantee: each page that is returned was mapped, writable if FOLL_WRITE asks for that, at a moment
 * under its page-table lock, and has a reference since then. It need not be mapped any more.
 * Mechanism: look; what does not satisfy is faulted, then looked at again.
 *
 * ```
 *   entry                             FOLL_WRITE            else
 *   none, not present                 fault                 fault
 *   NUMA hint (PROT_NONE)             as the others; FOLL_HONOR_NUMA_FAULT, userfaultfd RWP: fault
 *   present, read-only                fault; FOLL_FORCE: the page if it is the process's own copy
 *                                                           the page
 *   present, writable                 the page              the page
 *   special without struct page       -EEXIST               -EEXIST
 *   huge pmd                          its page; FOLL_SPLIT_PMD: split, then look at the pte
 *   hugetlb                           as a huge pmd, faulted by hugetlb_fault(); FOLL_SPLIT_PMD: refused
 *   P2P memory                        -EREMOTEIO, unless FOLL_PCI_P2PDMA
 * ```
 *
 * @kernel mm/gup.c
 */
import { EAGAIN, EBUSY, EEXIST, EFAULT, EINTR, EMLINK, ENOMEM } from '../include/linux/errno.ts';
import {
	FOLL_GET,
	FOLL_NOFAULT,
	FOLL_PIN,
	FOLL_REMOTE,
	FOLL_SPLIT_PMD,
	FOLL_TOUCH,
	FOLL_WRITE,
	gup_can_follow_protnone,
	vm_fault_to_errno,
} from '../include/linux/mm.ts';
import {
	FAULT_FLAG_REMOTE,
	FAULT_FLAG_UNSHARE,
	FAULT_FLAG_WRITE,
	type mm_struct,
	type page,
	page_folio,
	VM_FAULT_ERROR,
	VM_FAULT_RETRY,
	type vm_area_struct,
} from '../include/linux/mm_types.ts';
import { nth_page, pfn_to_page } from '../include/linux/mmzone.ts';
import { folio_test_dirty, PG_referenced } from '../include/linux/page-flags.ts';
import {
	pmd_leaf,
	pmd_none,
	pmd_pfn,
	pmd_present,
	pmd_protnone,
	pmd_trans_huge,
	pmd_write,
	pte_devmap,
	pte_dirty,
	pte_mkdirty,
	pte_mkyoung,
	pte_pfn,
	pte_present,
	pte_protnone,
	type pte_t,
	pte_write,
	type TableEntry,
} from '../include/linux/pgtable.ts';
import { current, fatal_signal_pending } from '../include/linux/sched.ts';
import type { spinlock_t } from '../include/linux/spinlock.ts';
import {
	type errno,
	type int,
	outParam,
	PAGE_SHIFT,
	PAGE_SIZE,
	PMD_MASK,
	type unsigned_int,
	type unsigned_long,
} from '../include/linux/types.ts';
import { retryRound } from '../include/sim/retry.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { feature } from '../include/sim/world.ts';
import { spin_unlock } from '../kernel/locking/spinlock.ts';
import { vma_lookup } from './find_vma.ts';
import { can_follow_write_pmd, can_follow_write_pte, check_vma_flags } from './gup/check.ts';
import { gup_must_unshare, try_grab_folio } from './gup/grab.ts';
import { split_huge_pmd, touch_pmd } from './huge_memory.ts';
import { handle_mm_fault, is_zero_pfn, vm_normal_page, ZERO_PAGE } from './memory.ts';
import { get_dev_pagemap, put_dev_pagemap } from './memremap.ts';
import { mmap_assert_locked } from './mmap_lock.ts';
import { folio_mark_dirty } from './page-writeback.ts';
import {
	pgd_none_or_clear_bad,
	pgd_offset,
	pmd_lock,
	pmd_offset,
	pmdp_get_lockless,
	pte_alloc,
	pte_offset_map_lock,
	pte_unmap_unlock,
	ptep_get,
	pud_none_or_clear_bad,
	pud_offset,
	set_pte_at,
} from './pgtable.ts';

/** Gives a page to the caller: a reference or a pin, and the marks of the access to come. */
function* grabPage(p: page, flags: unsigned_int, dirtyEntry: boolean): Sim<page | errno> {
	const f = page_folio(p);
	const err = try_grab_folio(f, 1, flags);
	if (err !== 0) return err;
	if (flags & FOLL_TOUCH) {
		if (flags & FOLL_WRITE && !dirtyEntry && !folio_test_dirty(f))
			yield* folio_mark_dirty(f);
		f.flags |= PG_referenced;
	}
	return p;
}

/** An entry without struct page: the marks go to the entry, and there is nothing to return. */
function* follow_pfn_pte(
	vma: vm_area_struct,
	address: unsigned_long,
	pte: TableEntry,
	flags: unsigned_int,
): Sim<int> {
	if (flags & FOLL_TOUCH) {
		let entry = ptep_get(pte);
		if (flags & FOLL_WRITE) entry = pte_mkdirty(entry);
		entry = pte_mkyoung(entry);
		if (entry !== ptep_get(pte)) yield* set_pte_at(vma.vm_mm, address, pte, entry);
	}
	return -EEXIST;
}

/** What a locked entry gives: null when it must be faulted first, -EMLINK when it must be unshared. */
function* pageOfPte(
	vma: vm_area_struct,
	address: unsigned_long,
	ptep: TableEntry,
	flags: unsigned_int,
): Sim<page | null | errno> {
	const pte: pte_t = ptep_get(ptep);
	if (!pte_present(pte)) return null;
	if (pte_protnone(pte) && !gup_can_follow_protnone(vma, flags)) return null;
	let p = vm_normal_page(vma, address, pte);
	if (flags & FOLL_WRITE && !can_follow_write_pte(pte, p, vma, flags)) return null;
	// its pagemap keeps a devmap page, which nobody else counts
	const takes = (flags & (FOLL_GET | FOLL_PIN)) !== 0;
	if (p === null && takes && feature('devmap_entries') && pte_devmap(pte)) {
		const pgmap = get_dev_pagemap(pte_pfn(pte), null);
		if (pgmap === null) return null;
		const got = yield* grabPage(pfn_to_page(pte_pfn(pte)), flags, pte_dirty(pte));
		put_dev_pagemap(pgmap);
		return got;
	}
	if (p === null) {
		if (!is_zero_pfn(pte_pfn(pte)))
			return yield* follow_pfn_pte(vma, address, ptep, flags);
		p = ZERO_PAGE(address);
	}
	if (!pte_write(pte) && gup_must_unshare(vma, flags, p)) return -EMLINK;
	return yield* grabPage(p, flags, pte_dirty(pte));
}

function* follow_page_pte(
	vma: vm_area_struct,
	address: unsigned_long,
	pmd: TableEntry,
	flags: unsigned_int,
): Sim<page | null | errno> {
	const ptl = outParam<spinlock_t | null>(null);
	const ptep = yield* pte_offset_map_lock(vma.vm_mm, pmd, address, ptl);
	if (ptep === null) return null;
	const found = yield* pageOfPte(vma, address, ptep, flags);
	yield* pte_unmap_unlock(ptep, ptl.value);
	return found;
}

/** What a locked huge pmd gives: null when it must be faulted first, -EMLINK when it must be unshared. */
function* pageOfPmd(
	vma: vm_area_struct,
	address: unsigned_long,
	pmdp: TableEntry,
	flags: unsigned_int,
): Sim<page | null | errno> {
	const pmd = pmdp.value;
	if (!pmd_present(pmd)) return null;
	const head = pfn_to_page(pmd_pfn(pmd));
	if (flags & FOLL_WRITE && !can_follow_write_pmd(pmd, head, vma, flags)) return null;
	if (pmd_protnone(pmd) && !gup_can_follow_protnone(vma, flags)) return null;
	if (!pmd_write(pmd) && gup_must_unshare(vma, flags, head)) return -EMLINK;
	const err = try_grab_folio(page_folio(head), 1, flags);
	if (err !== 0) return err;
	if (pmd_trans_huge(pmd) && flags & FOLL_TOUCH)
		yield* touch_pmd(vma, address, pmdp, (flags & FOLL_WRITE) !== 0);
	return nth_page(head, Number((address & ~PMD_MASK) >> PAGE_SHIFT));
}

/** A page of a huge pmd, whatever it is by now; null when it must be faulted first, -EMLINK when it must be unshared. */
function* follow_huge_pmd(
	vma: vm_area_struct,
	address: unsigned_long,
	pmd: TableEntry,
	flags: unsigned_int,
): Sim<page | null | errno> {
	const ptl = yield* pmd_lock(vma.vm_mm, pmd);
	const split = pmd_present(pmd.value) && !pmd_leaf(pmd.value);
	const found = split ? null : yield* pageOfPmd(vma, address, pmd, flags);
	yield* spin_unlock(ptl);
	return split ? yield* follow_page_pte(vma, address, pmd, flags) : found;
}

function* follow_pmd_mask(
	vma: vm_area_struct,
	address: unsigned_long,
	pmd: TableEntry,
	flags: unsigned_int,
): Sim<page | null | errno> {
	const pmdval = yield* pmdp_get_lockless(pmd);
	if (pmd_none(pmdval) || !pmd_present(pmdval)) return null;
	if (!pmd_leaf(pmdval)) return yield* follow_page_pte(vma, address, pmd, flags);
	if (pmd_protnone(pmdval) && !gup_can_follow_protnone(vma, flags)) return null;
	if (flags & FOLL_SPLIT_PMD && pmd_trans_huge(pmdval)) {
		yield* split_huge_pmd(vma, pmd, address);
		if ((yield* pte_alloc(vma.vm_mm, pmd)) !== 0) return -ENOMEM;
		return yield* follow_page_pte(vma, address, pmd, flags);
	}
	return yield* follow_huge_pmd(vma, address, pmd, flags);
}

/**
 * The page that a user address is mapped to.
 *
 * @param vma - VMA of the address
 * @param address - the address
 * @param flags - FOLL_* bits
 * @returns the page, with a reference if FOLL_GET; null: nothing that satisfies `flags` is mapped
 * @retval -EREMOTEIO P2P memory, without FOLL_PCI_P2PDMA
 * @retval -EEXIST something without struct page
 * @retval -EMLINK FOLL_PIN, and others may write the page's next copy: it is to be unshared first
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/gup.c
 */
export function* follow_page_mask(
	vma: vm_area_struct,
	address: unsigned_long,
	flags: unsigned_int,
): Sim<page | null | errno> {
	const pgd = pgd_offset(vma.vm_mm, address);
	if (pgd_none_or_clear_bad(pgd)) return null;
	const pud = pud_offset(pgd, address);
	if (pud_none_or_clear_bad(pud)) return null;
	return yield* follow_pmd_mask(vma, address, pmd_offset(pud, address), flags);
}

/**
 * Fault a page in.
 *
 * @retval 0 handled: look again
 * @retval -EBUSY a handler wants to be tried again later
 * @returns else the errno of the failed fault
 */
function* faultin_page(
	vma: vm_area_struct,
	address: bigint,
	flags: unsigned_int,
	unshare: boolean,
): Sim<int> {
	if (flags & FOLL_NOFAULT) return -EFAULT;
	let fault_flags = unshare ? FAULT_FLAG_UNSHARE : 0;
	if (flags & FOLL_WRITE) fault_flags |= FAULT_FLAG_WRITE;
	if (flags & FOLL_REMOTE) fault_flags |= FAULT_FLAG_REMOTE;
	const ret = yield* handle_mm_fault(vma, address, fault_flags, null);
	if (ret & VM_FAULT_ERROR) return vm_fault_to_errno(ret, flags);
	return ret & VM_FAULT_RETRY ? -EBUSY : 0;
}

/** One page, faulted in as often as it takes. */
function* getPage(
	vma: vm_area_struct,
	address: bigint,
	gup_flags: unsigned_int,
): Sim<page | errno> {
	for (let round = 0; ; round++) {
		retryRound(
			round,
			'__get_user_pages',
			'a fault handler that reports success and maps nothing',
		);
		if (fatal_signal_pending(current())) return -EINTR;
		const found = yield* follow_page_mask(vma, address, gup_flags);
		if (found !== null && found !== -EMLINK) return found;
		const ret = yield* faultin_page(vma, address, gup_flags, found === -EMLINK);
		if (ret !== 0) return ret;
	}
}

/** Failures that are none for the caller: it got fewer pages, or none. */
function gupErrno(err: int): int {
	return err === -EBUSY || err === -EAGAIN ? 0 : err;
}

/**
 * Get the pages behind a range of user addresses.
 *
 * @param mm - address space
 * @param start - first address
 * @param nr_pages - how many
 * @param gup_flags - FOLL_WRITE, FOLL_FORCE, FOLL_GET, FOLL_SPLIT_PMD, FOLL_HWPOISON, FOLL_NOFAULT,
 *   FOLL_HONOR_NUMA_FAULT
 * @param pages - out: the pages, each with a reference if FOLL_GET; null: they are only faulted in
 * @returns pages gotten, which may be fewer than asked for
 * @retval 0 the first one would have to be waited for
 * @retval -EFAULT the first one is not mapped, or its VMA does not allow it
 * @retval -EOPNOTSUPP FOLL_SPLIT_PMD, and the first one is in a hugetlb mapping
 * @retval -EEXIST the first one has no struct page
 * @retval -ENOMEM no memory for the first one
 * @retval -EHWPOISON the first one is poisoned, and FOLL_HWPOISON
 * @retval -EREMOTEIO the first one is P2P memory, and no FOLL_PCI_P2PDMA
 * @retval -EINTR the task was killed before the first one
 * @context Sleeps. The mmap lock is held and stays so.
 * @deviates no out-parameter for a dropped lock
 * @kernel mm/gup.c
 */
export function* get_user_pages_remote(
	mm: mm_struct,
	start: unsigned_long,
	nr_pages: unsigned_long,
	gup_flags: unsigned_int,
	pages: page[] | null,
): Sim<int> {
	return yield* __get_user_pages(
		mm,
		start,
		nr_pages,
		gup_flags | FOLL_TOUCH | FOLL_REMOTE,
		pages,
	);
}

/**
 * The same with all FOLL_* bits, the internal ones included.
 *
 * @param mm - address space
 * @param start - first address
 * @param nr_pages - how many
 * @param flags - FOLL_* bits
 * @param pages - out: the pages, each with a reference if FOLL_GET, a pin if FOLL_PIN
 * @returns as get_user_pages_remote()
 * @context Sleeps. The mmap lock is held and stays so.
 * @deviates no out-parameter for a dropped lock
 * @kernel mm/gup.c
 */
export function* __get_user_pages(
	mm: mm_struct,
	start: unsigned_long,
	nr_pages: unsigned_long,
	flags: unsigned_int,
	pages: page[] | null,
): Sim<int> {
	mmap_assert_locked(mm);
	for (let i = 0; BigInt(i) < nr_pages; i++) {
		const address = start + BigInt(i) * PAGE_SIZE;
		const vma = vma_lookup(mm, address);
		let got: page | errno = vma === null ? -EFAULT : check_vma_flags(vma, flags);
		if (got === 0) got = yield* getPage(vma!, address, flags);
		// without an array a page that has no struct page is as good as any
		if (got === -EEXIST && pages === null) continue;
		if (typeof got === 'number') return i > 0 ? i : gupErrno(got);
		if (pages !== null) pages[i] = got;
	}
	return Number(nr_pages);
}
