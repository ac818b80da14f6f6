// SPDX-License-Identifier: GPL-2.0-only
/** A world with nothing in it but a memory map: for what needs no machine and no process. */
import { memoryMap } from '../../include/linux/mmzone.ts';
import { task_struct } from '../../include/linux/sched.ts';
import { type FeatureName, type ProfileName, profiles } from '../../include/sim/feature.ts';
import { installWorld, World } from '../../include/sim/world.ts';
import { EXPECT_STREQ } from '../kselftest_harness.ts';

/** PFNs of the RAM of a bare world: 256 MiB from 0. */
export const RAM_PAGES = 0x10000;

/**
 * Boot a bare world.
 *
 * @param profile - the release
 * @param proposals - switches on top
 */
export function bootBare(profile: ProfileName, proposals: readonly FeatureName[] = []): World {
	const set = { ...profiles[profile] };
	for (const name of proposals) set[name] = true;
	const init = new task_struct({ comm: 'swapper/0' });
	const world = new World({}, profile, set, init);
	installWorld(world);
	memoryMap().add({ start: 0, end: RAM_PAGES, pgmap: null, idle: 0 });
	return world;
}

/**
 * Expect a list, element by element.
 *
 * @param expected - what it should hold
 * @param seen - what it holds
 */
export function expectList(expected: readonly unknown[], seen: readonly unknown[]): void {
	EXPECT_STREQ(expected.join(', '), seen.join(', '));
}
