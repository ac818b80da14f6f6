// SPDX-License-Identifier: GPL-2.0-only
/**
 * The P2P window: struct pages over the BAR that show VRAM, and the op that leads to them.
 *
 * Guarantee: a device-private page and its alias are the same bytes; the alias of page n is a pure
 * function of n as long as the window stands; pages of VRAM that the BAR does not show have none.
 * Duty: the window is made before the first private page is handed out and goes after the last one.
 */
import { ENODEV, ENOMEM, EOPNOTSUPP } from '../../../include/linux/errno.ts';
import { IORESOURCE_MEM, IORESOURCE_PREFETCH } from '../../../include/linux/ioport.ts';
import type { page } from '../../../include/linux/mm_types.ts';
import { type pci_dev, pci_resource_n, pci_resource_start } from '../../../include/linux/pci.ts';
import { type int, type out, PMD_SIZE, type unsigned_long } from '../../../include/linux/types.ts';
import { shouldFail } from '../../../include/sim/fault_injection.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { devres_release_all } from '../../base/devres.ts';
import { pci_p2pdma_add_resource } from '../../pci/p2pdma/memory.ts';
import { pci_alloc_p2pmem, pci_free_p2pmem } from '../../pci/p2pdma/p2pmem.ts';
import { chunkOf, GpuWindow, type RefGpu, vramOffset } from './gpu.ts';

/**
 * The BAR that shows VRAM: the largest memory BAR; prefetchable ones count twice their size.
 *
 * @param pdev - PCI function
 * @returns its number, -ENODEV if there is none
 */
export function vramBar(pdev: pci_dev): int {
	let best = -ENODEV;
	let bestSize = 0n;
	for (let bar = 0; bar < 6; bar++) {
		const { start, end, flags } = pci_resource_n(pdev, bar);
		if (!(flags & IORESOURCE_MEM)) continue;
		const size = (end as bigint) - start + 1n;
		const rank = flags & IORESOURCE_PREFETCH ? size * 2n : size;
		if (rank > bestSize) {
			best = bar;
			bestSize = rank;
		}
	}
	return best;
}

/**
 * Make P2P pages over as much of VRAM as the BAR shows, and hold all of them.
 *
 * @param gpu - the GPU
 * @param bar - the BAR that shows VRAM
 * @param size - bytes to show, from the start of VRAM
 * @retval 0 the window stands
 * @returns an errno otherwise: the GPU works without a window, its pages have no alias
 */
export function* addWindow(gpu: RefGpu, bar: int, size: bigint): Sim<int> {
	const { pdev } = gpu;
	// struct pages come in units of 2 MiB.
	const bytes = size & ~(PMD_SIZE - 1n);
	if (bytes === 0n) return -EOPNOTSUPP;
	if (shouldFail('addWindow:window')) return -ENOMEM;
	const ret = yield* pci_p2pdma_add_resource(pdev, bar, bytes, 0n);
	if (ret) return ret;

	// All of it is the driver's: nothing may be handed out to user space by sysfs.
	const reservation = pci_alloc_p2pmem(pdev, bytes);
	if (reservation === null) {
		// Published but not reserved, VRAM in use could be allocated by anybody: take it back.
		yield* devres_release_all(pdev.dev);
		return -EOPNOTSUPP;
	}
	const firstPfn = Number((pci_resource_start(pdev, bar) as bigint) >> 12n);
	gpu.window = new GpuWindow(bar, firstPfn, 0, Number(bytes >> 12n), reservation);
	return 0;
}

/**
 * Give the window back. No private page is mapped anywhere any more.
 *
 * @param gpu - the GPU
 */
export function removeWindow(gpu: RefGpu): void {
	const { window } = gpu;
	if (window === null) return;
	gpu.window = null;
	pci_free_p2pmem(gpu.pdev, window.reservation, BigInt(window.pages) << 12n);
}

/**
 * The GPU driver's answer: which page of its P2P window holds the bytes of a private page.
 *
 * @param p - device-private page; may be freed or handed out anew meanwhile, so only what lives as
 *   long as the pagemap is read
 * @param pfn - out: PFN of the alias
 * @retval 0 `pfn` is set
 * @retval -EOPNOTSUPP there is no window, or it does not show this page
 * @context Atomic, no lock.
 * @proposed Documentation/proposals/device-private-dma-pfn.md
 */
export function devicePrivateDmaPfn(p: page, pfn: out<unsigned_long>): int {
	const { gpu } = chunkOf(p);
	const { window } = gpu;

	gpu.counters.opCalls++;
	if (window === null) return -EOPNOTSUPP;
	const at = Number(vramOffset(p) >> 12n) - window.firstVramPage;
	if (at < 0 || at >= window.pages) return -EOPNOTSUPP;
	pfn.value = BigInt(window.firstPfn + at);
	return 0;
}
