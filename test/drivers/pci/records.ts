// SPDX-License-Identifier: GPL-2.0-only
/**
 * Records of real kernels (test/golden/p2p), and the machine that a record was made on.
 *
 * A case is a topology under one setting of ACS words, ids and CPU; a machine is built for each,
 * with that setting as what firmware left, and booted without IOMMU, so that it stays.
 */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import type { CpuModel, MachineDescription, PcieType } from '../../../arch/sim/description.ts';
import { pciBus } from '../../../drivers/pci/search.ts';
import type { pci_dev } from '../../../include/linux/pci.ts';
import type { ProfileName } from '../../../include/sim/feature.ts';
import { installedWorld, type World, world } from '../../../include/sim/world.ts';
import { bootPci } from './machines.ts';

/** A function as the kernel enumerated it. */
export interface DeviceRecord {
	readonly i: number;
	readonly bdf: string;
	readonly vendor: number;
	readonly device: number;
	readonly class: number;
	readonly hdr: number;
	readonly multifunction: number;
	readonly pcie_type: number;
	readonly parent: string | null;
	readonly host: string;
	readonly root_bus_pos: number;
	readonly bus: number;
	readonly devfn: number;
	readonly secondary: number;
	readonly physfn: string | null;
	readonly driver: string | null;
	readonly bars: readonly {
		readonly bar: number;
		readonly phys: string;
		readonly bus: string;
		readonly len: string;
		readonly mem: number;
		readonly pref: number;
		readonly m64: number;
	}[];
}

/** A device tree. */
export interface TopologyRecord {
	readonly topology: string;
	readonly host_bus_offset: Readonly<Record<string, string>>;
	readonly devs: readonly DeviceRecord[];
}

/** A topology under one setting, and the verdicts on all of its pairs. */
export interface CaseRecord {
	readonly case: string;
	readonly topology: string;
	readonly cpu_vendor: number;
	readonly cpu_family: number;
	readonly acs: readonly (number | null)[];
	readonly acs_cap: readonly (number | null)[];
	readonly ids: readonly (readonly [vendor: number, device: number])[];
	readonly type: readonly (readonly number[])[];
	readonly raw: readonly (readonly number[])[];
	readonly dist: readonly (readonly number[])[];
}

const cpuVendors: Readonly<Record<number, CpuModel['vendor']>> = {
	0: 'intel',
	2: 'amd',
	5: 'centaur',
	9: 'hygon',
	10: 'zhaoxin',
};

/**
 * Read a file of records.
 *
 * @param profile - the kernel that made them
 * @param name - file name without `.jsonl.gz`
 */
export function readRecords<T>(profile: ProfileName, name: string): T[] {
	const file = new URL(`../../golden/p2p/${profile}/${name}.jsonl.gz`, import.meta.url);
	const lines = gunzipSync(readFileSync(file)).toString().trimEnd().split('\n');
	return lines.map((line) => JSON.parse(line) as T);
}

/** The records of one kernel that others refer to. */
export class RecordSet {
	readonly profile: ProfileName;
	readonly topologies: Map<string, TopologyRecord>;
	readonly cases: Map<string, CaseRecord>;
	/** The case that was booted last, and its functions. */
	private last: { name: string; devs: pci_dev[]; world: World } | null = null;

	/** @param profile - the kernel that made them */
	constructor(profile: ProfileName) {
		this.profile = profile;
		const topologies = readRecords<TopologyRecord>(profile, 'topologies');
		this.topologies = new Map(topologies.map((t) => [t.topology, t]));
		const cases = readRecords<CaseRecord>(profile, 'pairs');
		this.cases = new Map(cases.map((c) => [c.case, c]));
	}

	/**
	 * Boot the machine of a case; if it is the one that runs, make its functions forget all.
	 *
	 * @param name - its label
	 * @returns the functions in the records' order
	 */
	boot(name: string): pci_dev[] {
		if (this.last?.name === name && this.last.world === installedWorld()) {
			for (const pdev of this.last.devs) pdev.p2pdma = null;
			return this.last.devs;
		}
		const one = this.cases.get(name)!;
		const topology = this.topologies.get(one.topology)!;
		bootPci(describeMachine(topology, one), this.profile);
		const { byName } = pciBus();
		const devs = topology.devs.map(({ bdf }) => byName.get(bdf)!);
		for (const { i, driver } of topology.devs)
			if (driver !== null) devs[i]!.dev.driver = { name: driver };
		this.last = { name, devs, world: world() };
		return devs;
	}
}

/**
 * The machine of a case.
 *
 * @param t - device tree
 * @param c - setting
 */
export function describeMachine(t: TopologyRecord, c: CaseRecord): MachineDescription {
	const hosts = [...new Set(t.devs.map(({ host }) => host))];
	// On a root bus the order counts, and it is not always that of the addresses.
	const order = [...t.devs].sort((a, b) =>
		a.root_bus_pos >= 0 && b.root_bus_pos >= 0 ? a.root_bus_pos - b.root_bus_pos : 0,
	);
	return {
		name: t.topology,
		cpu: { vendor: cpuVendors[c.cpu_vendor]!, family: c.cpu_family, model: 0 },
		ram: [{ start: '0x100000', size: '0x1000000' }],
		iommu: null,
		crossHostBridge: 'works',
		hostBridges: hosts.map((host) => ({
			domain: Number.parseInt(host, 16),
			bus: Number.parseInt(host.slice(5), 16),
			busOffset: t.host_bus_offset[host] ?? '0x0',
			peerToPeer: 'works',
		})),
		devices: order.map((d) => describeDevice(d, c)),
	};
}

function describeDevice(d: DeviceRecord, c: CaseRecord): MachineDescription['devices'][number] {
	const [vendor, device] = c.ids[d.i]!;
	const control = c.acs[d.i] ?? null;
	return {
		bdf: d.bdf,
		vendor,
		device,
		class: d.class,
		header: d.hdr === 0 ? 0 : 1,
		multifunction: d.multifunction !== 0,
		pcieType: d.pcie_type as PcieType,
		parent: d.parent,
		...(d.secondary < 0 ? {} : { secondary: d.secondary, subordinate: 0xff }),
		...(d.physfn === null ? {} : { physfn: d.physfn }),
		acs: control === null ? null : { cap: c.acs_cap[d.i] ?? 0, control },
		bars: d.bars.map(({ bar, phys, bus, len, mem, pref, m64 }) => ({
			bar,
			phys,
			bus,
			size: len,
			prefetchable: pref !== 0,
			is64: m64 !== 0,
			io: mem === 0,
		})),
	};
}
