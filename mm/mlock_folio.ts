// SPDX-License-Identifier: GPL-2.0-only
/**
 * Folios that locked VMAs map: how often each is locked.
 *
 * A part of mm/mlock.c and mm/internal.h; a file of its own, since rmap needs it and mlock() needs
 * rmap. A folio off the LRU is not counted: reclaim finds out by itself when it comes by.
 */
import { VM_LOCKED, VM_SPECIAL } from '../include/linux/mm.ts';
import type { folio, vm_area_struct } from '../include/linux/mm_types.ts';
import {
	folio_test_lru,
	PG_active,
	PG_mlocked,
	PG_unevictable,
} from '../include/linux/page-flags.ts';
import { touch } from '../include/sim/schedule.ts';

/**
 * A locked VMA maps a folio.
 *
 * @param f - the folio
 * @kernel mm/mlock.c
 */
export function mlock_folio(f: folio): void {
	touch('atomic', f, 'flags');
	f.flags |= PG_mlocked;
	if (!folio_test_lru(f)) return;
	if (f.flags & PG_unevictable) f.mlock_count++;
	else {
		f.flags = (f.flags & ~PG_active) | PG_unevictable;
		f.mlock_count = 1;
	}
}

/**
 * A new folio, about to be on the LRU, is mapped by a locked VMA only.
 *
 * @param f - the folio
 * @kernel mm/mlock.c
 */
function mlock_new_folio(f: folio): void {
	touch('atomic', f, 'flags');
	f.flags |= PG_mlocked | PG_unevictable;
	f.mlock_count = 1;
}

/**
 * A locked VMA maps a folio no longer, or is no longer locked.
 *
 * @param f - the folio
 * @kernel mm/mlock.c
 */
export function munlock_folio(f: folio): void {
	touch('atomic', f, 'flags');
	const counted = folio_test_lru(f) && (f.flags & PG_unevictable) !== 0;
	if (counted && f.mlock_count > 0) f.mlock_count--;
	if (counted && f.mlock_count > 0) return;
	f.flags &= ~PG_mlocked;
	if (folio_test_lru(f)) f.flags &= ~PG_unevictable;
}

/** Whether mapping a folio locks it: VM_IO says that somebody else is counting. */
function locks(vma: vm_area_struct): boolean {
	return (vma.vm_flags & (VM_LOCKED | VM_SPECIAL)) === VM_LOCKED;
}

/**
 * A VMA maps a new folio, about to be on the LRU.
 *
 * @param f - the folio
 * @param vma - the VMA
 */
export function mlockNewVmaFolio(f: folio, vma: vm_area_struct): void {
	if (locks(vma)) mlock_new_folio(f);
}

/**
 * A VMA maps a folio.
 *
 * @param f - the folio
 * @param vma - the VMA
 * @kernel mm/internal.h
 */
export function mlock_vma_folio(f: folio, vma: vm_area_struct): void {
	if (locks(vma)) mlock_folio(f);
}

/**
 * A VMA maps a folio no longer.
 *
 * @param f - the folio
 * @param vma - the VMA
 * @kernel mm/internal.h
 */
export function munlock_vma_folio(f: folio, vma: vm_area_struct): void {
	if ((vma.vm_flags & VM_LOCKED) !== 0n) munlock_folio(f);
}
