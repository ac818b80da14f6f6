// SPDX-License-Identifier: GPL-2.0-only
/**
 * Driver of the reference GPU: probe and remove.
 *
 * It knows user memory through mm/ and its own PCI function; it has never heard of a NIC.
 *
 * ```
 *   probe    VRAM behind the BAR -> P2P window or aperture -> (chunks on demand)
 *   remove   stop -> evict every chunk -> private pagemaps -> window -> pagemap of the window
 * ```
 */
import type { Machine } from '../../../arch/sim/machine.ts';
import { DMA_BIT_MASK } from '../../../include/linux/dma-mapping.ts';
import { IS_ERR } from '../../../include/linux/err.ts';
import { EBUSY, ENOMEM } from '../../../include/linux/errno.ts';
import type { dev_pagemap_ops } from '../../../include/linux/memremap.ts';
import { type pci_dev, pci_name, pci_resource_len } from '../../../include/linux/pci.ts';
import type { errno, int } from '../../../include/linux/types.ts';
import { shouldFail } from '../../../include/sim/fault_injection.ts';
import { HarnessError } from '../../../include/sim/report.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { feature, world } from '../../../include/sim/world.ts';
import { dma_set_mask_and_coherent } from '../../../kernel/dma/mapping.ts';
import { mutex_lock, mutex_unlock } from '../../../kernel/locking/mutex.ts';
import { devres_release_all } from '../../base/devres.ts';
import { freeFolio, freePage, removeChunks } from './dmem.ts';
import { RefGpu } from './gpu.ts';
import { evictChunk, migrateToRam } from './migrate.ts';
import {
	addAperture,
	addWindow,
	devicePrivateDmaPfn,
	devicePrivateDmaPhys,
	removeWindow,
	vramBar,
} from './p2p.ts';
import { GpuSilicon } from './silicon.ts';

/** Ops of the private pagemaps; each release calls those that it knows. */
const pagemapOps: dev_pagemap_ops = Object.freeze({
	folio_free: freeFolio,
	page_free: freePage,
	migrate_to_ram: migrateToRam,
});

/** The same with the proposed op. */
const pagemapOpsP2p: dev_pagemap_ops = Object.freeze({
	...pagemapOps,
	device_private_dma_pfn: devicePrivateDmaPfn,
});

/** The same for memory without P2P pages. */
const pagemapOpsProvider: dev_pagemap_ops = Object.freeze({
	...pagemapOps,
	device_private_dma_phys: devicePrivateDmaPhys,
});

/** How a GPU is set up. */
export interface GpuOptions {
	/** Bytes of VRAM; default: what the BAR shows, and at least 16 MiB. */
	readonly vramSize?: bigint;
	/** Bytes that the P2P window or aperture shows; 0: neither. Default: all that BAR and VRAM have. */
	readonly windowSize?: bigint;
	/** The BAR shows VRAM without struct pages. Default: where the kernel can have it so. */
	readonly providerOnly?: boolean;
	/** Owner of its private pages: that of its interconnect group. Default: nobody shares it. */
	readonly owner?: object;
}

/** Ops of the private pagemaps of a GPU. */
function opsOf(providerOnly: boolean): dev_pagemap_ops {
	if (!feature('p2p_op_dma_dev')) return pagemapOps;
	return providerOnly ? pagemapOpsProvider : pagemapOpsP2p;
}

/** VRAM of a GPU whose BAR shows less, or nothing. */
const LEAST_VRAM = 16n << 20n;

/** What the hardware does by itself: its BAR shows its memory. */
function showVram(pdev: pci_dev, bar: int, silicon: GpuSilicon): void {
	const fn = (world().machine as Machine).function(pci_name(pdev));
	const register = fn?.bars.find(({ index }) => index === bar);
	if (register === undefined)
		throw new HarnessError(
			'refgpuProbe()',
			`${pci_name(pdev)} is not a function of the machine`,
		);
	register.backing = { store: silicon.vram, offset: 0n };
}

/**
 * Bind the driver to a GPU.
 *
 * @param pdev - its PCI function
 * @param options - sizes
 * @retval -EIO the platform serves no mask that the GPU has; nothing is bound
 * @retval -ENOMEM no memory; nothing is bound
 */
export function* tryRefgpuProbe(pdev: pci_dev, options: GpuOptions = {}): Sim<RefGpu | errno> {
	const err = dma_set_mask_and_coherent(pdev.dev, DMA_BIT_MASK(64));
	if (err) return err;
	if (shouldFail('refgpuProbe:gpu')) return -ENOMEM;
	const bar = vramBar(pdev);
	const barSize = bar < 0 ? 0n : pci_resource_len(pdev, bar);
	const vramSize = options.vramSize ?? (barSize > LEAST_VRAM ? barSize : LEAST_VRAM);
	const silicon = new GpuSilicon(pci_name(pdev), vramSize);
	if (bar >= 0) showVram(pdev, bar, silicon);

	const providerOnly = options.providerOnly ?? feature('p2p_provider_only');
	const gpu = new RefGpu(pdev, silicon, opsOf(providerOnly));
	if (options.owner !== undefined) gpu.owner = options.owner;
	const shown = vramSize < barSize ? vramSize : barSize;
	const windowSize = options.windowSize ?? shown;
	// Without a window every page is still usable by this GPU; it just has no alias.
	const show = providerOnly ? addAperture : addWindow;
	if (windowSize > 0n) yield* show(gpu, bar, windowSize < shown ? windowSize : shown);
	pdev.dev.driver_data = gpu;
	return gpu;
}

/**
 * Bind the driver to a GPU that can be bound: for the set-up of a test or tool.
 *
 * @param pdev - its PCI function
 * @param options - sizes
 * @throws HarnessError the probe failed
 */
export function* refgpuProbe(pdev: pci_dev, options: GpuOptions = {}): Sim<RefGpu> {
	const gpu = yield* tryRefgpuProbe(pdev, options);
	if (IS_ERR(gpu))
		throw new HarnessError(
			'refgpuProbe()',
			`${pci_name(pdev)} cannot be bound: ${gpu}`,
		);
	return gpu;
}

/**
 * Unbind the driver: every page goes back to system memory first.
 *
 * @param gpu - the GPU
 * @retval 0 unbound
 * @retval -EBUSY pages are still held; the GPU stays bound, and hands out no new pages
 * @context Process context; sleeps. One caller at a time, as the driver core has it.
 */
export function* refgpuRemove(gpu: RefGpu): Sim<int> {
	// Under the mutex that allocation holds: no page, and no chunk, comes after this.
	yield* mutex_lock(gpu.engineMutex);
	gpu.stopping = true;
	yield* mutex_unlock(gpu.engineMutex);
	// A list that does not change any more.
	for (const chunk of gpu.chunks) if (yield* evictChunk(chunk)) return -EBUSY;
	yield* removeChunks(gpu);
	// Only now: until the last private page was gone, somebody may have held an alias.
	removeWindow(gpu);
	yield* devres_release_all(gpu.pdev.dev);
	gpu.pdev.dev.driver_data = null;
	return 0;
}
