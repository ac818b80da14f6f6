// SPDX-License-Identifier: GPL-2.0-only
/**
 * What a replay found: differences of a record, and the count of records.
 *
 * ```
 *   not ok v7.3/dma.jsonl.gz:17 dma q001/boot client 16
 *     step dma_map_sgtable: expected -121, got 0
 *   11034 passed, 1 failed
 * ```
 */
import { format } from 'node:util';
import { tellMistake, UserError } from '../kproto/user_error.ts';

/** One answer that is not the recorded one. */
export interface Mismatch {
	/** Which call or value of the record. */
	readonly step: string;
	readonly expected: unknown;
	readonly got: unknown;
}

/** Collects the differences of one record. */
export class Comparison {
	mismatches: Mismatch[] = [];

	/**
	 * Compare an answer with the recorded one, by their JSON.
	 *
	 * @param step - which call or value
	 * @param expected - recorded
	 * @param got - the model's
	 */
	equal(step: string, expected: unknown, got: unknown): void {
		if (expected === got) return;
		if (shown(expected) === shown(got)) return;
		this.mismatches.push({ step, expected, got });
	}
}

/** Longest value that is printed. */
const SHOWN_LENGTH = 400;

function shown(value: unknown): string {
	return value === undefined
		? 'nothing'
		: JSON.stringify(value, (_, v: unknown) =>
				typeof v === 'bigint' ? `0x${v.toString(16)}` : v,
			);
}

function cut(text: string): string {
	return text.length <= SHOWN_LENGTH ? text : `${text.slice(0, SHOWN_LENGTH)}...`;
}

/** A record whose answers differ. */
export interface FailedRecord {
	/** `FILE:LINE FAMILY NAME` */
	readonly title: string;
	readonly profile: string;
	readonly mismatches: readonly Mismatch[];
}

/** Counts records and tells of them. */
export class ReplayResults {
	passed = 0;
	failed: FailedRecord[] = [];
	/** Records whose letters that are compared apart agree too; null: nobody asked. */
	strictPassed: number | null = null;
	/** Figures that are told beside: a line each, and a field each of the document. */
	private readonly beside: { line: string; field: string; value: unknown }[] = [];
	private readonly json: boolean;

	/** @param json - one document at the end instead of lines */
	constructor(json: boolean) {
		this.json = json;
	}

	/**
	 * Count a record.
	 *
	 * @param title - its file, line and name
	 * @param profile - the kernel that it was replayed under
	 * @param mismatches - empty: it passed
	 */
	add(title: string, profile: string, mismatches: readonly Mismatch[]): void {
		if (mismatches.length === 0) {
			this.passed++;
			return;
		}
		this.failed.push({ title, profile, mismatches });
		if (this.json) return;
		const lines = mismatches.map(
			({ step, expected, got }) =>
				`  step ${step}: expected ${cut(shown(expected))}, got ${cut(shown(got))}`,
		);
		process.stdout.write(format('not ok %s\n%s\n', title, lines.join('\n')));
	}

	/**
	 * Tell something at once that is no difference; nothing in a JSON document.
	 *
	 * @param head - one line
	 * @param text - what stands below it, indented here
	 */
	tell(head: string, text: string): void {
		if (this.json) return;
		const below = text === '' ? '' : `\n${text.replace(/^/gm, '  ')}`;
		process.stdout.write(`${head}${below}\n`);
	}

	/**
	 * Tell a figure beside the result, at the end.
	 *
	 * @param line - for a reader; empty: nothing to tell
	 * @param field - of the JSON document
	 * @param value - of that field
	 */
	tellBeside(line: string, field: string, value: unknown): void {
		this.beside.push({ line, field, value });
	}

	/**
	 * Tell the end of it.
	 *
	 * @returns the exit code: 2 where no record was replayed, so that a mistyped filter passes nothing
	 */
	finish(): number {
		const { passed, failed } = this;
		if (this.json) {
			const strict =
				this.strictPassed === null
					? {}
					: { strictPassed: this.strictPassed };
			const document = {
				passed,
				failed: failed.length,
				...strict,
				...Object.fromEntries(
					this.beside.map(({ field, value }) => [field, value]),
				),
				records: failed,
			};
			process.stdout.write(
				`${JSON.stringify(document, (_, v: unknown) => (typeof v === 'bigint' ? `0x${v.toString(16)}` : v), 2)}\n`,
			);
		} else {
			if (this.strictPassed !== null)
				process.stdout.write(
					`strict: ${this.strictPassed} of ${passed + failed.length} agree in the letters x d A a too\n`,
				);
			for (const { line } of this.beside)
				if (line !== '') process.stdout.write(`${line}\n`);
			process.stdout.write(`${passed} passed, ${failed.length} failed\n`);
		}
		if (passed + failed.length === 0)
			return tellMistake('replay', new UserError('no record matches'));
		return failed.length === 0 ? 0 : 1;
	}
}
