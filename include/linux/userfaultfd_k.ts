// SPDX-License-Identifier: GPL-2.0-only
/** userfaultfd: what the rest of mm/ asks about VMAs and entries. */

import type { uffd_msg } from '../uapi/linux/userfaultfd.ts';
import {
	UFFD_FEATURE_EVENT_REMAP,
	UFFD_FEATURE_WP_UNPOPULATED,
} from '../uapi/linux/userfaultfd.ts';
import { VM_UFFD_MISSING, VM_UFFD_RWP, VM_UFFD_WP, vma_is_anonymous } from './mm.ts';
import {
	FAULT_FLAG_ORIG_PTE_VALID,
	type mm_struct,
	type vm_area_struct,
	type vm_fault,
} from './mm_types.ts';
import {
	PAGE_NONE,
	pmd_mkuffd_wp,
	pmd_modify,
	type pmd_t,
	pmd_uffd_wp,
	pte_mkuffd_wp,
	pte_modify,
	pte_none,
	pte_present,
	type pte_t,
	pte_uffd_wp,
} from './pgtable.ts';
import {
	make_pte_marker_entry,
	PTE_MARKER_UFFD_WP,
	pmd_swp_uffd_wp,
	pte_swp_uffd_wp,
	softleaf_from_pte,
	softleaf_is_uffd_wp_marker,
	swp_entry_to_pte,
} from './swapops.ts';
import type { bool, u64, vm_flags_t } from './types.ts';
import { wait_queue_head } from './wait.ts';

/** The ways in which a VMA can be watched. */
export const __VM_UFFD_FLAGS: vm_flags_t = VM_UFFD_MISSING | VM_UFFD_WP | VM_UFFD_RWP;

/**
 * A thread that waits for its fault to be resolved.
 *
 * @kernel mm/userfaultfd.c
 */
export class userfaultfd_wait_queue {
	readonly msg: uffd_msg;
	/** Somebody woke it. */
	waken = false;
	/** Its message was read. */
	read = false;

	/** @param msg - what is to be resolved */
	constructor(msg: uffd_msg) {
		this.msg = msg;
	}
}

/**
 * An open userfaultfd.
 *
 * @kernel include/linux/userfaultfd_k.h
 */
export class userfaultfd_ctx {
	/** Threads with a fault, oldest first. */
	faults: userfaultfd_wait_queue[] = [];
	/** Where they sleep. */
	fault_wqh = new wait_queue_head('&ctx->fault_wqh');
	/** Where a reader sleeps. */
	fd_wqh = new wait_queue_head('&ctx->fd_wqh');
	/** UFFD_FEATURE_* bits that were asked for. */
	features: u64;
	/** It is closed. */
	released = false;
	/** The address space that it watches, with a reference on the struct. */
	mm: mm_struct;

	/**
	 * @param mm - address space
	 * @param features - UFFD_FEATURE_* bits
	 */
	constructor(mm: mm_struct, features: u64) {
		this.mm = mm;
		this.features = features;
	}
}

/** @kernel include/linux/userfaultfd_k.h */
export function userfaultfd_missing(vma: vm_area_struct): bool {
	return (vma.vm_flags & VM_UFFD_MISSING) !== 0n;
}
/** @kernel include/linux/userfaultfd_k.h */
export function userfaultfd_wp(vma: vm_area_struct): bool {
	return (vma.vm_flags & VM_UFFD_WP) !== 0n;
}
/** @kernel include/linux/userfaultfd_k.h */
export function userfaultfd_rwp(vma: vm_area_struct): bool {
	return (vma.vm_flags & VM_UFFD_RWP) !== 0n;
}
/**
 * Whether the uffd bit of entries means something in a VMA.
 *
 * @param vma - the VMA
 * @kernel include/linux/userfaultfd_k.h
 */
export function userfaultfd_protected(vma: vm_area_struct): bool {
	return (vma.vm_flags & (VM_UFFD_WP | VM_UFFD_RWP)) !== 0n;
}
/** @kernel include/linux/userfaultfd_k.h */
export function userfaultfd_armed(vma: vm_area_struct): bool {
	return (vma.vm_flags & __VM_UFFD_FLAGS) !== 0n;
}
/** @kernel include/linux/userfaultfd_k.h */
export function userfaultfd_pte_wp(vma: vm_area_struct, pte: pte_t): bool {
	return userfaultfd_wp(vma) && pte_uffd_wp(pte);
}
/** @kernel include/linux/userfaultfd_k.h */
export function userfaultfd_pte_rwp(vma: vm_area_struct, pte: pte_t): bool {
	return userfaultfd_rwp(vma) && pte_uffd_wp(pte);
}
/** @kernel include/linux/userfaultfd_k.h */
export function userfaultfd_huge_pmd_wp(vma: vm_area_struct, pmd: pmd_t): bool {
	return userfaultfd_wp(vma) && pmd_uffd_wp(pmd);
}
/** @kernel include/linux/userfaultfd_k.h */
export function userfaultfd_huge_pmd_rwp(vma: vm_area_struct, pmd: pmd_t): bool {
	return userfaultfd_rwp(vma) && pmd_uffd_wp(pmd);
}
/**
 * Whether write protection of what is not there is a marker in the page table.
 *
 * @param vma - the VMA
 * @kernel include/linux/userfaultfd_k.h
 */
export function userfaultfd_wp_use_markers(vma: vm_area_struct): bool {
	if (!userfaultfd_wp(vma)) return false;
	if (!vma_is_anonymous(vma)) return true;
	return ((vma.vm_userfaultfd_ctx?.features ?? 0n) & UFFD_FEATURE_WP_UNPOPULATED) !== 0n;
}
/**
 * Whether a VMA that moves is no longer watched at its new place.
 *
 * @param vma - the VMA
 * @kernel include/linux/userfaultfd_k.h
 */
export function vma_has_uffd_without_event_remap(vma: vm_area_struct): bool {
	const ctx = vma.vm_userfaultfd_ctx;
	return ctx !== null && (ctx.features & UFFD_FEATURE_EVENT_REMAP) === 0n;
}
/** @kernel include/linux/leafops.h */
export function pte_is_uffd_wp_marker(pte: pte_t): bool {
	if (pte_none(pte) || pte_present(pte)) return false;
	return softleaf_is_uffd_wp_marker(softleaf_from_pte(pte));
}
/**
 * Whether an entry that is not present has the uffd bit, in whatever form.
 *
 * @param pte - the entry
 * @deviates 7.3 calls it pte_swp_uffd_any()
 * @kernel include/linux/userfaultfd_k.h (gone in 7.x)
 */
export function pte_swp_uffd_wp_any(pte: pte_t): bool {
	if (pte_none(pte) || pte_present(pte)) return false;
	return pte_swp_uffd_wp(pte) || pte_is_uffd_wp_marker(pte);
}
/**
 * Whether a fault came upon a write-protect marker, so that the new entry is protected.
 *
 * @param vmf - the fault
 * @kernel mm/memory.c
 */
export function vmf_orig_pte_uffd_wp(vmf: vm_fault): bool {
	if ((vmf.flags & FAULT_FLAG_ORIG_PTE_VALID) === 0) return false;
	return pte_is_uffd_wp_marker(vmf.orig_pte);
}
/**
 * Give a new entry the protection that the uffd bit of the one in its place means.
 *
 * @param vma - its VMA
 * @param old - the entry that was not present
 * @param pte - the present one that takes its place
 */
export function restoreUffd(vma: vm_area_struct, old: pte_t, pte: pte_t): pte_t {
	if (!pte_swp_uffd_wp(old)) return pte;
	const marked = pte_mkuffd_wp(pte);
	return userfaultfd_rwp(vma) ? pte_modify(marked, PAGE_NONE) : marked;
}
/**
 * Give a huge entry that is new the protection that the uffd bit of the one in its place means.
 *
 * @param vma - its VMA
 * @param old - the entry that was not present
 * @param pmd - the present one that takes its place
 */
export function restoreHugeUffd(vma: vm_area_struct, old: bigint, pmd: pmd_t): pmd_t {
	if (!pmd_swp_uffd_wp(old)) return pmd;
	const marked = pmd_mkuffd_wp(pmd);
	return userfaultfd_rwp(vma) ? pmd_modify(marked, PAGE_NONE) : marked;
}
/**
 * What is left of an entry of a file that is taken away: a marker if userfaultfd protects it, since
 * the page may come back from the page cache and is to be protected then.
 *
 * @param vma - its VMA
 * @param was - the entry
 * @returns the marker, or 0
 */
export function uffdRemainder(vma: vm_area_struct, was: pte_t): pte_t {
	if (vma_is_anonymous(vma) || !userfaultfd_wp(vma)) return 0n;
	const marked = pte_present(was) ? pte_uffd_wp(was) : pte_swp_uffd_wp_any(was);
	return marked ? swp_entry_to_pte(make_pte_marker_entry(PTE_MARKER_UFFD_WP)) : 0n;
}
