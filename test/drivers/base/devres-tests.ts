// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: what a driver took is given back in reverse order, once. Method: a bare device and actions
 * that write down that they ran.
 */
import {
	devm_add_action,
	devm_add_action_or_reset,
	devm_release_action,
	devm_remove_action,
	devres_release_all,
} from '../../../drivers/base/devres.ts';
import { device } from '../../../include/linux/device.ts';
import { ENOMEM } from '../../../include/linux/errno.ts';
import { injectFaults } from '../../../include/sim/fault_injection.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import {
	EXPECT_EQ,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	TEST_F,
} from '../../kselftest_harness.ts';
import { bootPci, standardMachine } from '../pci/machines.ts';

const devres = FIXTURE('devres', () => ({ dev: new device(), ran: [] as string[] }));
FIXTURE_SETUP(devres, () => {
	bootPci(standardMachine());
});

TEST_F(devres, 'released_newest_first_whether_they_sleep_or_not', function* ({ dev, ran }) {
	const plain = (name: string): undefined => void ran.push(name);
	function* sleeping(name: string): Sim<void> {
		ran.push(name);
	}
	EXPECT_EQ(0, devm_add_action(dev, plain, 'a'));
	EXPECT_EQ(0, yield* devm_add_action_or_reset(dev, sleeping, 'b'));
	EXPECT_EQ(0, devm_add_action(dev, plain, 'c'));
	yield* devres_release_all(dev);
	yield* devres_release_all(dev);
	EXPECT_EQ('c,b,a', ran.join());
});

TEST_F(devres, 'without_memory_or_reset_runs_it_at_once', function* ({ dev, ran }) {
	const action = (name: string): undefined => void ran.push(name);
	injectFaults().fail('devm_add_action', 1, 2);
	EXPECT_EQ(-ENOMEM, devm_add_action(dev, action, 'a'));
	EXPECT_EQ(-ENOMEM, yield* devm_add_action_or_reset(dev, action, 'b'));
	yield* devres_release_all(dev);
	EXPECT_EQ('b', ran.join());
});

TEST_F(devres, 'taken_back_or_run_early_it_does_not_run_again', function* ({ dev, ran }) {
	const action = (name: string): undefined => void ran.push(name);
	for (const name of ['a', 'b', 'c']) EXPECT_EQ(0, devm_add_action(dev, action, name));
	devm_remove_action(dev, action, 'b');
	yield* devm_release_action(dev, action, 'a');
	EXPECT_EQ('a', ran.join());
	yield* devres_release_all(dev);
	EXPECT_EQ('a,c', ran.join());
});

TEST_F(devres, 'unknown_action_is_warned_about', function* ({ dev, ran }) {
	const action = (name: string): undefined => void ran.push(name);
	expectReport(/devres action not found/);
	devm_remove_action(dev, action, 'a');
	yield* devm_release_action(dev, action, 'a');
	EXPECT_EQ('', ran.join());
});
