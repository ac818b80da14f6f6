// SPDX-License-Identifier: GPL-2.0-only
/**
 * What the kernel's hmm-tests program stands on: a machine with the driver loaded, processes that
 * open its devices and map memory, and the program's buffers.
 *
 * Guarantee: cases reach the kernel as the program does, by system calls, loads and stores, and
 * ioctls of /dev/hmm_dmirrorN. Mechanism: a case runs in a process of its own, which the kernel takes
 * down when the case has ended, however it ended. Devices and their memory outlive it, as a loaded
 * module does.
 *
 * The program's mirror buffers are plain bytes here: they take no room in the process's address space.
 */
import { formatHex, type MachineDescription } from '../../../arch/sim/description.ts';
import type { Signal } from '../../../arch/sim/vectors.ts';
import type { file } from '../../../include/linux/fs.ts';
import type { ThpPolicy } from '../../../include/linux/huge_mm.ts';
import { MAP_PRIVATE } from '../../../include/linux/mm.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import type { int, unsigned_long } from '../../../include/linux/types.ts';
import type { ProfileName } from '../../../include/sim/feature.ts';
import { boot } from '../../../init/main.ts';
import { run } from '../../../kernel/sched/core.ts';
import { DEVMEM_CHUNK_SIZE } from '../../../lib/test_hmm/device.ts';
import { dmirror_fops_open, hmm_dmirror_exit, hmm_dmirror_init } from '../../../lib/test_hmm.ts';
import { hmm_dmirror_cmd } from '../../../lib/test_hmm_uapi.ts';
import { fput, get_file } from '../../../mm/file_table.ts';
import { forkProcess } from '../../../mm/fork.ts';
import { transparentHugepage } from '../../../mm/huge_memory.ts';
import { setHugePages } from '../../../mm/hugetlb.ts';
import { shmem_file_setup, shmemTruncate } from '../../../mm/shmem.ts';
import {
	createProcess,
	exitProcess,
	userMadvise,
	userMmap,
	userMprotect,
	userMremap,
	userMunmap,
	userRead,
	userWrite,
} from '../../../mm/syscalls.ts';
import { ASSERT_NE } from '../../kselftest_harness.ts';
import { RW } from '../small_machine.ts';

/** Bytes of a page, and of a huge page. */
export const PAGE = 4096;
export const TWOMEG = 2 << 20;
/** Pages and bytes of most buffers. */
export const NPAGES = 1024;
export const HMM_BUFFER_SIZE = NPAGES * PAGE;
/** How often what is done repeatedly is done. */
export const NTIMES = 10;
export { RW };

export const HMM_PRIVATE_DEVICE_ONE = 0;
export const HMM_PRIVATE_DEVICE_TWO = 1;
export const HMM_COHERENCE_DEVICE_ONE = 2;
export const HMM_COHERENCE_DEVICE_TWO = 3;

/** Pages of the hugetlb pool. */
const HUGE_PAGES = 8;

/** What v7.3's driver provokes when it wants a huge page for a coherent device. */
export const conflictingMapping = /Conflicting mapping in same section/;

/** A kernel that the program runs on, and the program that comes with it. */
export interface TestedKernel {
	readonly profile: ProfileName;
	/** /sys/kernel/mm/transparent_hugepage/enabled */
	readonly thp: ThpPolicy;
	/** The driver was given memory for two coherent devices. */
	readonly coherent: boolean;
	/** Huge pages of the benchmark's largest buffer; absent: as many as a device's chunk has. */
	readonly largest?: int;
}

/** Memory of the coherent devices, in the order of the driver's parameters. */
const spm = [0x1_0000_0000n, 0x1_4000_0000n].map((start) => ({
	start,
	end: start + DEVMEM_CHUNK_SIZE - 1n,
}));

function machineOf({ coherent }: TestedKernel): MachineDescription {
	return {
		name: 'hmm-tests',
		cpu: { vendor: 'intel', family: 6, model: 85 },
		ram: [{ start: '0x0', size: '0xc0000000' }],
		specialPurpose: (coherent ? spm : []).map(({ start }) => ({
			start: formatHex(start),
			size: formatHex(DEVMEM_CHUNK_SIZE),
		})),
		iommu: null,
		unclaimedReads: 'zeros',
		crossHostBridge: 'aborts',
		hostBridges: [],
		devices: [],
	};
}

/**
 * Boot a kernel and load the driver.
 *
 * @param kernel - release, policy and devices
 */
export function bootTested(kernel: TestedKernel): void {
	boot(machineOf(kernel), kernel.profile);
	transparentHugepage().enabled = kernel.thp;
	setHugePages(HUGE_PAGES);
	const ret = run(hmm_dmirror_init(kernel.coherent ? spm : []));
	if (ret !== 0) throw new Error(`hmm_dmirror_init: ${ret}`);
}

/** Unload the driver; no process has a device open any more. */
export function unloadDriver(): void {
	run(hmm_dmirror_exit());
}

/** A signal ended the process. */
export class KilledBySignal extends Error {
	readonly sig: int;

	/** @param signal - the signal */
	constructor({ sig, code }: Signal) {
		super(`signal ${sig}, code ${code}`);
		this.sig = sig;
	}
}

/** A process of the program. */
export class Process {
	readonly task: task_struct;
	private readonly files: file[];

	/**
	 * @param task - the process
	 * @param files - what it has open
	 */
	constructor(task = createProcess('hmm-tests'), files: file[] = []) {
		this.task = task;
		this.files = files;
	}

	/** open("/dev/hmm_dmirrorN"); null: there is no such device. */
	open(unit: int): file | null {
		const opened = run(dmirror_fops_open(unit), { task: this.task });
		if (typeof opened === 'number') return null;
		this.files.push(opened);
		return opened;
	}

	/** A temporary file that goes with its last user. */
	createFile(size: int): file {
		const made = run(shmem_file_setup('hmm-tests', BigInt(size), 0n));
		if (typeof made === 'number') throw new Error(`shmem_file_setup: ${made}`);
		this.files.push(made);
		run(shmemTruncate(made, BigInt(size)), { task: this.task });
		return made;
	}

	close(f: file): int {
		this.files.splice(this.files.indexOf(f), 1);
		run(fput(f), { task: this.task });
		return 0;
	}

	/** mmap() where the kernel likes; null: MAP_FAILED. */
	mmap(length: int, prot: int, flags: int, f: file | null = null): unsigned_long | null {
		const at = userMmap(this.task, null, BigInt(length), prot, flags, f);
		return typeof at === 'number' ? null : at;
	}

	munmap(addr: unsigned_long, length: int): int {
		return userMunmap(this.task, addr, BigInt(length));
	}

	mprotect(addr: unsigned_long, length: int, prot: int): int {
		return userMprotect(this.task, addr, BigInt(length), prot);
	}

	madvise(addr: unsigned_long, length: int, advice: int): int {
		return userMadvise(this.task, addr, BigInt(length), advice);
	}

	/** mremap() of the same length; null: MAP_FAILED. */
	mremap(
		addr: unsigned_long,
		length: int,
		flags: int,
		to: unsigned_long,
	): unsigned_long | null {
		const n = BigInt(length);
		const at = userMremap(this.task, addr, n, n, flags, to);
		return typeof at === 'number' ? null : at;
	}

	/**
	 * Load ints.
	 *
	 * @throws KilledBySignal
	 */
	load(addr: unsigned_long, count: int): Int32Array {
		const got = userRead(this.task, addr, count * 4);
		if (!(got instanceof Uint8Array)) throw new KilledBySignal(got);
		return ints(got);
	}

	/**
	 * Store ints.
	 *
	 * @throws KilledBySignal
	 */
	store(addr: unsigned_long, values: Int32Array): void {
		const { buffer, byteOffset, byteLength } = values;
		const bytes = new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
		const signal = userWrite(this.task, addr, bytes);
		if (signal !== null) throw new KilledBySignal(signal);
	}

	/** fork(): the child has the files open, too. */
	fork(): Process {
		const child = forkProcess(this.task);
		if (typeof child === 'number') throw new Error(`fork: ${child}`);
		return new Process(
			child,
			this.files.map((f) => get_file(f)),
		);
	}

	/** Let a forked process do something and exit; what fails in it fails the parent. */
	inChild(body: (child: Process) => void): void {
		const child = this.fork();
		try {
			body(child);
		} finally {
			child.exit();
		}
	}

	/** Exit: the address space goes, then what is open, as in do_exit(). */
	exit(): void {
		exitProcess(this.task);
		this.closeAll();
	}

	/** End as a process does that the kernel oopsed for: what its mm holds is lost. */
	exitAfterOops(): void {
		this.task.held_locks.length = 0;
		this.closeAll();
	}

	private closeAll(): void {
		for (const f of this.files.splice(0)) run(fput(f), { task: this.task });
	}
}

/** Memory of the program and what the device said about it. */
export class HmmBuffer {
	readonly process: Process;
	ptr: unsigned_long;
	readonly mirror: Uint8Array;
	/** Bytes that are mapped. */
	readonly size: int;
	cpages = 0;
	faults = 0;

	constructor(process: Process, ptr: unsigned_long, size: int, mirrorSize: int) {
		this.process = process;
		this.ptr = ptr;
		this.size = size;
		this.mirror = new Uint8Array(mirrorSize);
	}

	/** Ints of the mirror. */
	get mirrored(): Int32Array {
		return ints(this.mirror);
	}

	/** Unmap it. */
	free(): void {
		this.process.munmap(this.ptr, this.size);
	}
}

/**
 * Map a buffer.
 *
 * @param process - whose
 * @param mmapSize - bytes that are mapped
 * @param mirrorSize - bytes of the mirror
 * @param prot - PROT_* bits
 * @param flags - MAP_* bits; MAP_ANONYMOUS follows from `f`
 * @param f - a file; null: anonymous memory
 * @returns null: it could not be mapped
 */
export function tryBuffer(
	process: Process,
	mmapSize: int,
	mirrorSize: int,
	prot: int,
	flags: int,
	f: file | null = null,
): HmmBuffer | null {
	const ptr = process.mmap(mmapSize, prot, flags, f);
	return ptr === null ? null : new HmmBuffer(process, ptr, mmapSize, mirrorSize);
}

/** tryBuffer() that must succeed. */
export function hmmBuffer(...how: Parameters<typeof tryBuffer>): HmmBuffer {
	const buffer = tryBuffer(...how);
	ASSERT_NE(null, buffer);
	return buffer;
}

/** Private anonymous memory of the usual size, and a mirror as big. */
export function anonBuffer(process: Process, prot: int = RW, flags: int = MAP_PRIVATE): HmmBuffer {
	return hmmBuffer(process, HMM_BUFFER_SIZE, HMM_BUFFER_SIZE, prot, flags);
}

/** A buffer twice as large as what is used of it, which begins at a huge page. */
export function alignedBuffer(process: Process, size: int, prot: int = RW): AlignedBuffer {
	const buffer = hmmBuffer(process, 2 * size, size, prot, MAP_PRIVATE);
	const whole = buffer.ptr;
	buffer.ptr = align(whole, size);
	return { buffer, whole };
}

/** A buffer whose `ptr` was moved, and where it really begins. */
export interface AlignedBuffer {
	readonly buffer: HmmBuffer;
	readonly whole: unsigned_long;
}

/** Unmap an aligned buffer, all of it. */
export function freeAligned({ buffer, whole }: AlignedBuffer): void {
	buffer.ptr = whole;
	buffer.free();
}

/** The next multiple of `size`. */
export function align(addr: unsigned_long, size: int): unsigned_long {
	const mask = BigInt(size) - 1n;
	return (addr + mask) & ~mask;
}

/** Address of a page of a buffer. */
export function pageAt(buffer: HmmBuffer, page: int): unsigned_long {
	return buffer.ptr + BigInt(page * PAGE);
}

/**
 * One command of a device on a buffer. Pages and faults come back only when it succeeds.
 *
 * @param fd - the open device
 * @param command - HMM_DMIRROR_*
 * @param buffer - range and mirror
 * @param npages - pages, from the buffer's `ptr` on
 * @returns 0 or -errno
 */
export function dmirrorCmd(fd: file, command: int, buffer: HmmBuffer, npages: int): int {
	const { ptr, mirror, process } = buffer;
	const cmd = new hmm_dmirror_cmd({ addr: ptr, ptr: mirror, npages: BigInt(npages) });
	const ret = run(fd.f_op.unlocked_ioctl!(fd, command, cmd), { task: process.task });
	if (ret !== 0) return ret;
	buffer.cpages = Number(cmd.cpages);
	buffer.faults = Number(cmd.faults);
	return 0;
}

function ints({ buffer, byteOffset, byteLength }: Uint8Array): Int32Array {
	return new Int32Array(buffer as ArrayBuffer, byteOffset, byteLength / 4);
}

/** 0, 1, 2, … as far as any buffer goes; made once, as the cases compare with it all the time. */
const ramp = new Int32Array(HMM_BUFFER_SIZE / 4 + NTIMES);
for (let i = 0; i < ramp.length; i++) ramp[i] = i;

/**
 * `first`, `first` + 1, …
 *
 * @param count - how many
 * @param first - so far from 0 that what is counted ends NTIMES behind the largest buffer at most
 * @returns not to be changed
 */
export function counting(count: int, first = 0): Int32Array {
	return ramp.subarray(first, first + count);
}

/** 0, -1, -2, … */
export function countingDown(count: int): Int32Array {
	return counting(count).map((value) => -value);
}

/** As many zeros. */
export function zeros(count: int): Int32Array {
	return new Int32Array(count);
}

/**
 * Index of the first int that is not the expected one.
 *
 * @param seen - what there is
 * @param expected - what it shall be
 * @returns -1: all are
 */
export function wrongAt(seen: Int32Array, expected: Int32Array): int {
	const bytes = (from: Int32Array): Buffer =>
		Buffer.from(from.buffer, from.byteOffset, from.byteLength);
	if (bytes(seen).equals(bytes(expected))) return -1;
	return seen.findIndex((value, i) => value !== expected[i]);
}
