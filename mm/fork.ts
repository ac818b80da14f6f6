// SPDX-License-Identifier: GPL-2.0-only
/**
 * fork() as tests and tools use it: a process with a copy of another one's address space. What
 * kernel/fork.c has for that is in mm/ here, with what it needs:
 *
 * | file | functions |
 * | --- | --- |
 * | fork.ts | forkTask, forkProcess |
 * | dup_mmap.ts | dup_mm, dup_mmap |
 * | exec_mm.ts | mm_alloc, mmget_not_zero, mmput, exit_mmap |
 * | mm_count.ts | mmgrab, mmdrop |
 */
import { ENOMEM } from '../include/linux/errno.ts';
import { task_struct } from '../include/linux/sched.ts';
import type { errno } from '../include/linux/types.ts';
import { HarnessError } from '../include/sim/report.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { run, scheduler } from '../kernel/sched/core.ts';
import { dup_mm } from './dup_mmap.ts';

/**
 * Fork a process, as a simulated thread of it would.
 *
 * @param parent - the process
 * @returns the child, which executes nothing by itself
 * @retval -ENOMEM no memory
 * @context Process context. Sleeps.
 */
export function* forkTask(parent: task_struct): Sim<task_struct | errno> {
	if (parent.mm === null)
		throw new HarnessError(
			'forkTask()',
			`process ${parent.comm}/${parent.pid} has no mm`,
		);
	const mm = yield* dup_mm(parent.mm);
	if (mm === null) return -ENOMEM;
	mm.owner_comm = parent.comm;
	const { comm, cpu } = parent;
	return new task_struct({ pid: scheduler().nextPid++, comm, cpu, mm });
}

/**
 * Fork a process.
 *
 * @param parent - the process
 * @returns the child
 * @retval -ENOMEM no memory
 */
export function forkProcess(parent: task_struct): task_struct | errno {
	return run(() => forkTask(parent), { task: parent });
}
