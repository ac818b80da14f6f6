// SPDX-License-Identifier: GPL-2.0-only
/**
 * Device-exclusive access: while it lasts a page is the device's alone, for atomics that the bus
 * does not carry.
 *
 * Guarantee: a page that was made exclusive has no present entry; whoever touches it, a CPU or
 * get_user_pages(), calls the notifiers before the entry is present again, and the device gives the
 * page up there. Mechanism: the page is faulted in writable, locked, and its entry replaced under an
 * EXCLUSIVE event. Duty: the caller's notifier passes its own event by; it maps the page for the
 * device before it unlocks it, so that nobody can take it back unseen.
 *
 * ```
 *                6.12 make_device_exclusive_range()      7.3 make_device_exclusive()
 *   faults       the whole range first                   page by page
 *   converts     every entry that maps the folio         the one entry, which must be writable
 *                writable -> EXCLUSIVE_WRITE                -> EXCLUSIVE
 *                else     -> EXCLUSIVE_READ
 *   mapcount     goes                                    stays
 *   fails        page null in the array                  errno
 * ```
 *
 * These are of mm/rmap.c; they are a file of their own because they need get_user_pages_remote().
 */
import { EOPNOTSUPP } from '../include/linux/errno.ts';
import { FOLL_GET, FOLL_SPLIT_PMD, FOLL_WRITE } from '../include/linux/mm.ts';
import {
	type folio,
	type mm_struct,
	type page,
	page_folio,
	type vm_area_struct,
} from '../include/linux/mm_types.ts';
import { MMU_NOTIFY_EXCLUSIVE, mmu_notifier_range } from '../include/linux/mmu_notifier.ts';
import { nth_page, page_to_pfn } from '../include/linux/mmzone.ts';
import {
	folio_nr_pages,
	folio_pfn,
	folio_test_anon,
	folio_test_hugetlb,
	PageTail,
} from '../include/linux/page-flags.ts';
import {
	pte_dirty,
	pte_pfn,
	pte_present,
	pte_uffd_wp,
	pte_write,
	type TableEntry,
} from '../include/linux/pgtable.ts';
import type { spinlock_t } from '../include/linux/spinlock.ts';
import {
	make_device_exclusive_entry,
	make_readable_device_exclusive_entry,
	make_writable_device_exclusive_entry,
	pte_swp_mkuffd_wp,
	swp_entry_to_pte,
} from '../include/linux/swapops.ts';
import {
	type bool,
	type errno,
	type int,
	type out,
	outParam,
	PAGE_MASK,
	PAGE_SHIFT,
	PAGE_SIZE,
	type unsigned_long,
} from '../include/linux/types.ts';
import { retryRound } from '../include/sim/retry.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { folio_lock_killable, folio_trylock, folio_unlock } from './filemap.ts';
import { vma_lookup } from './find_vma.ts';
import { get_user_pages_remote } from './gup.ts';
import { mmap_assert_locked } from './mmap_lock.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init_owner,
} from './mmu_notifier.ts';
import { folio_mark_dirty } from './page-writeback.ts';
import {
	pgd_none_or_clear_bad,
	pgd_offset,
	pmd_offset,
	pte_offset_map_lock,
	pte_unmap_unlock,
	ptep_clear_flush,
	ptep_get,
	pud_none_or_clear_bad,
	pud_offset,
	set_pte_at,
} from './pgtable.ts';
import {
	folio_mapcount,
	folio_mapped,
	folio_remove_rmap_pte,
	folio_vma_mapped_walk,
	page_vma_mapped_walk,
	page_vma_mapped_walk_done,
	rmap_walk,
	vma_address_end,
} from './rmap.ts';
import { folio_put, put_page } from './swap.ts';

/** What is looked for while a folio is made exclusive. */
class make_exclusive_args {
	readonly mm: mm_struct;
	readonly address: unsigned_long;
	readonly owner: object | null;
	/** The entry at mm and address was found, writable. */
	valid = false;

	constructor(mm: mm_struct, address: unsigned_long, owner: object | null) {
		this.mm = mm;
		this.address = address;
		this.owner = owner;
	}
}

/** v6.12: replaces the entry on which the walk stands, which is present. */
function* excludeEntry(pvmw: folio_vma_mapped_walk, args: make_exclusive_args): Sim<void> {
	const { folio: f, vma, address } = pvmw;
	const ptep = pvmw.pte!;
	const pteval = yield* ptep_clear_flush(vma, address, ptep);
	const subpage = nth_page(f.page, Number(pte_pfn(pteval) - folio_pfn(f)));
	if (pte_dirty(pteval)) yield* folio_mark_dirty(f);
	const writable = pte_write(pteval);
	if (vma.vm_mm === args.mm && address === args.address && writable) args.valid = true;
	const pfn = page_to_pfn(subpage) as bigint;
	const entry = swp_entry_to_pte(
		writable
			? make_writable_device_exclusive_entry(pfn)
			: make_readable_device_exclusive_entry(pfn),
	);
	yield* set_pte_at(
		vma.vm_mm,
		address,
		ptep,
		pte_uffd_wp(pteval) ? pte_swp_mkuffd_wp(entry) : entry,
	);
	// the reference of the mapping is the entry's now
	yield* folio_remove_rmap_pte(f, subpage, vma);
}

function* page_make_device_exclusive_one(
	f: folio,
	vma: vm_area_struct,
	address: unsigned_long,
	args: make_exclusive_args,
): Sim<bool> {
	const size = BigInt(folio_nr_pages(f)) << PAGE_SHIFT;
	const stop = address + size < vma.vm_end ? address + size : vma.vm_end;
	const range = new mmu_notifier_range();
	mmu_notifier_range_init_owner(
		range,
		MMU_NOTIFY_EXCLUSIVE,
		0,
		vma.vm_mm,
		address,
		stop,
		args.owner,
	);
	yield* mmu_notifier_invalidate_range_start(range);
	const pvmw = new folio_vma_mapped_walk(f, vma, address, vma_address_end(vma, f), 0);
	let ret = true;
	while (yield* page_vma_mapped_walk(pvmw)) {
		if (pte_present(ptep_get(pvmw.pte!))) {
			yield* excludeEntry(pvmw, args);
			continue;
		}
		yield* page_vma_mapped_walk_done(pvmw);
		ret = false;
		break;
	}
	yield* mmu_notifier_invalidate_range_end(range);
	return ret;
}

/** Replaces every entry that maps a folio. Returns whether the expected one was writable. */
function* folio_make_device_exclusive(
	f: folio,
	mm: mm_struct,
	address: unsigned_long,
	owner: object | null,
): Sim<bool> {
	// pages of files may be written back meanwhile
	if (!folio_test_anon(f) || folio_test_hugetlb(f)) return false;
	const args = new make_exclusive_args(mm, address, owner);
	yield* rmap_walk(f, {
		arg: args,
		rmap_one: page_make_device_exclusive_one,
		done: (walked: folio) => !folio_mapped(walked),
	});
	return args.valid && folio_mapcount(f) === 0;
}

/**
 * Make the pages of a range exclusive to a device, as far as that is possible.
 *
 * @param mm - address space
 * @param start - first address, page aligned
 * @param end - exclusive
 * @param pages - out: each exclusive page, locked and with a reference; null: that one is not
 * @param owner - who may ignore the EXCLUSIVE event
 * @returns how many pages of the range were faulted in, exclusive or not
 * @returns else an errno of get_user_pages_remote()
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/rmap.c (gone in 7.x)
 */
export function* make_device_exclusive_range(
	mm: mm_struct,
	start: unsigned_long,
	end: unsigned_long,
	pages: (page | null)[],
	owner: object | null,
): Sim<int> {
	const found: page[] = [];
	const flags = FOLL_GET | FOLL_WRITE | FOLL_SPLIT_PMD;
	const npages = yield* get_user_pages_remote(
		mm,
		start,
		(end - start) >> PAGE_SHIFT,
		flags,
		found,
	);
	for (let i = 0; i < npages; i++) {
		const p = found[i]!;
		const f = page_folio(p);
		pages[i] = null;
		if (PageTail(p) || !(yield* folio_trylock(f))) {
			yield* folio_put(f);
			continue;
		}
		const at = start + BigInt(i) * PAGE_SIZE;
		if (yield* folio_make_device_exclusive(f, mm, at, owner)) {
			pages[i] = p;
			continue;
		}
		yield* folio_unlock(f);
		yield* folio_put(f);
	}
	return npages;
}

/** The entry of an address that maps `p` writable, locked; null: it does not any more. */
function* writableEntry(
	vma: vm_area_struct,
	addr: unsigned_long,
	p: page,
	ptl: out<spinlock_t | null>,
): Sim<TableEntry | null> {
	const { vm_mm: mm } = vma;
	const pgd = pgd_offset(mm, addr);
	if (pgd_none_or_clear_bad(pgd)) return null;
	const pud = pud_offset(pgd, addr);
	if (pud_none_or_clear_bad(pud)) return null;
	const ptep = yield* pte_offset_map_lock(mm, pmd_offset(pud, addr), addr, ptl);
	if (ptep === null) return null;
	const pte = ptep_get(ptep);
	if (pte_present(pte) && pte_write(pte) && pte_pfn(pte) === page_to_pfn(p)) return ptep;
	yield* pte_unmap_unlock(ptep, ptl.value);
	return null;
}

/** v7.3: replaces the one entry, under an event of its own. Returns whether it was there still. */
function* excludePage(
	vma: vm_area_struct,
	addr: unsigned_long,
	p: page,
	owner: object | null,
): Sim<bool> {
	const { vm_mm: mm } = vma;
	const range = new mmu_notifier_range();
	mmu_notifier_range_init_owner(
		range,
		MMU_NOTIFY_EXCLUSIVE,
		0,
		mm,
		addr,
		addr + PAGE_SIZE,
		owner,
	);
	yield* mmu_notifier_invalidate_range_start(range);
	const ptl = outParam<spinlock_t | null>(null);
	const ptep = yield* writableEntry(vma, addr, p, ptl);
	if (ptep !== null) {
		const pte = yield* ptep_clear_flush(vma, addr, ptep);
		if (pte_dirty(pte)) yield* folio_mark_dirty(page_folio(p));
		// writable: no write protection of userfaultfd to carry over
		const entry = make_device_exclusive_entry(page_to_pfn(p) as bigint);
		yield* set_pte_at(mm, addr, ptep, swp_entry_to_pte(entry));
		yield* pte_unmap_unlock(ptep, ptl.value);
	}
	yield* mmu_notifier_invalidate_range_end(range);
	return ptep !== null;
}

/**
 * Make one page exclusive to a device.
 *
 * @param mm - address space
 * @param addr - an address in the page
 * @param owner - who may ignore the EXCLUSIVE event; its notifier must, or this never ends
 * @param foliop - out: folio of the page, locked and with a reference
 * @returns the page
 * @retval -EOPNOTSUPP not anonymous memory, or hugetlb
 * @retval -EINTR killed while it waited for the folio
 * @returns else an errno of get_user_pages_remote()
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/rmap.c
 * @since v6.15
 */
export function* make_device_exclusive(
	mm: mm_struct,
	addr: unsigned_long,
	owner: object | null,
	foliop: out<folio | null>,
): Sim<page | errno> {
	mmap_assert_locked(mm);
	const at = addr & PAGE_MASK;
	const flags = FOLL_GET | FOLL_WRITE | FOLL_SPLIT_PMD;
	for (let round = 0; ; round++) {
		retryRound(
			round,
			'make_device_exclusive',
			'a notifier that takes its own EXCLUSIVE event for an invalidation',
		);
		const pages: page[] = [];
		const got = yield* get_user_pages_remote(mm, at, 1n, flags, pages);
		if (got < 0) return got;
		const p = pages[0];
		if (p === undefined) continue;
		const f = page_folio(p);
		if (!folio_test_anon(f) || folio_test_hugetlb(f)) {
			yield* put_page(p);
			return -EOPNOTSUPP;
		}
		const killed = yield* folio_lock_killable(f);
		if (killed !== 0) {
			yield* put_page(p);
			return killed;
		}
		if (yield* excludePage(vma_lookup(mm, at)!, at, p, owner)) {
			foliop.value = f;
			return p;
		}
		yield* folio_unlock(f);
		yield* put_page(p);
	}
}
