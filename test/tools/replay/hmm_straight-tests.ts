// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the replay in straight form answers as the kernel does as it is written, and hands over where
 * another thread would have to run.
 * Method: one scenario in so many of each file, asked of both forms; scenarios with a userfaultfd, whose
 * faults a second thread resolves; a record that is wrong.
 */
import { fileURLToPath } from 'node:url';
import {
	BothForms,
	quickReplay,
	straightReplay,
	WORTH_IT,
} from '../../../tools/replay/hmm/quick.ts';
import { type Scenario, scenarioShape } from '../../../tools/replay/hmm/record.ts';
import { replayers } from '../../../tools/replay/hmm/replayers.ts';
import { replayScenario, type ScenarioResult } from '../../../tools/replay/hmm/scenario.ts';
import { profileOf, readRecordFile, recordFiles } from '../../../tools/replay/sources.ts';
import { EXPECT_EQ, EXPECT_GT, EXPECT_STREQ, TEST } from '../../kselftest_harness.ts';

const golden = (path: string): string =>
	fileURLToPath(new URL(`../../golden/${path}`, import.meta.url));

/** One scenario of so many is asked. */
const THINNED = 16;

/** Families in which a second thread resolves faults. */
const threaded = /^[VU]K?$/;

const thinned = (file: string): Scenario[] =>
	readRecordFile<Scenario>(file, scenarioShape)
		.filter((_, i) => i % THINNED === 0)
		.map(({ value }) => value);

for (const family of ['hmm', 'proposal'])
	TEST(`${family}_answers_in_straight_form_as_it_is_written`, async () => {
		const { replayStraight } = (await straightReplay())!;
		let asked = 0;
		for (const file of recordFiles(golden(family))) {
			const profile = profileOf(file, null);
			for (const scenario of thinned(file)) {
				if (threaded.test(scenario.fam)) continue;
				// so that what a form says of a difference is compared as well
				const steps = scenario.steps.slice(0, -1);
				const r = [...scenario.r.slice(0, -2), { rc: 12_345 }];
				const broken = { ...scenario, steps, r: r.slice(-steps.length) };
				for (const one of [scenario, broken]) {
					const replayer = replayers[family]!;
					const written = replayScenario(one, profile, replayer);
					const straight = replayStraight(
						family,
						one,
						profile,
						replayer.boot,
					)!;
					const told = ({
						findings,
						mismatches,
						strict,
					}: typeof written) =>
						JSON.stringify([mismatches, strict, findings]);
					EXPECT_STREQ(told(written), told(straight));
					asked++;
				}
			}
		}
		EXPECT_GT(asked, 50);
	});

TEST('what_needs_another_thread_is_asked_of_the_kernel_as_it_is_written', async () => {
	const { replayStraight } = (await straightReplay())!;
	const replay = await quickReplay(replayers['hmm']!, {}, WORTH_IT);
	let threads = 0;
	for (const file of recordFiles(golden('hmm/v7.3'))) {
		const profile = profileOf(file, null);
		for (const { value } of readRecordFile<Scenario>(file, scenarioShape)) {
			if (!threaded.test(value.fam)) continue;
			const { boot } = replayers['hmm']!;
			if (replayStraight('hmm', value, profile, boot) === null) threads++;
			EXPECT_EQ(0, replay(value, profile).mismatches.length);
		}
	}
	EXPECT_GT(threads, 0);
});

TEST('a_record_that_is_wrong_fails', async () => {
	const replay = await quickReplay(replayers['hmm']!, {}, WORTH_IT);
	const [file = ''] = recordFiles(golden('hmm/v7.3'));
	const [scenario] = thinned(file);
	const r = scenario!.r.map((answer) => ('rc' in answer ? { ...answer, rc: 77 } : answer));
	EXPECT_GT(replay({ ...scenario!, r }, profileOf(file, null)).mismatches.length, 0);
});

/** Results that one form may have. */
const passed: ScenarioResult = { mismatches: [], strict: [], findings: [] };
const failed: ScenarioResult = { ...passed, mismatches: [{ step: '0', expected: 1, got: 2 }] };

/** What is answered where each form has one result; an Error is thrown. */
function answered(written: ScenarioResult, straight: ScenarioResult | Error | null): string[] {
	const file = recordFiles(golden('hmm/v7.3'))[0]!;
	const { value } = readRecordFile<Scenario>(file, scenarioShape)[0]!;
	let asked = 0;
	const both = new BothForms(
		() => {
			asked++;
			return written;
		},
		() => {
			if (straight instanceof Error) throw straight;
			return straight;
		},
	);
	const results = [both.replay(value, 'v7.3'), both.replay(value, 'v7.3')];
	return [
		...results.map(({ mismatches }) => mismatches.map(({ step }) => step).join(' ')),
		String(asked),
	];
}

TEST('where_the_two_forms_differ_a_record_fails', () => {
	const differs = 'the straight form';
	// the first of a family is asked of both
	EXPECT_STREQ(',,1', answered(passed, passed).join());
	EXPECT_STREQ(`0 ${differs},0,2`, answered(failed, passed).join());
	EXPECT_STREQ(`${differs},,2`, answered(passed, failed).join());
	EXPECT_STREQ(`${differs},,2`, answered(passed, new Error('broken')).join());
	EXPECT_STREQ('0,0,2', answered(failed, failed).join());
	// a second thread is no difference
	EXPECT_STREQ(',,2', answered(passed, null).join());
});
