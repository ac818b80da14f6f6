// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a driver that breaks the contract of its notifier is reported, with what it forgot. Method:
 * mirrors that forget the number or the lock, sleep where they may not, or are left behind.
 */
import {
	MMU_NOTIFY_UNMAP,
	type mmu_interval_notifier_ops,
	mmu_notifier,
} from '../../../include/linux/mmu_notifier.ts';
import { current } from '../../../include/linux/sched.ts';
import { world } from '../../../include/sim/world.ts';
import { mutex_lock, mutex_unlock } from '../../../kernel/locking/mutex.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../../mm/mmap_lock.ts';
import {
	mmu_interval_notifier_insert,
	mmu_interval_notifier_remove,
	mmu_interval_read_begin,
	mmu_interval_read_retry,
	mmu_interval_set_seq,
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start_nonblock,
	mmu_notifier_register,
	mmu_notifier_unregister,
	reportNotifiersLeft,
} from '../../../mm/mmu_notifier.ts';
import { EXPECT_EQ, EXPECT_FALSE, expectReport, TEST_F } from '../../kselftest_harness.ts';
import {
	insert,
	intervalFixture,
	invalidate,
	Mirror,
	newMm,
	rangeOf,
	retryNeeded,
} from './mirror.ts';

const interval = intervalFixture('mmu_interval');

TEST_F(interval, 'a_nonblocking_callback_that_sleeps_is_reported', function* ({ mm }) {
	const m = new Mirror();
	const ops: mmu_interval_notifier_ops = {
		*invalidate(sub, _range, cur_seq) {
			yield* mutex_lock(m.lock);
			mmu_interval_set_seq(sub, cur_seq);
			yield* mutex_unlock(m.lock);
			return true;
		},
	};
	yield* mmu_interval_notifier_insert(m.sub, mm, 0n, 0x1000n, ops);
	expectReport('sleeping function called from invalid context');
	const range = rangeOf(mm, 0n, 0x1000n);
	EXPECT_EQ(0, yield* mmu_notifier_invalidate_range_start_nonblock(range));
	yield* mmu_notifier_invalidate_range_end(range);
	EXPECT_EQ(0, current().non_block_count);
	yield* mmu_interval_notifier_remove(m.sub);
});

TEST_F(interval, 'a_callback_that_forgets_the_number_is_reported', function* ({ mm }) {
	const m = new Mirror();
	m.forgetsSeq = true;
	yield* insert(m, mm, 0n, 0x1000n);
	expectReport('invalidate callback without mmu_interval_set_seq()');
	yield* invalidate(rangeOf(mm, 0n, 0x1000n, MMU_NOTIFY_UNMAP));
	yield* mmu_interval_notifier_remove(m.sub);
});

TEST_F(interval, 'a_number_set_without_a_lock_is_reported', function* ({ mm }) {
	const m = new Mirror();
	m.forgetsLock = true;
	yield* insert(m, mm, 0n, 0x1000n);
	expectReport('mmu_interval_set_seq() without the lock of its user');
	yield* mmap_read_lock(mm);
	yield* invalidate(rangeOf(mm, 0n, 0x1000n));
	yield* mmap_read_unlock(mm);
	EXPECT_EQ(0, world().reports.length);
	EXPECT_FALSE(yield* retryNeeded(m, 3n));
	yield* mmu_interval_notifier_remove(m.sub);
});

TEST_F(interval, 'a_retry_check_without_the_lock_is_reported', function* ({ mm }) {
	const m = new Mirror();
	yield* insert(m, mm, 0n, 0x1000n);
	yield* invalidate(rangeOf(mm, 0n, 0x1000n));
	const seq = yield* mmu_interval_read_begin(m.sub);
	expectReport('mmu_interval_read_retry() without the lock of mmu_interval_set_seq()');
	EXPECT_FALSE(mmu_interval_read_retry(m.sub, seq));
	yield* mmu_interval_notifier_remove(m.sub);
});

TEST_F(
	interval,
	'read_begin_under_the_lock_of_the_callback_is_a_lockdep_circle',
	function* ({ mm }) {
		const m = new Mirror();
		yield* insert(m, mm, 0n, 0x1000n);
		yield* invalidate(rangeOf(mm, 0n, 0x1000n));
		expectReport('possible circular locking dependency detected');
		yield* mutex_lock(m.lock);
		yield* mmu_interval_read_begin(m.sub);
		yield* mutex_unlock(m.lock);
		yield* mmu_interval_notifier_remove(m.sub);
	},
);

TEST_F(interval, 'notifiers_left_are_reported_with_their_origin', function* ({ mm }) {
	world().trackOrigins = true;
	const m = new Mirror();
	yield* insert(m, mm, 0x1000n, 0x1000n);
	const classic = new mmu_notifier({ ops: {} });
	yield* mmu_notifier_register(classic, mm);
	expectReport('mmu_interval_notifier still inserted: interval [0x1000-0x1fff]');
	expectReport('mmu_notifier still registered on the mm of test');
	EXPECT_EQ(2, reportNotifiersLeft(mm));
	yield* mmu_interval_notifier_remove(m.sub);
	yield* mmu_notifier_unregister(classic, mm);
	EXPECT_EQ(0, reportNotifiersLeft(mm));
	EXPECT_EQ(0, reportNotifiersLeft(newMm()));
});
