// SPDX-License-Identifier: GPL-2.0-only
/** How a driver's sysfs or configfs attribute names the P2P memory to use: no, any, or a function. */
import { dev_err } from '../../../include/linux/device.ts';
import { ENODEV } from '../../../include/linux/errno.ts';
import { type pci_dev, pci_name } from '../../../include/linux/pci.ts';
import { pr_err } from '../../../include/linux/printk.ts';
import type { bool, int, out, ssize_t } from '../../../include/linux/types.ts';
import { pci_dev_put, pciBus } from '../search.ts';
import { pci_has_p2pmem } from './find.ts';

/** iscntrl(), which is also true of the end of the string. */
function isControl(code: number): bool {
	return !(code >= 0x20) || code === 0x7f;
}

/** What kstrtobool() understands; null: nothing. Only the start of the word is looked at. */
function parseBool(word: string): bool | null {
	if (/^(?:[yt1]|on)/i.test(word)) return true;
	if (/^(?:[nf0]|of)/i.test(word)) return false;
	return null;
}

/**
 * Read the attribute.
 *
 * @param page - what was written: a boolean, or the name of a function
 * @param p2p_dev - out: the function, with a reference; left alone for a boolean
 * @param use_p2pdma - out: whether to use P2P memory
 * @retval 0 understood
 * @retval -ENODEV no such function, it has not published any memory, or the word makes no sense
 * @kernel drivers/pci/p2pdma.c
 */
export function pci_p2pdma_enable_store(
	page: string,
	p2p_dev: out<pci_dev | null>,
	use_p2pdma: out<bool>,
): int {
	const word = page.replace(/\n$/, '');
	const pdev = pciBus().byName.get(word) ?? null;
	if (pdev !== null) {
		use_p2pdma.value = true;
		p2p_dev.value = pdev;
		if (pci_has_p2pmem(pdev)) return 0;
		dev_err(pdev.dev, `PCI device has no peer-to-peer memory: ${page}`);
		pci_dev_put(pdev);
		return -ENODEV;
	}
	// "0000:02:00.0" of a function that is not there is no boolean.
	const looksLikeName = /^[01]/.test(page) && !isControl(page.charCodeAt(1));
	if (!looksLikeName) {
		const value = parseBool(page);
		if (value !== null) {
			use_p2pdma.value = value;
			return 0;
		}
	}
	pr_err(`No such PCI device: ${page.split('\n')[0]}`);
	return -ENODEV;
}

/**
 * Show the attribute.
 *
 * @param page - out: `0`, `1` or the name of the function, and a newline
 * @param p2p_dev - the function that was named, or null
 * @param use_p2pdma - whether P2P memory is used
 * @returns bytes
 * @kernel drivers/pci/p2pdma.c
 */
export function pci_p2pdma_enable_show(
	page: out<string>,
	p2p_dev: pci_dev | null,
	use_p2pdma: bool,
): ssize_t {
	if (!use_p2pdma) page.value = '0\n';
	else page.value = p2p_dev === null ? '1\n' : `${pci_name(p2p_dev)}\n`;
	return BigInt(page.value.length);
}
