// SPDX-License-Identifier: GPL-2.0-only
/**
 * Bytes of physical memory as the kernel's linear map shows them, and kernel addresses of it.
 *
 * Guarantee: RAM and P2P pages can be read and written; an address without a struct page is not
 * in the linear map, and touching it is an oops, as memcpy() in the kernel would fault.
 */
import type { CpuSockets } from '../../arch/sim/cpu.ts';
import { oops } from '../../include/linux/bug.ts';
import { pfn_valid } from '../../include/linux/mmzone.ts';
import { PAGE_SHIFT, PAGE_SIZE, type phys_addr_t, type size_t } from '../../include/linux/types.ts';
import { world } from '../../include/sim/world.ts';

/** Where the linear map begins: page_offset_base of x86-64 without KASLR. */
export const PAGE_OFFSET = 0xffff_8880_0000_0000n;

/**
 * Kernel address of physical memory.
 *
 * @param phys - physical address
 * @kernel arch/x86/include/asm/io.h
 */
export function phys_to_virt(phys: phys_addr_t): bigint {
	return BigInt.asUintN(64, (phys as bigint) + PAGE_OFFSET);
}

/**
 * Physical address of a kernel address in the linear map.
 *
 * @param virt - kernel address
 * @kernel arch/x86/include/asm/io.h
 */
export function virt_to_phys(virt: bigint): phys_addr_t {
	return BigInt.asUintN(64, virt - PAGE_OFFSET);
}

/** The machine's side of physical accesses. */
function sockets(): CpuSockets {
	return world().machine as CpuSockets;
}

function checkMapped(phys: bigint, size: bigint): void {
	const { ram } = sockets();
	for (let at = phys; at < phys + size; at = (at | (PAGE_SIZE - 1n)) + 1n)
		if (!ram.has(Number(at >> PAGE_SHIFT)) && !pfn_valid(at >> PAGE_SHIFT))
			oops(
				`BUG: unable to handle page fault for address: ${phys_to_virt(at).toString(16).padStart(16, '0')}`,
				[
					`physical address 0x${at.toString(16)} has no struct page: the linear map ends before it`,
				],
			);
}

/**
 * memcpy() from physical memory to physical memory.
 *
 * @param dst - where to
 * @param src - where from
 * @param size - bytes
 * @throws KernelOops where one of them is not in the linear map
 */
export function copyPhys(dst: phys_addr_t, src: phys_addr_t, size: size_t): void {
	checkMapped(src as bigint, size);
	checkMapped(dst as bigint, size);
	const bytes = new Uint8Array(Number(size));
	const machine = sockets();
	machine.cpuRead(src as bigint, bytes);
	machine.cpuWrite(dst as bigint, bytes);
}

/**
 * memset(…, 0, …) of physical memory.
 *
 * @param dst - first byte
 * @param size - bytes
 */
export function zeroPhys(dst: phys_addr_t, size: size_t): void {
	if (size > 0n) sockets().cpuWrite(dst as bigint, new Uint8Array(Number(size)));
}
