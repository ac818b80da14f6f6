// SPDX-License-Identifier: GPL-2.0-only
/**
 * vitest's pool of forked processes, with the next process started before it is needed.
 *
 * A worker takes a quarter of a second until it can load a suite. While one run's verdict is read,
 * the worker of the next run gets there. Used by runs that watch.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { ForksPoolWorker, type PoolOptions, type PoolRunnerInitializer } from 'vitest/node';

/** What it loads while it waits. */
const ahead = new URL('warm_worker.js', import.meta.url).href;

/** A process that waits for the run to come. */
interface Spare {
	child: ChildProcess | null;
}

/** A worker that takes over the process that waits, if there is one. */
class WarmForksPoolWorker extends ForksPoolWorker {
	private readonly spare: Spare;

	constructor(options: PoolOptions, spare: Spare) {
		super(options);
		this.spare = spare;
	}

	override async start(): Promise<void> {
		const { child } = this.spare;
		this.spare.child = null;
		// The base class starts a process only where there is none; it keeps it in a private field.
		if (child !== null && child.exitCode === null)
			Object.assign(this, { _fork: child });
		await super.start();
	}

	override async stop(): Promise<void> {
		this.spare.child ??= fork(this.entrypoint, [], {
			env: this.env as NodeJS.ProcessEnv,
			execArgv: [...this.execArgv, '--import', ahead],
			stdio: 'pipe',
			serialization: 'advanced',
		});
		await super.stop();
	}
}

/** The pool of one watching run. */
export function warmPool(): PoolRunnerInitializer {
	const spare: Spare = { child: null };
	process.once('exit', () => spare.child?.kill());
	return {
		name: 'warm-forks',
		createPoolWorker: (options) => new WarmForksPoolWorker(options, spare),
	};
}
