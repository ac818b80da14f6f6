// SPDX-License-Identifier: GPL-2.0-or-later
/**
 * Device-private pages without P2P pages: hmm_range_fault() asks for (provider, phys). A part of
 * mm/hmm.c.
 *
 * Guarantee: a provider stands beside a word only if the range's device reaches that memory, and
 * only for a caller that gave the array; nobody else ever sees a word without a struct page.
 * Mechanism: the driver's op knows its own memory, the P2P layer judges (provider, dma_dev). No bit
 * of the word tells such a page frame from a page, because none is free: the pointer beside the word
 * does, and it is what mapping the word needs anyway.
 * Duty of the caller: ask hmm_providers before hmm_pfn_to_page().
 *
 * ```
 *   hmm_pfns        | RAM    | frame  | frame  | P2P page | 0    |
 *   hmm_providers   | null   | GPU0   | GPU1   | null     | null |
 *   map for DMA     | page   | (provider, phys) | page     |
 * ```
 */
import { p2pdma_provider_state } from '../drivers/pci/p2pdma/map_type.ts';
import { WARN_ON_ONCE } from '../include/linux/bug.ts';
import { EINVAL, EOPNOTSUPP, EREMOTEIO } from '../include/linux/errno.ts';
import { HMM_PFN_FLAGS, type hmm_range } from '../include/linux/hmm.ts';
import type { page } from '../include/linux/mm_types.ts';
import { nth_page, pfn_to_page, pfn_valid } from '../include/linux/mmzone.ts';
import { is_pci_p2pdma_page, page_pgmap } from '../include/linux/page-flags.ts';
import {
	PCI_P2PDMA_MAP_BUS_ADDR,
	PCI_P2PDMA_MAP_THRU_HOST_BRIDGE,
	type p2pdma_provider,
	type pci_p2pdma_map_state,
} from '../include/linux/pci-p2pdma.ts';
import {
	type int,
	type out,
	outParam,
	PAGE_MASK,
	PAGE_SHIFT,
	type phys_addr_t,
	type unsigned_long,
} from '../include/linux/types.ts';
import { feature } from '../include/sim/world.ts';

/**
 * Find the memory of a provider at which the range's device reaches a run of device-private pages.
 *
 * @param range - what is asked for; `dma_dev` is the device that will issue the DMA
 * @param p2pdma - what the P2P layer said of `dma_dev` last
 * @param p - first device-private page under the walker, without a reference
 * @param nr - pages asked about: 1, or all of the folio that a PMD entry maps
 * @param pfn - out: number of the page frame of `p`; provisional until mmu_interval_read_retry()
 * @param provider - out: whose memory the frame is
 * @retval 0 both are set, and the frames of the `nr` pages ascend from `pfn`
 * @retval -EOPNOTSUPP nobody asked, or the pagemap has no such memory, or not for each page
 * @retval -EINVAL the op answered with what can be no provider's memory, or with two providers
 * @retval -EREMOTEIO `dma_dev` cannot reach it: this page, and no other, migrates
 * @context Atomic: the walker stands on the entry, the page table lock is not held.
 * @proposed Documentation/proposals/device-private-dma-phys.md
 */
export function hmm_private_dma_phys(
	range: hmm_range,
	p2pdma: pci_p2pdma_map_state,
	p: page,
	nr: unsigned_long,
	pfn: out<unsigned_long>,
	provider: out<p2pdma_provider | null>,
): int {
	const { dma_dev, hmm_providers } = range;
	if (dma_dev === null || hmm_providers === null || !feature('p2p_provider_only'))
		return -EOPNOTSUPP;
	const op = page_pgmap(p).ops?.device_private_dma_phys;
	if (op === undefined) return -EOPNOTSUPP;

	// The driver knows its own memory: is this page's on the bus at all?
	const mem = outParam<p2pdma_provider | null>(null);
	const first = outParam<phys_addr_t>(0n);
	if (op(p, mem, first) !== 0) return -EOPNOTSUPP;
	if (!isProviderMemory(mem.value, first.value)) return -EINVAL;

	// One order for the whole run: its last frame must lie where an unbroken run puts it.
	if (nr > 1n) {
		const other = outParam<p2pdma_provider | null>(null);
		const last = outParam<phys_addr_t>(0n);
		if (op(nth_page(p, Number(nr) - 1), other, last) !== 0) return -EOPNOTSUPP;
		if (!isProviderMemory(other.value, last.value)) return -EINVAL;
		if (providerFrame(last.value) !== providerFrame(first.value) + nr - 1n)
			return -EOPNOTSUPP;
		if (other.value !== mem.value) return -EINVAL;
	}

	// The P2P layer knows the topology. NONE would be mapped as RAM, which takes a page.
	switch (p2pdma_provider_state(p2pdma, dma_dev, mem.value)) {
		case PCI_P2PDMA_MAP_BUS_ADDR:
		case PCI_P2PDMA_MAP_THRU_HOST_BRIDGE:
			pfn.value = providerFrame(first.value);
			provider.value = mem.value;
			return 0;
		default:
			return -EREMOTEIO;
	}
}

/** Number of the page frame at a physical address. */
function providerFrame(phys: phys_addr_t): unsigned_long {
	return (phys as bigint) >> PAGE_SHIFT;
}

/**
 * An op that answers without a provider, with a part of a page, with an address that no word holds
 * or with RAM is broken: say so once, and do as if its driver had no P2P memory.
 */
function isProviderMemory(
	provider: p2pdma_provider | null,
	phys: phys_addr_t,
): provider is p2pdma_provider {
	const frame = providerFrame(phys);
	return !WARN_ON_ONCE(
		provider === null ||
			((phys as bigint) & ~PAGE_MASK) !== 0n ||
			(frame & HMM_PFN_FLAGS()) !== 0n ||
			(pfn_valid(frame) && !is_pci_p2pdma_page(pfn_to_page(frame))),
		'device_private_dma_phys() answered with what is no memory of a provider',
	);
}
