// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: steps that the recorder left out, because the kernel's test driver oopses in them, oops in
 * the model too when they are executed, and the report says where; none of it fails the replay.
 * Method: every guarded step of the records of both kernels; the command on a few of them.
 */
import { fileURLToPath } from 'node:url';
import type { ProfileName } from '../../../include/sim/feature.ts';
import { type Scenario, scenarioShape } from '../../../tools/replay/hmm/record.ts';
import { plainReplayer } from '../../../tools/replay/hmm/scenario.ts';
import { replayGuarded, type UnguardedStep } from '../../../tools/replay/hmm/unguarded.ts';
import { readRecordFile, recordFiles } from '../../../tools/replay/sources.ts';
import {
	ASSERT_EQ,
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
	fileURLToPath(new URL(`../../golden/hmm/${path}`, import.meta.url));

const records = FIXTURE(
	'records',
	() => ({}),
	FIXTURE_VARIANT<{ profile: ProfileName }>({ profile: 'v7.3' }),
);

FIXTURE_VARIANT_ADD(records, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(records, 'v7_3', { profile: 'v7.3' });

/** All guarded steps of a kernel's records, executed; and how many there are. */
function guardedSteps(profile: ProfileName): { count: number; done: UnguardedStep[] } {
	const done: UnguardedStep[] = [];
	let count = 0;
	for (const file of recordFiles(golden(profile)))
		for (const { value } of readRecordFile<Scenario>(file, scenarioShape)) {
			const guarded = value.r.filter(({ skip }) => skip === 'guard').length;
			if (guarded === 0) continue;
			count += guarded;
			done.push(...replayGuarded(value.id, profile, value, plainReplayer));
		}
	return { count, done };
}

TEST_F(
	records,
	'guarded_steps_oops_in_the_driver_s_copy',
	(_self, { profile }) => {
		const { count, done } = guardedSteps(profile);
		ASSERT_EQ(count, done.length);
		const oopses = done.filter(({ outcome }) => outcome === 'oops');
		EXPECT_TRUE(oopses.some(({ step }) => step.includes('"dread"')));
		EXPECT_TRUE(oopses.some(({ step }) => step.includes('"dwrite"')));
		for (const { outcome, step, answer, report } of done) {
			const isWrite = step.includes('"dwrite"');
			EXPECT_TRUE(isWrite || outcome !== 'warning');
			if (outcome === 'oops') {
				// the copy of a page whose bytes no CPU reaches
				EXPECT_TRUE(
					/^BUG: unable to handle page fault: pfn 0x\w+ is not RAM$/m.test(
						report,
					),
				);
				const copy = isWrite ? 'dmirror_do_write' : 'dmirror_do_read';
				EXPECT_TRUE(report.includes(`\n ${copy} lib/test_hmm/mirror.ts:`));
			} else if (outcome === 'warning') {
				// a read-only device page, for which hmm_range_fault() answers 0
				EXPECT_EQ(-14, Number(answer?.['rc']));
				EXPECT_TRUE(/^WARNING: .* at dmirror_do_fault/m.test(report));
			} else EXPECT_STREQ('', report);
		}
	},
	{ speed: 'slow' },
);

TEST('oops_is_told_with_its_step_and_fails_nothing', async () => {
	const file = golden('v7.3/corner-public.jsonl.gz');
	const one = ['--filter', ' K-066-', file];
	const { code, out } = await called('hmm', '--unguarded', ...one);
	EXPECT_EQ(0, code);
	const lines = out.trimEnd().split('\n');
	EXPECT_TRUE(/^oops .*:\d+ K K-066-dwrite-dev step \d+ \["dwrite",0,/.test(lines[0]!));
	EXPECT_STREQ('  ------------[ cut here ]------------', lines[1]!);
	EXPECT_TRUE(lines[2]!.startsWith('  BUG: unable to handle page fault: '));
	EXPECT_STREQ(
		'unguarded: of 1 guarded steps 1 oops, 0 warn and go on, 0 answer',
		lines.at(-2)!,
	);
	EXPECT_STREQ('1 passed, 0 failed', lines.at(-1)!);
	// with the guards nothing of it is seen
	EXPECT_STREQ('1 passed, 0 failed\n', (await called('hmm', ...one)).out);
	const json = await called('hmm', '--json', '--unguarded', ...one);
	const { unguarded, passed } = JSON.parse(json.out) as {
		unguarded: UnguardedStep[];
		passed: number;
	};
	EXPECT_EQ(1, passed);
	EXPECT_STREQ('oops', unguarded[0]!.outcome);
	EXPECT_TRUE(unguarded[0]!.answer === null);
});

TEST('kernel_that_warns_goes_on', async () => {
	const file = golden('v6.12/public.jsonl.gz');
	const { code, out } = await called('hmm', '--unguarded', '--filter', ' D-00(42|58)$', file);
	EXPECT_EQ(0, code);
	EXPECT_TRUE(/^warning .* D-0042 step 10 \["dwrite".* = \{"rc":-14\}$/m.test(out));
	EXPECT_TRUE(/^oops .* D-0058 step 7 \["dread",0,3,6\]$/m.test(out));
	// the recorder's guard is wider than the oops: the device pages in front are in the mirror
	EXPECT_TRUE(/^answer .* D-0058 step 8 \["dread",0,4,3\] = \{"rc":0,/m.test(out));
	EXPECT_FALSE(out.includes(' tools/replay/'));
});

TEST('only_records_of_hmm_have_guards', async () => {
	const proposal = fileURLToPath(new URL('../../golden/proposal', import.meta.url));
	EXPECT_EQ(2, (await called('p2p', '--unguarded', proposal)).code);
	EXPECT_EQ(2, (await called('hmm', '--unguarded', '--trace', 'K-066', proposal)).code);
});
