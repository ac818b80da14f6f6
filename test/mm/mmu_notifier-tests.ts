// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the sequence rules of interval notifiers, the order and the refusals of callbacks, and the
 * contract checks. Method: a mirror that follows the protocol, driven step by step, then by threads
 * in random order against a page table of one entry whose truth is known.
 */
import { EAGAIN, EINTR, EINVAL, ENOMEM, EOVERFLOW } from '../../include/linux/errno.ts';
import { file } from '../../include/linux/fs.ts';
import {
	address_space,
	anon_vma,
	mm_struct,
	vm_area_struct,
} from '../../include/linux/mm_types.ts';
import {
	MMU_NOTIFY_CLEAR,
	MMU_NOTIFY_EXCLUSIVE,
	MMU_NOTIFY_MIGRATE,
	MMU_NOTIFY_RELEASE,
	MMU_NOTIFY_UNMAP,
	mmu_interval_notifier,
	mmu_interval_notifier_finish,
	type mmu_interval_notifier_ops,
	mmu_notifier,
	type mmu_notifier_event,
	type mmu_notifier_ops,
	mmu_notifier_range,
	type mmu_notifier_subscriptions,
} from '../../include/linux/mmu_notifier.ts';
import { current, SIGKILL } from '../../include/linux/sched.ts';
import { mutex, type rw_semaphore } from '../../include/linux/spinlock.ts';
import { UINT_MAX, ULONG_MAX } from '../../include/linux/types.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import { preemptible, type Sim, schedulePoint } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';
import { mutex_lock, mutex_trylock, mutex_unlock } from '../../kernel/locking/mutex.ts';
import { down_write, up_write } from '../../kernel/locking/rwsem.ts';
import { runThreads, spawn } from '../../kernel/sched/core.ts';
import { randomStrategy } from '../../kernel/sched/strategy.ts';
import {
	mmap_read_lock,
	mmap_read_unlock,
	mmap_write_lock,
	mmap_write_unlock,
} from '../../mm/mmap_lock.ts';
import {
	mmu_interval_check_retry,
	mmu_interval_notifier_insert,
	mmu_interval_notifier_insert_locked,
	mmu_interval_notifier_remove,
	mmu_interval_read_begin,
	mmu_interval_read_retry,
	mmu_interval_set_seq,
	mmu_notifier_arch_invalidate_secondary_tlbs,
	mmu_notifier_clear_flush_young,
	mmu_notifier_clear_young,
	mmu_notifier_get,
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_invalidate_range_start_nonblock,
	mmu_notifier_put,
	mmu_notifier_range_init,
	mmu_notifier_range_init_owner,
	mmu_notifier_register,
	mmu_notifier_release,
	mmu_notifier_subscriptions_destroy,
	mmu_notifier_subscriptions_init,
	mmu_notifier_synchronize,
	mmu_notifier_test_young,
	mmu_notifier_unregister,
	reportNotifiersLeft,
} from '../../mm/mmu_notifier.ts';
import {
	ASSERT_EQ,
	ASSERT_NE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_GT,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST,
	TEST_F,
} from '../kselftest_harness.ts';
import { bootBare, expectList } from './bare_world.ts';

/** A mirror of an interval: what a driver keeps, with its lock and what it was told. */
class Mirror {
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

function mirrorOf(sub: mmu_interval_notifier): Mirror {
	return sub.container as Mirror;
}

const mirrorOps: mmu_interval_notifier_ops = {
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

function newMm(): mm_struct {
	const mm = new mm_struct();
	mm.owner_comm = 'test';
	return mm;
}

function subscriptions(mm: mm_struct): mmu_notifier_subscriptions {
	return mm.notifier_subscriptions as mmu_notifier_subscriptions;
}

function rangeOf(
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

function* insert(m: Mirror, mm: mm_struct, start: bigint, length: bigint): Sim<number> {
	return yield* mmu_interval_notifier_insert(m.sub, mm, start, length, mirrorOps);
}

/** read_begin, nothing in between, read_retry under the lock. */
function* retryNeeded(m: Mirror, seq: bigint): Sim<boolean> {
	yield* mutex_lock(m.lock);
	const retry = mmu_interval_read_retry(m.sub, seq);
	yield* mutex_unlock(m.lock);
	return retry;
}

function* invalidate(range: mmu_notifier_range): Sim<void> {
	yield* mmu_notifier_invalidate_range_start(range);
	yield* mmu_notifier_invalidate_range_end(range);
}

const interval = FIXTURE(
	'mmu_interval',
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

TEST_F(interval, 'an_invalidation_without_notifiers_costs_no_state', function* ({ mm }) {
	yield* invalidate(rangeOf(mm, 0n, 0x1000n));
	EXPECT_EQ(0, yield* mmu_notifier_invalidate_range_start_nonblock(rangeOf(mm, 0n, 1n)));
	EXPECT_EQ(null, mm.notifier_subscriptions);
	mmu_notifier_subscriptions_destroy(mm);
});

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

/** Two passes: what was called in which order. */
const twoPass = {
	order: [] as string[],
};
const twoPassOps: mmu_interval_notifier_ops = {
	*invalidate(sub, range, cur_seq) {
		return yield* mirrorOps.invalidate!(sub, range, cur_seq);
	},
	*invalidate_start(sub, range, cur_seq, finish) {
		const m = mirrorOf(sub);
		twoPass.order.push(`start ${m.lock.name}`);
		const ok = yield* mirrorOps.invalidate!(sub, range, cur_seq);
		if (!m.lock.name.startsWith('quick')) {
			finish.value = new mmu_interval_notifier_finish();
			finish.value.container = m;
		}
		return ok;
	},
	*invalidate_finish(finish) {
		twoPass.order.push(`finish ${(finish.container as Mirror).lock.name}`);
		EXPECT_EQ((finish.container as Mirror).sub, finish.notifier);
	},
};

function* insertTwoPass(mm: mm_struct, names: readonly string[]): Sim<Mirror[]> {
	twoPass.order = [];
	const mirrors: Mirror[] = [];
	for (const name of names) {
		const m = new Mirror();
		m.lock.name = name;
		mirrors.push(m);
		ASSERT_EQ(
			0,
			yield* mmu_interval_notifier_insert(m.sub, mm, 0n, 0x1000n, twoPassOps),
		);
	}
	return mirrors;
}

TEST_F(interval, 'two_passes_run_in_call_order', function* ({ mm }, { profile }) {
	const mirrors = yield* insertTwoPass(mm, ['a', 'quick', 'b']);
	yield* invalidate(rangeOf(mm, 0n, 0x1000n));
	expectList(
		profile === 'v7.3'
			? ['start a', 'start quick', 'start b', 'finish a', 'finish b']
			: [],
		twoPass.order,
	);
	for (const m of mirrors) EXPECT_EQ(1, m.heard.length);
	yield* mmu_notifier_release(mm);
	EXPECT_EQ(profile === 'v7.3' ? 10 : 0, twoPass.order.length);
	for (const m of mirrors) yield* mmu_interval_notifier_remove(m.sub);
});

TEST('F_two_pass_second_pass_runs_after_a_refusal', function* () {
	bootBare('v7.3');
	const mm = newMm();
	const [a, b] = yield* insertTwoPass(mm, ['a', 'b']);
	b!.refuses = true;
	const range = rangeOf(mm, 0n, 0x1000n);
	EXPECT_EQ(-EAGAIN, yield* mmu_notifier_invalidate_range_start_nonblock(range));
	expectList(['start a', 'start b', 'finish a', 'finish b'], twoPass.order);
	EXPECT_EQ(0n, subscriptions(mm).active_invalidate_ranges);
	for (const m of [a!, b!]) yield* mmu_interval_notifier_remove(m.sub);
});

TEST('start_without_finish_warns_at_insert', function* () {
	bootBare('v7.3');
	const mm = newMm();
	const m = new Mirror();
	expectReport('invalidate_start without invalidate_finish');
	const ops = { ...mirrorOps, invalidate_start: twoPassOps.invalidate_start! };
	EXPECT_EQ(0, yield* mmu_interval_notifier_insert(m.sub, mm, 0n, 0x1000n, ops));
	yield* mmu_interval_notifier_remove(m.sub);
});

/** A classic notifier that writes down what it hears. */
class Listener {
	n = new mmu_notifier();
	name: string;
	answer = 0;
	young = false;
	constructor(name: string, ops: mmu_notifier_ops) {
		this.name = name;
		this.n.ops = ops;
		this.n.container = this;
	}
}

const heard = { lines: [] as string[], freed: 0 };

function listener(n: mmu_notifier): Listener {
	return n.container as Listener;
}

const startOps: mmu_notifier_ops = {
	*release(n) {
		heard.lines.push(`release ${listener(n).name}`);
	},
	*invalidate_range_start(n) {
		heard.lines.push(`start ${listener(n).name}`);
		return listener(n).answer;
	},
	clear_flush_young: (n) => listener(n).young,
	clear_young: (n) => listener(n).young,
	test_young: (n) => listener(n).young,
};
const bothOps: mmu_notifier_ops = {
	...startOps,
	*invalidate_range_end(n) {
		heard.lines.push(`end ${listener(n).name}`);
	},
};

const classic = FIXTURE(
	'mmu_notifier',
	() => ({ mm: null as unknown as mm_struct }),
	FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName }),
);
FIXTURE_VARIANT_ADD(classic, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(classic, 'v7_3', { profile: 'v7.3' });
FIXTURE_SETUP(classic, (self, variant) => {
	bootBare(variant.profile);
	self.mm = newMm();
	heard.lines = [];
	heard.freed = 0;
});

TEST_F(classic, 'newest_is_called_first_and_unregister_releases', function* ({ mm }) {
	const a = new Listener('a', bothOps);
	const b = new Listener('b', startOps);
	EXPECT_EQ(0, yield* mmu_notifier_register(a.n, mm));
	EXPECT_EQ(0, yield* mmu_notifier_register(b.n, mm));
	EXPECT_EQ(3, mm.mm_count);
	yield* invalidate(rangeOf(mm, 0n, 0x1000n));
	yield* mmu_notifier_unregister(a.n, mm);
	yield* mmu_notifier_unregister(b.n, mm);
	expectList(['start b', 'start a', 'end a', 'release a', 'release b'], heard.lines);
	EXPECT_EQ(1, mm.mm_count);
	mmu_notifier_subscriptions_destroy(mm);
	EXPECT_EQ(null, mm.notifier_subscriptions);
	mmu_notifier_subscriptions_init(mm);
});

TEST_F(classic, 'exit_releases_once', function* ({ mm }) {
	const a = new Listener('a', startOps);
	yield* mmu_notifier_register(a.n, mm);
	yield* mmu_notifier_release(mm);
	yield* mmu_notifier_unregister(a.n, mm);
	expectList(['release a'], heard.lines);
	EXPECT_EQ(1, mm.mm_count);
});

TEST_F(classic, 'after_a_refusal_all_are_called_and_the_ends_of_the_others', function* ({ mm }) {
	const [a, b, c] = [
		new Listener('a', bothOps),
		new Listener('b', startOps),
		new Listener('c', bothOps),
	];
	for (const l of [a, b, c]) yield* mmu_notifier_register(l.n, mm);
	b.answer = -EAGAIN;
	const range = rangeOf(mm, 0n, 0x1000n);
	EXPECT_EQ(-EAGAIN, yield* mmu_notifier_invalidate_range_start_nonblock(range));
	expectList(['start c', 'start b', 'start a', 'end c', 'end a'], heard.lines);
	b.answer = 0;
	EXPECT_EQ(0, yield* mmu_notifier_invalidate_range_start_nonblock(range));
	yield* mmu_notifier_invalidate_range_end(range);
	for (const l of [a, b, c]) yield* mmu_notifier_unregister(l.n, mm);
});

TEST_F(classic, 'a_refusal_of_classic_leaves_the_interval_side_started', function* ({ mm }) {
	const m = new Mirror();
	yield* insert(m, mm, 0n, 0x1000n);
	const a = new Listener('a', startOps);
	yield* mmu_notifier_register(a.n, mm);
	a.answer = -EAGAIN;
	const range = rangeOf(mm, 0n, 0x1000n);
	EXPECT_EQ(-EAGAIN, yield* mmu_notifier_invalidate_range_start_nonblock(range));
	// The kernel does the same: the count stays up, readers wait for ever.
	EXPECT_EQ(1n, subscriptions(mm).active_invalidate_ranges);
	EXPECT_EQ(3n, subscriptions(mm).invalidate_seq);
	a.answer = 0;
	yield* mmu_notifier_invalidate_range_end(range);
	yield* mmu_interval_notifier_remove(m.sub);
	yield* mmu_notifier_unregister(a.n, mm);
});

TEST_F(classic, 'a_refusal_where_none_is_allowed_warns', function* ({ mm }) {
	const a = new Listener('a', bothOps);
	yield* mmu_notifier_register(a.n, mm);
	a.answer = -EINVAL;
	expectReport('a notifier may only refuse to block');
	expectReport('a notifier that may refuse has an end');
	yield* invalidate(rangeOf(mm, 0n, 0x1000n));
	EXPECT_TRUE(world().log.some((line) => line.includes('callback failed with -22')));
	yield* mmu_notifier_unregister(a.n, mm);
});

TEST_F(classic, 'secondary_tlb_hook_excludes_start_and_end', function* ({ mm }) {
	let flushed = '';
	const hook = (_n: mmu_notifier, _mm: mm_struct, start: bigint, end: bigint): void => {
		flushed = `${start}-${end}`;
	};
	const bad = new mmu_notifier({
		ops: { ...startOps, arch_invalidate_secondary_tlbs: hook },
	});
	expectReport('both arch_invalidate_secondary_tlbs and start or end');
	EXPECT_EQ(-EINVAL, yield* mmu_notifier_register(bad, mm));
	const good = new mmu_notifier({ ops: { arch_invalidate_secondary_tlbs: hook } });
	EXPECT_EQ(0, yield* mmu_notifier_register(good, mm));
	mmu_notifier_arch_invalidate_secondary_tlbs(mm, 1n, 2n);
	EXPECT_EQ('1-2', flushed);
	yield* mmu_notifier_unregister(good, mm);
});

TEST_F(classic, 'young_is_true_if_one_says_so', function* ({ mm }) {
	EXPECT_FALSE(mmu_notifier_clear_flush_young(mm, 0n, 1n));
	EXPECT_FALSE(mmu_notifier_clear_young(mm, 0n, 1n));
	EXPECT_FALSE(mmu_notifier_test_young(mm, 0n));
	mmu_notifier_arch_invalidate_secondary_tlbs(mm, 1n, 2n);
	const [a, b] = [new Listener('a', startOps), new Listener('b', startOps)];
	for (const l of [a, b]) yield* mmu_notifier_register(l.n, mm);
	EXPECT_FALSE(mmu_notifier_test_young(mm, 0n));
	a.young = true;
	EXPECT_TRUE(mmu_notifier_clear_flush_young(mm, 0n, 1n));
	EXPECT_TRUE(mmu_notifier_clear_young(mm, 0n, 1n));
	EXPECT_TRUE(mmu_notifier_test_young(mm, 0n));
	for (const l of [a, b]) yield* mmu_notifier_unregister(l.n, mm);
});

const getOps: mmu_notifier_ops = {
	alloc_notifier: () => new mmu_notifier(),
	free_notifier: () => {
		heard.freed++;
	},
};

TEST_F(classic, 'get_shares_one_notifier_and_the_last_put_frees_it', function* ({ mm }) {
	const first = yield* mmu_notifier_get(getOps, mm);
	const second = yield* mmu_notifier_get(getOps, mm);
	EXPECT_EQ(first, second);
	const n = first as mmu_notifier;
	EXPECT_EQ(2, n.users);
	yield* mmu_notifier_put(n);
	EXPECT_EQ(0, heard.freed);
	yield* mmu_notifier_put(n);
	EXPECT_EQ(1, heard.freed);
	EXPECT_EQ(1, mm.mm_count);
	yield* mmu_notifier_synchronize();
	expectReport('no users');
	yield* mmu_notifier_put(n);
});

TEST_F(classic, 'get_passes_every_error_on', function* ({ mm }) {
	const failing: mmu_notifier_ops = { ...getOps, alloc_notifier: () => -ENOMEM };
	EXPECT_EQ(-ENOMEM, yield* mmu_notifier_get(failing, mm));
	injectFaults().fail('mm_take_all_locks', 1);
	EXPECT_EQ(-EINTR, yield* mmu_notifier_get(getOps, mm));
	EXPECT_EQ(1, heard.freed);
	const n = (yield* mmu_notifier_get(getOps, mm)) as mmu_notifier;
	n.users = UINT_MAX;
	EXPECT_EQ(-EOVERFLOW, yield* mmu_notifier_get(getOps, mm));
	n.users = 1;
	yield* mmu_notifier_put(n);
});

TEST_F(classic, 'put_during_a_callback_frees_after_it', ({ mm }) => {
	const order: string[] = [];
	let n: mmu_notifier | null = null;
	const ops: mmu_notifier_ops = {
		alloc_notifier: () => new mmu_notifier(),
		free_notifier: () => {
			order.push('free');
		},
		*invalidate_range_start() {
			order.push('callback');
			for (let i = 0; i < 40; i++) yield schedulePoint('yield', current());
			order.push('callback ends');
			return 0;
		},
	};
	spawn('invalidator', function* () {
		n = (yield* mmu_notifier_get(ops, mm)) as mmu_notifier;
		spawn('putter', function* () {
			while (order.length === 0) yield schedulePoint('yield', current());
			yield* mmu_notifier_put(n as mmu_notifier);
			order.push('put');
		});
		yield* invalidate(rangeOf(mm, 0n, 0x1000n));
	});
	runThreads(randomStrategy(3));
	expectList(['callback', 'put', 'callback ends', 'free'], order);
	EXPECT_EQ(1, mm.mm_count);
});

TEST_F(classic, 'unregister_waits_for_a_running_callback', ({ mm }) => {
	const order: string[] = [];
	const n = new mmu_notifier({
		ops: {
			*invalidate_range_start() {
				order.push('callback');
				for (let i = 0; i < 40; i++)
					yield schedulePoint('yield', current());
				order.push('callback ends');
				return 0;
			},
		},
	});
	spawn('invalidator', function* () {
		yield* mmu_notifier_register(n, mm);
		spawn('unregister', function* () {
			while (order.length === 0) yield schedulePoint('yield', current());
			yield* mmu_notifier_unregister(n, mm);
			order.push('gone');
		});
		yield* invalidate(rangeOf(mm, 0n, 0x1000n));
	});
	runThreads(randomStrategy(11));
	expectList(['callback', 'callback ends', 'gone'], order);
});

TEST_F(classic, 'the_first_registration_waits_for_the_rmap_locks', ({ mm }) => {
	const order: string[] = [];
	const mapping = new address_space();
	const av = new anon_vma();
	mm.vmas = [
		new vm_area_struct({ vm_mm: mm }),
		new vm_area_struct({
			vm_mm: mm,
			vm_file: new file({ f_mapping: mapping }),
			anon_vma_chain: [av],
		}),
	];
	const hold = (name: string, sem: rw_semaphore) =>
		spawn(name, function* () {
			yield* down_write(sem);
			spawn('register', function* () {
				const m = new Mirror();
				yield* insert(m, mm, 0n, 0x1000n);
				order.push('registered');
				yield* mmu_interval_notifier_remove(m.sub);
			});
			for (let i = 0; i < 40; i++) yield schedulePoint('yield', current());
			order.push(name);
			yield* up_write(sem);
		});
	hold('truncate', mapping.i_mmap_rwsem);
	runThreads(randomStrategy(4));
	mm.notifier_subscriptions = null;
	hold('reclaim', av.rwsem);
	runThreads(randomStrategy(4));
	expectList(['truncate', 'registered', 'reclaim', 'registered'], order);
});

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
