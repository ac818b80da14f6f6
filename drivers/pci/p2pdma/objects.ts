// SPDX-License-Identifier: GPL-2.0-only
/**
 * struct pci_p2pdma and struct pci_p2pdma_pagemap: what a function that offers memory keeps.
 *
 * ```
 *   pci_dev.p2pdma ──> pci_p2pdma { pool, p2pmem_published, map_types, mem[6] }
 *                                     │                        ▲          ▲ one a memory BAR
 *   page ── pgmap ── container ──> pci_p2pdma_pagemap { pgmap, mem } ─────┘
 * ```
 *
 * Guarantee: a P2P page leads to its provider by these pointers alone; no table is consulted.
 */
import type { gen_pool } from '../../../include/linux/genalloc.ts';
import { dev_pagemap } from '../../../include/linux/memremap.ts';
import { PCI_STD_NUM_BARS, type pci_dev } from '../../../include/linux/pci.ts';
import type { p2pdma_provider, pci_p2pdma_map_type } from '../../../include/linux/pci-p2pdma.ts';
import type { bool } from '../../../include/linux/types.ts';

/**
 * What a provider function keeps.
 *
 * @kernel drivers/pci/p2pdma.c
 */
export class pci_p2pdma {
	/** Memory to hand out; null: providers only. */
	pool: gen_pool | null = null;
	p2pmem_published: bool = false;
	/**
	 * Verdicts found so far, by map_types_idx() of the client; none is ever forgotten while the
	 * driver is bound. An xarray in C; here only what is atomic is ever done with it.
	 */
	map_types: Map<number, pci_p2pdma_map_type> = new Map();
	/** The file p2pmem/allocate (class P2pmemFile of mmap.ts), made with the pool. */
	allocate: object | null = null;
	/** One a BAR (v7.3); null where the BAR is no memory. */
	mem: (p2pdma_provider | null)[] = new Array(PCI_STD_NUM_BARS).fill(null);
}

/**
 * A pagemap over part of a BAR.
 *
 * @kernel drivers/pci/p2pdma.c
 */
export class pci_p2pdma_pagemap {
	pgmap: dev_pagemap;
	/**
	 * The provider; v6.12 has its two fields here (`provider`, `bus_offset`), and one a pagemap.
	 */
	mem: p2pdma_provider;

	/** @param mem - the provider */
	constructor(mem: p2pdma_provider) {
		this.mem = mem;
		this.pgmap = new dev_pagemap({ container: this });
	}
}

/**
 * The P2P pagemap that embeds a pagemap.
 *
 * @param pgmap - pagemap of type MEMORY_DEVICE_PCI_P2PDMA
 * @kernel drivers/pci/p2pdma.c
 */
export function to_p2p_pgmap(pgmap: dev_pagemap): pci_p2pdma_pagemap {
	return pgmap.container as pci_p2pdma_pagemap;
}

/**
 * `pdev->p2pdma`, as rcu_dereference() gives it.
 *
 * @param pdev - the function
 */
export function p2pdmaOf(pdev: pci_dev): pci_p2pdma | null {
	return pdev.p2pdma as pci_p2pdma | null;
}
