// SPDX-License-Identifier: GPL-2.0-only
/**
 * What the GPU driver keeps for one GPU: chunks of device-private memory, the P2P window.
 *
 * ```
 *   VRAM     | chunk 0 | chunk 1 | chunk 2 | ...           chunk: 2 MiB of VRAM
 *   private    pgmap 0   pgmap 1   pgmap 2                 struct pages without a bus address
 *   window   |<- P2PDMA pages of the BAR: the same bytes ->|
 *   alias    window.firstPfn + (VRAM page - window.firstVramPage)
 *   aperture |<- the same of the BAR's provider, without pages ->|   one of the two
 * ```
 */

import type { dev_pagemap, dev_pagemap_ops, range } from '../../../include/linux/memremap.ts';
import type { page } from '../../../include/linux/mm_types.ts';
import type { pci_dev } from '../../../include/linux/pci.ts';
import type { p2pdma_provider } from '../../../include/linux/pci-p2pdma.ts';
import { mutex, spinlock_t } from '../../../include/linux/spinlock.ts';
import type { int, phys_addr_t } from '../../../include/linux/types.ts';
import type { GpuSilicon } from './silicon.ts';

/** Pages of one chunk. */
export const CHUNK_PAGES = 512;

/** A piece of VRAM with device-private struct pages. */
export class GpuChunk {
	readonly gpu: RefGpu;
	readonly pagemap: dev_pagemap;
	/** Physical addresses that no memory is at. */
	readonly region: range;
	readonly firstPfn: number;
	/** First VRAM page. */
	readonly firstVramPage: number;
	readonly pages: int;
	/** Pages in use. */
	callocated: int = 0;
	/** Pages that were ever in use: those below; the others need no looking at. */
	everUsed: int = 0;

	/**
	 * @param gpu - whose
	 * @param pagemap - its pagemap
	 * @param region - its physical addresses
	 * @param firstVramPage - where it is in VRAM
	 * @param pages - pages of VRAM; the region may be longer
	 */
	constructor(
		gpu: RefGpu,
		pagemap: dev_pagemap,
		region: range,
		firstVramPage: number,
		pages: number,
	) {
		this.gpu = gpu;
		this.pagemap = pagemap;
		this.region = region;
		this.firstPfn = Number(region.start >> 12n);
		this.firstVramPage = firstVramPage;
		this.pages = pages;
	}
}

/** P2P pages that show a part of VRAM. */
export class GpuWindow {
	readonly bar: int;
	readonly firstPfn: number;
	readonly firstVramPage: number;
	readonly pages: number;
	/** What pci_alloc_p2pmem() gave: the driver's hold on all of it. */
	readonly reservation: bigint;

	/**
	 * @param bar - BAR
	 * @param firstPfn - PFN of its first page
	 * @param firstVramPage - VRAM page that this shows
	 * @param pages - how many
	 * @param reservation - address from pci_alloc_p2pmem()
	 */
	constructor(
		bar: int,
		firstPfn: number,
		firstVramPage: number,
		pages: number,
		reservation: bigint,
	) {
		this.bar = bar;
		this.firstPfn = firstPfn;
		this.firstVramPage = firstVramPage;
		this.pages = pages;
		this.reservation = reservation;
	}
}

/** Provider memory that shows VRAM from its start: no struct pages. */
export class GpuAperture {
	readonly bar: int;
	readonly provider: p2pdma_provider;
	/** CPU physical address of its first byte. */
	readonly phys: phys_addr_t;
	readonly pages: number;

	/**
	 * @param bar - BAR
	 * @param provider - the BAR's
	 * @param phys - CPU physical address of its first byte
	 * @param pages - how many pages of VRAM it shows
	 */
	constructor(bar: int, provider: p2pdma_provider, phys: phys_addr_t, pages: number) {
		this.bar = bar;
		this.provider = provider;
		this.phys = phys;
		this.pages = pages;
	}
}

/** Counters of one GPU. */
export class GpuCounters {
	/** CPU faults on device-private pages that migrate_to_ram() served. */
	migrateToRam = 0;
	/** Pages moved into VRAM, back by a fault, back by eviction. */
	pagesToVram = 0;
	pagesToRam = 0;
	pagesEvicted = 0;
	/** Calls of device_private_dma_pfn() and device_private_dma_phys(). */
	opCalls = 0;
}

/** One GPU. */
export class RefGpu {
	readonly pdev: pci_dev;
	readonly silicon: GpuSilicon;
	chunks: GpuChunk[] = [];
	/** Device-private pages that were in use and are free again. */
	freePages: page[] = [];
	/** Covers freePages, callocated and everUsed. */
	lock = new spinlock_t('&gpu->dmem.lock');
	/** One migration at a time uses the copy engine; covers chunks, nextVramPage and stopping. */
	engineMutex = new mutex('&gpu->engine');
	window: GpuWindow | null = null;
	aperture: GpuAperture | null = null;
	/** No more pages are handed out. */
	stopping = false;
	nextVramPage = 0;
	readonly vramPages: number;
	counters = new GpuCounters();
	/** Owner of the private pages: this GPU, or what an interconnected group shares. */
	owner: object;
	/** Ops of the chunks' pagemaps. */
	readonly pagemapOps: dev_pagemap_ops;

	/**
	 * @param pdev - its PCI function
	 * @param silicon - its hardware
	 * @param pagemapOps - ops of the chunks' pagemaps
	 */
	constructor(pdev: pci_dev, silicon: GpuSilicon, pagemapOps: dev_pagemap_ops) {
		this.owner = this;
		this.pagemapOps = pagemapOps;
		this.pdev = pdev;
		this.silicon = silicon;
		this.vramPages = Number(silicon.vram.size >> 12n);
	}
}

/**
 * The chunk that a device-private page belongs to.
 *
 * @param p - page of one of this driver's pagemaps
 */
export function chunkOf(p: page): GpuChunk {
	return p.pgmap!.container as GpuChunk;
}

/**
 * Byte of VRAM that a device-private page stands for.
 *
 * @param p - page of one of this driver's pagemaps
 */
export function vramOffset(p: page): bigint {
	const chunk = chunkOf(p);
	return BigInt(chunk.firstVramPage + (p.sec.base + p.idx - chunk.firstPfn)) << 12n;
}
