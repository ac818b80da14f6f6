// SPDX-License-Identifier: GPL-2.0-only
/**
 * What is known of the running test: its failures so far, whether it asserted anything, and the
 * reports that it expects.
 *
 * vitest runs the tests of a file one after the other, so there is one of these at a time.
 */
import { HarnessError, type Report } from '../../include/sim/report.ts';
import { treePlaces } from './source.ts';

/** A test's outcome in kselftest's words. */
export type Outcome = 'pass' | 'fail' | 'xfail' | 'xpass' | 'skip';

/** How long a test takes, as KUnit's attribute of that name. */
export type Speed = 'normal' | 'slow' | 'very_slow';

/** What the reporter is told of a test beside vitest's own result. */
export interface KselftestMeta {
	readonly fixture: string;
	/** Empty: the fixture has no variants. */
	readonly variant: string;
	readonly test: string;
	readonly speed: Speed;
	outcome?: Outcome;
	/** Why: of a skip, or an expected failure. */
	reason?: string;
	/** What to print above the result line. */
	diagnostics?: string[];
	/** Seconds after which it was ended. */
	timeout?: number;
}

/** Ends a test whose ASSERT failed; the failure is recorded. */
export class AssertionStop extends Error {}

/** Ends a test that cannot run here. */
export class SkipStop extends Error {}

/** Matches a report's title or text. */
export type ReportPattern = string | RegExp;

/** Failed EXPECTs of one test that are shown: what fails in a loop must leave the screen readable. */
const shownFailures = 10;

/** One test while it runs. */
export class Verdict {
	readonly test: string;
	asserted = false;
	/** Failed assertions, shown or not. */
	failed = 0;
	/** Lines to print; any makes the test fail. */
	failures: string[] = [];
	/** Reports that the test has to provoke. */
	expected: ReportPattern[] = [];

	/** @param test - name of the test without fixture and variant */
	constructor(test: string) {
		this.test = test;
	}

	/** Record a failure at a place, in the layout of kselftest's `__TH_LOG()`. */
	fail(message: string, stack: string): void {
		if (++this.failed > shownFailures) return;
		const [top, ...callers] = treePlaces(stack);
		const where = top === undefined ? '' : `${top.path}:${top.line}:`;
		this.failures.push(`${where}${this.test}:${message}`);
		for (const { path, line } of callers)
			if (path.startsWith('test/'))
				this.failures.push(`  called from ${path}:${line}`);
	}

	/** Say how many failures were not shown, if any. */
	sumUp(): void {
		const hidden = this.failed - shownFailures;
		if (hidden > 0)
			this.failures.push(`${this.test}: ${hidden} more failures are not shown`);
	}

	/**
	 * Hold the world's reports against the expected ones.
	 *
	 * @param reports - all that were filed, leaks included
	 */
	judgeReports(reports: readonly Report[]): void {
		const occurred = new Set<ReportPattern>();
		for (const report of reports) {
			const hits = this.expected.filter((one) => matches(one, report));
			for (const hit of hits) occurred.add(hit);
			if (hits.length > 0) continue;
			const { title, text } = report;
			const lines = text.split('\n').filter((line) => !harnessFrame.test(line));
			this.failures.push(`${this.test}:Unexpected report: ${title}`, ...lines);
		}
		for (const pattern of this.expected)
			if (!occurred.has(pattern))
				this.failures.push(
					`${this.test}:Expected report did not occur: ${pattern}`,
				);
	}
}

/** A line of a call trace that says only that a test was run. */
const harnessFrame = /^ \S+ test\/kselftest_harness\.ts:\d+$/;

/** Whether a report is the expected one; its places are looked up only if its message is not. */
function matches(pattern: ReportPattern, report: Report): boolean {
	const says = (text = ''): boolean =>
		typeof pattern === 'string'
			? text.includes(pattern)
			: new RegExp(pattern).test(text);
	return says(report.message) || says(report.title) || says(report.text);
}

let running: Verdict | null = null;

/** Make `verdict` that of the running test; null: none runs. */
export function setVerdict(verdict: Verdict | null): void {
	running = verdict;
}

/**
 * The running test.
 *
 * @param call - who asks, for the message
 * @throws HarnessError outside a test
 */
export function verdict(call: string): Verdict {
	if (running === null)
		throw new HarnessError(call, 'is for the body of a TEST or FIXTURE_SETUP');
	return running;
}
