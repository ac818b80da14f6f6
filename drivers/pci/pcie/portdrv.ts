// SPDX-License-Identifier: GPL-2.0-only
/**
 * The driver of PCI Express ports.
 *
 * Of its services none is modelled. That it is bound counts: binding configures the port's DMA, and
 * with it ACS (v7.3), and the log names the port by its driver.
 */
import type { device_driver } from '../../../include/linux/device.ts';
import { pci_is_pcie, pci_pcie_type } from '../../../include/linux/pci.ts';
import {
	PCI_EXP_TYPE_DOWNSTREAM,
	PCI_EXP_TYPE_ROOT_PORT,
	PCI_EXP_TYPE_UPSTREAM,
} from '../../../include/uapi/linux/pci_regs.ts';
import { attachWithoutProbe } from '../../base/dd.ts';
import { pciBus } from '../search.ts';

/** The driver. */
export const pcie_portdriver: device_driver = Object.freeze({ name: 'pcieport' });

const ports: readonly number[] = [
	PCI_EXP_TYPE_ROOT_PORT,
	PCI_EXP_TYPE_UPSTREAM,
	PCI_EXP_TYPE_DOWNSTREAM,
];

/**
 * Bind it to every root and switch port that has no driver yet.
 *
 * @kernel drivers/pci/pcie/portdrv.c
 */
export function pcie_portdrv_init(): void {
	for (const pdev of pciBus().devices) {
		const port = pci_is_pcie(pdev) && ports.includes(pci_pcie_type(pdev));
		if (port && pdev.dev.driver === null) attachWithoutProbe(pcie_portdriver, pdev.dev);
	}
}
