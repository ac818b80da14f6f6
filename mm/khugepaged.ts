// SPDX-License-Identifier: GPL-2.0-only
/**
 * MADV_COLLAPSE: 2 MiB of small pages become one huge page. The daemon that does so by itself,
 * khugepaged, never runs here.
 *
 * Guarantee: the huge page has the bytes that the small pages had, zeros where nothing was; or
 * everything is as before. Mechanism: a look under the page-table lock whether it can work; then,
 * with the mmap lock for writing, the pmd is emptied and flushed so that nobody reaches the pages,
 * each is locked, isolated, copied and given back, and the page table is deposited with the huge pmd.
 * Duty: the caller holds the mmap lock for reading, and gets it back so although it was dropped.
 *
 * ```
 *   scan, mmap lock for reading     none, zero: copied as zeros      private, swapped: faulted in
 *                                   what userfaultfd watches or protects: refused
 *   collapse, for writing           pmd emptied, CLEAR, flushed, so that no CPU sees the pages
 *     isolate                       a page that somebody else refers to: the table is put back
 *     copy, then install            Tw; the table is in reserve
 * ```
 *
 * @kernel mm/khugepaged.c
 */
import { WARN_ON_ONCE } from '../include/linux/bug.ts';
import { EAGAIN, EBUSY, EINVAL, ENOMEM } from '../include/linux/errno.ts';
import { thp_vma_suitable_order } from '../include/linux/huge_mm.ts';
import { linear_page_index } from '../include/linux/mm.ts';
import {
	FAULT_FLAG_ALLOW_RETRY,
	type folio,
	MM_ANONPAGES,
	type mm_struct,
	page_folio,
	VM_FAULT_ERROR,
	VM_FAULT_RETRY,
	type vm_area_struct,
	vm_fault,
} from '../include/linux/mm_types.ts';
import { MMU_NOTIFY_CLEAR, mmu_notifier_range } from '../include/linux/mmu_notifier.ts';
import { nth_page, pfn_to_page } from '../include/linux/mmzone.ts';
import {
	folio_nr_pages,
	folio_ref_count,
	folio_test_anon,
	folio_test_locked,
	folio_test_lru,
	folio_test_swapcache,
	is_zone_device_page,
} from '../include/linux/page-flags.ts';
import {
	pmd_none,
	pmd_pfn,
	pmd_present,
	type pmd_t,
	pmd_trans_huge,
	pte_none,
	pte_pfn,
	pte_present,
	type pte_t,
	pte_uffd_wp,
	pte_write,
	TableEntry,
} from '../include/linux/pgtable.ts';
import type { spinlock_t } from '../include/linux/spinlock.ts';
import { pmd_is_migration_entry } from '../include/linux/swapops.ts';
import {
	type bool,
	GFP_HIGHUSER_MOVABLE,
	HPAGE_PMD_NR,
	HPAGE_PMD_ORDER,
	HPAGE_PMD_SIZE,
	type int,
	outParam,
	PAGE_SIZE,
	PMD_MASK,
	type unsigned_long,
} from '../include/linux/types.ts';
import { pte_swp_uffd_wp_any, userfaultfd_armed } from '../include/linux/userfaultfd_k.ts';
import { shouldFail } from '../include/sim/fault_injection.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { feature } from '../include/sim/world.ts';
import { spin_unlock } from '../kernel/locking/spinlock.ts';
import { folio_trylock, folio_unlock } from './filemap.ts';
import { vma_lookup } from './find_vma.ts';
import {
	collapseAllowed,
	map_anon_folio_pmd_nopf,
	pgtable_trans_huge_deposit,
} from './huge_memory.ts';
import { add_mm_counter } from './memory/counter.ts';
import { __folio_mark_uptodate } from './memory/fault_common.ts';
import { do_swap_page } from './memory/swap_page.ts';
import { vm_normal_page } from './memory/vm_normal.ts';
import { is_zero_pfn } from './memory/zero_page.ts';
import {
	mmap_read_lock,
	mmap_read_unlock,
	mmap_write_lock,
	mmap_write_unlock,
} from './mmap_lock.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init,
} from './mmu_notifier.ts';
import { clear_highpage, copy_highpage, folio_alloc, frameOf } from './page_alloc.ts';
import {
	mm_find_pmd,
	pmd_lock,
	pmd_populate,
	pmdp_huge_clear_flush,
	pte_clear,
	pte_offset_map_lock,
	pte_offset_map_rw_nolock,
	pte_unmap,
	pte_unmap_unlock,
	ptep_get_lockless,
} from './pgtable.ts';
import {
	anon_vma_lock_write,
	anon_vma_unlock_write,
	folio_mapcount,
	folio_remove_rmap_pte,
} from './rmap.ts';
import { folio_isolate_lru, folio_put, folio_putback_lru, lru_add_drain_all } from './swap.ts';

/** How far a collapse came: what the errno and the rest of the range depend on. */
type scan_result =
	| 'SUCCEED'
	/** The pmd is huge already. */
	| 'PMD_MAPPED'
	| 'NO_PTE_TABLE'
	| 'PMD_NONE'
	| 'PTE_NON_PRESENT'
	/** userfaultfd protects a page: of the others nobody would have told it. */
	| 'PTE_UFFD'
	/** A hole that userfaultfd may be asked about. */
	| 'EXCEED_NONE_PTE'
	| 'PAGE_RO'
	/** A page without rmap, or of a device. */
	| 'PAGE_NULL'
	| 'PAGE_ANON'
	| 'PAGE_LRU'
	| 'PAGE_LOCK'
	/** Somebody else refers to a page. */
	| 'PAGE_COUNT'
	| 'DEL_PAGE_LRU'
	| 'ALLOC_HUGE_PAGE_FAIL'
	| 'VMA_CHECK'
	| 'FAIL';

/** Failures after which the rest of the range is tried all the same. */
const goOn: readonly scan_result[] = [
	'NO_PTE_TABLE',
	'PTE_NON_PRESENT',
	'PTE_UFFD',
	'PAGE_RO',
	'PAGE_NULL',
	'PAGE_COUNT',
	'PAGE_LOCK',
	'PAGE_LRU',
	'DEL_PAGE_LRU',
];

function madvise_collapse_errno(r: scan_result): int {
	if (r === 'ALLOC_HUGE_PAGE_FAIL') return -ENOMEM;
	if (r === 'EXCEED_NONE_PTE') return -EBUSY;
	const later: readonly scan_result[] = [
		'PAGE_COUNT',
		'PAGE_LOCK',
		'PAGE_LRU',
		'DEL_PAGE_LRU',
	];
	return later.includes(r) ? -EAGAIN : -EINVAL;
}

/** One huge page to be. */
class Collapse {
	readonly mm: mm_struct;
	/** First address, aligned. */
	readonly address: unsigned_long;
	vma: vm_area_struct;

	constructor(vma: vm_area_struct, address: unsigned_long) {
		this.mm = vma.vm_mm;
		this.vma = vma;
		this.address = address;
	}
}

function pte_none_or_zero(pte: pte_t): boolean {
	return pte_none(pte) || (pte_present(pte) && is_zero_pfn(pte_pfn(pte)));
}

/** What userfaultfd has to say about an entry: a hole of its own, or a page that it protects. */
function scanUffd(c: Collapse, pte: pte_t): scan_result {
	if (pte_none_or_zero(pte)) return userfaultfd_armed(c.vma) ? 'EXCEED_NONE_PTE' : 'SUCCEED';
	const marked = pte_present(pte) ? pte_uffd_wp(pte) : pte_swp_uffd_wp_any(pte);
	return marked ? 'PTE_UFFD' : 'SUCCEED';
}

function check_pmd_state(pmd: pmd_t): scan_result {
	if (pmd_none(pmd)) return feature('collapse_lenient') ? 'NO_PTE_TABLE' : 'PMD_NONE';
	if (feature('collapse_lenient') && pmd_is_migration_entry(pmd)) return 'PMD_MAPPED';
	if (!pmd_present(pmd)) return 'NO_PTE_TABLE';
	return pmd_trans_huge(pmd) ? 'PMD_MAPPED' : 'SUCCEED';
}

/** References that a folio has by its mappings and the swap cache. */
function expectedRefs(f: folio): int {
	return folio_mapcount(f) + (folio_test_swapcache(f) ? folio_nr_pages(f) : 0);
}

/** Whether a present entry's page can go into a huge one. */
function scanPage(c: Collapse, addr: bigint, pte: pte_t): scan_result {
	const p = vm_normal_page(c.vma, addr, pte);
	if (p === null || is_zone_device_page(p)) return 'PAGE_NULL';
	const f = page_folio(p);
	if (!folio_test_anon(f)) return 'PAGE_ANON';
	if (!folio_test_lru(f)) return 'PAGE_LRU';
	if (folio_test_locked(f)) return 'PAGE_LOCK';
	return expectedRefs(f) === folio_ref_count(f) ? 'SUCCEED' : 'PAGE_COUNT';
}

/** A first look, which changes nothing. Returns the entries that must be faulted in, or why not. */
function* scanEntries(c: Collapse, pmd: TableEntry): Sim<number | scan_result> {
	const ptl = outParam<spinlock_t | null>(null);
	const first = yield* pte_offset_map_lock(c.mm, pmd, c.address, ptl);
	if (first === null) return 'NO_PTE_TABLE';
	let result: scan_result = 'SUCCEED';
	let unmapped = 0;
	let writable = false;
	for (let i = 0; i < HPAGE_PMD_NR && result === 'SUCCEED'; i++) {
		const pte = first.table.u64[i]!;
		result = scanUffd(c, pte);
		if (result !== 'SUCCEED' || pte_none_or_zero(pte)) continue;
		if (!pte_present(pte)) unmapped++;
		else {
			writable ||= pte_write(pte);
			result = scanPage(c, c.address + BigInt(i) * PAGE_SIZE, pte);
		}
	}
	yield* pte_unmap_unlock(first, ptl.value);
	if (result === 'SUCCEED' && !writable && !feature('collapse_lenient')) return 'PAGE_RO';
	return result === 'SUCCEED' ? unmapped : result;
}

/** Looks the VMA up again after the mmap lock was dropped. */
function hugepage_vma_revalidate(c: Collapse): boolean {
	const vma = vma_lookup(c.mm, c.address);
	if (vma === null || !thp_vma_suitable_order(vma, c.address, HPAGE_PMD_ORDER)) return false;
	c.vma = vma;
	return collapseAllowed(vma);
}

/** Faults in what is not present; the mmap lock is held for reading, and dropped if that fails. */
function* __collapse_huge_page_swapin(c: Collapse, pmd: TableEntry): Sim<scan_result> {
	const { mm, vma } = c;
	for (let i = 0; i < HPAGE_PMD_NR; i++) {
		const address = c.address + BigInt(i) * PAGE_SIZE;
		const ptl = outParam<spinlock_t | null>(null);
		const pte = yield* pte_offset_map_rw_nolock(
			mm,
			pmd,
			address,
			outParam<pmd_t>(0n),
			ptl,
		);
		if (pte === null) {
			yield* mmap_read_unlock(mm);
			return 'NO_PTE_TABLE';
		}
		const orig_pte = yield* ptep_get_lockless(pte);
		if (pte_none(orig_pte) || pte_present(orig_pte)) {
			yield* pte_unmap(pte);
			continue;
		}
		const pgoff = linear_page_index(vma, address);
		const flags = FAULT_FLAG_ALLOW_RETRY;
		const vmf = new vm_fault({ vma, address, pgoff, flags, pmd, pte, orig_pte });
		vmf.ptl = ptl.value;
		const ret = yield* do_swap_page(vmf);
		if (ret & VM_FAULT_RETRY) return 'PAGE_LOCK';
		if (ret & VM_FAULT_ERROR) {
			yield* mmap_read_unlock(mm);
			return 'FAIL';
		}
	}
	return 'SUCCEED';
}

/** Gives back what isolating has taken. */
function* release_pte_pages(taken: Iterable<folio>): Sim<void> {
	for (const f of taken) {
		yield* folio_unlock(f);
		yield* folio_putback_lru(f);
	}
}

/** Locks a folio and takes it off the LRU. */
function* isolate(f: folio): Sim<scan_result> {
	if (!(yield* folio_trylock(f))) return 'PAGE_LOCK';
	let why: scan_result = 'SUCCEED';
	// the table is unlinked: this process cannot pin the page any more
	if (expectedRefs(f) !== folio_ref_count(f)) why = 'PAGE_COUNT';
	else if (!folio_isolate_lru(f)) why = 'DEL_PAGE_LRU';
	if (why !== 'SUCCEED') yield* folio_unlock(f);
	return why;
}

/** Locks and isolates the folios of a page table that nothing points to. */
function* __collapse_huge_page_isolate(
	c: Collapse,
	table: TableEntry['table'],
	taken: Set<folio>,
): Sim<scan_result> {
	let writable = false;
	for (let i = 0; i < HPAGE_PMD_NR; i++) {
		const pte = table.u64[i]!;
		const armed = scanUffd(c, pte);
		if (armed === 'EXCEED_NONE_PTE') return armed;
		if (pte_none_or_zero(pte)) continue;
		if (!pte_present(pte)) return 'PTE_NON_PRESENT';
		if (armed !== 'SUCCEED') return armed;
		writable ||= pte_write(pte);
		const p = vm_normal_page(c.vma, c.address + BigInt(i) * PAGE_SIZE, pte);
		if (p === null || is_zone_device_page(p)) return 'PAGE_NULL';
		const f = page_folio(p);
		if (taken.has(f)) continue;
		const why = yield* isolate(f);
		if (why !== 'SUCCEED') return why;
		taken.add(f);
	}
	return writable || feature('collapse_lenient') ? 'SUCCEED' : 'PAGE_RO';
}

/** Copies every page into the huge one and empties the page table. */
function* __collapse_huge_page_copy(
	c: Collapse,
	pfn: number,
	huge: folio,
	taken: Set<folio>,
): Sim<void> {
	const { mm, vma } = c;
	const table = frameOf(pfn);
	for (let i = 0; i < HPAGE_PMD_NR; i++) {
		const pte = table.u64[i]!;
		const to = nth_page(huge.page, i);
		if (pte_none_or_zero(pte)) clear_highpage(to);
		else copy_highpage(to, pfn_to_page(pte_pfn(pte)));
	}
	for (let i = 0; i < HPAGE_PMD_NR; i++) {
		const pte = table.u64[i]!;
		const addr = c.address + BigInt(i) * PAGE_SIZE;
		if (pte_none_or_zero(pte)) {
			add_mm_counter(mm, MM_ANONPAGES, 1);
			if (!pte_none(pte))
				yield* pte_clear(mm, addr, new TableEntry(table, pfn, i));
			continue;
		}
		const p = pfn_to_page(pte_pfn(pte));
		const f = page_folio(p);
		yield* pte_clear(mm, addr, new TableEntry(table, pfn, i));
		yield* folio_remove_rmap_pte(f, p, vma);
		yield* folio_put(f);
	}
	yield* release_pte_pages(taken);
}

const REFILLED = 'a pmd was filled while its page table was collapsed';

/** Puts a huge page in the place of a page table; the mmap lock is held for writing. */
function* collapseLocked(c: Collapse, pmd: TableEntry, huge: folio): Sim<scan_result> {
	const { mm, vma, address } = c;
	const range = new mmu_notifier_range();
	mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, mm, address, address + HPAGE_PMD_SIZE);
	// no walk of the rmap may come by while the table hangs in the air
	yield* anon_vma_lock_write(vma.anon_vma!);
	yield* mmu_notifier_invalidate_range_start(range);
	const ptl = yield* pmd_lock(mm, pmd);
	const was = yield* pmdp_huge_clear_flush(vma, address, pmd);
	yield* spin_unlock(ptl);
	yield* mmu_notifier_invalidate_range_end(range);
	const pfn = Number(pmd_pfn(was));
	const taken = new Set<folio>();
	const result = yield* __collapse_huge_page_isolate(c, frameOf(pfn), taken);
	if (result !== 'SUCCEED') {
		yield* release_pte_pages(taken);
		yield* pmd_lock(mm, pmd);
		WARN_ON_ONCE(!pmd_none(pmd.value), REFILLED);
		yield* pmd_populate(mm, pmd, pfn);
		yield* spin_unlock(ptl);
		yield* anon_vma_unlock_write(vma.anon_vma!);
		return result;
	}
	// all pages are isolated and locked: no walk of the rmap gets to them
	yield* anon_vma_unlock_write(vma.anon_vma!);
	yield* __collapse_huge_page_copy(c, pfn, huge, taken);
	__folio_mark_uptodate(huge);
	yield* pmd_lock(mm, pmd);
	WARN_ON_ONCE(!pmd_none(pmd.value), REFILLED);
	pgtable_trans_huge_deposit(mm, pmd, pfn);
	yield* map_anon_folio_pmd_nopf(huge, pmd, vma, address);
	yield* spin_unlock(ptl);
	return result;
}

/** Finds the pmd of a collapse again, after locks were dropped. */
function pmdAgain(c: Collapse): TableEntry | scan_result {
	if (!hugepage_vma_revalidate(c)) return 'VMA_CHECK';
	const pmd = mm_find_pmd(c.mm, c.address);
	const state = pmd === null ? 'NO_PTE_TABLE' : check_pmd_state(pmd.value);
	return state === 'SUCCEED' ? pmd! : state;
}

/** Faults in what is missing; the mmap lock is not held. */
function* bringIn(c: Collapse): Sim<scan_result> {
	yield* mmap_read_lock(c.mm);
	const pmd = pmdAgain(c);
	if (typeof pmd === 'string') {
		yield* mmap_read_unlock(c.mm);
		return pmd;
	}
	const ret = yield* __collapse_huge_page_swapin(c, pmd);
	if (ret === 'SUCCEED') yield* mmap_read_unlock(c.mm);
	return ret;
}

/** The collapse; the mmap lock is not held. */
function* collapse_huge_page(c: Collapse, unmapped: number): Sim<scan_result> {
	const huge = shouldFail('alloc_charge_folio')
		? null
		: yield* folio_alloc(GFP_HIGHUSER_MOVABLE, HPAGE_PMD_ORDER);
	if (huge === null) return 'ALLOC_HUGE_PAGE_FAIL';
	let result: scan_result = unmapped > 0 ? yield* bringIn(c) : 'SUCCEED';
	if (result === 'SUCCEED') {
		yield* mmap_write_lock(c.mm);
		const pmd = pmdAgain(c);
		result = typeof pmd === 'string' ? pmd : yield* collapseLocked(c, pmd, huge);
		yield* mmap_write_unlock(c.mm);
	}
	if (result !== 'SUCCEED') yield* folio_put(huge);
	return result;
}

/** One 2 MiB; the mmap lock is held for reading, unless `dropped` says that it was dropped. */
function* collapse_scan_pmd(c: Collapse, dropped: { value: bool }): Sim<scan_result> {
	const pmd = mm_find_pmd(c.mm, c.address);
	if (pmd === null) return 'NO_PTE_TABLE';
	const state = check_pmd_state(pmd.value);
	if (state !== 'SUCCEED') return state;
	const unmapped = yield* scanEntries(c, pmd);
	if (typeof unmapped === 'string') return unmapped;
	yield* mmap_read_unlock(c.mm);
	dropped.value = true;
	return yield* collapse_huge_page(c, unmapped);
}

/**
 * Make huge pages of a part of a VMA: of each 2 MiB that lie in it whole.
 *
 * @param vma - the VMA
 * @param start - first address, inside
 * @param end - exclusive, inside
 * @retval 0 all of them are huge
 * @retval -EINVAL a VMA without huge pages, memory that was never touched, pages that cannot be moved
 * @retval -EAGAIN somebody else refers to a page for now
 * @retval -EBUSY a hole that userfaultfd watches
 * @retval -ENOMEM no huge page
 * @context Sleeps. The mmap lock is held for reading on entry and on return, and dropped in between:
 *   the VMA may be gone.
 * @kernel mm/khugepaged.c
 */
export function* madvise_collapse(
	vma: vm_area_struct,
	start: unsigned_long,
	end: unsigned_long,
): Sim<int> {
	const { vm_mm: mm } = vma;
	if (!collapseAllowed(vma)) return -EINVAL;
	const hstart = (start + HPAGE_PMD_SIZE - 1n) & PMD_MASK;
	let hend = end & PMD_MASK;
	if (hstart >= hend) return 0;
	yield* lru_add_drain_all();
	let failure: scan_result = 'FAIL';
	let thps = 0n;
	const dropped = { value: false };
	let here = vma;
	for (let addr = hstart; addr < hend; addr += HPAGE_PMD_SIZE) {
		const c = new Collapse(here, addr);
		if (dropped.value) {
			yield* mmap_read_lock(mm);
			dropped.value = false;
			if (!hugepage_vma_revalidate(c)) {
				failure = 'VMA_CHECK';
				break;
			}
			here = c.vma;
			const last = here.vm_end & PMD_MASK;
			if (last < hend) hend = last;
		}
		const result = yield* collapse_scan_pmd(c, dropped);
		if (result === 'SUCCEED' || result === 'PMD_MAPPED') thps++;
		else {
			failure = result;
			if (!goOn.includes(result)) break;
		}
	}
	if (dropped.value) yield* mmap_read_lock(mm);
	return thps === (hend - hstart) / HPAGE_PMD_SIZE ? 0 : madvise_collapse_errno(failure);
}
