// SPDX-License-Identifier: GPL-2.0-only
/** What of mm/ is alive, for the check at shutdown. */
import type { mm_struct } from '../include/linux/mm_types.ts';
import type { int } from '../include/linux/types.ts';
import { perWorld } from '../include/sim/world.ts';

/** Counts and lists of one world. */
export class LiveObjects {
	/** Every mm_struct that is not freed, and where it was made. */
	mms: Map<mm_struct, Error | null> = new Map();
	/** VMAs that are not freed. */
	vmas: int = 0;
}

/** What is alive in the installed world. */
export const liveObjects = perWorld(() => new LiveObjects());
