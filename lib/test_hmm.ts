// SPDX-License-Identifier: GPL-2.0-only
/**
 * The kernel's HMM test driver: devices that mirror the address space of the process that opens them.
 *
 * Guarantee: what a program sees by ioctl is what it sees of the kernel's lib/test_hmm.c, its own
 * faults included: a local device page that is missing in the mirror is read through a pointer that
 * leads nowhere, and the kernel oopses.
 *
 * The kernel's one file is a folder here:
 *
 * | file | what |
 * | --- | --- |
 * | device.ts | devices, chunks, device pages |
 * | mirror.ts | mirror, notifier, faults, READ, WRITE |
 * | exclusive.ts | EXCLUSIVE |
 * | snapshot.ts | SNAPSHOT |
 * | migrate.ts | MIGRATE_TO_DEV, MIGRATE_TO_SYS, the CPU's touch, eviction |
 *
 * @kernel lib/test_hmm.c
 */
import { EINVAL, ENODEV, ENOMEM, EPERM } from '../include/linux/errno.ts';
import { file, type file_operations } from '../include/linux/fs.ts';
import type { dev_pagemap_ops, range } from '../include/linux/memremap.ts';
import { current, type task_struct } from '../include/linux/sched.ts';
import { type errno, GFP_KERNEL, type int, PAGE_SIZE } from '../include/linux/types.ts';
import { xa_destroy, xa_load } from '../include/linux/xarray.ts';
import { shouldFail } from '../include/sim/fault_injection.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { feature, perWorld } from '../include/sim/world.ts';
import { mutex_lock, mutex_unlock } from '../kernel/locking/mutex.ts';
import { spin_lock, spin_unlock } from '../kernel/locking/spinlock.ts';
import { release_mem_region } from '../kernel/resource.ts';
import { vm_insert_page } from '../mm/memory.ts';
import { memunmap_pages } from '../mm/memremap.ts';
import { mmu_interval_notifier_insert, mmu_interval_notifier_remove } from '../mm/mmu_notifier.ts';
import { __free_page, alloc_page } from '../mm/page_alloc.ts';
import { put_page } from '../mm/swap.ts';
import {
	DEVMEM_CHUNK_SIZE,
	dmirror_allocate_chunk,
	dmirror_device,
	dmirror_devmem_folio_split,
	dmirror_devmem_free,
	dmirror_is_private_zone,
} from './test_hmm/device.ts';
import { dmirror_exclusive } from './test_hmm/exclusive.ts';
import {
	dmirror_device_evict_chunk,
	dmirror_devmem_fault,
	dmirror_migrate_to_device,
	dmirror_migrate_to_system,
} from './test_hmm/migrate.ts';
import {
	DPT_XA_TAG_ATOMIC,
	dmirror,
	dmirror_min_ops,
	dmirror_read,
	dmirror_write,
	rangeWraps,
} from './test_hmm/mirror.ts';
import { dmirror_snapshot } from './test_hmm/snapshot.ts';
import {
	HMM_DMIRROR_CHECK_EXCLUSIVE,
	HMM_DMIRROR_EXCLUSIVE,
	HMM_DMIRROR_FLAGS,
	HMM_DMIRROR_MIGRATE_TO_DEV,
	HMM_DMIRROR_MIGRATE_TO_SYS,
	HMM_DMIRROR_READ,
	HMM_DMIRROR_READ_UNLOCKED,
	HMM_DMIRROR_RELEASE,
	HMM_DMIRROR_SNAPSHOT,
	HMM_DMIRROR_WRITE,
	type hmm_dmirror_cmd,
} from './test_hmm_uapi.ts';

export type { dmirror_device } from './test_hmm/device.ts';
export type { dmirror } from './test_hmm/mirror.ts';

/** The loaded module's devices, by minor number. */
const dmirror_devices = perWorld<dmirror_device[]>(() => []);

const dmirror_devmem_ops: dev_pagemap_ops = {
	page_free: dmirror_devmem_free,
	folio_free: (f) => dmirror_devmem_free(f.page),
	migrate_to_ram: dmirror_devmem_fault,
	*folio_split(head, tail) {
		dmirror_devmem_folio_split(head, tail);
	},
};

/**
 * Load the module.
 *
 * @param spm - `spm_addr_dev0` and `spm_addr_dev1`: memory for two coherent devices; none: there are
 *   only the two private ones
 * @returns 0 or an errno
 * @kernel lib/test_hmm.c
 */
export function* hmm_dmirror_init(spm: readonly range[] = []): Sim<int> {
	const devices = dmirror_devices();
	// The driver gives the first address to the second coherent device.
	for (const memory of [null, null, ...[...spm].reverse()]) {
		const mdevice = new dmirror_device(`hmm_dmirror${devices.length}`, memory, {
			...dmirror_devmem_ops,
		});
		const chunk = yield* dmirror_allocate_chunk(mdevice, false);
		if (typeof chunk === 'number') {
			yield* hmm_dmirror_exit();
			return chunk;
		}
		devices.push(mdevice);
	}
	return 0;
}

/**
 * Unload the module; nobody has a device open.
 *
 * @kernel lib/test_hmm.c
 */
export function* hmm_dmirror_exit(): Sim<void> {
	for (const mdevice of dmirror_devices().splice(0))
		yield* dmirror_device_remove_chunks(mdevice);
}

/**
 * A device of the loaded module.
 *
 * @param minor - 0 and 1 private, 2 and 3 coherent
 * @returns null: there is none
 */
export function dmirrorDevice(minor: int): dmirror_device | null {
	return dmirror_devices()[minor] ?? null;
}

/**
 * open("/dev/hmm_dmirrorN"): the device mirrors the caller's address space.
 *
 * @param minor - N
 * @returns the file, or an errno
 * @kernel lib/test_hmm.c
 */
export function* dmirror_fops_open(minor: int): Sim<file | errno> {
	const mdevice = dmirrorDevice(minor);
	if (mdevice === null) return -ENODEV;
	if (shouldFail('dmirror_fops_open:kzalloc')) return -ENOMEM;
	const self = new dmirror(mdevice);
	const { mm } = current() as task_struct;
	const ret = yield* mmu_interval_notifier_insert(
		self.notifier,
		mm!,
		0n,
		(1n << 64n) - PAGE_SIZE,
		dmirror_min_ops,
	);
	if (ret) return ret as errno;
	return new file({ f_op: dmirror_fops, private_data: self });
}

function* dmirror_fops_release(filp: file): Sim<int> {
	const self = filp.private_data as dmirror;
	yield* mmu_interval_notifier_remove(self.notifier);
	for (const chunk of self.mdevice.devmem_chunks) yield* dmirror_device_evict_chunk(chunk);
	xa_destroy(self.pt);
	return 0;
}

/** HMM_DMIRROR_RELEASE: everything back to system memory, and the chunks away. */
function* dmirror_device_remove_chunks(mdevice: dmirror_device): Sim<void> {
	yield* mutex_lock(mdevice.devmem_lock);
	for (const chunk of mdevice.devmem_chunks) {
		const mine = (p: { readonly pgmap: unknown }): boolean => p.pgmap === chunk.pagemap;
		yield* spin_lock(mdevice.lock);
		chunk.remove = true;
		mdevice.free_pages = mdevice.free_pages.filter((p) => !mine(p));
		mdevice.free_folios = mdevice.free_folios.filter((p) => !mine(p));
		yield* spin_unlock(mdevice.lock);
		yield* dmirror_device_evict_chunk(chunk);
		yield* memunmap_pages(chunk.pagemap);
		if (dmirror_is_private_zone(mdevice))
			release_mem_region(chunk.pagemap.ranges[0]!.start, DEVMEM_CHUNK_SIZE);
	}
	mdevice.devmem_chunks = [];
	yield* mutex_unlock(mdevice.devmem_lock);
}

/** -EPERM: some page of the range is held exclusively. */
function dmirror_check_atomic(self: dmirror, { addr, npages }: hmm_dmirror_cmd): int {
	for (let i = 0n; i < npages; i++)
		if (xa_load(self.pt, (addr >> 12n) + i)?.tag === DPT_XA_TAG_ATOMIC) return -EPERM;
	return 0;
}

function* dmirror_fops_unlocked_ioctl(filp: file, command: int, arg: object): Sim<int> {
	const self = filp.private_data as dmirror;
	const cmd = arg as hmm_dmirror_cmd;
	if (cmd.addr & (PAGE_SIZE - 1n)) return -EINVAL;
	if (cmd.npages === 0n || rangeWraps(cmd)) return -EINVAL;
	cmd.cpages = 0n;
	cmd.faults = 0n;
	switch (command) {
		case HMM_DMIRROR_READ:
			return yield* dmirror_read(self, cmd, false);
		case HMM_DMIRROR_WRITE:
			return yield* dmirror_write(self, cmd);
		case HMM_DMIRROR_MIGRATE_TO_DEV:
			return yield* dmirror_migrate_to_device(self, cmd);
		case HMM_DMIRROR_MIGRATE_TO_SYS:
			return yield* dmirror_migrate_to_system(self, cmd);
		case HMM_DMIRROR_EXCLUSIVE:
			return yield* dmirror_exclusive(self, cmd);
		case HMM_DMIRROR_CHECK_EXCLUSIVE:
			return dmirror_check_atomic(self, cmd);
		case HMM_DMIRROR_SNAPSHOT:
			return yield* dmirror_snapshot(self, cmd);
		case HMM_DMIRROR_RELEASE:
			yield* dmirror_device_remove_chunks(self.mdevice);
			return 0;
		case HMM_DMIRROR_FLAGS:
			if (!feature('test_hmm_large')) return -EINVAL;
			self.flags = cmd.npages;
			return 0;
		case HMM_DMIRROR_READ_UNLOCKED:
			if (!feature('test_hmm_large')) return -EINVAL;
			return yield* dmirror_read(self, cmd, true);
		default:
			return -EINVAL;
	}
}

/** mmap() of the device: pages of its own, in a VM_MIXEDMAP area. */
const dmirror_fops: file_operations = {
	release: dmirror_fops_release,
	unlocked_ioctl: dmirror_fops_unlocked_ioctl,
	*mmap(_filp, vma) {
		for (let addr = vma.vm_start; addr < vma.vm_end; addr += PAGE_SIZE) {
			const p = yield* alloc_page(GFP_KERNEL);
			if (p === null) return -ENOMEM;
			const ret = yield* vm_insert_page(vma, addr, p);
			if (ret) {
				yield* __free_page(p);
				return ret;
			}
			yield* put_page(p);
		}
		return 0;
	},
};
