// SPDX-License-Identifier: GPL-2.0-only
/**
 * The machines that the proposal was recorded on: two providers with a window of 1 GiB, two NICs.
 *
 * ```
 *   sw      root port ── switch ── P0 P1 R0 R1          all by bus address
 *   hb no   root ports ── P0, P1, R0, R1, one each      through the host bridge, or not at all
 *   mix     switch 1 ── P0 R0;  switch 2 ── P1 R1       below a switch by bus address, else as `no`, `hb`
 * ```
 */
import type { CpuModel, MachineDescription } from '../../../arch/sim/description.ts';
import { type Slot, TopologyBuilder } from '../../machines/builder.ts';

const GIB = 1n << 30n;
/** Allowed to route between its root ports. */
const zen: CpuModel = { vendor: 'amd', family: 0x17, model: 0x31 };
/** On no list. */
const core: CpuModel = { vendor: 'intel', family: 6, model: 85 };

/** Names of the machines. */
export const proposalMachines = ['sw', 'hb', 'no', 'mix', 'mixhb', 'iommu'] as const;
/** Name of a machine. */
export type ProposalMachine = (typeof proposalMachines)[number];

function provider(builder: TopologyBuilder, slot: Slot, label: string): void {
	const made = builder.device(slot, [0x1b36, 0x0011], null, { class: 0x050000, label });
	builder.bar(slot, made, { bar: 2, size: GIB, is64: true });
}

function requester(builder: TopologyBuilder, slot: Slot, label: string): void {
	builder.device(slot, [0x1b36, 0x0012], null, { class: 0x020000, label });
}

type Add = (builder: TopologyBuilder, slot: Slot, label: string) => void;

const functions: readonly (readonly [string, Add])[] = [
	['P0', provider],
	['R0', requester],
	['P1', provider],
	['R1', requester],
];

function build(name: ProposalMachine): MachineDescription {
	const allowed = name === 'hb' || name === 'mixhb' || name === 'iommu';
	const builder = new TopologyBuilder(name, allowed ? zen : core).set({
		iommu: name === 'iommu' ? { kind: 'intel', domains: 'dma' } : null,
	});
	const root = builder.hostBridge({ bus: 0 });
	builder.device(root, [0x8086, 0x29c0], '00.0', { class: 0x060000, pcieType: -1 });
	const switches = { sw: 1, hb: 0, no: 0, mix: 2, mixhb: 2, iommu: 0 }[name];
	const perSwitch = functions.length / Math.max(1, switches);
	let sw: Slot | null = null;
	for (const [i, [label, add]] of functions.entries()) {
		const at = `${(i + 1).toString(16)}.0`;
		if (switches === 0) {
			add(builder, builder.rootPort(root, at, [0x1b36, 0x000c]), label);
			continue;
		}
		if (i % perSwitch === 0)
			sw = builder.switchBelow(builder.rootPort(root, at, [0x1b36, 0x000c]));
		add(builder, builder.downstreamPort(sw as Slot), label);
	}
	return builder.finish();
}

const made = new Map<ProposalMachine, MachineDescription>();

/**
 * A machine of the records.
 *
 * @param name - its name
 */
export function proposalMachine(name: ProposalMachine): MachineDescription {
	const known = made.get(name) ?? build(name);
	made.set(name, known);
	return known;
}
