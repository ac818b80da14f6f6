// SPDX-License-Identifier: GPL-2.0-only
/** What locking finds amiss when a world ends. */

import { fileReport } from '../../include/linux/bug.ts';
import { world } from '../../include/sim/world.ts';
import { reportLocksHeldAtExit } from './lockdep_report.ts';

/** Report locks that init still holds, and sections that it never left. */
export function lockShutdownCheck(): void {
	const { current: init } = world();
	if (init.held_locks.length > 0) reportLocksHeldAtExit(init, false);
	if (init.preempt_count !== 0)
		fileReport(
			'sched',
			`BUG: ${init.comm}/${init.pid} ends with preempt_count ${init.preempt_count}`,
		);
	if (init.rcu_read_lock_nesting !== 0)
		fileReport(
			'sched',
			`WARNING: ${init.comm}/${init.pid} ends inside an RCU read-side section`,
		);
}
