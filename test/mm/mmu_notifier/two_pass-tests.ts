// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the second pass of callbacks runs after the whole first one, for those that asked for it,
 * even when somebody refused. Method: mirrors with both callbacks write down who was called.
 */
import { EAGAIN } from '../../../include/linux/errno.ts';
import type { mm_struct } from '../../../include/linux/mm_types.ts';
import {
	mmu_interval_notifier_finish,
	type mmu_interval_notifier_ops,
} from '../../../include/linux/mmu_notifier.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import {
	mmu_interval_notifier_insert,
	mmu_interval_notifier_remove,
	mmu_notifier_invalidate_range_start_nonblock,
	mmu_notifier_release,
} from '../../../mm/mmu_notifier.ts';
import { ASSERT_EQ, EXPECT_EQ, expectReport, TEST, TEST_F } from '../../kselftest_harness.ts';
import { bootBare, expectList } from '../bare_world.ts';
import {
	intervalFixture,
	invalidate,
	Mirror,
	mirrorOf,
	mirrorOps,
	newMm,
	rangeOf,
	subscriptions,
} from './mirror.ts';

const interval = intervalFixture('mmu_interval');

/** Two passes: what was called in which order. */
const twoPass = {
	order: [] as string[],
};
const twoPassOps: mmu_interval_notifier_ops = {
	*invalidate(sub, range, cur_seq) {
		return yield* mirrorOps.invalidate!(sub, range, cur_seq);
	},
	*invalidate_start(sub, range, cur_seq, finish) {
		const m = mirrorOf(sub);
		twoPass.order.push(`start ${m.lock.name}`);
		const ok = yield* mirrorOps.invalidate!(sub, range, cur_seq);
		if (!m.lock.name.startsWith('quick')) {
			finish.value = new mmu_interval_notifier_finish();
			finish.value.container = m;
		}
		return ok;
	},
	*invalidate_finish(finish) {
		twoPass.order.push(`finish ${(finish.container as Mirror).lock.name}`);
		EXPECT_EQ((finish.container as Mirror).sub, finish.notifier);
	},
};

function* insertTwoPass(mm: mm_struct, names: readonly string[]): Sim<Mirror[]> {
	twoPass.order = [];
	const mirrors: Mirror[] = [];
	for (const name of names) {
		const m = new Mirror();
		m.lock.name = name;
		mirrors.push(m);
		ASSERT_EQ(
			0,
			yield* mmu_interval_notifier_insert(m.sub, mm, 0n, 0x1000n, twoPassOps),
		);
	}
	return mirrors;
}

TEST_F(interval, 'two_passes_run_in_call_order', function* ({ mm }, { profile }) {
	const mirrors = yield* insertTwoPass(mm, ['a', 'quick', 'b']);
	yield* invalidate(rangeOf(mm, 0n, 0x1000n));
	expectList(
		profile === 'v7.3'
			? ['start a', 'start quick', 'start b', 'finish a', 'finish b']
			: [],
		twoPass.order,
	);
	for (const m of mirrors) EXPECT_EQ(1, m.heard.length);
	yield* mmu_notifier_release(mm);
	EXPECT_EQ(profile === 'v7.3' ? 10 : 0, twoPass.order.length);
	for (const m of mirrors) yield* mmu_interval_notifier_remove(m.sub);
});

TEST('F_two_pass_second_pass_runs_after_a_refusal', function* () {
	bootBare('v7.3');
	const mm = newMm();
	const [a, b] = yield* insertTwoPass(mm, ['a', 'b']);
	b!.refuses = true;
	const range = rangeOf(mm, 0n, 0x1000n);
	EXPECT_EQ(-EAGAIN, yield* mmu_notifier_invalidate_range_start_nonblock(range));
	expectList(['start a', 'start b', 'finish a', 'finish b'], twoPass.order);
	EXPECT_EQ(0n, subscriptions(mm).active_invalidate_ranges);
	for (const m of [a!, b!]) yield* mmu_interval_notifier_remove(m.sub);
});

TEST('start_without_finish_warns_at_insert', function* () {
	bootBare('v7.3');
	const mm = newMm();
	const m = new Mirror();
	expectReport('invalidate_start without invalidate_finish');
	const ops = { ...mirrorOps, invalidate_start: twoPassOps.invalidate_start! };
	EXPECT_EQ(0, yield* mmu_interval_notifier_insert(m.sub, mm, 0n, 0x1000n, ops));
	yield* mmu_interval_notifier_remove(m.sub);
});
