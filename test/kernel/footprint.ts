// SPDX-License-Identifier: GPL-2.0-only
/** What plain code touches, collected. */
import type { Access } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';

/** One call of touch(). */
export interface Touched {
	access: Access;
	object: object;
	field: string | undefined;
	index: number | undefined;
	count: number | undefined;
}

/**
 * What a call touches, in order.
 *
 * @param call - may make steps of threads
 */
export function footprintOf(call: () => unknown): Touched[] {
	const seen: Touched[] = [];
	world().footprint = {
		touch: (access, object, field, index, count) =>
			seen.push({ access, object, field, index, count }),
	};
	try {
		call();
	} finally {
		world().footprint = null;
	}
	return seen;
}

/**
 * What a call touches of one object: `access field index count`, joined by commas.
 *
 * @param object - the object
 * @param call - the call
 */
export function touchesOf(object: object, call: () => unknown): string {
	return footprintOf(call)
		.filter((t) => t.object === object)
		.map(({ access, field, index, count }) => `${access} ${field} ${index} ${count}`)
		.join(', ');
}
