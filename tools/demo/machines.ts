// SPDX-License-Identifier: GPL-2.0-only
/**
 * The machines of the demonstration: captures of `lspci -vvv` with the CPU that belongs to them, and
 * the named machines that the project ships.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { MachineDescription } from '../../arch/sim/description.ts';
import { machineNames, namedMachine } from '../machines/index.ts';
import { unknownsOf } from '../topo/unknown.ts';
import { readCapture } from '../topology/capture.ts';

/** Where the captures are; absent in an installed package. */
const capturesFolder = fileURLToPath(new URL('../../test/golden/p2p/lspci/', import.meta.url));

/** A machine and one line about it. */
export interface DemoMachine {
	readonly description: MachineDescription;
	readonly about: string;
}

/** Names of all machines, captures first. */
export function demoMachineNames(): string[] {
	const captures = existsSync(capturesFolder)
		? readdirSync(capturesFolder, { withFileTypes: true })
				.filter((entry) => entry.isDirectory())
				.map(({ name }) => name)
				.sort()
		: [];
	return [...captures, ...machineNames];
}

/**
 * Read one machine of the demonstration.
 *
 * @param name - one of demoMachineNames()
 */
export function demoMachine(name: string): DemoMachine {
	const named = machineNames.find((machine) => machine === name);
	const description =
		named === undefined ? readCapture(join(capturesFolder, name)) : namedMachine(named);
	return { description, about: description.comment ?? 'read from lspci -vvv' };
}

/**
 * What decides the results of a machine, in a few words.
 *
 * @param description - the machine
 */
export function machineFacts(description: MachineDescription): string {
	const { cpu, devices, iommu } = description;
	const family = `0x${cpu.family.toString(16)}`;
	return `${cpu.vendor} family ${family}, ${devices.length} functions, IOMMU ${iommu === null ? 'off' : iommu.domains}`;
}

/**
 * What a run takes for granted because the source does not tell it, a line each.
 *
 * @param description - the machine
 */
export function assumptions(description: MachineDescription): string[] {
	const { acs, types, hosts, cpu } = unknownsOf(description);
	const lines: string[] = [];
	if (acs.length > 0)
		lines.push(`ACS of ${acs.length} functions is unknown and taken as off`);
	if (cpu) lines.push(`the CPU is unknown and taken as ${description.cpu.vendor}`);
	if (hosts.length > 0)
		lines.push(`who speaks for host bridges ${hosts.join(', ')} is unknown`);
	if (types.length > 0)
		lines.push(
			`whether ${types.join(', ')} is a root port is unknown and taken as it looks`,
		);
	return lines.map((line) => `${line}; kproto topo shows what else it may be`);
}
