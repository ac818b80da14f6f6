// SPDX-License-Identifier: GPL-2.0-only
/**
 * Which functions of a machine play GPU and NIC.
 *
 * A GPU is class 03 or 12, a NIC class 02. Where a machine lacks one, another endpoint stands in and
 * the output says which; `--gpu` and `--nic` choose.
 */
import type { DeviceDescription, MachineDescription } from '../../arch/sim/description.ts';
import { UserError } from '../kproto/user_error.ts';

/** A function and the part it plays. */
export interface Player {
	readonly bdf: string;
	/** `10de:2330 class 0302` */
	readonly what: string;
	/** It is not what it plays. */
	readonly standIn: boolean;
}

/** Everybody who plays. */
export interface Cast {
	readonly gpus: Player[];
	readonly nics: Player[];
}

/** A choice that the machine does not have. */
export class CastError extends UserError {}

/** A machine that has not enough to choose from. */
export class TooFewError extends CastError {}

const hex4 = (n: number): string => n.toString(16).padStart(4, '0');

function baseClass(d: DeviceDescription): number {
	return d.class >> 16;
}

function isEndpoint(d: DeviceDescription): boolean {
	return d.header === 0 && baseClass(d) !== 0x06;
}

/** Bytes of the largest memory BAR. */
function memoryOf(d: DeviceDescription): bigint {
	let most = 0n;
	for (const bar of d.bars) {
		const size = BigInt(bar.size);
		if (bar.io !== true && size > most) most = size;
	}
	return most;
}

function player(d: DeviceDescription, standIn: boolean): Player {
	const ids = `${hex4(d.vendor)}:${hex4(d.device)}`;
	return { bdf: d.bdf, what: `${ids} class ${hex4(d.class >> 8)}`, standIn };
}

function chosen(machine: MachineDescription, bdf: string, role: string): Player {
	const full = bdf.includes(':') && bdf.split(':').length === 2 ? `0000:${bdf}` : bdf;
	const d = machine.devices.find((device) => device.bdf === full);
	if (d === undefined)
		throw new CastError(`${machine.name} has no function ${bdf} to play ${role}`);
	if (!isEndpoint(d))
		throw new CastError(
			`${bdf} of ${machine.name} is a bridge, it cannot play ${role}`,
		);
	return player(d, false);
}

/**
 * Cast a machine.
 *
 * @param machine - the machine
 * @param choice - functions chosen by hand
 * @throws CastError a chosen function that is not there, TooFewError a machine without two endpoints
 */
export function castMachine(
	machine: MachineDescription,
	choice: { readonly gpu?: string | undefined; readonly nic?: string | undefined } = {},
): Cast {
	const endpoints = machine.devices.filter(isEndpoint);
	let gpus = endpoints
		.filter((d) => [0x03, 0x12].includes(baseClass(d)))
		.map((d) => player(d, false));
	let nics = endpoints.filter((d) => baseClass(d) === 0x02).map((d) => player(d, false));

	if (choice.gpu !== undefined) gpus = [chosen(machine, choice.gpu, 'the GPU')];
	if (choice.nic !== undefined) nics = [chosen(machine, choice.nic, 'the NIC')];
	if (choice.gpu !== undefined && gpus[0]!.bdf === nics[0]?.bdf && nics.length === 1) {
		if (choice.nic !== undefined)
			throw new CastError(
				`${choice.gpu} of ${machine.name} cannot play both GPU and NIC`,
			);
		nics = [];
	}
	if (choice.nic !== undefined) gpus = gpus.filter(({ bdf }) => bdf !== nics[0]?.bdf);
	// The endpoint with the most memory can be a GPU; the last PCIe one can be a NIC.
	if (gpus.length === 0) {
		const byMemory = endpoints
			.filter((d) => nics.length !== 1 || d.bdf !== nics[0]!.bdf)
			.sort((a, b) => (memoryOf(a) < memoryOf(b) ? 1 : -1));
		if (byMemory[0] !== undefined) gpus = [player(byMemory[0], true)];
	}
	if (nics.length === 0) {
		const taken = new Set(gpus.map(({ bdf }) => bdf));
		const rest = endpoints.filter((d) => !taken.has(d.bdf));
		const d = rest.filter(({ pcieType }) => pcieType === 0).at(-1) ?? rest.at(-1);
		if (d !== undefined) nics = [player(d, true)];
	}
	if (gpus.length === 0 || nics.length === 0)
		throw new TooFewError(
			`${machine.name} has not two endpoints that could play GPU and NIC`,
		);
	return { gpus, nics };
}
