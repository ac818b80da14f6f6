// SPDX-License-Identifier: GPL-2.0-only
/**
 * Build a topology by stacking bridges and devices; addresses and bus numbers are assigned on the way.
 *
 *     const b = new TopologyBuilder('small', intel);
 *     const host = b.hostBridge({ bus: 0x17 });
 *     const sw = b.switchBelow(b.rootPort(host, '01.0'));
 *     b.gpu(b.downstreamPort(sw), 'GPU0');
 *     b.nic(b.downstreamPort(sw), 'NIC0');
 *     const description = b.finish();
 *
 * Guarantee: finish() returns a description that validateDescription() accepts, with all windows stated.
 *
 * Mechanism: bus numbers are given depth first, so a bridge must be filled before the next one on the same
 * host bridge is made. BARs take the next aligned address of their host bridge's 32-bit or 64-bit pool.
 */
import {
	type AcsDescription,
	type BarDescription,
	type CpuModel,
	type DeviceDescription,
	formatBdf,
	formatHex,
	type HostBridgeDescription,
	type MachineDescription,
	type Passage,
	type PcieType,
} from '../../arch/sim/description.ts';
import { validateDescription } from '../../arch/sim/validate.ts';
import { fillWindows } from '../../arch/sim/windows.ts';

const MIB = 0x10_0000n;
const GIB = 0x4000_0000n;

/** A host bridge under construction. */
export interface HostUnderConstruction {
	description: HostBridgeDescription;
	offset: bigint;
	nextBus: number;
	next32: bigint;
	next64: bigint;
}

/** A bridge under construction: where devices can be hung. */
export interface Slot {
	host: HostUnderConstruction;
	/** The bridge; null: the root bus. */
	bridge: DeviceDescription | null;
	/** Number of the bus below it. */
	bus: number;
	/** Next device number on that bus. */
	nextDevice: number;
}

/** What a host bridge is like. */
export interface HostOptions {
	domain?: number;
	/** Number of the root bus. */
	bus: number;
	/** CPU minus bus address. Absent: another one for each host bridge, never 0. */
	offset?: bigint;
	/** First bus address of 64-bit BARs. */
	bus64?: bigint;
	peerToPeer?: Passage;
	numaNode?: number;
}

/** Parts of a function that have a usual value. */
export type DeviceOptions = Partial<
	Pick<DeviceDescription, 'class' | 'pcieType' | 'label' | 'multifunction' | 'acs' | 'ats'>
>;

/** A BAR to be placed. */
export interface BarOptions {
	bar: number;
	size: bigint;
	/** Takes the 64-bit pool; prefetchable too. */
	is64: boolean;
}

/** Makes one description. */
export class TopologyBuilder {
	/** ACS of the ports made from now on: switch downstream ports, then root ports. */
	switchAcs: AcsDescription | null = { cap: 0x207f, control: 0 };
	rootAcs: AcsDescription | null = { cap: 0x1f, control: 0 };
	private readonly machine: MachineDescription;
	private readonly hosts: HostUnderConstruction[] = [];

	/**
	 * @param name - name of the machine
	 * @param cpu - its CPU
	 */
	constructor(name: string, cpu: CpuModel) {
		this.machine = {
			name,
			cpu,
			cpus: 2,
			ram: [
				{ start: '0x0', size: formatHex(2n * GIB) },
				{ start: formatHex(4n * GIB), size: formatHex(2n * GIB) },
			],
			iommu: null,
			crossHostBridge: 'aborts',
			hostBridges: [],
			devices: [],
		};
	}

	/** Set fields of the machine itself: comment, iommu, crossHostBridge. */
	set(fields: Partial<MachineDescription>): this {
		Object.assign(this.machine, fields);
		return this;
	}

	/** Add a host bridge with its root bus. */
	hostBridge(options: HostOptions): Slot {
		const index = this.hosts.length;
		const offset =
			options.offset ?? 0x4000_0000_0000n + BigInt(index) * 0x1000_0000_0000n;
		const description: HostBridgeDescription = {
			domain: options.domain ?? 0,
			bus: options.bus,
			busOffset: formatHex(offset),
			peerToPeer: options.peerToPeer ?? 'works',
		};
		if (options.numaNode !== undefined) description.numaNode = options.numaNode;
		const host: HostUnderConstruction = {
			description,
			offset,
			nextBus: options.bus + 1,
			next32: 2n * GIB + BigInt(index) * 0x1000_0000n,
			next64:
				options.bus64 ??
				0x400_0000_0000n + BigInt(index) * 0x100_0000_0000n,
		};
		this.hosts.push(host);
		this.machine.hostBridges.push(description);
		return { host, bridge: null, bus: options.bus, nextDevice: 0 };
	}

	/**
	 * Add a function without BARs of its own below a slot.
	 *
	 * @param slot - where
	 * @param ids - vendor and device id
	 * @param at - `dd.f`; absent: the next device number
	 * @param options - what differs from an endpoint
	 */
	device(
		slot: Slot,
		[vendor, device]: readonly [number, number],
		at: string | null = null,
		options: DeviceOptions = {},
	): DeviceDescription {
		const [dd = '0', f = '0'] = (at ?? `${slot.nextDevice.toString(16)}.0`).split('.');
		const slotNumber = Number.parseInt(dd, 16);
		slot.nextDevice = Math.max(slot.nextDevice, slotNumber + 1);
		const made: DeviceDescription = {
			bdf: formatBdf({
				domain: slot.host.description.domain,
				bus: slot.bus,
				devfn: (slotNumber << 3) | Number.parseInt(f, 16),
			}),
			vendor,
			device,
			class: 0,
			header: 0,
			pcieType: 0,
			parent: slot.bridge === null ? null : slot.bridge.bdf,
			acs: null,
			bars: [],
			...options,
		};
		this.machine.devices.push(made);
		return made;
	}

	/** Add a bridge; it must be filled before the next bridge of its host bridge is added. */
	bridge(
		slot: Slot,
		ids: readonly [number, number],
		at: string | null,
		pcieType: PcieType,
		acs: AcsDescription | null,
	): Slot {
		const made = this.device(slot, ids, at, { class: 0x060400, pcieType, acs });
		const bus = slot.host.nextBus++;
		made.header = 1;
		made.secondary = bus;
		made.subordinate = bus;
		for (let above = slot.bridge; above !== null; ) {
			above.subordinate = bus;
			const parent: string | null = above.parent;
			above = this.machine.devices.find((d) => d.bdf === parent) ?? null;
		}
		return { host: slot.host, bridge: made, bus, nextDevice: 0 };
	}

	/** Add a root port; ids are an Intel one's unless given. */
	rootPort(root: Slot, at: string, ids: readonly [number, number] = [0x8086, 0x352a]): Slot {
		return this.bridge(
			root,
			ids,
			at,
			4,
			this.rootAcs === null ? null : { ...this.rootAcs },
		);
	}

	/** Add a switch's upstream port; ports are then added to what this returns. */
	switchBelow(port: Slot, ids: readonly [number, number] = [0x1000, 0xc030]): Slot {
		return this.bridge(port, ids, '00.0', 5, null);
	}

	/** Add a downstream port to a switch. */
	downstreamPort(sw: Slot, ids: readonly [number, number] = [0x1000, 0xc030]): Slot {
		return this.bridge(
			sw,
			ids,
			null,
			6,
			this.switchAcs === null ? null : { ...this.switchAcs },
		);
	}

	/** Give a function a BAR at the next free address of its host bridge. */
	bar(
		slot: Slot,
		device: DeviceDescription,
		{ bar, size, is64 }: BarOptions,
	): BarDescription {
		const { host } = slot;
		const next = is64 ? host.next64 : host.next32;
		const bus = (next + size - 1n) & ~(size - 1n);
		if (is64) host.next64 = bus + size;
		else host.next32 = bus + size;
		const made: BarDescription = {
			bar,
			phys: formatHex(bus + host.offset),
			bus: formatHex(bus),
			size: formatHex(size),
			prefetchable: is64,
			is64,
		};
		device.bars.push(made);
		return made;
	}

	/** Add a GPU: NVIDIA H100 ids, 16 MiB of registers in BAR 0, its memory in BAR 1. */
	gpu(slot: Slot, label: string, memory: bigint): DeviceDescription {
		const gpu = this.device(slot, [0x10de, 0x2330], null, {
			class: 0x030200,
			label,
			ats: true,
		});
		this.bar(slot, gpu, { bar: 0, size: 16n * MIB, is64: false });
		this.bar(slot, gpu, { bar: 1, size: memory, is64: true });
		return gpu;
	}

	/** Add an InfiniBand NIC: ConnectX-7 ids, 32 MiB in BAR 0. */
	nic(slot: Slot, label: string): DeviceDescription {
		const nic = this.device(slot, [0x15b3, 0x1021], null, {
			class: 0x020700,
			label,
			ats: true,
		});
		this.bar(slot, nic, { bar: 0, size: 32n * MIB, is64: true });
		return nic;
	}

	/** The description, checked. */
	finish(): MachineDescription {
		this.machine.devices.sort((a, b) => (a.bdf < b.bdf ? -1 : 1));
		const problem = validateDescription(this.machine);
		if (problem !== null) {
			throw new Error(
				`TopologyBuilder.finish(): ${problem.path.join('.')}: expected ${problem.expected}`,
			);
		}
		return fillWindows(this.machine);
	}
}
