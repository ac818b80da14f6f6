// SPDX-License-Identifier: GPL-2.0-only
/**
 * What a record is replayed on: the folder's topologies and cases, and a booted machine.
 *
 * Guarantee: before each record the machine is as the record says; what one record left in caches
 * and registers the next one does not see. Machines of neighbouring records are not booted again.
 */
import { devres_release_all } from '../../../drivers/base/devres.ts';
import { pci_write_config_word } from '../../../drivers/pci/access.ts';
import { map_types_idx } from '../../../drivers/pci/p2pdma/cache.ts';
import { pci_p2pdma_add_resource } from '../../../drivers/pci/p2pdma/memory.ts';
import { pci_p2pdma } from '../../../drivers/pci/p2pdma/objects.ts';
import { pciBus } from '../../../drivers/pci/search.ts';
import { device } from '../../../include/linux/device.ts';
import type { pci_dev } from '../../../include/linux/pci.ts';
import type { pci_p2pdma_map_type } from '../../../include/linux/pci-p2pdma.ts';
import type { ProfileName } from '../../../include/sim/feature.ts';
import { HarnessError } from '../../../include/sim/report.ts';
import { feature, installedWorld, installWorld, type World } from '../../../include/sim/world.ts';
import { PCI_ACS_CTRL } from '../../../include/uapi/linux/pci_regs.ts';
import { boot } from '../../../init/main.ts';
import { run } from '../../../kernel/sched/core.ts';
import { RecordError, type RecordLine } from '../sources.ts';
import { describeMachine, type MachineSetting } from './machine.ts';
import type { CaseRecord, ClientRecord, StateRecord, TopologyRecord } from './records.ts';

/** How a machine is booted for a record. */
interface BootSetting {
	readonly topology: string;
	readonly state: StateRecord;
	/** Absent: capabilities have all bits. */
	readonly acs_cap?: readonly (number | null)[];
	/** MiB of RAM; absent: less than 2 GiB. */
	readonly memory?: number;
}

/** What the folder's records refer to. */
export interface Joins {
	readonly topologies: ReadonlyMap<string, TopologyRecord>;
	readonly cases: ReadonlyMap<string, CaseRecord>;
}

/** A booted machine and what it was booted from. */
interface Booted {
	readonly key: string;
	readonly world: World;
	readonly topology: TopologyRecord;
	readonly devs: pci_dev[];
	readonly acs: readonly (number | null)[];
	/** BARs that are registered, as `device:bar`. */
	readonly registered: Set<string>;
}

/** Replays records of one folder and one kernel. */
export class Rig {
	readonly profile: ProfileName;
	private readonly joins: Joins;
	private booted: Booted | null = null;
	/** The record at hand, for what is wrong with it. */
	private at: RecordLine<unknown> | null = null;

	/**
	 * @param profile - the kernel
	 * @param joins - topologies and cases
	 */
	constructor(profile: ProfileName, joins: Joins) {
		this.profile = profile;
		this.joins = joins;
	}

	/** Say which record comes next. */
	begin(line: RecordLine<unknown>): void {
		this.at = line;
	}

	/** Take the machine away. */
	end(): void {
		if (this.booted !== null && installedWorld() === this.booted.world)
			installWorld(null);
		this.booted = null;
	}

	/**
	 * The record at hand cannot be replayed.
	 *
	 * @param what - what is wrong with it
	 */
	bad(what: string): never {
		throw new RecordError(this.at?.file ?? '', this.at?.line ?? 0, what);
	}

	/** A topology of the folder. */
	topology(name: string): TopologyRecord {
		const found = this.joins.topologies.get(name);
		return found ?? this.bad(`there is no topology "${name}" in topologies.jsonl`);
	}

	/** A case of the folder. */
	case(name: string): CaseRecord {
		const found = this.joins.cases.get(name);
		return found ?? this.bad(`there is no case "${name}" in pairs.jsonl`);
	}

	/**
	 * Have the machine of a case run, nothing registered, caches empty.
	 *
	 * @param name - the case
	 * @returns its functions, by their number in records
	 */
	bootCase(name: string): pci_dev[] {
		const one = this.case(name);
		return this.boot(`case ${name}`, {
			topology: one.topology,
			state: one,
			acs_cap: one.acs_cap,
		});
	}

	/** The same, without taking registered memory away from functions. */
	keepCase(name: string): pci_dev[] {
		const { booted } = this;
		const kept = booted?.key === `case ${name}` && installedWorld() === booted.world;
		if (!kept || booted === null) return this.bootCase(name);
		for (const { p2pdma } of booted.devs)
			(p2pdma as pci_p2pdma | null)?.map_types.clear();
		this.writeAcs(booted.acs);
		return booted.devs;
	}

	/**
	 * Have a machine run, nothing registered, caches empty.
	 *
	 * @param key - what to know it by: equal keys, equal settings
	 * @param setting - topology, ACS words, ids, CPU, RAM
	 * @returns its functions, by their number in records
	 */
	boot(key: string, setting: BootSetting): pci_dev[] {
		const { booted } = this;
		if (booted !== null && booted.key === key && installedWorld() === booted.world) {
			this.forget(booted);
			return booted.devs;
		}
		this.end();
		const topology = this.topology(setting.topology);
		const { state } = setting;
		const { devs: records } = topology;
		for (const [what, list] of [
			['acs', state.acs],
			['ids', state.ids],
		] as const)
			if (list.length !== records.length)
				this.bad(
					`${what}: expected a list of ${records.length}, one a device`,
				);
		const described: MachineSetting = {
			cpu_vendor: state.cpu_vendor,
			cpu_family: state.cpu_family,
			acs: state.acs,
			acs_cap: setting.acs_cap ?? [],
			ids: state.ids,
			memory: setting.memory ?? 0,
		};
		const world = this.switchOn(topology, described);
		const devs = functionsOf(topology);
		for (const { i, driver } of records)
			devs[i]!.dev.driver = driver === null ? null : { name: driver };
		const { acs } = state;
		this.booted = { key, world, topology, devs, acs, registered: new Set() };
		// An IOMMU sets ACS words of its own, and the record's are those that were in force.
		this.writeAcs(acs);
		return devs;
	}

	private switchOn(topology: TopologyRecord, setting: MachineSetting): World {
		installWorld(null);
		try {
			return boot(describeMachine(topology, setting), this.profile, {
				cmdline: swiotlbWords(topology.cmdline ?? ''),
			});
		} catch (error) {
			if (error instanceof HarnessError)
				this.bad(`topology "${topology.topology}": ${error.message}`);
			throw error;
		}
	}

	private forget(booted: Booted): void {
		for (const { dev } of booted.devs)
			if (dev.devres.length > 0) run(() => devres_release_all(dev));
		for (const pdev of booted.devs) pdev.p2pdma = null;
		booted.registered.clear();
		this.writeAcs(booted.acs);
	}

	/**
	 * Write ACS control words, as software does.
	 *
	 * @param acs - by device; null: left alone
	 */
	writeAcs(acs: readonly (number | null)[]): void {
		for (const [i, pdev] of (this.booted?.devs ?? []).entries()) {
			const word = acs[i] ?? null;
			if (word !== null && pdev.acs_cap !== 0)
				pci_write_config_word(pdev, pdev.acs_cap + PCI_ACS_CTRL, word);
		}
	}

	/** All functions, by their number in records. */
	all(): readonly pci_dev[] {
		return this.booted?.devs ?? [];
	}

	/** A function by its number in records. */
	dev(i: number): pci_dev {
		return this.booted?.devs[i] ?? this.bad(`there is no device ${i}`);
	}

	/** A function by its address. */
	named(bdf: string): pci_dev {
		return pciBus().byName.get(bdf) ?? this.bad(`there is no device ${bdf}`);
	}

	/**
	 * A client of a question.
	 *
	 * @param client - a function, a device below one, or one without PCI parent
	 */
	client(client: ClientRecord): device {
		if (typeof client === 'number') return this.dev(client).dev;
		if ('child_of' in client)
			return new device({
				init_name: 'child',
				parent: this.dev(client.child_of).dev,
			});
		return new device({ init_name: 'nonpci' });
	}

	/**
	 * Register a whole BAR, unless it is.
	 *
	 * @param i - the function
	 * @param bar - 0 to 5
	 */
	register(i: number, bar: number): void {
		const key = `${i}:${bar}`;
		const registered = this.booted?.registered;
		if (registered === undefined || registered.has(key)) return;
		const ret = run(() => pci_p2pdma_add_resource(this.dev(i), bar, 0n, 0n));
		if (ret !== 0) this.bad(`BAR ${bar} of device ${i} cannot be registered: ${ret}`);
		registered.add(key);
	}

	/**
	 * Give a function the verdict cache that a record begins with.
	 *
	 * @param i - the provider
	 * @param client - whose entry
	 * @param recorded - map type as the kernel numbers it; 0: no entry
	 */
	setCached(i: number, client: pci_dev, recorded: number): void {
		const provider = this.dev(i);
		provider.p2pdma ??= new pci_p2pdma();
		const { map_types } = provider.p2pdma as pci_p2pdma;
		if (recorded <= 0) map_types.delete(map_types_idx(client));
		else map_types.set(map_types_idx(client), mapTypeOf(recorded));
	}
}

/** The map type that a kernel shows by a number. */
function mapTypeOf(recorded: number): pci_p2pdma_map_type {
	const shift = feature('p2pdma_map_none') || recorded === 0 ? 0 : 1;
	return (recorded + shift) as pci_p2pdma_map_type;
}

/** The functions of a booted machine, in the records' order. */
function functionsOf(topology: TopologyRecord): pci_dev[] {
	const { byName } = pciBus();
	return topology.devs.map(({ bdf }) => byName.get(bdf)!);
}

/** ACS words are given by the record; of the command line only the bounce buffer is left. */
function swiotlbWords(cmdline: string): string {
	return cmdline
		.split(' ')
		.filter((word) => word.startsWith('swiotlb='))
		.join(' ');
}
