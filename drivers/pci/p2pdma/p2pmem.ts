// SPDX-License-Identifier: GPL-2.0-only
/**
 * Allocation from a function's registered BAR memory.
 *
 * Guarantee: each allocation holds one reference of the pagemap it came from, so unbinding the
 * driver waits for it to be freed.
 */

import { page_to_virt, virt_to_page } from '../../../include/asm/page.ts';
import { oops } from '../../../include/linux/bug.ts';
import type { gen_pool } from '../../../include/linux/genalloc.ts';
import type { page } from '../../../include/linux/mm_types.ts';
import type { pci_dev } from '../../../include/linux/pci.ts';
import type { percpu_ref } from '../../../include/linux/percpu-refcount.ts';
import {
	percpu_ref_put,
	percpu_ref_tryget_live_rcu,
} from '../../../include/linux/percpu-refcount.ts';
import {
	type scatterlist,
	sg_init_table,
	sg_page,
	sg_set_page,
	sgList,
} from '../../../include/linux/scatterlist.ts';
import {
	type out,
	outParam,
	PAGE_SIZE,
	type pci_bus_addr_t,
	type size_t,
	type u32,
	type unsigned_int,
	type unsigned_long,
} from '../../../include/linux/types.ts';
import { shouldFail } from '../../../include/sim/fault_injection.ts';
import { feature } from '../../../include/sim/world.ts';
import {
	gen_pool_alloc_owner,
	gen_pool_free,
	gen_pool_free_owner,
	gen_pool_virt_to_phys,
} from '../../../kernel/genalloc.ts';
import { rcu_read_lock, rcu_read_unlock } from '../../../kernel/rcu/tree.ts';
import { p2pdmaOf } from './objects.ts';

/** The pool of a function that has struct pci_p2pdma; a function with providers only has none. */
function poolOf(pdev: pci_dev): gen_pool | null {
	const p2pdma = p2pdmaOf(pdev);
	if (p2pdma === null) return null;
	// The kernels do not look: with pcim_p2pdma_init() alone they follow a NULL pool.
	if (p2pdma.pool === null && feature('fix_s9')) return null;
	return p2pdma.pool ?? oops('BUG: kernel NULL pointer dereference: struct gen_pool');
}

/**
 * Allocate P2P memory.
 *
 * @param pdev - the function
 * @param size - bytes; rounded up to pages
 * @returns kernel address; null without registered memory, without space, or while the driver is
 *   being unbound
 * @throws KernelOops for a function that has providers but no registered memory
 * @context Atomic.
 * @kernel drivers/pci/p2pdma.c
 */
export function pci_alloc_p2pmem(pdev: pci_dev, size: size_t): unsigned_long | null {
	const pool = poolOf(pdev);
	if (pool === null || shouldFail('pci_alloc_p2pmem')) return null;
	rcu_read_lock();
	const ref: out<unknown> = outParam<unknown>(null);
	let ret: unsigned_long | null = gen_pool_alloc_owner(pool, size, ref);
	if (ret === 0n) ret = null;
	else if (!percpu_ref_tryget_live_rcu(ref.value as percpu_ref)) {
		gen_pool_free(pool, ret, size);
		ret = null;
	}
	rcu_read_unlock();
	return ret;
}

/**
 * Free P2P memory.
 *
 * @param pdev - the function
 * @param addr - as pci_alloc_p2pmem() gave it
 * @param size - as it was asked for
 * @context Atomic.
 * @kernel drivers/pci/p2pdma.c
 */
export function pci_free_p2pmem(pdev: pci_dev, addr: unsigned_long, size: size_t): void {
	const ref: out<unknown> = outParam<unknown>(null);
	gen_pool_free_owner(poolOf(pdev) as gen_pool, addr, size, ref);
	percpu_ref_put(ref.value as percpu_ref);
}

/**
 * The bus address of allocated P2P memory.
 *
 * @param pdev - the function
 * @param addr - in memory that pci_alloc_p2pmem() gave
 * @returns 0 for NULL, and for a function without registered memory
 * @context Atomic.
 * @kernel drivers/pci/p2pdma.c
 */
export function pci_p2pmem_virt_to_bus(pdev: pci_dev, addr: unsigned_long | null): pci_bus_addr_t {
	const pool = addr === null ? null : poolOf(pdev);
	if (pool === null || addr === null) return 0n;
	// The pool was given bus addresses where it expects physical ones.
	return BigInt.asUintN(64, gen_pool_virt_to_phys(pool, addr) as bigint);
}

/**
 * Allocate P2P memory as a scatterlist of one entry.
 *
 * @param pdev - the function
 * @param nents - out: 1
 * @param length - bytes
 * @returns null without memory
 * @context Atomic.
 * @kernel drivers/pci/p2pdma.c
 */
export function pci_p2pmem_alloc_sgl(
	pdev: pci_dev,
	nents: out<unsigned_int>,
	length: u32,
): scatterlist | null {
	if (shouldFail('kzalloc')) return null;
	const sg = sgList(1);
	sg_init_table(sg, 1);
	const addr = pci_alloc_p2pmem(pdev, BigInt(length));
	if (addr === null) return null;
	sg_set_page(sg, virt_to_page(addr), length, Number(addr & (PAGE_SIZE - 1n)));
	nents.value = 1;
	return sg;
}

/**
 * Free what pci_p2pmem_alloc_sgl() gave.
 *
 * @param pdev - the function
 * @param sgl - the list
 * @context Atomic.
 * @kernel drivers/pci/p2pdma.c
 */
export function pci_p2pmem_free_sgl(pdev: pci_dev, sgl: scatterlist): void {
	for (let sg: scatterlist | null = sgl; sg !== null; sg = sg.next) {
		const addr = page_to_virt(sg_page(sg) as page) + BigInt(sg.offset);
		pci_free_p2pmem(pdev, addr, BigInt(sg.length));
	}
}
