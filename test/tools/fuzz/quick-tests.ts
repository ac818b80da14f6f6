// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: programs reach in straight form what they reach in the kernel as it is written.
 * Method: the same batches in both forms, and all that is counted; a wrong answer of the kernel.
 */
import { type Batch, runBatch } from '../../../tools/fuzz/programs/batch.ts';
import { Kernels } from '../../../tools/fuzz/programs/kernels.ts';
import { parseFuzzOptions } from '../../../tools/fuzz/programs/options.ts';
import { type RunOne, runAsWritten, runQuickly } from '../../../tools/fuzz/programs/quick.ts';
import { Statistics } from '../../../tools/fuzz/programs/statistics.ts';
import { EXPECT_EQ, EXPECT_GT, EXPECT_STREQ, TEST } from '../../kselftest_harness.ts';

const batch = (seed: number): Batch => ({
	seed,
	runs: 60,
	path: null,
	wishes: parseFuzzOptions([]).wishes,
});

/** Run batches; all that was counted, and how many programs the kernel as written was given. */
function figures(kernels: Kernels, run: RunOne): string {
	const statistics = new Statistics();
	for (const seed of [301, 302])
		EXPECT_EQ(null, runBatch(batch(seed), kernels, { statistics }, run));
	EXPECT_EQ(120, statistics.figures.programs);
	return JSON.stringify(statistics.figures, null, 1);
}

TEST('programs_reach_the_same_in_both_forms', async () => {
	const kernels = new Kernels();
	const quick = await runQuickly(kernels);
	EXPECT_STREQ(figures(kernels, runAsWritten(kernels)), figures(kernels, quick));
});

TEST('what_is_wrong_is_found_and_told_by_the_kernel_as_it_is_written', async () => {
	const kernels = new Kernels();
	const quick = await runQuickly(kernels);
	let asked = 0;
	// every read answers a value that nobody wrote
	const failure = runBatch(
		batch(303),
		kernels,
		{
			tamper: (_kernel, _at, [op], answer) => {
				asked++;
				return op === 'read' && 'v' in answer
					? { ...answer, v: 987_654 }
					: answer;
			},
		},
		quick,
	);
	EXPECT_GT(asked, 0);
	EXPECT_STREQ('bytes', failure?.invariant ?? null);
});
