// SPDX-License-Identifier: GPL-2.0-only
/**
 * `npm run fuzz`: random programs of system calls and device operations against invariants.
 *
 * Exit code 0: no program failed. 1: one did; its smallest form is printed as a record, with the command
 * that runs it again. 2: the command line makes no sense. 130: the user has seen enough.
 */
import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { defaultProfile } from '../../../include/sim/feature.ts';
import { progressBar } from '../../kproto/progress.ts';
import { UserError } from '../../kproto/user_error.ts';
import { describeFailure, type Failure, runBatch } from './batch.ts';
import { Kernels } from './kernels.ts';
import { type FuzzOptions, parseFuzzOptions, tellFuzzMistake, usage } from './options.ts';
import { runPool } from './pool.ts';
import { parseProgram } from './program.ts';
import { runProgram } from './run.ts';
import { type Figures, figuresText } from './statistics.ts';

const INTERRUPTED = 130;

/** What is wrong with a program, and the program. */
function failureText({
	at,
	program,
	text,
	what,
}: Pick<Failure, 'at' | 'program' | 'text' | 'what'>): string {
	const { steps } = program;
	const where =
		at < steps.length
			? `after step ${at} ${JSON.stringify(steps[at])}`
			: 'when all was taken down';
	return `${where}:\n${what}\n\n${text}\n`;
}

function wishesText({ wishes }: FuzzOptions): string {
	const profile = wishes.profiles.length === 1 ? ` --profile ${wishes.profiles[0]}` : '';
	return `${profile} --steps ${wishes.steps}`;
}

/** One program of one batch. */
function runPath(options: FuzzOptions): number {
	const { seed, path, wishes } = options;
	const failure = runBatch({ seed, path, runs: 1, wishes }, new Kernels());
	if (failure === null) {
		process.stdout.write('the program does not fail\n');
		return 0;
	}
	process.stdout.write(failureText(failure));
	return 1;
}

function readPrograms(file: string): string {
	try {
		return readFileSync(file === '-' ? 0 : file, 'utf8');
	} catch (error) {
		throw new UserError(`--replay: ${(error as Error).message}`);
	}
}

/** The programs of a file. */
function replay(file: string): number {
	const kernels = new Kernels();
	const lines = readPrograms(file).split('\n');
	let [passed, failed] = [0, 0];
	for (const [i, line] of lines.entries()) {
		if (line.trim() === '') continue;
		let program: ReturnType<typeof parseProgram>;
		try {
			program = parseProgram(line, defaultProfile);
		} catch (error) {
			throw new UserError(`${file}:${i + 1}: ${(error as Error).message}`);
		}
		const found = runProgram(program, kernels);
		if (found === null) {
			passed++;
			continue;
		}
		failed++;
		const failure = describeFailure(program, kernels, {}, found);
		process.stdout.write(`${file}:${i + 1} ${failureText(failure)}`);
	}
	process.stdout.write(`${passed} passed, ${failed} failed\n`);
	return failed === 0 ? 0 : 1;
}

function summary({ programs, executed }: Figures, began: number): string {
	const seconds = (performance.now() - began) / 1000;
	const rate = Math.round(programs / Math.max(seconds, 0.001));
	return `${programs} programs, ${executed} steps in ${seconds.toFixed(1)} s, ${rate} programs a second`;
}

/** Random programs in all processes. */
async function fuzz(options: FuzzOptions): Promise<number> {
	const began = performance.now();
	const stop = new AbortController();
	process.once('SIGINT', () => stop.abort());
	const bar = progressBar();
	bar.start(options.runs, 0, { machine: '' });
	const { figures, failure } = await runPool(options, stop.signal, (programs) => {
		bar.update(Math.min(programs, options.runs), {
			machine: summaryRate(programs, began),
		});
	});
	bar.stop();
	if (options.stats) process.stdout.write(`${figuresText(figures)}\n`);
	if (failure !== null) {
		const { seed, path, written, program } = failure;
		process.stdout.write(
			`A program of ${written} steps fails, one of ${program.steps.length} as well, ${failureText(failure)}\n` +
				`again: npm run fuzz -- --seed ${seed} --path ${path}${wishesText(options)}\n`,
		);
	}
	process.stdout.write(
		`${summary(figures, began)}: ${failure === null ? 'no violation' : '1 violation'}\n`,
	);
	if (stop.signal.aborted) return INTERRUPTED;
	return failure === null ? 0 : 1;
}

function summaryRate(programs: number, began: number): string {
	return `${Math.round((1000 * programs) / (performance.now() - began))}/s`;
}

async function main(argv: string[]): Promise<number> {
	try {
		const options = parseFuzzOptions(argv);
		if (options.help) process.stdout.write(usage);
		if (options.help) return 0;
		if (options.replay !== null) return replay(options.replay);
		if (options.path !== null) return runPath(options);
		return await fuzz(options);
	} catch (error) {
		return tellFuzzMistake('fuzz', error);
	}
}

process.exitCode = await main(process.argv.slice(2));
