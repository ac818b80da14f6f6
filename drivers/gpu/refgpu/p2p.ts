// SPDX-License-Identifier: GPL-2.0-only
/**
 * The part of VRAM that the BAR shows, and the ops that lead there: a window of struct pages, or an
 * aperture without them.
 *
 * Guarantee: a device-private page and its alias are the same bytes; the alias of page n is a pure
 * function of n as long as the window stands; pages of VRAM that the BAR does not show have none.
 * Duty: window or aperture is made before the first private page is handed out and goes after the
 * last one.
 */
import { ENODEV, ENOMEM, EOPNOTSUPP } from '../../../include/linux/errno.ts';
import { IORESOURCE_MEM, IORESOURCE_PREFETCH } from '../../../include/linux/ioport.ts';
import type { page } from '../../../include/linux/mm_types.ts';
import { type pci_dev, pci_resource_n, pci_resource_start } from '../../../include/linux/pci.ts';
import type { p2pdma_provider } from '../../../include/linux/pci-p2pdma.ts';
import {
	type int,
	type out,
	PAGE_SHIFT,
	PMD_SIZE,
	type phys_addr_t,
	type unsigned_long,
} from '../../../include/linux/types.ts';
import { shouldFail } from '../../../include/sim/fault_injection.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { devres_release_all } from '../../base/devres.ts';
import { pci_p2pdma_add_resource } from '../../pci/p2pdma/memory.ts';
import { pci_alloc_p2pmem, pci_free_p2pmem } from '../../pci/p2pdma/p2pmem.ts';
import { pcim_p2pdma_init, pcim_p2pdma_provider } from '../../pci/p2pdma/provider.ts';
import { chunkOf, GpuAperture, GpuWindow, type RefGpu, vramOffset } from './gpu.ts';

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
 * Show as much of VRAM as the BAR does, without struct pages. The BAR's provider goes when the
 * driver is unbound.
 *
 * @param gpu - the GPU
 * @param bar - the BAR that shows VRAM
 * @param size - bytes to show, from the start of VRAM
 * @retval 0 the aperture stands
 * @returns an errno otherwise: the GPU works without, its pages are reached by nobody else
 */
export function* addAperture(gpu: RefGpu, bar: int, size: bigint): Sim<int> {
	const { pdev } = gpu;
	if (shouldFail('addAperture:aperture')) return -ENOMEM;
	const ret = yield* pcim_p2pdma_init(pdev);
	if (ret) return ret;
	const provider = pcim_p2pdma_provider(pdev, bar);
	if (provider === null) return -EOPNOTSUPP;
	const pages = Number(size >> PAGE_SHIFT);
	gpu.aperture = new GpuAperture(bar, provider, pci_resource_start(pdev, bar), pages);
	return 0;
}

/**
 * Give window and aperture back. No private page is mapped anywhere any more.
 *
 * @param gpu - the GPU
 */
export function removeWindow(gpu: RefGpu): void {
	const { window } = gpu;
	gpu.aperture = null;
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

/**
 * The GPU driver's answer without P2P pages: where the bytes of a private page are in its BAR.
 *
 * @param p - device-private page; as for devicePrivateDmaPfn()
 * @param provider - out: the BAR's provider
 * @param phys - out: CPU physical address of the page's bytes
 * @retval 0 both are set
 * @retval -EOPNOTSUPP there is no aperture, or it does not show this page
 * @context Atomic, no lock.
 * @proposed Documentation/proposals/device-private-dma-phys.md
 */
export function devicePrivateDmaPhys(
	p: page,
	provider: out<p2pdma_provider | null>,
	phys: out<phys_addr_t>,
): int {
	const { gpu } = chunkOf(p);
	const { aperture } = gpu;

	gpu.counters.opCalls++;
	if (aperture === null) return -EOPNOTSUPP;
	const offset = vramOffset(p);
	if (offset >> PAGE_SHIFT >= BigInt(aperture.pages)) return -EOPNOTSUPP;
	provider.value = aperture.provider;
	phys.value = (aperture.phys as bigint) + offset;
	return 0;
}
