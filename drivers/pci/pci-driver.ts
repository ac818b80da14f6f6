// SPDX-License-Identifier: GPL-2.0-only
/** What the PCI bus does for the driver core. */
import type { device } from '../../include/linux/device.ts';
import { to_pci_dev } from '../../include/linux/pci.ts';
import type { int } from '../../include/linux/types.ts';
import { feature } from '../../include/sim/world.ts';
import { pci_enable_acs } from './acs.ts';

/**
 * Set a function's DMA up. It is called when an IOMMU is looked for and again when a driver is
 * bound, so that a command line which sets ACS bits finds its own work the second time.
 *
 * @param dev - a PCI device
 * @retval 0 done
 * @kernel drivers/pci/pci-driver.c
 */
export function pci_dma_configure(dev: device): int {
	if (feature('pci_acs_at_dma_configure')) pci_enable_acs(to_pci_dev(dev));
	return 0;
}
