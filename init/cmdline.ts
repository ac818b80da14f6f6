// SPDX-License-Identifier: GPL-2.0-only
/**
 * The kernel's command line, as far as something in the model reads it.
 *
 * | word | who |
 * | --- | --- |
 * | `pci=…` | pci_setup(); several words add up |
 * | `swiotlb=force`, `swiotlb=noforce` | the bounce buffer |
 *
 * Other words are left alone, as the kernel leaves them to init. Which IOMMU there is and how its
 * domains are flushed (`intel_iommu=`, `iommu=`) belongs to the machine's description.
 */
import type { DmaOptions } from '../drivers/iommu/probe.ts';
import { pci_setup } from '../drivers/pci/pci.ts';

/**
 * Hand the words to those who read them; it is the first thing that boot does.
 *
 * @param text - words, separated by blanks
 * @returns how the DMA layer is set up
 */
export function parseCommandLine(text: string): DmaOptions {
	let options: DmaOptions = {};
	for (const word of text.split(/\s+/)) {
		if (word.startsWith('pci=')) pci_setup(word.slice('pci='.length));
		else if (word === 'swiotlb=force') options = { ...options, swiotlb: 'force' };
		else if (word === 'swiotlb=noforce') options = { ...options, swiotlb: 'noforce' };
	}
	return options;
}
