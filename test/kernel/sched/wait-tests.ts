// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: wait queues and completions lose no wake-up and make none up.
 * Method: sleepers and wakers in random order; killed and timed waits one by one.
 */
import {
	completion,
	init_completion,
	reinit_completion,
} from '../../../include/linux/completion.ts';
import { ERESTARTSYS } from '../../../include/linux/errno.ts';
import {
	HZ,
	jiffies_to_msecs,
	msecs_to_jiffies,
	time_after,
	time_before,
} from '../../../include/linux/jiffies.ts';
import { SIGKILL } from '../../../include/linux/sched.ts';
import { UINT_MAX } from '../../../include/linux/types.ts';
import { wait_queue_entry, wait_queue_head } from '../../../include/linux/wait.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { world } from '../../../include/sim/world.ts';
import {
	complete,
	complete_all,
	completion_done,
	try_wait_for_completion,
	wait_for_completion,
	wait_for_completion_killable,
	wait_for_completion_timeout,
} from '../../../kernel/sched/completion.ts';
import { cond_resched, run, runThreads, spawn } from '../../../kernel/sched/core.ts';
import {
	send_sig,
	wait_event,
	wait_event_interruptible,
	wait_event_killable,
	wait_event_timeout,
	wait_var_event,
	waitqueue_active,
	wake_up,
	wake_up_all,
	wake_up_nr,
	wake_up_var,
} from '../../../kernel/sched/wait.ts';
import { msleep } from '../../../kernel/time/sleep_timeout.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	TEST_F,
} from '../../kselftest_harness.ts';
import { bootTiny, race } from '../tiny_world.ts';

const waiting = FIXTURE('waiting', () => ({}));

FIXTURE_SETUP(waiting, () => bootTiny());

TEST_F(waiting, 'sleepers_see_what_the_waker_did_under_any_schedule', () => {
	for (let seed = 0; seed < 200; seed++) {
		const wq = new wait_queue_head('test');
		let [stage, sum] = [0, 0];
		const sleeper = (want: number) =>
			function* (): Sim<void> {
				yield* wait_event(wq, () => stage >= want);
				sum += want;
			};
		race(seed, sleeper(1), sleeper(2), sleeper(1), function* () {
			for (stage = 1; stage < 2; stage++) {
				wake_up_all(wq);
				yield* cond_resched();
			}
			wake_up(wq);
		});
		EXPECT_EQ(4, sum);
		EXPECT_FALSE(waitqueue_active(wq));
	}
});

TEST_F(waiting, 'a_signal_ends_killable_waits', () => {
	const wq = new wait_queue_head('test');
	const results: number[] = [];
	for (const wait of [wait_event_killable, wait_event_interruptible]) {
		const victim = spawn('victim', function* () {
			results.push(yield* wait(wq, () => true));
			results.push(yield* wait(wq, () => false));
		});
		spawn('killer', function* () {
			yield* msleep(1);
			send_sig(SIGKILL, victim);
		});
		runThreads();
	}
	EXPECT_EQ(`0 ${-ERESTARTSYS} 0 ${-ERESTARTSYS}`, results.join(' '));
});

TEST_F(waiting, 'timeout_returns_what_is_left', () => {
	const wq = new wait_queue_head('test');
	EXPECT_EQ(0n, run(wait_event_timeout(wq, () => false, 10n)));
	EXPECT_EQ(10n, run(wait_event_timeout(wq, () => true, 10n)));
	let flag = false;
	spawn('waker', function* () {
		yield* msleep(4);
		flag = true;
		wake_up(wq);
	});
	EXPECT_EQ(6n, run(wait_event_timeout(wq, () => flag, 10n)));
});

TEST_F(waiting, 'exclusive_sleepers_are_woken_one_at_a_time', () => {
	const wq = new wait_queue_head('test');
	const exclusive = [false, true, true, true].map(
		(one) => new wait_queue_entry(world().current, null, one),
	);
	wq.entries.push(...exclusive);
	const woken = (): string => exclusive.map((e) => Number(e.woken)).join('');
	wake_up(wq);
	EXPECT_EQ('1100', woken());
	wake_up_nr(wq, 1);
	EXPECT_EQ('1110', woken());
	wake_up_all(wq);
	EXPECT_EQ('1111', woken());
});

TEST_F(waiting, 'variables_have_queues_of_their_own', () => {
	const [one, other] = [{ n: 0 }, { n: 0 }];
	wake_up_var(one);
	run(wait_var_event(one, () => one.n === 0));
	for (let seed = 0; seed < 50; seed++) {
		one.n = other.n = 1;
		const drop = (v: { n: number }) =>
			function* (): Sim<void> {
				yield* cond_resched();
				v.n--;
				wake_up_var(v);
			};
		race(seed, () => wait_var_event(one, () => one.n === 0), drop(other), drop(one));
		EXPECT_EQ(0, one.n);
	}
});

TEST_F(waiting, 'each_complete_lets_one_go', () => {
	for (let seed = 0; seed < 100; seed++) {
		const x = new completion('test');
		let gone = 0;
		const waiter = function* (): Sim<void> {
			yield* wait_for_completion(x);
			gone++;
		};
		race(seed, waiter, waiter, function* () {
			complete(x);
			yield* cond_resched();
			complete(x);
		});
		EXPECT_EQ(2, gone);
		EXPECT_FALSE(completion_done(x));
	}
});

TEST_F(waiting, 'complete_all_stays_done_until_reinit', function* () {
	const x = new completion();
	init_completion(x);
	EXPECT_FALSE(try_wait_for_completion(x));
	complete(x);
	EXPECT_TRUE(try_wait_for_completion(x));
	EXPECT_FALSE(try_wait_for_completion(x));
	complete_all(x);
	complete(x);
	EXPECT_EQ(UINT_MAX, x.done);
	yield* wait_for_completion(x);
	EXPECT_EQ(0, yield* wait_for_completion_killable(x));
	EXPECT_TRUE(completion_done(x));
	reinit_completion(x);
	EXPECT_FALSE(completion_done(x));
	EXPECT_EQ(0n, yield* wait_for_completion_timeout(x, 5n));
	complete(x);
	EXPECT_EQ(5n, yield* wait_for_completion_timeout(x, 5n));
});

TEST_F(waiting, 'killed_waiter_leaves_the_completion_alone', () => {
	const x = new completion();
	let result = 0;
	const victim = spawn('victim', function* () {
		result = yield* wait_for_completion_killable(x);
	});
	send_sig(SIGKILL, victim);
	runThreads();
	EXPECT_EQ(-ERESTARTSYS, result);
	EXPECT_EQ(0, x.done);
});

TEST_F(waiting, 'jiffies_are_milliseconds', () => {
	EXPECT_EQ(1000n, HZ);
	EXPECT_EQ(50, jiffies_to_msecs(msecs_to_jiffies(50)));
	EXPECT_TRUE(time_after(2n, 1n));
	EXPECT_TRUE(time_before(1n, 2n));
});
