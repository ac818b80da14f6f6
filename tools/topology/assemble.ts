// SPDX-License-Identifier: GPL-2.0-only
/**
 * A machine from the functions that a source shows.
 *
 * Sources tell the tree, the ids, the BARs at their CPU addresses and, some of them, the ACS words. What
 * they do not tell, and this is where each comes from:
 *
 *     CPU            option `cpu`; else what the host bridges suggest (platform.ts)
 *     bus addresses  option `busAddress` or `busOffset`; else an offset that is never 0 (below)
 *     RAM            2 GiB above 4 GiB and what fits below the windows, clear of CPU and bus addresses
 *     IOMMU          option `iommu`; else strict domains if there are IOMMU groups, else none
 *     peer routing   platform.ts
 *
 * The default offset keeps every bus address different from every CPU address, so an address of the wrong
 * kind is found out. BARs below 4 GiB move down by the span of all of them, BARs above move up:
 *
 *     0       bus, low     CPU, low      4 GiB    CPU, high                bus, high
 *     |  RAM  |<- span ->|<- span ->|      | RAM  |=======|    ...   +2^46 |=======|
 *
 * Guarantee: the description builds. An impossible bus tree is a TopologyError at the line that states it.
 */
import {
	type BarDescription,
	type CpuModel,
	type DeviceDescription,
	formatHex,
	type HostBridgeDescription,
	hex,
	type MachineDescription,
	type PcieType,
	parseBdf,
	parseHex,
} from '../../arch/sim/description.ts';
import { validateDescription } from '../../arch/sim/validate.ts';
import { fillWindows, rootBusOf } from '../../arch/sim/windows.ts';
import { TopologyError } from './error.ts';
import type { FoundFunction } from './functions.ts';
import { guessCpu, peerRouting } from './platform.ts';

/** What a source does not tell. */
export interface AssembleOptions {
	/** Name of the machine. */
	name?: string;
	cpu?: CpuModel;
	/** CPU minus bus address of all BARs of a host bridge. */
	busOffset?: (host: { domain: number; bus: number }) => bigint;
	/** Bus address of one BAR, where it is known; null: not. */
	busAddress?: (bdf: string, bar: number) => bigint | null;
	iommu?: MachineDescription['iommu'];
	/**
	 * The source leaves functions out: where it does not show 00.0 of a root bus, who speaks for that host
	 * bridge is not known.
	 */
	partial?: boolean;
	/** Gets a line for each BAR that can't be and is left out; without it such a BAR is an error. */
	dropped?: (why: string) => void;
}

const FOUR_GIB = 0x1_0000_0000n;
const MIB = 0x10_0000n;
const RAM_HIGH = 0x8000_0000n;
const HIGH_OFFSET = -(1n << 46n);
const HIGH_STEP = 1n << 42n;
const SPAN_MIN = 0x1000_0000n;

/** Order of enumeration. */
function byAddress(a: FoundFunction, b: FoundFunction): number {
	const [x, y] = [parseBdf(a.bdf), parseBdf(b.bdf)];
	if (x === null || y === null) return 0;
	return x.domain - y.domain || x.bus - y.bus || x.devfn - y.devfn;
}

/**
 * Build a machine.
 *
 * @param found - its functions, in any order
 * @param file - name of the source, for messages
 * @param options - what the source does not tell
 * @throws TopologyError naming line and expectation
 */
export function assemble(
	found: readonly FoundFunction[],
	file: string,
	options: AssembleOptions = {},
): MachineDescription {
	const functions = [...found].sort(byAddress);
	const lineOf = new Map(functions.map((fn) => [fn.bdf, fn.line]));
	const tree = new BusTree(functions, file);
	const slots = slotsOf(functions);
	const devices = functions.map((fn) => makeDevice(fn, slots, tree));
	if (options.dropped !== undefined) dropImpossibleBars(devices, options.dropped);
	guessHiddenTypes(devices);
	const cpu = options.cpu ?? guessCpu(functions);
	const hostBridges = makeHosts(functions, tree, cpu, options.partial === true);
	assignBusAddresses(devices, hostBridges, options);
	const iommuSeen = functions.some((fn) => fn.iommuGroup !== null);
	const kind = cpu.vendor === 'amd' || cpu.vendor === 'hygon' ? 'amd' : 'intel';
	const machine: MachineDescription = {
		name: options.name ?? file,
		cpu,
		ram: placeRam(devices),
		iommu:
			options.iommu !== undefined
				? options.iommu
				: iommuSeen
					? { kind, domains: 'dma' }
					: null,
		crossHostBridge: 'works',
		hostBridges,
		devices,
	};
	const problem = validateDescription(machine);
	if (problem === null) return fillWindows(machine);
	const [list, index] = problem.path;
	if (list === 'ram')
		throw new TopologyError(
			file,
			lineOf.get(lowestBar(devices)) ?? 1,
			'BARs above the first megabyte, which is RAM',
		);
	const bdf = list === 'devices' ? devices[Number(index)]?.bdf : undefined;
	throw new TopologyError(file, lineOf.get(bdf ?? '') ?? 1, problem.expected);
}

/** How many functions share domain, bus and device number. */
function slotsOf(functions: readonly FoundFunction[]): Map<string, number> {
	const slots = new Map<string, number>();
	for (const { bdf } of functions) {
		const slot = bdf.slice(0, -1);
		slots.set(slot, (slots.get(slot) ?? 0) + 1);
	}
	return slots;
}

/**
 * Leave out BARs that can't be in a machine, as firmware and captures have them now and then: not a power
 * of two, within the first megabyte, or over another's.
 */
function dropImpossibleBars(devices: readonly DeviceDescription[], dropped: (why: string) => void) {
	const all = devices
		.flatMap((device) =>
			device.bars.map((bar) => ({ device, bar, at: parseHex(bar.phys) })),
		)
		.filter(({ bar }) => bar.io !== true)
		.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
	let end = MIB;
	let before = 'RAM';
	for (const { device, bar, at } of all) {
		const size = parseHex(bar.size);
		const name = `BAR ${bar.bar} of ${device.bdf}`;
		let why: string | null = null;
		if (size === 0n || (size & (size - 1n)) !== 0n) why = 'its size is no power of two';
		else if ((at & (size - 1n)) !== 0n) why = 'its address is no multiple of its size';
		else if (at < end) why = `it lies over ${before}`;
		else if (at + size > 1n << 52n) why = 'its address is too large';
		else if (!bar.is64 && at + size > FOUR_GIB) why = 'its 32 bits do not reach so far';
		if (why === null) {
			end = at + size;
			before = name;
			continue;
		}
		device.bars = device.bars.filter((other) => other !== bar);
		dropped(`${name} is left out: ${why}`);
	}
	for (const device of devices)
		device.bars = device.bars.filter(({ size }) => {
			const bytes = parseHex(size);
			return bytes !== 0n && (bytes & (bytes - 1n)) === 0n;
		});
}

/** Which bridge leads to which bus. */
class BusTree {
	private readonly bridges = new Map<number, FoundFunction>();
	private readonly list: FoundFunction[] = [];
	private readonly byBdf: ReadonlyMap<string, FoundFunction>;

	constructor(functions: readonly FoundFunction[], file: string) {
		this.byBdf = new Map(functions.map((fn) => [fn.bdf, fn]));
		for (const fn of functions) this.add(fn, file);
		for (const fn of this.list) {
			const above = this.bridgeTo(fn.bdf, fn);
			const [own, over] = [fn.buses, above?.buses ?? null];
			if (own !== null && over !== null && own.subordinate > over.subordinate) {
				throw new TopologyError(
					file,
					own.line,
					`a subordinate bus up to ${hex(over.subordinate, 2)}, where ${above?.bdf} above ends`,
				);
			}
		}
	}

	private add(fn: FoundFunction, file: string): void {
		const at = parseBdf(fn.bdf);
		if (at === null || fn.buses === null) return;
		const { secondary, subordinate, line } = fn.buses;
		// A bridge that nobody configured leads nowhere.
		if (secondary === 0 && subordinate === 0) return;
		if (secondary <= at.bus) {
			throw new TopologyError(
				file,
				line,
				`a secondary bus above ${hex(at.bus, 2)}, the bridge's own bus: bus numbers go in a circle`,
			);
		}
		if (subordinate < secondary) {
			throw new TopologyError(
				file,
				line,
				`a subordinate bus of at least ${hex(secondary, 2)}, the secondary bus`,
			);
		}
		const key = at.domain * 256 + secondary;
		const other = this.bridges.get(key);
		if (other !== undefined) {
			throw new TopologyError(
				file,
				line,
				`a secondary bus of its own: bus ${hex(secondary, 2)} is behind ${other.bdf} already`,
			);
		}
		this.bridges.set(key, fn);
		this.list.push(fn);
	}

	/** The bridge above a function: that of its bus, or else (virtual functions) the nearest around it. */
	bridgeTo(bdf: string, self?: FoundFunction): FoundFunction | null {
		const stated = this.byBdf.get(bdf)?.parent;
		if (stated === null) return null;
		const above = stated === undefined ? undefined : this.byBdf.get(stated);
		// A bridge that a copy lacks is skipped: bus numbers lead to the next.
		if (above !== undefined) return above;
		const at = parseBdf(bdf);
		if (at === null) return null;
		const direct = this.bridges.get(at.domain * 256 + at.bus);
		if (direct !== undefined) return direct;
		let nearest: FoundFunction | null = null;
		for (const bridge of this.list) {
			if (bridge === self || bridge.buses === null) continue;
			if (parseBdf(bridge.bdf)?.domain !== at.domain) continue;
			const { secondary, subordinate } = bridge.buses;
			if (at.bus < secondary || at.bus > subordinate) continue;
			if (nearest === null || secondary > (nearest.buses?.secondary ?? 0))
				nearest = bridge;
		}
		return nearest;
	}
}

function makeDevice(
	fn: FoundFunction,
	slots: ReadonlyMap<string, number>,
	tree: BusTree,
): DeviceDescription {
	const bridge = fn.buses !== null && fn.buses.secondary !== 0;
	const device: DeviceDescription = {
		bdf: fn.bdf,
		vendor: fn.vendor,
		device: fn.device,
		class: fn.class,
		revision: fn.revision,
		header: fn.buses === null ? 0 : 1,
		pcieType: fn.pcieType ?? -1,
		parent: tree.bridgeTo(fn.bdf)?.bdf ?? null,
		acs: fn.acs,
		bars: fn.regions.map((region) => ({
			bar: region.bar,
			phys: formatHex(region.address),
			bus: formatHex(region.address),
			size: formatHex(region.size),
			prefetchable: region.prefetchable,
			is64: region.is64,
			...(region.io ? { io: true } : {}),
		})),
	};
	if (fn.multifunction ?? (slots.get(fn.bdf.slice(0, -1)) ?? 0) > 1)
		device.multifunction = true;
	if (fn.buses !== null) {
		device.secondary = bridge ? fn.buses.secondary : 0;
		device.subordinate = bridge ? fn.buses.subordinate : 0;
	}
	if (fn.ats) device.ats = true;
	if (fn.unknown) device.unknown = true;
	if (fn.label !== undefined) device.label = fn.label;
	if (fn.physfn != null) device.physfn = fn.physfn;
	return device;
}

/**
 * Where lspci was denied the capabilities, take the port type that the place suggests. Such functions stay
 * marked `unknown`: their ACS words are not known to be off.
 */
function guessHiddenTypes(devices: DeviceDescription[]): void {
	const byBdf = new Map(devices.map((device) => [device.bdf, device]));
	for (const device of devices) {
		if (device.unknown !== true || device.pcieType !== -1) continue;
		const above =
			device.parent === null ? null : (byBdf.get(device.parent)?.pcieType ?? -1);
		let type: PcieType = 0;
		if (device.header === 1) type = above === null ? 4 : above === 5 ? 6 : 5;
		else if (above === null) type = -1;
		device.pcieType = type;
	}
}

/** One host bridge for each bus that no bridge leads to. */
function makeHosts(
	functions: readonly FoundFunction[],
	tree: BusTree,
	cpu: CpuModel,
	partial: boolean,
): HostBridgeDescription[] {
	const hosts: HostBridgeDescription[] = [];
	for (const fn of functions) {
		if (tree.bridgeTo(fn.bdf) !== null) continue;
		const { domain, bus } = parseBdf(fn.bdf) ?? { domain: 0, bus: 0 };
		if (hosts.some((host) => host.domain === domain && host.bus === bus)) continue;
		const routing = peerRouting(cpu, fn.vendor, fn.device);
		const host: HostBridgeDescription = {
			domain,
			bus,
			busOffset: '0x0',
			peerToPeer: routing.within,
			crossing: routing.across,
		};
		if (fn.numaNode !== null && fn.numaNode >= 0) host.numaNode = fn.numaNode;
		// The first function on the root bus is the one by which the kernel knows a host bridge.
		if (fn.unknownIds || (partial && !fn.bdf.endsWith(':00.0'))) host.unknown = true;
		hosts.push(host);
	}
	return hosts;
}

/** Turn CPU addresses into bus addresses; see the drawing at the top. */
function assignBusAddresses(
	devices: readonly DeviceDescription[],
	hosts: readonly HostBridgeDescription[],
	options: AssembleOptions,
): void {
	const byBdf = new Map(devices.map((device) => [device.bdf, device]));
	const lowOffset = defaultLowOffset(devices);
	for (const [i, host] of hosts.entries()) {
		const given = options.busOffset?.({ domain: host.domain, bus: host.bus });
		const high = given ?? HIGH_OFFSET - BigInt(i) * HIGH_STEP;
		let usesHigh = false;
		let usesLow = false;
		let stated: bigint | null = null;
		for (const device of devices) {
			if (rootBusOf(device, byBdf) !== host.domain * 256 + host.bus) continue;
			for (const bar of device.bars) {
				if (bar.io === true) continue;
				const phys = parseHex(bar.phys);
				const known = options.busAddress?.(device.bdf, bar.bar) ?? null;
				if (known !== null) stated = phys - known;
				else if (phys >= FOUR_GIB) usesHigh = true;
				else usesLow = true;
				bar.bus = formatHex(
					known ??
						phys -
							(phys >= FOUR_GIB
								? high
								: (given ?? lowOffset)),
				);
			}
		}
		const low = usesLow ? (given ?? lowOffset) : high;
		host.busOffset = formatHex(stated ?? (usesHigh ? high : low));
	}
}

function memoryBars(devices: readonly DeviceDescription[]): BarDescription[] {
	return devices.flatMap((device) => device.bars.filter((bar) => bar.io !== true));
}

/** Address of the function that has the lowest memory BAR. */
function lowestBar(devices: readonly DeviceDescription[]): string {
	let lowest = { bdf: '', at: 1n << 64n };
	for (const { bdf, bars } of devices)
		for (const bar of bars) {
			const at = parseHex(bar.phys);
			if (bar.io !== true && at < lowest.at) lowest = { bdf, at };
		}
	return lowest.bdf;
}

/** How far BARs below 4 GiB move down: never 0, and clear of their CPU addresses where there is room. */
function defaultLowOffset(devices: readonly DeviceDescription[]): bigint {
	let first = FOUR_GIB;
	let last = 0n;
	let largest = MIB;
	for (const bar of memoryBars(devices)) {
		const [phys, size] = [parseHex(bar.phys), parseHex(bar.size)];
		if (phys >= FOUR_GIB) continue;
		if (phys < first) first = phys;
		if (phys + size > last) last = phys + size;
		if (size > largest) largest = size;
	}
	if (last === 0n) return SPAN_MIN;
	const span = last - first > SPAN_MIN ? last - first : SPAN_MIN;
	const clear = (span + largest - 1n) & ~(largest - 1n);
	// the first megabyte stays RAM
	const room = first - MIB;
	if (clear <= room) return clear;
	return largest <= room ? largest : 0n;
}

/** RAM clear of everything that a BAR holds, as CPU or as bus address. */
function placeRam(devices: readonly DeviceDescription[]): { start: string; size: string }[] {
	const taken: [bigint, bigint][] = [];
	for (const bar of memoryBars(devices)) {
		const size = parseHex(bar.size);
		for (const start of [parseHex(bar.phys), parseHex(bar.bus)])
			taken.push([start, start + size]);
	}
	taken.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
	let low = 0x8000_0000n;
	let high = FOUR_GIB;
	for (const [start, end] of taken) {
		if (start < low) low = start & ~(MIB - 1n);
		if (end > FOUR_GIB && start < high + RAM_HIGH)
			high = (end + MIB - 1n) & ~(MIB - 1n);
	}
	return [
		{ start: '0x0', size: formatHex(low) },
		{ start: formatHex(high), size: formatHex(RAM_HIGH) },
	];
}
