// SPDX-License-Identifier: GPL-2.0-only
/**
 * The standard topology with its drivers bound and a process whose pages a GPU can take.
 *
 * ```
 *   RC0 ─┬─ RP0 ── SW ─┬─ DSP0 ── GPU0        RC1 ─┬─ RP ── NIC2
 *        │             └─ DSP1 ── NIC0             └─ RP ── GPU1
 *        └─ RP1 ── NIC1
 *   SOC0: a platform device, on no PCI bus
 * ```
 */
import type { DeviceDescription, MachineDescription } from '../../arch/sim/description.ts';
import type { Machine } from '../../arch/sim/machine.ts';
import {
	type GpuOptions,
	migrateToVram,
	type RefGpu,
	refgpuProbe,
	refgpuRemove,
} from '../../drivers/gpu/refgpu/index.ts';
import {
	deregMr,
	RNIC_ACCESS_ALL,
	type Rnic,
	type RnicMr,
	regMr,
	rnicProbe,
	rnicRemove,
} from '../../drivers/infiniband/hw/rnic/rnic.ts';
import { pciBus } from '../../drivers/pci/search.ts';
import { device } from '../../include/linux/device.ts';
import { IS_ERR } from '../../include/linux/err.ts';
import { hmm_range } from '../../include/linux/hmm.ts';
import { PROT_READ, PROT_WRITE } from '../../include/linux/mm.ts';
import { mmu_interval_notifier } from '../../include/linux/mmu_notifier.ts';
import type { pci_dev } from '../../include/linux/pci.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { mutex } from '../../include/linux/spinlock.ts';
import type { int } from '../../include/linux/types.ts';
import type { FeatureName, ProfileName } from '../../include/sim/feature.ts';
import { world } from '../../include/sim/world.ts';
import { boot } from '../../init/main.ts';
import { mutex_lock, mutex_unlock } from '../../kernel/locking/mutex.ts';
import { run } from '../../kernel/sched/core.ts';
import { hmm_range_fault } from '../../mm/hmm.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import {
	mmu_interval_notifier_insert,
	mmu_interval_notifier_remove,
	mmu_interval_read_begin,
	mmu_interval_set_seq,
} from '../../mm/mmu_notifier.ts';
import { createProcess, exitProcess, mmapAnonymous, userWrite } from '../../mm/syscalls.ts';
import { namedMachine } from '../../tools/machines/index.ts';

/** Bytes of a page. */
export const PAGE = 4096n;

/** How a test wants the world. */
export interface StandardOptions {
	/** Changes the machine before it is switched on. */
	readonly machine?: (d: MachineDescription) => void;
	readonly profile?: ProfileName;
	/** Default: the proposal is on. */
	readonly proposals?: readonly FeatureName[];
	readonly gpu?: GpuOptions;
}

const described: { machine: MachineDescription | null } = { machine: null };

/** A fresh copy of the standard machine's description. */
export function standardMachine(change?: (d: MachineDescription) => void): MachineDescription {
	described.machine ??= namedMachine('standard');
	if (change === undefined) return described.machine;
	const d = structuredClone(described.machine);
	change(d);
	return d;
}

/**
 * A function of a description by its label.
 *
 * @param d - description
 * @param label - GPU0, NIC0, …
 */
export function labelled(d: MachineDescription, label: string): DeviceDescription {
	const found = d.devices.find((dev) => dev.label === label);
	if (found === undefined) throw new Error(`the machine has no ${label}`);
	return found;
}

/**
 * The port right above a function.
 *
 * @param d - description
 * @param label - of the function
 */
export function portAbove(d: MachineDescription, label: string): DeviceDescription {
	const { parent } = labelled(d, label);
	return d.devices.find((dev) => dev.bdf === parent)!;
}

/** The standard world. */
export class StandardWorld {
	readonly machine: Machine;
	readonly gpu0: RefGpu;
	readonly nics: Rnic[] = [];
	readonly task: task_struct;
	/** A device that is on no PCI bus. */
	readonly soc0: device;
	private readonly mrs: RnicMr[] = [];

	/** @param options - how the test wants it */
	constructor(options: StandardOptions = {}) {
		const d = standardMachine(options.machine);
		boot(d, options.profile ?? 'v7.3', {
			proposals: options.proposals ?? ['p2p_op_dma_dev'],
			trackOrigins: true,
		});
		this.machine = world().machine as Machine;
		this.gpu0 = run(() => refgpuProbe(this.pdev('GPU0'), options.gpu));
		this.task = createProcess('app');
		this.soc0 = new device({ init_name: 'soc0', bus: { name: 'platform' } });
	}

	/** PCI function by its label. */
	pdev(label: string): pci_dev {
		const { bdf } = labelled(this.machine.description, label);
		return pciBus().byName.get(bdf)!;
	}

	/** A NIC by its label, its driver bound on first use. */
	nic(label: string): Rnic {
		const pdev = this.pdev(label);
		const bound = this.nics.find((nic) => nic.pdev === pdev);
		if (bound !== undefined) return bound;
		const nic = run(() => rnicProbe(pdev));
		this.nics.push(nic);
		return nic;
	}

	/** Map `pages` pages and store a pattern into them. */
	mapPages(pages: int, seed = 1): { address: bigint; bytes: Uint8Array } {
		const address = mmapAnonymous(
			this.task,
			BigInt(pages) * PAGE,
			PROT_READ | PROT_WRITE,
		);
		const bytes = patternBytes(pages * 4096, seed);
		userWrite(this.task, address, bytes);
		return { address, bytes };
	}

	/** Move pages into GPU0's VRAM; how many are there then. */
	toVram(address: bigint, pages: int, gpu: RefGpu = this.gpu0): int {
		const end = address + BigInt(pages) * PAGE;
		return run(() => migrateToVram(gpu, this.task.mm!, address, end), {
			task: this.task,
		});
	}

	/** Register pages with a NIC, on demand. */
	register(nic: Rnic, address: bigint, pages: int): RnicMr {
		const length = BigInt(pages) * PAGE;
		const mr = run(() => regMr(nic, address, length, RNIC_ACCESS_ALL), {
			task: this.task,
		});
		if (IS_ERR(mr)) throw new Error(`regMr() returned ${mr}`);
		this.mrs.push(mr);
		return mr;
	}

	/** hmm_range_fault() as a driver calls it, with a notifier of its own; retried while -EBUSY. */
	rangeFault(address: bigint, pages: int, init: Partial<hmm_range> = {}): RangeResult {
		const { mm } = this.task;
		const hmm_pfns = new BigUint64Array(pages);
		if (init.hmm_pfns !== undefined) hmm_pfns.set(init.hmm_pfns);
		const sub = new mmu_interval_notifier();
		const user = new mutex('user lock');
		let ret = 0;
		let tries = 0;
		run(
			function* () {
				const length = BigInt(pages) * PAGE;
				yield* mmu_interval_notifier_insert(sub, mm!, address, length, {
					*invalidate(notifier, _range, seq) {
						yield* mutex_lock(user);
						mmu_interval_set_seq(notifier, seq);
						yield* mutex_unlock(user);
						return true;
					},
				});
				const range = new hmm_range({
					...init,
					notifier: sub,
					start: address,
					end: address + length,
					hmm_pfns,
				});
				do {
					tries++;
					range.notifier_seq = yield* mmu_interval_read_begin(sub);
					yield* mmap_read_lock(mm!);
					ret = yield* hmm_range_fault(range);
					yield* mmap_read_unlock(mm!);
				} while (ret === -16 && tries < 20);
				yield* mmu_interval_notifier_remove(sub);
			},
			{ task: this.task },
		);
		return { ret, tries, pfns: hmm_pfns };
	}

	/** Let everybody go, so that the check at the end of the test finds nothing. */
	close(): void {
		for (const mr of this.mrs.splice(0))
			if (mr.nic.mrs.get(mr.key.key) === mr)
				run(() => deregMr(mr), { task: this.task });
		for (const nic of this.nics.splice(0)) run(() => rnicRemove(nic));
		run(() => refgpuRemove(this.gpu0));
		exitProcess(this.task);
	}
}

/** What hmm_range_fault() answered. */
export interface RangeResult {
	readonly ret: int;
	readonly tries: int;
	readonly pfns: BigUint64Array;
}

/**
 * Bytes that differ from place to place.
 *
 * @param length - how many
 * @param seed - which
 */
export function patternBytes(length: int, seed: int): Uint8Array {
	const bytes = new Uint8Array(length);
	let x = seed | 1;
	for (let i = 0; i < length; i++) {
		x = (Math.imul(x, 1664525) + 1013904223) | 0;
		bytes[i] = x >>> 24;
	}
	return bytes;
}
