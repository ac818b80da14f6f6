// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the folio lock has one holder and loses no sleeper, and the page cache finds what was put
 * into it. Method: threads contend for a folio under seeded schedules; a mapping is filled and
 * looked up.
 */
import { EINTR } from '../../include/linux/errno.ts';
import { address_space, type folio } from '../../include/linux/mm_types.ts';
import { folio_pfn, folio_ref_count, folio_test_locked } from '../../include/linux/page-flags.ts';
import { SIGKILL } from '../../include/linux/sched.ts';
import { spinlock_t } from '../../include/linux/spinlock.ts';
import { make_readable_device_private_entry } from '../../include/linux/swapops.ts';
import { GFP_KERNEL } from '../../include/linux/types.ts';
import { boot } from '../../init/main.ts';
import { spin_is_locked, spin_lock, spin_unlock } from '../../kernel/locking/spinlock.ts';
import { run, runThreads, spawn, stepThread } from '../../kernel/sched/core.ts';
import { randomStrategy } from '../../kernel/sched/strategy.ts';
import {
	filemap_get_folio,
	filemap_lock_folio,
	folio_lock,
	folio_lock_killable,
	folio_trylock,
	folio_unlock,
	folio_wait_locked,
	migration_entry_wait_on_locked,
} from '../../mm/filemap.ts';
import { folio_alloc } from '../../mm/page_alloc.ts';
import { folio_put } from '../../mm/swap.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../kselftest_harness.ts';
import { smallMachine } from './small_machine.ts';

const lock = FIXTURE('folio_lock', () => ({ f: null as unknown as folio, seen: [] as string[] }));

FIXTURE_SETUP(lock, (self) => {
	boot(smallMachine());
	self.f = run(folio_alloc(GFP_KERNEL, 0))!;
});

FIXTURE_TEARDOWN(lock, (self) => {
	run(folio_put(self.f));
});

TEST_F(lock, 'trylock_fails_while_it_is_held', function* (self) {
	EXPECT_TRUE(yield* folio_trylock(self.f));
	EXPECT_FALSE(yield* folio_trylock(self.f));
	yield* folio_unlock(self.f);
	yield* folio_wait_locked(self.f);
	yield* folio_lock(self.f);
	EXPECT_TRUE(folio_test_locked(self.f));
	yield* folio_unlock(self.f);
	EXPECT_EQ(0, yield* folio_lock_killable(self.f));
	yield* folio_unlock(self.f);
});

TEST_F(lock, 'one_holder_at_a_time_under_any_schedule', (self) => {
	function* body(name: string) {
		yield* folio_lock(self.f);
		self.seen.push(`${name} in`);
		yield* somePoints();
		self.seen.push(`${name} out`);
		yield* folio_unlock(self.f);
	}
	const orders = new Set<string>();
	for (let seed = 1; seed <= 20; seed++) {
		self.seen.length = 0;
		spawn('a', () => body('a'));
		spawn('b', () => body('b'));
		runThreads(randomStrategy(seed));
		orders.add(self.seen.join());
	}
	EXPECT_STREQ('a in,a out,b in,b out; b in,b out,a in,a out', [...orders].sort().join('; '));
});

/** Some schedule points. */
function* somePoints() {
	const other = new spinlock_t('unrelated');
	yield* spin_lock(other);
	yield* spin_unlock(other);
}

TEST_F(lock, 'killed_waiter_gives_up', (self) => {
	run(folio_lock(self.f));
	let ret = 0;
	const waiter = spawn('waiter', function* () {
		ret = yield* folio_lock_killable(self.f);
	});
	stepThread(waiter);
	waiter.pending.add(SIGKILL);
	runThreads();
	EXPECT_EQ(-EINTR, ret);
	run(folio_unlock(self.f));
});

TEST_F(lock, 'entry_waiter_drops_the_page_table_lock_and_takes_no_reference', (self) => {
	const ptl = new spinlock_t('ptl');
	run(folio_lock(self.f));
	const entry = make_readable_device_private_entry(folio_pfn(self.f));
	const waiter = spawn('waiter', function* () {
		yield* spin_lock(ptl);
		yield* migration_entry_wait_on_locked(entry, ptl);
		self.seen.push('woken');
	});
	const owner = spawn('owner', function* () {
		yield* folio_unlock(self.f);
	});
	stepThread(waiter);
	stepThread(waiter);
	stepThread(waiter);
	EXPECT_FALSE(spin_is_locked(ptl));
	EXPECT_EQ(1, folio_ref_count(self.f));
	EXPECT_EQ(0, self.seen.length);
	while (stepThread(owner));
	runThreads();
	EXPECT_STREQ('woken', self.seen.join());
});

TEST_F(lock, 'unlock_of_an_unlocked_folio_is_a_bug', (self) => {
	let oops = '';
	try {
		run(folio_unlock(self.f));
	} catch (error) {
		oops = String(error);
	}
	EXPECT_TRUE(oops.includes('kernel BUG'));
	expectReport(/folio_unlock\(\) of a folio that is not locked/);
});

TEST_F(lock, 'page_cache_lookup_takes_a_reference', function* (self) {
	const mapping = new address_space();
	EXPECT_NULL(filemap_get_folio(mapping, 0n));
	EXPECT_NULL(yield* filemap_lock_folio(mapping, 0n));
	mapping.i_pages.set(0, self.f);
	self.f.mapping = mapping;
	const found = filemap_get_folio(mapping, 0n);
	EXPECT_TRUE(found === self.f);
	EXPECT_EQ(2, folio_ref_count(self.f));
	yield* folio_put(self.f);
	EXPECT_TRUE((yield* filemap_lock_folio(mapping, 0n)) === self.f);
	EXPECT_TRUE(folio_test_locked(self.f));
	yield* folio_unlock(self.f);
	yield* folio_put(self.f);
	self.f.mapping = null;
});

TEST_F(lock, 'lookup_that_lost_a_race_with_truncation_looks_again', (self) => {
	const mapping = new address_space();
	mapping.i_pages.set(0, self.f);
	self.f.mapping = mapping;
	run(folio_lock(self.f));
	let found: folio | null = self.f;
	const reader = spawn('reader', function* () {
		found = yield* filemap_lock_folio(mapping, 0n);
	});
	stepThread(reader);
	mapping.i_pages.clear();
	self.f.mapping = null;
	run(folio_unlock(self.f));
	runThreads();
	EXPECT_NULL(found);
	EXPECT_EQ(1, folio_ref_count(self.f));
});
