// SPDX-License-Identifier: GPL-2.0-only
/**
 * A program of its own: one pair, one RDMA READ of one page, with every named call recorded.
 *
 * Reads the machine and the pair as JSON from standard input, prints a TracedRun.
 */
import { readFileSync } from 'node:fs';
import type { MachineDescription } from '../../arch/sim/description.ts';
import type { Machine } from '../../arch/sim/machine.ts';
import { rdmaReadResponder } from '../../drivers/infiniband/hw/rnic/rnic.ts';
import type { pci_p2pdma_map_type } from '../../include/linux/pci-p2pdma.ts';
import { world } from '../../include/sim/world.ts';
import { run } from '../../kernel/sched/core.ts';
import { startTrace, stopTrace } from '../../kernel/trace/tracer.ts';
import { mapTypeNames, setStage } from './pair.ts';
import { notes } from './trace.ts';

/** What the parent prints. */
export interface TracedRun {
	readonly calls: { depth: number; name: string; returned: string | null }[];
	readonly hops: { at: string; action: string; address: string; why: string | null }[];
	readonly status: string;
}

interface Order {
	readonly description: MachineDescription;
	readonly gpu: string;
	readonly nic: string;
}

/** Functions whose number is an enum pci_p2pdma_map_type. */
const verdicts = new Set(['pci_p2pdma_state', 'pci_p2pdma_map_type', 'calc_map_type_and_dist']);

function mapTypeName(returned: string | null): string | null {
	const name = mapTypeNames[Number(returned) as pci_p2pdma_map_type];
	return name === undefined ? returned : name;
}

const { description, gpu, nic } = JSON.parse(readFileSync(0, 'utf8')) as Order;
const stage = setStage(description, gpu, nic);
startTrace({ functions: Object.keys(notes), graph: ['pagefaultMr'] });
run(() => rdmaReadResponder(stage.nic, stage.mr.key.key, stage.address, 4096));
const calls = stopTrace().map(({ depth, name, returned }) => ({
	depth,
	name,
	returned: verdicts.has(name) ? mapTypeName(returned) : returned,
}));
const [address = 0n] = stage.nic.silicon.lastAddresses;
const { hops, status } = (world().machine as Machine).fabric.read(nic, address, 64);
const traced: TracedRun = {
	calls,
	hops: hops.map(({ at, action, address: where, why }) => ({
		at,
		action,
		address: `0x${where.toString(16)}`,
		why: why ?? null,
	})),
	status: status === 'SC' ? 'successful' : status,
};
process.stdout.write(JSON.stringify(traced));
