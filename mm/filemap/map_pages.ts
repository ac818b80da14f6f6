// SPDX-License-Identifier: GPL-2.0-only
/** Fault-around: mapping what the page cache has near a faulting address. */

import type { inode } from '../../include/linux/fs.ts';
import {
	type address_space,
	type folio,
	VM_FAULT_NOPAGE,
	VM_FAULT_OOM,
	type vm_fault,
} from '../../include/linux/mm_types.ts';
import {
	folio_test_locked,
	folio_test_uptodate,
	PG_hwpoison,
} from '../../include/linux/page-flags.ts';
import { pmd_none, pte_none } from '../../include/linux/pgtable.ts';
import type { spinlock_t } from '../../include/linux/spinlock.ts';
import { outParam, type pgoff_t, type vm_fault_t } from '../../include/linux/types.ts';
import { type Sim, touch } from '../../include/sim/schedule.ts';
import { folio_trylock, folio_unlock } from '../filemap.ts';
import { inc_mm_counter, mm_counter_file, set_pte_range } from '../memory.ts';
import {
	nextEntry,
	pte_alloc,
	pte_offset_map_lock,
	pte_unmap_unlock,
	ptep_get,
} from '../pgtable.ts';
import { folio_put, folio_try_get } from '../swap.ts';

/** The folio of an index, locked and with a reference, if it is there and nobody holds its lock. */
function* uptodateFolio(mapping: address_space, index: number): Sim<folio | null> {
	touch('read', mapping, 'i_pages');
	const f = mapping.i_pages.get(index);
	if (f === undefined || folio_test_locked(f) || !folio_try_get(f)) return null;
	if (!folio_test_uptodate(f) || !(yield* folio_trylock(f))) {
		yield* folio_put(f);
		return null;
	}
	if (f.mapping === mapping) return f;
	yield* folio_unlock(f);
	yield* folio_put(f);
	return null;
}

/** Maps one folio where nothing is mapped; the folio is unlocked in any case. */
function* mapOne(vmf: vm_fault, f: folio, index: bigint): Sim<boolean> {
	const { vma } = vmf;
	const ptep = nextEntry(vmf.pte!, Number(index - vmf.pgoff));
	const free = (f.flags & PG_hwpoison) === 0 && pte_none(ptep_get(ptep));
	if (free) {
		const addr = vma.vm_start + ((index - vma.vm_pgoff) << 12n);
		// the reference of the look-up is the entry's now
		yield* set_pte_range(vmf, f, f.page, ptep, addr);
		inc_mm_counter(vma.vm_mm, mm_counter_file(f));
	}
	yield* folio_unlock(f);
	if (!free) yield* folio_put(f);
	return free;
}

/** Indices from start_pgoff to end_pgoff that the page cache has, below the end of the file. */
function cachedIndices(mapping: address_space, start: pgoff_t, end: pgoff_t): bigint[] {
	touch('read', mapping, 'i_pages');
	const size = ((mapping.host as inode).i_size + 4095n) >> 12n;
	const found: bigint[] = [];
	for (let index = start; index <= end && index < size; index++)
		if (mapping.i_pages.has(Number(index))) found.push(index);
	return found;
}

/**
 * Map the pages of a file that are in the page cache, where nothing is mapped yet.
 *
 * @param vmf - the fault
 * @param start_pgoff - first page, in the same page table as the faulting one
 * @param end_pgoff - last page
 * @retval VM_FAULT_NOPAGE the faulting page is among them
 * @retval VM_FAULT_OOM no memory for the table
 * @retval 0 it is not
 * @context Sleeps only to allocate the table. The mmap lock is held.
 * @kernel mm/filemap.c
 */
export function* filemap_map_pages(
	vmf: vm_fault,
	start_pgoff: pgoff_t,
	end_pgoff: pgoff_t,
): Sim<vm_fault_t> {
	const { vma } = vmf;
	const mapping = vma.vm_file!.f_mapping!;
	const indices = cachedIndices(mapping, start_pgoff, end_pgoff);
	if (indices.length === 0) return 0;
	if (pmd_none(vmf.pmd!.value) && (yield* pte_alloc(vma.vm_mm, vmf.pmd!)) !== 0)
		return VM_FAULT_OOM;
	const ptl = outParam<spinlock_t | null>(null);
	vmf.pte = yield* pte_offset_map_lock(vma.vm_mm, vmf.pmd!, vmf.address, ptl);
	if (vmf.pte === null) return 0;
	let ret: vm_fault_t = 0;
	for (const index of indices) {
		const f = yield* uptodateFolio(mapping, Number(index));
		if (f === null) continue;
		const mapped = yield* mapOne(vmf, f, index);
		if (mapped && index === vmf.pgoff) ret = VM_FAULT_NOPAGE;
	}
	yield* pte_unmap_unlock(vmf.pte, ptl.value);
	vmf.pte = null;
	return ret;
}
