// SPDX-License-Identifier: GPL-2.0-only
/**
 * Whether a value is a machine that can be built.
 *
 * Guarantee: the first thing wrong is named by its place and by what was expected there, in one line. A
 * description that passes builds, and its tree of devices has no cycle.
 *
 * Mechanism: first the shape of the JSON, then the tree (parents, bus numbers), then addresses (BARs lie
 * apart and agree with their host bridge, RAM lies apart from them).
 */
import {
	type DeviceDescription,
	type MachineDescription,
	parseBdf,
	parseHex,
} from './description.ts';
import { fillWindows, rootBusOf } from './windows.ts';

/** What is wrong, and where. */
export interface DescriptionProblem {
	/** Keys from the top of the JSON: `['devices', 3, 'bars', 0, 'size']`. */
	path: (string | number)[];
	/** What was expected there. */
	expected: string;
}

type Path = (string | number)[];

/** The shape of a value: returns what was expected where it is something else. */
type Shape = (value: unknown, path: Path) => DescriptionProblem | null;

function expecting(expected: string, holds: (value: unknown) => boolean): Shape {
	return (value, path) => (holds(value) ? null : { path, expected });
}

const text = expecting('a string', (v) => typeof v === 'string');
const flag = expecting('true or false', (v) => typeof v === 'boolean');
const number = expecting(
	'a whole number that is not negative',
	(v) => typeof v === 'number' && Number.isSafeInteger(v) && v >= 0,
);
const positive = expecting(
	'a whole number from 1',
	(v) => typeof v === 'number' && Number.isSafeInteger(v) && v >= 1,
);
const hex = expecting(
	'a hexadecimal string such as "0x80000000"',
	(v) => typeof v === 'string' && /^0x[0-9a-f]{1,16}$/i.test(v),
);
const signedHex = expecting(
	'a hexadecimal string such as "0x80000000" or "-0x80000000"',
	(v) => typeof v === 'string' && /^-?0x[0-9a-f]{1,16}$/i.test(v),
);
const bdf = expecting(
	'an address of the form "0000:3b:00.0"',
	(v) => typeof v === 'string' && parseBdf(v) !== null,
);

function oneOf(...values: unknown[]): Shape {
	return expecting(`one of ${values.map((v) => JSON.stringify(v)).join(', ')}`, (v) =>
		values.includes(v),
	);
}

function nullOr(shape: Shape): Shape {
	return (value, path) => (value === null ? null : shape(value, path));
}

function listOf(shape: Shape): Shape {
	return (value, path) => {
		if (!Array.isArray(value)) return { path, expected: 'a list' };
		for (const [i, element] of value.entries()) {
			const problem = shape(element, [...path, i]);
			if (problem !== null) return problem;
		}
		return null;
	};
}

function record(needed: Record<string, Shape>, optional: Record<string, Shape> = {}): Shape {
	return (value, path) => {
		if (typeof value !== 'object' || value === null || Array.isArray(value)) {
			return {
				path,
				expected: `an object with ${Object.keys(needed).join(', ')}`,
			};
		}
		const fields = value as Record<string, unknown>;
		for (const [key, shape] of Object.entries(needed)) {
			if (!(key in fields)) return { path, expected: `a field "${key}"` };
			const problem = shape(fields[key], [...path, key]);
			if (problem !== null) return problem;
		}
		for (const [key, field] of Object.entries(fields)) {
			if (key in needed || field === undefined) continue;
			const shape = optional[key];
			if (shape === undefined) {
				const known = [
					...Object.keys(needed),
					...Object.keys(optional),
				].join(', ');
				return {
					path: [...path, key],
					expected: `one of the fields ${known}`,
				};
			}
			const problem = shape(field, [...path, key]);
			if (problem !== null) return problem;
		}
		return null;
	};
}

const passage = oneOf('works', 'aborts');
const range = expecting(
	'[first, last] as hexadecimal strings',
	(v) => Array.isArray(v) && v.length === 2 && v.every((e) => hex(e, []) === null),
);
const barShape = record(
	{
		bar: oneOf(0, 1, 2, 3, 4, 5),
		phys: hex,
		bus: hex,
		size: hex,
		prefetchable: flag,
		is64: flag,
	},
	{ io: flag },
);
const deviceShape = record(
	{
		bdf,
		vendor: number,
		device: number,
		class: number,
		header: oneOf(0, 1),
		pcieType: oneOf(-1, 0, 1, 4, 5, 6, 7, 8, 9, 10),
		parent: nullOr(bdf),
		acs: nullOr(record({ cap: number, control: number }, { writable: number })),
		bars: listOf(barShape),
	},
	{
		multifunction: flag,
		revision: number,
		secondary: number,
		subordinate: number,
		ats: flag,
		windows: record({ memory: nullOr(range), prefetchable: nullOr(range) }),
		label: text,
		physfn: bdf,
		unknown: flag,
	},
);
const hostShape = record(
	{ domain: number, bus: number, busOffset: signedHex, peerToPeer: passage },
	{
		windows: listOf(record({ cpu: hex, bus: hex, size: hex })),
		crossing: passage,
		numaNode: number,
		unknown: flag,
	},
);
const machineShape = record(
	{
		name: text,
		cpu: record(
			{
				vendor: oneOf(
					'intel',
					'amd',
					'hygon',
					'zhaoxin',
					'centaur',
					'other',
				),
				family: number,
				model: number,
			},
			{ unknown: flag },
		),
		ram: listOf(record({ start: hex, size: hex })),
		iommu: nullOr(
			record({
				kind: oneOf('intel', 'amd'),
				domains: oneOf('dma', 'dma-fq', 'identity'),
			}),
		),
		crossHostBridge: passage,
		hostBridges: listOf(hostShape),
		devices: listOf(deviceShape),
	},
	{
		comment: text,
		notes: listOf(text),
		cpus: positive,
		specialPurpose: listOf(record({ start: hex, size: hex })),
		unclaimedReads: oneOf('ones', 'zeros'),
	},
);

/** Parents, bus numbers, cycles. */
function treeProblem(d: MachineDescription): DescriptionProblem | null {
	const byBdf = new Map<string, DeviceDescription>();
	for (const [i, device] of d.devices.entries()) {
		const path: Path = ['devices', i];
		if (byBdf.has(device.bdf)) {
			return { path: [...path, 'bdf'], expected: `${device.bdf} only once` };
		}
		byBdf.set(device.bdf, device);
		if (device.header !== 1) continue;
		const { secondary, subordinate } = device;
		const own = parseBdf(device.bdf)?.bus ?? 0;
		if (secondary === undefined || subordinate === undefined) {
			return {
				path,
				expected: 'secondary and subordinate bus numbers of the bridge',
			};
		}
		// A bridge that nobody configured leads nowhere.
		if (secondary === 0 && subordinate === 0) continue;
		if (secondary <= own || subordinate < secondary || subordinate > 255) {
			return {
				path: [...path, 'secondary'],
				expected:
					`bus ${own} < secondary <= subordinate <= 255, ` +
					`not secondary ${secondary}, subordinate ${subordinate}`,
			};
		}
	}
	for (const [i, device] of d.devices.entries()) {
		const problem = parentProblem(d, device, byBdf);
		if (problem !== null) return { path: ['devices', i, 'parent'], expected: problem };
	}
	return null;
}

function parentProblem(
	d: MachineDescription,
	device: DeviceDescription,
	byBdf: ReadonlyMap<string, DeviceDescription>,
): string | null {
	const own = parseBdf(device.bdf);
	if (device.parent === null) {
		const there = d.hostBridges.some(
			(h) => h.domain === own?.domain && h.bus === own.bus,
		);
		return there
			? null
			: `a host bridge with the root bus of ${device.bdf}, or a parent`;
	}
	const parent = byBdf.get(device.parent);
	if (parent === undefined) return `a device of this file, not ${device.parent}`;
	if (parent.header !== 1) return `a bridge; ${device.parent} is an endpoint`;
	if (rootBusOf(device, byBdf) === -1) return `no cycle among the parents of ${device.bdf}`;
	const [first, last] = [parent.secondary ?? 0, parent.subordinate ?? 0];
	if (own === null || own.domain !== parseBdf(parent.bdf)?.domain) {
		return `a bridge in the same domain as ${device.bdf}`;
	}
	if (own.bus < first || own.bus > last) {
		return `bus ${own.bus} of ${device.bdf} within the bridge's buses ${first}..${last}`;
	}
	if (device.header === 1 && (device.subordinate ?? 0) > last) {
		return `buses up to ${device.subordinate} of ${device.bdf} within the bridge's ${first}..${last}`;
	}
	return null;
}

/** A stretch of CPU addresses with its owner. */
interface Placed {
	first: bigint;
	last: bigint;
	owner: string;
	path: Path;
}

function overlap(places: Placed[]): DescriptionProblem | null {
	places.sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
	for (let i = 1; i < places.length; i++) {
		const [before, here] = [places[i - 1] as Placed, places[i] as Placed];
		if (here.first <= before.last) {
			return {
				path: here.path,
				expected: `${here.owner} apart from ${before.owner}: both hold 0x${here.first.toString(16)}`,
			};
		}
	}
	return null;
}

/** Bytes that a PC needs from address 0 on: the first megabyte. */
const LOW_RAM = 0x10_0000n;

/** BARs and RAM. */
function addressProblem(d: MachineDescription): DescriptionProblem | null {
	const cpu: Placed[] = [];
	const special = (d.specialPurpose ?? []).map((range, i) => ({
		range,
		path: ['specialPurpose', i],
	}));
	const memory = [...d.ram.map((range, i) => ({ range, path: ['ram', i] })), ...special];
	for (const { range, path } of memory) {
		const { start, size } = range;
		const [first, bytes] = [parseHex(start), parseHex(size)];
		if (bytes === 0n || ((first | bytes) & 4095n) !== 0n) {
			return { path, expected: 'start and size in whole pages of 4096 bytes' };
		}
		if (path[0] === 'ram' && path[1] === 0 && (first !== 0n || bytes < LOW_RAM))
			return { path, expected: 'RAM from address 0 on, at least 1 MiB of it' };
		cpu.push({ first, last: first + bytes - 1n, owner: `RAM at ${start}`, path });
	}
	for (const [i, device] of d.devices.entries()) {
		for (const [k, bar] of device.bars.entries()) {
			const path: Path = ['devices', i, 'bars', k];
			const [first, bus, size] = [
				parseHex(bar.phys),
				parseHex(bar.bus),
				parseHex(bar.size),
			];
			if (size === 0n || (size & (size - 1n)) !== 0n) {
				return { path: [...path, 'size'], expected: 'a power of two' };
			}
			if (bar.io === true) continue;
			if ((bus & (size - 1n)) !== 0n) {
				return {
					path: [...path, 'bus'],
					expected: `a multiple of the size ${bar.size}`,
				};
			}
			if (!bar.is64 && bus + size > 0x1_0000_0000n) {
				return {
					path: [...path, 'bus'],
					expected: 'an address below 4 GiB: the BAR has 32 bits',
				};
			}
			const owner = `BAR ${bar.bar} of ${device.bdf}`;
			cpu.push({ first, last: first + size - 1n, owner, path });
		}
	}
	return overlap(cpu) ?? windowProblem(d);
}

/** Every BAR must be reachable from the CPU at the address that it states. */
function windowProblem(d: MachineDescription): DescriptionProblem | null {
	const full = fillWindows(d);
	const byBdf = new Map(full.devices.map((device) => [device.bdf, device]));
	for (const [i, device] of full.devices.entries()) {
		const root = rootBusOf(device, byBdf);
		const host = full.hostBridges.find((h) => h.domain * 256 + h.bus === root);
		for (const [k, bar] of device.bars.entries()) {
			if (bar.io === true) continue;
			const [phys, bus, size] = [
				parseHex(bar.phys),
				parseHex(bar.bus),
				parseHex(bar.size),
			];
			const reached = (host?.windows ?? []).some((w) => {
				const [cpu, length] = [parseHex(w.cpu), parseHex(w.size)];
				return (
					phys >= cpu &&
					phys + size <= cpu + length &&
					phys - cpu + parseHex(w.bus) === bus
				);
			});
			if (!reached) {
				return {
					path: ['devices', i, 'bars', k, 'phys'],
					expected: `a window of the host bridge that turns ${bar.phys} into ${bar.bus}`,
				};
			}
		}
	}
	return null;
}

/**
 * The first thing wrong with a description.
 *
 * @param value - anything, for example what JSON.parse() returned
 * @returns null if it is a machine that makeMachine() can build
 */
export function validateDescription(value: unknown): DescriptionProblem | null {
	const problem = machineShape(value, []);
	if (problem !== null) return problem;
	const d = value as MachineDescription;
	if (d.ram.length === 0) return { path: ['ram'], expected: 'at least one range of RAM' };
	return treeProblem(d) ?? addressProblem(d);
}
