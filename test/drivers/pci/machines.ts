// SPDX-License-Identifier: GPL-2.0-only
/**
 * The machine that the feature table is written for, and how a PCI test boots it.
 *
 * ```
 *   RC0 (0000:00)                                       RC1 (0000:80)
 *    ├─ 00.0 host bridge (8086:3c00)                     ├─ 00.0 host bridge (8086:3c00)
 *    ├─ 01.0 RP0 ── 01:00.0 USP                          └─ 01.0 RP2 ── 81:00.0 NIC2
 *    │               ├─ 02:00.0 DSP0 ── 03:00.0 GPU0
 *    │               └─ 02:01.0 DSP1 ── 04:00.0 NIC0    SOC0: no PCI device
 *    └─ 02.0 RP1 ── 05:00.0 NIC1
 * ```
 *
 * BAR1 of GPU0: CPU address 0x8000_0000_0000, bus address 0x4000_0000_0000.
 */
import type {
	DeviceDescription,
	MachineDescription,
	PcieType,
} from '../../../arch/sim/description.ts';
import { type Machine, makeMachine } from '../../../arch/sim/machine.ts';
import { pci_setup } from '../../../drivers/pci/pci.ts';
import { pciInit } from '../../../drivers/pci/probe.ts';
import { findPciDev } from '../../../drivers/pci/search.ts';
import type { pci_dev } from '../../../include/linux/pci.ts';
import { task_struct } from '../../../include/linux/sched.ts';
import { type ProfileName, profiles } from '../../../include/sim/feature.ts';
import { installWorld, World } from '../../../include/sim/world.ts';

/** Where the functions of the standard machine are. */
export const at = {
	HB0: '0000:00:00.0',
	RP0: '0000:00:01.0',
	USP: '0000:01:00.0',
	DSP0: '0000:02:00.0',
	DSP1: '0000:02:01.0',
	GPU0: '0000:03:00.0',
	NIC0: '0000:04:00.0',
	RP1: '0000:00:02.0',
	NIC1: '0000:05:00.0',
	HB1: '0000:80:00.0',
	RP2: '0000:80:01.0',
	NIC2: '0000:81:00.0',
} as const;

/** CPU and bus address of GPU0's BAR1, and its size. */
export const gpuBar = {
	bar: 1,
	phys: 0x8000_0000_0000n,
	bus: 0x4000_0000_0000n,
	size: 0x4000_0000n,
} as const;

/** What differs from the standard machine. */
export interface Change {
	readonly cpu?: {
		vendor: 'intel' | 'amd' | 'hygon' | 'zhaoxin' | 'centaur';
		family: number;
	};
	/** Vendor and device of both host bridges. */
	readonly hostBridge?: readonly [number, number];
	/** ACS control words; every port has the capability. */
	readonly acs?: Partial<Record<keyof typeof at, number>>;
	readonly iommu?: boolean;
}

function fn(
	name: keyof typeof at,
	pcieType: PcieType,
	parent: keyof typeof at | null,
	init: Partial<DeviceDescription>,
): DeviceDescription {
	return {
		bdf: at[name],
		vendor: 0x8086,
		device: 0x0100 + Object.keys(at).indexOf(name),
		class: pcieType >= 4 && pcieType <= 6 ? 0x060400 : 0x020000,
		header: pcieType >= 4 && pcieType <= 6 ? 1 : 0,
		pcieType,
		parent: parent === null ? null : at[parent],
		acs: null,
		bars: [],
		label: name,
		...init,
	};
}

/**
 * The standard machine.
 *
 * @param change - what is different
 */
export function standardMachine(change: Change = {}): MachineDescription {
	const {
		acs = {},
		cpu = { vendor: 'intel', family: 6 },
		hostBridge = [0x8086, 0x3c00],
	} = change;
	const [vendor, device] = hostBridge;
	const host = { vendor, device, class: 0x060000 };
	const port = (name: keyof typeof at, secondary: number, subordinate: number) => ({
		secondary,
		subordinate,
		acs: { cap: 0x7f, control: acs[name] ?? 0 },
	});
	const nicBar = (phys: string, bus: string) => ({
		bars: [{ bar: 0, phys, bus, size: '0x200000', prefetchable: true, is64: true }],
	});
	return {
		name: 'standard',
		cpu: { ...cpu, model: 0 },
		ram: [{ start: '0x0', size: '0x10000000' }],
		iommu: change.iommu ? { kind: 'intel', domains: 'dma' } : null,
		crossHostBridge: 'aborts',
		hostBridges: [
			{ domain: 0, bus: 0x00, busOffset: '0x400000000000', peerToPeer: 'works' },
			{ domain: 0, bus: 0x80, busOffset: '0x200000000000', peerToPeer: 'works' },
		],
		devices: [
			fn('HB0', -1, null, host),
			fn('RP0', 4, null, port('RP0', 1, 4)),
			fn('USP', 5, 'RP0', port('USP', 2, 4)),
			fn('DSP0', 6, 'USP', port('DSP0', 3, 3)),
			fn('DSP1', 6, 'USP', port('DSP1', 4, 4)),
			fn('GPU0', 0, 'DSP0', {
				class: 0x030200,
				vendor: 0x10de,
				acs:
					acs.GPU0 === undefined
						? null
						: { cap: 0x7f, control: acs.GPU0 },
				bars: [
					{
						bar: gpuBar.bar,
						phys: '0x800000000000',
						bus: '0x400000000000',
						size: '0x40000000',
						prefetchable: true,
						is64: true,
					},
				],
			}),
			fn('NIC0', 0, 'DSP1', nicBar('0x800080000000', '0x400080000000')),
			fn('RP1', 4, null, port('RP1', 5, 5)),
			fn('NIC1', 0, 'RP1', nicBar('0x8000c0000000', '0x4000c0000000')),
			fn('HB1', -1, null, host),
			fn('RP2', 4, null, port('RP2', 0x81, 0x81)),
			fn('NIC2', 0, 'RP2', nicBar('0xa00000000000', '0x800000000000')),
		],
	};
}

/**
 * Boot PCI and nothing else.
 *
 * @param description - the machine
 * @param profile - the release
 * @param pci - what follows `pci=` on the command line
 */
export function bootPci(
	description: MachineDescription,
	profile: ProfileName = 'v7.3',
	pci = '',
): Machine {
	const machine = makeMachine(description);
	const init = new task_struct({ comm: 'swapper/0' });
	installWorld(new World(machine, profile, profiles[profile], init));
	pci_setup(pci);
	pciInit(machine);
	return machine;
}

/** A function of the standard machine. */
export function dev(name: keyof typeof at): pci_dev {
	return findPciDev(at[name]) as pci_dev;
}
