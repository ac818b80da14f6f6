// SPDX-License-Identifier: GPL-2.0-only
/**
 * The call tracer: what each kernel function was called with and returned.
 *
 * Guarantee: it costs nothing unless the program was started with tools/trace/register.js.
 * Mechanism: that hook appends to each module of the kernel one line a function,
 * `name = __ktrace.wrap('name', name, 'mm/hmm.ts')`. A function declaration is a binding that can
 * be set anew, and imports see the new value, so each call goes through the wrapper.
 * Limits: top-level functions only; methods and arrow functions keep silent.
 */
import { HarnessError } from '../../include/sim/report.ts';
import { installedWorld } from '../../include/sim/world.ts';
import { MAX_TRACE_EVENTS, type TraceEvent, type TraceFilter } from './event.ts';
import { summarise } from './summary.ts';

type AnyFunction = (this: unknown, ...args: unknown[]) => unknown;
type AnyGenerator = (this: unknown, ...args: unknown[]) => Generator<unknown, unknown, void>;

interface Recording {
	readonly events: TraceEvent[];
	readonly filter: TraceFilter;
	/** Names, wanted or not, as far as they were asked for. */
	readonly wanted: Map<string, boolean>;
	/** Calls that have not returned, by task (pid). */
	readonly stacks: Map<number, TraceEvent[]>;
	order: number;
}

const GeneratorFunction = Object.getPrototypeOf(function* () {}).constructor as AnyFunction;

function matches(name: string, globs: readonly string[]): boolean {
	return globs.some((glob) => {
		const pattern = glob
			.replace(/[.+^${}()|[\]\\]/g, '\\$&')
			.replaceAll('*', '.*')
			.replaceAll('?', '.');
		return new RegExp(`^${pattern}$`).test(name);
	});
}

function isWanted(
	{ functions, notrace, modules }: TraceFilter,
	name: string,
	module: string,
): boolean {
	if (functions !== undefined && !matches(name, functions)) return false;
	if (notrace !== undefined && matches(name, notrace)) return false;
	if (modules === undefined) return !module.startsWith('include/');
	return modules.some((start) => module.startsWith(start));
}

/** Names of parameters, as far as the head of the function is plain. */
function parameterNames(fn: AnyFunction): string[] {
	const head = /^[^(]*\(([^()]*)\)/.exec(Function.prototype.toString.call(fn))?.[1] ?? '';
	if (/[{[]/.test(head)) return [];
	return head.split(',').map((part) => part.split('=')[0]!.trim());
}

/** The tracer of this program; the hook's register file makes it. */
export class Tracer {
	/** null: not recording. */
	recording: Recording | null = null;

	/**
	 * Make the traced version of a function.
	 *
	 * @param name - its name
	 * @param fn - the function
	 * @param module - file that it is in
	 */
	wrap(name: string, fn: AnyFunction, module: string): AnyFunction {
		const names = parameterNames(fn);
		const wrapped =
			fn instanceof GeneratorFunction
				? this.generatorWrapper(name, fn as AnyGenerator, module, names)
				: this.plainWrapper(name, fn, module, names);
		Object.defineProperty(wrapped, 'name', { value: name, configurable: true });
		Object.defineProperty(wrapped, 'length', { value: fn.length, configurable: true });
		return wrapped;
	}

	private plainWrapper(
		name: string,
		fn: AnyFunction,
		module: string,
		names: readonly string[],
	): AnyFunction {
		const tracer = this;
		return function (...args) {
			const recording = tracer.recording;
			if (recording === null) return fn.apply(this, args);
			const event = enter(recording, name, module, names, args);
			if (event === null) return fn.apply(this, args);
			try {
				const result = fn.apply(this, args);
				leave(recording, event, result, false);
				return result;
			} catch (error) {
				leave(recording, event, undefined, true);
				throw error;
			}
		};
	}

	private generatorWrapper(
		name: string,
		fn: AnyGenerator,
		module: string,
		names: readonly string[],
	): AnyGenerator {
		const tracer = this;
		return function* (...args) {
			const recording = tracer.recording;
			const event =
				recording === null
					? null
					: enter(recording, name, module, names, args);
			if (recording === null || event === null)
				return yield* fn.apply(this, args);
			try {
				const result = yield* fn.apply(this, args);
				leave(recording, event, result, false);
				return result;
			} catch (error) {
				leave(recording, event, undefined, true);
				throw error;
			}
		};
	}
}

function enter(
	recording: Recording,
	name: string,
	module: string,
	names: readonly string[],
	args: readonly unknown[],
): TraceEvent | null {
	const { filter, wanted, events, stacks } = recording;
	const key = `${module}:${name}`;
	let want = wanted.get(key);
	if (want === undefined) wanted.set(key, (want = isWanted(filter, name, module)));
	if (!want || events.length >= MAX_TRACE_EVENTS) return null;
	const world = installedWorld();
	const task = world?.current;
	const pid = task?.pid ?? 0;
	let stack = stacks.get(pid);
	if (stack === undefined) stacks.set(pid, (stack = []));
	if (stack.length === 0 && filter.graph !== undefined && !matches(name, filter.graph))
		return null;
	if (stack.length >= (filter.maxDepth ?? Infinity)) return null;
	const event: TraceEvent = {
		depth: stack.length,
		name,
		module,
		args: args
			.map((arg, i) =>
				names[i] ? `${names[i]}=${summarise(arg)}` : summarise(arg),
			)
			.join(', '),
		comm: task?.comm ?? '',
		pid,
		cpu: task?.cpu ?? 0,
		entered: world?.clock ?? 0n,
		entryOrder: recording.order++,
		left: null,
		returnOrder: -1,
		returned: null,
		threw: false,
	};
	events.push(event);
	stack.push(event);
	return event;
}

function leave(recording: Recording, event: TraceEvent, result: unknown, threw: boolean): void {
	event.left = installedWorld()?.clock ?? event.entered;
	event.returnOrder = recording.order++;
	event.threw = threw;
	if (result !== undefined) event.returned = summarise(result);
	const stack = recording.stacks.get(event.pid) ?? [];
	const at = stack.lastIndexOf(event);
	if (at >= 0) stack.length = at;
}

interface WithTracer {
	__ktrace?: Tracer;
}

function tracer(call: string): Tracer {
	const found = (globalThis as WithTracer).__ktrace;
	if (found === undefined)
		throw new HarnessError(call, 'start node with --import ./tools/trace/register.js');
	return found;
}

/** Whether the program was started with the tracer's hook. */
export function canTrace(): boolean {
	return (globalThis as WithTracer).__ktrace !== undefined;
}

/**
 * Begin to record.
 *
 * @param filter - which calls; default: all but those of include/
 * @throws HarnessError without the hook, or when a trace is running
 */
export function startTrace(filter: TraceFilter = {}): void {
	const t = tracer('startTrace()');
	if (t.recording !== null)
		throw new HarnessError(
			'startTrace()',
			'a trace is running: call stopTrace() first',
		);
	t.recording = { events: [], filter, wanted: new Map(), stacks: new Map(), order: 0 };
}

/**
 * Write a remark between the calls, as trace_printk() does; nothing unless a trace is recorded.
 *
 * @param text - makes it
 */
export function traceMark(text: () => string): void {
	const recording = (globalThis as WithTracer).__ktrace?.recording ?? null;
	if (recording === null || recording.events.length >= MAX_TRACE_EVENTS) return;
	const task = installedWorld()?.current;
	const pid = task?.pid ?? 0;
	const now = installedWorld()?.clock ?? 0n;
	recording.events.push({
		depth: recording.stacks.get(pid)?.length ?? 0,
		name: text(),
		module: '',
		args: '',
		comm: task?.comm ?? '',
		pid,
		cpu: task?.cpu ?? 0,
		entered: now,
		entryOrder: recording.order++,
		left: now,
		returnOrder: recording.order++,
		returned: null,
		threw: false,
		mark: true,
	});
}

/**
 * Stop recording.
 *
 * @returns the calls, in the order in which they were entered
 * @throws HarnessError when no trace is running
 */
export function stopTrace(): TraceEvent[] {
	const t = tracer('stopTrace()');
	if (t.recording === null)
		throw new HarnessError(
			'stopTrace()',
			'no trace is running: call startTrace() first',
		);
	const { events } = t.recording;
	t.recording = null;
	return events;
}
