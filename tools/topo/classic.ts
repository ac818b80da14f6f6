// SPDX-License-Identifier: GPL-2.0-only
/**
 * The classic names of how near two functions are, as `nvidia-smi topo -m` and NCCL use them.
 *
 * ```
 *        host bridge 0          host bridge 1        A B   PIX   one bus
 *        RP0       RP1             RP2               A C   PIX   one switch
 *         │         │               │                A D   PXB   two switches
 *        USP        E               F                A E   PHB   root ports of one host bridge
 *     ┌───┴───┐                                      A F   NODE  host bridges of one NUMA node
 *    DSP     DSP                                     A F   SYS   or of two
 *    ┌┴┐    ┌─┴─┐
 *    A B    C  USP
 *               D
 * ```
 *
 * A switch is one bridge, whatever number of ports is on the way. These names are about the tree alone: what
 * a kernel allows is another question.
 */
import type { DeviceDescription, MachineDescription } from '../../arch/sim/description.ts';
import { rootBusOf } from '../../arch/sim/windows.ts';
import {
	PCI_EXP_TYPE_DOWNSTREAM,
	PCI_EXP_TYPE_ROOT_PORT,
} from '../../include/uapi/linux/pci_regs.ts';

/** Names of nearness. `NODE|SYS`: the source does not tell the NUMA node of one of the two. */
export type Classic = 'X' | 'PIX' | 'PXB' | 'PHB' | 'NODE' | 'SYS' | 'NODE|SYS';

/** What each name means. */
export const classicLegend: readonly (readonly [string, string])[] = [
	['X', 'itself'],
	['PIX', 'at most one PCIe bridge (a switch counts as one)'],
	['PXB', 'several PCIe bridges, but no host bridge'],
	['PHB', 'a PCIe host bridge'],
	['NODE', 'from one host bridge to another of the same NUMA node'],
	['SYS', 'from one NUMA node to another'],
];

/** Answers for one machine. */
export class ClassicMap {
	private readonly byBdf: ReadonlyMap<string, DeviceDescription>;
	private readonly d: MachineDescription;
	private readonly noNodes: boolean;
	/** Endpoints of one bus are alike: what was found, by what is above them. */
	private readonly known = new Map<number, Classic>();
	private readonly places = new Map<string, number>();

	/** @param d - the machine */
	constructor(d: MachineDescription) {
		this.d = d;
		this.byBdf = new Map(d.devices.map((device) => [device.bdf, device]));
		this.noNodes = d.hostBridges.every(({ numaNode }) => numaNode === undefined);
		const numbers = new Map<string, number>();
		for (const { bdf } of d.devices) {
			const place = this.place(bdf);
			const number = numbers.get(place) ?? numbers.size;
			numbers.set(place, number);
			this.places.set(bdf, number);
		}
	}

	/**
	 * How near two functions are.
	 *
	 * @param a - address
	 * @param b - address
	 */
	between(a: string, b: string): Classic {
		if (a === b) return 'X';
		const [x, y] = [this.places.get(a) ?? 0, this.places.get(b) ?? 0];
		const key = x * this.places.size + y;
		const found = this.known.get(key) ?? this.compare(a, b);
		this.known.set(key, found);
		return found;
	}

	/** A bridge's own place, or that of the bus on which an endpoint is. */
	private place(bdf: string): string {
		const device = this.byBdf.get(bdf);
		if (device === undefined || device.header === 1) return bdf;
		return `on ${device.parent ?? bdf.slice(0, -5)}`;
	}

	private compare(a: string, b: string): Classic {
		const [above, beyond] = [this.chain(a), this.chain(b)];
		const meeting = above.find((bridge) => beyond.includes(bridge)) ?? null;
		if (meeting === null) return this.acrossRoots(a, b);
		let bridges = 0;
		for (const chain of [above, beyond])
			for (const bridge of chain.slice(0, chain.indexOf(meeting)))
				if (countsAsBridge(bridge)) bridges++;
		if (countsAsBridge(meeting)) bridges++;
		return bridges <= 1 ? 'PIX' : 'PXB';
	}

	/** A function and the bridges above it, or what is above it where it is no bridge. */
	private chain(bdf: string): DeviceDescription[] {
		const chain: DeviceDescription[] = [];
		let at = this.byBdf.get(bdf);
		while (at !== undefined && chain.length < 256) {
			chain.push(at);
			at = at.parent === null ? undefined : this.byBdf.get(at.parent);
		}
		return chain;
	}

	private acrossRoots(a: string, b: string): Classic {
		const [x, y] = [this.host(a), this.host(b)];
		if (x === y) return 'PHB';
		if (this.noNodes) return 'NODE';
		if (x?.numaNode === undefined || y?.numaNode === undefined) return 'NODE|SYS';
		return x.numaNode === y.numaNode ? 'NODE' : 'SYS';
	}

	private host(bdf: string) {
		const device = this.byBdf.get(bdf);
		const root = device === undefined ? -1 : rootBusOf(device, this.byBdf);
		return this.d.hostBridges.find(({ domain, bus }) => domain * 256 + bus === root);
	}
}

/** A switch is counted at its upstream port; bridges to or from conventional PCI by themselves. */
function countsAsBridge({ header, pcieType }: DeviceDescription): boolean {
	return (
		header === 1 &&
		pcieType !== PCI_EXP_TYPE_ROOT_PORT &&
		pcieType !== PCI_EXP_TYPE_DOWNSTREAM
	);
}
