// SPDX-License-Identifier: GPL-2.0-only
/**
 * Programs, run in straight form.
 *
 * Guarantee: one that does not hold in straight form, or needs a second thread, is run by the kernel as it
 * is written, and what that shows is what is told. Where only straight form fails, that is told as well.
 */
import { fileURLToPath } from 'node:url';
import { importStraight } from '../../straight/bundle.ts';
import type { Kernels } from './kernels.ts';
import type { Program } from './program.ts';
import { type RunOptions, runProgram, type Violation } from './run.ts';
import { addFigures, Statistics } from './statistics.ts';

/** Runs one program: null, or what is wrong. */
export type RunOne = (program: Program, options: RunOptions) => Violation | null;

/**
 * How programs run by the kernel as it is written.
 *
 * @param kernels - booted ones
 */
export function runAsWritten(kernels: Kernels): RunOne {
	return (program, options) => runProgram(program, kernels, options);
}

/** What straight code says of a wait for another thread. */
const oneThread = 'straight code has one thread';

/** Whether a second thread resolves faults of the program. */
function hasMonitor({ steps }: Program): boolean {
	return steps.some((step) => step.includes('uffd'));
}

/**
 * How many programs are run best.
 *
 * @param kernels - booted ones, of the kernel as it is written
 */
export async function runQuickly(kernels: Kernels): Promise<RunOne> {
	const asWritten = runAsWritten(kernels);
	const straight = await importStraight<typeof import('./straight.ts')>(
		fileURLToPath(new URL('straight.ts', import.meta.url)),
	);
	if (straight === null) return asWritten;
	const straightKernels = new straight.Kernels();
	return (program, options) => {
		// what is looked at closely is what already failed
		const isClose = options.closely === true || options.tamper !== undefined;
		if (isClose || hasMonitor(program)) return asWritten(program, options);
		const statistics = new Statistics();
		const found = straight.runProgram(program, straightKernels, { statistics });
		if (found !== null) {
			// as it is written the program may hold: then it is straight code that is wrong
			const { what } = found;
			const written = asWritten(program, options);
			if (written !== null || what.includes(oneThread)) return written;
			return { ...found, what: `in straight form: ${what}` };
		}
		if (options.statistics !== undefined)
			addFigures(options.statistics.figures, statistics.figures);
		return null;
	};
}
