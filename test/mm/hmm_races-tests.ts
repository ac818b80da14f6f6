// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: whatever interleaving, a mirror that keeps to the protocol never holds a page that the
 * process no longer maps there, or a right that it no longer has. Method: a mirror thread that
 * faults, checks read_retry() under its lock and programs a table of its own, whose callback takes
 * entries out; at the same time threads that unmap, protect, write, migrate. Schedules at random, the
 * seed is the replay line; judged at every programming and again at the end.
 *
 *   mirror    read_begin ─ lock ─ fault ─ unlock ─ [ mutex ─ read_retry? ─ program ─ mutex ]
 *   callback                        [ mutex ─ set_seq ─ clear the part of the table ─ mutex ]
 */
import { EBUSY } from '../../include/linux/errno.ts';
import {
	HMM_PFN_FLAGS,
	HMM_PFN_REQ_FAULT,
	HMM_PFN_REQ_WRITE,
	HMM_PFN_VALID,
	HMM_PFN_WRITE,
	hmm_range,
} from '../../include/linux/hmm.ts';
import { MADV_DONTNEED, PROT_READ } from '../../include/linux/mm.ts';
import {
	mmu_interval_notifier,
	type mmu_interval_notifier_ops,
	type mmu_notifier_range,
} from '../../include/linux/mmu_notifier.ts';
import { pte_pfn, pte_present, pte_write } from '../../include/linux/pgtable.ts';
import { mutex } from '../../include/linux/spinlock.ts';
import {
	softleaf_from_pte,
	softleaf_is_device_private,
	softleaf_is_device_private_write,
	softleaf_to_pfn,
} from '../../include/linux/swapops.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { mutex_lock, mutex_unlock } from '../../kernel/locking/mutex.ts';
import { run, runThreads, spawn } from '../../kernel/sched/core.ts';
import { randomStrategy } from '../../kernel/sched/strategy.ts';
import { hmm_range_fault, hmm_range_fault_unlocked_timeout } from '../../mm/hmm.ts';
import { do_madvise } from '../../mm/madvise.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import {
	mmu_interval_notifier_insert,
	mmu_interval_notifier_remove,
	mmu_interval_read_begin,
	mmu_interval_read_retry,
	mmu_interval_set_seq,
} from '../../mm/mmu_notifier.ts';
import { do_mprotect_pkey } from '../../mm/mprotect.ts';
import { storeUser64, userWrite64 } from '../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	EXPECT_EQ,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	SKIP,
	TEST_F,
} from '../kselftest_harness.ts';
import { at, HmmWorld, PAGE, RW } from './hmm_world.ts';
import { TestDevice, toDevice } from './mm_world.ts';

const PAGES = 4;
const SEEDS = 40;
const ROUNDS = 3;
/** Calls in a round until the mirror gives up; others end, so it never has to. */
const TRIES = 500;

/** A device's copy of a part of an address space. */
class Mirror {
	sub = new mmu_interval_notifier();
	lock = new mutex('mirror');
	/** What the device would use, 0 for nothing. */
	table = new BigUint64Array(PAGES);
	/** How often the last check came out against the words. */
	retries = 0;
	/** How often the call itself said -EBUSY. */
	collisions = 0;
	programmed = 0;
	/** Leaves the last check out: the classic mistake. */
	careless = false;
	/** What was found wrong. */
	wrong: string[] = [];

	constructor() {
		this.sub.container = this;
	}
}

const mirrorOps: mmu_interval_notifier_ops = {
	*invalidate(sub: mmu_interval_notifier, range: mmu_notifier_range, seq: bigint) {
		const { lock, table } = sub.container as Mirror;
		yield* mutex_lock(lock);
		mmu_interval_set_seq(sub, seq);
		for (let i = 0; i < PAGES; i++)
			if (range.start < at(i + 1) && at(i) < range.end) table[i] = 0n;
		yield* mutex_unlock(lock);
		return true;
	},
};

interface Self {
	w: HmmWorld;
	dev: TestDevice;
	mirror: Mirror;
}

const races = FIXTURE<Self, { profile: ProfileName }>(
	'hmm_races',
	() => ({
		w: null as unknown as HmmWorld,
		dev: null as unknown as TestDevice,
		mirror: null as unknown as Mirror,
	}),
	FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName }),
);
FIXTURE_VARIANT_ADD(races, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(races, 'v7_3', { profile: 'v7.3' });

FIXTURE_SETUP(races, (self, { profile }) => {
	self.w = new HmmWorld(profile);
	self.dev = new TestDevice();
	run(self.dev.probe());
	self.w.map(0, PAGES);
	self.mirror = new Mirror();
	const { sub } = self.mirror;
	const length = BigInt(PAGES) * PAGE;
	self.w.run(() =>
		mmu_interval_notifier_insert(sub, self.w.task.mm!, at(0), length, mirrorOps),
	);
});

FIXTURE_TEARDOWN(races, ({ w, dev, mirror }) => {
	w.run(() => mmu_interval_notifier_remove(mirror.sub));
	w.close();
	run(dev.remove());
});

/** Whether an entry of the mirror is more than the process has. */
function judge({ w, mirror }: Self, i: number, when: string): void {
	const word = mirror.table[i]!;
	if (!(word & HMM_PFN_VALID)) return;
	const pfn = word & ~HMM_PFN_FLAGS();
	const pte = w.pte(i).value;
	let mapped = -1n;
	let writable = false;
	if (pte_present(pte)) {
		mapped = pte_pfn(pte) as bigint;
		writable = pte_write(pte);
	} else if (softleaf_is_device_private(softleaf_from_pte(pte))) {
		const entry = softleaf_from_pte(pte);
		mapped = softleaf_to_pfn(entry) as bigint;
		writable = softleaf_is_device_private_write(entry);
	}
	if (mapped !== pfn)
		mirror.wrong.push(
			`${when}: page ${i} is ${mapped.toString(16)}, mirror has ${pfn.toString(16)}`,
		);
	else if (word & HMM_PFN_WRITE && !writable)
		mirror.wrong.push(`${when}: page ${i} is read-only`);
}

/** One round of the caller's protocol. */
function* mirrorRound(self: Self, init: Partial<hmm_range>, unlocked: boolean): Sim<void> {
	const { w, mirror } = self;
	const mm = w.task.mm!;
	const { sub, lock, table } = mirror;
	const range = new hmm_range({ ...init, notifier: sub, start: at(0), end: at(PAGES) });
	for (let n = 0; n < TRIES; n++) {
		range.hmm_pfns = new BigUint64Array(PAGES);
		let ret: number;
		if (unlocked) ret = yield* hmm_range_fault_unlocked_timeout(range, 0n);
		else {
			range.notifier_seq = yield* mmu_interval_read_begin(sub);
			yield* mmap_read_lock(mm);
			ret = yield* hmm_range_fault(range);
			yield* mmap_read_unlock(mm);
		}
		if (ret === -EBUSY) {
			mirror.collisions++;
			continue;
		}
		if (ret !== 0) return;
		yield* mutex_lock(lock);
		if (!mirror.careless && mmu_interval_read_retry(sub, range.notifier_seq)) {
			yield* mutex_unlock(lock);
			mirror.retries++;
			continue;
		}
		table.set(range.hmm_pfns);
		mirror.programmed++;
		// nobody who announced a change may have made it: the callback needs our lock
		for (let i = 0; i < PAGES; i++) judge(self, i, 'when programmed');
		yield* mutex_unlock(lock);
		return;
	}
	mirror.wrong.push(`no end after ${TRIES} tries`);
}

/** Let the mirror and others run under many schedules. */
function explore(
	self: Self,
	init: Partial<hmm_range>,
	others: readonly (() => Sim<unknown>)[],
	unlocked = false,
): void {
	const { w, mirror } = self;
	const { mm } = w.task;
	for (let seed = 1; seed <= SEEDS; seed++) {
		spawn(
			'mirror',
			function* () {
				for (let round = 0; round < ROUNDS; round++)
					yield* mirrorRound(self, init, unlocked);
			},
			{ mm },
		);
		for (const [i, other] of others.entries()) spawn(`other${i}`, other, { mm });
		runThreads(randomStrategy(seed));
		for (let i = 0; i < PAGES; i++) judge(self, i, 'in the end');
		if (mirror.wrong.length > 0) {
			EXPECT_STREQ('', `seed ${seed}: ${mirror.wrong.join('; ')}`);
			return;
		}
	}
	EXPECT_TRUE(mirror.programmed > 0);
}

const READ = { default_flags: HMM_PFN_REQ_FAULT };
const WRITE = { default_flags: HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE };

function* dontneed(w: HmmWorld): Sim<void> {
	for (let i = 0; i < 2; i++) yield* do_madvise(w.task.mm!, at(i), 2n * PAGE, MADV_DONTNEED);
}

function* writer(page: number): Sim<void> {
	for (let i = 0; i < 3; i++) yield* storeUser64(at(page), BigInt(i));
}

TEST_F(races, 'invalidate_during_fault_retries', (self) => {
	const { w, mirror } = self;
	explore(self, WRITE, [() => dontneed(w), () => writer(1)]);
	// the schedules reached both ways of starting over
	EXPECT_TRUE(mirror.collisions + mirror.retries > 0);
	EXPECT_TRUE(mirror.retries > 0);
});

TEST_F(races, 'invalidate_during_unlocked_fault_retries', (self, { profile }) => {
	if (profile === 'v6.12') SKIP('v6.12 has no unlocked form');
	const { w, mirror } = self;
	explore(self, WRITE, [() => dontneed(w), () => writer(1)], true);
	// -EBUSY stays inside
	EXPECT_EQ(0, mirror.collisions);
	EXPECT_TRUE(mirror.retries > 0);
});

TEST_F(races, 'snapshots_during_invalidations', (self) => {
	const { w } = self;
	explore(self, {}, [() => dontneed(w), () => writer(0), () => writer(1)]);
});

TEST_F(races, 'copies_of_the_zero_page', (self) => {
	const { w } = self;
	explore(self, READ, [() => dontneed(w), () => writer(0), () => writer(1), () => writer(2)]);
});

TEST_F(races, 'rights_taken_away_and_given_back', (self) => {
	for (let i = 0; i < PAGES; i++) ASSERT_EQ(null, userWrite64(self.w.task, at(i), 1n));
	const protect = function* (): Sim<void> {
		for (const prot of [PROT_READ, RW, PROT_READ, RW])
			yield* do_mprotect_pkey(at(1), 2n * PAGE, prot, -1);
	};
	explore(self, READ, [protect, () => writer(1)]);
});

TEST_F(races, 'pages_migrated_to_a_device_and_back', (self) => {
	const { w, dev } = self;
	const migrate = function* (): Sim<void> {
		yield* toDevice(dev, w.task.mm!, at(0), 2);
	};
	// somebody else's private pages come back by the mirror's own faults
	explore(self, WRITE, [migrate, () => writer(1)]);
	EXPECT_TRUE(dev.faults > 0);
});

TEST_F(races, 'own_private_pages_migrated_under_the_mirror', (self) => {
	const { w, dev } = self;
	const migrate = function* (): Sim<void> {
		yield* toDevice(dev, w.task.mm!, at(0), 3);
	};
	explore(self, { dev_private_owner: dev }, [migrate, () => writer(0), () => writer(2)]);
});

TEST_F(races, 'mirror_that_leaves_the_last_check_out_is_caught', (self) => {
	const { w, mirror } = self;
	mirror.careless = true;
	for (let seed = 1; seed <= SEEDS && mirror.wrong.length === 0; seed++) {
		spawn('mirror', () => mirrorRound(self, WRITE, false), { mm: w.task.mm });
		spawn('other', () => dontneed(w), { mm: w.task.mm });
		runThreads(randomStrategy(seed));
		for (let i = 0; i < PAGES; i++) judge(self, i, 'in the end');
	}
	EXPECT_TRUE(mirror.wrong.length > 0);
});
