// SPDX-License-Identifier: GPL-2.0-only
/** Kernel threads: made by kernel code, ended when they are asked to. */
import { ENOMEM } from '../include/linux/errno.ts';
import { PF_KTHREAD, TASK_DEAD, type task_struct } from '../include/linux/sched.ts';
import type { errno, int } from '../include/linux/types.ts';
import { shouldFail } from '../include/sim/fault_injection.ts';
import { type Sim, waitPoint } from '../include/sim/schedule.ts';
import { world } from '../include/sim/world.ts';
import { spawn } from './sched/core.ts';

/**
 * Make a kernel thread.
 *
 * @param threadfn - what it does
 * @param data - its argument
 * @param name - its comm
 * @retval -ENOMEM no memory
 * @kernel include/linux/kthread.h
 */
export function kthread_run<T>(
	threadfn: (data: T) => Sim<int>,
	data: T,
	name: string,
): task_struct | errno {
	if (shouldFail('kthread_run')) return -ENOMEM;
	const task = spawn(name, () => threadfn(data), { mm: null });
	task.flags |= PF_KTHREAD;
	return task;
}

/**
 * Ask a kernel thread to end, and wait until it has.
 *
 * @param k - the thread
 * @returns what its function returned
 * @context Process context. Sleeps.
 * @kernel kernel/kthread.c
 */
export function* kthread_stop(k: task_struct): Sim<int> {
	k.should_stop = true;
	yield waitPoint('wait', k, () => k.__state === TASK_DEAD);
	return k.exit_code;
}

/**
 * Whether kthread_stop() was called for the current thread.
 *
 * @kernel kernel/kthread.c
 */
export function kthread_should_stop(): boolean {
	return world().current.should_stop;
}
