// SPDX-License-Identifier: GPL-2.0-only
/**
 * WARN_ON() and BUG_ON().
 *
 * A WARN records a report in the kernel's layout and goes on; the test fails at its end unless it
 * expected it. A BUG is an oops: the run ends with a KernelOops.
 */
import { captureTrace, formatTrace, traceFrames } from '../sim/origin.ts';
import { KernelOops, type Report, type ReportKind } from '../sim/report.ts';
import { world } from '../sim/world.ts';

/**
 * Record a finding.
 *
 * @param kind - who reports
 * @param title - one line
 * @param lines - what stands between the title and the call trace
 * @param trace - where; default: the caller
 */
export function fileReport(
	kind: ReportKind,
	title: string,
	lines: readonly string[] = [],
	trace: Error = captureTrace(),
): Report {
	const { current, reports } = world();
	const text = [
		'------------[ cut here ]------------',
		title,
		...lines,
		`CPU: ${current.cpu} PID: ${current.pid} Comm: ${current.comm}`,
		'Call Trace:',
		...formatTrace(trace),
		'---[ end trace ]---',
	].join('\n');
	const report: Report = { kind, title, text };
	reports.push(report);
	return report;
}

function warn(message: string): void {
	const trace = captureTrace();
	const [top] = traceFrames(trace);
	const where = `WARNING: ${top?.at ?? 'unknown'} at ${top?.name ?? 'unknown'}`;
	fileReport('WARNING', message === '' ? where : `${where}: ${message}`, [], trace);
}

/**
 * Report that `condition` should not hold.
 *
 * @param condition - true is the bad case
 * @param message - what WARN() would print
 * @returns the condition
 * @kernel include/asm-generic/bug.h
 */
export function WARN_ON(condition: boolean, message = ''): boolean {
	if (condition) warn(message);
	return condition;
}

/**
 * WARN_ON() that speaks once for each place.
 *
 * @param condition - true is the bad case
 * @param message - what WARN_ONCE() would print
 * @returns the condition
 * @kernel include/asm-generic/bug.h
 */
export function WARN_ON_ONCE(condition: boolean, message = ''): boolean {
	if (!condition) return false;
	const [top] = traceFrames(captureTrace());
	const key = `${top?.at ?? ''} ${message}`;
	const { once } = world();
	if (!once.has(key)) {
		once.add(key);
		warn(message);
	}
	return true;
}

/**
 * End the run: the kernel would oops here.
 *
 * @param title - the line after "BUG: "
 * @param lines - details
 * @throws KernelOops always
 */
export function oops(title: string, lines: readonly string[] = []): never {
	throw new KernelOops(fileReport('BUG', title, lines));
}

/**
 * The run ends if `condition` holds.
 *
 * @param condition - true is fatal
 * @param message - what was broken
 * @throws KernelOops
 * @kernel include/asm-generic/bug.h
 */
export function BUG_ON(condition: boolean, message = ''): void {
	if (!condition) return;
	const [top] = traceFrames(captureTrace());
	oops(`kernel BUG at ${top?.at ?? 'unknown'}!${message === '' ? '' : ` ${message}`}`);
}
