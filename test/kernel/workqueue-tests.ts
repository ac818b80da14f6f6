// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: work runs once for each time it was queued, never twice at a time, and whoever waits for it
 * waits long enough.
 * Method: random order of queuers and kworkers, and the rules of flush and cancel one by one.
 */
import { mutex } from '../../include/linux/spinlock.ts';
import { work_struct, workqueue_struct } from '../../include/linux/workqueue.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import { type Sim, schedulePoint } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';
import { checkpoint } from '../../init/main.ts';
import { mutex_lock, mutex_unlock } from '../../kernel/locking/mutex.ts';
import { run, runThreads, scheduler } from '../../kernel/sched/core.ts';
import { msleep } from '../../kernel/time/sleep_timeout.ts';
import {
	alloc_ordered_workqueue,
	alloc_workqueue,
	cancel_delayed_work_sync,
	cancel_work,
	cancel_work_sync,
	destroy_workqueue,
	flush_work,
	flush_workqueue,
	queue_delayed_work,
	queue_work,
	schedule_work,
	system_wq,
} from '../../kernel/workqueue.ts';
import {
	ASSERT_NE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NE,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	TEST_F,
} from '../kselftest_harness.ts';
import { bootTiny, race } from './tiny_world.ts';

const workqueue = FIXTURE('workqueue', () => ({ log: [] as string[] }));

FIXTURE_SETUP(workqueue, () => bootTiny());

/** Work that writes its name when it begins and ends, and takes 1 ms. */
function logging(log: string[], name: string): work_struct {
	return new work_struct(function* work() {
		log.push(`${name}(`);
		yield* msleep(1);
		log.push(`)${name}`);
	});
}

TEST_F(workqueue, 'work_runs_in_a_kworker_that_ends', function* ({ log }) {
	const work = new work_struct(function* () {
		log.push(world().current.comm);
		yield schedulePoint('yield', world());
	});
	EXPECT_TRUE(schedule_work(work));
	EXPECT_FALSE(schedule_work(work));
	EXPECT_TRUE(yield* flush_work(work));
	EXPECT_FALSE(yield* flush_work(work));
	EXPECT_STREQ('kworker/0:0-events', log.join());
	yield* flush_workqueue(system_wq());
});

TEST_F(workqueue, 'world_at_rest_has_no_threads', () => {
	schedule_work(logging([], 'x'));
	EXPECT_EQ(1, scheduler().threads.length);
	runThreads();
	EXPECT_EQ(0, scheduler().threads.length);
	EXPECT_NE(null, checkpoint());
});

TEST_F(workqueue, 'ordered_queue_runs_one_after_the_other', function* ({ log }) {
	const wq = alloc_ordered_workqueue('ordered', 0);
	ASSERT_NE(null, wq);
	for (const name of ['a', 'b', 'c']) queue_work(wq, logging(log, name));
	yield* destroy_workqueue(wq);
	EXPECT_STREQ('a( )a b( )b c( )c', log.join(' '));
	expectReport('workqueue: cannot queue');
	EXPECT_FALSE(queue_work(wq, logging(log, 'late')));
});

TEST_F(workqueue, 'unordered_queue_runs_side_by_side', function* ({ log }) {
	const wq = alloc_workqueue('wide', 0, 0);
	ASSERT_NE(null, wq);
	for (const name of ['a', 'b']) queue_work(wq, logging(log, name));
	yield* flush_workqueue(wq);
	EXPECT_STREQ('a( b( )a )b', log.join(' '));
	yield* destroy_workqueue(wq);
});

TEST_F(workqueue, 'requeued_work_never_runs_twice_at_a_time', () => {
	for (let seed = 0; seed < 100; seed++) {
		const wq = new workqueue_struct('test', 4);
		let [inside, ran] = [0, 0];
		const work: work_struct = new work_struct(function* () {
			EXPECT_EQ(0, inside++);
			yield schedulePoint('write', work);
			inside--;
			ran++;
		});
		let queued = 0;
		const queuer = function* (): Sim<void> {
			for (let i = 0; i < 2; i++) {
				yield schedulePoint('atomic', work);
				if (queue_work(wq, work)) queued++;
			}
			yield* flush_work(work);
			EXPECT_TRUE(ran > 0);
		};
		race(seed, queuer, queuer);
		EXPECT_EQ(queued, ran);
	}
});

TEST_F(workqueue, 'nothing_of_it_runs_after_cancel_work_sync', () => {
	for (let seed = 0; seed < 200; seed++) {
		const wq = new workqueue_struct('test', 1);
		const device = { gone: false };
		const work = new work_struct(function* () {
			for (let i = 0; i < 3; i++) {
				yield schedulePoint('read', device);
				EXPECT_FALSE(device.gone);
			}
		});
		race(seed, function* () {
			queue_work(wq, work);
			yield schedulePoint('yield', device);
			yield* cancel_work_sync(work);
			device.gone = true;
		});
		EXPECT_NULL(work.pending);
	}
});

TEST_F(workqueue, 'cancelled_work_leaves_its_queue', ({ log }) => {
	const [a, b] = [logging(log, 'a'), logging(log, 'b')];
	queue_work(system_wq(), a);
	queue_work(system_wq(), b);
	EXPECT_TRUE(cancel_work(a));
	EXPECT_FALSE(cancel_work(a));
	runThreads();
	EXPECT_STREQ('b( )b', log.join(' '));
});

TEST_F(workqueue, 'delayed_work_comes_when_it_is_due', ({ log }) => {
	const [a, b] = [logging(log, 'a'), logging(log, 'b')];
	EXPECT_TRUE(queue_delayed_work(system_wq(), a, 100n));
	EXPECT_FALSE(queue_delayed_work(system_wq(), a, 1n));
	EXPECT_FALSE(queue_work(system_wq(), a));
	EXPECT_TRUE(queue_delayed_work(system_wq(), b, 50n));
	runThreads();
	EXPECT_STREQ('b( )b a( )a', log.join(' '));
	EXPECT_EQ(101n, world().clock / 1_000_000n);
	queue_delayed_work(system_wq(), a, 100n);
	EXPECT_TRUE(run(cancel_delayed_work_sync(a)));
	runThreads();
	EXPECT_EQ(4, log.length);
	EXPECT_TRUE(queue_delayed_work(system_wq(), a, 0n));
	runThreads();
	EXPECT_EQ(6, log.length);
});

TEST_F(workqueue, 'flush_under_a_lock_that_the_work_takes_is_a_circle', function* () {
	const lock = new mutex('&dev->lock');
	const work = new work_struct(function* dev_work() {
		yield* mutex_lock(lock);
		yield* mutex_unlock(lock);
	});
	schedule_work(work);
	yield* flush_work(work);
	yield* mutex_lock(lock);
	yield* cancel_work_sync(work);
	yield* mutex_unlock(lock);
	expectReport('(work_completion)(dev_work)');
});

TEST_F(workqueue, 'work_that_flushes_itself_is_told_so', () => {
	const work: work_struct = new work_struct(function* () {
		EXPECT_FALSE(yield* flush_work(work));
	});
	schedule_work(work);
	runThreads();
	expectReport('flush_work() by the work itself');
});

TEST_F(workqueue, 'flush_does_not_wait_for_what_is_queued_later', function* ({ log }) {
	const wq = alloc_ordered_workqueue('q', 0);
	ASSERT_NE(null, wq);
	const again: work_struct = new work_struct(function* () {
		log.push('ran');
		yield* msleep(1);
		if (log.length < 3) queue_work(wq, again);
	});
	queue_work(wq, again);
	yield* flush_workqueue(wq);
	EXPECT_EQ(1, again.runs);
	yield* destroy_workqueue(wq);
	EXPECT_EQ(3, log.length);
});

TEST_F(workqueue, 'allocation_can_fail', () => {
	injectFaults().fail('alloc_workqueue');
	EXPECT_NULL(alloc_workqueue('none', 0, 0));
});
