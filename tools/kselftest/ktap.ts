// SPDX-License-Identifier: GPL-2.0-only
/**
 * KTAP version 1, as Documentation/dev-tools/ktap.rst of the kernel has it.
 *
 * Subtests are indented by two spaces and stand before the result of their parent, under a version
 * line, the `# Subtest:` line that kunit.py takes the name from, and a plan.
 */
import { isFailure, type Result, type Totals, totalsOf } from './results.ts';

/** A description must not hold what begins a directive. */
function description(text: string): string {
	return text.replace(/[#\n]/g, ' ').trim();
}

function directive({ status, reason }: Result): string {
	const word = status === 'pass' || status === 'fail' ? '' : status.toUpperCase();
	if (word === '') return '';
	return ` # ${word} ${reason.replace(/\n/g, ' ')}`.trimEnd();
}

function diagnosticLines(result: Result): string[] {
	const lines = result.diagnostics.flatMap((text) => text.split('\n'));
	// as KUnit prints a test's attributes
	if (result.speed !== 'normal') lines.unshift(`${result.name}.speed: ${result.speed}`);
	return lines.map((line) => `# ${line}`.trimEnd());
}

/**
 * The line of kselftest's ksft_print_cnts().
 *
 * @param totals - the counters
 */
export function totalsLine(totals: Totals): string {
	const counts = Object.entries(totals).map(([name, count]) => `${name}:${count}`);
	return `# Totals: ${counts.join(' ')}`;
}

/**
 * A result with everything below it.
 *
 * @param result - the test or group
 * @param nth - its number among its siblings, from 1
 */
export function resultLines(result: Result, nth: number): string[] {
	const { children, name, status } = result;
	const lines: string[] = [];
	if (children.length > 0) {
		const below = [
			'KTAP version 1',
			`# Subtest: ${description(name)}`,
			`1..${children.length}`,
			...children.flatMap((child, i) => resultLines(child, i + 1)),
			totalsLine(totalsOf(children)),
		];
		lines.push(...below.map((line) => `  ${line}`));
	}
	lines.push(...diagnosticLines(result));
	const verdict = isFailure(status) ? 'not ok' : 'ok';
	lines.push(`${verdict} ${nth} ${description(name)}${directive(result)}`);
	return lines;
}
