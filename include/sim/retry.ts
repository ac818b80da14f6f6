// SPDX-License-Identifier: GPL-2.0-only
/**
 * The bound of loops that in the kernel have none: they go round until somebody else is done.
 *
 * Guarantee: a loop that counts its rounds by `retryBound()` ends in an oops that names the usual
 * cause instead of running for ever. Duty: count only rounds without progress.
 */
import { oops } from '../linux/bug.ts';
import { perWorld } from './world.ts';

/** Rounds without progress before a retry loop is taken for a livelock. */
export const MAX_RETRY_ROUNDS = 100_000;

/** The bound that is in force; a test makes it small. */
export const retryBound = perWorld(() => ({ rounds: MAX_RETRY_ROUNDS }));

/**
 * Count a round of a retry loop.
 *
 * @param round - rounds so far without progress, this one included
 * @param caller - function whose loop it is
 * @param cause - why it usually does not end
 * @throws KernelOops when the bound is reached
 */
export function retryRound(round: number, caller: string, cause: string): void {
	const { rounds } = retryBound();
	if (round >= rounds)
		oops(`BUG: livelock in ${caller}()`, [
			`${rounds} rounds without progress: the usual cause is ${cause}`,
		]);
}
