// SPDX-License-Identifier: GPL-2.0-only
/**
 * Who runs next: strategies for runThreads(), and schedules that are recorded and replayed.
 *
 * A search of interleavings is a strategy: it is asked before each step, sees what each runnable
 * thread is about to do (`task.point`), and answers with one of them.
 */
import type { task_struct } from '../../include/linux/sched.ts';
import { HarnessError } from '../../include/sim/report.ts';

/** Decides which thread makes the next step. */
export interface Strategy {
	/**
	 * Whether every schedule point is handed out. False: only those at which a thread must wait, so
	 * that threads run at full speed.
	 */
	readonly preemptive: boolean;
	/**
	 * Choose the next thread.
	 *
	 * @param runnable - threads that can go on, in the order in which they were made; not empty, and
	 * reused for the next call
	 * @param last - who made the step before; null: nobody yet. It is no longer in `runnable` if it
	 * waits or has ended
	 */
	pick(runnable: readonly task_struct[], last: task_struct | null): task_struct;
}

/** Each thread runs until it must wait. */
export const inOrder: Strategy = {
	preemptive: false,
	pick(runnable, last) {
		return last !== null && runnable.includes(last) ? last : runnable[0]!;
	},
};

/** A small generator of pseudo-random numbers: the same seed gives the same numbers for ever. */
export class Prng {
	/** State, 32 bits. */
	state: number;

	/** @param seed - any number */
	constructor(seed: number) {
		this.state = seed >>> 0;
	}

	/** The next number, 0 to 2^32 - 1 (mulberry32). */
	next(): number {
		this.state = (this.state + 0x6d2b79f5) >>> 0;
		let t = this.state;
		t = Math.imul(t ^ (t >>> 15), t | 1);
		t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
		return (t ^ (t >>> 14)) >>> 0;
	}

	/**
	 * A number below a bound.
	 *
	 * @param bound - exclusive, at most 2^32
	 */
	below(bound: number): number {
		return Math.floor((this.next() / 0x1_0000_0000) * bound);
	}
}

/**
 * Any runnable thread, at every schedule point.
 *
 * @param seed - the same seed gives the same schedule
 */
export function randomStrategy(seed: number): Strategy {
	const prng = new Prng(seed);
	return {
		preemptive: true,
		pick(runnable) {
			return runnable[prng.below(runnable.length)]!;
		},
	};
}

/** A strategy that writes down what another one chooses. */
export class RecordingStrategy implements Strategy {
	readonly preemptive: boolean;
	readonly inner: Strategy;
	/** Pid of each step so far. */
	readonly pids: number[] = [];

	/** @param inner - who chooses */
	constructor(inner: Strategy) {
		this.inner = inner;
		this.preemptive = inner.preemptive;
	}

	/** {@inheritDoc Strategy.pick} */
	pick(runnable: readonly task_struct[], last: task_struct | null): task_struct {
		const task = this.inner.pick(runnable, last);
		this.pids.push(task.pid);
		return task;
	}

	/** The schedule as one line that replayStrategy() takes: `2*14,3*2,2`. */
	schedule(): string {
		return formatSchedule(this.pids);
	}
}

/**
 * A schedule as one line: pids, each with how many steps it made in a row.
 *
 * @param pids - pid of each step
 */
export function formatSchedule(pids: readonly number[]): string {
	const runs: string[] = [];
	for (let i = 0; i < pids.length; ) {
		let end = i + 1;
		while (end < pids.length && pids[end] === pids[i]) end++;
		runs.push(end - i === 1 ? `${pids[i]}` : `${pids[i]}*${end - i}`);
		i = end;
	}
	return runs.join(',');
}

/**
 * Read what formatSchedule() wrote.
 *
 * @param line - the schedule
 */
export function parseSchedule(line: string): number[] {
	const pids: number[] = [];
	for (const run of line.split(',').filter((r) => r !== '')) {
		const match = /^(\d+)(?:\*(\d+))?$/.exec(run.trim());
		if (match === null)
			throw new HarnessError(
				'parseSchedule()',
				`"${run}" is not a pid or pid*steps`,
			);
		for (let n = Number(match[2] ?? 1); n > 0; n--) pids.push(Number(match[1]));
	}
	return pids;
}

/**
 * Repeat a recorded schedule, step by step.
 *
 * @param schedule - what RecordingStrategy.schedule() gave
 * @param preemptive - as the strategy that was recorded
 */
export function replayStrategy(schedule: string, preemptive = true): Strategy {
	const pids = parseSchedule(schedule);
	let at = 0;
	return {
		preemptive,
		pick(runnable) {
			const pid = pids[at++];
			const task = runnable.find((t) => t.pid === pid);
			if (task !== undefined) return task;
			const there = runnable.map((t) => t.pid).join(', ');
			throw new HarnessError(
				'replayStrategy()',
				pid === undefined
					? `the schedule ends after ${pids.length} steps, but threads ${there} are runnable: the code has changed since it was recorded`
					: `step ${at} wants thread ${pid}, runnable are ${there}: the code has changed since it was recorded`,
			);
		},
	};
}
