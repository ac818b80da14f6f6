// SPDX-License-Identifier: GPL-2.0-only
/**
 * The one kernel that runs: all state that can change hangs from the installed world.
 *
 * Guarantee: modules keep no state. A subsystem declares what it keeps with `perWorld()`; the value
 * is made when it is first asked for in a world, lives in the world's plain fields, and is what a
 * checkpoint saves and a restore writes back.
 * Duty: `boot()` installs a world, `shutdown()` takes it away; nobody else calls installWorld().
 */
import type { task_struct } from '../linux/sched.ts';
import type { FaultInjection } from './fault_injection.ts';
import type { FeatureName, FeatureSet, ProfileName } from './feature.ts';
import type { Finding } from './finding.ts';
import { HarnessError, type Report } from './report.ts';
import type { Footprint } from './schedule.ts';

/** A booted kernel on its machine. */
export class World {
	/** What each `perWorld()` declaration keeps, by its slot. */
	slots: unknown[] = [];
	/** The machine below (class Machine of arch/sim). */
	machine: object;
	profile: ProfileName;
	features: FeatureSet;
	/** Findings so far, in order. */
	reports: Report[] = [];
	/** What checks found that know better than the kernel; null: they do not run. */
	findings: Finding[] | null = null;
	/** What printk() printed, a line each. */
	log: string[] = [];
	/** Places of WARN_*_ONCE and pr_*_once that have spoken. */
	once: Set<string> = new Set();
	/** Virtual time in ns since boot. */
	clock = 0n;
	/** The thread on the CPU. */
	current: task_struct;
	/** Which fallible calls fail; null: none. */
	faultInjection: FaultInjection | null = null;
	/** Whether references, mappings and locks remember where they were taken. */
	trackOrigins = false;
	/** Whether every schedule point is handed out, or only those at which a thread must wait. */
	preemptible = false;
	/** Who collects what plain code touches; null: nobody. */
	footprint: Footprint | null = null;

	/**
	 * @param machine - the machine below
	 * @param profile - the release whose behaviour this is
	 * @param set - its switches, and the proposals that were asked for
	 * @param init - the thread that boots
	 */
	constructor(machine: object, profile: ProfileName, set: FeatureSet, init: task_struct) {
		this.machine = machine;
		this.profile = profile;
		this.features = set;
		this.current = init;
	}
}

let installed: World | null = null;
let slotCount = 0;

/** The installed world, or null between shutdown() and boot(). */
export function installedWorld(): World | null {
	return installed;
}

/**
 * Make `world` the one that kernel code sees.
 *
 * @param next - the world; null takes the present one away
 */
export function installWorld(next: World | null): void {
	installed = next;
}

/**
 * The installed world.
 *
 * @throws HarnessError when no kernel is booted
 */
export function world(): World {
	if (installed === null)
		throw new HarnessError('world()', 'no kernel is booted: call boot() first');
	return installed;
}

/**
 * Whether a feature switch is on in the installed world.
 *
 * @param name - the switch
 */
export function feature(name: FeatureName): boolean {
	return world().features[name];
}

/**
 * Declare state of a module: one value a world, made by `init` when first asked for.
 *
 * @param init - makes the value C would have in `.data` or set up in an initcall
 * @returns the accessor of the installed world's value
 */
export function perWorld<T>(init: () => T): () => T {
	const slot = slotCount++;
	return () => {
		const { slots } = world();
		const value = slots[slot];
		if (value !== undefined) return value as T;
		const made = init();
		slots[slot] = made;
		return made;
	};
}
