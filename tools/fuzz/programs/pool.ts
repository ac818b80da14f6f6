// SPDX-License-Identifier: GPL-2.0-only
/**
 * Batches in several processes.
 *
 * Guarantee: which programs run does not depend on how many processes there are; where several fail, the
 * one of the lowest seed is told.
 */
import { type ForkOptions, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Batch, Failure } from './batch.ts';
import type { FuzzOptions } from './options.ts';
import { addFigures, type Figures, noFigures } from './statistics.ts';
import type { BatchResult } from './worker.ts';

const workerPath = fileURLToPath(new URL('worker.ts', import.meta.url));

/** Programs of one batch. */
export const BATCH = 250;

/** What all batches came to. */
export interface PoolResult {
	readonly figures: Figures;
	readonly failure: Failure | null;
}

/** The batches of a run, in the order of their seeds. */
function* batches({ runs, seed, wishes }: FuzzOptions): Generator<Batch> {
	for (let done = 0, i = 0; done < runs; done += BATCH, i++)
		yield { seed: seed + i, runs: Math.min(BATCH, runs - done), path: null, wishes };
}

/** Processes, and what is left for them to do. */
class Pool {
	private readonly left: Iterator<Batch>;
	private readonly figures = noFigures();
	private failure: Failure | null = null;
	private readonly stop: AbortSignal;
	private readonly how: ForkOptions;
	private readonly progress: (programs: number) => void;

	constructor(
		options: FuzzOptions,
		stop: AbortSignal,
		progress: (programs: number) => void,
		how: ForkOptions,
	) {
		this.left = batches(options);
		this.stop = stop;
		this.how = how;
		this.progress = progress;
	}

	async run(jobs: number): Promise<PoolResult> {
		await Promise.all(Array.from({ length: jobs }, () => this.worker()));
		return { figures: this.figures, failure: this.failure };
	}

	/** One process until there is nothing left, something failed, or the user has seen enough. */
	private worker(): Promise<void> {
		const worker = fork(workerPath, this.how);
		return new Promise((resolve, reject) => {
			const next = (): void => {
				const { value } = this.isOver()
					? { value: undefined }
					: this.left.next();
				if (value === undefined) worker.disconnect();
				else worker.send(value);
			};
			let isEnding = false;
			const end = (): void => {
				isEnding = true;
				worker.kill();
			};
			this.stop.addEventListener('abort', end);
			worker.on('error', reject);
			worker.on('exit', (code, signal) => {
				this.stop.removeEventListener('abort', end);
				if (code === 0 || isEnding) resolve();
				else reject(new Error(`a worker ended with ${signal ?? code}`));
			});
			worker.on('message', (result: BatchResult) => {
				this.take(result);
				next();
			});
			next();
		});
	}

	private isOver(): boolean {
		return this.stop.aborted || this.failure !== null;
	}

	private take({ figures, failure }: BatchResult): void {
		addFigures(this.figures, figures);
		this.progress(this.figures.programs);
		if (failure === null) return;
		if (this.failure === null || failure.seed < this.failure.seed)
			this.failure = failure;
	}
}

/**
 * Run random programs in several processes.
 *
 * @param options - which, and how many processes
 * @param stop - ends it at once
 * @param progress - is told how many programs have run
 * @param how - how the processes are started; by default as this one was
 */
export async function runPool(
	options: FuzzOptions,
	stop: AbortSignal,
	progress: (programs: number) => void,
	how: ForkOptions = {},
): Promise<PoolResult> {
	return await new Pool(options, stop, progress, how).run(options.jobs);
}
