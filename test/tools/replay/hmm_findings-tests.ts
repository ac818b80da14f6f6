// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a replay tells the faults that a kernel shows in its records, beside the result and without
 * failing it; with the switch that puts a fault right the same steps give no finding.
 * Method: the command on recorded scenarios that show S11 and S17; then every scenario of a family
 * executed, answers aside, with the switches on.
 */
import { fileURLToPath } from 'node:url';
import type { FeatureSet, ProfileName } from '../../../include/sim/feature.ts';
import { world } from '../../../include/sim/world.ts';
import { type Scenario, type Step, scenarioShape } from '../../../tools/replay/hmm/record.ts';
import { plainReplayer } from '../../../tools/replay/hmm/scenario.ts';
import { readRecordFile } from '../../../tools/replay/sources.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST,
	TEST_F,
} from '../../kselftest_harness.ts';
import { called } from './called.ts';

const golden = (path: string): string =>
	fileURLToPath(new URL(`../../golden/hmm/${path}.jsonl.gz`, import.meta.url));

/** One scenario of so many is executed: the switches touch them alike. */
const THINNED = 4;

interface Found {
	readonly check: string;
	readonly fix: string | null;
	readonly step: string;
	readonly title: string;
}

/** Findings of the scenarios that match, as the JSON document has them. */
async function findings(file: string, filter: string, ...more: string[]): Promise<Found[]> {
	const { out } = await called('hmm', '--json', '--filter', filter, ...more, golden(file));
	return (JSON.parse(out) as { findings: Found[] }).findings;
}

TEST('pages_migrated_that_nobody_asked_for_are_told_beside_the_result', async () => {
	const one = ['--filter', ' K-052-', golden('v7.3/corner-public')];
	const { code, out } = await called('hmm', '--findings', ...one);
	EXPECT_EQ(0, code);
	const [head = '', text = '', figure, last] = out.trimEnd().split('\n');
	EXPECT_TRUE(/^finding .*:\d+ K K-052-\S+ step 4 \["hmm",0,4,1,0,0,9,1\]$/.test(head));
	EXPECT_TRUE(
		text.startsWith(
			'  pages migrated that nobody asked for (fix_s11): 0x200000002000: 1',
		),
	);
	EXPECT_STREQ('findings: 1 pages migrated that nobody asked for (fix_s11)', figure ?? '');
	EXPECT_STREQ('1 passed, 0 failed', last ?? '');
	// without the option the number alone
	const short = await called('hmm', ...one);
	EXPECT_STREQ(`${figure}\n${last}\n`, short.out);
	// a kernel that faults only what was asked for answers otherwise, and there is nothing to tell
	const fixed = await called('hmm', '--feature', 'fix_s11', ...one);
	EXPECT_EQ(1, fixed.code);
	EXPECT_FALSE(fixed.out.includes('findings:'));
	EXPECT_TRUE(fixed.out.includes('f page 2: expected "c0a", got "c0p0"'));
});

TEST('word_that_is_not_the_page_under_it_is_told', async () => {
	const both = ' (TK-002-.*|Q-0013)$';
	const found = await findings('v7.3/new-public', both);
	EXPECT_TRUE(found.length >= 2);
	for (const { check, fix } of found)
		EXPECT_STREQ('word against page table (fix_s17)', `${check} (${fix})`);
	EXPECT_TRUE(
		found.some(
			({ title, step }) =>
				title.endsWith('TK-002-owner-fault') && step.startsWith('5 '),
		),
	);
	EXPECT_EQ(0, (await findings('v7.3/new-public', both, '--feature', 'fix_s17')).length);
});

TEST('page_that_nobody_asked_for_fails_the_call', async () => {
	const found = await findings('v6.12/public', ' B-0[0-4]');
	const failed = found.filter(({ check }) => check.startsWith('call failed by'));
	EXPECT_TRUE(failed.length > 0);
	EXPECT_STREQ('fix_s11', failed[0]?.fix ?? '');
});

/** Execute the steps of a scenario whatever they answer; what was found, and what was reported. */
function executed(
	scenario: Scenario,
	profile: ProfileName,
	features: Partial<FeatureSet>,
): { found: string[]; reports: number } {
	const { boot, open, execute } = plainReplayer;
	const oracle = open(scenario, profile, { ...boot, features });
	for (const [i, step] of scenario.steps.entries()) {
		if (scenario.r[i]!['skip'] === 'guard') continue;
		const isChild = step[0] === 'child';
		const task = isChild ? oracle.child : oracle.parent;
		// what the guard is for may come of other steps too: devices are only migrated to
		if (task === null || /^(?:dread|dreadu|dwrite|excl)$/.test(String(step[0])))
			continue;
		execute(oracle, task, isChild ? (step.slice(1) as unknown as Step) : step);
	}
	const found = world().findings!.map(
		({ check, text }) => `${scenario.id} ${check}: ${text}`,
	);
	return { found, reports: oracle.close().length };
}

const kernels = FIXTURE(
	'findings',
	() => ({}),
	FIXTURE_VARIANT<{ profile: ProfileName; file: string; features: Partial<FeatureSet> }>({
		profile: 'v7.3',
		file: 'public',
		features: {},
	}),
);
FIXTURE_VARIANT_ADD(kernels, 'v6_12', {
	profile: 'v6.12',
	file: 'public',
	features: { fix_s11: true },
});
FIXTURE_VARIANT_ADD(kernels, 'v7_3', {
	profile: 'v7.3',
	file: 'public',
	features: { fix_s11: true, fix_s17: true },
});
FIXTURE_VARIANT_ADD(kernels, 'v7_3_huge', {
	profile: 'v7.3',
	file: 'new-public',
	features: { fix_s11: true, fix_s17: true },
});

TEST_F(
	kernels,
	'no_scenario_has_a_finding_with_the_switches_on',
	(_self, { profile, file, features }) => {
		const all = readRecordFile<Scenario>(golden(`${profile}/${file}`), scenarioShape);
		let before = 0;
		const after: string[] = [];
		for (const { value } of all.filter(
			({ value: { dev } }, i) => dev > 0 && i % THINNED === 0,
		)) {
			before += executed(value, profile, {}).found.length;
			const { found, reports } = executed(value, profile, features);
			after.push(...found);
			EXPECT_EQ(0, reports);
		}
		EXPECT_TRUE(before > 10);
		EXPECT_STREQ('', after.slice(0, 3).join('\n'));
	},
	{ speed: 'slow' },
);
