// SPDX-License-Identifier: GPL-2.0-only
/**
 * Registering part of a BAR as P2P memory with struct pages.
 *
 * ```
 *   BAR      |<-- offset -->|<------- size ------->|        resource of pdev
 *                           range of the pagemap            pages: is_pci_p2pdma_page()
 *                           chunk of the pool               owner: the pagemap's reference
 *                             virt: linear map, "phys": bus address
 * ```
 *
 * Guarantee: a failure leaves no page and no pool space behind; providers and an empty pool may
 * stay until the driver is unbound, and do no harm.
 */
import { page_to_virt } from '../../../include/asm/page.ts';
import { WARN_ON } from '../../../include/linux/bug.ts';
import { dev_info } from '../../../include/linux/device.ts';
import { EINVAL, ENOMEM } from '../../../include/linux/errno.ts';
import type { gen_pool } from '../../../include/linux/genalloc.ts';
import { IORESOURCE_MEM } from '../../../include/linux/ioport.ts';
import { type dev_pagemap_ops, MEMORY_DEVICE_PCI_P2PDMA } from '../../../include/linux/memremap.ts';
import type { folio, page } from '../../../include/linux/mm_types.ts';
import { page_pgmap } from '../../../include/linux/page-flags.ts';
import {
	pci_bus_address,
	type pci_dev,
	pci_resource_flags,
	pci_resource_len,
	pci_resource_start,
	to_pci_dev,
} from '../../../include/linux/pci.ts';
import type { p2pdma_provider } from '../../../include/linux/pci-p2pdma.ts';
import type { percpu_ref } from '../../../include/linux/percpu-refcount.ts';
import { percpu_ref_put } from '../../../include/linux/percpu-refcount.ts';
import {
	type int,
	type out,
	outParam,
	PAGE_SHIFT,
	PAGE_SIZE,
	type size_t,
	type u64,
} from '../../../include/linux/types.ts';
import { shouldFail } from '../../../include/sim/fault_injection.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { feature } from '../../../include/sim/world.ts';
import {
	gen_pool_add_owner,
	gen_pool_create,
	gen_pool_destroy,
	gen_pool_free_owner,
} from '../../../kernel/genalloc.ts';
import { devm_memremap_pages, devm_memunmap_pages } from '../../../mm/memremap.ts';
import { devm_add_action_or_reset } from '../../base/devres.ts';
import { P2pmemFile, removeP2pmemAllocate } from './mmap.ts';
import { p2pdmaOf, pci_p2pdma, pci_p2pdma_pagemap, to_p2p_pgmap } from './objects.ts';
import {
	makeProvider,
	pci_p2pdma_release,
	pcim_p2pdma_init,
	pcim_p2pdma_provider,
} from './provider.ts';

/** Give a page back to its pool: nobody has it any more. */
function freePage(p: page): void {
	const pgmap = to_p2p_pgmap(page_pgmap(p));
	const p2pdma = p2pdmaOf(to_pci_dev(pgmap.mem.owner));
	const ref: out<unknown> = outParam<unknown>(null);
	gen_pool_free_owner(p2pdma!.pool!, page_to_virt(p), PAGE_SIZE, ref);
	percpu_ref_put(ref.value as percpu_ref);
}

/**
 * The last reference of a P2P page was put.
 *
 * @param f - folio of one page
 * @kernel drivers/pci/p2pdma.c
 * @since v6.19
 */
function* p2pdma_folio_free(f: folio): Sim<void> {
	freePage(f.page);
}

/**
 * The last reference but one of a P2P page was put.
 *
 * @param p - the page
 * @kernel drivers/pci/p2pdma.c (v6.12)
 */
function* p2pdma_page_free(p: page): Sim<void> {
	freePage(p);
}

const p2pdma_pgmap_ops: dev_pagemap_ops = Object.freeze({
	folio_free: p2pdma_folio_free,
	page_free: p2pdma_page_free,
});

/**
 * Take the user's mappings away before the pages go: a devres action.
 *
 * @param pdev - the function
 * @kernel drivers/pci/p2pdma.c
 */
function* pci_p2pdma_unmap_mappings(pdev: pci_dev): Sim<void> {
	yield* removeP2pmemAllocate(pdev);
}

/**
 * Make a function's pool.
 *
 * @param pdev - the function, which has struct pci_p2pdma
 * @retval 0 made, now or before
 * @retval -ENOMEM no memory
 * @kernel drivers/pci/p2pdma.c
 * @since v6.19
 */
function pci_p2pdma_setup_pool(pdev: pci_dev): int {
	const p2pdma = p2pdmaOf(pdev) as pci_p2pdma;
	if (p2pdma.pool !== null) return 0;
	p2pdma.pool = makePool(pdev, p2pdma);
	return p2pdma.pool === null ? -ENOMEM : 0;
}

/** A pool, and the sysfs folder that shows it. */
function makePool(pdev: pci_dev, p2pdma: pci_p2pdma): gen_pool | null {
	const pool = gen_pool_create(Number(PAGE_SHIFT), pdev.dev.numa_node);
	if (pool === null) return null;
	if (shouldFail('sysfs_create_group')) {
		gen_pool_destroy(pool);
		return null;
	}
	p2pdma.allocate = new P2pmemFile(pdev);
	return pool;
}

/**
 * Give a function struct pci_p2pdma and its pool at once, as v6.12 does.
 *
 * @param pdev - the function
 * @retval 0 done, now or before
 * @retval -ENOMEM no memory
 * @kernel drivers/pci/p2pdma.c (v6.12)
 */
function* pci_p2pdma_setup(pdev: pci_dev): Sim<int> {
	if (pdev.p2pdma !== null) return 0;
	if (shouldFail('devm_kzalloc')) return -ENOMEM;
	const p2p = new pci_p2pdma();
	p2p.pool = makePool(pdev, p2p);
	if (p2p.pool === null) return -ENOMEM;
	const ret = yield* devm_add_action_or_reset(pdev.dev, pci_p2pdma_release, pdev);
	if (ret) return ret;
	pdev.p2pdma = p2p;
	return 0;
}

/** Providers and pool of the profile's kernel; then the provider of the BAR. */
function* setupProvider(pdev: pci_dev, bar: int): Sim<p2pdma_provider | int> {
	if (!feature('p2pdma_provider')) {
		const error = yield* pci_p2pdma_setup(pdev);
		return error ? error : makeProvider(pdev, bar);
	}
	const error = yield* pcim_p2pdma_init(pdev);
	if (error) return error;
	const poolError = pci_p2pdma_setup_pool(pdev);
	if (poolError) return poolError;
	const mem = pcim_p2pdma_provider(pdev, bar);
	// The caller looked at the BAR already.
	return WARN_ON(mem === null) || mem === null ? -EINVAL : mem;
}

/**
 * Register part of a BAR as P2P memory. It goes when the driver is unbound.
 *
 * @param pdev - the function
 * @param bar - 0 to 5
 * @param size - bytes; 0: the rest of the BAR
 * @param offset - where in the BAR
 * @retval 0 registered
 * @retval -EINVAL the BAR is no memory, the range is not in it, or is not made of 2 MiB units
 * @retval -EOPNOTSUPP v7.3: its BARs must not be mapped
 * @retval -ENOMEM no memory; the first or last page belongs to another pagemap
 * @retval -ENXIO the range touches RAM
 * @context May sleep.
 * @kernel drivers/pci/p2pdma.c
 */
export function* pci_p2pdma_add_resource(
	pdev: pci_dev,
	bar: int,
	size: size_t,
	offset: u64,
): Sim<int> {
	if ((pci_resource_flags(pdev, bar) & IORESOURCE_MEM) === 0n) return -EINVAL;
	const len = pci_resource_len(pdev, bar) as bigint;
	if (offset >= len) return -EINVAL;
	const length = size === 0n ? len - offset : size;
	if (BigInt.asUintN(64, length + offset) > len) return -EINVAL;
	// The kernels take a size below a page, and oops when its pages are given back.
	if (length < PAGE_SIZE && feature('fix_s19')) return -EINVAL;

	const mem = yield* setupProvider(pdev, bar);
	if (typeof mem === 'number') return mem;

	if (shouldFail('devm_kzalloc')) return -ENOMEM;
	const p2p_pgmap = new pci_p2pdma_pagemap(mem);
	const { pgmap } = p2p_pgmap;
	const start = (pci_resource_start(pdev, bar) as bigint) + offset;
	pgmap.ranges = [{ start, end: start + length - 1n }];
	pgmap.nr_range = 1;
	pgmap.type = MEMORY_DEVICE_PCI_P2PDMA;
	pgmap.ops = p2pdma_pgmap_ops;

	const addr = yield* devm_memremap_pages(pdev.dev, pgmap);
	if (typeof addr === 'number') return addr;

	let error: int;
	pages_free: {
		error = yield* devm_add_action_or_reset(pdev.dev, pci_p2pdma_unmap_mappings, pdev);
		if (error) break pages_free;
		const { pool } = p2pdmaOf(pdev) as pci_p2pdma;
		const bus = (pci_bus_address(pdev, bar) as bigint) + offset;
		error = gen_pool_add_owner(pool!, addr, bus, length, pdev.dev.numa_node, pgmap.ref);
		if (error) break pages_free;
		dev_info(
			pdev.dev,
			`added peer-to-peer DMA memory 0x${start.toString(16)}-0x${(start + length - 1n).toString(16)}`,
		);
		return 0;
	}
	yield* devm_memunmap_pages(pdev.dev, pgmap);
	return error;
}
