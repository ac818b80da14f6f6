// SPDX-License-Identifier: GPL-2.0-only
/**
 * `kproto topo`: who reaches whose memory on a machine, and by which path.
 *
 * Exit code 0 when there was an answer, 2 for a command line or a source that makes no sense.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { CpuModel, MachineDescription } from '../../arch/sim/description.ts';
import { defaultProfile, type ProfileName } from '../../include/sim/feature.ts';
import { tellMistake, UserError } from '../kproto/user_error.ts';
import { formatTopology } from '../topology/index.ts';
import { cpuOption } from '../topology/platform.ts';
import { readSource, type SourceMachine } from '../topology/source.ts';
import { ClassicMap } from './classic.ts';
import type { Scenario } from './kernel.ts';
import { classicLines, nameLines, verdictLines } from './matrix.ts';
import { kernelNamed, releaseNames } from './release.ts';
import { type Named, nameAll, select, selectOne, selectUsual } from './select.ts';
import { drawSvg } from './svg.ts';
import { unknownsOf, type Verdict, verdicts } from './unknown.ts';
import { changed, changedPairs, whatIfLines } from './what_if.ts';
import { explain } from './why.ts';
import { whyLines } from './why_text.ts';

const usage = `usage: kproto topo [OPTION...] [SOURCE...]

SOURCE is what there is of the machine: lspci -vvv -nn text (root's, or without capabilities),
lspci -xxxx bytes, both (in one file or two), a folder with a copy of /sys/bus/pci/devices or a
tar of it, a dump of rdma_topo, lstopo XML, NCCL topology XML, topology JSON, each packed by gzip
or not; - is standard input; without a SOURCE: the machine at hand.

  --from FILTER    providers, the rows: gpu, nic, nvme, storage, acc, bridge, endpoint, all,
                   a class (0302), an address (3b:00.0, 3b:), a name (GPU0); several with commas
  --to FILTER      clients, the columns
  --cpu CPU        the CPU, which lspci does not tell: intel:6, amd:0x19, other, ...
  --kernel NAME    the release: ${releaseNames.join(', ')}
  --why A B        explain one pair: may B access the memory of A, by which path, and why;
                   not with --from, --to, --svg
  --what-if CHANGE show only what a change changes: "acs off 0000:01:00.0", "acs on all",
                   "acs 0x05 3b:00.0", "cpu amd:0x19", "kernel v6.12", "pci=disable_acs_redir=...";
                   several are made together
  --svg FILE       draw the tree with the paths of the pairs in colours; with --what-if as they are after it
  --json           everything as JSON
  --save FILE      write the machine as topology JSON
  -h, --help       this text
`;

const options = {
	from: { type: 'string' },
	to: { type: 'string' },
	cpu: { type: 'string' },
	kernel: { type: 'string' },
	'what-if': { type: 'string', multiple: true },
	svg: { type: 'string' },
	json: { type: 'boolean' },
	save: { type: 'string' },
	help: { type: 'boolean', short: 'h' },
} as const;

type Values = ReturnType<typeof parseArgs<{ options: typeof options }>>['values'];

function kernelFrom(text: string): ProfileName {
	const name = kernelNamed(text);
	if (name === null)
		throw new UserError(`--kernel ${text}: expected one of ${releaseNames.join(', ')}`);
	return name;
}

/** What was asked, and the answers. */
interface Question {
	readonly source: SourceMachine;
	readonly scenario: Scenario;
	/** All functions. */
	readonly all: readonly Named[];
	readonly rows: readonly Named[];
	readonly columns: readonly Named[];
	readonly verdicts: readonly (readonly Verdict[])[];
}

/** The question after some changes. */
interface Changed extends Question {
	/** What was changed. */
	readonly changes: readonly string[];
}

function judge(scenario: Scenario, rows: readonly Named[], columns: readonly Named[]): Verdict[][] {
	const addresses = (list: readonly Named[]) => list.map(({ bdf }) => bdf);
	return verdicts(scenario, addresses(rows), addresses(columns));
}

function ask(source: SourceMachine, kernel: ProfileName, values: Values): Question {
	const scenario: Scenario = { machine: source.description, kernel, pci: [] };
	const all = nameAll(source.description);
	const rows = values.from === undefined ? selectUsual(all) : select(all, values.from);
	const columns = values.to === undefined ? selectUsual(all) : select(all, values.to);
	return { source, scenario, all, rows, columns, verdicts: judge(scenario, rows, columns) };
}

function plural(n: number, one: string, many = `${one}s`): string {
	return `${n} ${n === 1 ? one : many}`;
}

function cpuLine({ vendor, family, unknown }: CpuModel, told: boolean): string {
	if (unknown === true)
		return 'CPU unknown: the source does not tell it, and its host bridges stand beside any; --cpu tells';
	const cpu =
		vendor === 'other'
			? 'not AMD, not Intel'
			: `${vendor} family 0x${family.toString(16)}`;
	return `CPU ${cpu}${told ? '' : ' (a guess by the host bridges; --cpu says otherwise)'}`;
}

/** The machine in a few lines, with what is not known of it. */
function headLines({ description: d, kind, cpuTold, notes }: SourceMachine): string[] {
	const { acs, types, hosts } = unknownsOf(d);
	const known = d.devices.filter((device) => device.acs !== null).length;
	const lines = [
		`${d.name}: ${plural(d.devices.length, 'function')}, ${plural(d.hostBridges.length, 'host bridge')}, from ${kind}`,
		cpuLine(d.cpu, cpuTold),
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

function jsonOf({ source, scenario, rows, columns, verdicts: answers }: Question): object {
	const { description: d, kind, cpuTold, notes } = source;
	const map = new ClassicMap(d);
	const plain = ({ name, bdf, what }: Named) => ({ name, bdf, what });
	return {
		machine: d.name,
		source: kind,
		kernel: scenario.kernel,
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
	const { source, scenario, rows, columns, verdicts: answers } = question;
	const map = new ClassicMap(source.description);
	print([
		...headLines(source),
		'',
		...nameLines([...rows, ...columns]),
		'',
		...classicLines(map, rows, columns),
		'',
		...verdictLines(scenario.kernel, answers, rows, columns),
	]);
}

function write(option: string, file: string, text: string): void {
	// Standard output has the matrices.
	if (file === '-') throw new UserError(`${option} -: expected the name of a file`);
	try {
		writeFileSync(file, text);
	} catch (error) {
		const { code } = error as { code?: string };
		throw new UserError(`${option} ${file}: it can't be written (${code ?? 'error'})`);
	}
}

/** `--save`: with what was made up, which the file alone would not tell any more. */
function save(file: string, { description, notes, cpuTold }: SourceMachine): void {
	const guess =
		cpuTold || description.cpu.unknown === true
			? []
			: ['The CPU is a guess by the host bridges.'];
	const all = [...guess, ...notes];
	const { name, comment, ...rest } = description;
	const saved: MachineDescription = {
		name,
		...(comment === undefined ? {} : { comment }),
		...(all.length === 0 ? {} : { notes: all }),
		...rest,
	};
	write('--save', file, formatTopology(saved));
}

/** The same question after some changes; without any, the same. */
function change(question: Question, changes: readonly string[]): Changed {
	if (changes.length === 0) return { ...question, changes };
	const { all, rows, columns } = question;
	const scenario = changes.reduce((at, one) => changed(at, all, one), question.scenario);
	return { ...question, scenario, verdicts: judge(scenario, rows, columns), changes };
}

/** `--svg`: with `--what-if` the machine as it is after the changes. */
function draw(file: string, { scenario, rows, columns, verdicts: answers, changes }: Changed) {
	const { machine, kernel } = scenario;
	const title = [`Linux ${kernel}`, ...changes].join(', with ');
	write('--svg', file, drawSvg(machine, title, answers, rows, columns));
}

/** `--what-if`: only what the changes change. */
function reportChanges(question: Question, after: Changed, asJson: boolean): void {
	const { source, rows, columns, verdicts: before } = question;
	const { changes } = after;
	const pairs = changedPairs(rows, columns, before, after.verdicts);
	if (asJson) {
		const plain = pairs.map((pair) => ({
			...pair,
			provider: pair.provider.bdf,
			client: pair.client.bdf,
		}));
		print([
			JSON.stringify(
				{ ...jsonOf(question), whatIf: changes, changed: plain },
				null,
				2,
			),
		]);
		return;
	}
	const touched = pairs.flatMap(({ provider, client }) => [provider, client]);
	print([
		...headLines(source),
		'',
		...(touched.length === 0 ? [] : [...nameLines(touched), '']),
		...whatIfLines(changes, pairs, rows.length * columns.length),
	]);
}

/** `--why A B`: the two that follow the option, what is left is the SOURCE. */
function runWhy(
	source: SourceMachine,
	kernel: ProfileName,
	words: readonly string[],
	values: Values,
) {
	const [a = '', b = ''] = words;
	const all = nameAll(source.description);
	let scenario: Scenario = { machine: source.description, kernel, pci: [] };
	const changes = values['what-if'] ?? [];
	for (const change of changes) scenario = changed(scenario, all, change);
	const why = explain(scenario, selectOne(all, a), selectOne(all, b), all);
	if (values.json === true)
		print([
			JSON.stringify(
				{
					machine: source.description.name,
					whatIf: changes,
					...why,
				},
				null,
				2,
			),
		]);
	else {
		const told = changes.length === 0 ? [] : [`With ${changes.join(' and ')}:`, ''];
		print([...headLines(source), '', ...told, ...whyLines(why)]);
	}
}

function run(values: Values, paths: readonly string[], pair: readonly string[] | null): void {
	const cpu = values.cpu === undefined ? undefined : cpuOption(values.cpu);
	const kernel = values.kernel === undefined ? defaultProfile : kernelFrom(values.kernel);
	for (const option of ['from', 'to', 'svg'] as const)
		if (pair !== null && values[option] !== undefined)
			throw new UserError(`--${option} and --why exclude each other`);
	if (values.save !== undefined && values.save === values.svg)
		throw new UserError('--save and --svg: expected two files');
	const source = readSource(paths, { cpu });
	if (values.save !== undefined) save(values.save, source);
	if (pair !== null) {
		runWhy(source, kernel, pair, values);
		return;
	}
	const question = ask(source, kernel, values);
	const after = change(question, values['what-if'] ?? []);
	if (values.svg !== undefined) draw(values.svg, after);
	if (after.changes.length > 0) reportChanges(question, after, values.json === true);
	else if (values.json === true) print([JSON.stringify(jsonOf(question), null, 2)]);
	else report(question);
}

/** Take the two functions that follow `--why` out of the arguments. */
function takePair(argv: readonly string[]): { args: string[]; pair: string[] | null } {
	const at = argv.indexOf('--why');
	if (at < 0) return { args: [...argv], pair: null };
	const pair = argv.slice(at + 1, at + 3);
	if (pair.length < 2 || pair.some((word) => word.startsWith('-')))
		throw new UserError('--why: expected two functions, as addresses or names');
	return { args: [...argv.slice(0, at), ...argv.slice(at + 3)], pair };
}

/**
 * Run the command.
 *
 * @param argv - arguments
 * @returns the exit code
 */
export async function main(argv: string[]): Promise<number> {
	try {
		const { args, pair } = takePair(argv);
		const { values, positionals } = parseArgs({
			args,
			options,
			allowPositionals: true,
		});
		if (values.help === true) process.stdout.write(usage);
		else run(values, positionals, pair);
		return 0;
	} catch (error) {
		return tellMistake('topo', error);
	}
}
