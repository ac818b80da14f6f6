// SPDX-License-Identifier: GPL-2.0-only
/** WARNs that speak once for a place although their text differs each time. */
import { world } from '../../include/sim/world.ts';

/**
 * Whether a place speaks for the first time: `if (firstTime('f')) WARN_ON(true, text)` is
 * dev_WARN_ONCE() in f, with f on top of the call trace.
 *
 * @param site - name of the place
 */
export function firstTime(site: string): boolean {
	const { once } = world();
	if (once.has(site)) return false;
	once.add(site);
	return true;
}
