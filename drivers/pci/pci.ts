// SPDX-License-Identifier: GPL-2.0-only
/** Capabilities of a function, and the `pci=` words of the kernel's command line. */
import { dev_is_pci, type pci_dev, pci_is_pcie } from '../../include/linux/pci.ts';
import { printk } from '../../include/linux/printk.ts';
import { type bool, type int, outParam, type u8, type u16 } from '../../include/linux/types.ts';
import { perWorld } from '../../include/sim/world.ts';
import {
	PCI_CAP_LIST_NEXT,
	PCI_CAPABILITY_LIST,
	PCI_CFG_SPACE_SIZE,
	PCI_STATUS,
	PCI_STATUS_CAP_LIST,
} from '../../include/uapi/linux/pci_regs.ts';
import { pci_read_config_byte, pci_read_config_dword, pci_read_config_word } from './access.ts';

/** Capabilities that a list can hold: a longer one has a loop. */
const PCI_FIND_CAP_TTL = 48;
/** Extended capabilities that a list can hold: a longer one has a loop. */
const PCI_FIND_EXT_CAP_TTL = (4096 - 256) / 8;

/** What the `pci=` words ask for. */
export class PciOptions {
	/** disable_acs_redir=: functions whose redirect bits are cleared. */
	disable_acs_redir: string | null = null;
	/** config_acs=: bits that are set and cleared, and in which functions. */
	config_acs: string | null = null;
	/** noats: no address translation services, so translated requests are blocked. */
	noats: bool = false;
}

/** The `pci=` words of the installed world. */
export const pciOptions = perWorld(() => new PciOptions());

/**
 * Read what follows `pci=` on the kernel's command line.
 *
 * @param str - options, separated by commas
 * @retval 0 always: an unknown option is said in the log
 * @kernel drivers/pci/pci.c
 */
export function pci_setup(str: string): int {
	const options = pciOptions();
	for (const option of str.split(',')) {
		if (option.startsWith('disable_acs_redir='))
			options.disable_acs_redir = option.slice('disable_acs_redir='.length);
		else if (option.startsWith('config_acs='))
			options.config_acs = option.slice('config_acs='.length);
		else if (option === 'noats') options.noats = true;
		else if (option !== '') printk(`PCI: Unknown option \`${option}'`);
	}
	return 0;
}

/**
 * Whether the command line forbids address translation services.
 *
 * @kernel include/linux/pci.h
 */
export function pci_ats_disabled(): bool {
	return pciOptions().noats;
}

/**
 * Find a capability.
 *
 * @param dev - the function
 * @param cap - PCI_CAP_ID_*
 * @returns its offset; 0 if there is none
 * @kernel drivers/pci/pci.c
 */
export function pci_find_capability(dev: pci_dev, cap: int): u8 {
	const value = outParam(0);
	pci_read_config_word(dev, PCI_STATUS, value);
	if ((value.value & PCI_STATUS_CAP_LIST) === 0) return 0;
	pci_read_config_byte(dev, PCI_CAPABILITY_LIST, value);
	for (let ttl = PCI_FIND_CAP_TTL; ttl > 0 && value.value >= 0x40; ttl--) {
		const pos = value.value & ~3;
		pci_read_config_byte(dev, pos, value);
		if (value.value === 0xff) return 0;
		if (value.value === cap) return pos;
		pci_read_config_byte(dev, pos + PCI_CAP_LIST_NEXT, value);
	}
	return 0;
}

/**
 * Find an extended capability.
 *
 * @param dev - the function; conventional functions have none
 * @param cap - PCI_EXT_CAP_ID_*
 * @returns its offset; 0 if there is none
 * @kernel drivers/pci/pci.c
 */
export function pci_find_ext_capability(dev: pci_dev, cap: int): u16 {
	if (!dev_is_pci(dev.dev) || !pci_is_pcie(dev)) return 0;
	const header = outParam(0);
	let pos = PCI_CFG_SPACE_SIZE;
	for (let ttl = PCI_FIND_EXT_CAP_TTL; ttl > 0 && pos >= PCI_CFG_SPACE_SIZE; ttl--) {
		pci_read_config_dword(dev, pos, header);
		if (header.value === 0 || header.value === 0xffff_ffff) return 0;
		if ((header.value & 0xffff) === cap) return pos;
		pos = (header.value >>> 20) & 0xffc;
	}
	return 0;
}
