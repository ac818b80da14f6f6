// SPDX-License-Identifier: GPL-2.0-only
/** Mutants of the proposal: what its posted revisions had wrong, or what reviewers feared. */
import type { Mutant } from './mutant.ts';

const hmm = 'mm/hmm.ts';

/** Bugs of hmm_range_fault() with `dma_dev`. */
export const proposalMutants: readonly Mutant[] = [
	{
		name: 'alias-forgets-mapping',
		bug: 'the proposal: what the op answers takes the place of the sticky bits',
		does: 'a word that is mapped for DMA forgets that it is',
		edits: [
			{
				file: hmm,
				old: 'range.hmm_pfns[i] = (pfn_req_flags & HMM_PFN_INOUT_FLAGS()) | new_pfn_flags;',
				new: 'range.hmm_pfns[i] = new_pfn_flags;',
			},
		],
	},
	{
		name: 'alias-erased',
		bug: 'the proposal: when the op has succeeded VALID and PFN are erased',
		does: 'the word of a page that is reached by P2P is empty',
		edits: [
			{
				file: hmm,
				old: 'new_pfn_flags = alias.value | cpu_flags;',
				new: 'new_pfn_flags = 0n;',
			},
		],
	},
	{
		name: 'alias-write-unchecked',
		bug: 'the proposal: no look at the need for write access',
		does: 'a private entry that may only be read satisfies a request to write',
		edits: [
			{
				file: hmm,
				old: 'if (required_fault) break fault;\n\t\t\t\t\t\tcheckAlias',
				new: 'checkAlias',
			},
		],
	},
	{
		name: 'alias-unreachable-fails',
		bug: 'the proposal: a device that cannot reach the page makes the call fail',
		does: 'a private page that the device cannot reach does not migrate, the call is -EFAULT',
		edits: [
			{
				file: hmm,
				old: 'if (!required_fault) break out;\n\t\t\t\tif (\n',
				new: 'if (!required_fault) break out;\n\t\t\t\tif (isPrivate && wantsAlias(range.dma_dev)) {\n\t\t\t\t\tyield* pte_unmap(ptep);\n\t\t\t\t\treturn -EFAULT;\n\t\t\t\t}\n\t\t\t\tif (\n',
			},
		],
	},
	{
		name: 'alias-span-migrates',
		bug: 'the proposal: an unreachable page is faulted with all that is behind it',
		does: 'pages that could have stayed on their device migrate with one that cannot',
		edits: [
			{
				file: hmm,
				old: 'if (untilPrivate && isPrivateEntry(pte)) return at;',
				new: '',
			},
		],
		unseen: 'bytes stay right: records tell who may migrate',
	},
	{
		name: 'alias-without-op',
		bug: 'the proposal: the op is called without a look whether there is one',
		does: 'a driver without the op oopses when another device asks for its private page',
		edits: [
			{
				file: hmm,
				old: 'if (op === undefined) return -EOPNOTSUPP;',
				new: '',
			},
		],
	},
];
