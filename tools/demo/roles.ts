// SPDX-License-Identifier: GPL-2.0-only
/**
 * Which functions of a machine play GPU and NIC.
 *
 * GPUs, accelerators and NICs are what `kproto topo` takes for these. Where a machine lacks one, another endpoint stands in and
 * the output says which; `--gpu` and `--nic` choose.
 */
import {
	type DeviceDescription,
	hex,
	type MachineDescription,
} from '../../arch/sim/description.ts';
import { UserError } from '../kproto/user_error.ts';
import { kindOf, nameAll, SelectError, selectOne } from '../topo/select.ts';

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

/** A host bridge has the header of an endpoint, and is none. */
function isEndpoint(d: DeviceDescription): boolean {
	return kindOf(d) !== 'BR';
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
	const ids = `${hex(d.vendor, 4)}:${hex(d.device, 4)}`;
	return { bdf: d.bdf, what: `${ids} class ${hex(d.class >> 8, 4)}`, standIn };
}

function chosen(machine: MachineDescription, word: string, role: string): Player {
	let d: DeviceDescription;
	try {
		d = selectOne(nameAll(machine), word).device;
	} catch (error) {
		if (!(error instanceof SelectError)) throw error;
		throw new CastError(`${role} of ${machine.name}: ${error.message}`);
	}
	if (!isEndpoint(d))
		throw new CastError(
			`${word} of ${machine.name} is a bridge, it cannot play ${role}`,
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
		.filter((d) => ['GPU', 'ACC'].includes(kindOf(d)))
		.map((d) => player(d, false));
	let nics = endpoints.filter((d) => kindOf(d) === 'NIC').map((d) => player(d, false));

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
