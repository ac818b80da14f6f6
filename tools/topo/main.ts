// SPDX-License-Identifier: GPL-2.0-only
/**
 * `kproto topo`: who reaches whose memory on a machine, and by which path.
 *
 * Exit code 0 when there was an answer, 2 for a command line or a source that makes no sense.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { CpuModel, MachineDescription } from '../../arch/sim/description.ts';
import { defaultProfile, type ProfileName, profiles } from '../../include/sim/feature.ts';
import { formatTopology, parseCpu, TopologyError } from '../topology/index.ts';
import { readSource, type SourceMachine } from '../topology/source.ts';
import { ClassicMap } from './classic.ts';
import { classicLines, nameLines, verdictLines } from './matrix.ts';
import { type Named, nameAll, SelectError, select, selectUsual } from './select.ts';
import { unknownsOf, type Verdict, verdicts } from './unknown.ts';

const usage = `usage: kproto topo [OPTION...] [SOURCE...]

SOURCE is what there is of the machine: lspci -vvv -nn text (root's, or without capabilities),
lspci -xxxx bytes, both (in one file or two), a folder with a copy of /sys/bus/pci/devices, a dump
of rdma_topo, lstopo XML, NCCL topology XML, topology JSON; without a SOURCE: the machine at hand.

  --from FILTER    providers, the rows: gpu, nic, nvme, storage, acc, bridge, endpoint, all,
                   a class (0302), an address (3b:00.0, 3b:), a name (GPU0); several with commas
  --to FILTER      clients, the columns
  --cpu CPU        the CPU, which lspci does not tell: intel:6, amd:0x19, other, ...
  --kernel NAME    the release: ${Object.keys(profiles).join(', ')}
  --json           everything as JSON
  --save FILE      write the machine as topology JSON
  -h, --help       this text
`;

const options = {
	from: { type: 'string' },
	to: { type: 'string' },
	cpu: { type: 'string' },
	kernel: { type: 'string' },
	json: { type: 'boolean' },
	save: { type: 'string' },
	help: { type: 'boolean', short: 'h' },
} as const;

type Values = ReturnType<typeof parseArgs<{ options: typeof options }>>['values'];

/** The user's mistake, in one line. */
class UsageError extends Error {}

function cpuFrom(text: string): CpuModel {
	const cpu = parseCpu(text);
	if (cpu === null)
		throw new UsageError(`--cpu ${text}: expected VENDOR:FAMILY, for example amd:0x19`);
	return cpu;
}

function kernelFrom(text: string): ProfileName {
	const name = Object.keys(profiles).find((one) => one === text || one === `v${text}`);
	if (name === undefined)
		throw new UsageError(
			`--kernel ${text}: expected one of ${Object.keys(profiles).join(', ')}`,
		);
	return name as ProfileName;
}

/** What was asked, and the answers. */
interface Question {
	readonly source: SourceMachine;
	readonly kernel: ProfileName;
	readonly rows: readonly Named[];
	readonly columns: readonly Named[];
	readonly verdicts: readonly (readonly Verdict[])[];
}

function ask(source: SourceMachine, kernel: ProfileName, values: Values): Question {
	const { description } = source;
	const all = nameAll(description);
	const rows = values.from === undefined ? selectUsual(all) : select(all, values.from);
	const columns = values.to === undefined ? selectUsual(all) : select(all, values.to);
	const [providers, clients] = [rows, columns].map((list) => list.map(({ bdf }) => bdf));
	return {
		source,
		kernel,
		rows,
		columns,
		verdicts: verdicts(description, kernel, providers ?? [], clients ?? []),
	};
}

function plural(n: number, one: string, many = `${one}s`): string {
	return `${n} ${n === 1 ? one : many}`;
}

/** The machine in a few lines, with what is not known of it. */
function headLines({ description: d, kind, cpuTold, notes }: SourceMachine): string[] {
	const { acs, types, hosts } = unknownsOf(d);
	const { vendor, family } = d.cpu;
	const cpu =
		vendor === 'other'
			? 'not AMD, not Intel'
			: `${vendor} family 0x${family.toString(16)}`;
	const known = d.devices.filter((device) => device.acs !== null).length;
	const lines = [
		`${d.name}: ${plural(d.devices.length, 'function')}, ${plural(d.hostBridges.length, 'host bridge')}, from ${kind}`,
		`CPU ${cpu}${cpuTold ? '' : ' (a guess by the host bridges; --cpu says otherwise)'}`,
		`ACS words of ${plural(known, 'function')}${acs.length === 0 ? '' : `; ACS unknown of ${acs.length}`}`,
	];
	if (hosts.length > 0)
		lines.push(`Who speaks for the host bridge is unknown: ${hosts.join(', ')}`);
	if (types.length > 0)
		lines.push(
			`Whether it is a root port, and speaks for its host bridge, is unknown: ${types.join(', ')}`,
		);
	return [...lines, ...notes];
}

function jsonOf({ source, kernel, rows, columns, verdicts: answers }: Question): unknown {
	const { description: d, kind, cpuTold, notes } = source;
	const map = new ClassicMap(d);
	const plain = ({ name, bdf, what }: Named) => ({ name, bdf, what });
	return {
		machine: d.name,
		source: kind,
		kernel,
		cpu: { ...d.cpu, told: cpuTold },
		unknown: unknownsOf(d),
		notes,
		from: rows.map(plain),
		to: columns.map(plain),
		classic: rows.map((r) => columns.map((c) => map.between(r.bdf, c.bdf))),
		verdicts: answers,
	};
}

function print(lines: readonly string[]): void {
	process.stdout.write(`${lines.join('\n')}\n`);
}

function report(question: Question): void {
	const { source, kernel, rows, columns, verdicts: answers } = question;
	const map = new ClassicMap(source.description);
	print([
		...headLines(source),
		'',
		...nameLines([...rows, ...columns]),
		'',
		...classicLines(map, rows, columns),
		'',
		...verdictLines(kernel, answers, rows, columns),
	]);
}

function save(file: string, description: MachineDescription): void {
	try {
		writeFileSync(file, formatTopology(description));
	} catch (error) {
		const { code } = error as { code?: string };
		throw new UsageError(`--save ${file}: it can't be written (${code ?? 'error'})`);
	}
}

function run(values: Values, paths: readonly string[]): void {
	const cpu = values.cpu === undefined ? undefined : cpuFrom(values.cpu);
	const kernel = values.kernel === undefined ? defaultProfile : kernelFrom(values.kernel);
	const source = readSource(paths, { cpu });
	if (values.save !== undefined) save(values.save, source.description);
	const question = ask(source, kernel, values);
	if (values.json === true) print([JSON.stringify(jsonOf(question), null, 2)]);
	else report(question);
}

/**
 * Run the command.
 *
 * @param argv - arguments
 * @returns the exit code
 */
export async function main(argv: string[]): Promise<number> {
	try {
		const { values, positionals } = parseArgs({
			args: argv,
			options,
			allowPositionals: true,
		});
		if (values.help === true) process.stdout.write(usage);
		else run(values, positionals);
		return 0;
	} catch (error) {
		const parse =
			(error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') === true;
		const users =
			error instanceof TopologyError ||
			error instanceof SelectError ||
			error instanceof UsageError;
		if (!parse && !users) throw error;
		// parseArgs() has messages of several lines; the first says what is wrong.
		const [what] = (error as Error).message.split('\n');
		process.stderr.write(`kproto topo: ${what}\n`);
		return 2;
	}
}
