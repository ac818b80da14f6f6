// SPDX-License-Identifier: GPL-2.0-only
/** Releases by the names that people type. */
import { type ProfileName, profiles } from '../../include/sim/feature.ts';

/** Names of all releases. */
export const releaseNames: readonly string[] = Object.keys(profiles);

/**
 * The release of a name, with or without the v.
 *
 * @param name - `v6.12`, `6.12`
 * @returns null: there is no such release
 */
export function kernelNamed(name: string): ProfileName | null {
	const found = releaseNames.find((one) => one === name || one === `v${name}`);
	return found === undefined ? null : (found as ProfileName);
}
