// SPDX-License-Identifier: GPL-2.0-only
/**
 * vitest's pool of forked processes, with the next process started before it is needed.
 *
 * A worker takes half a second until it can evaluate a suite. While one run's verdict is read, the
 * worker of the next run gets there: it loads vitest, answers vitest's `start` message, and compiles
 * the suite that ran last. Used by runs that watch.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { isDeepStrictEqual } from 'node:util';
import { ForksPoolWorker, type PoolOptions, type PoolRunnerInitializer } from 'vitest/node';

type Message = Parameters<ForksPoolWorker['send']>[0];
type StartMessage = Extract<Message, { type: 'start' }>;

/** What it loads while it waits. */
const ahead = new URL('warm_worker.js', import.meta.url).href;

/** A process that waits for the run to come, and has been told to start. */
class Spare {
	readonly child: ChildProcess;
	private readonly start: StartMessage;
	private readonly said: unknown[] = [];

	/**
	 * @param child - the process
	 * @param start - what the last one was told
	 */
	constructor(child: ChildProcess, start: StartMessage) {
		this.child = child;
		this.start = start;
		child.on('message', this.note);
		child.send(start);
	}

	/** Whether it would be told the same now: keys pressed change the configuration. */
	suits({ project, environment }: PoolOptions): boolean {
		const { config, environment: its } = this.start.context;
		return (
			this.child.exitCode === null &&
			this.child.signalCode === null &&
			isDeepStrictEqual(project.serializedConfig, config) &&
			isDeepStrictEqual(
				[environment.name, environment.options],
				[its.name, its.options],
			)
		);
	}

	/** Say again what nobody listened to, the answer to `start` among it if it has come. */
	repeat(): void {
		this.child.off('message', this.note);
		for (const message of this.said) this.child.emit('message', message);
	}

	private readonly note = (message: unknown): void => void this.said.push(message);
}

/** What the workers of a run that watches hand on. */
interface Shared {
	spare: Spare | null;
}

/** A worker that takes over the process that waits, if there is one. */
class WarmForksPoolWorker extends ForksPoolWorker {
	private readonly options: PoolOptions;
	private readonly shared: Shared;
	private taken: Spare | null = null;
	private told: StartMessage | null = null;
	private suite = '';

	constructor(options: PoolOptions, shared: Shared) {
		super(options);
		this.options = options;
		this.shared = shared;
	}

	override async start(): Promise<void> {
		const { spare } = this.shared;
		this.shared.spare = null;
		if (spare?.suits(this.options)) {
			this.taken = spare;
			// The base class starts a process only where there is none; it keeps it in a
			// private field.
			Object.assign(this, { _fork: spare.child });
		} else {
			spare?.child.kill();
		}
		await super.start();
	}

	override send(message: Message): void {
		if (message.type === 'run') this.suite = message.context.files[0]?.filepath ?? '';
		if (message.type === 'start') {
			this.told = message;
			if (this.taken !== null) {
				process.nextTick(() => this.taken?.repeat());
				return;
			}
		}
		super.send(message);
	}

	override async stop(): Promise<void> {
		if (this.told !== null)
			this.shared.spare ??= new Spare(this.forkAhead(), this.told);
		await super.stop();
	}

	private forkAhead(): ChildProcess {
		return fork(this.entrypoint, [], {
			env: { ...this.env, KSELFTEST_AHEAD: this.suite } as NodeJS.ProcessEnv,
			execArgv: [...this.execArgv, '--import', ahead],
			stdio: 'pipe',
			serialization: 'advanced',
		});
	}
}

/** The pool of one watching run. */
export function warmPool(): PoolRunnerInitializer {
	const shared: Shared = { spare: null };
	process.once('exit', () => shared.spare?.child.kill());
	return {
		name: 'warm-forks',
		createPoolWorker: (options) => new WarmForksPoolWorker(options, shared),
	};
}
