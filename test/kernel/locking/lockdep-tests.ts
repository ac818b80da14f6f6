// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: lockdep reports each broken rule of locking once, in the kernel's layout, and nothing else.
 * Method: one thread breaks one rule; no hang is needed for any of them.
 */
import { lockdep_map } from '../../../include/linux/lockdep.ts';
import { mutex, rw_semaphore, spinlock_t } from '../../../include/linux/spinlock.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { world } from '../../../include/sim/world.ts';
import {
	lock_map_acquire,
	lock_map_acquire_read,
	lock_map_release,
	lockdep_assert_held,
	lockdep_assert_held_read,
	lockdep_assert_held_write,
	lockdep_assert_not_held,
	lockGraph,
	might_lock,
} from '../../../kernel/locking/lockdep.ts';
import {
	mutex_lock,
	mutex_lock_nested,
	mutex_trylock,
	mutex_unlock,
} from '../../../kernel/locking/mutex.ts';
import {
	down_read,
	down_write,
	down_write_nested,
	downgrade_write,
	up_read,
	up_write,
} from '../../../kernel/locking/rwsem.ts';
import { spin_lock, spin_lock_nested, spin_unlock } from '../../../kernel/locking/spinlock.ts';
import { run, runThreads, spawn } from '../../../kernel/sched/core.ts';
import {
	EXPECT_EQ,
	EXPECT_STREQ,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../../kselftest_harness.ts';
import { bootTiny } from '../tiny_world.ts';

const lockdep = FIXTURE('lockdep', () => ({}), FIXTURE_VARIANT({ origins: false }));

FIXTURE_VARIANT_ADD(lockdep, 'fast', {});
FIXTURE_VARIANT_ADD(lockdep, 'with_origins', { origins: true });

FIXTURE_SETUP(lockdep, (_, { origins }) => bootTiny(origins));

/** Take locks in order, leave them in the reverse order. */
function* takeAll(...locks: mutex[]): Sim<void> {
	for (const lock of locks) yield* mutex_lock(lock);
	for (const lock of locks.toReversed()) yield* mutex_unlock(lock);
}

/** The newest report, from one line on. */
function newest(from: string, lines: number): string {
	const text = world().reports.at(-1)?.text.split('\n') ?? [];
	const at = text.findIndex((line) => line.includes(from));
	return text.slice(at, at + lines).join('\n');
}

TEST_F(lockdep, 'two_orders_are_a_circle', function* () {
	const [a, b] = [new mutex('&a->lock'), new mutex('&b->lock')];
	yield* takeAll(a, b);
	EXPECT_EQ(0, world().reports.length);
	yield* takeAll(b, a);
	expectReport('possible circular locking dependency detected');
	EXPECT_STREQ(
		[
			' Possible unsafe locking scenario:',
			'',
			'       CPU0                    CPU1',
			'       ----                    ----',
			'  lock(&b->lock);',
			'                               lock(&a->lock);',
			'                               lock(&b->lock);',
			'  lock(&a->lock);',
			'',
			' *** DEADLOCK ***',
			'',
			'1 lock held by init/1:',
		].join('\n'),
		newest(' Possible unsafe', 12),
	);
	const { text } = world().reports[0]!;
	EXPECT_TRUE(text.startsWith(`\n${'='.repeat(54)}\nWARNING: possible circular`));
	EXPECT_TRUE(/-> #1 \(&b->lock\)\{\+\.\+\.\}-\{3:3\}:/.test(text));
	EXPECT_TRUE(/-> #0 \(&a->lock\)\{\+\.\+\.\}-\{3:3\}:/.test(text));
	yield* takeAll(b, a);
	EXPECT_EQ(1, world().reports.length);
});

TEST_F(lockdep, 'circle_over_a_third_lock_names_the_chain', function* () {
	const [a, b, c] = [new mutex('a'), new mutex('b'), new mutex('c')];
	yield* takeAll(a, b);
	yield* takeAll(b, c);
	yield* takeAll(c, a);
	expectReport('possible circular locking dependency detected');
	EXPECT_STREQ('Chain exists of:\n  a --> b --> c', newest('Chain exists', 2));
});

TEST_F(lockdep, 'locks_of_one_name_are_one_class', function* () {
	const [a1, a2, b] = [new mutex('a'), new mutex('a'), new mutex('b')];
	yield* takeAll(a1, b);
	yield* takeAll(b, a2);
	expectReport('possible circular locking dependency detected');
	EXPECT_EQ(2, lockGraph().count);
});

TEST_F(lockdep, 'two_of_a_class_are_recursion_unless_annotated', function* () {
	const [a1, a2] = [new mutex('a'), new mutex('a')];
	yield* mutex_lock(a1);
	yield* mutex_lock_nested(a2, 1);
	yield* mutex_unlock(a2);
	yield* mutex_unlock(a1);
	const [s1, s2] = [new spinlock_t('s'), new spinlock_t('s')];
	yield* spin_lock(s1);
	yield* spin_lock_nested(s2, 1);
	yield* spin_unlock(s2);
	yield* spin_unlock(s1);
	const [r1, r2] = [new rw_semaphore('r'), new rw_semaphore('r')];
	yield* down_write(r1);
	yield* down_write_nested(r2, 1);
	yield* up_write(r2);
	yield* up_write(r1);
	EXPECT_EQ(0, world().reports.length);
	yield* takeAll(a1, a2);
	expectReport('possible recursive locking detected');
	EXPECT_STREQ('  lock(a);\n  lock(a);', newest('  lock(a)', 2));
	yield* takeAll(a1, a2);
	EXPECT_EQ(1, world().reports.length);
});

TEST_F(lockdep, 'trylock_makes_no_order_but_what_it_holds_does', function* () {
	const [a, b, c] = [new mutex('a'), new mutex('b'), new mutex('c')];
	yield* mutex_lock(a);
	EXPECT_EQ(1, mutex_trylock(b));
	yield* takeAll(c);
	yield* mutex_unlock(b);
	yield* mutex_unlock(a);
	yield* takeAll(b, a);
	EXPECT_EQ(0, world().reports.length);
	yield* takeAll(c, a);
	expectReport('possible circular locking dependency detected');
	EXPECT_EQ(1, world().reports.length);
});

TEST_F(lockdep, 'a_wait_is_ordered_by_its_map', function* () {
	const [map, a] = [new lockdep_map('mmu_notifier_invalidate_range_start'), new mutex('a')];
	lock_map_acquire(map);
	yield* takeAll(a);
	lock_map_release(map);
	yield* mutex_lock(a);
	lock_map_acquire_read(map);
	lock_map_release(map);
	yield* mutex_unlock(a);
	expectReport('possible circular locking dependency detected');
});

TEST_F(lockdep, 'recursive_reads_nest', function* () {
	const [map, a] = [new lockdep_map('map'), new mutex('a')];
	lock_map_acquire_read(map);
	lock_map_acquire_read(map);
	yield* takeAll(a);
	lock_map_release(map);
	lock_map_release(map);
	EXPECT_EQ(0, world().reports.length);
	lock_map_acquire_read(map);
	lock_map_acquire(map);
	lock_map_release(map);
	lock_map_release(map);
	expectReport('possible recursive locking detected');
});

TEST_F(lockdep, 'read_after_read_closes_no_circle_but_a_writer_does', function* () {
	const [map, a] = [new lockdep_map('map'), new mutex('a')];
	lock_map_acquire_read(map);
	yield* takeAll(a);
	lock_map_release(map);
	yield* mutex_lock(a);
	lock_map_acquire_read(map);
	lock_map_release(map);
	EXPECT_EQ(0, world().reports.length);
	lock_map_acquire(map);
	lock_map_release(map);
	yield* mutex_unlock(a);
	expectReport('possible circular locking dependency detected');
	EXPECT_EQ(1, world().reports.length);
});

TEST_F(lockdep, 'read_that_is_left_by_a_reader_ends_the_path', function* () {
	const [map, a, b] = [new lockdep_map('map'), new mutex('a'), new mutex('b')];
	// a -> map(recursive read), map(read) -> b, b -> a: the reader of map stops nobody.
	yield* mutex_lock(a);
	lock_map_acquire_read(map);
	lock_map_release(map);
	yield* mutex_unlock(a);
	lock_map_acquire_read(map);
	yield* takeAll(b);
	lock_map_release(map);
	yield* takeAll(b, a);
	EXPECT_EQ(0, world().reports.length);
	// With map taken for writing on the way it is one.
	lock_map_acquire(map);
	yield* takeAll(b);
	lock_map_release(map);
	expectReport('possible circular locking dependency detected');
});

TEST_F(lockdep, 'might_lock_orders_without_taking', function* () {
	const [a, b] = [new mutex('a'), new mutex('b')];
	yield* mutex_lock(a);
	might_lock(b);
	yield* mutex_unlock(a);
	yield* takeAll(b, a);
	expectReport('possible circular locking dependency detected');
	EXPECT_EQ(null, b.owner);
});

TEST_F(lockdep, 'release_of_what_is_not_held_is_reported', function* () {
	const [a, s, r] = [new mutex('a'), new spinlock_t('s'), new rw_semaphore('r')];
	yield* mutex_unlock(a);
	yield* spin_unlock(s);
	yield* up_read(r);
	yield* up_write(r);
	for (const name of ['a', 's', 'r']) expectReport(`trying to release lock (${name}) at:`);
	EXPECT_EQ(4, world().reports.length);
	EXPECT_TRUE(world().reports.every(({ title }) => title.includes('bad unlock balance')));
	EXPECT_EQ(0, r.readers);
});

TEST_F(lockdep, 'only_the_owner_unlocks', () => {
	const lock = new mutex('a');
	spawn('owner', function* () {
		yield* mutex_lock(lock);
	});
	runThreads();
	expectReport(/owner\/2 still has locks held!/);
	run(mutex_unlock(lock));
	expectReport('bad unlock balance detected!');
	EXPECT_EQ('owner', lock.owner?.comm);
});

TEST_F(lockdep, 'locks_may_be_left_in_any_order', function* () {
	const [a, b, c] = [new mutex('a'), new mutex('b'), new mutex('c')];
	yield* mutex_lock(a);
	yield* mutex_lock(b);
	yield* mutex_lock(c);
	yield* mutex_unlock(b);
	yield* mutex_unlock(a);
	yield* mutex_unlock(c);
	EXPECT_EQ(0, world().current.held_locks.length);
});

TEST_F(lockdep, 'assertions_speak_once_for_each_place', function* () {
	const [a, r] = [new mutex('a'), new rw_semaphore('r')];
	for (let i = 0; i < 3; i++) lockdep_assert_held(a);
	EXPECT_EQ(1, world().reports.length);
	expectReport('lockdep_assert_held(a)');
	yield* down_read(r);
	lockdep_assert_held(r);
	lockdep_assert_held_read(r);
	lockdep_assert_held_write(r);
	expectReport('lockdep_assert_held_write(r)');
	yield* up_read(r);
	lockdep_assert_held_read(r);
	expectReport('lockdep_assert_held_read(r)');
	yield* down_write(r);
	lockdep_assert_held_write(r);
	yield* downgrade_write(r);
	lockdep_assert_held_read(r);
	lockdep_assert_not_held(r);
	expectReport('lockdep_assert_not_held(r)');
	yield* up_read(r);
	EXPECT_EQ(4, world().reports.length);
});

TEST_F(lockdep, 'system_call_that_leaves_with_a_lock_is_reported', () => {
	const lock = new mutex('a');
	run(mutex_lock(lock), { comm: 'app' });
	expectReport('WARNING: lock held when returning to user space!');
	EXPECT_STREQ(
		'app/2 is leaving the kernel with locks still held!\n1 lock held by app/2:',
		newest('is leaving', 2),
	);
});

TEST_F(lockdep, 'origin_of_a_held_lock_is_shown_if_tracked', function* (_, { origins }) {
	const lock = new mutex('a');
	yield* mutex_lock(lock);
	lockdep_assert_not_held(lock);
	expectReport(origins ? /#0: \(a\).*at: .*lockdep-tests\.ts/ : /#0: .*unknown \(boot with/);
	yield* mutex_unlock(lock);
});
