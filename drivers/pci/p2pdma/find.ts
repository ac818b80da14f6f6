// SPDX-License-Identifier: GPL-2.0-only
/** Published memory, and the nearest of it. */
import type { device } from '../../../include/linux/device.ts';
import { PCI_ANY_ID, type pci_dev } from '../../../include/linux/pci.ts';
import { get_random_u32_below } from '../../../include/linux/random.ts';
import { type bool, type int, PAGE_SIZE } from '../../../include/linux/types.ts';
import { shouldFail } from '../../../include/sim/fault_injection.ts';
import { pci_dev_get, pci_get_device } from '../search.ts';
import { pci_p2pdma_distance_many } from './distance.ts';
import { p2pdmaOf } from './objects.ts';

/** Equally near providers among which one is drawn: a page full of pointers. */
const MAX_CLOSEST = Number(PAGE_SIZE) / 8;

/**
 * Whether a function published its memory.
 *
 * @param pdev - the function
 * @kernel drivers/pci/p2pdma.c
 */
export function pci_has_p2pmem(pdev: pci_dev): bool {
	return p2pdmaOf(pdev)?.p2pmem_published ?? false;
}

/**
 * Offer a function's memory to all, or take the offer back.
 *
 * @param pdev - the function; without struct pci_p2pdma nothing happens. A pool is not needed.
 * @param publish - offer it
 * @kernel drivers/pci/p2pdma.c
 */
export function pci_p2pmem_publish(pdev: pci_dev, publish: bool): void {
	const p2pdma = p2pdmaOf(pdev);
	if (p2pdma !== null) p2pdma.p2pmem_published = publish;
}

/**
 * A published provider nearest to all of the clients together, drawn at random among equals.
 *
 * @param clients - devices that access the memory
 * @param num_clients - how many of them
 * @returns null when none can be reached by all, or without memory for the search
 * @kernel drivers/pci/p2pdma.c
 */
export function pci_p2pmem_find_many(clients: readonly device[], num_clients: int): pci_dev | null {
	if (shouldFail('kmalloc')) return null;
	let closest_distance = Number.POSITIVE_INFINITY;
	const closest_pdevs: pci_dev[] = [];
	let pdev = pci_get_device(PCI_ANY_ID, PCI_ANY_ID, null);
	for (; pdev !== null; pdev = pci_get_device(PCI_ANY_ID, PCI_ANY_ID, pdev)) {
		if (!pci_has_p2pmem(pdev)) continue;
		const distance = pci_p2pdma_distance_many(pdev, clients, num_clients, false);
		if (distance < 0 || distance > closest_distance) continue;
		if (distance === closest_distance && closest_pdevs.length >= MAX_CLOSEST) continue;
		if (distance < closest_distance) closest_pdevs.length = 0;
		closest_distance = distance;
		closest_pdevs.push(pdev);
	}
	if (closest_pdevs.length === 0) return null;
	return pci_dev_get(closest_pdevs[get_random_u32_below(closest_pdevs.length)]!);
}

/**
 * A published provider nearest to a client.
 *
 * @param client - who accesses the memory
 * @returns null when none can be reached
 * @kernel include/linux/pci-p2pdma.h
 */
export function pci_p2pmem_find(client: device): pci_dev | null {
	return pci_p2pmem_find_many([client], 1);
}
