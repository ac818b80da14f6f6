// SPDX-License-Identifier: GPL-2.0-only
/** The smallest machine that boots, and what tests of kernel/ ask of it. */
import type { MachineDescription } from '../../arch/sim/description.ts';
import { KernelOops, type Report } from '../../include/sim/report.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { boot } from '../../init/main.ts';
import { runThreads, spawn } from '../../kernel/sched/core.ts';
import { RecordingStrategy, randomStrategy } from '../../kernel/sched/strategy.ts';

/** 16 MiB of RAM, two CPUs, no devices. */
export const tinyMachine: MachineDescription = {
	name: 'tiny',
	cpu: { vendor: 'intel', family: 6, model: 85 },
	ram: [{ start: '0x0', size: '0x1000000' }],
	iommu: null,
	hostBridges: [],
	devices: [],
	crossHostBridge: 'works',
};

/** Boot the smallest machine. */
export function bootTiny(trackOrigins = false): void {
	boot(tinyMachine, 'v7.3', { trackOrigins });
}

/**
 * Run threads in random order.
 *
 * @param seed - of the order
 * @param bodies - what the threads do; they are named by their letters: a, b, c
 * @returns the schedule, as replayStrategy() takes it
 */
export function race(seed: number, ...bodies: (() => Sim<unknown>)[]): string {
	bodies.forEach((body, i) => {
		spawn(String.fromCharCode(97 + i), body);
	});
	const strategy = new RecordingStrategy(randomStrategy(seed));
	runThreads(strategy);
	return strategy.schedule();
}

/**
 * What a call reports that ends in an oops.
 *
 * @param call - must throw a KernelOops
 */
export function oopsOf(call: () => unknown): Report {
	try {
		call();
	} catch (error) {
		if (error instanceof KernelOops) return error.report;
		throw error;
	}
	throw new Error('expected an oops');
}

/**
 * The message of the exception that a call ends in.
 *
 * @param call - must throw
 */
export function messageOf(call: () => unknown): string {
	try {
		call();
	} catch (error) {
		return String(error);
	}
	return 'nothing thrown';
}
