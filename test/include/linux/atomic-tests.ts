// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: marked accesses and atomics do what their names say, each as one schedule point that names
 * object and field.
 * Method: each by itself, and increments that race.
 */
import {
	atomic_cmpxchg,
	atomic_dec,
	atomic_dec_and_test,
	atomic_inc,
	atomic_inc_not_zero,
	atomic_read,
	atomic_set,
	atomic_t,
	refcount_dec_and_test,
	refcount_inc,
	refcount_inc_not_zero,
	refcount_read,
	refcount_set,
	refcount_t,
} from '../../../include/linux/atomic.ts';
import {
	cmpxchg,
	READ_ONCE,
	smp_load_acquire,
	smp_store_release,
	WRITE_ONCE,
	xchg,
} from '../../../include/linux/compiler.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { spawn, stepThread } from '../../../kernel/sched/core.ts';
import { bootTiny, race } from '../../kernel/tiny_world.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	TEST_F,
} from '../../kselftest_harness.ts';

const atomics = FIXTURE('atomics', () => ({ v: new atomic_t(1), r: new refcount_t(1) }));

FIXTURE_SETUP(atomics, () => bootTiny());

/** The points of a body, stepped through by itself. */
function pointsOf(body: () => Sim<unknown>): string {
	const seen: string[] = [];
	const task = spawn('test', body);
	while (stepThread(task)) seen.push(`${task.point?.access}:${task.point?.field}`);
	return seen.join(' ');
}

TEST_F(atomics, 'each_access_is_one_point', ({ v, r }) => {
	const object = { x: 1 };
	const points = pointsOf(function* () {
		EXPECT_EQ(1, yield* READ_ONCE(object, 'x'));
		yield* WRITE_ONCE(object, 'x', 2);
		EXPECT_EQ(2, yield* smp_load_acquire(object, 'x'));
		yield* smp_store_release(object, 'x', 3);
		EXPECT_EQ(3, yield* xchg(object, 'x', 4));
		EXPECT_EQ(4, yield* cmpxchg(object, 'x', 9, 5));
		EXPECT_EQ(4, yield* cmpxchg(object, 'x', 4, 5));
	});
	EXPECT_STREQ('read:x write:x read:x write:x atomic:x atomic:x atomic:x', points);
	EXPECT_EQ(5, object.x);
	const counters = pointsOf(function* () {
		EXPECT_EQ(1, yield* atomic_read(v));
		yield* atomic_set(v, 2);
		yield* atomic_dec(v);
		EXPECT_TRUE(yield* atomic_dec_and_test(v));
		EXPECT_FALSE(yield* atomic_inc_not_zero(v));
		EXPECT_EQ(0, yield* atomic_cmpxchg(v, 0, 7));
		EXPECT_EQ(7, yield* atomic_cmpxchg(v, 0, 8));
		EXPECT_TRUE(yield* atomic_inc_not_zero(v));
		yield* refcount_set(r, 2);
		EXPECT_TRUE(yield* refcount_inc_not_zero(r));
		EXPECT_EQ(3, yield* refcount_read(r));
	});
	EXPECT_EQ(11, counters.split(' ').length);
	EXPECT_EQ(8, v.counter);
});

TEST_F(atomics, 'increments_are_never_lost', ({ v }) => {
	for (let seed = 0; seed < 100; seed++) {
		v.counter = 0;
		race(
			seed,
			() => atomic_inc(v),
			() => atomic_inc(v),
			() => atomic_inc(v),
		);
		EXPECT_EQ(3, v.counter);
	}
});

TEST_F(atomics, 'refcount_misuse_is_reported', function* ({ r }) {
	yield* refcount_inc(r);
	EXPECT_FALSE(yield* refcount_dec_and_test(r));
	EXPECT_TRUE(yield* refcount_dec_and_test(r));
	EXPECT_FALSE(yield* refcount_inc_not_zero(r));
	EXPECT_FALSE(yield* refcount_dec_and_test(r));
	expectReport('refcount_t: underflow; use-after-free.');
	yield* refcount_inc(r);
	expectReport('refcount_t: addition on 0; use-after-free.');
});
