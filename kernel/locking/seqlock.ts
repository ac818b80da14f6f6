// SPDX-License-Identifier: GPL-2.0-only
/**
 * Sequence counters: readers that go again when a writer was inside.
 *
 * Duty: writers exclude each other by a lock of their own.
 */
import { BUG_ON } from '../../include/linux/bug.ts';
import type { seqcount_t } from '../../include/linux/spinlock.ts';
import type { unsigned_int } from '../../include/linux/types.ts';
import { type Sim, schedulePoint, waitPoint } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';

/**
 * Begin to read; waits while a writer is inside.
 *
 * @param s - the counter
 * @returns what read_seqcount_retry() wants
 * @context Any. Spins.
 * @kernel include/linux/seqlock.h
 */
export function* read_seqcount_begin(s: seqcount_t): Sim<unsigned_int> {
	if (world().preemptible || (s.sequence & 1) !== 0)
		yield waitPoint('read', s, () => (s.sequence & 1) === 0);
	return s.sequence;
}

/**
 * Whether a writer was inside since read_seqcount_begin().
 *
 * @param s - the counter
 * @param start - what read_seqcount_begin() returned
 * @context Any.
 * @kernel include/linux/seqlock.h
 */
export function* read_seqcount_retry(s: seqcount_t, start: unsigned_int): Sim<boolean> {
	if (world().preemptible) yield schedulePoint('read', s);
	return s.sequence !== start;
}

/**
 * Begin to write.
 *
 * @param s - the counter
 * @context Any, other writers excluded.
 * @kernel include/linux/seqlock.h
 */
export function* write_seqcount_begin(s: seqcount_t): Sim<void> {
	const { preemptible, current } = world();
	if (preemptible) yield schedulePoint('write', s);
	BUG_ON((s.sequence & 1) !== 0, 'write_seqcount_begin: another writer is inside');
	current.preempt_count++;
	s.sequence++;
}

/**
 * End to write.
 *
 * @param s - the counter
 * @context Any.
 * @kernel include/linux/seqlock.h
 */
export function* write_seqcount_end(s: seqcount_t): Sim<void> {
	const { preemptible, current } = world();
	if (preemptible) yield schedulePoint('write', s);
	s.sequence++;
	current.preempt_count--;
}
