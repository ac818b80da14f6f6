// SPDX-License-Identifier: GPL-2.0-only
/**
 * The vitest reporter that prints a run as KTAP.
 *
 * Guarantee: suites are printed in the order of their names whatever order they end in, so that two
 * runs compare line by line; standard output has nothing but KTAP.
 */
import type { SerializedError, UserConsoleLog } from 'vitest';
import type { Reporter, TestModule, TestSpecification } from 'vitest/node';
import { resultLines, totalsLine } from './ktap.ts';
import { moduleResult, type Result, suiteName, totalsOf } from './results.ts';

/** What the reporter is told. */
export interface KtapOptions {
	/** The folder that all suites lie below. */
	readonly dir: string;
	/** Only the results of whole suites; what is below goes to `detail`. */
	readonly summary: boolean;
	/** Flags select tests: a suite of which none runs is not mentioned. */
	readonly selective: boolean;
	/** Takes lines. */
	print(lines: string[]): void;
	/** Takes the lines of a suite that a summary leaves out. */
	detail(lines: string[]): void;
}

/** Prints KTAP; holds the results of the last run. */
export class KtapReporter implements Reporter {
	/** Results in the order printed. */
	results: Result[] = [];
	readonly options: KtapOptions;
	private order: string[] = [];
	private ended = new Map<string, TestModule>();
	private logs = new Map<string, string[]>();

	/** @param options - what to print where */
	constructor(options: KtapOptions) {
		this.options = options;
	}

	onTestRunStart(specifications: ReadonlyArray<TestSpecification>): void {
		this.results = [];
		this.ended.clear();
		this.logs.clear();
		this.order = specifications.map(({ moduleId }) => moduleId).sort(compareNames);
		this.options.print(['KTAP version 1']);
		if (!this.options.selective) this.options.print([`1..${this.order.length}`]);
	}

	onUserConsoleLog({ content, taskId = '' }: UserConsoleLog): void {
		const lines = this.logs.get(taskId) ?? [];
		lines.push(...content.replace(/\n$/, '').split('\n'));
		this.logs.set(taskId, lines);
	}

	onTestModuleEnd(module: TestModule): void {
		this.ended.set(module.moduleId, module);
		if (!this.options.selective) this.printEnded();
	}

	onTestRunEnd(_: ReadonlyArray<TestModule>, errors: ReadonlyArray<SerializedError>): void {
		if (this.options.selective) {
			this.order = this.order.filter((id) => this.runsSome(id));
			this.options.print([`1..${this.order.length}`]);
		}
		this.printEnded();
		for (const id of this.order)
			this.add(failedResult(suiteName(this.options.dir, id), ['did not end']));
		for (const { message, stack } of errors) this.bailOut(message, stack ?? '');
		this.order = [];
		this.options.print([totalsLine(totalsOf(this.results))]);
	}

	/** Whether anything of a suite was selected, or went wrong before that could be known. */
	private runsSome(id: string): boolean {
		const module = this.ended.get(id);
		return (
			module === undefined ||
			!module.children.allTests().next().done ||
			module.errors().length > 0
		);
	}

	/** Print the suites that have ended, up to the first that has not. */
	private printEnded(): void {
		while (this.order[0] !== undefined) {
			const module = this.ended.get(this.order[0]);
			if (module === undefined) return;
			this.order.shift();
			const name = suiteName(this.options.dir, module.moduleId);
			this.add(moduleResult(module, name, this.logs));
		}
	}

	/** What went wrong outside of any suite has no place in the plan. */
	private bailOut(message: string, stack: string): void {
		const lines = stack.split('\n');
		this.results.push(failedResult('unhandled', lines));
		const [title = ''] = message.split('\n');
		this.options.print([...lines.map((line) => `# ${line}`), `Bail out! ${title}`]);
	}

	private add(result: Result): void {
		this.results.push(result);
		const [dir, test] = splitName(result.name);
		const lines = resultLines(result, this.results.length);
		const header = `# selftests: ${dir}: ${test}`;
		if (!this.options.summary) {
			this.options.print([header, ...lines]);
			return;
		}
		this.options.print([header, ...lines.slice(-1)]);
		this.options.detail([header, ...lines]);
	}
}

function failedResult(name: string, diagnostics: string[]): Result {
	return { name, status: 'error', reason: '', diagnostics, speed: 'normal', children: [] };
}

function compareNames(a: string, b: string): number {
	if (a === b) return 0;
	return a < b ? -1 : 1;
}

function splitName(name: string): [dir: string, test: string] {
	const at = name.lastIndexOf('/');
	return at < 0 ? ['.', name] : [name.slice(0, at), name.slice(at + 1)];
}
