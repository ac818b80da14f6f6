// SPDX-License-Identifier: GPL-2.0-only
/** The end of a world's threads: what can go on goes on, what can't is reported. */
import { KernelOops } from '../../include/sim/report.ts';
import { runThreads, scheduler } from './core.ts';

/** Let all threads end: work that was queued, callbacks of RCU. A thread that can't end is reported. */
export function schedShutdownCheck(): void {
	const s = scheduler();
	try {
		if (!s.crashed) runThreads();
	} catch (error) {
		// The report of an oops is in the list already; anything else is a fault of the harness's user.
		if (!(error instanceof KernelOops)) throw error;
	} finally {
		s.threads = [];
	}
}
