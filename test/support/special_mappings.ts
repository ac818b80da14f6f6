// SPDX-License-Identifier: GPL-2.0-only
/**
 * A driver whose file maps what is not ordinary memory: PFNs, pages of its own, holes of a device.
 *
 * ```
 *   kind  VMA                      entries                          as a driver would
 *   pf    VM_PFNMAP | VM_IO        special, of its pages            remap_pfn_range() in mmap()
 *   mx    VM_MIXEDMAP              its pages                        vm_insert_page() in mmap()
 *   io    VM_MIXEDMAP | VM_IO      its pages                        the same, of registers
 *   sp    VM_MIXEDMAP              special, without struct page     vmf_insert_mixed()
 *   pe    VM_PFNMAP                none: a touch is a SIGBUS        vmf_insert_pfn(), but it never does
 * ```
 */
import { EINVAL, EIO } from '../../include/linux/errno.ts';
import { file, type file_operations } from '../../include/linux/fs.ts';
import { VM_IO, VM_MIXEDMAP, VM_PFNMAP, vma_pages } from '../../include/linux/mm.ts';
import {
	address_space,
	type page,
	VM_FAULT_NOPAGE,
	type vm_area_struct,
	type vm_operations_struct,
} from '../../include/linux/mm_types.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import { GFP_HIGHUSER_MOVABLE, type int, PAGE_SIZE } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { run } from '../../kernel/sched/core.ts';
import { fput } from '../../mm/file_table.ts';
import { remap_pfn_range, vm_insert_page, vmf_insert_mixed } from '../../mm/memory.ts';
import { alloc_page, pageFrame } from '../../mm/page_alloc.ts';
import { put_page } from '../../mm/swap.ts';

/** Kinds of mapping. */
export const specialKinds = ['pf', 'mx', 'sp', 'io', 'pe'] as const;
/** A kind of mapping. */
export type SpecialKind = (typeof specialKinds)[number];

/** Pages of the driver: a mapping has at most as many. */
export const SPECIAL_PAGES = 64;
/** First PFN of the holes that kind `sp` maps. */
export const SPECIAL_HOLES = 0xfe000n;

/** Nothing to do at a fault: mmap() filled the mapping, or nobody does. */
const special_vm_ops: vm_operations_struct = { name: 'special' };

/** The driver. */
export class SpecialMappings {
	/** Its pages; page i of every mapping is page i of these. */
	readonly pages: page[] = [];
	readonly #files = new Map<SpecialKind, file>();

	constructor() {
		for (let i = 0; i < SPECIAL_PAGES; i++) {
			const p = run(alloc_page(GFP_HIGHUSER_MOVABLE));
			if (p === null) throw new Error('no memory for the driver');
			const { u8 } = pageFrame(p);
			new DataView(u8.buffer, u8.byteOffset).setBigUint64(
				0,
				BigInt(0xcafe0000 + i),
				true,
			);
			this.pages.push(p);
		}
	}

	/**
	 * The file of a kind of mapping; mapped with offset 0 and MAP_SHARED.
	 *
	 * @param kind - the kind
	 */
	file(kind: SpecialKind): file {
		let f = this.#files.get(kind);
		if (f === undefined) {
			const mmap = (_f: file, vma: vm_area_struct) => this.#mmap(kind, vma);
			const f_op: file_operations = { mmap };
			f = new file({ f_mapping: new address_space(), f_op });
			this.#files.set(kind, f);
		}
		return f;
	}

	/** Put files and pages; no mapping is left. */
	close(): void {
		for (const f of this.#files.values()) run(fput(f));
		for (const p of this.pages) run(put_page(p));
	}

	*#mmap(kind: SpecialKind, vma: vm_area_struct): Sim<int> {
		vma.vm_ops = special_vm_ops;
		const n = Number(vma_pages(vma));
		if (n > SPECIAL_PAGES) return -EINVAL;
		if (kind === 'pe') vma.vm_flags |= VM_PFNMAP;
		if (kind === 'sp') vma.vm_flags |= VM_MIXEDMAP;
		if (kind === 'io') vma.vm_flags |= VM_IO;
		if (kind === 'pe') return 0;
		for (let i = 0; i < n; i++) {
			const err = yield* this.#insert(kind, vma, i);
			if (err !== 0) return err;
		}
		return 0;
	}

	*#insert(kind: SpecialKind, vma: vm_area_struct, i: number): Sim<int> {
		const addr = vma.vm_start + BigInt(i) * PAGE_SIZE;
		const p = this.pages[i]!;
		if (kind === 'pf') {
			const pfn = page_to_pfn(p) as bigint;
			return yield* remap_pfn_range(vma, addr, pfn, PAGE_SIZE, vma.vm_page_prot);
		}
		if (kind !== 'sp') return yield* vm_insert_page(vma, addr, p);
		const ret = yield* vmf_insert_mixed(vma, addr, SPECIAL_HOLES + BigInt(i));
		return ret === VM_FAULT_NOPAGE ? 0 : -EIO;
	}
}
