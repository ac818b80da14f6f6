// SPDX-License-Identifier: GPL-2.0-only
/**
 * `npm run fuzz:mutants`: bugs of real kernels, brought back one by one, for random programs to find.
 *
 * Exit code 0: found are those that can be found, and no others. 1: not so. 2: the command line makes
 * no sense. 130: the user has seen enough.
 */
import { tellFuzzMistake } from '../programs/options.ts';
import { hunt } from './hunt.ts';
import type { Mutant } from './mutant.ts';
import { type MutantOptions, parseMutantOptions, usage } from './options.ts';
import { isExpected, type Outcome, storyOf, tableHead, tableRow, wasFound } from './report.ts';

const INTERRUPTED = 130;

function print(text: string): void {
	process.stdout.write(`${text}\n`);
}

async function outcomeOf(
	mutant: Mutant,
	options: MutantOptions,
	stop: AbortSignal,
): Promise<Outcome> {
	const { unseen } = mutant;
	if (unseen !== undefined && !options.all) return { mutant, unseen };
	try {
		return await hunt(mutant, options, stop);
	} catch (error) {
		return { mutant, broken: (error as Error).message };
	}
}

/** Look for all of them, some at once; each line comes as soon as all above it are there. */
async function huntAll(options: MutantOptions, stop: AbortSignal): Promise<Outcome[]> {
	const outcomes: Outcome[] = [];
	const left = options.mutants.entries();
	let told = 0;
	const worker = async (): Promise<void> => {
		for (const [i, mutant] of left) {
			const outcome = await outcomeOf(mutant, options, stop);
			if (stop.aborted) return;
			outcomes[i] = outcome;
			while (outcomes[told] !== undefined) print(tableRow(outcomes[told++]!));
		}
	};
	print(tableHead);
	await Promise.all(Array.from({ length: options.jobs }, worker));
	return outcomes.filter((one) => one !== undefined);
}

async function run(options: MutantOptions): Promise<number> {
	const stop = new AbortController();
	process.once('SIGINT', () => stop.abort());
	const outcomes = await huntAll(options, stop.signal);
	const count = (found: boolean): number =>
		outcomes.filter((one) => wasFound(one) === found).length;
	print(`\n${count(true)} found, ${count(false)} not found`);
	if (stop.signal.aborted) return INTERRUPTED;
	return outcomes.every(isExpected) ? 0 : 1;
}

async function main(argv: string[]): Promise<number> {
	try {
		const options = parseMutantOptions(argv);
		if (options.help) process.stdout.write(usage);
		else if (options.list) print(options.mutants.map(storyOf).join('\n\n'));
		else return await run(options);
		return 0;
	} catch (error) {
		return tellFuzzMistake('fuzz:mutants', error);
	}
}

process.exitCode = await main(process.argv.slice(2));
