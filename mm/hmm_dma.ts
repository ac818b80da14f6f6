// SPDX-License-Identifier: GPL-2.0-or-later
/**
 * hmm_dma_map_*(): the words of a mirror, mapped for one device. The second half of mm/hmm.c.
 *
 * Guarantee: an entry is mapped at most once; the sticky bits of its word say how, and unmapping
 * undoes just that. A P2P page gets the address that is right for this device on this topology.
 * Mechanism: with an IOMMU one IOVA range is taken for all entries, so entry i has the address
 * base + i * entry size and needs no list; without one the address is computed again, or kept in
 * `dma_list` where unmapping needs it.
 * Duty: one lock of the caller covers all four calls; every entry is unmapped before the map is
 * freed; the device may use an entry's address until its notifier unmaps it.
 *
 * ```
 *   word     what hmm_dma_map_pfn() did          address                 unmap
 *   M        RAM                                 iova | list | physical  unlink | unmap | nothing
 *   M P      P2P page through the host bridge    the same, as MMIO       the same, as MMIO
 *   M B      P2P page below a common switch      phys + bus_offset       nothing
 * ```
 * With the proposal `p2p_provider_only` an entry of `provider_list` says that the word's page frame
 * has no struct page: it is judged by its provider, and mapped by its physical address like the P2P
 * pages above; there is nothing else to it.
 *
 * The array is indexed in units of `dma_entry_size` while hmm_range_fault() fills it in pages: the
 * two agree only for entries of one page, as in 7.3.4.
 */

import { countMapping, uncountMapping } from '../drivers/pci/p2pdma/live.ts';
import { p2pdma_provider_state, pci_p2pdma_state } from '../drivers/pci/p2pdma/map_type.ts';
import { oops, WARN_ON_ONCE } from '../include/linux/bug.ts';
import type { device } from '../include/linux/device.ts';
import { phys_to_dma } from '../include/linux/dma-direct.ts';
import { DMA_BIDIRECTIONAL } from '../include/linux/dma-direction.ts';
import {
	DMA_ATTR_MMIO,
	DMA_ATTR_REQUIRE_COHERENT,
	DMA_MAPPING_ERROR,
	dma_use_iova,
} from '../include/linux/dma-mapping.ts';
import { ENOMEM, EOPNOTSUPP } from '../include/linux/errno.ts';
import {
	HMM_PFN_DMA_MAPPED,
	HMM_PFN_P2PDMA,
	HMM_PFN_P2PDMA_BUS,
	HMM_PFN_VALID,
	hmm_pfn_to_page,
	hmm_pfn_to_phys,
} from '../include/linux/hmm.ts';
import type { hmm_dma_map } from '../include/linux/hmm-dma.ts';
import {
	PCI_P2PDMA_MAP_BUS_ADDR,
	PCI_P2PDMA_MAP_NONE,
	PCI_P2PDMA_MAP_NOT_SUPPORTED,
	PCI_P2PDMA_MAP_THRU_HOST_BRIDGE,
	p2pdma_bus_addr,
	type p2pdma_provider,
	type pci_p2pdma_map_state,
	type pci_p2pdma_map_type,
} from '../include/linux/pci-p2pdma.ts';
import { type dma_addr_t, type int, PAGE_SIZE, type size_t } from '../include/linux/types.ts';
import { shouldFail } from '../include/sim/fault_injection.ts';
import { PointerSlice } from '../include/sim/pointer_slice.ts';
import { touchWords } from '../include/sim/schedule.ts';
import { feature } from '../include/sim/world.ts';
import { forgetStateless } from '../kernel/dma/debug/stateless.ts';
import {
	dma_iova_free,
	dma_iova_link,
	dma_iova_sync,
	dma_iova_try_alloc,
	dma_iova_unlink,
} from '../kernel/dma/iova.ts';
import {
	dma_addressing_limited,
	dma_map_phys,
	dma_mapping_error,
	dma_need_unmap,
	dma_unmap_phys,
} from '../kernel/dma/mapping.ts';

/** The mapping's address list; an oops where the kernel would dereference NULL. */
function dmaList(map: hmm_dma_map, caller: string): dma_addr_t[] {
	if (map.dma_list === null)
		return oops(`BUG: kernel NULL pointer dereference in ${caller}`, [
			'dma_need_unmap() turned true after hmm_dma_map_alloc(): the map has no dma_list',
		]);
	return map.dma_list;
}

/** Whether addresses are in the list; with fix_s21 not where there was none to be made at alloc. */
function listIsKept(dev: device, map: hmm_dma_map): boolean {
	return dma_need_unmap(dev) && (map.dma_list !== null || !feature('fix_s21'));
}

/**
 * Prepare a map for a number of entries of one device.
 *
 * @param dev - the device that will issue the DMA
 * @param map - zeroed map
 * @param nr_entries - pages that the map's words cover
 * @param dma_entry_size - bytes that one entry maps
 * @retval 0 ready
 * @retval -EOPNOTSUPP the device needs cache syncs or bounce buffers
 * @retval -ENOMEM no memory for the arrays
 * @context Process context; may sleep.
 * @kernel mm/hmm.c
 * @since v6.16
 */
export function hmm_dma_map_alloc(
	dev: device,
	map: hmm_dma_map,
	nr_entries: size_t,
	dma_entry_size: size_t,
): int {
	WARN_ON_ONCE(nr_entries * PAGE_SIZE < dma_entry_size, 'entries are larger than the map');

	// The mirror is used by CPU and device at once: nobody could sync or bounce it.
	if (!dev.dma_skip_sync || dma_addressing_limited(dev)) return -EOPNOTSUPP;

	map.dma_entry_size = dma_entry_size;
	if (shouldFail('hmm_dma_map_alloc:pfn_list')) return -ENOMEM;
	map.pfn_list = new BigUint64Array(Number(nr_entries));
	if (feature('p2p_provider_only')) {
		if (shouldFail('hmm_dma_map_alloc:provider_list')) return -ENOMEM;
		map.provider_list = PointerSlice.zeroed(Number(nr_entries));
	}

	const use_iova = dma_iova_try_alloc(dev, map.state, 0n, nr_entries * PAGE_SIZE);
	if (!use_iova && dma_need_unmap(dev)) {
		// pfn_list is freed then, but its pointer stays as it is: callers throw the map away.
		if (shouldFail('hmm_dma_map_alloc:dma_list')) return -ENOMEM;
		map.dma_list = new Array<dma_addr_t>(Number(nr_entries)).fill(0n);
	}
	return 0;
}

/**
 * Give a map's IOVA range and arrays back.
 *
 * @param dev - the device
 * @param map - its map, with nothing mapped in it
 * @kernel mm/hmm.c
 * @since v6.16
 */
export function hmm_dma_map_free(dev: device, map: hmm_dma_map): void {
	if (dma_use_iova(map.state)) dma_iova_free(dev, map.state);
	map.pfn_list = null;
	map.provider_list = null;
	map.dma_list = null;
}

/** How a device reaches what an entry's word is about. */
function entryState(
	dev: device,
	word: bigint,
	provider: p2pdma_provider | null,
	p2pdma_state: pci_p2pdma_map_state,
): pci_p2pdma_map_type {
	if (provider === null) return pci_p2pdma_state(p2pdma_state, dev, hmm_pfn_to_page(word));
	const type = p2pdma_provider_state(p2pdma_state, dev, provider);
	// What has no struct page cannot be mapped as RAM.
	return type === PCI_P2PDMA_MAP_NONE ? PCI_P2PDMA_MAP_NOT_SUPPORTED : type;
}

/**
 * Map one entry for the device.
 *
 * @param dev - the device
 * @param map - its map; word `idx` was filled by hmm_range_fault()
 * @param idx - which entry
 * @param p2pdma_state - zeroed before the first entry of a run; belongs to this device
 * @returns the address for the device, or DMA_MAPPING_ERROR: it cannot reach the page, or the
 *   IOMMU has no room
 * @context The caller's lock covers word and mapping.
 * @kernel mm/hmm.c
 * @since v6.16
 */
export function hmm_dma_map_pfn(
	dev: device,
	map: hmm_dma_map,
	idx: size_t,
	p2pdma_state: pci_p2pdma_map_state,
): dma_addr_t {
	const { state } = map;
	const pfns = map.pfn_list!;
	const i = Number(idx);
	touchWords('write', pfns, i, 1);
	const word = pfns[i]!;
	const provider = map.provider_list?.at(i) ?? null;
	const paddr = hmm_pfn_to_phys(word);
	const offset = idx * map.dma_entry_size;
	let attrs = DMA_ATTR_REQUIRE_COHERENT;
	let dma_addr: dma_addr_t;

	// Mapped before: the address is known, or computed once more below. A bus address is judged
	// and computed each time.
	if (word & HMM_PFN_DMA_MAPPED && !(word & HMM_PFN_P2PDMA_BUS)) {
		if (dma_use_iova(state)) return state.addr + offset;
		if (listIsKept(dev, map)) return dmaList(map, 'hmm_dma_map_pfn')[i]!;
		// fix_s21: mapped when nothing had to be undone, so the address is the one of then
		if (dma_need_unmap(dev)) return phys_to_dma(dev, paddr);
	}

	const isNew = provider !== null && !(word & HMM_PFN_DMA_MAPPED);
	switch (entryState(dev, word, provider, p2pdma_state)) {
		case PCI_P2PDMA_MAP_NONE:
			// What an earlier page left: unmapping would believe it, and undo nothing.
			if (feature('fix_s22'))
				pfns[i] = word & ~(HMM_PFN_P2PDMA | HMM_PFN_P2PDMA_BUS);
			break;
		case PCI_P2PDMA_MAP_THRU_HOST_BRIDGE:
			attrs |= DMA_ATTR_MMIO;
			pfns[i] = word | HMM_PFN_P2PDMA;
			if (feature('fix_s22')) pfns[i]! &= ~HMM_PFN_P2PDMA_BUS;
			break;
		case PCI_P2PDMA_MAP_BUS_ADDR:
			pfns[i] = word | HMM_PFN_P2PDMA_BUS | HMM_PFN_DMA_MAPPED;
			if (isNew) countMapping(provider, dev);
			return p2pdma_bus_addr(p2pdma_state.mem as p2pdma_provider, paddr, dev);
		default:
			return DMA_MAPPING_ERROR;
	}

	error: {
		if (dma_use_iova(state)) {
			const size = map.dma_entry_size;
			if (
				dma_iova_link(
					dev,
					state,
					paddr,
					offset,
					size,
					DMA_BIDIRECTIONAL,
					attrs,
				)
			)
				break error;
			if (dma_iova_sync(dev, state, offset, size)) {
				dma_iova_unlink(dev, state, offset, size, DMA_BIDIRECTIONAL, attrs);
				break error;
			}
			dma_addr = state.addr + offset;
		} else {
			if (
				WARN_ON_ONCE(
					dma_need_unmap(dev) && map.dma_list === null,
					'map without dma_list',
				)
			)
				break error;
			dma_addr = dma_map_phys(
				dev,
				paddr,
				map.dma_entry_size,
				DMA_BIDIRECTIONAL,
				attrs,
			);
			if (dma_mapping_error(dev, dma_addr)) break error;
			if (dma_need_unmap(dev)) dmaList(map, 'hmm_dma_map_pfn')[i] = dma_addr;
			else forgetStateless(dev, dma_addr, map.dma_entry_size, DMA_BIDIRECTIONAL);
		}
		pfns[i] = pfns[i]! | HMM_PFN_DMA_MAPPED;
		if (isNew) countMapping(provider, dev);
		return dma_addr;
	}
	pfns[i] = pfns[i]! & ~HMM_PFN_P2PDMA;
	return DMA_MAPPING_ERROR;
}

/**
 * Undo hmm_dma_map_pfn() for one entry.
 *
 * @param dev - the device
 * @param map - its map
 * @param idx - which entry
 * @returns whether the entry was valid and mapped
 * @context The caller's lock covers word and mapping.
 * @kernel mm/hmm.c
 * @since v6.16
 */
export function hmm_dma_unmap_pfn(dev: device, map: hmm_dma_map, idx: size_t): boolean {
	const pfns = map.pfn_list!;
	const i = Number(idx);
	touchWords('write', pfns, i, 1);
	const word = pfns[i]!;
	const mapped = HMM_PFN_VALID | HMM_PFN_DMA_MAPPED;
	const size = map.dma_entry_size;
	let attrs = DMA_ATTR_REQUIRE_COHERENT;

	if ((word & mapped) !== mapped) return false;

	if (word & HMM_PFN_P2PDMA) attrs |= DMA_ATTR_MMIO;
	if (word & HMM_PFN_P2PDMA_BUS) {
		// A bus address took nothing that could be given back.
	} else if (dma_use_iova(map.state)) {
		dma_iova_unlink(dev, map.state, idx * size, size, DMA_BIDIRECTIONAL, attrs);
	} else if (listIsKept(dev, map)) {
		const dma_addr = dmaList(map, 'hmm_dma_unmap_pfn')[i]!;
		dma_unmap_phys(dev, dma_addr, size, DMA_BIDIRECTIONAL, attrs);
	}
	pfns[i] = word & ~(HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA | HMM_PFN_P2PDMA_BUS);
	const provider = map.provider_list?.at(i) ?? null;
	if (provider !== null) uncountMapping(provider, dev);
	return true;
}
