// SPDX-License-Identifier: GPL-2.0-only
/**
 * Page-table entries of a process as text, as the records of real kernels write them, and faults
 * without a CPU.
 *
 * ```
 *   P U M .   no pgd, pud, pmd, pte entry
 *   w r       write bit, then z zero page, a anonymous, f page cache, o other, q no struct page,
 *             then x AnonExclusive, d dirty, ! special
 *   m D X s k migration, device-private, device-exclusive, swap, marker; ? else
 *   T         before the same: one entry for 2 MiB; Z the huge zero page
 * ```
 */
import { _PAGE_SPECIAL } from '../../include/asm/pgtable_types.ts';
import {
	type folio,
	type page,
	page_folio,
	VM_FAULT_COMPLETED,
	VM_FAULT_RETRY,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import { memoryMap, pfn_to_page } from '../../include/linux/mmzone.ts';
import { PageAnon, PageAnonExclusive } from '../../include/linux/page-flags.ts';
import {
	pgd_none,
	pmd_none,
	pmd_pfn,
	pmd_present,
	type pmd_t,
	pmd_write,
	pte_dirty,
	pte_none,
	pte_pfn,
	pte_present,
	pte_special,
	type pte_t,
	pte_write,
	pud_none,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import {
	softleaf_from_pte,
	softleaf_is_device_exclusive,
	softleaf_is_device_private,
	softleaf_is_marker,
	softleaf_is_migration,
	softleaf_is_swap,
} from '../../include/linux/swapops.ts';
import type { int, vm_fault_t } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { run } from '../../kernel/sched/core.ts';
import { get_user_pages_remote } from '../../mm/gup.ts';
import { is_huge_zero_pmd } from '../../mm/huge_memory.ts';
import { handle_mm_fault, is_zero_pfn } from '../../mm/memory.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import {
	pgd_offset,
	pmd_offset,
	pmdIsHuge,
	pte_offset_kernel,
	pud_offset,
} from '../../mm/pgtable.ts';
import { at } from './small_machine.ts';

export { at };

function kindOf(pfn: bigint): string {
	if (is_zero_pfn(pfn)) return 'z';
	const p = memoryMap().page(Number(pfn));
	if (p === null) return 'q';
	if (PageAnon(p)) return PageAnonExclusive(p) ? 'ax' : 'a';
	return page_folio(p).mapping === null ? 'o' : 'f';
}

function presentText(pte: pte_t): string {
	return [
		pte_write(pte) ? 'w' : 'r',
		kindOf(pte_pfn(pte)),
		pte_dirty(pte) ? 'd' : '',
		pte_special(pte) ? '!' : '',
	].join('');
}

function entryText(pte: pte_t): string {
	if (pte_none(pte)) return '.';
	if (pte_present(pte)) return presentText(pte);
	const entry = softleaf_from_pte(pte);
	if (softleaf_is_migration(entry)) return 'm';
	if (softleaf_is_device_private(entry)) return 'D';
	if (softleaf_is_device_exclusive(entry)) return 'X';
	if (softleaf_is_marker(entry)) return 'k';
	return softleaf_is_swap(entry) ? 's' : '?';
}

/** The entry for 2 MiB around a page, whose table is there. */
export function pmdAt(p: task_struct, page: number): TableEntry {
	const va = at(page);
	return pmd_offset(pud_offset(pgd_offset(p.mm!, va), va), va);
}

/** The entry of a page that has its table. */
export function entryAt(p: task_struct, page: number): TableEntry {
	return pte_offset_kernel(pmdAt(p, page), at(page));
}

function tokenAt(p: task_struct, page: number): string {
	const va = at(page);
	const pgd = pgd_offset(p.mm!, va);
	if (pgd_none(pgd.value)) return 'P';
	const pud = pud_offset(pgd, va);
	if (pud_none(pud.value)) return 'U';
	const pmd = pmd_offset(pud, va);
	if (pmd_none(pmd.value)) return 'M';
	return pmdIsHuge(pmd.value)
		? hugeText(pmd.value)
		: entryText(pte_offset_kernel(pmd, va).value);
}

/** A huge pmd; the mark of its first page stands for all of it. */
function hugeText(pmd: pmd_t): string {
	if (!pmd_present(pmd)) return `T${entryText(pmd as bigint)}`;
	if (is_huge_zero_pmd(pmd)) return pmd_write(pmd) ? 'TwZ' : 'TrZ';
	return `T${presentText((pmd & ~_PAGE_SPECIAL) as bigint)}`;
}

/**
 * Entries of some pages, runs of equal ones as `token*count`.
 *
 * @param p - the process
 * @param first - first page of the arena
 * @param count - how many
 */
export function runs(p: task_struct, first: number, count: number): string {
	const out: string[] = [];
	for (let i = 0; i < count; ) {
		const token = tokenAt(p, first + i);
		let n = 1;
		while (i + n < count && tokenAt(p, first + i + n) === token) n++;
		out.push(n === 1 ? token : `${token}*${n}`);
		i += n;
	}
	return out.join(' ');
}

/** Entries of some pages, a word each. */
export function dump(p: task_struct, first: number, count: number): string {
	return Array.from({ length: count }, (_, i) => tokenAt(p, first + i)).join(' ');
}

/** The page that is mapped at a page of the arena. */
export function pageAt(p: task_struct, page: number): page {
	return pfn_to_page(pte_pfn(entryAt(p, page).value));
}

/** The folio that is mapped at a page of the arena, by an entry of its own. */
export function folioAt(p: task_struct, page: number): folio {
	return page_folio(pageAt(p, page));
}

/** The folio that is mapped by the entry for 2 MiB around a page of the arena. */
export function hugeFolioAt(p: task_struct, page: number): folio {
	return page_folio(pfn_to_page(pmd_pfn(pmdAt(p, page).value)));
}

/** The VMA that holds a page of the arena. */
export function vmaOf(p: task_struct, page: number): vm_area_struct {
	return p.mm!.vmas.find((vma) => vma.vm_start <= at(page) && at(page) < vma.vm_end)!;
}

/**
 * get_user_pages_remote() of pages of the arena.
 *
 * @param p - whose
 * @param first - first page of the arena
 * @param n - how many
 * @param flags - FOLL_*
 * @param into - the pages, with a reference each if FOLL_GET is set; null: only faulted in
 * @returns how many pages, or -errno
 */
export function getUserPages(
	p: task_struct,
	first: number,
	n: number,
	flags: number,
	into: page[] | null = [],
): int {
	return run(
		function* () {
			const { mm } = p;
			yield* mmap_read_lock(mm!);
			const got = yield* get_user_pages_remote(
				mm!,
				at(first),
				BigInt(n),
				flags,
				into,
			);
			yield* mmap_read_unlock(mm!);
			return got;
		},
		{ task: p },
	);
}

/** Whether the mmap lock is held after a fault with this result. */
function keptLock(ret: vm_fault_t): boolean {
	return (ret & (VM_FAULT_RETRY | VM_FAULT_COMPLETED)) === 0;
}

/** A fault of the current task, from no CPU. */
export function* faultSim(p: task_struct, page: number, flags: number): Sim<vm_fault_t> {
	yield* mmap_read_lock(p.mm!);
	const ret = yield* handle_mm_fault(vmaOf(p, page), at(page), flags, null);
	if (keptLock(ret)) yield* mmap_read_unlock(p.mm!);
	return ret;
}

/** A fault of a process, from no CPU. */
export function faultAt(p: task_struct, page: number, flags = 0): vm_fault_t {
	return run(() => faultSim(p, page, flags), { task: p });
}
