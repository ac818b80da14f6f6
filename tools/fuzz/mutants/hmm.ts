// SPDX-License-Identifier: GPL-2.0-only
/** Mutants of hmm_range_fault() and of the DMA half of mm/hmm.c. */
import type { Mutant } from './mutant.ts';

const hmm = 'mm/hmm.ts';

/** Bugs of mm/hmm.c. */
export const hmmMutants: readonly Mutant[] = [
	{
		name: 'hmm-foreign-private',
		bug: 'mm/hmm: fault non-owner device private entries (5.19)',
		does: "a fault asked for on another device's private page is -EFAULT, and the page stays there",
		edits: [
			{
				file: hmm,
				old: 'isPrivate ||\n\t\t\t\t\tsoftleaf_is_swap(entry)',
				new: 'softleaf_is_swap(entry)',
			},
		],
	},
	{
		name: 'hmm-request-lost',
		bug: 'mm/hmm: do not unconditionally set pfns when returning EBUSY (5.7)',
		does: 'words from the faulting page on are cleared before the walk starts again: what they asked for is lost',
		edits: [
			{
				file: hmm,
				old: 'WARN_ON_ONCE(required_fault === 0);',
				new: 'hmm_pfns_fill(addr, end, hmm_walk.range, 0n);',
			},
		],
	},
	{
		name: 'hmm-pte-left-mapped',
		bug: 'mm/hmm: add missing unmaps of the ptep during hmm_vma_handle_pte() (5.7)',
		does: 'the page table stays mapped when an entry has to be faulted',
		edits: [
			{
				file: hmm,
				old: 'yield* pte_unmap(ptep);\n\treturn yield* hmm_record_fault',
				new: 'return yield* hmm_record_fault',
			},
		],
	},
	{
		name: 'hmm-pte-left-mapped-efault',
		bug: 'mm/hmm: add missing unmaps of the ptep during hmm_vma_handle_pte() (5.7), its other exit',
		does: 'the page table stays mapped when an entry can never be made present',
		edits: [
			{
				file: hmm,
				old: 'yield* pte_unmap(ptep);\n\t\t\t\treturn -EFAULT;',
				new: 'return -EFAULT;',
			},
		],
	},
	{
		name: 'hmm-pud-lock-held',
		bug: 'mm/hmm: do not call hmm_vma_walk() while holding a spinlock (5.7)',
		does: 'a 1 GiB entry that has to be faulted is, under the lock of the pud',
		edits: [
			{
				file: hmm,
				old: 'if (required_fault) {\n\t\t\tyield* spin_unlock(ptl);',
				new: 'if (required_fault) {',
			},
		],
		unseen: 'no memory that is mapped by 1 GiB entries',
	},
	{
		name: 'hmm-devmap-special',
		bug: 'mm/hmm: bypass devmap pte when all pfn requested flags are fulfilled (5.15)',
		does: 'a DAX entry that satisfies its request counts as special: -EFAULT',
		edits: [
			{
				file: hmm,
				old: "feature('devmap_entries') && pte_devmap(pte);",
				new: 'false;',
			},
		],
		unseen: 'no DAX file',
	},
	{
		name: 'hmm-private-pmd',
		bug: 'mm/hmm: populate PFNs from PMD swap entry (6.19)',
		does: 'a device-private huge page is an error, whoever owns it',
		edits: [
			{
				file: hmm,
				old: "const isPrivate = feature('hmm_pmd_private') && ",
				new: 'const isPrivate = false && ',
			},
		],
	},
	{
		name: 'hmm-hugetlb-lock-held',
		bug: 'the walker faults a hugetlb page with its lock held (6.3)',
		does: 'a hugetlb page that has to be faulted is, under the lock of its entry',
		edits: [
			{
				file: hmm,
				old: 'if (required_fault) {\n\t\tyield* spin_unlock(ptl);',
				new: 'if (required_fault) {',
			},
		],
	},
	{
		name: 'hmm-private-pmd-offset',
		bug: '7.3: hmm_vma_handle_absent_pmd() counts from the head of the huge page, wherever the range starts in it',
		does: 'a range that begins inside a private huge page gets the PFNs of its first pages',
		edits: [
			{
				file: hmm,
				old: "if (feature('fix_s17')) first",
				new: 'if (false) first',
			},
		],
	},
	{
		name: 'hmm-dma-list',
		bug: 'hmm_dma_map_pfn() on a device that needs no unmap has no dma_list (6.16)',
		does: 'the address of an entry that is mapped already is read from a list that is not there',
		edits: [
			{
				file: 'mm/hmm_dma.ts',
				old: "if (listIsKept(dev, map)) return dmaList(map, 'hmm_dma_map_pfn')",
				new: "return dmaList(map, 'hmm_dma_map_pfn')",
			},
		],
	},
];
