// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the model answers what real kernels answered, scenario by scenario.
 * Method: every record file under test/golden/hmm and test/golden/proposal; one test for each family
 * of a file, which shows the first scenarios that differ.
 */
import { basename, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ProfileName } from '../../../include/sim/feature.ts';
import type { Oracle } from '../../../tools/replay/hmm/oracle.ts';
import { type Scenario, scenarioShape } from '../../../tools/replay/hmm/record.ts';
import {
	plainReplayer,
	type Replayer,
	replayScenario,
} from '../../../tools/replay/hmm/scenario.ts';
import { proposalReplayer } from '../../../tools/replay/proposal/replayer.ts';
import {
	profileOf,
	type RecordLine,
	readRecordFile,
	recordFiles,
} from '../../../tools/replay/sources.ts';
import { EXPECT_STREQ, TEST } from '../../kselftest_harness.ts';

const golden = fileURLToPath(new URL('../../golden/', import.meta.url));

/** Scenarios of a family that are shown when they differ. */
const SHOWN = 3;

/** Scenarios of a file by family. */
function families(file: string): Map<string, RecordLine<Scenario>[]> {
	const found = new Map<string, RecordLine<Scenario>[]>();
	for (const record of readRecordFile<Scenario>(file, scenarioShape)) {
		const { fam } = record.value;
		found.set(fam, [...(found.get(fam) ?? []), record]);
	}
	return found;
}

/** The scenarios that differ, a line each: id, step, expected and got. */
function differences<O extends Oracle>(
	records: readonly RecordLine<Scenario>[],
	profile: ProfileName,
	replayer: Replayer<O>,
): string[] {
	const lines: string[] = [];
	for (const { value } of records) {
		const [first] = replayScenario(value, profile, replayer).mismatches;
		if (first === undefined) continue;
		const { step, expected, got } = first;
		lines.push(`${value.id} ${step}: expected ${String(expected)}, got ${String(got)}`);
	}
	return lines;
}

function addTests<O extends Oracle>(folder: string, replayer: Replayer<O>): void {
	for (const file of recordFiles(`${golden}${folder}`)) {
		const profile = profileOf(file, null);
		const kind = basename(file).replace(/-?public\.jsonl\.gz$/, '') || 'public';
		for (const [family, records] of families(file)) {
			const name = [folder, basename(dirname(file)), kind, family]
				.join('_')
				.replace(/\W/g, '_');
			TEST(
				name,
				() => {
					const found = differences(records, profile, replayer);
					const shown = found.slice(0, SHOWN).join('\n');
					EXPECT_STREQ('', shown);
				},
				{ speed: 'slow' },
			);
		}
	}
}

addTests('hmm', plainReplayer);
addTests('proposal', proposalReplayer);
