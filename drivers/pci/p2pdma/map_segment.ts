// SPDX-License-Identifier: GPL-2.0-only
/** How v6.12 maps a scatterlist segment of P2P memory; later releases ask pci_p2pdma_state(). */
import type { device } from '../../../include/linux/device.ts';
import type { page } from '../../../include/linux/mm_types.ts';
import { page_pgmap } from '../../../include/linux/page-flags.ts';
import {
	PCI_P2PDMA_MAP_BUS_ADDR,
	type pci_p2pdma_map_state,
	type pci_p2pdma_map_type,
} from '../../../include/linux/pci-p2pdma.ts';
import {
	type scatterlist,
	sg_dma_mark_bus_address,
	sg_page,
	sg_phys,
} from '../../../include/linux/scatterlist.ts';
import { pci_p2pdma_map_type as mapTypeOf } from './map_type.ts';
import { to_p2p_pgmap } from './objects.ts';

/**
 * Map a scatterlist segment of P2P memory, if it is reached by bus address.
 *
 * @param state - the loop's state
 * @param dev - who accesses the segment
 * @param sg - segment whose page is a P2P page; BUS_ADDR: its DMA address and length are set
 * @context Atomic.
 * @kernel drivers/pci/p2pdma.c (v6.12; gone in v6.17)
 */
export function pci_p2pdma_map_segment(
	state: pci_p2pdma_map_state,
	dev: device,
	sg: scatterlist,
): pci_p2pdma_map_type {
	const pgmap = page_pgmap(sg_page(sg) as page);
	if (state.pgmap !== pgmap) {
		const { mem } = to_p2p_pgmap(pgmap);
		state.pgmap = pgmap;
		state.map = mapTypeOf(mem, dev);
		state.bus_off = mem.bus_offset;
	}
	if (state.map === PCI_P2PDMA_MAP_BUS_ADDR) {
		sg.dma_address = BigInt.asUintN(64, (sg_phys(sg) as bigint) + state.bus_off);
		sg.dma_length = sg.length;
		sg_dma_mark_bus_address(sg);
	}
	return state.map;
}
