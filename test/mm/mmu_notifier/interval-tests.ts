// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the sequence rules of interval notifiers: who is told, what a reader must try again, and
 * what an insertion or a removal waits for. Method: a mirror that follows the protocol, driven step
 * by step.
 */
import { EAGAIN, EINTR, EINVAL, ENOMEM, EOVERFLOW } from '../../../include/linux/errno.ts';
import {
	MMU_NOTIFY_CLEAR,
	MMU_NOTIFY_EXCLUSIVE,
	MMU_NOTIFY_MIGRATE,
	MMU_NOTIFY_RELEASE,
	MMU_NOTIFY_UNMAP,
	type mmu_interval_notifier_ops,
	mmu_notifier_range,
} from '../../../include/linux/mmu_notifier.ts';
import { current, SIGKILL } from '../../../include/linux/sched.ts';
import { ULONG_MAX } from '../../../include/linux/types.ts';
import { injectFaults } from '../../../include/sim/fault_injection.ts';
import { schedulePoint } from '../../../include/sim/schedule.ts';
import { runThreads, spawn } from '../../../kernel/sched/core.ts';
import { randomStrategy } from '../../../kernel/sched/strategy.ts';
import { mmap_write_lock, mmap_write_unlock } from '../../../mm/mmap_lock.ts';
import {
	mmu_interval_check_retry,
	mmu_interval_notifier_insert,
	mmu_interval_notifier_insert_locked,
	mmu_interval_notifier_remove,
	mmu_interval_read_begin,
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_invalidate_range_start_nonblock,
	mmu_notifier_range_init,
	mmu_notifier_release,
	mmu_notifier_subscriptions_destroy,
} from '../../../mm/mmu_notifier.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_TRUE,
	expectReport,
	TEST,
	TEST_F,
} from '../../kselftest_harness.ts';
import { bootBare, expectList } from '../bare_world.ts';
import {
	insert,
	intervalFixture,
	invalidate,
	Mirror,
	mirrorOf,
	mirrorOps,
	newMm,
	rangeOf,
	retryNeeded,
	subscriptions,
} from './mirror.ts';

const interval = intervalFixture('mmu_interval');

TEST_F(interval, 'insert_between_invalidations_is_an_old_odd_number', function* ({ mm }) {
	const m = new Mirror();
	EXPECT_EQ(0, yield* insert(m, mm, 0x1000n, 0x2000n));
	EXPECT_EQ(2n, subscriptions(mm).invalidate_seq);
	EXPECT_EQ(1n, m.sub.invalidate_seq);
	EXPECT_EQ(0x2fffn, m.sub.interval_tree.last);
	EXPECT_EQ(2, mm.mm_count);
	const seq = yield* mmu_interval_read_begin(m.sub);
	EXPECT_EQ(1n, seq);
	EXPECT_FALSE(yield* retryNeeded(m, seq));
	yield* mmu_interval_notifier_remove(m.sub);
	EXPECT_EQ(1, mm.mm_count);
});

TEST_F(interval, 'a_hit_makes_the_number_odd_and_the_last_end_even', function* ({ mm }) {
	const m = new Mirror();
	yield* insert(m, mm, 0x1000n, 0x1000n);
	const seq = yield* mmu_interval_read_begin(m.sub);
	const a = rangeOf(mm, 0x1000n, 0x2000n);
	const b = rangeOf(mm, 0x1800n, 0x9000n, MMU_NOTIFY_UNMAP);
	yield* mmu_notifier_invalidate_range_start(a);
	EXPECT_EQ(3n, subscriptions(mm).invalidate_seq);
	EXPECT_EQ(3n, m.sub.invalidate_seq);
	EXPECT_TRUE(mmu_interval_check_retry(m.sub, seq));
	EXPECT_TRUE(yield* retryNeeded(m, seq));
	yield* mmu_notifier_invalidate_range_start(b);
	yield* mmu_notifier_invalidate_range_end(a);
	EXPECT_EQ(3n, subscriptions(mm).invalidate_seq);
	EXPECT_EQ(1n, subscriptions(mm).active_invalidate_ranges);
	yield* mmu_notifier_invalidate_range_end(b);
	EXPECT_EQ(4n, subscriptions(mm).invalidate_seq);
	expectList(['1 4096-8192', '0 6144-36864'], m.heard);
	const again = yield* mmu_interval_read_begin(m.sub);
	EXPECT_EQ(3n, again);
	EXPECT_FALSE(yield* retryNeeded(m, again));
	yield* mmu_interval_notifier_remove(m.sub);
});

TEST_F(interval, 'a_miss_calls_nobody_and_leaves_the_number', function* ({ mm }) {
	const m = new Mirror();
	yield* insert(m, mm, 0x2000n, 0x1000n);
	for (const [start, end] of [
		[0n, 0x2000n],
		[0x3000n, 0x4000n],
	] as const) {
		const range = rangeOf(mm, start, end);
		yield* mmu_notifier_invalidate_range_start(range);
		EXPECT_EQ(2n, subscriptions(mm).invalidate_seq);
		yield* mmu_notifier_invalidate_range_end(range);
	}
	expectList([], m.heard);
	yield* mmu_interval_notifier_remove(m.sub);
});

TEST_F(interval, 'intervals_are_called_by_start_then_by_age', function* ({ mm }) {
	const order: string[] = [];
	const ops: mmu_interval_notifier_ops = {
		*invalidate(sub, range, cur_seq) {
			order.push(mirrorOf(sub).lock.name);
			return yield* mirrorOps.invalidate!(sub, range, cur_seq);
		},
	};
	const places: [string, bigint, bigint][] = [
		['c', 0x30n, 0x10n],
		['a', 0x10n, 0x100n],
		['b1', 0x20n, 0x8n],
		['b2', 0x20n, 0x1n],
		['d', 0x90n, 0x10n],
	];
	const mirrors: Mirror[] = [];
	for (const [name, start, length] of places) {
		const m = new Mirror();
		m.lock.name = name;
		mirrors.push(m);
		yield* mmu_interval_notifier_insert(m.sub, mm, start, length, ops);
	}
	yield* invalidate(rangeOf(mm, 0x20n, 0x40n));
	expectList(['a', 'b1', 'b2', 'c'], order);
	order.length = 0;
	yield* invalidate(rangeOf(mm, 0x27n, 0x28n));
	expectList(['a', 'b1'], order);
	for (const m of mirrors) yield* mmu_interval_notifier_remove(m.sub);
	EXPECT_EQ(1, mm.mm_count);
});

TEST_F(interval, 'insert_during_a_hit_waits_for_its_end', function* ({ mm }) {
	const first = new Mirror();
	const late = new Mirror();
	yield* insert(first, mm, 0n, 0x1000n);
	const range = rangeOf(mm, 0n, 0x1000n);
	yield* mmu_notifier_invalidate_range_start(range);
	EXPECT_EQ(0, yield* insert(late, mm, 0n, 0x1000n));
	EXPECT_EQ('add', late.sub.deferred_item);
	EXPECT_EQ(1, subscriptions(mm).itree.length);
	EXPECT_EQ(subscriptions(mm).invalidate_seq, late.sub.invalidate_seq);
	yield* mmu_notifier_invalidate_range_end(range);
	EXPECT_EQ(null, late.sub.deferred_item);
	EXPECT_EQ(2, subscriptions(mm).itree.length);
	expectList([], late.heard);
	yield* mmu_interval_notifier_remove(first.sub);
	yield* mmu_interval_notifier_remove(late.sub);
});

TEST_F(interval, 'insert_during_a_miss_makes_readers_wait', ({ mm }) => {
	const other = new Mirror();
	const late = new Mirror();
	const steps: string[] = [];
	spawn('invalidator', function* () {
		yield* insert(other, mm, 0x9000n, 0x1000n);
		const range = rangeOf(mm, 0n, 0x1000n);
		yield* mmu_notifier_invalidate_range_start(range);
		yield* insert(late, mm, 0n, 0x1000n);
		EXPECT_EQ(3n, subscriptions(mm).invalidate_seq);
		EXPECT_EQ(3n, late.sub.invalidate_seq);
		EXPECT_EQ(2, subscriptions(mm).itree.length);
		spawn('reader', function* () {
			steps.push('begin');
			EXPECT_EQ(3n, yield* mmu_interval_read_begin(late.sub));
			steps.push('read');
		});
		for (let i = 0; i < 5; i++) yield schedulePoint('yield', current());
		steps.push('end');
		yield* mmu_notifier_invalidate_range_end(range);
	});
	runThreads(randomStrategy(1));
	EXPECT_EQ('read', steps.at(-1));
	EXPECT_EQ(4n, subscriptions(mm).invalidate_seq);
	EXPECT_EQ(2, subscriptions(mm).itree.length);
});

TEST_F(interval, 'remove_of_a_put_off_insert_takes_it_back', function* ({ mm }) {
	const first = new Mirror();
	const late = new Mirror();
	yield* insert(first, mm, 0n, 0x1000n);
	const range = rangeOf(mm, 0n, 0x1000n);
	yield* mmu_notifier_invalidate_range_start(range);
	yield* insert(late, mm, 0n, 0x1000n);
	yield* mmu_interval_notifier_remove(late.sub);
	EXPECT_EQ(0, subscriptions(mm).deferred_list.length);
	yield* mmu_notifier_invalidate_range_end(range);
	EXPECT_EQ(1, subscriptions(mm).itree.length);
	yield* mmu_interval_notifier_remove(first.sub);
	EXPECT_EQ(1, mm.mm_count);
});

TEST_F(interval, 'remove_during_a_hit_returns_after_its_end', ({ mm }) => {
	const m = new Mirror();
	const steps: string[] = [];
	spawn('invalidator', function* () {
		yield* insert(m, mm, 0n, 0x1000n);
		const range = rangeOf(mm, 0n, 0x1000n);
		yield* mmu_notifier_invalidate_range_start(range);
		spawn('remover', function* () {
			yield* mmu_interval_notifier_remove(m.sub);
			steps.push('removed');
		});
		for (let i = 0; i < 50; i++) yield schedulePoint('yield', current());
		EXPECT_EQ('remove', m.sub.deferred_item);
		steps.push('end');
		yield* mmu_notifier_invalidate_range_end(range);
	});
	runThreads(randomStrategy(7));
	expectList(['end', 'removed'], steps);
	EXPECT_EQ(0, subscriptions(mm).itree.length);
	EXPECT_EQ(1, mm.mm_count);
});

TEST_F(interval, 'remove_twice_warns', function* ({ mm }) {
	const m = new Mirror();
	yield* insert(m, mm, 0n, 0x1000n);
	yield* mmu_interval_notifier_remove(m.sub);
	expectReport('the notifier is not inserted');
	yield* mmu_interval_notifier_remove(m.sub);
});

TEST_F(interval, 'insert_of_an_empty_or_wrapping_interval_overflows', function* ({ mm }) {
	const m = new Mirror();
	EXPECT_EQ(-EOVERFLOW, yield* insert(m, mm, 0x1000n, 0n));
	EXPECT_EQ(-EOVERFLOW, yield* insert(m, mm, 0x1000n, ULONG_MAX));
	EXPECT_EQ(1, mm.mm_count);
	EXPECT_EQ(0, yield* insert(m, mm, 0n, ULONG_MAX));
	yield* mmu_interval_notifier_remove(m.sub);
});

TEST_F(interval, 'insert_into_an_mm_without_users_is_invalid', function* ({ mm }) {
	const first = new Mirror();
	yield* insert(first, mm, 0n, 0x1000n);
	mm.mm_users = 0;
	const late = new Mirror();
	expectReport('mm_users is 0');
	EXPECT_EQ(-EINVAL, yield* insert(late, mm, 0n, 0x1000n));
	mm.mm_users = 1;
	yield* mmu_interval_notifier_remove(first.sub);
	EXPECT_EQ(1, mm.mm_count);
});

TEST_F(interval, 'the_first_insert_may_lack_memory', function* ({ mm }) {
	injectFaults().fail('mmu_notifier_register', 1);
	const m = new Mirror();
	EXPECT_EQ(-ENOMEM, yield* insert(m, mm, 0n, 0x1000n));
	EXPECT_EQ(null, mm.notifier_subscriptions);
	EXPECT_EQ(0, yield* insert(m, mm, 0n, 0x1000n));
	yield* mmu_interval_notifier_remove(m.sub);
});

TEST_F(interval, 'the_first_insert_is_ended_by_a_signal', function* ({ mm }) {
	current().pending.add(SIGKILL);
	const m = new Mirror();
	EXPECT_EQ(-EINTR, yield* insert(m, mm, 0n, 0x1000n));
	yield* mmap_write_lock(mm);
	EXPECT_EQ(
		-EINTR,
		yield* mmu_interval_notifier_insert_locked(m.sub, mm, 0n, 0x1000n, mirrorOps),
	);
	current().pending.delete(SIGKILL);
	EXPECT_EQ(0, yield* mmu_interval_notifier_insert_locked(m.sub, mm, 0n, 0x1000n, mirrorOps));
	yield* mmap_write_unlock(mm);
	yield* mmu_interval_notifier_remove(m.sub);
});

TEST_F(interval, 'insert_locked_asserts_the_mmap_lock', function* ({ mm }) {
	const m = new Mirror();
	yield* insert(m, mm, 0n, 0x1000n);
	yield* mmu_interval_notifier_remove(m.sub);
	expectReport('mmap_lock');
	EXPECT_EQ(0, yield* mmu_interval_notifier_insert_locked(m.sub, mm, 0n, 0x1000n, mirrorOps));
	yield* mmu_interval_notifier_remove(m.sub);
});

TEST_F(interval, 'a_refusal_of_a_nonblocking_start_ends_it', function* ({ mm }) {
	const [a, b, c] = [new Mirror(), new Mirror(), new Mirror()];
	for (const m of [a, b, c]) yield* insert(m, mm, 0n, 0x1000n);
	b.refuses = true;
	const range = rangeOf(mm, 0n, 0x1000n);
	EXPECT_EQ(-EAGAIN, yield* mmu_notifier_invalidate_range_start_nonblock(range));
	expectList([1, 1, 0], [a.heard.length, b.heard.length, c.heard.length]);
	EXPECT_EQ(0n, subscriptions(mm).active_invalidate_ranges);
	EXPECT_EQ(4n, subscriptions(mm).invalidate_seq);
	b.refuses = false;
	EXPECT_EQ(0, yield* mmu_notifier_invalidate_range_start_nonblock(range));
	yield* mmu_notifier_invalidate_range_end(range);
	for (const m of [a, b, c]) yield* mmu_interval_notifier_remove(m.sub);
});

TEST_F(interval, 'a_refusal_of_a_blocking_start_warns_and_goes_on', function* ({ mm }) {
	const [a, b] = [new Mirror(), new Mirror()];
	for (const m of [a, b]) yield* insert(m, mm, 0n, 0x1000n);
	a.refuses = true;
	expectReport('a notifier may not refuse');
	yield* invalidate(rangeOf(mm, 0n, 0x1000n));
	EXPECT_EQ(1, b.heard.length);
	for (const m of [a, b]) yield* mmu_interval_notifier_remove(m.sub);
});

TEST_F(interval, 'release_tells_every_interval', function* ({ mm }) {
	const [a, b] = [new Mirror(), new Mirror()];
	yield* insert(a, mm, 0n, 0x1000n);
	yield* insert(b, mm, 0x7000_0000_0000n, 0x1000n);
	a.forgetsSeq = true;
	yield* mmu_notifier_release(mm);
	const all = `${MMU_NOTIFY_RELEASE} 0-${ULONG_MAX}`;
	expectList([all], a.heard);
	expectList([all], b.heard);
	EXPECT_EQ(4n, subscriptions(mm).invalidate_seq);
	b.refuses = true;
	expectReport('WARNING');
	yield* mmu_notifier_release(mm);
	for (const m of [a, b]) yield* mmu_interval_notifier_remove(m.sub);
	yield* mmu_notifier_release(newMm());
});

TEST_F(interval, 'a_mirror_may_ignore_only_its_own_migrations', function* ({ mm }) {
	const m = new Mirror();
	const owner = {};
	m.owner = owner;
	yield* insert(m, mm, 0n, 0x1000n);
	const seq = yield* mmu_interval_read_begin(m.sub);
	yield* invalidate(rangeOf(mm, 0n, 0x1000n, MMU_NOTIFY_MIGRATE, owner));
	yield* invalidate(rangeOf(mm, 0n, 0x1000n, MMU_NOTIFY_EXCLUSIVE, owner));
	EXPECT_FALSE(yield* retryNeeded(m, seq));
	yield* invalidate(rangeOf(mm, 0n, 0x1000n, MMU_NOTIFY_MIGRATE, {}));
	EXPECT_TRUE(yield* retryNeeded(m, seq));
	expectReport('event CLEAR: readers will not retry');
	yield* invalidate(rangeOf(mm, 0n, 0x1000n, MMU_NOTIFY_CLEAR, owner));
	yield* mmu_interval_notifier_remove(m.sub);
});

TEST_F(interval, 'an_invalidation_without_notifiers_costs_no_state', function* ({ mm }) {
	yield* invalidate(rangeOf(mm, 0n, 0x1000n));
	EXPECT_EQ(0, yield* mmu_notifier_invalidate_range_start_nonblock(rangeOf(mm, 0n, 1n)));
	EXPECT_EQ(null, mm.notifier_subscriptions);
	mmu_notifier_subscriptions_destroy(mm);
});

TEST('range_init_leaves_the_owner_out', () => {
	bootBare('v7.3');
	const range = new mmu_notifier_range();
	const mm = newMm();
	mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, mm, 1n, 2n);
	expectList(
		[MMU_NOTIFY_CLEAR, 0, 1n, 2n, null],
		[range.event, range.flags, range.start, range.end, range.owner],
	);
});
