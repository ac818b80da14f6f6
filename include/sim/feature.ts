// SPDX-License-Identifier: GPL-2.0-only
/**
 * Feature switches: what differs between kernel releases, and what is only proposed.
 *
 * Guarantee: code never compares versions, it asks for one switch by name. A profile is a set of
 * switches and is what a released kernel does; a proposal is a switch on top of a profile, off
 * unless asked for.
 */

/** Every switch and what it changes, in one sentence. */
export const features = {
	hmm_deferred_fault:
		'hmm_range_fault() records a fault in the walk and handles it after the walk has unwound',
	hmm_dma_flags:
		'the HMM word has DMA_MAPPED, P2PDMA and P2PDMA_BUS (kept on every store) and its order at bit 53 instead of 56',
	hmm_pmd_private: 'hmm_range_fault() understands device-private entries at PMD level',
	devmap_entries:
		'page-table entries have a devmap bit, and only devmap pud leaves are looked at',
	pte_markers_empty: 'hmm_range_fault() treats every pte marker as an empty entry',
	zone_device_zero_refcount:
		'idle pages of P2PDMA and FS_DAX pagemaps have reference count 0 instead of 1',
	pgmap_folio_ops: 'dev_pagemap_ops has folio_free and folio_split instead of page_free',
	device_private_thp: 'device-private memory has huge folios, mapped by PMD entries',
	device_exclusive_single:
		'device-exclusive access is made page by page and revoked with MMU_NOTIFY_CLEAR',
	swap_private_trylock:
		'the CPU fault on a device-private entry locks the folio, and waits when it is contended',
	swap_exclusive_by_marker:
		'a page that is swapped in is exclusive only if its entry says so, and leaves the swap cache after it was mapped',
	migrate_fault_page_locked:
		'migrate_vma_setup() expects the fault page locked by the caller of migrate_to_ram()',
	fault_maps_dirty:
		'a read fault that maps a shared page writable maps it dirty if the page is dirty already',
	large_folio_mm_ids:
		'a large folio knows which address spaces map it, so the last one writes to its pages without a copy',
	huge_zero_wp_thp:
		'a write to the huge zero page installs a huge page instead of splitting the PMD',
	ttu_split_pmd_in_walk:
		'unmapping a huge folio to split it splits its PMD inside the invalidation of the unmapping, not before it',
	collapse_lenient:
		'MADV_COLLAPSE also takes pages that are all read-only, and goes on behind memory that was never touched',
	pt_reclaim: 'MADV_DONTNEED of all that a page table serves gives the table back',
	mremap_several_vmas:
		'mremap() moves a range of several VMAs with holes as it is, instead of refusing it',
	mremap_checks_first:
		'mremap() checks lengths and the new place before it looks for the mapping, so that what makes no sense is -EINVAL where nothing is mapped',
	mremap_map_count:
		'mremap() sees to it that there is room for all VMAs that it may make before it looks at anything, whatever it is to do, and counts again what is left to make before it moves',
	guard_pages: 'madvise() knows GUARD_INSTALL and GUARD_REMOVE',
	userfaultfd_rwp:
		'userfaultfd can protect against reads as well, and registering again drops no protection',
	hugetlb_forced_write:
		'a forced write of get_user_pages() (FOLL_FORCE) reaches a private hugetlb mapping that is read-only',
	memory_failure_sorts_out:
		'memory_failure() gives back the reference of a page that it cannot handle, the zero page included, instead of keeping it',
	mmu_interval_two_pass: 'interval notifiers may answer in two passes, start and finish',
	dma_map_phys:
		'the DMA API maps physical addresses and knows MMIO, REQUIRE_COHERENT and CC_SHARED',
	dma_iova_calls: 'the two-step IOVA calls and hmm_dma_map_* exist',
	dma_direct_bounces_p2p: 'dma-direct bounces a P2P segment like RAM instead of refusing it',
	p2pdma_provider: 'P2P memory has a provider for each BAR, usable without struct pages',
	p2pdma_map_none: 'enum pci_p2pdma_map_type has NONE, so its later values moved by one',
	p2pdma_whitelist_2025:
		'the host-bridge whitelist has the DSA, IAX, QAT, Google and NVIDIA rows',
	pci_acs_at_dma_configure:
		'ACS is set up when DMA of a device is configured, at IOMMU probing and at driver binding, instead of at enumeration',
	odp_hmm_dma_map: 'ib_umem_odp keeps a hmm_dma_map and faults without the mmap lock',
	test_hmm_large:
		'lib/test_hmm migrates 512 pages at a time, large folios whole, and takes 32 in a fault or snapshot instead of 64; it knows the commands FLAGS and READ_UNLOCKED, gives a hole no write bit, faults of a dead mm -EFAULT, and ends a migration for which memory lacks',
	fix_s5: 'put right: an invalidation that a classic notifier refuses leaves no interval notifier started',
	fix_s7: 'put right: the CPU fault on a locked device-private huge folio waits, instead of coming again at once',
	fix_s8: 'put right: migrate_vma_finalize() maps the source again where migrate_vma_pages() was not called',
	fix_s9: 'put right: pci_alloc_p2pmem() of a function that has providers and no pool answers NULL',
	fix_s11: 'put right: hmm_range_fault() faults the pages that were asked for, not all up to the end of the walked chunk',
	fix_s12: 'put right: dma_map_sg() without an IOMMU maps a P2P segment behind the host bridge as MMIO, which is never bounced',
	fix_s13: 'put right: dma_map_sg() of an untrusted device asks the P2P layer about each segment',
	fix_s15: 'put right: migrate_device_range() leaves the word 0 for a large folio that it could not lock',
	fix_s16: 'put right: dma_map_sgtable() without a DMA mask is an error',
	fix_s17: 'put right: the words of an owned device-private huge entry start at the page where the range starts, not at the first page of its folio',
	fix_s18: 'put right: the list of functions with ACS redirect keeps to its buffer',
	fix_s19: 'put right: pci_p2pdma_add_resource() refuses a size below a page',
	fix_s20: 'put right: pcim_p2pdma_provider() refuses a BAR that there is none of',
	fix_s21: 'put right: hmm_dma_map_pfn() and hmm_dma_unmap_pfn() do without a dma_list that was not needed at hmm_dma_map_alloc()',
	fix_s22: 'put right: hmm_dma_map_pfn() takes the P2P bits away that an earlier page left in a word',
	fix_s24: 'put right: a range of IOVA forgets that it was bounced once nothing of it is linked',
	fix_s28: 'put right: lib/test_hmm reads and writes device pages that its mirror has not',
	fix_s29: 'put right: where a large folio on its way to a device is split, the entries of all address spaces are',
	fabric_provider:
		'proposed: p2pdma_provider has ops, so that memory behind another fabric than PCIe is judged and addressed by it',
	p2p_op_dma_dev:
		'proposed: hmm_range.dma_dev and the op device_private_dma_pfn turn a device-private page into its P2P page',
	p2p_provider_only:
		'proposed: the op device_private_dma_phys answers with provider and physical address, and hmm_range.hmm_providers carries the provider: no P2P struct page is needed',
} as const;

/** Name of a switch. */
export type FeatureName = keyof typeof features;

/** What a proposal is written against. */
export const featureNeeds: Readonly<Partial<Record<FeatureName, readonly FeatureName[]>>> = {
	fix_s7: ['device_private_thp'],
	fix_s9: ['p2pdma_provider'],
	fix_s12: ['dma_direct_bounces_p2p'],
	fix_s15: ['device_private_thp'],
	fix_s17: ['hmm_pmd_private'],
	fix_s20: ['p2pdma_provider'],
	fix_s21: ['dma_iova_calls'],
	fix_s22: ['dma_iova_calls'],
	fix_s24: ['dma_iova_calls'],
	fix_s29: ['device_private_thp'],
	fabric_provider: ['p2pdma_provider'],
	p2p_op_dma_dev: ['hmm_dma_flags', 'odp_hmm_dma_map', 'p2pdma_provider'],
	p2p_provider_only: ['p2p_op_dma_dev', 'dma_map_phys'],
};

/** Which switches are on. */
export type FeatureSet = Readonly<Record<FeatureName, boolean>>;

/** Name of a released kernel. */
export type ProfileName = 'v6.12' | 'v7.3';

const v6_12: readonly FeatureName[] = ['devmap_entries', 'pte_markers_empty'];

const v7_3: readonly FeatureName[] = [
	'hmm_deferred_fault',
	'hmm_dma_flags',
	'hmm_pmd_private',
	'zone_device_zero_refcount',
	'pgmap_folio_ops',
	'device_private_thp',
	'device_exclusive_single',
	'swap_private_trylock',
	'swap_exclusive_by_marker',
	'migrate_fault_page_locked',
	'fault_maps_dirty',
	'large_folio_mm_ids',
	'huge_zero_wp_thp',
	'ttu_split_pmd_in_walk',
	'collapse_lenient',
	'pt_reclaim',
	'mremap_several_vmas',
	'mremap_checks_first',
	'mremap_map_count',
	'guard_pages',
	'userfaultfd_rwp',
	'hugetlb_forced_write',
	'memory_failure_sorts_out',
	'mmu_interval_two_pass',
	'dma_map_phys',
	'dma_iova_calls',
	'dma_direct_bounces_p2p',
	'p2pdma_provider',
	'p2pdma_map_none',
	'p2pdma_whitelist_2025',
	'pci_acs_at_dma_configure',
	'odp_hmm_dma_map',
	'test_hmm_large',
];

function featureSet(on: readonly FeatureName[]): FeatureSet {
	const set = {} as Record<FeatureName, boolean>;
	for (const name of Object.keys(features) as FeatureName[]) set[name] = on.includes(name);
	return Object.freeze(set);
}

/** The switches of each released kernel. */
export const profiles: Readonly<Record<ProfileName, FeatureSet>> = Object.freeze({
	'v6.12': featureSet(v6_12),
	'v7.3': featureSet(v7_3),
});

/** The release that a world has when none is named. */
export const defaultProfile: ProfileName = 'v7.3';

/**
 * What a set of switches lacks to make sense.
 *
 * @param set - the switches
 * @returns a switch that is on and what it is written against, which is off; null: nothing is lacking
 */
export function missingNeed(set: FeatureSet): { name: FeatureName; need: FeatureName } | null {
	for (const [key, needs = []] of Object.entries(featureNeeds)) {
		const name = key as FeatureName;
		const need = set[name] ? needs.find((one) => !set[one]) : undefined;
		if (need !== undefined) return { name, need };
	}
	return null;
}
