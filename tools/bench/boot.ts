// SPDX-License-Identifier: GPL-2.0-only
/** Boot and shutdown of a small world, restore of its checkpoint, memory of struct pages, a large world. */
import type { MachineDescription } from '../../arch/sim/description.ts';
import { migrateToVram, refgpuProbe, refgpuRemove } from '../../drivers/gpu/refgpu/index.ts';
import { rnicProbe, rnicRemove } from '../../drivers/infiniband/hw/rnic/rnic.ts';
import { pciBus } from '../../drivers/pci/search.ts';
import { PROT_READ, PROT_WRITE } from '../../include/linux/mm.ts';
import { memoryMap, PAGES_PER_SECTION } from '../../include/linux/mmzone.ts';
import { checkpoint, restore } from '../../init/checkpoint.ts';
import { boot, shutdown } from '../../init/main.ts';
import { run } from '../../kernel/sched/core.ts';
import { createProcess, exitProcess, mmapAnonymous, userWrite64 } from '../../mm/syscalls.ts';
import { machineNames, namedMachine } from '../machines/index.ts';
import { bounded, figure, median, now, type Row, timed } from './timing.ts';

/** One process, one GPU, one NIC, one switch: the standard machine without the rest. */
function smallMachine(): MachineDescription {
	const d = structuredClone(namedMachine('standard'));
	const keep = new Set<string>();
	for (const label of ['GPU0', 'NIC0']) {
		let dev = d.devices.find((device) => device.label === label);
		while (dev !== undefined) {
			keep.add(dev.bdf);
			const { parent } = dev;
			dev = d.devices.find(({ bdf }) => bdf === parent);
		}
	}
	const first = d.hostBridges[0]!;
	return {
		...d,
		hostBridges: [first],
		devices: d.devices.filter(({ bdf }) => keep.has(bdf)),
	};
}

function labelled(d: MachineDescription, label: string): string {
	return d.devices.find((dev) => dev.label === label)!.bdf;
}

function bootSmall(d: MachineDescription, gpuBdf: string, nicBdf: string) {
	boot(d, 'v7.3', { proposals: ['p2p_op_dma_dev'] });
	const { byName } = pciBus();
	const gpu = run(() => refgpuProbe(byName.get(gpuBdf)!));
	const nic = run(() => rnicProbe(byName.get(nicBdf)!));
	const task = createProcess('bench');
	const address = mmapAnonymous(task, 16n * 4096n, PROT_READ | PROT_WRITE);
	userWrite64(task, address, 1n);
	return { gpu, nic, task, address };
}

function shutdownSmall({ gpu, nic, task }: ReturnType<typeof bootSmall>): void {
	run(() => rnicRemove(nic));
	run(() => refgpuRemove(gpu));
	exitProcess(task);
	const reports = shutdown();
	if (reports.length > 0) throw new Error(reports[0]!.text);
}

/** Boots, and restores, a second. */
export function bootRows(): Row[] {
	const d = smallMachine();
	const gpu = labelled(d, 'GPU0');
	const nic = labelled(d, 'NIC0');
	const one = (): void => shutdownSmall(bootSmall(d, gpu, nic));
	timed(3, one, 500);
	const boots = 1e9 / timed(15, one, 500);

	const small = bootSmall(d, gpu, nic);
	const saved = checkpoint();
	// Restored from a world in which something happened: a page fault, a migration to VRAM.
	const back = (): number => {
		userWrite64(small.task, small.address + 4096n, 2n);
		run(() =>
			migrateToVram(
				small.gpu,
				small.task.mm!,
				small.address,
				small.address + 8192n,
			),
		);
		const start = now();
		restore(saved);
		return now() - start;
	};
	const times: number[] = [];
	for (let i = 0; i < 6000; i++) times.push(back());
	const restores = 1e9 / median(times.slice(2000));
	shutdownSmall(small);
	return [
		bounded('boot and shutdown of a small world', boots, 'a second', 5000, 'least'),
		bounded(
			'restore of its checkpoint after a fault and a migration',
			restores,
			'a second',
			20_000,
			'least',
		),
	];
}

/** Bytes of memory for each struct page that is touched. */
export function pageRows(): Row[] {
	boot(namedMachine('standard'));
	const map = memoryMap();
	const sections = 2000;
	const first = map.ranges[map.ranges.length - 1]!.start;
	globalThis.gc?.();
	const { heapUsed, arrayBuffers } = process.memoryUsage();
	for (let i = 0; i < sections; i++) map.section(first + i * PAGES_PER_SECTION);
	globalThis.gc?.();
	const after = process.memoryUsage();
	const used = after.heapUsed - heapUsed + after.arrayBuffers - arrayBuffers;
	shutdown();
	return [
		bounded(
			'memory of a simulated struct page',
			used / (sections * PAGES_PER_SECTION),
			'bytes',
			64,
			'most',
		),
	];
}

/** A world with eight GPUs of 141 GiB each. */
export function largeRows(): Row[] {
	const name = machineNames.find((machine) => machine === 'hgx-8x8')!;
	const d = namedMachine(name);
	globalThis.gc?.();
	const before = process.memoryUsage();
	const start = now();
	boot(d, 'v7.3', { proposals: ['p2p_op_dma_dev'] });
	const { byName } = pciBus();
	const vramSize = 141n << 30n;
	const gpus = d.devices
		.filter(({ label }) => label?.startsWith('GPU') === true)
		.map(({ bdf }) => run(() => refgpuProbe(byName.get(bdf)!, { vramSize })));
	const ms = (now() - start) / 1e6;
	globalThis.gc?.();
	const after = process.memoryUsage();
	const mib =
		(after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers) /
		2 ** 20;
	for (const gpu of gpus) run(() => refgpuRemove(gpu));
	shutdown();
	return [
		figure('a world with GPUs of 141 GiB', `${gpus.length} GPUs`),
		bounded('  boots in', ms, 'ms', 1000, 'most'),
		bounded('  takes', mib, 'MiB', 200, 'most'),
		bounded('  whole program', after.rss / 2 ** 20, 'MiB', 200, 'most'),
	];
}
