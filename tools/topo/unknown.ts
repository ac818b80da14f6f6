// SPDX-License-Identifier: GPL-2.0-only
/**
 * What a machine may be, where its source does not tell.
 *
 *     ACS of a function unknown       off everywhere | redirecting everywhere
 *     type of a root bus's first      a root port | not
 *     who speaks for a host bridge    nobody on the list | one for one host bridge | one for all
 *     CPU                             the one that was taken | one that needs no list
 *
 * Guarantee: the answers on all of these machines together are what the kernel may say of a pair. A pair
 * depends on ACS only by whether any function on its path redirects, and on host bridges only by whether
 * each is on the list, so a mixture can't give an answer that none of these gives.
 */
import {
	type DeviceDescription,
	formatBus,
	type HostBridgeDescription,
	type MachineDescription,
	parseBdf,
} from '../../arch/sim/description.ts';
import { rootBusOf } from '../../arch/sim/windows.ts';
import { pci_p2pdma_whitelist, REQ_SAME_HOST_BRIDGE } from '../../drivers/pci/p2pdma/whitelist.ts';
import { type Answer, askKernel, type Reach, type Scenario } from './kernel.ts';

const ACS_CAPABILITY = 0x1f;
/** What a kernel with an IOMMU sets: source validation, redirects, upstream forwarding. */
const ACS_STANDARD = 0x1d;
const NOBODY = { vendor: 0xffff, device: 0xffff };
const ZEN = { vendor: 'amd', family: 0x17, model: 0 } as const;
const CLASS_HOST_BRIDGE = 0x06_0000;

/** What of a machine its source does not tell. */
export interface Unknowns {
	/** Functions whose ACS words are not known. */
	readonly acs: readonly string[];
	/** Functions that speak for a host bridge only if they are root ports, and may not be. */
	readonly types: readonly string[];
	/** Host bridges for which nobody known speaks, `dddd:bb`. */
	readonly hosts: readonly string[];
	/** The CPU could be any. */
	readonly cpu: boolean;
}

function hostName({ domain, bus }: HostBridgeDescription): string {
	return formatBus(domain, bus);
}

function firstOn(d: MachineDescription, host: HostBridgeDescription): DeviceDescription | null {
	const name = hostName(host);
	return (
		d.devices.find(
			({ bdf, parent }) => parent === null && bdf.startsWith(`${name}:`),
		) ?? null
	);
}

/**
 * What is not known of a machine.
 *
 * @param d - the machine
 */
export function unknownsOf(d: MachineDescription): Unknowns {
	const acs = d.devices
		.filter(({ unknown, acs: words }) => unknown === true && words === null)
		.map(({ bdf }) => bdf);
	const types: string[] = [];
	const hosts: string[] = [];
	for (const host of d.hostBridges) {
		if (host.unknown === true) {
			hosts.push(hostName(host));
			continue;
		}
		const first = firstOn(d, host);
		if (first === null || first.unknown !== true || first.header !== 1) continue;
		if ((parseBdf(first.bdf)?.devfn ?? 0) !== 0) types.push(first.bdf);
	}
	return { acs, types, hosts, cpu: d.cpu.unknown === true };
}

/**
 * The same machine, where nothing is open any more about what two functions have nothing to do with.
 *
 * @param d - the machine
 * @param pair - addresses
 */
export function forPair(d: MachineDescription, pair: readonly string[]): MachineDescription {
	const byBdf = new Map(d.devices.map((device) => [device.bdf, device]));
	const rootOf = (bdf: string) => {
		const device = byBdf.get(bdf);
		return device === undefined ? -1 : rootBusOf(device, byBdf);
	};
	const roots = new Set(pair.map(rootOf));
	const hostBridges = d.hostBridges.map((host) => {
		const { unknown, ...known } = host;
		return unknown === true && !roots.has(host.domain * 256 + host.bus) ? known : host;
	});
	const devices = d.devices.map((device) => {
		const { unknown, ...known } = device;
		return unknown === true && !roots.has(rootBusOf(device, byBdf)) ? known : device;
	});
	return { ...d, hostBridges, devices };
}

/** ids of a row of the list: one that is for one host bridge only, or one for all. */
function listed(sameOnly: boolean): { vendor: number; device: number } {
	const found = pci_p2pdma_whitelist.find(
		({ flags, since }) =>
			since === null && ((flags & REQ_SAME_HOST_BRIDGE) !== 0) === sameOnly,
	);
	return found ?? NOBODY;
}

/** The same machine with somebody speaking for the host bridges of which that is not known. */
function withSpeakers(
	d: MachineDescription,
	hosts: readonly string[],
	ids: { vendor: number; device: number },
): MachineDescription {
	const devices = [...d.devices];
	for (const host of d.hostBridges) {
		const name = hostName(host);
		if (!hosts.includes(name)) continue;
		const bdf = `${name}:00.0`;
		const at = devices.findIndex((device) => device.bdf === bdf);
		if (at >= 0) {
			devices[at] = { ...(devices[at] as DeviceDescription), ...ids };
			continue;
		}
		const before = devices.findIndex((device) => device.bdf.startsWith(`${name}:`));
		devices.splice(before < 0 ? devices.length : before, 0, {
			bdf,
			...ids,
			class: CLASS_HOST_BRIDGE,
			header: 0,
			pcieType: -1,
			parent: null,
			acs: null,
			bars: [],
		});
	}
	return { ...d, devices };
}

function withAcs(d: MachineDescription, unknown: readonly string[]): MachineDescription {
	const set = new Set(unknown);
	const devices = d.devices.map((device) =>
		set.has(device.bdf)
			? {
					...device,
					// Conventional functions have none: this one must not be one.
					pcieType:
						device.pcieType === -1
							? (0 as const)
							: device.pcieType,
					acs: { cap: ACS_CAPABILITY, control: ACS_STANDARD },
				}
			: device,
	);
	return { ...d, devices };
}

function withoutRootPorts(d: MachineDescription, types: readonly string[]): MachineDescription {
	const devices = d.devices.map((device) =>
		types.includes(device.bdf) ? { ...device, pcieType: 7 as const } : device,
	);
	return { ...d, devices };
}

/** A machine that a machine may be. */
export interface Candidate {
	readonly machine: MachineDescription;
	/** What was taken for granted, a clause each: `unknown ACS is off`. */
	readonly assuming: readonly string[];
}

/** Each of some machines, in each of some ways. */
function multiply(
	all: readonly Candidate[],
	ways: readonly (readonly [string, (d: MachineDescription) => MachineDescription])[],
): Candidate[] {
	return all.flatMap(({ machine, assuming }) =>
		ways.map(([clause, change]) => ({
			machine: change(machine),
			assuming: [...assuming, clause],
		})),
	);
}

/**
 * All the machines that a machine may be.
 *
 * @param d - the machine
 * @returns one, `d` itself, where everything is known
 */
export function candidates(d: MachineDescription): Candidate[] {
	const { acs, types, hosts, cpu } = unknownsOf(d);
	let all: Candidate[] = [{ machine: d, assuming: [] }];
	if (cpu) {
		all = multiply(all, [
			['the CPU is not AMD of family 0x17 or later', (one) => one],
			['the CPU is AMD of family 0x17 or later', (one) => ({ ...one, cpu: ZEN })],
		]);
	}
	if (hosts.length > 0) {
		all = multiply(all, [
			[
				'the host bridge is not on the list',
				(one) => withSpeakers(one, hosts, NOBODY),
			],
			[
				'the host bridge is on the list, within itself',
				(one) => withSpeakers(one, hosts, listed(true)),
			],
			[
				'the host bridge is on the list',
				(one) => withSpeakers(one, hosts, listed(false)),
			],
		]);
	}
	if (types.length > 0) {
		const ports = types.join(', ');
		all = multiply(all, [
			[`${ports} is a root port`, (one) => one],
			[`${ports} is no root port`, (one) => withoutRootPorts(one, types)],
		]);
	}
	if (acs.length > 0) {
		all = multiply(all, [
			['unknown ACS is off', (one) => one],
			['unknown ACS redirects', (one) => withAcs(one, acs)],
		]);
	}
	return all;
}

/** What a kernel may say of a pair. */
export interface Verdict {
	/** One, or several where the source leaves it open; the best first. */
	readonly may: readonly Reach[];
	readonly hops: number;
}

const best: readonly Reach[] = ['self', 'switch', 'redirected', 'host', 'across', 'refused'];

function together(answers: readonly Answer[]): Verdict {
	const said = new Set(answers.map(({ reach }) => reach));
	return { may: best.filter((reach) => said.has(reach)), hops: answers[0]?.hops ?? 0 };
}

/**
 * Ask a kernel about pairs of a machine that may not be known in full.
 *
 * @param scenario - machine and kernel
 * @param providers - addresses; the rows
 * @param clients - addresses; the columns
 */
export function verdicts(
	scenario: Scenario,
	providers: readonly string[],
	clients: readonly string[],
): Verdict[][] {
	const asked = candidates(scenario.machine).map(({ machine }) =>
		askKernel({ ...scenario, machine }, providers, clients),
	);
	return providers.map((_, p) =>
		clients.map((__, c) => together(asked.map((answers) => answers[p]?.[c] as Answer))),
	);
}
