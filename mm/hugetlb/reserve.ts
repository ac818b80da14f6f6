// SPDX-License-Identifier: GPL-2.0-only
/**
 * Reservations: a mapping that was made finds its pages when it touches them.
 *
 * Guarantee: as long as the owner of a private mapping, or a shared file, is there, each of its huge
 * pages is either there or promised. Mechanism: a map of regions (include/linux/hugetlb.h); a child's
 * copy of a private mapping has none and takes what is left over.
 */
import { ENOMEM, ENOSPC } from '../../include/linux/errno.ts';
import type { inode } from '../../include/linux/fs.ts';
import {
	default_hstate,
	folio_clear_hugetlb_restore_reserve,
	folio_test_hugetlb_restore_reserve,
	HPAGE_RESV_OWNER,
	type hstate,
	hstate_vma,
	hugetlbDataOf,
	inodeResvMaps,
	is_vma_resv_set,
	resv_map,
	vma_hugecache_offset,
	vma_resv_map,
} from '../../include/linux/hugetlb.ts';
import { VM_MAYSHARE } from '../../include/linux/mm.ts';
import type { folio, vm_area_struct } from '../../include/linux/mm_types.ts';
import { type errno, type int, PMD_SHIFT, type unsigned_long } from '../../include/linux/types.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';
import { type Sim, touch } from '../../include/sim/schedule.ts';
import { dequeueHugePage, hugetlb_acct_memory } from './pool.ts';

function indexOf(h: hstate, vma: vm_area_struct, address: unsigned_long): int {
	return Number(vma_hugecache_offset(h, vma, address));
}

/**
 * Promise the pages of a file, or of a private mapping of one, to it.
 *
 * @param i - the inode
 * @param from - first huge page
 * @param to - exclusive
 * @param vma - the private mapping; null: the file is shared
 * @param noreserve - VM_NORESERVE: promise nothing
 * @retval 0 done
 * @retval -ENOMEM the pool has not so many
 * @deviates returns an errno; the kernel returns whether it worked
 * @kernel mm/hugetlb.c
 */
export function* hugetlb_reserve_pages(
	i: inode,
	from: int,
	to: int,
	vma: vm_area_struct | null,
	noreserve: boolean,
): Sim<int> {
	const h = default_hstate();
	if (noreserve) return 0;
	if (shouldFail('resv_map_alloc')) return -ENOMEM;
	if (vma !== null && (vma.vm_flags & VM_MAYSHARE) === 0n) {
		if ((yield* hugetlb_acct_memory(h, to - from)) !== 0) return -ENOMEM;
		vma.vm_private_data = { resv: new resv_map(), flags: HPAGE_RESV_OWNER };
		return 0;
	}
	const maps = inodeResvMaps();
	const map = maps.get(i) ?? new resv_map();
	const fresh: int[] = [];
	for (let at = from; at < to; at++) if (!map.regions.has(at)) fresh.push(at);
	if ((yield* hugetlb_acct_memory(h, fresh.length)) !== 0) return -ENOMEM;
	touch('write', map, 'regions');
	for (const at of fresh) map.regions.add(at);
	maps.set(i, map);
	return 0;
}

/**
 * Take back what a shared file was promised and has not used: it is gone.
 *
 * @param i - the inode
 * @param freed - pages that it had
 * @deviates the whole file
 * @kernel mm/hugetlb.c
 */
export function* hugetlb_unreserve_pages(i: inode, freed: int): Sim<void> {
	const maps = inodeResvMaps();
	const map = maps.get(i);
	if (map === undefined) return;
	maps.delete(i);
	yield* hugetlb_acct_memory(default_hstate(), freed - map.regions.size);
}

/**
 * Whether a page of a mapping must do without reservation.
 *
 * @param h - the pool
 * @param vma - the mapping
 * @param addr - its address
 * @retval 0 it is promised
 * @retval 1 it is not
 * @kernel mm/hugetlb.c
 */
export function vma_needs_reservation(h: hstate, vma: vm_area_struct, addr: unsigned_long): int {
	const map = vma_resv_map(vma);
	if (map === null) return 1;
	touch('read', map, 'regions');
	const there = map.regions.has(indexOf(h, vma, addr));
	const shared = (vma.vm_flags & VM_MAYSHARE) !== 0n;
	return there === shared ? 0 : 1;
}

/**
 * A page of a mapping is there: in its map, too.
 *
 * @param h - the pool
 * @param vma - the mapping
 * @param addr - its address
 * @kernel mm/hugetlb.c
 */
function vma_commit_reservation(h: hstate, vma: vm_area_struct, addr: unsigned_long): void {
	const map = vma_resv_map(vma);
	if (map === null) return;
	touch('write', map, 'regions');
	map.regions.add(indexOf(h, vma, addr));
}

/**
 * A page of a mapping is promised again.
 *
 * @param h - the pool
 * @param vma - the mapping
 * @param addr - its address
 * @kernel mm/hugetlb.c
 */
export function vma_add_reservation(h: hstate, vma: vm_area_struct, addr: unsigned_long): void {
	const map = vma_resv_map(vma);
	if (map === null) return;
	touch('write', map, 'regions');
	const at = indexOf(h, vma, addr);
	if ((vma.vm_flags & VM_MAYSHARE) !== 0n) map.regions.add(at);
	else map.regions.delete(at);
}

/**
 * Allocate the page of an address of a mapping, by its reservation if it has one.
 *
 * @param vma - the mapping
 * @param addr - the address
 * @param cow_from_owner - a copy for the owner, whose reservation the first page has used
 * @returns the folio with one reference
 * @retval -ENOSPC the pool has no page for it, or made to fail at site `alloc_hugetlb_folio`
 * @context Sleeps.
 * @kernel mm/hugetlb.c
 */
export function* alloc_hugetlb_folio(
	vma: vm_area_struct,
	addr: unsigned_long,
	cow_from_owner: boolean,
): Sim<folio | errno> {
	const h = hstate_vma(vma);
	if (shouldFail('alloc_hugetlb_folio')) return -ENOSPC;
	const reserved = !cow_from_owner && vma_needs_reservation(h, vma, addr) === 0;
	const f = yield* dequeueHugePage(h, reserved);
	if (f === null) return -ENOSPC;
	vma_commit_reservation(h, vma, addr);
	return f;
}

/**
 * A page that was allocated is not used after all: it is promised again, if it was.
 *
 * @param h - the pool
 * @param vma - the mapping
 * @param address - the address that it was for
 * @param f - the folio, which the caller puts next
 * @kernel mm/hugetlb.c
 */
export function restore_reserve_on_error(
	h: hstate,
	vma: vm_area_struct,
	address: unsigned_long,
	f: folio,
): void {
	if (folio_test_hugetlb_restore_reserve(f)) vma_add_reservation(h, vma, address);
	else folio_clear_hugetlb_restore_reserve(f);
}

/**
 * A VMA was copied: the two share the map of reservations.
 *
 * @param vma - the copy
 * @kernel mm/hugetlb.c
 */
export function hugetlb_vm_op_open(vma: vm_area_struct): void {
	const { resv } = hugetlbDataOf(vma);
	if (resv !== null) resv.refs++;
}

/**
 * A child's copy of a private mapping has no reservations.
 *
 * @param vma - the copy
 * @kernel mm/hugetlb.c
 */
export function hugetlb_dup_vma_private(vma: vm_area_struct): void {
	vma.vm_private_data = null;
}

/**
 * A private mapping goes: what it was promised and has not used is taken back.
 *
 * @param vma - the mapping
 * @context Sleeps.
 * @kernel mm/hugetlb.c
 */
export function* hugetlb_vm_op_close(vma: vm_area_struct): Sim<void> {
	const { resv } = hugetlbDataOf(vma);
	if (resv === null || !is_vma_resv_set(vma, HPAGE_RESV_OWNER)) return;
	const h = hstate_vma(vma);
	const start = indexOf(h, vma, vma.vm_start);
	const pages = Number((vma.vm_end - vma.vm_start) >> PMD_SHIFT);
	let unused = 0;
	for (let at = start; at < start + pages; at++) if (!resv.regions.has(at)) unused++;
	resv.refs--;
	yield* hugetlb_acct_memory(h, -unused);
}
