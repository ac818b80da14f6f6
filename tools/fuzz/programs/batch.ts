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
import { type RunOptions, runProgram, type Violation } from './run.ts';

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
	/** Steps of the program as it was written. */
	readonly written: number;
	readonly program: Program;
	readonly text: string;
	/** What is wrong, and after which step. */
	readonly what: string;
	readonly at: number;
}

/** Ends a property with what is wrong. */
class Violated extends Error {}

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
): Pick<Failure, 'program' | 'text' | 'what' | 'at'> {
	const close = runProgram(program, kernels, { ...options, closely: true });
	const { at, what } = close ?? seen;
	return { program, text: programText(program, close?.answers ?? [], what), what, at };
}

/**
 * Run a batch.
 *
 * @param batch - what to run
 * @param kernels - booted ones
 * @param options - how
 * @returns null: no program fails
 */
export function runBatch(batch: Batch, kernels: Kernels, options: RunOptions = {}): Failure | null {
	let written = 0;
	const property = fc.property(new ProgramArbitrary(batch.wishes), (program) => {
		const found = runProgram(program, kernels, options);
		if (found === null) return;
		written ||= program.steps.length;
		throw new Violated(found.what);
	});
	const { seed, runs } = batch;
	const path = batch.path === null ? {} : { path: batch.path, endOnFailure: true };
	const details = fc.check(property, { seed, numRuns: runs, ...path });
	if (!details.failed) return null;
	if (!(details.errorInstance instanceof Violated)) throw details.errorInstance;
	const [program] = details.counterexample as [Program];
	const what = details.errorInstance.message;
	const seen: Violation = { at: program.steps.length, what, answers: [] };
	const found = describeFailure(program, kernels, options, seen);
	return { seed, path: details.counterexamplePath ?? '', written, ...found };
}
