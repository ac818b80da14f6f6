// SPDX-License-Identifier: GPL-2.0-only
/**
 * The two devices' P2P windows, and the op that leads from a private page to its alias.
 *
 * ```
 *   device memory, chunk by chunk   |  chunk 0, 256 MiB  |  chunk 1  | …
 *   window, 1 GiB                   |  alias = first + n             |  mode 1
 *                                   |             alias = last - n   |  mode 2
 * ```
 */

import { devres_release_all } from '../../../drivers/base/devres.ts';
import { pci_p2pdma_add_resource } from '../../../drivers/pci/p2pdma/memory.ts';
import { to_p2p_pgmap } from '../../../drivers/pci/p2pdma/objects.ts';
import { pci_alloc_p2pmem, pci_free_p2pmem } from '../../../drivers/pci/p2pdma/p2pmem.ts';
import { EIO, EOPNOTSUPP } from '../../../include/linux/errno.ts';
import type { dev_pagemap_ops } from '../../../include/linux/memremap.ts';
import type { page } from '../../../include/linux/mm_types.ts';
import { page_to_pfn, pfn_to_page } from '../../../include/linux/mmzone.ts';
import { folio_nr_pages, page_pgmap } from '../../../include/linux/page-flags.ts';
import { type pci_dev, pci_resource_start } from '../../../include/linux/pci.ts';
import type { int, out, unsigned_long } from '../../../include/linux/types.ts';
import { run } from '../../../kernel/sched/core.ts';
import {
	DEVMEM_CHUNK_SIZE,
	type dmirror_device,
	dmirror_page_to_chunk,
} from '../../../lib/test_hmm/device.ts';
import { zero_pfn } from '../../../mm/memory.ts';

const BAR = 2;
const WINDOW_SIZE = 1n << 30n;
const CHUNK_PAGES = DEVMEM_CHUNK_SIZE >> 12n;

/** How the op answers. */
export const opAbsent = 0;
export const opOn = 1;
const opDescending = 2;
const opError = 3;
/** With a page that is not P2P. */
export const opNotP2p = 4;
const opPositive = 5;

/** One device's window. */
export class AliasWindow {
	readonly pdev: pci_dev;
	readonly mdevice: dmirror_device;
	private readonly first: bigint;
	private readonly reservation: unsigned_long;
	/** Private pages without an alias. */
	private readonly without = new Set<page>();
	private mode = opAbsent;
	/** Calls of the op. */
	calls = 0;

	/**
	 * @param mdevice - whose memory it shows
	 * @param pdev - whose BAR it is
	 */
	constructor(mdevice: dmirror_device, pdev: pci_dev) {
		this.mdevice = mdevice;
		this.pdev = pdev;
		const ret = run(() => pci_p2pdma_add_resource(pdev, BAR, WINDOW_SIZE, 0n));
		if (ret) throw new Error(`window: ${ret}`);
		const reservation = pci_alloc_p2pmem(pdev, WINDOW_SIZE);
		if (reservation === null) throw new Error('window: cannot be reserved');
		this.reservation = reservation;
		this.first = (pci_resource_start(pdev, BAR) as bigint) >> 12n;
		this.forgetFreedPages(mdevice.ops);
		this.setMode(opOn);
	}

	/** A page that is freed has an alias again. */
	private forgetFreedPages(ops: dev_pagemap_ops): void {
		const free = ops.folio_free!;
		ops.folio_free = (f) => {
			for (let i = 0; i < folio_nr_pages(f); i++)
				this.without.delete(
					pfn_to_page((page_to_pfn(f.page) as bigint) + BigInt(i)),
				);
			return free(f);
		};
	}

	/** How the op answers from now on. */
	setMode(mode: int): void {
		const { ops } = this.mdevice;
		this.mode = mode;
		if (mode === opAbsent) delete ops.device_private_dma_pfn;
		else ops.device_private_dma_pfn = (p, pfn) => this.answer(p, pfn);
	}

	/** Say whether a private page has an alias. */
	setAlias(p: page, has: boolean): void {
		if (has) this.without.delete(p);
		else this.without.add(p);
	}

	/** The alias of a page, whatever the op says. */
	aliasOf(p: page): bigint {
		const chunk = dmirror_page_to_chunk(p);
		const nth = BigInt(this.mdevice.devmem_chunks.indexOf(chunk));
		const at = nth * CHUNK_PAGES + (page_to_pfn(p) as bigint) - BigInt(chunk.firstPfn);
		const last = this.first + (WINDOW_SIZE >> 12n) - 1n;
		return this.mode === opDescending ? last - at : this.first + at;
	}

	private answer(p: page, pfn: out<unsigned_long>): int {
		this.calls++;
		if (this.mode === opError) return -EIO;
		if (this.without.has(p)) return -EOPNOTSUPP;
		pfn.value = this.mode === opNotP2p ? zero_pfn : this.aliasOf(p);
		return this.mode === opPositive ? 1 : 0;
	}

	/** Whether a page lies in it. */
	holds(p: page): boolean {
		return to_p2p_pgmap(page_pgmap(p)).mem.owner === this.pdev.dev;
	}

	/** Take it down. */
	close(): void {
		pci_free_p2pmem(this.pdev, this.reservation, WINDOW_SIZE);
		run(() => devres_release_all(this.pdev.dev));
	}
}
