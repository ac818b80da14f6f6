// SPDX-License-Identifier: GPL-2.0-only
/**
 * The file p2pmem/allocate: whoever maps it gets P2P memory of its own.
 *
 * ```
 *   file (open) ── f_inode ──> inode ── i_mapping ──> every VMA that maps the file
 *       │ private_data            ▲
 *       ▼                         │ allocate
 *   p2pmemFile { pdev, removed, inode } <── pci_p2pdma
 * ```
 *
 * Guarantee: a mapping holds one reference of the pagemap for each of its pages, given back with the
 * page; after removal no user maps the memory any more, and nobody can map it again.
 * Duty: unbinding the driver removes the file before it takes the pages down.
 */
import { virt_to_page } from '../../../include/asm/page.ts';
import { WARN_ON_ONCE } from '../../../include/linux/bug.ts';
import { dev_info } from '../../../include/linux/device.ts';
import { EINVAL, ENODEV, ENOMEM } from '../../../include/linux/errno.ts';
import { file, type file_operations, inode } from '../../../include/linux/fs.ts';
import type { gen_pool } from '../../../include/linux/genalloc.ts';
import { VM_MAYSHARE } from '../../../include/linux/mm.ts';
import {
	address_space,
	VM_FAULT_SIGBUS,
	type vm_area_struct,
	type vm_operations_struct,
} from '../../../include/linux/mm_types.ts';
import { page_ref_count, set_page_count } from '../../../include/linux/page-flags.ts';
import type { pci_dev } from '../../../include/linux/pci.ts';
import {
	type percpu_ref,
	percpu_ref_get,
	percpu_ref_put,
	percpu_ref_tryget_live_rcu,
} from '../../../include/linux/percpu-refcount.ts';
import { current } from '../../../include/linux/sched.ts';
import {
	type int,
	type out,
	outParam,
	PAGE_SIZE,
	type vm_fault_t,
} from '../../../include/linux/types.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { feature } from '../../../include/sim/world.ts';
import { gen_pool_alloc_owner, gen_pool_free } from '../../../kernel/genalloc.ts';
import { rcu_read_lock, rcu_read_unlock } from '../../../kernel/rcu/tree.ts';
import { unmap_mapping_range, vm_insert_page } from '../../../mm/memory.ts';
import { put_page } from '../../../mm/swap.ts';
import { p2pdmaOf } from './objects.ts';

/** The file of one function, from the pool's making to its removal. */
export class P2pmemFile {
	pdev: pci_dev;
	/** Removed from its folder: what is open of it maps nothing any more. */
	removed = false;
	inode: inode = new inode(new address_space());

	/** @param pdev - whose memory it hands out */
	constructor(pdev: pci_dev) {
		this.pdev = pdev;
	}
}

/** Memory that was just taken from a pool, with one reference of its pagemap. */
interface Allocation {
	readonly pool: gen_pool;
	readonly kaddr: bigint;
	readonly ref: percpu_ref;
}

/** Take memory for a mapping; the reference keeps the pages while they are inserted. */
function allocate(pdev: pci_dev, len: bigint): Allocation | int {
	rcu_read_lock();
	try {
		const pool = p2pdmaOf(pdev)?.pool ?? null;
		if (pool === null) return -ENODEV;
		const owner: out<unknown> = outParam<unknown>(null);
		const kaddr = gen_pool_alloc_owner(pool, len, owner);
		if (kaddr === 0n) return -ENOMEM;
		const ref = owner.value as percpu_ref;
		if (percpu_ref_tryget_live_rcu(ref)) return { pool, kaddr, ref };
		gen_pool_free(pool, kaddr, len);
		return -ENODEV;
	} finally {
		rcu_read_unlock();
	}
}

/** Put a page of an allocation into a mapping: the mapping's reference is the only one. */
function* insertPage(vma: vm_area_struct, vaddr: bigint, kaddr: bigint): Sim<int> {
	const p = virt_to_page(kaddr);
	const counted = feature('zone_device_zero_refcount');
	if (counted) {
		// Nobody else has a page that was just allocated.
		WARN_ON_ONCE(page_ref_count(p) !== 0, 'P2P page is in use');
		set_page_count(p, 1);
	}
	const ret = yield* vm_insert_page(vma, vaddr, p);
	// Not put_page(): it would give the page's space back as well.
	if (ret && counted) set_page_count(p, 0);
	return ret;
}

/**
 * Map the file p2pmem/allocate.
 *
 * @param pdev - the function
 * @param vma - the mapping
 * @retval 0 every page of it is mapped
 * @retval -EINVAL the mapping is private, or does not begin at 0
 * @retval -ENODEV no memory is registered, or the driver is being unbound
 * @retval -ENOMEM no space in the pool, no memory for page tables
 * @returns else what vm_insert_page() returned
 * @context Sleeps. The mmap lock is held for writing.
 * @kernel drivers/pci/p2pdma.c
 */
export function* p2pmem_alloc_mmap(pdev: pci_dev, vma: vm_area_struct): Sim<int> {
	const fail = (what: string): int => {
		dev_info(pdev.dev, `${current().comm}: fail, attempted ${what}`);
		return -EINVAL;
	};
	if ((vma.vm_flags & VM_MAYSHARE) === 0n) return fail('private mapping');
	if (vma.vm_pgoff !== 0n) return fail('mapping with non-zero offset');
	const len = vma.vm_end - vma.vm_start;
	const taken = allocate(pdev, len);
	if (typeof taken === 'number') return taken;
	const { pool, kaddr, ref } = taken;
	for (let done = 0n; done < len; done += PAGE_SIZE) {
		const ret = yield* insertPage(vma, vma.vm_start + done, kaddr + done);
		if (ret) {
			// What is inserted goes with the mapping; this is the rest.
			gen_pool_free(pool, kaddr + done, len - done);
			percpu_ref_put(ref);
			return ret;
		}
		percpu_ref_get(ref);
		yield* put_page(virt_to_page(kaddr + done));
	}
	percpu_ref_put(ref);
	return 0;
}

/** kernfs: what is not mapped any more cannot be faulted in again. */
function* kernfsFault(): Sim<vm_fault_t> {
	return VM_FAULT_SIGBUS;
}

const kernfsVmOps: vm_operations_struct = Object.freeze({
	name: 'p2pmem/allocate',
	fault: kernfsFault,
});

/** kernfs: an open file of what was removed maps nothing. */
function* kernfsMmap(f: file, vma: vm_area_struct): Sim<int> {
	const { pdev, removed } = f.private_data as P2pmemFile;
	if (removed) return -ENODEV;
	const ret = yield* p2pmem_alloc_mmap(pdev, vma);
	if (ret === 0) vma.vm_ops = kernfsVmOps;
	return ret;
}

const operations: file_operations = Object.freeze({ mmap: kernfsMmap });

/**
 * Open the file p2pmem/allocate.
 *
 * @param pdev - the function
 * @returns the file with one reference; null where there is no such file
 */
export function openP2pmemAllocate(pdev: pci_dev): file | null {
	const allocateFile = (p2pdmaOf(pdev)?.allocate ?? null) as P2pmemFile | null;
	if (allocateFile === null || allocateFile.removed) return null;
	return new file({
		f_inode: allocateFile.inode,
		f_mapping: allocateFile.inode.i_mapping,
		f_op: operations,
		private_data: allocateFile,
	});
}

/**
 * Remove the file, and with it what users mapped through it: sysfs_remove_file_from_group().
 *
 * @param pdev - the function
 * @context May sleep.
 */
export function* removeP2pmemAllocate(pdev: pci_dev): Sim<void> {
	const allocateFile = (p2pdmaOf(pdev)?.allocate ?? null) as P2pmemFile | null;
	if (allocateFile === null || allocateFile.removed) return;
	allocateFile.removed = true;
	yield* unmap_mapping_range(allocateFile.inode.i_mapping, 0n, 0n, true);
}
