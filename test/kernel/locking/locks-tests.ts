// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: spin locks, mutexes, rwsems and seqcounts keep their promises under any order of threads.
 * Method: random schedules by seed, and single steps where one order is the point.
 */
import { EINTR } from '../../../include/linux/errno.ts';
import { SIGKILL } from '../../../include/linux/sched.ts';
import { mutex, rw_semaphore, seqcount_t, spinlock_t } from '../../../include/linux/spinlock.ts';
import { type Sim, schedulePoint } from '../../../include/sim/schedule.ts';
import { lockdep_assert_held } from '../../../kernel/locking/lockdep.ts';
import {
	mutex_is_locked,
	mutex_lock,
	mutex_lock_interruptible,
	mutex_lock_killable,
	mutex_trylock,
	mutex_unlock,
} from '../../../kernel/locking/mutex.ts';
import {
	down_read,
	down_read_interruptible,
	down_read_killable,
	down_read_nested,
	down_read_trylock,
	down_write,
	down_write_killable,
	down_write_trylock,
	downgrade_write,
	rwsem_is_contended,
	rwsem_is_locked,
	up_read,
	up_write,
} from '../../../kernel/locking/rwsem.ts';
import {
	read_seqcount_begin,
	read_seqcount_retry,
	write_seqcount_begin,
	write_seqcount_end,
} from '../../../kernel/locking/seqlock.ts';
import {
	spin_is_locked,
	spin_lock,
	spin_trylock,
	spin_unlock,
} from '../../../kernel/locking/spinlock.ts';
import { runThreads, spawn, stepThread } from '../../../kernel/sched/core.ts';
import { in_atomic } from '../../../kernel/sched/might_sleep.ts';
import { send_sig } from '../../../kernel/sched/wait.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	TEST_F,
} from '../../kselftest_harness.ts';
import { bootTiny, oopsOf, race } from '../tiny_world.ts';

const SEEDS = 200;

const locks = FIXTURE('locks', () => ({}));

FIXTURE_SETUP(locks, () => bootTiny());

/** Adds to a counter in two steps, which is wrong unless somebody excludes others. */
class Counter {
	value = 0;

	*add(): Sim<void> {
		const seen = this.value;
		yield schedulePoint('read', this, 'value');
		this.value = seen + 1;
	}
}

TEST_F(locks, 'without_a_lock_an_update_gets_lost', () => {
	let lost = 0;
	for (let seed = 0; seed < 50; seed++) {
		const counter = new Counter();
		race(
			seed,
			() => counter.add(),
			() => counter.add(),
		);
		if (counter.value === 1) lost++;
	}
	EXPECT_TRUE(lost > 0);
});

TEST_F(locks, 'mutex_excludes_under_any_schedule', () => {
	for (let seed = 0; seed < SEEDS; seed++) {
		const [lock, counter] = [new mutex('test'), new Counter()];
		const body = function* (): Sim<void> {
			yield* mutex_lock(lock);
			yield* counter.add();
			yield* mutex_unlock(lock);
		};
		race(seed, body, body, body);
		EXPECT_EQ(3, counter.value);
		EXPECT_FALSE(mutex_is_locked(lock));
	}
});

TEST_F(locks, 'spin_lock_excludes_and_makes_atomic', () => {
	for (let seed = 0; seed < SEEDS; seed++) {
		const [lock, counter] = [new spinlock_t('test'), new Counter()];
		const body = function* (): Sim<void> {
			yield* spin_lock(lock);
			EXPECT_TRUE(in_atomic());
			lockdep_assert_held(lock);
			yield* counter.add();
			yield* spin_unlock(lock);
			EXPECT_FALSE(in_atomic());
		};
		race(seed, body, body);
		EXPECT_EQ(2, counter.value);
		EXPECT_FALSE(spin_is_locked(lock));
	}
});

TEST_F(locks, 'trylock_takes_only_what_is_free', function* () {
	const [spin, lock, sem] = [new spinlock_t('s'), new mutex('m'), new rw_semaphore('r')];
	EXPECT_EQ(1, mutex_trylock(lock));
	EXPECT_EQ(0, mutex_trylock(lock));
	yield* mutex_unlock(lock);
	EXPECT_TRUE(spin_trylock(spin));
	EXPECT_FALSE(spin_trylock(spin));
	yield* spin_unlock(spin);
	EXPECT_EQ(1, down_write_trylock(sem));
	EXPECT_EQ(0, down_write_trylock(sem));
	EXPECT_EQ(0, down_read_trylock(sem));
	yield* up_write(sem);
	EXPECT_EQ(1, down_read_trylock(sem));
	EXPECT_EQ(1, down_read_trylock(sem));
	EXPECT_EQ(0, down_write_trylock(sem));
	EXPECT_TRUE(rwsem_is_locked(sem));
	yield* up_read(sem);
	yield* up_read(sem);
	EXPECT_FALSE(rwsem_is_locked(sem));
});

TEST_F(locks, 'rwsem_lets_readers_in_together_and_writers_alone', () => {
	let together = 0;
	for (let seed = 0; seed < SEEDS; seed++) {
		const sem = new rw_semaphore('test');
		let [readers, writers] = [0, 0];
		const reader = function* (): Sim<void> {
			yield* down_read(sem);
			readers++;
			yield schedulePoint('read', sem, 'test');
			EXPECT_EQ(0, writers);
			if (readers > 1) together++;
			readers--;
			yield* up_read(sem);
		};
		const writer = function* (): Sim<void> {
			yield* down_write(sem);
			EXPECT_EQ(0, readers + writers);
			writers++;
			yield schedulePoint('write', sem, 'test');
			EXPECT_EQ(1, readers + writers);
			writers--;
			yield* up_write(sem);
		};
		race(seed, reader, writer, reader, writer);
	}
	EXPECT_TRUE(together > 0);
});

TEST_F(locks, 'reader_queues_behind_a_waiting_writer', () => {
	const sem = new rw_semaphore('test');
	const order: string[] = [];
	const first = spawn('first', function* () {
		yield* down_read(sem);
		yield schedulePoint('read', sem, 'test');
		yield* up_read(sem);
	});
	while (sem.readers === 0) stepThread(first);
	const writer = spawn('writer', function* () {
		yield* down_write(sem);
		order.push('writer');
		yield* up_write(sem);
	});
	while (sem.writersWaiting === 0) stepThread(writer);
	EXPECT_TRUE(rwsem_is_contended(sem));
	EXPECT_EQ(0, down_read_trylock(sem));
	spawn('second', function* () {
		yield* down_read(sem);
		order.push('second');
		yield* up_read(sem);
	});
	runThreads();
	EXPECT_EQ('writer second', order.join(' '));
});

TEST_F(locks, 'read_lock_taken_twice_hangs_behind_a_writer', (): void => {
	const sem = new rw_semaphore('test');
	const reader = spawn('reader', function* () {
		yield* down_read(sem);
		yield schedulePoint('read', sem, 'test');
		// the annotation hides from lockdep what the writer then shows
		yield* down_read_nested(sem, 1);
	});
	while (sem.readers === 0) stepThread(reader);
	const writer = spawn('writer', function* () {
		yield* down_write(sem);
	});
	while (sem.writersWaiting === 0) stepThread(writer);
	const { text } = oopsOf(() => runThreads());
	EXPECT_TRUE(/INFO: task reader:\d+ blocked/.test(text));
	expectReport(/Waits to acquire-shared test/);
});

TEST_F(locks, 'downgrade_lets_readers_in', function* () {
	const sem = new rw_semaphore('test');
	yield* down_write(sem);
	EXPECT_EQ(0, down_read_trylock(sem));
	yield* downgrade_write(sem);
	EXPECT_EQ(1, down_read_trylock(sem));
	EXPECT_EQ(0, down_write_trylock(sem));
	yield* up_read(sem);
	yield* up_read(sem);
});

TEST_F(locks, 'killed_waiter_gives_up', () => {
	const [lock, sem, free] = [new mutex('m'), new rw_semaphore('r'), new mutex('free')];
	const holder = spawn('holder', function* () {
		yield* mutex_lock(lock);
		yield* down_write(sem);
		yield schedulePoint('read', sem, 'test');
		yield* up_write(sem);
		yield* mutex_unlock(lock);
	});
	while (sem.owner === null) stepThread(holder);
	const results: number[] = [];
	const waiters = [
		() => mutex_lock_killable(lock),
		() => mutex_lock_interruptible(lock),
		() => down_read_killable(sem),
		() => down_read_interruptible(sem),
		() => down_write_killable(sem),
	].map((take) =>
		spawn('victim', function* () {
			results.push(yield* take());
			results.push(yield* mutex_lock_killable(free));
			yield* mutex_unlock(free);
		}),
	);
	for (const victim of waiters) {
		send_sig(SIGKILL, victim);
		while (results.length % 2 === 0) stepThread(victim);
		while (stepThread(victim));
	}
	EXPECT_EQ(Array(5).fill(`${-EINTR} 0`).join(' '), results.join(' '));
	EXPECT_EQ(0, sem.writersWaiting);
	runThreads();
});

TEST_F(locks, 'seqcount_reader_goes_again_when_a_writer_was_inside', () => {
	let again = 0;
	for (let seed = 0; seed < SEEDS; seed++) {
		const count = new seqcount_t();
		const pair = { a: 0, b: 0 };
		const writer = function* (): Sim<void> {
			yield* write_seqcount_begin(count);
			pair.a++;
			yield schedulePoint('write', pair, 'b');
			pair.b++;
			yield* write_seqcount_end(count);
		};
		const reader = function* (): Sim<void> {
			let [a, b] = [0, 1];
			for (;;) {
				const seq = yield* read_seqcount_begin(count);
				a = pair.a;
				yield schedulePoint('read', pair, 'b');
				b = pair.b;
				if (!(yield* read_seqcount_retry(count, seq))) break;
				again++;
			}
			EXPECT_EQ(a, b);
		};
		race(seed, reader, writer);
	}
	EXPECT_TRUE(again > 0);
});
