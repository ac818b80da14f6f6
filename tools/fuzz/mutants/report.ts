// SPDX-License-Identifier: GPL-2.0-only
/** The table of a hunt. */
import type { Hunt } from './hunt.ts';
import type { Mutant } from './mutant.ts';

/** What became of one mutant: a hunt, the reason why there was none, or why its process ended. */
export type Outcome =
	| Hunt
	| { readonly mutant: Mutant; readonly unseen: string }
	| { readonly mutant: Mutant; readonly broken: string };

const NAME_WIDTH = 28;

function row(name: string, programs: string, steps: string, told: string): string {
	return `${name.padEnd(NAME_WIDTH)}${programs.padStart(8)}${steps.padStart(7)}  ${told}`;
}

/** Line above the table. */
export const tableHead = row('mutant', 'programs', 'steps', 'told by');

/**
 * The line of one mutant.
 *
 * @param outcome - what became of it
 */
export function tableRow(outcome: Outcome): string {
	const { name } = outcome.mutant;
	if ('unseen' in outcome) return row(name, '-', '-', `unseen: ${outcome.unseen}`);
	if ('broken' in outcome) return row(name, '-', '-', `BROKEN: ${outcome.broken}`);
	const { programs, failure } = outcome;
	if (failure === null) return row(name, String(programs), '-', 'NOT FOUND');
	return row(name, String(programs), String(failure.program.steps.length), failure.invariant);
}

/** Whether a mutant was found; null: it was not looked for. */
export function wasFound(outcome: Outcome): boolean | null {
	if ('unseen' in outcome) return null;
	return 'failure' in outcome && outcome.failure !== null;
}

/**
 * Whether an outcome is what the table of mutants says.
 *
 * @param outcome - what became of a mutant
 */
export function isExpected(outcome: Outcome): boolean {
	const found = wasFound(outcome);
	return found === null || found === (outcome.mutant.unseen === undefined);
}

/**
 * What a mutant stands for.
 *
 * @param mutant - the mutant
 */
export function storyOf({ name, bug, does, edits, unseen }: Mutant): string {
	const files = [...new Set(edits.map(({ file }) => file))].join(', ');
	const lines = [name, `  bug:   ${bug}`, `  does:  ${does}`, `  in:    ${files}`];
	if (unseen !== undefined) lines.push(`  not seen by programs: ${unseen}`);
	return lines.join('\n');
}
