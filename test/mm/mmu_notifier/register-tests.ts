// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: classic notifiers: the order of their callbacks, what a refusal leaves, and who frees them
 * when. Method: listeners that write down what they hear, with threads that hold a callback or a
 * lock open.
 */
import { EAGAIN, EINTR, EINVAL, ENOMEM, EOVERFLOW } from '../../../include/linux/errno.ts';
import { file } from '../../../include/linux/fs.ts';
import {
	address_space,
	anon_vma,
	type mm_struct,
	vm_area_struct,
} from '../../../include/linux/mm_types.ts';
import { mmu_notifier, type mmu_notifier_ops } from '../../../include/linux/mmu_notifier.ts';
import { current } from '../../../include/linux/sched.ts';
import type { rw_semaphore } from '../../../include/linux/spinlock.ts';
import { UINT_MAX } from '../../../include/linux/types.ts';
import { injectFaults } from '../../../include/sim/fault_injection.ts';
import type { ProfileName } from '../../../include/sim/feature.ts';
import { schedulePoint } from '../../../include/sim/schedule.ts';
import { world } from '../../../include/sim/world.ts';
import { down_write, up_write } from '../../../kernel/locking/rwsem.ts';
import { runThreads, spawn } from '../../../kernel/sched/core.ts';
import { randomStrategy } from '../../../kernel/sched/strategy.ts';
import {
	mmu_interval_notifier_remove,
	mmu_notifier_arch_invalidate_secondary_tlbs,
	mmu_notifier_clear_flush_young,
	mmu_notifier_clear_young,
	mmu_notifier_get,
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start_nonblock,
	mmu_notifier_put,
	mmu_notifier_register,
	mmu_notifier_release,
	mmu_notifier_subscriptions_destroy,
	mmu_notifier_subscriptions_init,
	mmu_notifier_synchronize,
	mmu_notifier_test_young,
	mmu_notifier_unregister,
} from '../../../mm/mmu_notifier.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../../kselftest_harness.ts';
import { switchOn } from '../../support/switch_on.ts';
import { bootBare, expectList } from '../bare_world.ts';
import { insert, invalidate, Mirror, newMm, rangeOf, subscriptions } from './mirror.ts';

/** A classic notifier that writes down what it hears. */
class Listener {
	n = new mmu_notifier();
	name: string;
	answer = 0;
	young = false;
	constructor(name: string, ops: mmu_notifier_ops) {
		this.name = name;
		this.n.ops = ops;
		this.n.container = this;
	}
}

const heard = { lines: [] as string[], freed: 0 };

function listener(n: mmu_notifier): Listener {
	return n.container as Listener;
}

const startOps: mmu_notifier_ops = {
	*release(n) {
		heard.lines.push(`release ${listener(n).name}`);
	},
	*invalidate_range_start(n) {
		heard.lines.push(`start ${listener(n).name}`);
		return listener(n).answer;
	},
	clear_flush_young: (n) => listener(n).young,
	clear_young: (n) => listener(n).young,
	test_young: (n) => listener(n).young,
};
const bothOps: mmu_notifier_ops = {
	...startOps,
	*invalidate_range_end(n) {
		heard.lines.push(`end ${listener(n).name}`);
	},
};

const classic = FIXTURE(
	'mmu_notifier',
	() => ({ mm: null as unknown as mm_struct }),
	FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName }),
);
FIXTURE_VARIANT_ADD(classic, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(classic, 'v7_3', { profile: 'v7.3' });
FIXTURE_SETUP(classic, (self, variant) => {
	bootBare(variant.profile);
	self.mm = newMm();
	heard.lines = [];
	heard.freed = 0;
});

TEST_F(classic, 'newest_is_called_first_and_unregister_releases', function* ({ mm }) {
	const a = new Listener('a', bothOps);
	const b = new Listener('b', startOps);
	EXPECT_EQ(0, yield* mmu_notifier_register(a.n, mm));
	EXPECT_EQ(0, yield* mmu_notifier_register(b.n, mm));
	EXPECT_EQ(3, mm.mm_count);
	yield* invalidate(rangeOf(mm, 0n, 0x1000n));
	yield* mmu_notifier_unregister(a.n, mm);
	yield* mmu_notifier_unregister(b.n, mm);
	expectList(['start b', 'start a', 'end a', 'release a', 'release b'], heard.lines);
	EXPECT_EQ(1, mm.mm_count);
	mmu_notifier_subscriptions_destroy(mm);
	EXPECT_EQ(null, mm.notifier_subscriptions);
	mmu_notifier_subscriptions_init(mm);
});

TEST_F(classic, 'exit_releases_once', function* ({ mm }) {
	const a = new Listener('a', startOps);
	yield* mmu_notifier_register(a.n, mm);
	yield* mmu_notifier_release(mm);
	yield* mmu_notifier_unregister(a.n, mm);
	expectList(['release a'], heard.lines);
	EXPECT_EQ(1, mm.mm_count);
});

TEST_F(classic, 'after_a_refusal_all_are_called_and_the_ends_of_the_others', function* ({ mm }) {
	const [a, b, c] = [
		new Listener('a', bothOps),
		new Listener('b', startOps),
		new Listener('c', bothOps),
	];
	for (const l of [a, b, c]) yield* mmu_notifier_register(l.n, mm);
	b.answer = -EAGAIN;
	const range = rangeOf(mm, 0n, 0x1000n);
	EXPECT_EQ(-EAGAIN, yield* mmu_notifier_invalidate_range_start_nonblock(range));
	expectList(['start c', 'start b', 'start a', 'end c', 'end a'], heard.lines);
	b.answer = 0;
	EXPECT_EQ(0, yield* mmu_notifier_invalidate_range_start_nonblock(range));
	yield* mmu_notifier_invalidate_range_end(range);
	for (const l of [a, b, c]) yield* mmu_notifier_unregister(l.n, mm);
});

TEST_F(classic, 'a_refusal_of_classic_leaves_the_interval_side_started', function* ({ mm }) {
	const m = new Mirror();
	yield* insert(m, mm, 0n, 0x1000n);
	const a = new Listener('a', startOps);
	yield* mmu_notifier_register(a.n, mm);
	a.answer = -EAGAIN;
	const range = rangeOf(mm, 0n, 0x1000n);
	EXPECT_EQ(-EAGAIN, yield* mmu_notifier_invalidate_range_start_nonblock(range));
	// The kernel does the same: the count stays up, readers wait for ever.
	EXPECT_EQ(1n, subscriptions(mm).active_invalidate_ranges);
	EXPECT_EQ(3n, subscriptions(mm).invalidate_seq);
	a.answer = 0;
	yield* mmu_notifier_invalidate_range_end(range);
	yield* mmu_interval_notifier_remove(m.sub);
	yield* mmu_notifier_unregister(a.n, mm);
});

TEST_F(classic, 'fix_s5_refusal_of_classic_ends_the_interval_side', function* ({ mm }) {
	EXPECT_TRUE(switchOn('fix_s5'));
	const m = new Mirror();
	yield* insert(m, mm, 0n, 0x1000n);
	const a = new Listener('a', startOps);
	yield* mmu_notifier_register(a.n, mm);
	a.answer = -EAGAIN;
	const range = rangeOf(mm, 0n, 0x1000n);
	EXPECT_EQ(-EAGAIN, yield* mmu_notifier_invalidate_range_start_nonblock(range));
	// nobody calls end, and nobody need: readers go on, and a notifier can be removed
	EXPECT_EQ(0n, subscriptions(mm).active_invalidate_ranges);
	yield* mmu_interval_notifier_remove(m.sub);
	yield* mmu_notifier_unregister(a.n, mm);
});

TEST_F(classic, 'a_refusal_where_none_is_allowed_warns', function* ({ mm }) {
	const a = new Listener('a', bothOps);
	yield* mmu_notifier_register(a.n, mm);
	a.answer = -EINVAL;
	expectReport('a notifier may only refuse to block');
	expectReport('a notifier that may refuse has an end');
	yield* invalidate(rangeOf(mm, 0n, 0x1000n));
	EXPECT_TRUE(world().log.some((line) => line.includes('callback failed with -22')));
	yield* mmu_notifier_unregister(a.n, mm);
});

TEST_F(classic, 'secondary_tlb_hook_excludes_start_and_end', function* ({ mm }) {
	let flushed = '';
	const hook = (_n: mmu_notifier, _mm: mm_struct, start: bigint, end: bigint): void => {
		flushed = `${start}-${end}`;
	};
	const bad = new mmu_notifier({
		ops: { ...startOps, arch_invalidate_secondary_tlbs: hook },
	});
	expectReport('both arch_invalidate_secondary_tlbs and start or end');
	EXPECT_EQ(-EINVAL, yield* mmu_notifier_register(bad, mm));
	const good = new mmu_notifier({ ops: { arch_invalidate_secondary_tlbs: hook } });
	EXPECT_EQ(0, yield* mmu_notifier_register(good, mm));
	mmu_notifier_arch_invalidate_secondary_tlbs(mm, 1n, 2n);
	EXPECT_EQ('1-2', flushed);
	yield* mmu_notifier_unregister(good, mm);
});

TEST_F(classic, 'young_is_true_if_one_says_so', function* ({ mm }) {
	EXPECT_FALSE(mmu_notifier_clear_flush_young(mm, 0n, 1n));
	EXPECT_FALSE(mmu_notifier_clear_young(mm, 0n, 1n));
	EXPECT_FALSE(mmu_notifier_test_young(mm, 0n));
	mmu_notifier_arch_invalidate_secondary_tlbs(mm, 1n, 2n);
	const [a, b] = [new Listener('a', startOps), new Listener('b', startOps)];
	for (const l of [a, b]) yield* mmu_notifier_register(l.n, mm);
	EXPECT_FALSE(mmu_notifier_test_young(mm, 0n));
	a.young = true;
	EXPECT_TRUE(mmu_notifier_clear_flush_young(mm, 0n, 1n));
	EXPECT_TRUE(mmu_notifier_clear_young(mm, 0n, 1n));
	EXPECT_TRUE(mmu_notifier_test_young(mm, 0n));
	for (const l of [a, b]) yield* mmu_notifier_unregister(l.n, mm);
});

const getOps: mmu_notifier_ops = {
	alloc_notifier: () => new mmu_notifier(),
	free_notifier: () => {
		heard.freed++;
	},
};

TEST_F(classic, 'get_shares_one_notifier_and_the_last_put_frees_it', function* ({ mm }) {
	const first = yield* mmu_notifier_get(getOps, mm);
	const second = yield* mmu_notifier_get(getOps, mm);
	EXPECT_EQ(first, second);
	const n = first as mmu_notifier;
	EXPECT_EQ(2, n.users);
	yield* mmu_notifier_put(n);
	EXPECT_EQ(0, heard.freed);
	yield* mmu_notifier_put(n);
	EXPECT_EQ(1, heard.freed);
	EXPECT_EQ(1, mm.mm_count);
	yield* mmu_notifier_synchronize();
	expectReport('no users');
	yield* mmu_notifier_put(n);
});

TEST_F(classic, 'get_passes_every_error_on', function* ({ mm }) {
	const failing: mmu_notifier_ops = { ...getOps, alloc_notifier: () => -ENOMEM };
	EXPECT_EQ(-ENOMEM, yield* mmu_notifier_get(failing, mm));
	injectFaults().fail('mm_take_all_locks', 1);
	EXPECT_EQ(-EINTR, yield* mmu_notifier_get(getOps, mm));
	EXPECT_EQ(1, heard.freed);
	const n = (yield* mmu_notifier_get(getOps, mm)) as mmu_notifier;
	n.users = UINT_MAX;
	EXPECT_EQ(-EOVERFLOW, yield* mmu_notifier_get(getOps, mm));
	n.users = 1;
	yield* mmu_notifier_put(n);
});

TEST_F(classic, 'put_during_a_callback_frees_after_it', ({ mm }) => {
	const order: string[] = [];
	let n: mmu_notifier | null = null;
	const ops: mmu_notifier_ops = {
		alloc_notifier: () => new mmu_notifier(),
		free_notifier: () => {
			order.push('free');
		},
		*invalidate_range_start() {
			order.push('callback');
			for (let i = 0; i < 40; i++) yield schedulePoint('yield', current());
			order.push('callback ends');
			return 0;
		},
	};
	spawn('invalidator', function* () {
		n = (yield* mmu_notifier_get(ops, mm)) as mmu_notifier;
		spawn('putter', function* () {
			while (order.length === 0) yield schedulePoint('yield', current());
			yield* mmu_notifier_put(n as mmu_notifier);
			order.push('put');
		});
		yield* invalidate(rangeOf(mm, 0n, 0x1000n));
	});
	runThreads(randomStrategy(3));
	expectList(['callback', 'put', 'callback ends', 'free'], order);
	EXPECT_EQ(1, mm.mm_count);
});

TEST_F(classic, 'unregister_waits_for_a_running_callback', ({ mm }) => {
	const order: string[] = [];
	const n = new mmu_notifier({
		ops: {
			*invalidate_range_start() {
				order.push('callback');
				for (let i = 0; i < 40; i++)
					yield schedulePoint('yield', current());
				order.push('callback ends');
				return 0;
			},
		},
	});
	spawn('invalidator', function* () {
		yield* mmu_notifier_register(n, mm);
		spawn('unregister', function* () {
			while (order.length === 0) yield schedulePoint('yield', current());
			yield* mmu_notifier_unregister(n, mm);
			order.push('gone');
		});
		yield* invalidate(rangeOf(mm, 0n, 0x1000n));
	});
	runThreads(randomStrategy(11));
	expectList(['callback', 'callback ends', 'gone'], order);
});

TEST_F(classic, 'the_first_registration_waits_for_the_rmap_locks', ({ mm }) => {
	const order: string[] = [];
	const mapping = new address_space();
	const av = new anon_vma();
	mm.vmas = [
		new vm_area_struct({ vm_mm: mm }),
		new vm_area_struct({
			vm_mm: mm,
			vm_file: new file({ f_mapping: mapping }),
			anon_vma_chain: [av],
		}),
	];
	const hold = (name: string, sem: rw_semaphore) =>
		spawn(name, function* () {
			yield* down_write(sem);
			spawn('register', function* () {
				const m = new Mirror();
				yield* insert(m, mm, 0n, 0x1000n);
				order.push('registered');
				yield* mmu_interval_notifier_remove(m.sub);
			});
			for (let i = 0; i < 40; i++) yield schedulePoint('yield', current());
			order.push(name);
			yield* up_write(sem);
		});
	hold('truncate', mapping.i_mmap_rwsem);
	runThreads(randomStrategy(4));
	mm.notifier_subscriptions = null;
	hold('reclaim', av.rwsem);
	runThreads(randomStrategy(4));
	expectList(['truncate', 'registered', 'reclaim', 'registered'], order);
});
