// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the replay in straight form answers as the kernel does as it is written, and hands over where
 * another thread would have to run.
 * Method: one scenario in so many of each file, asked of both forms; scenarios with a userfaultfd, whose
 * faults a second thread resolves; a record that is wrong.
 */
import { fileURLToPath } from 'node:url';
import { quickReplay, straightReplay, WORTH_IT } from '../../../tools/replay/hmm/quick.ts';
import { type Scenario, scenarioShape } from '../../../tools/replay/hmm/record.ts';
import { replayers } from '../../../tools/replay/hmm/replayers.ts';
import { replayScenario } from '../../../tools/replay/hmm/scenario.ts';
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
		const { replayStraight } = await straightReplay();
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
					const straight = replayStraight(family, one, profile, {});
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
	const { replayStraight } = await straightReplay();
	const replay = await quickReplay(replayers['hmm']!, {}, WORTH_IT);
	let threads = 0;
	for (const file of recordFiles(golden('hmm/v7.3'))) {
		const profile = profileOf(file, null);
		for (const { value } of readRecordFile<Scenario>(file, scenarioShape)) {
			if (!threaded.test(value.fam)) continue;
			try {
				replayStraight('hmm', value, profile, {});
			} catch (error) {
				EXPECT_STREQ(
					'straight code has one thread',
					(error as Error).message,
				);
				threads++;
			}
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
