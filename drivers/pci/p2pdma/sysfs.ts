// SPDX-License-Identifier: GPL-2.0-only
/**
 * The attributes of /sys/bus/pci/devices/<function>/p2pmem that are read: size, available,
 * published. The fourth, allocate, is mapped (mmap.ts).
 *
 * Each shows what the kernel's file reads as, newline included; a function without registered
 * memory has no such folder, which is null here.
 */
import type { pci_dev } from '../../../include/linux/pci.ts';
import { gen_pool_avail, gen_pool_size } from '../../../kernel/genalloc.ts';
import { p2pdmaOf, type pci_p2pdma } from './objects.ts';

/** The attributes by name. */
const attributes: Readonly<Record<string, (p2pdma: pci_p2pdma) => bigint>> = {
	size: ({ pool }) => (pool === null ? 0n : gen_pool_size(pool)),
	available: ({ pool }) => (pool === null ? 0n : gen_pool_avail(pool)),
	published: ({ p2pmem_published }) => (p2pmem_published ? 1n : 0n),
};

/**
 * Read an attribute.
 *
 * @param pdev - the function
 * @param name - `size`, `available` or `published`
 * @returns its text; null where there is no such file
 */
export function p2pmemAttribute(pdev: pci_dev, name: string): string | null {
	const p2pdma = p2pdmaOf(pdev);
	const show = attributes[name];
	// The folder comes with the pool, not with the providers.
	if (show === undefined || p2pdma === null || p2pdma.pool === null) return null;
	return `${show(p2pdma)}\n`;
}
