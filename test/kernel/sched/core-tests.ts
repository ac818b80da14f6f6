// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: run() and runThreads() bring threads to their ends, or say why they can't.
 * Method: threads of a few points each; every way to wait, to hang and to fail.
 */
import { IS_ERR } from '../../../include/linux/err.ts';
import { EBUSY, ENOMEM } from '../../../include/linux/errno.ts';
import { jiffies } from '../../../include/linux/jiffies.ts';
import { TASK_DEAD, task_struct } from '../../../include/linux/sched.ts';
import { mutex, spinlock_t } from '../../../include/linux/spinlock.ts';
import { wait_queue_head } from '../../../include/linux/wait.ts';
import { injectFaults } from '../../../include/sim/fault_injection.ts';
import {
	type Footprint,
	preemptible,
	type Sim,
	schedulePoint,
} from '../../../include/sim/schedule.ts';
import { world } from '../../../include/sim/world.ts';
import { kthread_run, kthread_should_stop, kthread_stop } from '../../../kernel/kthread.ts';
import { mutex_lock, mutex_unlock } from '../../../kernel/locking/mutex.ts';
import { spin_lock, spin_unlock } from '../../../kernel/locking/spinlock.ts';
import { rcu_read_lock, rcu_read_unlock } from '../../../kernel/rcu/tree.ts';
import {
	cond_resched,
	cpu_relax,
	MAX_POINTS,
	MAX_TIMED_WAITS,
	run,
	runThreads,
	scheduler,
	spawn,
	stepThread,
} from '../../../kernel/sched/core.ts';
import {
	might_sleep,
	non_block_end,
	non_block_start,
	preempt_disable,
	preempt_enable,
} from '../../../kernel/sched/might_sleep.ts';
import {
	formatSchedule,
	parseSchedule,
	RecordingStrategy,
	randomStrategy,
	replayStrategy,
} from '../../../kernel/sched/strategy.ts';
import { wait_event, wake_up } from '../../../kernel/sched/wait.ts';
import { msleep, schedule_timeout_killable } from '../../../kernel/time/sleep_timeout.ts';
import {
	ASSERT_FALSE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	TEST_F,
} from '../../kselftest_harness.ts';
import { bootTiny, messageOf, oopsOf, race } from '../tiny_world.ts';

const sched = FIXTURE('sched', () => ({}));

FIXTURE_SETUP(sched, () => bootTiny(true));

/** Hands out some points. */
function* points(object: object, count: number): Sim<void> {
	for (let i = 0; i < count; i++) yield schedulePoint('read', object);
}

TEST_F(sched, 'run_returns_what_the_body_returns', () => {
	EXPECT_EQ(
		-EBUSY,
		run(function* () {
			yield* cond_resched();
			return -EBUSY;
		}),
	);
	EXPECT_EQ(
		'app',
		run(
			function* () {
				return world().current.comm;
			},
			{ comm: 'app' },
		),
	);
	EXPECT_EQ('init', world().current.comm);
});

TEST_F(sched, 'run_as_a_task_is_that_task', () => {
	const task = new task_struct({ comm: 'app', pid: 77 });
	EXPECT_EQ(
		77,
		run(
			function* () {
				return world().current.pid;
			},
			{ task },
		),
	);
	const twice = (): number =>
		run(
			function* () {
				return run(
					function* () {
						return 1;
					},
					{ task },
				);
			},
			{ task },
		);
	EXPECT_EQ(1, twice());
	EXPECT_TRUE(
		messageOf(() =>
			run(
				function* () {
					run(
						function* () {
							run(
								function* () {
									return 1;
								},
								{ task },
							);
						},
						{ comm: 'other' },
					);
				},
				{ task },
			),
		).includes('task app/77 is running already'),
	);
});

TEST_F(sched, 'run_lets_others_step_only_while_it_waits', () => {
	const [wq, steps] = [new wait_queue_head('test'), [] as string[]];
	let done = false;
	spawn('worker', function* () {
		steps.push('worker');
		yield* cond_resched();
		done = true;
		wake_up(wq);
		steps.push('woke');
	});
	run(function* () {
		steps.push('first');
		yield* points(wq, 3);
		steps.push('waits');
		yield* wait_event(wq, () => done);
		steps.push('after');
	});
	EXPECT_EQ('first waits worker woke after', steps.join(' '));
});

TEST_F(sched, 'spinning_thread_lets_others_make_its_condition_true', () => {
	let flag = false;
	spawn('setter', function* () {
		yield* points(world(), 3);
		flag = true;
	});
	run(function* () {
		while (!flag) yield* cpu_relax();
	});
	EXPECT_TRUE(flag);
	runThreads();
});

TEST_F(sched, 'points_are_handed_out_only_where_somebody_looks', () => {
	EXPECT_FALSE(
		run(function* () {
			return preemptible();
		}),
	);
	let seen = false;
	race(1, function* () {
		seen = preemptible();
	});
	EXPECT_TRUE(seen);
	const lock = new mutex('test');
	const steps = [...mutex_lock(lock), ...mutex_unlock(lock)];
	EXPECT_EQ(0, steps.length);
});

TEST_F(sched, 'deadlock_names_who_waits_for_whom', () => {
	const [a, b] = [new mutex('&a->lock'), new mutex('&b->lock')];
	const both = (first: mutex, second: mutex) =>
		function* (): Sim<void> {
			yield* mutex_lock(first);
			yield* cond_resched();
			yield* mutex_lock(second);
			yield* mutex_unlock(second);
			yield* mutex_unlock(first);
		};
	let text = '';
	for (let seed = 1; text === ''; seed++) {
		try {
			race(seed, both(a, b), both(b, a));
		} catch (error) {
			text = String(error);
		}
	}
	EXPECT_TRUE(/INFO: task a:\d+ blocked for more than 120 seconds/.test(text));
	EXPECT_TRUE(/Waits to acquire &b->lock, held by b\/\d+\./.test(text));
	EXPECT_TRUE(/Waits to acquire &a->lock, held by a\/\d+\./.test(text));
	EXPECT_TRUE(text.includes('Showing all locks held in the system:'));
	expectReport('(deadlock)');
	expectReport('possible circular locking dependency');
});

TEST_F(sched, 'lost_wake_up_is_told_from_a_condition_that_never_held', () => {
	const wq = new wait_queue_head('&test->wq');
	let flag = false;
	spawn('forgets', function* () {
		flag = true;
	});
	const { text } = oopsOf(() => run(wait_event(wq, () => flag)));
	EXPECT_TRUE(text.includes('Waits to wait &test->wq'));
	EXPECT_TRUE(text.includes('Its condition is true, but nobody woke it'));
	expectReport('a wake_up() is missing');
});

TEST_F(sched, 'thread_blocked_at_shutdown_is_reported', () => {
	spawn('sleeper', () => wait_event(new wait_queue_head('never'), () => false));
	expectReport(/task sleeper:\d+ blocked/);
});

TEST_F(sched, 'timed_waits_move_the_clock_in_order', () => {
	const order: string[] = [];
	const sleeper = (name: string, ms: number) =>
		function* (): Sim<void> {
			yield* msleep(ms);
			order.push(`${name}@${jiffies()}`);
		};
	race(7, sleeper('long', 30), sleeper('short', 10), sleeper('middle', 20));
	EXPECT_EQ('short@10 middle@20 long@30', order.join(' '));
	EXPECT_EQ(
		35n,
		run(function* () {
			yield* msleep(5);
			return jiffies();
		}),
	);
	EXPECT_EQ(0n, run(schedule_timeout_killable(3n)));
});

TEST_F(sched, 'cond_resched_takes_a_microsecond', function* () {
	const before = world().clock;
	for (let i = 0; i < 1000; i++) yield* cond_resched();
	EXPECT_EQ(1n, (world().clock - before) / 1_000_000n);
});

TEST_F(sched, 'livelock_ends_at_its_bound', () => {
	const { text } = oopsOf(() => run(points(new mutex('spun on'), MAX_POINTS + 1)));
	EXPECT_TRUE(text.includes('read of spun on'));
	expectReport(/soft lockup - 10000000 schedule points/);
	spawn('spinner', () => points(world(), MAX_POINTS + 1));
	EXPECT_TRUE(oopsOf(() => runThreads()).title.includes('soft lockup'));
});

TEST_F(sched, 'exception_in_a_thread_comes_out_of_runThreads', () => {
	spawn('bad', function* () {
		yield* cond_resched();
		throw new RangeError('mine');
	});
	spawn('waits', () => wait_event(new wait_queue_head('x'), () => false));
	EXPECT_STREQ(
		'RangeError: mine',
		messageOf(() => runThreads()),
	);
	EXPECT_EQ('init', world().current.comm);
});

TEST_F(sched, 'recorded_schedule_replays_to_the_same_order', () => {
	const trial = (strategy: RecordingStrategy): string => {
		const [lock, order] = [new mutex('m'), [] as string[]];
		const first = scheduler().nextPid;
		for (const name of ['a', 'b', 'c'])
			spawn(name, function* () {
				yield* points(order, 3);
				yield* mutex_lock(lock);
				order.push(name);
				yield* points(order, 2);
				yield* mutex_unlock(lock);
			});
		runThreads(strategy);
		const pids = strategy.pids.map((pid) => pid - first);
		return `${order.join('')} ${formatSchedule(pids)}`;
	};
	const orders = new Set<string>();
	for (let seed = 0; seed < 20; seed++) {
		const first = scheduler().nextPid;
		const recorder = new RecordingStrategy(randomStrategy(seed));
		const seen = trial(recorder);
		scheduler().nextPid = first;
		EXPECT_STREQ(
			seen,
			trial(new RecordingStrategy(replayStrategy(recorder.schedule()))),
		);
		orders.add(seen.slice(0, 3));
	}
	EXPECT_TRUE(orders.size > 2);
});

TEST_F(sched, 'schedules_are_read_as_they_are_written', () => {
	EXPECT_STREQ('2*3,3,2', formatSchedule([2, 2, 2, 3, 2]));
	EXPECT_EQ('2 2 2 3 2', parseSchedule('2*3,3, 2').join(' '));
	EXPECT_EQ(0, parseSchedule('').length);
	EXPECT_TRUE(messageOf(() => parseSchedule('2,x')).includes('"x" is not a pid'));
});

TEST_F(sched, 'replay_of_another_program_says_so', () => {
	spawn('a', () => points(world(), 3));
	EXPECT_TRUE(
		messageOf(() => runThreads(replayStrategy('99'))).includes(
			'step 1 wants thread 99',
		),
	);
	EXPECT_TRUE(messageOf(() => runThreads(replayStrategy(''))).includes('ends after 0 steps'));
	runThreads();
});

TEST_F(sched, 'single_steps_stop_at_each_point', () => {
	const lock = new mutex('test');
	const holder = spawn('holder', function* () {
		yield* mutex_lock(lock);
		yield* mutex_unlock(lock);
	});
	const waiter = spawn('waiter', () => mutex_lock(lock));
	EXPECT_TRUE(stepThread(holder));
	EXPECT_EQ('acquire', holder.point?.access);
	EXPECT_EQ(lock, holder.point?.object);
	EXPECT_TRUE(stepThread(holder));
	EXPECT_EQ('release', holder.point?.access);
	EXPECT_TRUE(stepThread(waiter));
	EXPECT_TRUE(messageOf(() => stepThread(waiter)).includes("waits and can't go on"));
	EXPECT_FALSE(stepThread(holder));
	EXPECT_TRUE(messageOf(() => stepThread(holder)).includes('has ended'));
	EXPECT_FALSE(stepThread(waiter));
	expectReport('waiter/3 still has locks held!');
});

TEST_F(sched, 'runThreads_is_not_for_threads', () => {
	EXPECT_TRUE(
		messageOf(() =>
			run(function* () {
				runThreads();
			}),
		).startsWith('HarnessError: runThreads()'),
	);
});

TEST_F(sched, 'kthread_ends_when_it_is_asked_to', function* () {
	const thread = kthread_run(
		function* (data: number) {
			while (!kthread_should_stop()) yield* msleep(1);
			return data;
		},
		42,
		'poller',
	);
	ASSERT_FALSE(IS_ERR(thread));
	if (IS_ERR(thread)) return;
	EXPECT_EQ(null, thread.mm);
	yield* msleep(5);
	EXPECT_EQ(42, yield* kthread_stop(thread));
	EXPECT_EQ(TASK_DEAD, thread.__state);
	injectFaults().fail('kthread_run');
	EXPECT_EQ(
		-ENOMEM,
		kthread_run(
			function* () {
				return 0;
			},
			null,
			'none',
		),
	);
});

TEST_F(sched, 'polling_for_ever_ends_at_its_bound', () => {
	spawn('poller', function* () {
		for (;;) yield* msleep(1);
	});
	EXPECT_TRUE(oopsOf(() => runThreads()).text.includes('poller/2: wait'));
	expectReport(`no thread ended in ${MAX_TIMED_WAITS} timed waits`);
});

TEST_F(sched, 'threads_are_spread_over_the_cpus', () => {
	const none = function* (): Sim<void> {};
	EXPECT_EQ('0 1 0', ['a', 'b', 'c'].map((n) => spawn(n, none).cpu).join(' '));
	EXPECT_EQ(7, spawn('d', none, { cpu: 7 }).cpu);
});

TEST_F(sched, 'sleeping_in_atomic_context_is_reported_once_a_place', function* () {
	const [spin, lock] = [new spinlock_t('&dev->lock'), new mutex('m')];
	for (let i = 0; i < 2; i++) {
		yield* spin_lock(spin);
		yield* mutex_lock(lock);
		yield* mutex_unlock(lock);
		yield* spin_unlock(spin);
	}
	expectReport(/BUG: sleeping function called from invalid context at .*core-tests\.ts/);
	EXPECT_EQ(1, world().reports.length);
	const { text } = world().reports[0]!;
	EXPECT_TRUE(
		text.includes(
			'in_atomic(): 1, irqs_disabled(): 0, non_block: 0, pid: 1, name: init',
		),
	);
	EXPECT_TRUE(text.includes('#0: (&dev->lock)'));
});

TEST_F(sched, 'every_kind_of_section_forbids_sleep', () => {
	const sections: [() => void, () => void, string][] = [
		[preempt_disable, preempt_enable, 'preempt_count: 1'],
		[rcu_read_lock, rcu_read_unlock, 'RCU nest depth: 1'],
		[non_block_start, non_block_end, 'non_block: 1'],
	];
	for (const [enter, leave, says] of sections) {
		might_sleep();
		enter();
		might_sleep();
		leave();
		const last = world().reports.pop();
		EXPECT_TRUE(last?.text.includes(says));
		world().once.clear();
	}
	EXPECT_EQ(0, world().reports.length);
});

TEST_F(sched, 'plain_code_leaves_its_footprint', () => {
	const seen: string[] = [];
	const footprint: Footprint = {
		touch: (access, object) =>
			seen.push(`${access} ${(object as { name: string }).name}`),
	};
	world().footprint = footprint;
	wake_up(new wait_queue_head('wq'));
	world().footprint = null;
	wake_up(new wait_queue_head('other'));
	EXPECT_EQ('wake wq', seen.join());
});
