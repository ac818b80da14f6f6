// SPDX-License-Identifier: GPL-2.0-only
/**
 * Results as a tree in kselftest's words, made from what vitest reports of a module.
 */
import { relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestCase, TestModule, TestSuite } from 'vitest/node';
import type { Speed } from '../../test/harness/verdict.ts';
// The declaration of what the harness adds to vitest's task meta.
import type {} from '../../test/kselftest_harness.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** What became of a test. */
export type Status = 'pass' | 'fail' | 'xfail' | 'xpass' | 'skip' | 'error' | 'timeout';

/** A test, or a group of them. */
export interface Result {
	name: string;
	status: Status;
	/** What follows the directive: why skipped, after how many seconds. */
	reason: string;
	/** Lines to print above the result. */
	diagnostics: string[];
	speed: Speed;
	/** Empty: a test. */
	children: Result[];
}

/** kselftest's counters. */
export type Totals = Record<'pass' | 'fail' | 'xfail' | 'xpass' | 'skip' | 'error', number>;

/**
 * Name of the suite in a file: its path as the kernel would have it, without ending.
 *
 * @param dir - the folder that all suites lie below
 * @param file - absolute path
 */
export function suiteName(dir: string, file: string): string {
	return relative(dir, file).split(sep).join('/').replace(/\.ts$/, '');
}

/**
 * The results of one file.
 *
 * @param module - as vitest has it, ended
 * @param name - what the suite is called
 * @param logs - what the tests wrote, by vitest's task id
 */
export function moduleResult(
	module: TestModule,
	name: string,
	logs: ReadonlyMap<string, string[]>,
): Result {
	const children = resultsOf(module.children, logs);
	const errors = [
		...module.errors(),
		...[...module.children.allSuites()].flatMap((s) => s.errors()),
	];
	const diagnostics = [...(logs.get(module.id) ?? [])];
	for (const { message = '', stack = '' } of errors)
		diagnostics.push(...describe(message, stack));
	if (errors.length > 0) return group(name, children, 'error', diagnostics);
	return group(name, children, statusOf(children), diagnostics);
}

function resultsOf(
	tasks: Iterable<TestCase | TestSuite>,
	logs: ReadonlyMap<string, string[]>,
): Result[] {
	const results: Result[] = [];
	for (const task of tasks) {
		if (task.type === 'test') {
			results.push(caseResult(task, logs.get(task.id) ?? []));
			continue;
		}
		const children = resultsOf(task.children, logs);
		// a fixture is no level of its own: its name begins the names of its tests
		const isFixture = children.every(({ name }) => name.startsWith(`${task.name}.`));
		if (isFixture) results.push(...children);
		else
			results.push(
				group(
					task.name,
					children,
					statusOf(children),
					logs.get(task.id) ?? [],
				),
			);
	}
	return results;
}

function group(name: string, children: Result[], status: Status, diagnostics: string[]): Result {
	const reason = status === 'skip' ? 'all tests skipped' : '';
	return { name, status, reason, diagnostics, speed: 'normal', children };
}

/** A failed child fails its parent; one that is skipped never does. */
function statusOf(children: Result[]): Status {
	if (children.some(({ status }) => isFailure(status))) return 'fail';
	return children.every(({ status }) => status === 'skip') ? 'skip' : 'pass';
}

/**
 * Whether a run with such a test failed. A test that passes against its XFAIL_ADD counts as one,
 * as in ksft_finished().
 */
export function isFailure(status: Status): boolean {
	return status !== 'pass' && status !== 'skip' && status !== 'xfail';
}

function caseResult(test: TestCase, logs: string[]): Result {
	const meta = test.meta().kselftest;
	const { state, errors = [], ...rest } = test.result();
	const result: Result = {
		name: test.name,
		status: 'pass',
		reason: '',
		diagnostics: [...logs, ...(meta?.diagnostics ?? [])],
		speed: meta?.speed ?? 'normal',
		children: [],
	};
	if (meta?.outcome !== undefined && meta.outcome !== 'fail') {
		result.status = meta.outcome;
		result.reason = meta.reason ?? '';
	} else if (state === 'skipped') {
		result.status = 'skip';
		result.reason = ('note' in rest && rest.note) || 'no reason given';
	} else if (state === 'failed') {
		const late = /timed out in (\d+)ms/.exec(errors[0]?.message ?? '');
		const seconds = meta?.timeout ?? (late === null ? 0 : Number(late[1]) / 1000);
		result.status = seconds > 0 ? 'timeout' : 'fail';
		result.reason = seconds > 0 ? `${seconds} seconds` : '';
		if (meta?.diagnostics === undefined)
			for (const { message, stack = '' } of errors)
				result.diagnostics.push(...describe(message, stack));
	} else if (test.options.fails) {
		result.status = 'xfail';
		result.reason = 'expected to fail';
	}
	return result;
}

/** Frames of packages, of Node, and of what loads a suite in a run that watches. */
const foreign = /node_modules|node:|\/tools\/kselftest\/(?:scripts|runner)\.js:/;

/** An error of vitest's own: the message, and the frames that are in the tree. */
function describe(message: string, stack: string): string[] {
	const frames = stack.split('\n').filter((row) => /^\s+at .*:\d+:\d+\)?$/.test(row));
	const own = frames.filter((row) => !foreign.test(row));
	return [...message.split('\n'), ...own.map((row) => row.replaceAll(root, ''))];
}

/**
 * Count the tests of a tree, groups not counted; a file that could not be read is one error.
 *
 * @param results - the tree
 */
export function totalsOf(results: readonly Result[]): Totals {
	const totals: Totals = { pass: 0, fail: 0, xfail: 0, xpass: 0, skip: 0, error: 0 };
	const count = ({ status, children }: Result): void => {
		for (const child of children) count(child);
		if (status === 'error') totals.error++;
		else if (children.length === 0) totals[status === 'timeout' ? 'fail' : status]++;
	};
	for (const result of results) count(result);
	return totals;
}
