// SPDX-License-Identifier: GPL-2.0-only
/**
 * What a sanitizer or a WARN has to say, and the two kinds of exception.
 *
 * A WARN or a sanitizer's finding is recorded and the kernel goes on, as C does; the test fails at
 * its end. An oops ends the run: `KernelOops`. Misuse of the harness itself: `HarnessError`.
 */

/** Who reports. */
export type ReportKind =
	| 'WARNING'
	| 'BUG'
	| 'lockdep'
	| 'KASAN'
	| 'DMA-API'
	| 'DMAR'
	| 'leak'
	| 'mmu_notifier'
	| 'sched'
	| 'fabric';

/** One finding, its text laid out as the kernel would print it. */
export interface Report {
	readonly kind: ReportKind;
	/** What is wrong, without the place; absent: the title says no place either. */
	readonly message?: string;
	/** One line: what is wrong. */
	readonly title: string;
	/** The whole report, several lines. */
	readonly text: string;
}

/** What would be an oops, a BUG() or a hang: the simulated kernel cannot go on. */
export class KernelOops extends Error {
	readonly report: Report;

	/** @param report - what happened, in the kernel's layout */
	constructor(report: Report) {
		super(report.text);
		this.name = 'KernelOops';
		this.report = report;
	}
}

/** The harness was called in a way that makes no sense; the message names the call and the rule. */
export class HarnessError extends Error {
	/**
	 * @param call - name of the harness call
	 * @param rule - the rule that was broken, one sentence
	 */
	constructor(call: string, rule: string) {
		super(`${call}: ${rule}`);
		this.name = 'HarnessError';
	}
}
