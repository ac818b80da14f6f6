// SPDX-License-Identifier: GPL-2.0-only
/** A trace as text, as the kernel's function_graph tracer prints it. */
import type { TraceEvent } from './event.ts';

/** What is printed beside the calls. */
export interface GraphOptions {
	/** Arguments (funcgraph-args). */
	readonly args?: boolean;
	/** Return values (funcgraph-retval). */
	readonly retval?: boolean;
	/** File of each function, at the end of its line. */
	readonly modules?: boolean;
}

interface Row {
	readonly event: TraceEvent;
	readonly kind: 'leaf' | 'open' | 'close';
}

/** The rows in the order of time: an entry, a return, or a call without recorded calls inside. */
function rows(events: readonly TraceEvent[]): Row[] {
	const marks: (Row | undefined)[] = [];
	const at = (order: number, row: Row): void => {
		if (order >= 0) marks[order] = row;
	};
	for (const event of events) {
		at(event.entryOrder, { event, kind: 'open' });
		at(event.returnOrder, { event, kind: 'close' });
	}
	const sorted = marks.filter((row) => row !== undefined);
	return sorted.flatMap((row, i): Row[] => {
		if (row.kind === 'open' && sorted[i + 1]?.event === row.event)
			return [{ event: row.event, kind: 'leaf' }];
		if (row.kind === 'close' && sorted[i - 1]?.event === row.event) return [];
		return [row];
	});
}

function duration({ event, kind }: Row): string {
	if (kind === 'open' || event.left === null || event.mark) return ' '.repeat(14);
	const us = Number(event.left - event.entered) / 1000;
	const mark =
		us > 100_000
			? '@'
			: us > 10_000
				? '*'
				: us > 1000
					? '#'
					: us > 100
						? '!'
						: us > 10
							? '+'
							: ' ';
	return `${mark} ${us.toFixed(3)} us`.padEnd(14);
}

function call(row: Row, options: GraphOptions): string {
	const { event, kind } = row;
	const indent = '  '.repeat(event.depth + 1);
	if (event.mark) return `${indent}/* ${event.name} */`;
	const args = options.args === true ? event.args : '';
	const value = returnValue(event, options);
	const file = options.modules === true && kind !== 'close' ? `  # ${event.module}` : '';
	switch (kind) {
		case 'leaf':
			return `${indent}${event.name}(${args});${value}${file}`;
		case 'open':
			return `${indent}${event.name}(${args}) {${file}`;
		case 'close':
			return `${indent}} /* ${event.name} */${value}`;
	}
}

function returnValue({ returned, threw }: TraceEvent, { retval }: GraphOptions): string {
	if (threw) return ' /* oops */';
	return retval === true && returned !== null ? ` /* = ${returned} */` : '';
}

/**
 * A trace as lines of text.
 *
 * @param events - what stopTrace() returned
 * @param options - what is printed beside the calls
 */
export function formatFunctionGraph(
	events: readonly TraceEvent[],
	options: GraphOptions = {},
): string[] {
	const lines = [
		'# tracer: function_graph',
		'#',
		'# CPU  DURATION                  FUNCTION CALLS',
		'# |     |   |                     |   |   |   |',
	];
	let last: TraceEvent | null = null;
	for (const row of rows(events)) {
		const { event } = row;
		if (last !== null && last.pid !== event.pid)
			lines.push(
				' ------------------------------------------',
				` ${event.cpu})  ${last.comm}-${last.pid}  =>  ${event.comm}-${event.pid}`,
				' ------------------------------------------',
				'',
			);
		lines.push(` ${event.cpu}) ${duration(row)}|${call(row, options)}`);
		last = event;
	}
	return lines;
}
