// SPDX-License-Identifier: GPL-2.0-only
/**
 * Steps of programs with more processes than a recorded scenario has.
 *
 * ```
 *   number   0  the process of the scenario, 1  its child (`fork`, `child`, `cexit`),  2 …  further ones
 *   fork k   the process becomes the parent of process k;  without k: of the child
 *   cexit k  kills process k
 *   proc k   the step behind it is executed in process k; answers are those of `child`
 *   dopen d  a process that is not number 0 opens device d, which mirrors it from now on
 * ```
 *
 * Device steps act on the process that opened the device: number 0, unless the one that executes the
 * step has the device open itself.
 */
import { EAGAIN, EBUSY } from '../../../include/linux/errno.ts';
import type { file } from '../../../include/linux/fs.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import { run } from '../../../kernel/sched/core.ts';
import { dmirror_fops_open } from '../../../lib/test_hmm.ts';
import { fput } from '../../../mm/file_table.ts';
import { forkProcess } from '../../../mm/fork.ts';
import { exitProcess } from '../../../mm/syscalls.ts';
import type { Oracle } from './oracle.ts';
import type { Answer, Step } from './record.ts';
import type { Handler } from './steps.ts';

/** Number of the child of recorded scenarios. */
const CHILD = 1;

/** An open device, and the process that it mirrors. */
export interface OpenDevice {
	readonly file: file;
	readonly task: task_struct;
}

/**
 * The device that a step of a process acts on.
 *
 * @param oracle - the scenario's kernel
 * @param task - who executes the step
 * @param dev - number of the device
 * @returns null: it is not open
 */
export function deviceOf(oracle: Oracle, task: task_struct, dev: number): OpenDevice | null {
	const own = oracle.opened.get(task)?.get(dev);
	if (own !== undefined) return { file: own, task };
	const first = oracle.dmirrors[dev];
	return first === undefined ? null : { file: first, task: oracle.parent };
}

/**
 * A process by its number.
 *
 * @param oracle - the scenario's kernel
 * @param number - 0, 1, …
 * @returns null: there is none
 */
export function processOf(oracle: Oracle, number: number): task_struct | null {
	if (number === 0) return oracle.parent;
	if (number === CHILD) return oracle.child;
	return oracle.others.get(number) ?? null;
}

/**
 * Where a step is executed.
 *
 * @param oracle - the scenario's kernel
 * @param step - as the record has it
 * @returns null: by the scenario's process itself
 */
export function innerStep(
	oracle: Oracle,
	step: Step,
): { readonly task: task_struct | null; readonly step: Step } | null {
	if (step[0] === 'child')
		return { task: oracle.child, step: step.slice(1) as unknown as Step };
	if (step[0] === 'proc')
		return {
			task: processOf(oracle, step[1] as number),
			step: step.slice(2) as unknown as Step,
		};
	return null;
}

/** All processes that have not exited, by number. */
export function processes(oracle: Oracle): [number, task_struct][] {
	const found: [number, task_struct][] = [[0, oracle.parent]];
	if (oracle.child !== null) found.push([CHILD, oracle.child]);
	return [...found, ...oracle.others];
}

function forkStep(oracle: Oracle, task: task_struct, [number = CHILD]: readonly number[]): Answer {
	if (processOf(oracle, number) !== null) return { rc: -EAGAIN };
	const made = forkProcess(task);
	if (typeof made === 'number') return { rc: made };
	if (number === CHILD) oracle.child = made;
	else oracle.others.set(number, made);
	return { rc: 0 };
}

/**
 * Let a process end: first its memory goes, then its files, as in do_exit().
 *
 * @param oracle - the scenario's kernel
 * @param number - of the process; not 0
 */
export function endProcess(oracle: Oracle, number: number): void {
	const task = processOf(oracle, number)!;
	if (number === CHILD) oracle.child = null;
	else oracle.others.delete(number);
	exitProcess(task);
	for (const f of oracle.opened.get(task)?.values() ?? []) run(fput(f), { task });
	oracle.opened.delete(task);
}

function exitStep(oracle: Oracle, _task: task_struct, [number = CHILD]: readonly number[]): Answer {
	if (number === 0 || processOf(oracle, number) === null) return { skip: 'nochild' };
	endProcess(oracle, number);
	return { rc: 0 };
}

function openStep(oracle: Oracle, task: task_struct, [dev = 0]: readonly number[]): Answer {
	if (deviceOf(oracle, task, dev)?.task === task) return { rc: -EBUSY };
	const opened = run(dmirror_fops_open(dev), { task });
	if (typeof opened === 'number') return { rc: opened };
	const all = oracle.opened.get(task) ?? new Map<number, file>();
	oracle.opened.set(task, all.set(dev, opened));
	return { rc: 0 };
}

/** Handlers of the steps. */
export const processSteps: Readonly<Record<string, Handler>> = {
	fork: forkStep,
	cexit: exitStep,
	dopen: openStep,
};
