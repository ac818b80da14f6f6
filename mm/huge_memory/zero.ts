// SPDX-License-Identifier: GPL-2.0-only
/**
 * The huge zero page: what 2 MiB of anonymous memory that nobody wrote to read from.
 *
 * It is made when it is first wanted and stays, as with CONFIG_PERSISTENT_HUGE_ZERO_FOLIO: entries
 * that map it hold no references.
 */
import { type folio, page_folio } from '../../include/linux/mm_types.ts';
import { page_to_pfn, pfn_to_page } from '../../include/linux/mmzone.ts';
import { PG_reserved, PG_uptodate } from '../../include/linux/page-flags.ts';
import { pmd_pfn, pmd_present, type pmd_t } from '../../include/linux/pgtable.ts';
import {
	__GFP_ZERO,
	type bool,
	GFP_HIGHUSER_MOVABLE,
	HPAGE_PMD_NR,
	HPAGE_PMD_ORDER,
	type unsigned_long,
} from '../../include/linux/types.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { perWorld } from '../../include/sim/world.ts';
import { folio_alloc } from '../page_alloc.ts';

/** First PFN of the installed world's huge zero page; 0: not made yet. */
const hugeZero = perWorld(() => ({ pfn: 0n }));

/**
 * The huge zero page, made if need be.
 *
 * @returns null: no memory, or made to fail at site `get_huge_zero_folio`
 * @context Sleeps.
 * @deviates without the mm, which would hold a reference for its lifetime
 * @kernel mm/huge_memory.c
 */
export function* mm_get_huge_zero_folio(): Sim<folio | null> {
	const state = hugeZero();
	if (state.pfn !== 0n) return page_folio(pfn_to_page(state.pfn));
	if (shouldFail('get_huge_zero_folio')) return null;
	const f = yield* folio_alloc(GFP_HIGHUSER_MOVABLE | __GFP_ZERO, HPAGE_PMD_ORDER);
	if (f === null) return null;
	f.flags |= PG_reserved | PG_uptodate;
	state.pfn = page_to_pfn(f.page);
	return f;
}

/** First PFN of the huge zero page; 0: nobody has asked for it yet. */
export function hugeZeroStart(): number {
	return Number(hugeZero().pfn);
}

/**
 * Whether a PFN lies in the huge zero page.
 *
 * @param pfn - page frame number
 * @kernel include/linux/huge_mm.h
 */
export function is_huge_zero_pfn(pfn: unsigned_long): bool {
	const { pfn: first } = hugeZero();
	return first !== 0n && pfn >= first && pfn < first + BigInt(HPAGE_PMD_NR);
}

/**
 * Whether a pmd maps the huge zero page.
 *
 * @param pmd - the word
 * @kernel include/linux/huge_mm.h
 */
export function is_huge_zero_pmd(pmd: pmd_t): bool {
	return pmd_present(pmd) && is_huge_zero_pfn(pmd_pfn(pmd));
}
