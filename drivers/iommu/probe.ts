// SPDX-License-Identifier: GPL-2.0-only
/**
 * Attaching devices to the IOMMU, and setting the DMA layer up at boot.
 *
 * Guarantee: after iommu_probe_device() a PCI device's DMA goes through a domain of the type that the
 * machine's firmware and command line chose: strict, lazy, or identity (dma-direct, untranslated).
 * Mechanism: functions whose requests carry the same requester id share a domain: what is behind a
 * bridge to conventional PCI speaks with the bridge's id.
 * @deviates functions that could reach each other below the IOMMU do not share one: no ACS groups
 */
import type { Iommu } from '../../arch/sim/iommu.ts';
import type { Machine } from '../../arch/sim/machine.ts';
import { WARN_ON } from '../../include/linux/bug.ts';
import type { device } from '../../include/linux/device.ts';
import { EINVAL } from '../../include/linux/errno.ts';
import {
	IOMMU_DOMAIN_DMA,
	IOMMU_DOMAIN_DMA_FQ,
	type iommu_domain,
} from '../../include/linux/iommu.ts';
import { memoryMap } from '../../include/linux/mmzone.ts';
import {
	dev_is_pci,
	pci_dev_id,
	pci_domain_nr,
	pci_is_pcie,
	pci_pcie_type,
	to_pci_dev,
} from '../../include/linux/pci.ts';
import { IO_TLB_DEFAULT_NSLABS } from '../../include/linux/swiotlb.ts';
import type { int } from '../../include/linux/types.ts';
import { perWorld, world } from '../../include/sim/world.ts';
import { dmaDebug } from '../../kernel/dma/debug.ts';
import { dmaPages } from '../../kernel/dma/mapping.ts';
import { swiotlbInit } from '../../kernel/dma/swiotlb.ts';
import { __free_pages, alloc_pages } from '../../mm/page_alloc.ts';
import { pciBus } from '../pci/search.ts';
import { drainFlushQueue } from './dma-iommu.ts';
import { hardwareOf, makeHardwareDomain } from './hardware.ts';

/** PCI Express to PCI, and PCI to PCI Express. */
const PCI_EXP_TYPE_PCI_BRIDGE = 7;
const PCI_EXP_TYPE_PCIE_BRIDGE = 8;

/** Base and sub-class of an IOMMU that shows as a function. */
const PCI_CLASS_SYSTEM_IOMMU = 0x0806;

/** Domains of the installed world, by segment and requester id. */
const domains = perWorld(() => new Map<number, iommu_domain>());

/** The machine's IOMMU, or null. */
function machineIommu(): Iommu | null {
	return (world().machine as { iommu?: Iommu | null }).iommu ?? null;
}

/** The requester id that a function's requests have at the root, with the segment above it. */
function requesterKey(dev: device): number {
	const pdev = to_pci_dev(dev);
	let id = pci_dev_id(pdev);
	for (let bridge = pdev.bus.self; bridge !== null; bridge = bridge.bus.self) {
		if (!pci_is_pcie(bridge)) {
			id = pci_dev_id(bridge);
			continue;
		}
		const type = pci_pcie_type(bridge);
		if (type === PCI_EXP_TYPE_PCI_BRIDGE) id = (bridge.subordinate?.number ?? 0) << 8;
		else if (type === PCI_EXP_TYPE_PCIE_BRIDGE) id = pci_dev_id(bridge);
	}
	return pci_domain_nr(pdev.bus) * 65536 + id;
}

/**
 * Configure a device's DMA, and give it its default domain.
 *
 * @param dev - a device that was just added: with or without an IOMMU if the kernel runs already
 * @retval 0 attached, or no IOMMU translates for it
 * @retval -EINVAL it is attached already
 * @kernel drivers/iommu/iommu.c
 */
export function iommu_probe_device(dev: device): int {
	const iommu = machineIommu();
	if (!dev_is_pci(dev)) return 0;
	dev.bus?.dma_configure?.(dev);
	if (iommu === null || iommu.domains === 'identity') return 0;
	// The IOMMU's own function (AMD has one): it does not translate for itself.
	if (to_pci_dev(dev).class >> 8 === PCI_CLASS_SYSTEM_IOMMU) return 0;
	if (WARN_ON(dev.iommu_domain !== null, 'device has a domain')) return -EINVAL;
	const key = requesterKey(dev);
	let domain = domains().get(key);
	if (domain === undefined) {
		const type = iommu.domains === 'dma-fq' ? IOMMU_DOMAIN_DMA_FQ : IOMMU_DOMAIN_DMA;
		domain = makeHardwareDomain(iommu, type);
		domains().set(key, domain);
		iommu.attach(Math.floor(key / 65536), key & 0xffff, hardwareOf(domain).hw);
	}
	domain.devices.push(dev);
	dev.iommu_domain = domain;
	dev.dma_iommu = true;
	return 0;
}

/**
 * Take a device away from its domain.
 *
 * @param dev - a device that is about to be removed
 * @kernel drivers/iommu/iommu.c
 */
export function iommu_release_device(dev: device): void {
	const domain = dev.iommu_domain as iommu_domain | null;
	if (domain === null) return;
	dev.iommu_domain = null;
	dev.dma_iommu = false;
	domain.devices.splice(domain.devices.indexOf(dev), 1);
	if (domain.devices.length > 0) return;
	drainFlushQueue(domain);
	const key = requesterKey(dev);
	domains().delete(key);
	machineIommu()?.attach(Math.floor(key / 65536), key & 0xffff, null);
}

/** Do what the kernel's timer does after 10 ms: flush what every lazy domain has queued. */
export function drainFlushQueues(): void {
	for (const domain of domains().values()) drainFlushQueue(domain);
}

/** Slots of the default pool, 64 MiB, and the smallest pool that is worth having. */
const SLOTS_DEFAULT = IO_TLB_DEFAULT_NSLABS;
const SLOTS_MIN = 512;
const PFN_4G = 0x10_0000;
const PAGES_PER_SET = 64;

/** How the DMA layer is set up: what the command line and the kernel configuration say. */
export interface DmaOptions {
	/**
	 * swiotlb=: `auto` makes a bounce buffer where RAM goes beyond 4 GiB, `noforce` none, `force`
	 * one through which everything goes that dma-direct maps.
	 */
	readonly swiotlb?: 'auto' | 'force' | 'noforce';
	/** The kernel was built with CONFIG_DMA_API_DEBUG: the API answers differently. */
	readonly debug?: boolean;
}

/** Take the bounce buffer's RAM from the top of what lies below 4 GiB. */
function reservePool(force: boolean): void {
	const map = memoryMap();
	const at = map.ranges.findLastIndex((r) => r.pgmap === null && r.start < PFN_4G);
	const range = map.ranges[at];
	if (range === undefined) return;
	const end = Math.min(range.end, PFN_4G);
	const wanted = Math.min(SLOTS_DEFAULT, Math.floor((end - range.start) / 4) * 2);
	const pages = Math.floor(wanted / 2 / PAGES_PER_SET) * PAGES_PER_SET;
	if (pages * 2 < SLOTS_MIN) return;
	const start = end - pages;
	const rest = [{ ...range, end: start }];
	if (end < range.end) rest.push({ ...range, start: end });
	map.ranges.splice(at, 1, ...rest);
	swiotlbInit(BigInt(start) << 12n, pages * 2, force);
}

/**
 * Set the DMA layer up as a command line and a configuration say.
 *
 * @param options - bounce buffer, kernel configuration
 * @context After the memory map is there, and before anything was allocated.
 */
export function dmaSetup(options: DmaOptions): void {
	const { swiotlb = 'auto', debug = false } = options;
	dmaDebug().config = debug;
	const last = memoryMap().ranges.findLast((r) => r.pgmap === null);
	const wanted = swiotlb === 'force' || (swiotlb === 'auto' && (last?.end ?? 0) > PFN_4G);
	if (wanted) reservePool(swiotlb === 'force');
}

/**
 * Boot hook: make the bounce buffer that this machine needs, and attach every PCI device to the
 * IOMMU.
 *
 * @param machine - the machine of the installed world
 * @param options - bounce buffer, kernel configuration
 */
export function dmaInit(machine: Machine, options: DmaOptions = {}): void {
	dmaSetup(options);
	Object.assign(dmaPages(), { alloc: alloc_pages, free: __free_pages });
	if (machine.iommu === null) return;
	for (const pdev of pciBus().devices) iommu_probe_device(pdev.dev);
}
