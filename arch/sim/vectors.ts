// SPDX-License-Identifier: GPL-2.0-only
/**
 * Where the machine calls the kernel: the only way up from here.
 *
 * Duty: boot fills the fields in; until then a trap stops the run, as a machine without a kernel would.
 */
import { HarnessError } from '../../include/sim/report.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import type { Tlb } from './tlb.ts';

/** What a page fault that cannot be handled does to the thread that took it. */
export interface Signal {
	/** Signal number. */
	sig: number;
	/** `si_code`. */
	code: number;
}

/** What a vector sees of the CPU that took the trap (class Cpu is one). */
export interface TrappedCpu {
	/** Number of the CPU. */
	readonly id: number;
	/** Page frame number of the top-level page table; 0: none. */
	cr3: number;
	/** Its translations. */
	tlb: Tlb;
	/** Drop the present address space's entries for one address. */
	invlpg(va: bigint): void;
}

/** The trap table. */
export class Vectors {
	/**
	 * Page fault.
	 *
	 * @param cpu - who faulted
	 * @param va - the address, as CR2 has it
	 * @param errorCode - X86_PF_* bits
	 * @returns 0: try the access again; else the signal that ends it
	 */
	pageFault: (cpu: TrappedCpu, va: bigint, errorCode: number) => Sim<0 | Signal> =
		noPageFaultVector;

	/**
	 * Message-signalled interrupt of a function.
	 *
	 * @param bdf - the function
	 * @param vector - number of its message
	 */
	interrupt: (bdf: string, vector: number) => void = noInterruptVector;
}

function noPageFaultVector(cpu: TrappedCpu, va: bigint): Sim<0 | Signal> {
	throw new HarnessError(
		'Cpu.load/store',
		`page fault of CPU ${cpu.id} at 0x${va.toString(16)}, but no kernel has set vectors.pageFault`,
	);
}

function noInterruptVector(bdf: string, vector: number): void {
	throw new HarnessError(
		'Machine.interrupt',
		`interrupt ${vector} of ${bdf}, but no kernel has set vectors.interrupt`,
	);
}
