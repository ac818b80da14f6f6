// SPDX-License-Identifier: GPL-2.0-only
/** A process that runs the batches that it is given, one after the other, until nobody listens. */
import { type Batch, type Failure, runBatch } from './batch.ts';
import { Kernels } from './kernels.ts';
import { runAsWritten, runQuickly } from './quick.ts';
import { type Figures, Statistics } from './statistics.ts';

/** What a batch came to. */
export interface BatchResult {
	readonly figures: Figures;
	readonly failure: Failure | null;
}

const kernels = new Kernels();
// a mutant is put into the sources as they are loaded, and straight code is made of what they are
const run =
	process.env['KPROTO_MUTANT'] === undefined
		? await runQuickly(kernels)
		: runAsWritten(kernels);

process.on('message', (batch: Batch) => {
	const statistics = new Statistics();
	const failure = runBatch(batch, kernels, { statistics }, run);
	process.send!({ figures: statistics.figures, failure } satisfies BatchResult);
});
// Ctrl-C goes to all of a terminal; whoever started this one tells it to end
process.on('SIGINT', () => {});
process.on('disconnect', () => process.exit());
