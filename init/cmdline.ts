// SPDX-License-Identifier: GPL-2.0-only
/**
 * The kernel's command line, as far as something in the model reads it.
 *
 * | word | who |
 * | --- | --- |
 * | `pci=…` | pci_setup(); several words add up |
 * | `swiotlb=[slots][,areas][,force\|noforce]` | the bounce buffer; its size is the model's own |
 *
 * Other words are left alone, as the kernel leaves them to init. Which IOMMU there is and how its
 * domains are flushed (`intel_iommu=`, `iommu=`) belongs to the machine's description.
 */
import type { DmaOptions } from '../drivers/iommu/probe.ts';
import { pci_setup } from '../drivers/pci/pci.ts';

/** Whether `swiotlb=` asks for bouncing always or never; how large the buffer is does not matter here. */
function setup_io_tlb_npages(str: string): 'force' | 'noforce' | null {
	const how = str.replace(/^\d*(,\d*)?,?/, '');
	if (how.startsWith('force')) return 'force';
	return how.startsWith('noforce') ? 'noforce' : null;
}

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
		else if (word.startsWith('swiotlb=')) {
			const swiotlb = setup_io_tlb_npages(word.slice('swiotlb='.length));
			if (swiotlb !== null) options = { ...options, swiotlb };
		}
	}
	return options;
}
