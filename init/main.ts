// SPDX-License-Identifier: GPL-2.0-only
/**
 * boot() and shutdown(): one machine, one kernel on it, one world that is installed.
 *
 * Guarantee: after boot() kernel code runs; after shutdown() nothing is left of it, and everything
 * that it had to complain about, or forgot to give back, has been returned as reports.
 * Duty: a subsystem that sets something up at boot, or knows what must not be left at the end, has
 * its line in one of the two lists below.
 */
import type { MachineDescription } from '../arch/sim/description.ts';
import { Machine, makeMachine } from '../arch/sim/machine.ts';
import { type DmaOptions, dmaInit } from '../drivers/iommu/probe.ts';
import { pcie_portdrv_init } from '../drivers/pci/pcie/portdrv.ts';
import { pciInit } from '../drivers/pci/probe.ts';
import { pciShutdownCheck } from '../drivers/pci/shutdown.ts';
import { task_struct } from '../include/linux/sched.ts';
import {
	defaultProfile,
	type FeatureName,
	type FeatureSet,
	missingNeed,
	type ProfileName,
	profiles,
} from '../include/sim/feature.ts';
import { HarnessError, type Report } from '../include/sim/report.ts';
import { installedWorld, installWorld, World } from '../include/sim/world.ts';
import { dmaShutdownCheck } from '../kernel/dma/debug.ts';
import { lockShutdownCheck } from '../kernel/locking/shutdown.ts';
import { schedShutdownCheck } from '../kernel/sched/shutdown.ts';
import { memInit, memShutdownCheck } from '../mm/mm_init.ts';
import { parseCommandLine } from './cmdline.ts';

/** What each subsystem does at boot, in this order. */
const bootHooks: readonly ((machine: Machine, dma: DmaOptions) => void)[] = [
	memInit,
	pciInit,
	dmaInit,
	pcie_portdrv_init,
];

/** What each subsystem looks for at shutdown, in this order: users before what they use. */
const shutdownChecks: readonly (() => void)[] = [
	schedShutdownCheck,
	dmaShutdownCheck,
	pciShutdownCheck,
	memShutdownCheck,
	lockShutdownCheck,
];

/** What boot() can be told beyond machine and release. */
export interface BootOptions {
	/** Proposals that are switched on. */
	readonly proposals?: readonly FeatureName[];
	/** The kernel's command line: `pci=…`, `swiotlb=…` (init/cmdline.ts). */
	readonly cmdline?: string;
	/** Single switches, against profile and proposals. */
	readonly features?: Partial<FeatureSet>;
	/** References, mappings and locks remember where they were taken; slower. */
	readonly trackOrigins?: boolean;
	/** The checks of include/sim/finding.ts run: `world.findings` is what they found. */
	readonly checks?: boolean;
}

function switches(profile: ProfileName, options: BootOptions): FeatureSet {
	const base = profiles[profile];
	if (base === undefined)
		throw new HarnessError(
			'boot()',
			`there is no profile "${profile}"; there are ${Object.keys(profiles).join(', ')}`,
		);
	const { proposals = [], features = {} } = options;
	if (proposals.length === 0 && Object.keys(features).length === 0) return base;
	const set: Record<FeatureName, boolean> = { ...base };
	for (const name of proposals) set[name] = true;
	Object.assign(set, features);
	for (const name of Object.keys(set))
		if (!(name in base))
			throw new HarnessError('boot()', `there is no feature switch "${name}"`);
	const lack = missingNeed(set);
	if (lack !== null)
		throw new HarnessError(
			'boot()',
			`"${lack.name}" is written against a kernel with "${lack.need}", which "${profile}" has not`,
		);
	return Object.freeze(set);
}

/**
 * Boot a kernel.
 *
 * @param machine - the machine, or its description
 * @param profile - the release that it behaves as
 * @param options - proposals, single switches, origins
 * @returns the world, which is installed
 * @throws HarnessError when one is booted already
 */
export function boot(
	machine: Machine | MachineDescription,
	profile: ProfileName = defaultProfile,
	options: BootOptions = {},
): World {
	if (installedWorld() !== null)
		throw new HarnessError(
			'boot()',
			'a kernel is booted already: call shutdown() first',
		);
	const set = switches(profile, options);
	const below = machine instanceof Machine ? machine : makeMachine(machine);
	const init = new task_struct();
	init.pid = 1;
	init.comm = 'init';
	const world = new World(below, profile, set, init);
	world.trackOrigins = options.trackOrigins ?? false;
	if (options.checks === true) world.findings = [];
	installWorld(world);
	try {
		const dma = parseCommandLine(options.cmdline ?? '');
		for (const hook of bootHooks) hook(below, dma);
	} catch (error) {
		installWorld(null);
		throw error;
	}
	return world;
}

/**
 * Shut the kernel down: let work in flight end, look for what is left, take the world away.
 *
 * @returns everything that was reported since boot, leaks last
 * @throws HarnessError when none is booted
 */
export function shutdown(): Report[] {
	const world = installedWorld();
	if (world === null)
		throw new HarnessError('shutdown()', 'no kernel is booted: call boot() first');
	try {
		for (const check of shutdownChecks) check();
		return [...world.reports];
	} finally {
		installWorld(null);
	}
}

export { type Checkpoint, checkpoint, restore } from './checkpoint.ts';
