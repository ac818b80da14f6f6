// SPDX-License-Identifier: GPL-2.0-only
/**
 * Code of which it is known what a test reaches: half of the functions.
 *
 * When coverage breaks it does so silently, with nothing or everything covered. Whatever the tree's
 * numbers are then, the canary's are wrong too.
 */

/** Called by a test. */
export function coveredByTest(value: number): number {
	return value + 1;
}

/** Called by nobody. */
export function coveredByNobody(value: number): number {
	const next = value + 1;
	const afterNext = next + 1;
	return afterNext * next;
}
