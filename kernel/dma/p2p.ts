// SPDX-License-Identifier: GPL-2.0-only
/** The P2P judgement of a scatterlist segment, as each profile's mapping loops make it. */

import { pci_p2pdma_map_segment } from '../../drivers/pci/p2pdma/map_segment.ts';
import { pci_p2pdma_state } from '../../drivers/pci/p2pdma/map_type.ts';
import type { device } from '../../include/linux/device.ts';
import type { page } from '../../include/linux/mm_types.ts';
import { is_pci_p2pdma_page } from '../../include/linux/page-flags.ts';
import {
	PCI_P2PDMA_MAP_BUS_ADDR,
	PCI_P2PDMA_MAP_NONE,
	p2pdma_bus_addr,
	type p2pdma_provider,
	type pci_p2pdma_map_state,
	type pci_p2pdma_map_type,
} from '../../include/linux/pci-p2pdma.ts';
import {
	type scatterlist,
	sg_dma_mark_bus_address,
	sg_phys,
} from '../../include/linux/scatterlist.ts';
import { feature } from '../../include/sim/world.ts';

/**
 * Judge a segment. One that is reached by bus address is mapped by this: its DMA address, length
 * and mark are set.
 *
 * @param state - the loop's state
 * @param dev - the device
 * @param sg - the segment
 * @returns PCI_P2PDMA_MAP_NONE for memory that is no P2P memory, under both profiles
 */
export function p2pSegment(
	state: pci_p2pdma_map_state,
	dev: device,
	sg: scatterlist,
): pci_p2pdma_map_type {
	const p = sg.page as page;
	if (!feature('p2pdma_provider')) {
		if (!is_pci_p2pdma_page(p)) return PCI_P2PDMA_MAP_NONE;
		return pci_p2pdma_map_segment(state, dev, sg);
	}

	const type = pci_p2pdma_state(state, dev, p);
	if (type === PCI_P2PDMA_MAP_BUS_ADDR) {
		sg.dma_address = p2pdma_bus_addr(state.mem as p2pdma_provider, sg_phys(sg), dev);
		sg.dma_length = sg.length;
		sg_dma_mark_bus_address(sg);
	}
	return type;
}
