// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the kernel's hmm-tests have on the model the outcome that they have on real kernels, failures
 * and skips included, and a case fails at the same assertion with the same values.
 * Method: the program runs as a whole, case after case on one kernel, with the release, huge page
 * policy and devices of each record in test/golden/hmm; a case that the records do not have, or that
 * only they have, is a difference too.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { ProfileName } from '../../include/sim/feature.ts';
import {
	EXPECT_EQ,
	EXPECT_GT,
	EXPECT_STREQ,
	expectReport,
	FIXTURE,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../kselftest_harness.ts';
import { type CaseOutcome, runProgram } from './hmm_program/outcome.ts';
import {
	bootTested,
	conflictingMapping,
	type TestedKernel,
	unloadDriver,
} from './hmm_program/program.ts';
import { comparable, readTap } from './hmm_program/tap.ts';

const golden = fileURLToPath(new URL('../golden/hmm/', import.meta.url));

/** A record, and the kernel that it is from. */
interface Recorded extends TestedKernel {
	readonly file: string;
}

/** The records; THP was `always` where the name does not say otherwise. */
function records(): Recorded[] {
	const found: Recorded[] = [];
	for (const profile of ['v6.12', 'v7.3'] as const satisfies ProfileName[])
		for (const name of readdirSync(`${golden}${profile}`).sort())
			if (name.endsWith('.tap'))
				found.push({
					file: `${golden}${profile}/${name}`,
					profile,
					thp: name.includes('thp-madvise') ? 'madvise' : 'always',
					coherent: name.includes('coherent'),
					// hmm-tests.ts goes to the end, which takes long
					largest: 8,
				});
	return found;
}

const taps = FIXTURE(
	'taps',
	() => ({}),
	FIXTURE_VARIANT<Recorded>({
		file: '',
		profile: 'v7.3',
		thp: 'always',
		coherent: false,
	}),
);

for (const record of records()) {
	const { profile, thp, coherent } = record;
	const name = `${profile}_thp_${thp}${coherent ? '_coherent' : ''}`.replace('.', '_');
	FIXTURE_VARIANT_ADD(taps, name, record);
}

function line({ name, result, message }: CaseOutcome): string {
	return `${name}: ${result} ${comparable(message)}`;
}

TEST_F(
	taps,
	'outcomes_are_the_recorded_ones',
	(_self, kernel) => {
		const expected = readTap(readFileSync(kernel.file, 'utf8'));
		EXPECT_GT(expected.length, 50);
		bootTested(kernel);
		const { profile, coherent } = kernel;
		if (profile === 'v7.3' && coherent) expectReport(conflictingMapping);
		if (expected.some(({ message }) => message.includes('by signal 9'))) {
			expectReport('NULL pointer dereference in dmirror_migrate_to_device');
			// what the process had that the oops killed
			expectReport('still in use at shutdown');
		}
		const seen = runProgram(kernel);
		EXPECT_EQ(expected.length, seen.length);
		for (const [i, outcome] of expected.entries())
			EXPECT_STREQ(line(outcome), seen[i] ? line(seen[i]) : 'no such case');
		unloadDriver();
	},
	{ speed: 'slow' },
);
