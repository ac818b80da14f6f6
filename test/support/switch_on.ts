// SPDX-License-Identifier: GPL-2.0-only
/** Puts a switch on in the world that is booted, for a fixture that boots without it. */
import { type FeatureName, missingNeed } from '../../include/sim/feature.ts';
import { world } from '../../include/sim/world.ts';

/**
 * Put switches on.
 *
 * @param names - the switches
 * @returns false: this kernel lacks what one of them is written against, and none was put on
 */
export function switchOn(...names: FeatureName[]): boolean {
	const set = { ...world().features };
	for (const name of names) set[name] = true;
	if (missingNeed(set) !== null) return false;
	world().features = Object.freeze(set);
	return true;
}
