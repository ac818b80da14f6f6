// SPDX-License-Identifier: GPL-2.0-only
/**
 * Processes as tests and tools use them: make one, let it map, load and store, let it exit.
 *
 * The generator forms act on behalf of the current task and are for bodies of simulated threads;
 * the plain forms run them as the given process, single-threaded.
 */
import type { Cpu } from '../arch/sim/cpu.ts';
import type { Signal } from '../arch/sim/vectors.ts';
import type { file } from '../include/linux/fs.ts';
import { MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED } from '../include/linux/mm.ts';
import type { mm_struct } from '../include/linux/mm_types.ts';
import { pfn_valid } from '../include/linux/mmzone.ts';
import { current, task_struct } from '../include/linux/sched.ts';
import type { errno, int, pgoff_t, unsigned_int, unsigned_long } from '../include/linux/types.ts';
import { HarnessError } from '../include/sim/report.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { world } from '../include/sim/world.ts';
import { run, scheduler } from '../kernel/sched/core.ts';
import { mm_alloc, mmput } from './exec_mm.ts';
import { sys_madvise } from './madvise.ts';
import { zero_pfn } from './memory.ts';
import { sys_mlock, sys_munlock } from './mlock.ts';
import { vm_mmap_pgoff } from './mmap.ts';
import { do_mprotect_pkey } from './mprotect.ts';
import { sys_mremap } from './mremap.ts';
import { loadMm } from './tlb.ts';
import { vm_munmap } from './vma.ts';

/** The address space of a process; it must not have exited. */
function mmOf(task: task_struct, call: string): mm_struct {
	if (task.mm === null)
		throw new HarnessError(call, `process ${task.comm}/${task.pid} has no mm`);
	return task.mm;
}

/**
 * Make a process with an empty address space. It executes nothing by itself.
 *
 * @param comm - its name
 * @param cpu - CPU it runs on
 * @throws HarnessError when there is no memory, or none at 0
 */
export function createProcess(comm: string, cpu: int = 0): task_struct {
	if (!pfn_valid(zero_pfn))
		throw new HarnessError(
			'createProcess()',
			`the machine has no RAM at 0x${(zero_pfn << 12n).toString(16)}, where the zero page is: ` +
				'its first RAM range must begin at 0',
		);
	const mm = run(mm_alloc());
	if (mm === null)
		throw new HarnessError('createProcess()', 'there is no memory for its page table');
	mm.owner_comm = comm;
	return new task_struct({ pid: scheduler().nextPid++, comm, cpu, mm });
}

/**
 * Let a process exit: its address space goes if nobody else uses it.
 *
 * @param task - the process
 */
export function exitProcess(task: task_struct): void {
	const mm = mmOf(task, 'exitProcess()');
	run(exitMm(task, mm), { task });
}

function* exitMm(task: task_struct, mm: mm_struct): Sim<void> {
	task.mm = null;
	yield* mmput(mm);
}

/**
 * mmap() of a process.
 *
 * @param task - the process
 * @param addr - where; null: the kernel chooses
 * @param len - length
 * @param prot - PROT_* bits
 * @param flags - MAP_* bits; MAP_FIXED follows from `addr`
 * @param f - file; null: anonymous memory
 * @param pgoff - first page of the file
 * @returns the address or -errno
 */
export function userMmap(
	task: task_struct,
	addr: unsigned_long | null,
	len: unsigned_long,
	prot: unsigned_int,
	flags: unsigned_int,
	f: file | null = null,
	pgoff: pgoff_t = 0n,
): unsigned_long | errno {
	mmOf(task, 'userMmap()');
	let bits = flags;
	if (addr !== null) bits |= MAP_FIXED;
	if (f === null) bits |= MAP_ANONYMOUS;
	return run(vm_mmap_pgoff(f, addr ?? 0n, len, prot, bits, pgoff), { task });
}

/**
 * Map private or shared anonymous memory in a process.
 *
 * @param task - the process
 * @param len - length
 * @param prot - PROT_* bits
 * @param shared - MAP_SHARED
 * @returns the address
 * @throws HarnessError when the kernel refuses
 */
export function mmapAnonymous(
	task: task_struct,
	len: unsigned_long,
	prot: unsigned_int,
	shared = false,
): unsigned_long {
	const ret = userMmap(task, null, len, prot, shared ? MAP_SHARED : MAP_PRIVATE);
	if (typeof ret === 'number')
		throw new HarnessError('mmapAnonymous()', `mmap() returned ${ret}`);
	return ret;
}

/**
 * munmap() of a process.
 *
 * @param task - the process
 * @param addr - first address
 * @param len - length
 * @returns 0 or -errno
 */
export function userMunmap(task: task_struct, addr: unsigned_long, len: unsigned_long): int {
	mmOf(task, 'userMunmap()');
	return run(vm_munmap(addr, len), { task });
}

/**
 * mprotect() of a process.
 *
 * @param task - the process
 * @param addr - first address
 * @param len - length
 * @param prot - PROT_* bits
 * @returns 0 or -errno
 */
export function userMprotect(
	task: task_struct,
	addr: unsigned_long,
	len: unsigned_long,
	prot: unsigned_int,
): int {
	mmOf(task, 'userMprotect()');
	return run(do_mprotect_pkey(addr, len, prot, -1), { task });
}

/**
 * madvise() of a process.
 *
 * @param task - the process
 * @param addr - first address
 * @param len - length
 * @param behavior - MADV_*
 * @returns 0 or -errno
 */
export function userMadvise(
	task: task_struct,
	addr: unsigned_long,
	len: unsigned_long,
	behavior: int,
): int {
	mmOf(task, 'userMadvise()');
	return run(sys_madvise(addr, len, behavior), { task });
}

/**
 * mremap() of a process.
 *
 * @param task - the process
 * @param addr - the mapping
 * @param oldLen - its length
 * @param newLen - the length that it gets
 * @param flags - MREMAP_* bits
 * @param newAddr - where it goes
 * @returns the address, or -errno
 */
export function userMremap(
	task: task_struct,
	addr: unsigned_long,
	oldLen: unsigned_long,
	newLen: unsigned_long,
	flags: unsigned_int,
	newAddr: unsigned_long = 0n,
): unsigned_long | errno {
	mmOf(task, 'userMremap()');
	return run(sys_mremap(addr, oldLen, newLen, flags, newAddr), { task });
}

/**
 * mlock() of a process.
 *
 * @param task - the process
 * @param addr - first address
 * @param len - length
 * @returns 0 or -errno
 */
export function userMlock(task: task_struct, addr: unsigned_long, len: unsigned_long): int {
	mmOf(task, 'userMlock()');
	return run(sys_mlock(addr, len), { task });
}

/**
 * munlock() of a process.
 *
 * @param task - the process
 * @param addr - first address
 * @param len - length
 * @returns 0 or -errno
 */
export function userMunlock(task: task_struct, addr: unsigned_long, len: unsigned_long): int {
	mmOf(task, 'userMunlock()');
	return run(sys_munlock(addr, len), { task });
}

/** The CPU of the current task, with its address space loaded. */
function cpuOfCurrent(): Cpu {
	const task = current();
	const { cpus } = world().machine as { readonly cpus: readonly Cpu[] };
	const cpu = cpus[task.cpu % cpus.length]!;
	loadMm(cpu, mmOf(task, 'load or store'));
	return cpu;
}

/**
 * Load bytes as the current task.
 *
 * @param va - first address
 * @param into - where to; its length says how much
 * @returns null, or the signal
 * @context Process context. Sleeps: page faults.
 */
export function* loadUser(va: unsigned_long, into: Uint8Array): Sim<Signal | null> {
	return yield* cpuOfCurrent().load(va, into);
}

/**
 * Store bytes as the current task.
 *
 * @param va - first address
 * @param from - what
 * @returns null, or the signal
 * @context Process context. Sleeps: page faults.
 */
export function* storeUser(va: unsigned_long, from: Uint8Array): Sim<Signal | null> {
	return yield* cpuOfCurrent().store(va, from);
}

/**
 * Load a 64-bit word as the current task.
 *
 * @param va - its address
 * @returns the word, or the signal
 * @context Process context. Sleeps: page faults.
 */
export function* loadUser64(va: unsigned_long): Sim<bigint | Signal> {
	const word = new BigUint64Array(1);
	const signal = yield* loadUser(va, new Uint8Array(word.buffer));
	return signal ?? word[0]!;
}

/**
 * Store a 64-bit word as the current task.
 *
 * @param va - its address
 * @param value - the word
 * @returns null, or the signal
 * @context Process context. Sleeps: page faults.
 */
export function* storeUser64(va: unsigned_long, value: bigint): Sim<Signal | null> {
	return yield* storeUser(va, new Uint8Array(new BigUint64Array([value]).buffer));
}

/**
 * Load bytes of a process.
 *
 * @param task - the process
 * @param va - first address
 * @param len - how many
 * @returns the bytes, or the signal
 */
export function userRead(task: task_struct, va: unsigned_long, len: int): Uint8Array | Signal {
	const bytes = new Uint8Array(len);
	return run(() => loadUser(va, bytes), { task }) ?? bytes;
}

/**
 * Store bytes to a process.
 *
 * @param task - the process
 * @param va - first address
 * @param bytes - what
 * @returns null, or the signal
 */
export function userWrite(task: task_struct, va: unsigned_long, bytes: Uint8Array): Signal | null {
	return run(() => storeUser(va, bytes), { task });
}

/**
 * Load a 64-bit word of a process.
 *
 * @param task - the process
 * @param va - its address
 * @returns the word, or the signal
 */
export function userRead64(task: task_struct, va: unsigned_long): bigint | Signal {
	return run(() => loadUser64(va), { task });
}

/**
 * Store a 64-bit word to a process.
 *
 * @param task - the process
 * @param va - its address
 * @param value - the word
 * @returns null, or the signal
 */
export function userWrite64(task: task_struct, va: unsigned_long, value: bigint): Signal | null {
	return run(() => storeUser64(va, value), { task });
}
