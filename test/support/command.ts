// SPDX-License-Identifier: GPL-2.0-only
/** Runs subcommands of kproto for tests: as a function, what it writes caught, or as a program. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** What a run gave. */
export interface Outcome {
	/** Exit code; null: a signal ended the program. */
	readonly code: number | null;
	/** What it wrote to its standard output. */
	readonly out: string;
	/** What it wrote to its standard error. */
	readonly err: string;
}

/** How a program is started. */
export interface ProgramOptions {
	/** Variables beside those of the test. */
	readonly env?: NodeJS.ProcessEnv;
	/** Folder to start it in; default: the root of the project. */
	readonly cwd?: string;
}

/** Path of the program. */
export const kprotoProgram = join(root, 'tools/kproto.js');

/**
 * The test's variables without coverage: Node hands it down unless it is set, if only to nothing.
 *
 * @param more - further variables
 */
export function programEnv(more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
	return { ...process.env, NODE_V8_COVERAGE: '', ...more };
}

/**
 * Call the main function of a command.
 *
 * @param main - of the command
 * @param argv - its arguments
 */
export async function called(
	main: (argv: string[]) => number | Promise<number>,
	argv: readonly string[],
): Promise<Outcome> {
	const { stdout, stderr } = process;
	const writes = [stdout.write, stderr.write] as const;
	const kept = { out: '', err: '' };
	const keep =
		(name: 'out' | 'err') =>
		(chunk: string | Uint8Array): boolean => {
			kept[name] += String(chunk);
			return true;
		};
	stdout.write = keep('out');
	stderr.write = keep('err');
	try {
		const code = await main([...argv]);
		return { code, ...kept };
	} finally {
		[stdout.write, stderr.write] = writes;
	}
}

/**
 * Run kproto as a program, to its end.
 *
 * @param args - subcommand and its arguments
 * @param options - how it is started
 */
export function kproto(args: readonly string[], options: ProgramOptions = {}): Outcome {
	const { status, stdout, stderr } = spawnSync(process.execPath, [kprotoProgram, ...args], {
		cwd: options.cwd ?? root,
		env: programEnv(options.env),
		encoding: 'utf8',
	});
	return { code: status, out: stdout, err: stderr };
}
