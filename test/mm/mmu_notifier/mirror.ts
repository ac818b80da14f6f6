// SPDX-License-Identifier: GPL-2.0-only
/**
 * A mirror of a range: what a driver keeps behind an interval notifier, for the suites beside this
 * file.
 */
import { mm_struct } from '../../../include/linux/mm_types.ts';
import {
	MMU_NOTIFY_CLEAR,
	mmu_interval_notifier,
	type mmu_interval_notifier_ops,
	type mmu_notifier_event,
	mmu_notifier_range,
	type mmu_notifier_subscriptions,
} from '../../../include/linux/mmu_notifier.ts';
import { mutex } from '../../../include/linux/spinlock.ts';
import type { ProfileName } from '../../../include/sim/feature.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { mutex_lock, mutex_trylock, mutex_unlock } from '../../../kernel/locking/mutex.ts';
import {
	mmu_interval_notifier_insert,
	mmu_interval_read_retry,
	mmu_interval_set_seq,
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init_owner,
} from '../../../mm/mmu_notifier.ts';
import {
	EXPECT_EQ,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	type Fixture,
} from '../../kselftest_harness.ts';
import { bootBare } from '../bare_world.ts';

/** A mirror of an interval: what a driver keeps, with its lock and what it was told. */
export class Mirror {
	sub = new mmu_interval_notifier();
	lock = new mutex('mirror->lock');
	/** What it was told, `event start-end`. */
	heard: string[] = [];
	/** Copy of the page table's entry; null: invalidated. */
	copy: number | null = null;
	/** Breaks the contract on purpose. */
	forgetsSeq = false;
	forgetsLock = false;
	/** Answers false. */
	refuses = false;
	/** Ignores invalidations of this owner. */
	owner: object | null = null;
	constructor() {
		this.sub.container = this;
	}
}

/** The mirror of a notifier. */
export function mirrorOf(sub: mmu_interval_notifier): Mirror {
	return sub.container as Mirror;
}

/** What a mirror does when it is told: it drops its copy, under its lock. */
export const mirrorOps: mmu_interval_notifier_ops = {
	*invalidate(sub, range, cur_seq) {
		const m = mirrorOf(sub);
		m.heard.push(`${range.event} ${range.start}-${range.end}`);
		if (m.refuses) return false;
		if (m.owner !== null && range.owner === m.owner) return true;
		if (m.forgetsLock) {
			mmu_interval_set_seq(sub, cur_seq);
			return true;
		}
		if (range.flags & 1) yield* mutex_lock(m.lock);
		else if (!mutex_trylock(m.lock)) return false;
		if (!m.forgetsSeq) mmu_interval_set_seq(sub, cur_seq);
		m.copy = null;
		yield* mutex_unlock(m.lock);
		return true;
	},
};

/** An address space of a process called `test`. */
export function newMm(): mm_struct {
	const mm = new mm_struct();
	mm.owner_comm = 'test';
	return mm;
}

/** Its notifiers; there are some. */
export function subscriptions(mm: mm_struct): mmu_notifier_subscriptions {
	return mm.notifier_subscriptions as mmu_notifier_subscriptions;
}

/** An invalidation of [start, end). */
export function rangeOf(
	mm: mm_struct,
	start: bigint,
	end: bigint,
	event: mmu_notifier_event = MMU_NOTIFY_CLEAR,
	owner: object | null = null,
): mmu_notifier_range {
	const range = new mmu_notifier_range();
	mmu_notifier_range_init_owner(range, event, 0, mm, start, end, owner);
	return range;
}

/** Insert a mirror over [start, start + length). */
export function* insert(m: Mirror, mm: mm_struct, start: bigint, length: bigint): Sim<number> {
	return yield* mmu_interval_notifier_insert(m.sub, mm, start, length, mirrorOps);
}

/** read_begin, nothing in between, read_retry under the lock. */
export function* retryNeeded(m: Mirror, seq: bigint): Sim<boolean> {
	yield* mutex_lock(m.lock);
	const retry = mmu_interval_read_retry(m.sub, seq);
	yield* mutex_unlock(m.lock);
	return retry;
}

/** An invalidation from start to end, with nothing in between. */
export function* invalidate(range: mmu_notifier_range): Sim<void> {
	yield* mmu_notifier_invalidate_range_start(range);
	yield* mmu_notifier_invalidate_range_end(range);
}

/**
 * Declare a fixture with an address space, under both releases: when a test ends nobody invalidates,
 * and no notifier waits for the end of an invalidation.
 *
 * @param name - its name
 */
export function intervalFixture(
	name: string,
): Fixture<{ mm: mm_struct }, { profile: ProfileName }> {
	const interval = FIXTURE(
		name,
		() => ({ mm: null as unknown as mm_struct }),
		FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName }),
	);
	FIXTURE_VARIANT_ADD(interval, 'v6_12', { profile: 'v6.12' });
	FIXTURE_VARIANT_ADD(interval, 'v7_3', { profile: 'v7.3' });
	FIXTURE_SETUP(interval, (self, variant) => {
		bootBare(variant.profile);
		self.mm = newMm();
	});
	FIXTURE_TEARDOWN(interval, (self) => {
		const subs = self.mm.notifier_subscriptions;
		if (subs === null) return;
		EXPECT_EQ(0n, subs.active_invalidate_ranges);
		EXPECT_EQ(0n, subs.invalidate_seq & 1n);
		EXPECT_EQ(0, subs.deferred_list.length);
	});
	return interval;
}
