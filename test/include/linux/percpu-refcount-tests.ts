// SPDX-License-Identifier: GPL-2.0-only
/** Goal: a killed percpu_ref releases once, at the last put. Method: each rule by itself. */
import { ENOMEM } from '../../../include/linux/errno.ts';
import {
	PERCPU_REF_INIT_DEAD,
	percpu_ref,
	percpu_ref_exit,
	percpu_ref_get,
	percpu_ref_get_many,
	percpu_ref_init,
	percpu_ref_is_dying,
	percpu_ref_is_zero,
	percpu_ref_kill,
	percpu_ref_kill_and_confirm,
	percpu_ref_put,
	percpu_ref_put_many,
	percpu_ref_tryget,
	percpu_ref_tryget_live,
	percpu_ref_tryget_live_rcu,
	percpu_ref_tryget_many,
} from '../../../include/linux/percpu-refcount.ts';
import { GFP_KERNEL } from '../../../include/linux/types.ts';
import { injectFaults } from '../../../include/sim/fault_injection.ts';
import { bootTiny, oopsOf } from '../../kernel/tiny_world.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	TEST_F,
} from '../../kselftest_harness.ts';

const refs = FIXTURE('percpu_ref', () => ({ ref: new percpu_ref(), released: 0 }));

FIXTURE_SETUP(refs, (self) => {
	bootTiny();
	EXPECT_EQ(
		0,
		percpu_ref_init(self.ref, () => self.released++, 0, GFP_KERNEL),
	);
});

TEST_F(refs, 'release_comes_at_the_last_put_after_the_kill', (self) => {
	const { ref } = self;
	percpu_ref_get(ref);
	percpu_ref_get_many(ref, 37_000_000n * 8n);
	percpu_ref_put_many(ref, 37_000_000n * 8n);
	percpu_ref_kill(ref);
	EXPECT_TRUE(percpu_ref_is_dying(ref));
	EXPECT_FALSE(percpu_ref_is_zero(ref));
	EXPECT_FALSE(percpu_ref_tryget_live(ref));
	EXPECT_TRUE(percpu_ref_tryget(ref));
	percpu_ref_put(ref);
	EXPECT_EQ(0, self.released);
	percpu_ref_put(ref);
	EXPECT_EQ(1, self.released);
	EXPECT_TRUE(percpu_ref_is_zero(ref));
	EXPECT_FALSE(percpu_ref_tryget_many(ref, 1));
	percpu_ref_exit(ref);
	EXPECT_FALSE(percpu_ref_tryget_live(ref));
});

TEST_F(refs, 'live_reference_can_be_taken_until_the_kill', ({ ref }) => {
	EXPECT_TRUE(percpu_ref_tryget_live_rcu(ref));
	percpu_ref_put(ref);
	let confirmed = false;
	percpu_ref_kill_and_confirm(ref, () => {
		confirmed = true;
	});
	EXPECT_TRUE(confirmed);
	percpu_ref_kill(ref);
	expectReport('percpu_ref_kill called more than once');
});

TEST_F(refs, 'put_too_many_is_a_bug', ({ ref }) => {
	percpu_ref_kill(ref);
	EXPECT_TRUE(oopsOf(() => percpu_ref_put(ref)).title.includes('<= 0 (-1)'));
	expectReport('percpu ref');
});

TEST_F(refs, 'dead_at_init_and_no_memory', () => {
	const dead = new percpu_ref();
	EXPECT_EQ(
		0,
		percpu_ref_init(dead, () => {}, PERCPU_REF_INIT_DEAD, GFP_KERNEL),
	);
	EXPECT_TRUE(percpu_ref_is_zero(dead));
	injectFaults().fail('percpu_ref_init');
	EXPECT_EQ(
		-ENOMEM,
		percpu_ref_init(dead, () => {}, 0, GFP_KERNEL),
	);
});
