// SPDX-License-Identifier: GPL-2.0-only
/**
 * References and pins of pages that are handed out, and which pages may be handed out for what.
 *
 * ```
 *                     FOLL_GET    FOLL_PIN
 *   page              +1          +1024
 *   zero page         +1          nothing: it never goes
 *   anonymous, read-only, not the process's alone
 *                     as it is    unshared first: a later write would put a copy in its place
 * ```
 *
 * @kernel mm/gup.c
 */
import {
	FOLL_GET,
	FOLL_LONGTERM,
	FOLL_PIN,
	FOLL_WRITE,
	is_cow_mapping,
} from '../../include/linux/mm.ts';
import {
	type folio,
	type page,
	page_folio,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import {
	folio_is_device_coherent,
	folio_is_fsdax,
	folio_pfn,
	folio_test_anon,
	PageAnonExclusive,
} from '../../include/linux/page-flags.ts';
import type { bool, int, unsigned_int } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { is_zero_pfn } from '../memory/zero_page.ts';
import { GUP_PIN_COUNTING_BIAS } from '../rmap.ts';
import { folio_put_refs, folio_ref_add } from '../swap.ts';

/**
 * Whether a folio is the zero page.
 *
 * @param f - the folio
 * @kernel include/linux/mm.h
 */
export function is_zero_folio(f: folio): bool {
	return is_zero_pfn(folio_pfn(f));
}

/** References that a number of pages of a folio are worth. */
function refsOf(f: folio, refs: int, flags: unsigned_int): int {
	if (!(flags & FOLL_PIN)) return flags & FOLL_GET ? refs : 0;
	return is_zero_folio(f) ? 0 : refs * GUP_PIN_COUNTING_BIAS;
}

/**
 * Take references or pins of a folio that the caller keeps alive.
 *
 * @param f - the folio
 * @param refs - how many
 * @param flags - FOLL_GET, FOLL_PIN, or neither: nothing is taken
 * @deviates no errno; a large folio has no count of its own for pins
 * @kernel mm/gup.c
 */
export function try_grab_folio(f: folio, refs: int, flags: unsigned_int): void {
	const n = refsOf(f, refs, flags);
	if (n !== 0) folio_ref_add(f, n);
}

/**
 * Put what try_grab_folio() took.
 *
 * @param f - the folio
 * @param refs - how many
 * @param flags - as they were taken
 * @kernel mm/gup.c
 */
export function* gup_put_folio(f: folio, refs: int, flags: unsigned_int): Sim<void> {
	const n = refsOf(f, refs, flags);
	if (n !== 0) yield* folio_put_refs(f, n);
}

/**
 * Whether a read-only page must be unshared before it is pinned.
 *
 * @param vma - VMA of the page; null: not known
 * @param flags - FOLL_* bits
 * @param p - the page
 * @kernel include/linux/mm.h
 */
export function gup_must_unshare(vma: vm_area_struct | null, flags: unsigned_int, p: page): bool {
	if ((flags & (FOLL_WRITE | FOLL_PIN)) !== FOLL_PIN) return false;
	if (!folio_test_anon(page_folio(p)))
		return (
			(flags & FOLL_LONGTERM) !== 0 &&
			(vma === null || is_cow_mapping(vma.vm_flags))
		);
	return !PageAnonExclusive(p);
}

/**
 * Whether a folio may be pinned without end: the memory of a coherent device must be evictable, and a
 * file system must be able to take its pages away.
 *
 * @param f - the folio
 * @kernel include/linux/mm.h
 */
export function folio_is_longterm_pinnable(f: folio): bool {
	if (is_zero_folio(f)) return true;
	return !folio_is_device_coherent(f) && !folio_is_fsdax(f);
}
