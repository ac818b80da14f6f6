// SPDX-License-Identifier: GPL-2.0-only
/**
 * A machine with two CPUs and RAM and nothing else, and a device with private or coherent memory
 * that holds one 64-bit value a page: all that migration needs.
 */
import type { MachineDescription } from '../../arch/sim/description.ts';
import type { Machine } from '../../arch/sim/machine.ts';
import {
	dev_pagemap,
	type dev_pagemap_ops,
	MEMORY_DEVICE_COHERENT,
	MEMORY_DEVICE_PRIVATE,
} from '../../include/linux/memremap.ts';
import {
	MIGRATE_PFN_MIGRATE,
	MIGRATE_VMA_SELECT_DEVICE_COHERENT,
	MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
	MIGRATE_VMA_SELECT_SYSTEM,
	migrate_pfn,
	migrate_pfn_to_page,
	migrate_vma,
} from '../../include/linux/migrate.ts';
import {
	type mm_struct,
	type page,
	page_folio,
	VM_FAULT_OOM,
	VM_FAULT_SIGBUS,
	type vm_area_struct,
	type vm_fault,
} from '../../include/linux/mm_types.ts';
import { memoryMap, page_to_pfn, pfn_to_page } from '../../include/linux/mmzone.ts';
import { is_zone_device_page } from '../../include/linux/page-flags.ts';
import { pmd_none, type pte_t, type TableEntry } from '../../include/linux/pgtable.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import {
	GFP_HIGHUSER_MOVABLE,
	type int,
	PAGE_SIZE,
	type vm_fault_t,
} from '../../include/linux/types.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';
import { type BootOptions, boot } from '../../init/main.ts';
import { folio_lock, folio_unlock } from '../../mm/filemap.ts';
import { memremap_pages, memunmap_pages, zone_device_page_init } from '../../mm/memremap.ts';
import {
	migrate_device_finalize,
	migrate_device_pages,
	migrate_device_range,
	migrate_vma_finalize,
	migrate_vma_pages,
	migrate_vma_setup,
} from '../../mm/migrate_device.ts';
import { memInit } from '../../mm/mm_init.ts';
import { vma_lookup } from '../../mm/mmap.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import { alloc_page, pageFrame } from '../../mm/page_alloc.ts';
import { pgd_offset, pmd_offset, pte_offset_kernel, pud_offset } from '../../mm/pgtable.ts';
import { put_page } from '../../mm/swap.ts';

const plainMachine: MachineDescription = {
	name: 'plain',
	cpu: { vendor: 'intel', family: 6, model: 85 },
	ram: [{ start: '0x0', size: '0x10000000' }],
	iommu: null,
	crossHostBridge: 'aborts',
	hostBridges: [],
	devices: [],
};

/**
 * Boot the plain machine.
 *
 * @param profile - the release
 * @param options - of boot()
 */
export function bootMm(profile: ProfileName, options: BootOptions = {}): Machine {
	boot(plainMachine, profile, options);
	const machine = world().machine as Machine;
	if (memoryMap().ranges.length === 0) memInit(machine);
	return machine;
}

/** A device with pages of its own. */
export class TestDevice {
	pgmap: dev_pagemap;
	/** PFN of its first page. */
	base: bigint;
	/** Idle pages, next one last. */
	free: page[] = [];
	/** Value in each page, by PFN. */
	memory: Map<bigint, bigint> = new Map();
	/** Calls of migrate_to_ram. */
	faults = 0;
	/** What migrate_to_ram does instead. */
	failure: vm_fault_t = 0;

	/**
	 * @param base - PFN of its first page
	 * @param coherent - the CPU reaches its memory
	 */
	constructor(base = 0x100000n, coherent = false) {
		this.base = base;
		this.pgmap = new dev_pagemap({
			type: coherent ? MEMORY_DEVICE_COHERENT : MEMORY_DEVICE_PRIVATE,
			ops: deviceOps,
			owner: this,
			ranges: [{ start: base << 12n, end: ((base + 512n) << 12n) - 1n }],
			nr_range: 1,
			container: this,
		});
	}

	/** Make its pages. */
	*probe(): Sim<void> {
		yield* memremap_pages(this.pgmap, 0);
		for (let i = 15n; i >= 0n; i--) this.free.push(pfn_to_page(this.base + i));
	}

	/** Take its pages away; all must be idle. */
	*remove(): Sim<void> {
		yield* memunmap_pages(this.pgmap);
	}

	/** A page of its own, locked; null: it is full. */
	*alloc(): Sim<page | null> {
		const p = this.free.pop();
		if (p === undefined) return null;
		yield* zone_device_page_init(p, this.pgmap, 0);
		return p;
	}
}

function deviceOf(p: page): TestDevice {
	return p.pgmap!.container as TestDevice;
}

const deviceOps: dev_pagemap_ops = {
	*folio_free(f) {
		deviceOf(f.page).free.push(f.page);
	},
	*page_free(p) {
		deviceOf(p).free.push(p);
	},
	migrate_to_ram(vmf) {
		return toRam(vmf);
	},
};

/** The value in a page, wherever it is. */
export function valueOf(p: page): bigint {
	if (is_zone_device_page(p)) return deviceOf(p).memory.get(page_to_pfn(p)) ?? 0n;
	return new DataView(pageFrame(p).u8.buffer, pageFrame(p).u8.byteOffset).getBigUint64(
		0,
		true,
	);
}

/**
 * Copy the value of a page.
 *
 * @param to - page
 * @param from - page; null: zero
 */
export function copyValue(to: page, from: page | null): void {
	const value = from === null ? 0n : valueOf(from);
	if (is_zone_device_page(to)) deviceOf(to).memory.set(page_to_pfn(to), value);
	else {
		const { u8 } = pageFrame(to);
		new DataView(u8.buffer, u8.byteOffset).setBigUint64(0, value, true);
	}
}

/** A locked page of system memory. */
export function* lockedRamPage(): Sim<page | null> {
	const p = yield* alloc_page(GFP_HIGHUSER_MOVABLE);
	if (p !== null) yield* folio_lock(page_folio(p));
	return p;
}

/** Give every word that can move a destination with the same value. */
export function* fillDst(
	src: BigUint64Array,
	dst: BigUint64Array,
	n: number,
	alloc: () => Sim<page | null>,
): Sim<void> {
	for (let i = 0; i < n; i++) {
		if (!(src[i]! & MIGRATE_PFN_MIGRATE)) continue;
		const to = yield* alloc();
		if (to === null) continue;
		copyValue(to, migrate_pfn_to_page(src[i]!));
		dst[i] = migrate_pfn(page_to_pfn(to));
	}
}

/**
 * A migration of a range, with words and owner filled in.
 *
 * @param dev - on whose behalf
 * @param vma - the VMA
 * @param start - first address
 * @param end - exclusive
 * @param flags - what is selected
 */
export function migration(
	dev: TestDevice,
	vma: vm_area_struct,
	start: bigint,
	end: bigint,
	flags: bigint = MIGRATE_VMA_SELECT_SYSTEM,
): migrate_vma {
	const n = Number((end - start) >> 12n);
	return new migrate_vma({
		vma,
		start,
		end,
		src: new BigUint64Array(n),
		dst: new BigUint64Array(n).fill(0xdeadn),
		pgmap_owner: dev,
		flags,
	});
}

/**
 * Move a range of a process to a device.
 *
 * @returns pages moved
 */
export function* toDevice(dev: TestDevice, mm: mm_struct, start: bigint, pages: int): Sim<int> {
	yield* mmap_read_lock(mm);
	const vma = vma_lookup(mm, start) as vm_area_struct;
	const args = migration(dev, vma, start, start + BigInt(pages) * PAGE_SIZE);
	let moved = 0;
	if ((yield* migrate_vma_setup(args)) === 0) {
		yield* fillDst(args.src, args.dst, pages, () => dev.alloc());
		yield* migrate_vma_pages(args);
		yield* migrate_vma_finalize(args);
		for (const word of args.src) if (word & MIGRATE_PFN_MIGRATE) moved++;
	}
	yield* mmap_read_unlock(mm);
	return moved;
}

/** The CPU touched a private page. */
function* toRam(vmf: vm_fault): Sim<vm_fault_t> {
	const dev = deviceOf(vmf.page!);
	dev.faults++;
	if (dev.failure) return dev.failure;
	const { address, vma } = vmf;
	const flags = MIGRATE_VMA_SELECT_DEVICE_PRIVATE;
	const args = migration(dev, vma, address, address + PAGE_SIZE, flags);
	args.fault_page = vmf.page;
	if (yield* migrate_vma_setup(args)) return VM_FAULT_SIGBUS;
	if (!(args.src[0]! & MIGRATE_PFN_MIGRATE)) return 0;
	const to = yield* lockedRamPage();
	if (to !== null) {
		copyValue(to, migrate_pfn_to_page(args.src[0]!));
		args.dst[0] = migrate_pfn(page_to_pfn(to));
	}
	yield* migrate_vma_pages(args);
	yield* migrate_vma_finalize(args);
	return to === null ? VM_FAULT_OOM : 0;
}

/**
 * Move all pages of a device to RAM.
 *
 * @param dev - the device
 * @returns pages moved in this round
 */
export function* evict(dev: TestDevice): Sim<int> {
	const src = new BigUint64Array(16);
	const dst = new BigUint64Array(16);
	yield* migrate_device_range(src, dev.base, 16n);
	yield* fillDst(src, dst, 16, lockedRamPage);
	yield* migrate_device_pages(src, dst, 16n);
	yield* migrate_device_finalize(src, dst, 16n);
	return src.reduce((n, word) => (word & MIGRATE_PFN_MIGRATE ? n + 1 : n), 0);
}

/** What selects coherent pages of a device. */
export const SELECT_COHERENT = MIGRATE_VMA_SELECT_DEVICE_COHERENT;

/**
 * The pmd of an address whose upper tables are there.
 *
 * @param task - the process
 * @param addr - the address
 */
export function pmdEntry(task: task_struct, addr: bigint): TableEntry {
	return pmd_offset(pud_offset(pgd_offset(task.mm!, addr), addr), addr);
}

/**
 * The page-table entry of an address.
 *
 * @param task - the process
 * @param addr - the address
 * @returns null where there is no table
 */
export function pteEntry(task: task_struct, addr: bigint): TableEntry | null {
	const pgd = pgd_offset(task.mm!, addr);
	if (pgd.value === 0n || pud_offset(pgd, addr).value === 0n) return null;
	const pmd = pmdEntry(task, addr);
	return pmd_none(pmd.value) ? null : pte_offset_kernel(pmd, addr);
}

/**
 * The word in the page-table entry of an address.
 *
 * @param task - the process
 * @param addr - the address
 * @returns 0 where there is no table
 */
export function pteOf(task: task_struct, addr: bigint): pte_t {
	return pteEntry(task, addr)?.value ?? 0n;
}

/** Unlock and put a page that no migration took. */
export function* dropPage(p: page): Sim<void> {
	yield* folio_unlock(page_folio(p));
	yield* put_page(p);
}

/**
 * The VMA of an address, without any lock.
 *
 * @param task - the process
 * @param addr - the address
 */
export function vmaAt(task: task_struct, addr: bigint): vm_area_struct {
	return task.mm!.vmas.find((vma) => vma.vm_start <= addr && addr < vma.vm_end)!;
}
