// SPDX-License-Identifier: GPL-2.0-only
/**
 * Where something was taken, and call traces in the kernel's layout.
 *
 * An origin is an Error whose stack is formatted only when a report needs it; it is taken only in a
 * world that tracks origins, so a fast run pays nothing.
 */
import { installedWorld } from './world.ts';

/** Functions in a report's trace; in what every lock and reference remembers, where each one costs. */
const TRACE_FRAMES = 24;
const ORIGIN_FRAMES = 12;

/** Remember the caller, or null when the world does not track origins. */
export function takeOrigin(): Error | null {
	return installedWorld()?.trackOrigins ? captureTrace(ORIGIN_FRAMES) : null;
}

/**
 * A trace of the caller, whatever the world tracks.
 *
 * @param frames - functions at the most
 */
export function captureTrace(frames = TRACE_FRAMES): Error {
	const limit = Error.stackTraceLimit;
	Error.stackTraceLimit = frames;
	const trace = new Error('trace');
	Error.stackTraceLimit = limit;
	return trace;
}

/**
 * The place that calls `callee`, as the program that runs has it: to tell two places apart, without
 * looking either up in the source.
 *
 * @param callee - function that is on the stack
 */
export function callSite(callee: (...args: never[]) => unknown): string {
	const { prepareStackTrace, stackTraceLimit } = Error;
	const site = { stack: '' };
	Error.stackTraceLimit = 1;
	Error.prepareStackTrace = (_, [caller]) =>
		`${caller?.getFileName()}:${caller?.getLineNumber()}:${caller?.getColumnNumber()}`;
	Error.captureStackTrace(site, callee);
	const at = site.stack;
	Object.assign(Error, { prepareStackTrace, stackTraceLimit });
	return at;
}

/** One function of a call trace. */
export interface Frame {
	/** Name of the function. */
	readonly name: string;
	/** Path below the tree's root and line, `mm/hmm.ts:412`. */
	readonly at: string;
}

const treeFolders =
	/\/((?:arch|include|kernel|mm|drivers|lib|init|tools|test)\/[^:)]+):(\d+)(?::\d+)?\)?$/;

/**
 * The functions of a trace, innermost first, without the harness's own bookkeeping.
 *
 * @param trace - taken by takeOrigin() or captureTrace()
 */
export function traceFrames(trace: Error): Frame[] {
	const frames: Frame[] = [];
	for (const line of (trace.stack ?? '').split('\n').slice(1)) {
		const place = treeFolders.exec(line);
		if (place === null) continue;
		const [, path = '', row = ''] = place;
		if (path.startsWith('include/sim/') || path === 'include/linux/bug.ts') continue;
		const name =
			/at (?:async )?(?:Object\.|Module\.)?([^\s(]+)(?: \[as [^\]]+\])? \(/.exec(
				line,
			);
		frames.push({
			name: (name?.[1] ?? 'anonymous').replace(/\.next$/, ''),
			at: `${path}:${row}`,
		});
	}
	return frames;
}

/**
 * A trace as the lines that the kernel prints below `Call Trace:`.
 *
 * @param trace - the trace; null prints one line that says why there is none
 */
export function formatTrace(trace: Error | null): string[] {
	if (trace === null) return [' (not recorded: boot with trackOrigins)'];
	return traceFrames(trace).map(({ name, at }) => ` ${name} ${at}`);
}
