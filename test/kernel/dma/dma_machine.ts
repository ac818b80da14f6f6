// SPDX-License-Identifier: GPL-2.0-only
/**
 * A world with memory map, PCI and the DMA layer, and a device that does DMA.
 *
 * The standard machine of test/drivers/pci, RAM of one's choice. DMA of a device goes through the
 * fabric: what is wrong with an address shows there.
 */
import type { MachineDescription } from '../../../arch/sim/description.ts';
import type { Machine } from '../../../arch/sim/machine.ts';
import { type DmaOptions, dmaInit } from '../../../drivers/iommu/probe.ts';
import { pcieFunction } from '../../../drivers/pci/probe.ts';
import { pciBus } from '../../../drivers/pci/search.ts';
import { memoryMap } from '../../../include/linux/mmzone.ts';
import type { pci_dev } from '../../../include/linux/pci.ts';
import type { dma_addr_t } from '../../../include/linux/types.ts';
import type { ProfileName } from '../../../include/sim/feature.ts';
import { world } from '../../../include/sim/world.ts';
import { bootPci, dev, standardMachine } from '../../drivers/pci/machines.ts';

/** RAM below 4 GiB from here on belongs to the test. */
export const LOW = 0x200_0000n;
/** RAM above 4 GiB. */
export const HIGH = 0x1_0000_0000n;
/** Bus master and memory space. */
const COMMAND = 0x6;

/** How the world is made. */
export interface DmaWorldOptions {
	readonly iommu?: MachineDescription['iommu'];
	readonly dma?: DmaOptions;
	/** RAM above 4 GiB too. */
	readonly high?: boolean;
	readonly profile?: ProfileName;
}

/**
 * Boot it.
 *
 * @param options - IOMMU, bounce buffer, RAM, release
 */
export function bootDma(options: DmaWorldOptions = {}): Machine {
	const { iommu = null, dma, high = false, profile = 'v7.3' } = options;
	const ram = [{ start: '0x0', size: '0x10000000' }];
	if (high) ram.push({ start: '0x100000000', size: '0x10000000' });
	const machine = bootPci({ ...standardMachine(), ram, iommu }, profile);
	for (const { startPfn, endPfn } of machine.ram.ranges)
		memoryMap().add({ start: startPfn, end: endPfn, pgmap: null, idle: 0 });
	dmaInit(machine, dma);
	for (const pdev of pciBus().devices) pdev.config.writeConfig(4, 2, COMMAND);
	return machine;
}

function machineOf(): Machine {
	return world().machine as Machine;
}

/** NIC1, alone below its root port: the device that most tests use. */
export function nic(): pci_dev {
	return dev('NIC1');
}

/** The bytes that a device reads; a string says why it could not. */
export function deviceRead(pdev: pci_dev, addr: dma_addr_t, length: number): Uint8Array | string {
	const done = machineOf().fabric.read(pcieFunction(pdev), addr as bigint, length);
	return done.status === 'SC' ? (done.data as Uint8Array) : done.status;
}

/** Let a device write; returns `SC`, or why it could not. */
export function deviceWrite(pdev: pci_dev, addr: dma_addr_t, bytes: Uint8Array): string {
	return machineOf().fabric.write(pcieFunction(pdev), addr as bigint, bytes).status;
}

/** Fill physical memory. */
export function fill(phys: bigint, length: number, byte: number): void {
	machineOf().cpuWrite(phys, new Uint8Array(length).fill(byte));
}

/** Read physical memory. */
export function peek(phys: bigint, length: number): Uint8Array {
	const bytes = new Uint8Array(length);
	machineOf().cpuRead(phys, bytes);
	return bytes;
}

/** Bytes as runs: `4096*17 8*0`. */
export function runs(bytes: Uint8Array | string): string {
	if (typeof bytes === 'string') return bytes;
	const parts: [number, number][] = [];
	for (const byte of bytes) {
		const last = parts[parts.length - 1];
		if (last !== undefined && last[1] === byte) last[0]++;
		else parts.push([1, byte]);
	}
	return parts.map(([n, byte]) => `${n}*${byte}`).join(' ');
}
