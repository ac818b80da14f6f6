// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a grace period waits for the readers that were inside when it began, and for no others.
 * Method: readers that look at an object which the updater frees after synchronize_rcu().
 */
import { type Sim, schedulePoint } from '../../../include/sim/schedule.ts';
import { world } from '../../../include/sim/world.ts';
import {
	call_rcu,
	rcu_barrier,
	rcu_read_lock,
	rcu_read_lock_held,
	rcu_read_unlock,
	synchronize_rcu,
} from '../../../kernel/rcu/tree.ts';
import { run, runThreads, spawn, stepThread } from '../../../kernel/sched/core.ts';
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

const rcu = FIXTURE('rcu', () => ({}));

FIXTURE_SETUP(rcu, () => bootTiny());

/** Something that readers find through a pointer. */
class Published {
	freed = false;
}

function useAfterFree(seed: number, waits: boolean): boolean {
	const global: { pointer: Published | null } = { pointer: new Published() };
	let bad = false;
	const reader = function* (): Sim<void> {
		rcu_read_lock();
		yield schedulePoint('read', global, 'pointer');
		const seen = global.pointer;
		if (seen !== null) {
			yield schedulePoint('read', seen, 'freed');
			if (seen.freed) bad = true;
		}
		rcu_read_unlock();
	};
	race(seed, reader, reader, function* () {
		yield schedulePoint('write', global, 'pointer');
		const old = global.pointer!;
		global.pointer = null;
		if (waits) yield* synchronize_rcu();
		yield schedulePoint('write', old, 'freed');
		old.freed = true;
	});
	return bad;
}

TEST_F(rcu, 'no_reader_sees_what_was_freed_after_a_grace_period', () => {
	let without = 0;
	for (let seed = 0; seed < 300; seed++) {
		EXPECT_FALSE(useAfterFree(seed, true));
		if (useAfterFree(seed, false)) without++;
	}
	EXPECT_TRUE(without > 0);
});

TEST_F(rcu, 'later_readers_do_not_hold_it_up', () => {
	const section = function* (): Sim<void> {
		rcu_read_lock();
		yield schedulePoint('read', world());
		rcu_read_unlock();
	};
	const before = spawn('before', section);
	stepThread(before);
	const updater = spawn('updater', () => synchronize_rcu());
	stepThread(updater);
	stepThread(updater);
	const after = spawn('after', section);
	stepThread(after);
	EXPECT_FALSE(updater.point?.ready?.());
	stepThread(before);
	EXPECT_TRUE(updater.point?.ready?.());
	EXPECT_FALSE(stepThread(updater));
	stepThread(after);
});

TEST_F(rcu, 'a_second_section_of_the_same_reader_does_not_count', () => {
	const reader = spawn('reader', function* () {
		for (let i = 0; i < 2; i++) {
			rcu_read_lock();
			rcu_read_lock();
			rcu_read_unlock();
			yield schedulePoint('read', world());
			rcu_read_unlock();
		}
	});
	stepThread(reader);
	const updater = spawn('updater', () => synchronize_rcu());
	stepThread(updater);
	stepThread(updater);
	stepThread(reader);
	EXPECT_TRUE(reader.rcu_read_lock_nesting > 0);
	EXPECT_TRUE(updater.point?.ready?.());
	runThreads();
});

TEST_F(rcu, 'callbacks_come_after_a_grace_period_in_order', () => {
	const called: string[] = [];
	const reader = spawn('reader', function* () {
		rcu_read_lock();
		yield schedulePoint('read', world());
		called.push('reader left');
		rcu_read_unlock();
	});
	stepThread(reader);
	const add = (name: string): number => called.push(name);
	call_rcu(add, 'one');
	call_rcu(add, 'two');
	run(rcu_barrier());
	EXPECT_EQ('reader left, one, two', called.join(', '));
	run(rcu_barrier());
	call_rcu(() => call_rcu(add, 'from a callback'), null);
	runThreads();
	EXPECT_EQ('from a callback', called.at(-1));
});

TEST_F(rcu, 'grace_period_inside_a_section_waits_for_itself', () => {
	const { text } = oopsOf(() =>
		run(function* () {
			rcu_read_lock();
			EXPECT_TRUE(rcu_read_lock_held());
			yield* synchronize_rcu();
		}),
	);
	EXPECT_TRUE(text.includes('Waits to rcu rcu_state'));
	expectReport('(deadlock)');
	expectReport('BUG: sleeping function called from invalid context');
	rcu_read_unlock();
	EXPECT_FALSE(rcu_read_lock_held());
});

TEST_F(rcu, 'unlock_without_lock_is_a_bug', () => {
	EXPECT_TRUE(oopsOf(() => rcu_read_unlock()).title.includes('rcu_read_unlock() without'));
	expectReport('rcu_read_unlock() without rcu_read_lock()');
});

TEST_F(rcu, 'section_left_open_is_reported_at_shutdown', () => {
	rcu_read_lock();
	expectReport('ends inside an RCU read-side section');
});
