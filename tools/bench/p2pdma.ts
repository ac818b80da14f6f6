// SPDX-License-Identifier: GPL-2.0-only
/**
 * Verdicts on all pairs of a large machine: 1,000 endpoints below four levels of switches, and how
 * the time grows with their number.
 *
 * ```
 *   root port ── switch ──┬── switch ──┬── switch ──┬── switch ──┬── endpoint     16 a root port,
 *                         └── switch   └── switch   └── switch   └── endpoint     as many as needed
 * ```
 */
import { cpuUsage } from 'node:process';
import {
	type DeviceDescription,
	hex,
	type MachineDescription,
} from '../../arch/sim/description.ts';
import { calc_map_type_and_dist } from '../../drivers/pci/p2pdma/distance.ts';
import { pciBus } from '../../drivers/pci/search.ts';
import type { pci_dev } from '../../include/linux/pci.ts';
import { PCI_P2PDMA_MAP_BUS_ADDR } from '../../include/linux/pci-p2pdma.ts';
import { outParam } from '../../include/linux/types.ts';
import { boot, shutdown } from '../../init/main.ts';
import { bounded, figure, median, type Row } from './timing.ts';

/** Levels of switches between a root port and an endpoint. */
const LEVELS = 4;
/** Buses of a domain. */
const BUSES = 256;
/** Seconds that all pairs of 1,000 endpoints may take. */
const LIMIT = 0.5;
const SIZES = [250, 500, 1000, 2000] as const;
const ROUNDS = 3;

/** One domain under construction. */
class Domain {
	readonly devices: DeviceDescription[];
	private readonly number: number;
	private lastBus = 0;
	endpoints = 0;

	constructor(number: number, devices: DeviceDescription[]) {
		this.number = number;
		this.devices = devices;
	}

	/** Buses that are still free. */
	get room(): number {
		return BUSES - 1 - this.lastBus;
	}

	private add(parent: string | null, bus: number, slot: number, pcieType: 0 | 4 | 5 | 6) {
		const isBridge = pcieType !== 0;
		const bdf = `${hex(this.number, 4)}:${hex(bus, 2)}:${hex(slot, 2)}.0`;
		const made: DeviceDescription = {
			bdf,
			vendor: 0x8086,
			device: 0x2030,
			class: isBridge ? 0x060400 : 0x020000,
			header: isBridge ? 1 : 0,
			pcieType,
			parent,
			acs: isBridge ? { cap: 0x5f, control: 0 } : null,
			bars: [],
		};
		if (isBridge) {
			made.secondary = ++this.lastBus;
			made.subordinate = BUSES - 1;
		}
		this.devices.push(made);
		return { bdf, bus: this.lastBus };
	}

	/** A switch of two ports, and what is below it; stops at `limit` endpoints. */
	private switchBelow(parent: string, bus: number, level: number, limit: number): void {
		const up = this.add(parent, bus, 0, 5);
		for (let slot = 0; slot < 2 && this.endpoints < limit; slot++) {
			const down = this.add(up.bdf, up.bus, slot, 6);
			if (level < LEVELS) {
				this.switchBelow(down.bdf, down.bus, level + 1, limit);
				continue;
			}
			this.add(down.bdf, down.bus, 0, 0);
			this.endpoints++;
		}
	}

	/** A root port with four levels of switches. */
	hierarchy(slot: number, limit: number): void {
		const port = this.add(null, 0, slot, 4);
		this.switchBelow(port.bdf, port.bus, 1, limit);
	}
}

/** Buses that a root port with four full levels of switches takes. */
const BUSES_A_HIERARCHY = 48;

/**
 * A machine with endpoints below four levels of switches.
 *
 * @param endpoints - how many
 */
export function switchedMachine(endpoints: number): MachineDescription {
	const devices: DeviceDescription[] = [];
	const hostBridges: MachineDescription['hostBridges'] = [];
	for (let left = endpoints; left > 0; ) {
		const number = hostBridges.length;
		hostBridges.push({ domain: number, bus: 0, busOffset: '0x0', peerToPeer: 'works' });
		const domain = new Domain(number, devices);
		for (
			let slot = 1;
			domain.room >= BUSES_A_HIERARCHY && domain.endpoints < left;
			slot++
		)
			domain.hierarchy(slot, left);
		left -= domain.endpoints;
	}
	return {
		name: `${endpoints} endpoints`,
		cpu: { vendor: 'intel', family: 6, model: 0 },
		ram: [{ start: '0x0', size: '0x10000000' }],
		iommu: null,
		crossHostBridge: 'works',
		hostBridges,
		devices,
	};
}

/** The endpoints of the booted machine. */
function endpointsOf(): pci_dev[] {
	return pciBus().devices.filter(({ hdr_type }) => hdr_type === 0);
}

/**
 * Judge every pair.
 *
 * @param devs - functions
 * @returns pairs that go by bus address
 */
export function judgeAll(devs: readonly pci_dev[]): number {
	const dist = outParam(0);
	let direct = 0;
	for (const provider of devs)
		for (const client of devs) {
			const type = calc_map_type_and_dist(provider, client, dist, false);
			if (type === PCI_P2PDMA_MAP_BUS_ADDR) direct++;
		}
	return direct;
}

/** Median seconds of processor time for all pairs of a machine: what else runs does not count. */
function seconds(endpoints: number): number {
	boot(switchedMachine(endpoints));
	const devs = endpointsOf();
	if (devs.length !== endpoints) throw new Error(`${devs.length} endpoints`);
	const times: number[] = [];
	for (let round = 0; round < ROUNDS; round++) {
		const start = cpuUsage();
		const direct = judgeAll(devs);
		const { user, system } = cpuUsage(start);
		times.push((user + system) / 1e6);
		if (direct < endpoints) throw new Error(`only ${direct} pairs by bus address`);
	}
	shutdown();
	return median(times);
}

/** The rows of this benchmark. */
export function p2pdmaRows(): Row[] {
	seconds(SIZES[0]);
	const rows: Row[] = [];
	let before: number | null = null;
	for (const size of SIZES) {
		const took = seconds(size);
		const what = `all pairs of ${size.toLocaleString('en-US')} endpoints, four switch levels`;
		rows.push(
			size === 1000
				? bounded(what, took, 's', LIMIT, 'most')
				: figure(what, `${took.toFixed(2)} s`),
		);
		if (before !== null)
			rows.push(
				figure(
					'  twice as many endpoints take',
					`${(took / before).toFixed(1)} times`,
				),
			);
		before = took;
	}
	return rows;
}
