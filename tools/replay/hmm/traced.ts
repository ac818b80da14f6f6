// SPDX-License-Identifier: GPL-2.0-only
/**
 * A program of its own: scenarios replayed with every kernel call recorded.
 *
 * Reads a TraceOrder as JSON from standard input; prints the calls as ftrace's function_graph does,
 * below a heading for each step, or one JSON document.
 */
import { readFileSync } from 'node:fs';
import { installedWorld } from '../../../include/sim/world.ts';
import { MAX_TRACE_EVENTS, type TraceEvent } from '../../../kernel/trace/event.ts';
import { formatFunctionGraph } from '../../../kernel/trace/function_graph.ts';
import { startTrace, stopTrace } from '../../../kernel/trace/tracer.ts';
import type { Mismatch } from '../report.ts';
import type { Oracle } from './oracle.ts';
import { type Answer, type Scenario, stepText } from './record.ts';
import { replayers } from './replayers.ts';
import { type Replayer, replayScenario, type StepObserver } from './scenario.ts';
import type { TracedRecord, TraceOrder } from './trace.ts';

/** One step as the JSON document has it. */
interface TracedStep {
	readonly step: number;
	readonly op: Scenario['steps'][number];
	/** Why it was not executed; absent: it was. */
	readonly skip?: string;
	/** null: the kernel oopsed. */
	readonly answer?: Answer | null;
	readonly calls?: readonly object[];
	readonly mismatches?: readonly Mismatch[];
}

/** Lines of function_graph's head. */
const HEAD_LINES = 4;

const json = (value: unknown): string =>
	JSON.stringify(value, (_, v: unknown) =>
		typeof v === 'bigint' ? `0x${v.toString(16)}` : v,
	);

function print(...lines: readonly string[]): void {
	process.stdout.write(`${lines.join('\n')}\n`);
}

/** A call without what only the printer needs. */
function plainCall(event: TraceEvent): object {
	const { depth, name, module, args, comm, pid, cpu, returned, threw, mark } = event;
	if (mark) return { depth, mark: name, comm, pid, cpu };
	return { depth, name, module, args, comm, pid, cpu, returned, ...(threw ? { threw } : {}) };
}

/** Tells the steps of one scenario as they come. */
class StepTrace implements StepObserver {
	readonly steps: TracedStep[] = [];
	private readonly scenario: Scenario;
	private readonly isText: boolean;
	/** Steps that were told. */
	private told = 0;
	private head: string[] | null = null;

	constructor(scenario: Scenario, isText: boolean) {
		this.scenario = scenario;
		this.isText = isText;
	}

	before(index: number): void {
		this.passOver(index);
		startTrace();
	}

	after(index: number, answer: Answer | null): void {
		const calls = stopTrace();
		this.told = index + 1;
		const op = this.scenario.steps[index]!;
		if (!this.isText) {
			this.steps.push({ step: index, op, answer, calls: calls.map(plainCall) });
			return;
		}
		this.heading(index, calls[0]);
		print(
			...formatFunctionGraph(calls, { args: true, retval: true }).slice(
				HEAD_LINES,
			),
		);
		if (calls.length >= MAX_TRACE_EVENTS)
			print(`# cut off after ${MAX_TRACE_EVENTS} calls`);
		print(`# = ${answer === null ? 'oops' : json(answer)}`, '');
	}

	compared(index: number, mismatches: readonly Mismatch[]): void {
		if (mismatches.length === 0) return;
		if (this.isText)
			for (const { step, expected, got } of mismatches)
				print(
					`# step ${step}: expected ${json(expected)}, got ${json(got)}`,
				);
		else {
			const at = this.steps.findIndex(({ step }) => step === index);
			if (at >= 0) this.steps[at] = { ...this.steps[at]!, mismatches };
		}
	}

	/** Tell of steps that are not executed. */
	passOver(until: number, why?: string): void {
		const { steps, r } = this.scenario;
		for (; this.told < until; this.told++) {
			const skip = why ?? String(r[this.told]!['skip'] ?? 'not executed');
			if (this.isText) {
				this.heading(this.told);
				print(`# skipped: ${skip}`, '');
			} else this.steps.push({ step: this.told, op: steps[this.told]!, skip });
		}
	}

	private heading(index: number, first?: TraceEvent): void {
		if (this.head === null) {
			this.head = formatFunctionGraph([]);
			print(...this.head);
		}
		const who = first === undefined ? '' : `  ${first.comm}-${first.pid}`;
		print(`# step ${index} ${stepText(this.scenario.steps[index]!)}${who}`);
	}
}

/** Replay one record; whether it passed. */
function traceOne<O extends Oracle>(
	{ title, profile, scenario }: TracedRecord,
	replayer: Replayer<O>,
	isText: boolean,
): { passed: boolean; document: object } {
	const trace = new StepTrace(scenario, isText);
	const note = scenario.note === undefined ? [] : [`# ${scenario.note}`];
	if (isText) print(`# ${title}, ${profile}`, ...note, '#');
	const { mismatches } = replayScenario(scenario, profile, replayer, trace);
	const isWhole = mismatches.length === 0;
	trace.passOver(scenario.steps.length, isWhole ? undefined : 'the replay ended before');
	const kernel = mismatches.filter(({ step }) => step === 'the kernel');
	if (isText) for (const { got } of kernel) print(String(got), '');
	return { passed: isWhole, document: { title, profile, steps: trace.steps, mismatches } };
}

const order = JSON.parse(readFileSync(0, 'utf8')) as TraceOrder;
// a reader that has seen enough
process.stdout.on('error', () => process.exit(0));
const base = replayers[order.family]!;
const replayer = { ...base, boot: { ...base.boot, features: order.features } };
const results = order.records.map((record) => traceOne(record, replayer, !order.json));
if (installedWorld() !== null) throw new Error('a kernel is left booted');
const failed = results.filter(({ passed }) => !passed).length;
const passed = results.length - failed;
if (order.json) print(json({ passed, failed, records: results.map(({ document }) => document) }));
else print(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
