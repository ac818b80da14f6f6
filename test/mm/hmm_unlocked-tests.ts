// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: hmm_range_fault_unlocked_timeout(): who holds the mmap lock when, how long it tries, and each
 * way out. Method: a fault handler of the test's that takes virtual time, drops the lock or not, and
 * says what it likes; for the lock itself a second thread.
 */
import { EBUSY, EFAULT, EINTR, ENOMEM, EPERM } from '../../include/linux/errno.ts';
import { HMM_PFN_REQ_FAULT, HMM_PFN_REQ_WRITE } from '../../include/linux/hmm.ts';
import { PROT_READ } from '../../include/linux/mm.ts';
import {
	FAULT_FLAG_ALLOW_RETRY,
	FAULT_FLAG_KILLABLE,
	FAULT_FLAG_REMOTE,
	VM_FAULT_COMPLETED,
	VM_FAULT_NOPAGE,
	VM_FAULT_OOM,
	VM_FAULT_RETRY,
} from '../../include/linux/mm_types.ts';
import { MMU_NOTIFY_CLEAR, mmu_notifier_range } from '../../include/linux/mmu_notifier.ts';
import { current, SIGKILL } from '../../include/linux/sched.ts';
import { retryBound } from '../../include/sim/retry.ts';
import { waitPoint } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';
import { checkpoint, restore } from '../../init/main.ts';
import { runThreads, spawn, stepThread } from '../../kernel/sched/core.ts';
import { msleep } from '../../kernel/time/sleep_timeout.ts';
import { mmap_write_lock, mmap_write_unlock } from '../../mm/mmap_lock.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init,
} from '../../mm/mmu_notifier.ts';
import { userRead64, userWrite64 } from '../../mm/syscalls.ts';
import { touchesOf } from '../kernel/footprint.ts';
import { oopsOf } from '../kernel/tiny_world.ts';
import {
	ASSERT_EQ,
	EXPECT_EQ,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../kselftest_harness.ts';
import { type Answer, at, HandledMapping, HmmWorld, PAGE } from './hmm_world.ts';

const READ = { default_flags: HMM_PFN_REQ_FAULT };
const WRITE = { default_flags: HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE };
const JIFFY = 1_000_000n;
/** Steps of a thread at the most until it is where a test wants it. */
const STEPS = 200;

const unlocked = FIXTURE('hmm_unlocked', () => ({
	w: null as unknown as HmmWorld,
	mapping: null as unknown as HandledMapping,
}));

FIXTURE_SETUP(unlocked, (self) => {
	self.w = new HmmWorld('v7.3');
	self.mapping = new HandledMapping(self.w, 0, 4);
});

FIXTURE_TEARDOWN(unlocked, ({ w, mapping }) => {
	mapping.close();
	w.close();
});

TEST_F(unlocked, 'takes_the_lock_and_lets_handlers_drop_it', ({ w, mapping }) => {
	const { ret, flags } = w.call(0, 4, { ...READ, timeout: 0n });
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('VW*4', flags);
	const wanted = FAULT_FLAG_REMOTE | FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE;
	for (const seen of mapping.flags) EXPECT_EQ(wanted, seen & wanted);
	EXPECT_EQ(4, mapping.calls);
});

TEST_F(unlocked, 'words_that_are_written_are_in_the_footprint', ({ w }) => {
	// a view of a part, as a driver hands one out: the words are those of the buffer
	const words = new BigUint64Array(16).subarray(8);
	const hole = touchesOf(words.buffer, () => w.call(0, 4, { timeout: 10n, words }));
	// the page table is not there: a hole
	EXPECT_STREQ('write words 8 4', hole);
	const unstable = touchesOf(w.task.mm!, () => w.call(0, 4, { ...READ, timeout: 0n, words }));
	EXPECT_TRUE(unstable.includes('read flags_unstable undefined undefined'));
	const present = touchesOf(words.buffer, () => w.call(1, 2, { timeout: 10n, words }));
	EXPECT_STREQ('write words 8 2', present);
});

TEST_F(unlocked, 'snapshot_faults_nothing_in_and_holes_are_errors', ({ w }) => {
	const { ret, flags } = w.call(0, 6, { timeout: 10n });
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('-*4 E*2', flags);
});

TEST_F(unlocked, 'handler_that_dropped_the_lock_starts_the_range_over', ({ w, mapping }) => {
	mapping.answers = [0, VM_FAULT_RETRY, 0];
	const { ret, flags } = w.call(0, 4, { ...READ, timeout: 100n });
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('VW*4', flags);
	// page 0, page 1 in vain; then from the first empty entry on
	EXPECT_EQ(1 + 1 + 3, mapping.calls);
});

TEST_F(unlocked, 'fault_completed_without_the_lock_starts_the_range_over', ({ w, mapping }) => {
	mapping.answers = [VM_FAULT_COMPLETED];
	const { ret, flags } = w.call(0, 4, { ...READ, timeout: 100n });
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('VW*4', flags);
	EXPECT_EQ(4, mapping.calls);
});

TEST_F(unlocked, 'round_that_dropped_the_lock_gets_its_time_anew', ({ w, mapping }) => {
	mapping.answers = [VM_FAULT_RETRY, VM_FAULT_RETRY, VM_FAULT_RETRY, VM_FAULT_RETRY, 0];
	// each round takes nearly all the time there is
	mapping.takes = 9n * JIFFY;
	const before = world().clock;
	const { ret } = w.call(0, 1, { ...READ, timeout: 10n });
	EXPECT_EQ(0, ret);
	EXPECT_EQ(5, mapping.calls);
	EXPECT_EQ(45n * JIFFY, world().clock - before);
});

/** Each fault invalidates the very range, as breaking sharing does. */
function invalidateInFault(w: HmmWorld, mapping: HandledMapping): void {
	mapping.hook = function* () {
		const range = new mmu_notifier_range();
		mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, w.task.mm!, at(0), at(1));
		yield* mmu_notifier_invalidate_range_start(range);
		yield* mmu_notifier_invalidate_range_end(range);
	};
}

TEST_F(unlocked, 'collision_keeps_the_deadline', ({ w, mapping }) => {
	invalidateInFault(w, mapping);
	mapping.takes = 4n * JIFFY;
	// rounds end at 4, 8 and 12 ms: the fourth is not begun
	const { ret, flags } = w.call(0, 4, { ...READ, timeout: 10n });
	EXPECT_EQ(-EBUSY, ret);
	EXPECT_EQ(4, mapping.calls);
	EXPECT_STREQ('-*4', flags);
});

TEST_F(unlocked, 'collision_is_retried_inside', ({ w, mapping }) => {
	invalidateInFault(w, mapping);
	const { ret, flags, events } = w.call(0, 4, { ...READ, timeout: 10n });
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('VW*4', flags);
	EXPECT_STREQ('1 0-1, 1 0-1, 1 0-1, 1 0-1', events);
	EXPECT_EQ(4, mapping.calls);
});

TEST_F(unlocked, 'invalidation_that_keeps_coming_is_a_livelock', ({ w, mapping }) => {
	const c = checkpoint();
	retryBound().rounds = 20;
	invalidateInFault(w, mapping);
	mapping.answers = [VM_FAULT_NOPAGE];
	const report = oopsOf(() => w.call(0, 4, { ...READ, timeout: 0n }));
	EXPECT_STREQ('BUG: livelock in hmm_range_fault_unlocked_timeout()', report.title);
	EXPECT_TRUE(
		report.text.includes('20 rounds without progress: the usual cause is an invalid'),
	);
	// a round for each page, and those of the bound; all four pages in each
	EXPECT_EQ(4 * (4 + 20), mapping.calls);
	restore(c);
});

TEST_F(unlocked, 'handler_that_maps_nothing_is_a_livelock', ({ w, mapping }) => {
	const c = checkpoint();
	retryBound().rounds = 20;
	mapping.answers = [VM_FAULT_NOPAGE];
	const report = oopsOf(() => w.call(0, 4, READ));
	EXPECT_STREQ('BUG: livelock in hmm_range_fault()', report.title);
	EXPECT_EQ(4 * (4 + 20), mapping.calls);
	restore(c);
	// the task is the test's own: what it held at the oops is not in the world
	w.task.held_locks.length = 0;
});

TEST_F(unlocked, 'time_may_be_up_before_the_first_walk', ({ w, mapping }) => {
	const mm = w.task.mm!;
	let answer = null as Answer | null;
	const caller = spawn(
		'caller',
		function* () {
			answer = yield* w.callSim(0, 4, { ...READ, timeout: 10n });
		},
		{ mm },
	);
	// the deadline runs, and a writer has the lock for longer than that
	const wantsLock = (): boolean =>
		caller.point?.object === mm.mmap_lock && caller.point.access === 'acquire-shared';
	for (let step = 0; step < STEPS && !wantsLock(); step++) stepThread(caller);
	const writer = spawn('writer', function* () {
		yield* mmap_write_lock(mm);
		yield* msleep(20);
		yield* mmap_write_unlock(mm);
	});
	while (mm.mmap_lock.owner !== writer) stepThread(writer);
	runThreads();
	EXPECT_EQ(-EBUSY, answer!.ret);
	EXPECT_EQ(0, mapping.calls);
	EXPECT_STREQ('-*4', answer!.flags);
});

TEST_F(unlocked, 'killed_while_it_waits_for_the_lock', ({ w, mapping }) => {
	const mm = w.task.mm!;
	let ret = 1;
	const victim = spawn(
		'victim',
		function* () {
			ret = (yield* w.callSim(0, 4, { ...READ, timeout: 0n })).ret;
		},
		{ mm },
	);
	const wantsLock = (): boolean =>
		victim.point?.object === mm.mmap_lock && victim.point.access === 'acquire-shared';
	for (let step = 0; step < STEPS && !wantsLock(); step++) stepThread(victim);
	const writer = spawn('writer', function* () {
		yield* mmap_write_lock(mm);
		victim.pending.add(SIGKILL);
		yield waitPoint('wait', victim, () => ret !== 1);
		yield* mmap_write_unlock(mm);
	});
	while (mm.mmap_lock.owner !== writer) stepThread(writer);
	runThreads();
	EXPECT_EQ(-EINTR, ret);
	EXPECT_EQ(0, mapping.calls);
});

TEST_F(unlocked, 'killed_while_the_lock_was_dropped', ({ w, mapping }) => {
	mapping.answers = [VM_FAULT_RETRY];
	mapping.hook = function* () {
		current().pending.add(SIGKILL);
	};
	const { ret } = w.call(0, 4, { ...READ, timeout: 0n });
	EXPECT_EQ(-EINTR, ret);
	EXPECT_EQ(1, mapping.calls);
	w.task.pending.clear();
});

TEST_F(unlocked, 'killed_without_waiting_for_anything_goes_on', ({ w }) => {
	w.call(0, 1);
	w.task.pending.add(SIGKILL);
	// a lock that is free is taken all the same, and the handler does not wait either
	EXPECT_EQ(0, w.call(0, 4, { ...READ, timeout: 0n }).ret);
	w.task.pending.clear();
});

TEST_F(unlocked, 'address_space_that_the_oom_reaper_was_in', ({ w, mapping }) => {
	w.task.mm!.flags_unstable = true;
	EXPECT_EQ(-EFAULT, w.call(0, 4, { ...READ, timeout: 10n }).ret);
	EXPECT_EQ(-EFAULT, w.call(0, 4, { timeout: 0n }).ret);
	EXPECT_EQ(0, mapping.calls);
	w.task.mm!.flags_unstable = false;
});

TEST_F(unlocked, 'errors_come_out_at_once', ({ w, mapping }) => {
	mapping.answers = [VM_FAULT_OOM];
	EXPECT_EQ(-ENOMEM, w.call(0, 4, { ...READ, timeout: 10n }).ret);
	EXPECT_EQ(1, mapping.calls);
	EXPECT_EQ(-EFAULT, w.call(20, 1, { ...READ, timeout: 10n }).ret);
	w.map(8, 1, PROT_READ);
	EXPECT_EQ(-EPERM, w.call(8, 1, { ...WRITE, timeout: 10n }).ret);
});

TEST_F(unlocked, 'locked_and_unlocked_call_agree', ({ w }) => {
	w.map(16, 8);
	for (const page of [17, 19]) ASSERT_EQ(null, userWrite64(w.task, at(page), 1n));
	ASSERT_EQ(0n, userRead64(w.task, at(20)));
	const a = w.call(16, 8, {});
	const b = w.call(16, 8, { timeout: 0n });
	EXPECT_STREQ(a.text, b.text);
	const c = w.call(16, 8, { ...WRITE, timeout: 0n });
	EXPECT_EQ(0, c.ret);
	EXPECT_STREQ('VW*8', c.flags);
	// the zero page was copied: the call started over by itself
	EXPECT_STREQ('1 20-21', c.events);
	EXPECT_EQ(PAGE * 8n, at(24) - at(16));
});
