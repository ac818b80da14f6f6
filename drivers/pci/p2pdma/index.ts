// SPDX-License-Identifier: GPL-2.0-only
/**
 * drivers/pci/p2pdma.c, in files of one purpose each. Callers import the file, not this index:
 * what mm/ and kernel/dma/ ask for (map_type.ts) does not pull in mm/memremap.ts.
 *
 * | file | functions, in the order of the C file |
 * | --- | --- |
 * | objects.ts | struct pci_p2pdma, pci_p2pdma_pagemap, to_p2p_pgmap |
 * | sysfs.ts | size_show, available_show, published_show |
 * | mmap.ts | p2pmem_alloc_mmap |
 * | enable.ts | pci_p2pdma_enable_store, pci_p2pdma_enable_show |
 * | provider.ts | pci_p2pdma_release, pcim_p2pdma_init, pcim_p2pdma_provider |
 * | live.ts | who still has memory of a provider mapped: a sanitizer |
 * | memory.ts | p2pdma_folio_free (v6.12: p2pdma_page_free), pci_p2pdma_unmap_mappings, pci_p2pdma_setup_pool, pci_p2pdma_add_resource |
 * | acs.ts | pci_bridge_has_acs_redir, seq_buf_print_bus_devfn |
 * | whitelist.ts | cpu_supports_p2pdma, pci_host_bridge_dev, __host_bridge_whitelist, host_bridge_whitelist |
 * | cache.ts | map_types_idx, and the hooks for tests |
 * | distance.ts | find_parent_pci_dev, calc_map_type_and_dist, pci_p2pdma_distance_many, pci_p2pdma_distance |
 * | find.ts | pci_has_p2pmem, pci_p2pmem_find_many, pci_p2pmem_find, pci_p2pmem_publish |
 * | p2pmem.ts | pci_alloc_p2pmem, pci_free_p2pmem, pci_p2pmem_virt_to_bus, pci_p2pmem_alloc_sgl, pci_p2pmem_free_sgl |
 * | map_type.ts | pci_p2pdma_map_type, __pci_p2pdma_update_state, pci_p2pdma_state |
 * | map_segment.ts | pci_p2pdma_map_segment (v6.12) |
 */
export {
	pci_p2pdma_distance,
	pci_p2pdma_distance_many,
} from './distance.ts';
export {
	pci_has_p2pmem,
	pci_p2pmem_find,
	pci_p2pmem_find_many,
	pci_p2pmem_publish,
} from './find.ts';
export {
	mapTypeNumber,
	pci_p2pdma_map_type,
	pci_p2pdma_state,
} from './map_type.ts';
