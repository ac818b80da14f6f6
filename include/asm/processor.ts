// SPDX-License-Identifier: GPL-2.0-only
/** Identity of the CPU, as far as the kernel's decisions depend on it. */

import type { int, u8 } from '../linux/types.ts';
import { perWorld } from '../sim/world.ts';

export const X86_VENDOR_INTEL = 0;
export const X86_VENDOR_AMD = 2;
export const X86_VENDOR_CENTAUR = 5;
export const X86_VENDOR_HYGON = 9;
export const X86_VENDOR_ZHAOXIN = 10;
export const X86_VENDOR_UNKNOWN = 0xff;

/**
 * What CPUID said.
 *
 * @kernel arch/x86/include/asm/processor.h
 */
export class cpuinfo_x86 {
	/** Family, extended family included: Zen is 0x17. */
	x86: u8 = 6;
	x86_vendor: u8 = X86_VENDOR_INTEL;
	x86_model: u8 = 0;
}

const cpuInfo = perWorld(() => new cpuinfo_x86());

/**
 * Identity of a CPU; all CPUs of a machine are of one kind.
 *
 * @param cpu - number of the CPU
 * @kernel arch/x86/include/asm/processor.h
 */
export function cpu_data(cpu: int): cpuinfo_x86 {
	void cpu;
	return cpuInfo();
}
