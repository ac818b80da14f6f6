// SPDX-License-Identifier: GPL-2.0-only
/**
 * WARN_ON() and BUG_ON().
 *
 * A WARN records a report in the kernel's layout and goes on; the test fails at its end unless it
 * expected it. A BUG is an oops: the run ends with a KernelOops.
 */
import { callSite, captureTrace, formatTrace, traceFrames } from '../sim/origin.ts';
import { KernelOops, type Report, type ReportKind } from '../sim/report.ts';
import { world } from '../sim/world.ts';

/** A report that looks up its places only for a reader: most are expected, by their message. */
class TracedReport implements Report {
	readonly kind: ReportKind;
	readonly message: string;
	private readonly lines: readonly string[];
	private readonly task: string;
	private readonly trace: Error;
	private whole: { title: string; text: string } | null = null;

	constructor(kind: ReportKind, message: string, lines: readonly string[], trace: Error) {
		const { cpu, pid, comm } = world().current;
		this.kind = kind;
		this.message = message;
		this.lines = lines;
		this.task = `CPU: ${cpu} PID: ${pid} Comm: ${comm}`;
		this.trace = trace;
	}

	get title(): string {
		return this.laidOut().title;
	}

	get text(): string {
		return this.laidOut().text;
	}

	private laidOut(): { title: string; text: string } {
		this.whole ??= this.layOut();
		return this.whole;
	}

	private layOut(): { title: string; text: string } {
		const title = this.kind === 'WARNING' ? this.warning() : this.message;
		const text = [
			'------------[ cut here ]------------',
			title,
			...this.lines,
			this.task,
			'Call Trace:',
			...formatTrace(this.trace),
			'---[ end trace ]---',
		].join('\n');
		return { title, text };
	}

	private warning(): string {
		const [top] = traceFrames(this.trace);
		const where = `WARNING: ${top?.at ?? 'unknown'} at ${top?.name ?? 'unknown'}`;
		return this.message === '' ? where : `${where}: ${this.message}`;
	}
}

/**
 * Record a finding.
 *
 * @param kind - who reports; the title of a `WARNING` begins with its place
 * @param message - one line
 * @param lines - what stands between the title and the call trace
 * @param trace - where; default: the caller
 */
export function fileReport(
	kind: ReportKind,
	message: string,
	lines: readonly string[] = [],
	trace: Error = captureTrace(),
): Report {
	const report = new TracedReport(kind, message, lines, trace);
	world().reports.push(report);
	return report;
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
	if (condition) fileReport('WARNING', message);
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
	const key = `${callSite(WARN_ON_ONCE)} ${message}`;
	const { once } = world();
	if (!once.has(key)) {
		once.add(key);
		fileReport('WARNING', message);
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
