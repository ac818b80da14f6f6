// SPDX-License-Identifier: GPL-2.0-only
/**
 * Mutated topologies. Goal: each gives a machine or one line. Method: a part of what `npm run fuzz:topology`
 * runs, with the same generator; a failure names the seed: `npm run fuzz:topology 1 SEED`.
 */
import { fuzzTopology } from '../../../tools/fuzz/topology/topology.ts';
import { EXPECT_EQ, EXPECT_GT, EXPECT_STREQ, TEST } from '../../kselftest_harness.ts';

const COUNT = 1000;

TEST('mutated_topologies_give_a_machine_or_one_line', () => {
	const { machines, lines, failures } = fuzzTopology(COUNT, 1);
	EXPECT_STREQ('', failures.join('\n'));
	EXPECT_EQ(COUNT, machines + lines);
	// Neither all refused nor all read: the mutations are neither too wild nor too tame.
	EXPECT_GT(machines, COUNT / 10);
	EXPECT_GT(lines, COUNT / 10);
});

TEST('bridge_on_a_bus_to_which_none_leads_is_enumerated', () => {
	// npm run fuzz:topology 1 26502: a switch whose upstream port is missing.
	EXPECT_STREQ('', fuzzTopology(1, 26502).failures.join('\n'));
});
