// SPDX-License-Identifier: GPL-2.0-only
/**
 * Fill in the windows that a description leaves out.
 *
 *     bridge:       hull of the BARs below it, in whole MiB; one window below 4 GiB, one prefetchable
 *     host bridge:  runs of its BARs in CPU address order that no other host bridge interrupts
 *
 * Guarantee: the result is a new description; every BAR lies within its bridges' and its host bridge's
 * windows. Stated windows are kept.
 */
import {
	type BarDescription,
	type BridgeWindowsDescription,
	type DeviceDescription,
	formatHex,
	type HostBridgeDescription,
	type HostWindowDescription,
	type MachineDescription,
	parseBdf,
	parseHex,
} from './description.ts';

const FOUR_GIB = 0x1_0000_0000n;
const MIB_MASK = 0xf_ffffn;

/** A hull of addresses. */
class Hull {
	first: bigint | null = null;
	last = 0n;

	add(first: bigint, last: bigint): void {
		if (this.first === null || first < this.first) this.first = first;
		if (last > this.last) this.last = last;
	}

	/** In whole MiB, as bridge windows are. */
	window(): [string, string] | null {
		if (this.first === null) return null;
		return [formatHex(this.first & ~MIB_MASK), formatHex(this.last | MIB_MASK)];
	}
}

/** BARs below one bridge, sorted by the kind of window that they need. */
class BridgeHulls {
	memory = new Hull();
	prefetchLow = new Hull();
	high = new Hull();

	add(bar: BarDescription): void {
		const first = parseHex(bar.bus);
		const last = first + parseHex(bar.size) - 1n;
		if (first >= FOUR_GIB) this.high.add(first, last);
		else if (bar.prefetchable) this.prefetchLow.add(first, last);
		else this.memory.add(first, last);
	}

	/** A bridge has one prefetchable window: if it is needed above 4 GiB, the rest goes to the other. */
	windows(): BridgeWindowsDescription {
		if (this.high.first === null) {
			return {
				memory: this.memory.window(),
				prefetchable: this.prefetchLow.window(),
			};
		}
		if (this.prefetchLow.first !== null) {
			this.memory.add(this.prefetchLow.first, this.prefetchLow.last);
		}
		return { memory: this.memory.window(), prefetchable: this.high.window() };
	}
}

/**
 * The root bus whose hierarchy a function belongs to, as `domain * 256 + bus`; -1 if its parents end
 * nowhere.
 */
export function rootBusOf(
	device: DeviceDescription,
	byBdf: ReadonlyMap<string, DeviceDescription>,
): number {
	let top = device;
	for (let depth = 0; top.parent !== null; depth++) {
		const parent = byBdf.get(top.parent);
		if (parent === undefined || depth > 256) return -1;
		top = parent;
	}
	const bdf = parseBdf(top.bdf);
	return bdf === null ? -1 : bdf.domain * 256 + bdf.bus;
}

function bridgeWindows(
	devices: readonly DeviceDescription[],
	byBdf: ReadonlyMap<string, DeviceDescription>,
): Map<string, BridgeHulls> {
	const hulls = new Map<string, BridgeHulls>();
	for (const device of devices)
		if (device.header === 1) hulls.set(device.bdf, new BridgeHulls());
	for (const device of devices) {
		for (const bar of device.bars) {
			if (bar.io) continue;
			let above = device.parent;
			for (let depth = 0; above !== null && depth <= 256; depth++) {
				hulls.get(above)?.add(bar);
				above = byBdf.get(above)?.parent ?? null;
			}
		}
	}
	return hulls;
}

/** A BAR with the root bus that it belongs to. */
interface RootedBar {
	root: number;
	cpu: bigint;
	bus: bigint;
	size: bigint;
}

function hostWindows(
	devices: readonly DeviceDescription[],
	byBdf: ReadonlyMap<string, DeviceDescription>,
): Map<number, HostWindowDescription[]> {
	const bars: RootedBar[] = [];
	for (const device of devices) {
		const root = rootBusOf(device, byBdf);
		for (const bar of device.bars) {
			if (bar.io) continue;
			const [cpu, bus, size] = [
				parseHex(bar.phys),
				parseHex(bar.bus),
				parseHex(bar.size),
			];
			bars.push({ root, cpu, bus, size });
		}
	}
	bars.sort((a, b) => (a.cpu < b.cpu ? -1 : a.cpu > b.cpu ? 1 : 0));
	const windows = new Map<number, HostWindowDescription[]>();
	let run: RootedBar | null = null;
	const close = () => {
		if (run === null) return;
		const list = windows.get(run.root) ?? [];
		list.push({
			cpu: formatHex(run.cpu),
			bus: formatHex(run.bus),
			size: formatHex(run.size),
		});
		windows.set(run.root, list);
	};
	for (const bar of bars) {
		const sameRun: boolean =
			run !== null &&
			run.root === bar.root &&
			run.cpu - run.bus === bar.cpu - bar.bus &&
			run.cpu < FOUR_GIB === bar.cpu < FOUR_GIB &&
			run.bus < FOUR_GIB === bar.bus < FOUR_GIB;
		if (sameRun && run !== null) {
			const end = bar.cpu + bar.size;
			if (end > run.cpu + run.size) run.size = end - run.cpu;
		} else {
			close();
			run = { ...bar };
		}
	}
	close();
	return windows;
}

/** Whether makeMachine() can build from a description as it is. */
export function hasAllWindows(d: MachineDescription): boolean {
	for (const host of d.hostBridges) if (host.windows === undefined) return false;
	for (const device of d.devices) {
		if (device.header === 1 && device.windows === undefined) return false;
	}
	return true;
}

/**
 * The same machine with every window stated.
 *
 * @param d - a description that validateDescription() accepts
 */
export function fillWindows(d: MachineDescription): MachineDescription {
	const byBdf = new Map(d.devices.map((device) => [device.bdf, device]));
	const hulls = bridgeWindows(d.devices, byBdf);
	const roots = hostWindows(d.devices, byBdf);
	const hostBridges: HostBridgeDescription[] = d.hostBridges.map((host) => ({
		...host,
		windows: host.windows ?? roots.get(host.domain * 256 + host.bus) ?? [],
	}));
	const devices: DeviceDescription[] = d.devices.map((device) => {
		const hull = hulls.get(device.bdf);
		if (hull === undefined || device.windows !== undefined) return device;
		return { ...device, windows: hull.windows() };
	});
	return { ...d, hostBridges, devices };
}
