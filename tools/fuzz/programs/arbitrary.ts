// SPDX-License-Identifier: GPL-2.0-only
/**
 * Programs as an arbitrary of fast-check, which then finds the smallest that still fails.
 *
 * A program is long when it is written and as short as can be when it is shrunk; an array of
 * fast-check's has one least length for both, so this shrinks by itself: stretches of steps are left
 * out, halves first, then single steps are made simpler.
 */
import * as fc from 'fast-check';
import type { Step } from '../../replay/hmm/record.ts';
import { generateProgram, SMALL, type Wishes } from './generate.ts';
import type { Program } from './program.ts';

type Args = readonly (number | string | Step)[];

/** Simpler forms of the arguments of a step: fewer pages, an earlier page. */
function* simplerSteps(step: Step): Generator<Step> {
	const [op, ...args] = step as readonly [string, ...Args];
	if (op === 'child' || op === 'proc') {
		const at = op === 'child' ? 1 : 2;
		const inner = step.slice(at) as unknown as Step;
		yield inner;
		for (const one of simplerSteps(inner))
			yield [...step.slice(0, at), ...one] as unknown as Step;
		return;
	}
	for (const [i, arg] of args.entries()) {
		if (typeof arg !== 'number' || arg <= 1 || arg >= 0x1_0000) continue;
		const less = new Set([0, 1, arg >> 1, arg - 1]);
		for (const value of less)
			if (value < arg) yield [op, ...args.with(i, value)] as unknown as Step;
	}
}

/** Programs that are a little simpler, the much simpler ones first. */
function* simplerPrograms({ setup, steps }: Program): Generator<Program> {
	// first, because a small window is so much faster
	if (setup.np > SMALL) yield { setup: { ...setup, np: SMALL }, steps };
	for (let n = steps.length >> 1; n >= 1; n >>= 1)
		for (let from = steps.length - n; from >= 0; from -= n)
			yield { setup, steps: [...steps.slice(0, from), ...steps.slice(from + n)] };
	if (setup.swap) yield { setup: { ...setup, swap: false }, steps };
	if (setup.fa !== 4096) yield { setup: { ...setup, fa: 4096 }, steps };
	if (setup.win !== 0) yield { setup: { ...setup, win: 0 }, steps };
	if (setup.dev !== 1) yield { setup: { ...setup, dev: 1 }, steps };
	for (const [i, step] of steps.entries())
		for (const one of simplerSteps(step)) yield { setup, steps: steps.with(i, one) };
}

/** Random programs. */
export class ProgramArbitrary extends fc.Arbitrary<Program> {
	private readonly wishes: Wishes;

	/** @param wishes - what is asked of each */
	constructor(wishes: Wishes) {
		super();
		this.wishes = wishes;
	}

	override generate(random: fc.Random): fc.Value<Program> {
		return new fc.Value(generateProgram(random, this.wishes), undefined);
	}

	override canShrinkWithoutContext(_value: unknown): _value is Program {
		return true;
	}

	override shrink(value: Program): fc.Stream<fc.Value<Program>> {
		return fc.stream(simplerPrograms(value)).map((one) => new fc.Value(one, undefined));
	}
}
