// SPDX-License-Identifier: GPL-2.0-only
/**
 * One GPU and one NIC on a machine: the whole path in a world of its own.
 *
 * ```
 *   process   mmap, CPU stores a pattern        CPU loads what the NIC wrote
 *   GPU              migrate to VRAM                      migrate_to_ram
 *   NIC                     register, RDMA READ, RDMA WRITE   deregister
 * ```
 */
import type { MachineDescription } from '../../arch/sim/description.ts';
import type { Machine } from '../../arch/sim/machine.ts';
import { type RefGpu, refgpuProbe, refgpuRemove } from '../../drivers/gpu/refgpu/index.ts';
import { migrateToVram } from '../../drivers/gpu/refgpu/migrate.ts';
import {
	deregMr,
	RNIC_ACCESS_ALL,
	type Rnic,
	type RnicMr,
	rdmaReadResponder,
	rdmaWriteResponder,
	regMr,
	rnicProbe,
	rnicRemove,
} from '../../drivers/infiniband/hw/rnic/rnic.ts';
import { calc_map_type_and_dist } from '../../drivers/pci/p2pdma/distance.ts';
import { pciBus } from '../../drivers/pci/search.ts';
import { dma_use_iova } from '../../include/linux/dma-mapping.ts';
import { IS_ERR } from '../../include/linux/err.ts';
import { HMM_PFN_P2PDMA_BUS } from '../../include/linux/hmm.ts';
import { PROT_READ, PROT_WRITE } from '../../include/linux/mm.ts';
import { type pci_dev, pci_upstream_bridge } from '../../include/linux/pci.ts';
import {
	PCI_P2PDMA_MAP_BUS_ADDR,
	PCI_P2PDMA_MAP_NOT_SUPPORTED,
	type pci_p2pdma_map_type,
} from '../../include/linux/pci-p2pdma.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { outParam } from '../../include/linux/types.ts';
import { IB_WC_SUCCESS } from '../../include/rdma/ib_verbs.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';
import { boot, shutdown } from '../../init/main.ts';
import { run } from '../../kernel/sched/core.ts';
import {
	createProcess,
	exitProcess,
	mmapAnonymous,
	userRead,
	userWrite,
} from '../../mm/syscalls.ts';
import type { AddressKind, PairResult, Path } from './result.ts';
import type { Cast } from './roles.ts';

/** Pages that the process has in VRAM. */
export const PAGES = 8;
const BYTES = PAGES * 4096;

/** Verdicts of the P2P layer, without PCI_P2PDMA_MAP_. */
export const mapTypeNames: Readonly<Record<pci_p2pdma_map_type, string>> = {
	0: 'UNKNOWN',
	1: 'NONE',
	2: 'NOT_SUPPORTED',
	3: 'BUS_ADDR',
	4: 'THRU_HOST_BRIDGE',
};

/** Bytes that differ at every place and between pairs. */
function pattern(seed: number): Uint8Array {
	const bytes = new Uint8Array(BYTES);
	let x = seed | 1;
	for (let i = 0; i < BYTES; i++) {
		x = (Math.imul(x, 1664525) + 1013904223) | 0;
		bytes[i] = x >>> 24;
	}
	return bytes;
}

function differences(a: Uint8Array, b: Uint8Array | object | null): number {
	if (!(b instanceof Uint8Array) || b.length !== a.length) return a.length;
	let wrong = 0;
	for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) wrong++;
	return wrong;
}

/** Whether some bridge is above both. */
function haveCommonBridge(a: pci_dev, b: pci_dev): boolean {
	const above = new Set<pci_dev>();
	for (let dev: pci_dev | null = a; dev !== null; dev = pci_upstream_bridge(dev))
		above.add(dev);
	for (let dev: pci_dev | null = b; dev !== null; dev = pci_upstream_bridge(dev))
		if (above.has(dev)) return true;
	return false;
}

/** What the P2P layer says of the pair. */
function judge(gpu: pci_dev, nic: pci_dev): { path: Path; distance: number; mapType: string } {
	const distance = outParam(0);
	const type = calc_map_type_and_dist(gpu, nic, distance, false);
	let path: Path = 'host bridge';
	if (type === PCI_P2PDMA_MAP_NOT_SUPPORTED) path = 'refused';
	else if (type === PCI_P2PDMA_MAP_BUS_ADDR) path = 'switch';
	else if (haveCommonBridge(gpu, nic)) path = 'switch, ACS redirect';
	return { path, distance: distance.value, mapType: mapTypeNames[type] };
}

/** Everybody that one run needs. */
export interface Stage {
	readonly gpu: RefGpu;
	readonly nic: Rnic;
	readonly task: task_struct;
	readonly address: bigint;
	readonly mr: RnicMr;
	readonly written: Uint8Array;
}

/**
 * Boot a machine, bind both drivers, put the process's pages into VRAM and register them.
 *
 * @param description - the machine
 * @param gpuBdf - function that plays the GPU
 * @param nicBdf - function that plays the NIC
 */
export function setStage(description: MachineDescription, gpuBdf: string, nicBdf: string): Stage {
	boot(description, 'v7.3', { proposals: ['p2p_op_dma_dev'] });
	const { byName } = pciBus();
	const gpu = run(() => refgpuProbe(byName.get(gpuBdf)!));
	const nic = run(() => rnicProbe(byName.get(nicBdf)!));
	const task = createProcess('trainer');
	const address = mmapAnonymous(task, BigInt(BYTES), PROT_READ | PROT_WRITE);
	const written = pattern(gpuBdf.length * 31 + nicBdf.charCodeAt(nicBdf.length - 1));
	userWrite(task, address, written);
	run(() => migrateToVram(gpu, task.mm!, address, address + BigInt(BYTES)), { task });
	const mr = run(() => regMr(nic, address, BigInt(BYTES), RNIC_ACCESS_ALL), { task });
	if (IS_ERR(mr)) throw new Error(`${nicBdf} cannot register memory: ${mr}`);
	return { gpu, nic, task, address, mr, written };
}

/** The peer at the other end of the wire reads and writes all of the region. */
function* remoteAccess(stage: Stage, fresh: Uint8Array): Sim<{ read: Uint8Array; ok: boolean }> {
	const { nic, mr, address } = stage;
	const { status, data } = yield* rdmaReadResponder(nic, mr.key.key, address, BYTES);
	const wrote = yield* rdmaWriteResponder(nic, mr.key.key, address, fresh);
	return { read: data, ok: status === IB_WC_SUCCESS && wrote === IB_WC_SUCCESS };
}

/** Kind of the address in the region's first entry. */
function addressKind(mr: RnicMr): AddressKind {
	const { map } = mr.umem;
	if (map.pfn_list![0]! & HMM_PFN_P2PDMA_BUS) return 'bus';
	return dma_use_iova(map.state) ? 'IOVA' : 'physical';
}

/** Let everybody go. */
function clearStage({ gpu, nic, task, mr }: Stage): void {
	run(() => deregMr(mr), { task });
	run(() => rnicRemove(nic));
	run(() => refgpuRemove(gpu));
	exitProcess(task);
}

/**
 * Run one pair.
 *
 * @param description - the machine
 * @param gpuBdf - function that plays the GPU
 * @param nicBdf - function that plays the NIC
 */
export function runPair(
	description: MachineDescription,
	gpuBdf: string,
	nicBdf: string,
): PairResult {
	const stage = setStage(description, gpuBdf, nicBdf);
	const { gpu, nic, task, address, mr, written } = stage;
	const fresh = pattern(written[0]! * 257 + 5);

	const { read } = run(() => remoteAccess(stage, fresh));
	const { pagesToVram, pagesToRam: migrated } = gpu.counters;
	const kind = addressKind(mr);
	const used = mr.key.mtt[0]! & ~3n;
	// The CPU looks at what the NIC wrote; that brings the pages home.
	const wrong =
		differences(written, read) + differences(fresh, userRead(task, address, BYTES));
	const judged = judge(gpu.pdev, nic.pdev);
	const window = gpu.window !== null;
	const dmaFaults = nic.silicon.faults.length + gpu.silicon.faults.length;
	const iommuFaults = (world().machine as Machine).iommu?.faultLog.length ?? 0;
	clearStage(stage);

	return {
		gpu: gpuBdf,
		nic: nicBdf,
		...judged,
		window,
		address: `0x${used.toString(16)}`,
		addressKind: kind,
		pages: PAGES,
		kept: pagesToVram - migrated,
		migrated,
		bytes: 2 * BYTES,
		wrong,
		pageFaults: nic.counters.faults,
		faults: dmaFaults + iommuFaults,
		reports: shutdown().map(({ title }) => title),
	};
}

/**
 * Run every pair of a machine.
 *
 * @param description - the machine
 * @param cast - who plays
 * @param step - called after each pair
 */
export function runMachine(
	description: MachineDescription,
	cast: Cast,
	step: () => void,
): PairResult[] {
	const results: PairResult[] = [];
	for (const { bdf: gpu } of cast.gpus) {
		for (const { bdf: nic } of cast.nics) {
			if (gpu === nic) continue;
			results.push(runPair(description, gpu, nic));
			step();
		}
	}
	return results;
}
