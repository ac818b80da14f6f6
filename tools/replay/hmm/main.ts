// SPDX-License-Identifier: GPL-2.0-only
/** `kproto replay hmm PATH...`: scenarios of hmm_range_fault() and the HMM test driver. */
import { progressBar } from '../../kproto/progress.ts';
import { parseReplayOptions } from '../options.ts';
import { ReplayResults } from '../report.ts';
import { profileOf, readRecordFile, recordFiles } from '../sources.ts';
import type { Oracle } from './oracle.ts';
import { type Scenario, scenarioShape } from './record.ts';
import { plainReplayer, type Replayer, replayScenario } from './scenario.ts';

/**
 * Replay scenarios.
 *
 * @param argv - options and paths
 * @returns the exit code
 * @throws RecordError, ReplayUsageError
 */
export async function main(argv: string[]): Promise<number> {
	return replayFiles(argv, plainReplayer);
}

/**
 * Replay the scenarios of files with one kind of kernel.
 *
 * @param argv - options and paths
 * @param replayer - how it is set up and what steps do
 * @returns the exit code
 */
export function replayFiles<O extends Oracle>(argv: string[], replayer: Replayer<O>): number {
	const { paths, profile, filter, json, strict: isStrict } = parseReplayOptions(argv);
	const records = paths
		.flatMap(recordFiles)
		.flatMap((file) => readRecordFile<Scenario>(file, scenarioShape));
	const results = new ReplayResults(json);
	if (isStrict) results.strictPassed = 0;
	const bar = progressBar();
	bar.start(records.length, 0, { machine: '' });
	for (const { file, line, value } of records) {
		const title = `${file}:${line} ${value.fam} ${value.id}`;
		bar.increment({ machine: value.id });
		if (filter !== null && !filter.test(title)) continue;
		const kernel = profileOf(file, profile);
		const { mismatches, strict } = replayScenario(value, kernel, replayer);
		results.add(title, kernel, mismatches);
		if (results.strictPassed !== null && mismatches.length + strict.length === 0)
			results.strictPassed++;
	}
	bar.stop();
	return results.finish();
}
