// SPDX-License-Identifier: GPL-2.0-only
/** Entries that userfaultfd leaves where nothing is mapped. */
import { pte_none, pte_present, type pte_t } from '../../include/linux/pgtable.ts';
import {
	softleaf_from_pte,
	softleaf_is_poison_marker,
	softleaf_is_uffd_wp_marker,
} from '../../include/linux/swapops.ts';

/**
 * Whether an entry marks its address for userfaultfd: write-protected, or poisoned.
 *
 * @param pte - the entry
 */
export function isUffdMarker(pte: pte_t): boolean {
	if (pte_none(pte) || pte_present(pte)) return false;
	const entry = softleaf_from_pte(pte);
	return softleaf_is_uffd_wp_marker(entry) || softleaf_is_poison_marker(entry);
}
