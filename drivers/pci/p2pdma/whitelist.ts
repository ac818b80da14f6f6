// SPDX-License-Identifier: GPL-2.0-only
/**
 * Whether traffic between peers gets through a host bridge: by CPU, or by a list of host bridges.
 *
 * Guarantee: a host bridge is judged by the first device on its root bus, and only if that is
 * 00.0 or a root port; the first row that fits decides.
 */
import { cpu_data, X86_VENDOR_AMD } from '../../../include/asm/processor.ts';
import { dev_warn } from '../../../include/linux/device.ts';
import {
	PCI_ANY_ID,
	PCI_DEVFN,
	PCI_VENDOR_ID_GOOGLE,
	PCI_VENDOR_ID_INTEL,
	PCI_VENDOR_ID_NVIDIA,
	type pci_dev,
	type pci_host_bridge,
	pci_is_pcie,
	pci_pcie_type,
} from '../../../include/linux/pci.ts';
import type { bool, int, u16 } from '../../../include/linux/types.ts';
import type { FeatureName } from '../../../include/sim/feature.ts';
import { feature } from '../../../include/sim/world.ts';
import { PCI_EXP_TYPE_ROOT_PORT } from '../../../include/uapi/linux/pci_regs.ts';
import { pci_find_host_bridge } from '../host-bridge.ts';

/** Peers must be below the same host bridge: traffic between sockets does not get through. */
export const REQ_SAME_HOST_BRIDGE = 1;

/** A row of the whitelist. */
export interface WhitelistEntry {
	readonly vendor: u16;
	/** PCI_ANY_ID: every device of the vendor. */
	readonly device: int;
	/** 0 or REQ_SAME_HOST_BRIDGE. */
	readonly flags: int;
	/** What it is. */
	readonly name: string;
	/** The switch that brings it; null: in every release. */
	readonly since: FeatureName | null;
	/** Kernels whose records show the row at work. */
	readonly seen: readonly string[];
}

const intel = PCI_VENDOR_ID_INTEL;
const google = PCI_VENDOR_ID_GOOGLE;
const nvidia = PCI_VENDOR_ID_NVIDIA;
const same = REQ_SAME_HOST_BRIDGE;
const later = 'p2pdma_whitelist_2025';

function row(
	vendor: u16,
	device: int,
	flags: int,
	name: string,
	since: FeatureName | null = null,
): WhitelistEntry {
	const seen = since === null ? ['6.12.117', '7.3.4'] : ['7.3.4'];
	return { vendor, device, flags, name, since, seen };
}

/**
 * Host bridges that pass peer traffic on. Each row was seen in the records of a real kernel: allowed
 * with it, refused with its neighbours.
 *
 * @kernel drivers/pci/p2pdma.c
 */
export const pci_p2pdma_whitelist: readonly WhitelistEntry[] = [
	row(intel, 0x3c00, same, 'Xeon E5/Core i7, Sandy Bridge-E'),
	row(intel, 0x3c01, same, 'Xeon E5/Core i7, Sandy Bridge-E'),
	row(intel, 0x2f00, same, 'Xeon E7 v3/Xeon E5 v3/Core i7, Haswell-E'),
	row(intel, 0x2f01, same, 'Xeon E7 v3/Xeon E5 v3/Core i7, Haswell-E'),
	row(intel, 0x2030, 0, 'Skylake-E'),
	row(intel, 0x2031, 0, 'Skylake-E'),
	row(intel, 0x2032, 0, 'Skylake-E'),
	row(intel, 0x2033, 0, 'Skylake-E'),
	row(intel, 0x2020, 0, 'Skylake-E'),
	row(intel, 0x09a2, 0, 'Xeon Scalable, VT-d function (Ice Lake-SP and later)'),
	row(intel, 0x0b25, 0, 'Data Streaming Accelerator', later),
	row(intel, 0x0cfe, 0, 'In-Memory Analytics Accelerator', later),
	row(intel, 0x11fb, 0, 'Data Streaming Accelerator', later),
	row(intel, 0x1212, 0, 'Data Streaming Accelerator', later),
	row(intel, 0x1216, 0, 'In-Memory Analytics Accelerator', later),
	row(intel, 0x4940, 0, 'QuickAssist', later),
	row(intel, 0x4942, 0, 'QuickAssist', later),
	row(intel, 0x4944, 0, 'QuickAssist', later),
	row(intel, 0x4946, 0, 'QuickAssist', later),
	row(intel, 0x4948, 0, 'QuickAssist', later),
	row(google, PCI_ANY_ID, 0, 'Google SoCs', later),
	row(nvidia, 0x2f95, 0, 'NVIDIA root port', later),
	row(nvidia, 0x2f96, 0, 'NVIDIA root port', later),
	row(nvidia, 0x2f97, 0, 'NVIDIA root port', later),
	row(nvidia, 0x2f98, 0, 'NVIDIA root port', later),
];

/**
 * Whether the CPU alone answers for every host bridge: AMD from Zen on does.
 *
 * @kernel drivers/pci/p2pdma.c
 */
export function cpu_supports_p2pdma(): bool {
	const c = cpu_data(0);
	return c.x86_vendor === X86_VENDOR_AMD && c.x86 >= 0x17;
}

/**
 * The device by which a host bridge is known.
 *
 * @param host - the host bridge
 * @returns the first device on its root bus; null if that is neither 00.0 nor a root port
 * @kernel drivers/pci/p2pdma.c
 */
export function pci_host_bridge_dev(host: pci_host_bridge): pci_dev | null {
	const root = host.bus?.devices[0] ?? null;
	if (root === null) return null;
	if (root.devfn === PCI_DEVFN(0, 0)) return root;
	if (pci_is_pcie(root) && pci_pcie_type(root) === PCI_EXP_TYPE_ROOT_PORT) return root;
	return null;
}

/**
 * Look one host bridge up.
 *
 * @param host - the host bridge
 * @param same_host_bridge - both peers are below it
 * @param warn - say so when it is in no row
 * @kernel drivers/pci/p2pdma.c
 */
export function __host_bridge_whitelist(
	host: pci_host_bridge,
	same_host_bridge: bool,
	warn: bool,
): bool {
	const root = pci_host_bridge_dev(host);
	if (root === null) return false;
	const { vendor, device } = root;
	for (const entry of pci_p2pdma_whitelist) {
		if (vendor !== entry.vendor) continue;
		if (entry.device !== PCI_ANY_ID && device !== entry.device) continue;
		if (entry.since !== null && !feature(entry.since)) continue;
		return (entry.flags & REQ_SAME_HOST_BRIDGE) === 0 || same_host_bridge;
	}
	if (warn) {
		const hex = (id: number): string => id.toString(16).padStart(4, '0');
		dev_warn(
			root.dev,
			`Host bridge not in P2PDMA whitelist: ${hex(vendor)}:${hex(device)}`,
		);
	}
	return false;
}

/**
 * Whether the host bridges of two functions pass their traffic on.
 *
 * @param a - one function
 * @param b - the other
 * @param warn - say which host bridge is in no row
 * @kernel drivers/pci/p2pdma.c
 */
export function host_bridge_whitelist(a: pci_dev, b: pci_dev, warn: bool): bool {
	const host_a = pci_find_host_bridge(a.bus);
	const host_b = pci_find_host_bridge(b.bus);
	if (host_a === host_b) return __host_bridge_whitelist(host_a, true, warn);
	return (
		__host_bridge_whitelist(host_a, false, warn) &&
		__host_bridge_whitelist(host_b, false, warn)
	);
}
