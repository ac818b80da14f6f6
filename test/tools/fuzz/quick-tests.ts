// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: programs reach in straight form what they reach in the kernel as it is written.
 * Method: the same batches in both forms, and all that is counted; an answer that a test makes wrong.
 */
import { type Batch, runBatch } from '../../../tools/fuzz/programs/batch.ts';
import { Kernels } from '../../../tools/fuzz/programs/kernels.ts';
import { parseFuzzOptions } from '../../../tools/fuzz/programs/options.ts';
import { type RunOne, runAsWritten, runQuickly } from '../../../tools/fuzz/programs/quick.ts';
import type { RunOptions } from '../../../tools/fuzz/programs/run.ts';
import { Statistics } from '../../../tools/fuzz/programs/statistics.ts';
import { EXPECT_EQ, EXPECT_STREQ, TEST } from '../../kselftest_harness.ts';

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

TEST('what_is_looked_at_closely_is_run_by_the_kernel_as_it_is_written', async () => {
	const kernels = new Kernels();
	const quick = await runQuickly(kernels);
	// every read answers a value that nobody wrote
	const options: RunOptions = {
		tamper: (_kernel, _at, [op], answer) =>
			op === 'read' && 'v' in answer ? { ...answer, v: 987_654 } : answer,
	};
	const found = runBatch(batch(303), kernels, options, quick);
	const written = runBatch(batch(303), kernels, options);
	EXPECT_STREQ('bytes', found?.invariant ?? null);
	EXPECT_STREQ(written?.text ?? null, found?.text ?? null);
});
