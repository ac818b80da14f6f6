// SPDX-License-Identifier: GPL-2.0-only
/**
 * A batch of random programs: one check of fast-check, which stops at the first that fails and makes it as
 * small as it can.
 */
import * as fc from 'fast-check';
import { ProgramArbitrary } from './arbitrary.ts';
import type { Wishes } from './generate.ts';
import type { Kernels } from './kernels.ts';
import { type Program, programText } from './program.ts';
import { type RunOne, runAsWritten } from './quick.ts';
import { type Invariant, type RunOptions, runProgram, type Violation } from './run.ts';

/** What to run. */
export interface Batch {
	readonly seed: number;
	/** Programs. */
	readonly runs: number;
	/** One program only; null: all. */
	readonly path: string | null;
	readonly wishes: Wishes;
}

/** A program that fails. */
export interface Failure {
	readonly seed: number;
	/** fast-check's way to it. */
	readonly path: string;
	/** Programs of the batch up to this one. */
	readonly nth: number;
	/** Steps of the program as it was written. */
	readonly written: number;
	readonly program: Program;
	readonly text: string;
	/** Which invariant does not hold, what is wrong, and after which step. */
	readonly invariant: Invariant;
	readonly what: string;
	readonly at: number;
}

/** Ends a property with what is wrong. */
class Violated extends Error {
	readonly found: Violation;

	constructor(found: Violation) {
		super(found.what);
		this.found = found;
	}
}

/**
 * The whole story of a program that fails, looked at after each step.
 *
 * @param program - the program
 * @param kernels - booted ones
 * @param options - with which it failed
 * @param seen - what was found when it was looked at now and then
 */
export function describeFailure(
	program: Program,
	kernels: Kernels,
	options: RunOptions,
	seen: Violation,
): Pick<Failure, 'program' | 'text' | 'invariant' | 'what' | 'at'> {
	const close = runProgram(program, kernels, { ...options, closely: true });
	const { at, what, invariant } = close ?? seen;
	const text = programText(program, close?.answers ?? [], what);
	return { program, text, invariant, what, at };
}

/**
 * Run a batch.
 *
 * @param batch - what to run
 * @param kernels - booted ones
 * @param options - how
 * @param run - who runs a program; by default the kernel as it is written
 * @returns null: no program fails
 */
export function runBatch(
	batch: Batch,
	kernels: Kernels,
	options: RunOptions = {},
	run: RunOne = runAsWritten(kernels),
): Failure | null {
	let written = 0;
	const property = fc.property(new ProgramArbitrary(batch.wishes), (program) => {
		// what is made small is looked at after each step, or what counts tell would need ten of them
		const closely = written > 0 || batch.path !== null;
		const found = run(program, { ...options, closely });
		if (found === null) return;
		written ||= program.steps.length;
		throw new Violated(found);
	});
	const { seed, runs } = batch;
	const path = batch.path === null ? {} : { path: batch.path, endOnFailure: true };
	const details = fc.check(property, { seed, numRuns: runs, ...path });
	if (!details.failed) return null;
	if (!(details.errorInstance instanceof Violated)) throw details.errorInstance;
	const [program] = details.counterexample as [Program];
	const { found: seen } = details.errorInstance;
	const found = describeFailure(program, kernels, options, seen);
	const nth = details.numRuns;
	return { seed, path: details.counterexamplePath ?? '', nth, written, ...found };
}
