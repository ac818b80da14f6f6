// SPDX-License-Identifier: GPL-2.0-only
/**
 * Random numbers: drawn from a source that hangs from the world, so that a run can be repeated.
 *
 * Guarantee: the same world, asked the same things, draws the same numbers. A test that wants every
 * outcome injects a source of its own.
 */
import { perWorld } from '../sim/world.ts';
import type { u32 } from './types.ts';

/** Where numbers come from. */
export class RandomSource {
	/** State of the generator, 32 bits; never 0. */
	state = 0x9e37_79b9;
	/** Answers instead of the generator: gets the ceiling, gives 0 to ceiling - 1. */
	below: ((ceil: number) => number) | null = null;
}

/** The random source of the installed world. */
export const randomSource = perWorld(() => new RandomSource());

/**
 * A random number from 0 to `ceil - 1`.
 *
 * @param ceil - 1 to 2^32 - 1
 * @kernel include/linux/random.h
 */
export function get_random_u32_below(ceil: u32): u32 {
	const source = randomSource();
	if (source.below !== null) return source.below(ceil);
	let x = source.state;
	x ^= x << 13;
	x ^= x >>> 17;
	x ^= x << 5;
	source.state = x;
	return Math.floor(((x >>> 0) / 0x1_0000_0000) * ceil);
}
