// SPDX-License-Identifier: GPL-2.0-only
/**
 * Checkpoint and restore of a world, so that an exploration starts from the same state each time.
 *
 * Guarantee: restore() brings back every field of every object that could be reached from the world
 * at the checkpoint, machine included; identities survive, so a reference that a test keeps is good
 * before and after. What was allocated since is garbage. Also after shutdown(): the world is
 * installed again.
 * Duty: no simulated thread exists at a checkpoint, and none runs at a restore.
 */
import type { Machine } from '../arch/sim/machine.ts';
import type { FrameStore } from '../arch/sim/memory.ts';
import { HarnessError } from '../include/sim/report.ts';
import { installedWorld, installWorld, type World } from '../include/sim/world.ts';
import { scheduler } from '../kernel/sched/core.ts';
import { restoreGraph, type SavedGraph, saveGraph } from './checkpoint/graph.ts';

/** A saved world. */
export class Checkpoint {
	readonly world: World;
	readonly graph: SavedGraph;

	/**
	 * @param world - the world
	 * @param graph - all of its objects
	 */
	constructor(world: World, graph: SavedGraph) {
		this.world = world;
		this.graph = graph;
	}
}

/** The memories of a world's machine that hold pages of its kernel; a test's machine may have none. */
function ramOf({ machine }: World): FrameStore[] {
	return ((machine as Partial<Machine>).ram?.ranges ?? []).map(({ store }) => store);
}

/**
 * Save the installed world.
 *
 * @throws HarnessError when a simulated thread exists: a generator can't be copied
 */
export function checkpoint(): Checkpoint {
	const world = installedWorld();
	if (world === null)
		throw new HarnessError('checkpoint()', 'no kernel is booted: call boot() first');
	const { threads, driven } = scheduler();
	const live = driven[0] ?? threads[0];
	if (live !== undefined)
		throw new HarnessError(
			'checkpoint()',
			`thread ${live.comm}/${live.pid} has not ended: let runThreads() bring it to its end first`,
		);
	for (const store of ramOf(world)) store.settle();
	return new Checkpoint(world, saveGraph(world));
}

/**
 * Bring the world back to a checkpoint.
 *
 * @param c - what checkpoint() returned
 * @throws HarnessError inside run(), in a thread, or while another kernel is booted
 */
export function restore(c: Checkpoint): void {
	const installed = installedWorld();
	if (installed !== null && installed !== c.world)
		throw new HarnessError('restore()', 'another kernel is booted: shut it down first');
	installWorld(c.world);
	if (scheduler().driven.length !== 0) {
		// Refused: what was there before stays, be it nothing.
		installWorld(installed);
		throw new HarnessError(
			'restore()',
			'must not be called inside run() or by a thread',
		);
	}
	for (const store of ramOf(c.world)) store.giveBack();
	restoreGraph(c.graph);
}
