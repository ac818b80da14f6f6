// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: boot() and shutdown() make and take one world, and misuse is named.
 * Method: each option, each misuse; the checks of subsystems are tested with them.
 */
import { makeMachine } from '../../arch/sim/machine.ts';
import { mutex } from '../../include/linux/spinlock.ts';
import type { FeatureName, ProfileName } from '../../include/sim/feature.ts';
import { feature, installedWorld, world } from '../../include/sim/world.ts';
import { boot, shutdown } from '../../init/main.ts';
import { mutex_lock } from '../../kernel/locking/mutex.ts';
import { run, spawn } from '../../kernel/sched/core.ts';
import { preempt_disable } from '../../kernel/sched/might_sleep.ts';
import { msleep } from '../../kernel/time/sleep_timeout.ts';
import { messageOf, tinyMachine } from '../kernel/tiny_world.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	expectReport,
	TEST,
} from '../kselftest_harness.ts';

TEST('boots_a_description_or_a_machine', () => {
	EXPECT_NULL(installedWorld());
	const first = boot(tinyMachine);
	EXPECT_EQ(first, world());
	EXPECT_EQ('v7.3', first.profile);
	EXPECT_EQ('init/1', `${first.current.comm}/${first.current.pid}`);
	EXPECT_EQ(0, shutdown().length);
	const machine = makeMachine(tinyMachine);
	EXPECT_EQ(machine, boot(machine).machine);
});

TEST('profile_proposals_and_single_switches', () => {
	boot(tinyMachine, 'v6.12');
	EXPECT_TRUE(feature('devmap_entries'));
	EXPECT_FALSE(feature('p2p_op_dma_dev'));
	shutdown();
	boot(tinyMachine, 'v7.3', {
		proposals: ['p2p_op_dma_dev'],
		features: { devmap_entries: true },
		trackOrigins: true,
	});
	EXPECT_TRUE(feature('p2p_op_dma_dev'));
	EXPECT_TRUE(feature('devmap_entries'));
	EXPECT_TRUE(world().trackOrigins);
	shutdown();
	boot(tinyMachine);
	EXPECT_FALSE(feature('devmap_entries'));
});

TEST('misuse_names_the_call_and_the_rule', () => {
	EXPECT_STREQ(
		'HarnessError: shutdown(): no kernel is booted: call boot() first',
		messageOf(shutdown),
	);
	EXPECT_STREQ(
		'HarnessError: boot(): there is no profile "v5.4"; there are v6.12, v7.3',
		messageOf(() => boot(tinyMachine, 'v5.4' as ProfileName)),
	);
	EXPECT_STREQ(
		'HarnessError: boot(): there is no feature switch "no_such"',
		messageOf(() =>
			boot(tinyMachine, 'v7.3', { proposals: ['no_such' as FeatureName] }),
		),
	);
	EXPECT_STREQ(
		'HarnessError: boot(): "p2p_op_dma_dev" is written against a kernel with "hmm_dma_flags", which "v6.12" has not',
		messageOf(() => boot(tinyMachine, 'v6.12', { proposals: ['p2p_op_dma_dev'] })),
	);
	boot(tinyMachine);
	EXPECT_STREQ(
		'HarnessError: boot(): a kernel is booted already: call shutdown() first',
		messageOf(() => boot(tinyMachine)),
	);
});

TEST('shutdown_lets_threads_end_and_returns_what_was_reported', () => {
	boot(tinyMachine);
	let ended = false;
	spawn('slow', function* () {
		yield* msleep(1000);
		ended = true;
	});
	EXPECT_EQ(0, shutdown().length);
	EXPECT_TRUE(ended);
	EXPECT_NULL(installedWorld());
});

TEST('locks_and_sections_of_init_are_looked_for', () => {
	boot(tinyMachine);
	run(mutex_lock(new mutex('forgotten')));
	preempt_disable();
	expectReport('1 lock held by init/1:');
	expectReport('init/1 ends with preempt_count 1');
});
