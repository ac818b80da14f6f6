// SPDX-License-Identifier: GPL-2.0-only
/**
 * References and pins of pages that are handed out, and which pages may be handed out for what.
 *
 * ```
 *                     FOLL_GET    FOLL_PIN
 *   page              +1          +1024
 *   page of a large folio, hugetlb included
 *                     +1 of the folio       and +1 in its _pincount
 *   P2P memory        -EREMOTEIO  -EREMOTEIO, unless FOLL_PCI_P2PDMA
 *   zero page         +1          nothing: it never goes
 *   anonymous, read-only, not the process's alone
 *                     as it is    unshared first: a later write would put a copy in its place
 * ```
 *
 * @kernel mm/gup.c
 */
import { EREMOTEIO } from '../../include/linux/errno.ts';
import {
	FOLL_GET,
	FOLL_LONGTERM,
	FOLL_PCI_P2PDMA,
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
	folio_test_large,
	is_pci_p2pdma_page,
	PageAnonExclusive,
} from '../../include/linux/page-flags.ts';
import type { bool, int, unsigned_int } from '../../include/linux/types.ts';
import { type Sim, touch } from '../../include/sim/schedule.ts';
import { is_zero_pfn } from '../memory/zero_page.ts';
import { GUP_PIN_COUNTING_BIAS } from '../rmap.ts';
import { folio_put_refs, folio_ref_add, folio_try_get } from '../swap.ts';

/**
 * Whether a folio is the zero page.
 *
 * @param f - the folio
 * @kernel include/linux/mm.h
 */
export function is_zero_folio(f: folio): bool {
	return is_zero_pfn(folio_pfn(f));
}

/** References that pins of a number of pages of a folio are worth. */
function refsOfPins(f: folio, refs: int): int {
	return folio_test_large(f) ? refs : refs * GUP_PIN_COUNTING_BIAS;
}

function addPins(f: folio, refs: int): void {
	if (!folio_test_large(f)) return;
	touch('atomic', f, '_pincount');
	f._pincount += refs;
}

/**
 * Take references or pins of a folio that the caller keeps alive.
 *
 * @param f - the folio
 * @param refs - how many
 * @param flags - FOLL_GET, FOLL_PIN, or neither: nothing is taken
 * @retval 0 taken
 * @retval -EREMOTEIO P2P memory, without FOLL_PCI_P2PDMA
 * @kernel mm/gup.c
 */
export function try_grab_folio(f: folio, refs: int, flags: unsigned_int): int {
	if (!(flags & FOLL_PCI_P2PDMA) && is_pci_p2pdma_page(f.page)) return -EREMOTEIO;
	if (flags & FOLL_GET) folio_ref_add(f, refs);
	else if (flags & FOLL_PIN && !is_zero_folio(f)) {
		folio_ref_add(f, refsOfPins(f, refs));
		addPins(f, refs);
	}
	return 0;
}

/**
 * Take a reference or pin of a folio that may just be going.
 *
 * @param f - the folio
 * @param flags - FOLL_GET or FOLL_PIN, and what else is asked for
 * @returns false: none could be taken, or the folio may not be handed out so
 * @kernel mm/gup.c
 */
export function try_grab_folio_fast(f: folio, flags: unsigned_int): bool {
	if (!(flags & FOLL_PCI_P2PDMA) && is_pci_p2pdma_page(f.page)) return false;
	if (flags & FOLL_PIN && is_zero_folio(f)) return true;
	if (flags & FOLL_LONGTERM && !folio_is_longterm_pinnable(f)) return false;
	if (!folio_try_get(f)) return false;
	if (!(flags & FOLL_PIN)) return true;
	// the one that was tried is the first of those that a pin is worth
	const more = refsOfPins(f, 1) - 1;
	if (more > 0) folio_ref_add(f, more);
	addPins(f, 1);
	return true;
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
	if (flags & FOLL_PIN) {
		if (is_zero_folio(f)) return;
		addPins(f, -refs);
		yield* folio_put_refs(f, refsOfPins(f, refs));
	} else if (flags & FOLL_GET) yield* folio_put_refs(f, refs);
}

/**
 * Whether a read-only page must be unshared before it is pinned.
 *
 * @param vma - VMA of the page; null: not known
 * @param flags - FOLL_* bits
 * @param p - the page
 * @kernel mm/internal.h
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
