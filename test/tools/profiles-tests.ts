// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: `kproto profiles` tells every switch with the kernels that have it, and makes nothing up.
 * Method: its text and its JSON are compared with the profiles themselves.
 */
import { type FeatureName, features, profiles } from '../../include/sim/feature.ts';
import { EXPECT_EQ, EXPECT_STREQ, EXPECT_TRUE, TEST } from '../kselftest_harness.ts';
import { kproto, type Outcome } from '../support/command.ts';

function run(...args: string[]): Outcome {
	return kproto(['profiles', ...args]);
}

TEST('each_switch_has_a_line_with_the_kernels_that_have_it', () => {
	const { code, out } = run();
	EXPECT_EQ(0, code);
	const lines = out.split('\n');
	for (const name of Object.keys(features) as FeatureName[]) {
		const line = lines.find((one) => one.startsWith(`${name} `)) ?? '';
		EXPECT_TRUE(line.endsWith(features[name]));
		const [, old, recent] = /^\S+\s+(on|-)\s+(on|-)\s/.exec(line) ?? [];
		EXPECT_EQ(profiles['v6.12'][name], old === 'on');
		EXPECT_EQ(profiles['v7.3'][name], recent === 'on');
	}
});

TEST('one_profile_has_one_column_and_json_has_every_switch', () => {
	EXPECT_TRUE(/^\s+v7\.3$/m.test(run('v7.3').out));
	const { default: name, features: list } = JSON.parse(run('--json').out) as {
		default: string;
		features: { name: string; profiles: string[] }[];
	};
	EXPECT_EQ('v7.3', name);
	EXPECT_EQ(Object.keys(features).length, list.length);
	EXPECT_EQ('v7.3', list.find((one) => one.name === 'hmm_dma_flags')?.profiles.join());
});

TEST('unknown_profiles_and_options_are_one_line_and_2', () => {
	const { code, out, err } = run('v5.4');
	EXPECT_EQ(2, code);
	EXPECT_STREQ('', out);
	EXPECT_STREQ('kproto profiles: there is no profile "v5.4"\n', err);
	const option = run('--colour');
	EXPECT_EQ(2, option.code);
	EXPECT_STREQ('', option.out);
	// the rest of the sentence is Node's
	EXPECT_TRUE(/^kproto profiles: Unknown option '--colour'.*\n$/.test(option.err));
});

TEST('help_is_no_mistake', () => {
	const { code, out, err } = run('-h');
	EXPECT_EQ(0, code);
	EXPECT_TRUE(out.startsWith('usage: kproto profiles'));
	EXPECT_STREQ('', err);
});
