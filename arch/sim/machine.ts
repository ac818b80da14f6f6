// SPDX-License-Identifier: GPL-2.0-only
/**
 * The machine under the kernel: RAM, CPUs, the PCIe fabric, the IOMMU.
 *
 * Guarantee: it knows nothing of the kernel. All its state hangs from the Machine object in plain fields,
 * so a checkpoint is a walk over it.
 *
 * Mechanism: built from a MachineDescription in a few microseconds; bytes, config spaces and translations
 * come into being when touched.
 *
 *     cpus ── load/store ──> TLB, page tables ──> physical address ──┬─> ram
 *                                                                     └─> fabric ──> BAR
 *     functions ── fabric.read/write ──> TLP ──> peer BAR, or root ──> iommu ──> ram or BAR
 *
 * Duty: boot sets `vectors`. A description that did not come from a reader of tools/topology should have
 * passed validateDescription().
 */
import { HarnessError } from '../../include/sim/report.ts';
import { Cpu } from './cpu.ts';
import {
	type CpuModel,
	type MachineDescription,
	parseHex,
	type RamDescription,
} from './description.ts';
import { Iommu } from './iommu.ts';
import { type MemoryPlace, PAGE_BYTES, PhysicalRam } from './memory.ts';
import { Fabric } from './pcie/fabric.ts';
import { HostBridge, PcieFunction } from './pcie/hierarchy.ts';
import type { Completion } from './pcie/tlp.ts';
import { Vectors } from './vectors.ts';
import { fillWindows, hasAllWindows } from './windows.ts';

const CPUS_DEFAULT = 2;

/** A machine, switched on, with its firmware's assignments in place. */
export class Machine {
	/** Fields whose objects never change, which a checkpoint need not look into. */
	static readonly constantFields = ['description', 'cpuModel'];
	name: string;
	/** What it was built from; never changed. */
	description: MachineDescription;
	cpuModel: CpuModel;
	ram: PhysicalRam;
	fabric: Fabric;
	/** null: there is none, DMA addresses are CPU physical addresses. */
	iommu: Iommu | null;
	cpus: Cpu[];
	vectors: Vectors;
	/** Byte that a CPU reads where nobody answers. */
	unclaimed: number;

	/** @param given - a valid description */
	constructor(given: MachineDescription) {
		const d = hasAllWindows(given) ? given : fillWindows(given);
		this.name = d.name;
		// Frozen: a checkpoint passes over it.
		this.description = Object.freeze({ ...d });
		this.cpuModel = Object.freeze({ ...d.cpu });
		const memory = (special: boolean) => (range: RamDescription) => ({
			start: parseHex(range.start),
			size: parseHex(range.size),
			special,
		});
		this.ram = new PhysicalRam([
			...d.ram.map(memory(false)),
			...(d.specialPurpose ?? []).map(memory(true)),
		]);
		this.iommu = d.iommu === null ? null : new Iommu(d.iommu.kind, d.iommu.domains);
		this.vectors = new Vectors();
		const functions = makeHierarchies(d);
		this.fabric = new Fabric(functions.hosts, functions.byBdf, this.ram, this.iommu);
		this.fabric.crossHostBridge = d.crossHostBridge;
		this.unclaimed = d.unclaimedReads === 'zeros' ? 0 : 0xff;
		this.cpus = [];
		for (let id = 0; id < (d.cpus ?? CPUS_DEFAULT); id++)
			this.cpus.push(new Cpu(this, id));
	}

	/**
	 * A physical read by a CPU: RAM, or MMIO through the host bridge that owns the address.
	 *
	 * @param phys - first address
	 * @param into - where to; all ones where nobody answers, or what the description says
	 */
	cpuRead(phys: bigint, into: Uint8Array): Completion {
		this.ram.touch('memory-read', phys, into.length);
		if (this.ram.read(phys, into)) return { status: 'SC', data: into, hops: [] };
		for (let done = 0; done < into.length; ) {
			const at = phys + BigInt(done);
			const length = Math.min(
				PAGE_BYTES - Number(at & 4095n),
				into.length - done,
			);
			const part = into.subarray(done, done + length);
			if (!this.ram.read(at, part)) {
				const completion = this.fabric.cpuRead(at, part);
				if (completion.status !== 'SC') {
					into.fill(this.unclaimed, done);
					return completion;
				}
			}
			done += length;
		}
		return { status: 'SC', data: into, hops: [] };
	}

	/**
	 * A physical write by a CPU.
	 *
	 * @param phys - first address
	 * @param from - what is written; lost where nobody answers
	 */
	cpuWrite(phys: bigint, from: Uint8Array): Completion {
		this.ram.touch('memory-write', phys, from.length);
		if (this.ram.write(phys, from)) return { status: 'SC', hops: [] };
		for (let done = 0; done < from.length; ) {
			const at = phys + BigInt(done);
			const length = Math.min(
				PAGE_BYTES - Number(at & 4095n),
				from.length - done,
			);
			const part = from.subarray(done, done + length);
			if (!this.ram.write(at, part)) {
				const completion = this.fabric.cpuWrite(at, part);
				if (completion.status !== 'SC') return completion;
			}
			done += length;
		}
		return { status: 'SC', hops: [] };
	}

	/** Where an access of a CPU at a physical address ends; null: nobody answers there. */
	placeOf(phys: bigint): MemoryPlace | null {
		return this.ram.placeOf(Number(phys >> 12n)) ?? this.fabric.placeOf(phys);
	}

	/** The function at an address `dddd:bb:dd.f`. */
	function(bdf: string): PcieFunction | undefined {
		return this.fabric.functions.get(bdf);
	}
}

function makeHierarchies(d: MachineDescription): {
	hosts: HostBridge[];
	byBdf: Map<string, PcieFunction>;
} {
	const hosts = d.hostBridges.map((host) => new HostBridge(host));
	const byBdf = new Map<string, PcieFunction>();
	// Parents may come after their children in the file; each round places at least one function.
	let waiting = d.devices;
	while (waiting.length > 0) {
		const later: typeof waiting = [];
		for (const device of waiting) {
			const parent = device.parent === null ? null : byBdf.get(device.parent);
			if (parent === undefined) {
				later.push(device);
				continue;
			}
			const host = parent === null ? hostOf(hosts, device.bdf) : parent.host;
			const made = new PcieFunction(device, host, parent);
			(parent === null ? host.children : parent.children).push(made);
			byBdf.set(device.bdf, made);
		}
		if (later.length === waiting.length) {
			throw new HarnessError(
				'makeMachine()',
				`${(later[0] as { bdf: string }).bdf} hangs below a bridge that is not in the description`,
			);
		}
		waiting = later;
	}
	return { hosts, byBdf };
}

function hostOf(hosts: readonly HostBridge[], bdf: string): HostBridge {
	for (const host of hosts)
		if (bdf.startsWith(host.name) && bdf[host.name.length] === ':') return host;
	throw new HarnessError('makeMachine()', `no host bridge has the root bus of ${bdf}`);
}

/**
 * Build a machine and switch it on.
 *
 * @param d - a description that validateDescription() accepts
 */
export function makeMachine(d: MachineDescription): Machine {
	return new Machine(d);
}
