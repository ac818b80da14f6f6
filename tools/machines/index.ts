// SPDX-License-Identifier: GPL-2.0-only
/**
 * The named machines that the project ships, read from the topology files in this folder.
 *
 *     hgx-8x8      eight GPUs and NICs on four switches, no ACS redirect
 *     hgx-8x8-acs  the same set up for virtualisation: ACS redirect, VT-d
 *     dual-xeon    two sockets, no switches, host bridges that want both ends below one of them
 *     epyc         AMD, root ports of several host bridges
 *     consumer     a host bridge that is in no list and aborts peer requests
 *     mixed        every kind of path, translated by VT-d
 *     standard     the topology of the tests
 */
import { fileURLToPath } from 'node:url';
import type { MachineDescription } from '../../arch/sim/description.ts';
import { readTopology } from '../topology/index.ts';

/** Names of the machines, in the order in which they are shown. */
export const machineNames = [
	'hgx-8x8',
	'hgx-8x8-acs',
	'dual-xeon',
	'epyc',
	'consumer',
	'mixed',
	'standard',
] as const;

/** Name of a machine. */
export type MachineName = (typeof machineNames)[number];

/** Path of a named machine's topology file. */
export function machineFile(name: MachineName): string {
	return fileURLToPath(new URL(`${name}.json`, import.meta.url));
}

/** Read one named machine. */
export function namedMachine(name: MachineName): MachineDescription {
	return readTopology(machineFile(name));
}

/** Read all named machines. */
export function namedMachines(): MachineDescription[] {
	return machineNames.map(namedMachine);
}
