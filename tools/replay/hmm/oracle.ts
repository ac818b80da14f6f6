// SPDX-License-Identifier: GPL-2.0-only
/**
 * The machine and the process of a scenario, as the recorder set them up.
 *
 * ```
 *   arena 0x200000000000 ──  window: np pages from page `win` on, empty at the start
 *   file   24 pages: 0..15 in the page cache with value 0xF000 + page, 16..23 a hole
 *   log    an interval notifier over the window: every invalidation of the parent
 * ```
 */
import { formatHex, type MachineDescription } from '../../../arch/sim/description.ts';
import { Disk } from '../../../arch/sim/disk.ts';
import type { file } from '../../../include/linux/fs.ts';
import {
	MMU_NOTIFY_CLEAR,
	MMU_NOTIFY_EXCLUSIVE,
	MMU_NOTIFY_MIGRATE,
	MMU_NOTIFY_PROTECTION_PAGE,
	MMU_NOTIFY_PROTECTION_VMA,
	MMU_NOTIFY_RELEASE,
	MMU_NOTIFY_UNMAP,
	mmu_interval_notifier,
	type mmu_interval_notifier_ops,
} from '../../../include/linux/mmu_notifier.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import { mutex } from '../../../include/linux/spinlock.ts';
import { PAGE_SIZE, type unsigned_long } from '../../../include/linux/types.ts';
import type { ProfileName } from '../../../include/sim/feature.ts';
import type { Report } from '../../../include/sim/report.ts';
import { type BootOptions, boot, shutdown } from '../../../init/main.ts';
import { mutex_lock, mutex_unlock } from '../../../kernel/locking/mutex.ts';
import { run } from '../../../kernel/sched/core.ts';
import { traceMark } from '../../../kernel/trace/tracer.ts';
import { DEVMEM_CHUNK_SIZE, type dmirror_device } from '../../../lib/test_hmm/device.ts';
import { dmirror_fops_open, hmm_dmirror_exit, hmm_dmirror_init } from '../../../lib/test_hmm.ts';
import { fput } from '../../../mm/file_table.ts';
import { setHugePages } from '../../../mm/hugetlb.ts';
import { faultAround } from '../../../mm/memory.ts';
import {
	mmu_interval_notifier_insert,
	mmu_interval_notifier_remove,
	mmu_interval_set_seq,
} from '../../../mm/mmu_notifier.ts';
import { shmem_file_setup, shmemWrite } from '../../../mm/shmem.ts';
import { swapOn } from '../../../mm/swapfile.ts';
import { createProcess, exitProcess } from '../../../mm/syscalls.ts';
import { SpecialMappings } from '../../../test/support/special_mappings.ts';
import type { UffdMonitor } from '../../../test/support/uffd_monitor.ts';
import type { Window } from './dump.ts';
import { BootImages } from './image.ts';
import { minorOf } from './kinds.ts';
import { endProcess } from './processes.ts';
import type { Answer, Scenario } from './record.ts';

const ARENA = 0x2000_0000_0000n;
const BYTES_A_PAGE = Number(PAGE_SIZE);
const FILE_PAGES = 24n;
const CACHED_PAGES = 16;
const FILE_VALUE = 0xf000;

/** Memory of the two coherent devices, in the order of the driver's parameters. */
const spm = [0x1_0000_0000n, 0x1_4000_0000n].map((start) => ({
	start,
	end: start + DEVMEM_CHUNK_SIZE - 1n,
}));

/** The machine of the scenarios that need no PCI device. */
const plainMachine: MachineDescription = {
	name: 'oracle',
	cpu: { vendor: 'intel', family: 6, model: 85 },
	cpus: 1,
	ram: [{ start: '0x0', size: '0xc0000000' }],
	specialPurpose: spm.map(({ start }) => ({
		start: formatHex(start),
		size: formatHex(DEVMEM_CHUNK_SIZE),
	})),
	iommu: null,
	unclaimedReads: 'zeros',
	crossHostBridge: 'aborts',
	hostBridges: [],
	devices: [],
};

/** An invalidation in the window: event, first page, end, owner. */
export type Invalidation = [event: number, start: number, end: number, owner: number];

/** Families that were recorded with a swap device. */
const swapFamilies: readonly string[] = ['S', 'SK'];
/** Pages of that device. */
const SWAP_PAGES = 4096;
/** Pages of the hugetlb pool. */
const HUGE_PAGES = 8;

/** What notifiers write down. */
export class InvalidationLog {
	readonly sub = new mmu_interval_notifier();
	readonly lock = new mutex('invalidation log');
	readonly window: Window;
	seen: Invalidation[] = [];
	/** Invalidations of any event. */
	hits = 0;

	/** Of what it is the log, in a trace. */
	readonly name: 'window' | 'range';

	/**
	 * @param window - clips what is seen
	 * @param name - what the window is
	 */
	constructor(window: Window, name: 'window' | 'range' = 'window') {
		this.window = window;
		this.name = name;
		this.sub.container = this;
	}
}

function ownerNumber(owner: object | null | undefined): number {
	if (owner === null || owner === undefined) return -1;
	return minorOf(owner as dmirror_device);
}

/** Names of the events, by their number. */
const eventNames: Readonly<Record<number, string>> = {
	[MMU_NOTIFY_UNMAP]: 'UNMAP',
	[MMU_NOTIFY_CLEAR]: 'CLEAR',
	[MMU_NOTIFY_PROTECTION_VMA]: 'PROTECTION_VMA',
	[MMU_NOTIFY_PROTECTION_PAGE]: 'PROTECTION_PAGE',
	[MMU_NOTIFY_MIGRATE]: 'MIGRATE',
	[MMU_NOTIFY_EXCLUSIVE]: 'EXCLUSIVE',
};

/** An invalidation as a trace has it: `window: invalidate MIGRATE pages [0, 4) owner 1`. */
function invalidationText(of: string, [event, start, end, owner]: Invalidation): string {
	const by = owner < 0 ? '' : ` owner ${owner}`;
	return `${of}: invalidate ${eventNames[event] ?? event} pages [${start}, ${end})${by}`;
}

/** The page of a window at an address; the first or the end for what lies outside. */
function pageIn({ base, np }: Window, at: unsigned_long): number {
	return Math.max(0, Math.min(np, Math.trunc(Number(at - base) / BYTES_A_PAGE)));
}

/** Ops of the log's notifier. */
export const logOps: mmu_interval_notifier_ops = {
	*invalidate(sub, range, seq) {
		const log = sub.container as InvalidationLog;
		yield* mutex_lock(log.lock);
		mmu_interval_set_seq(sub, seq);
		yield* mutex_unlock(log.lock);
		log.hits++;
		if (range.event === MMU_NOTIFY_RELEASE) return true;
		const seen: Invalidation = [
			range.event,
			pageIn(log.window, range.start),
			pageIn(log.window, range.end),
			ownerNumber(range.owner),
		];
		log.seen.push(seen);
		traceMark(() => invalidationText(log.name, seen));
		return true;
	},
};

/** Bytes of a page with a value at its beginning. */
export function pageOf(value: bigint): Uint8Array {
	const bytes = new Uint8Array(Number(PAGE_SIZE));
	new DataView(bytes.buffer).setBigUint64(0, value, true);
	return bytes;
}

function makeFile(): file {
	const made = run(shmem_file_setup('oracle', FILE_PAGES * PAGE_SIZE, 0n));
	if (typeof made === 'number') throw new Error(`file: ${made}`);
	for (let i = 0; i < CACHED_PAGES; i++)
		run(shmemWrite(made, BigInt(i) * PAGE_SIZE, pageOf(BigInt(FILE_VALUE + i))));
	return made;
}

/** What all scenarios of a configuration find: the process, and the file. */
interface Ground {
	readonly parent: task_struct;
	readonly file: file;
}

/** Kernels with that in them, by machine. */
const grounds = new WeakMap<MachineDescription, BootImages<Ground>>();

/** Texts of boot options: those of a replay are one object. */
const optionTexts = new WeakMap<BootOptions, string>();

/** All that a boot depends on. */
function imageKey(
	profile: ProfileName,
	options: BootOptions,
	{ hasSwap, isCoherent }: { readonly hasSwap: boolean; readonly isCoherent: boolean },
): string {
	let text = optionTexts.get(options);
	if (text === undefined) {
		text = JSON.stringify(options);
		optionTexts.set(options, text);
	}
	return `${profile} ${hasSwap} ${isCoherent} ${text}`;
}

/** A kernel with the test driver, the process and the file. */
function openGround(
	machine: MachineDescription,
	profile: ProfileName,
	options: BootOptions,
	setup: { readonly hasSwap: boolean; readonly isCoherent: boolean },
): Ground {
	const images = grounds.get(machine) ?? new BootImages<Ground>();
	grounds.set(machine, images);
	return images.open(imageKey(profile, options, setup), () => {
		boot(machine, profile, options);
		setHugePages(HUGE_PAGES);
		if (setup.hasSwap) swapOn(new Disk(SWAP_PAGES));
		run(hmm_dmirror_init(setup.isCoherent ? spm : []));
		const parent = createProcess('oracle');
		return { parent, file: makeFile() };
	});
}

/** A booted kernel with the processes, files and devices of one scenario. */
export class Oracle {
	readonly window: Window;
	readonly parent: task_struct;
	child: task_struct | null = null;
	/** Processes that no recorded scenario has, by number from 2 on. */
	readonly others: Map<number, task_struct> = new Map();
	/** Devices that other processes than the parent opened, by number. */
	readonly opened: Map<task_struct, Map<number, file>> = new Map();
	readonly file: file;
	readonly log: InvalidationLog;
	/** The driver of special mappings, once a scenario has one. */
	private driver: SpecialMappings | null = null;
	/** The userfaultfd and who resolves its faults, once it is open. */
	monitor: UffdMonitor | null = null;
	/** Open device files by device number. */
	readonly dmirrors: file[] = [];

	/**
	 * @param scenario - what is to be set up
	 * @param profile - the kernel
	 * @param options - of boot()
	 * @param machine - what it runs on
	 */
	constructor(
		scenario: Scenario,
		profile: ProfileName,
		options: BootOptions,
		machine: MachineDescription = plainMachine,
	) {
		this.window = { base: ARENA + BigInt(scenario.win) * PAGE_SIZE, np: scenario.np };
		const ground = openGround(machine, profile, options, {
			hasSwap: swapFamilies.includes(scenario.fam),
			isCoherent: scenario.dev > 1,
		});
		this.parent = ground.parent;
		this.file = ground.file;
		faultAround().bytes = scenario.fa;
		this.log = new InvalidationLog(this.window);
		const { log, parent, window } = this;
		const length = BigInt(window.np) * PAGE_SIZE;
		run(mmu_interval_notifier_insert(log.sub, parent.mm!, window.base, length, logOps));
		for (let minor = 0; scenario.dev > 0 && minor < 2 * scenario.dev; minor++) {
			const opened = run(dmirror_fops_open(minor), { task: parent });
			if (typeof opened === 'number')
				throw new Error(`open of device ${minor}: ${opened}`);
			this.dmirrors.push(opened);
		}
	}

	/** Address of a page of the window. */
	address(page: number): unsigned_long {
		return this.window.base + BigInt(page) * PAGE_SIZE;
	}

	/** The driver of special mappings. */
	get special(): SpecialMappings {
		this.driver ??= new SpecialMappings();
		return this.driver;
	}

	/** What happened besides during a step: faults that the monitor heard of, signals; null: nothing. */
	takeAsides(): Answer | null {
		const { monitor, parent, window } = this;
		if (parent.siginfo.length === 0 && (monitor === null || monitor.heard.length === 0))
			return null;
		const aside: Record<string, unknown> = {};
		if (monitor !== null && monitor.heard.length > 0) {
			const page = (at: bigint): number => Number((at - window.base) / PAGE_SIZE);
			aside['ue'] = monitor.heard.map((m) => [page(m.address), m.flags]);
			monitor.heard.length = 0;
		}
		const signal = parent.siginfo.shift();
		if (signal !== undefined) aside['as'] = [signal.sig, signal.code];
		return aside;
	}

	/**
	 * Take everything down.
	 *
	 * @param filesFirst - the program closes its devices and then ends; else its end closes them, when
	 *	do_exit() has taken the address space down
	 * @returns what the kernel has to complain about
	 */
	close(filesFirst: boolean = false): readonly Report[] {
		this.monitor?.close();
		if (filesFirst) this.closeDevices();
		run(mmu_interval_notifier_remove(this.log.sub));
		if (this.child !== null) endProcess(this, 1);
		for (const number of [...this.others.keys()]) endProcess(this, number);
		exitProcess(this.parent);
		if (!filesFirst) this.closeDevices();
		run(fput(this.file));
		this.driver?.close();
		this.removeDevices();
		return shutdown();
	}

	private closeDevices(): void {
		for (const opened of this.dmirrors) run(fput(opened), { task: this.parent });
	}

	/** Unload the drivers, when nobody uses their memory any more. */
	protected removeDevices(): void {
		run(hmm_dmirror_exit());
	}
}
