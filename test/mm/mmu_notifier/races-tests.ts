// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a mirror that follows the protocol is never stale, and one that does not is found out.
 * Method: threads in random order against a page table of one entry whose truth is known.
 */
import type { ProfileName } from '../../../include/sim/feature.ts';
import { preemptible, type Sim, schedulePoint } from '../../../include/sim/schedule.ts';
import { world } from '../../../include/sim/world.ts';
import { mutex_lock, mutex_unlock } from '../../../kernel/locking/mutex.ts';
import { runThreads, spawn } from '../../../kernel/sched/core.ts';
import { randomStrategy } from '../../../kernel/sched/strategy.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../../mm/mmap_lock.ts';
import {
	mmu_interval_notifier_remove,
	mmu_interval_read_begin,
	mmu_interval_read_retry,
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
} from '../../../mm/mmu_notifier.ts';
import {
	ASSERT_EQ,
	ASSERT_NE,
	EXPECT_EQ,
	EXPECT_GT,
	FIXTURE,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../../kselftest_harness.ts';
import { bootBare } from '../bare_world.ts';
import { insert, Mirror, newMm, rangeOf, subscriptions } from './mirror.ts';

/**
 * The truth: one page-table entry that invalidators change between start and end. A mirror that
 * follows the protocol never keeps a copy of an old value once the invalidation that changed it has
 * passed it.
 */
class Truth {
	mm = newMm();
	value = 0;
	stale = 0;
	copies = 0;
}

function* changer(t: Truth, rounds: number): Sim<void> {
	for (let i = 0; i < rounds; i++) {
		const range = rangeOf(t.mm, 0n, 0x1000n);
		yield* mmap_read_lock(t.mm);
		yield* mmu_notifier_invalidate_range_start(range);
		if (preemptible()) yield schedulePoint('pte-write', t, 'value');
		t.value++;
		yield* mmu_notifier_invalidate_range_end(range);
		yield* mmap_read_unlock(t.mm);
	}
}

function* reader(t: Truth, rounds: number, checks: boolean): Sim<void> {
	const m = new Mirror();
	ASSERT_EQ(0, yield* insert(m, t.mm, 0n, 0x1000n));
	for (let i = 0; i < rounds; i++) {
		const seq = yield* mmu_interval_read_begin(m.sub);
		if (preemptible()) yield schedulePoint('pte-read', t, 'value');
		const seen = t.value;
		yield* mutex_lock(m.lock);
		if (!checks || !mmu_interval_read_retry(m.sub, seq)) {
			m.copy = seen;
			t.copies++;
			if (preemptible()) yield schedulePoint('read', m);
			if (m.copy !== t.value) t.stale++;
		}
		yield* mutex_unlock(m.lock);
	}
	yield* mmu_interval_notifier_remove(m.sub);
}

function race(seed: number, profile: ProfileName, checks: boolean): Truth {
	bootBare(profile);
	const t = new Truth();
	for (let i = 0; i < 2; i++) spawn(`changer/${i}`, () => changer(t, 3));
	for (let i = 0; i < 3; i++) spawn(`reader/${i}`, () => reader(t, 3, checks));
	runThreads(randomStrategy(seed));
	const subs = subscriptions(t.mm);
	ASSERT_NE(null, subs);
	EXPECT_EQ(0n, subs.active_invalidate_ranges);
	EXPECT_EQ(0n, subs.invalidate_seq & 1n);
	EXPECT_EQ(0, subs.itree.length + subs.deferred_list.length + subs.wq.entries.length);
	EXPECT_EQ(1, t.mm.mm_count);
	EXPECT_EQ(0, world().reports.length);
	return t;
}

const racing = FIXTURE(
	'mmu_interval_race',
	() => ({}),
	FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName }),
);
FIXTURE_VARIANT_ADD(racing, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(racing, 'v7_3', { profile: 'v7.3' });

TEST_F(racing, 'a_mirror_that_follows_the_protocol_is_never_stale', (_self, { profile }) => {
	let copies = 0;
	for (let seed = 0; seed < 300; seed++) {
		const t = race(seed, profile, true);
		ASSERT_EQ(0, t.stale);
		copies += t.copies;
	}
	EXPECT_GT(copies, 300);
});

TEST_F(racing, 'a_mirror_that_skips_the_last_check_is_found', (_self, { profile }) => {
	let stale = 0;
	for (let seed = 0; seed < 100; seed++) stale += race(seed, profile, false).stale;
	EXPECT_GT(stale, 0);
});
