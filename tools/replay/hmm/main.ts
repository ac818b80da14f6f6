// SPDX-License-Identifier: GPL-2.0-only
/** `kproto replay hmm PATH...`: scenarios of hmm_range_fault() and the HMM test driver. */
import type { ProfileName } from '../../../include/sim/feature.ts';
import type { BootOptions } from '../../../init/main.ts';
import { progressBar } from '../../kproto/progress.ts';
import { UserError } from '../../kproto/user_error.ts';
import { checkSwitches, parseReplayOptions, type ReplayOptions } from '../options.ts';
import { ReplayResults } from '../report.ts';
import { profileOf, readRecordFile, recordFiles } from '../sources.ts';
import { FindingList } from './findings.ts';
import type { Oracle } from './oracle.ts';
import { quickReplay } from './quick.ts';
import { type Scenario, scenarioShape } from './record.ts';
import { plainReplayer, type Replayer } from './scenario.ts';
import { traceScenarios } from './trace.ts';
import { UnguardedSteps } from './unguarded.ts';

/**
 * Replay scenarios.
 *
 * @param argv - options and paths
 * @returns the exit code
 * @throws UserError
 */
export async function main(argv: string[]): Promise<number> {
	return replayFiles(argv, plainReplayer);
}

/** A record, its title, and the kernel that it is replayed under. */
interface Chosen {
	readonly title: string;
	readonly profile: ProfileName;
	readonly scenario: Scenario;
}

/** The records of the paths that the command line lets through. */
function chosenRecords(
	{ paths, profile, filter, features }: ReplayOptions,
	{ proposals = [] }: BootOptions,
): Chosen[] {
	const proposed = Object.fromEntries(proposals.map((name) => [name, true]));
	const chosen: Chosen[] = [];
	for (const file of paths.flatMap(recordFiles)) {
		const kernel = profileOf(file, profile);
		for (const { line, value } of readRecordFile<Scenario>(file, scenarioShape)) {
			const title = `${file}:${line} ${value.fam} ${value.id}`;
			if (filter !== null && !filter.test(title)) continue;
			const own = profile ?? value.profile ?? kernel;
			checkSwitches(own, { ...proposed, ...features });
			chosen.push({ title, profile: own, scenario: value });
		}
	}
	return chosen;
}

/**
 * Replay the scenarios of files with one kind of kernel.
 *
 * @param argv - options and paths
 * @param base - how it is set up and what steps do
 * @returns the exit code
 * @throws UserError
 */
export async function replayFiles<O extends Oracle>(
	argv: string[],
	base: Replayer<O>,
): Promise<number> {
	const options = parseReplayOptions(argv);
	const { features, json, trace } = options;
	if (trace !== null && options.unguarded)
		throw new UserError('--trace and --unguarded: one of them');
	const records = chosenRecords(options, base.boot);
	if (trace !== null)
		return traceScenarios(
			trace,
			{ family: base.family, json, features, records },
			options.paths,
		);
	const replay = await quickReplay(base as Replayer<never>, features, records.length);
	const results = new ReplayResults(json);
	if (options.strict) results.strictPassed = 0;
	const found = new FindingList(results, options.findings);
	const unguarded = options.unguarded
		? new UnguardedSteps({ ...base, boot: { ...base.boot, features } }, results)
		: null;
	const bar = progressBar();
	bar.start(records.length, 0, { machine: '' });
	for (const { title, profile, scenario } of records) {
		bar.increment({ machine: scenario.id });
		const { mismatches, strict, findings } = replay(scenario, profile);
		results.add(title, profile, mismatches);
		found.add(title, profile, findings);
		if (results.strictPassed !== null && mismatches.length + strict.length === 0)
			results.strictPassed++;
		unguarded?.replay(title, profile, scenario);
	}
	bar.stop();
	found.finish();
	unguarded?.finish();
	return results.finish();
}
