// SPDX-License-Identifier: GPL-2.0-only
/**
 * `kproto demo`: the whole path, on every machine, for every pair of GPU and NIC.
 *
 * Exit code 0 if every byte was right and nothing complained, 1 if not, 2 for a command line or a
 * topology file that makes no sense.
 */
import { statSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { MachineDescription } from '../../arch/sim/description.ts';
import { defaultProfile } from '../../include/sim/feature.ts';
import { progressBar } from '../kproto/progress.ts';
import { tellMistake, UserError } from '../kproto/user_error.ts';
import { TopologyError } from '../topology/error.ts';
import { cpuOption } from '../topology/platform.ts';
import { readTextFile, STDIN } from '../topology/read-text.ts';
import { readSource } from '../topology/source.ts';
import {
	assumptions,
	type DemoMachine,
	demoMachine,
	demoMachineNames,
	machineFacts,
} from './machines.ts';
import { runMachine } from './pair.ts';
import {
	contrastingMachine,
	introduction,
	legend,
	renderMachine,
	renderSummary,
} from './render.ts';
import { isGood, type MachineResult } from './result.ts';
import { type Cast, CastError, castMachine, TooFewError } from './roles.ts';
import { renderTrace } from './trace.ts';

const usage = `usage: kproto demo [OPTION...]

  --machine NAME   print that machine's pairs in full; all: every machine's
  --topology SOURCE
                   another machine: lspci -vvv text, topology JSON, a copy of
                   /sys/bus/pci/devices, all that kproto topo takes
  --cpu CPU        the CPU, which lspci does not tell: intel:6, amd:0x19, ...
  --gpu FUNCTION   which function plays the GPU: an address, or a name of kproto topo (GPU0)
  --nic FUNCTION   which function plays the NIC
  --no-trace       leave the annotated trace out
  --json           everything as JSON
  --list           names of the machines
  -h, --help       this text
`;

const options = {
	machine: { type: 'string' },
	topology: { type: 'string' },
	cpu: { type: 'string' },
	gpu: { type: 'string' },
	nic: { type: 'string' },
	'no-trace': { type: 'boolean' },
	json: { type: 'boolean' },
	list: { type: 'boolean' },
	help: { type: 'boolean', short: 'h' },
} as const;

type Values = ReturnType<typeof parseArgs<{ options: typeof options }>>['values'];

/** Which machines are run. */
function pick(values: Values): DemoMachine[] {
	if (values.topology !== undefined) {
		if (values.machine !== undefined)
			throw new UserError('--topology and --machine exclude each other');
		const cpu = values.cpu === undefined ? undefined : cpuOption(values.cpu);
		const { description, notes } = readSource([values.topology], { cpu });
		const about = description.comment ?? `read from ${values.topology}`;
		return [{ description, about: [about, ...notes].join('; ') }];
	}
	const names = demoMachineNames();
	if (values.machine !== undefined && values.machine !== 'all') {
		if (!names.includes(values.machine))
			throw new UserError(
				`there is no machine "${values.machine}": ${names.join(', ')}`,
			);
		return [withCpu(demoMachine(values.machine), values.cpu)];
	}
	return names.map((name) => withCpu(demoMachine(name), values.cpu));
}

function withCpu(machine: DemoMachine, cpu: string | undefined): DemoMachine {
	if (cpu === undefined) return machine;
	return { ...machine, description: { ...machine.description, cpu: cpuOption(cpu) } };
}

/** Who plays on a machine; what is wrong with a file is said with its line. */
function cast(description: MachineDescription, values: Values): Cast {
	try {
		return castMachine(description, values);
	} catch (error) {
		const { topology } = values;
		if (topology !== undefined && error instanceof TooFewError)
			throw new TopologyError(
				topology,
				devicesLine(topology),
				'two endpoints at the least',
			);
		if (
			error instanceof CastError &&
			topology === undefined &&
			values.machine === undefined
		)
			throw new CastError(
				`${error.message}; --machine NAME says which machine is meant`,
			);
		throw error;
	}
}

/** Where a topology file has its devices: that line of JSON, or the last one of a text; a folder has no lines. */
function devicesLine(file: string): number {
	if (file === STDIN || !statSync(file).isFile()) return 1;
	const lines = readTextFile(file).trimEnd().split('\n');
	return lines.findIndex((line) => line.includes('"devices"')) + 1 || lines.length;
}

/** Run all pairs of the machines. */
function runAll(machines: readonly DemoMachine[], values: Values): MachineResult[] {
	const casts = machines.map(({ description }) => cast(description, values));
	const total = casts.reduce((sum, { gpus, nics }) => sum + gpus.length * nics.length, 0);
	const bar = progressBar();
	bar.start(total, 0, { machine: '' });
	try {
		return machines.map(({ description, about }, i) => {
			const { name } = description;
			const step = (): void => bar.increment({ machine: name });
			const pairs = runMachine(description, casts[i]!, step);
			const line = `${about} (${machineFacts(description)})`;
			const assumed = assumptions(description);
			return { name, about: line, assumed, cast: casts[i]!, pairs };
		});
	} finally {
		bar.stop();
	}
}

function print(lines: readonly string[]): void {
	process.stdout.write(`${lines.join('\n')}\n`);
}

/** What the run was, for a person. */
function report(machines: readonly DemoMachine[], results: MachineResult[], values: Values): void {
	const one = values.machine !== undefined || values.topology !== undefined;
	print([...introduction, '', ...legend, '']);
	const contrasting = contrastingMachine(results);
	const shown = one || contrasting === null ? results : [contrasting];
	for (const result of shown) print([...renderMachine(result), '']);
	if (results.length > 1) print([...renderSummary(results), '']);
	if (values['no-trace'] === true) return;
	const lines = renderTrace(machines, shown);
	if (lines.length > 0) print(lines);
}

/**
 * Run the demonstration.
 *
 * @param argv - arguments
 * @returns the exit code
 */
export async function main(argv: string[]): Promise<number> {
	try {
		const { values } = parseArgs({ args: argv, options, allowPositionals: false });
		if (values.help === true) {
			process.stdout.write(usage);
			return 0;
		}
		if (values.list === true) {
			print(demoMachineNames());
			return 0;
		}
		const machines = pick(values);
		const results = runAll(machines, values);
		if (values.json === true)
			print([
				JSON.stringify(
					{ profile: defaultProfile, machines: results },
					null,
					2,
				),
			]);
		else report(machines, results, values);
		return results.every(({ pairs }) => pairs.every(isGood)) ? 0 : 1;
	} catch (error) {
		return tellMistake('demo', error);
	}
}
