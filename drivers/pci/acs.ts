// SPDX-License-Identifier: GPL-2.0-only
/**
 * Access Control Services: what the kernel sets, and what is in force.
 *
 * Guarantee: without an IOMMU and without `pci=` words a control word stays as firmware left it.
 * Mechanism: pci_enable_acs(), three steps, each from the word that was found:
 *
 * | step | when | word |
 * | --- | --- | --- |
 * | default | an IOMMU is present | found, and SV RR CR UF (and TB under `noats` or if untrusted) |
 * | `disable_acs_redir=` | an entry matches | found, without RR CR EC |
 * | `config_acs=` | an entry matches | found, its bits set and cleared |
 *
 * so that a matching word of the command line undoes the default as well.
 */
import { dev_err, dev_info } from '../../include/linux/device.ts';
import {
	type pci_bus,
	type pci_dev,
	pci_is_pcie,
	pci_is_root_bus,
	pci_pcie_type,
} from '../../include/linux/pci.ts';
import { pr_warn } from '../../include/linux/printk.ts';
import { type bool, outParam, type u16 } from '../../include/linux/types.ts';
import { perWorld, world } from '../../include/sim/world.ts';
import {
	PCI_ACS_CAP,
	PCI_ACS_CR,
	PCI_ACS_CTRL,
	PCI_ACS_DT,
	PCI_ACS_EC,
	PCI_ACS_RR,
	PCI_ACS_SV,
	PCI_ACS_TB,
	PCI_ACS_UF,
	PCI_EXP_TYPE_DOWNSTREAM,
	PCI_EXP_TYPE_ENDPOINT,
	PCI_EXP_TYPE_LEG_END,
	PCI_EXP_TYPE_PCI_BRIDGE,
	PCI_EXP_TYPE_PCIE_BRIDGE,
	PCI_EXP_TYPE_RC_EC,
	PCI_EXP_TYPE_RC_END,
	PCI_EXP_TYPE_ROOT_PORT,
	PCI_EXP_TYPE_UPSTREAM,
} from '../../include/uapi/linux/pci_regs.ts';
import { pci_read_config_word, pci_write_config_word } from './access.ts';
import { matchDevice } from './match.ts';
import { pci_ats_disabled, pciOptions } from './pci.ts';

const ACS_BITS =
	PCI_ACS_SV | PCI_ACS_TB | PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_UF | PCI_ACS_EC | PCI_ACS_DT;
const ACS_REDIRECT = PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_EC;

/** Whether somebody asked for ACS. */
class AcsRequest {
	requested: bool = false;
}

const acsRequest = perWorld(() => new AcsRequest());

/**
 * Have ACS switched on in every function that is set up from now on: an IOMMU asks for it.
 *
 * @kernel drivers/pci/pci.c
 */
export function pci_request_acs(): void {
	acsRequest().requested = true;
}

/**
 * The words of one function's ACS capability.
 *
 * @kernel drivers/pci/pci.c
 */
export class pci_acs {
	cap: u16 = 0;
	/** What will be written. */
	ctrl: u16 = 0;
	/** What was found. */
	fw_ctrl: u16 = 0;
}

/**
 * Apply the first entry of a list that matches a function.
 *
 * @param dev - the function
 * @param caps - its words; `ctrl` is changed by a match
 * @param p - entries, separated by semicolons
 * @param acs_mask - bits that a match changes; 0: an entry has its own bits in front of an `@`
 * @param acs_flags - what it changes them to
 * @kernel drivers/pci/pci.c
 */
export function __pci_config_acs(
	dev: pci_dev,
	caps: pci_acs,
	p: string,
	acs_mask: u16,
	acs_flags: u16,
): void {
	for (const entry of p.split(';')) {
		const bits =
			acs_mask === 0
				? parseBits(dev, entry)
				: { mask: acs_mask, flags: acs_flags, rest: entry };
		if (bits === null) return;
		if ((bits.mask & ~ACS_BITS) !== 0) {
			dev_err(dev.dev, 'Invalid ACS flags specified');
			return;
		}
		const match = matchDevice(dev, bits.rest);
		if (match === null) {
			const { once } = world();
			if (!once.has('pci acs'))
				pr_warn("PCI: Can't parse ACS command line parameter");
			once.add('pci acs');
			return;
		}
		if (!match) continue;
		caps.ctrl = (caps.fw_ctrl & ~bits.mask) | (bits.flags & bits.mask);
		dev_info(dev.dev, `Configured ACS to 0x${caps.ctrl.toString(16).padStart(4, '0')}`);
		return;
	}
}

/** Bits of a config_acs entry, the lowest one last: 1 set, 0 clear, x as found. */
function parseBits(
	dev: pci_dev,
	entry: string,
): { mask: number; flags: number; rest: string } | null {
	const at = entry.indexOf('@');
	if (at < 0) {
		dev_err(dev.dev, 'ACS Flags missing');
		return null;
	}
	let mask = 0;
	let flags = 0;
	for (let shift = 0; shift < at; shift++) {
		const bit = entry[at - 1 - shift]!;
		if (!'01xX'.includes(bit)) {
			dev_err(dev.dev, 'Invalid ACS flags... Ignoring');
			return null;
		}
		if (bit === '0' || bit === '1') mask |= 1 << shift;
		if (bit === '1') flags |= 1 << shift;
	}
	return { mask, flags, rest: entry.slice(at + 1) };
}

/**
 * What an IOMMU needs to keep functions apart.
 *
 * @param dev - the function
 * @param caps - its words; `ctrl` is changed
 * @kernel drivers/pci/pci.c
 */
export function pci_std_enable_acs(dev: pci_dev, caps: pci_acs): void {
	caps.ctrl |= caps.cap & (PCI_ACS_SV | PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_UF);
	if (pci_ats_disabled() || dev.untrusted) caps.ctrl |= caps.cap & PCI_ACS_TB;
}

/**
 * Set a function's ACS control word up.
 *
 * @param dev - the function; without an ACS capability nothing happens
 * @kernel drivers/pci/pci.c
 */
export function pci_enable_acs(dev: pci_dev): void {
	const pos = dev.acs_cap;
	const { disable_acs_redir, config_acs } = pciOptions();
	const { requested } = acsRequest();
	if (pos === 0 || (!requested && disable_acs_redir === null && config_acs === null)) return;
	const caps = new pci_acs();
	const word = outParam(0);
	pci_read_config_word(dev, pos + PCI_ACS_CAP, word);
	caps.cap = word.value;
	pci_read_config_word(dev, pos + PCI_ACS_CTRL, word);
	caps.ctrl = word.value;
	caps.fw_ctrl = word.value;
	if (requested) pci_std_enable_acs(dev, caps);
	if (disable_acs_redir !== null)
		__pci_config_acs(dev, caps, disable_acs_redir, ACS_REDIRECT, 0);
	if (config_acs !== null) __pci_config_acs(dev, caps, config_acs, 0, 0);
	pci_write_config_word(dev, pos + PCI_ACS_CTRL, caps.ctrl);
}

function pci_acs_flags_enabled(pdev: pci_dev, acs_flags: u16): bool {
	const pos = pdev.acs_cap;
	if (pos === 0) return false;
	const word = outParam(0);
	pci_read_config_word(pdev, pos + PCI_ACS_CAP, word);
	// A bit that the function cannot have it need not have; egress control is never taken for granted.
	const flags = acs_flags & (word.value | PCI_ACS_EC);
	pci_read_config_word(pdev, pos + PCI_ACS_CTRL, word);
	return (word.value & flags) === flags;
}

/**
 * Whether a function keeps its peers apart as asked.
 *
 * @param pdev - the function
 * @param acs_flags - PCI_ACS_* that must be on, as far as the function has them
 * @kernel drivers/pci/pci.c
 */
export function pci_acs_enabled(pdev: pci_dev, acs_flags: u16): bool {
	if (!pci_is_pcie(pdev)) return false;
	switch (pci_pcie_type(pdev)) {
		case PCI_EXP_TYPE_PCIE_BRIDGE:
		case PCI_EXP_TYPE_PCI_BRIDGE:
		case PCI_EXP_TYPE_RC_EC:
			return false;
		case PCI_EXP_TYPE_DOWNSTREAM:
		case PCI_EXP_TYPE_ROOT_PORT:
			return pci_acs_flags_enabled(pdev, acs_flags);
		case PCI_EXP_TYPE_ENDPOINT:
		case PCI_EXP_TYPE_UPSTREAM:
		case PCI_EXP_TYPE_LEG_END:
		case PCI_EXP_TYPE_RC_END:
			// Alone in its slot it has no peer inside the device.
			return pdev.multifunction ? pci_acs_flags_enabled(pdev, acs_flags) : true;
		default:
			return true;
	}
}

/**
 * Whether every function from one up to another keeps its peers apart as asked.
 *
 * @param start - the lowest function
 * @param end - the function above the highest one that is asked; null: all up to the root bus
 * @param acs_flags - PCI_ACS_*
 * @kernel drivers/pci/pci.c
 */
export function pci_acs_path_enabled(start: pci_dev, end: pci_dev | null, acs_flags: u16): bool {
	let pdev: pci_dev = start;
	for (;;) {
		if (!pci_acs_enabled(pdev, acs_flags)) return false;
		const bus: pci_bus = pdev.bus;
		if (pci_is_root_bus(bus)) return end === null;
		if (bus.self === end) return true;
		pdev = bus.self as pci_dev;
	}
}
