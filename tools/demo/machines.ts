// SPDX-License-Identifier: GPL-2.0-only
/**
 * The machines of the demonstration: captures of `lspci -vvv` with the CPU that belongs to them, and
 * the named machines that the project ships.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { CpuModel, MachineDescription } from '../../arch/sim/description.ts';
import { machineNames, namedMachine } from '../machines/index.ts';
import { readTopology } from '../topology/index.ts';

/** Where the captures are; absent in an installed package. */
const capturesFolder = fileURLToPath(new URL('../../test/golden/p2p/lspci/', import.meta.url));

/** A machine and one line about it. */
export interface DemoMachine {
	readonly description: MachineDescription;
	readonly about: string;
}

const vendors: Readonly<Record<number, CpuModel['vendor']>> = {
	0: 'intel',
	2: 'amd',
	5: 'centaur',
	9: 'hygon',
	10: 'zhaoxin',
};

/** The parts of devs.json that lspci does not tell. */
interface CaptureFacts {
	readonly cpu_vendor: number;
	readonly cpu_family: number;
	readonly cpu_model: number;
	readonly devs: readonly {
		readonly bdf: string;
		readonly bars: readonly {
			readonly phys: string;
			readonly bus: string;
			readonly mem: number;
		}[];
	}[];
}

/** CPU minus bus address of a host bridge, from the first memory BAR in its domain. */
function offsetIn(facts: CaptureFacts, domain: number): bigint {
	for (const { bdf, bars } of facts.devs) {
		if (Number.parseInt(bdf.split(':')[0]!, 16) !== domain) continue;
		for (const { phys, bus, mem } of bars) if (mem) return BigInt(phys) - BigInt(bus);
	}
	return 0n;
}

function readCapture(name: string): DemoMachine {
	const folder = join(capturesFolder, name);
	const facts = JSON.parse(readFileSync(join(folder, 'devs.json'), 'utf8')) as CaptureFacts;
	const vendor = vendors[facts.cpu_vendor] ?? 'intel';
	const cpu = { vendor, family: facts.cpu_family, model: facts.cpu_model };
	const description = readTopology(join(folder, 'lspci-D-nn-vvv.txt'), {
		name,
		cpu,
		busOffset: ({ domain }: { domain: number }) => offsetIn(facts, domain),
	});
	return {
		description,
		about: `captured by lspci, ${vendor} family 0x${facts.cpu_family.toString(16)}, ${description.devices.length} functions`,
	};
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
	if (named === undefined) return readCapture(name);
	const description = namedMachine(named);
	return { description, about: description.comment ?? 'a named machine' };
}
