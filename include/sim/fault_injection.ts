// SPDX-License-Identifier: GPL-2.0-only
/**
 * Fault injection: every fallible call of the kernel model asks here whether it fails now.
 *
 * The kernel's own hooks (should_failslab, should_fail_alloc_page, …) are one hook with the name of
 * the place, so that a test says "the second kvcalloc of hmm_dma_map_alloc fails".
 */
import { world } from './world.ts';

/** Decides which calls fail. */
export class FaultInjection {
	/** Calls seen so far, by site. */
	seen: Map<string, number> = new Map();
	/** Site to the set of ordinals (1 is the first call) that fail; an empty set: every call fails. */
	plan: Map<string, Set<number>> = new Map();

	/**
	 * Let calls of a site fail.
	 *
	 * @param site - name of the site, for example `alloc_pages`
	 * @param ordinals - which calls from now on, 1 is the next one; none: all of them
	 */
	fail(site: string, ...ordinals: number[]): this {
		const seen = this.seen.get(site) ?? 0;
		this.plan.set(site, new Set(ordinals.map((n) => n + seen)));
		return this;
	}
}

/**
 * Whether the fallible call at `site` fails now.
 *
 * @param site - name of the site: the kernel function that would fail
 */
export function shouldFail(site: string): boolean {
	const injection = world().faultInjection;
	if (injection === null) return false;
	const nth = (injection.seen.get(site) ?? 0) + 1;
	injection.seen.set(site, nth);
	const plan = injection.plan.get(site);
	return plan !== undefined && (plan.size === 0 || plan.has(nth));
}

/**
 * Set up fault injection of the installed world, replacing what was set up before.
 *
 * @returns the plan, empty: nothing fails until `fail()` is called on it
 */
export function injectFaults(): FaultInjection {
	const injection = new FaultInjection();
	world().faultInjection = injection;
	return injection;
}
